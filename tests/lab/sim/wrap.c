/* wrap.c - what the code under simulation gets instead of threads, locks, clocks and memory (flags.mk has the list).
 *
 * Locks and conditions live in the library's own pthread objects: their first words are used, with a mark that tells
 * whether they were initialised. A violation of the rules of pthreads is one of ours. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "../../../delivery/breaker.h"
#include "../../../delivery/filter.h"
#include "../../../delivery/keys.h"
#include "../../../delivery/sinks/group.h"
#include "arena.h"
#include "sched.h"
#include "world.h"

struct sim_lock {
    uint64_t mark, owner;
};

struct sim_cond {
    uint64_t mark;
};

static const uint64_t lock_mark = 0x10cc10cc10cc10ccull, cond_mark = 0xc0dec0dec0dec0deull;

/* ---------------------------------------------------------------------------------------------------------- memory */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);
void __wrap_free(void *p);
char *__wrap_strdup(const char *text);

static bool memory_fails(void)
{
    if (!rng_chance(&world.fault_rng, world.memory_fails))
        return false;
    fault_count(FAULT_MEMORY);
    return true;
}

void *__wrap_malloc(size_t size)
{
    if (co_proc() == PROC_NONE)
        return __real_malloc(size);
    return memory_fails() ? NULL : arena_get(co_proc(), size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    if (co_proc() == PROC_NONE)
        return __real_calloc(n, size);
    void *p = memory_fails() ? NULL : arena_get(co_proc(), n * size);
    return p ? memset(p, 0, n * size) : NULL;
}

void *__wrap_realloc(void *p, size_t size)
{
    if (co_proc() == PROC_NONE || (p && !arena_owns(p)))
        return __real_realloc(p, size);
    void *grown = memory_fails() ? NULL : arena_get(co_proc(), size);
    if (grown && p) {
        memcpy(grown, p, arena_size(p) < size ? arena_size(p) : size);
        arena_put(p);
    }
    return grown;
}

void __wrap_free(void *p)
{
    if (p && arena_owns(p))
        arena_put(p);
    else
        __real_free(p);
}

char *__wrap_strdup(const char *text)
{
    char *copy = __wrap_malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

/* ----------------------------------------------------------------------------------------------- clocks, randomness */

int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);
ssize_t __wrap_getrandom(void *buf, size_t size, unsigned flags);
struct jitter;
uint64_t __real_backoff_draw_ns(struct jitter *jitter, uint32_t failures, uint32_t base_ms, uint32_t cap_ms);
uint64_t __wrap_backoff_draw_ns(struct jitter *jitter, uint32_t failures, uint32_t base_ms, uint32_t cap_ms);
enum breaker_change __real_breaker_failed(struct breaker *b, struct jitter *jitter, uint64_t now_ns);
enum breaker_change __wrap_breaker_failed(struct breaker *b, struct jitter *jitter, uint64_t now_ns);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    if (!co_self())
        return __real_clock_gettime(clock, ret);
    uint64_t ns = clock == CLOCK_REALTIME ? world_wall_ns() : sched_now();
    *ret = (struct timespec){.tv_sec = (time_t)(ns / SEC), .tv_nsec = (long)(ns % SEC)};
    return 0;
}

ssize_t __wrap_getrandom(void *buf, size_t size, unsigned flags)
{
    (void)flags;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)buf)[i] = (uint8_t)rng_next(&world.fault_rng);
    return (ssize_t)size;
}

uint64_t __wrap_backoff_draw_ns(struct jitter *jitter, uint32_t failures, uint32_t base_ms, uint32_t cap_ms)
{
    if (world.control == CONTROL_BACKOFF_NONE)
        return 0;
    uint64_t ns = __real_backoff_draw_ns(jitter, failures, base_ms, cap_ms);
    return world.control == CONTROL_BACKOFF_LONG ? ns * 10 + cap_ms * MS : ns;
}

enum breaker_change __wrap_breaker_failed(struct breaker *b, struct jitter *jitter, uint64_t now_ns)
{
    enum breaker_change change = __real_breaker_failed(b, jitter, now_ns);
    if (world.control == CONTROL_NO_RAMP)
        b->limit = UINT32_MAX;
    return change;
}

bool __real_key_picker_take(struct key_picker *picker, uint64_t stripe);
bool __wrap_key_picker_take(struct key_picker *picker, uint64_t stripe);
bool __wrap_key_picker_take(struct key_picker *picker, uint64_t stripe)
{
    return __real_key_picker_take(picker, stripe) || world.control == CONTROL_SHARE_KEYS;
}

bool __real_filter_passes(const struct filter *filter, const struct spool_event *event);
bool __wrap_filter_passes(const struct filter *filter, const struct spool_event *event);
bool __wrap_filter_passes(const struct filter *filter, const struct spool_event *event)
{
    return __real_filter_passes(filter, event) || world.control == CONTROL_PASS_ALL;
}

int __real_group_deliver(struct group *group, struct member *member, struct spool_delivery *batch, size_t n,
                         size_t *ret_tried);
int __wrap_group_deliver(struct group *group, struct member *member, struct spool_delivery *batch, size_t n,
                         size_t *ret_tried);
int __wrap_group_deliver(struct group *group, struct member *member, struct spool_delivery *batch, size_t n,
                         size_t *ret_tried)
{
    int code = __real_group_deliver(group, member, batch, n, ret_tried);
    if (code == SPOOL_OK || world.control != CONTROL_MEMBER_LIES)
        return code;
    for (size_t i = 0; i < *ret_tried; i++)
        SPOOL_DELIVERY_AT(batch, group->work_of[i])->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

bool __real_sinks_close_later(struct delivery *d, char name[SINK_NAME_MAX + 1]);
bool __wrap_sinks_close_later(struct delivery *d, char name[SINK_NAME_MAX + 1]);
bool __wrap_sinks_close_later(struct delivery *d, char name[SINK_NAME_MAX + 1])
{
    return world.control != CONTROL_LEAVE_OPEN && __real_sinks_close_later(d, name);
}

/* ----------------------------------------------------------------------------------------------------------- threads
 */

struct thread {
    void *(*run)(void *);
    void *arg;
};

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
int __wrap_pthread_join(pthread_t thread, void **ret);
int __wrap_pthread_detach(pthread_t thread);
int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old);
int __wrap_pthread_setname_np(pthread_t thread, const char *name);

static void thread_body(void *arg)
{
    struct thread *thread = arg;
    thread->run(thread->arg);
}

int __wrap_pthread_create(pthread_t *ret, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    (void)attr;
    co_point();
    if (rng_chance(&world.fault_rng, world.threads_fail)) {
        fault_count(FAULT_THREAD);
        return EAGAIN;
    }
    struct thread *thread = arena_get(ARENA_WORLD, sizeof *thread);
    *thread = (struct thread){run, arg};
    *ret = (pthread_t)co_start(co_proc(), "thread", thread_body, thread);
    co_point();
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **ret)
{
    (void)ret;
    co_point();
    while (co_is_alive((uint64_t)thread))
        co_wait((const void *)(uintptr_t)(thread * 2 + 1), NEVER, "a thread's end", false);
    return 0;
}

int __wrap_pthread_detach(pthread_t thread)
{
    (void)thread;
    return 0;
}

int __wrap_pthread_sigmask(int how, const sigset_t *set, sigset_t *old)
{
    (void)how, (void)set, (void)old;
    return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    (void)thread;
    co_rename(name);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------- locks
 */

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);

static struct sim_lock *lock_of(pthread_mutex_t *mutex)
{
    struct sim_lock *lock = (struct sim_lock *)mutex;
    if (lock->mark != lock_mark)
        violation("locks", "a mutex that was not initialised, or is freed");
    return lock;
}

int __wrap_pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attr)
{
    (void)attr;
    *(struct sim_lock *)mutex = (struct sim_lock){lock_mark, 0};
    return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex)
{
    struct sim_lock *lock = lock_of(mutex);
    if (lock->owner)
        violation("locks", "a mutex is destroyed while it is held");
    lock->mark = 0;
    return 0;
}

static void acquire(struct sim_lock *lock)
{
    if (lock->owner == co_self())
        violation("locks", "a mutex is locked twice by one thread");
    while (lock->owner)
        co_wait(lock, NEVER, "a mutex", false);
    lock->owner = co_self();
    ++*co_locks();
    ++*co_acquired();
}

static void release(struct sim_lock *lock)
{
    if (lock->owner != co_self())
        violation("locks", "a mutex is unlocked by a thread that does not hold it");
    lock->owner = 0;
    --*co_locks();
    co_wake_all(lock);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
    co_point();
    acquire(lock_of(mutex));
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
    release(lock_of(mutex));
    co_point();
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- conditions
 */

int __wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr);
int __wrap_pthread_cond_destroy(pthread_cond_t *cond);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);

static struct sim_cond *cond_of(pthread_cond_t *cond)
{
    if (((struct sim_cond *)cond)->mark != cond_mark)
        violation("locks", "a condition that was not initialised, or is freed");
    return (struct sim_cond *)cond;
}

int __wrap_pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
    (void)attr;
    ((struct sim_cond *)cond)->mark = cond_mark;
    return 0;
}

int __wrap_pthread_cond_destroy(pthread_cond_t *cond)
{
    cond_of(cond)->mark = 0;
    return 0;
}

static int wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t deadline_ns)
{
    const struct sim_cond *c = cond_of(cond);
    struct sim_lock *lock = lock_of(mutex);
    if (world.control == CONTROL_NO_DEADLINES)
        deadline_ns = NEVER;
    release(lock);
    bool woken = co_wait(c, deadline_ns, "a condition", true);
    acquire(lock_of(mutex));
    return woken ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    return wait_until(cond, mutex, NEVER);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
    return wait_until(cond, mutex, (uint64_t)until->tv_sec * SEC + (uint64_t)until->tv_nsec);
}

/* The control drops wake-ups now and then. */
static bool is_lost(void)
{
    return world.control == CONTROL_LOST_SIGNAL && rng_chance(&world.fault_rng, 300);
}

int __wrap_pthread_cond_signal(pthread_cond_t *cond)
{
    const struct sim_cond *c = cond_of(cond);
    if (!is_lost())
        co_wake_one(c);
    co_point();
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond)
{
    const struct sim_cond *c = cond_of(cond);
    if (!is_lost())
        co_wake_all(c);
    co_point();
    return 0;
}
