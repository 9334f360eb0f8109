/* bench.h - a worker's workbench: the events of the batch in its hands, unpacked, and what the sink said of each. One
 * thread uses it; its arrays grow to the largest batch seen and are used again. */
#ifndef DELIVERY_BENCH_H
#define DELIVERY_BENCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../lib/base/buffer.h"
#include "../lib/base/event.h"
#include "batch.h"
#include "filter.h"

enum verdict {
    VERDICT_OPEN = 0, /* no answer: goes back, costs no attempt */
    VERDICT_DELIVERED,
    VERDICT_RETRY,
    VERDICT_REJECTED,
    VERDICT_EXPIRED,  /* older than its time to live: not delivered */
    VERDICT_DAMAGED,  /* cannot be unpacked: not delivered */
    VERDICT_FILTERED, /* not for this sink: not delivered */
    VERDICT_PARKED,   /* waits behind one of its key that failed: not delivered */
};

struct bench_item {
    uint64_t seq;
    uint32_t size;   /* packed */
    uint8_t verdict; /* enum verdict */
    uint32_t reason; /* offset in reasons + 1; 0: none given */
    uint64_t retry_after_ms;
    uint64_t key;
    struct retry_row *row; /* NULL: from the log */
};

struct bench {
    struct bench_item *items; /* the whole batch, in order */
    struct event_view *views; /* beside items */
    size_t count, cap;
    struct spool_delivery *deliveries; /* what the sink gets: those still open */
    uint32_t *item_of;                 /* beside deliveries: index into items */
    size_t open;                       /* of deliveries */
    struct window_span *spans;         /* beside items: room for what is finished, or goes back */
    const struct filter *filter;       /* of the sink, set before bench_load() */
    bool holds;                        /* an event with an order is to be tried again: those behind it must wait */
    struct buffer reasons;             /* texts with their NULs */
};

/* Unpacks the batch; items that cannot be are DAMAGED, those that the filter stops FILTERED, those older than their time to live at `now_ns` EXPIRED. ENOMEM.
 */
int bench_load(struct bench *bench, const struct batch *batch, enum spool_order order, uint64_t now_ns);
/* Fills `deliveries` with the items that are open. */
void bench_lay_out(struct bench *bench);
/* Runs the sink over them, bisecting when it says that one is bad. Returns what the sink returned at last. Its message
 * is delivery_sink_message(). Before each further call `goes_on` is asked; when it says no, or an event that has an
 * order is to be tried again (nothing may overtake it), the events not tried yet stay open. */
int bench_deliver(struct bench *bench, const struct spool_sink *sink, void *state, bool (*goes_on)(void *user),
                  void *user);
/* The item's event, unless it is damaged. */
static inline const struct event_view *bench_view(const struct bench *bench, const struct bench_item *item)
{
    return &bench->views[item - bench->items];
}
const char *bench_reason(const struct bench *bench, const struct bench_item *item);
/* Keeps a reason for the item, cut at REASON_MAX. */
void bench_set_reason(struct bench *bench, struct bench_item *item, const char *text);
void bench_free(struct bench *bench);

/* The ordering key of an event, stable for ever because it is stored; 0: it has no order. */
uint64_t bench_key(const struct spool_event *event, enum spool_order order);

#endif
