/* sink_test.c - spool_sink_test(): a probe to a registered sink. */
#include "handle.h"

static int probe(struct spool *spool, const struct store_sink *sink, const struct delivery_registration *stored,
                 uint64_t deadline_ns)
{
    char body[SINK_NAME_MAX + 64];
    static const char *const tags[] = {"spool.probe", NULL};
    struct delivery_kind kind;
    struct spool_id id;
    int code = delivery_kind_find(sink->kind, stored->plugin, &kind);
    if (!code)
        code = delivery_kind_check(&kind, stored->config);
    if (!code)
        code = spool_clock_now(spool, &id);
    if (code)
        return code;
    int size = snprintf(body, sizeof body, "{\"probe\":true,\"sink\":\"%s\"}", sink->name);
    struct spool_event event = SPOOL_EVENT(.type = "spool.probe", .agent = "spool", .priority = SPOOL_LOW, .tags = tags,
                                           .body = body, .body_size = (size_t)size);
    return delivery_probe(kind.sink, stored->config, &event, &id, deadline_ns);
}

int spool_sink_test(struct spool *spool, const char *name, uint32_t timeout_ms)
{
    struct delivery_registration stored;
    struct store_sink sink;
    char *text = NULL;
    uint64_t deadline = deadline_in_ms(timeout_ms);
    int code = handle_check(spool);
    if (!code && !name)
        code = err_set(SPOOL_EINVAL, "the sink's name is NULL");
    if (!code)
        code = store_sink_get(spool->store, name, &sink);
    if (!code)
        code = store_sink_config(spool->store, name, &text);
    if (!code)
        code = delivery_registration_read(text, &stored);
    if (code) {
        free(text);
        return code;
    }
    code = probe(spool, &sink, &stored, deadline);
    delivery_registration_free(&stored);
    return code ? err_prefix(code, "sink %s", name) : SPOOL_OK;
}
