/* state_sink_more.c - what few sinks have: limits of what may wait for them, and why they were paused.
 *
 * A general row {u8 META_SINK_MORE, u32 sink id}; body:
 *
 *    0  8  most bytes that may wait; 0: no limit        8  8  their greatest age in ms; likewise
 *   16     the reason of the pause, up to 255 bytes
 *
 * A sink without any of it has no row. An older version passes over general rows that it does not know, so that this
 * one did not raise STATE_VERSION: it keeps pausing and does not know why. A damaged one counts as absent. */
#include "state_inside.h"

enum { MORE_HEADER = 16, MORE_MAX = MORE_HEADER + REASON_MAX };

static struct state_key more_key(uint32_t id)
{
    struct state_key key = state_key(TABLE_META);
    state_key_u8(&key, META_SINK_MORE);
    state_key_u32(&key, id);
    return key;
}

int sink_more_get(struct state_txn *txn, uint32_t id, struct sink_more *ret)
{
    struct state_row view;
    struct state_key key = more_key(id);
    memset(ret, 0, sizeof *ret);
    int code = state_table_get(txn, &key, &view);
    if (code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED)
        return SPOOL_OK;
    if (code || view.body_size < MORE_HEADER || view.body_size > MORE_MAX)
        return code;
    ret->max_pending_bytes = get_u64(view.body);
    ret->max_pending_age_ms = get_u64(view.body + 8);
    memcpy(ret->paused_reason, view.body + MORE_HEADER, view.body_size - MORE_HEADER);
    return SPOOL_OK;
}

static bool is_empty(const struct sink_more *more)
{
    return !more->max_pending_bytes && !more->max_pending_age_ms && !more->paused_reason[0];
}

int sink_more_put(struct state_txn *txn, uint32_t id, const struct sink_more *more)
{
    struct state_key key = more_key(id);
    struct sink_more old;
    int code = sink_more_get(txn, id, &old);
    if (code || memcmp(&old, more, sizeof old) == 0)
        return code;
    if (is_empty(more)) {
        code = state_table_delete(txn, &key);
        return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
    }
    uint8_t body[MORE_MAX];
    size_t size = strnlen(more->paused_reason, REASON_MAX);
    put_u64(body, more->max_pending_bytes);
    put_u64(body + 8, more->max_pending_age_ms);
    memcpy(body + MORE_HEADER, more->paused_reason, size);
    return state_table_put(txn, &key, body, MORE_HEADER + size);
}

/* ---------------------------------------------------------------------------------------------------- setting it */

static int pause_in(struct state_txn *txn, const char *name, bool paused, const char *reason)
{
    struct sink_row sink;
    struct sink_more more;
    int code = sink_row_find(txn, name, &sink);
    if (!code)
        code = sink_more_get(txn, sink.id, &more);
    if (code)
        return code;
    sink.paused = paused;
    memset(more.paused_reason, 0, sizeof more.paused_reason);
    memcpy(more.paused_reason, reason, strnlen(reason, REASON_MAX));
    code = sink_more_put(txn, sink.id, &more);
    return code ? code : sink_row_put(txn, &sink);
}

int state_sink_pause(struct state *state, const char *name, bool paused, uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, pause_in(&txn, name, paused, ""));
}

int state_sink_pause_for(struct state *state, const char *name, const char *reason, uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, pause_in(&txn, name, true, reason));
}

static int limit_in(struct state_txn *txn, const char *name, uint64_t max_bytes, uint64_t max_age_ms)
{
    struct sink_row sink;
    struct sink_more more;
    int code = sink_row_find(txn, name, &sink);
    if (!code)
        code = sink_more_get(txn, sink.id, &more);
    if (code)
        return code;
    more.max_pending_bytes = max_bytes;
    more.max_pending_age_ms = max_age_ms;
    return sink_more_put(txn, sink.id, &more);
}

int state_sink_limit(struct state *state, const char *name, uint64_t max_pending_bytes, uint64_t max_pending_age_ms,
                     uint64_t deadline_ns)
{
    struct state_txn txn;
    int code = state_txn_write(state, deadline_ns, &txn);
    return code ? code : state_txn_end(&txn, limit_in(&txn, name, max_pending_bytes, max_pending_age_ms));
}
