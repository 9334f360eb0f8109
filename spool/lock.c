/* lock.c - a fair read-write lock between threads on top of an fcntl record lock between processes.
 *
 * Threads of this process queue in the order they came. Only the head of the queue acts: it waits until the holders in
 * this process are compatible with it, and takes the record lock unless it joins readers that have it already. So at
 * most one thread of a process asks the kernel; the last holder gives the record lock back.
 *
 * The kernel grants record locks to whoever asks first after a release, which is nearly always the process that has
 * just released: a busy one would starve the others. Hence `wanted` in the hint: who finds the lock taken leaves its
 * mark there every few milliseconds. A releaser that sees another's fresh mark wakes the waiters and, before it takes
 * the lock again, steps back for at most GAP_MS or until the other has released. Readers that would join others of
 * their process do not when a peer waits (it can only be for writing). All of that is courtesy: without the hint the
 * lock is as safe, but waiters poll. */
#include "lock.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "dir.h"
#include "lock_inside.h"
#include "wake.h"

enum {
    POLL_MIN_MS = 2, /* between looks at the record lock when nobody wakes us; doubles up to … */
    POLL_MAX_MS = 10,
    FRESH_MS = 20, /* a mark of a waiter counts that long; more than POLL_MAX_MS */
    GAP_MS = 1,    /* at most that long a releaser steps back */
    NAME_SIZE = 96,
    TAG_BITS = 12,
    TAG_MASK = (1 << TAG_BITS) - 1,
    MS_MASK = (1 << (32 - TAG_BITS)) - 1,
};

struct waiter {
    struct waiter *next;
    enum lock_mode mode;
};

struct lock {
    int fd; /* -1: read only, and the file was not there yet; mutex */
    int dir_fd;
    bool read_only;
    char name[NAME_SIZE];
    uint32_t tag;           /* who we are in hint->wanted */
    struct lock_hint *hint; /* NULL: none */

    pthread_mutex_t mutex;
    pthread_cond_t changed; /* mutex: the head of the queue, the holders or `interrupted` changed */
    struct waiter *queue;   /* mutex */
    unsigned readers;       /* mutex: holders in this process */
    bool writer;            /* mutex: likewise */
    bool interrupted;       /* mutex */
    uint64_t hurry_ns;      /* mutex: no wait lasts longer */
    bool owes_gap;          /* mutex: at the last release a peer waited */
    uint32_t release_seen;  /* mutex: hint->released just after it */
    uint32_t mark;          /* mutex: what we wrote to hint->wanted, while we wait */
};

/* -------------------------------------------------------------------------------------- marks of waiting processes */

static uint32_t now_ms(void)
{
    return (uint32_t)(mono_ns() / NS_PER_MS) & MS_MASK;
}

/* mutex held. Leaves our mark. */
static void say_wanted(struct lock *lock)
{
    if (!lock->hint)
        return;
    lock->mark = now_ms() << TAG_BITS | lock->tag;
    atomic_store_explicit(&lock->hint->wanted, lock->mark, memory_order_relaxed);
}

/* mutex held. Takes our mark back, made too old to count, unless a peer has replaced it. */
static void unsay_wanted(struct lock *lock)
{
    uint32_t mark = lock->mark;
    if (mark)
        atomic_compare_exchange_strong(&lock->hint->wanted, &mark, mark - ((FRESH_MS + 1u) << TAG_BITS));
    lock->mark = 0;
}

/* Another process found the lock taken a moment ago. */
static bool peer_wants(const struct lock *lock)
{
    if (!lock->hint)
        return false;
    uint32_t mark = atomic_load_explicit(&lock->hint->wanted, memory_order_relaxed);
    return (mark & TAG_MASK) != lock->tag && ((now_ms() - (mark >> TAG_BITS)) & MS_MASK) <= FRESH_MS;
}

/* ------------------------------------------------------------------------------------------------ the record lock */

static struct flock record(short type)
{
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
}

static short record_type(enum lock_mode mode)
{
    return mode == LOCK_EXCLUSIVE ? F_WRLCK : F_RDLCK;
}

/* mutex held. A read-only spool may lack the file: then there is no writer, until one makes it. */
static int open_late(struct lock *lock)
{
    int fd = dir_file_at(lock->dir_fd, lock->name, O_RDONLY, 0);
    if (fd >= 0)
        lock->fd = fd;
    return fd >= 0 || fd == -ENOENT ? SPOOL_OK : -fd;
}

/* mutex held. EAGAIN: a peer has it. */
static int try_record(struct lock *lock, enum lock_mode mode)
{
    if (lock->fd < 0) {
        int code = open_late(lock);
        if (code || lock->fd < 0)
            return code;
    }
    struct flock want = record(record_type(mode));
    if (fcntl(lock->fd, F_SETLK, &want) == 0)
        return SPOOL_OK;
    if (errno == EAGAIN || errno == EACCES)
        return EAGAIN;
    return err_errno(errno, "%s: cannot lock", lock->name);
}

/* mutex held. */
static void release_record(struct lock *lock)
{
    struct flock none = record(F_UNLCK);
    if (lock->fd >= 0)
        fcntl(lock->fd, F_SETLK, &none);
    lock->owes_gap = peer_wants(lock);
    if (!lock->owes_gap)
        return;
    lock->release_seen = atomic_load(&lock->hint->released) + 1;
    futex_bump(&lock->hint->released);
}

static int timed_out(struct lock *lock, enum lock_mode mode)
{
    struct flock holder = record(record_type(mode));
    if (lock->fd >= 0 && fcntl(lock->fd, F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK && holder.l_pid > 0)
        return err_set(SPOOL_ETIMEOUT, "%s: held by process %ld for longer than we may wait; is it stopped?",
                       lock->name, (long)holder.l_pid);
    return err_set(SPOOL_ETIMEOUT, "%s: in use for longer than we may wait", lock->name);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* mutex held. Why the caller, who cannot have the lock now, may not wait for it either; SPOOL_OK if it may. */
static int must_leave(struct lock *lock, enum lock_mode mode, uint64_t deadline_ns)
{
    deadline_ns = earlier(deadline_ns, lock->hurry_ns);
    if (deadline_ns == 0 || (deadline_ns != DEADLINE_NEVER && mono_ns() >= deadline_ns))
        return timed_out(lock, mode);
    if (lock->interrupted)
        return err_set(SPOOL_ESTOPPED, "%s: waiting for it was interrupted", lock->name);
    return SPOOL_OK;
}

static uint64_t sooner(uint64_t deadline_ns, uint64_t pause_ms)
{
    return earlier(deadline_ns, deadline_in_ms(pause_ms));
}

/* mutex held, and dropped while waiting: until `released` differs from `seen`, or the time is over. */
static void wait_released(struct lock *lock, uint32_t seen, uint64_t until_ns)
{
    if (!lock->hint) {
        cond_wait_until(&lock->changed, &lock->mutex, until_ns);
        return;
    }
    pthread_mutex_unlock(&lock->mutex);
    futex_wait_until(&lock->hint->released, seen, until_ns);
    pthread_mutex_lock(&lock->mutex);
}

/* mutex held. Lets the peer that waited when we released go first. */
static void give_way(struct lock *lock, uint64_t deadline_ns)
{
    if (!lock->owes_gap || lock->interrupted)
        return;
    lock->owes_gap = false;
    say_wanted(lock); /* so that the peer wakes us in turn */
    wait_released(lock, lock->release_seen, sooner(deadline_ns, GAP_MS));
}

/* mutex held; the caller is the head of the queue, so that no other thread of this process comes between. */
static int take_record(struct lock *lock, enum lock_mode mode, uint64_t deadline_ns)
{
    uint64_t pause_ms = POLL_MIN_MS;
    give_way(lock, deadline_ns);
    for (bool marked = false;; marked = true) {
        uint32_t seen = lock->hint ? atomic_load(&lock->hint->released) : 0;
        int code = try_record(lock, mode);
        bool must_wait = code == EAGAIN && !(code = must_leave(lock, mode, deadline_ns));
        if (!must_wait) {
            unsay_wanted(lock);
            return code;
        }
        say_wanted(lock);
        if (!marked)
            continue; /* a release before our mark was there woke nobody: look again first */
        wait_released(lock, seen, sooner(deadline_ns, pause_ms));
        pause_ms = pause_ms * 2 < POLL_MAX_MS ? pause_ms * 2 : POLL_MAX_MS;
    }
}

/* ------------------------------------------------------------------------------------------------------- threads */

/* mutex held. */
static void enqueue(struct lock *lock, struct waiter *me)
{
    struct waiter **at = &lock->queue;
    while (*at)
        at = &(*at)->next;
    *at = me;
}

/* mutex held. */
static void dequeue(struct lock *lock, const struct waiter *me)
{
    struct waiter **at = &lock->queue;
    while (*at != me)
        at = &(*at)->next;
    *at = me->next;
    if (lock->queue)
        pthread_cond_broadcast(&lock->changed);
}

/* mutex held. The threads of this process that hold it leave room for one more of this mode. */
static bool is_compatible(const struct lock *lock, enum lock_mode mode)
{
    if (lock->writer)
        return false;
    return lock->readers == 0 || (mode == LOCK_SHARED && !peer_wants(lock));
}

/* mutex held. Returns SPOOL_OK as the head of the queue, compatible with the holders in this process. */
static int await_turn(struct lock *lock, const struct waiter *me, uint64_t deadline_ns)
{
    while (lock->queue != me || !is_compatible(lock, me->mode)) {
        int code = must_leave(lock, me->mode, deadline_ns);
        if (code)
            return code;
        /* Nobody tells us that a peer's mark has grown too old: look again, if that is what we wait for. */
        bool by_mark = lock->queue == me && me->mode == LOCK_SHARED && !lock->writer;
        uint64_t until_ns = earlier(deadline_ns, lock->hurry_ns);
        cond_wait_until(&lock->changed, &lock->mutex, by_mark ? sooner(until_ns, POLL_MAX_MS) : until_ns);
    }
    return SPOOL_OK;
}

int lock_take(struct lock *lock, enum lock_mode mode, uint64_t deadline_ns)
{
    if (lock->read_only && mode == LOCK_EXCLUSIVE)
        return err_set(SPOOL_EREADONLY, "%s: open for reading only", lock->name);
    struct waiter me = {.mode = mode};
    pthread_mutex_lock(&lock->mutex);
    enqueue(lock, &me);
    int code = await_turn(lock, &me, deadline_ns);
    if (!code && lock->readers == 0)
        code = take_record(lock, mode, deadline_ns);
    if (!code && mode == LOCK_SHARED)
        lock->readers++;
    else if (!code)
        lock->writer = true;
    dequeue(lock, &me);
    pthread_mutex_unlock(&lock->mutex);
    return code;
}

void lock_drop(struct lock *lock, enum lock_mode mode)
{
    pthread_mutex_lock(&lock->mutex);
    if (mode == LOCK_SHARED)
        lock->readers--;
    else
        lock->writer = false;
    if (lock->readers == 0) {
        release_record(lock);
        if (lock->queue)
            pthread_cond_broadcast(&lock->changed);
    }
    pthread_mutex_unlock(&lock->mutex);
}

void lock_interrupt(struct lock *lock, bool on)
{
    pthread_mutex_lock(&lock->mutex);
    lock->interrupted = on;
    pthread_cond_broadcast(&lock->changed);
    pthread_mutex_unlock(&lock->mutex);
    if (on && lock->hint)
        futex_bump(&lock->hint->released);
}

void lock_hurry(struct lock *lock, uint64_t deadline_ns)
{
    pthread_mutex_lock(&lock->mutex);
    lock->hurry_ns = deadline_ns;
    pthread_cond_broadcast(&lock->changed);
    pthread_mutex_unlock(&lock->mutex);
}

bool lock_is_held_elsewhere(struct lock *lock, enum lock_mode mode)
{
    struct flock holder = record(record_type(mode));
    pthread_mutex_lock(&lock->mutex);
    bool held = lock->fd >= 0 && fcntl(lock->fd, F_GETLK, &holder) == 0 && holder.l_type != F_UNLCK;
    pthread_mutex_unlock(&lock->mutex);
    return held;
}

/* ----------------------------------------------------------------------------------------------- opening, closing */

static int open_file(struct lock *lock, mode_t mode)
{
    if (lock->read_only)
        return open_late(lock);
    lock->fd = dir_file_at(lock->dir_fd, lock->name, O_RDWR | O_CREAT, mode);
    return lock->fd >= 0 ? SPOOL_OK : lock->fd == -ELOOP ? SPOOL_EACCESS : -lock->fd;
}

static int init_threads(struct lock *lock)
{
    int code = pthread_mutex_init(&lock->mutex, NULL);
    if (code)
        return err_errno(code, "%s: mutex", lock->name);
    code = cond_init(&lock->changed);
    if (code)
        pthread_mutex_destroy(&lock->mutex);
    return code;
}

/* Any tag does; the same one in two processes only costs some fairness. */
static uint32_t random_tag(void)
{
    uint32_t tag = 0;
    if (getrandom(&tag, sizeof tag, GRND_NONBLOCK) != sizeof tag)
        tag = (uint32_t)(mono_ns() >> 10);
    return tag & TAG_MASK;
}

int lock_open(int dir_fd, const char *name, bool read_only, mode_t mode, struct lock_hint *hint, struct lock **ret)
{
    struct lock *lock = calloc(1, sizeof *lock);
    if (!lock)
        return err_errno(ENOMEM, "%s", name);
    *lock = (struct lock){.fd = -1,
                          .dir_fd = dir_fd,
                          .read_only = read_only,
                          .tag = random_tag(),
                          .hint = hint,
                          .hurry_ns = DEADLINE_NEVER};
    snprintf(lock->name, sizeof lock->name, "%s", name);
    int code = open_file(lock, mode);
    if (!code)
        code = init_threads(lock);
    if (code) {
        lock_abandon(lock);
        return code;
    }
    *ret = lock;
    return SPOOL_OK;
}

int lock_fd(const struct lock *lock)
{
    return lock->fd;
}

const char *lock_file_name(const struct lock *lock)
{
    return lock->name;
}

void lock_close(struct lock *lock)
{
    if (!lock)
        return;
    pthread_cond_destroy(&lock->changed);
    pthread_mutex_destroy(&lock->mutex);
    lock_abandon(lock);
}

/* In a forked child the mutex may be held for ever by a thread that is not there: it is left alone. Closing here does
 * not release the parent's record lock. */
void lock_abandon(struct lock *lock)
{
    if (!lock)
        return;
    if (lock->fd >= 0)
        close(lock->fd);
    free(lock);
}
