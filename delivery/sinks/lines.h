/* lines.h - events as JSON Lines, many to a write: what the stdout and file sinks share. */
#ifndef DELIVERY_SINKS_LINES_H
#define DELIVERY_SINKS_LINES_H

#include "../../lib/base/buffer.h"
#include "../delivery.h"

enum { LINES_TARGET_BYTES = 256 << 10 };

/* Appends one event; what a failure left half done is taken back. As below. */
int lines_render_one(struct buffer *out, struct spool_delivery *delivery);

/* Appends events from *at on until the buffer has LINES_TARGET_BYTES, and moves *at behind them. An event that cannot
 * be rendered is rejected and leaves no line. SPOOL_EUNAVAILABLE without memory. */
int lines_render(struct buffer *out, struct spool_delivery *batch, size_t n, size_t *at);

/* Marks events [first, end) as delivered, but those rejected. */
void lines_delivered(struct spool_delivery *batch, size_t first, size_t end);

/* Writes everything, through short writes and interruptions; waits when the descriptor does not block. errno. */
int lines_write(int fd, const void *bytes, size_t size);

#endif
