/* kafka_settings.h - the configuration of the kafka sink, and what librdkafka gets of it. */
#ifndef DELIVERY_SINKS_KAFKA_SETTINGS_H
#define DELIVERY_SINKS_KAFKA_SETTINGS_H

#include <librdkafka/rdkafka.h>

#include "plugin.h"

struct kafka_settings {
    char *servers, *topic, *ca, *user, *mechanism;
    char *transactional_id; /* NULL: no transactions */
    struct secret password;
    json_t *properties; /* an object of texts */
    int compression;
    bool tls;
    uint64_t ack_ms;
};

/* SPOOL_ECONFIG with a message; free it then, too. */
int kafka_settings_read(struct kafka_settings *ret, const char *json_config);
/* For a producer with that transactional id, or with none. Reads the secret, too. SPOOL_ECONFIG with a message. */
int kafka_settings_apply(const struct kafka_settings *settings, const char *transactional_id, rd_kafka_conf_t *conf);
void kafka_settings_free(struct kafka_settings *settings);
/* For struct spool_sink_plugin. */
extern const struct spool_sink_setting kafka_setting_list[];

#endif
