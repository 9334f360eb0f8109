/* source_table.c - sources come, change and go; each is read by one thread at a time, without the lock. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "clock_inside.h"

#define REMOVE_PATIENCE_MS 1000

/* --------------------------------------------------------------------------------------------------------- adding */

static struct source *new_source(const char *name, const struct spool_clock_source *hooks,
                                 const struct spool_clock_source_options *options)
{
    struct source *source = calloc(1, sizeof *source);
    if (!source)
        return NULL;
    snprintf(source->name, sizeof source->name, "%s", name);
    snprintf(source->kind, sizeof source->kind, "%s", hooks->kind);
    source->hooks = *hooks;
    source->options = *options;
    source->local = (options->flags & SPOOL_CLOCK_SOURCE_LOCAL) != 0;
    source->interval_ns = options->poll_interval_ms * NS_PER_MS;
    source->state = options->user;
    return source;
}

static int find_place(const struct sources *s, const char *name, size_t *ret)
{
    size_t at = 0;
    if (sources_find(s, name))
        return err_set(SPOOL_EEXISTS, "there is a source of time named %s already", name);
    while (at < SPOOL_CLOCK_SOURCES_MAX && s->list[at])
        at++;
    *ret = at;
    return at < SPOOL_CLOCK_SOURCES_MAX
               ? SPOOL_OK
               : err_set(SPOOL_EFULL, "source of time %s: there are %d already", name, SPOOL_CLOCK_SOURCES_MAX);
}

/* The source is freed on failure. */
static int enter(struct hlc *clock, struct source *source)
{
    struct sources *s = &clock->sources;
    size_t at = 0;
    pthread_mutex_lock(&s->lock);
    int code = find_place(s, source->name, &at);
    if (!code && !source->local)
        code = calibrate_start(clock);
    if (!code) {
        s->list[at] = source;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    if (code)
        source_free(source);
    return code;
}

int source_add(struct hlc *clock, const char *name, const struct spool_clock_source *given,
               const struct spool_clock_source_options *options, bool is_sntp, bool is_builtin)
{
    struct spool_clock_source hooks;
    struct spool_clock_source_options taken;
    int code = source_check_name(name);
    if (!code)
        code = source_check_hooks(given, &hooks);
    if (!code)
        code = source_options_take(options, is_sntp, is_builtin, &taken);
    if (code)
        return code;
    struct source *source = new_source(name, &hooks, &taken);
    if (!source)
        return err_errno(ENOMEM, "source of time %s", name);
    code = hooks.open ? hooks.open(&source->state, taken.user) : SPOOL_OK;
    if (code) {
        free(source);
        return err_prefix(code, "source of time %s", name);
    }
    source->sntp = is_sntp;
    source->builtin = is_builtin;
    return enter(clock, source);
}

int hlc_source_add(struct hlc *clock, const char *name, const struct spool_clock_source *source,
                   const struct spool_clock_source_options *options)
{
    return source_add(clock, name, source, options, false, false);
}

/* ------------------------------------------------------------------------------------------------------- changing */

static int not_found(const char *name)
{
    return err_set(SPOOL_ENOTFOUND, "there is no source of time named %s", name);
}

int hlc_source_set(struct hlc *clock, const char *name, const struct spool_clock_source_options *options)
{
    struct sources *s = &clock->sources;
    struct spool_clock_source_options taken;
    if (!name || !options)
        return err_set(SPOOL_EINVAL, "the source's name or its options are NULL");
    pthread_mutex_lock(&s->lock);
    struct source *source = sources_find(s, name);
    int code = !source ? not_found(name) : source_options_take(options, source->sntp, source->local, &taken);
    if (!code) {
        taken.user = source->options.user;
        source->options = taken;
        source->interval_ns = taken.poll_interval_ms * NS_PER_MS;
        source->refused = false;
        source->due_ns = source->memory ? UINT64_MAX : 0;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->lock);
    return code;
}

/* `lock` held. */
static void take_out(struct sources *s, struct source *source)
{
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++)
        if (s->list[i] == source)
            s->list[i] = NULL;
}

/* Waits for the read that runs. `lock` held, and dropped meanwhile. */
static int wait_until_idle(struct sources *s, struct source *source)
{
    uint64_t deadline = deadline_in_ms(REMOVE_PATIENCE_MS);
    if (source->busy && source->hooks.cancel)
        source->hooks.cancel(source->state);
    while (source->busy)
        if (cond_wait_until(&s->changed, &s->lock, deadline))
            break;
    return source->busy ? err_set(SPOOL_EBUSY, "source of time %s is being read and does not return", source->name) : 0;
}

int hlc_source_remove(struct hlc *clock, const char *name)
{
    struct sources *s = &clock->sources;
    if (!name)
        return err_set(SPOOL_EINVAL, "the source's name is NULL");
    pthread_mutex_lock(&s->lock);
    struct source *source = sources_find(s, name);
    int code = !source ? not_found(name)
               : source->builtin
                   ? err_set(SPOOL_EINVAL, "source of time %s is always there: lower its preference instead", name)
                   : SPOOL_OK;
    if (!code) {
        source->doomed = true;
        code = wait_until_idle(s, source);
        source->doomed = false;
        if (!code)
            take_out(s, source);
    }
    pthread_mutex_unlock(&s->lock);
    if (!code)
        source_free(source);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- reading */

static uint32_t time_left_ms(const struct source *source, uint64_t deadline_ns)
{
    uint64_t now = mono_ns(), left = deadline_ns > now ? (deadline_ns - now) / NS_PER_MS + 1 : 1;
    return left < source->options.timeout_ms ? (uint32_t)left : source->options.timeout_ms;
}

static bool see(const struct hlc *clock, struct hlc_look *ret)
{
    return wall_see(&clock->wall, ret);
}

/* Without the lock: only what a busy source keeps to its reader is looked at. */
static int ask(const struct hlc *clock, const struct source *source, uint32_t timeout_ms,
               struct spool_clock_sample *ret, struct hlc_look *ret_before, struct hlc_look *ret_after)
{
    *ret = (struct spool_clock_sample){.size = sizeof *ret};
    if (!see(clock, ret_before))
        return err_set(SPOOL_EUNAVAILABLE, "the clocks could not be read together");
    *ret_after = *ret_before;
    int code = source->hooks.read(source->state, timeout_ms, ret);
    if (!see(clock, ret_after))
        return err_set(SPOOL_EUNAVAILABLE, "the clocks could not be read together");
    return code;
}

void source_read(struct hlc *clock, struct source *source, uint64_t deadline_ns)
{
    struct sources *s = &clock->sources;
    struct spool_clock_sample sample;
    struct hlc_look before = {0}, after = {0};
    uint32_t timeout_ms = time_left_ms(source, deadline_ns);
    source->busy = true;
    pthread_mutex_unlock(&s->lock);
    int code = ask(clock, source, timeout_ms, &sample, &before, &after);
    pthread_mutex_lock(&s->lock);
    source->busy = false;
    if (code)
        source_failed(s, source, code, err_last(), &sample, &after);
    else
        source_answered(s, source, &sample, &before, &after);
    pthread_cond_broadcast(&s->changed);
}

/* -------------------------------------------------------------------------------------------------------- showing */

static void describe(const struct source *source, const struct summary *sum, struct spool_clock_source_info *ret)
{
    *ret = (struct spool_clock_source_info){
        .size = sizeof *ret,
        .name = source->name,
        .kind = source->kind,
        .verdict = source->verdict,
        .chosen = source->chosen,
        .answered = source->count > 0,
        .error_ns = SPOOL_CLOCK_UNKNOWN,
        .root = source->root,
        .stratum = source->stratum,
        .preference = source->options.preference,
        .poll_interval_ms = source->interval_ns / NS_PER_MS,
        .answers = source->answers,
        .failures = source->failures,
        .last_error = source->last_error,
    };
    if (!source->count)
        return;
    ret->offset_ns = (int64_t)(source->now.time_ns - sum->at.wall_ns);
    ret->error_ns = source->now.error_ns;
    ret->age_ms = (sum->at.boot_ns - source->samples[source->newest].at.boot_ns) / NS_PER_MS;
}

/* Copies, so that the callback runs without the lock. */
struct shown {
    struct spool_clock_source_info info;
    char name[SOURCE_NAME_MAX + 1], kind[16], last_error[160];
};

static size_t copy_all(struct sources *s, const struct hlc_look *now, struct shown *ret)
{
    struct summary sum;
    size_t n = 0;
    pthread_mutex_lock(&s->lock);
    sources_sum_up(s, now, &sum);
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++) {
        const struct source *source = s->list[i];
        if (!source || source->doomed)
            continue;
        struct shown *one = &ret[n++];
        describe(source, &sum, &one->info);
        memcpy(one->name, source->name, sizeof one->name);
        memcpy(one->kind, source->kind, sizeof one->kind);
        memcpy(one->last_error, source->last_error, sizeof one->last_error);
        one->info.name = one->name;
        one->info.kind = one->kind;
        one->info.last_error = one->last_error;
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

int hlc_source_each(struct hlc *clock, int (*each)(void *user, const struct spool_clock_source_info *info), void *user)
{
    struct hlc_look now;
    hlc_poll(clock, true);
    if (!see(clock, &now))
        return err_set(SPOOL_ETIMEOUT, "the clocks could not be read together");
    struct shown *shown = calloc(SPOOL_CLOCK_SOURCES_MAX, sizeof *shown);
    if (!shown)
        return err_errno(ENOMEM, "showing the sources of time");
    size_t n = copy_all(&clock->sources, &now, shown);
    int code = SPOOL_OK;
    for (size_t i = 0; i < n && !code; i++)
        code = each(user, &shown[i].info);
    free(shown);
    return code;
}
