/* test_state_salvage.c - a damaged state.mdb: never a signal, what is whole is kept, the rest is counted. */
#include <dlfcn.h>
#include <limits.h>
#include <sys/mman.h>

#include "state_fixture.h"

enum { EVENTS = 300, LARGE = 6000, SMALL = 200 };

static size_t size_of(uint64_t seq)
{
    return seq % 10 ? SMALL : LARGE;
}

static void put_events(struct fixture *f, const struct store_sink *sink)
{
    for (uint64_t seq = 0; seq < EVENTS; seq++) {
        uint8_t *bytes = event_bytes(seq, size_of(seq));
        struct store_retry row = {.lane = 1, .seq = seq, .size = (uint32_t)size_of(seq)};
        put_be64(row.id.bytes, seq);
        const struct store_retry_put retry = {.row = row, .packed = bytes};
        const struct store_dead_put dead = {.row = row, .packed = bytes};
        struct store_ack ack = {.sink_id = sink->id,
                                .generation = sink->generation,
                                .cursor = {0, seq},
                                .checkpoint = &seq,
                                .checkpoint_size = sizeof seq};
        ack.retries = &retry;
        ack.retry_count = seq % 3 != 0;
        ack.dead = &dead;
        ack.dead_count = seq % 3 == 0;
        ck_ok(state_ack(f->state, &ack, soon()));
        free(bytes);
    }
}

/* A state with three sinks, one of them removed, retries, dead letters and a checkpoint; closed. */
static void prepare(struct fixture *f)
{
    begin(f);
    struct store_sink sink = add_sink(f, "a");
    add_sink(f, "gone");
    add_sink(f, "b");
    ck_ok(state_sink_remove(f->state, "gone", soon()));
    put_events(f, &sink);
    close_state(f);
}

static int state_file(const struct fixture *f, int flags)
{
    char path[512];
    snprintf(path, sizeof path, "%s/state.mdb", f->path);
    int fd = open(path, flags, 0600);
    ck_assert_msg(fd >= 0, "%s: %s", path, strerror(errno));
    return fd;
}

static uint8_t *read_state(const struct fixture *f, size_t *ret_size)
{
    int fd = state_file(f, O_RDONLY);
    struct stat st;
    ck_assert_int_eq(fstat(fd, &st), 0);
    uint8_t *bytes = malloc((size_t)st.st_size);
    ck_assert_int_eq(pread(fd, bytes, (size_t)st.st_size, 0), st.st_size);
    close(fd);
    *ret_size = (size_t)st.st_size;
    return bytes;
}

static void write_state(const struct fixture *f, const uint8_t *bytes, size_t size)
{
    int fd = state_file(f, O_RDWR | O_CREAT | O_TRUNC);
    ck_assert_int_eq(pwrite(fd, bytes, size, 0), (ssize_t)size);
    close(fd);
}

/* ------------------------------------------------------------------------------------------------ what is found in it
 */

struct found {
    struct fixture *f;
    uint32_t sink;
    uint64_t retries, dead;
};

static int see_retry(void *user, const struct store_retry *row)
{
    struct found *found = user;
    uint8_t *got, *want = event_bytes(row->seq, size_of(row->seq));
    size_t size;
    int code = state_retry_event(found->f->state, found->sink, row->lane, row->seq, soon(), &got, &size);
    if (code == SPOOL_OK) {
        ck_assert_uint_eq(size, size_of(row->seq));
        ck_assert(memcmp(got, want, size) == 0);
        free(got);
        found->retries++;
    } else {
        ck_code(code, SPOOL_EDAMAGED);
    }
    free(want);
    return 0;
}

static int see_dead_event(void *user, const struct store_dead *dead)
{
    struct found *found = user;
    uint8_t *want = event_bytes(dead->row.seq, size_of(dead->row.seq));
    ck_assert_uint_eq(dead->packed_size, size_of(dead->row.seq));
    ck_assert(memcmp(dead->packed, want, dead->packed_size) == 0);
    free(want);
    found->dead++;
    return 0;
}

static struct found look(struct fixture *f)
{
    struct found found = {.f = f};
    struct store_sink sink;
    int code = state_sink_get(f->state, "a", soon(), &sink);
    if (code)
        ck_code(code, SPOOL_ENOTFOUND);
    else
        ck_assert_uint_lt(sink.cursor[1], EVENTS);
    found.sink = code ? 0 : sink.id;
    ck_code(state_sink_get(f->state, "gone", soon(), &sink), SPOOL_ENOTFOUND);
    ck_ok(state_retry_each(f->state, found.sink, soon(), see_retry, &found));
    ck_ok(state_dead_each(f->state, NULL, soon(), see_dead_event, &found));
    return found;
}

/* The state takes all kinds of changes. */
static void use(struct fixture *f)
{
    struct store_sink sink = add_sink(f, "a"), gone = add_sink(f, "gone");
    uint64_t n;
    ck_assert_uint_ne(sink.id, gone.id);
    const struct store_ack ack = {.sink_id = sink.id, .generation = sink.generation, .cursor = {7, EVENTS + 7}};
    ck_ok(state_ack(f->state, &ack, soon()));
    int code = state_dead_purge(f->state, NULL, NULL, soon(), &n);
    ck_assert(code == SPOOL_OK || code == SPOOL_ENOTFOUND);
    ck_ok(state_sink_remove(f->state, "a", soon()));
}

/* ---------------------------------------------------------------------------------------------------- random damage */

/* One of several kinds of damage to the first `used` bytes; may shorten the file. */
static void damage(uint8_t *bytes, size_t *size, size_t used, unsigned *seed)
{
    size_t pages = used / 4096, page = (size_t)rand_r(seed) % pages * 4096, other = (size_t)rand_r(seed) % pages * 4096;
    switch (rand_r(seed) % 6) {
    case 0:
        for (int i = 0; i < 1 + rand_r(seed) % 20; i++)
            bytes[(size_t)rand_r(seed) % used] ^= (uint8_t)(1 + rand_r(seed) % 255);
        break;
    case 1:
        for (size_t i = 0; i < 4096; i++)
            bytes[page + i] = (uint8_t)rand_r(seed);
        break;
    case 2:
        memset(bytes + page, 0, 4096);
        break;
    case 3:
        memcpy(bytes + page, bytes + other, 4096);
        break;
    case 4:
        *size = (size_t)rand_r(seed) % used;
        break;
    default: /* the header of a page, where LMDB's trust is greatest */
        for (int i = 0; i < 8; i++)
            bytes[page + (size_t)rand_r(seed) % 200] = (uint8_t)rand_r(seed);
    }
}

static void try_damaged(struct fixture *f)
{
    ck_ok(open_state(f, SPOOL_READ_ONLY));
    look(f);
    close_state(f);
    ck_ok(open_state(f, 0));
    look(f);
    struct spool_verify_report report = {.size = sizeof report};
    int code = state_verify(f->state, soon(), NULL, NULL, &report);
    ck_assert(code == SPOOL_OK || code == SPOOL_EDAMAGED);
    if (f->salvaged)
        ck_assert_int_eq(code, SPOOL_OK);
    use(f);
    close_state(f);
    ck_ok(open_state(f, 0));
    ck_assert(!f->salvaged);
    close_state(f);
}

START_TEST(random_damage)
{
    struct fixture f;
    unsigned seed = (unsigned)test_seed(815);
    prepare(&f);
    size_t size;
    uint8_t *whole = read_state(&f, &size);
    size_t used = size - (1 << 20); /* the reserve is empty */
    for (int i = 0; i < 200; i++) {
        uint8_t *bytes = malloc(size);
        size_t left = size;
        unsigned now = seed;
        memcpy(bytes, whole, size);
        damage(bytes, &left, used, &seed);
        write_state(&f, bytes, left);
        free(bytes);
        pid_t pid = fork();
        if (pid == 0) {
            try_damaged(&f);
            _exit(0);
        }
        int status;
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert_msg(status == 0, "damage %d, seed %u: status %x", i, now, status);
    }
    free(whole);
    ck_ok(open_state(&f, 0));
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------------- particular damage
 */

START_TEST(without_meta_pages_all_is_found)
{
    struct fixture f;
    prepare(&f);
    int fd = state_file(&f, O_RDWR);
    static const uint8_t zeros[8192];
    ck_assert_int_eq(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
    ck_ok(open_state(&f, 0));
    ck_assert(f.salvaged);
    ck_assert_uint_eq(f.damaged, 1);
    struct found found = look(&f);
    ck_assert_uint_eq(found.retries, EVENTS * 2 / 3);
    ck_assert_uint_eq(found.dead, EVENTS / 3);
    struct store_sink sink;
    struct state_stats stats;
    ck_ok(state_sink_get(f.state, "a", soon(), &sink));
    ck_assert_uint_eq(sink.cursor[1], EVENTS - 1);
    ck_assert_uint_eq(sink.retry_rows, found.retries);
    ck_assert_uint_eq(sink.dead_rows, found.dead);
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_eq(stats.dead_letters, found.dead);
    uint64_t checkpoint = 0;
    size_t size;
    ck_ok(state_checkpoint(f.state, sink.id, soon(), &checkpoint, sizeof checkpoint, &size));
    ck_assert_uint_eq(checkpoint, EVENTS - 1);
    char *config;
    ck_ok(state_sink_config(f.state, "b", soon(), &config));
    ck_assert_str_eq(config, "{}");
    free(config);
    use(&f);
    reopen(&f); /* damaged again, after a salvage: stamps went on */
    close_state(&f);
    fd = state_file(&f, O_RDWR);
    ck_assert_int_eq(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
    close(fd);
    ck_ok(open_state(&f, 0));
    ck_assert(f.salvaged);
    ck_code(state_sink_get(f.state, "a", soon(), &sink), SPOOL_ENOTFOUND); /* its mark is newer */
    ck_ok(state_sink_get(f.state, "b", soon(), &sink));
    end(&f);
}
END_TEST

START_TEST(empty_and_foreign_files)
{
    static const char *const contents[] = {"", "hello", "SpRw"};
    struct fixture f;
    prepare(&f);
    write_state(&f, (const uint8_t *)contents[_i], strlen(contents[_i]));
    ck_ok(open_state(&f, 0));
    ck_assert(f.salvaged);
    ck_assert_uint_eq(look(&f).dead, 0);
    use(&f);
    end(&f);
}
END_TEST

/* The tree is whole, a row is not. */
START_TEST(damaged_rows_are_left_out)
{
    struct fixture f;
    prepare(&f);
    size_t size;
    uint8_t *bytes = read_state(&f, &size), *event = event_bytes(7, SMALL);
    unsigned n = 0;
    for (uint8_t *at = bytes; (at = memmem(at, size - (size_t)(at - bytes), event, SMALL)); at++, n++)
        at[SMALL / 2] ^= 1;
    ck_assert_uint_ge(n, 1);
    write_state(&f, bytes, size);
    free(bytes);
    free(event);
    ck_ok(open_state(&f, 0));
    ck_assert(!f.salvaged);
    struct spool_verify_report report = {.size = sizeof report};
    ck_code(state_verify(f.state, soon(), NULL, NULL, &report), SPOOL_EDAMAGED);
    ck_assert_uint_eq(report.findings, 1);
    ck_assert_uint_eq(f.damaged, 0);
    ck_assert_uint_eq(look(&f).retries, EVENTS * 2 / 3 - 1);
    ck_assert_uint_eq(f.damaged, 1);
    struct store_sink sink;
    ck_ok(state_sink_get(f.state, "a", soon(), &sink));
    ck_assert_uint_eq(sink.retry_rows, EVENTS * 2 / 3 - 1); /* nobody waits for it */
    look(&f);
    ck_assert_uint_eq(f.damaged, 1);
    report = (struct spool_verify_report){.size = sizeof report};
    ck_ok(state_verify(f.state, soon(), NULL, NULL, &report));
    ck_assert_uint_gt(report.rows, EVENTS);
    end(&f);
}
END_TEST

START_TEST(read_only_changes_nothing)
{
    struct fixture f;
    prepare(&f);
    size_t size, after;
    uint8_t *bytes = read_state(&f, &size);
    memset(bytes, 0, 8192);
    write_state(&f, bytes, size);
    ck_ok(open_state(&f, SPOOL_READ_ONLY));
    ck_assert(f.salvaged);
    ck_assert_uint_eq(look(&f).dead, EVENTS / 3);
    close_state(&f);
    uint8_t *again = read_state(&f, &after);
    ck_assert_uint_eq(size, after);
    ck_assert(memcmp(bytes, again, size) == 0);
    free(bytes);
    free(again);
    ck_ok(open_state(&f, 0));
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------ rows that must not count
 */

/* A row that moves sink a's cursor to 9999, at the end of the used part; meta pages stay whole, another page does not.
 */
static void plant_row(struct fixture *f, uint64_t stamp_ahead, uint32_t seed_change)
{
    struct state_txn txn;
    struct sink_row sink;
    struct state_row view;
    uint8_t body[256], row[512];
    ck_ok(open_state(f, 0));
    ck_ok(state_clock_raise(f->state, &(struct spool_id){{1}}, soon())); /* a transaction without the sink */
    ck_ok(state_txn_read(f->state, soon(), &txn));
    ck_ok(sink_row_find(&txn, "a", &sink));
    struct state_key key = state_key(TABLE_SINK);
    state_key_u32(&key, sink.id);
    ck_ok(state_table_get(&txn, &key, &view));
    memcpy(body, view.body, view.body_size);
    put_u64(body + 16 + 8, 9999);
    state_row_write(row, f->state->seed + seed_change, &key, body, view.body_size, txn.stamp + stamp_ahead);
    size_t row_bytes = state_row_size(key.size, view.body_size);
    state_txn_abort(&txn);
    close_state(f);
    size_t size;
    uint8_t *bytes = read_state(f, &size);
    memcpy(bytes + size - 5000, row, row_bytes);
    for (size_t page = 8192; page < size; page += 4096) { /* every branch page says it is something else */
        if (bytes[page + 10] == 1)
            bytes[page + 10] = 0x70;
    }
    write_state(f, bytes, size);
    free(bytes);
}

START_TEST(planted_rows)
{
    static const struct {
        uint64_t stamp;
        uint32_t seed, cursor;
    } cases[] = {
        {0, 0, 9999},       /* as good as any: shows that planting works */
        {1, 0, EVENTS - 1}, /* of a transaction that was not committed */
        {0, 1, EVENTS - 1}, /* of another spool, or forged by a producer */
    };
    struct fixture f;
    prepare(&f);
    plant_row(&f, cases[_i].stamp, cases[_i].seed);
    ck_ok(open_state(&f, 0));
    ck_assert(f.salvaged);
    struct store_sink sink;
    ck_ok(state_sink_get(f.state, "a", soon(), &sink));
    ck_assert_uint_eq(sink.cursor[1], cases[_i].cursor);
    end(&f);
}
END_TEST

START_TEST(interrupted_salvage_is_finished)
{
    struct fixture f;
    prepare(&f);
    char from[512], to[512];
    snprintf(from, sizeof from, "%s/state.mdb", f.path);
    snprintf(to, sizeof to, "%s/state.new", f.path);
    ck_assert_int_eq(rename(from, to), 0);
    ck_ok(open_state(&f, 0));
    ck_assert(f.salvaged);
    ck_assert_uint_eq(look(&f).dead, EVENTS / 3);
    ck_assert(access(to, F_OK) != 0);
    end(&f);
}
END_TEST

START_TEST(damaged_goes_to_quarantine)
{
    struct fixture f;
    prepare(&f);
    write_state(&f, (const uint8_t *)"x", 1);
    ck_ok(open_state(&f, 0));
    char command[600];
    snprintf(command, sizeof command,
             "ls %s/quarantine | grep -q state.mdb && ! ls %s | grep -q 'state.tmp\\|state.new'", f.path, f.path);
    ck_assert_int_eq(system(command), 0);
    end(&f);
}
END_TEST

/* In front of libc's: after so many reads the disk dies, and reads nothing, wherever one looks. */
static long reads_left = LONG_MAX;
static ssize_t (*libc_pread)(int fd, void *buf, size_t size, off_t at);

ssize_t pread(int fd, void *buf, size_t size, off_t at)
{
    if (!libc_pread)
        *(void **)&libc_pread = dlsym(RTLD_NEXT, "pread");
    if (reads_left-- > 0)
        return libc_pread(fd, buf, size, at);
    reads_left = 0;
    errno = EIO;
    return -1;
}

/* It ends, and what could not be read is not taken for an empty state. */
START_TEST(a_dead_disk_is_an_error)
{
    struct fixture f;
    begin(&f);
    add_sink(&f, "a");
    close_state(&f);
    uint8_t junk[3 * 4096];
    memset(junk, 0xa5, sizeof junk);
    write_state(&f, junk, sizeof junk);
    reads_left = _i;
    int code = open_state(&f, 0);
    reads_left = LONG_MAX;
    ck_assert_msg(code == SPOOL_OK || code == EIO || code == SPOOL_EDAMAGED, "%s", spool_last_error());
    close_state(&f);
    if (code == EIO)
        ck_assert_int_eq(close(state_file(&f, O_RDONLY)), 0); /* not set aside */
    test_rmdir(f.path);
    free(f.path);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *s = suite_create("state_salvage");
    TCase *t = tcase_create("state_salvage");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, random_damage);
    tcase_add_test(t, without_meta_pages_all_is_found);
    tcase_add_loop_test(t, empty_and_foreign_files, 0, 3);
    tcase_add_test(t, damaged_rows_are_left_out);
    tcase_add_test(t, read_only_changes_nothing);
    tcase_add_loop_test(t, planted_rows, 0, 3);
    tcase_add_test(t, interrupted_salvage_is_finished);
    tcase_add_test(t, damaged_goes_to_quarantine);
    tcase_add_loop_test(t, a_dead_disk_is_an_error, 2, 16);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
