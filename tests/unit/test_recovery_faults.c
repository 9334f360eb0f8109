/* test_recovery_faults.c - the journal of a killed process is taken over while the machine fails too: a store that
 * opens, and one that does not, leave every event to be found exactly once; what cannot be read is set aside, and the
 * rest goes on. */
#include "fail_nth.h"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

#include "../../spool/journal_inside.h"
#include "store_fixture.h"

FAIL_HOOK(int, utimensat, (int at, const char *name, const struct timespec times[2], int flags),
          FAIL_ARGS(int, const char *, const struct timespec *, int), (at, name, times, flags), FAIL_NAME,
          fail_errno(EIO))

enum { EVENTS = 3, JOURNAL_BYTES = 256 << 10 };

static unsigned warnings, damages;

static void on_log(void *user, enum spool_log_level level, const char *message)
{
    (void)user, (void)message;
    warnings += level == SPOOL_LOG_WARNING || level == SPOOL_LOG_ERROR;
}

static void on_notice(void *user, const struct spool_notice *notice)
{
    (void)user;
    damages += notice->kind == SPOOL_NOTICE_DAMAGE;
}

static void set_up(void)
{
    store_begin();
}

static void tear_down(void)
{
    store_end();
}

/* ---------------------------------------------------------------------------------------------------------- helpers */

static int open_as(uint32_t flags, uint32_t journal_bytes, struct hlc *clock, struct store **ret)
{
    const struct store_options options = {
        .max_bytes = 16 << 20,
        .segment_bytes = 1 << 20,
        .journal_bytes = journal_bytes,
        .flush_interval_ms = 60000,
        .full_timeout_ms = 2000,
        .file_mode = 0600,
        .flags = flags,
        .reporter = {.log = on_log, .on_notice = on_notice},
    };
    *ret = NULL;
    return store_open(path, &options, clock, ret);
}

static struct store *open_store(void)
{
    struct store *store;
    ck_ok(open_as(0, JOURNAL_BYTES, hlc, &store));
    return store;
}

static void close_store(struct store *store)
{
    ck_ok(store_close(store, deadline_in_ms(60000)));
}

static int append(struct store *store)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .priority = SPOOL_MEDIUM, .body = "x", .body_size = 1);
    struct event_measure measure;
    int code = event_measure(&event, store_frame_max(store), &measure);
    return code ? code : store_append(store, &event, &measure, 1, false, NULL);
}

/* A process that appends and is killed. */
static void die_with_events(uint32_t journal_bytes)
{
    pid_t child = fork();
    if (child == 0) {
        struct hlc *own;
        struct store *store;
        if (hlc_new(&(struct hlc_options){0}, &own) || open_as(0, journal_bytes, own, &store))
            _exit(1);
        for (int i = 0; i < EVENTS; i++) {
            if (append(store))
                _exit(2);
        }
        raise(SIGKILL);
    }
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFSIGNALED(status), "status %x", status);
}

static unsigned count(struct store *store)
{
    unsigned all = 0;
    uint64_t first[LANES], next[LANES], skip_to;
    struct store_block *block;
    ck_ok(store_bounds(store, first, next));
    for (int lane = 0; lane < LANES; lane++) {
        for (uint64_t seq = first[lane];
             store_read(store, lane, seq, deadline_in_ms(5000), &block, &skip_to) == SPOOL_OK;) {
            all += block->count;
            seq = block->first_seq + block->count;
            store_block_unref(block);
        }
    }
    return all;
}

static int journal_folder(void)
{
    char name[512];
    snprintf(name, sizeof name, "%s/journal", path);
    int fd = open(name, O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(fd, 0);
    return fd;
}

/* --------------------------------------------------------------------------------------------------- with one fault */

static const enum fail_class CLASSES[] = {
    FAIL_MEMORY, FAIL_OPEN, FAIL_READ,   FAIL_WRITE,      FAIL_SPACE,     FAIL_SYNC,       FAIL_NAME,        FAIL_STAT,
    FAIL_LOCK,   FAIL_MAP,  FAIL_RANDOM, FAIL_LMDB_BEGIN, FAIL_LMDB_READ, FAIL_LMDB_WRITE, FAIL_LMDB_COMMIT,
};
enum { N_CLASSES = sizeof CLASSES / sizeof *CLASSES };

static bool open_with(enum fail_class class, unsigned n)
{
    struct store *store;
    fail_arm(class, n);
    int code = open_as(0, JOURNAL_BYTES, hlc, &store);
    bool fired = fail_disarm();
    if (code) {
        ck_documented(code);
        ck_assert_ptr_null(store);
    } else {
        close_store(store);
    }
    return fired;
}

START_TEST(taken_over_with_one_fault)
{
    unsigned all = 0;
    bool fired = true;
    close_store(open_store());
    for (unsigned n = 1; fired; n += 1 + n / 4) {
        die_with_events(JOURNAL_BYTES);
        all += EVENTS;
        fired = open_with(CLASSES[_i], n);
        struct store *store = open_store();
        ck_ok(store_commit(store, deadline_in_ms(60000)));
        ck_assert_msg(count(store) == all, "class %d, call %u: %u events instead of %u", CLASSES[_i], n, count(store),
                      all);
        close_store(store);
    }
    ck_assert_uint_eq(damages, 0);
}
END_TEST

START_TEST(looked_at_with_one_fault)
{
    struct store *store;
    struct store_stats stats;
    die_with_events(JOURNAL_BYTES);
    ck_ok(open_as(SPOOL_READ_ONLY, JOURNAL_BYTES, hlc, &store));
    for (int i = 0; i < N_CLASSES; i++) {
        int code;
        fail_each(code, CLASSES[i], store_stats(store, &stats))
        {
            if (code)
                ck_documented(code);
        }
        ck_ok(code);
        ck_assert_uint_eq(stats.dead_journals, 1);
        ck_assert_uint_eq(stats.journals, 1);
    }
    close_store(store);
}
END_TEST

/* ------------------------------------------------------------------------------------------- journals of all sorts */

/* One of another size is emptied, and kept for those who want that size. */
START_TEST(one_of_another_size_is_applied)
{
    struct store_stats stats;
    die_with_events(2 * JOURNAL_BYTES);
    struct store *store = open_store();
    ck_assert_uint_eq(count(store), EVENTS);
    ck_assert_uint_eq(store_stats(store, &stats), SPOOL_OK);
    ck_assert_uint_eq(stats.recovered_events, EVENTS);
    close_store(store);
}
END_TEST

static void put_junk(int fd)
{
    int file = openat(fd, "junk.jnl", O_CREAT | O_WRONLY, 0600);
    ck_assert_int_eq(write(file, "junk", 4), 4);
    close(file);
}

/* What loses its header goes to quarantine/, by itself. */
START_TEST(one_without_a_header_is_set_aside)
{
    close_store(open_store());
    die_with_events(JOURNAL_BYTES);
    int fd = journal_folder();
    put_junk(fd);
    struct store *store = open_store();
    ck_assert_uint_eq(damages, 1);
    ck_assert_uint_eq(count(store), EVENTS);
    ck_assert_int_ne(faccessat(fd, "junk.jnl", F_OK, 0), 0);
    close(fd);
    close_store(store);
}
END_TEST

/* One of the calls with a name is the one that moves it away: then it stays, and is told, and nothing else is wrong. */
START_TEST(one_that_cannot_be_set_aside_stays)
{
    bool stayed = false;
    close_store(open_store());
    int fd = journal_folder();
    for (unsigned n = 1; n < 30 && !stayed; n++) {
        struct store *store;
        put_junk(fd);
        damages = warnings = 0;
        fail_arm(FAIL_NAME, n);
        int code = open_as(0, JOURNAL_BYTES, hlc, &store);
        fail_disarm();
        if (code)
            continue;
        stayed = faccessat(fd, "junk.jnl", F_OK, 0) == 0;
        ck_assert_uint_eq(damages, 1);
        ck_assert(!stayed || warnings > 1);
        ck_ok(append(store));
        close_store(store);
    }
    ck_assert(stayed);
    close(fd);
}
END_TEST

/* Records of which some are gone: the others count, and the gap is told. */
START_TEST(a_gap_is_told)
{
    struct stat st;
    char name[JOURNAL_NAME_SIZE] = "";
    die_with_events(JOURNAL_BYTES);
    int fd = journal_folder();
    DIR *stream = fdopendir(dup(fd));
    for (struct dirent *entry; (entry = readdir(stream));) {
        if (strstr(entry->d_name, ".jnl"))
            snprintf(name, sizeof name, "%.47s", entry->d_name);
    }
    closedir(stream);
    int file = openat(fd, name, O_RDWR);
    uint32_t size;
    ck_assert_int_eq(fstat(file, &st), 0);
    ck_assert_int_eq(pread(file, &size, 4, JOURNAL_PAGE + 4), 4);
    ck_assert_int_eq(pwrite(file, "gone", 4, JOURNAL_PAGE + JOURNAL_RECORD_HEADER + size),
                     4); /* the second one's CRC */
    close(file);
    warnings = 0;
    struct store *store = open_store();
    ck_assert_uint_gt(warnings, 0);
    ck_assert_uint_eq(count(store), EVENTS - 1);
    close(fd);
    close_store(store);
}
END_TEST

/* Does the keeper's work now: it sweeps when somebody wants room. */
static void keep_house(struct store *store)
{
    pthread_mutex_lock(&store->append_mutex);
    store->want_room = true;
    pthread_mutex_unlock(&store->append_mutex);
    wake_bump(store->wake, false);
    poll(NULL, 0, 30);
}

static int make_old(void *user, const char *name)
{
    const struct timespec long_ago[2] = {{.tv_sec = 1000000}, {.tv_sec = 1000000}};
    return utimensat(*(int *)user, name, long_ago, 0) ? errno : 0;
}

/* Emptied journals are remembered by their time, so that they need not be read; one that was used has another. */
START_TEST(a_known_spare_is_looked_at_again_when_it_was_taken)
{
    struct store_stats stats;
    for (int i = 0; i < 2; i++)
        die_with_events(2 * JOURNAL_BYTES); /* not of the size that is wanted here */
    struct store *store = open_store();
    int fd = journal_folder();
    for (unsigned round = 1; round <= 3; round++) {
        ck_ok(dir_each(fd, ".jnl", make_old, &fd));
        for (int i = 0; i < 3; i++)
            keep_house(store);
        die_with_events(2 * JOURNAL_BYTES);
        for (int i = 0; i < 500 && count(store) < (2 + round) * EVENTS; i++)
            keep_house(store);
        ck_assert_uint_eq(count(store), (2 + round) * EVENTS);
    }
    ck_ok(store_stats(store, &stats));
    ck_assert_uint_le(stats.journals, SPARE_JOURNALS_MAX + 1);
    close(fd);
    close_store(store);
}
END_TEST

/* A newer library's is left to it. */
START_TEST(one_of_a_newer_version_is_left_alone)
{
    static const char newer[36] = "SPOOLJNL\002";
    close_store(open_store());
    int fd = journal_folder(), file = openat(fd, "newer.jnl", O_CREAT | O_WRONLY, 0600);
    ck_assert_int_eq(write(file, newer, sizeof newer), sizeof newer);
    close(file);
    damages = 0;
    close_store(open_store());
    ck_assert_uint_eq(damages, 0);
    ck_assert_int_eq(faccessat(fd, "newer.jnl", F_OK, 0), 0);
    close(fd);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *s = suite_create("recovery_faults");
    TCase *t = tcase_create("recovery_faults");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, taken_over_with_one_fault, 0, N_CLASSES);
    tcase_add_test(t, looked_at_with_one_fault);
    tcase_add_test(t, one_of_another_size_is_applied);
    tcase_add_test(t, one_without_a_header_is_set_aside);
    tcase_add_test(t, one_that_cannot_be_set_aside_stays);
    tcase_add_test(t, one_of_a_newer_version_is_left_alone);
    tcase_add_test(t, a_gap_is_told);
    tcase_add_forking_test(t, a_known_spare_is_looked_at_again_when_it_was_taken);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
