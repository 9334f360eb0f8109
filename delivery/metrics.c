/* metrics.c - what a sink did, counted by batch: by lane what became of events, how long they took to arrive, how long
 * the sink took, how many it got at a time.
 *
 * Also what of it is published for other processes (store_sink_publish). Little-endian:
 *
 *    0  1  version, 1      1  1  enum spool_sink_state      2  1  enum spool_breaker      3  1  zero
 *    4  4  process id      8  4  sink id
 *   12  4  attempt        16  8  when, wall clock          24  8  wall clock of the next try, 0: none
 *   32  8  delivered, since it was added                   40  8  retrying  48  8  times that the breaker opened
 *   56  8  how long it is as it is, in ms                  64  2  size of the last error
 *   66     the last error, then u64 numbers: METRIC_COUNTERS of each lane, batches, failures; then histograms, packed:
 *          latency of each lane, duration of deliver, events in a batch; then types, packed (type_counts.h); then u64 since
 *          when it waits (wall clock), u16 size and text of what for; then histograms again: duration of deliver of each
 *          lane, events in a batch of each lane
 *
 * A reader refuses another version, takes what is cut off for empty, and leaves out what follows behind what it knows.
 * Without the last histograms the lanes of those before are not known. When there is no room for a part, it ends there. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/bytes.h"
#include "../lib/base/error.h"
#include "engine.h"

enum {
    REPORT_VERSION = 1,
    AT_STATE = 1,
    AT_BREAKER = 2,
    AT_PID = 4,
    AT_SINK = 8,
    AT_ATTEMPT = 12,
    AT_TIME = 16,
    AT_NEXT_TRY = 24,
    AT_DELIVERED = 32,
    AT_RETRYING = 40,
    AT_OPENED = 48,
    AT_SINCE = 56,
    AT_ERROR_SIZE = 64,
    REPORT_HEADER = 66,
};

/* -------------------------------------------------------------------------------------------------------- counting */

static enum delivery_counter counter_of(enum verdict verdict)
{
    switch (verdict) {
    case VERDICT_DELIVERED:
        return METRIC_DELIVERED;
    case VERDICT_RETRY:
        return METRIC_RETRIED;
    case VERDICT_REJECTED:
        return METRIC_DEAD;
    case VERDICT_EXPIRED:
        return METRIC_EXPIRED;
    case VERDICT_DAMAGED:
        return METRIC_DAMAGED;
    case VERDICT_FILTERED:
        return METRIC_FILTERED;
    default:
        return METRIC_COUNTERS;
    }
}

/* From the id's time. Events of one batch are often of one moment: their bucket is looked for once. */
static void count_latencies(struct histogram *latency_us, const struct bench *bench, uint64_t now_ns)
{
    uint64_t last_ns = 0, run = 0;
    for (size_t i = 0; i < bench->count; i++) {
        if (bench->items[i].verdict != VERDICT_DELIVERED)
            continue;
        uint64_t born_ns = spool_id_time_ns(&bench->views[i].id);
        if (run && born_ns != last_ns) {
            histogram_add(latency_us, now_ns > last_ns ? (now_ns - last_ns) / 1000 : 0, run);
            run = 0;
        }
        last_ns = born_ns;
        run++;
    }
    if (run)
        histogram_add(latency_us, now_ns > last_ns ? (now_ns - last_ns) / 1000 : 0, run);
}

/* One that cannot be read has no type. */
static const char *type_of(const struct bench *bench, size_t i)
{
    return bench->items[i].verdict == VERDICT_DAMAGED ? "" : bench->views[i].event.type;
}

/* Events of one batch are often of one type as well: its row is looked for when it changes. */
static void count_events(struct delivery_metrics *m, int lane, const struct bench *bench)
{
    uint32_t row = TYPES_MAX;
    const char *last = "";
    for (size_t i = 0; i < bench->count; i++) {
        enum delivery_counter counter = counter_of((enum verdict)bench->items[i].verdict);
        if (counter >= METRIC_COUNTERS)
            continue;
        const char *type = type_of(bench, i);
        if (strcmp(type, last) != 0)
            row = *type ? type_counts_row(&m->types, type) : TYPES_MAX;
        last = type;
        m->events[counter][lane]++;
        m->types.events[row][counter]++;
    }
}

void metrics_count(struct sink *sink, const struct batch *batch, const struct bench *bench, uint64_t now_ns,
                   uint64_t took_ns)
{
    struct delivery_metrics *m = sink->metrics;
    count_events(m, batch->lane, bench);
    count_latencies(&m->latency_us[batch->lane], bench, now_ns);
    if (bench->open == 0)
        return; /* the sink was not called */
    m->batches++;
    histogram_add(&m->deliver_us[batch->lane], took_ns / 1000, 1);
    histogram_add(&m->batch_events[batch->lane], bench->open, 1);
}

/* ------------------------------------------------------------------------------------------------------ publishing */

static size_t put_head(const struct delivery_sink_status *status, uint32_t sink_id, uint64_t wall_ns, uint8_t *to)
{
    size_t error = strlen(status->last_error);
    memset(to, 0, REPORT_HEADER);
    to[0] = REPORT_VERSION;
    to[AT_STATE] = (uint8_t)status->state;
    to[AT_BREAKER] = (uint8_t)status->breaker;
    put_u64(to + AT_OPENED, status->breaker_opened);
    put_u64(to + AT_SINCE, status->breaker_since_ms);
    put_u32(to + AT_PID, (uint32_t)getpid());
    put_u32(to + AT_SINK, sink_id);
    put_u32(to + AT_ATTEMPT, status->attempt);
    put_u64(to + AT_TIME, wall_ns);
    put_u64(to + AT_NEXT_TRY, status->next_try_ms ? wall_ns + status->next_try_ms * NS_PER_MS : 0);
    put_u64(to + AT_DELIVERED, status->delivered);
    put_u64(to + AT_RETRYING, status->retrying);
    put_u16(to + AT_ERROR_SIZE, (uint16_t)error);
    memcpy(to + REPORT_HEADER, status->last_error, error);
    return REPORT_HEADER + error;
}

static size_t put_numbers(const struct delivery_metrics *m, uint8_t *to)
{
    size_t at = 0;
    for (int counter = 0; counter < METRIC_COUNTERS; counter++)
        for (int lane = 0; lane < LANES; lane++, at += 8)
            put_u64(to + at, m->events[counter][lane]);
    put_u64(to + at, m->batches);
    put_u64(to + at + 8, m->failures);
    return at + 16;
}

enum { WAIT_HEADER = 10 };
static size_t put_wait(const struct delivery_sink_status *status, uint64_t wall_ns, uint8_t *to, size_t room)
{
    size_t size = strlen(status->waits_for);
    if (room < WAIT_HEADER + size)
        return 0;
    put_u64(to, wall_ns - status->waits_ms * NS_PER_MS);
    put_u16(to + 8, (uint16_t)size);
    memcpy(to + WAIT_HEADER, status->waits_for, size);
    return WAIT_HEADER + size;
}

/* What is behind the numbers. A part that has no room is the end: another one would be read in its place. */
struct parts {
    uint8_t *to;
    size_t at, room;
};

static void add_part(struct parts *parts, size_t size)
{
    parts->at += size;
    if (!size)
        parts->room = parts->at;
}

static void put_histograms(struct parts *parts, const struct histogram *h, int count)
{
    for (int i = 0; i < count; i++)
        add_part(parts, histogram_pack(&h[i], parts->to + parts->at, parts->room - parts->at));
}

static void put_merged(struct parts *parts, const struct histogram lanes[LANES])
{
    struct histogram all = {0};
    for (int lane = 0; lane < LANES; lane++)
        histogram_merge(&all, &lanes[lane]);
    put_histograms(parts, &all, 1);
}

size_t metrics_pack(const struct delivery_sink_status *status, const struct delivery_metrics *m, uint32_t sink_id,
                    uint64_t wall_ns, uint8_t *to, size_t room)
{
    struct parts parts = {.to = to, .room = room};
    parts.at = put_head(status, sink_id, wall_ns, to);
    parts.at += put_numbers(m, to + parts.at);
    put_histograms(&parts, m->latency_us, LANES);
    put_merged(&parts, m->deliver_us);
    put_merged(&parts, m->batch_events);
    add_part(&parts, type_counts_pack(&m->types, to + parts.at, parts.room - parts.at));
    add_part(&parts, put_wait(status, wall_ns, to + parts.at, parts.room - parts.at));
    put_histograms(&parts, m->deliver_us, LANES);
    put_histograms(&parts, m->batch_events, LANES);
    return parts.at;
}

/* --------------------------------------------------------------------------------------------------------- reading */

static int read_head(const uint8_t *bytes, size_t size, struct delivery_report *ret, size_t *ret_at)
{
    size_t error = size >= REPORT_HEADER ? get_u16(bytes + AT_ERROR_SIZE) : 0;
    if (size < REPORT_HEADER || bytes[0] != REPORT_VERSION || error > REASON_MAX || size - REPORT_HEADER < error ||
        bytes[AT_STATE] > SPOOL_SINK_STOPPED || bytes[AT_BREAKER] > SPOOL_BREAKER_HALF_OPEN)
        return err_set(SPOOL_ENOTFOUND, "what the deliverer says is of another version");
    ret->status.state = (enum spool_sink_state)bytes[AT_STATE];
    ret->status.breaker = (enum spool_breaker)bytes[AT_BREAKER];
    ret->status.breaker_opened = get_u64(bytes + AT_OPENED);
    ret->status.breaker_since_ms = get_u64(bytes + AT_SINCE);
    ret->pid = get_u32(bytes + AT_PID);
    ret->sink_id = get_u32(bytes + AT_SINK);
    ret->status.attempt = get_u32(bytes + AT_ATTEMPT);
    ret->at_ns = get_u64(bytes + AT_TIME);
    ret->next_try_at_ns = get_u64(bytes + AT_NEXT_TRY);
    ret->status.delivered = get_u64(bytes + AT_DELIVERED);
    ret->status.retrying = get_u64(bytes + AT_RETRYING);
    memcpy(ret->status.last_error, bytes + REPORT_HEADER, error);
    *ret_at = REPORT_HEADER + error;
    return SPOOL_OK;
}

static void read_numbers(const uint8_t *bytes, struct delivery_metrics *m)
{
    for (int counter = 0; counter < METRIC_COUNTERS; counter++)
        for (int lane = 0; lane < LANES; lane++, bytes += 8)
            m->events[counter][lane] = get_u64(bytes);
    m->batches = get_u64(bytes);
    m->failures = get_u64(bytes + 8);
}

/* The bytes taken; 0 if not all of them are there. */
static size_t read_histograms(const uint8_t *bytes, size_t size, struct histogram *ret, int count)
{
    size_t at = 0;
    for (int i = 0; i < count; i++) {
        size_t taken = histogram_unpack(bytes + at, size - at, &ret[i]);
        if (!taken)
            return 0;
        at += taken;
    }
    return at;
}

static size_t read_wait(const uint8_t *bytes, size_t size, struct delivery_report *ret)
{
    size_t text = size >= WAIT_HEADER ? get_u16(bytes + 8) : 0;
    if (size < WAIT_HEADER || text > REASON_MAX || size - WAIT_HEADER < text)
        return 0;
    if (text > 0)
        ret->waits_since_ns = get_u64(bytes);
    memcpy(ret->status.waits_for, bytes + WAIT_HEADER, text);
    return WAIT_HEADER + text;
}

/* Either every lane is known, or only all of them together. */
static void settle_lanes(struct histogram h[LANES + 1], bool known)
{
    if (known)
        memset(&h[LANES], 0, sizeof *h);
    else
        memset(h, 0, LANES * sizeof *h);
}

static void read_lanes(const uint8_t *bytes, size_t size, struct delivery_metrics *m)
{
    size_t at = read_histograms(bytes, size, m->deliver_us, LANES);
    bool known = at && read_histograms(bytes + at, size - at, m->batch_events, LANES);
    settle_lanes(m->deliver_us, known);
    settle_lanes(m->batch_events, known);
}

static void read_parts(const uint8_t *bytes, size_t size, struct delivery_report *ret)
{
    struct delivery_metrics *m = &ret->metrics;
    size_t at = read_histograms(bytes, size, m->latency_us, LANES), taken = at;
    if (taken)
        at += taken = read_histograms(bytes + at, size - at, &m->deliver_us[LANES], 1);
    if (taken)
        at += taken = read_histograms(bytes + at, size - at, &m->batch_events[LANES], 1);
    if (taken)
        at += taken = type_counts_unpack(bytes + at, size - at, &m->types);
    if (taken)
        at += taken = read_wait(bytes + at, size - at, ret);
    if (taken)
        read_lanes(bytes + at, size - at, m);
}

int delivery_report_read(const uint8_t *bytes, size_t size, struct delivery_report *ret)
{
    enum { NUMBERS = 8 * (METRIC_COUNTERS * LANES + 2) };
    size_t at = 0;
    memset(ret, 0, sizeof *ret);
    int code = read_head(bytes, size, ret, &at);
    if (code || size - at < NUMBERS)
        return code;
    read_numbers(bytes + at, &ret->metrics);
    read_parts(bytes + at + NUMBERS, size - at - NUMBERS, ret);
    return SPOOL_OK;
}
