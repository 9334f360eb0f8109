/* bench.c - from stored events to the array a sink gets, and from its answers to a verdict per event. */
#include "bench.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "delivery.h"

/* The bench whose deliver runs on this thread, for spool_delivery_fail(). */
static _Thread_local struct bench *at_work;
/* Takes the reasons meanwhile, for a sink that is made of others. */
static _Thread_local const struct delivery_capture *capturing;

const struct delivery_capture *delivery_capture_reasons(const struct delivery_capture *capture)
{
    const struct delivery_capture *before = capturing;
    capturing = capture;
    return before;
}

/* ------------------------------------------------------------------------------------------------------- unpacking */

static int bench_reserve(struct bench *bench, size_t count)
{
    if (count <= bench->cap)
        return SPOOL_OK;
    free(bench->items);
    free(bench->views);
    free(bench->deliveries);
    free(bench->item_of);
    free(bench->spans);
    bench->items = malloc(count * sizeof *bench->items);
    bench->views = malloc(count * sizeof *bench->views);
    bench->deliveries = malloc(count * sizeof *bench->deliveries);
    bench->item_of = malloc(count * sizeof *bench->item_of);
    bench->spans = malloc(count * sizeof *bench->spans);
    bool whole = bench->items && bench->views && bench->deliveries && bench->item_of && bench->spans;
    bench->cap = whole ? count : 0;
    return whole ? SPOOL_OK : err_errno(ENOMEM, "batch of %zu events", count);
}

uint64_t bench_key(const struct spool_event *event, enum spool_order order)
{
    if (order == SPOOL_ORDER_LANE)
        return 1;
    if (order == SPOOL_ORDER_NONE || !event->agent)
        return 0;
    uint64_t hash = 0xcbf29ce484222325ull; /* FNV-1a */
    for (const char *p = event->agent; *p; p++)
        hash = (hash ^ (uint8_t)*p) * 0x100000001b3ull;
    return hash ? hash : 1;
}

/* What is shared by the items of a batch. */
struct bench_loading {
    struct bench *bench;
    enum spool_order order;
    uint64_t now_ns;
};

/* Adds an item whose event was read into its view, unless `code` says that it cannot be. */
static void load_item(const struct bench_loading *l, int code, uint64_t seq, struct retry_row *row)
{
    struct bench *bench = l->bench;
    struct bench_item *item = &bench->items[bench->count];
    const struct event_view *view = &bench->views[bench->count++];
    *item = (struct bench_item){.seq = seq, .row = row};
    if (code != SPOOL_OK) {
        item->verdict = VERDICT_DAMAGED;
        return;
    }
    item->size = (uint32_t)view->packed_size;
    if (l->order != SPOOL_ORDER_NONE)
        item->key = bench_key(&view->event, l->order);
    if (!filter_passes(bench->filter, &view->event)) {
        item->verdict = VERDICT_FILTERED;
        return;
    }
    uint64_t ttl_ns = 0;
    if (view->event.ttl_ms > 0 && !__builtin_mul_overflow(view->event.ttl_ms, NS_PER_MS, &ttl_ns) &&
        hlc_age_ns(l->now_ns, spool_id_time_ns(&view->id)) > ttl_ns)
        item->verdict = VERDICT_EXPIRED;
}

static void load_log(const struct bench_loading *l, const struct batch *batch)
{
    for (size_t i = 0; i < batch->piece_count; i++) {
        const struct batch_piece *piece = &batch->pieces[i];
        for (uint32_t at = piece->first; at < piece->end; at++)
            load_item(l, bundle_event(&piece->block->events, at, &l->bench->views[l->bench->count]),
                      piece->block->first_seq + at, NULL);
    }
}

static void load_rows(const struct bench_loading *l, const struct batch *batch)
{
    for (size_t i = 0; i < batch->row_count; i++) {
        const struct batch_row *r = &batch->rows[i];
        int code = SPOOL_EDAMAGED;
        if (r->packed)
            code = event_unpack(r->packed, r->size, &l->bench->views[l->bench->count]);
        load_item(l, code, r->row->seq, r->row);
    }
}

int bench_load(struct bench *bench, const struct batch *batch, enum spool_order order, uint64_t now_ns)
{
    if (bench_reserve(bench, batch->count) != SPOOL_OK)
        return ENOMEM;
    bench->count = bench->open = 0;
    bench->holds = false;
    bench->reasons.size = 0;
    const struct bench_loading l = {bench, order, now_ns};
    if (batch->kind == BATCH_LOG)
        load_log(&l, batch);
    load_rows(&l, batch);
    return SPOOL_OK;
}

void bench_lay_out(struct bench *bench)
{
    bench->open = 0;
    for (size_t i = 0; i < bench->count; i++) {
        const struct bench_item *item = &bench->items[i];
        if (item->verdict != VERDICT_OPEN)
            continue;
        bench->item_of[bench->open] = (uint32_t)i;
        bench->deliveries[bench->open++] = (struct spool_delivery){
            .size = sizeof(struct spool_delivery),
            .event = &bench->views[i].event,
            .id = bench->views[i].id,
            .attempt = item->row ? item->row->attempts + 1 : 1,
        };
    }
}

/* --------------------------------------------------------------------------------------------------------- reasons */

const char *bench_reason(const struct bench *bench, const struct bench_item *item)
{
    return item->reason ? (const char *)bench->reasons.data + item->reason - 1 : "";
}

void bench_set_reason(struct bench *bench, struct bench_item *item, const char *text)
{
    char cut[REASON_MAX + 1];
    int size = snprintf(cut, sizeof cut, "%s", text);
    size_t used = size < REASON_MAX ? (size_t)size : REASON_MAX;
    size_t at = bench->reasons.size;
    if (size >= 0 && buffer_put(&bench->reasons, cut, used + 1) == SPOOL_OK)
        item->reason = (uint32_t)at + 1; /* without memory the event is kept and only its reason lost */
}

void delivery_failv(struct spool_delivery *delivery, enum spool_outcome outcome, const char *format, va_list args)
{
    delivery->outcome = outcome;
    char text[REASON_MAX + 1];
    vsnprintf(text, sizeof text, format, args);
    const struct delivery_capture *c = capturing;
    if (c && delivery >= c->deliveries && delivery < c->deliveries + c->n) {
        c->told(c->user, (size_t)(delivery - c->deliveries), text);
        return;
    }
    struct bench *bench = at_work;
    if (!bench || delivery < bench->deliveries || delivery >= bench->deliveries + bench->open)
        return;
    bench_set_reason(bench, &bench->items[bench->item_of[delivery - bench->deliveries]], text);
}

void spool_delivery_fail(struct spool_delivery *delivery, enum spool_outcome outcome, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    delivery_failv(delivery, outcome, format, args);
    va_end(args);
}

/* ------------------------------------------------------------------------------------------------------ delivering */

/* SPOOL_RETRY is also what an untouched event says; a reason or a time tells that the sink meant it. */
static bool was_answered(const struct spool_delivery *delivery, const struct bench_item *item)
{
    return delivery->outcome != SPOOL_RETRY || delivery->retry_after_ms > 0 || item->reason > 0;
}

static enum verdict verdict_of(enum spool_outcome outcome)
{
    switch (outcome) {
    case SPOOL_DELIVERED:
        return VERDICT_DELIVERED;
    case SPOOL_REJECTED:
        return VERDICT_REJECTED;
    default:
        return VERDICT_RETRY;
    }
}

static void set_verdict(struct bench *bench, struct bench_item *item, enum verdict verdict)
{
    item->verdict = (uint8_t)verdict;
    bench->holds |= verdict == VERDICT_RETRY && item->key != 0;
}

/* Takes over the answers in deliveries [from, to) and moves those without one to the front; where they end. */
static size_t collect(struct bench *bench, size_t from, size_t to)
{
    size_t left = from;
    for (size_t i = from; i < to; i++) {
        struct spool_delivery *delivery = &bench->deliveries[i];
        struct bench_item *item = &bench->items[bench->item_of[i]];
        if (delivery->outcome == DELIVERY_UNTRIED)
            continue; /* its verdict stays open */
        if (was_answered(delivery, item)) {
            set_verdict(bench, item, verdict_of(delivery->outcome));
            item->retry_after_ms = delivery->retry_after_ms;
            continue;
        }
        bench->item_of[left] = bench->item_of[i];
        bench->deliveries[left++] = *delivery;
    }
    return left;
}

static void reject_at(struct bench *bench, size_t at)
{
    struct bench_item *item = &bench->items[bench->item_of[at]];
    const char *message = delivery_sink_message();
    bench_set_reason(bench, item, *message ? message : "the sink refuses the event");
    item->verdict = VERDICT_REJECTED;
}

/* An answer of 0 answers for every event: those untouched are to be tried again. */
static void retry_untouched(struct bench *bench, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        set_verdict(bench, &bench->items[bench->item_of[i]], VERDICT_RETRY);
}

/* What all calls for one batch share. */
struct bisection {
    struct bench *bench;
    const struct spool_sink *sink;
    void *state;
    bool (*goes_on)(void *user);
    void *user;
};

/* One call of the sink for [from, to). *ret_left: where those without an answer end, which were moved to the front. */
static int deliver_once(const struct bisection *b, size_t from, size_t to, size_t *ret_left)
{
    spool_sink_error(SPOOL_OK, "%s", "");
    int code = b->sink->deliver(b->state, b->bench->deliveries + from, to - from);
    *ret_left = collect(b->bench, from, to);
    if (code == SPOOL_OK)
        retry_untouched(b->bench, from, *ret_left);
    return code;
}

/* The halves of [from, to), in which one event is bad: after at most log2(n) levels it stands alone. */
static int deliver_halves(const struct bisection *b, size_t from, size_t to)
{
    if (to - from == 1) {
        reject_at(b->bench, from);
        return SPOOL_OK;
    }
    const size_t bounds[] = {from, from + (to - from) / 2, to};
    int code = SPOOL_OK;
    for (int half = 0; half < 2 && code == SPOOL_OK; half++) {
        size_t left;
        if (b->bench->holds || !b->goes_on(b->user))
            return SPOOL_OK;
        code = deliver_once(b, bounds[half], bounds[half + 1], &left);
        if (code == SPOOL_EREJECTED)
            code = left > bounds[half] ? deliver_halves(b, bounds[half], left) : SPOOL_OK;
    }
    return code;
}

int bench_deliver(struct bench *bench, const struct spool_sink *sink, void *state, bool (*goes_on)(void *user),
                  void *user)
{
    const struct bisection b = {bench, sink, state, goes_on, user};
    size_t left;
    if (bench->open == 0)
        return SPOOL_OK;
    at_work = bench;
    int code = deliver_once(&b, 0, bench->open, &left);
    if (code == SPOOL_EREJECTED)
        code = left > 0 ? deliver_halves(&b, 0, left) : SPOOL_OK;
    at_work = NULL;
    return code;
}

void bench_free(struct bench *bench)
{
    free(bench->items);
    free(bench->views);
    free(bench->deliveries);
    free(bench->item_of);
    free(bench->spans);
    buffer_free(&bench->reasons);
    *bench = (struct bench){0};
}
