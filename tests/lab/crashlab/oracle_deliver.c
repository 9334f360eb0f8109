/* oracle_deliver.c - the last proof: what waited for a sink does reach it, once and in order, and nothing else does.
 *
 * Every registered sink is served by one of ours under its name. Where no sink is registered, a new one gets all of the
 * log. */
#include "oracle.h"

#include <unistd.h>

enum { PATIENCE_MS = 20000, ARRIVAL_MS = 1000 };

struct serving {
    struct oracle *oracle;
    struct scene_sink sink;
    int number;             /* in the promise; -1: our own */
    unsigned *heard, *last; /* by place in promise.events: how often, and as which delivery */
    unsigned count, probes, strange;
    unsigned expected; /* deliveries, with the probes */
    atomic_uint arrived;
};

struct delivering {
    struct oracle *oracle;
    struct serving servings[SINKS_OF_LAB_MAX];
    unsigned n;
};

/* ---------------------------------------------------------------------------------------------------------- hearing */

/* On the sink's worker, one batch at a time. */
static void hear(void *user, const struct scene_sink *sink, const struct spool_delivery *delivery)
{
    (void)sink;
    struct serving *serving = user;
    const struct promise *promise = &serving->oracle->promise;
    uint32_t producer = 0, number = 0;
    bool whole = lab_event_read(delivery->event, &producer, &number);
    const struct promise_event *event = whole ? promise_find(promise, producer, number) : NULL;
    if (whole && producer == PROBE_PRODUCER) {
        serving->probes |= 1u << number;
    } else if (!event) {
        serving->strange++;
    } else {
        serving->heard[event - promise->events]++;
        serving->last[event - promise->events] = ++serving->count;
    }
    atomic_fetch_add(&serving->arrived, 1);
}

/* --------------------------------------------------------------------------------------------------------------
 * serving */

static bool waited(const struct serving *serving, const struct promise_event *event)
{
    const struct found *found = &serving->oracle->found;
    const struct store_sink *sink = found_sink(found, serving->sink.name);
    if (!sink)
        return found_in_log(found, event->frame.producer, event->number) != NULL;
    return found_waits(found, sink, event->frame.producer, event->number);
}

static unsigned count_expected(const struct serving *serving)
{
    const struct promise *promise = &serving->oracle->promise;
    unsigned n = SPOOL_PRIORITIES;
    for (size_t i = 0; i < promise->n; i++)
        n += waited(serving, &promise->events[i]);
    return n;
}

static bool add_serving(struct delivering *delivering, struct scene_sink sink, int number)
{
    struct oracle *oracle = delivering->oracle;
    struct serving *serving = &delivering->servings[delivering->n++];
    serving->oracle = oracle;
    serving->number = number;
    serving->heard = calloc(oracle->promise.n + 1, sizeof *serving->heard);
    serving->last = calloc(oracle->promise.n + 1, sizeof *serving->last);
    if (!serving->heard || !serving->last)
        return oracle_fails(oracle, ENOMEM, "delivering");
    serving->sink = sink;
    serving->sink.dir = oracle->dir;
    serving->sink.heard = hear;
    serving->sink.user = serving;
    serving->expected = sink.config ? 0 : count_expected(serving);
    int code = scene_sink_add(oracle->spool, &serving->sink);
    return !code || oracle_fails(oracle, code, "adding its sink");
}

static struct scene_sink sink_of(const struct mark_sink *mark)
{
    return (struct scene_sink){
        .name = mark->name,
        .order = (enum spool_order)mark->order,
        .workers = mark->workers, /* which take turns: this process has one thread for all of them */
        .keeps_file = strcmp(mark->kind, "lab-file") == 0,
        .config = mark->config[0] ? mark->config : NULL,
    };
}

static bool serve_found(struct delivering *delivering, const struct store_sink *found)
{
    const struct promise *promise = &delivering->oracle->promise;
    for (int i = 0; i < SINKS_OF_LAB_MAX; i++) {
        const struct mark_sink *mark = &promise->sinks[i].mark;
        if (strcmp(mark->name, found->name) != 0)
            continue;
        if (found->paused && spool_sink_resume(delivering->oracle->spool, found->name))
            return oracle_fails(delivering->oracle, SPOOL_EINTERNAL, "resuming its sink");
        return add_serving(delivering, sink_of(mark), i);
    }
    snprintf(delivering->oracle->why, delivering->oracle->why_size, "nobody registered a sink %s", found->name);
    return false;
}

static bool serve_all(struct delivering *delivering)
{
    const struct found *found = &delivering->oracle->found;
    for (size_t i = 0; i < found->sink_count; i++) {
        if (!serve_found(delivering, &found->sinks[i]))
            return false;
    }
    return found->sink_count || add_serving(delivering, (struct scene_sink){.name = "oracle"}, -1);
}

/* ---------------------------------------------------------------------------------------------------------- judging */

static bool serving_fails(const struct serving *serving, const struct promise_event *event, const char *what)
{
    snprintf(serving->oracle->why, serving->oracle->why_size, "sink %s, event %u of producer %u: %s",
             serving->sink.name, event->number, event->frame.producer, what);
    return false;
}

static bool got_what_waited(const struct serving *serving)
{
    const struct promise *promise = &serving->oracle->promise;
    for (size_t i = 0; i < promise->n; i++) {
        bool waits = waited(serving, &promise->events[i]);
        if (waits && !serving->heard[i])
            return serving_fails(serving, &promise->events[i], "it waited, and was not delivered");
        if (!waits && serving->heard[i])
            return serving_fails(serving, &promise->events[i], "it was delivered, though it did not wait");
        if (serving->heard[i] > 1)
            return serving_fails(serving, &promise->events[i], "it was delivered twice without need");
    }
    if (serving->probes == (1u << SPOOL_PRIORITIES) - 1 && !serving->strange)
        return true;
    snprintf(serving->oracle->why, serving->oracle->why_size,
             "sink %s got %u events that nobody enqueued, and of the new ones %x", serving->sink.name, serving->strange,
             serving->probes);
    return false;
}

/* Of one producer and priority, and of one agent where agents have an order of their own. */
static bool has_order(const struct serving *serving, const struct promise_event *a, const struct promise_event *b)
{
    if (a->frame.producer != b->frame.producer || a->frame.priority != b->frame.priority)
        return false;
    if (serving->sink.order == SPOOL_ORDER_LANE)
        return true;
    return serving->sink.order == SPOOL_ORDER_AGENT && a->frame.agents > 0 && a->frame.agents == b->frame.agents &&
           a->number % a->frame.agents == b->number % b->frame.agents;
}

/* For an ordered sink; refused events excepted, which may come later. */
static bool got_in_order(const struct serving *serving)
{
    const struct promise *promise = &serving->oracle->promise;
    for (size_t i = 0; serving->sink.order != SPOOL_ORDER_NONE && i < promise->n; i++) {
        const struct promise_event *a = &promise->events[i];
        for (size_t j = 0; j < promise->n; j++) {
            const struct promise_event *b = &promise->events[j];
            if (a->was_dead || b->was_dead || !serving->heard[i] || !serving->heard[j] || a->number >= b->number ||
                !has_order(serving, a, b))
                continue;
            if (serving->last[i] > serving->last[j])
                return serving_fails(serving, a, "it was delivered behind a later one");
        }
    }
    return true;
}

static bool judge_delivery(struct delivering *delivering)
{
    for (unsigned i = 0; i < delivering->n; i++) {
        const struct serving *serving = &delivering->servings[i];
        if (!serving->sink.config && (!got_what_waited(serving) || !got_in_order(serving)))
            return false;
        if (!oracle_check_files(serving->oracle, &serving->sink, serving->number))
            return false;
    }
    return true;
}

/* Asked to drain only now, the spool need not wait for its next round of acknowledgements: that saves 20 ms an image.
 */
static void wait_for_arrivals(const struct delivering *delivering)
{
    uint64_t deadline = deadline_in_ms(ARRIVAL_MS);
    for (unsigned i = 0; i < delivering->n; i++) {
        const struct serving *serving = &delivering->servings[i];
        while (atomic_load(&serving->arrived) < serving->expected && mono_ns() < deadline)
            usleep(100);
    }
}

static bool run_delivery(struct delivering *delivering)
{
    struct oracle *oracle = delivering->oracle;
    int code = spool_start(oracle->spool);
    if (!code)
        code = scene_commit(oracle->spool);
    if (!code)
        wait_for_arrivals(delivering);
    if (!code)
        code = spool_drain(oracle->spool, PATIENCE_MS);
    int stopped = spool_stop(oracle->spool, PATIENCE_MS);
    code = code ? code : stopped;
    return !code || oracle_fails(oracle, code, "draining it");
}

bool oracle_deliver(struct oracle *oracle)
{
    struct delivering delivering = {.oracle = oracle};
    bool right = serve_all(&delivering) && run_delivery(&delivering) && judge_delivery(&delivering);
    if (oracle->spool) { /* no sink may be used once its memory is gone */
        spool_close(oracle->spool);
        oracle->spool = NULL;
    }
    for (unsigned i = 0; i < delivering.n; i++) {
        free(delivering.servings[i].heard);
        free(delivering.servings[i].last);
    }
    return right;
}
