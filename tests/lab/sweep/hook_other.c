/* hook_other.c - threads, locks, waiting, clock, randomness, and LMDB's calls. */
#include "hook.h"

#include <linux/futex.h>
#include <lmdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* --------------------------------------------------------------------------------------------------------- threads */

#define FAILING_INIT(function, type, attr)                                                                             \
    int function(type *it, const attr *attributes)                                                                     \
    {                                                                                                                  \
        NEXT(int, function, type *, const attr *);                                                                     \
        return fault_hits(FAULT_MUTEX) ? ENOMEM : next(it, attributes);                                                \
    }
FAILING_INIT(pthread_mutex_init, pthread_mutex_t, pthread_mutexattr_t)
FAILING_INIT(pthread_rwlock_init, pthread_rwlock_t, pthread_rwlockattr_t)

/* libc has two of them. */
int pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
    static int (*next)(pthread_cond_t *, const pthread_condattr_t *);
    if (!next)
        *(void **)&next = dlvsym(RTLD_NEXT, "pthread_cond_init", "GLIBC_2.3.2");
    return fault_hits(FAULT_MUTEX) ? ENOMEM : next(cond, attr);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    NEXT(int, pthread_create, pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    return fault_hits(FAULT_THREAD) ? EAGAIN : next(thread, attr, run, arg);
}

/* The address sanitizer calls it in every new thread and ends the program when it fails; we do not. */
int pthread_getattr_np(pthread_t thread, pthread_attr_t *attr)
{
    NEXT(int, pthread_getattr_np, pthread_t, pthread_attr_t *);
    fault_pause();
    int err = next(thread, attr);
    fault_resume();
    return err;
}

/* ------------------------------------------------------------------------------------------------ waiting and clock */

int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    NEXT(int, poll, struct pollfd *, nfds_t, int);
    return fault_hits(FAULT_WAIT) ? fail(EINTR) : next(fds, n, timeout);
}

long syscall(long number, ...)
{
    NEXT(long, syscall, long, ...);
    va_list list;
    va_start(list, number);
    long a[6];
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(list, long);
    va_end(list);
    bool waits =
        number == SYS_futex && ((a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT || (a[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET);
    if (waits && fault_hits(FAULT_WAIT)) /* a wake-up does not fail */
        return fail(EINTR);
    return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    NEXT(int, clock_gettime, clockid_t, struct timespec *);
    static _Atomic time_t jump;
    int rc = next(clock, now);
    if (clock != CLOCK_REALTIME || !fault_is_armed())
        return rc;
    if (fault_hits(FAULT_CLOCK_BACK))
        atomic_store(&jump, -3600);
    if (fault_hits(FAULT_CLOCK_FORWARD))
        atomic_store(&jump, 3600);
    now->tv_sec += atomic_load(&jump);
    return rc;
}

ssize_t getrandom(void *buf, size_t size, unsigned flags)
{
    NEXT(ssize_t, getrandom, void *, size_t, unsigned);
    static _Atomic unsigned hits; /* interrupted once, and then not to be had */
    if (!fault_hits(FAULT_RANDOM))
        return next(buf, size, flags);
    return fail(atomic_fetch_add(&hits, 1) ? ENOSYS : EINTR);
}

/* ------------------------------------------------------------------------------------------------------------ LMDB */

int mdb_env_create(MDB_env **env)
{
    NEXT(int, mdb_env_create, MDB_env **);
    return fault_hits(FAULT_LMDB_OPEN) ? ENOMEM : next(env);
}

int mdb_env_open(MDB_env *env, const char *path, unsigned flags, mdb_mode_t mode)
{
    NEXT(int, mdb_env_open, MDB_env *, const char *, unsigned, mdb_mode_t);
    return fault_hits(FAULT_LMDB_OPEN) ? ENOMEM : next(env, path, flags, mode);
}

int mdb_txn_begin(MDB_env *env, MDB_txn *parent, unsigned flags, MDB_txn **txn)
{
    NEXT(int, mdb_txn_begin, MDB_env *, MDB_txn *, unsigned, MDB_txn **);
    return fault_hits(FAULT_LMDB_BEGIN) ? ENOMEM : next(env, parent, flags, txn);
}

int mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned flags)
{
    NEXT(int, mdb_put, MDB_txn *, MDB_dbi, MDB_val *, MDB_val *, unsigned);
    return fault_hits(FAULT_LMDB_PUT) ? MDB_MAP_FULL : next(txn, dbi, key, data, flags);
}

int mdb_txn_commit(MDB_txn *txn)
{
    NEXT(int, mdb_txn_commit, MDB_txn *);
    if (!fault_hits(FAULT_LMDB_COMMIT))
        return next(txn);
    mdb_txn_abort(txn);
    return EIO;
}

int mdb_get(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data)
{
    NEXT(int, mdb_get, MDB_txn *, MDB_dbi, MDB_val *, MDB_val *);
    return fault_hits(FAULT_LMDB_READ) ? ENOMEM : next(txn, dbi, key, data);
}

int mdb_cursor_open(MDB_txn *txn, MDB_dbi dbi, MDB_cursor **cursor)
{
    NEXT(int, mdb_cursor_open, MDB_txn *, MDB_dbi, MDB_cursor **);
    return fault_hits(FAULT_LMDB_READ) ? ENOMEM : next(txn, dbi, cursor);
}

int mdb_cursor_get(MDB_cursor *cursor, MDB_val *key, MDB_val *data, MDB_cursor_op op)
{
    NEXT(int, mdb_cursor_get, MDB_cursor *, MDB_val *, MDB_val *, MDB_cursor_op);
    return fault_hits(FAULT_LMDB_READ) ? ENOMEM : next(cursor, key, data, op);
}
