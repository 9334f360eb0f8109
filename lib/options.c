/* options.c - the options of spool_open(): checked, and the defaults filled in. Also how versioned structs cross the border. */
#include "handle.h"

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)

int struct_take(void *dst, size_t our_size, const void *src, size_t their_size, const char *what)
{
    if (their_size < sizeof(size_t) || their_size > (1u << 16))
        return err_set(SPOOL_EOPTION, "%s.size is %zu: fill it with sizeof, as the macro of that name does", what,
                       their_size);
    const unsigned char *bytes = src;
    for (size_t i = our_size; i < their_size; i++) {
        if (bytes[i])
            return err_set(SPOOL_EOPTION, "%s: something is set at byte %zu that this version (%s) does not know", what,
                           i, spool_version());
    }
    memset(dst, 0, our_size);
    memcpy(dst, src, their_size < our_size ? their_size : our_size);
    return SPOOL_OK;
}

int struct_give(void *dst, const void *src, size_t our_size, const char *what)
{
    size_t size;
    memcpy(&size, dst, sizeof size);
    if (size < sizeof size || size > (1u << 16))
        return err_set(SPOOL_EOPTION, "%s.size is %zu: set it before the call", what, size);
    memcpy(dst, src, size < our_size ? size : our_size);
    memcpy(dst, &size, sizeof size);
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------- defaults */

/* Sizes left at 0 are settled when the directory is known. */
static void fill_defaults(struct spool_options *o)
{
    if (!o->durability)
        o->durability = SPOOL_DURABLE_POWER;
    if (!o->flush_interval_ms)
        o->flush_interval_ms = 100;
    if (!o->full_timeout_ms)
        o->full_timeout_ms = 5000;
    if (!o->file_mode)
        o->file_mode = 0600;
    if (!o->workers)
        o->workers = 4;
    if (!o->op_workers)
        o->op_workers = 4;
    if (!o->op_bypasses_max)
        o->op_bypasses_max = 16;
    if (!o->stop_timeout_ms)
        o->stop_timeout_ms = 5000;
}

/* ---------------------------------------------------------------------------------------------------------- checks */

static int check_range(const char *name, uint64_t value, uint64_t least, uint64_t most)
{
    if (value == 0 || (value >= least && value <= most))
        return SPOOL_OK;
    return err_set(SPOOL_EOPTION, "%s is %llu, but must lie between %llu and %llu", name, (unsigned long long)value,
                   (unsigned long long)least, (unsigned long long)most);
}

static int check_numbers(const struct spool_options *o)
{
    int code = check_range("max_bytes", o->max_bytes, MIB(4), UINT64_MAX / 256);
    if (!code)
        code = check_range("journal_bytes", o->journal_bytes, KIB(64), GIB(1));
    if (!code)
        code = check_range("segment_bytes", o->segment_bytes, MIB(1), GIB(4));
    if (!code)
        code = check_range("workers", o->workers, 1, 64);
    if (!code)
        code = check_range("clock_drift_ppm", o->clock_drift_ppm, 1, CLOCK_DRIFT_PPM_MAX);
    if (!code)
        code = check_range("op_workers", o->op_workers, 1, 64);
    if (!code && o->max_bytes && o->segment_bytes > o->max_bytes / 2)
        code = err_set(SPOOL_EOPTION,
                       "segment_bytes (%llu) may be at most half of max_bytes (%llu), or nothing could be deleted",
                       (unsigned long long)o->segment_bytes, (unsigned long long)o->max_bytes);
    return code;
}

static int check_enums(const struct spool_options *o)
{
    enum { KNOWN_FLAGS = SPOOL_READ_ONLY | SPOOL_NO_CREATE | SPOOL_ALLOW_NETWORK_FS };
    if ((unsigned)o->durability > SPOOL_DURABLE_POWER)
        return err_set(SPOOL_EOPTION, "durability is %d, which is none of enum spool_durability", (int)o->durability);
    for (int i = 0; i < SPOOL_PRIORITIES; i++) {
        if ((unsigned)o->full_policy[i] > SPOOL_FULL_DROP_OLDEST)
            return err_set(SPOOL_EOPTION, "full_policy[%d] is %d, which is none of enum spool_full_policy", i,
                           (int)o->full_policy[i]);
    }
    if ((unsigned)o->compress > SPOOL_COMPRESS_ZSTD)
        return err_set(SPOOL_EOPTION, "compress is %d, which is none of enum spool_compression", (int)o->compress);
    if (o->flags & ~(uint32_t)KNOWN_FLAGS)
        return err_set(SPOOL_EOPTION, "flags has the unknown bits 0x%x", o->flags & ~(uint32_t)KNOWN_FLAGS);
    if (o->file_mode & ~0666u || (o->file_mode && (o->file_mode & 0600) != 0600))
        return err_set(SPOOL_EOPTION, "file_mode is 0%o: it must hold 0600 and may add read and write for others",
                       o->file_mode);
    return SPOOL_OK;
}

int handle_options(const struct spool_options *options, struct spool_options *ret)
{
    struct spool_options taken = {0};
    int code = options ? struct_take(&taken, sizeof taken, options, options->size, "spool_options") : SPOOL_OK;
    if (!code)
        code = check_numbers(&taken);
    if (!code)
        code = check_enums(&taken);
    if (code)
        return code;
    fill_defaults(&taken);
    taken.size = sizeof taken;
    *ret = taken;
    return SPOOL_OK;
}

void handle_store_options(const struct spool_options *o, struct store_options *ret)
{
    *ret = (struct store_options){
        .max_bytes = o->max_bytes,
        .segment_bytes = o->segment_bytes,
        .retention_ms = o->retention_ms,
        .journal_bytes = o->journal_bytes,
        .flush_interval_ms = o->flush_interval_ms,
        .full_timeout_ms = o->full_timeout_ms,
        .file_mode = o->file_mode,
        .flags = o->flags,
        .compress = o->compress,
        .reporter = {.log = o->log, .log_user = o->log_user, .on_notice = o->on_notice, .notice_user = o->notice_user},
    };
    for (int lane = 0; lane < LANES; lane++)
        ret->full_policy[lane] = o->full_policy[lane_priority(lane)];
}
