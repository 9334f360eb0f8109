/* raw_kafka.c - the same messages by librdkafka alone, as its example producer.c does: produce, poll, flush. Each is
 * rendered with an id and a time of its own, has the sink's headers and key, and is acknowledged by its delivery report;
 * the settings are the sink's. Behind each BATCH messages it waits for all of them, as the sink does; with BATCH 0 it waits
 * at the end alone. The mock cluster is within the process, its own.
 *
 *     raw_kafka TOPIC EVENTS BYTES BATCH */
#include <librdkafka/rdkafka.h>

#include "load.h"

static void reported(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
    (void)producer, (void)opaque;
    if (message->err)
        errx(1, "%s", rd_kafka_err2str(message->err));
}

static void set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char error[200];
    if (rd_kafka_conf_set(conf, key, value, error, sizeof error) != RD_KAFKA_CONF_OK)
        errx(1, "%s", error);
}

static void produce(rd_kafka_t *producer, const char *topic, uint64_t n, size_t bytes)
{
    static struct load load;
    char *json;
    size_t size;
    load_event(&load, n, bytes);
    json = load_json(&load, &size);
    rd_kafka_headers_t *headers = rd_kafka_headers_new(3);
    rd_kafka_header_add(headers, "id", -1, load.id_text, -1);
    rd_kafka_header_add(headers, "type", -1, load.event.type, -1);
    while (rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_KEY(load.agent, strlen(load.agent)),
                             RD_KAFKA_V_VALUE(json, size), RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY),
                             RD_KAFKA_V_TIMESTAMP((int64_t)(spool_id_time_ns(&load.id) / 1000000)),
                             RD_KAFKA_V_HEADERS(headers), RD_KAFKA_V_END) == RD_KAFKA_RESP_ERR__QUEUE_FULL)
        rd_kafka_poll(producer, 10);
    rd_kafka_poll(producer, 0);
    spool_free(json);
}

int main(int argc, char **argv)
{
    char error[200];
    uint64_t events = load_number(argc, argv, 2, 0), bytes = load_number(argc, argv, 3, 0),
             batch = load_number(argc, argv, 4, 0);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    if (argc != 5)
        errx(2, "usage: raw_kafka TOPIC EVENTS BYTES BATCH");
    set(conf, "test.mock.num.brokers", "3");
    set(conf, "log_level", "0");
    set(conf, "enable.idempotence", "true");
    set(conf, "linger.ms", "1");
    set(conf, "socket.nagle.disable", "true");
    set(conf, "compression.type", "lz4");
    rd_kafka_conf_set_dr_msg_cb(conf, reported);
    rd_kafka_t *producer = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    if (!producer)
        errx(1, "%s", error);
    uint64_t start_ns = clock_ns();
    batch = batch ? batch : events;
    for (uint64_t n = 0; n < events; n++) {
        produce(producer, argv[1], n, bytes);
        bool last = n % batch == batch - 1 || n + 1 == events;
        if (last && rd_kafka_flush(producer, 60000) != RD_KAFKA_RESP_ERR_NO_ERROR)
            errx(1, "not all was acknowledged");
    }
    load_report(events, start_ns);
    rd_kafka_destroy(producer);
    return 0;
}
