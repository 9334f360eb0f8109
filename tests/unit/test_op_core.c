/* test_op_core.c - the scheduler without threads: who is granted what, when, in which order. */
#include "../../delivery/op_core.h"
#include "../../lib/base/sync.h"
#include "fail_nth.h"

enum { BYPASSES = 4, WORKERS = 4 };

struct job {
    struct op_task task;
    struct op_need needs[8];
};

static struct op_core core;

static void begin(void)
{
    op_core_init(&core, WORKERS, BYPASSES);
}
static void end(void)
{
    op_core_free(&core);
}

/* "a b2": all of a, and two of b. */
static void want(struct job *job, const char *text)
{
    char name[16];
    for (int used = 0; sscanf(text, " %15[^ ]%n", name, &used) == 1; text += used) {
        uint32_t digits = (uint32_t)strcspn(name, "0123456789");
        uint32_t amount = name[digits] ? (uint32_t)atoi(name + digits) : 0;
        name[digits] = '\0';
        job->needs[job->task.need_count].amount = amount;
        ck_ok(op_core_hold(&core, name, &job->needs[job->task.need_count++].resource));
    }
}

static struct job job(uint32_t rank)
{
    return (struct job){
        .task = {
            .rank = rank, .deadline_ns = DEADLINE_NEVER, .timeout_ns = DEADLINE_NEVER, .overdue_ns = DEADLINE_NEVER}};
}

static void submit(struct job *job, const char *needs, uint64_t now_ns)
{
    job->task.needs = job->needs;
    want(job, needs);
    ck_ok(op_core_submit(&core, &job->task, now_ns));
}

static void let_go(struct job *job)
{
    for (uint32_t i = 0; i < job->task.need_count; i++)
        op_core_let_go(&core, job->needs[i].resource);
    job->task.need_count = 0;
}

static void complete(struct job *job)
{
    op_core_complete(&core, &job->task);
    let_go(job);
}

#define ck_granted(job) ck_assert_ptr_eq(op_core_grant(&core, 0), &(job)->task)
#define ck_nobody() ck_assert_ptr_null(op_core_grant(&core, 0))

START_TEST(higher_priority_first_then_in_order)
{
    struct job jobs[] = {job(2), job(3), job(0), job(2), job(0)};
    const size_t order[] = {2, 4, 0, 3, 1};
    core.workers = 5;
    for (size_t i = 0; i < 5; i++)
        submit(&jobs[i], "", 0);
    for (size_t i = 0; i < 5; i++)
        ck_granted(&jobs[order[i]]);
    ck_nobody();
    for (size_t i = 0; i < 5; i++)
        complete(&jobs[i]);
}
END_TEST

START_TEST(all_of_it_or_nothing)
{
    struct job a = job(2), ab = job(2), b = job(2);
    submit(&a, "a", 0);
    ck_granted(&a);
    submit(&ab, "a b", 0);
    ck_nobody();
    submit(&b, "b", 0); /* ab holds nothing while it waits */
    ck_granted(&b);
    complete(&a);
    ck_nobody();
    complete(&b);
    ck_granted(&ab);
    complete(&ab);
}
END_TEST

START_TEST(shared_up_to_the_capacity_and_exclusive_alone)
{
    struct job two = job(2), three = job(2), one = job(2), all = job(2);
    ck_ok(op_core_set_capacity(&core, "gpu", 4));
    submit(&two, "gpu2", 0);
    submit(&three, "gpu3", 0);
    submit(&one, "gpu1", 0);
    ck_granted(&two);
    ck_granted(&one);
    ck_nobody();
    submit(&all, "gpu", 0);
    complete(&two);
    ck_granted(&three);
    complete(&one);
    ck_nobody();
    complete(&three);
    ck_granted(&all);
    complete(&all);
}
END_TEST

START_TEST(without_a_capacity_there_is_no_limit_to_sharing)
{
    struct job most = job(2), more = job(2), all = job(2);
    submit(&most, "r4294967295", 0);
    submit(&more, "r4294967295", 0);
    submit(&all, "r", 0);
    ck_granted(&most);
    ck_granted(&more);
    ck_nobody();
    complete(&most);
    complete(&more);
    ck_granted(&all);
    complete(&all);
}
END_TEST

START_TEST(a_worker_is_needed_too)
{
    struct job jobs[WORKERS + 1];
    for (size_t i = 0; i <= WORKERS; i++) {
        jobs[i] = job(2);
        submit(&jobs[i], "", 0);
    }
    for (size_t i = 0; i < WORKERS; i++)
        ck_granted(&jobs[i]);
    ck_nobody();
    struct op_block block;
    op_core_explain(&core, &jobs[WORKERS].task, &block);
    ck_assert_ptr_null(block.resource);
    ck_assert_ptr_null(block.holder);
    complete(&jobs[0]);
    ck_granted(&jobs[WORKERS]);
    for (size_t i = 1; i <= WORKERS; i++)
        complete(&jobs[i]);
}
END_TEST

START_TEST(more_than_there_is_is_refused)
{
    struct job big = job(2), fits = job(2);
    ck_ok(op_core_set_capacity(&core, "gpu", 4));
    big.task.needs = big.needs;
    want(&big, "gpu5");
    ck_code(op_core_submit(&core, &big.task, 0), SPOOL_EINVAL);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "5 of gpu"));
    let_go(&big);
    submit(&fits, "gpu4", 0);
    ck_code(op_core_set_capacity(&core, "gpu", 3), SPOOL_EBUSY);
    ck_granted(&fits);
    ck_ok(op_core_set_capacity(&core, "gpu", 3)); /* who runs keeps what he has */
    complete(&fits);
    struct job less = job(2), beside = job(2);
    submit(&less, "gpu3", 0);
    submit(&beside, "gpu1", 0);
    ck_granted(&less);
    ck_nobody();
    ck_ok(op_core_set_capacity(&core, "gpu", 4));
    ck_granted(&beside);
    complete(&less);
    complete(&beside);
    ck_ok(op_core_set_capacity(&core, "gpu", UINT32_MAX));
    for (size_t i = 0; i < OP_BUCKETS; i++)
        ck_assert_msg(!core.own_table.buckets[i], "a resource that nobody names is still there");
}
END_TEST

/* ----------------------------------------------------------------------------------------------------------- ageing */

/* A task of `rank` that needs `needs` waits beside an endless stream of critical ones for one of its resources. How
 * many of them run before it? */
static unsigned overtaken(uint32_t rank, const char *needs)
{
    struct job waits = job(rank), stream[2] = {job(0), job(0)};
    unsigned granted = 0;
    submit(&stream[0], "r1", 0);
    ck_granted(&stream[0]);
    submit(&waits, needs, 0);
    for (unsigned i = 1; i < 1000; i++) {
        struct job *next = &stream[i % 2], *last = &stream[(i + 1) % 2];
        *next = job(0);
        submit(next, "r1", 0); /* there is always one of the stream that has r … */
        if (!op_core_grant(&core, 0)) {
            complete(last); /* … until it is kept for the one that waits */
            ck_granted(&waits);
            ck_nobody();
            complete(&waits);
            ck_granted(next);
            complete(next);
            return granted;
        }
        granted++;
        complete(last);
    }
    ck_abort_msg("%s starves", needs);
}

START_TEST(nobody_is_overtaken_more_often_than_the_bound)
{
    core.workers = 8;
    ck_assert_uint_eq(overtaken(3, "r"), BYPASSES);
    ck_assert_uint_eq(overtaken(3, "q r s"), BYPASSES);
    ck_ok(op_core_set_capacity(&core, "r", 2));
    ck_assert_uint_eq(overtaken(3, "r2"), BYPASSES); /* the other half is not given away any more */
    ck_assert_uint_eq(overtaken(0, "r2"), BYPASSES); /* whatever the priority */
}
END_TEST

/* With one worker only priority counts: the endless stream needs nothing else. */
START_TEST(low_priority_runs_after_the_bound)
{
    struct job low = job(3), stream;
    core.workers = 1;
    submit(&low, "", 0);
    for (unsigned i = 0; i < BYPASSES; i++) {
        stream = job(0);
        submit(&stream, "", 0);
        ck_granted(&stream);
        complete(&stream);
        ck_assert_uint_eq(op_core_bypasses(&core, &low.task), i + 1);
    }
    stream = job(0);
    submit(&stream, "", 0);
    ck_granted(&low);
    complete(&low);
    ck_granted(&stream);
    complete(&stream);
}
END_TEST

START_TEST(what_an_aged_one_does_not_need_goes_on)
{
    struct job holds = job(0), aged = job(3), other;
    submit(&holds, "a", 0);
    ck_granted(&holds);
    submit(&aged, "a b", 0);
    for (unsigned i = 0; i < 100; i++) {
        other = job(2);
        submit(&other, "c", 0);
        ck_granted(&other);
        complete(&other);
    }
    other = job(0);
    submit(&other, "b", 0);
    ck_nobody(); /* kept */
    struct op_block block;
    op_core_explain(&core, &other.task, &block);
    ck_assert_str_eq(block.resource->name, "b");
    ck_assert_ptr_eq(block.holder, &aged.task);
    op_core_explain(&core, &aged.task, &block);
    ck_assert_str_eq(block.resource->name, "a");
    ck_assert_ptr_eq(block.holder, &holds.task);
    op_core_withdraw(&core, &aged.task);
    let_go(&aged);
    ck_granted(&other);
    complete(&other);
    complete(&holds);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------------- time */

START_TEST(deadlines_timeouts_and_overdue_ones_are_told)
{
    struct job late = job(2), runs = job(2);
    enum op_due due;
    runs.task.timeout_ns = 100;
    runs.task.overdue_ns = 30;
    submit(&runs, "a", 0);
    ck_granted(&runs);
    op_core_begin(&core, &runs.task, 0);
    late.task.deadline_ns = 50;
    submit(&late, "a", 0);
    ck_assert_uint_eq(op_core_next_due(&core), 30);
    ck_assert_ptr_null(op_core_due(&core, 29, &due));
    ck_assert_ptr_eq(op_core_due(&core, 30, &due), &runs.task);
    ck_assert_int_eq(due, OP_DUE_OVERDUE);
    ck_assert_ptr_eq(op_core_due(&core, 50, &due), &late.task);
    ck_assert_int_eq(due, OP_DUE_DEADLINE);
    ck_assert_int_eq(late.task.phase, OP_IDLE);
    let_go(&late);
    ck_assert_ptr_eq(op_core_due(&core, 61, &due), &runs.task); /* twice as long */
    ck_assert_int_eq(due, OP_DUE_OVERDUE);
    ck_assert_ptr_eq(op_core_due(&core, 100, &due), &runs.task);
    ck_assert_int_eq(due, OP_DUE_TIMEOUT);
    ck_assert_ptr_null(op_core_due(&core, 100, &due));
    ck_assert_ptr_eq(op_core_due(&core, 1000, &due), &runs.task);
    ck_assert_int_eq(due, OP_DUE_OVERDUE);
    complete(&runs);
    ck_assert_uint_eq(op_core_next_due(&core), DEADLINE_NEVER);
}
END_TEST

START_TEST(nothing_begins_after_its_deadline)
{
    struct job late = job(0), other = job(3);
    late.task.deadline_ns = 10;
    submit(&late, "", 0);
    submit(&other, "", 0);
    ck_assert_ptr_eq(op_core_grant(&core, 10), &other.task); /* although nobody was told yet */
    ck_assert_ptr_null(op_core_grant(&core, 10));
    enum op_due due;
    ck_assert_ptr_eq(op_core_due(&core, 10, &due), &late.task);
    ck_assert_int_eq(due, OP_DUE_DEADLINE);
    complete(&other);
}
END_TEST

START_TEST(without_memory_nothing_changes)
{
    int code;
    struct job a = job(2), first = job(2);
    fail_each(code, FAIL_MEMORY, op_core_set_capacity(&core, "r", 2)) ck_code(code, ENOMEM);
    ck_ok(code);
    first.task.needs = first.needs;
    fail_each(code, FAIL_MEMORY, op_core_hold(&core, "q", &first.needs[0].resource)) ck_code(code, ENOMEM);
    ck_ok(code);
    first.task.need_count = 1;
    fail_each(code, FAIL_MEMORY, op_core_submit(&core, &first.task, 0))
    {
        ck_code(code, ENOMEM);
        ck_assert_ptr_null(core.waiting.head);
    }
    ck_ok(code);
    submit(&a, "q", 0);
    ck_granted(&first);
    complete(&first);
    ck_granted(&a);
    complete(&a);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("op_core");
    TCase *t = tcase_create("op_core");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 300);
    tcase_add_test(t, higher_priority_first_then_in_order);
    tcase_add_test(t, all_of_it_or_nothing);
    tcase_add_test(t, shared_up_to_the_capacity_and_exclusive_alone);
    tcase_add_test(t, without_a_capacity_there_is_no_limit_to_sharing);
    tcase_add_test(t, a_worker_is_needed_too);
    tcase_add_test(t, more_than_there_is_is_refused);
    tcase_add_test(t, nobody_is_overtaken_more_often_than_the_bound);
    tcase_add_test(t, low_priority_runs_after_the_bound);
    tcase_add_test(t, what_an_aged_one_does_not_need_goes_on);
    tcase_add_test(t, deadlines_timeouts_and_overdue_ones_are_told);
    tcase_add_test(t, nothing_begins_after_its_deadline);
    tcase_add_test(t, without_memory_nothing_changes);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
