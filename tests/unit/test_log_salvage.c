/* test_log_salvage.c - a damaged log: blocks that are skipped, segments that are rebuilt, and never a signal or a
 * number given twice. */
#include <dirent.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <zstd.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/crc32c.h"
#include "log_fixture.h"

static struct fixture f;

static void set_up(void)
{
    fixture_begin(&f);
}

static void tear_down(void)
{
    fixture_end(&f);
}

static uint64_t soon(void)
{
    return deadline_in_ms(10000);
}

/* ------------------------------------------------------------------------------------------------------ doing damage
 */

enum { FILE_MAX = 2 << 20 };

struct bytes {
    uint8_t at[FILE_MAX];
    size_t size;
};
static struct bytes file;

static void load(uint64_t number)
{
    char path[512];
    fixture_file(&f, number, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ssize_t n = read(fd, file.at, sizeof file.at);
    ck_assert_int_gt(n, 0);
    file.size = (size_t)n;
    close(fd);
}

/* In place: the inode stays. */
static void store(uint64_t number)
{
    char path[512];
    fixture_file(&f, number, path);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, file.at, file.size), (ssize_t)file.size);
    ck_assert_int_eq(ftruncate(fd, (off_t)file.size), 0);
    close(fd);
}

/* Where the block of the lane that begins with `seq` stands in the loaded file. */
static size_t find_block(int lane, uint64_t seq)
{
    for (size_t at = 0; at + BLOCK_HEADER <= file.size; at++) {
        struct block_info info;
        if (memcmp(file.at + at, BLOCK_MAGIC, sizeof BLOCK_MAGIC) == 0 &&
            block_peek(file.at + at, block_size(file.at + at), &info) == SPOOL_OK && info.lane == lane &&
            info.first_seq == seq)
            return at;
    }
    ck_abort_msg("no block of lane %d at %" PRIu64, lane, seq);
    return 0;
}

static void break_meta_pages(void)
{
    memset(file.at, 0x55, 8192);
}

static void break_tree_pages(void)
{
    for (size_t page = 2; page < file.size / 4096; page++) {
        uint8_t *at = file.at + page * 4096;
        if (get_u64(at) == page && (get_u16(at + 10) == 1 || get_u16(at + 10) == 2))
            put_u16(at + 12, 0xffff);
    }
}

static unsigned in_quarantine(const char *part)
{
    struct dirent *entry;
    char path[512];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/quarantine", f.path);
    DIR *stream = opendir(path);
    ck_assert_ptr_nonnull(stream);
    while ((entry = readdir(stream)))
        n += strstr(entry->d_name, part) != NULL;
    closedir(stream);
    return n;
}

static void reopen(void)
{
    fixture_close(&f);
    fixture_open(&f, 0);
}

/* ------------------------------------------------------------------------------------------------------------ blocks
 */

START_TEST(damaged_block_is_skipped_told_once_and_set_aside)
{
    for (uint64_t i = 0; i < 5; i++)
        test_commit(&f, LANE_HIGH, 20, 500, 1 + 20 * i);
    fixture_close(&f);
    load(1);
    file.at[find_block(LANE_HIGH, 40) + BLOCK_HEADER + 100] ^= 1;
    store(1);
    fixture_open(&f, 0);
    uint64_t skipped;
    for (int i = 0; i < 3; i++) {
        ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, &skipped), 80);
        ck_assert_uint_eq(skipped, 20);
    }
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_uint_eq(f.damage_events, 20);
    ck_assert_msg(strstr(f.damage[0], "segments/00000000000000000001.mdb: block of lane high, events 40 to 59"), "%s",
                  f.damage[0]);
    ck_assert_uint_eq(in_quarantine("block-high-40.bin"), 1);
    reopen(); /* still told only once */
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 45, &skipped), 40);
    ck_assert_uint_eq(skipped, 15);
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_uint_eq(test_commit(&f, LANE_HIGH, 1, 1, 1000), 100);
}
END_TEST

/* Small ones stand in leaf pages, of which LMDB leaves copies behind: the block is damaged in all of them. */
static void damage_every_copy(int lane, uint64_t first_seq)
{
    struct block_info info;
    for (size_t at = 0; at + BLOCK_HEADER <= file.size; at++) {
        if (memcmp(file.at + at, BLOCK_MAGIC, sizeof BLOCK_MAGIC) == 0 &&
            block_peek(file.at + at, block_size(file.at + at), &info) == SPOOL_OK && info.lane == lane &&
            info.first_seq == first_seq)
            file.at[at + BLOCK_HEADER + 30] ^= 1;
    }
}

/* 20 events of lane high as one compressed block. */
static void commit_compressed(uint64_t ticks)
{
    struct log_run run = test_run(LANE_HIGH, 20, 500, ticks);
    struct log_position position = test_position(1, ticks + 20);
    uint8_t *frame = malloc(run.size);
    ck_assert_ptr_nonnull(frame);
    size_t size = ZSTD_compress(frame, run.size, run.events, run.size, 1);
    ck_assert(!ZSTD_isError(size));
    free((void *)run.events);
    run.codec = BLOCK_ZSTD;
    run.events_size = (uint32_t)run.size;
    run.events = frame;
    run.size = size;
    ck_ok(log_commit(f.log, &run, 1, &position, 1, soon()));
    free(frame);
}

/* Beside plain ones; also from a segment that must be rebuilt. */
START_TEST(damaged_compressed_block_is_set_aside_like_any_other)
{
    uint64_t skipped;
    test_commit(&f, LANE_HIGH, 20, 500, 1);
    for (uint64_t i = 1; i < 4; i++)
        commit_compressed(1 + 20 * i);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, &skipped), 80);
    fixture_close(&f);
    load(1);
    damage_every_copy(LANE_HIGH, 40);
    store(1);
    fixture_open(&f, 0);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, &skipped), 60);
    ck_assert_uint_eq(skipped, 20);
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_uint_eq(f.damage_events, 20);
    ck_assert_uint_eq(in_quarantine("block-high-40.bin"), 1);
    fixture_close(&f);
    load(1);
    break_tree_pages();
    store(1);
    fixture_open(&f, 0);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, &skipped), 60);
    ck_assert_uint_eq(skipped, 20);
    ck_assert_uint_eq(in_quarantine(".mdb"), 1);
}
END_TEST

START_TEST(block_with_a_damaged_header_is_skipped_too)
{
    for (uint64_t i = 0; i < 3; i++)
        test_commit(&f, LANE_LOW, 20, 500, 1 + 20 * i);
    fixture_close(&f);
    load(1);
    file.at[find_block(LANE_LOW, 40) + 12] ^= 1; /* the count, of the last one */
    file.at[find_block(LANE_LOW, 0)] ^= 1;       /* the magic, of the first one */
    store(1);
    fixture_open(&f, 0);
    uint64_t skipped;
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 0, &skipped), 20);
    ck_assert_uint_eq(skipped, 40);
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 10, &skipped), 20);
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 59, &skipped), 0);
    ck_assert_uint_eq(skipped, 1);
    ck_assert_uint_eq(f.damages, 2);
    ck_assert_uint_eq(f.damage_events, 40);
}
END_TEST

static unsigned findings;
static char finding_text[400];

static void on_finding(void *user, const struct spool_finding *finding)
{
    (void)user;
    findings++;
    snprintf(finding_text, sizeof finding_text, "%s: %s", finding->file, finding->what);
}

START_TEST(verify_names_damage_and_changes_nothing)
{
    struct spool_verify_report report = {0};
    for (uint64_t i = 0; i < 3; i++)
        test_commit(&f, LANE_LOW, 20, 500, 1 + 20 * i);
    ck_ok(log_rotate(f.log, 1, soon()));
    fixture_close(&f);
    load(1);
    file.at[find_block(LANE_LOW, 20) + BLOCK_HEADER + 9] ^= 4;
    store(1);
    fixture_open(&f, 0);
    findings = 0;
    ck_code(log_verify(f.log, on_finding, NULL, NULL, &report), SPOOL_EDAMAGED);
    ck_assert_uint_eq(findings, 1);
    ck_assert_uint_eq(report.findings, 1);
    ck_assert_uint_eq(report.events, 40);
    ck_assert_ptr_nonnull(strstr(finding_text, "block of lane low, events 20 to 39"));
    ck_assert_uint_eq(f.damages, 0);
    fixture_close(&f);
    load(1);
    break_tree_pages();
    store(1);
    fixture_open(&f, 0);
    ck_code(log_verify(f.log, on_finding, NULL, NULL, &report), SPOOL_EDAMAGED);
    ck_assert_uint_eq(findings, 2);
    ck_assert_uint_eq(f.damages, 0);
    ck_assert_uint_eq(in_quarantine(".mdb"), 0);
}
END_TEST

/* ---------------------------------------------------------------------------------------------------------- segments
 */

static uint64_t position_of(uint8_t which)
{
    uint64_t applied = 0;
    ck_ok(log_position(f.log, test_position(which, 0).uuid, soon(), &applied));
    return applied;
}

static void check_nothing_lost(void (*break_it)(void), bool end_known)
{
    for (uint64_t i = 0; i < 12; i++)
        test_commit(&f, i % 3 ? LANE_LOW : LANE_HIGH, 20, i % 2 ? 10 : 2000, 1 + 20 * i);
    fixture_close(&f);
    load(1);
    break_it();
    store(1);
    fixture_open(&f, 0);
    uint64_t skipped, jump = end_known ? 0 : 1ull << 32;
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_uint_eq(f.damage_events, 0);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, &skipped), 80);
    ck_assert_uint_eq(skipped, jump);
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 0, &skipped), 160);
    ck_assert_uint_eq(position_of(1), 241);
    ck_assert_uint_eq(in_quarantine(".mdb"), 1);
    ck_assert_uint_eq(test_commit(&f, LANE_HIGH, 1, 1, 9000), 80 + jump);
    reopen();
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, &skipped), 81);
    struct spool_id id, want = test_id(9000);
    ck_ok(log_max_id(f.log, soon(), &id));
    ck_assert_mem_eq(&id, &want, sizeof id);
}

START_TEST(broken_meta_pages_lose_nothing)
{
    check_nothing_lost(break_meta_pages, true);
}
END_TEST

START_TEST(broken_tree_pages_lose_nothing)
{
    check_nothing_lost(break_tree_pages, true);
}
END_TEST

/* What an event in a damaged block carried: the head of a segment that a newer version made. */
static void break_tree_pages_beside_a_foreign_head(void)
{
    const struct segment_head head = {.number = 1};
    break_tree_pages();
    uint8_t *row = file.at + file.size;
    memset(row, 0, 4096);
    row_write_head(row, 1, &head);
    put_u32(row + ROW_HEADER, 2); /* the format */
    put_u32(row + 8, crc32c(0, row + 12, ROW_HEAD_SIZE - 12));
    file.size += 4096;
}

START_TEST(a_head_among_the_bytes_of_an_event_is_not_ours)
{
    check_nothing_lost(break_tree_pages_beside_a_foreign_head, true);
}
END_TEST

/* Its numbers are far ahead: rebuilt by them, the second would end behind the third, whose events nobody would find. */
START_TEST(a_broken_file_under_anothers_name_leads_nobody_astray)
{
    for (uint64_t i = 0; i < 4; i++) {
        test_commit(&f, LANE_HIGH, 20, 2000, 1 + 20 * i);
        if (i < 3)
            ck_ok(log_rotate(f.log, 1, soon()));
    }
    fixture_close(&f);
    load(4);
    break_meta_pages();
    store(1);
    load(2);
    break_tree_pages();
    store(2);
    fixture_open(&f, 0);
    uint64_t skipped;
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 20, &skipped), 60);
    ck_assert_uint_eq(skipped, 0);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, &skipped), 60);
    ck_assert_uint_eq(skipped, 20);
}
END_TEST

static void break_tallies(void)
{
    break_meta_pages();
    for (size_t at = 0; at + ROW_TALLY_SIZE <= file.size; at++) {
        if (memcmp(file.at + at, ROW_MAGIC, 8) == 0 && get_u32(file.at + at + 16) == ROW_TALLY)
            file.at[at] = 0;
    }
}

/* The positions of the last commit cannot be believed then, but those of all before can't be either. */
START_TEST(unknown_end_makes_the_numbers_jump)
{
    for (uint64_t i = 0; i < 4; i++)
        test_commit(&f, LANE_HIGH, 20, 2000, 1 + 20 * i);
    fixture_close(&f);
    load(1);
    break_tallies();
    store(1);
    fixture_open(&f, 0);
    uint64_t skipped, applied, next = test_next(&f, LANE_HIGH);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, &skipped), 80);
    ck_assert_uint_eq(skipped, 1ull << 32);
    ck_assert_uint_eq(next, 80 + (1ull << 32));
    uint64_t cursor[LANES] = {0};
    ck_assert_uint_eq(log_events_from(f.log, cursor), 80); /* the hole is not counted */
    cursor[LANE_HIGH] = 90;
    ck_ok(log_rotate(f.log, 1, soon()));
    ck_assert_uint_le(log_events_from(f.log, cursor), 80);
    cursor[LANE_HIGH] = next;
    ck_assert_uint_eq(log_events_from(f.log, cursor), 0);
    ck_code(log_position(f.log, test_position(1, 0).uuid, soon(), &applied), SPOOL_ENOTFOUND);
    ck_assert_uint_eq(test_commit(&f, LANE_HIGH, 1, 1, 9000), next);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, next, NULL), 1);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 100, NULL), 1);
}
END_TEST

START_TEST(nothing_left_makes_the_numbers_jump)
{
    test_commit(&f, LANE_HIGH, 20, 2000, 1);
    ck_ok(log_rotate(f.log, 1, soon()));
    test_commit(&f, LANE_HIGH, 20, 2000, 100);
    fixture_close(&f);
    load(2);
    memset(file.at, 0, file.size);
    store(2);
    fixture_open(&f, 0);
    uint64_t next = test_next(&f, LANE_HIGH);
    ck_assert_uint_eq(next, 20 + (1ull << 32));
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 20);
    ck_assert_uint_eq(test_commit(&f, LANE_HIGH, 5, 1, 9000), next);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 25);
}
END_TEST

START_TEST(lost_blocks_of_a_rebuilt_segment_are_counted)
{
    for (uint64_t i = 0; i < 5; i++)
        test_commit(&f, LANE_HIGH, 20, 2000, 1 + 20 * i);
    fixture_close(&f);
    load(1);
    file.at[find_block(LANE_HIGH, 20) + 200] ^= 1;
    file.at[find_block(LANE_HIGH, 80) + 200] ^= 1;
    break_tree_pages();
    store(1);
    fixture_open(&f, 0);
    uint64_t skipped;
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_uint_eq(f.damage_events, 40);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, &skipped), 60);
    ck_assert_uint_eq(skipped, 40);
    ck_assert_uint_eq(test_commit(&f, LANE_HIGH, 1, 1, 9000), 100);
}
END_TEST

START_TEST(sealed_segment_is_rebuilt_when_first_needed)
{
    uint64_t ticks = 1;
    for (int i = 0; i < 40; i++, ticks += 100)
        test_commit(&f, LANE_LOW, 100, 1000, ticks);
    uint64_t segments = test_segments(&f);
    ck_assert_uint_ge(segments, 4);
    fixture_close(&f);
    load(2);
    file.size = file.size / 2 / 4096 * 4096 + 100;
    store(2);
    fixture_open(&f, 0);
    ck_assert_uint_eq(f.damages, 0);
    uint64_t skipped, read = test_read_all(&f, LANE_LOW, 0, &skipped);
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_uint_eq(read + skipped, 4000);
    ck_assert_uint_gt(skipped, 0);
    ck_assert_uint_lt(skipped, 900);
    ck_assert_uint_eq(test_segments(&f), segments);
    ck_assert_uint_eq(test_commit(&f, LANE_LOW, 1, 1, ticks), 4000);
}
END_TEST

/* ------------------------------------------------------------------------------------------ files from elsewhere */

static void copy_segment(uint64_t from, uint64_t to)
{
    char path[512];
    load(from);
    fixture_file(&f, to, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, file.at, file.size), (ssize_t)file.size);
    close(fd);
}

static void fill_segments(void)
{
    uint64_t ticks = 1;
    for (int i = 0; i < 40; i++, ticks += 100)
        test_commit(&f, LANE_LOW, 100, 1000, ticks);
    ck_assert_uint_ge(test_segments(&f), 4);
    fixture_close(&f);
}

static bool holds(int lane, uint64_t seq)
{
    struct store_block *block;
    uint64_t skip_to;
    if (log_read(f.log, lane, seq, soon(), &block, &skip_to) != SPOOL_OK)
        return false;
    bool found = block->first_seq <= seq;
    store_block_unref(block);
    return found;
}

/* Each has the other's events, which do not belong between its neighbours: the lane stays in order, what is in between
 * is found, and it is read to its end. (Each used to be rebuilt from what stands in it.) */
START_TEST(exchanged_segments_keep_the_lanes_in_order)
{
    char one[512], other[512];
    uint64_t first_of[64] = {0}, skipped;
    for (uint64_t i = 0; i < 40; i++) {
        uint64_t seq = test_commit(&f, LANE_LOW, 100, 1000, 1 + 100 * i), segment = test_segments(&f);
        first_of[segment] = first_of[segment] ? first_of[segment] : seq;
    }
    ck_assert_uint_ge(test_segments(&f), 4);
    fixture_close(&f);
    fixture_file(&f, 1, one);
    fixture_file(&f, 3, other);
    ck_assert_int_eq(renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE), 0);
    fixture_open(&f, 0);
    for (uint64_t seq = first_of[2]; seq < first_of[3]; seq++)
        ck_assert_msg(holds(LANE_LOW, seq), "event %" PRIu64, seq);
    uint64_t read = test_read_all(&f, LANE_LOW, 0, &skipped);
    ck_assert_uint_eq(f.damages, 2);
    ck_assert_uint_eq(read, 4000 - first_of[2] - (first_of[4] - first_of[3]));
    ck_assert_uint_eq(read + skipped, 4000);
    ck_assert_uint_eq(test_commit(&f, LANE_LOW, 1, 1, 9000), 4000);
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 4000, &skipped), 1);
}
END_TEST

/* A whole segment under the name of a later one holds nothing that can stand there; what it has taken the place of, and
 * where that ended, nobody knows. */
START_TEST(copied_segment_adds_nothing)
{
    fill_segments();
    copy_segment(1, 20);
    fixture_open(&f, 0);
    uint64_t skipped;
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 0, &skipped), 4000);
    ck_assert_uint_eq(skipped, 1ull << 32);
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_uint_eq(test_commit(&f, LANE_LOW, 1, 1, 9000), 4000 + (1ull << 32));
}
END_TEST

/* Rotation would go on behind it, and soon run out of numbers. (Verifying such a log once did not end.) */
START_TEST(numbers_far_away_are_set_aside)
{
    fill_segments();
    copy_segment(1, INT64_MAX);
    copy_segment(1, UINT64_MAX - 1); /* no segment's name */
    fixture_open(&f, 0);
    struct spool_verify_report report = {.size = sizeof report};
    uint64_t skipped;
    ck_assert_uint_eq(in_quarantine("9223372036854775807.mdb"), 1);
    ck_assert_uint_eq(f.damages, 1);
    ck_ok(log_verify(f.log, NULL, NULL, NULL, &report));
    ck_assert_uint_eq(test_read_all(&f, LANE_LOW, 0, &skipped), 4000);
    ck_assert_uint_eq(test_commit(&f, LANE_LOW, 1, 1, 9000), 4000);
}
END_TEST

/* With a right checksum: not by chance, but nothing may overflow. */
START_TEST(impossible_numbers_are_refused)
{
    static uint8_t bytes[1024], events[64];
    struct segment_row row;
    struct segment_head head = {.base = {0, BLOCK_SEQ_MAX}}, head_again;
    struct segment_tally tally = {.lane = {{.next = UINT64_MAX}}}, tally_again;
    struct block_info info = {.count = 1, .first_seq = BLOCK_SEQ_MAX, .size = sizeof events}, info_again;
    uint8_t uuid[JOURNAL_UUID_SIZE] = {0};
    uint64_t applied;
    row_write_head(bytes, 1, &head);
    ck_ok(row_check(bytes, ROW_HEAD_SIZE, &row));
    ck_code(row_read_head(&row, &head_again), SPOOL_EDAMAGED);
    row_write_tally(bytes, 1, &tally);
    ck_ok(row_check(bytes, ROW_TALLY_SIZE, &row));
    ck_code(row_read_tally(&row, &tally_again), SPOOL_EDAMAGED);
    row_write_position(bytes, 1, uuid, UINT64_MAX);
    ck_ok(row_check(bytes, ROW_POSITION_SIZE, &row));
    ck_code(row_read_position(&row, uuid, &applied), SPOOL_EDAMAGED);
    block_write(bytes, &info, events);
    ck_code(block_check(bytes, BLOCK_HEADER + sizeof events, &info_again), SPOOL_EDAMAGED);
}
END_TEST

/* A commit that was not finished left its blocks and rows in the file, behind the last page: they must not come back,
 * since the journal still has the events. */
START_TEST(unfinished_commit_is_left_out)
{
    test_commit(&f, LANE_HIGH, 20, 2000, 1);
    test_commit(&f, LANE_HIGH, 20, 2000, 100);
    fixture_close(&f);
    load(1);
    uint64_t txn[2] = {get_u64(file.at + 16 + 128), get_u64(file.at + 4096 + 16 + 128)};
    struct block_info info = {.lane = LANE_HIGH, .count = 1, .first_seq = 40, .size = EVENT_PACKED_MIN};
    info.commit = (txn[0] > txn[1] ? txn[0] : txn[1]) + 1;
    static const uint8_t events[EVENT_PACKED_MIN];
    struct log_position later = test_position(1, 999999);
    block_write(file.at + file.size + 16, &info, events);
    row_write_position(file.at + file.size + 1024, info.commit, later.uuid, later.applied);
    file.size += 4096;
    break_tree_pages();
    store(1);
    fixture_open(&f, 0);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 40);
    ck_assert_uint_eq(position_of(1), 120);
    ck_assert_uint_eq(test_commit(&f, LANE_HIGH, 1, 1, 9000), 40);
}
END_TEST

START_TEST(snapshot_survives)
{
    struct buffer out = {0};
    strcpy(f.snapshot, "sinks and cursors");
    test_commit(&f, LANE_LOW, 1, 10, 1);
    ck_ok(log_rotate(f.log, 1, soon()));
    fixture_close(&f);
    load(2);
    break_tree_pages();
    store(2);
    fixture_open(&f, 0);
    ck_assert_uint_eq(f.damages, 1);
    ck_ok(log_snapshot(f.log, soon(), &out));
    ck_assert_uint_eq(out.size, strlen(f.snapshot));
    ck_assert_mem_eq(out.data, f.snapshot, out.size);
    buffer_free(&out);
}
END_TEST

START_TEST(read_only_log_leaves_a_damaged_segment_out)
{
    struct spool_verify_report report = {0};
    test_commit(&f, LANE_HIGH, 20, 2000, 1);
    ck_ok(log_rotate(f.log, 1, soon()));
    test_commit(&f, LANE_HIGH, 20, 2000, 100);
    fixture_close(&f);
    load(2);
    break_tree_pages();
    store(2);
    fixture_open(&f, SPOOL_READ_ONLY);
    ck_assert_uint_eq(f.damages, 1);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 20);
    ck_assert_uint_eq(in_quarantine(".mdb"), 0);
    findings = 0;
    ck_code(log_verify(f.log, on_finding, NULL, NULL, &report), SPOOL_EDAMAGED);
    ck_assert_uint_eq(findings, 1);
    ck_assert_uint_eq(report.segments, 2);
    ck_assert_ptr_nonnull(strstr(finding_text, "segments/00000000000000000002.mdb: "));
    fixture_close(&f);
    fixture_open(&f, 0);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, 0, NULL), 40);
}
END_TEST

/* ----------------------------------------------------------------------------------------------------- random damage
 */

static uint64_t random_state;

static uint64_t random_below(uint64_t n)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (random_state >> 33) % n;
}

static void damage_somewhere(void)
{
    size_t page = random_below(3) ? random_below(24) : random_below(file.size / 4096);
    size_t at = (page * 4096 + (random_below(2) ? random_below(64) : random_below(4096))) % file.size;
    switch (random_below(5)) {
    case 0:
        file.at[at] ^= (uint8_t)(1u << random_below(8));
        break;
    case 1:
        file.at[at] = (uint8_t)random_below(256);
        break;
    case 2:
        memset(file.at + page * 4096 % file.size, (int)random_below(2) * 255, 512);
        break;
    case 3:
        memmove(file.at + page * 4096 % file.size, file.at + random_below(file.size / 4096 - 1) * 4096, 4096);
        break;
    default:
        file.size = random_below(16) ? file.size : random_below(file.size);
    }
}

/* The log is used after each damage: what is left is read, and it takes more. */
static void one_round(void)
{
    static struct bytes whole;
    load(1);
    whole = file;
    for (uint64_t n = 1 + random_below(3); n > 0 && file.size > 8192; n--)
        damage_somewhere();
    store(1);
    fixture_open(&f, 0);
    uint64_t next = test_next(&f, LANE_HIGH), skipped, read = test_read_all(&f, LANE_HIGH, 0, &skipped);
    ck_assert_uint_eq(read + skipped, next);
    ck_assert_uint_ge(next, 100); /* no number is given again */
    ck_assert_uint_eq(test_commit(&f, LANE_HIGH, 20, 500, 100000), next);
    ck_assert_uint_eq(test_read_all(&f, LANE_HIGH, next, NULL), 20);
    test_read_all(&f, LANE_LOW, 0, NULL);
    fixture_close(&f);
    file = whole;
    store(1);
}

START_TEST(random_damage_is_survived)
{
    enum { ROUNDS = 150 };
    random_state = test_seed(31);
    for (uint64_t i = 0; i < 10; i++)
        test_commit(&f, i % 2 ? LANE_HIGH : LANE_LOW, 20, i % 3 ? 20 : 2000, 1 + 20 * i);
    fixture_close(&f);
    for (int i = 0; i < ROUNDS; i++)
        one_round();
    fixture_open(&f, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("log_salvage");
    TCase *c = tcase_create("log_salvage");
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 120);
    tcase_add_test(c, damaged_block_is_skipped_told_once_and_set_aside);
    tcase_add_test(c, damaged_compressed_block_is_set_aside_like_any_other);
    tcase_add_test(c, block_with_a_damaged_header_is_skipped_too);
    tcase_add_test(c, verify_names_damage_and_changes_nothing);
    tcase_add_test(c, broken_meta_pages_lose_nothing);
    tcase_add_test(c, broken_tree_pages_lose_nothing);
    tcase_add_test(c, a_broken_file_under_anothers_name_leads_nobody_astray);
    tcase_add_test(c, a_head_among_the_bytes_of_an_event_is_not_ours);
    tcase_add_test(c, unknown_end_makes_the_numbers_jump);
    tcase_add_test(c, nothing_left_makes_the_numbers_jump);
    tcase_add_test(c, lost_blocks_of_a_rebuilt_segment_are_counted);
    tcase_add_test(c, sealed_segment_is_rebuilt_when_first_needed);
    tcase_add_test(c, exchanged_segments_keep_the_lanes_in_order);
    tcase_add_test(c, copied_segment_adds_nothing);
    tcase_add_test(c, numbers_far_away_are_set_aside);
    tcase_add_test(c, impossible_numbers_are_refused);
    tcase_add_test(c, unfinished_commit_is_left_out);
    tcase_add_test(c, snapshot_survives);
    tcase_add_test(c, read_only_log_leaves_a_damaged_segment_out);
    tcase_add_test(c, random_damage_is_survived);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
