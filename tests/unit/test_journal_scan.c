/* test_journal_scan.c - recovery from a journal file in any state: torn, mixed from two laps, crafted.
 *
 * A loss of power leaves any mixture of old and new 512-byte sectors. Whatever the mixture, each record reported must
 * be one that was written, byte for byte, and each one that is whole in the file must be reported. */
#include <fcntl.h>

#include "../../lib/base/bytes.h"
#include "../../spool/journal.h"
#include "../check_main.h"

enum { RING = 64 << 10, HEADER = JOURNAL_RECORD_HEADER, SECTOR = 512, RECORDS_MAX = 4096 };

static char *path;
static int dir_fd;
static unsigned long seed;

static void set_up(void)
{
    path = test_dir();
    dir_fd = open(path, O_RDONLY | O_DIRECTORY);
    seed = test_seed(20261121);
}

static void tear_down(void)
{
    close(dir_fd);
    test_rmdir(path);
    free(path);
}

static uint64_t random_next(void) /* splitmix64 */
{
    uint64_t z = seed += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void fill(uint8_t *payload, size_t size, uint64_t number)
{
    for (size_t i = 0; i < size; i += 8)
        put_u64(payload + i, number * 0x9e3779b97f4a7c15u + i);
}

/* What was written. */
struct written {
    uint64_t position;
    size_t size;
    uint64_t number;
};
static struct written records[RECORDS_MAX];
static size_t record_count;

static size_t random_size(void)
{
    return 8 + 8 * (random_next() % (random_next() % 8 ? 40 : 400));
}

/* Appends until there is no room for one more of a random size. */
static void fill_ring(struct journal *journal)
{
    for (;;) {
        size_t size = random_size();
        uint8_t *payload = journal_reserve(journal, size);
        if (!payload)
            return;
        uint64_t end;
        ck_assert_uint_lt(record_count, RECORDS_MAX);
        fill(payload, size, record_count);
        ck_ok(journal_publish(journal, &end));
        records[record_count] = (struct written){end - size - HEADER, size, record_count};
        record_count++;
    }
}

static void read_file(const char *name, uint8_t *ret)
{
    int fd = openat(dir_fd, name, O_RDONLY);
    ck_assert_int_eq(pread(fd, ret, 4096 + RING, 0), 4096 + RING);
    close(fd);
}

static void write_file(const char *name, const uint8_t *bytes)
{
    int fd = openat(dir_fd, name, O_WRONLY);
    ck_assert_int_eq(pwrite(fd, bytes, 4096 + RING, 0), 4096 + RING);
    close(fd);
}

struct checker {
    uint64_t low;      /* records below do not count */
    uint64_t last_end; /* of the one reported last */
    uint64_t seen;
    bool found[RECORDS_MAX];
};

static int check_record(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    struct checker *checker = user;
    uint8_t want[RING];
    ck_assert_uint_ge(position, checker->low);
    ck_assert_uint_ge(position, checker->last_end);
    checker->last_end = position + HEADER + size;
    for (size_t i = 0; i < record_count; i++) {
        if (records[i].position != position)
            continue;
        ck_assert_uint_eq(size, records[i].size);
        fill(want, size, records[i].number);
        ck_assert_mem_eq(payload, want, size);
        checker->found[i] = true;
        checker->seen++;
        return 0;
    }
    ck_abort_msg("a record at %llu that nobody wrote", (unsigned long long)position);
    return 1;
}

static bool is_whole(const uint8_t *image, const uint8_t *newest, const struct written *record)
{
    size_t at = 4096 + record->position % RING;
    return memcmp(image + at, newest + at, HEADER + record->size) == 0;
}

/* Scans the file with `low` as applied, and compares with what is whole in it. */
static void check_image(const char *name, const uint8_t *image, const uint8_t *newest, uint64_t low)
{
    struct journal *journal;
    struct journal_scan scan;
    static struct checker checker;
    memset(&checker, 0, sizeof checker);
    checker.low = low;
    write_file(name, image);
    ck_ok(journal_adopt(dir_fd, name, false, &journal));
    ck_ok(journal_scan(journal, low, true, check_record, &checker, &scan));
    uint64_t whole = 0;
    for (size_t i = 0; i < record_count; i++) {
        bool wanted = records[i].position >= low && is_whole(image, newest, &records[i]);
        whole += wanted;
        ck_assert_msg(checker.found[i] == wanted, "record %zu at %llu: found %d, whole %d", i,
                      (unsigned long long)records[i].position, checker.found[i], wanted);
    }
    ck_assert_uint_eq(scan.records, whole);
    ck_assert_uint_eq(checker.seen, whole);
    ck_assert_uint_ge(scan.end, low + RING);
    ck_assert_uint_ge(scan.end, checker.last_end);
    ck_assert_uint_eq(scan.end % 8, 0);
    journal_close(journal);
}

/* An older lap, and the one after it; the record at the seam may be partly overwritten. */
static struct journal *two_laps(uint8_t *older, uint64_t *ret_applied, char *ret_name)
{
    struct journal *journal;
    ck_ok(journal_create(dir_fd, RING, 0600, false, &journal));
    strcpy(ret_name, journal_name(journal));
    record_count = 0;
    fill_ring(journal);
    read_file(ret_name, older);
    *ret_applied = journal_head(journal);
    journal_set_applied(journal, *ret_applied);
    fill_ring(journal);
    return journal;
}

START_TEST(any_mixture_of_sectors)
{
    static uint8_t older[4096 + RING], newest[4096 + RING], image[4096 + RING];
    char name[JOURNAL_NAME_SIZE];
    for (int round = 0; round < 40; round++) {
        uint64_t applied;
        struct journal *journal = two_laps(older, &applied, name);
        journal_close(journal);
        read_file(name, newest);
        for (int mix = 0; mix < 5; mix++) {
            uint64_t keep_of_8 = random_next() % 9;
            for (size_t at = 0; at < sizeof image; at += SECTOR)
                memcpy(image + at, (random_next() % 8 < keep_of_8 ? newest : older) + at, SECTOR);
            check_image(name, image, newest, applied);
        }
        check_image(name, newest, newest, applied);
        ck_assert_int_eq(unlinkat(dir_fd, name, 0), 0);
    }
}
END_TEST

/* Single bits: all records but the one hit are found. */
START_TEST(flipped_bits)
{
    static uint8_t older[4096 + RING], newest[4096 + RING], image[4096 + RING];
    char name[JOURNAL_NAME_SIZE];
    uint64_t applied;
    journal_close(two_laps(older, &applied, name));
    read_file(name, newest);
    for (int i = 0; i < 300; i++) {
        memcpy(image, newest, sizeof image);
        for (uint64_t flips = 1 + random_next() % 4; flips > 0; flips--)
            image[4096 + random_next() % RING] ^= (uint8_t)(1u << random_next() % 8);
        check_image(name, image, newest, applied);
    }
}
END_TEST

START_TEST(whole_file_has_no_gaps)
{
    static uint8_t older[4096 + RING];
    char name[JOURNAL_NAME_SIZE];
    uint64_t applied;
    struct journal *journal = two_laps(older, &applied, name);
    struct journal_scan own, after;
    static struct checker checker;
    checker = (struct checker){.low = applied};
    ck_ok(journal_scan(journal, applied, true, check_record, &checker, &own));
    ck_assert_uint_eq(own.gaps, 0);
    ck_assert_uint_eq(checker.last_end, journal_head(journal));
    journal_close(journal);
    ck_ok(journal_adopt(dir_fd, name, false, &journal));
    checker = (struct checker){.low = applied};
    ck_ok(journal_scan(journal, applied, true, check_record, &checker, &after));
    ck_assert_uint_eq(after.gaps, 0);
    ck_assert_uint_eq(after.records, own.records);
    journal_close(journal);
}
END_TEST

/* Position unknown: everything valid counts, in order, and the end is a ring beyond. */
START_TEST(unknown_position)
{
    static uint8_t older[4096 + RING];
    char name[JOURNAL_NAME_SIZE];
    uint64_t applied;
    struct journal_scan scan;
    static struct checker checker;
    struct journal *journal = two_laps(older, &applied, name);
    uint64_t head = journal_head(journal);
    journal_close(journal);
    ck_ok(journal_adopt(dir_fd, name, false, &journal));
    ck_ok(journal_scan(journal, 0, false, check_record, &checker, &scan));
    ck_assert(checker.found[record_count - 1]);
    ck_assert_uint_ge(scan.end, head + RING);
    journal_close(journal);
}
END_TEST

/* The newest segment is lost, and with it what the log knew of the journal: an older one tells of laps long ago. What
 * was appended since counts all the same, and nothing new may begin where it stands. */
START_TEST(position_of_laps_ago)
{
    static uint8_t older[4096 + RING];
    char name[JOURNAL_NAME_SIZE];
    uint64_t applied;
    struct journal_scan scan;
    static struct checker checker;
    struct journal *journal = two_laps(older, &applied, name);
    journal_set_applied(journal, journal_head(journal));
    size_t before = record_count;
    fill_ring(journal);
    uint64_t head = journal_head(journal), whole = 0;
    journal_close(journal);
    ck_ok(journal_adopt(dir_fd, name, false, &journal));
    memset(&checker, 0, sizeof checker);
    ck_ok(journal_scan(journal, 8, true, check_record, &checker, &scan));
    for (size_t i = before; i < record_count; i++)
        whole += checker.found[i];
    ck_assert_uint_eq(whole, record_count - before);
    ck_assert_uint_ge(scan.end, head);
    journal_close(journal);
}
END_TEST

/* Hundreds of short-lived owners, killed at any place: nothing left over is ever taken for new. */
START_TEST(leftovers_never_match)
{
    static uint8_t image[4096 + RING];
    char name[JOURNAL_NAME_SIZE];
    uint64_t applied = 0;
    struct journal *journal;
    ck_ok(journal_create(dir_fd, RING, 0600, false, &journal));
    strcpy(name, journal_name(journal));
    for (int owner = 0; owner < 200; owner++) {
        record_count = 0;
        for (uint64_t n = random_next() % 60; n > 0 && journal_has_room(journal, 800); n--) {
            uint64_t end;
            size_t size = 8 + 8 * (random_next() % 100);
            fill(journal_reserve(journal, size), size, record_count);
            ck_ok(journal_publish(journal, &end));
            records[record_count] = (struct written){end - size - HEADER, size, record_count};
            record_count++;
        }
        if (random_next() % 2 && record_count) { /* the committer came as far as some record */
            const struct written *last = &records[random_next() % record_count];
            applied = last->position + HEADER + last->size;
        }
        journal_close(journal);
        read_file(name, image);
        check_image(name, image, image, applied);
        static struct checker checker;
        struct journal_scan scan;
        memset(&checker, 0, sizeof checker);
        ck_ok(journal_adopt(dir_fd, name, owner % 2, &journal));
        ck_ok(journal_scan(journal, applied, true, check_record, &checker, &scan));
        applied = scan.records ? scan.end : applied;
        journal_begin_at(journal, applied);
    }
    journal_close(journal);
}
END_TEST

/* ----------------------------------------------------------------------------------------------------- odd contents */

static int count_record(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    (void)payload, (void)size, (void)position;
    ++*(uint64_t *)user;
    return 0;
}

static int stop_at_third(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    count_record(user, payload, size, position);
    return *(uint64_t *)user == 3 ? 55 : 0;
}

START_TEST(callback_ends_it)
{
    struct journal *journal;
    ck_ok(journal_create(dir_fd, RING, 0600, false, &journal));
    record_count = 0;
    fill_ring(journal);
    uint64_t n = 0;
    struct journal_scan scan = {.end = 1};
    ck_assert_int_eq(journal_scan(journal, 0, true, stop_at_third, &n, &scan), 55);
    ck_assert_uint_eq(scan.end, 1);
    ck_code(journal_scan(journal, UINT64_MAX, true, count_record, &n, &scan), SPOOL_EDAMAGED);
    journal_close(journal);
}
END_TEST

START_TEST(empty_ring)
{
    struct journal *journal;
    uint64_t n = 0;
    struct journal_scan scan;
    ck_ok(journal_create(dir_fd, RING, 0600, false, &journal));
    char name[JOURNAL_NAME_SIZE];
    strcpy(name, journal_name(journal));
    journal_close(journal);
    ck_ok(journal_adopt(dir_fd, name, false, &journal));
    ck_ok(journal_scan(journal, 0, false, count_record, &n, &scan));
    ck_assert_uint_eq(n + scan.records + scan.gaps, 0);
    ck_ok(journal_scan(journal, 123 * 8, true, count_record, &n, &scan));
    ck_assert_uint_eq(n + scan.records + scan.gaps, 0);
    ck_assert_uint_ge(scan.end, 123 * 8 + RING);
    journal_close(journal);
}
END_TEST

/* A ring of headers that all claim a big payload: refused before it costs minutes. */
START_TEST(crafted_overlaps)
{
    static uint8_t image[4096 + RING];
    struct journal *journal;
    char name[JOURNAL_NAME_SIZE];
    ck_ok(journal_create(dir_fd, RING, 0600, false, &journal));
    strcpy(name, journal_name(journal));
    journal_close(journal);
    read_file(name, image);
    for (uint32_t at = 0; at + HEADER + RING / 4 <= RING; at += HEADER) {
        put_u32(image + 4096 + at + 4, RING / 4);
        put_u64(image + 4096 + at + 8, at);
        memcpy(image + 4096 + at + 16, "FRAM\0\0\0", 8);
    }
    write_file(name, image);
    uint64_t n = 0;
    struct journal_scan scan;
    ck_ok(journal_adopt(dir_fd, name, false, &journal));
    ck_code(journal_scan(journal, 0, true, count_record, &n, &scan), SPOOL_EDAMAGED);
    ck_assert_uint_eq(n, 0);
    journal_close(journal);
}
END_TEST

/* A file cut short while it is open. */
START_TEST(truncated_meanwhile)
{
    struct journal *journal;
    uint64_t n = 0;
    struct journal_scan scan;
    bool dead;
    char name[JOURNAL_NAME_SIZE];
    ck_ok(journal_create(dir_fd, RING, 0600, false, &journal));
    strcpy(name, journal_name(journal));
    journal_close(journal);
    ck_ok(journal_inspect(dir_fd, name, &journal, &dead));
    int fd = openat(dir_fd, name, O_RDWR);
    ck_assert_int_eq(ftruncate(fd, 5000), 0);
    close(fd);
    ck_code(journal_scan(journal, 0, true, count_record, &n, &scan), SPOOL_EDAMAGED);
    journal_close(journal);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("journal_scan");
    TCase *t = tcase_create("journal_scan");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, any_mixture_of_sectors);
    tcase_add_test(t, flipped_bits);
    tcase_add_test(t, whole_file_has_no_gaps);
    tcase_add_test(t, unknown_position);
    tcase_add_test(t, position_of_laps_ago);
    tcase_add_test(t, leftovers_never_match);
    tcase_add_test(t, callback_ends_it);
    tcase_add_test(t, empty_ring);
    tcase_add_test(t, crafted_overlaps);
    tcase_add_test(t, truncated_meanwhile);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
