/* source_options.c - what may be said about a source: checked, and the defaults filled in. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "source.h"

enum {
    POLL_DEFAULT_MS = 64000,
    POLL_LOCAL_MS = 1000,
    POLL_MIN_MS = 10,
    POLL_SNTP_MIN_MS = 16000, /* what servers of the public expect: RFC 5905, MINPOLL 4 */
    TIMEOUT_DEFAULT_MS = 2000,
    TIMEOUT_MAX_MS = 60000,
};

/* As lib/options.c does it: what a caller of a later version has set and we do not know must not be ignored. */
static bool is_known(const void *given, size_t their_size, size_t our_size)
{
    const unsigned char *bytes = given;
    for (size_t i = our_size; i < their_size; i++)
        if (bytes[i])
            return false;
    return true;
}

static int take_options(const struct spool_clock_source_options *given, struct spool_clock_source_options *ret)
{
    size_t size = given->size;
    if (size < sizeof size || size > (1u << 16))
        return err_set(SPOOL_EOPTION, "spool_clock_source_options.size is %zu: fill it with sizeof", size);
    if (!is_known(given, size, sizeof *ret))
        return err_set(SPOOL_EOPTION, "spool_clock_source_options: something is set that this version does not know");
    memcpy(ret, given, size < sizeof *ret ? size : sizeof *ret);
    return SPOOL_OK;
}

static int check_numbers(const struct spool_clock_source_options *o, bool is_sntp)
{
    uint32_t least_ms = is_sntp ? POLL_SNTP_MIN_MS : POLL_MIN_MS;
    if (o->poll_interval_ms < least_ms)
        return err_set(SPOOL_EOPTION, "poll_interval_ms is %u, but must be %u at least", o->poll_interval_ms, least_ms);
    if (o->timeout_ms > TIMEOUT_MAX_MS)
        return err_set(SPOOL_EOPTION, "timeout_ms is %u, but may be %d at most", o->timeout_ms, TIMEOUT_MAX_MS);
    if (o->flags & ~SPOOL_CLOCK_SOURCE_LOCAL)
        return err_set(SPOOL_EOPTION, "flags has the unknown bits 0x%x", o->flags & ~SPOOL_CLOCK_SOURCE_LOCAL);
    if (is_sntp && (o->flags & SPOOL_CLOCK_SOURCE_LOCAL))
        return err_set(SPOOL_EOPTION, "an SNTP server is not local: it is asked over the network");
    return SPOOL_OK;
}

int source_options_take(const struct spool_clock_source_options *options, bool is_sntp, bool is_builtin,
                        struct spool_clock_source_options *ret)
{
    struct spool_clock_source_options o = {0};
    int code = options ? take_options(options, &o) : SPOOL_OK;
    if (code)
        return code;
    if (is_builtin)
        o.flags |= SPOOL_CLOCK_SOURCE_LOCAL;
    if (!o.poll_interval_ms)
        o.poll_interval_ms = o.flags & SPOOL_CLOCK_SOURCE_LOCAL ? POLL_LOCAL_MS : POLL_DEFAULT_MS;
    if (!o.timeout_ms)
        o.timeout_ms = TIMEOUT_DEFAULT_MS;
    o.size = sizeof o;
    code = check_numbers(&o, is_sntp);
    if (!code)
        *ret = o;
    return code;
}

int source_check_hooks(const struct spool_clock_source *given, struct spool_clock_source *ret)
{
    struct spool_clock_source hooks = {0};
    size_t least = offsetof(struct spool_clock_source, cancel);
    if (!given)
        return err_set(SPOOL_EINVAL, "the source is NULL");
    if (given->abi != SPOOL_CLOCK_SOURCE_ABI)
        return err_set(SPOOL_EABI, "the source was built for interface %u, this library has %d", given->abi,
                       SPOOL_CLOCK_SOURCE_ABI);
    if (given->size < least || given->size > (1u << 16) || !is_known(given, given->size, sizeof hooks))
        return err_set(SPOOL_EABI, "spool_clock_source.size is %zu, or a hook is set that is not known", given->size);
    memcpy(&hooks, given, given->size < sizeof hooks ? given->size : sizeof hooks);
    if (!hooks.read || !hooks.kind || !*hooks.kind)
        return err_set(SPOOL_EINVAL, "the source has no %s", hooks.read ? "kind" : "read hook");
    *ret = hooks;
    return SPOOL_OK;
}

int source_check_name(const char *name)
{
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:-[]%";
    size_t n = name ? strlen(name) : 0;
    if (!n || n > SOURCE_NAME_MAX || strspn(name, allowed) != n)
        return err_set(SPOOL_EINVAL, "\"%.80s\" is no name of a source: 1 to %d of letters, digits and ._:-[]%% are",
                       name ? name : "(NULL)", SOURCE_NAME_MAX);
    return SPOOL_OK;
}
