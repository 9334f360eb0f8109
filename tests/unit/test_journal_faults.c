/* test_journal_faults.c - a journal's life (made, appended to, flushed, taken over, scanned, removed), with each single
 * call below it failing once: what was published is found by the next owner, whatever failed. */
#include "fail_nth.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "../../lib/base/sync.h"
#include "../../spool/dir.h"
#include "../../spool/journal_inside.h"

/* What fail_nth.h leaves alone and the journal calls. */
FAIL_HOOK(int, madvise, (void *memory, size_t size, int advice), FAIL_ARGS(void *, size_t, int), (memory, size, advice),
          FAIL_MAP, fail_errno(ENOMEM))
FAIL_HOOK(int, posix_fadvise, (int fd, off_t at, off_t size, int advice), FAIL_ARGS(int, off_t, off_t, int),
          (fd, at, size, advice), FAIL_SPACE, fail_code(EINVAL))

enum { RING = 64 << 10, PAYLOAD = 16000, RECORDS = 5 };

static char *base;
static int dir_fd;
static bool use_pwrite;

static void set_up(void)
{
    base = test_dir();
    dir_fd = open(base, O_RDONLY | O_DIRECTORY);
    use_pwrite = false;
}

static void tear_down(void)
{
    close(dir_fd);
    test_rmdir(base);
    free(base);
}

static const enum fail_class CLASSES[] = {
    FAIL_MEMORY, FAIL_OPEN, FAIL_READ, FAIL_READ_SHORT, FAIL_WRITE,  FAIL_WRITE_SHORT, FAIL_SPACE,
    FAIL_SYNC,   FAIL_NAME, FAIL_STAT, FAIL_LOCK,       FAIL_RANDOM, FAIL_MAP,         FAIL_THREAD,
};
enum { N_CLASSES = sizeof CLASSES / sizeof *CLASSES };

/* ------------------------------------------------------------------------------------------------------- its life */

struct life {
    unsigned published, applied; /* records */
    uint64_t applied_at;         /* position */
    unsigned seen;
};

static int append(struct life *life, struct journal *journal)
{
    uint64_t end;
    uint8_t *payload = journal_reserve(journal, PAYLOAD);
    if (!payload)
        return err_set(SPOOL_EFULL, "no room");
    memset(payload, 'a' + (int)life->published, PAYLOAD);
    int code = journal_publish(journal, &end);
    life->published += !code;
    return code;
}

static int see(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    struct life *life = user;
    (void)position;
    bool right =
        size == PAYLOAD && payload[0] == 'a' + (int)(life->applied + life->seen) && payload[PAYLOAD - 1] == payload[0];
    life->seen++;
    return right ? SPOOL_OK : err_set(SPOOL_EINTERNAL, "record %u is another", life->seen);
}

/* The fourth fills the ring, so the fifth comes behind padding when the first two are applied. */
static int write_all(struct life *life, struct journal *journal)
{
    int code = SPOOL_OK;
    for (int i = 0; i < RECORDS && !code; i++) {
        journal_open_pages(journal, RING / 2);
        code = append(life, journal);
        if (life->published == 4 && !life->applied) {
            life->applied_at = 2 * (PAYLOAD + JOURNAL_RECORD_HEADER);
            life->applied = 2;
            journal_set_applied(journal, life->applied_at);
        }
    }
    return code ? code : journal_flush(journal, journal_head(journal), deadline_in_ms(5000));
}

static int begin_life(struct life *life)
{
    struct journal *journal;
    int code = journal_create(dir_fd, RING, 0600, use_pwrite, &journal);
    if (code)
        return code;
    code = write_all(life, journal);
    journal_close(journal);
    return code;
}

static int read_one(struct life *life, const char *name, bool inspect)
{
    struct journal *journal;
    struct journal_scan scan;
    bool dead;
    int code =
        inspect ? journal_inspect(dir_fd, name, &journal, &dead) : journal_adopt(dir_fd, name, use_pwrite, &journal);
    if (code)
        return code;
    life->seen = 0;
    code = journal_scan(journal, life->applied_at, true, see, life, &scan);
    if (!code && scan.records != life->published - life->applied)
        code = err_set(SPOOL_EINTERNAL, "%llu records instead of %u", (unsigned long long)scan.records,
                       life->published - life->applied);
    journal_close(journal);
    return code;
}

struct reading {
    struct life *life;
    bool inspect;
    unsigned journals;
};

static int read_named(void *user, const char *name)
{
    struct reading *reading = user;
    reading->journals++;
    return read_one(reading->life, name, reading->inspect);
}

static int read_all(struct life *life, bool inspect, unsigned *ret_journals)
{
    struct reading reading = {.life = life, .inspect = inspect};
    int code = dir_each(dir_fd, ".jnl", read_named, &reading);
    *ret_journals = reading.journals;
    return code;
}

static int remove_named(void *user, const char *name)
{
    struct journal *journal;
    (void)user;
    int code = journal_adopt(dir_fd, name, use_pwrite, &journal);
    return code ? code : journal_remove(journal);
}

static int remove_any(void *user, const char *name)
{
    (void)user;
    return unlinkat(dir_fd, name, 0) ? errno : 0;
}

static int count_one(void *user, const char *name)
{
    (void)name;
    ++*(unsigned *)user;
    return 0;
}

START_TEST(written_with_one_fault)
{
    static const int errors[] = {0, ENOSPC};
    for (int i = 0; i < 4; i++) {
        bool fired = true;
        use_pwrite = i & 1;
        fail_err = errors[i >> 1];
        for (unsigned n = 1; fired; n++) {
            struct life life = {0};
            unsigned journals;
            fail_arm(CLASSES[_i], n);
            int code = begin_life(&life);
            fired = fail_disarm();
            if (code)
                ck_documented(code);
            ck_assert(fired || !code);
            ck_assert(code || life.published == RECORDS);
            ck_ok(read_all(&life, false, &journals));
            ck_assert(journals == 1 || (!journals && !life.published));
            ck_ok(dir_each(dir_fd, "", remove_any, NULL));
        }
        fail_err = 0;
    }
}
END_TEST

START_TEST(taken_over_with_one_fault)
{
    int code;
    for (int i = 0; i < 4; i++) {
        struct life life = {0};
        unsigned journals;
        bool inspect = i & 1;
        use_pwrite = i & 2;
        ck_ok(begin_life(&life));
        fail_each(code, CLASSES[_i], read_all(&life, inspect, &journals))
        {
            if (code)
                ck_documented(code);
            ck_assert(code || journals == 1);
        }
        ck_ok(code);
        ck_assert_uint_eq(journals, 1);
        ck_assert_uint_eq(life.seen, RECORDS - 2);
        ck_ok(dir_each(dir_fd, "", remove_any, NULL));
    }
}
END_TEST

START_TEST(removed_with_one_fault)
{
    struct life life = {0};
    int code;
    ck_ok(begin_life(&life));
    fail_each(code, CLASSES[_i], dir_each(dir_fd, ".jnl", remove_named, NULL))
    {
        if (code)
            ck_documented(code);
        unsigned left = 0;
        ck_ok(dir_each(dir_fd, ".jnl", count_one, &left));
        if (left)
            continue;
        memset(&life, 0, sizeof life);
        ck_ok(begin_life(&life));
    }
    ck_ok(code);
}
END_TEST

/* A signal is no failure. */
START_TEST(interrupted_calls_are_repeated)
{
    static const enum fail_class classes[] = {FAIL_WRITE, FAIL_READ};
    use_pwrite = true;
    for (unsigned n = 1; n < 40; n++) {
        struct life life = {0};
        unsigned journals = 0;
        fail_err = EINTR;
        fail_arm(classes[_i], n);
        int code = begin_life(&life);
        if (!code)
            code = read_all(&life, false, &journals);
        fail_disarm();
        fail_err = 0;
        ck_ok(code);
        ck_assert_uint_eq(journals, 1);
        ck_ok(dir_each(dir_fd, "", remove_any, NULL));
    }
}
END_TEST

/* A limit of the size of files is answered, not raised as a signal. */
START_TEST(a_file_size_limit_is_an_answer)
{
    struct journal *journal;
    struct life life = {0};
    struct rlimit old, low;
    char name[JOURNAL_NAME_SIZE];
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = (struct rlimit){.rlim_cur = 8192, .rlim_max = old.rlim_max};
    ck_ok(journal_create(dir_fd, RING, 0600, true, &journal));
    snprintf(name, sizeof name, "%s", journal_name(journal));
    journal_close(journal);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &low), 0);
    ck_ok(journal_adopt(dir_fd, name, true, &journal));
    journal_begin_at(journal, 0);
    int code = append(&life, journal);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    ck_code(code, EFBIG);
    ck_ok(append(&life, journal));
    journal_close(journal);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *s = suite_create("journal_faults");
    TCase *t = tcase_create("journal_faults");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, written_with_one_fault, 0, N_CLASSES);
    tcase_add_loop_test(t, taken_over_with_one_fault, 0, N_CLASSES);
    tcase_add_loop_test(t, removed_with_one_fault, 0, N_CLASSES);
    tcase_add_loop_test(t, interrupted_calls_are_repeated, 0, 2);
    tcase_add_test(t, a_file_size_limit_is_an_answer);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
