/* receipt.c - what became of an event at each sink, told from what is there anyway: its place in the log, the sinks'
 * cursors and ranges, the retry table, the dead letters. */
#include "handle.h"

const char *spool_receipt_state_name(enum spool_receipt_state state)
{
    static const char *const names[] = {
        [SPOOL_RECEIPT_QUEUED] = "queued",     [SPOOL_RECEIPT_IN_FLIGHT] = "in flight",
        [SPOOL_RECEIPT_RETRYING] = "retrying", [SPOOL_RECEIPT_DELIVERED] = "delivered",
        [SPOOL_RECEIPT_DEAD] = "dead",         [SPOOL_RECEIPT_EXPIRED] = "expired",
        [SPOOL_RECEIPT_FILTERED] = "filtered", [SPOOL_RECEIPT_DAMAGED] = "damaged",
        [SPOOL_RECEIPT_SKIPPED] = "skipped",   [SPOOL_RECEIPT_OVER] = "over",
        [SPOOL_RECEIPT_GONE] = "gone",         [SPOOL_RECEIPT_SENT] = "sent (best effort)",
        [SPOOL_RECEIPT_PURGED] = "purged",
    };
    return (unsigned)state < sizeof names / sizeof *names ? names[state] : "unknown";
}

enum { DEAD_SINKS_MAX = 64 };

struct asking {
    struct spool *spool;
    const struct spool_id *id;
    int (*each)(void *user, const struct spool_receipt *receipt);
    void *user;
    struct event_place place; /* event NULL: it is not in the log */
    bool gone;                /* older than all that is in the log */
    char dead[DEAD_SINKS_MAX][SINK_NAME_MAX + 1];
    size_t dead_count, told;
    int stopped; /* what `each` returned */
};

static int tell(struct asking *a, const struct spool_receipt *receipt)
{
    a->told++;
    return a->stopped = a->each(a->user, receipt);
}

/* ---------------------------------------------------------------------------------------------------- dead letters */

static int tell_dead(void *user, const struct store_dead *dead)
{
    struct asking *a = user;
    struct history_texts history;
    history_texts(dead->attempts, dead->attempt_count, &history);
    if (a->dead_count < DEAD_SINKS_MAX)
        memcpy(a->dead[a->dead_count++], dead->sink, sizeof dead->sink);
    const struct spool_receipt receipt = {
        .size = sizeof receipt,
        .sink = dead->sink,
        .id = dead->row.id,
        .state = SPOOL_RECEIPT_DEAD,
        .attempts = dead->row.attempts,
        .at_ns = dead->died_ns,
        .reason = dead->row.reason,
        .history = history.attempts,
        .history_count = dead->attempt_count,
    };
    return tell(a, &receipt);
}

static bool is_dead(const struct asking *a, const char *sink)
{
    for (size_t i = 0; i < a->dead_count; i++)
        if (strcmp(a->dead[i], sink) == 0)
            return true;
    return false;
}

/* --------------------------------------------------------------------------------------------------------- retries */

struct row_search {
    const struct spool_id *id;
    struct store_retry row;
    bool found;
};

static int look_at_row(void *user, const struct store_retry *row)
{
    struct row_search *search = user;
    if (spool_id_compare(&row->id, search->id) != 0)
        return 0;
    search->row = *row;
    return search->found = true;
}

/* A row without a failure was put back into the queue, or waits behind one of its key. */
static void describe_row(const struct asking *a, const struct store_sink *sink, const struct store_retry *row,
                         struct spool_receipt *ret)
{
    ret->state = row->attempts ? SPOOL_RECEIPT_RETRYING : SPOOL_RECEIPT_QUEUED;
    if (delivery_is_in_flight(a->spool->delivery, sink->name, row->lane, row->seq))
        ret->state = SPOOL_RECEIPT_IN_FLIGHT;
    ret->attempts = row->attempts;
    ret->due_ns = row->due_ns;
    ret->reason = row->reason;
}

static void describe_purged(const struct store_purged *purged, struct spool_receipt *ret)
{
    ret->state = SPOOL_RECEIPT_PURGED;
    ret->at_ns = purged->at_ns;
    ret->reason = purged->by_limit ? "went by a limit of dead letters" : "was purged";
}

/* ------------------------------------------------------------------------------------------------- the place in the log */

static bool is_finished(const struct store_sink *sink, int lane, uint64_t seq)
{
    if (seq < sink->cursor[lane])
        return true;
    for (uint32_t i = 0; i < sink->range_count[lane]; i++)
        if (seq >= sink->ranges[lane][i].first && seq < sink->ranges[lane][i].first + sink->ranges[lane][i].count)
            return true;
    return false;
}

static bool is_expired(const struct asking *a)
{
    const struct spool_event *event = a->place.event;
    uint64_t now_ns = hlc_physical_ns(a->spool->clock), born_ns = spool_id_time_ns(a->id);
    return event->ttl_ms && now_ns > born_ns && (now_ns - born_ns) / NS_PER_MS > event->ttl_ms;
}

/* The sink has passed it, but what became of it is not kept. */
static bool may_be_dropped(const struct asking *a, const struct store_sink *sink)
{
    return (is_expired(a) && sink->dropped) || a->place.seq < sink->drops.upto[a->place.lane];
}

/* As the sink's filter is now: it may have been another one when the event went by. */
static int is_filtered(const struct asking *a, const struct store_sink *sink, bool *ret)
{
    struct delivery_registration registration;
    char *text = NULL;
    bool passes = true;
    int code = store_sink_config(a->spool->store, sink->name, &text);
    if (!code)
        code = delivery_registration_read(text, &registration);
    if (code) {
        free(text);
        return code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED ? SPOOL_OK : code;
    }
    if (registration.filter)
        code = delivery_filter_passes(registration.filter, a->place.event, &passes);
    delivery_registration_free(&registration);
    *ret = !passes;
    return code;
}

static void describe_over(const struct asking *a, struct spool_receipt *ret)
{
    ret->state = SPOOL_RECEIPT_OVER;
    ret->reason = is_expired(a) ? "delivered, or expired before; which is not kept"
                                : "delivered, or dropped by a limit or for damage; which is not kept";
}

static int describe_place(const struct asking *a, const struct store_sink *sink, struct spool_receipt *ret)
{
    int lane = a->place.lane;
    uint64_t seq = a->place.seq;
    bool filtered = false, finished = is_finished(sink, lane, seq);
    int code = is_filtered(a, sink, &filtered);
    if (seq < sink->start[lane])
        ret->state = SPOOL_RECEIPT_SKIPPED;
    else if (filtered)
        ret->state = SPOOL_RECEIPT_FILTERED;
    else if (!finished && delivery_is_in_flight(a->spool->delivery, sink->name, lane, seq))
        ret->state = SPOOL_RECEIPT_IN_FLIGHT;
    else if (!finished)
        ret->state = is_expired(a) ? SPOOL_RECEIPT_EXPIRED : SPOOL_RECEIPT_QUEUED;
    else if (may_be_dropped(a, sink))
        describe_over(a, ret);
    else
        ret->state = sink->best_effort ? SPOOL_RECEIPT_SENT : SPOOL_RECEIPT_DELIVERED;
    return code;
}

/* -------------------------------------------------------------------------------------------------------- the whole */

static int tell_sink(void *user, const struct store_sink *sink)
{
    struct asking *a = user;
    struct row_search search = {.id = a->id};
    struct spool_receipt receipt = {.size = sizeof receipt, .sink = sink->name, .id = *a->id, .reason = ""};
    struct store_purged purged;
    if (is_dead(a, sink->name))
        return 0;
    int code = sink->retry_rows ? store_retry_each(a->spool->store, sink->id, look_at_row, &search) : SPOOL_OK;
    if (!search.found && code)
        return code;
    int found = search.found ? SPOOL_OK : store_purged_find(a->spool->store, sink->id, a->id, &purged);
    if (found && found != SPOOL_ENOTFOUND)
        return found;
    if (search.found)
        describe_row(a, sink, &search.row, &receipt);
    else if (!found)
        describe_purged(&purged, &receipt);
    else if (a->place.event)
        code = describe_place(a, sink, &receipt);
    else if (a->gone)
        receipt.state = SPOOL_RECEIPT_GONE;
    else
        return 0;
    if (code && !search.found)
        return code;
    return tell(a, &receipt);
}

/* Is it older than the first event of every lane? Then its segment was deleted, or it never was. */
static int look_whether_gone(struct asking *a)
{
    uint64_t first[LANES], next[LANES], skip_to;
    int code = store_bounds(a->spool->store, first, next);
    a->gone = !code && spool_id_time_ns(a->id) <= hlc_physical_ns(a->spool->clock);
    for (int lane = 0; lane < LANES && !code && a->gone; lane++) {
        struct store_block *block;
        if (next[lane] <= first[lane] ||
            store_read(a->spool->store, lane, first[lane], deadline_in_ms(5000), &block, &skip_to))
            continue;
        a->gone = spool_id_compare(a->id, &block->min_id) < 0;
        store_block_unref(block);
    }
    return code;
}

/* What is in our own journal is brought into the log and looked for again. */
static int find_place(struct asking *a)
{
    int code = find_in_log(a->spool, a->id, &a->place);
    if (code == SPOOL_ENOTFOUND && !store_is_read_only(a->spool->store)) {
        code = store_commit(a->spool->store, deadline_in_ms(5000));
        code = code ? code : find_in_log(a->spool, a->id, &a->place);
    }
    return code == SPOOL_ENOTFOUND ? look_whether_gone(a) : code;
}

static int ask(struct asking *a)
{
    int code = find_place(a);
    if (!code)
        code = store_dead_find(a->spool->store, NULL, a->id, tell_dead, a);
    if (!code)
        code = store_sink_each(a->spool->store, tell_sink, a);
    if (code || a->told || a->place.event || a->gone)
        return code;
    return err_set(SPOOL_ENOTFOUND, "%s: no such event: it was never stored here, or is not committed yet",
                   a->spool->dir);
}

int spool_receipt(struct spool *spool, const struct spool_id *id,
                  int (*each)(void *user, const struct spool_receipt *receipt), void *user)
{
    struct asking a = {.spool = spool, .id = id, .each = each, .user = user};
    int code = handle_check(spool);
    if (!code && (!id || !each))
        code = err_set(SPOOL_EINVAL, "spool_receipt: NULL is given");
    if (!code && !id_is_valid(id))
        code = err_set(SPOOL_EID, "not a UUIDv7");
    if (!code)
        code = ask(&a);
    spool_event_free(a.place.event);
    return code;
}
