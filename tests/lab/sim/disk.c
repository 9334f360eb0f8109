/* disk.c - what is durable, in memory. Every change here has survived whatever comes next; nothing here waits or fails.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../lib/base/id.h"
#include "world.h"

/* ----------------------------------------------------------------------------------------------------------- the log
 */

struct event *event_at(int lane, uint64_t seq)
{
    return &world.events[world.at_seq[lane][seq]];
}

uint32_t event_number(const struct event *event)
{
    return (uint32_t)(event - world.events);
}

static struct event *last_of_agent(int lane, uint32_t agent)
{
    for (uint64_t seq = world.next_seq[lane]; agent && seq-- > 0;)
        if (event_at(lane, seq)->agent == agent)
            return event_at(lane, seq);
    return NULL;
}

static void pack(struct event *e, uint32_t number, size_t pad)
{
    char agent[16], body[4096];
    snprintf(agent, sizeof agent, "agent-%u", e->agent);
    size_t size = (size_t)snprintf(body, sizeof body, "%u ", number);
    memset(body + size, 'x', pad);
    struct spool_event event =
        SPOOL_EVENT(.type = "sim", .agent = e->agent ? agent : NULL, .body = body, .body_size = size + pad,
                    .ttl_ms = e->ttl_ms, .priority = lane_priority(e->lane));
    struct event_measure measure;
    if (event_measure(&event, sizeof body + 256, &measure) != SPOOL_OK)
        violation("simulation", "an event cannot be measured: %s", spool_last_error());
    e->size = (uint32_t)measure.packed_size;
    e->packed = arena_get(ARENA_WORLD, measure.packed_size);
    id_make((struct hlc_stamp){ticks_from_ns(e->born_ns), (uint16_t)(number & 0x3fff)}, 7, &e->id);
    event_pack(&event, &measure, &e->id, e->packed);
}

uint32_t event_make(int lane, uint32_t agent, uint64_t ttl_ms, size_t pad, uint32_t poison)
{
    uint32_t number = world.event_count++;
    struct event *e = &world.events[number];
    *e = (struct event){.lane = lane,
                        .seq = world.next_seq[lane],
                        .agent = agent,
                        .ttl_ms = ttl_ms,
                        .born_ns = world_wall_ns(),
                        .poison = poison,
                        .before = last_of_agent(lane, agent)};
    world.at_seq[lane][world.next_seq[lane]++] = number;
    pack(e, number, pad);
    return number;
}

void disk_commit(int lane, uint32_t count)
{
    world.blocks[world.block_count++] =
        (struct block){.lane = lane, .first_seq = world.next_seq[lane] - count, .count = count};
}

const struct block *disk_block(int lane, uint64_t seq)
{
    for (uint32_t i = 0; i < world.block_count; i++) {
        const struct block *block = &world.blocks[i];
        if (block->lane == lane && !block->gone && block->first_seq + block->count > seq)
            return block;
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------------- sinks
 */

struct sink_world *disk_sink_named(const char *name)
{
    for (uint32_t i = 0; i < world.sink_count; i++)
        if (strcmp(world.sinks[i].name, name) == 0)
            return &world.sinks[i];
    return NULL;
}

struct sink_world *disk_sink(uint32_t id)
{
    for (uint32_t i = 0; i < world.sink_count; i++)
        if (world.sinks[i].registered && world.sinks[i].disk.id == id)
            return &world.sinks[i];
    return NULL;
}

static bool covers(const struct store_sink *disk, int lane, uint64_t seq)
{
    if (seq < disk->cursor[lane])
        return true;
    for (uint32_t i = 0; i < disk->range_count[lane]; i++)
        if (seq >= disk->ranges[lane][i].first && seq - disk->ranges[lane][i].first < disk->ranges[lane][i].count)
            return true;
    return false;
}

static void forget_sink(struct sink_world *sink)
{
    for (uint32_t i = 0; i < EVENTS_MAX; i++)
        sink->tallies[i] = (struct tally){0};
    sink->checkpoint_size = 0;
    sink->log_count = 0;
    sink->finished = 0;
    sink->uncertain = false;
}

static void new_sink(struct sink_world *sink, bool from_now)
{
    uint64_t generation = sink->disk.generation + 1;
    forget_sink(sink);
    sink->disk = (struct store_sink){.id = ++world.next_sink_id, .generation = generation};
    snprintf(sink->disk.name, sizeof sink->disk.name, "%s", sink->name);
    for (int lane = 0; lane < LANES; lane++) {
        const struct block *first = disk_block(lane, 0);
        uint64_t start = from_now || !first ? world.next_seq[lane] : first->first_seq;
        sink->disk.cursor[lane] = sink->start_seq[lane] = start;
        for (uint64_t seq = 0; seq < start; seq++)
            sink->tallies[world.at_seq[lane][seq]].finished = true;
        sink->finished += start;
    }
    sink->registered = true;
    sink->paused_ns = 0;
}

int disk_register(struct sink_world *sink, const char *kind, uint32_t order, bool from_now)
{
    if (!sink->registered)
        new_sink(sink, from_now);
    snprintf(sink->disk.kind, sizeof sink->disk.kind, "%s", kind);
    sink->disk.order = order;
    return SPOOL_OK;
}

void disk_remove(struct sink_world *sink)
{
    sink->registered = false;
    sink->disk.generation++;
    sink->hand.suspects.n = 0;
    store_hand_excuse(&sink->hand);
    world.control_count++;
}

/* All of the log that is still there, once more. */
void disk_rewind(struct sink_world *sink)
{
    sink->disk.generation++;
    world.control_count++;
    sink->rewound++;
    sink->finished = 0;
    for (int lane = 0; lane < LANES; lane++) {
        sink->disk.cursor[lane] = sink->start_seq[lane];
        sink->disk.range_count[lane] = 0;
    }
    for (uint32_t i = 0; i < world.event_count; i++) {
        struct tally *t = &sink->tallies[i];
        t->row = t->dead = NULL;
        t->failures = t->killed = 0;
        t->due_ns = 0;
        t->finished = covers(&sink->disk, world.events[i].lane, world.events[i].seq);
        sink->finished += t->finished;
    }
}

uint32_t disk_requeue(struct sink_world *sink)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < world.event_count; i++) {
        struct tally *t = &sink->tallies[i];
        if (!t->dead || t->row)
            continue;
        t->row = t->dead;
        t->dead = NULL;
        t->row->attempts = 0;
        t->row->due_ns = world_wall_ns();
        t->due_ns = 0;
        t->failures = 0;
        t->refused = false;
        t->requeued = true;
        t->killed = 0;
        t->heard_in = 0;
        n++;
    }
    world.control_count += n > 0;
    return n;
}

/* -------------------------------------------------------------------------------------------------- acknowledgements
 */

static struct store_retry *copy_row(const struct store_retry *row)
{
    struct store_retry *copy = arena_get(ARENA_WORLD, sizeof *copy);
    *copy = *row;
    return copy;
}

static struct tally *tally_of(struct sink_world *sink, int lane, uint64_t seq)
{
    if (lane < 0 || lane >= LANES || seq >= world.next_seq[lane]) {
        violation("invented", "an acknowledgement speaks of event %llu of lane %d, which does not exist",
                  (unsigned long long)seq, lane);
        return NULL;
    }
    return &sink->tallies[world.at_seq[lane][seq]];
}

static void put_retry(struct sink_world *sink, const struct store_retry_put *put)
{
    struct tally *t = tally_of(sink, put->row.lane, put->row.seq);
    if (!t->row && !put->packed)
        violation("rows", "a retry row is changed that is not there: lane %d, event %llu", put->row.lane,
                  (unsigned long long)put->row.seq);
    t->row = copy_row(&put->row);
}

static void put_dead(struct sink_world *sink, const struct store_dead_put *put)
{
    struct tally *t = tally_of(sink, put->row.lane, put->row.seq);
    if (!t->row && !put->packed && !t->dead)
        violation("rows", "a dead letter without its event: lane %d, event %llu", put->row.lane,
                  (unsigned long long)put->row.seq);
    t->dead = copy_row(&put->row);
    t->resolved = true;
    if (!put->packed)
        t->row = NULL;
}

static uint64_t last_end(const struct store_sink *disk, int lane)
{
    const struct store_range *last = disk->ranges[lane] + disk->range_count[lane];
    return disk->range_count[lane] > 0 ? last[-1].first + last[-1].count : 0;
}

static void move_lane(struct sink_world *sink, const struct store_ack *ack, int lane)
{
    struct store_sink *disk = &sink->disk;
    uint64_t from = disk->cursor[lane], end = ack->cursor[lane];
    if (ack->cursor[lane] > world.next_seq[lane])
        violation("invented", "the cursor of lane %d is beyond the log", lane);
    if (disk->cursor[lane] < ack->cursor[lane])
        disk->cursor[lane] = ack->cursor[lane];
    end = last_end(disk, lane) > end ? last_end(disk, lane) : end;
    disk->range_count[lane] = ack->range_count[lane];
    if (ack->range_count[lane] > 0)
        memcpy(disk->ranges[lane], ack->ranges[lane], ack->range_count[lane] * sizeof *ack->ranges[lane]);
    end = last_end(disk, lane) > end ? last_end(disk, lane) : end;
    for (uint64_t seq = from; seq < end; seq++) {
        struct tally *t = tally_of(sink, lane, seq);
        bool now = covers(disk, lane, seq);
        if (now && !t->finished)
            oracle_finished(sink, event_at(lane, seq));
        sink->finished = sink->finished + now - t->finished;
        t->finished = now;
    }
}

static void count_row(struct sink_world *sink, const struct store_done *done)
{
    sink->disk.delivered += done->end == STORE_END_DELIVERED;
    sink->disk.filtered += done->end == STORE_END_FILTERED;
    sink->disk.dropped += done->end == STORE_END_EXPIRED || done->end == STORE_END_DAMAGED;
}

static void move_cursor(struct sink_world *sink, const struct store_ack *ack)
{
    for (int lane = 0; lane < LANES; lane++)
        move_lane(sink, ack, lane);
    if (ack->checkpoint_size > 0 && world.control != CONTROL_NO_CHECKPOINT) {
        sink->checkpoint_size = ack->checkpoint_size;
        memcpy(sink->checkpoint, ack->checkpoint, ack->checkpoint_size);
    }
    sink->disk.serial = ack->serial;
    sink->disk.delivered += store_ack_delivered(ack);
    sink->disk.filtered += ack->filtered;
    sink->disk.dropped += store_drops_total(&ack->drops);
    store_drops_add(&sink->disk.drops, &ack->drops);
    for (size_t i = 0; i < ack->done_count && world.control == CONTROL_COUNT_EARLY; i++)
        count_row(sink, &ack->done[i]);
}

static void finish_row(struct sink_world *sink, const struct store_done *done)
{
    struct tally *t = tally_of(sink, done->lane, done->seq);
    if (t->row && world.control != CONTROL_COUNT_EARLY)
        count_row(sink, done);
    t->row = NULL;
}

/* All that comes from the log. */
static void move(struct sink_world *sink, const struct store_ack *ack)
{
    for (size_t i = 0; i < ack->retry_count; i++)
        if (ack->retries[i].packed)
            put_retry(sink, &ack->retries[i]);
    for (size_t i = 0; i < ack->dead_count; i++)
        if (ack->dead[i].packed)
            put_dead(sink, &ack->dead[i]);
    move_cursor(sink, ack);
}

struct parts {
    struct sink_world *sink;
    const struct store_ack *ack;
    uint32_t rows; /* in the current one */
    int (*between)(void *user);
    void *user;
};

/* Another row: perhaps in another transaction. */
static int next_row(struct parts *parts)
{
    if (parts->ack->checkpoint_size > 0 || parts->rows++ < world.part_rows)
        return SPOOL_OK;
    parts->rows = 1;
    int code = parts->between(parts->user);
    bool stale = !parts->sink->registered || parts->sink->disk.generation != parts->ack->generation;
    return code == SPOOL_OK && stale ? SPOOL_ESTALE : code;
}

/* As spool/state_ack.c does: changes of rows first, then all that comes from the log, then deletions; with a checkpoint
 * in one transaction. */
int disk_ack(struct sink_world *sink, const struct store_ack *ack, int (*between)(void *user), void *user)
{
    struct parts parts = {sink, ack, 0, between, user};
    int code = SPOOL_OK;
    for (size_t i = 0; i < ack->retry_count && code == SPOOL_OK; i++)
        if (!ack->retries[i].packed && (code = next_row(&parts)) == SPOOL_OK)
            put_retry(sink, &ack->retries[i]);
    for (size_t i = 0; i < ack->dead_count && code == SPOOL_OK; i++)
        if (!ack->dead[i].packed && (code = next_row(&parts)) == SPOOL_OK)
            put_dead(sink, &ack->dead[i]);
    bool again = ack->serial && ack->serial == sink->disk.serial && world.control != CONTROL_COUNT_AGAIN;
    if (code == SPOOL_OK && !again)
        move(sink, ack);
    for (size_t i = 0; i < ack->done_count && code == SPOOL_OK && (code = next_row(&parts)) == SPOOL_OK; i++)
        finish_row(sink, &ack->done[i]);
    return code;
}

/* --------------------------------------------------------------------------------------------- what may wait, at most */

/* As state_sink_drop_below() does: ranges that begin below go, or take the cursor along. */
static void skip_ranges(struct store_sink *disk, int lane)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < disk->range_count[lane]; i++) {
        const struct store_range range = disk->ranges[lane][i];
        if (range.first > disk->cursor[lane])
            disk->ranges[lane][kept++] = range;
        else if (range.first + range.count > disk->cursor[lane])
            disk->cursor[lane] = range.first + range.count;
    }
    disk->range_count[lane] = kept;
}

uint64_t disk_drop_below(struct sink_world *sink, const uint64_t upto[LANES])
{
    uint64_t dropped = 0;
    for (int lane = 0; lane < LANES; lane++) {
        uint64_t from = sink->disk.cursor[lane];
        if (from >= upto[lane])
            continue;
        sink->disk.cursor[lane] = upto[lane];
        skip_ranges(&sink->disk, lane);
        for (uint64_t seq = from; seq < upto[lane]; seq++) {
            struct tally *t = tally_of(sink, lane, seq);
            if (t->finished)
                continue;
            oracle_finished(sink, event_at(lane, seq));
            t->finished = true;
            sink->finished++;
            dropped++;
        }
    }
    sink->disk.dropped += dropped;
    return dropped;
}

static uint64_t bytes_of(int lane, uint64_t from, uint64_t upto)
{
    uint64_t bytes = 0;
    for (uint64_t seq = from; seq < upto; seq++)
        bytes += event_at(lane, seq)->size;
    return bytes;
}

void disk_overflow(const uint64_t cursor[LANES], uint64_t max_bytes, uint64_t born_ns, uint64_t ret_upto[LANES])
{
    uint64_t waiting = 0;
    for (int lane = 0; lane < LANES; lane++) {
        ret_upto[lane] = cursor[lane];
        waiting += bytes_of(lane, cursor[lane], world.next_seq[lane]);
        while (ret_upto[lane] < world.next_seq[lane] && event_at(lane, ret_upto[lane])->born_ns < born_ns)
            ret_upto[lane]++;
    }
    /* The oldest blocks first, and never the newest. */
    for (uint32_t i = 0; i + 1 < world.block_count && max_bytes > 0 && waiting > max_bytes; i++) {
        const struct block *block = &world.blocks[i];
        uint64_t end = block->first_seq + block->count;
        if (end <= cursor[block->lane])
            continue;
        uint64_t from = block->first_seq > cursor[block->lane] ? block->first_seq : cursor[block->lane];
        waiting -= bytes_of(block->lane, from, end);
        if (end > ret_upto[block->lane])
            ret_upto[block->lane] = end;
    }
}
