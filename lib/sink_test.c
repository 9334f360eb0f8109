/* sink_test.c - spool_sink_test(): a probe to a registered sink.
 *
 * A sink that keeps checkpoints may have one deliverer at a time, and finds at open the checkpoint that it gave last: so
 * the probe takes the place of the deliverer, and what the sink answers is stored as in delivery. Whoever serves it has
 * the precedence (SPOOL_EBUSY). Where a hook hangs the place is kept, as in delivery, until the spool is closed. */
#include "handle.h"

static int store_answer(struct spool *spool, const struct store_sink *sink,
                        const struct delivery_checkpoint *checkpoint, uint64_t deadline_ns)
{
    const struct store_ack ack = {
        .sink_id = sink->id,
        .generation = sink->generation,
        .checkpoint = checkpoint->bytes,
        .checkpoint_size = checkpoint->size,
    };
    return store_ack(spool->store, &ack, deadline_ns);
}

/* One call of the sink, and what it said of its place. */
static int call(struct spool *spool, const struct store_sink *sink, struct delivery_probe *request,
                const struct spool_event *event)
{
    request->event = event;
    int code = delivery_probe(request);
    return code ? code : store_answer(spool, sink, &request->checkpoint, request->deadline_ns);
}

/* As elected. A sink gives a checkpoint before its first event. */
static int probe_in_place(struct spool *spool, const struct store_sink *sink, struct delivery_probe *request)
{
    const struct spool_event *event = request->event;
    int code = store_checkpoint(spool->store, sink->id, request->checkpoint.bytes, sizeof request->checkpoint.bytes,
                                &request->checkpoint.size);
    if (!code && request->checkpoint.size == 0)
        code = call(spool, sink, request, NULL);
    return code ? code : call(spool, sink, request, event);
}

static int probe_as_deliverer(struct spool *spool, const char *name, struct delivery_probe *request)
{
    struct store_sink sink;
    int code = store_sink_elect(spool->store, name);
    if (code == SPOOL_EBUSY)
        return err_set(code, "it keeps a checkpoint, and a process delivers to it: stop that one first, or put an "
                             "event and see it arrive");
    if (!code)
        code = store_sink_get(spool->store, name, &sink); /* its generation, now that it is ours */
    if (!code)
        code = probe_in_place(spool, &sink, request);
    if (!request->hangs)
        store_sink_release(spool->store, name);
    return code;
}

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
    struct delivery_probe request = {
        .sink = kind.sink, .config = stored->config, .event = &event, .id = &id, .deadline_ns = deadline_ns};
    return kind.sink->checkpoint ? probe_as_deliverer(spool, sink->name, &request) : delivery_probe(&request);
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
