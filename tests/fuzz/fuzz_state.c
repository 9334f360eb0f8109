/* fuzz_state.c - a state whose rows have right checksums and arbitrary content, opened and used, as it is or by
 * salvage.
 *
 * A real state is made once. The input changes some of its rows and adds others, each signed as the state would; every
 * other input also damages a page, so that the rows are searched for in the raw file. */
#include <fcntl.h>

#include "../../lib/base/id.h"
#include "../../spool/state_inside.h"
#include "fuzz.h"

enum { MAP_BYTES = 16 << 20, FILE_MAX = 4 << 20, ROWS_MAX = 12, CALLBACKS_MAX = 100000 };

static uint8_t original[FILE_MAX];
static size_t original_size;
static char path[96], file[120];
static uint32_t seed;

/* ----------------------------------------------------------------------------------------------------- the real one */

static void ignore_damage(void *user, const char *name, const char *what, uint64_t events)
{
    (void)user, (void)name, (void)what, (void)events;
}

struct fixture {
    struct dir dir;
    struct lock *lock;
    struct state *state;
    bool salvaged;
};

static uint64_t soon(void)
{
    return deadline_in_ms(20000);
}

static int open_state(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    require(dir_open(path, 1 << 20, 0600, 0, &f->dir) == SPOOL_OK);
    require(lock_open(f->dir.fd, "state.lock", false, 0600, NULL, &f->lock) == SPOOL_OK);
    const struct state_options options = {
        .dir = &f->dir, .lock = f->lock, .map_bytes = MAP_BYTES, .damaged = ignore_damage};
    int code = state_open(&options, soon(), &f->state, &f->salvaged);
    if (code)
        fprintf(stderr, "state_open: %s: %s\n", spool_error_name(code), spool_last_error());
    return code;
}

static void close_state(struct fixture *f)
{
    state_close(f->state);
    lock_close(f->lock);
    dir_close(&f->dir);
}

static void fill_row(struct store_retry *row, uint64_t seq, uint32_t size)
{
    *row = (struct store_retry){.lane = (int)(seq % LANES), .seq = seq, .attempts = 1, .due_ns = seq, .size = size};
    id_make((struct hlc_stamp){.ticks = seq + 1000}, 7, &row->id);
    snprintf(row->reason, sizeof row->reason, "reason");
}

static void put_rows(struct state *state, const struct store_sink *sink)
{
    static uint8_t packed[9000];
    struct store_retry_put retries[6];
    struct store_dead_put dead[4];
    struct store_range range = {90, 5};
    memset(packed, 'p', sizeof packed);
    for (uint64_t i = 0; i < 6; i++) {
        fill_row(&retries[i].row, 10 + i, i % 2 ? 5000 : 200);
        retries[i].packed = packed;
    }
    for (uint64_t i = 0; i < 4; i++) {
        fill_row(&dead[i].row, 30 + i, i % 2 ? 9000 : 100);
        dead[i].died_ns = 5;
        dead[i].packed = packed;
    }
    struct store_ack ack = {.sink_id = sink->id, .generation = sink->generation, .retries = retries, .retry_count = 6};
    ack.dead = dead, ack.dead_count = 4;
    ack.ranges[0] = &range, ack.range_count[0] = 1;
    ack.checkpoint = packed, ack.checkpoint_size = 300;
    require(state_ack(state, &ack, soon()) == SPOOL_OK);
}

static void make_original(void)
{
    static const uint64_t start[LANES] = {1, 2, 3, 4};
    static const char *const names[] = {"one", "two", "gone"};
    struct fixture f;
    snprintf(path, sizeof path, "%s/spool", scratch_dir());
    snprintf(file, sizeof file, "%s/state.mdb", path);
    require(open_state(&f) == SPOOL_OK);
    seed = f.state->seed;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct store_sink sink;
        require(state_sink_register(f.state, names[i], "null", 1, "{\"a\":1}", start, soon(), &sink, NULL) == SPOOL_OK);
        put_rows(f.state, &sink);
    }
    require(state_sink_remove(f.state, "gone", soon()) == SPOOL_OK);
    state_count(f.state, STATE_DAMAGED_BLOCKS, 1, "block", soon());
    close_state(&f);
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, original, sizeof original);
    require(n > 0 && n < FILE_MAX);
    original_size = (size_t)n;
    close(fd);
}

/* ------------------------------------------------------------------------------------------------------------- rows */

static void put_row(MDB_txn *txn, MDB_dbi dbi, const struct state_key *key, const uint8_t *body, size_t size,
                    uint64_t stamp)
{
    uint8_t row[ROW_MAX];
    if (!key->size || key->size > 255 || state_row_size(key->size, size) > ROW_MAX)
        return;
    state_row_write(row, seed, key, body, size, stamp);
    MDB_val k = {key->size, (void *)(uintptr_t)key->bytes}, v = {state_row_size(key->size, size), row};
    mdb_put(txn, dbi, &k, &v, 0);
}

static void add_row(struct input *in, MDB_txn *txn, MDB_dbi dbi)
{
    struct state_key key = state_key((uint8_t)(1 + take_u8(in) % (TABLES + 1)));
    size_t size;
    const uint8_t *bytes = take_bytes(in, take_u8(in) % 32u, &size);
    state_key_bytes(&key, bytes, size);
    bytes = take_bytes(in, take_u8(in), &size);
    put_row(txn, dbi, &key, bytes, size, take_odd_number(in));
}

/* The nth row: some bytes of its body are others, or it is longer, shorter, or gone. */
static void change_row(struct input *in, MDB_txn *txn, MDB_dbi dbi)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    struct state_row view;
    struct state_key key = {.size = 0};
    uint8_t body[ROW_MAX] = {0};
    unsigned nth = take_u8(in) % 64u;
    if (mdb_cursor_open(txn, dbi, &cursor))
        return;
    int rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
    while (!rc && nth--)
        rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    if (!rc && state_row_read(v.mv_data, v.mv_size, seed, &view) == SPOOL_OK) {
        size_t size = view.body_size;
        memcpy(body, view.body, size);
        state_key_bytes(&key, view.key, view.key_size);
        uint64_t stamp = view.stamp;
        for (unsigned n = take_u8(in) % 8u; n && size; n--) {
            size_t at = take_number(in, 2) % size;
            body[at] = take_u8(in);
        }
        uint8_t how = take_u8(in);
        size = how % 8 == 1 ? size / 2 : how % 8 == 2 ? size + how / 8u : size;
        put_row(txn, dbi, &key, body, size, how % 8 == 3 ? take_odd_number(in) : stamp);
    }
    mdb_cursor_close(cursor);
}

static void change_rows(struct input *in)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    require(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, 4) == 0 && mdb_env_set_mapsize(env, MAP_BYTES) == 0);
    require(mdb_env_open(env, file, MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK | MDB_NOSYNC, 0600) == 0);
    require(mdb_txn_begin(env, NULL, 0, &txn) == 0);
    require(mdb_dbi_open(txn, NULL, 0, &dbi) == 0);
    for (unsigned n = take_u8(in) % ROWS_MAX; n; n--) {
        if (take_u8(in) & 1)
            add_row(in, txn, dbi);
        else
            change_row(in, txn, dbi);
    }
    require(mdb_txn_commit(txn) == 0);
    mdb_env_close(env);
}

/* Both meta pages' roots point nowhere: it must not be mapped. */
static void damage_pages(void)
{
    int fd = open(file, O_WRONLY | O_CLOEXEC);
    static const uint8_t wrong[8] = {0xee, 0xee, 0xee};
    for (off_t page = 0; page < 2; page++)
        require(pwrite(fd, wrong, sizeof wrong, page * 4096 + 16 + 24 + 48 + 40) == sizeof wrong);
    close(fd);
}

/* ----------------------------------------------------------------------------------------------------------- using it
 */

static int count_sink(void *user, const struct store_sink *sink)
{
    (void)sink;
    return ++*(unsigned *)user > CALLBACKS_MAX;
}

static int count_retry(void *user, const struct store_retry *row)
{
    (void)row;
    return ++*(unsigned *)user > CALLBACKS_MAX;
}

static int count_dead(void *user, const struct store_dead *dead)
{
    unsigned sum = 0;
    for (size_t i = 0; i < dead->packed_size; i++)
        sum += dead->packed[i];
    (void)sum;
    return ++*(unsigned *)user > CALLBACKS_MAX;
}

static void use_sink(struct state *state, const char *name)
{
    struct store_sink sink;
    uint8_t checkpoint[SPOOL_CHECKPOINT_MAX], *event;
    size_t size;
    unsigned calls = 0;
    char *config;
    if (state_sink_get(state, name, soon(), &sink) != SPOOL_OK)
        return;
    for (int lane = 0; lane < LANES; lane++)
        require(sink.range_count[lane] <= STORE_RANGES_MAX);
    if (state_sink_config(state, name, soon(), &config) == SPOOL_OK)
        free(config);
    state_checkpoint(state, sink.id, soon(), checkpoint, sizeof checkpoint, &size);
    state_retry_each(state, sink.id, soon(), count_retry, &calls);
    require(calls <= CALLBACKS_MAX);
    for (uint64_t seq = 10; seq < 16; seq++) {
        if (state_retry_event(state, sink.id, (int)(seq % LANES), seq, soon(), &event, &size) == SPOOL_OK)
            free(event);
    }
    put_rows(state, &sink);
    state_dead_requeue(state, name, NULL, soon(), NULL);
    state_sink_pause(state, name, true, soon());
}

static void restore(struct state *state, const struct buffer *snapshot)
{
    int code = state_restore(state, snapshot->data, snapshot->size, soon(), NULL);
    if (code)
        fprintf(stderr, "state_restore: %s: %s\n", spool_error_name(code), spool_last_error());
    require(code == SPOOL_OK);
}

static void use_state(struct state *state)
{
    static const uint64_t start[LANES] = {1, 1, 1, 1}, first[LANES] = {1, 2, 3, 4}, upto[LANES] = {50, 50, 50, 50};
    struct spool_verify_report report = {.size = sizeof report};
    struct state_stats stats;
    struct store_sink sink;
    struct buffer snapshot = {0};
    struct spool_id id;
    uint64_t cursor[LANES], dropped;
    uint32_t sinks;
    unsigned calls = 0;
    state_verify(state, soon(), NULL, NULL, &report);
    require(state_sink_each(state, soon(), count_sink, &calls) <= 0);
    state_dead_each(state, NULL, soon(), count_dead, &calls);
    require(calls <= CALLBACKS_MAX);
    use_sink(state, "one");
    use_sink(state, "two");
    state_stats(state, soon(), &stats);
    state_low_cursor(state, soon(), cursor, &sinks);
    state_drop_below(state, first, upto, soon(), &dropped);
    state_clock_get(state, soon(), &id);
    require(state_sink_register(state, "new", "null", 1, "{}", start, soon(), &sink, NULL) == SPOOL_OK);
    put_rows(state, &sink);
    if (state_snapshot(state, soon(), &snapshot) == SPOOL_OK)
        restore(state, &snapshot);
    buffer_free(&snapshot);
    state_dead_purge(state, NULL, NULL, soon(), NULL);
    state_sink_remove(state, "two", soon());
}

static void put_original(void)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0 && write(fd, original, original_size) == (ssize_t)original_size);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct fixture f;
    if (!original_size)
        make_original();
    put_original();
    bool salvage = take_u8(&in) & 1;
    change_rows(&in);
    if (salvage)
        damage_pages();
    int code = open_state(&f);
    if (code == SPOOL_EVERSION) { /* a row said so, signed */
        lock_close(f.lock);
        dir_close(&f.dir);
        return 0;
    }
    require(code == SPOOL_OK);
    use_state(f.state);
    close_state(&f);
    char quarantine[120];
    snprintf(quarantine, sizeof quarantine, "%s/quarantine", path);
    scratch_remove(quarantine);
    return 0;
}
