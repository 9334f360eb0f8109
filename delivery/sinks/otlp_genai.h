/* otlp_genai.h - our well-known events as the GenAI semantic conventions name things.
 *
 * The conventions change (names move, metrics are replaced), so an event stores the members of spool.h's list, and what
 * they are called over there is a table: otlp_genai.c. Its version goes along with every request as the resource's
 * attribute libspool.genai.version. Recipe for a change of the conventions: edit the rows, and set GENAI_VERSION to the
 * month of the conventions' state; nothing else knows a name of theirs. */
#ifndef DELIVERY_SINKS_OTLP_GENAI_H
#define DELIVERY_SINKS_OTLP_GENAI_H

#include <stdbool.h>
#include <stddef.h>

/* github.com/open-telemetry/semantic-conventions-genai, all of it "development". */
#define GENAI_VERSION "2026-08"

/* Names that do not come from a body. */
#define GENAI_OPERATION "gen_ai.operation.name"
#define GENAI_PROVIDER "gen_ai.provider.name"
#define GENAI_AGENT "gen_ai.agent.name"
#define GENAI_CONVERSATION "gen_ai.conversation.id"
#define GENAI_RECORD_ID "gen_ai.memory.record.id"
#define GENAI_RECORDS "gen_ai.memory.records"
#define GENAI_CAPTURE_ENV "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"

/* How a member of the body becomes a value. */
enum genai_form {
    GENAI_TEXT,
    GENAI_INT,
    GENAI_DOUBLE,
    GENAI_LIST,    /* texts; a single one becomes a list of it */
    GENAI_SECONDS, /* milliseconds in the body */
    GENAI_ANY,
};

struct genai_row {
    const char *member, *attribute;
    enum genai_form form;
    bool is_content; /* what people or models said: only when content is captured */
};

enum { SPAN_INTERNAL = 1, SPAN_CLIENT = 3 };

/* What is known of one event type. */
struct genai_kind {
    const char *type;       /* ends in a dot: all types that begin so and have no entry of their own before */
    const char *operation;  /* gen_ai.operation.name; NULL: none */
    const char *event_name; /* of the log record; NULL: the type */
    const char *target;     /* the member that stands in the span's name behind the operation; NULL: none */
    int severity;           /* of the log record, 1 to 24 */
    int span_kind;
    bool is_span;     /* has a span also where only operations have one */
    bool has_content; /* its body is content */
    bool is_memory;
    const struct genai_row *rows; /* end with a member of NULL */
};

/* Never NULL: there is one for everything else. */
const struct genai_kind *genai_kind_of(const char *type);

#endif
