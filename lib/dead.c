/* dead.c - dead letters: listing, requeueing, purging. */
#include "handle.h"

struct listing {
    int (*each)(void *user, const struct spool_dead_letter *letter);
    void *user;
};

static int list_one(void *user, const struct store_dead *dead)
{
    struct listing *listing = user;
    struct event_view view;
    if (event_unpack(dead->packed, dead->packed_size, &view))
        return 0; /* damaged: spool_verify() names it */
    const struct spool_dead_letter letter = {
        .size = sizeof letter,
        .sink = dead->sink,
        .event = &view.event,
        .attempts = dead->row.attempts,
        .died_at_ns = dead->died_ns,
        .reason = dead->row.reason,
    };
    return listing->each(listing->user, &letter);
}

int spool_dead_each(struct spool *spool, const char *sink,
                    int (*each)(void *user, const struct spool_dead_letter *letter), void *user)
{
    struct listing listing = {.each = each, .user = user};
    int code = handle_check(spool);
    if (!code && !each)
        code = err_set(SPOOL_EINVAL, "spool_dead_each: no callback");
    return code ? code : store_dead_each(spool->store, sink, list_one, &listing);
}

static int change(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n,
                  int (*how)(struct store *, const char *, const struct spool_id *, uint64_t *))
{
    uint64_t n = 0;
    int code = handle_check(spool);
    if (!code)
        code = how(spool->store, sink, id, &n);
    if (!code && ret_n)
        *ret_n = n;
    return code;
}

int spool_dead_requeue(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n)
{
    return change(spool, sink, id, ret_n, store_dead_requeue);
}

int spool_dead_purge(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n)
{
    return change(spool, sink, id, ret_n, store_dead_purge);
}
