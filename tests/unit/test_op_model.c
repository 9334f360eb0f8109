/* test_op_model.c - the scheduler against a naive model: who is granted what, with random needs, capacities, deadlines and
 * ends. */
#include "../../delivery/op_core.h"
#include "../../lib/base/sync.h"
#include "../check_main.h"

enum { BYPASSES = 4 };

struct job {
    struct op_task task;
    struct op_need needs[8];
};

static struct op_core core;

enum { RESOURCES = 6, JOBS = 48 };

/* The rules of op_core.h, as plainly as they can be written: every count is kept by itself, every time is looked for.
 */
struct model_job {
    struct job job;
    bool waiting, running;
    uint64_t ticket, bypasses;
    unsigned delays; /* later ones granted before it that took something it needs */
    uint64_t deadline_ns;
};
static struct model_job jobs[JOBS];
static uint32_t capacities[RESOURCES];
static struct op_resource *resources[RESOURCES];
static uint64_t tickets;
static unsigned workers;

static unsigned running(void)
{
    unsigned n = 0;
    for (size_t i = 0; i < JOBS; i++)
        n += jobs[i].running;
    return n;
}

/* May a need be met beside those that run and, of the aged ones, those that are older? */
static bool model_need_fits(const struct op_need *need, uint64_t aged_before)
{
    uint64_t taken = 0;
    for (size_t i = 0; i < JOBS; i++) {
        bool counts =
            jobs[i].running || (jobs[i].waiting && jobs[i].bypasses >= BYPASSES && jobs[i].ticket < aged_before);
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
    uint64_t aged_before = m->bypasses >= BYPASSES ? m->ticket : UINT64_MAX;
    for (uint32_t k = 0; k < m->job.task.need_count; k++)
        if (!model_need_fits(&m->job.needs[k], aged_before))
            return false;
    return true;
}

static bool comes_before(const struct model_job *a, const struct model_job *b)
{
    bool a_aged = a->bypasses >= BYPASSES, b_aged = b->bypasses >= BYPASSES;
    if (a_aged != b_aged)
        return a_aged;
    if (!a_aged && a->job.task.rank != b->job.task.rank)
        return a->job.task.rank < b->job.task.rank;
    return a->ticket < b->ticket;
}

static struct model_job *model_next(uint64_t now_ns)
{
    struct model_job *best = NULL;
    if (running() >= workers)
        return NULL;
    for (size_t i = 0; i < JOBS; i++)
        if (jobs[i].waiting && jobs[i].deadline_ns > now_ns && model_fits(&jobs[i]) &&
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

static void model_grant(struct model_job *m)
{
    m->waiting = false;
    m->running = true;
    for (size_t i = 0; i < JOBS; i++) {
        if (!jobs[i].waiting || jobs[i].ticket > m->ticket)
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

static void model_dispatch(uint64_t now_ns)
{
    for (;;) {
        struct model_job *want = model_next(now_ns);
        struct op_task *got = op_core_grant(&core, now_ns);
        ck_assert_msg(got == (want ? &want->job.task : NULL), "granted %lu instead of %lu",
                      got ? (unsigned long)got->ticket : 0, want ? (unsigned long)want->ticket : 0);
        if (!want)
            break;
        model_grant(want);
        ck_nobody_has_too_much();
    }
    for (size_t i = 0; i < JOBS; i++) {
        if (!jobs[i].waiting)
            continue;
        ck_assert_uint_eq(op_core_bypasses(&core, &jobs[i].job.task), jobs[i].bypasses);
        ck_assert_msg(jobs[i].delays <= BYPASSES, "delayed %u times", jobs[i].delays);
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
    *m = (struct model_job){.deadline_ns = DEADLINE_NEVER};
    m->job.task = (struct op_task){.rank = rnd(OP_RANKS), .deadline_ns = DEADLINE_NEVER, .overdue_ns = DEADLINE_NEVER};
    if (rnd(8) == 0)
        m->job.task.deadline_ns = m->deadline_ns = now_ns + rnd(60);
    m->job.task.timeout_ns = rnd(8) == 0 ? rnd(60) + 1 : DEADLINE_NEVER;
    m->job.task.needs = m->job.needs;
    uint32_t mask = rnd(1u << RESOURCES) & rnd(1u << RESOURCES);
    for (uint32_t r = 0; r < RESOURCES; r++) {
        if (!(mask & 1u << r))
            continue;
        struct op_need *need = &m->job.needs[m->job.task.need_count++];
        need->resource = resources[r];
        need->amount = rnd(2) ? 0 : 1 + rnd(capacities[r] < 4 ? capacities[r] : 4);
    }
    ck_ok(op_core_submit(&core, &m->job.task, now_ns));
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
    ck_code(op_core_set_capacity(&core, name, capacity), wanted > capacity ? SPOOL_EBUSY : SPOOL_OK);
    capacities[r] = wanted > capacity ? capacities[r] : capacity;
}

static void model_time(uint64_t now_ns)
{
    enum op_due due;
    for (struct op_task *task; (task = op_core_due(&core, now_ns, &due)) != NULL;) {
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
        op_core_complete(&core, &m->job.task);
        m->running = false;
    } else if (m->waiting && dice == 3) {
        op_core_withdraw(&core, &m->job.task);
        m->waiting = false;
    } else if (!m->waiting)
        model_submit(m, now_ns);
    if (rnd(32) == 0) { /* asking changes nothing */
        struct op_block block;
        if (core.waiting.head)
            op_core_explain(&core, core.waiting.tail, &block);
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
                op_core_complete(&core, &jobs[i].job.task);
            jobs[i].running = false;
        }
        if (left == 0)
            break;
        model_dispatch(now_ns);
        model_time(now_ns);
    }
    ck_assert_uint_eq(core.timers.count, 0);
}

START_TEST(grants_as_the_naive_model_does)
{
    random_state = test_seed(20261126);
    for (unsigned run = 0; run < 30; run++) {
        workers = 1 + rnd(8);
        op_core_init(&core, workers, BYPASSES);
        memset(jobs, 0, sizeof jobs);
        tickets = 0;
        for (uint32_t r = 0; r < RESOURCES; r++) {
            char name[2] = {(char)('a' + (int)r), 0};
            ck_ok(op_core_hold(&core, name, &resources[r]));
            capacities[r] = UINT32_MAX;
        }
        uint64_t now_ns = 0;
        for (unsigned step = 0; step < 600; step++)
            model_step(now_ns += rnd(4));
        model_drain(now_ns);
        op_core_free(&core);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("op_model");
    TCase *t = tcase_create("op_model");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, grants_as_the_naive_model_does);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
