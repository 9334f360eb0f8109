/* explore_selftest.c - the engine's own test: small programs of known merit. The right ones must lose nothing in any
 * image, each wrong one must be caught. Plain LMDB with its flags; a file replaced by rename, with one flush or the
 * other left out; a mapped file; a child that is killed. */
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "explore.h"

enum { MARK_SAFE = 1, MARK_WRITTEN = 2, ROUNDS = 6, MAP_BYTES = 16 << 10 };

static int fails(char *why, size_t size, const char *what, uint32_t number)
{
    snprintf(why, size, "%s %u", what, number);
    return 1;
}

/* The highest number that was promised: by a mark that counts after this crash. */
static uint32_t promised(const struct lab_mark *marks, size_t n, enum lab_crash crash)
{
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t number;
        memcpy(&number, marks[i].data, sizeof number);
        if ((marks[i].kind == MARK_SAFE || crash == LAB_KILLED) && number > most)
            most = number;
    }
    return most;
}

static void mark(uint32_t kind, uint32_t number)
{
    lab_mark(kind, &number, sizeof number);
}

static int open_in(const char *dir, const char *name, int flags)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return open(path, flags | O_CLOEXEC, 0600);
}

/* ------------------------------------------------------------------------------------------------------------- LMDB */

static MDB_env *lmdb_open(const char *dir, unsigned flags)
{
    char path[600];
    MDB_env *env = NULL;
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    if (mdb_env_create(&env) == 0 && mdb_env_set_mapsize(env, 1 << 20) == 0 &&
        mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | flags, 0600) == 0)
        return env;
    mdb_env_close(env);
    return NULL;
}

/* Key `number` and enough bytes for several pages. */
static int lmdb_put(MDB_env *env, uint32_t number)
{
    static uint8_t bytes[9000];
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_val key = {sizeof number, &number}, value = {sizeof bytes, bytes};
    memset(bytes, (int)number, sizeof bytes);
    int rc = mdb_txn_begin(env, NULL, 0, &txn);
    if (rc)
        return rc;
    rc = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (!rc)
        rc = mdb_put(txn, dbi, &key, &value, 0);
    if (rc)
        mdb_txn_abort(txn);
    return rc ? rc : mdb_txn_commit(txn);
}

static int lmdb_prepare(const char *dir, uint64_t seed)
{
    (void)seed;
    MDB_env *env = lmdb_open(dir, 0);
    int rc = env ? lmdb_put(env, 0) : EIO;
    mdb_env_close(env);
    return rc;
}

static int lmdb_rounds(const char *dir, unsigned flags)
{
    MDB_env *env = lmdb_open(dir, flags);
    int rc = env ? 0 : EIO;
    for (uint32_t i = 1; !rc && i <= ROUNDS; i++) {
        rc = lmdb_put(env, i);
        if (!rc)
            mark(MARK_SAFE, i);
    }
    mdb_env_close(env);
    return rc;
}

static int lmdb_run(const char *dir, uint64_t seed)
{
    return (void)seed, lmdb_rounds(dir, 0);
}
static int lmdb_run_nometasync(const char *dir, uint64_t seed)
{
    return (void)seed, lmdb_rounds(dir, MDB_NOMETASYNC);
}
static int lmdb_run_nosync(const char *dir, uint64_t seed)
{
    return (void)seed, lmdb_rounds(dir, MDB_NOSYNC);
}

static int lmdb_check(MDB_txn *txn, MDB_dbi dbi, uint32_t number)
{
    MDB_val key = {sizeof number, &number}, value;
    if (mdb_get(txn, dbi, &key, &value))
        return 1;
    const uint8_t *bytes = value.mv_data;
    for (size_t i = 0; i < value.mv_size; i++)
        if (bytes[i] != (uint8_t)number)
            return 1;
    return value.mv_size != 9000;
}

static int lmdb_oracle(const struct lab_scenario *scenario, const char *dir, const struct lab_mark *marks, size_t n,
                       enum lab_crash crash, char *why, size_t size)
{
    (void)scenario;
    MDB_env *env = lmdb_open(dir, 0);
    MDB_txn *txn;
    MDB_dbi dbi;
    if (!env || mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) || mdb_dbi_open(txn, NULL, 0, &dbi))
        return fails(why, size, "LMDB does not open", 0);
    for (uint32_t i = 0; i <= promised(marks, n, crash); i++)
        if (lmdb_check(txn, dbi, i))
            return fails(why, size, "lost: key", i);
    mdb_txn_abort(txn);
    int rc = lmdb_put(env, 1000);
    mdb_env_close(env);
    return rc ? fails(why, size, "not writable:", (uint32_t)rc) : 0;
}

static int lmdb_recover(const struct lab_scenario *scenario, const char *dir)
{
    (void)scenario;
    MDB_env *env = lmdb_open(dir, 0);
    int rc = env ? lmdb_put(env, 500) : EIO;
    mdb_env_close(env);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- replacing a file */

enum { FLUSH_FILE = 1, FLUSH_DIRECTORY = 2 };

static int replace(const char *dir, uint32_t number, unsigned flushes)
{
    char from[600], to[600];
    uint32_t words[300]; /* three sectors */
    for (size_t i = 0; i < 300; i++)
        words[i] = number;
    snprintf(from, sizeof from, "%s/value.tmp", dir);
    snprintf(to, sizeof to, "%s/value", dir);
    int fd = open_in(dir, "value.tmp", O_WRONLY | O_CREAT | O_TRUNC),
        dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && dir_fd >= 0 && write(fd, words, sizeof words) == (ssize_t)sizeof words;
    ok = ok && !((flushes & FLUSH_FILE) && fsync(fd)) && rename(from, to) == 0;
    ok = ok && !((flushes & FLUSH_DIRECTORY) && fsync(dir_fd));
    close(fd);
    close(dir_fd);
    return ok ? 0 : EIO;
}

static int replace_rounds(const char *dir, unsigned flushes)
{
    int rc = 0;
    for (uint32_t i = 1; !rc && i <= ROUNDS; i++) {
        rc = replace(dir, i, flushes);
        mark(MARK_SAFE, i);
    }
    return rc;
}

static int replace_run(const char *dir, uint64_t seed)
{
    return (void)seed, replace_rounds(dir, 3);
}
static int replace_run_no_file(const char *dir, uint64_t seed)
{
    return (void)seed, replace_rounds(dir, FLUSH_DIRECTORY);
}
static int replace_run_no_dir(const char *dir, uint64_t seed)
{
    return (void)seed, replace_rounds(dir, FLUSH_FILE);
}

static int replace_oracle(const struct lab_scenario *scenario, const char *dir, const struct lab_mark *marks, size_t n,
                          enum lab_crash crash, char *why, size_t size)
{
    (void)scenario;
    uint32_t words[300] = {0}, least = promised(marks, n, crash);
    int fd = open_in(dir, "value", O_RDONLY);
    if (fd < 0)
        return least ? fails(why, size, "no file, expected", least) : 0;
    ssize_t got = read(fd, words, sizeof words);
    close(fd);
    for (size_t i = 0; i < 300; i++)
        if (got != (ssize_t)sizeof words || words[i] != words[0] || words[i] < least || words[i] == 0)
            return fails(why, size, "wrong content, expected", least);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------ mapped file */

static int mapped_prepare(const char *dir, uint64_t seed)
{
    (void)seed;
    int fd = open_in(dir, "ring", O_RDWR | O_CREAT), rc = fd < 0 || ftruncate(fd, MAP_BYTES);
    close(fd);
    return rc;
}

/* Number i goes to a sector of its own; it is promised after the flush of `flushes`, else only to a process that dies.
 */
static int mapped_rounds(const char *dir, uint32_t first, bool flushes, uint32_t kind)
{
    int fd = open_in(dir, "ring", O_RDWR);
    uint8_t *map = fd < 0 ? MAP_FAILED : mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        return EIO;
    for (uint32_t i = first; i < first + ROUNDS; i++) {
        memset(map + (size_t)i * SECTOR, (int)i, SECTOR);
        if (flushes && fdatasync(fd))
            return EIO;
        mark(kind, i);
    }
    return 0;
}

static int mapped_run(const char *dir, uint64_t seed)
{
    return (void)seed, mapped_rounds(dir, 1, true, MARK_SAFE);
}
static int mapped_run_killed(const char *dir, uint64_t seed)
{
    return (void)seed, mapped_rounds(dir, 1, false, MARK_WRITTEN);
}
static int mapped_run_no_flush(const char *dir, uint64_t seed)
{
    return (void)seed, mapped_rounds(dir, 1, false, MARK_SAFE);
}

/* Children that die with a record of their own; the parent goes on. */
static int mapped_run_children(const char *dir, uint64_t seed)
{
    (void)seed;
    for (uint32_t i = 0; i < 3; i++) {
        pid_t pid = fork();
        if (pid == 0) {
            mapped_rounds(dir, 1 + i * ROUNDS, i % 2, i % 2 ? MARK_SAFE : MARK_WRITTEN);
            raise(SIGKILL);
        }
        int status;
        if (pid < 0 || waitpid(pid, &status, 0) < 0 || !WIFSIGNALED(status))
            return EIO;
    }
    return 0;
}

/* A number promised earlier is there if a later one of the same kind is not needed: each mark stands for itself. */
static int mapped_oracle(const struct lab_scenario *scenario, const char *dir, const struct lab_mark *marks, size_t n,
                         enum lab_crash crash, char *why, size_t size)
{
    (void)scenario;
    uint8_t ring[MAP_BYTES] = {0};
    int fd = open_in(dir, "ring", O_RDONLY);
    ssize_t got = fd < 0 ? -1 : read(fd, ring, sizeof ring);
    close(fd);
    for (size_t i = 0; i < n; i++) {
        uint32_t number = promised(&marks[i], 1, crash);
        for (size_t at = (size_t)number * SECTOR; number && at < ((size_t)number + 1) * SECTOR; at++)
            if (got != (ssize_t)sizeof ring || ring[at] != (uint8_t)number)
                return fails(why, size, "lost: number", number);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------- writing in place */

/* Numbers as above, by plain writes and by writes through O_DSYNC. */
static int write_number(int fd, uint32_t number)
{
    uint8_t bytes[SECTOR];
    memset(bytes, (int)number, sizeof bytes);
    return pwrite(fd, bytes, sizeof bytes, (off_t)number * SECTOR) == SECTOR ? 0 : EIO;
}

static int dsync_rounds(const char *dir, int flags)
{
    int fd = open_in(dir, "ring", O_RDWR | flags), sync_fd = open_in(dir, "ring", O_RDWR | O_DSYNC);
    int rc = fd < 0 || sync_fd < 0 ? EIO : 0;
    for (uint32_t i = 1; !rc && i <= ROUNDS; i++) {
        rc = write_number(fd, i);
        if (!rc)
            rc = write_number(sync_fd, i + ROUNDS);
        mark(MARK_SAFE, i);
        mark(MARK_SAFE, i + ROUNDS);
    }
    close(fd);
    close(sync_fd);
    return rc;
}

static int dsync_run(const char *dir, uint64_t seed)
{
    return (void)seed, dsync_rounds(dir, O_DSYNC);
}

static int dsync_run_other(const char *dir, uint64_t seed)
{
    return (void)seed, dsync_rounds(dir, 0);
}

/* Behind the recorder's back. */
static int unseen_run(const char *dir, uint64_t seed)
{
    int fd = open_in(dir, "ring", O_RDWR);
    bool ok = syscall(SYS_pwrite64, fd, &seed, sizeof seed, 0) == (long)sizeof seed;
    close(fd);
    return ok ? 0 : EIO;
}

static int overwrite_prepare(const char *dir, uint64_t seed)
{
    return (void)seed, replace(dir, 1, 3);
}

/* Flushed, but torn when the power goes in between. */
static int overwrite_run(const char *dir, uint64_t seed)
{
    (void)seed;
    int fd = open_in(dir, "value", O_RDWR), rc = fd < 0 ? EIO : 0;
    uint32_t words[300];
    for (uint32_t number = 2; !rc && number < 2 + ROUNDS; number++) {
        for (size_t i = 0; i < 300; i++)
            words[i] = number;
        rc = pwrite(fd, words, sizeof words, 0) == (ssize_t)sizeof words && fsync(fd) == 0 ? 0 : EIO;
        mark(MARK_SAFE, number);
    }
    close(fd);
    return rc;
}

/* ---------------------------------------------------------------------------------------------------------- running */

#define CASE(name, what, prepare, run, oracle, recover)                                                                \
    {                                                                                                                  \
        &(const struct lab_scenario){name, what, prepare, run, NULL}, oracle, recover                                  \
    }
enum expected { SAFE, CAUGHT, NOT_RECORDED };
enum { CAUGHT_WITHIN_S = 30 };
static const char *const expected_words[] = {"nothing lost", "caught", "the record is refused"};
static const struct {
    struct engine engine;
    enum expected expected;
} cases[] = {
    {CASE("self-lmdb", "LMDB as it is", lmdb_prepare, lmdb_run, lmdb_oracle, lmdb_recover), SAFE},
    {CASE("self-lmdb-nometasync", "…", lmdb_prepare, lmdb_run_nometasync, lmdb_oracle, lmdb_recover), CAUGHT},
    {CASE("self-lmdb-nosync", "…", lmdb_prepare, lmdb_run_nosync, lmdb_oracle, lmdb_recover), CAUGHT},
    {CASE("self-replace", "a file is replaced", NULL, replace_run, replace_oracle, NULL), SAFE},
    {CASE("self-replace-no-file-flush", "…", NULL, replace_run_no_file, replace_oracle, NULL), CAUGHT},
    {CASE("self-replace-no-directory-flush", "…", NULL, replace_run_no_dir, replace_oracle, NULL), CAUGHT},
    {CASE("self-mapped", "a mapped file, flushed", mapped_prepare, mapped_run, mapped_oracle, NULL), SAFE},
    {CASE("self-mapped-killed", "… not flushed, and killed", mapped_prepare, mapped_run_killed, mapped_oracle, NULL),
     SAFE},
    {CASE("self-mapped-no-flush", "…", mapped_prepare, mapped_run_no_flush, mapped_oracle, NULL), CAUGHT},
    {CASE("self-children", "killed children", mapped_prepare, mapped_run_children, mapped_oracle, NULL), SAFE},
    {CASE("self-dsync", "writes through O_DSYNC", mapped_prepare, dsync_run, mapped_oracle, NULL), SAFE},
    {CASE("self-dsync-flushes-no-other", "…", mapped_prepare, dsync_run_other, mapped_oracle, NULL), CAUGHT},
    {CASE("self-overwrite-is-torn", "…", overwrite_prepare, overwrite_run, replace_oracle, NULL), CAUGHT},
    {CASE("self-unseen-write", "…", mapped_prepare, unseen_run, mapped_oracle, NULL), NOT_RECORDED},
};

static bool run_case(const struct engine *engine, enum expected expected, const struct explore_options *options)
{
    struct explore_shared *shared = explore_shared_new();
    if (!shared)
        return false;
    struct explore_options own = *options;
    own.control = expected == CAUGHT ? "self-test" : NULL; /* the first violation ends it … */
    if (expected == CAUGHT && own.seconds < CAUGHT_WITHIN_S)
        own.seconds = CAUGHT_WITHIN_S; /* … mostly at once: the limit is for slow machines */
    bool done = explore(engine, &own, shared);
    bool passes = expected == NOT_RECORDED
                      ? !done && strstr(shared->failure, "the record misses")
                      : done && (shared->violations > 0) == (expected == CAUGHT) && shared->images > 0;
    printf("%-32s %6llu images %5llu points %5llu same %3llu chains: %s\n", engine->scenario->name,
           (unsigned long long)shared->images, (unsigned long long)shared->points, (unsigned long long)shared->same,
           (unsigned long long)shared->chains, passes ? expected_words[expected] : "FAILED");
    printf("check %s: %s\n", passes ? "passed" : "failed", engine->scenario->name);
    if (!passes)
        printf("%s%s", shared->failure, shared->text[0]);
    explore_shared_free(shared);
    return passes;
}

void selftest_list(void)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        printf("selftest %-32s %s\n", cases[i].engine.scenario->name, expected_words[cases[i].expected]);
}

int selftest(const struct explore_options *options, unsigned *ret_passed)
{
    size_t n = sizeof cases / sizeof cases[0];
    struct explore_options own = *options;
    own.seconds = options->seconds / (double)n;
    *ret_passed = 0;
    for (size_t i = 0; i < n && !explore_interrupted; i++)
        *ret_passed += run_case(&cases[i].engine, cases[i].expected, &own);
    return (int)(n - *ret_passed);
}
