/* otlp_answer.h - the bodies of a collector's answers: ExportLogsServiceResponse, ExportTraceServiceResponse, and
 * google.rpc.Status of those that refuse. */
#ifndef DELIVERY_SINKS_OTLP_ANSWER_H
#define DELIVERY_SINKS_OTLP_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "../../lib/base/buffer.h"

enum { OTLP_MESSAGE_SIZE = 160 };

struct otlp_answer {
    uint64_t rejected;               /* records or spans */
    char message[OTLP_MESSAGE_SIZE]; /* printable; "" if there is none */
};

/* Reads partial_success. A body that is empty, or cannot be read, says that nothing was rejected: the status has the
 * word. */
void otlp_read_success(const struct buffer *body, bool json, struct otlp_answer *ret);
/* Reads the message of a Status; "" if it cannot be read. */
void otlp_read_status(const struct buffer *body, bool json, struct otlp_answer *ret);

#endif
