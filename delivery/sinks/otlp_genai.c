/* otlp_genai.c - the table: see otlp_genai.h. */
#include "otlp_genai.h"

#include <string.h>

#include "../../lib/spool.h"

enum { SEVERITY_DEBUG = 5, SEVERITY_INFO = 9, SEVERITY_ERROR = 17 };

static const struct genai_row llm_call[] = {
    {"model", "gen_ai.request.model", GENAI_TEXT, false},
    {"provider", GENAI_PROVIDER, GENAI_TEXT, false},
    {"response_model", "gen_ai.response.model", GENAI_TEXT, false},
    {"response_id", "gen_ai.response.id", GENAI_TEXT, false},
    {"finish_reasons", "gen_ai.response.finish_reasons", GENAI_LIST, false},
    {"time_to_first_chunk_ms", "gen_ai.response.time_to_first_chunk", GENAI_SECONDS, false},
    {"input_tokens", "gen_ai.usage.input_tokens", GENAI_INT, false},
    {"output_tokens", "gen_ai.usage.output_tokens", GENAI_INT, false},
    {"cache_read_tokens", "gen_ai.usage.cache_read.input_tokens", GENAI_INT, false},
    {"cache_write_tokens", "gen_ai.usage.cache_write.input_tokens", GENAI_INT, false},
    {"reasoning_tokens", "gen_ai.usage.reasoning.output_tokens", GENAI_INT, false},
    {"temperature", "gen_ai.request.temperature", GENAI_DOUBLE, false},
    {"top_p", "gen_ai.request.top_p", GENAI_DOUBLE, false},
    {"max_tokens", "gen_ai.request.max_tokens", GENAI_INT, false},
    {"error", "error.type", GENAI_TEXT, false},
    {"cost_usd", "libspool.cost_usd", GENAI_DOUBLE, false},
    {"latency_ms", "libspool.latency_ms", GENAI_DOUBLE, false},
    {"system_instructions", "gen_ai.system_instructions", GENAI_ANY, true},
    {"input_messages", "gen_ai.input.messages", GENAI_ANY, true},
    {"output_messages", "gen_ai.output.messages", GENAI_ANY, true},
    {"tool_definitions", "gen_ai.tool.definitions", GENAI_ANY, true},
    {NULL, NULL, GENAI_ANY, false},
};

static const struct genai_row delegation[] = {
    {"to", GENAI_AGENT, GENAI_TEXT, false},
    {"tool", "gen_ai.tool.name", GENAI_TEXT, false},
    {"error", "error.type", GENAI_TEXT, false},
    {"latency_ms", "libspool.latency_ms", GENAI_DOUBLE, false},
    {"task", "libspool.task", GENAI_TEXT, true},
    {"arguments", "gen_ai.tool.call.arguments", GENAI_ANY, true},
    {"result", "gen_ai.tool.call.result", GENAI_ANY, true},
    {NULL, NULL, GENAI_ANY, false},
};

/* The conventions have no names yet for what kind of memory it is. */
static const struct genai_row memory[] = {
    {"role", "libspool.memory.role", GENAI_TEXT, false},
    {"turn", "libspool.memory.turn", GENAI_INT, false},
    {"scope", "libspool.memory.scope", GENAI_TEXT, false},
    {"confidence", "libspool.memory.confidence", GENAI_DOUBLE, false},
    {"component", "libspool.memory.component", GENAI_TEXT, false},
    {"metric", "libspool.memory.metric", GENAI_TEXT, false},
    {"unit", "libspool.memory.unit", GENAI_TEXT, false},
    {"status", "libspool.memory.status", GENAI_TEXT, false},
    {"progress", "libspool.memory.progress", GENAI_DOUBLE, false},
    {"revision", "libspool.memory.revision", GENAI_INT, false},
    {"kind", "error.type", GENAI_TEXT, false},
    {NULL, NULL, GENAI_ANY, false},
};

static const struct genai_row interaction[] = {
    {"role", "libspool.role", GENAI_TEXT, false},
    {"channel", "libspool.channel", GENAI_TEXT, false},
    {"latency_ms", "libspool.latency_ms", GENAI_DOUBLE, false},
    {NULL, NULL, GENAI_ANY, false},
};

/* General conventions for exceptions. */
static const struct genai_row error[] = {
    {"message", "exception.message", GENAI_TEXT, false},
    {"kind", "error.type", GENAI_TEXT, false},
    {"stack", "exception.stacktrace", GENAI_TEXT, false},
    {NULL, NULL, GENAI_ANY, false},
};

static const struct genai_row nothing[] = {{NULL, NULL, GENAI_ANY, false}};

static const struct genai_kind kinds[] = {
    {.type = SPOOL_TYPE_LOG_LLM_CALL,
     .operation = "chat",
     .event_name = "gen_ai.client.inference.operation.details",
     .target = "model",
     .severity = SEVERITY_DEBUG,
     .span_kind = SPAN_CLIENT,
     .is_span = true,
     .has_content = true,
     .rows = llm_call},
    {.type = SPOOL_TYPE_LOG_AGENT_DELEGATION,
     .operation = "invoke_agent",
     .target = "to",
     .severity = SEVERITY_INFO,
     .span_kind = SPAN_INTERNAL,
     .is_span = true,
     .has_content = true,
     .rows = delegation},
    {.type = SPOOL_TYPE_MEMORY_PLAN,
     .operation = "plan",
     .severity = SEVERITY_INFO,
     .span_kind = SPAN_INTERNAL,
     .has_content = true,
     .is_memory = true,
     .rows = memory},
    {.type = SPOOL_TYPE_MEMORY_ERROR,
     .operation = "create_memory",
     .severity = SEVERITY_ERROR,
     .span_kind = SPAN_INTERNAL,
     .has_content = true,
     .is_memory = true,
     .rows = memory},
    {.type = "memory.",
     .operation = "create_memory",
     .severity = SEVERITY_INFO,
     .span_kind = SPAN_INTERNAL,
     .has_content = true,
     .is_memory = true,
     .rows = memory},
    {.type = SPOOL_TYPE_LOG_USER_INTERACTION,
     .severity = SEVERITY_INFO,
     .span_kind = SPAN_INTERNAL,
     .has_content = true,
     .rows = interaction},
    {.type = SPOOL_TYPE_LOG_ERROR, .severity = SEVERITY_ERROR, .span_kind = SPAN_INTERNAL, .rows = error},
};
static const struct genai_kind other = {.severity = SEVERITY_INFO, .span_kind = SPAN_INTERNAL, .rows = nothing};

const struct genai_kind *genai_kind_of(const char *type)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        size_t size = strlen(kinds[i].type);
        bool prefix = kinds[i].type[size - 1] == '.';
        if (prefix ? strncmp(type, kinds[i].type, size) == 0 : strcmp(type, kinds[i].type) == 0)
            return &kinds[i];
    }
    return &other;
}
