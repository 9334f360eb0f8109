/* plugin_cancel.h - waiting for a descriptor, until a deadline, in a way that cancel ends at once.
 *
 *     open:     cancel_init(&s->cancel)
 *     cancel:   cancel_set(&s->cancel)             any thread, any number of times
 *     deliver:  every wait is cancel_wait(); at its end cancel_done(&s->cancel)
 *     close:    cancel_free(&s->cancel)
 *
 * What was set stays set until cancel_done(): a cancel that comes just before deliver begins is not lost, it makes that
 * deliver return soon, which costs nothing but another try. Do not wait in open: there is no state to cancel yet. */
#ifndef DELIVERY_SINKS_PLUGIN_CANCEL_H
#define DELIVERY_SINKS_PLUGIN_CANCEL_H

#include <stdbool.h>
#include <stdint.h>

struct cancel {
    int fd; /* an eventfd, non-blocking, close-on-exec: readable when cancelled; others may poll it too */
};

/* errno. */
int cancel_init(struct cancel *cancel);
/* Also of one that is {.fd = -1}. */
void cancel_free(struct cancel *cancel);
void cancel_set(struct cancel *cancel);
bool cancel_is_set(const struct cancel *cancel);
void cancel_done(struct cancel *cancel);

enum cancel_wait { WAIT_READY = 0, WAIT_TIMEOUT, WAIT_CANCELLED };
/* Waits until `fd` (-1: nothing) is ready for `events` of poll(2) or in error, the deadline (sync.h, monotonic) has
 * passed, or it is cancelled, which counts before all. */
enum cancel_wait cancel_wait(const struct cancel *cancel, int fd, short events, uint64_t deadline_ns);

#endif
