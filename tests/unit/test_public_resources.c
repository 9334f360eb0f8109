/* test_public_resources.c - named resources that batches of sinks and operations share: who waits for whom, what is told
 * of it, that nobody gets more than there is, and that neither starves the other. */
#include <sched.h>

#include "../../delivery/engine.h"
#include "../../lib/handle.h"
#include "ops_fixture.h"
#include "scratch_fixture.h"

static struct spool *open_spool(void)
{
    struct spool *spool = NULL;
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = 64 << 20, .segment_bytes = 1 << 20,
                                                 .journal_bytes = 256 << 10, .durability = SPOOL_DURABLE_PROCESS,
                                                 .on_notice = note_told, .op_workers = 4, .op_bypasses_max = 4);
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

/* ---------------------------------------------------------------------------------------------------- a sink at a gate */

struct gated {
    atomic_uint begun, delivered;
    atomic_bool gate;
    struct spool_op *wait_for; /* deliver tries to wait for it */
    atomic_int code;
    char message[600];
};

static int gated_open(void **ret_state, void *user, const char *config, const void *checkpoint, size_t size)
{
    (void)config, (void)checkpoint, (void)size;
    *ret_state = user;
    return SPOOL_OK;
}

static int gated_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct gated *gated = state;
    if (gated->wait_for) {
        int code = spool_op_wait(gated->wait_for, 1000, NULL); /* a deadlock is told at once */
        snprintf(gated->message, sizeof gated->message, "%s", spool_last_error());
        atomic_store(&gated->code, code);
    }
    atomic_fetch_add(&gated->begun, 1);
    while (!atomic_load(&gated->gate))
        usleep(200);
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    atomic_fetch_add(&gated->delivered, (unsigned)n);
    return SPOOL_OK;
}

static const struct spool_sink gated_hooks = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "gated",
    .open = gated_open,
    .deliver = gated_deliver,
};

static void add_gated(struct spool *spool, const char *name, struct gated *gated, const char *resources)
{
    ck_ok(spool_sink_add(spool, name, &gated_hooks, NULL,
                         &SPOOL_SINK_OPTIONS(.user = gated, .resources = resources, .batch_events_max = 1)));
}

static void put_events(struct spool *spool, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        ck_ok(spool_enqueue(spool, &SPOOL_EVENT(.type = "t", .body = "{}", .body_size = 2), NULL));
}

/* ------------------------------------------------------------------------------------------------------ what is told */

/* Of a sink, or of the first batch or operation that matches. */
struct seen {
    const char *sink, *op;
    bool found;
    enum spool_op_state state;
    uint64_t holder;
    char resources[512], waits_for[512], holder_name[300];
};

static int see_op(void *user, const struct spool_op_info *info)
{
    struct seen *seen = user;
    bool matches = seen->sink ? info->sink && strcmp(info->sink, seen->sink) == 0
                              : !info->sink && strcmp(info->name, seen->op) == 0;
    if (!matches || seen->found)
        return 0;
    seen->found = true;
    seen->state = info->state;
    seen->holder = info->holder;
    snprintf(seen->resources, sizeof seen->resources, "%s", info->resources);
    snprintf(seen->waits_for, sizeof seen->waits_for, "%s", info->waits_for);
    snprintf(seen->holder_name, sizeof seen->holder_name, "%s", info->holder_name);
    return 0;
}

static struct seen look(struct spool *spool, const char *sink, const char *op)
{
    struct seen seen = {.sink = sink, .op = op};
    ck_ok(spool_op_each(spool, see_op, &seen));
    return seen;
}

static int see_sink(void *user, const struct spool_sink_info *info)
{
    struct seen *seen = user;
    if (strcmp(info->name, seen->sink) != 0)
        return 0;
    seen->found = true;
    snprintf(seen->resources, sizeof seen->resources, "%s", info->resources);
    snprintf(seen->waits_for, sizeof seen->waits_for, "%s", info->waits_for);
    return 0;
}

static struct seen look_at_sink(struct spool *spool, const char *sink)
{
    struct seen seen = {.sink = sink};
    ck_ok(spool_sink_each(spool, see_sink, &seen));
    ck_assert(seen.found);
    return seen;
}

/* Fails as soon as a batch does not. */
static void until_it_waits(struct spool *spool, const char *sink, struct gated *gated)
{
    ck_until(gated->begun > 0 || look(spool, sink, NULL).state == SPOOL_OP_WAITING);
    ck_assert_msg(gated->begun == 0, "a batch of sink %s began without waiting for what it needs", sink);
}

/* ------------------------------------------------------------------------------------------------------------- tests */

START_TEST(a_batch_waits_for_what_an_operation_holds)
{
    struct spool *spool = open_spool();
    struct gated gated = {.gate = true};
    struct probe train = {.deaf = true};
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&train, .name = "train", NEEDS(ALL("gpu"))), &train.op));
    ck_until(train.runs == 1);
    add_gated(spool, "s", &gated, " gpu , api:x*2 ");
    put_events(spool, 3);
    ck_ok(spool_start(spool));
    until_it_waits(spool, "s", &gated);
    struct seen batch = look(spool, "s", NULL), sink = look_at_sink(spool, "s");
    ck_assert_int_eq(batch.state, SPOOL_OP_WAITING);
    ck_assert_str_eq(batch.resources, "gpu, api:x (2 shared)");
    ck_assert_str_eq(batch.waits_for, "gpu");
    ck_assert_str_eq(batch.holder_name, "operation 1 \"train\"");
    ck_assert_str_eq(sink.resources, " gpu , api:x*2 ");
    ck_assert_str_eq(sink.waits_for, "gpu, held by operation 1 \"train\"");
    ck_assert_uint_eq(gated.begun, 0);
    atomic_store(&train.gate, true);
    ck_until(gated.delivered == 3);
    ck_until(*look_at_sink(spool, "s").waits_for == '\0');
    spool_op_free(train.op);
    ck_ok(spool_close(spool));
}
END_TEST

/* Waits are told from a minute on: here this one's minute is over sooner, once it is known of. Returns since when it waits. */
static uint64_t hasten_overdue(struct spool *spool, uint64_t ms)
{
    struct delivery *d = spool->delivery;
    uint64_t since_ns = 0;
    while (since_ns == 0) {
        pthread_mutex_lock(d->lock);
        since_ns = d->sinks->waits_since_ns;
        if (since_ns > 0)
            d->sinks->overdue_ms = ms;
        pthread_mutex_unlock(d->lock);
        sched_yield();
    }
    return since_ns;
}

START_TEST(a_batch_that_waits_for_long_is_told)
{
    struct spool *spool = open_spool();
    struct gated gated = {.gate = true};
    struct probe train = {.deaf = true};
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&train, .name = "train", NEEDS(ALL("gpu"))), &train.op));
    ck_until(train.runs == 1);
    add_gated(spool, "s", &gated, "gpu");
    put_events(spool, 1);
    ck_ok(spool_start(spool));
    until_it_waits(spool, "s", &gated);
    uint64_t since_ns = hasten_overdue(spool, 1);
    ck_until(was_told("a batch of sink s waits for ") == 1);
    ck_assert_uint_eq(was_told("s: it waits for gpu, held by operation 1 \"train\""), 1);
    pthread_mutex_lock(spool->delivery->lock);
    uint64_t again_ms = spool->delivery->sinks->overdue_ms; /* twice what it was then */
    pthread_mutex_unlock(spool->delivery->lock);
    ck_assert_uint_ge(again_ms, 2);
    ck_assert_uint_le(again_ms, 2 * ((mono_ns() - since_ns) / NS_PER_MS));
    atomic_store(&train.gate, true);
    ck_until(gated.delivered == 1);
    spool_op_free(train.op);
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(an_operation_waits_for_what_a_batch_holds)
{
    struct spool *spool = open_spool();
    struct gated gated = {.gate = false};
    struct probe train = {.gate = true}, other = {.deaf = true};
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&other, .name = "other"), &other.op));
    gated.wait_for = other.op;
    add_gated(spool, "s", &gated, "gpu*1");
    put_events(spool, 1);
    ck_ok(spool_start(spool));
    ck_until(gated.begun == 1);
    ck_assert_int_eq(gated.code, SPOOL_EDEADLK);
    ck_assert_msg(
        strstr(gated.message, "a batch of sink s (holds gpu (1 shared)) would wait for operation 1 \"other\""), "%s",
        gated.message);
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&train, .name = "train", NEEDS(ALL("gpu"))), &train.op));
    struct seen op = look(spool, NULL, "train"), batch = look(spool, "s", NULL);
    ck_assert_int_eq(op.state, SPOOL_OP_WAITING);
    ck_assert_str_eq(op.waits_for, "gpu");
    ck_assert_uint_eq(op.holder, 0);
    ck_assert_str_eq(op.holder_name, "a batch of sink s");
    ck_assert_int_eq(batch.state, SPOOL_OP_RUNNING);
    ck_assert_str_eq(batch.resources, "gpu (1 shared)");
    ck_code(spool_op_wait(train.op, 1, NULL), SPOOL_ETIMEOUT);
    ck_assert_msg(strstr(spool_last_error(), "held by a batch of sink s"), "%s", spool_last_error());
    atomic_store(&gated.gate, true);
    int result = 1;
    ck_ok(spool_op_wait(train.op, 60000, &result));
    ck_assert_int_eq(result, 0);
    atomic_store(&other.gate, true);
    spool_op_free(train.op);
    spool_op_free(other.op);
    ck_ok(spool_close(spool));
}
END_TEST

/* What needs two of three goes alone; nothing gets along with less than a sink needs. */
START_TEST(capacities_hold_for_sinks)
{
    struct spool *spool = open_spool();
    struct gated a = {.gate = false}, b = {.gate = false};
    ck_ok(spool_op_set_capacity(spool, "api", 3));
    add_gated(spool, "a", &a, "api*2");
    add_gated(spool, "b", &b, "api*2");
    ck_code(spool_sink_add(spool, "c", &gated_hooks, NULL, &SPOOL_SINK_OPTIONS(.user = &a, .resources = "api*4")),
            SPOOL_EINVAL);
    ck_code(spool_sink_remove(spool, "c"), SPOOL_ENOTFOUND); /* it was not registered either */
    ck_code(spool_op_set_capacity(spool, "api", 1), SPOOL_EBUSY);
    put_events(spool, 1);
    ck_ok(spool_start(spool));
    ck_until(a.begun + b.begun > 0);
    until_it_waits(spool, a.begun ? "b" : "a", a.begun ? &b : &a);
    ck_assert_uint_eq(a.begun + b.begun, 1);
    ck_ok(spool_op_set_capacity(spool, "api", 4)); /* that wakes it */
    ck_until(a.begun + b.begun == 2);
    atomic_store(&a.gate, true);
    atomic_store(&b.gate, true);
    ck_until(a.delivered == 1 && b.delivered == 1);
    ck_ok(spool_sink_remove(spool, "a"));
    ck_ok(spool_sink_remove(spool, "b"));
    ck_ok(spool_op_set_capacity(spool, "api", 1));
    ck_ok(spool_close(spool));
}
END_TEST

START_TEST(wrong_texts_are_refused)
{
    static const struct {
        const char *text;
        int code;
    } texts[] = {{"", 0},
                 {"  ", 0},
                 {"a", 0},
                 {"a b, c*1", 0},
                 {"a*b", 0},
                 {"a,a", SPOOL_EINVAL},
                 {"a*0", SPOOL_EINVAL},
                 {"a*", SPOOL_EINVAL},
                 {"*3", SPOOL_EINVAL},
                 {",a", SPOOL_EINVAL},
                 {"a,", SPOOL_EINVAL},
                 {"a*99999999999", SPOOL_EINVAL},
                 {"a\x01", SPOOL_EUTF8},
                 {"a, a*2", SPOOL_EINVAL},
                 {"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16", 0},
                 {"1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17", SPOOL_EINVAL}};
    struct spool *spool = open_spool();
    struct gated gated = {.gate = true};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int code = spool_sink_add(spool, "s", &gated_hooks, NULL,
                                  &SPOOL_SINK_OPTIONS(.user = &gated, .resources = texts[i].text));
        ck_assert_msg(code == texts[i].code, "\"%s\": %d, %s", texts[i].text, code, spool_last_error());
        if (code == SPOOL_OK)
            ck_ok(spool_sink_remove(spool, "s"));
    }
    ck_code(spool_sink_set_options(spool, "s", &SPOOL_SINK_OPTIONS(.resources = "x")), SPOOL_ENOTFOUND);
    add_gated(spool, "s", &gated, NULL);
    ck_code(spool_sink_set_options(spool, "s", &SPOOL_SINK_OPTIONS(.resources = "x")), SPOOL_EOPTION);
    ck_ok(spool_close(spool));
}
END_TEST

/* A stop does not wait for somebody who holds what a batch waits for. */
START_TEST(stops_while_a_batch_waits)
{
    struct spool *spool = open_spool();
    struct gated gated = {.gate = true};
    struct probe train = {0};
    ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&train, NEEDS(ALL("gpu"))), &train.op));
    ck_until(train.runs == 1);
    add_gated(spool, "s", &gated, "gpu");
    put_events(spool, 5);
    ck_ok(spool_start(spool));
    until_it_waits(spool, "s", &gated);
    ck_ok(spool_stop(spool, 4000)); /* after half of it the operation is cancelled */
    ck_assert_uint_eq(gated.begun, 0);
    ck_ok(spool_start(spool)); /* the operation was cancelled by the stop */
    ck_until(gated.delivered == 5);
    spool_op_free(train.op);
    ck_ok(spool_close(spool));
}
END_TEST

/* ----------------------------------------------------------------------------------------------------------- starving */

static struct spool *endless;

/* Each batch is followed by more events, so that a batch of the sink is always next. */
static int deliver_endlessly(void *state, struct spool_delivery *batch, size_t n)
{
    struct gated *gated = state;
    if (!atomic_load(&gated->gate))
        spool_enqueue(endless, &SPOOL_EVENT(.type = "t", .priority = SPOOL_CRITICAL, .body = "{}", .body_size = 2),
                      NULL);
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    atomic_fetch_add(&gated->delivered, 1);
    return SPOOL_OK;
}

/* Two sinks share the resource all the time, with critical events; an operation of low priority wants all of it, and gets
 * it. */
START_TEST(batches_do_not_starve_an_operation)
{
    struct spool *spool = endless = open_spool();
    struct spool_sink hooks = gated_hooks;
    struct gated sinks[2] = {{.gate = false}, {.gate = false}};
    hooks.deliver = deliver_endlessly;
    for (unsigned i = 0; i < 2; i++)
        ck_ok(spool_sink_add(
            spool, i ? "a" : "b", &hooks, NULL,
            &SPOOL_SINK_OPTIONS(.user = &sinks[i], .resources = "gpu*1", .workers = 2, .batch_events_max = 1)));
    put_events(spool, 100);
    ck_ok(spool_start(spool));
    ck_until(sinks[0].delivered > 20 && sinks[1].delivered > 20);
    for (unsigned i = 0; i < 20; i++) {
        struct probe probe = {.gate = true};
        int result = 1;
        ck_ok(spool_op_submit(spool, &PROBE_OPTIONS(&probe, .priority = SPOOL_LOW, NEEDS(ALL("gpu"))), &probe.op));
        ck_ok(spool_op_wait(probe.op, 60000, &result));
        ck_assert_int_eq(result, 0);
        spool_op_free(probe.op);
    }
    atomic_store(&sinks[0].gate, true);
    atomic_store(&sinks[1].gate, true);
    ck_ok(spool_close(spool));
}
END_TEST

/* -------------------------------------------------------------------------------------------- all of them, at random */

enum { NAMES = 3, SINKS = 4, OPS = 400, EVENTS = 300 };

static atomic_int shared_by[NAMES], whole_by[NAMES];
static atomic_uint too_much;

/* What one of them needs, as numbers: -1: all of it, 0: nothing. */
struct needs {
    int of[NAMES];
    atomic_uint ran;
};
enum { ROOM = 3 };

static void take_needs(const struct needs *needs, int sign)
{
    for (int i = 0; i < NAMES; i++) {
        if (needs->of[i] < 0)
            atomic_fetch_add(&whole_by[i], sign);
        else
            atomic_fetch_add(&shared_by[i], sign * needs->of[i]);
    }
}

static void hold_for_a_moment(struct needs *needs)
{
    take_needs(needs, 1);
    for (int i = 0; i < NAMES; i++) {
        int whole = atomic_load(&whole_by[i]), shared = atomic_load(&shared_by[i]);
        bool mine = needs->of[i] != 0;
        if (mine && (whole > 1 || (whole == 1 && shared > 0) || shared > ROOM))
            atomic_fetch_add(&too_much, 1);
    }
    sched_yield();
    take_needs(needs, -1);
    atomic_fetch_add(&needs->ran, 1);
}

static int run_needs(struct spool_op *op, void *user)
{
    (void)op;
    hold_for_a_moment(user);
    return 0;
}

static int deliver_needs(void *state, struct spool_delivery *batch, size_t n)
{
    struct needs *needs = state;
    hold_for_a_moment(needs);
    atomic_fetch_add(&needs->ran, (unsigned)n - 1);
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

static void draw_needs(struct needs *needs, unsigned *seed)
{
    for (int i = 0; i < NAMES; i++)
        needs->of[i] = rand_r(seed) % 2 ? 0 : (int)((unsigned)rand_r(seed) % (ROOM + 1)) - 1;
}

static const char *const names[NAMES] = {"x", "y", "z"};

static void add_needing(struct spool *spool, unsigned number, struct needs *needs)
{
    char text[64] = "", name[8];
    struct spool_sink hooks = gated_hooks;
    hooks.deliver = deliver_needs;
    for (int i = 0; i < NAMES; i++) {
        size_t at = strlen(text);
        if (needs->of[i] < 0)
            snprintf(text + at, sizeof text - at, "%s%s", at ? "," : "", names[i]);
        else if (needs->of[i] > 0)
            snprintf(text + at, sizeof text - at, "%s%s*%d", at ? "," : "", names[i], needs->of[i]);
    }
    snprintf(name, sizeof name, "s%u", number);
    ck_ok(spool_sink_add(spool, name, &hooks, NULL,
                         &SPOOL_SINK_OPTIONS(.user = needs, .resources = text, .workers = 1 + number % 3,
                                             .order = number % 2 ? SPOOL_ORDER_AGENT : SPOOL_ORDER_NONE,
                                             .batch_events_max = 3)));
}

static void submit_needing(struct spool *spool, struct needs *needs, unsigned number)
{
    struct spool_op_resource resources[NAMES];
    size_t count = 0;
    for (int i = 0; i < NAMES; i++)
        if (needs->of[i] != 0)
            resources[count++] =
                (struct spool_op_resource){.name = names[i],
                                           .mode = needs->of[i] < 0 ? SPOOL_OP_EXCLUSIVE : SPOOL_OP_SHARED,
                                           .amount = needs->of[i] < 0 ? 0 : (uint32_t)needs->of[i]};
    ck_ok(spool_op_submit(spool,
                          &SPOOL_OP_OPTIONS(.run = run_needs, .user = needs, .resources = resources,
                                            .resource_count = count, .priority = (enum spool_priority)(number % 4)),
                          NULL));
}

START_TEST(nobody_gets_too_much_and_everybody_comes_to_an_end)
{
    static struct needs of_sinks[SINKS], of_ops[OPS];
    unsigned seed = (unsigned)test_seed(7);
    struct spool *spool = open_spool();
    atomic_store(&too_much, 0);
    for (int i = 0; i < NAMES; i++)
        ck_ok(spool_op_set_capacity(spool, names[i], ROOM));
    for (unsigned i = 0; i < SINKS; i++) {
        draw_needs(&of_sinks[i], &seed);
        add_needing(spool, i, &of_sinks[i]);
    }
    ck_ok(spool_start(spool));
    for (unsigned i = 0; i < OPS || i < EVENTS; i++) {
        char agent[8];
        snprintf(agent, sizeof agent, "%u", (unsigned)rand_r(&seed) % 9);
        if (i < EVENTS)
            ck_ok(spool_enqueue(spool, &SPOOL_EVENT(.type = "t", .agent = agent, .body = "{}", .body_size = 2), NULL));
        draw_needs(&of_ops[i % OPS], &seed);
        submit_needing(spool, &of_ops[i % OPS], i);
    }
    for (unsigned i = 0; i < OPS; i++)
        ck_until(of_ops[i].ran == 1);
    for (unsigned i = 0; i < SINKS; i++)
        ck_until(of_sinks[i].ran == EVENTS);
    ck_assert_uint_eq(too_much, 0);
    ck_ok(spool_close(spool));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("public_resources");
    TCase *t = tcase_create("public_resources");
    tcase_set_timeout(t, 240);
    tcase_add_checked_fixture(t, scratch_begin, scratch_end);
    tcase_add_test(t, a_batch_waits_for_what_an_operation_holds);
    tcase_add_test(t, a_batch_that_waits_for_long_is_told);
    tcase_add_test(t, an_operation_waits_for_what_a_batch_holds);
    tcase_add_test(t, capacities_hold_for_sinks);
    tcase_add_test(t, wrong_texts_are_refused);
    tcase_add_test(t, stops_while_a_batch_waits);
    tcase_add_test(t, batches_do_not_starve_an_operation);
    tcase_add_test(t, nobody_gets_too_much_and_everybody_comes_to_an_end);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
