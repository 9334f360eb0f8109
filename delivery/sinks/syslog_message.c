/* syslog_message.c - see syslog_message.h.
 *
 *   <PRI>1 TIMESTAMP HOSTNAME APP-NAME PROCID MSGID [spool@32473 id="…" type="…" agent="…" session="…"] MSG
 *
 * Severity is the priority's: critical 2, high 4, medium 6, low 7. TIMESTAMP is when the event occurred, in
 * microseconds; APP-NAME the agent and MSGID the type, both cut and with what is not printable ASCII as '?': the
 * structured data has them whole, as UTF-8, and the id, by which the far side can tell an event that came twice. 32473
 * is the number that RFC 5612 sets aside. MSG is the event in its native JSON form; no byte order mark, which most
 * receivers show as rubbish. */
#include "syslog_message.h"

#include <errno.h>
#include <string.h>

#include "../../lib/base/json.h"

const char *const message_facilities[] = {"kern",   "user",   "mail",   "daemon",   "auth",   "syslog", "lpr",
                                          "news",   "uucp",   "cron",   "authpriv", "ftp",    "ntp",    "audit",
                                          "alert",  "clock",  "local0", "local1",   "local2", "local3", "local4",
                                          "local5", "local6", "local7", NULL};

int message_severity(enum spool_priority priority)
{
    switch (priority) {
    case SPOOL_CRITICAL:
        return 2;
    case SPOOL_HIGH:
        return 4;
    case SPOOL_LOW:
        return 7;
    default:
        return 6;
    }
}

/* In microseconds: RFC 5424 allows no more. */
static void format_time(uint64_t unix_ns, char ret[JSON_TIME_SIZE])
{
    enum { MICROSECONDS_END = 26 };
    json_format_time(unix_ns, ret);
    ret[MICROSECONDS_END] = 'Z';
    ret[MICROSECONDS_END + 1] = '\0';
}

/* A field of the header: 1 to `max` printable characters; "-" for nothing. */
static void header_field(const char *text, size_t max, char *ret)
{
    size_t i = 0;
    for (; text && text[i] && i < max; i++)
        ret[i] = text[i] > ' ' && text[i] <= '~' ? text[i] : '?';
    if (i == 0)
        ret[i++] = '-';
    ret[i] = '\0';
}

/* With a backslash before each of the three characters that must have one. */
static int put_escaped(struct buffer *out, const char *value)
{
    for (;; value++) {
        size_t plain = strcspn(value, "\"\\]");
        int err = buffer_put(out, value, plain);
        value += plain;
        if (err == 0 && *value)
            err = buffer_put(out, (const char[]){'\\', *value}, 2);
        if (err || !*value)
            return err;
    }
}

/* name="value" */
static int put_param(struct buffer *out, const char *name, const char *value)
{
    if (!value || !*value)
        return 0;
    int err = buffer_put(out, " ", 1);
    if (err == 0)
        err = buffer_put_text(out, name);
    if (err == 0)
        err = buffer_put(out, "=\"", 2);
    if (err == 0)
        err = put_escaped(out, value);
    return err ? err : buffer_put(out, "\"", 1);
}

static int put_header(struct buffer *out, const struct message_form *form, const struct spool_delivery *delivery)
{
    const struct spool_event *event = delivery->event;
    char time[JSON_TIME_SIZE], app[49], type[33], id[SPOOL_ID_TEXT_SIZE];
    format_time(event->occurred_at_ns ? event->occurred_at_ns : spool_id_time_ns(&delivery->id), time);
    header_field(form->app_name ? form->app_name : event->agent && *event->agent ? event->agent : "spool", 48, app);
    header_field(event->type, 32, type);
    int err = buffer_printf(out, "<%d>1 %s %s %s - %s [spool@32473",
                            form->facility * 8 + message_severity(event->priority), time, form->host, app, type);
    if (err == 0)
        err = put_param(out, "id", spool_id_format(&delivery->id, id));
    if (err == 0)
        err = put_param(out, "type", event->type);
    if (err == 0)
        err = put_param(out, "agent", event->agent);
    if (err == 0)
        err = put_param(out, "session", event->session);
    return err ? err : buffer_put(out, "] ", 2);
}

int message_put(struct buffer *out, const struct message_form *form, const struct spool_delivery *delivery,
                size_t *ret_header)
{
    size_t before = out->size;
    int err = put_header(out, form, delivery);
    if (err)
        return ENOMEM;
    *ret_header = out->size - before;
    if (form->bare)
        return delivery->event->body_size > 0 ? buffer_put(out, delivery->event->body, delivery->event->body_size) : 0;
    err = json_put_event(out, delivery->event, &delivery->id);
    return !err || err == ENOMEM ? err : SPOOL_EREJECTED;
}
