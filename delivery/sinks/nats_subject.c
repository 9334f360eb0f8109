/* nats_subject.c - see nats_subject.h. */
#include "nats_subject.h"

#include <errno.h>
#include <string.h>

static const char *const names[] = {"{agent}", "{session}", "{type}", "{priority}"};
enum name { NAME_AGENT, NAME_SESSION, NAME_TYPE, NAME_PRIORITY, NAMES };

/* The name that stands there, or NAMES. */
static int name_at(const char *at)
{
    int i = 0;
    while (i < NAMES && strncmp(at, names[i], strlen(names[i])) != 0)
        i++;
    return i;
}

static bool is_plain(char c)
{
    return (unsigned char)c > ' ' && c != 0x7f && !strchr(".*>%{}", c);
}

static int wrong(const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the nats sink: \"subject\" %s", what);
}

int subject_check(const char *template)
{
    const char *at = template;
    bool empty = true; /* the token so far */
    if (*at == '{' || *at == '$')
        return wrong("must begin with a constant, such as \"agents.\"");
    while (*at) {
        int name = name_at(at);
        if (*at == '.' && empty)
            return wrong("has an empty token");
        if (name == NAMES && *at != '.' && !is_plain(*at))
            return wrong("knows {agent}, {session}, {type} and {priority}, and no wildcards or blanks");
        empty = *at == '.';
        at += name < NAMES ? strlen(names[name]) : 1;
    }
    return empty ? wrong("has an empty token") : SPOOL_OK;
}

/* A dot that parts two tokens, neither of which is empty. */
static bool parts(const char *text, const char *at)
{
    return *at == '.' && at > text && at[-1] != '.' && at[1] && at[1] != '.';
}

static int put_value(struct buffer *out, const char *text, bool keep_dots)
{
    if (!text || !*text)
        return buffer_put(out, "-", 1);
    int err = 0;
    for (const char *at = text; *at && !err; at++)
        if ((is_plain(*at) && *at != '{') || *at == '{' || *at == '}' || (keep_dots && parts(text, at)))
            err = buffer_put(out, at, 1);
        else
            err = buffer_printf(out, "%%%02X", (unsigned char)*at);
    return err;
}

static int put_name(struct buffer *out, int name, const struct spool_event *event)
{
    switch ((enum name)name) {
    case NAME_AGENT:
        return put_value(out, event->agent, false);
    case NAME_SESSION:
        return put_value(out, event->session, false);
    case NAME_TYPE:
        return put_value(out, event->type, true);
    case NAME_PRIORITY:
        return put_value(out, spool_priority_name(event->priority), false);
    case NAMES:
        break;
    }
    return 0;
}

int subject_put(struct buffer *out, const char *template, const struct spool_event *event)
{
    int err = 0;
    for (const char *at = template; *at && !err;) {
        int name = name_at(at);
        err = name < NAMES ? put_name(out, name, event) : buffer_put(out, at, 1);
        at += name < NAMES ? strlen(names[name]) : 1;
    }
    return err ? err : buffer_put(out, "", 1);
}

int subject_put_all(struct buffer *out, const char *template)
{
    const char *name = strchr(template, '{');
    const char *end = template + strlen(template);
    for (end = name ? name : end; name && end > template && end[-1] != '.';)
        end--;
    int err = buffer_put(out, template, (size_t)(end - template));
    if (!err && name)
        err = buffer_put(out, ">", 1);
    return err ? err : buffer_put(out, "", 1);
}
