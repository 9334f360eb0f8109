/* lmdb.c - plain LMDB as a queue: an event a key, singly and 1,000 a transaction, with LMDB's default, safe flags. */
#include <lmdb.h>

#include "case.h"

enum { MAP_GIB = 64 };

struct tree {
    MDB_env *env;
    MDB_dbi dbi;
    _Atomic uint64_t next; /* written inside a write transaction, of which there is one at a time */
    char path[PATH_SIZE];
};

static void lmdb_ok(int rc, const char *call)
{
    if (rc)
        errx(1, "%s: %s", call, mdb_strerror(rc));
}

static void *begin(const struct context *context)
{
    struct tree *tree = calloc(1, sizeof *tree);
    MDB_txn *txn;
    if (!tree)
        err(1, "LMDB");
    path_in(context, "lmdb", tree->path);
    lmdb_ok(mdb_env_create(&tree->env), "mdb_env_create");
    lmdb_ok(mdb_env_set_mapsize(tree->env, (size_t)MAP_GIB << 30), "mdb_env_set_mapsize");
    lmdb_ok(mdb_env_open(tree->env, tree->path, MDB_NOSUBDIR, 0600), "mdb_env_open");
    lmdb_ok(mdb_txn_begin(tree->env, NULL, 0, &txn), "mdb_txn_begin");
    lmdb_ok(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &tree->dbi), "mdb_dbi_open");
    lmdb_ok(mdb_txn_commit(txn), "mdb_txn_commit");
    return tree;
}

static size_t commit(struct tree *tree, uint64_t number, size_t n)
{
    MDB_txn *txn;
    lmdb_ok(mdb_txn_begin(tree->env, NULL, 0, &txn), "mdb_txn_begin");
    for (size_t i = 0; i < n; i++) {
        uint64_t sequence = tree->next++;
        struct body body = payload(number * n + i);
        MDB_val key = {sizeof sequence, &sequence}, value = {body.size, (void *)body.text};
        lmdb_ok(mdb_put(txn, tree->dbi, &key, &value, MDB_APPEND), "mdb_put");
    }
    lmdb_ok(mdb_txn_commit(txn), "mdb_txn_commit");
    return n;
}

static size_t step_single(void *shared, uint64_t number)
{
    return commit(shared, number, 1);
}

static size_t step_batch(void *shared, uint64_t number)
{
    return commit(shared, number, payload_batch());
}

static void end(void *shared, struct outcome *outcome)
{
    struct tree *tree = shared;
    mdb_env_close(tree->env);
    figure(outcome, "disk_bytes", disk_bytes(tree->path, "lmdb") / figure_value(outcome, "events"));
    free(tree);
}

static void lmdb_single(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .step = step_single, .end = end}, context, outcome);
}

static void lmdb_batch(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .step = step_batch, .end = end}, context, outcome);
}

const struct bench_case lmdb_cases[] = {
    {"lmdb_single", "LMDB, an event a transaction", "integer keys, MDB_APPEND, default flags (flushed)", lmdb_single},
    {"lmdb_batch", "LMDB, 1,000 events a transaction", "integer keys, MDB_APPEND, default flags (flushed)", lmdb_batch},
    {0},
};
