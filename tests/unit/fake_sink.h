/* fake_sink.h - a sink that records what it gets and answers as a test tells it, and a delivery over a fake store to
 * drive it. What is done in every test of delivery. */
#ifndef FAKE_SINK_H
#define FAKE_SINK_H

#include "fake_store.h"

enum { SEEN_MAX = 1 << 16 };

/* What the sink's hooks do and did. */
struct fake {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned seen[SEEN_MAX];     /* numbers delivered, in order */
    unsigned attempts[SEEN_MAX]; /* beside it */
    size_t count;
    unsigned batches, opens, closes, cancels, largest;
    int (*answer)(struct fake *fake, struct spool_delivery *batch, size_t n); /* with the lock; NULL: all delivered */
    int open_code;
    bool block;      /* deliver waits until this is cleared */
    bool deaf;       /* … and is not moved by cancel */
    bool hold_close; /* close waits until this is cleared */
    unsigned arg;
};

static inline unsigned fake_number(const struct spool_delivery *delivery)
{
    char text[16] = "";
    memcpy(text, delivery->event->body, delivery->event->body_size < 15 ? delivery->event->body_size : 15);
    return (unsigned)strtoul(text, NULL, 10);
}

static inline int fake_open(void **ret_state, void *user, const char *config, const void *checkpoint, size_t size)
{
    (void)config, (void)checkpoint, (void)size;
    struct fake *fake = user;
    pthread_mutex_lock(&fake->lock);
    fake->opens++;
    int code = fake->open_code;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    *ret_state = fake;
    return code == SPOOL_OK ? code : spool_sink_error(code, "told to fail");
}

static inline void fake_record(struct fake *fake, const struct spool_delivery *delivery)
{
    if (fake->count == SEEN_MAX)
        return;
    fake->seen[fake->count] = fake_number(delivery);
    fake->attempts[fake->count++] = delivery->attempt;
}

static inline int fake_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct fake *fake = state;
    int code = SPOOL_OK;
    pthread_mutex_lock(&fake->lock);
    fake->batches++;
    fake->largest = n > fake->largest ? (unsigned)n : fake->largest;
    pthread_cond_broadcast(&fake->changed);
    while (fake->block)
        pthread_cond_wait(&fake->changed, &fake->lock);
    if (fake->answer)
        code = fake->answer(fake, batch, n);
    else
        for (size_t i = 0; i < n; i++)
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    for (size_t i = 0; i < n; i++)
        if (SPOOL_DELIVERY_AT(batch, i)->outcome == SPOOL_DELIVERED)
            fake_record(fake, SPOOL_DELIVERY_AT(batch, i));
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
    return code;
}

static inline void fake_cancel(void *state)
{
    struct fake *fake = state;
    pthread_mutex_lock(&fake->lock);
    fake->cancels++;
    if (!fake->deaf)
        fake->block = false;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static inline void fake_close(void *state)
{
    struct fake *fake = state;
    pthread_mutex_lock(&fake->lock);
    while (fake->hold_close)
        pthread_cond_wait(&fake->changed, &fake->lock);
    fake->closes++;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static const struct spool_sink fake_hooks = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "fake",
    .open = fake_open,
    .deliver = fake_deliver,
    .cancel = fake_cancel,
    .close = fake_close,
};

static inline void fake_set_block(struct fake *fake, bool block)
{
    pthread_mutex_lock(&fake->lock);
    fake->block = block;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

static inline void fake_hold_close(struct fake *fake, bool hold)
{
    pthread_mutex_lock(&fake->lock);
    fake->hold_close = hold;
    pthread_cond_broadcast(&fake->changed);
    pthread_mutex_unlock(&fake->lock);
}

/* ------------------------------------------------------------------------------------------------------- the rig */

struct rig {
    struct store *store;
    struct hlc *clock;
    _Atomic int64_t wall_step_ns; /* what somebody has set the wall clock to, from the right time */
    struct delivery *delivery;
    struct fake *fake;
    pthread_mutex_t lock; /* guards notices */
    unsigned notices[64]; /* by kind */
};

static inline void rig_notice(void *user, const struct spool_notice *notice)
{
    struct rig *rig = user;
    pthread_mutex_lock(&rig->lock);
    rig->notices[notice->kind]++;
    pthread_mutex_unlock(&rig->lock);
}

static inline unsigned rig_noticed(struct rig *rig, enum spool_notice_kind kind)
{
    pthread_mutex_lock(&rig->lock);
    unsigned n = rig->notices[kind];
    pthread_mutex_unlock(&rig->lock);
    return n;
}

static inline void rig_delivery(struct rig *rig)
{
    struct delivery_options options = {
        .workers = 2, .clock = rig->clock, .seed = 1, .reporter = {.on_notice = rig_notice, .notice_user = rig}};
    ck_ok(delivery_new(rig->store, &options, &rig->delivery));
}

static inline uint64_t rig_wall_ns(void *user)
{
    const struct rig *rig = user;
    return real_ns() + (uint64_t)rig->wall_step_ns;
}

static inline struct rig *rig_new(void)
{
    struct rig *rig = calloc(1, sizeof *rig);
    pthread_mutex_init(&rig->lock, NULL);
    rig->fake = calloc(1, sizeof *rig->fake);
    pthread_mutex_init(&rig->fake->lock, NULL);
    pthread_cond_init(&rig->fake->changed, NULL);
    rig->store = fake_new();
    ck_ok(hlc_new(&(struct hlc_options){.physical = rig_wall_ns, .physical_user = rig}, &rig->clock));
    rig_delivery(rig);
    return rig;
}

static inline void rig_add(struct rig *rig, struct spool_sink_options options)
{
    options.user = rig->fake;
    ck_ok(delivery_sink_add(rig->delivery, "s", &fake_hooks, NULL, &options));
}

static inline void rig_free(struct rig *rig)
{
    ck_ok(delivery_stop(rig->delivery, deadline_in_ms(10000)));
    delivery_free(rig->delivery);
    hlc_free(rig->clock);
    fake_free(rig->store);
    free(rig->fake);
    free(rig);
}

/* Waits until `condition` holds, at most a minute: the length matters only when the test fails. */
#define rig_until(condition)                                                                                           \
    do {                                                                                                               \
        uint64_t until_ = deadline_in_ms(60000);                                                                       \
        pthread_mutex_t m_ = PTHREAD_MUTEX_INITIALIZER;                                                                \
        pthread_cond_t c_;                                                                                             \
        cond_init(&c_);                                                                                                \
        pthread_mutex_lock(&m_);                                                                                       \
        while (!(condition) && mono_ns() < until_)                                                                     \
            cond_wait_until(&c_, &m_, mono_ns() + NS_PER_MS);                                                          \
        pthread_mutex_unlock(&m_);                                                                                     \
        ck_assert_msg(condition, "%s did not come true", #condition);                                                  \
    } while (0)

static inline size_t rig_seen(struct rig *rig)
{
    pthread_mutex_lock(&rig->fake->lock);
    size_t n = rig->fake->count;
    pthread_mutex_unlock(&rig->fake->lock);
    return n;
}

/* One of the sink's counters. */
static inline unsigned rig_counter(struct rig *rig, const unsigned *counter)
{
    pthread_mutex_lock(&rig->fake->lock);
    unsigned n = *counter;
    pthread_mutex_unlock(&rig->fake->lock);
    return n;
}

/* What the store knows of the sink. */
static inline struct store_sink rig_stored(struct rig *rig)
{
    struct store_sink *stored = malloc(sizeof *stored), copy;
    ck_ok(fake_store_sink_get(rig->store, "s", stored));
    copy = *stored;
    free(stored);
    return copy;
}

static inline struct delivery_sink_status rig_status(struct rig *rig)
{
    struct delivery_sink_status status;
    ck_ok(delivery_sink_status(rig->delivery, "s", &status));
    return status;
}

/* At one look: a row may be put when the cursor moves. */
static inline bool rig_all_ended(struct rig *rig, unsigned n)
{
    delivery_wake(rig->delivery);
    struct store_sink stored = rig_stored(rig);
    return stored.retry_rows == 0 && stored.cursor[LANE_MEDIUM] == n && stored.range_count[LANE_MEDIUM] == 0;
}

/* Of a sink that rejects every third event: each ends delivered or as a dead letter, and is known to be over. */
static inline void rig_check_all_ended(struct rig *rig, unsigned n)
{
    rig_until(rig_all_ended(rig, n));
    ck_assert_uint_eq(rig_stored(rig).dead_rows, n / 3);
    bool *seen = calloc(n, sizeof *seen);
    size_t count = rig_seen(rig);
    for (size_t i = 0; i < count; i++)
        seen[rig->fake->seen[i]] = true;
    for (unsigned i = 0; i < n; i++)
        ck_assert_msg(seen[i] == (i % 3 != 1), "event %u", i);
    free(seen);
}

#endif
