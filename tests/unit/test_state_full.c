/* test_state_full.c - the state when map or disk are full, when its process is killed, and at random against a plain
 * model. */
#include <sched.h>
#include <sys/mount.h>

#include "state_fixture.h"

/* ------------------------------------------------------------------------------------------------------------ full */

/* Puts retries, `batch` at once, until SPOOL_EFULL; returns the sequence number behind the last. */
static uint64_t fill(struct fixture *f, const struct store_sink *sink, uint64_t seq, size_t size, size_t batch)
{
    struct store_retry_put *puts = calloc(batch, sizeof *puts);
    uint8_t *bytes = event_bytes(0, size);
    int code = SPOOL_OK;
    for (; !code; seq += code ? 0 : batch) {
        struct store_ack ack = ack_of(sink);
        for (size_t i = 0; i < batch; i++)
            puts[i] = (struct store_retry_put){.row = make_row(0, seq + i, size), .packed = bytes};
        ack.retries = puts;
        ack.retry_count = batch;
        code = state_ack(f->state, &ack, soon());
    }
    ck_code(code, SPOOL_EFULL);
    free(bytes);
    free(puts);
    return seq;
}

/* Fills the map or the disk down to the reserve, in the end by the smallest things; returns the number of retries. */
static uint64_t fill_all(struct fixture *f, const struct store_sink *sink, size_t size)
{
    struct store_sink rest;
    char name[16] = "rest";
    int code;
    uint64_t seq = fill(f, sink, 0, size, size < 100 ? 900 : 64);
    seq = fill(f, sink, seq, 40, 30);
    for (int i = 0; !(code = state_sink_register(f->state, name, "null", 0, "{}", start_at, soon(), &rest, NULL)); i++)
        snprintf(name, sizeof name, "rest %d", i);
    ck_code(code, SPOOL_EFULL);
    return seq;
}

/* Acknowledges and deletes everything, in an order that scatters the deletions over the pages. */
static void drain_full(struct fixture *f, const struct store_sink *sink, uint64_t n)
{
    struct store_done *done = calloc(n, sizeof *done);
    struct store_sink got;
    ck_code(put_retry(f, sink, 1, 1, 20000), SPOOL_EFULL);
    ck_code(bury(f, sink, 1, 1, 20000, true), SPOOL_EFULL);
    ck_code(state_sink_register(f->state, "late", "null", 0, "{}", start_at, soon(), &got, NULL), SPOOL_EFULL);
    ck_ok(state_sink_register(f->state, "a", "null", 1, "{}", start_at, soon(), &got, NULL));
    for (uint64_t i = 1; i <= 50; i++) {
        struct store_ack ack = ack_of(sink);
        ack.cursor[0] = 1000 * i;
        ack.checkpoint = &ack;
        ack.checkpoint_size = sizeof ack;
        ck_ok(state_ack(f->state, &ack, soon()));
    }
    for (uint64_t i = 0; i < n; i++)
        done[i] = (struct store_done){.lane = 0, .seq = i * 7919 % n};
    struct store_ack ack = ack_of(sink);
    ack.done = done;
    ack.done_count = n;
    ck_ok(state_ack(f->state, &ack, soon()));
    free(done);
    got = get_sink(f, "a");
    ck_assert_uint_eq(got.cursor[0], 50000);
    ck_assert_uint_eq(got.retry_rows, 0);
    ck_ok(put_retry(f, sink, 1, 1, 20000)); /* there is room again */
    ck_ok(state_sink_register(f->state, "late", "null", 0, "{}", start_at, soon(), &got, NULL));
    expect_whole(f);
}

START_TEST(full_map_drains)
{
    static const size_t sizes[] = {40, 1000, 6000};
    struct fixture f;
    begin(&f);
    struct store_sink sink = add_sink(&f, "a");
    uint64_t n = fill_all(&f, &sink, sizes[_i]);
    ck_assert_uint_gt(n, 500);
    drain_full(&f, &sink, n);
    end(&f);
}
END_TEST

/* A disk of 8 MiB, in a mount namespace of this (forked) test, so that it is gone with it. False: no right to do that. */
static bool begin_on_small_disk(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->path = test_dir();
    bool done = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
                mount("none", f->path, "tmpfs", 0, "size=8m,mode=0700") == 0;
    if (done) {
        ck_ok(open_state(f, 0));
        return true;
    }
    printf("skipped: no right to mount a small tmpfs\n");
    rmdir(f->path);
    free(f->path);
    return false;
}

/* Something else fills it to the last byte. */
static void fill_disk(const struct fixture *f)
{
    int fd = openat(f->dir.fd, "ballast", O_CREAT | O_WRONLY, 0600);
    static const uint8_t block[4096];
    while (write(fd, block, sizeof block) > 0)
        ;
    close(fd);
}

static void end_of_small_disk(struct fixture *f)
{
    close_state(f);
    ck_assert_int_eq(umount(f->path), 0);
    rmdir(f->path);
    free(f->path);
}

START_TEST(full_disk_drains)
{
    struct fixture f;
    if (!begin_on_small_disk(&f))
        return;
    struct store_sink sink = add_sink(&f, "a");
    fill_disk(&f);
    uint64_t n = fill_all(&f, &sink, 1000);
    drain_full(&f, &sink, n);
    end_of_small_disk(&f);
}
END_TEST

static void break_meta_pages(const struct fixture *f)
{
    static uint8_t garbage[2 * 4096];
    memset(garbage, 0xA5, sizeof garbage);
    int fd = openat(f->dir.fd, STATE_FILE, O_RDWR);
    ck_assert_int_eq(pwrite(fd, garbage, sizeof garbage, 0), sizeof garbage);
    close(fd);
}

static void expect_all(struct fixture *f, uint32_t sink, uint64_t n)
{
    ck_assert_uint_eq(get_sink(f, "a").retry_rows, n);
    for (uint64_t seq = 0; seq < n; seq++)
        expect_event(f, sink, 0, seq, 1000);
    expect_whole(f);
}

/* The reserve of the damaged file gives the room. Where it does not reach, nothing is lost: it opens when there is room. */
START_TEST(a_damaged_state_on_a_full_disk)
{
    struct fixture f;
    const uint64_t n = _i ? 2000 : 200; /* of a KiB and more, and the reserve is one MiB */
    if (!begin_on_small_disk(&f))
        return;
    struct store_sink sink = add_sink(&f, "a");
    for (uint64_t seq = 0; seq < n; seq++)
        ck_ok(put_retry(&f, &sink, 0, seq, 1000));
    fill_disk(&f);
    state_close(f.state);
    break_meta_pages(&f);
    if (_i) {
        for (int tries = 0; tries < 2; tries++) {
            f.state = NULL;
            ck_code(open_state_only(&f), SPOOL_EFULL);
            ck_assert_ptr_nonnull(strstr(err_last(), "free disk space"));
            ck_assert_int_ne(faccessat(f.dir.fd, "state.tmp", F_OK, 0), 0);
        }
        ck_assert_int_eq(unlinkat(f.dir.fd, "ballast", 0), 0);
    }
    ck_ok(open_state_only(&f));
    ck_assert(f.salvaged);
    f.damaged = 0; /* it was told */
    expect_all(&f, sink.id, n);
    for (uint64_t seq = 0; seq < n; seq++)
        ck_ok(finish(&f, &sink, 0, seq));
    ck_assert_uint_eq(get_sink(&f, "a").delivered, n);
    end_of_small_disk(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------------ killed
 */

/* Puts events i into the retries with cursor i + 1, for ever, telling each that is durable. */
static void work_until_killed(const char *path, int tell)
{
    struct fixture f = {.path = (char *)path};
    ck_ok(open_state(&f, 0));
    struct store_sink sink = add_sink(&f, "a");
    for (uint64_t seq = sink.cursor[0];; seq++) {
        size_t size = seq % 5 ? 100 : 9000;
        uint8_t *bytes = event_bytes(seq, size);
        const struct store_retry_put put = {.row = make_row(0, seq, size), .packed = bytes};
        const struct store_done done = {.lane = 0, .seq = seq - 50};
        struct store_ack ack = ack_of(&sink);
        ack.cursor[0] = seq + 1;
        ack.retries = &put;
        ack.retry_count = 1;
        ack.done = &done;
        ack.done_count = seq >= 50;
        if (state_ack(f.state, &ack, soon()) || write(tell, &seq, sizeof seq) != sizeof seq)
            _exit(1);
        free(bytes);
    }
}

START_TEST(killed)
{
    struct fixture f;
    begin(&f);
    close_state(&f);
    unsigned long seed = test_seed(4711);
    for (int round = 0; round < 10; round++) {
        int pipes[2];
        uint64_t told = 0, seq;
        ck_assert_int_eq(pipe(pipes), 0);
        pid_t pid = fork();
        if (pid == 0)
            work_until_killed(f.path, pipes[1]);
        close(pipes[1]);
        unsigned lives = (unsigned)(rand_r((unsigned *)&seed) % 40);
        for (unsigned i = 0; i < lives && read(pipes[0], &seq, sizeof seq) == sizeof seq; i++)
            told = seq;
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        while (read(pipes[0], &seq, sizeof seq) == sizeof seq)
            told = seq;
        close(pipes[0]);
        ck_ok(open_state(&f, 0));
        ck_assert(!f.salvaged);
        struct store_sink sink = {.id = 0};
        if (told)
            sink = get_sink(&f, "a");
        ck_assert_uint_ge(sink.cursor[0], told ? told + 1 : 0);
        for (uint64_t i = told > 40 ? told - 40 : 1; told && i <= told; i++)
            expect_event(&f, sink.id, 0, i, i % 5 ? 100 : 9000);
        expect_whole(&f);
        close_state(&f);
    }
    ck_ok(open_state(&f, 0));
    end(&f);
}
END_TEST

/* ----------------------------------------------------------------------------------------------- against a plain model
 */

enum { MODEL_SINKS = 3, MODEL_SEQS = 40 };

struct model_sink {
    struct store_sink sink;
    bool there;
    size_t retry[MODEL_SEQS], dead[MODEL_SEQS]; /* size + 1; 0: none */
    uint64_t cursor;
};

static const char *const model_names[MODEL_SINKS] = {"x", "y", "z"};

static void model_compare(struct fixture *f, struct model_sink *model)
{
    uint64_t all_dead = 0;
    for (int s = 0; s < MODEL_SINKS; s++) {
        struct model_sink *m = &model[s];
        uint64_t retries = 0, dead = 0;
        for (uint64_t seq = 0; seq < MODEL_SEQS; seq++) {
            retries += m->retry[seq] > 0;
            dead += m->dead[seq] > 0;
            if (m->retry[seq])
                expect_event(f, m->sink.id, 0, seq, m->retry[seq] - 1);
        }
        all_dead += dead;
        ck_assert_int_eq(dead_of(f, model_names[s], NULL), (int)dead);
        if (!m->there)
            continue;
        struct store_sink got = get_sink(f, model_names[s]);
        ck_assert_uint_eq(got.cursor[0], m->cursor);
        ck_assert_uint_eq(got.retry_rows, retries);
        ck_assert_uint_eq(got.dead_rows, dead);
        ck_assert_int_eq(retries_of(f, got.id), (int)retries);
    }
    struct state_stats stats;
    ck_ok(state_stats(f->state, soon(), &stats));
    ck_assert_uint_eq(stats.dead_letters, all_dead);
    expect_whole(f);
}

static void model_register(struct fixture *f, struct model_sink *m, const char *name)
{
    m->sink = add_sink(f, name);
    m->cursor = m->there ? m->cursor : m->sink.cursor[0];
    m->there = true;
}

static void model_remove(struct fixture *f, struct model_sink *m, const char *name)
{
    ck_ok(state_sink_remove(f->state, name, soon()));
    m->there = false;
    memset(m->retry, 0, sizeof m->retry);
}

static void model_requeue(struct fixture *f, struct model_sink *m, const char *name)
{
    uint64_t n = 0, want = 0;
    for (int i = 0; i < MODEL_SEQS; i++) {
        want += m->dead[i] > 0;
        m->retry[i] = m->dead[i] ? m->dead[i] : m->retry[i];
        m->dead[i] = 0;
    }
    ck_code(state_dead_requeue(f->state, name, NULL, soon(), &n), want ? SPOOL_OK : SPOOL_ENOTFOUND);
    ck_assert_uint_eq(n, want);
}

static void model_step(struct fixture *f, struct model_sink *m, const char *name, unsigned *seed)
{
    static const size_t sizes[] = {0, 64, 700, 1024, 1032, 4000, 9000, 40000};
    unsigned what = (unsigned)rand_r(seed) % 100;
    uint64_t seq = (uint64_t)rand_r(seed) % MODEL_SEQS;
    size_t size = sizes[rand_r(seed) % 8];
    if (!m->there || what < 2) {
        model_register(f, m, name);
    } else if (what < 4) {
        model_remove(f, m, name);
    } else if (what < 45) {
        ck_ok(put_retry(f, &m->sink, 0, seq, size));
        m->retry[seq] = size + 1;
    } else if (what < 65) {
        ck_ok(finish(f, &m->sink, 0, seq));
        m->retry[seq] = 0;
    } else if (what < 80 && m->retry[seq]) {
        ck_ok(bury(f, &m->sink, 0, seq, m->retry[seq] - 1, false));
        m->dead[seq] = m->retry[seq];
        m->retry[seq] = 0;
    } else if (what < 84) {
        model_requeue(f, m, name);
    } else {
        struct store_ack ack = ack_of(&m->sink);
        ack.cursor[0] = (uint64_t)rand_r(seed) % 1000;
        m->cursor = ack.cursor[0] > m->cursor ? ack.cursor[0] : m->cursor;
        ck_ok(state_ack(f->state, &ack, soon()));
    }
}

/* A dead letter of a removed sink belongs to the id of then: in the model a letter of the same event is one, so those
 * go. */
static void forget_orphans(struct fixture *f, struct model_sink *m, const char *name)
{
    uint64_t n;
    if (m->there)
        return;
    int code = state_dead_purge(f->state, name, NULL, soon(), &n);
    ck_assert(code == SPOOL_OK || code == SPOOL_ENOTFOUND);
    memset(m->dead, 0, sizeof m->dead);
}

START_TEST(random_against_model)
{
    struct fixture f;
    struct model_sink model[MODEL_SINKS] = {0};
    unsigned seed = (unsigned)test_seed(20261121);
    begin(&f);
    for (int step = 0; step < 1500; step++) {
        int s = rand_r(&seed) % MODEL_SINKS;
        model_step(&f, &model[s], model_names[s], &seed);
        forget_orphans(&f, &model[s], model_names[s]);
        if (step % 150 == 149) {
            model_compare(&f, model);
            reopen(&f);
            model_compare(&f, model);
        }
    }
    end(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("state_full");
    TCase *t = tcase_create("state_full");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, full_map_drains, 0, 3);
    tcase_add_test(t, full_disk_drains);
    tcase_add_loop_test(t, a_damaged_state_on_a_full_disk, 0, 2);
    tcase_add_test(t, killed);
    tcase_add_test(t, random_against_model);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
