/* obedient_fixture.h - a spool of the public interface, and a sink that does with each event what its body says. */
#ifndef OBEDIENT_FIXTURE_H
#define OBEDIENT_FIXTURE_H

#include <pthread.h>

#include "../../lib/base/sync.h"
#include "../../lib/spool.h"
#include "scratch_fixture.h"

enum { EVENTS = 10, HOUR_MS = 3600000 };

/* A sink that does with each event what its body says: ok, no (rejected), later (tried again), hour (tried again in one). */
struct obedient {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hold; /* deliver waits */
    unsigned delivered, tried;
};

static struct obedient obedient;

static inline bool says(const struct spool_delivery *delivery, const char *word)
{
    return delivery->event->body_size > strlen(word) && !memcmp(delivery->event->body, word, strlen(word));
}

static inline int obey(void *state, struct spool_delivery *batch, size_t n)
{
    struct obedient *o = state;
    pthread_mutex_lock(&o->lock);
    while (o->hold)
        pthread_cond_wait(&o->changed, &o->lock);
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        o->tried++;
        if (says(delivery, "\"no"))
            spool_delivery_fail(delivery, SPOOL_REJECTED, "told to");
        else if (says(delivery, "\"later") || says(delivery, "\"hour"))
            spool_delivery_fail(delivery, SPOOL_RETRY, "not now");
        else
            delivery->outcome = SPOOL_DELIVERED;
        if (says(delivery, "\"hour"))
            delivery->retry_after_ms = HOUR_MS;
        o->delivered += delivery->outcome == SPOOL_DELIVERED;
    }
    pthread_cond_broadcast(&o->changed);
    pthread_mutex_unlock(&o->lock);
    return 0;
}

static inline void let_go(void *state)
{
    struct obedient *o = state;
    pthread_mutex_lock(&o->lock);
    o->hold = false;
    pthread_cond_broadcast(&o->changed);
    pthread_mutex_unlock(&o->lock);
}

static const struct spool_sink hooks = {
    .abi = SPOOL_SINK_ABI, .size = sizeof hooks, .kind = "obedient", .deliver = obey, .cancel = let_go};

static inline unsigned count_of(const unsigned *counter)
{
    pthread_mutex_lock(&obedient.lock);
    unsigned n = *counter;
    pthread_mutex_unlock(&obedient.lock);
    return n;
}

#define until(condition)                                                                                               \
    do {                                                                                                               \
        uint64_t end_ = deadline_in_ms(60000);                                                                         \
        while (!(condition) && mono_ns() < end_)                                                                       \
            usleep(2000);                                                                                              \
        ck_assert_msg(condition, "%s did not come true", #condition);                                                  \
    } while (0)

static inline void begin(void)
{
    scratch_begin();
    memset(&obedient, 0, sizeof obedient);
    pthread_mutex_init(&obedient.lock, NULL);
    pthread_cond_init(&obedient.changed, NULL);
}

static inline struct spool *open_spool(const struct spool_options *more)
{
    struct spool_options options = more ? *more : SPOOL_OPTIONS(.max_bytes = 0);
    struct spool *spool;
    options.size = sizeof options;
    options.max_bytes = 32 << 20;
    options.retention_ms = 3600000;
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

static inline void add(struct spool *spool, const char *name, struct spool_sink_options options)
{
    options.size = sizeof options;
    options.user = &obedient;
    ck_ok(spool_sink_add(spool, name, &hooks, NULL, &options));
}

static inline struct spool_id put(struct spool *spool, const char *body, uint64_t ttl_ms)
{
    struct spool_id id;
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = body, .body_size = strlen(body), .ttl_ms = ttl_ms);
    ck_ok(spool_enqueue(spool, &event, &id));
    return id;
}

#endif
