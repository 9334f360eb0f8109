/* judge.c - what becomes of each event after the sink has spoken: finished, tried again, or a dead letter. */
#include <errno.h>
#include <stdio.h>

#include "../lib/base/error.h"
#include "engine.h"

/* ------------------------------------------------------------------------------------------------ before delivering */

/* No other batch under way has events of these keys, so for them the index stands still until this one is judged. */
void judge_park(const struct sink *sink, struct bench *bench)
{
    if (sink->options.order == SPOOL_ORDER_NONE || sink->retries.live == 0)
        return;
    for (size_t i = 0; i < bench->count; i++) {
        struct bench_item *item = &bench->items[i];
        if (item->verdict == VERDICT_OPEN && !item->row && item->key != 0 &&
            retry_has_key(&sink->retries, (int)lane_of(bench->views[i].event.priority), item->key))
            item->verdict = VERDICT_PARKED;
    }
}

/* ------------------------------------------------------------------------------------------------------- deciding */

static void die(struct bench *bench, struct bench_item *item, const char *limit)
{
    char text[2 * REASON_MAX];
    const char *last = bench_reason(bench, item);
    snprintf(text, sizeof text, "%s%s%s", limit, *last ? "; last failure: " : "", last);
    bench_set_reason(bench, item, text);
    item->verdict = VERDICT_REJECTED;
}

static void decide_retry(const struct spool_sink_options *limits, struct bench *bench, struct bench_item *item,
                         uint64_t now_ns)
{
    uint32_t attempts = (item->row ? item->row->attempts : 0) + 1;
    uint64_t born_ns = spool_id_time_ns(&bench->views[item - bench->items].id);
    uint64_t age_ms = hlc_age_ns(now_ns, born_ns) / NS_PER_MS;
    char limit[96];
    if (limits->max_attempts > 0 && attempts >= limits->max_attempts) {
        snprintf(limit, sizeof limit, "failed %u times (max_attempts)", attempts);
        die(bench, item, limit);
    } else if (limits->max_age_ms > 0 && age_ms > limits->max_age_ms) {
        snprintf(limit, sizeof limit, "older than %llu ms (max_age)", (unsigned long long)limits->max_age_ms);
        die(bench, item, limit);
    }
}

void judge_decide(const struct spool_sink_options *limits, struct bench *bench, uint64_t now_ns)
{
    for (size_t i = 0; i < bench->count; i++) {
        struct bench_item *item = &bench->items[i];
        if (item->verdict == VERDICT_RETRY && item->reason == 0)
            bench_set_reason(bench, item, "the sink asked for another try and gave no reason");
        if (item->verdict == VERDICT_REJECTED && item->reason == 0)
            bench_set_reason(bench, item, "the sink rejected the event and gave no reason");
        if (item->verdict == VERDICT_RETRY)
            decide_retry(limits, bench, item, now_ns);
    }
}

/* ------------------------------------------------------------------------------------------------------- applying */

/* The row of an event as it is stored, with one more failure when it `failed`. */
static void make_row(const struct bench *bench, const struct bench_item *item, int lane, bool failed, uint64_t due_ns,
                     struct store_retry *ret)
{
    const struct spool_id *id = &bench_view(bench, item)->id;
    *ret = (struct store_retry){
        .lane = lane,
        .seq = item->seq,
        .id = *id,
        .attempts = (item->row ? item->row->attempts : 0) + failed,
        .first_ns = spool_id_time_ns(id),
        .due_ns = due_ns,
        .size = item->size,
        .key_hash = item->key,
    };
    snprintf(ret->reason, sizeof ret->reason, "%s", bench_reason(bench, item));
}

/* How long until the next attempt. */
static uint64_t wait_ns_of(struct delivery *d, const struct sink *sink, const struct bench_item *item)
{
    if (item->verdict == VERDICT_PARKED)
        return 0;
    uint32_t failures = (item->row ? item->row->attempts : 0) + 1;
    uint64_t wait_ns = backoff_draw_ns(&d->jitter, failures, sink->options.retry_base_ms, sink->options.retry_cap_ms);
    uint64_t asked_ns;
    if (__builtin_mul_overflow(item->retry_after_ms, NS_PER_MS, &asked_ns) || asked_ns > UINT64_MAX / 4)
        asked_ns = UINT64_MAX / 4; /* some 146 years: as good as asked for */
    return asked_ns > wait_ns ? asked_ns : wait_ns;
}

/* Into the retry table, or back into it. Due by the wall clock on disk, by the monotonic one in memory. */
static int put_again(struct delivery *d, struct sink *sink, struct bench *bench, struct bench_item *item, int lane,
                     uint64_t now_ns)
{
    struct store_retry stored;
    uint64_t wait_ns = wait_ns_of(d, sink, item), due_ns = mono_ns() + wait_ns;
    make_row(bench, item, lane, item->verdict == VERDICT_RETRY, now_ns + wait_ns, &stored);
    stored.failed_ns = item->verdict == VERDICT_RETRY ? now_ns : 0;
    if (item->row) {
        item->row->attempts = stored.attempts;
        retry_again(&sink->retries, item->row, due_ns);
        return answers_retry(&sink->open, &stored, NULL);
    }
    struct retry_row row = {
        .lane = lane,
        .seq = stored.seq,
        .id = stored.id,
        .attempts = stored.attempts,
        .first_ns = stored.first_ns,
        .due_ns = due_ns,
        .size = stored.size,
        .key = stored.key_hash,
    };
    int code = retry_add(&sink->retries, &row, NULL);
    return code == SPOOL_OK ? answers_retry(&sink->open, &stored, bench_view(bench, item)) : code;
}

static int bury(struct sink *sink, struct bench *bench, struct bench_item *item, int lane, uint64_t now_ns)
{
    struct store_retry stored;
    make_row(bench, item, lane, true, 0, &stored);
    stored.failed_ns = now_ns;
    sink->buried++;
    if (item->row)
        retry_over(&sink->retries, item->row);
    return answers_dead(&sink->open, &stored, now_ns, item->row ? NULL : bench_view(bench, item));
}

/* An event of the log is counted with the cursor, one of the retry table with its row. */
static int finish(struct sink *sink, const struct bench_item *item, int lane, enum store_end end)
{
    struct answers *open = &sink->open;
    if (item->row) {
        retry_over(&sink->retries, item->row);
        return answers_done(open, &(struct store_done){.lane = lane, .seq = item->seq, .end = end});
    }
    open->delivered[lane] += end == STORE_END_DELIVERED;
    open->filtered += end == STORE_END_FILTERED;
    if (end == STORE_END_EXPIRED || end == STORE_END_DAMAGED)
        store_drops_note(&open->drops, store_end_drop(end), lane, item->seq + 1, 1);
    return SPOOL_OK;
}

static int apply_item(struct delivery *d, struct sink *sink, struct bench *bench, struct bench_item *item, int lane,
                      uint64_t now_ns)
{
    switch ((enum verdict)item->verdict) {
    case VERDICT_OPEN:
        if (item->row)
            retry_untake(&sink->retries, item->row);
        return SPOOL_OK;
    case VERDICT_RETRY:
    case VERDICT_PARKED:
        return put_again(d, sink, bench, item, lane, now_ns);
    case VERDICT_REJECTED:
        return bury(sink, bench, item, lane, now_ns);
    case VERDICT_DELIVERED:
        sink->delivered++;
        return finish(sink, item, lane, STORE_END_DELIVERED);
    case VERDICT_FILTERED:
        return finish(sink, item, lane, STORE_END_FILTERED);
    case VERDICT_EXPIRED:
        return finish(sink, item, lane, STORE_END_EXPIRED);
    case VERDICT_DAMAGED:
        return finish(sink, item, lane, STORE_END_DAMAGED);
    }
    return SPOOL_EINTERNAL;
}

/* The spans of events that have an answer, or have none. */
static size_t collect_spans(struct bench *bench, bool open)
{
    size_t n = 0;
    for (size_t i = 0; i < bench->count; i++) {
        uint64_t seq = bench->items[i].seq;
        if ((bench->items[i].verdict == VERDICT_OPEN) != open)
            continue;
        if (n > 0 && bench->spans[n - 1].end == seq)
            bench->spans[n - 1].end++;
        else
            bench->spans[n++] = (struct window_span){seq, seq + 1};
    }
    return n;
}

/* Events with an answer are finished, those without are gaps again. */
static int apply_window(struct delivery *d, struct sink *sink, const struct batch *batch, struct bench *bench)
{
    struct window *w = &sink->windows[batch->lane];
    int code = window_set(w, bench->spans, collect_spans(bench, false), WINDOW_FINISHED);
    size_t open = code == SPOOL_OK ? collect_spans(bench, true) : 0;
    if (open == 0)
        return code;
    sink_take_back_ready(d, sink); /* what was cut behind the gaps is not next any more */
    return window_set(w, bench->spans, open, WINDOW_GAP);
}

void judge_apply(struct delivery *d, struct sink *sink, const struct batch *batch, struct bench *bench, uint64_t now_ns)
{
    int code = SPOOL_OK;
    bool was_pending = sink->open.any, answered = false;
    for (size_t i = 0; i < bench->count && code == SPOOL_OK; i++) {
        answered |= bench->items[i].verdict != VERDICT_OPEN;
        code = receipt_note(d, sink, bench, &bench->items[i]);
        if (code == SPOOL_OK)
            code = apply_item(d, sink, bench, &bench->items[i], batch->lane, now_ns);
    }
    if (code == SPOOL_OK && batch->kind == BATCH_LOG)
        code = apply_window(d, sink, batch, bench);
    if (code != SPOOL_OK) { /* half applied: what the store knows is whole */
        sink->reload = true;
        sink_error(sink, err_last());
        return;
    }
    sink->open.any |= answered;
    sink->open.upto = ++sink->given;
    if (sink->open.any && !was_pending)
        pthread_cond_signal(&d->ack);
}

/* --------------------------------------------------------------------------------------------------------- telling */

void judge_tell(const struct delivery *d, const struct sink *sink, const struct bench *bench)
{
    uint64_t expired = 0, damaged = 0;
    for (size_t i = 0; i < bench->count; i++) {
        const struct bench_item *item = &bench->items[i];
        expired += item->verdict == VERDICT_EXPIRED;
        damaged += item->verdict == VERDICT_DAMAGED;
        if (item->verdict == VERDICT_REJECTED)
            notify(&d->reporter, SPOOL_NOTICE_DEAD_LETTER, sink->name, &bench->views[i].id, 1, "dead letter: %s",
                   bench_reason(bench, item));
    }
    if (expired > 0)
        notify(&d->reporter, SPOOL_NOTICE_DROPPED, sink->name, NULL, expired,
               "%llu events were older than their time to live and not delivered", (unsigned long long)expired);
    if (damaged > 0)
        notify(&d->reporter, SPOOL_NOTICE_DROPPED, sink->name, NULL, damaged,
               "%llu events are damaged and were not delivered", (unsigned long long)damaged);
}
