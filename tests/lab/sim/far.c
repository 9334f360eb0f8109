/* far.c - the sinks: a table of ways to answer one batch, and a table of moods, which say how often a sink takes each.
 * What a sink accepted is told to the oracle at that moment, what it answered when it returns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "far.h"

/* ---------------------------------------------------------------------------------------------------------- answering
 */

static bool accepted_all_before(const struct far_call *call, size_t i)
{
    const struct event *e = oracle_event(&call->batch[i]);
    for (size_t k = 0; k < i && call->state->sink->options.order != SPOOL_ORDER_NONE; k++) {
        const struct event *other = oracle_event(&call->batch[k]);
        bool same = call->state->sink->options.order == SPOOL_ORDER_LANE || (e->agent && other->agent == e->agent);
        if (same && call->batch[k].outcome != SPOOL_DELIVERED && call->batch[k].outcome != SPOOL_REJECTED)
            return false;
    }
    return true;
}

/* An ordered sink does not take an event while one of its key before it waits; it then says nothing of it. */
static void accept_one(struct far_call *call, size_t i)
{
    if (!accepted_all_before(call, i))
        return;
    if (call->state->bit == FAR_ALONE)
        oracle_accept(call->state->sink, oracle_event(&call->batch[i]));
    else
        member_takes(call->state, oracle_event(&call->batch[i]));
    call->batch[i].outcome = SPOOL_DELIVERED;
}

static bool is_poison(const struct far_call *call, size_t i)
{
    size_t at = (size_t)(call->state->sink - world.sinks);
    return !world.healing && (oracle_event(&call->batch[i])->poison >> at & 1);
}

static void refuse_one(struct far_call *call, size_t i)
{
    fault_count(FAULT_REJECT);
    if (!accepted_all_before(call, i))
        return;
    spool_delivery_fail(&call->batch[i], SPOOL_REJECTED, "poison");
    call->reasoned[i] = true;
    if (call->state->bit == FAR_ALONE) /* of a group one member alone says nothing */
        oracle_refuse(call->state->sink, oracle_event(&call->batch[i]));
}

static void accept_upto(struct far_call *call, size_t end)
{
    for (size_t i = 0; i < end; i++) {
        if (is_poison(call, i))
            refuse_one(call, i);
        else
            accept_one(call, i);
    }
}

static uint64_t any(uint64_t n)
{
    return rng_below(&world.fault_rng, n);
}

/* Waits in the hook; cancel ends it unless it is deaf. */
static void far_wait(struct far_state *state, uint64_t ns, bool deaf)
{
    uint64_t until_ns = sched_now() + ns;
    while (sched_now() < until_ns && !world.healing && (deaf || !state->cancelled))
        co_wait(state, until_ns, deaf ? "a deaf hook's end" : "cancel", true);
}

/* --------------------------------------------------------------------------------------------------- ways to answer */

static int answer_well(struct far_call *call)
{
    far_wait(call->state, any(2 * MS), false);
    accept_upto(call, call->n);
    return SPOOL_OK;
}

static int answer_slowly(struct far_call *call)
{
    fault_count(FAULT_SLOW);
    far_wait(call->state, rng_scale(&world.fault_rng, 100 * MS, 300 * SEC), false);
    accept_upto(call, call->state->cancelled ? any(call->n + 1) : call->n);
    return call->state->cancelled ? SPOOL_EUNAVAILABLE : SPOOL_OK;
}

static int answer_retry(struct far_call *call)
{
    for (size_t i = 0; i < call->n; i++) {
        if (any(3) > 0) {
            accept_one(call, i);
            continue;
        }
        fault_count(FAULT_RETRY);
        if (any(2)) {
            spool_delivery_fail(&call->batch[i], SPOOL_RETRY, "try again, %llu", (unsigned long long)any(100));
            call->reasoned[i] = true;
        }
        if (any(4) == 0)
            call->batch[i].retry_after_ms = rng_scale(&world.fault_rng, 1, 600000);
    }
    return SPOOL_OK;
}

static int answer_reject(struct far_call *call)
{
    for (size_t i = 0; i < call->n; i++) {
        if (any(20) == 0)
            refuse_one(call, i);
        else
            accept_one(call, i);
    }
    return SPOOL_OK;
}

/* Takes the whole batch or nothing, and nothing with a poison event in it. */
static int answer_reject_batch(struct far_call *call)
{
    bool bad = any(10) == 0;
    for (size_t i = 0; i < call->n; i++)
        bad |= is_poison(call, i);
    if (!bad) {
        accept_upto(call, call->n);
        return SPOOL_OK;
    }
    fault_count(FAULT_REJECT);
    far_wait(call->state, any(MS), false);
    if (any(3) == 0)
        accept_one(call, 0);
    return spool_sink_error(SPOOL_EREJECTED, "one of %zu is bad", call->n);
}

static int answer_down(struct far_call *call)
{
    fault_count(FAULT_DOWN);
    far_wait(call->state, any(50 * MS), false);
    return SPOOL_EUNAVAILABLE;
}

static int answer_down_half(struct far_call *call)
{
    fault_count(FAULT_DOWN);
    accept_upto(call, any(call->n + 1));
    far_wait(call->state, any(50 * MS), false);
    return spool_sink_error(SPOOL_EUNAVAILABLE, "connection reset");
}

static int answer_half(struct far_call *call)
{
    fault_count(FAULT_WRONG);
    for (size_t i = 0; i < call->n; i++)
        if (any(2))
            accept_one(call, i);
    return SPOOL_OK;
}

static int answer_wrongly(struct far_call *call)
{
    static const int codes[] = {-1, 12345, SPOOL_ESTALE, SPOOL_EINVAL, 5, SPOOL_EDEADLK};
    fault_count(FAULT_WRONG);
    accept_upto(call, any(call->n + 1));
    size_t i = any(call->n);
    if (call->batch[i].outcome == SPOOL_RETRY && accepted_all_before(call, i) && any(2))
        call->batch[i].outcome = (enum spool_outcome)77;
    return codes[any(sizeof codes / sizeof *codes)];
}

/* (Not of one with checkpoints: it would undo what it does not report.) */
static int answer_lost(struct far_call *call)
{
    fault_count(FAULT_LOST_ANSWER);
    size_t upto = call->state->sink->checkpoints ? 0 : any(call->n + 1);
    for (size_t i = 0; i < upto; i++) {
        accept_one(call, i);
        call->batch[i].outcome = SPOOL_RETRY;
        if (!accepted_all_before(call, i + 1 < call->n ? i + 1 : i))
            break;
    }
    return SPOOL_EUNAVAILABLE;
}

static int answer_after_cancel(struct far_call *call)
{
    fault_count(FAULT_HANG);
    far_wait(call->state, 3600 * SEC, false);
    accept_upto(call, any(call->n + 1));
    return SPOOL_EUNAVAILABLE;
}

static int answer_deaf(struct far_call *call)
{
    fault_count(FAULT_HANG);
    far_wait(call->state, rng_scale(&world.fault_rng, SEC, 1800 * SEC), true);
    accept_upto(call, call->n);
    return any(4) ? SPOOL_OK : any(2) ? SPOOL_EREJECTED : SPOOL_EUNAVAILABLE;
}

static int answer_forbidden(struct far_call *call)
{
    fault_count(FAULT_DOWN);
    accept_upto(call, any(call->n + 1));
    return spool_sink_error(SPOOL_ECONFIG, "403 Forbidden");
}

static int answer_dying(struct far_call *call)
{
    accept_upto(call, any(call->n + 1));
    fault_count(FAULT_CRASH);
    if (any(2))
        sched_kill(call->state->proc);
    else
        sched_kill_after(call->state->proc, (uint32_t)any(60) + 1);
    return SPOOL_OK;
}

/* A new way is a line here, and a column below. */
static int (*const ways[])(struct far_call *call) = {
    answer_well,         answer_slowly,    answer_retry, answer_reject,   answer_reject_batch,
    answer_down,         answer_down_half, answer_half,  answer_wrongly,  answer_lost,
    answer_after_cancel, answer_deaf,      answer_dying, answer_forbidden};

enum { WAYS = sizeof ways / sizeof *ways };

struct mood {
    const char *name;
    uint8_t weights[WAYS];                            /* of each way, together 100 */
    uint8_t open_fails, checkpoint_fails, hooks_hang; /* percent */
};

/* clang-format off */
static const struct mood moods[] = {
    /*              well slow retr reje rbat down half half wron lost hang deaf die forb */
    {"good",       {100,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0}, 0, 0, 0},
    {"flaky",      { 60,   2,  20,   0,   0,   4,   4,  10,   0,   0,   0,   0,   0}, 5, 5, 0},
    {"down",       {  0,   0,   0,   0,   0, 100,   0,   0,   0,   0,   0,   0,   0}, 50, 50, 0},
    {"comes-goes", { 40,   0,   0,   0,   0,  40,  10,   0,   0,  10,   0,   0,   0}, 30, 10, 0},
    {"refusing",   { 30,   0,  10,  20,  40,   0,   0,   0,   0,   0,   0,   0,   0}, 0, 0, 0},
    {"wrong",      { 40,   0,  10,   0,  10,   0,   0,  10,  20,  10,   0,   0,   0}, 5, 20, 0},
    {"slow",       { 40,  60,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0}, 0, 0, 0},
    {"hanging",    { 60,   5,   5,   0,   0,   0,   0,   0,   0,   0,  20,  10,   0}, 0, 0, 5},
    {"mortal",     { 85,   0,   5,   0,   0,   0,   5,   0,   0,   0,   0,   0,   5}, 0, 0, 0},
    {"retrying",   {  0,   0, 100,   0,   0,   0,   0,   0,   0,   0,   0,   0,   0}, 0, 0, 0},
    {"chaos",      { 24,   4,  15,   8,   8,   8,   8,   8,   4,   5,   4,   2,   1,   1}, 10, 10, 2},
    {"forbidding", { 70,   0,   5,   0,   0,  10,   0,   0,   0,   0,   0,   0,   0,  15}, 5, 5, 0},
};
/* clang-format on */

const struct mood *mood_at(uint64_t pick)
{
    return &moods[pick % (sizeof moods / sizeof *moods)];
}

const struct mood *mood_good(void)
{
    return &moods[0];
}

const char *mood_name(const struct mood *mood)
{
    return mood->name;
}

const struct mood *far_mood(const struct sink_world *sink)
{
    return world.healing || sched_now() >= sink->mood_until_ns ? &moods[0] : sink->mood;
}

static size_t choose_way(const struct mood *mood)
{
    uint64_t roll = any(100), upto = 0;
    for (size_t i = 0; i < WAYS; i++)
        if (roll < (upto += mood->weights[i]))
            return i;
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------- hooks
 */

void far_enter(struct far_state *state, const char *hook)
{
    if (*co_locks() > 0)
        violation("hooks", "%s of %s is called with a lock held", hook, state->sink->name);
    if (!state->open)
        violation("hooks", "%s of %s after close", hook, state->sink->name);
    if (state->busy)
        violation("hooks", "%s of %s while another hook of that state runs", hook, state->sink->name);
    state->busy = true;
    sched_progress();
    co_point();
}

void far_leave(struct far_state *state)
{
    co_point();
    state->busy = false;
}

static struct sink_world *sink_of(void *user)
{
    return user;
}

static void resume_log(struct sink_world *sink, const void *checkpoint, size_t size)
{
    uint64_t position = 0;
    if (size == sizeof position)
        memcpy(&position, checkpoint, size);
    else if (size != 0)
        violation("checkpoint", "%s gets %zu bytes, it gave %zu", sink->name, size, sizeof position);
    if (position > sink->log_count)
        violation("checkpoint", "%s gets a position beyond what was written", sink->name);
    if (size == 0 && sink->log_count > 0)
        violation("checkpoint", "%s is opened without a checkpoint, but has events of ours", sink->name);
    for (; sink->log_count > position; sink->log_count--) {
        struct tally *t = &sink->tallies[sink->log[sink->log_count - 1]];
        trace("%s undoes event %u", sink->name, sink->log[sink->log_count - 1]);
        t->accepted--;
        t->ever_heard = false;
        t->resolved = t->dead != NULL;
    }
}

bool far_open_fails(const struct mood *mood)
{
    bool fails = any(100) < mood->open_fails;
    if (fails)
        fault_count(FAULT_OPEN);
    return fails;
}

static int far_open(void **ret_state, void *user, const char *config, const void *checkpoint, size_t size)
{
    (void)config;
    struct sink_world *sink = sink_of(user);
    const struct mood *mood = far_mood(sink);
    struct far_state *state = arena_get(ARENA_WORLD, sizeof *state);
    *state = (struct far_state){.sink = sink, .proc = co_proc(), .open = true, .bit = FAR_ALONE};
    far_enter(state, "open");
    if (any(100) < mood->hooks_hang) {
        fault_count(FAULT_HANG);
        far_wait(state, rng_scale(&world.fault_rng, SEC, 600 * SEC), true);
    }
    far_leave(state);
    int code = sink->accept > 0 ? group_sim_open(state) : SPOOL_OK;
    if (code != SPOOL_OK || (sink->accept == 0 && far_open_fails(mood))) {
        oracle_try(sink, true);
        return code ? code : spool_sink_error(any(2) ? SPOOL_EUNAVAILABLE : 111, "cannot be opened");
    }
    if (sink->checkpoints)
        resume_log(sink, checkpoint, size);
    trace("%s is opened", sink->name);
    *ret_state = state;
    return SPOOL_OK;
}

static void check_late_cancel(const struct far_state *state, uint64_t since_ns, uint64_t excused_ns, uint32_t stops)
{
    const struct proc *p = &world.procs[state->proc];
    uint64_t ran_ns = sched_now() - since_ns, timeout_ns = state->sink->options.timeout_ms * MS;
    if (p->cancelling > 0 || p->cancelled_ns >= since_ns || p->stops != stops || world.healing)
        return;
    if (ran_ns > timeout_ns + SEC + sched_excused_ns() - excused_ns && state->cancelled_ns < since_ns)
        violation("timeout", "deliver of %s ran for %llu ms and was not cancelled after %u", state->sink->name,
                  (unsigned long long)(ran_ns / MS), state->sink->options.timeout_ms);
}

int far_answer(struct far_call *call, const struct mood *mood, size_t *ret_way)
{
    *ret_way = choose_way(mood);
    return ways[*ret_way](call);
}

static int answer(struct far_state *state, struct spool_delivery *batch, size_t n)
{
    struct far_call call = {state, batch, n, arena_get(ARENA_WORLD, n)};
    size_t way = WAYS;
    memset(call.reasoned, 0, n);
    int code = state->group ? group_sim_answer(&call) : far_answer(&call, far_mood(state->sink), &way);
    trace("%s answers in way %zu: %d, for %zu from event %u on", state->sink->name, way, code, n,
          event_number(oracle_event(&batch[0])));
    sched_mix((uint64_t)code + way * 1000);
    oracle_hear(state->sink, batch, n, code, call.reasoned);
    for (size_t i = 0; i < n && world.control == CONTROL_ASKED_IN_VAIN; i++)
        batch[i].retry_after_ms = batch[i].retry_after_ms > 0;
    if (code == SPOOL_ECONFIG)
        oracle_ask_pause(state->sink, state->proc);
    else
        oracle_try(state->sink, code != SPOOL_OK && code != SPOOL_EREJECTED);
    arena_put(call.reasoned);
    return code;
}

/* An event that kills the process, once all before it are in. */
static void die_of(struct far_state *state, const struct spool_delivery *batch, size_t n)
{
    size_t at = (size_t)(state->sink - world.sinks);
    for (size_t i = 0; i < n && !world.healing; i++) {
        struct event *e = oracle_event(&batch[i]);
        if (!(e->deadly >> at & 1))
            continue;
        fault_count(FAULT_CRASH);
        trace("%s: event %u kills the process, one of %zu; %u deaths are known", state->sink->name, event_number(e), n,
              suspects_crashes(&state->sink->hand.suspects, e->lane, e->seq));
        oracle_kill(state->sink, e);
        sched_kill(state->proc);
        co_point();
    }
}

static int far_deliver(void *user, struct spool_delivery *batch, size_t n)
{
    struct far_state *state = user;
    far_enter(state, "deliver");
    state->cancelled = false;
    uint64_t since_ns = sched_now(), excused_ns = sched_excused_from();
    uint32_t stops = world.procs[state->proc].stops;
    world.deliveries++;
    state->sink->running[state->proc]++;
    bool goes_on =
        state->last_code == SPOOL_EREJECTED && state->last_co == co_self() && state->last_acquired == *co_acquired();
    oracle_present(state->sink, state->proc, batch, n, goes_on);
    oracle_hold(state->sink, state->proc, batch, n, true);
    die_of(state, batch, n);
    int code = answer(state, batch, n);
    state->last_code = code;
    state->last_co = co_self();
    state->last_acquired = *co_acquired();
    oracle_hold(state->sink, state->proc, batch, n, false);
    state->sink->running[state->proc]--;
    check_late_cancel(state, since_ns, excused_ns, stops);
    far_leave(state);
    return code;
}

static void far_cancel(void *user)
{
    struct far_state *state = user;
    struct proc *p = &world.procs[state->proc];
    if (*co_locks() > 0)
        violation("hooks", "cancel of %s is called with a lock held", state->sink->name);
    if (!state->open)
        violation("hooks", "cancel of %s after close", state->sink->name);
    p->cancelling++;
    co_point();
    state->cancelled = true;
    state->cancelled_ns = sched_now();
    co_wake_all(state);
    if (state->group)
        group_sim_cancel(state);
    if (any(100) < far_mood(state->sink)->hooks_hang) {
        fault_count(FAULT_HANG);
        uint64_t until_ns = sched_now() + rng_scale(&world.fault_rng, SEC, 300 * SEC);
        while (sched_now() < until_ns && !world.healing)
            co_wait(&world.healing, until_ns, "a hanging cancel's end", true);
    }
    if (!state->open)
        violation("hooks", "%s was closed while cancel ran", state->sink->name);
    p->cancelling--;
    p->cancelled_ns = sched_now();
}

static void far_close(void *user)
{
    struct far_state *state = user;
    far_enter(state, "close");
    if (any(100) < far_mood(state->sink)->hooks_hang) {
        fault_count(FAULT_HANG);
        far_wait(state, rng_scale(&world.fault_rng, SEC, 600 * SEC), true);
    }
    trace("%s is closed", state->sink->name);
    if (state->group)
        group_sim_close(state);
    far_leave(state);
    state->open = false;
}

static size_t far_checkpoint(void *user, void *buf, size_t cap)
{
    struct far_state *state = user;
    uint64_t position = state->sink->log_count;
    far_enter(state, "checkpoint");
    far_wait(state, any(5 * MS), false);
    far_leave(state);
    if (position != state->sink->log_count)
        violation("hooks", "%s was written to while it took a checkpoint", state->sink->name);
    if (any(100) < far_mood(state->sink)->checkpoint_fails) {
        fault_count(FAULT_CHECKPOINT);
        return SIZE_MAX;
    }
    if (cap < sizeof position)
        return SIZE_MAX;
    memcpy(buf, &position, sizeof position);
    return sizeof position;
}

void far_hooks(bool checkpoints, struct spool_sink *ret)
{
    *ret = (struct spool_sink){
        .abi = SPOOL_SINK_ABI,
        .size = sizeof(struct spool_sink),
        .kind = "sim",
        .open = far_open,
        .deliver = far_deliver,
        .cancel = far_cancel,
        .close = far_close,
        .checkpoint = checkpoints ? far_checkpoint : NULL,
    };
}
