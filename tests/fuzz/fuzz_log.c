/* fuzz_log.c - a log whose segments are made of right and wrong pieces: salvage, reading, looking up, committing.
 *
 * The input describes up to three segment files: blocks and rows with right checksums and any fields, and plain bytes,
 * at any multiple of 8. None is an LMDB file, so all are rebuilt from their pieces. Then the log must open, every lane
 * be read to its end in ascending order, and take more. */
#include <fcntl.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/event.h"
#include "../../lib/base/id.h"
#include "../../lib/base/sync.h"
#include "../../spool/log.h"
#include "../../spool/segment.h"
#include "fuzz.h"

enum { FILE_MAX = 256 << 10, SEGMENTS_MAX = 3, READS_MAX = 20000, LOCK_MS = 20000 };

static uint8_t file_bytes[FILE_MAX];
static char path[96];

/* ---------------------------------------------------------------------------------------------------------- pieces */

static size_t put_events(uint8_t *dst, enum bundle_form form, uint32_t count, int lane, uint64_t ticks)
{
    static struct bundle_writer writer;
    static struct buffer bundle;
    size_t size = 0;
    bundle.size = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct spool_event event =
            SPOOL_EVENT(.type = "t", .priority = lane_priority(lane), .body = "1", .body_size = 1);
        struct event_measure measure;
        struct spool_id id;
        id_make((struct hlc_stamp){.ticks = ticks + i}, 7, &id);
        require(event_measure(&event, SIZE_MAX, &measure) == SPOOL_OK);
        event_pack(&event, &measure, &id, dst + size);
        if (form == BUNDLE_PACKED)
            size += measure.packed_size;
        else
            require(bundle_put(&writer, &bundle, dst, measure.packed_size) == SPOOL_OK);
    }
    if (form == BUNDLE_PACKED)
        return size;
    bundle_end(&writer, &bundle);
    memcpy(dst, bundle.data, bundle.size);
    return bundle.size;
}

static size_t put_block(struct input *in, uint8_t *dst)
{
    static uint8_t events[16 << 10];
    uint8_t kind = take_u8(in);
    struct block_info info = {
        .lane = kind % LANES, .form = kind / LANES % 2 ? BUNDLE_PACKED : BUNDLE_SHARED, .count = 1 + take_u8(in) % 9u};
    uint64_t ticks = 1000 + take_odd_number(in) % (1ull << 59);
    info.first_seq = take_odd_number(in);
    info.commit = take_odd_number(in);
    info.size = (uint32_t)put_events(events, info.form, info.count, info.lane, ticks);
    id_make((struct hlc_stamp){.ticks = ticks}, 7, &info.min_id);
    id_make((struct hlc_stamp){.ticks = ticks + info.count - 1}, 7, &info.max_id);
    if (take_u8(in) % 16 == 0)
        info.count = (uint32_t)take_odd_number(in);
    block_write(dst, &info, events);
    return BLOCK_HEADER + info.size;
}

static size_t put_head(struct input *in, uint8_t *dst)
{
    struct segment_head head = {.number = take_odd_number(in), .created_ns = take_odd_number(in)};
    for (int lane = 0; lane < LANES; lane++)
        head.base[lane] = take_odd_number(in);
    id_make((struct hlc_stamp){.ticks = take_odd_number(in)}, 7, &head.max_before);
    row_write_head(dst, take_odd_number(in), &head);
    return ROW_HEAD_SIZE;
}

static size_t put_tally(struct input *in, uint8_t *dst)
{
    struct segment_tally tally = {.blocks = (uint32_t)take_odd_number(in)};
    for (int lane = 0; lane < LANES; lane++) {
        tally.lane[lane].next = take_odd_number(in);
        tally.lane[lane].events = take_odd_number(in);
    }
    row_write_tally(dst, take_odd_number(in), &tally);
    return ROW_TALLY_SIZE;
}

static size_t put_position(struct input *in, uint8_t *dst)
{
    uint8_t uuid[JOURNAL_UUID_SIZE];
    memset(uuid, take_u8(in) % 4, sizeof uuid);
    uint64_t commit = take_odd_number(in);
    row_write_position(dst, commit, uuid, take_odd_number(in));
    return ROW_POSITION_SIZE;
}

static size_t put_snapshot(struct input *in, uint8_t *dst)
{
    size_t size;
    uint64_t commit = take_odd_number(in);
    const uint8_t *bytes = take_bytes(in, take_u8(in), &size);
    row_write_snapshot(dst, commit, bytes, size);
    return ROW_HEADER + size;
}

static size_t put_plain(struct input *in, uint8_t *dst)
{
    size_t size;
    const uint8_t *bytes = take_bytes(in, take_u8(in), &size);
    if (size)
        memcpy(dst, bytes, size);
    return size;
}

/* What has just been put is damaged in one byte, or not. */
static size_t put_piece(struct input *in, uint8_t *dst)
{
    static size_t (*const kinds[])(struct input * in, uint8_t * dst) = {
        put_block, put_block, put_block, put_head, put_tally, put_position, put_snapshot, put_plain};
    uint8_t kind = take_u8(in);
    size_t size = kinds[kind % 8](in, dst);
    if (kind >= 248 && size)
        dst[take_number(in, 2) % size] ^= 1;
    return size;
}

static void make_segment(struct input *in, uint64_t number)
{
    enum { PIECE_MAX = 20 << 10 };
    char name[SEGMENT_NAME_SIZE], whole[160];
    size_t at = 0;
    memset(file_bytes, 0, sizeof file_bytes);
    for (unsigned pieces = 1 + take_u8(in) % 12u; pieces && at + PIECE_MAX < FILE_MAX; pieces--)
        at = round_up(at + put_piece(in, file_bytes + at), take_u8(in) & 1 ? 4096 : 8);
    segment_name(number, name);
    snprintf(whole, sizeof whole, "%s/segments/%s", path, name);
    int fd = open(whole, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    require(fd >= 0 && write(fd, file_bytes, at) == (ssize_t)at);
    close(fd);
}

/* ----------------------------------------------------------------------------------------------------------- using it
 */

static void read_lane(struct log *log, int lane, uint64_t seq)
{
    for (unsigned reads = 0;; reads++) {
        struct store_block *block;
        uint64_t skip_to = 0;
        require(reads < READS_MAX);
        int code = log_read(log, lane, seq, deadline_in_ms(LOCK_MS), &block, &skip_to);
        if (code == SPOOL_ENOTFOUND)
            return;
        require(code == SPOOL_OK || code == SPOOL_EDAMAGED);
        if (code == SPOOL_EDAMAGED) {
            require(skip_to > seq);
            seq = skip_to;
            continue;
        }
        require(block->lane == lane && block->first_seq + block->count > seq);
        seq = block->first_seq + block->count;
        store_block_unref(block);
    }
}

static void commit_one(struct log *log, int lane)
{
    static uint8_t events[256];
    struct log_position position = {.applied = 4096};
    struct log_run run = {.lane = lane, .form = BUNDLE_SHARED, .count = 1, .events = events};
    run.size = put_events(events, BUNDLE_SHARED, 1, lane, 1ull << 58);
    id_make((struct hlc_stamp){.ticks = 1ull << 58}, 7, &run.min_id);
    run.max_id = run.min_id;
    int code = log_commit(log, &run, 1, &position, 1, deadline_in_ms(LOCK_MS));
    require(code == SPOOL_OK);
    struct store_block *block;
    uint64_t skip_to;
    code = log_read(log, lane, run.first_seq, deadline_in_ms(LOCK_MS), &block, &skip_to);
    if (code)
        fprintf(stderr, "event %llu of lane %d was committed: %s\n", (unsigned long long)run.first_seq, lane,
                spool_last_error());
    require(code == SPOOL_OK);
    require(block->first_seq <= run.first_seq && block->first_seq + block->count > run.first_seq);
    store_block_unref(block);
}

static void use_log(struct log *log)
{
    uint64_t first[LANES], next[LANES], seq, applied;
    struct spool_id id;
    struct buffer snapshot = {0};
    struct spool_verify_report report = {.size = sizeof report};
    require(log_bounds(log, deadline_in_ms(LOCK_MS), first, next) == SPOOL_OK);
    for (int lane = 0; lane < LANES; lane++) {
        require(first[lane] <= next[lane]);
        read_lane(log, lane, 0);
        read_lane(log, lane, next[lane] / 2);
        id_make((struct hlc_stamp){.ticks = 1100}, 7, &id);
        require(log_seek(log, lane, &id, deadline_in_ms(LOCK_MS), &seq) == SPOOL_OK);
        commit_one(log, lane);
    }
    uint8_t uuid[JOURNAL_UUID_SIZE] = {1};
    log_position(log, uuid, deadline_in_ms(LOCK_MS), &applied);
    log_max_id(log, deadline_in_ms(LOCK_MS), &id);
    log_snapshot(log, deadline_in_ms(LOCK_MS), &snapshot);
    buffer_free(&snapshot);
    log_verify(log, NULL, NULL, NULL, &report);
}

static void ignore_damage(void *user, const char *file, const char *what, uint64_t events)
{
    (void)user, (void)file, (void)what, (void)events;
}

static void open_and_use(void)
{
    struct dir dir = {0};
    struct lock *lock;
    struct log *log;
    require(dir_open(path, 1 << 20, 0600, 0, &dir) == SPOOL_OK);
    require(lock_open(dir.fd, "log.lock", false, 0600, NULL, &lock) == SPOOL_OK);
    const struct log_options options = {.dir = &dir, .lock = lock, .damaged = ignore_damage};
    int code = log_open(&options, deadline_in_ms(LOCK_MS), &log);
    if (code)
        fprintf(stderr, "%s: %s\n", spool_error_name(code), spool_last_error());
    require(code == SPOOL_OK);
    use_log(log);
    log_close(log);
    lock_close(lock);
    dir_close(&dir);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    struct dir dir = {0};
    snprintf(path, sizeof path, "%s/spool", scratch_dir());
    scratch_remove(path);
    require(dir_open(path, 1 << 20, 0600, 0, &dir) == SPOOL_OK);
    dir_close(&dir);
    for (uint64_t number = 1; number <= SEGMENTS_MAX && (number == 1 || input_left(&in)); number++)
        make_segment(&in, number);
    open_and_use();
    open_and_use();
    return 0;
}
