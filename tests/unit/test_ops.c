/* test_ops.c - operations on real threads: results, cancelling, time, refusals, listing. */
#include "fail_nth.h"
#include "ops_fixture.h"

static struct ops *ops;

static struct ops *make(uint32_t workers)
{
    struct ops *made;
    struct ops_options options = {.workers = workers, .bypasses_max = 4, .reporter = {.on_notice = note_told}};
    ck_ok(ops_new(&options, &made));
    return made;
}

static void begin(void)
{
    ck_ok(fork_watch());
    ops = make(2);
}

static void end(void)
{
    ck_ok(ops_stop(ops, deadline_in_ms(30000)));
    ops_free(ops);
}

/* With one worker instead of two. */
static void one_worker(void)
{
    ops_free(ops);
    ops = make(1);
}

static int result_of(struct probe *probe)
{
    int result = -12345;
    ck_ok(spool_op_wait(probe->op, 60000, &result));
    spool_op_free(probe->op);
    return result;
}

/* Of the library, for operations; sanitizers have some of their own. */
static unsigned threads(void)
{
    unsigned n = 0;
    DIR *tasks = opendir("/proc/self/task");
    ck_assert_ptr_nonnull(tasks);
    for (struct dirent *entry; (entry = readdir(tasks));) {
        char path[300], name[16] = "";
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "r");
        n += file && fgets(name, sizeof name, file) && strncmp(name, "spool-op", 8) == 0;
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return n;
}

/* ---------------------------------------------------------------------------------------------------------- results */

START_TEST(no_thread_before_the_first_one)
{
    struct probe probe = {.gate = true};
    ck_ok(ops_set_capacity(ops, "gpu", 4));
    ck_assert_uint_eq(threads(), 0);
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&probe), &probe.op));
    ck_assert_int_eq(result_of(&probe), 0);
    ck_until(threads() == 2); /* a worker and the watchdog */
    ck_ok(ops_stop(ops, deadline_in_ms(30000)));
    ck_until(threads() == 0); /* the kernel may show one that was joined a little longer */
}
END_TEST

START_TEST(the_result_comes_by_wait_and_by_callback)
{
    struct probe zero = {.gate = true}, own = {.gate = true, .answer = 42};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&zero), &zero.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&own), &own.op));
    ck_assert_uint_eq(spool_op_id(zero.op), 1);
    ck_assert_uint_eq(spool_op_id(own.op), 2);
    int result;
    ck_ok(spool_op_wait(own.op, 60000, NULL));
    ck_assert_uint_eq(own.dones, 1);          /* done has returned when the wait does */
    ck_ok(spool_op_wait(own.op, 0, &result)); /* again, and at once */
    ck_assert_int_eq(result, 42);
    ck_assert_int_eq(result_of(&own), 42);
    ck_assert_int_eq(own.done_result, 42);
    ck_assert_int_eq(result_of(&zero), 0);
    ck_assert_uint_eq(zero.runs, 1);
    ck_assert_uint_eq(zero.cancels, 0);
}
END_TEST

START_TEST(nobody_needs_the_handle)
{
    struct probe early = {0}, never = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&early), &early.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&never), NULL));
    spool_op_free(early.op); /* neither ends nor cancels it */
    ck_until(never.dones == 1);
    ck_assert_uint_eq(early.dones, 0);
    early.gate = true;
    ck_until(early.dones == 1);
    spool_op_free(NULL);
}
END_TEST

START_TEST(a_handle_outlives_the_pool)
{
    struct ops *other = make(1);
    struct probe probe = {.gate = true, .answer = 7};
    ck_ok(ops_submit(other, &PROBE_OPTIONS(&probe), &probe.op));
    ck_ok(spool_op_wait(probe.op, 60000, NULL));
    ck_ok(ops_stop(other, deadline_in_ms(30000)));
    ops_free(other);
    ck_ok(spool_op_cancel(probe.op));
    ck_assert_int_eq(result_of(&probe), 7);
}
END_TEST

START_TEST(a_wait_has_its_time)
{
    struct probe probe = {0}, behind = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&probe, .name = "long", NEEDS(ALL("x"))), &probe.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&behind, .name = "short", NEEDS(SHARE("x", 2))), &behind.op));
    ck_code(spool_op_wait(behind.op, 20, NULL), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "operation 2 \"short\""));
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "waits for x, held by operation 1 \"long\""));
    ck_code(spool_op_wait(probe.op, 0, NULL), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "holds x"));
    probe.gate = true;
    ck_assert_int_eq(result_of(&behind), 0);
    ck_assert_int_eq(result_of(&probe), 0);
}
END_TEST

START_TEST(priorities_and_resources_decide_who_is_next)
{
    one_worker();
    struct probe first = {0}, low = {.gate = true}, medium = {.gate = true}, critical = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&first), &first.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&low, .priority = SPOOL_LOW), &low.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&medium), &medium.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&critical, .priority = SPOOL_CRITICAL), &critical.op));
    first.gate = true;
    ck_assert_int_eq(result_of(&low) + result_of(&medium) + result_of(&critical) + result_of(&first), 0);
    ck_assert_uint_lt(critical.order, medium.order);
    ck_assert_uint_lt(medium.order, low.order);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------- cancelling */

START_TEST(cancelled_while_it_waits_it_never_runs)
{
    struct probe holds = {0}, waits = {0};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&holds, NEEDS(ALL("x"))), &holds.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&waits, NEEDS(ALL("x"))), &waits.op));
    ck_assert(!spool_op_is_cancelled(waits.op));
    ck_ok(spool_op_cancel(waits.op));
    ck_ok(spool_op_cancel(waits.op));
    ck_assert(spool_op_is_cancelled(waits.op));
    ck_assert_int_eq(result_of(&waits), ECANCELED);
    ck_assert_uint_eq(waits.runs + waits.cancels, 0);
    ck_assert_uint_eq(waits.dones, 1);
    ck_assert_int_eq(waits.done_result, ECANCELED);
    holds.gate = true;
    ck_assert_int_eq(result_of(&holds), 0);
}
END_TEST

START_TEST(cancelled_while_it_runs_it_is_told)
{
    struct probe gives_up = {.answer = 5}, succeeds = {.deaf = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&gives_up), &gives_up.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&succeeds), &succeeds.op));
    ck_until(gives_up.runs == 1 && succeeds.runs == 1);
    ck_ok(spool_op_cancel(gives_up.op));
    ck_ok(spool_op_cancel(succeeds.op));
    ck_until(succeeds.cancels == 1);
    ck_ok(spool_op_cancel(succeeds.op));
    succeeds.gate = true;
    ck_assert_int_eq(result_of(&gives_up), ECANCELED); /* why, not what it returned */
    ck_assert_int_eq(result_of(&succeeds), 0);         /* the work was done all the same */
    ck_assert_uint_eq(succeeds.cancels, 1);
    ck_assert_uint_le(gives_up.cancels, 1); /* 0: it had returned before */
    ck_code(spool_op_cancel(NULL), SPOOL_EINVAL);
    ck_assert(!spool_op_is_cancelled(NULL));
    ck_assert_uint_eq(spool_op_id(NULL), 0);
}
END_TEST

static atomic_bool hook_gate;

static void stuck_cancel(struct spool_op *op, void *user)
{
    probe_cancel(op, user);
    while (!atomic_load(&hook_gate))
        usleep(200);
}

/* A cancel hook that hangs: everybody else goes on, and done is not called beside it. */
START_TEST(a_stuck_cancel_hook_keeps_only_its_own)
{
    one_worker();
    struct probe stuck = {.deaf = true}, other = {.gate = true};
    struct spool_op_options options = PROBE_OPTIONS(&stuck, NEEDS(ALL("x")));
    options.cancel = stuck_cancel;
    ck_ok(ops_submit(ops, &options, &stuck.op));
    ck_until(stuck.runs == 1);
    ck_ok(spool_op_cancel(stuck.op));
    ck_until(stuck.cancels == 1);
    stuck.gate = true;
    ck_code(spool_op_wait(stuck.op, 20, NULL), SPOOL_ETIMEOUT);
    ck_assert_uint_eq(stuck.dones, 0);
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&other, .deadline_ms = 1, NEEDS(ALL("x"))), &other.op));
    ck_assert_int_eq(result_of(&other), SPOOL_ETIMEOUT); /* deadlines are kept meanwhile */
    atomic_store(&hook_gate, true);
    ck_assert_int_eq(result_of(&stuck), 0);
    ck_assert_uint_eq(stuck.dones, 1);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------------- time */

START_TEST(what_does_not_begin_by_its_deadline_never_runs)
{
    struct probe holds = {0}, late = {0};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&holds, NEEDS(ALL("x"))), &holds.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&late, .deadline_ms = 10, NEEDS(ALL("x"))), &late.op));
    ck_assert_int_eq(result_of(&late), SPOOL_ETIMEOUT);
    ck_assert_uint_eq(late.runs, 0);
    ck_assert_uint_eq(late.dones, 1);
    ck_assert_uint_eq(holds.dones, 0);
    holds.gate = true;
    ck_assert_int_eq(result_of(&holds), 0);
}
END_TEST

START_TEST(what_overruns_its_timeout_is_cancelled_and_named)
{
    struct probe probe = {.answer = 9};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&probe, .name = "reflect", .timeout_ms = 10, NEEDS(ALL("agent:a"), ALL("b"))),
                     &probe.op));
    ck_assert_int_eq(result_of(&probe), SPOOL_ETIMEOUT);
    ck_until(was_told("operation 1 \"reflect\" runs for"));
    ck_assert(was_told("timeout") && was_told("holds agent:a, b"));
}
END_TEST

/* It holds what it has, but not a worker's place. */
START_TEST(one_that_ignores_its_timeout_does_not_hold_up_the_rest)
{
    one_worker();
    struct probe deaf = {.deaf = true}, free_one = {.gate = true}, blocked = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&deaf, .timeout_ms = 5, NEEDS(ALL("x"))), &deaf.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&blocked, NEEDS(ALL("x"))), &blocked.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&free_one), &free_one.op));
    ck_assert_int_eq(result_of(&free_one), 0);
    ck_code(spool_op_wait(blocked.op, 10, NULL), SPOOL_ETIMEOUT);
    deaf.gate = true;
    ck_assert_int_eq(result_of(&blocked), 0);
    ck_assert_int_eq(result_of(&deaf), 0); /* it returned 0: done, if late */
    ck_assert_uint_eq(deaf.cancels, 1);
}
END_TEST

START_TEST(the_watchdog_names_what_waits_and_who_holds)
{
    struct probe holds = {0}, waits = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&holds, .name = "train", NEEDS(ALL("gpu"))), &holds.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&waits, .name = "infer", .overdue_ms = 5, NEEDS(ALL("gpu"))), &waits.op));
    ck_until(was_told("operation 2 \"infer\" waits for"));
    ck_assert(was_told("waits for gpu, held by operation 1 \"train\""));
    ck_until(told_count() >= 3); /* again, after twice the time, and so on */
    holds.gate = true;
    ck_assert_int_eq(result_of(&waits), 0);
    ck_assert_int_eq(result_of(&holds), 0);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- refusals */

static int wait_inside(struct spool_op *op, void *user)
{
    (void)op;
    struct probe *probe = user;
    while (!atomic_load(&probe->gate))
        usleep(200);
    probe->code = spool_op_wait(probe->other ? probe->other : op, 60000, NULL);
    snprintf(probe->message, sizeof probe->message, "%s", spool_last_error());
    return 0;
}

START_TEST(waiting_inside_an_operation_is_refused_and_says_who_holds_what)
{
    struct probe outer = {0}, inner = {.gate = true}, self = {.gate = true};
    struct spool_op_options options = PROBE_OPTIONS(&outer, .name = "outer", NEEDS(ALL("a"), SHARE("b", 0)));
    options.run = wait_inside;
    ck_ok(ops_submit(ops, &options, &outer.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&inner, .name = "inner", NEEDS(ALL("a"))), &inner.op));
    outer.other = inner.op;
    outer.gate = true;
    ck_assert_int_eq(result_of(&outer), 0);
    ck_assert_int_eq(outer.code, SPOOL_EDEADLK);
    ck_assert_ptr_nonnull(strstr(outer.message, "operation 1 \"outer\" (holds a, b (1 shared))"));
    ck_assert_ptr_nonnull(
        strstr(outer.message, "operation 2 \"inner\", which waits for a, held by operation 1 \"outer\""));
    ck_assert_int_eq(result_of(&inner), 0);
    options = PROBE_OPTIONS(&self);
    options.run = wait_inside;
    ck_ok(ops_submit(ops, &options, &self.op));
    ck_assert_int_eq(result_of(&self), 0);
    ck_assert_int_eq(self.code, SPOOL_EDEADLK);
}
END_TEST

static void wait_in_done(struct spool_op *op, void *user, int result)
{
    struct probe *probe = user;
    probe->code = spool_op_wait(op, 1000, NULL);
    probe_done(op, user, result);
}

static void *wait_in_thread(void *user)
{
    struct probe *probe = user;
    probe->code = spool_op_wait(probe->op, 1000, NULL);
    snprintf(probe->message, sizeof probe->message, "%s", spool_last_error());
    return NULL;
}

START_TEST(so_is_waiting_in_other_hooks_and_threads_of_the_library)
{
    struct probe probe = {0};
    struct spool_op_options options = PROBE_OPTIONS(&probe);
    options.done = wait_in_done;
    ck_ok(ops_submit(ops, &options, &probe.op));
    pthread_t thread;
    ck_ok(thread_start(&thread, "test", wait_in_thread, &probe));
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_eq(probe.code, SPOOL_EDEADLK);
    ck_assert_ptr_nonnull(strstr(probe.message, "a thread of the library would wait for operation 1"));
    probe.code = 0;
    probe.gate = true;
    ck_assert_int_eq(result_of(&probe), 0);
    ck_assert_int_eq(probe.code, SPOOL_EDEADLK);
}
END_TEST

static int submit_inside(struct spool_op *op, void *user)
{
    struct probe *probe = user;
    (void)op;
    probe->code = ops_submit(ops, &PROBE_OPTIONS(probe->other), NULL);
    return 0;
}

START_TEST(submitting_inside_one_is_fine)
{
    one_worker();
    struct probe outer = {0}, follows = {.gate = true};
    struct spool_op_options options = PROBE_OPTIONS(&outer);
    options.run = submit_inside;
    outer.other = (void *)&follows;
    ck_ok(ops_submit(ops, &options, NULL));
    ck_until(follows.dones == 1);
    ck_ok(outer.code);
}
END_TEST

START_TEST(what_makes_no_sense_is_refused)
{
    struct probe probe = {.gate = true};
    char long_name[SPOOL_OP_RESOURCE_MAX + 2];
    memset(long_name, 'n', sizeof long_name);
    long_name[sizeof long_name - 1] = '\0';
    static struct spool_op_resource many[SPOOL_OP_RESOURCES_MAX + 1];
#define REFUSED(want, ...) ck_code(ops_submit(ops, &PROBE_OPTIONS(&probe, __VA_ARGS__), &probe.op), want)
    struct spool_op_options no_run = PROBE_OPTIONS(&probe);
    no_run.run = NULL;
    ck_code(ops_submit(ops, &no_run, NULL), SPOOL_EINVAL);
    REFUSED(SPOOL_EINVAL, .priority = (enum spool_priority)4);
    REFUSED(SPOOL_EOPTION, .flags = 2);
    REFUSED(SPOOL_EINVAL, .name = long_name);
    REFUSED(SPOOL_EUTF8, .name = "a\nb");
    REFUSED(SPOOL_EINVAL, .resource_count = 1);
    REFUSED(SPOOL_EINVAL, .resources = many, .resource_count = SPOOL_OP_RESOURCES_MAX + 1);
    REFUSED(SPOOL_EINVAL, NEEDS(ALL(NULL)));
    REFUSED(SPOOL_EINVAL, NEEDS(ALL("")));
    REFUSED(SPOOL_EINVAL, NEEDS(ALL(long_name)));
    REFUSED(SPOOL_EUTF8, NEEDS(ALL("a"), ALL("\xff")));
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "resource 1"));
    REFUSED(SPOOL_EINVAL, NEEDS(ALL("a"), ALL("b"), SHARE("a", 0)));
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "a is named twice"));
    REFUSED(SPOOL_EINVAL, NEEDS({.name = "a", .mode = (enum spool_op_mode)2}));
    REFUSED(SPOOL_EINVAL, NEEDS({.name = "a", .amount = 2}));
    ck_ok(ops_set_capacity(ops, "gpu", 2));
    REFUSED(SPOOL_EINVAL, NEEDS(SHARE("gpu", 3)));
    ck_code(ops_set_capacity(ops, "", 2), SPOOL_EINVAL);
    ck_code(ops_set_capacity(ops, NULL, 2), SPOOL_EINVAL);
    ck_assert_ptr_null(probe.op);
    ck_assert_uint_eq(probe.runs + probe.dones, 0);
    ck_code(spool_op_wait(NULL, 0, NULL), SPOOL_EINVAL);
    struct ops *none = NULL;
    ck_code(ops_new(&(struct ops_options){.workers = 65, .bypasses_max = 1}, &none), SPOOL_EINVAL);
    ck_code(ops_new(&(struct ops_options){.workers = 1}, &none), SPOOL_EINVAL);
    ck_assert_ptr_null(none);
}
END_TEST

START_TEST(there_is_an_end_to_how_many_wait)
{
    one_worker();
    struct probe holds = {0}, many = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&holds, NEEDS(ALL("x"))), NULL));
    ck_until(holds.runs == 1);
    for (unsigned i = 1; i < SPOOL_OPS_MAX; i++)
        ck_ok(ops_submit(ops, &PROBE_OPTIONS(&many, NEEDS(SHARE("x", 0))), NULL));
    ck_code(ops_submit(ops, &PROBE_OPTIONS(&many), NULL), SPOOL_EFULL);
    holds.gate = true;
    ck_until(many.dones == SPOOL_OPS_MAX - 1);
    ck_until(ops_submit(ops, &PROBE_OPTIONS(&many), NULL) == SPOOL_OK);
    ck_until(many.dones == SPOOL_OPS_MAX);
}
END_TEST

/* No memory, no thread: an error, and nothing else. */
START_TEST(without_memory_or_threads_it_is_refused)
{
    static const enum fail_class classes[] = {FAIL_MEMORY, FAIL_THREAD};
    for (size_t i = 0; i < 2; i++) {
        struct ops *made = NULL;
        struct ops_options options = {.workers = 1, .bypasses_max = 4};
        int code;
        fail_each(code, classes[i], ops_new(&options, &made))
        {
            ck_documented(code);
            ck_assert_ptr_null(made);
        }
        ck_ok(code);
        struct probe probe = {.gate = true};
        struct spool_op_options op = PROBE_OPTIONS(&probe, NEEDS(ALL("a"), ALL("b")));
        fail_each(code, classes[i], ops_submit(made, &op, &probe.op))
        {
            ck_documented(code);
            ck_assert_ptr_null(probe.op);
            ck_assert_uint_eq(probe.runs + probe.dones, 0);
        }
        ck_ok(code);
        ck_assert_int_eq(result_of(&probe), 0);
        ck_ok(ops_stop(made, deadline_in_ms(30000)));
        ops_free(made);
    }
}
END_TEST

/* A second worker that cannot be started is tried again by the watchdog. */
START_TEST(a_thread_that_could_not_be_started_comes_later)
{
    struct probe first = {0}, second = {.gate = true};
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&first), &first.op));
    ck_until(first.runs == 1);
    fail_arm_from(FAIL_THREAD, 1);
    int code = ops_submit(ops, &PROBE_OPTIONS(&second), &second.op);
    fail_disarm();
    ck_ok(code);
    ck_assert_int_eq(result_of(&second), 0);
    first.gate = true;
    ck_assert_int_eq(result_of(&first), 0);
}
END_TEST

/* ---------------------------------------------------------------------------------------------------------- listing */

struct listed {
    unsigned n;
    char text[8][600];
    unsigned stop_at;
    struct probe *let_go; /* end this one in the middle */
};

static int list(void *user, const struct spool_op_info *info)
{
    struct listed *l = user;
    snprintf(l->text[l->n++ % 8], sizeof *l->text, "%lu %s %s %s [%s] %s %lu %s", (unsigned long)info->id, info->name,
             spool_op_state_name(info->state), spool_priority_name(info->priority), info->resources, info->waits_for,
             (unsigned long)info->holder, info->holder_name);
    if (l->let_go) {
        l->let_go->gate = true;
        ck_until(l->let_go->dones == 1);
        ck_ok(spool_op_wait(l->let_go->op, 60000, NULL));
        l->let_go = NULL;
    }
    return l->n == l->stop_at ? 77 : 0;
}

START_TEST(what_runs_what_waits_and_for_what_is_listed)
{
    struct probe a = {0}, b = {.deaf = true}, c = {.gate = true};
    struct listed l = {0};
    ck_ok(ops_each(ops, list, &l));
    ck_assert_uint_eq(l.n, 0);
    ck_ok(ops_set_capacity(ops, "gpu", 3));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&a, .name = "a", NEEDS(SHARE("gpu", 2), ALL("x"))), &a.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&b, .name = "b", .priority = SPOOL_HIGH), &b.op));
    ck_ok(ops_submit(ops, &PROBE_OPTIONS(&c, .name = "c", NEEDS(ALL("y"), ALL("gpu"))), &c.op));
    ck_until(a.runs == 1 && b.runs == 1);
    ck_ok(spool_op_cancel(b.op));
    ck_ok(ops_each(ops, list, &l));
    ck_assert_uint_eq(l.n, 3);
    ck_assert_str_eq(l.text[0], "1 a running medium [gpu (2 shared), x]  0 ");
    ck_assert_str_eq(l.text[2], "3 c waiting medium [y, gpu] gpu 1 a");
    l = (struct listed){.stop_at = 2};
    ck_assert_int_eq(ops_each(ops, list, &l), 77);
    ck_assert_uint_eq(l.n, 2);
    l = (struct listed){.let_go = &a}; /* the one at hand ends: the rest is seen all the same */
    ck_ok(ops_each(ops, list, &l));
    ck_assert_uint_ge(l.n, 2);
    b.gate = true;
    ck_assert_int_eq(result_of(&a) + result_of(&c), 0);
    result_of(&b);
    ck_assert_ptr_null(spool_op_state_name((enum spool_op_state)0));
    for (int state = SPOOL_OP_WAITING; state <= SPOOL_OP_HUNG; state++)
        ck_assert_ptr_nonnull(spool_op_state_name((enum spool_op_state)state));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ops");
    TCase *t = tcase_create("ops");
    tcase_add_checked_fixture(t, begin, end);
    tcase_set_timeout(t, 300);
    tcase_add_test(t, no_thread_before_the_first_one);
    tcase_add_test(t, the_result_comes_by_wait_and_by_callback);
    tcase_add_test(t, nobody_needs_the_handle);
    tcase_add_test(t, a_handle_outlives_the_pool);
    tcase_add_test(t, a_wait_has_its_time);
    tcase_add_test(t, priorities_and_resources_decide_who_is_next);
    tcase_add_test(t, cancelled_while_it_waits_it_never_runs);
    tcase_add_test(t, cancelled_while_it_runs_it_is_told);
    tcase_add_test(t, a_stuck_cancel_hook_keeps_only_its_own);
    tcase_add_test(t, what_does_not_begin_by_its_deadline_never_runs);
    tcase_add_test(t, what_overruns_its_timeout_is_cancelled_and_named);
    tcase_add_test(t, one_that_ignores_its_timeout_does_not_hold_up_the_rest);
    tcase_add_test(t, the_watchdog_names_what_waits_and_who_holds);
    tcase_add_test(t, waiting_inside_an_operation_is_refused_and_says_who_holds_what);
    tcase_add_test(t, so_is_waiting_in_other_hooks_and_threads_of_the_library);
    tcase_add_test(t, submitting_inside_one_is_fine);
    tcase_add_test(t, what_makes_no_sense_is_refused);
    tcase_add_test(t, there_is_an_end_to_how_many_wait);
    tcase_add_test(t, without_memory_or_threads_it_is_refused);
    tcase_add_test(t, a_thread_that_could_not_be_started_comes_later);
    tcase_add_test(t, what_runs_what_waits_and_for_what_is_listed);
    suite_add_tcase(s, t);
    return s;
}
CHECK_MAIN(suite)
