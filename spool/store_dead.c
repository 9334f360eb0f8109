/* store_dead.c - dead letters: what passes through to the state, with its deadlines. */
#include "store_inside.h"

enum { STATE_DEADLINE_MS = 5000 };

static uint64_t state_deadline(void)
{
    return deadline_in_ms(STATE_DEADLINE_MS);
}

static int refuse_read_only(const struct store *store)
{
    return store->dir.read_only ? err_set(SPOOL_EREADONLY, "%s is open for reading only", store->dir.path) : SPOOL_OK;
}

static int tell_control(struct store *store, int code)
{
    if (code == SPOOL_OK)
        store_tell_change(store, true);
    return code;
}

int store_dead_each(struct store *store, const char *sink, int (*each)(void *user, const struct store_dead *dead),
                    void *user)
{
    return state_dead_each(store->state, sink, state_deadline(), each, user);
}

int store_dead_find(struct store *store, const char *sink, const struct spool_id *id,
                    int (*each)(void *user, const struct store_dead *dead), void *user)
{
    return state_dead_find(store->state, sink, id, state_deadline(), each, user);
}

int store_dead_requeue(struct store *store, const char *sink, const struct spool_id *id, uint64_t *ret_n)
{
    int code = refuse_read_only(store);
    return tell_control(store, code ? code : state_dead_requeue(store->state, sink, id, state_deadline(), ret_n));
}

int store_dead_requeue_to(struct store *store, const char *sink, const struct spool_id *id, const char *to,
                          uint64_t *ret_n)
{
    int code = refuse_read_only(store);
    return tell_control(store,
                        code ? code : state_dead_requeue_to(store->state, sink, id, to, state_deadline(), ret_n));
}

int store_dead_purge(struct store *store, const char *sink, const struct spool_id *id, uint64_t *ret_n)
{
    int code = refuse_read_only(store);
    return tell_control(store, code ? code : state_dead_purge(store->state, sink, id, state_deadline(), ret_n));
}

int store_dead_edit(struct store *store, const char *sink, const struct spool_id *id, const uint8_t *packed,
                    size_t size, uint64_t *ret_n)
{
    int code = refuse_read_only(store);
    return code ? code : state_dead_edit(store->state, sink, id, packed, size, state_deadline(), ret_n);
}

int store_dead_import(struct store *store, const struct store_dead *dead)
{
    int code = refuse_read_only(store);
    return code ? code : state_dead_import(store->state, dead, state_deadline());
}

int store_purged_find(struct store *store, uint32_t sink_id, const struct spool_id *id, struct store_purged *ret)
{
    return state_purged_find(store->state, sink_id, id, state_deadline(), ret);
}

int store_dead_trim(struct store *store, const char *sink, const struct store_dead_limits *limits,
                    uint64_t *ret_dropped)
{
    int code = refuse_read_only(store);
    return code ? code : state_dead_trim(store->state, sink, limits, state_deadline(), ret_dropped);
}
