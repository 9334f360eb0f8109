/* enqueue.c - spool_enqueue() and its kin: check, measure, hand to the store. */
#include "handle.h"

static bool wants_power(const struct spool *spool, const struct spool_event *event)
{
    return event->durability ? event->durability == SPOOL_DURABLE_POWER : spool->power;
}

int spool_enqueue(struct spool *spool, const struct spool_event *event, struct spool_id *ret_id)
{
    struct event_measure measure;
    int code = handle_check(spool);
    if (!code && !event)
        code = err_set(SPOOL_EINVAL, "the event is NULL");
    if (!code)
        code = event_measure(event, store_frame_max(spool->store), &measure);
    if (code)
        return code;
    return store_append(spool->store, event, &measure, 1, wants_power(spool, event), ret_id);
}

static const struct spool_event *event_at(const struct spool_event *events, size_t i)
{
    return (const struct spool_event *)((const char *)events + i * events[0].size);
}

/* Measures all; any that asks for power raises the frame to it. */
static int measure_all(struct spool *spool, const struct spool_event *events, size_t n, struct event_measure *measures,
                       bool *ret_power)
{
    size_t most = store_frame_max(spool->store);
    for (size_t i = 0; i < n; i++) {
        const struct spool_event *event = event_at(events, i);
        if (event->size != events[0].size)
            return err_set(SPOOL_EINVAL, "event %zu: its size is %zu, that of the first one %zu", i, event->size,
                           events[0].size);
        int code = event_measure(event, most, &measures[i]);
        if (code)
            return err_prefix(code, "event %zu", i);
        *ret_power |= wants_power(spool, event);
    }
    return SPOOL_OK;
}

int spool_enqueue_many(struct spool *spool, const struct spool_event *events, size_t n, struct spool_id *ret_ids)
{
    enum { ON_STACK = 64 };
    struct event_measure few[ON_STACK], *measures = few;
    bool power = false;
    int code = handle_check(spool);
    if (!code && n == 0)
        return SPOOL_OK;
    if (!code && !events)
        code = err_set(SPOOL_EINVAL, "events is NULL");
    if (!code && n > SIZE_MAX / sizeof *measures / 2)
        code = err_set(SPOOL_ETOOBIG, "%zu events at once", n);
    if (!code && n > ON_STACK && !(measures = malloc(n * sizeof *measures)))
        code = err_errno(ENOMEM, "%zu events", n);
    if (!code)
        code = measure_all(spool, events, n, measures, &power);
    if (!code)
        code = store_append(spool->store, events, measures, n, power, ret_ids);
    if (measures != few)
        free(measures);
    return code;
}

int spool_flush(struct spool *spool, uint32_t timeout_ms)
{
    int code = handle_check(spool);
    return code ? code : store_flush(spool->store, deadline_in_ms(timeout_ms));
}
