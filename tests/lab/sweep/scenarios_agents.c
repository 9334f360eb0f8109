/* scenarios_agents.c - agents side by side with a named resource, while calls fail: no agent has two batches at once, none
 * of its events comes before an earlier one, and no more than allowed have the resource, batches and operations together.
 * The sink is called "spare": the judge removes it. */
#include "run.h"

#include <string.h>

enum { DRAIN_MS = 400, WAIT_MS = 20000, API = 2, OPS = 12, AGENTS = 2 };
static _Atomic uint32_t users;         /* that have the resource now */
static _Atomic uint32_t hands[AGENTS]; /* batches that have events of the agent now */

static void begin_use(void)
{
    if (atomic_fetch_add(&users, 1) >= API)
        violation("more batches and operations than allowed have the resource");
    sleep_ms(2);
}

static void end_use(void)
{
    atomic_fetch_sub(&users, 1);
}

static int operate(struct spool_op *op, void *user)
{
    (void)op, (void)user;
    begin_use();
    end_use();
    return 0;
}

/* ----------------------------------------------------------------------------------------------------------- the sink */

static uint32_t number_of(const struct spool_delivery *delivery)
{
    uint32_t n = 0;
    if (!body_number(delivery->event->body, delivery->event->body_size, &n))
        violation("sink spare was given an event that nobody enqueued");
    return n;
}

/* Of its agent and priority all before it were delivered, or it is out of order. */
static void check_order(const struct spool_event *event, uint32_t n)
{
    for (uint32_t before = n % AGENTS; before < n; before += AGENTS) {
        if (run_priority(before) == event->priority && !atomic_load(&ledger->spare[before]))
            violation("event %u of agent %s came before event %u", n, event->agent, before);
    }
}

/* Some fail once: what is behind them of their agent has to wait. */
static void answer_one(struct spool_delivery *delivery, bool failed[AGENTS])
{
    uint32_t n = number_of(delivery);
    if (failed[n % AGENTS])
        return; /* untried: it takes nothing behind what it did not take */
    check_order(delivery->event, n);
    failed[n % AGENTS] = n % 5 == 2 && delivery->attempt == 1;
    if (failed[n % AGENTS]) {
        spool_delivery_fail(delivery, SPOOL_RETRY, "not now: %u", n);
        return;
    }
    atomic_fetch_add(&ledger->spare[n], 1);
    delivery->outcome = SPOOL_DELIVERED;
}

static void take_in_hand(struct spool_delivery *batch, size_t count, bool mine[AGENTS])
{
    for (size_t i = 0; i < count; i++) {
        uint32_t agent = number_of(SPOOL_DELIVERY_AT(batch, i)) % AGENTS;
        if (!mine[agent] && atomic_fetch_add(&hands[agent], 1) > 0)
            violation("two batches have events of one agent");
        mine[agent] = true;
    }
}

static int deliver(void *state, struct spool_delivery *batch, size_t count)
{
    bool mine[AGENTS] = {false}, failed[AGENTS] = {false};
    (void)state;
    fault_pause();
    begin_use();
    take_in_hand(batch, count, mine);
    for (size_t i = 0; i < count; i++)
        answer_one(SPOOL_DELIVERY_AT(batch, i), failed);
    for (int agent = 0; agent < AGENTS; agent++)
        atomic_fetch_sub(&hands[agent], mine[agent]);
    end_use();
    fault_resume();
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- the scenario */

static int add_sink(struct spool *spool)
{
    struct spool_sink sink = {.abi = SPOOL_SINK_ABI, .size = sizeof sink, .kind = "laboratory", .deliver = deliver};
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.retry_base_ms = 1, .retry_cap_ms = 5, .batch_events_max = 3, .workers = 3,
                           .order = SPOOL_ORDER_AGENT, .resources = "api*1");
    return spool_sink_add(spool, "spare", &sink, NULL, &options);
}

static void operate_beside(struct spool *spool)
{
    static const struct spool_op_resource api = {.name = "api", .mode = SPOOL_OP_SHARED};
    struct spool_op *ops[OPS] = {NULL};
    for (int i = 0; i < OPS; i++) {
        struct spool_op_options options =
            SPOOL_OP_OPTIONS(.name = "beside", .run = operate, .resources = &api, .resource_count = 1);
        if (!answered("spool_op_submit", spool_op_submit(spool, &options, &ops[i])))
            ops[i] = NULL;
    }
    for (int i = 0; i < OPS; i++) {
        if (!ops[i])
            continue;
        answered("spool_op_wait", spool_op_wait(ops[i], WAIT_MS, NULL));
        spool_op_free(ops[i]);
    }
}

void run_agents(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    ledger->spare_sink = true;
    must_work("spool_op_set_capacity", spool_op_set_capacity(spool, "api", API));
    fault_arm(true);
    bool added = answered("spool_sink_add", add_sink(spool));
    bool started = answered("spool_start", spool_start(spool));
    operate_beside(spool);
    bool drained = started && answered("spool_drain", spool_drain(spool, DRAIN_MS)) && added;
    for (uint32_t n = 0; drained && n < ledger->event_count; n++) {
        if (!atomic_load(&ledger->spare[n]))
            violation("drained, but event %u has not been delivered", n);
    }
    run_end_of(spool);
}
