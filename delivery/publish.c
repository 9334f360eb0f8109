/* publish.c - the dispatcher tells other processes how a sink of its own is: once a second while something changes, and
 * before it lets go of it. */
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "engine.h"

static const uint64_t publish_interval_ns = 1000 * NS_PER_MS;

/* Something that another process would like to know is not as it was published. */
static bool has_changed(const struct sink *sink, const struct delivery_sink_status *now)
{
    const struct publication *last = &sink->publication;
    return last->given != sink->given || last->state != now->state || last->attempt != now->attempt ||
           strcmp(last->error, now->last_error) != 0 || strcmp(last->waits_for, now->waits_for) != 0;
}

static void publish(struct delivery *d, struct sink *sink, const struct delivery_sink_status *status)
{
    uint8_t *bytes = malloc(STORE_PUBLISHED_MAX);
    struct publication *last = &sink->publication;
    last->at_ns = mono_ns();
    if (!bytes)
        return;
    last->given = sink->given;
    last->state = status->state;
    last->attempt = status->attempt;
    memcpy(last->error, status->last_error, sizeof last->error);
    memcpy(last->waits_for, status->waits_for, sizeof last->waits_for);
    size_t size = metrics_pack(status, sink->metrics, sink->id, hlc_physical_ns(d->clock), bytes, STORE_PUBLISHED_MAX);
    pthread_mutex_unlock(d->lock);
    store_sink_publish(d->store, sink->name, bytes, size);
    pthread_mutex_lock(d->lock);
    free(bytes);
}

void publish_when_due(struct delivery *d, struct sink *sink)
{
    struct delivery_sink_status status;
    if (!sink->publication.at_ns) /* a first moment to itself: most troubles show at once */
        sink->publication.at_ns = mono_ns() - publish_interval_ns * 4 / 5;
    if (mono_ns() < sink->publication.at_ns + publish_interval_ns)
        return;
    delivery_fill_status(d, sink, &status);
    if (has_changed(sink, &status))
        publish(d, sink, &status);
}

void publish_last(struct delivery *d, struct sink *sink)
{
    struct delivery_sink_status status;
    delivery_fill_status(d, sink, &status);
    if (has_changed(sink, &status))
        publish(d, sink, &status);
}
