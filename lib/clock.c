/* clock.c - the public calls of the clock: stamps, readings, sources of time. */
#include "handle.h"

static int check(const struct spool *spool, const void *given, const char *what)
{
    int code = handle_check(spool);
    return code || given ? code : err_set(SPOOL_EINVAL, "%s is NULL", what);
}

/* --------------------------------------------------------------------------------------------------------- stamps */

int spool_clock_now(struct spool *spool, struct spool_id *ret_stamp)
{
    struct spool_id stamp;
    int code = check(spool, ret_stamp, "ret_stamp");
    if (code)
        return code;
    hlc_now(spool->clock, &stamp);
    code = store_clock_lease(spool->store, &stamp);
    if (!code)
        *ret_stamp = stamp;
    return code;
}

int spool_clock_update(struct spool *spool, const struct spool_id *remote)
{
    int code = check(spool, remote, "the remote stamp");
    return code ? code : hlc_update(spool->clock, remote);
}

int spool_clock_read(struct spool *spool, struct spool_clock_reading *ret_reading)
{
    struct spool_clock_reading reading;
    int code = check(spool, ret_reading, "ret_reading");
    if (!code)
        code = hlc_read(spool->clock, &reading);
    if (!code && !store_is_read_only(spool->store))
        code = store_clock_lease(spool->store, &reading.stamp);
    return code ? code : struct_give(ret_reading, &reading, sizeof reading, "spool_clock_reading");
}

/* -------------------------------------------------------------------------------------------------------- sources */

int spool_clock_source_add(struct spool *spool, const char *name, const struct spool_clock_source *source,
                           const struct spool_clock_source_options *options)
{
    int code = check(spool, source, "the source");
    return code ? code : hlc_source_add(spool->clock, name, source, options);
}

int spool_clock_source_add_sntp(struct spool *spool, const char *server,
                                const struct spool_clock_source_options *options)
{
    int code = check(spool, server, "the server");
    return code ? code : hlc_source_add_sntp(spool->clock, server, options);
}

int spool_clock_source_set(struct spool *spool, const char *name, const struct spool_clock_source_options *options)
{
    int code = check(spool, name, "the source's name");
    return code ? code : hlc_source_set(spool->clock, name, options);
}

int spool_clock_source_remove(struct spool *spool, const char *name)
{
    int code = check(spool, name, "the source's name");
    return code ? code : hlc_source_remove(spool->clock, name);
}

int spool_clock_source_each(struct spool *spool, int (*each)(void *user, const struct spool_clock_source_info *info),
                            void *user)
{
    int code = check(spool, (const void *)(uintptr_t)each, "the callback");
    return code ? code : hlc_source_each(spool->clock, each, user);
}

int spool_clock_calibrate(struct spool *spool, uint32_t timeout_ms)
{
    int code = handle_check(spool);
    return code ? code : hlc_calibrate(spool->clock, deadline_in_ms(timeout_ms));
}

/* The others hear of it within a second: their stores' housekeeping looks at the count. */
int spool_clock_reset(struct spool *spool)
{
    int code = handle_check(spool);
    if (!code && store_is_read_only(spool->store))
        code = err_set(SPOOL_EREADONLY, "%s is open for reading only", spool->dir);
    if (code)
        return code;
    hlc_reset(spool->clock);
    store_clock_reset(spool->store);
    return SPOOL_OK;
}
