/* log_faults.h - the log whose operations meet faults, and what must be true of it after each. */
#ifndef LOG_FAULTS_H
#define LOG_FAULTS_H

#include "fault_sweep.h"
#include "log_fixture.h"

/* What fail_nth.h leaves alone and the log calls. */
FAIL_HOOK(int, renameat2, (int dir, const char *from, int to_dir, const char *to, unsigned flags),
          FAIL_ARGS(int, const char *, int, const char *, unsigned), (dir, from, to_dir, to, flags), FAIL_NAME,
          fail_errno(EINVAL))
FAIL_HOOK(int, mdb_stat, (MDB_txn * txn, MDB_dbi dbi, MDB_stat *stat), FAIL_ARGS(MDB_txn *, MDB_dbi, MDB_stat *),
          (txn, dbi, stat), FAIL_LMDB_READ, fail_code(EIO))
FAIL_HOOK(int, mdb_dbi_flags, (MDB_txn * txn, MDB_dbi dbi, unsigned *flags), FAIL_ARGS(MDB_txn *, MDB_dbi, unsigned *),
          (txn, dbi, flags), FAIL_LMDB_READ, fail_code(EIO))
FAIL_HOOK(int, mdb_env_set_maxdbs, (MDB_env * env, MDB_dbi n), FAIL_ARGS(MDB_env *, MDB_dbi), (env, n), FAIL_LMDB_BEGIN,
          fail_code(EIO))
FAIL_HOOK(int, mdb_env_set_mapsize, (MDB_env * env, size_t size), FAIL_ARGS(MDB_env *, size_t), (env, size),
          FAIL_LMDB_BEGIN, fail_code(EIO))

static struct fixture f;
static uint64_t committed; /* events in lane medium */
static uint64_t ticks;

static inline uint64_t soon(void)
{
    return deadline_in_ms(10000);
}

static inline void add(uint32_t count, size_t body_size)
{
    ck_assert_uint_eq(test_commit(&f, LANE_MEDIUM, count, body_size, ticks), committed);
    committed += count;
    ticks += count;
}

/* Two sealed segments, and a current one with events; a snapshot in each. */
static inline void set_up(void)
{
    test_in_memory();
    fixture_begin(&f);
    snprintf(f.snapshot, sizeof f.snapshot, "sinks");
    committed = 0;
    ticks = 1000;
    for (int i = 0; i < 3; i++) {
        add(3, 5000);
        if (i < 2)
            ck_ok(log_rotate(f.log, 1, soon()));
    }
}

static inline void tear_down(void)
{
    fail_err = 0;
    fixture_end(&f);
}

static inline void nothing_is_lost(void)
{
    uint64_t skipped = 0, first[LANES], next[LANES];
    ok_here(log_bounds(f.log, soon(), first, next));
    ck_here(next[LANE_MEDIUM] == committed);
    ck_here(test_read_all(&f, LANE_MEDIUM, first[LANE_MEDIUM], &skipped) == committed - first[LANE_MEDIUM]);
    ck_here(skipped == 0);
}

static inline void close_log(void)
{
    log_close(f.log);
    f.log = NULL;
}

#endif
