/* sched.c - see sched.h. A coroutine begins by makecontext() and is then switched by setjmp/longjmp, which costs no
 * system call. All run on one thread of the system, so that what the library keeps per thread (its last message, whose
 * thread it is) is exchanged at every switch: the program's own block of thread-local storage is copied. */
#include "sched.h"

#include <link.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { CO_MAX = 512, STACK_SIZE = 256 << 10, TLS_MAX = 16 << 10, SPIN_STEPS = 30000, SPIN_RATE = 6000 };

struct co {
    uint64_t id;
    int proc;
    char name[24];
    co_body *body;
    void *arg;
    char *stack;
    jmp_buf at;
    bool started, waiting, timed_out, spurious, doomed;
    const void *on;
    const char *why;
    uint64_t deadline_ns, stalled_until_ns;
    uint32_t priority, locks;
    uint64_t acquired;
    uint8_t tls[TLS_MAX];
};

static struct {
    struct sched_options options;
    struct rng rng;
    struct co *cos[CO_MAX];
    size_t count;
    struct co *current;
    uint64_t now_ns, steps, hash, next_id, excused_ns, excused_until_ns;
    uint64_t progress_steps, progress_ns;
    uint64_t faults[FAULTS];
    uint32_t kill_after[PROCS_MAX];
    bool kill[PROCS_MAX];
    bool ended, quiet;
    jmp_buf main_at;
    uint8_t main_tls[TLS_MAX];
} s;

static struct co *spare[CO_MAX]; /* kept from run to run, with their stacks */
static size_t spare_count;
static uint8_t *tls_block;
static size_t tls_size;
static uint8_t tls_fresh[TLS_MAX];

/* ------------------------------------------------------------------------------------------------------- faults */

const char *fault_text(enum fault fault)
{
    static const char *const texts[] = {
#define SIM_FAULT_TEXT(name, text) text,
        SIM_FAULTS(SIM_FAULT_TEXT)
#undef SIM_FAULT_TEXT
    };
    return texts[fault];
}

void fault_count(enum fault fault)
{
    s.faults[fault]++;
    sched_mix(fault);
}

const uint64_t *sched_faults(void)
{
    return s.faults;
}

/* ------------------------------------------------------------------------------------- thread-local storage, stacks */

static int find_tls(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size, (void)user;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            tls_block = info->dlpi_tls_data;
            tls_size = info->dlpi_phdr[i].p_memsz;
        }
    }
    return 1; /* the program itself is the first */
}

static void prepare_tls(void)
{
    if (tls_block)
        return;
    dl_iterate_phdr(find_tls, NULL);
    if (!tls_block || tls_size > TLS_MAX) {
        fprintf(stderr, "sim: no thread-local block, or a too large one\n");
        abort();
    }
    memcpy(tls_fresh, tls_block, tls_size);
}

static struct co *co_get(void)
{
    if (spare_count > 0)
        return spare[--spare_count];
    struct co *co = mmap(NULL, sizeof *co, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (co == MAP_FAILED || stack == MAP_FAILED || mprotect(stack, 4096, PROT_NONE) != 0) {
        perror("sim: stack");
        abort();
    }
    co->stack = stack;
    return co;
}

static void co_remove(size_t i)
{
    spare[spare_count++] = s.cos[i];
    memmove(s.cos + i, s.cos + i + 1, (s.count - i - 1) * sizeof *s.cos);
    s.count--;
}

/* ------------------------------------------------------------------------------------------------------- switching */

static void to_main(void)
{
    struct co *self = s.current;
    memcpy(self->tls, tls_block, tls_size);
    if (_setjmp(self->at) == 0) {
        memcpy(tls_block, s.main_tls, tls_size);
        _longjmp(s.main_at, 1);
    }
    memcpy(tls_block, self->tls, tls_size);
}

static const void *join_address(uint64_t id)
{
    return (const void *)(uintptr_t)(id * 2 + 1); /* odd: no address of anything */
}

static void co_main(void)
{
    struct co *self = s.current;
    self->body(self->arg);
    co_wake_all(join_address(self->id));
    self->doomed = true;
    to_main();
}

static void co_enter(struct co *co)
{
    s.current = co;
    memcpy(s.main_tls, tls_block, tls_size);
    if (_setjmp(s.main_at) == 0) {
        if (co->started)
            _longjmp(co->at, 1);
        co->started = true;
        memcpy(tls_block, tls_fresh, tls_size);
        ucontext_t context;
        getcontext(&context);
        context.uc_stack.ss_sp = co->stack;
        context.uc_stack.ss_size = STACK_SIZE;
        context.uc_link = NULL;
        makecontext(&context, co_main, 0);
        setcontext(&context);
    }
    s.current = NULL;
}

uint64_t co_start(int proc, const char *name, co_body *body, void *arg)
{
    if (s.count == CO_MAX) {
        violation("threads", "more than %d threads", CO_MAX);
        return 0;
    }
    struct co *co = co_get();
    char *stack = co->stack;
    memset(co, 0, offsetof(struct co, tls));
    co->stack = stack;
    co->id = ++s.next_id;
    co->proc = proc;
    snprintf(co->name, sizeof co->name, "%s", name);
    co->body = body;
    co->arg = arg;
    co->deadline_ns = NEVER;
    co->priority = (uint32_t)rng_next(&s.rng) | 1;
    s.cos[s.count++] = co;
    return co->id;
}

bool co_is_alive(uint64_t id)
{
    for (size_t i = 0; i < s.count; i++)
        if (s.cos[i]->id == id)
            return !s.cos[i]->doomed;
    return false;
}

uint64_t co_self(void)
{
    return s.current ? s.current->id : 0;
}

int co_proc(void)
{
    return s.current ? s.current->proc : PROC_NONE;
}

const char *co_name(void)
{
    return s.current ? s.current->name : "-";
}

uint32_t *co_locks(void)
{
    return &s.current->locks;
}

uint64_t *co_acquired(void)
{
    return &s.current->acquired;
}

void co_rename(const char *name)
{
    if (s.current)
        snprintf(s.current->name, sizeof s.current->name, "%s", name);
}

/* ------------------------------------------------------------------------------------------------- synchronising */

static void step(void)
{
    s.steps++;
    s.now_ns += rng_below(&s.rng, s.options.step_max_ns) + 1;
}

/* Somebody does nothing until then, through no fault of his own. */
static void excuse(uint64_t ns, uint64_t until_ns)
{
    s.excused_ns += ns;
    if (s.excused_until_ns < until_ns)
        s.excused_until_ns = until_ns;
}

uint64_t sched_excused_ns(void)
{
    return s.excused_ns;
}

uint64_t sched_excused_from(void)
{
    uint64_t left_ns = s.excused_until_ns > s.now_ns ? s.excused_until_ns - s.now_ns : 0;
    return s.excused_ns > left_ns ? s.excused_ns - left_ns : 0;
}

static void count_down_to_crash(void)
{
    int proc = s.current->proc;
    if (proc == PROC_NONE || s.kill_after[proc] == 0 || --s.kill_after[proc] > 0)
        return;
    s.kill[proc] = true;
}

void co_point(void)
{
    step();
    count_down_to_crash();
    bool dying = s.current->proc != PROC_NONE && s.kill[s.current->proc];
    if (dying || s.ended || s.options.by_priority || rng_chance(&s.rng, s.options.switches))
        to_main();
}

bool co_wait(const void *on, uint64_t deadline_ns, const char *why, bool spurious)
{
    struct co *self = s.current;
    step();
    count_down_to_crash();
    if (deadline_ns <= s.now_ns)
        return false;
    if (deadline_ns != NEVER && !s.quiet && rng_chance(&s.rng, s.options.late)) {
        uint64_t late_ns = rng_scale(&s.rng, MS, SEC);
        deadline_ns += late_ns;
        excuse(late_ns, deadline_ns);
        fault_count(FAULT_LATE);
    }
    self->waiting = true;
    self->timed_out = false;
    self->spurious = spurious;
    self->on = on;
    self->why = why;
    self->deadline_ns = deadline_ns;
    to_main();
    self->on = NULL;
    self->deadline_ns = NEVER;
    return !self->timed_out;
}

void co_sleep(uint64_t ns)
{
    uint64_t until_ns = s.now_ns + ns;
    while (s.now_ns < until_ns)
        co_wait(NULL, until_ns, "sleep", false);
}

void co_wake_all(const void *on)
{
    for (size_t i = 0; i < s.count; i++)
        if (s.cos[i]->waiting && s.cos[i]->on == on)
            s.cos[i]->waiting = false;
}

void co_wake_one(const void *on)
{
    struct co *found[CO_MAX];
    size_t n = 0;
    for (size_t i = 0; i < s.count; i++)
        if (s.cos[i]->waiting && s.cos[i]->on == on)
            found[n++] = s.cos[i];
    if (n > 0)
        found[rng_below(&s.rng, n)]->waiting = false;
}

/* --------------------------------------------------------------------------------------------------- crash and stall
 */

void sched_kill(int proc)
{
    s.kill[proc] = true;
    if (s.current && s.current->proc == proc)
        to_main();
}

void sched_kill_after(int proc, uint32_t points)
{
    s.kill_after[proc] = points;
}

static void bury_dead(void)
{
    for (size_t i = s.count; i-- > 0;)
        if (s.cos[i]->doomed)
            co_remove(i);
    for (int proc = 0; proc < PROCS_MAX; proc++) {
        if (!s.kill[proc])
            continue;
        for (size_t i = s.count; i-- > 0;)
            if (s.cos[i]->proc == proc)
                co_remove(i);
        s.kill[proc] = false;
        s.kill_after[proc] = 0;
        proc_died(proc);
    }
}

void sched_stall(int proc, uint64_t ns)
{
    size_t of_proc[CO_MAX], n = 0;
    for (size_t i = 0; i < s.count; i++)
        if (s.cos[i]->proc == proc)
            of_proc[n++] = i;
    if (n == 0)
        return;
    struct co *co = s.cos[of_proc[rng_below(&s.rng, n)]];
    co->stalled_until_ns = s.now_ns + ns;
    excuse(ns, co->stalled_until_ns);
    fault_count(FAULT_STALL);
    trace("%s is stalled for %llu ms", co->name, (unsigned long long)(ns / MS));
}

size_t sched_count(int proc)
{
    size_t n = 0;
    for (size_t i = 0; i < s.count; i++)
        n += s.cos[i]->proc == proc;
    return n;
}

/* ---------------------------------------------------------------------------------------------------------- choosing
 */

static bool can_run(struct co *co)
{
    if (co->stalled_until_ns > s.now_ns)
        return false;
    if (co->waiting && co->deadline_ns <= s.now_ns) {
        co->waiting = false;
        co->timed_out = true;
    }
    return !co->waiting;
}

static uint64_t next_moment(void)
{
    uint64_t next = NEVER;
    for (size_t i = 0; i < s.count; i++) {
        const struct co *co = s.cos[i];
        uint64_t at = co->waiting ? co->deadline_ns : 0;
        if (at != NEVER && at < co->stalled_until_ns)
            at = co->stalled_until_ns;
        if (at < next)
            next = at;
    }
    return next;
}

static void wake_one_spuriously(void)
{
    if (s.quiet || s.count == 0 || !rng_chance(&s.rng, s.options.spurious))
        return;
    struct co *co = s.cos[rng_below(&s.rng, s.count)];
    if (!co->waiting || !co->spurious)
        return;
    co->waiting = false;
    fault_count(FAULT_SPURIOUS);
}

static struct co *highest(struct co **ready, size_t n)
{
    struct co *best = ready[0];
    for (size_t i = 1; i < n; i++)
        if (ready[i]->priority > best->priority)
            best = ready[i];
    if (rng_chance(&s.rng, 50)) /* a change point: whoever was first is now last */
        best->priority = (uint32_t)rng_below(&s.rng, best->priority) | 1;
    return best;
}

/* NULL: nobody will ever run again. */
static struct co *choose(void)
{
    struct co *ready[CO_MAX];
    size_t n = 0;
    wake_one_spuriously();
    for (;;) {
        for (size_t i = 0; i < s.count; i++)
            if (can_run(s.cos[i]))
                ready[n++] = s.cos[i];
        if (n > 0)
            break;
        uint64_t next = next_moment();
        if (next == NEVER)
            return NULL;
        s.now_ns = next;
    }
    return s.options.by_priority ? highest(ready, n) : ready[rng_below(&s.rng, n)];
}

/* ----------------------------------------------------------------------------------------------------------- running
 */

void sched_begin(const struct sched_options *options)
{
    prepare_tls();
    while (s.count > 0)
        co_remove(s.count - 1);
    memset(&s, 0, sizeof s);
    s.options = *options;
    s.rng = rng_make(options->seed, 1);
    s.now_ns = s.progress_ns = 1000 * SEC;
    s.hash = 0xcbf29ce484222325ull;
}

static void check_spinning(void)
{
    uint64_t steps = s.steps - s.progress_steps, ns = s.now_ns - s.progress_ns;
    if (steps < SPIN_STEPS)
        return;
    if (steps > (ns / SEC + 1) * SPIN_RATE)
        violation("spinning", "%llu steps in %llu ms without anything getting done", (unsigned long long)steps,
                  (unsigned long long)(ns / MS));
    sched_progress();
}

void sched_run(void)
{
    while (!s.ended && !violated()) {
        struct co *co = choose();
        if (!co) {
            sched_print();
            violation("deadlock", "nobody can go on, and nothing will happen any more");
            return;
        }
        sched_mix(co->id ^ s.now_ns << 8);
        co_enter(co);
        bury_dead();
        check_spinning();
    }
}

void sched_end(void)
{
    s.ended = true;
}

void sched_quiet(void)
{
    s.quiet = true;
    memset(s.kill_after, 0, sizeof s.kill_after);
    for (size_t i = 0; i < s.count; i++)
        s.cos[i]->stalled_until_ns = 0;
}

void sched_wake_everybody(void)
{
    for (size_t i = 0; i < s.count; i++)
        s.cos[i]->waiting &= !s.cos[i]->spurious;
}

uint64_t sched_now(void)
{
    return s.now_ns;
}

uint64_t sched_steps(void)
{
    return s.steps;
}

uint64_t sched_hash(void)
{
    return s.hash;
}

void sched_mix(uint64_t value)
{
    s.hash = (s.hash ^ value) * 0x100000001b3ull;
    s.hash ^= s.hash >> 29;
}

void sched_progress(void)
{
    s.progress_steps = s.steps;
    s.progress_ns = s.now_ns;
}

void sched_print(void)
{
    for (size_t i = 0; s.options.trace && i < s.count; i++) {
        const struct co *co = s.cos[i];
        printf("    %llu %s of process %d: %s%s", (unsigned long long)co->id, co->name, co->proc,
               co->waiting ? "waits for " : "can run", co->waiting ? co->why : "");
        if (co->waiting && co->deadline_ns != NEVER)
            printf(" until %.6f s", (double)co->deadline_ns / 1e9);
        printf("\n");
    }
}
