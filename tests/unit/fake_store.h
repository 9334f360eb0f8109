/* fake_store.h - a store in memory, so that tests of delivery are deterministic and can make it fail.
 *
 * It has the calls of spool/store.h that delivery/ makes, under their names with fake_ in front; after it the sources
 * of delivery/ are included into the test, with macros that give them these. What delivery acknowledged is checked as
 * the real store would: an acknowledgement is applied as a whole or not at all. */
#ifndef FAKE_STORE_H
#define FAKE_STORE_H

#include "../../lib/base/sync.h"
#include "../../spool/store.h"
#include "../check_main.h"

enum { FAKE_EVENTS = 1 << 16, FAKE_BLOCKS = 4096, FAKE_SINKS = 8, FAKE_ROWS = 16384 };

struct fake_row {
    struct store_retry row;
    uint8_t *packed;
    bool used;
};

struct fake_sink {
    struct store_sink sink;
    char config[256];
    uint8_t checkpoint[SPOOL_CHECKPOINT_MAX];
    size_t checkpoint_size;
    bool elected;
    struct fake_row retries[FAKE_ROWS], dead[FAKE_ROWS];
};

struct store {
    pthread_mutex_t lock; /* guards everything */
    struct store_block *blocks[LANES][FAKE_BLOCKS];
    size_t block_count[LANES];
    uint64_t next[LANES];
    bool damaged[LANES][FAKE_BLOCKS];
    struct fake_sink sinks[FAKE_SINKS];
    size_t sink_count;
    uint32_t control;
    _Atomic int pause_error;
    _Atomic uint64_t overflow[LANES]; /* where cursors have to be by the limits of what may wait */
    struct store_hand *hand;          /* the real one, if a test gives it */
    int ack_error;                    /* what acknowledgements answer; 0: they work */
    int late_ack_error;               /* the same, but the first part of them is applied */
    bool elect_busy;
    /* What these calls answer; 0: they work. */
    _Atomic int read_error, bounds_error, get_error, register_error, elect_error, row_error;
    bool read_only;
    void (*at_look)(struct store *s); /* the dispatcher calls it first of all when it looks */
    void (*at_read)(struct store *s); /* … and before it reads a block */
    unsigned acks, reads;
    unsigned trims, trim_drops; /* calls; what the next one answers */
    uint8_t published[STORE_PUBLISHED_MAX];
    size_t published_size;
    unsigned publications;
};

static inline void fake_store_block_ref(struct store_block *block)
{
    atomic_fetch_add(&block->refs, 1);
}
static inline void fake_store_block_unref(struct store_block *block)
{
    if (block && atomic_fetch_sub(&block->refs, 1) == 1)
        free(block);
}

static inline struct store *fake_new(void)
{
    struct store *s = calloc(1, sizeof *s);
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

static inline void fake_free(struct store *s)
{
    for (int lane = 0; lane < LANES; lane++)
        for (size_t i = 0; i < s->block_count[lane]; i++)
            fake_store_block_unref(s->blocks[lane][i]);
    for (size_t i = 0; i < s->sink_count; i++) {
        for (size_t k = 0; k < FAKE_ROWS; k++) {
            free(s->sinks[i].retries[k].packed);
            free(s->sinks[i].dead[k].packed);
        }
    }
    free(s);
}

/* The bundle as a block; empties the buffer. */
static inline struct store_block *fake_block(int lane, unsigned n, struct buffer *bundle)
{
    struct store_block *block = calloc(1, sizeof *block + (n + 1) * sizeof(uint32_t) + bundle->size);
    uint32_t *at = (uint32_t *)(block + 1);
    uint8_t *bytes = memcpy(at + n + 1, bundle->data, bundle->size);
    atomic_init(&block->refs, 1);
    block->lane = lane;
    block->count = n;
    block->size = bundle->size;
    ck_ok(bundle_open(BUNDLE_SHARED, bytes, bundle->size, n, at, &block->events));
    buffer_free(bundle);
    return block;
}

/* Commits `n` events as one block; their bodies are their numbers from `number` on. agent may be NULL. */
static inline void fake_commit(struct store *s, enum spool_priority priority, const char *agent, unsigned number,
                               unsigned n, uint64_t ttl_ms, uint64_t at_ns)
{
    static const int lanes[] = {[SPOOL_CRITICAL] = LANE_CRITICAL,
                                [SPOOL_HIGH] = LANE_HIGH,
                                [SPOOL_MEDIUM] = LANE_MEDIUM,
                                [SPOOL_LOW] = LANE_LOW};
    int lane = lanes[priority];
    struct bundle_writer *writer = calloc(1, sizeof *writer);
    struct buffer bundle = {0};
    for (unsigned i = 0; i < n; i++) {
        char body[16];
        int size = snprintf(body, sizeof body, "%u", number + i);
        struct spool_event event = SPOOL_EVENT(.type = "t", .agent = agent, .priority = priority, .body = body,
                                               .body_size = (size_t)size, .ttl_ms = ttl_ms);
        struct event_measure measure;
        ck_ok(event_measure(&event, 256, &measure));
        struct spool_id id;
        id_make((struct hlc_stamp){ticks_from_ns(at_ns), (uint16_t)((number + i) & 0x3fff)}, 7, &id);
        uint8_t packed[256];
        event_pack(&event, &measure, &id, packed);
        ck_ok(bundle_put(writer, &bundle, packed, measure.packed_size));
    }
    bundle_end(writer, &bundle);
    bundle_writer_free(writer);
    free(writer);
    struct store_block *block = fake_block(lane, n, &bundle);
    pthread_mutex_lock(&s->lock);
    block->first_seq = s->next[lane];
    s->next[lane] += n;
    s->blocks[lane][s->block_count[lane]++] = block;
    pthread_mutex_unlock(&s->lock);
}

static inline bool fake_store_is_read_only(const struct store *s)
{
    return s->read_only;
}

static inline int fake_store_read(struct store *s, int lane, uint64_t seq, uint64_t deadline_ns,
                                  struct store_block **ret, uint64_t *ret_skip_to)
{
    (void)deadline_ns;
    int code = SPOOL_ENOTFOUND;
    if (s->at_read)
        s->at_read(s);
    if (s->read_error)
        return err_set(s->read_error, "read refused");
    pthread_mutex_lock(&s->lock);
    s->reads++;
    for (size_t i = 0; i < s->block_count[lane]; i++) {
        struct store_block *block = s->blocks[lane][i];
        if (block->first_seq + block->count <= seq)
            continue;
        if (s->damaged[lane][i]) {
            *ret_skip_to = block->first_seq + block->count;
            code = SPOOL_EDAMAGED;
        } else {
            fake_store_block_ref(block);
            *ret = block;
            code = SPOOL_OK;
        }
        break;
    }
    pthread_mutex_unlock(&s->lock);
    return code;
}

static inline int fake_store_bounds(struct store *s, uint64_t first[LANES], uint64_t next[LANES])
{
    if (s->at_look)
        s->at_look(s);
    if (s->bounds_error)
        return err_set(s->bounds_error, "bounds refused");
    pthread_mutex_lock(&s->lock);
    for (int lane = 0; lane < LANES; lane++) {
        first[lane] = 0;
        next[lane] = s->next[lane];
    }
    pthread_mutex_unlock(&s->lock);
    return SPOOL_OK;
}

static inline uint32_t fake_store_control(const struct store *s)
{
    struct store *m = (struct store *)s;
    pthread_mutex_lock(&m->lock);
    uint32_t control = m->control;
    pthread_mutex_unlock(&m->lock);
    return control;
}

/* With the lock. */
static inline struct fake_sink *fake_find(struct store *s, const char *name)
{
    for (size_t i = 0; i < s->sink_count; i++)
        if (strcmp(s->sinks[i].sink.name, name) == 0)
            return &s->sinks[i];
    return NULL;
}

static inline uint64_t fake_count(const struct fake_row *rows)
{
    uint64_t n = 0;
    for (size_t i = 0; i < FAKE_ROWS; i++)
        n += rows[i].used;
    return n;
}

static inline int fake_store_sink_get(struct store *s, const char *name, struct store_sink *ret)
{
    if (s->get_error)
        return err_set(s->get_error, "get refused");
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_find(s, name);
    if (f) {
        *ret = f->sink;
        ret->retry_rows = fake_count(f->retries);
        ret->dead_rows = fake_count(f->dead);
    }
    pthread_mutex_unlock(&s->lock);
    return f ? SPOOL_OK : err_set(SPOOL_ENOTFOUND, "no sink %s", name);
}

static inline int fake_store_sink_register(struct store *s, const char *name, const char *kind, uint32_t order,
                                           const char *config, bool from_now, struct store_sink *ret)
{
    if (s->register_error)
        return err_set(s->register_error, "register refused");
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_find(s, name);
    if (!f) {
        f = &s->sinks[s->sink_count++];
        f->sink.id = (uint32_t)s->sink_count;
        f->sink.generation = 1;
        snprintf(f->sink.name, sizeof f->sink.name, "%s", name);
        for (int lane = 0; lane < LANES && from_now; lane++)
            f->sink.cursor[lane] = s->next[lane];
    }
    snprintf(f->sink.kind, sizeof f->sink.kind, "%s", kind);
    snprintf(f->config, sizeof f->config, "%s", config);
    f->sink.order = order;
    *ret = f->sink;
    pthread_mutex_unlock(&s->lock);
    return SPOOL_OK;
}

static inline int fake_store_sink_pause_for(struct store *s, const char *name, const char *reason)
{
    if (s->pause_error)
        return err_set(s->pause_error, "pause refused");
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_find(s, name);
    if (f) {
        f->sink.paused = true;
        snprintf(f->sink.paused_reason, sizeof f->sink.paused_reason, "%s", reason);
        s->control++;
    }
    pthread_mutex_unlock(&s->lock);
    return f ? SPOOL_OK : err_set(SPOOL_ENOTFOUND, "no sink %s", name);
}

static inline int fake_store_sink_limit(struct store *s, const char *name, uint64_t max_bytes, uint64_t max_age_ms)
{
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_find(s, name);
    if (f) {
        f->sink.max_pending_bytes = max_bytes;
        f->sink.max_pending_age_ms = max_age_ms;
    }
    pthread_mutex_unlock(&s->lock);
    return f ? SPOOL_OK : err_set(SPOOL_ENOTFOUND, "no sink %s", name);
}

static inline int fake_store_sink_set_best_effort(struct store *s, const char *name, bool best_effort)
{
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_find(s, name);
    if (f)
        f->sink.best_effort = best_effort;
    pthread_mutex_unlock(&s->lock);
    return f ? SPOOL_OK : err_set(SPOOL_ENOTFOUND, "no sink %s", name);
}

static inline int fake_store_sink_overflow(struct store *s, const uint64_t cursor[LANES], uint64_t max_bytes,
                                           uint64_t max_age_ms, uint64_t ret_upto[LANES])
{
    (void)max_bytes, (void)max_age_ms;
    for (int lane = 0; lane < LANES; lane++)
        ret_upto[lane] = s->overflow[lane] > cursor[lane] ? s->overflow[lane] : cursor[lane];
    return SPOOL_OK;
}

static inline struct store_hand *fake_store_sink_hand(struct store *s, const char *name)
{
    (void)name;
    store_hand_ref(s->hand);
    return s->hand;
}

static inline int fake_store_sink_elect(struct store *s, const char *name)
{
    if (s->elect_error)
        return err_set(s->elect_error, "elect refused");
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_find(s, name);
    int code = !f ? SPOOL_ENOTFOUND : s->elect_busy || f->elected ? SPOOL_EBUSY : SPOOL_OK;
    if (code == SPOOL_OK)
        f->elected = true;
    pthread_mutex_unlock(&s->lock);
    return code == SPOOL_OK ? code : err_set(code, "elect %s", name);
}

static inline void fake_store_sink_release(struct store *s, const char *name)
{
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_find(s, name);
    if (f)
        f->elected = false;
    pthread_mutex_unlock(&s->lock);
}

static inline struct fake_sink *fake_by_id(struct store *s, uint32_t id)
{
    return id > 0 && id <= s->sink_count ? &s->sinks[id - 1] : NULL;
}

static inline int fake_store_checkpoint(struct store *s, uint32_t id, void *buf, size_t cap, size_t *ret_size)
{
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_by_id(s, id);
    if (f && f->checkpoint_size <= cap) {
        memcpy(buf, f->checkpoint, f->checkpoint_size);
        *ret_size = f->checkpoint_size;
    }
    pthread_mutex_unlock(&s->lock);
    return f ? SPOOL_OK : SPOOL_ENOTFOUND;
}

static inline int fake_store_retry_each(struct store *s, uint32_t id,
                                        int (*each)(void *user, const struct store_retry *row), void *user)
{
    int code = SPOOL_OK;
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_by_id(s, id);
    for (size_t i = 0; f && i < FAKE_ROWS && code == SPOOL_OK; i++)
        if (f->retries[i].used)
            code = each(user, &f->retries[i].row);
    pthread_mutex_unlock(&s->lock);
    return code;
}

static inline struct fake_row *fake_row_at(struct fake_row *rows, int lane, uint64_t seq)
{
    for (size_t i = 0; i < FAKE_ROWS; i++)
        if (rows[i].used && rows[i].row.lane == lane && rows[i].row.seq == seq)
            return &rows[i];
    return NULL;
}

static inline struct fake_row *fake_row_new(struct fake_row *rows)
{
    size_t i = 0;
    while (rows[i].used)
        i++;
    rows[i].used = true;
    return &rows[i];
}

static inline int fake_store_retry_event(struct store *s, uint32_t id, int lane, uint64_t seq, uint8_t **ret,
                                         size_t *ret_size)
{
    if (s->row_error)
        return err_set(s->row_error, "row refused");
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_by_id(s, id);
    struct fake_row *row = f ? fake_row_at(f->retries, lane, seq) : NULL;
    if (row) {
        *ret = malloc(row->row.size);
        memcpy(*ret, row->packed, row->row.size);
        *ret_size = row->row.size;
    }
    pthread_mutex_unlock(&s->lock);
    return row ? SPOOL_OK : err_set(SPOOL_ENOTFOUND, "no retry row %d/%llu", lane, (unsigned long long)seq);
}

static inline void fake_row_free(struct fake_row *row)
{
    free(row->packed);
    *row = (struct fake_row){0};
}

static inline uint8_t *fake_copy(const uint8_t *packed, size_t size)
{
    return memcpy(malloc(size), packed, size);
}

/* Once, however often it is sent. */
static inline void fake_count_log(struct fake_sink *f, const struct store_ack *ack)
{
    ck_assert_uint_ne(ack->serial, 0);
    if (ack->serial == f->sink.serial)
        return;
    f->sink.serial = ack->serial;
    for (int lane = 0; lane < LANES; lane++)
        f->sink.delivered_in[lane] += ack->delivered[lane];
    f->sink.delivered += store_ack_delivered(ack);
    f->sink.filtered += ack->filtered;
    f->sink.dropped += store_drops_total(&ack->drops);
    store_drops_add(&f->sink.drops, &ack->drops);
}

static inline void fake_count_row(struct fake_sink *f, const struct store_done *done)
{
    f->sink.delivered += done->end == STORE_END_DELIVERED;
    f->sink.delivered_in[done->lane] += done->end == STORE_END_DELIVERED;
    f->sink.filtered += done->end == STORE_END_FILTERED;
    if (done->end != STORE_END_EXPIRED && done->end != STORE_END_DAMAGED)
        return;
    f->sink.dropped++;
    store_drops_note(&f->sink.drops, store_end_drop(done->end), done->lane, done->seq + 1, 1);
}

static inline void fake_apply(struct fake_sink *f, const struct store_ack *ack)
{
    for (int lane = 0; lane < LANES; lane++) {
        if (ack->cursor[lane] > f->sink.cursor[lane])
            f->sink.cursor[lane] = ack->cursor[lane];
        f->sink.range_count[lane] = ack->range_count[lane];
        if (ack->range_count[lane] > 0)
            memcpy(f->sink.ranges[lane], ack->ranges[lane], ack->range_count[lane] * sizeof *ack->ranges[lane]);
    }
    fake_count_log(f, ack);
    if (ack->checkpoint_size > 0)
        memcpy(f->checkpoint, ack->checkpoint, f->checkpoint_size = ack->checkpoint_size);
    for (size_t i = 0; i < ack->retry_count; i++) {
        const struct store_retry_put *put = &ack->retries[i];
        struct fake_row *row = fake_row_at(f->retries, put->row.lane, put->row.seq);
        ck_assert_msg((row == NULL) == (put->packed != NULL), "a retry row is put twice, or changed before it is put");
        if (!row)
            (row = fake_row_new(f->retries))->packed = fake_copy(put->packed, put->row.size);
        row->row = put->row;
    }
    for (size_t i = 0; i < ack->done_count; i++) {
        struct fake_row *row = fake_row_at(f->retries, ack->done[i].lane, ack->done[i].seq);
        ck_assert_msg(row != NULL, "a retry row that is not there is done");
        fake_count_row(f, &ack->done[i]);
        fake_row_free(row);
    }
    for (size_t i = 0; i < ack->dead_count; i++) {
        const struct store_dead_put *put = &ack->dead[i];
        struct fake_row *row = fake_row_at(f->retries, put->row.lane, put->row.seq), *dead = fake_row_new(f->dead);
        ck_assert_msg((row == NULL) == (put->packed != NULL), "a dead letter without its event");
        dead->row = put->row;
        dead->packed = fake_copy(row ? row->packed : put->packed, put->row.size);
        if (row)
            fake_row_free(row);
    }
}

static inline int fake_store_ack(struct store *s, const struct store_ack *ack, uint64_t deadline_ns)
{
    (void)deadline_ns;
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_by_id(s, ack->sink_id);
    int code = s->ack_error;
    if (code == SPOOL_OK && (!f || f->sink.generation != ack->generation))
        code = SPOOL_ESTALE;
    if (code == SPOOL_OK) {
        s->acks++;
        fake_apply(f, ack);
        code = s->late_ack_error;
    }
    pthread_mutex_unlock(&s->lock);
    return code == SPOOL_OK ? code : err_set(code, "ack refused");
}

static inline int fake_store_dead_trim(struct store *s, const char *sink, const struct store_dead_limits *limits,
                                       uint64_t *ret_dropped)
{
    (void)sink, (void)limits;
    pthread_mutex_lock(&s->lock);
    s->trims++;
    *ret_dropped = s->trim_drops;
    s->trim_drops = 0;
    pthread_mutex_unlock(&s->lock);
    return SPOOL_OK;
}

static inline int fake_store_sink_config(struct store *s, const char *name, char **ret)
{
    pthread_mutex_lock(&s->lock);
    struct fake_sink *f = fake_find(s, name);
    *ret = f ? strdup(f->config) : NULL;
    pthread_mutex_unlock(&s->lock);
    if (!f)
        return err_set(SPOOL_ENOTFOUND, "no sink %s", name);
    return *ret ? SPOOL_OK : err_errno(ENOMEM, "sink %s", name);
}

static inline void fake_store_sink_publish(struct store *s, const char *name, const void *bytes, size_t size)
{
    (void)name;
    pthread_mutex_lock(&s->lock);
    ck_assert_uint_le(size, STORE_PUBLISHED_MAX);
    memcpy(s->published, bytes, size);
    s->published_size = size;
    s->publications++;
    pthread_mutex_unlock(&s->lock);
}

/* From here on the sources of delivery/ get the fake. */
#define lane_of(...) fake_lane_of(__VA_ARGS__)
#define store_block_ref(...) fake_store_block_ref(__VA_ARGS__)
#define store_block_unref(...) fake_store_block_unref(__VA_ARGS__)
#define store_is_read_only(...) fake_store_is_read_only(__VA_ARGS__)
#define store_read(...) fake_store_read(__VA_ARGS__)
#define store_bounds(...) fake_store_bounds(__VA_ARGS__)
#define store_control(...) fake_store_control(__VA_ARGS__)
#define store_sink_get(...) fake_store_sink_get(__VA_ARGS__)
#define store_sink_register(...) fake_store_sink_register(__VA_ARGS__)
#define store_sink_pause_for(...) fake_store_sink_pause_for(__VA_ARGS__)
#define store_sink_limit(...) fake_store_sink_limit(__VA_ARGS__)
#define store_sink_set_best_effort(...) fake_store_sink_set_best_effort(__VA_ARGS__)
#define store_sink_overflow(...) fake_store_sink_overflow(__VA_ARGS__)
#define store_sink_hand(...) fake_store_sink_hand(__VA_ARGS__)
#define store_sink_elect(...) fake_store_sink_elect(__VA_ARGS__)
#define store_sink_release(...) fake_store_sink_release(__VA_ARGS__)
#define store_checkpoint(...) fake_store_checkpoint(__VA_ARGS__)
#define store_retry_each(...) fake_store_retry_each(__VA_ARGS__)
#define store_retry_event(...) fake_store_retry_event(__VA_ARGS__)
#define store_ack(...) fake_store_ack(__VA_ARGS__)
#define store_sink_config(...) fake_store_sink_config(__VA_ARGS__)
#define store_sink_publish(...) fake_store_sink_publish(__VA_ARGS__)
#define store_dead_trim(...) fake_store_dead_trim(__VA_ARGS__)

static inline int fake_lane_of(enum spool_priority priority)
{
    return priority == SPOOL_CRITICAL ? LANE_CRITICAL
           : priority == SPOOL_HIGH   ? LANE_HIGH
           : priority == SPOOL_MEDIUM ? LANE_MEDIUM
                                      : LANE_LOW;
}

#include "../../delivery/acker.c"
#include "../../delivery/answers.c"
#include "../../delivery/backoff.c"
#include "../../delivery/batch.c"
#include "../../delivery/bench.c"
#include "../../delivery/block_cache.c"
#include "../../delivery/breaker.c"
#include "../../delivery/canceller.c"
#include "../../delivery/change.c"
#include "../../delivery/delivery.c"
#include "../../delivery/dispatcher.c"
#include "../../delivery/judge.c"
#include "../../delivery/keys.c"
#include "../../delivery/metrics.c"
#include "../../delivery/options.c"
#include "../../delivery/outage.c"
#include "../../delivery/overflow.c"
#include "../../delivery/publish.c"
#include "../../delivery/queue.c"
#include "../../delivery/reader.c"
#include "../../delivery/reader_keys.c"
#include "../../delivery/receipt.c"
#include "../../delivery/retry.c"
#include "../../delivery/sink_api.c"
#include "../../delivery/sink_state.c"
#include "../../delivery/stop.c"
#include "../../delivery/suspects.c"
#include "../../delivery/takeover.c"
#include "../../delivery/trim.c"
#include "../../delivery/window.c"
#include "../../delivery/worker.c"

#endif
