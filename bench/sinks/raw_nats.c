/* raw_nats.c - the same messages by libnats alone, as its example js-pub.c does: js_PublishMsgAsync(), and at the end
 * js_PublishAsyncComplete(), which waits for every acknowledgement; at most 4,096 are outstanding meanwhile. Each message is
 * rendered with an id and a time of its own, and has the sink's subject and message id. It waits for no batch.
 *
 *     raw_nats URL STREAM EVENTS BYTES */
#include <nats/nats.h>

#include "load.h"

static void must(natsStatus status, const char *what)
{
    if (status != NATS_OK)
        errx(1, "%s: %s", what, nats_GetLastError(NULL));
}

static void refused(jsCtx *js, jsPubAckErr *error, void *closure)
{
    (void)js, (void)closure;
    errx(1, "not stored: %s", error->ErrText);
}

static void publish(jsCtx *js, const char *stream, uint64_t n, size_t bytes)
{
    static struct load load;
    char subject[256], *json;
    size_t size;
    natsMsg *message;
    jsPubOptions options;
    load_event(&load, n, bytes);
    json = load_json(&load, &size);
    snprintf(subject, sizeof subject, "%s.%s.%s", stream, load.agent, load.event.type);
    must(natsMsg_Create(&message, subject, NULL, json, (int)size), "natsMsg_Create");
    spool_free(json);
    jsPubOptions_Init(&options);
    options.MsgId = load.id_text;
    must(js_PublishMsgAsync(js, &message, &options), "js_PublishMsgAsync");
}

int main(int argc, char **argv)
{
    natsConnection *connection;
    jsCtx *js;
    jsOptions options;
    jsPubOptions complete;
    uint64_t events = load_number(argc, argv, 3, 0), bytes = load_number(argc, argv, 4, 0);
    if (argc != 5)
        errx(2, "usage: raw_nats URL STREAM EVENTS BYTES");
    must(natsConnection_ConnectTo(&connection, argv[1]), argv[1]);
    jsOptions_Init(&options);
    options.PublishAsync.ErrHandler = refused;
    options.PublishAsync.MaxPending = 4096;
    options.PublishAsync.StallWait = 10000;
    must(natsConnection_JetStream(&js, connection, &options), "natsConnection_JetStream");
    uint64_t start_ns = clock_ns();
    for (uint64_t n = 0; n < events; n++)
        publish(js, argv[2], n, bytes);
    jsPubOptions_Init(&complete);
    complete.MaxWait = 60000;
    must(js_PublishAsyncComplete(js, &complete), "js_PublishAsyncComplete");
    load_report(events, start_ns);
    jsCtx_Destroy(js);
    natsConnection_Destroy(connection);
    return 0;
}
