/* store_fixture.h - a store in a scratch directory: its clock, and options that make it small. */
#ifndef STORE_FIXTURE_H
#define STORE_FIXTURE_H

#include "../../spool/store_inside.h"
#include "scratch_fixture.h"

static struct hlc *hlc;

static inline void store_begin(void)
{
    scratch_begin();
    ck_ok(fork_watch());
    ck_ok(hlc_new(&(struct hlc_options){0}, &hlc));
}

static inline void store_end(void)
{
    hlc_free(hlc);
    scratch_end();
}

static inline struct store_options small_options(void)
{
    return (struct store_options){
        .max_bytes = 16 << 20,
        .segment_bytes = 1 << 20,
        .journal_bytes = 256 << 10,
        .flush_interval_ms = 20,
        .full_timeout_ms = 60000,
        .file_mode = 0600,
    };
}

#endif
