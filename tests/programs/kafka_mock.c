/* kafka_mock.c - librdkafka's mock cluster as a process: three brokers on loopback, and a consumer that reads along.
 *
 *     kafka_mock TOPIC
 *
 * Prints the brokers' addresses, then obeys lines on standard input, answering each with a line: "down N" and "up N" a
 * broker, "fail N" requests to produce, "delay N" milliseconds, "hang N" milliseconds until the next produce request is
 * answered, of each broker, "coordinator N": that broker is that of the transactional id TOPIC-1, "count" of messages,
 * "dump FILE": writes those read so far, a line each: key, id, value. "end" is answered by how many there are, read or not.
 */
#include <librdkafka/rdkafka.h>
#include <librdkafka/rdkafka_mock.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "program.h"

enum { BROKERS = 3, PARTITIONS = 4, PRODUCE = 0 /* ApiKey */ };

static atomic_ulong count;
static char transactional_id[64];
static FILE *spill;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void keep(const rd_kafka_message_t *message)
{
    rd_kafka_headers_t *headers;
    const void *id = "";
    size_t size = 0;
    if (rd_kafka_message_headers(message, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR)
        rd_kafka_header_get_last(headers, "id", &id, &size);
    pthread_mutex_lock(&lock);
    fprintf(spill, "%.*s\t%.*s\t%.*s\n", (int)message->key_len, message->key ? (const char *)message->key : "",
            (int)size, (const char *)id, (int)message->len, (const char *)message->payload);
    pthread_mutex_unlock(&lock);
    atomic_fetch_add(&count, 1);
}

static rd_kafka_t *consumer_of(const char *brokers, const char *topic)
{
    char error[200];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "bootstrap.servers", brokers, NULL, 0);
    rd_kafka_conf_set(conf, "group.id", "reader", NULL, 0);
    rd_kafka_conf_set(conf, "fetch.wait.max.ms", "50", NULL, 0);
    rd_kafka_conf_set(conf, "auto.offset.reset", "earliest", NULL, 0); /* the cluster keeps 5 MB of a partition */
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    rd_kafka_t *consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof error);
    if (!consumer)
        errx(1, "%s", error);
    rd_kafka_topic_partition_list_t *all = rd_kafka_topic_partition_list_new(PARTITIONS);
    for (int i = 0; i < PARTITIONS; i++)
        rd_kafka_topic_partition_list_add(all, topic, i)->offset = RD_KAFKA_OFFSET_BEGINNING;
    rd_kafka_assign(consumer, all);
    rd_kafka_topic_partition_list_destroy(all);
    return consumer;
}

static void *read_along(void *consumer)
{
    for (;;) {
        rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer, 100);
        if (message && !message->err)
            keep(message);
        if (message)
            rd_kafka_message_destroy(message);
    }
    return NULL;
}

static void dump(const char *path)
{
    char block[65536];
    size_t n;
    FILE *out = fopen(path, "w");
    if (!out)
        err(1, "%s", path);
    pthread_mutex_lock(&lock);
    rewind(spill);
    while ((n = fread(block, 1, sizeof block, spill)) > 0)
        fwrite(block, 1, n, out);
    fseek(spill, 0, SEEK_END);
    pthread_mutex_unlock(&lock);
    fclose(out);
}

static unsigned long end_of(rd_kafka_t *consumer, const char *topic)
{
    unsigned long sum = 0;
    for (int i = 0; i < PARTITIONS; i++) {
        int64_t low = 0, high = 0;
        rd_kafka_query_watermark_offsets(consumer, topic, i, &low, &high, 10000);
        sum += (unsigned long)high;
    }
    return sum;
}

static void obey(rd_kafka_mock_cluster_t *mock, rd_kafka_t *consumer, const char *topic, char *line)
{
    char *word = strtok(line, " \n"), *argument = strtok(NULL, " \n");
    int number = argument ? atoi(argument) : 0;
    if (strcmp(word, "down") == 0)
        rd_kafka_mock_broker_set_down(mock, number);
    else if (strcmp(word, "up") == 0)
        rd_kafka_mock_broker_set_up(mock, number);
    else if (strcmp(word, "coordinator") == 0)
        rd_kafka_mock_coordinator_set(mock, "transaction", transactional_id, number);
    else if (strcmp(word, "delay") == 0)
        for (int i = 1; i <= BROKERS; i++)
            rd_kafka_mock_broker_set_rtt(mock, i, number);
    else if (strcmp(word, "hang") == 0)
        for (int i = 1; i <= BROKERS; i++)
            rd_kafka_mock_broker_push_request_error_rtts(mock, i, PRODUCE, 1, RD_KAFKA_RESP_ERR_NO_ERROR, number);
    else if (strcmp(word, "fail") == 0)
        for (int i = 0; i < number; i++)
            rd_kafka_mock_push_request_errors(mock, PRODUCE, 1, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
    else if (strcmp(word, "dump") == 0)
        dump(argument);
    printf("%lu\n", strcmp(word, "end") == 0 ? end_of(consumer, topic) : atomic_load(&count));
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char error[200], line[4200];
    pthread_t thread;
    if (argc != 2)
        errx(2, "usage: kafka_mock TOPIC");
    snprintf(transactional_id, sizeof transactional_id, "%s-1", argv[1]);
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_conf_set(conf, "log_level", "0", NULL, 0);
    rd_kafka_t *handle = rd_kafka_new(RD_KAFKA_PRODUCER, conf, error, sizeof error);
    rd_kafka_mock_cluster_t *mock = handle ? rd_kafka_mock_cluster_new(handle, BROKERS) : NULL;
    spill = tmpfile();
    if (!mock || !spill)
        errx(1, "cannot make a mock cluster");
    rd_kafka_mock_topic_create(mock, argv[1], PARTITIONS, BROKERS);
    rd_kafka_t *consumer = consumer_of(rd_kafka_mock_cluster_bootstraps(mock), argv[1]);
    if (pthread_create(&thread, NULL, read_along, consumer) != 0)
        errx(1, "no thread");
    puts(rd_kafka_mock_cluster_bootstraps(mock));
    fflush(stdout);
    while (fgets(line, sizeof line, stdin))
        if (*line != '\n')
            obey(mock, consumer, argv[1], line);
    _exit(0);
}
