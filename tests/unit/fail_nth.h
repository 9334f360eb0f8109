/* fail_nth.h - lets the Nth call of one class fail (no memory, no space, a bad disk…), in this thread only.
 *
 *     int code;
 *     fail_each(code, FAIL_MEMORY, thing_make(&thing)) { // once for N = 1, 2, … as long as a call N came and failed
 *         ck_documented(code);
 *         ck_assert_ptr_null(thing);
 *     }
 *     ck_ok(code);                                       // the last run: no fault fired
 *
 * Or by hand: fail_arm(class, n); …; bool fired = fail_disarm(). Defines the C library's and LMDB's functions in the
 * test program, so they stand before the real ones: include it once in a program. Use no ck_* between arming and
 * disarming. Under ThreadSanitizer, which has no place for a second hook, nothing fails. */
#ifndef FAIL_NTH_H
#define FAIL_NTH_H

#include <dirent.h>
#include <dlfcn.h>
#include <err.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/auxv.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>

#include "../check_main.h"

enum fail_class {
    FAIL_NONE,
    FAIL_MEMORY,      /* malloc and its kin: ENOMEM */
    FAIL_OPEN,        /* open, openat, memfd_create, fopen: EMFILE */
    FAIL_READ,        /* read, pread: EIO */
    FAIL_READ_SHORT,  /* read, pread: half as much (not LMDB's: it takes that for a foreign file) */
    FAIL_WRITE,       /* write, pwrite, writev: ENOSPC, nothing written */
    FAIL_WRITE_SHORT, /* write, pwrite: half as much */
    FAIL_SPACE,       /* ftruncate, truncate, fallocate, posix_fallocate: ENOSPC */
    FAIL_SYNC,        /* fsync, fdatasync, syncfs, msync: EIO */
    FAIL_NAME,        /* renameat, linkat, unlinkat, mkdirat…: EIO */
    FAIL_STAT,        /* stat, fstat, fstatat, fstatvfs: EIO */
    FAIL_LOCK,        /* fcntl with a lock: ENOLCK */
    FAIL_MAP,         /* mmap: ENOMEM */
    FAIL_THREAD,      /* pthread_create, pthread_mutex_init, _cond_init, _rwlock_init: EAGAIN */
    FAIL_RANDOM,      /* getrandom: EINTR */
    FAIL_LMDB_BEGIN,  /* mdb_env_create, mdb_env_open, mdb_txn_begin, mdb_dbi_open: EIO */
    FAIL_LMDB_READ,   /* mdb_get, mdb_cursor_open, mdb_cursor_get: EIO */
    FAIL_LMDB_WRITE,  /* mdb_put, mdb_del: EIO (see fail_err for MDB_MAP_FULL) */
    FAIL_LMDB_COMMIT, /* mdb_txn_commit: EIO, aborted */
    FAIL_SOCKET,      /* socket, connect, send and recv of all kinds, pipe2, eventfd: ENOBUFS */
};

static _Thread_local struct {
    enum fail_class class;
    unsigned n, calls, paused;
    bool on; /* all calls from N on fail, not only the Nth */
    int err; /* 0: that of the class */
} fail_nth;
/* For programs that look closer: which callers' allocations do not fail, and what came of all others. May be NULL. */
static bool (*fail_spares)(const void *caller);
static void (*fail_allocated)(void *memory, void *old, const void *caller); /* in place of `old`, which may be NULL */
static int fail_err; /* set it before arming to have another error than the class's; LMDB's codes for LMDB's calls */

static inline void fail_arm(enum fail_class class, unsigned n)
{
    fail_nth.n = n;
    fail_nth.calls = 0;
    fail_nth.on = false;
    fail_nth.err = fail_err;
    fail_nth.class = class;
}

/* All calls from the Nth on fail. */
static inline void fail_arm_from(enum fail_class class, unsigned n)
{
    fail_arm(class, n);
    fail_nth.on = true;
}

/* Was call N reached, so that it failed? */
static inline bool fail_disarm(void)
{
    fail_nth.class = FAIL_NONE;
    return fail_nth.calls >= fail_nth.n;
}

#define fail_each(result, class, call)                                                                                 \
    for (unsigned fail_n_ = 1; (fail_arm((class), fail_n_), (result) = (call), fail_disarm()); fail_n_++)

/* The code of a failure that a caller may see: known, not our own mistake, and with a message. */
#define ck_documented(code)                                                                                            \
    do {                                                                                                               \
        int failed_ = (code);                                                                                          \
        ck_assert_msg(failed_ != SPOOL_OK, "a fault was answered with OK");                                            \
        ck_assert_msg(failed_ != SPOOL_EINTERNAL, "SPOOL_EINTERNAL: %s", spool_last_error());                          \
        ck_assert_str_ne(spool_error_name(failed_), "unknown");                                                        \
        ck_assert_str_ne(spool_last_error(), "");                                                                      \
    } while (0)

/* -------------------------------------------------------------------------------------------------- the machinery */

static inline bool fail_hits(enum fail_class class)
{
    if (fail_nth.class != class || fail_nth.paused)
        return false;
    unsigned call = ++fail_nth.calls;
    return fail_nth.on ? call >= fail_nth.n : call == fail_nth.n;
}

static inline int fail_code(int err)
{
    return fail_nth.err ? fail_nth.err : err;
}

static inline int fail_errno(int err)
{
    errno = fail_code(err);
    return -1;
}

static inline void *fail_next(const char *name)
{
    fail_nth.paused++;
    void *function = dlsym(RTLD_NEXT, name);
    fail_nth.paused--;
    return function;
}

#define FAIL_ARGS(...) __VA_ARGS__
/* Defines `function` anew: answers `failed` when the class says so, else calls the real one. */
#define FAIL_HOOK(type, function, parameters, types, arguments, class, failed)                                         \
    type function parameters                                                                                           \
    {                                                                                                                  \
        static type (*next)(types);                                                                                    \
        if (!next)                                                                                                     \
            *(void **)&next = fail_next(#function);                                                                    \
        return fail_hits(class) ? (failed) : next arguments;                                                           \
    }

#ifndef __SANITIZE_THREAD__
/* ---------------------------------------------------------------------------------------------------------- memory */

#ifdef __SANITIZE_ADDRESS__
#define FAIL_REAL(name) __interceptor_##name
#else
#define FAIL_REAL(name) __libc_##name
#endif
void *FAIL_REAL(malloc)(size_t size);
void *FAIL_REAL(calloc)(size_t n, size_t size);
void *FAIL_REAL(realloc)(void *old, size_t size);

/* The dynamic loader ends the program when it has no memory: it is spared. */
static inline bool fail_memory(const void *caller)
{
    return fail_nth.class == FAIL_MEMORY && (uintptr_t)caller - getauxval(AT_BASE) > 1u << 18 &&
           !(fail_spares && fail_spares(caller)) && fail_hits(FAIL_MEMORY) && fail_errno(ENOMEM);
}

static inline void *fail_note(void *memory, void *old, const void *caller)
{
    if (fail_allocated && memory)
        fail_allocated(memory, old, caller);
    return memory;
}
#define FAIL_MEMORY_HERE(allocation, old)                                                                              \
    (fail_memory(__builtin_return_address(0)) ? NULL : fail_note((allocation), (old), __builtin_return_address(0)))

void *malloc(size_t size)
{
    return FAIL_MEMORY_HERE(FAIL_REAL(malloc)(size), NULL);
}

void *calloc(size_t n, size_t size)
{
    return FAIL_MEMORY_HERE(FAIL_REAL(calloc)(n, size), NULL);
}

void *realloc(void *old, size_t size)
{
    return FAIL_MEMORY_HERE(FAIL_REAL(realloc)(old, size), old);
}

/* The sanitizers' strdup() does not call malloc(). */
char *strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = FAIL_MEMORY_HERE(FAIL_REAL(malloc)(size), NULL);
    return copy ? memcpy(copy, text, size) : NULL;
}

/* ----------------------------------------------------------------------------------------------------------- files */

#define FAIL_VARIADIC(function, parameters, last, type, types, arguments, failing)                                     \
    int function parameters                                                                                            \
    {                                                                                                                  \
        static int (*next)(types, ...);                                                                                \
        if (!next)                                                                                                     \
            *(void **)&next = fail_next(#function);                                                                    \
        va_list list;                                                                                                  \
        va_start(list, last);                                                                                          \
        type more = va_arg(list, type);                                                                                \
        va_end(list);                                                                                                  \
        return failing ? -1 : next arguments;                                                                          \
    }
FAIL_VARIADIC(open, (const char *path, int flags, ...), flags, mode_t, FAIL_ARGS(const char *, int),
              (path, flags, more), (fail_hits(FAIL_OPEN) && fail_errno(EMFILE)))
FAIL_VARIADIC(openat, (int dir, const char *path, int flags, ...), flags, mode_t, FAIL_ARGS(int, const char *, int),
              (dir, path, flags, more), (fail_hits(FAIL_OPEN) && fail_errno(EMFILE)))

static inline bool fail_is_lock(int command)
{
    return command == F_SETLK || command == F_SETLKW || command == F_GETLK || command == F_OFD_SETLK ||
           command == F_OFD_SETLKW || command == F_OFD_GETLK;
}
FAIL_VARIADIC(fcntl, (int fd, int command, ...), command, void *, FAIL_ARGS(int, int), (fd, command, more),
              (fail_is_lock(command) && fail_hits(FAIL_LOCK) && fail_errno(ENOLCK)))

FAIL_HOOK(int, memfd_create, (const char *name, unsigned flags), FAIL_ARGS(const char *, unsigned), (name, flags),
          FAIL_OPEN, fail_errno(EMFILE))
FAIL_HOOK(FILE *, fopen, (const char *path, const char *mode), FAIL_ARGS(const char *, const char *), (path, mode),
          FAIL_OPEN, (fail_errno(EMFILE), NULL))

/* LMDB takes a short read for a file that is none of its own; local disks do not give one. */
static inline bool fail_short(enum fail_class class, const void *caller)
{
    Dl_info info;
    return fail_nth.class == class && !(dladdr(caller, &info) && strstr(info.dli_fname, "liblmdb")) && fail_hits(class);
}

#define FAIL_TRANSFER(function, parameters, types, whole, half, class, err)                                            \
    ssize_t function parameters                                                                                        \
    {                                                                                                                  \
        static ssize_t (*next)(types);                                                                                 \
        if (!next)                                                                                                     \
            *(void **)&next = fail_next(#function);                                                                    \
        if (fail_hits(class))                                                                                          \
            return fail_errno(err);                                                                                    \
        return size > 1 && fail_short(class##_SHORT, __builtin_return_address(0)) ? next half : next whole;            \
    }
FAIL_TRANSFER(read, (int fd, void *buf, size_t size), FAIL_ARGS(int, void *, size_t), (fd, buf, size),
              (fd, buf, size / 2), FAIL_READ, EIO)
FAIL_TRANSFER(pread, (int fd, void *buf, size_t size, off_t at), FAIL_ARGS(int, void *, size_t, off_t),
              (fd, buf, size, at), (fd, buf, size / 2, at), FAIL_READ, EIO)
FAIL_TRANSFER(write, (int fd, const void *buf, size_t size), FAIL_ARGS(int, const void *, size_t), (fd, buf, size),
              (fd, buf, size / 2), FAIL_WRITE, ENOSPC)
FAIL_TRANSFER(pwrite, (int fd, const void *buf, size_t size, off_t at), FAIL_ARGS(int, const void *, size_t, off_t),
              (fd, buf, size, at), (fd, buf, size / 2, at), FAIL_WRITE, ENOSPC)
FAIL_HOOK(ssize_t, writev, (int fd, const struct iovec *pieces, int n), FAIL_ARGS(int, const struct iovec *, int),
          (fd, pieces, n), FAIL_WRITE, fail_errno(ENOSPC))

FAIL_HOOK(int, ftruncate, (int fd, off_t size), FAIL_ARGS(int, off_t), (fd, size), FAIL_SPACE, fail_errno(ENOSPC))
FAIL_HOOK(int, truncate, (const char *path, off_t size), FAIL_ARGS(const char *, off_t), (path, size), FAIL_SPACE,
          fail_errno(ENOSPC))
FAIL_HOOK(int, fallocate, (int fd, int mode, off_t at, off_t size), FAIL_ARGS(int, int, off_t, off_t),
          (fd, mode, at, size), FAIL_SPACE, fail_errno(ENOSPC))
FAIL_HOOK(int, posix_fallocate, (int fd, off_t at, off_t size), FAIL_ARGS(int, off_t, off_t), (fd, at, size),
          FAIL_SPACE, fail_code(ENOSPC))
FAIL_HOOK(int, fsync, (int fd), int, (fd), FAIL_SYNC, fail_errno(EIO))
FAIL_HOOK(int, fdatasync, (int fd), int, (fd), FAIL_SYNC, fail_errno(EIO))
FAIL_HOOK(int, syncfs, (int fd), int, (fd), FAIL_SYNC, fail_errno(EIO))
FAIL_HOOK(int, msync, (void *memory, size_t size, int flags), FAIL_ARGS(void *, size_t, int), (memory, size, flags),
          FAIL_SYNC, fail_errno(EIO))
FAIL_HOOK(void *, mmap, (void *where, size_t size, int protection, int flags, int fd, off_t at),
          FAIL_ARGS(void *, size_t, int, int, int, off_t), (where, size, protection, flags, fd, at), FAIL_MAP,
          (fail_errno(ENOMEM), MAP_FAILED))

FAIL_HOOK(int, rename, (const char *from, const char *to), FAIL_ARGS(const char *, const char *), (from, to), FAIL_NAME,
          fail_errno(EIO))
FAIL_HOOK(int, renameat, (int dir, const char *from, int to_dir, const char *to),
          FAIL_ARGS(int, const char *, int, const char *), (dir, from, to_dir, to), FAIL_NAME, fail_errno(EIO))
FAIL_HOOK(int, linkat, (int dir, const char *from, int to_dir, const char *to, int flags),
          FAIL_ARGS(int, const char *, int, const char *, int), (dir, from, to_dir, to, flags), FAIL_NAME,
          fail_errno(EIO))
FAIL_HOOK(int, unlinkat, (int dir, const char *path, int flags), FAIL_ARGS(int, const char *, int), (dir, path, flags),
          FAIL_NAME, fail_errno(EIO))
FAIL_HOOK(int, mkdirat, (int dir, const char *path, mode_t mode), FAIL_ARGS(int, const char *, mode_t),
          (dir, path, mode), FAIL_NAME, fail_errno(EIO))
FAIL_HOOK(int, unlink, (const char *path), const char *, (path), FAIL_NAME, fail_errno(EIO))
FAIL_HOOK(int, mkdir, (const char *path, mode_t mode), FAIL_ARGS(const char *, mode_t), (path, mode), FAIL_NAME,
          fail_errno(EIO))

FAIL_HOOK(int, stat, (const char *path, struct stat *st), FAIL_ARGS(const char *, struct stat *), (path, st), FAIL_STAT,
          fail_errno(EIO))
FAIL_HOOK(int, fstat, (int fd, struct stat *st), FAIL_ARGS(int, struct stat *), (fd, st), FAIL_STAT, fail_errno(EIO))
FAIL_HOOK(int, fstatat, (int dir, const char *path, struct stat *st, int flags),
          FAIL_ARGS(int, const char *, struct stat *, int), (dir, path, st, flags), FAIL_STAT, fail_errno(EIO))
FAIL_HOOK(int, fstatvfs, (int fd, struct statvfs *st), FAIL_ARGS(int, struct statvfs *), (fd, st), FAIL_STAT,
          fail_errno(EIO))
FAIL_HOOK(ssize_t, getrandom, (void *buf, size_t size, unsigned flags), FAIL_ARGS(void *, size_t, unsigned),
          (buf, size, flags), FAIL_RANDOM, fail_errno(EINTR))

/* --------------------------------------------------------------------------------------------------------- sockets */

FAIL_HOOK(int, socket, (int domain, int type, int protocol), FAIL_ARGS(int, int, int), (domain, type, protocol),
          FAIL_SOCKET, fail_errno(ENOBUFS))
FAIL_HOOK(int, connect, (int fd, const struct sockaddr *to, socklen_t size),
          FAIL_ARGS(int, const struct sockaddr *, socklen_t), (fd, to, size), FAIL_SOCKET, fail_errno(ENOBUFS))
FAIL_HOOK(ssize_t, send, (int fd, const void *bytes, size_t size, int flags), FAIL_ARGS(int, const void *, size_t, int),
          (fd, bytes, size, flags), FAIL_SOCKET, fail_errno(ENOBUFS))
FAIL_HOOK(ssize_t, sendto,
          (int fd, const void *bytes, size_t size, int flags, const struct sockaddr *to, socklen_t to_size),
          FAIL_ARGS(int, const void *, size_t, int, const struct sockaddr *, socklen_t),
          (fd, bytes, size, flags, to, to_size), FAIL_SOCKET, fail_errno(ENOBUFS))
FAIL_HOOK(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags),
          FAIL_ARGS(int, const struct msghdr *, int), (fd, message, flags), FAIL_SOCKET, fail_errno(ENOBUFS))
FAIL_HOOK(ssize_t, recv, (int fd, void *bytes, size_t size, int flags), FAIL_ARGS(int, void *, size_t, int),
          (fd, bytes, size, flags), FAIL_SOCKET, fail_errno(ENOBUFS))
FAIL_HOOK(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), FAIL_ARGS(int, struct msghdr *, int),
          (fd, message, flags), FAIL_SOCKET, fail_errno(ENOBUFS))
FAIL_HOOK(int, pipe2, (int ends[2], int flags), FAIL_ARGS(int[2], int), (ends, flags), FAIL_SOCKET, fail_errno(ENFILE))
FAIL_HOOK(int, socketpair, (int domain, int type, int protocol, int ends[2]), FAIL_ARGS(int, int, int, int[2]),
          (domain, type, protocol, ends), FAIL_SOCKET, fail_errno(ENFILE))
FAIL_HOOK(int, eventfd, (unsigned count, int flags), FAIL_ARGS(unsigned, int), (count, flags), FAIL_SOCKET,
          fail_errno(ENFILE))

/* --------------------------------------------------------------------------------------------------------- threads */

FAIL_HOOK(int, pthread_create, (pthread_t * thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg),
          FAIL_ARGS(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *), (thread, attr, run, arg),
          FAIL_THREAD, fail_code(EAGAIN))
FAIL_HOOK(int, pthread_mutex_init, (pthread_mutex_t * mutex, const pthread_mutexattr_t *attr),
          FAIL_ARGS(pthread_mutex_t *, const pthread_mutexattr_t *), (mutex, attr), FAIL_THREAD, fail_code(EAGAIN))
FAIL_HOOK(int, pthread_rwlock_init, (pthread_rwlock_t * lock, const pthread_rwlockattr_t *attr),
          FAIL_ARGS(pthread_rwlock_t *, const pthread_rwlockattr_t *), (lock, attr), FAIL_THREAD, fail_code(EAGAIN))

/* libc has two of them. */
int pthread_cond_init(pthread_cond_t *cond, const pthread_condattr_t *attr)
{
    static int (*next)(pthread_cond_t *, const pthread_condattr_t *);
    if (!next)
        *(void **)&next = dlvsym(RTLD_NEXT, "pthread_cond_init", "GLIBC_2.3.2");
    return fail_hits(FAIL_THREAD) ? fail_code(EAGAIN) : next(cond, attr);
}

/* ------------------------------------------------------------------------------------------------------------ LMDB */

FAIL_HOOK(int, mdb_env_create, (MDB_env * *env), MDB_env **, (env), FAIL_LMDB_BEGIN, fail_code(EIO))
FAIL_HOOK(int, mdb_env_open, (MDB_env * env, const char *path, unsigned flags, mdb_mode_t mode),
          FAIL_ARGS(MDB_env *, const char *, unsigned, mdb_mode_t), (env, path, flags, mode), FAIL_LMDB_BEGIN,
          fail_code(EIO))
FAIL_HOOK(int, mdb_txn_begin, (MDB_env * env, MDB_txn *parent, unsigned flags, MDB_txn **txn),
          FAIL_ARGS(MDB_env *, MDB_txn *, unsigned, MDB_txn **), (env, parent, flags, txn), FAIL_LMDB_BEGIN,
          fail_code(EIO))
FAIL_HOOK(int, mdb_dbi_open, (MDB_txn * txn, const char *name, unsigned flags, MDB_dbi *dbi),
          FAIL_ARGS(MDB_txn *, const char *, unsigned, MDB_dbi *), (txn, name, flags, dbi), FAIL_LMDB_BEGIN,
          fail_code(EIO))
FAIL_HOOK(int, mdb_get, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *data),
          FAIL_ARGS(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *), (txn, dbi, key, data), FAIL_LMDB_READ, fail_code(EIO))
FAIL_HOOK(int, mdb_cursor_open, (MDB_txn * txn, MDB_dbi dbi, MDB_cursor **cursor),
          FAIL_ARGS(MDB_txn *, MDB_dbi, MDB_cursor **), (txn, dbi, cursor), FAIL_LMDB_READ, fail_code(EIO))
FAIL_HOOK(int, mdb_cursor_get, (MDB_cursor * cursor, MDB_val *key, MDB_val *data, MDB_cursor_op op),
          FAIL_ARGS(MDB_cursor *, MDB_val *, MDB_val *, MDB_cursor_op), (cursor, key, data, op), FAIL_LMDB_READ,
          fail_code(EIO))
FAIL_HOOK(int, mdb_put, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned flags),
          FAIL_ARGS(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *, unsigned), (txn, dbi, key, data, flags), FAIL_LMDB_WRITE,
          fail_code(EIO))
FAIL_HOOK(int, mdb_del, (MDB_txn * txn, MDB_dbi dbi, MDB_val *key, MDB_val *data),
          FAIL_ARGS(MDB_txn *, MDB_dbi, MDB_val *, MDB_val *), (txn, dbi, key, data), FAIL_LMDB_WRITE, fail_code(EIO))

int mdb_txn_commit(MDB_txn *txn)
{
    static int (*next)(MDB_txn *);
    if (!next)
        *(void **)&next = fail_next("mdb_txn_commit");
    if (!fail_hits(FAIL_LMDB_COMMIT))
        return next(txn);
    mdb_txn_abort(txn);
    return fail_code(EIO);
}

#endif /* __SANITIZE_THREAD__ */
/* Descriptors of this process: as many afterwards as before, whatever failed in between. */
static inline unsigned open_files(void)
{
    unsigned n = 0;
    DIR *stream = opendir("/proc/self/fd");
    while (stream && readdir(stream))
        n++;
    if (!stream)
        err(2, "/proc/self/fd");
    closedir(stream);
    return n;
}

#endif
