/* otlp_settings.c - see otlp_settings.h. The environment's values become keys of the configuration where those are
 * missing, so that both are read by the same strict code. */
#include "otlp_settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "otlp_genai.h"

enum { REQUEST_BYTES = 4 << 20, REQUEST_BYTES_MAX = 64 << 20, TIMEOUT_MS = 10000, NAME_SIZE = 96, URL_SIZE = 2048 };

static const char *const signal_choices[] = {"logs", "traces", "both", NULL};
static const char *const encodings[] = {"protobuf", "json", NULL};
static const char *const partials[] = {"dead-letter", "deliver", NULL};
static const char *const contents[] = {"off", "logs", "spans", "on", NULL};
static const char *const variables[] = {"LOGS_", "TRACES_"}; /* by enum otlp_signal, as the next two */
static const char *const endpoint_keys[] = {"logs_endpoint", "traces_endpoint"};
static const char *const paths[] = {"v1/logs", "v1/traces"};

const struct spool_sink_setting otlp_keys[] = {
    {"endpoint", "text, http://localhost:4318", "of the collector; /v1/logs and /v1/traces are appended"},
    {"logs_endpoint, traces_endpoint", "text", "the whole address of a signal"},
    {"signals", "logs (default), traces, both", "both: spans of model calls and delegations besides"},
    {"encoding", "protobuf (default), json", "of the requests"},
    {"content", "off (default), logs, spans, on", "where what people and models said goes along"},
    {"provider", "text, _OTHER", "gen_ai.provider.name where an event says none"},
    {"service", "text, unknown_service:libspool", "service.name of the resource"},
    {"resource", "object", "further attributes of the resource"},
    {"partial", "dead-letter (default), deliver", "a request of which the collector rejected a part"},
    {"request_bytes", "size, 4MiB", "of a request at most; a larger event goes alone"},
    {"status", "object of arrays", "what statuses mean: deliver, down, pause, reject"},
    HTTP_SETTINGS,
    {NULL, NULL, NULL},
};

static int wrong(const char *key, const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the otlp sink: \"%s\" %s", key, what);
}

/* --------------------------------------------------------------------------------------------------- the environment
 */

/* NULL if it is not set or empty, which the specification takes for the same. */
static const char *environment(const char *name)
{
    const char *value = secure_getenv(name);
    return value && *value ? value : NULL;
}

/* The signal's variable, or the general one; NULL if neither is set. */
static const char *variable(enum otlp_signal signal, const char *name)
{
    char text[NAME_SIZE];
    snprintf(text, sizeof text, "OTEL_EXPORTER_OTLP_%s%s", variables[signal], name);
    const char *value = environment(text);
    snprintf(text, sizeof text, "OTEL_EXPORTER_OTLP_%s", name);
    return value ? value : environment(text);
}

static int set_missing(json_t *object, const char *key, json_t *value)
{
    if (json_object_get(object, key)) {
        json_decref(value);
        return SPOOL_OK;
    }
    return json_object_set_new(object, key, value) == 0
               ? SPOOL_OK
               : wrong(key, "is missing, and the variable that stands in for it is not UTF-8");
}

static int set_from(json_t *object, const char *key, const char *value)
{
    return value ? set_missing(object, key, json_string(value)) : SPOOL_OK;
}

static int set_encoding(json_t *object, enum otlp_signal signal)
{
    const char *protocol = variable(signal, "PROTOCOL");
    if (!protocol || json_object_get(object, "encoding"))
        return SPOOL_OK;
    if (strcmp(protocol, "http/protobuf") == 0)
        return set_from(object, "encoding", "protobuf");
    if (strcmp(protocol, "http/json") == 0)
        return set_from(object, "encoding", "json");
    return wrong("encoding", "is missing, and OTEL_EXPORTER_OTLP_PROTOCOL is neither http/protobuf nor http/json");
}

static int set_timeout(json_t *object, enum otlp_signal signal)
{
    char *end = NULL;
    const char *text = variable(signal, "TIMEOUT");
    if (!text)
        return SPOOL_OK;
    long ms = strtol(text, &end, 10);
    if (*end || ms < 0)
        return wrong("request_timeout", "is missing, and OTEL_EXPORTER_OTLP_TIMEOUT is no number of milliseconds");
    return set_missing(object, "request_timeout", json_integer(ms));
}

/* As the GenAI instrumentations spell it; "true" is their older spelling. */
static int set_content(json_t *object)
{
    static const char *const names[][2] = {{"NO_CONTENT", "off"},  {"false", "off"}, {"SPAN_ONLY", "spans"},
                                           {"EVENT_ONLY", "logs"}, {"true", "on"},   {"SPAN_AND_EVENT", "on"}};
    const char *value = environment(GENAI_CAPTURE_ENV);
    for (size_t i = 0; value && i < sizeof names / sizeof *names; i++)
        if (strcasecmp(value, names[i][0]) == 0)
            return set_from(object, "content", names[i][1]);
    return SPOOL_OK;
}

static int set_environment(json_t *object, enum otlp_signal signal)
{
    int code = set_encoding(object, signal);
    if (code == SPOOL_OK)
        code = set_timeout(object, signal);
    if (code == SPOOL_OK)
        code = set_content(object);
    if (code == SPOOL_OK)
        code = set_from(object, "compression", variable(signal, "COMPRESSION"));
    if (code == SPOOL_OK)
        code = set_from(object, "ca_file", variable(signal, "CERTIFICATE"));
    if (code == SPOOL_OK)
        code = set_from(object, "cert_file", variable(signal, "CLIENT_CERTIFICATE"));
    if (code == SPOOL_OK)
        code = set_from(object, "key_file", variable(signal, "CLIENT_KEY"));
    if (code == SPOOL_OK && !json_object_get(object, "endpoint")) {
        char own[NAME_SIZE];
        snprintf(own, sizeof own, "OTEL_EXPORTER_OTLP_%sENDPOINT", variables[signal]);
        code = set_from(object, endpoint_keys[signal], environment(own));
    }
    return code == SPOOL_OK ? set_from(object, "endpoint", environment("OTEL_EXPORTER_OTLP_ENDPOINT")) : code;
}

/* "name=value,name=value", values percent-encoded: calls `take` for each. False if it is not that. */
static int each_pair(const char *text, int (*take)(void *user, const char *name, const char *value), void *user)
{
    char *copy = strdup(text), *rest = copy, *pair;
    int code = copy ? SPOOL_OK : spool_sink_error(ENOMEM, "out of memory");
    while (code == SPOOL_OK && (pair = strsep(&rest, ",")) != NULL) {
        char *equals = strchr(pair, '=');
        pair += strspn(pair, " \t");
        if (!*pair)
            continue;
        if (!equals || equals == pair) {
            code = SPOOL_ECONFIG;
            break;
        }
        *equals = '\0';
        pair[strcspn(pair, " \t")] = '\0';
        char *value = curl_easy_unescape(NULL, equals + 1 + strspn(equals + 1, " \t"), 0, NULL);
        code = value ? take(user, pair, value) : spool_sink_error(ENOMEM, "out of memory");
        curl_free(value);
    }
    free(copy);
    return code;
}

static int take_header(void *user, const char *name, const char *value)
{
    struct http_settings *http = user;
    for (size_t i = 0; i < http->header_count; i++)
        if (strcasecmp(http->headers[i].name, name) == 0)
            return SPOOL_OK; /* the configuration has the word */
    for (const char *p = value; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return SPOOL_ECONFIG;
    return http_settings_header(http, name, value);
}

static int take_attribute(void *user, const char *name, const char *value)
{
    return set_missing(user, name, json_string(value));
}

/* What is no key of the configuration: headers may be secrets, and are taken as they are. */
static int read_environment(struct otlp_settings *s)
{
    const char *headers = variable(s->signal, "HEADERS"), *attributes = environment("OTEL_RESOURCE_ATTRIBUTES");
    if (headers && each_pair(headers, take_header, &s->http) == SPOOL_ECONFIG)
        return wrong("headers", "from OTEL_EXPORTER_OTLP_HEADERS must be name=value,name=value");
    if (attributes && each_pair(attributes, take_attribute, s->resource) == SPOOL_ECONFIG)
        return wrong("resource", "from OTEL_RESOURCE_ATTRIBUTES must be name=value,name=value");
    const char *service = environment("OTEL_SERVICE_NAME");
    if (!service)
        service = json_string_value(json_object_get(s->resource, "service.name"));
    if (!service || s->service)
        return SPOOL_OK;
    s->service = strdup(service);
    return s->service ? SPOOL_OK : spool_sink_error(ENOMEM, "out of memory");
}

/* ---------------------------------------------------------------------------------------------------- the
 * configuration
 */

static int optional_text(struct config *c, const char *key, char **ret)
{
    return json_object_get(c->object, key) ? config_text(c, key, NULL, ret) : SPOOL_OK;
}

static int read_endpoints(struct config *c, struct otlp_settings *s)
{
    char *base = NULL, *own[OTLP_SIGNALS] = {NULL, NULL}, url[URL_SIZE];
    int code = config_text(c, "endpoint", "http://localhost:4318", &base);
    for (int i = 0; i < OTLP_SIGNALS && code == SPOOL_OK; i++)
        code = optional_text(c, endpoint_keys[i], &own[i]);
    if (code == SPOOL_OK && own[s->signal])
        code = http_settings_url(&s->http, "otlp", endpoint_keys[s->signal], own[s->signal], false);
    else if (code == SPOOL_OK) {
        bool slash = base[strlen(base) - 1] == '/';
        int size = snprintf(url, sizeof url, "%s%s%s", base, slash ? "" : "/", paths[s->signal]);
        code = size > 0 && (size_t)size < sizeof url ? http_settings_url(&s->http, "otlp", "endpoint", url, false)
                                                     : wrong("endpoint", "is too long");
    }
    free(base);
    free(own[OTLP_LOGS]);
    free(own[OTLP_TRACES]);
    return code;
}

static int read_resource(struct config *c, struct otlp_settings *s)
{
    json_t *resource = json_object_get(c->object, "resource");
    if (resource && !json_is_object(resource))
        return wrong("resource", "must be an object of names and values");
    s->resource = resource ? json_deep_copy(resource) : json_object();
    json_object_del(c->object, "resource");
    return s->resource ? SPOOL_OK : spool_sink_error(ENOMEM, "out of memory");
}

static int read_choices(struct config *c, struct otlp_settings *s)
{
    int signals, encoding = 0, partial = 0, content = 0;
    int code = config_choice(c, "signals", signal_choices, 0, &signals);
    if (code == SPOOL_OK)
        code = config_choice(c, "encoding", encodings, 0, &encoding);
    if (code == SPOOL_OK)
        code = config_choice(c, "partial", partials, 0, &partial);
    if (code == SPOOL_OK)
        code = config_choice(c, "content", contents, 0, &content);
    s->json = encoding == 1;
    s->partial_is_dead = partial == 0;
    s->style.content_in_logs = content == 1 || content == 3;
    s->style.content_in_spans = content == 2 || content == 3;
    return code;
}

static int read_keys(struct config *c, struct otlp_settings *s)
{
    s->http.request_timeout_ms = TIMEOUT_MS;
    s->http.concurrency = 1;
    int code = read_endpoints(c, s);
    if (code == SPOOL_OK)
        code = read_choices(c, s);
    if (code == SPOOL_OK)
        code = config_text(c, "provider", "_OTHER", &s->provider);
    if (code == SPOOL_OK)
        code = optional_text(c, "service", &s->service);
    if (code == SPOOL_OK)
        code = read_resource(c, s);
    if (code == SPOOL_OK)
        code = config_bytes(c, "request_bytes", REQUEST_BYTES, &s->request_bytes);
    if (code == SPOOL_OK && (s->request_bytes < 1 || s->request_bytes > REQUEST_BYTES_MAX))
        code = wrong("request_bytes", "must be 1 to 64MiB, which is what the protocol allows");
    if (code == SPOOL_OK)
        code = http_classes_read(c, HTTP_RULES_OTLP, &s->classes);
    return code == SPOOL_OK ? http_settings_read(c, &s->http) : code;
}

int otlp_signals_read(const char *json_config, bool ret_wanted[OTLP_SIGNALS])
{
    struct config c;
    int choice = 0;
    int code = config_open(&c, "otlp", json_config);
    if (code == SPOOL_OK)
        code = config_choice(&c, "signals", signal_choices, 0, &choice);
    ret_wanted[OTLP_LOGS] = choice != 1;
    ret_wanted[OTLP_TRACES] = choice != 0;
    config_close(&c, SPOOL_EINTERNAL); /* the other keys are read later */
    return code;
}

int otlp_settings_read(const char *json_config, enum otlp_signal signal, bool use_environment,
                       struct otlp_settings *ret)
{
    struct config c;
    *ret = (struct otlp_settings){.signal = signal};
    int code = config_open(&c, "otlp", json_config);
    if (code == SPOOL_OK && use_environment)
        code = set_environment(c.object, signal);
    if (code == SPOOL_OK)
        code = read_keys(&c, ret);
    if (code == SPOOL_OK && use_environment)
        code = read_environment(ret);
    code = config_close(&c, code);
    ret->style.provider = ret->provider;
    return code == SPOOL_OK ? http_settings_check(&ret->http, "otlp") : code;
}

void otlp_settings_free(struct otlp_settings *s)
{
    http_settings_free(&s->http);
    json_decref(s->resource);
    free(s->service);
    free(s->provider);
    *s = (struct otlp_settings){0};
}
