/* state_rows.h - a state with rows of each kind, and rows put into it that no call writes, for the tests of what
 * becomes of them. */
#ifndef STATE_ROWS_H
#define STATE_ROWS_H

#include <fcntl.h>
#include <unistd.h>

#include "state_fixture.h"

enum { SMALL = 100, LARGE = 9000 };

static inline void fill_state(struct fixture *f)
{
    static const struct store_range ranges[] = {{20, 5}};
    struct store_sink a = add_sink(f, "a");
    add_sink(f, "b");
    for (uint64_t seq = 1; seq <= 4; seq++) {
        ck_ok(put_retry(f, &a, 0, seq, seq % 2 ? SMALL : LARGE));
        ck_ok(bury(f, &a, 1, seq, seq % 2 ? SMALL : LARGE, true));
    }
    struct store_ack ack = ack_of(&a);
    ack.ranges[0] = ranges;
    ack.range_count[0] = 1;
    ack.checkpoint = "here";
    ack.checkpoint_size = 4;
    ck_ok(state_ack(f->state, &ack, soon()));
}

static inline struct state_key meta_key(enum state_meta which)
{
    struct state_key key = state_key(TABLE_META);
    state_key_u8(&key, (uint8_t)which);
    return key;
}

static inline void put_row(struct fixture *f, const struct state_key *key, const void *body, size_t size)
{
    struct state_txn txn;
    ck_ok(state_txn_write(f->state, soon(), &txn));
    ck_ok(state_txn_end(&txn, state_table_put(&txn, key, body, size)));
}

/* Bytes that are no row at all, under a key as if they were. */
static inline void put_junk(struct fixture *f, const struct state_key *key)
{
    struct state_txn txn;
    MDB_val k = {.mv_size = key->size, .mv_data = (void *)key->bytes},
            value = {.mv_size = 30, .mv_data = (char[30]){0}};
    ck_ok(state_txn_write(f->state, soon(), &txn));
    ck_assert_int_eq(mdb_put(txn.txn, f->state->dbi, &k, &value, 0), 0);
    txn.writes++;
    ck_ok(state_txn_commit(&txn));
}

static inline bool has_checkpoint(struct fixture *f)
{
    char bytes[16];
    size_t size = 0;
    ck_ok(state_checkpoint(f->state, 1, soon(), bytes, sizeof bytes, &size));
    return size > 0;
}

static inline void damage_meta(struct fixture *f)
{
    static const uint8_t zeros[8192];
    int fd = openat(f->dir.fd, STATE_FILE, O_RDWR);
    ck_assert_int_eq(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
}

#endif
