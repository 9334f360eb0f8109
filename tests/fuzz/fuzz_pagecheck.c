/* fuzz_pagecheck.c - what pagecheck() lets pass, LMDB reads and writes without dying.
 *
 * The input is a list of changes to a small environment: page (1 byte), offset in it (2), how many bytes (1), the
 * bytes. So the fuzzer need not find out what an LMDB file looks like. The file is in memory (memfd). */
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../spool/pagecheck.h"
#include "fuzz.h"

enum { MAP_BYTES = 1 << 20, PAGE = 4096 };

static uint8_t original[MAP_BYTES];
static size_t original_size;
static int file = -1;
static char path[64];
static volatile unsigned sum; /* so that reading is not optimised away */

static MDB_env *open_env(void)
{
    MDB_env *env;
    require(mdb_env_create(&env) == 0 && mdb_env_set_maxdbs(env, 3) == 0 && mdb_env_set_mapsize(env, MAP_BYTES) == 0);
    if (mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK | MDB_NOSYNC, 0600) == 0)
        return env;
    mdb_env_close(env);
    return NULL;
}

static int put(MDB_txn *txn, MDB_dbi tree, uint64_t key, size_t size, unsigned flags)
{
    MDB_val k = {sizeof key, &key}, v = {size, NULL};
    int rc = mdb_put(txn, tree, &k, &v, MDB_RESERVE | flags);
    if (!rc)
        memset(v.mv_data, 'v', size);
    return rc;
}

static uint64_t next_key(MDB_txn *txn, MDB_dbi tree)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t next = 1;
    if (mdb_cursor_open(txn, tree, &cursor))
        return next;
    if (mdb_cursor_get(cursor, &key, &value, MDB_LAST) == 0 && key.mv_size == sizeof next)
        memcpy(&next, key.mv_data, sizeof next);
    mdb_cursor_close(cursor);
    return next + 1;
}

/* A lane that is appended to, and a tree in which rows come and go. */
static void change(MDB_env *env, unsigned rows)
{
    MDB_txn *txn;
    MDB_dbi lane, meta;
    if (mdb_txn_begin(env, NULL, 0, &txn))
        return;
    int rc = mdb_dbi_open(txn, "lane", MDB_CREATE | MDB_INTEGERKEY, &lane);
    if (!rc)
        rc = mdb_dbi_open(txn, "meta", MDB_CREATE, &meta);
    uint64_t key = rc ? 0 : next_key(txn, lane);
    for (unsigned i = 0; !rc && i < rows; i++) {
        rc = put(txn, lane, key + i, i % 5 ? 40 : 5000, MDB_APPEND);
        if (!rc)
            rc = put(txn, meta, i * 7919 % 100, i % 3 ? 100 : 3000, 0);
        uint64_t gone = i * 104729 % 100;
        if (!rc)
            rc = mdb_del(txn, meta, &(MDB_val){sizeof gone, &gone}, NULL);
        rc = rc == MDB_NOTFOUND ? 0 : rc;
    }
    if (rc)
        mdb_txn_abort(txn);
    else
        mdb_txn_commit(txn);
}

static void read_tree(MDB_txn *txn, const char *name)
{
    MDB_dbi tree;
    MDB_cursor *cursor;
    MDB_val key, value;
    if (mdb_dbi_open(txn, name, 0, &tree) || mdb_cursor_open(txn, tree, &cursor))
        return;
    while (mdb_cursor_get(cursor, &key, &value, MDB_NEXT) == 0) {
        for (size_t i = 0; i < value.mv_size; i += 32)
            sum += ((const uint8_t *)value.mv_data)[i];
    }
    mdb_cursor_close(cursor);
}

static void read_all(MDB_env *env)
{
    MDB_txn *txn;
    if (mdb_txn_begin(env, NULL, MDB_RDONLY, &txn))
        return;
    read_tree(txn, "lane");
    read_tree(txn, "meta");
    read_tree(txn, NULL);
    mdb_txn_abort(txn);
}

static void make_original(void)
{
    file = memfd_create("fuzz", MFD_CLOEXEC);
    require(file >= 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    MDB_env *env = open_env();
    require(env != NULL);
    for (int i = 0; i < 12; i++)
        change(env, 9);
    mdb_env_close(env);
    ssize_t n = pread(file, original, sizeof original, 0);
    require(n > 8 * PAGE);
    original_size = (size_t)n;
}

static void apply(uint8_t *bytes, const uint8_t *data, size_t size)
{
    while (size > 4) {
        size_t at = (data[0] * (size_t)PAGE + (data[1] | data[2] << 8) % PAGE) % original_size, n = data[3] % 16u;
        data += 4;
        size -= 4;
        n = n < size ? n : size;
        n = n < original_size - at ? n : original_size - at;
        memcpy(bytes + at, data, n);
        data += n;
        size -= n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t bytes[MAP_BYTES];
    if (file < 0)
        make_original();
    memcpy(bytes, original, original_size);
    apply(bytes, data, size);
    require(pwrite(file, bytes, original_size, 0) == (ssize_t)original_size &&
            ftruncate(file, (off_t)original_size) == 0);
    if (pagecheck(file, "fuzz"))
        return 0;
    MDB_env *env = open_env();
    if (!env)
        return 0;
    read_all(env);
    for (int i = 0; i < 3; i++)
        change(env, 5);
    read_all(env);
    mdb_env_close(env);
    return 0;
}
