/* test_journal.c - the journal while its owner lives: making, appending, walking, taking over, ownership. */
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/crc32c.h"
#include "../../lib/base/sync.h"
#include "../../spool/journal.h"
#include "../check_main.h"

enum { RING = 64 << 10, HEADER = JOURNAL_RECORD_HEADER };

static char *path;
static int dir_fd;

static void set_up(void)
{
    path = test_dir();
    dir_fd = open(path, O_RDONLY | O_DIRECTORY);
    ck_assert_int_ge(dir_fd, 0);
}

static void tear_down(void)
{
    close(dir_fd);
    test_rmdir(path);
    free(path);
}

static struct journal *create(bool use_pwrite)
{
    struct journal *journal;
    ck_ok(journal_create(dir_fd, RING, 0600, use_pwrite, &journal));
    return journal;
}

/* A payload that tells its number and size. */
static void fill(uint8_t *payload, size_t size, uint64_t number)
{
    for (size_t i = 0; i < size; i += 8)
        put_u64(payload + i, number * 0x9e3779b97f4a7c15u + i);
}

static uint64_t append(struct journal *journal, size_t size, uint64_t number)
{
    uint64_t end = 0;
    uint8_t *payload = journal_reserve(journal, size);
    ck_assert_ptr_nonnull(payload);
    fill(payload, size, number);
    ck_ok(journal_publish(journal, &end));
    ck_assert_uint_eq(end, journal_head(journal));
    return end;
}

struct reader {
    uint64_t next; /* the number expected */
    size_t size;   /* and the size; 0: any */
    int stop_at;
};

static int check_one(void *user, const uint8_t *payload, size_t size)
{
    struct reader *reader = user;
    uint8_t want[RING];
    if (reader->size)
        ck_assert_uint_eq(size, reader->size);
    fill(want, size, reader->next++);
    ck_assert_mem_eq(payload, want, size);
    return reader->stop_at && --reader->stop_at == 0 ? 77 : 0;
}

static int check_scanned(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    (void)position;
    return check_one(user, payload, size);
}

/* ------------------------------------------------------------------------------------------------------------ */

START_TEST(append_and_walk_many_laps)
{
    struct journal *journal = create(_i);
    uint64_t number = 0, to = 0;
    struct reader reader = {0};
    for (int lap = 0; lap < 40; lap++) {
        size_t size = 8 + 8 * (size_t)(lap * 37 % 500);
        while (journal_has_room(journal, size))
            append(journal, size, number++);
        ck_assert_ptr_null(journal_reserve(journal, size));
        ck_ok(journal_walk(journal, journal_applied(journal), SIZE_MAX, true, check_one, &reader, &to));
        ck_assert_uint_eq(to, journal_head(journal));
        ck_assert_uint_eq(reader.next, number);
        journal_set_applied(journal, to);
        ck_assert_uint_eq(journal_flushed(journal), to);
    }
    ck_assert_uint_gt(to, 20 * RING);
    ck_ok(journal_remove(journal));
}
END_TEST

/* The ring can be filled to the last byte, and not beyond. */
START_TEST(exact_fit)
{
    struct journal *journal = create(_i);
    size_t size = RING / 4 - HEADER;
    for (uint64_t i = 0; i < 4; i++) {
        ck_assert(journal_has_room(journal, size));
        append(journal, size, i);
    }
    ck_assert_uint_eq(journal_head(journal), RING);
    ck_assert(!journal_has_room(journal, 8));
    journal_set_applied(journal, RING / 4);
    ck_assert(journal_has_room(journal, size));
    ck_assert(!journal_has_room(journal, size + 8));
    append(journal, size, 4);
    ck_assert(!journal_has_room(journal, 8));
    struct reader reader = {.next = 1, .size = size};
    uint64_t to;
    ck_ok(journal_walk(journal, RING / 4, SIZE_MAX, true, check_one, &reader, &to));
    ck_assert_uint_eq(reader.next, 5);
    journal_close(journal);
}
END_TEST

/* Leaves 0, 8, 16, 24 and 32 bytes at the end of the ring, then appends a record that must go to its beginning. */
START_TEST(end_of_ring)
{
    for (uint32_t left = 0; left <= 32; left += 8) {
        struct journal *journal = create(_i);
        for (uint64_t i = 0; i < 3; i++)
            append(journal, RING / 4 - HEADER, i);
        append(journal, RING / 4 - HEADER - left, 3);
        journal_set_applied(journal, RING / 4);
        uint64_t end = append(journal, 64, 4);
        ck_assert_uint_eq(end, RING + HEADER + 64);
        struct reader reader = {.next = 1};
        uint64_t to;
        ck_ok(journal_walk(journal, RING / 4, SIZE_MAX, true, check_one, &reader, &to));
        ck_assert_uint_eq(reader.next, 5);
        ck_assert_uint_eq(to, end);
        reader.next = 1;
        struct journal_scan scan;
        ck_ok(journal_scan(journal, RING / 4, true, check_scanned, &reader, &scan));
        ck_assert_uint_eq(scan.records, 4);
        ck_assert_uint_eq(scan.gaps, 0);
        ck_ok(journal_remove(journal));
    }
}
END_TEST

/* Padding counts as used room. */
START_TEST(room_includes_padding)
{
    struct journal *journal = create(false);
    for (uint64_t i = 0; i < 3; i++)
        append(journal, RING / 4 - HEADER, i);
    append(journal, RING / 4 - HEADER - 1024, 3);
    journal_set_applied(journal, 2048);
    ck_assert(journal_has_room(journal, 1024 - HEADER));
    ck_assert(journal_has_room(journal, 2048 - HEADER));
    ck_assert(!journal_has_room(journal, 2048 - HEADER + 8));
    journal_close(journal);
}
END_TEST

START_TEST(impossible_sizes)
{
    struct journal *journal = create(false), *none = NULL;
    size_t max = journal_payload_max(journal);
    ck_assert_ptr_null(journal_reserve(journal, 0));
    ck_assert_ptr_null(journal_reserve(journal, 12));
    ck_assert_ptr_null(journal_reserve(journal, max + 8));
    ck_assert_ptr_null(journal_reserve(journal, SIZE_MAX - 7));
    uint64_t end = 1;
    ck_code(journal_publish(journal, &end), SPOOL_EINTERNAL);
    ck_assert_uint_eq(end, 1);
    append(journal, max, 0);
    journal_close(journal);
    ck_code(journal_create(dir_fd, RING - 4096, 0600, false, &none), SPOOL_EINVAL);
    ck_code(journal_create(dir_fd, RING + 8, 0600, false, &none), SPOOL_EINVAL);
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(walk_in_pieces)
{
    struct journal *journal = create(false);
    for (uint64_t i = 0; i < 20; i++)
        append(journal, 80, i);
    struct reader reader = {.size = 80};
    uint64_t to = 0;
    ck_ok(journal_walk(journal, 0, 100, false, check_one, &reader, &to));
    ck_assert_uint_eq(reader.next, 2);
    ck_assert_uint_eq(to, 2 * (HEADER + 80));
    uint64_t kept = to;
    reader.stop_at = 3;
    ck_assert_int_eq(journal_walk(journal, to, SIZE_MAX, false, check_one, &reader, &to), 77);
    ck_assert_uint_eq(to, kept);
    journal_close(journal);
}
END_TEST

/* A record that changed in memory is found by its checksum; a broken header even without looking at checksums. */
START_TEST(walk_finds_damage)
{
    struct journal *journal = create(false);
    append(journal, 80, 0);
    uint8_t *payload = journal_reserve(journal, 80);
    fill(payload, 80, 1);
    uint64_t end, to = 5;
    ck_ok(journal_publish(journal, &end));
    payload[40] ^= 1;
    struct reader reader = {0};
    ck_code(journal_walk(journal, HEADER + 80, SIZE_MAX, true, check_one, &reader, &to), SPOOL_EDAMAGED);
    ck_assert_uint_eq(to, 5);
    payload[40] ^= 1;
    put_u32(payload - HEADER + 4, 0xfffffff8u);
    ck_code(journal_walk(journal, HEADER + 80, SIZE_MAX, false, check_one, &reader, &to), SPOOL_EDAMAGED);
    struct journal_scan scan;
    ck_ok(journal_scan(journal, 0, true, check_scanned, &reader, &scan));
    ck_assert_uint_eq(scan.records, 1);
    ck_assert_uint_eq(scan.gaps, 1);
    journal_close(journal);
}
END_TEST

/* --------------------------------------------------------------------------------------------------- the file */

START_TEST(file_is_as_promised)
{
    struct journal *journal = create(false);
    struct stat st;
    ck_assert_int_eq(fstatat(dir_fd, journal_name(journal), &st, 0), 0);
    ck_assert_int_eq(st.st_size, 4096 + RING);
    ck_assert_int_ge(st.st_blocks * 512, 4096 + RING);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    ck_assert_uint_eq(journal_ring_bytes(journal), RING);
    ck_ok(journal_remove(journal));
    ck_assert_int_eq(rmdir(path), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0);
}
END_TEST

/* Writes `n` bytes at `at` into the closed journal and expects `code` of taking it over, and of inspecting. */
static void expect_refusal(const char *name, off_t at, const void *bytes, size_t n, int code)
{
    uint8_t old[64];
    int fd = openat(dir_fd, name, O_RDWR);
    ck_assert_int_eq(pread(fd, old, n, at), n);
    ck_assert_int_eq(pwrite(fd, bytes, n, at), n);
    struct journal *journal = NULL;
    bool dead = true;
    ck_code(journal_adopt(dir_fd, name, false, &journal), code);
    ck_code(journal_inspect(dir_fd, name, &journal, &dead), code);
    ck_assert_ptr_null(journal);
    ck_assert_int_eq(pwrite(fd, old, n, at), n);
    close(fd);
}

static void resize(const char *name, off_t size)
{
    int fd = openat(dir_fd, name, O_RDWR);
    ck_assert_int_eq(ftruncate(fd, size), 0);
    close(fd);
}

START_TEST(refuses_what_is_no_journal)
{
    struct journal *journal = create(false);
    char name[JOURNAL_NAME_SIZE];
    strcpy(name, journal_name(journal));
    append(journal, 80, 0);
    journal_close(journal);
    uint8_t page[36];
    int fd = openat(dir_fd, name, O_RDONLY);
    ck_assert_int_eq(pread(fd, page, sizeof page, 0), sizeof page);
    close(fd);

    expect_refusal(name, 0, "XPOOLJNL", 8, SPOOL_EDAMAGED);
    expect_refusal(name, 8, "\2\0\0\0", 4, SPOOL_EVERSION);
    expect_refusal(name, 8, "\0\0\0\0", 4, SPOOL_EVERSION);
    expect_refusal(name, 20, "abcd", 4, SPOOL_EDAMAGED);
    expect_refusal(name, 32, "abcd", 4, SPOOL_EDAMAGED);
    put_u32(page + 12, RING + 4096);
    put_u32(page + 32, crc32c(0, page, 32));
    expect_refusal(name, 0, page, sizeof page, SPOOL_EDAMAGED); /* a header that is right, of another size */
    put_u32(page + 12, 8);
    put_u32(page + 32, crc32c(0, page, 32));
    expect_refusal(name, 0, page, sizeof page, SPOOL_EDAMAGED);

    const off_t sizes[] = {0, 7, 35, 4096, RING, RING + 4095, RING + 8192};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        resize(name, sizes[i]);
        ck_code(journal_adopt(dir_fd, name, false, &journal), SPOOL_EDAMAGED);
    }
    ck_code(journal_adopt(dir_fd, "nothing.jnl", false, &journal), SPOOL_ENOTFOUND);
    ck_assert_int_eq(symlinkat(name, dir_fd, "link.jnl"), 0);
    ck_code(journal_adopt(dir_fd, "link.jnl", false, &journal), SPOOL_EDAMAGED);
    ck_assert_int_eq(mkfifoat(dir_fd, "fifo.jnl", 0600), 0);
    ck_code(journal_adopt(dir_fd, "fifo.jnl", false, &journal), SPOOL_EDAMAGED);
}
END_TEST

/* Two files of one uuid would store their positions under one name. */
START_TEST(refuses_a_copy)
{
    struct journal *journal = create(false);
    char name[JOURNAL_NAME_SIZE];
    strcpy(name, journal_name(journal));
    journal_close(journal);
    ck_assert_int_eq(renameat(dir_fd, name, dir_fd, "copy.jnl"), 0);
    ck_code(journal_adopt(dir_fd, "copy.jnl", false, &journal), SPOOL_EDAMAGED);
}
END_TEST

START_TEST(interrupted_creation_is_swept)
{
    const struct timespec old[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    close(openat(dir_fd, "old.jnl.tmp", O_CREAT | O_WRONLY, 0600));
    close(openat(dir_fd, "new.jnl.tmp", O_CREAT | O_WRONLY, 0600));
    ck_assert_int_eq(utimensat(dir_fd, "old.jnl.tmp", old, 0), 0);
    journal_close(create(false));
    ck_assert_int_ne(faccessat(dir_fd, "old.jnl.tmp", F_OK, 0), 0);
    ck_assert_int_eq(faccessat(dir_fd, "new.jnl.tmp", F_OK, 0), 0);
}
END_TEST

/* ------------------------------------------------------------------------------------------------ several processes */

/* Runs `child` in a process and returns what it returns. */
static int in_child(int (*child)(const char *name), const char *name)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(child(name));
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static int child_adopts(const char *name)
{
    struct journal *journal;
    int code = journal_adopt(dir_fd, name, false, &journal);
    return code == SPOOL_EBUSY ? 1 : code == SPOOL_OK ? 2 : 3;
}

static int child_inspects(const char *name)
{
    struct journal *journal;
    struct reader reader = {0};
    struct journal_scan scan;
    bool dead;
    if (journal_inspect(dir_fd, name, &journal, &dead))
        return 1;
    int code = journal_scan(journal, 0, false, check_scanned, &reader, &scan);
    journal_close(journal);
    return code || reader.next != 10 ? 2 : dead ? 3 : 4;
}

START_TEST(only_one_owner)
{
    struct journal *journal = create(false);
    char name[JOURNAL_NAME_SIZE];
    strcpy(name, journal_name(journal));
    for (uint64_t i = 0; i < 10; i++)
        append(journal, 80, i);
    ck_assert_int_eq(in_child(child_adopts, name), 1);
    ck_assert_int_eq(in_child(child_inspects, name), 4);
    ck_assert_int_eq(in_child(child_adopts, name), 1); /* inspecting has not dropped the owner's lock */
    journal_close(journal);
    ck_assert_int_eq(in_child(child_inspects, name), 3);
    ck_assert_int_eq(in_child(child_adopts, name), 2);
}
END_TEST

/* A child that gives up its copy takes neither the lock nor the ring from the parent. */
START_TEST(fork_leaves_the_parent_alone)
{
    struct journal *journal = create(false);
    uintptr_t ring = (uintptr_t)journal_reserve(journal, 8) & ~(uintptr_t)4095;
    pid_t pid = fork();
    if (pid == 0) {
        unsigned char resident;
        journal_abandon(journal);
        _exit(mincore((void *)ring, 4096, &resident) == -1 && errno == ENOMEM ? 0 : 1); /* not mapped here at all */
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    append(journal, 80, 0);
    ck_assert_int_eq(in_child(child_adopts, journal_name(journal)), 1);
    journal_close(journal);
}
END_TEST

/* Processes that race for a dead one's journal: one gets it at a time, and none gets a removed one. */
static int child_races(const char *name)
{
    int got = 0;
    uint64_t deadline = deadline_in_ms(20000);
    for (int i = 0; i < 200 && mono_ns() < deadline;) {
        struct journal *journal;
        int code = journal_adopt(dir_fd, name, false, &journal);
        if (code == SPOOL_EBUSY) {
            poll(NULL, 0, 1);
            continue;
        }
        i++;
        if (code == SPOOL_ENOTFOUND)
            break;
        if (code)
            return 100;
        if (faccessat(dir_fd, "held", F_OK, 0) == 0)
            return 101; /* two owners at once */
        close(openat(dir_fd, "held", O_CREAT | O_WRONLY, 0600));
        got = 1;
        unlinkat(dir_fd, "held", 0);
        if (i > 50 ? journal_remove(journal) : (journal_close(journal), 0))
            return 102;
    }
    return got;
}

START_TEST(adopters_race)
{
    enum { RACERS = 3 };
    struct journal *journal = create(false);
    char name[JOURNAL_NAME_SIZE];
    strcpy(name, journal_name(journal));
    pid_t pids[RACERS];
    for (int i = 0; i < RACERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0)
            _exit(child_races(name));
    }
    journal_close(journal);
    int got = 0;
    for (int i = 0; i < RACERS; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert(WIFEXITED(status));
        ck_assert_int_lt(WEXITSTATUS(status), 100);
        got += WEXITSTATUS(status);
    }
    ck_assert_int_ge(got, 1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("journal");
    TCase *t = tcase_create("journal");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, append_and_walk_many_laps, 0, 2); /* 1: use_pwrite */
    tcase_add_loop_test(t, exact_fit, 0, 2);
    tcase_add_loop_test(t, end_of_ring, 0, 2);
    tcase_add_test(t, room_includes_padding);
    tcase_add_test(t, impossible_sizes);
    tcase_add_test(t, walk_in_pieces);
    tcase_add_test(t, walk_finds_damage);
    tcase_add_test(t, file_is_as_promised);
    tcase_add_test(t, refuses_what_is_no_journal);
    tcase_add_test(t, refuses_a_copy);
    tcase_add_test(t, interrupted_creation_is_swept);
    tcase_add_test(t, only_one_owner);
    tcase_add_test(t, fork_leaves_the_parent_alone);
    tcase_add_test(t, adopters_race);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
