/* syslog.c - events as syslog messages (RFC 5424): to a server over TCP with octet counting, over TLS, or over a Unix
 * stream socket; and, as best effort only, by UDP, a Unix datagram socket such as /dev/log, or to journald.
 *
 * Over a stream each batch has a connection of its own, whose end confirms it (syslog_link.c); so batches should be
 * large: set linger. Over datagrams there is nothing that could tell whether anything arrived. So those must be asked
 * for by "best_effort": true, and the kernel having taken an event is all that is known of it: it counts as sent, not as
 * delivered (SPOOL_TRAIT_BEST_EFFORT). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "syslog_link.h"
#include "syslog_message.h"

static const char *const transports[] = {"tcp", "tls", "unix", "udp", "unix-datagram", "journald", NULL};
enum { SEND_BYTES = 256 << 10 };

struct syslog {
    struct link link;
    struct message_form form;
    uint64_t message_max, timeout_ms;
    struct cancel cancel;
    struct buffer out, message;
    size_t header; /* of the message: its MSG begins behind it */
};

/* ------------------------------------------------------------------------------------------------------ configuration
 */

static int wrong(const char *key, const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the syslog sink: \"%s\" %s", key, what);
}

/* A text that may be missing: then it is NULL. */
static int optional_text(struct config *c, const char *key, char **ret)
{
    return json_object_get(c->object, key) ? config_text(c, key, NULL, ret) : SPOOL_OK;
}

static int read_target(struct syslog *s, struct config *c)
{
    static const char *const paths[] = {NULL, NULL, NULL, NULL, "/dev/log", "/run/systemd/journal/socket"};
    enum transport by = s->link.transport;
    bool is_path = by == BY_UNIX || by == BY_UNIX_DATAGRAM || by == BY_JOURNAL;
    if (is_path)
        return config_text(c, "path", paths[by], &s->link.path);
    int code = config_text(c, "host", NULL, &s->link.host);
    if (code == SPOOL_OK)
        code = config_number(c, "port", by == BY_TLS ? 6514 : by == BY_TCP ? 601 : 514, &s->link.port);
    if (code == SPOOL_OK && (s->link.port < 1 || s->link.port > 65535))
        code = wrong("port", "must be 1 to 65535");
    return code;
}

static int read_tls(struct link *link, struct config *c)
{
    static const char *const verify[] = {"full", "none", NULL};
    if (link->transport != BY_TLS)
        return SPOOL_OK; /* its keys are unknown then */
    int code = optional_text(c, "ca_file", &link->ca);
    if (code == SPOOL_OK)
        code = optional_text(c, "cert_file", &link->cert);
    if (code == SPOOL_OK)
        code = optional_text(c, "key_file", &link->key);
    if (code == SPOOL_OK)
        code = optional_text(c, "server_name", &link->server_name);
    if (code == SPOOL_OK)
        code = config_choice(c, "verify", verify, 0, &link->verify);
    if (code == SPOOL_OK && !link->cert != !link->key)
        code = wrong(link->cert ? "cert_file" : "key_file", "needs the other one of cert_file and key_file");
    return code;
}

/* What is only best effort must be asked for by that name. */
static int read_effort(const struct syslog *s, struct config *c)
{
    json_t *value = json_object_get(c->object, "best_effort");
    bool asked = json_is_true(value);
    if (value && !json_is_boolean(value))
        return wrong("best_effort", "must be true or false");
    json_object_del(c->object, "best_effort");
    if (!link_is_stream(&s->link) && !asked)
        return wrong("transport", "tells of no loss: it is best effort, and needs \"best_effort\": true");
    return SPOOL_OK;
}

static int configure(struct syslog *s, const char *json)
{
    static const char *const contents[] = {"event", "body", NULL};
    struct config c;
    int transport = 0;
    int code = config_open(&c, "syslog", json);
    if (code == SPOOL_OK)
        code = config_choice(&c, "transport", transports, BY_TCP, &transport);
    s->link.transport = (enum transport)transport;
    if (code == SPOOL_OK)
        code = read_target(s, &c);
    if (code == SPOOL_OK)
        code = read_tls(&s->link, &c);
    if (code == SPOOL_OK)
        code = read_effort(s, &c);
    if (code == SPOOL_OK)
        code = config_choice(&c, "facility", message_facilities, 1, &s->form.facility);
    if (code == SPOOL_OK)
        code = config_choice(&c, "content", contents, 0, &s->form.bare);
    if (code == SPOOL_OK)
        code = optional_text(&c, "app_name", &s->form.app_name);
    if (code == SPOOL_OK)
        code = config_bytes(&c, "message_max", 8192, &s->message_max);
    if (code == SPOOL_OK)
        code = config_duration_ms(&c, "io_timeout", 10000, &s->timeout_ms);
    code = config_close(&c, code);
    if (code == SPOOL_OK && (s->message_max < 480 || s->message_max > 16 << 20))
        code = wrong("message_max", "must be 480 bytes to 16 MiB");
    if (code == SPOOL_OK && s->timeout_ms == 0)
        code = wrong("io_timeout", "must be more than 0");
    return code;
}

static void syslog_free(struct syslog *s)
{
    if (!s)
        return;
    link_free(&s->link);
    cancel_free(&s->cancel);
    buffer_free(&s->out);
    buffer_free(&s->message);
    free(s->form.app_name);
    free(s);
}

static struct syslog *syslog_new(void)
{
    struct syslog *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->link.fd = s->cancel.fd = -1;
    s->link.cancel = &s->cancel;
    if (gethostname(s->form.host, sizeof s->form.host) != 0 || !s->form.host[0])
        strcpy(s->form.host, "-");
    s->form.host[sizeof s->form.host - 1] = '\0';
    return s;
}

static int syslog_check(const char *json_config)
{
    struct syslog *s = syslog_new();
    int code = s ? configure(s, json_config) : spool_sink_error(ENOMEM, "out of memory");
    syslog_free(s);
    return code;
}

static uint32_t syslog_traits(const char *json_config)
{
    struct syslog *s = syslog_new();
    bool lossy = s && configure(s, json_config) == SPOOL_OK && !link_is_stream(&s->link);
    syslog_free(s);
    return lossy ? SPOOL_TRAIT_BEST_EFFORT : 0;
}

/* ----------------------------------------------------------------------------------------------------------- messages
 */

/* Into s->message. SPOOL_EREJECTED: this event has its answer; SPOOL_EUNAVAILABLE: no memory. */
static int render(struct syslog *s, struct spool_delivery *delivery)
{
    s->message.size = 0;
    int code = message_put(&s->message, &s->form, delivery, &s->header);
    if (code == SPOOL_EREJECTED)
        spool_delivery_fail(delivery, SPOOL_REJECTED, "cannot be written as JSON: %s", spool_last_error());
    else if (code != SPOOL_OK)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    if (code == SPOOL_OK && s->message.size > s->message_max) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "a message of %zu bytes; message_max is %llu", s->message.size,
                            (unsigned long long)s->message_max);
        code = SPOOL_EREJECTED;
    }
    return code;
}

static int flush(struct syslog *s, uint64_t deadline_ns)
{
    int code = link_write(&s->link, s->out.data, s->out.size, deadline_ns);
    s->out.size = 0;
    return code;
}

/* Octet counting: the message's size, a blank, the message. */
static int put_frame(struct syslog *s)
{
    int err = buffer_printf(&s->out, "%zu ", s->message.size);
    if (err == 0)
        err = buffer_put(&s->out, s->message.data, s->message.size);
    return err ? spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory") : SPOOL_OK;
}

/* ----------------------------------------------------------------------------------------------------------- delivery
 */

/* Every write has io_timeout; so has the end. */
static uint64_t until(const struct syslog *s)
{
    return deadline_in_ms(s->timeout_ms);
}

static int deliver_stream(struct syslog *s, struct spool_delivery *batch, size_t n)
{
    s->out.size = 0;
    int code = link_open(&s->link, until(s));
    for (size_t i = 0; i < n && code == SPOOL_OK; i++) {
        code = render(s, SPOOL_DELIVERY_AT(batch, i));
        if (code == SPOOL_OK)
            code = put_frame(s);
        else if (code == SPOOL_EREJECTED)
            code = SPOOL_OK;
        if (code == SPOOL_OK && (s->out.size >= SEND_BYTES || i + 1 == n))
            code = flush(s, until(s));
    }
    if (code == SPOOL_OK)
        code = link_confirm(&s->link, until(s));
    link_close(&s->link);
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        if (SPOOL_DELIVERY_AT(batch, i)->outcome != SPOOL_REJECTED)
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return code;
}

/* A field of journald's own protocol: NAME, line feed, size in 64 bits little-endian, value, line feed. */
static int put_journal_field(struct buffer *out, const char *name, const void *value, size_t size)
{
    uint8_t length[8];
    for (int i = 0; i < 8; i++)
        length[i] = (uint8_t)((uint64_t)size >> (8 * i));
    int err = buffer_printf(out, "%s\n", name);
    if (err == 0)
        err = buffer_put(out, length, sizeof length);
    if (err == 0)
        err = buffer_put(out, value, size);
    return err ? err : buffer_put(out, "\n", 1);
}

static int put_text_field(struct buffer *out, const char *name, const char *value)
{
    return value && *value ? put_journal_field(out, name, value, strlen(value)) : 0;
}

/* The rendered message, with what the journal can be searched by. */
static int put_journal_entry(struct syslog *s, const struct spool_delivery *delivery)
{
    const struct spool_event *event = delivery->event;
    char id[SPOOL_ID_TEXT_SIZE], severity[2] = {(char)('0' + message_severity(event->priority)), '\0'};
    s->out.size = 0;
    int err = put_journal_field(&s->out, "MESSAGE", s->message.data + s->header, s->message.size - s->header);
    if (err == 0)
        err = put_text_field(&s->out, "PRIORITY", severity);
    if (err == 0)
        err = put_text_field(&s->out, "SYSLOG_IDENTIFIER", s->form.app_name ? s->form.app_name : "spool");
    if (err == 0)
        err = put_text_field(&s->out, "SPOOL_ID", spool_id_format(&delivery->id, id));
    if (err == 0)
        err = put_text_field(&s->out, "SPOOL_TYPE", event->type);
    if (err == 0)
        err = put_text_field(&s->out, "SPOOL_AGENT", event->agent);
    if (err == 0)
        err = put_text_field(&s->out, "SPOOL_SESSION", event->session);
    return err ? spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory") : SPOOL_OK;
}

static int send_datagram(struct syslog *s, struct spool_delivery *delivery)
{
    bool journal = s->link.transport == BY_JOURNAL;
    int code = render(s, delivery);
    if (code == SPOOL_OK && journal)
        code = put_journal_entry(s, delivery);
    if (code != SPOOL_OK)
        return code == SPOOL_EREJECTED ? SPOOL_OK : code;
    const struct buffer *out = journal ? &s->out : &s->message;
    code = link_send(&s->link, out->data, out->size, until(s));
    if (code == SPOOL_EREJECTED) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "a message of %zu bytes is too large for a datagram", out->size);
        return SPOOL_OK;
    }
    if (code == SPOOL_OK)
        delivery->outcome = SPOOL_DELIVERED;
    return code;
}

static int deliver_datagrams(struct syslog *s, struct spool_delivery *batch, size_t n)
{
    int code = s->link.fd >= 0 ? SPOOL_OK : link_open(&s->link, until(s));
    for (size_t i = 0; i < n && code == SPOOL_OK; i++) {
        code = send_datagram(s, SPOOL_DELIVERY_AT(batch, i));
        if (code == SPOOL_OK && i % 64 == 63 && cancel_is_set(&s->cancel))
            code = spool_sink_error(SPOOL_EUNAVAILABLE, "cancelled while sending");
    }
    if (code != SPOOL_OK)
        link_close(&s->link);
    return code;
}

static int syslog_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct syslog *s = state;
    int code = link_is_stream(&s->link) ? deliver_stream(s, batch, n) : deliver_datagrams(s, batch, n);
    cancel_done(&s->cancel);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- other hooks
 */

static void syslog_cancel(void *state)
{
    struct syslog *s = state;
    cancel_set(&s->cancel);
}

static void syslog_close(void *state)
{
    syslog_free(state);
}

static int syslog_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                       size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    struct syslog *s = syslog_new();
    if (!s)
        return spool_sink_error(ENOMEM, "out of memory");
    int code = configure(s, json_config);
    int err = code == SPOOL_OK ? cancel_init(&s->cancel) : 0;
    if (err)
        code = spool_sink_error(err, "syslog sink: %s", spool_strerror(err));
    if (code == SPOOL_OK)
        *ret_state = s;
    else
        syslog_free(s);
    return code;
}

static const struct spool_sink syslog_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "syslog",
    .open = syslog_open,
    .deliver = syslog_deliver,
    .cancel = syslog_cancel,
    .close = syslog_close,
    .traits = syslog_traits,
};

static const struct spool_sink_setting syslog_settings[] = {
    {"transport", "text, tcp", "tcp, tls, unix; best effort: udp, unix-datagram, journald"},
    {"host", "text (tcp, tls, udp: required)", "the server"},
    {"port", "number, 601, 6514, 514", "its port"},
    {"path", "text (unix: required)", "of the socket; /dev/log, journald's"},
    {"best_effort", "true | false, false", "must be true where nothing tells of a loss"},
    {"ca_file", "text, the system's", "tls: certificates that are trusted"},
    {"cert_file, key_file", "text, none", "tls: ours, PEM"},
    {"server_name", "text, host", "tls: the name that its certificate must have"},
    {"verify", "full | none, full", "tls: whether the certificate is verified"},
    {"facility", "text, user", "kern, user, … local7"},
    {"app_name", "text, the agent", "APP-NAME of the messages"},
    {"content", "event | body, event", "MSG: the whole event as JSON, or its body alone"},
    {"message_max", "size, 8KiB", "longer messages are refused: a server would cut them"},
    {"io_timeout", "duration, 10s", "of connecting, of a write, and of the server's end"},
    {NULL, NULL, NULL},
};

SPOOL_SINK_PLUGIN(.sink = &syslog_sink, .check = syslog_check, .settings = syslog_settings,
                  .summary = "messages of RFC 5424 to a syslog server")
