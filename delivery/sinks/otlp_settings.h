/* otlp_settings.h - what the otlp sink is told: by its configuration, and where that is silent by OpenTelemetry's
 * environment variables (opentelemetry.io/docs/specs/otel/protocol/exporter), of which those of the signal go before
 * the general ones:
 *
 * | key                        | variable, OTEL_EXPORTER_OTLP_[LOGS_|TRACES_]… |
 * |----------------------------|---------------------------------------------------------------------------------------------|
 * | endpoint                   | ENDPOINT: /v1/logs and /v1/traces are appended; default http://localhost:4318 | |
 * logs_endpoint, traces_endpoint | LOGS_ENDPOINT, TRACES_ENDPOINT: taken as they are | | encoding                   |
 * PROTOCOL: http/protobuf or http/json                                                        | | headers | HEADERS:
 * name=value,name=value, values percent-encoded                                      | | compression                |
 * COMPRESSION                                                                                 | | request_timeout |
 * TIMEOUT, in milliseconds                                                                    | | ca_file, cert_file,
 * key_file | CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY                                               | | service,
 * resource          | OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES                                                 | |
 * content                    | OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT | */
#ifndef DELIVERY_SINKS_OTLP_SETTINGS_H
#define DELIVERY_SINKS_OTLP_SETTINGS_H

#include "http_client.h"
#include "http_status.h"
#include "otlp_record.h"

enum otlp_signal { OTLP_LOGS, OTLP_TRACES, OTLP_SIGNALS };

struct otlp_settings {
    enum otlp_signal signal;
    struct http_settings http;
    struct http_classes classes;
    bool json;
    bool partial_is_dead; /* what is in a request of which a part was rejected is a dead letter */
    struct otlp_style style;
    char *service, *provider;
    json_t *resource; /* an object of further attributes; may be NULL */
    uint64_t request_bytes;
};

/* Which signals the configuration asks for: logs, traces or both. SPOOL_ECONFIG. */
int otlp_signals_read(const char *json_config, bool ret_wanted[OTLP_SIGNALS]);
/* Reads everything for one of them; the environment only with `use_environment`. SPOOL_ECONFIG. Release also after a
 * failure, with otlp_settings_free(). */
int otlp_settings_read(const char *json_config, enum otlp_signal signal, bool use_environment,
                       struct otlp_settings *ret);
void otlp_settings_free(struct otlp_settings *settings);

/* For listings. */
extern const struct spool_sink_setting otlp_keys[];

#endif
