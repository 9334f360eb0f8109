/* paths.c - the hot paths, for guard.py to count their instructions under callgrind.
 *
 * Each measured_*() runs one path over EVENTS events; only what runs inside of them is counted (--toggle-collect), so
 * that preparing them costs nothing. No clock is read that could make a difference, and nothing here waits. */
#include <err.h>
#include <stdio.h>

#include "../../delivery/engine.h"
#include "../../lib/base/id.h"
#include "../../lib/base/json.h"
#include "../../spool/store_inside.h"

enum { EVENTS = 1000, BODY = 256 };

#define MEASURED __attribute__((noinline, noclone)) void

static char bodies[EVENTS][BODY + 1];

static struct spool_event event_number(size_t i)
{
    return SPOOL_EVENT(.type = SPOOL_TYPE_LOG_LLM_CALL, .agent = "planner", .durability = SPOOL_DURABLE_PROCESS,
                       .body = bodies[i], .body_size = BODY);
}

static void make_bodies(void)
{
    for (size_t i = 0; i < EVENTS; i++) {
        memset(bodies[i], 'x', BODY);
        int head = snprintf(bodies[i], BODY, "{\"n\":%zu,\"ok\":true,\"text\":\"", 1000 + i);
        bodies[i][head] = 'x';
        memcpy(bodies[i] + 100, "a \\\"quoted\\\" word\\n", 19);
        memcpy(bodies[i] + BODY - 2, "\"}", 2);
    }
}

static void ok(int code)
{
    if (code)
        errx(1, "%s: %s", spool_error_name(code), spool_last_error());
}

/* --------------------------------------------------------------------------------------------------------- enqueue */

MEASURED measured_enqueue(struct spool *spool);
MEASURED measured_enqueue(struct spool *spool)
{
    for (size_t i = 0; i < EVENTS; i++) {
        struct spool_event event = event_number(i);
        ok(spool_enqueue(spool, &event, NULL));
    }
}

static void run_enqueue(const char *dir)
{
    struct spool *spool;
    ok(spool_open(dir, &SPOOL_OPTIONS(.flush_interval_ms = SPOOL_FLUSH_NEVER), &spool));
    measured_enqueue(spool);
    ok(spool_close(spool));
}

/* ----------------------------------------------------------------------------------------- packing, reading, rendering
 */

/* Frames of one event each, as the journal holds them. */
static void pack_events(struct buffer *out)
{
    for (size_t i = 0; i < EVENTS; i++) {
        struct spool_event event = event_number(i);
        struct event_measure measure;
        struct spool_id id;
        id_make((struct hlc_stamp){.ticks = UINT64_C(0x1a1fd969a69b940) + i * 1000}, 7, &id);
        ok(event_measure(&event, SIZE_MAX, &measure));
        ok(buffer_reserve(out, measure.packed_size));
        event_pack(&event, &measure, &id, out->data + out->size);
        out->size += measure.packed_size;
    }
}

static struct block_info info_of(const struct log_run *run)
{
    return (struct block_info){.lane = run->lane,
                               .count = run->count,
                               .size = (uint32_t)run->size,
                               .form = (enum bundle_form)run->form,
                               .min_id = run->min_id,
                               .max_id = run->max_id};
}

MEASURED measured_pack(struct packer *packer, const struct buffer *frames, struct buffer *out);
MEASURED measured_pack(struct packer *packer, const struct buffer *frames, struct buffer *out)
{
    struct log_run *runs;
    size_t n;
    for (size_t at = 0; at < frames->size; at += event_packed_size(frames->data + at))
        ok(packer_add_frame(packer, frames->data + at, event_packed_size(frames->data + at)));
    packer_runs(packer, &runs, &n);
    for (size_t i = 0; i < n; i++) {
        struct block_info info = info_of(&runs[i]);
        block_write(out->data + out->size, &info, runs[i].events);
        out->size += BLOCK_HEADER + runs[i].size;
    }
}

MEASURED measured_read(const struct buffer *blocks);
MEASURED measured_read(const struct buffer *blocks)
{
    for (size_t at = 0; at < blocks->size; at += block_size(blocks->data + at)) {
        struct store_block *block;
        ok(block_copy(blocks->data + at, block_size(blocks->data + at), &block));
        for (uint32_t i = 0; i < block->count; i++) {
            struct event_view view;
            ok(bundle_event(&block->events, i, &view));
        }
        store_block_unref(block);
    }
}

MEASURED measured_render(const struct buffer *events, struct buffer *out);
MEASURED measured_render(const struct buffer *events, struct buffer *out)
{
    for (size_t at = 0; at < events->size; at += event_packed_size(events->data + at)) {
        struct event_view view;
        ok(event_unpack(events->data + at, events->size - at, &view));
        ok(json_put_event(out, &view.event, &view.id));
    }
}

/* ------------------------------------------------------------------------- figures of a batch that a sink has answered
 */

MEASURED measured_count(struct sink *sink, const struct batch *batch, const struct bench *bench);
MEASURED measured_count(struct sink *sink, const struct batch *batch, const struct bench *bench)
{
    metrics_count(sink, batch, bench, UINT64_C(2000000000000000000), 1000000);
}

/* Of eight types, four events of one after another. */
static void run_count(const struct buffer *events)
{
    static const char *const types[] = {SPOOL_TYPE_LOG_LLM_CALL,   SPOOL_TYPE_LOG_ERROR,   SPOOL_TYPE_MEMORY_PLAN,
                                        SPOOL_TYPE_MEMORY_BELIEF,  SPOOL_TYPE_MEMORY_GOAL, SPOOL_TYPE_MEMORY_ERROR,
                                        SPOOL_TYPE_MEMORY_CONTEXT, SPOOL_TYPE_LOG_CONTEXT};
    static struct bench_item items[EVENTS];
    static struct event_view views[EVENTS];
    static struct delivery_metrics metrics;
    static struct sink sink = {.metrics = &metrics};
    const struct batch batch = {.kind = BATCH_LOG, .lane = LANE_MEDIUM};
    struct bench bench = {.items = items, .views = views, .count = EVENTS, .open = EVENTS};
    for (size_t i = 0, at = 0; i < EVENTS; i++, at += event_packed_size(events->data + at)) {
        ok(event_unpack(events->data + at, events->size - at, &views[i]));
        views[i].event.type = types[i / 4 % 8];
        items[i].verdict = VERDICT_DELIVERED;
    }
    measured_count(&sink, &batch, &bench);
}

static void run_blocks(void)
{
    struct buffer events = {0}, blocks = {0}, text = {0};
    struct packer *packer;
    pack_events(&events);
    ok(packer_new(&packer));
    ok(buffer_reserve(&blocks, events.size * 2));
    ok(buffer_reserve(&text, events.size * 4));
    measured_pack(packer, &events, &blocks);
    measured_read(&blocks);
    measured_render(&events, &text);
    run_count(&events);
    packer_free(packer);
    buffer_free(&events);
    buffer_free(&blocks);
    buffer_free(&text);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        errx(2, "usage: guard NEW-DIRECTORY");
    make_bodies();
    run_enqueue(argv[1]);
    run_blocks();
    printf("%d\n", EVENTS);
    return 0;
}
