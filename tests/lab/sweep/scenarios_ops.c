/* scenarios_ops.c - operations when memory, threads and waits fail: what was handed over runs once and ends once, with all
 * that it needs and nobody else on it; what was refused is never heard of. */
#include "run.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { OPS = 12, CANCELLED = 8, LATE = 11, WAIT_MS = 20000, GPUS = 2 };
static _Atomic uint32_t users_a, users_b, users_gpu; /* that have it now */

struct work {
    unsigned index;
    bool accepted;
    struct spool_op *op;
    _Atomic uint32_t begun, ended;
};
static struct work works[OPS];

static void use(_Atomic uint32_t *users, uint32_t most)
{
    if (atomic_fetch_add(users, 1) >= most)
        violation("more operations than allowed have a resource");
    sleep_ms(1);
    atomic_fetch_sub(users, 1);
}

static int run_work(struct spool_op *op, void *user)
{
    struct work *work = user;
    (void)op;
    if (atomic_fetch_add(&work->begun, 1))
        violation("operation %u ran twice", work->index);
    if (work->index % 3 < 2)
        use(&users_a, 1);
    if (work->index % 3 == 1)
        use(&users_b, 1);
    if (work->index % 3 == 2)
        use(&users_gpu, GPUS);
    return 0;
}

static void end_work(struct spool_op *op, void *user, int result)
{
    struct work *work = user;
    (void)op;
    bool may_fail =
        (work->index == CANCELLED && result == ECANCELED) || (work->index == LATE && result == SPOOL_ETIMEOUT);
    if (result && !may_fail)
        violation("operation %u ended with %s", work->index, spool_error_name(result));
    if (atomic_fetch_add(&work->ended, 1))
        violation("operation %u ended twice", work->index);
}

static void submit(struct spool *spool, struct work *work)
{
    static const struct spool_op_resource needs[3][2] = {
        {{.name = "a"}}, {{.name = "a"}, {.name = "b"}}, {{.name = "gpu", .mode = SPOOL_OP_SHARED}}};
    char name[32];
    snprintf(name, sizeof name, "work %u", work->index);
    struct spool_op_options options =
        SPOOL_OP_OPTIONS(.name = name, .run = run_work, .done = end_work, .user = work,
                         .priority = (enum spool_priority)(work->index % SPOOL_PRIORITIES),
                         .resources = needs[work->index % 3], .resource_count = work->index % 3 == 1 ? 2 : 1,
                         .deadline_ms = work->index == LATE ? 1 : 0);
    work->accepted = answered("spool_op_submit", spool_op_submit(spool, &options, &work->op));
    if (work->accepted && work->index == CANCELLED)
        answered("spool_op_cancel", spool_op_cancel(work->op));
}

static int see_op(void *user, const struct spool_op_info *info)
{
    (void)info;
    ++*(unsigned *)user;
    return 0;
}

static void await_all(void)
{
    for (unsigned i = 0; i < OPS; i++) {
        struct work *work = &works[i];
        if (!work->accepted)
            continue;
        answered("spool_op_wait", spool_op_wait(work->op, WAIT_MS, NULL));
        spool_op_free(work->op);
    }
}

static void check_works(void)
{
    for (unsigned i = 0; i < OPS; i++) {
        uint32_t begun = atomic_load(&works[i].begun), ended = atomic_load(&works[i].ended);
        if (!works[i].accepted && (begun || ended))
            violation("operation %u was refused, and one of its hooks was called", i);
        if (works[i].accepted && (ended != 1 || (begun != 1 && i != CANCELLED && i != LATE)))
            violation("operation %u ran %u times and ended %u times", i, begun, ended);
    }
}

void run_operations(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    unsigned seen = 0;
    fault_arm(true);
    if (!answered("spool_op_set_capacity", spool_op_set_capacity(spool, "gpu", GPUS))) {
        fault_pause(); /* not that they run without: the capacity is what is looked at */
        must_work("spool_op_set_capacity", spool_op_set_capacity(spool, "gpu", GPUS));
        fault_resume();
    }
    for (unsigned i = 0; i < OPS; i++) {
        works[i] = (struct work){.index = i};
        submit(spool, &works[i]);
    }
    answered("spool_op_each", spool_op_each(spool, see_op, &seen));
    if (seen > OPS)
        violation("spool_op_each() showed %u operations of %d", seen, OPS);
    await_all();
    check_works();
    run_end_of(spool);
}
