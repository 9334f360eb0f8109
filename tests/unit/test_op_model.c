/* test_op_model.c - the scheduler against a naive model: who is granted what, with random needs, capacities, deadlines and
 * ends. One core, and two that share some of their resources. */
#include "../../delivery/op_core.h"
#include "../../lib/base/sync.h"
#include "../check_main.h"

static const uint64_t bypasses_max[2] = {4, 3};

struct job {
    struct op_task task;
    struct op_need needs[8];
};

static struct op_core cores[2];
static unsigned sides; /* 1 or 2 */

enum { RESOURCES = 6, JOBS = 48 };

/* The rules of op_core.h, as plainly as they can be written: every count is kept by itself, every time is looked for.
 */
struct model_job {
    struct job job;
    unsigned side;
    bool waiting, running;
    uint64_t ticket, bypasses;
    unsigned delays; /* later ones granted before it that took something it needs */
    uint64_t deadline_ns;
};
static struct model_job jobs[JOBS];
static uint32_t capacities[RESOURCES];
static struct op_resource *resources[RESOURCES];
static uint64_t tickets;
static unsigned workers[2];
static uint32_t known_to[2]; /* bits: the resources that tasks of the side may need */

static unsigned running(unsigned side)
{
    unsigned n = 0;
    for (size_t i = 0; i < JOBS; i++)
        n += jobs[i].running && jobs[i].side == side;
    return n;
}

static bool is_aged(const struct model_job *m)
{
    return m->bypasses >= bypasses_max[m->side];
}

/* May a need be met beside those that run and, of the aged ones, those that are older? */
static bool model_need_fits(const struct op_need *need, uint64_t aged_before)
{
    uint64_t taken = 0;
    for (size_t i = 0; i < JOBS; i++) {
        bool counts = jobs[i].running || (jobs[i].waiting && is_aged(&jobs[i]) && jobs[i].ticket < aged_before);
        for (uint32_t k = 0; counts && k < jobs[i].job.task.need_count; k++) {
            const struct op_need *other = &jobs[i].job.needs[k];
            if (other->resource == need->resource && (other->amount == 0 || need->amount == 0))
                return false;
            taken += other->resource == need->resource ? other->amount : 0;
        }
    }
    return need->amount == 0 || need->resource->capacity == UINT32_MAX ||
           taken + need->amount <= need->resource->capacity;
}

static bool model_fits(const struct model_job *m)
{
    uint64_t aged_before = is_aged(m) ? m->ticket : UINT64_MAX;
    for (uint32_t k = 0; k < m->job.task.need_count; k++)
        if (!model_need_fits(&m->job.needs[k], aged_before))
            return false;
    return true;
}

static bool comes_before(const struct model_job *a, const struct model_job *b)
{
    bool a_aged = is_aged(a), b_aged = is_aged(b);
    if (a_aged != b_aged)
        return a_aged;
    if (!a_aged && a->job.task.rank != b->job.task.rank)
        return a->job.task.rank < b->job.task.rank;
    return a->ticket < b->ticket;
}

static struct model_job *model_next(unsigned side, uint64_t now_ns)
{
    struct model_job *best = NULL;
    if (running(side) >= workers[side])
        return NULL;
    for (size_t i = 0; i < JOBS; i++)
        if (jobs[i].side == side && jobs[i].waiting && jobs[i].deadline_ns > now_ns && model_fits(&jobs[i]) &&
            (!best || comes_before(&jobs[i], best)))
            best = &jobs[i];
    return best;
}

/* Now that `later` runs, does `m` lack something of which `later` has some? */
static bool delays(const struct model_job *later, const struct model_job *m)
{
    for (uint32_t i = 0; i < m->job.task.need_count; i++)
        for (uint32_t k = 0; k < later->job.task.need_count; k++)
            if (m->job.needs[i].resource == later->job.needs[k].resource && !model_need_fits(&m->job.needs[i], 0))
                return true;
    return false;
}

/* Of the other side those are overtaken only if it takes something that is known there. */
static bool overtakes(const struct model_job *later, const struct model_job *m)
{
    bool concerns = later->side == m->side;
    for (uint32_t k = 0; k < later->job.task.need_count; k++)
        for (uint32_t r = 0; r < RESOURCES; r++)
            concerns |= later->job.needs[k].resource == resources[r] && (known_to[m->side] & 1u << r);
    return concerns && m->waiting && m->ticket < later->ticket;
}

static void model_grant(struct model_job *m)
{
    m->waiting = false;
    m->running = true;
    for (size_t i = 0; i < JOBS; i++) {
        if (!overtakes(m, &jobs[i]))
            continue;
        jobs[i].bypasses++;
        jobs[i].delays += delays(m, &jobs[i]);
    }
}

static void ck_nobody_has_too_much(void)
{
    for (size_t r = 0; r < RESOURCES; r++) {
        uint64_t shared = 0, whole = 0;
        for (size_t i = 0; i < JOBS; i++) {
            for (uint32_t k = 0; jobs[i].running && k < jobs[i].job.task.need_count; k++) {
                shared += jobs[i].job.needs[k].resource == resources[r] ? jobs[i].job.needs[k].amount : 0;
                whole += jobs[i].job.needs[k].resource == resources[r] && jobs[i].job.needs[k].amount == 0;
            }
        }
        ck_assert(whole == 0 || (whole == 1 && shared == 0));
        ck_assert_uint_eq(shared, resources[r]->used);
    }
}

static bool model_grant_one(unsigned side, uint64_t now_ns)
{
    struct model_job *want = model_next(side, now_ns);
    struct op_task *got = op_core_grant(&cores[side], now_ns);
    ck_assert_msg(got == (want ? &want->job.task : NULL), "granted %lu instead of %lu",
                  got ? (unsigned long)got->ticket : 0, want ? (unsigned long)want->ticket : 0);
    if (!want)
        return false;
    model_grant(want);
    ck_nobody_has_too_much();
    return true;
}

/* In turns: a grant on one side may make one of the other aged. */
static void model_dispatch(uint64_t now_ns)
{
    for (bool any = true; any;) {
        any = false;
        for (unsigned side = 0; side < sides; side++)
            any |= model_grant_one(side, now_ns);
    }
    for (size_t i = 0; i < JOBS; i++) {
        if (!jobs[i].waiting)
            continue;
        ck_assert_uint_eq(op_core_bypasses(&cores[jobs[i].side], &jobs[i].job.task), jobs[i].bypasses);
        ck_assert_msg(jobs[i].delays <= bypasses_max[jobs[i].side], "delayed %u times", jobs[i].delays);
    }
}

static uint64_t random_state;
static uint32_t rnd(uint32_t below)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull; /* Knuth, MMIX */
    return (uint32_t)((random_state >> 33) % below);
}

static void model_submit(struct model_job *m, uint64_t now_ns)
{
    *m = (struct model_job){.deadline_ns = DEADLINE_NEVER, .side = rnd(sides)};
    m->job.task = (struct op_task){.rank = rnd(OP_RANKS), .deadline_ns = DEADLINE_NEVER, .overdue_ns = DEADLINE_NEVER};
    if (rnd(8) == 0)
        m->job.task.deadline_ns = m->deadline_ns = now_ns + rnd(60);
    m->job.task.timeout_ns = rnd(8) == 0 ? rnd(60) + 1 : DEADLINE_NEVER;
    m->job.task.needs = m->job.needs;
    uint32_t mask = rnd(1u << RESOURCES) & rnd(1u << RESOURCES) & known_to[m->side];
    for (uint32_t r = 0; r < RESOURCES; r++) {
        if (!(mask & 1u << r))
            continue;
        struct op_need *need = &m->job.needs[m->job.task.need_count++];
        need->resource = resources[r];
        need->amount = rnd(2) ? 0 : 1 + rnd(capacities[r] < 4 ? capacities[r] : 4);
    }
    ck_ok(op_core_submit(&cores[m->side], &m->job.task, now_ns));
    m->ticket = ++tickets;
    m->waiting = true;
}

static void model_capacity(void)
{
    uint32_t r = rnd(RESOURCES), capacity = rnd(4) ? 1 + rnd(6) : UINT32_MAX, wanted = 0;
    for (size_t i = 0; i < JOBS; i++)
        for (uint32_t k = 0; jobs[i].waiting && k < jobs[i].job.task.need_count; k++)
            if (jobs[i].job.needs[k].resource == resources[r] && jobs[i].job.needs[k].amount > wanted)
                wanted = jobs[i].job.needs[k].amount;
    char name[2] = {(char)('a' + (int)r), 0};
    ck_code(op_core_set_capacity(&cores[0], name, capacity), wanted > capacity ? SPOOL_EBUSY : SPOOL_OK);
    capacities[r] = wanted > capacity ? capacities[r] : capacity;
}

static void model_time(uint64_t now_ns)
{
    enum op_due due;
    for (struct op_task *task; (task = op_core_due(&cores[0], now_ns, &due)) != NULL ||
                               (sides > 1 && (task = op_core_due(&cores[1], now_ns, &due)) != NULL);) {
        struct model_job *m = (struct model_job *)task;
        ck_assert_int_ne(due, OP_DUE_OVERDUE);
        ck_assert(due == OP_DUE_DEADLINE ? m->waiting && m->deadline_ns <= now_ns : m->running);
        m->waiting = false;
    }
    for (size_t i = 0; i < JOBS; i++)
        ck_assert_msg(!jobs[i].waiting || jobs[i].deadline_ns > now_ns, "a deadline was missed");
}

static void model_step(uint64_t now_ns)
{
    struct model_job *m = &jobs[rnd(JOBS)];
    uint32_t dice = rnd(16);
    if (dice == 0)
        model_capacity();
    else if (dice < 3)
        model_time(now_ns);
    else if (m->running) {
        op_core_complete(&cores[m->side], &m->job.task);
        m->running = false;
    } else if (m->waiting && dice == 3) {
        op_core_withdraw(&cores[m->side], &m->job.task);
        m->waiting = false;
    } else if (!m->waiting)
        model_submit(m, now_ns);
    if (rnd(32) == 0) { /* asking changes nothing */
        struct op_block block;
        struct op_core *any = &cores[rnd(sides)];
        if (any->waiting.head)
            op_core_explain(any, any->waiting.tail, &block);
    }
    model_dispatch(now_ns);
}

/* When those that run end and no more come, everything ends: nobody waits for ever. */
static void model_drain(uint64_t now_ns)
{
    for (unsigned rounds = 0;; rounds++) {
        unsigned left = 0;
        ck_assert_uint_le(rounds, JOBS + 1);
        for (size_t i = 0; i < JOBS; i++) {
            left += jobs[i].waiting || jobs[i].running;
            if (jobs[i].running)
                op_core_complete(&cores[jobs[i].side], &jobs[i].job.task);
            jobs[i].running = false;
        }
        if (left == 0)
            break;
        model_dispatch(now_ns);
        model_time(now_ns);
    }
    for (unsigned side = 0; side < sides; side++)
        ck_assert_uint_eq(cores[side].timers.count, 0);
}

/* Of six resources both sides know three, and each one or two alone. */
static void model_begin(unsigned n)
{
    static const uint32_t known[2][2] = {{0x3f, 0}, {0x1f, 0x27}};
    sides = n;
    tickets = 0;
    memset(jobs, 0, sizeof jobs);
    for (unsigned side = 0; side < sides; side++) {
        workers[side] = 1 + rnd(8);
        known_to[side] = known[n - 1][side];
        op_core_init(&cores[side], workers[side], (uint32_t)bypasses_max[side]);
    }
    if (sides > 1)
        op_core_pair(&cores[0], &cores[1]);
    for (uint32_t r = 0; r < RESOURCES; r++) {
        char name[2] = {(char)('a' + (int)r), 0};
        for (unsigned side = 0; side < sides; side++)
            if (known_to[side] & 1u << r)
                ck_ok(op_core_hold(&cores[side], name, &resources[r]));
        capacities[r] = UINT32_MAX;
    }
}

START_TEST(grants_as_the_naive_model_does)
{
    random_state = test_seed(20261126);
    for (unsigned run = 0; run < 30; run++) {
        model_begin(1 + (unsigned)_i);
        uint64_t now_ns = 0;
        for (unsigned step = 0; step < 600; step++)
            model_step(now_ns += rnd(4));
        model_drain(now_ns);
        if (sides > 1)
            op_core_free(&cores[1]);
        op_core_free(&cores[0]);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("op_model");
    TCase *t = tcase_create("op_model");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, grants_as_the_naive_model_does, 0, 2);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
