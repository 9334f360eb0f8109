/* http_results.h - the body of a 207 answer: what became of each event of a request.
 *
 *     {"results": [{"id": "01890a5d-ac96-774b-bcce-b302099a8057", "status": 422, "reason": "no such agent"}, …]}
 *
 * "reason" may be missing; members that are not known are passed over, and so are ids that were not in the request. */
#ifndef DELIVERY_SINKS_HTTP_RESULTS_H
#define DELIVERY_SINKS_HTTP_RESULTS_H

#include <stdbool.h>

#include "../../lib/base/buffer.h"
#include "../../lib/spool.h"

/* Calls `take` for each event among [first, end) of the batch that the answer names, the first time it does and while
 * its outcome is SPOOL_RETRY. Returns what there is to say about the events not named, or NULL if all were. Never fails
 * otherwise: an answer that cannot be read names nobody. */
const char *
http_results_read(const struct buffer *answer, bool is_cut, struct spool_delivery *batch, size_t first, size_t end,
                  void (*take)(void *user, struct spool_delivery *delivery, long status, const char *reason),
                  void *user);

#endif
