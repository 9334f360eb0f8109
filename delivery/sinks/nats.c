/* nats.c - events as messages of a JetStream stream.
 *
 * A message is the event's native JSON under a subject made from a template, with the event's id in Nats-Msg-Id: what
 * comes again within the stream's duplicate window is not stored again. A message counts as delivered when the stream
 * has acknowledged it, which with several replicas it does when most of them have it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nats_subject.h"
#include "nats_wire.h"

enum { CLOSE_WAIT_MS = 1000, URLS_MAX = 32 };

struct sink {
    struct wire_settings *settings;
    char *subject;
    struct cancel cancel;
    struct wire *wire; /* NULL: none */
    struct wire_message *messages;
    size_t room;
    struct buffer text;
};

/* -------------------------------------------------------------------------------------------------------- delivering
 */

static int reserve(struct sink *s, size_t n)
{
    if (n > s->room) {
        struct wire_message *more = realloc(s->messages, n * sizeof *more);
        if (!more)
            return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
        s->messages = more;
        s->room = n;
    }
    memset(s->messages, 0, n * sizeof *s->messages);
    return SPOOL_OK;
}

/* NULL: no memory. */
static natsMsg *make_message(struct sink *s, const struct spool_delivery *delivery, const char *json, size_t size)
{
    natsMsg *message = NULL;
    char id[SPOOL_ID_TEXT_SIZE];
    const struct spool_event *event = delivery->event;
    s->text.size = 0;
    if (subject_put(&s->text, s->subject, event) ||
        natsMsg_Create(&message, (const char *)s->text.data, NULL, json, (int)size) != NATS_OK)
        return NULL;
    natsStatus status = natsMsgHeader_Set(message, "Nats-Msg-Id", spool_id_format(&delivery->id, id));
    if (status == NATS_OK && event->traceparent && *event->traceparent)
        status = natsMsgHeader_Set(message, "traceparent", event->traceparent);
    if (status == NATS_OK)
        return message;
    natsMsg_Destroy(message);
    return NULL;
}

static int add_message(struct sink *s, struct spool_delivery *delivery, struct wire_message *ret)
{
    char *json = NULL;
    size_t size = 0;
    int code = spool_event_to_json(delivery->event, &delivery->id, &json, &size);
    if (code == SPOOL_OK) {
        ret->message = make_message(s, delivery, json, size);
        spool_free(json);
    }
    return ret->message ? SPOOL_OK : spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
}

static int make_messages(struct sink *s, struct spool_delivery *batch, size_t n)
{
    int code = reserve(s, n);
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        code = add_message(s, SPOOL_DELIVERY_AT(batch, i), &s->messages[i]);
    for (size_t i = 0; i < n && code != SPOOL_OK && s->messages; i++) {
        natsMsg_Destroy(s->messages[i].message);
        s->messages[i].message = NULL;
    }
    return code;
}

static void answer(struct sink *s, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        if (s->messages[i].answer == ANSWER_STORED)
            delivery->outcome = SPOOL_DELIVERED;
        else if (s->messages[i].answer == ANSWER_REFUSED)
            spool_delivery_fail(delivery, SPOOL_REJECTED, "%s", s->messages[i].reason);
    }
}

static int connect_wire(struct sink *s)
{
    int code = s->wire ? SPOOL_OK : wire_new(s->settings, &s->wire);
    return code == SPOOL_OK ? wire_ready(s->wire, &s->cancel) : code;
}

static int sink_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct sink *s = state;
    int code = connect_wire(s);
    if (code == SPOOL_OK)
        code = make_messages(s, batch, n);
    if (code == SPOOL_OK) {
        code = wire_publish(s->wire, &s->cancel, s->messages, n);
        answer(s, batch, n);
    }
    if (code != SPOOL_OK) {
        wire_drop(s->wire, 0);
        s->wire = NULL;
    }
    cancel_done(&s->cancel);
    return code;
}

static void sink_cancel(void *state)
{
    struct sink *s = state;
    cancel_set(&s->cancel);
}

/* ----------------------------------------------------------------------------------------------------- configuration
 */

static int wrong(const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the nats sink: %s", what);
}

static int add_url(struct wire_settings *s, const char *url)
{
    const char *scheme_end = strstr(url, "://"), *host = scheme_end ? scheme_end + 3 : url;
    if (strchr(host, '@'))
        return wrong("no user or password may stand in \"servers\": use \"user\", \"password\" or \"token\"");
    bool tls = strncmp(url, "tls://", 6) == 0;
    if (!tls && strncmp(url, "nats://", 7) != 0)
        return wrong("\"servers\" begin with nats:// or tls://");
    if (s->url_count == URLS_MAX)
        return wrong("\"servers\" are too many");
    s->tls |= tls;
    s->urls[s->url_count] = strdup(url);
    return s->urls[s->url_count++] ? SPOOL_OK : spool_sink_error(ENOMEM, "out of memory");
}

static int read_servers(struct config *config, struct wire_settings *s)
{
    json_t *list = json_object_get(config->object, "servers");
    size_t count = json_is_string(list) ? 1 : json_array_size(list);
    int code = count > 0 ? SPOOL_OK : wrong("\"servers\" is required: a URL, or a list of them");
    s->urls = calloc(URLS_MAX, sizeof *s->urls);
    if (!s->urls)
        return spool_sink_error(ENOMEM, "out of memory");
    for (size_t i = 0; i < count && code == SPOOL_OK; i++) {
        const char *url = json_string_value(json_is_string(list) ? list : json_array_get(list, i));
        code = url ? add_url(s, url) : wrong("\"servers\" must be texts");
    }
    if (code == SPOOL_OK)
        json_object_del(config->object, "servers");
    return code;
}

static int read_text(struct config *config, const char *key, char **ret)
{
    return json_object_get(config->object, key) ? config_text(config, key, NULL, ret) : SPOOL_OK;
}

static int read_flag(struct config *config, const char *key, bool *ret)
{
    json_t *value = json_object_get(config->object, key);
    if (value && !json_is_boolean(value))
        return wrong("\"create\" must be true or false");
    *ret = json_is_true(value);
    json_object_del(config->object, key);
    return SPOOL_OK;
}

static int read_subject(struct config *config, struct sink *s)
{
    struct buffer all = {0};
    int code = config_text(config, "subject", "agents.{agent}.{type}", &s->subject);
    if (code == SPOOL_OK)
        code = subject_check(s->subject);
    if (code != SPOOL_OK)
        return code;
    if (subject_put_all(&all, s->subject)) {
        buffer_free(&all);
        return spool_sink_error(ENOMEM, "out of memory");
    }
    s->settings->subjects = (char *)all.data;
    return SPOOL_OK;
}

static int read_login(struct config *config, struct wire_settings *s)
{
    int code = read_text(config, "user", &s->user);
    if (code == SPOOL_OK)
        code = config_secret(config, "password", false, &s->password);
    if (code == SPOOL_OK)
        code = config_secret(config, "token", false, &s->token);
    if (code == SPOOL_OK)
        code = read_text(config, "creds", &s->creds);
    if (code == SPOOL_OK)
        code = read_text(config, "ca", &s->ca);
    if (code == SPOOL_OK)
        code = read_text(config, "cert", &s->cert);
    return code == SPOOL_OK ? read_text(config, "key", &s->key) : code;
}

static int read_stream(struct config *config, struct wire_settings *s)
{
    int code = config_text(config, "stream", "AGENTS", &s->stream);
    if (code == SPOOL_OK && strpbrk(s->stream, " \t.*>/\\"))
        code = wrong("\"stream\" must not hold blanks, dots, slashes or wildcards");
    if (code == SPOOL_OK)
        code = read_flag(config, "create", &s->create);
    if (code == SPOOL_OK)
        code = config_number(config, "replicas", 1, &s->replicas);
    if (code == SPOOL_OK)
        code = config_duration_ms(config, "duplicate_window", 600000, &s->window_ms);
    if (code == SPOOL_OK)
        code = config_duration_ms(config, "max_age", 0, &s->max_age_ms);
    return code == SPOOL_OK ? config_bytes(config, "max_bytes", 0, &s->max_bytes) : code;
}

static int read_config(struct sink *s, const char *json_config)
{
    struct config config;
    int code = config_open(&config, "nats", json_config);
    if (code == SPOOL_OK)
        code = read_servers(&config, s->settings);
    if (code == SPOOL_OK)
        code = read_subject(&config, s);
    if (code == SPOOL_OK)
        code = read_login(&config, s->settings);
    if (code == SPOOL_OK)
        code = read_stream(&config, s->settings);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "connect_timeout", 5000, &s->settings->connect_ms);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "ack_timeout", 5000, &s->settings->ack_ms);
    return config_close(&config, code);
}

static void forget_config(struct sink *s)
{
    wire_settings_drop(s->settings);
    free(s->subject);
}

static int new_settings(struct sink *s)
{
    s->settings = calloc(1, sizeof *s->settings);
    if (!s->settings)
        return spool_sink_error(ENOMEM, "out of memory");
    atomic_store(&s->settings->holders, 1);
    return SPOOL_OK;
}

static void sink_close(void *state)
{
    struct sink *s = state;
    if (!s)
        return;
    wire_drop(s->wire, CLOSE_WAIT_MS);
    free(s->messages);
    buffer_free(&s->text);
    forget_config(s);
    cancel_free(&s->cancel);
    free(s);
}

/* The connection is made by the first delivery, which can be cancelled. */
static int sink_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                     size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    struct sink *s = calloc(1, sizeof *s);
    if (!s)
        return spool_sink_error(ENOMEM, "out of memory");
    int err = cancel_init(&s->cancel);
    int code = err ? spool_sink_error(err, "%s", spool_strerror(err)) : new_settings(s);
    if (code == SPOOL_OK)
        code = read_config(s, json_config);
    if (code == SPOOL_OK)
        *ret_state = s;
    else
        sink_close(s);
    return code;
}

static int sink_check(const char *json_config)
{
    struct sink s = {0};
    int code = new_settings(&s);
    if (code == SPOOL_OK)
        code = read_config(&s, json_config);
    forget_config(&s);
    return code;
}

static const struct spool_sink_setting settings[] = {
    {"servers", "text or list (required)", "nats://HOST:PORT, or tls:// ; all of a cluster"},
    {"subject", "text, agents.{agent}.{type}", "of a message; also {session} and {priority}"},
    {"stream", "text, AGENTS", "that must store it"},
    {"create", "true or false, false", "make the stream if it is not there, with the next four:"},
    {"replicas", "number, 1", "of the stream"},
    {"duplicate_window", "duration, 10m", "how long the stream knows the ids that it has stored"},
    {"max_age", "duration, 0", "then messages are deleted; 0: never"},
    {"max_bytes", "bytes, 0", "of the stream, then the oldest are deleted; 0: no limit"},
    {"user", "text", "to log in as"},
    {"password", "secret", "of the user"},
    {"token", "secret", "instead of user and password"},
    {"creds", "file", "a credentials file of nsc"},
    {"ca", "file", "authorities to trust instead of the system's"},
    {"cert", "file", "our certificate, and its chain"},
    {"key", "file", "its key"},
    {"connect_timeout", "duration, 5s", "for each server"},
    {"ack_timeout", "duration, 5s", "for the stream's acknowledgement"},
    {NULL, NULL, NULL},
};

static const struct spool_sink nats_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "nats",
    .open = sink_open,
    .deliver = sink_deliver,
    .cancel = sink_cancel,
    .close = sink_close,
};

SPOOL_SINK_PLUGIN(.sink = &nats_sink, .check = sink_check, .settings = settings,
                  .summary = "messages of a NATS JetStream stream, each event once within its duplicate window")
