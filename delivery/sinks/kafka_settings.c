/* kafka_settings.c - see kafka_settings.h. */
#include "kafka_settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRANSACTION_MS_MIN = 60000 };
enum { QUEUE_MESSAGES = 1 << 17, QUEUE_KIB = 64 << 10 };
static const char *const compression_names[] = {"none", "gzip", "snappy", "lz4", "zstd", NULL};

/* ----------------------------------------------------------------------------------------------------- configuration
 */

static int wrong(const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the kafka sink: %s", what);
}

static int read_text(struct config *config, const char *key, char **ret)
{
    return json_object_get(config->object, key) ? config_text(config, key, NULL, ret) : SPOOL_OK;
}

/* Texts that are no secrets. */
static int read_properties(struct config *config, struct kafka_settings *s)
{
    json_t *object = json_object_get(config->object, "properties"), *value;
    const char *key;
    if (object && !json_is_object(object))
        return wrong("\"properties\" must be an object of librdkafka's settings");
    json_object_foreach(object, key, value)
    {
        if (strstr(key, "password") || strstr(key, "pem") || strstr(key, "secret") ||
            strstr(key, "sasl.oauthbearer.config"))
            return wrong("\"properties\" must hold no secrets, as they are stored and shown");
        if (!json_is_string(value))
            return wrong("\"properties\" must be texts");
        if (strcmp(key, "transactional.id") == 0)
            return wrong("\"transactional_id\" is a key of its own, not one of \"properties\"");
    }
    s->properties = json_incref(object);
    json_object_del(config->object, "properties");
    return SPOOL_OK;
}

static int read_tls(struct config *config, struct kafka_settings *s)
{
    int code = config_flag(config, "tls", true, &s->tls);
    return code == SPOOL_OK ? read_text(config, "ca", &s->ca) : code;
}

static int read_transactional_id(struct config *config, struct kafka_settings *s)
{
    int code = read_text(config, "transactional_id", &s->transactional_id);
    return code == SPOOL_OK && s->transactional_id && !*s->transactional_id ? wrong("\"transactional_id\" is empty")
                                                                            : code;
}

int kafka_settings_read(struct kafka_settings *ret, const char *json_config)
{
    struct config config;
    int code = config_open(&config, "kafka", json_config);
    if (code == SPOOL_OK)
        code = config_text(&config, "servers", NULL, &ret->servers);
    if (code == SPOOL_OK)
        code = config_text(&config, "topic", "events", &ret->topic);
    if (code == SPOOL_OK)
        code = read_tls(&config, ret);
    if (code == SPOOL_OK)
        code = read_text(&config, "user", &ret->user);
    if (code == SPOOL_OK)
        code = config_secret(&config, "password", ret->user != NULL, &ret->password);
    if (code == SPOOL_OK)
        code = config_text(&config, "mechanism", "SCRAM-SHA-512", &ret->mechanism);
    if (code == SPOOL_OK)
        code = config_choice(&config, "compression", compression_names, 3, &ret->compression);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "ack_timeout", 10000, &ret->ack_ms);
    if (code == SPOOL_OK)
        code = read_transactional_id(&config, ret);
    if (code == SPOOL_OK)
        code = read_properties(&config, ret);
    return config_close(&config, code);
}

void kafka_settings_free(struct kafka_settings *s)
{
    char *texts[] = {s->servers, s->topic, s->ca, s->user, s->mechanism, s->transactional_id};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        free(texts[i]);
    secret_free(&s->password);
    json_decref(s->properties);
    *s = (struct kafka_settings){0};
}

const struct spool_sink_setting kafka_setting_list[] = {
    {"servers", "text (required)", "HOST:PORT of some brokers, with commas"},
    {"topic", "text, events", "to produce to"},
    {"tls", "true or false, true", "certificates are verified, by name too"},
    {"ca", "file", "authorities to trust instead of the system's"},
    {"user", "text", "for SASL"},
    {"password", "secret", "of the user"},
    {"mechanism", "text, SCRAM-SHA-512", "of SASL"},
    {"compression", "none, gzip, snappy, lz4, zstd; lz4", "of message sets"},
    {"ack_timeout", "duration, 10s", "for the brokers' acknowledgement"},
    {"transactional_id", "text", "each batch is a transaction, by producers ID-1, ID-2 ..."},
    {"properties", "object", "further settings of librdkafka"},
    {NULL, NULL, NULL},
};

/* -------------------------------------------------------------------------------------------------------- librdkafka
 */

static int set(rd_kafka_conf_t *conf, const char *key, const char *value)
{
    char error[160];
    if (!value || rd_kafka_conf_set(conf, key, value, error, sizeof error) == RD_KAFKA_CONF_OK)
        return SPOOL_OK;
    return spool_sink_error(SPOOL_ECONFIG, "Kafka: %s: %s", key, strstr(key, "password") ? "not accepted" : error);
}

static int set_number(rd_kafka_conf_t *conf, const char *key, uint64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    return set(conf, key, text);
}

static int set_login(const struct kafka_settings *s, rd_kafka_conf_t *conf)
{
    char *password = NULL;
    const char *protocol = s->user ? (s->tls ? "sasl_ssl" : "sasl_plaintext") : s->tls ? "ssl" : "plaintext";
    int code = secret_read(&s->password, "password", &password);
    if (code == SPOOL_OK)
        code = set(conf, "security.protocol", protocol);
    if (code == SPOOL_OK && s->tls)
        code = set(conf, "ssl.endpoint.identification.algorithm", "https");
    if (code == SPOOL_OK)
        code = set(conf, "ssl.ca.location", s->ca);
    if (code == SPOOL_OK && s->user)
        code = set(conf, "sasl.mechanism", s->mechanism);
    if (code == SPOOL_OK)
        code = set(conf, "sasl.username", s->user);
    if (code == SPOOL_OK)
        code = set(conf, "sasl.password", password);
    secret_wipe(password);
    return code;
}

/* Longer than its messages may take. */
static int set_transaction_time(const struct kafka_settings *s, rd_kafka_conf_t *conf)
{
    uint64_t timeout_ms = 3 * s->ack_ms > TRANSACTION_MS_MIN ? 3 * s->ack_ms : TRANSACTION_MS_MIN;
    return s->transactional_id ? set_number(conf, "transaction.timeout.ms", timeout_ms) : SPOOL_OK;
}

/* What the guarantee hangs on, last: nothing in "properties" changes it. */
static int set_guarantee(const struct kafka_settings *s, const char *transactional_id, rd_kafka_conf_t *conf)
{
    int code = set(conf, "bootstrap.servers", s->servers);
    if (code == SPOOL_OK)
        code = set(conf, "transactional.id", transactional_id);
    if (code == SPOOL_OK)
        code = set(conf, "enable.idempotence", "true");
    if (code == SPOOL_OK)
        code = set_number(conf, "queue.buffering.max.messages", QUEUE_MESSAGES);
    if (code == SPOOL_OK)
        code = set_number(conf, "queue.buffering.max.kbytes", QUEUE_KIB);
    return code == SPOOL_OK ? set_number(conf, "message.timeout.ms", 2 * s->ack_ms) : code;
}

int kafka_settings_apply(const struct kafka_settings *s, const char *transactional_id, rd_kafka_conf_t *conf)
{
    const char *key;
    json_t *value;
    int code = set(conf, "client.id", "libspool");
    if (code == SPOOL_OK)
        code = set(conf, "linger.ms", "1"); /* a batch waits for its last message set */
    if (code == SPOOL_OK)
        code = set(conf, "socket.nagle.disable", "true"); /* or it waits 40 ms, for the broker's delayed ACK */
    if (code == SPOOL_OK)
        code = set(conf, "compression.type", compression_names[s->compression]);
    if (code == SPOOL_OK)
        code = set_transaction_time(s, conf);
    if (code == SPOOL_OK)
        code = set_login(s, conf);
    json_object_foreach(s->properties, key, value)
    {
        if (code == SPOOL_OK)
            code = set(conf, key, json_string_value(value));
    }
    return code == SPOOL_OK ? set_guarantee(s, transactional_id, conf) : code;
}
