/* test_log_faults_read.c - reading, searching, verifying and rebuilding the log with each single call below failing
 * once: nothing whole is taken for damage, and no damage goes untold. */
#include "log_faults.h"

#include "../../spool/log_inside.h"

/* ------------------------------------------------------------------------------------------------------- reading */

static uint64_t read_from; /* sequence number */
static struct store_block *block;
static uint64_t skip_to;

/* Nothing is open or known but the newest. */
static void reopen(void)
{
    close_log();
    ok_here(fixture_try_open(&f));
    block = NULL;
    skip_to = 0;
}

static int read_block(void)
{
    return log_read(f.log, LANE_MEDIUM, read_from, soon(), &block, &skip_to);
}

/* A read that fails says so; it never takes a whole block for a damaged one. */
static void after_reading(int code)
{
    ck_here((code == SPOOL_OK) == (block != NULL));
    ck_here(code != SPOOL_EDAMAGED && code != SPOOL_ENOTFOUND);
    if (block)
        ck_here(block->first_seq <= read_from && read_from < block->first_seq + block->count);
    store_block_unref(block);
    block = NULL;
    nothing_is_lost();
    ck_here(f.damages == 0);
}

START_TEST(reading)
{
    for (read_from = 1; read_from < committed; read_from += 3)
        sweep(&(struct operation){"reading", reopen, read_block, after_reading});
}
END_TEST

static struct spool_id sought;
static uint64_t sought_seq;

static int seek(void)
{
    sought_seq = UINT64_MAX;
    return log_seek(f.log, LANE_MEDIUM, &sought, soon(), &sought_seq);
}

static void after_seeking(int code)
{
    ck_here(code != SPOOL_OK || sought_seq == 3);
    ok_here(seek());
    ck_here(sought_seq == 3);
    nothing_is_lost();
}

START_TEST(seeking)
{
    sought = test_id(1004);
    sweep(&(struct operation){"seeking", reopen, seek, after_seeking});
}
END_TEST

static int look_around(void)
{
    uint64_t first[LANES], next[LANES], applied;
    struct spool_id max;
    struct buffer out = {0};
    int code = log_oldest(f.log, soon(), first, next);
    if (!code)
        code = log_bounds(f.log, soon(), first, next);
    if (!code)
        code = log_max_id(f.log, soon(), &max);
    if (!code)
        code = log_position(f.log, test_position(1, 0).uuid, soon(), &applied);
    if (!code)
        code = log_snapshot(f.log, soon(), &out);
    buffer_free(&out);
    return code;
}

static void after_looking(int code)
{
    (void)code;
    nothing_is_lost();
    ck_here(f.damages == 0);
}

START_TEST(looking_around)
{
    sweep(&(struct operation){"looking around", reopen, look_around, after_looking});
}
END_TEST

static int count_up(void)
{
    struct log_stats stats = {0};
    int code = log_stats(f.log, &stats);
    return code ? code : stats.segments == 3 && stats.events <= committed ? SPOOL_OK : SPOOL_EINTERNAL;
}

static void after_counting(int code)
{
    struct log_stats stats;
    (void)code;
    ok_here(log_stats(f.log, &stats));
    ck_here(stats.events == committed);
    const uint64_t cursor[LANES] = {0};
    ck_here(log_events_from(f.log, cursor) == committed);
}

START_TEST(counting)
{
    sweep(&(struct operation){"counting", reopen, count_up, after_counting});
}
END_TEST

static uint64_t findings;

static void on_finding(void *user, const struct spool_finding *finding)
{
    (void)user, (void)finding;
    findings++;
}

static struct spool_verify_report verified;

static int verify(void)
{
    findings = 0;
    memset(&verified, 0, sizeof verified);
    return log_verify(f.log, on_finding, NULL, NULL, &verified);
}

/* That something could not be read is no finding. */
static void after_verifying(int code)
{
    ck_here(findings == 0);
    ck_here(code != SPOOL_OK || verified.events == committed);
    nothing_is_lost();
}

START_TEST(verifying)
{
    sweep(&(struct operation){"verifying", reopen, verify, after_verifying});
}
END_TEST

/* ------------------------------------------------------------------------------------------------------- rebuilding */

static uint64_t broken_number;

/* Meta pages that are none: the segment cannot be mapped. */
static void break_segment(void)
{
    char path[512];
    if (f.log)
        close_log();
    fixture_file(&f, broken_number, path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    const uint8_t nothing[64] = {0};
    ck_here(fd >= 0 && pwrite(fd, nothing, sizeof nothing, 0) == sizeof nothing);
    ck_here(pwrite(fd, nothing, sizeof nothing, sysconf(_SC_PAGESIZE)) == sizeof nothing);
    close(fd);
    f.damages = 0;
    f.damage_events = 0;
    block = NULL;
}

static int open_and_read(void)
{
    int code = fixture_try_open(&f);
    if (!code)
        code = log_read(f.log, LANE_MEDIUM, read_from, soon(), &block, &skip_to);
    store_block_unref(block);
    return code;
}

/* All is there, and it was told. */
static void after_rebuilding(int code)
{
    if (!f.log)
        ok_here(fixture_try_open(&f));
    nothing_is_lost();
    ck_here(f.damages > 0);
    ck_here(f.damage_events == 0);
    if (code == SPOOL_OK && committed < 30)
        add(1, 100);
}

START_TEST(rebuilding_the_newest)
{
    broken_number = 3;
    read_from = 6;
    sweep(&(struct operation){"rebuilding the newest", break_segment, open_and_read, after_rebuilding});
}
END_TEST

START_TEST(rebuilding_a_sealed_one)
{
    broken_number = 1;
    read_from = 0;
    sweep(&(struct operation){"rebuilding a sealed one", break_segment, open_and_read, after_rebuilding});
}
END_TEST

/* Served from memory: nothing on disk changes, whatever happens. */
static struct salvage_result saved;

static void forget_result(void)
{
    memset(&saved, 0, sizeof saved);
}

static int rebuild_in_memory(void)
{
    struct segment *segment;
    struct salvage_hint hint = {.newest = true};
    memset(hint.end, 0xff, sizeof hint.end);
    int code = segment_salvage_in_memory(&f.dir, 3, &hint, &saved, &segment);
    if (!code)
        segment_close(segment);
    return code;
}

static void after_rebuilding_in_memory(int code)
{
    ck_here(saved.events == (code ? 0 : 3));
    ck_here(faccessat(f.dir.segments_fd, "00000000000000000003.mdb", F_OK, 0) == 0);
    ok_here(rebuild_in_memory());
    ck_here(saved.events == 3);
    ck_here(saved.lost == 0);
}

START_TEST(rebuilding_in_memory)
{
    broken_number = 3;
    break_segment();
    sweep(&(struct operation){"rebuilding in memory", forget_result, rebuild_in_memory, after_rebuilding_in_memory});
}
END_TEST

/* One byte of an event in the only block of the second segment. */
static void break_block(void)
{
    static uint8_t bytes[TEST_SEGMENT_BYTES];
    char path[512];
    close_log();
    fixture_file(&f, 2, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : pread(fd, bytes, sizeof bytes, 0);
    const uint8_t *at = size < 0 ? NULL : memmem(bytes, (size_t)size, BLOCK_MAGIC, sizeof BLOCK_MAGIC);
    ck_here(at != NULL);
    ck_here(pwrite(fd, "?", 1, at - bytes + BLOCK_HEADER + 100) == 1);
    close(fd);
    snprintf(path, sizeof path, "%s/quarantine/block-medium-3.bin", f.path);
    unlink(path);
    f.damages = 0;
    f.damage_events = 0;
    skip_to = 0;
    ok_here(fixture_try_open(&f));
}

static int read_broken(void)
{
    int code = log_read(f.log, LANE_MEDIUM, 4, soon(), &block, &skip_to);
    return code == SPOOL_EDAMAGED ? SPOOL_OK : code ? code : SPOOL_EINTERNAL;
}

/* It is passed only when it was told. */
static void after_reading_broken(int code)
{
    if (code)
        ck_here(read_broken() == SPOOL_OK);
    ck_here(skip_to == 6);
    ck_here(f.damages == 1);
    ck_here(f.damage_events == 3);
}

START_TEST(reading_a_damaged_block)
{
    sweep(&(struct operation){"reading a damaged block", break_block, read_broken, after_reading_broken});
}
END_TEST

/* ------------------------------------------------------------------------------------------------ told, and once */

/* One byte in each block of the newest segment; how many there are. */
static unsigned break_all_blocks(void)
{
    static uint8_t bytes[TEST_SEGMENT_BYTES];
    char path[512];
    unsigned n = 0;
    fixture_file(&f, 3, path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : pread(fd, bytes, sizeof bytes, 0);
    ck_assert_int_gt(size, 0);
    const uint8_t *end = bytes + size, *at = bytes;
    while ((at = memmem(at, (size_t)(end - at), BLOCK_MAGIC, sizeof BLOCK_MAGIC)) != NULL) {
        ck_assert_int_eq(pwrite(fd, "?", 1, at - bytes + BLOCK_HEADER + 50), 1);
        at += BLOCK_HEADER;
        n++;
    }
    close(fd);
    return n;
}

START_TEST(many_damaged_blocks_are_told_once_each)
{
    uint64_t skipped;
    for (int i = 0; i < 20; i++)
        add(1, 5000); /* on pages of their own, so that there is only one copy of each */
    fixture_close(&f);
    unsigned n = break_all_blocks();
    ck_assert_uint_eq(n, 21);
    fixture_open(&f, SPOOL_READ_ONLY);
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(test_read_all(&f, LANE_MEDIUM, 0, &skipped), 6);
        ck_assert_uint_eq(skipped, committed - 6);
        ck_assert_uint_eq(f.damages, n);
    }
    fixture_close(&f);
    fixture_open(&f, 0); /* another one, that keeps them: told, since nobody wrote down that it was */
    ck_assert_uint_eq(test_read_all(&f, LANE_MEDIUM, 0, &skipped), 6);
    ck_assert_uint_eq(f.damages, 2 * n);
    fixture_close(&f);
    fixture_open(&f, 0); /* … and now somebody did */
    ck_assert_uint_eq(test_read_all(&f, LANE_MEDIUM, 0, &skipped), 6);
    ck_assert_uint_eq(f.damages, 2 * n);
}
END_TEST

START_TEST(broken_neighbours_are_rebuilt_in_order)
{
    for (broken_number = 1; broken_number <= 2; broken_number++) {
        break_segment();
        if (broken_number == 1)
            continue;
        ck_ok(fixture_try_open(&f));
        read_from = 3;
        ck_ok(read_block());
        store_block_unref(block);
        block = NULL;
    }
    nothing_is_lost();
    ck_assert_uint_eq(f.damages, 2);
}
END_TEST

/* Nothing is rebuilt, only left out: and said so, without memory too. */
static void break_and_open_for_reading(void)
{
    break_segment();
    if (!f.dir.read_only) {
        fixture_close(&f);
        ck_ok(dir_open(f.path, TEST_SEGMENT_BYTES, 0, SPOOL_READ_ONLY, &f.dir));
        ck_ok(lock_open(f.dir.fd, "log.lock", true, 0600, NULL, &f.lock));
    }
    f.damages = 0;
}

static void after_leaving_out(int code)
{
    (void)code;
    if (!f.log)
        ok_here(fixture_try_open(&f));
    ck_here(test_read_all(&f, LANE_MEDIUM, 0, NULL) == committed - 3);
    ck_here(f.damages == 1);
}

START_TEST(leaving_out_what_is_damaged)
{
    broken_number = 2;
    read_from = 0;
    sweep_class(&(struct operation){"leaving out", break_and_open_for_reading, open_and_read, after_leaving_out},
                FAIL_MEMORY);
}
END_TEST

/* Without memory one note is kept, and no two. */
START_TEST(without_memory_one_thing_is_told)
{
    fail_arm_from(FAIL_MEMORY, 1);
    log_note(f.log, 1, 5, "first");
    log_note(f.log, 1, 5, "second");
    fail_disarm();
    log_tell(f.log);
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_ptr_nonnull(strstr(f.damage[0], "first"));
    fail_arm_from(FAIL_MEMORY, 1);
    log_note(f.log, 1, 5, "third");
    fail_disarm();
    log_tell(f.log);
    ck_assert_uint_eq(f.damages, 2);
    fail_arm_from(FAIL_MEMORY, 1);
    log_note(f.log, 1, 5, "fourth");
    fail_disarm();
    f.log->options.damaged = NULL; /* nobody listens; closing releases what was not told */
}
END_TEST

static int find_snapshot(void)
{
    struct buffer out = {0};
    int code = log_snapshot(f.log, soon(), &out);
    bool right = out.size == 5 && memcmp(out.data, "sinks", 5) == 0;
    buffer_free(&out);
    return code || right ? code : SPOOL_EINTERNAL;
}

/* The newest segments have none. */
START_TEST(finding_an_old_snapshot)
{
    f.snapshot[0] = '\0';
    for (int i = 0; i < 2; i++) {
        ck_ok(log_rotate(f.log, 1, soon()));
        add(1, 100);
    }
    sweep(&(struct operation){"finding a snapshot", reopen, find_snapshot, after_looking});
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("log_faults_read");
    TCase *tcase = tcase_create("log_faults_read");
    tcase_add_checked_fixture(tcase, set_up, tear_down);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, reading);
    tcase_add_test(tcase, seeking);
    tcase_add_test(tcase, looking_around);
    tcase_add_test(tcase, counting);
    tcase_add_test(tcase, verifying);
    tcase_add_test(tcase, rebuilding_the_newest);
    tcase_add_test(tcase, rebuilding_a_sealed_one);
    tcase_add_test(tcase, rebuilding_in_memory);
    tcase_add_test(tcase, reading_a_damaged_block);
    tcase_add_test(tcase, many_damaged_blocks_are_told_once_each);
    tcase_add_test(tcase, broken_neighbours_are_rebuilt_in_order);
    tcase_add_test(tcase, leaving_out_what_is_damaged);
    tcase_add_test(tcase, without_memory_one_thing_is_told);
    tcase_add_test(tcase, finding_an_old_snapshot);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
