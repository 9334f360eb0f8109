/* file_parts_path.c - the path of an event. What comes from the event can be no more than a part of one name: every
 * byte but letters, digits and _ - = @ + , : . is written as %XX, a dot only where it is not the first, and what is
 * longer than VALUE_MAX is cut and ends in the checksum of the whole. So no agent, whatever it calls itself, writes
 * outside of the folder or into a hidden file; two names are the same file only if their checksums are too. */
#include <stdio.h>
#include <string.h>

#include "../../lib/base/crc32c.h"
#include "file_parts.h"

enum { VALUE_MAX = 180 };

static const char *const names[] = {"agent", "type", "session", "priority"};
enum { NAMES = sizeof names / sizeof *names };

/* The index of the placeholder at `text`, and where it ends; NAMES: it is none. */
static size_t placeholder(const char *text, const char **ret_end)
{
    for (size_t i = 0; i < NAMES; i++) {
        size_t size = strlen(names[i]);
        if (strncmp(text + 1, names[i], size) == 0 && text[1 + size] == '}') {
            *ret_end = text + size + 2;
            return i;
        }
    }
    return NAMES;
}

int parts_check(const char *pattern, bool *ret_any)
{
    const char *end;
    *ret_any = false;
    for (const char *p = strchr(pattern, '{'); p; p = strchr(end, '{')) {
        if (placeholder(p, &end) == NAMES)
            return spool_sink_error(
                SPOOL_ECONFIG,
                "configuration of the file sink: \"path\": \"%.20s\": known are {agent}, {type}, {session} and "
                "{priority}",
                p);
        *ret_any = true;
    }
    return SPOOL_OK;
}

/* The number stands before the extension. An agent may call itself "a-000001": {agent}.jsonl would be what the second file
 * of "a" is called; or "a.b": then {agent} would end in an extension of its own. */
bool parts_can_number(const char *pattern)
{
    const char *slash = strrchr(pattern, '/'), *name = slash ? slash + 1 : pattern;
    const char *last = strrchr(name, '}'), *dot = strrchr(name, '.');
    return !last || (dot && dot > last + 1);
}

const char *parts_placeholder_end(const char *text)
{
    const char *end;
    return placeholder(text, &end) < NAMES ? end : NULL;
}

static bool is_plain(unsigned char c)
{
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || strchr("_-=@+,:.", c) != NULL;
}

bool parts_is_value_byte(char c)
{
    return c && (is_plain((unsigned char)c) || c == '%' || c == '~');
}

/* At most VALUE_MAX + 10 bytes. */
static size_t put_value(char *at, const char *value)
{
    size_t size = 0;
    const char *p = value ? value : "";
    if (!*p)
        return (size_t)sprintf(at, "_");
    for (; *p && size < VALUE_MAX; p++) {
        bool plain = is_plain((unsigned char)*p) && !(*p == '.' && p == value);
        size += plain ? (size_t)sprintf(at + size, "%c", *p) : (size_t)sprintf(at + size, "%%%02X", (unsigned char)*p);
    }
    if (*p)
        size += (size_t)sprintf(at + size, "~%08x", crc32c(0, value, strlen(value)));
    return size;
}

static const char *value_of(const struct spool_event *event, size_t name)
{
    switch (name) {
    case 0:
        return event->agent;
    case 1:
        return event->type;
    case 2:
        return event->session;
    default:
        return spool_priority_name(event->priority);
    }
}

bool parts_path(const char *pattern, const struct spool_event *event, char ret[FILE_PATH_MAX])
{
    size_t size = 0;
    for (const char *p = pattern; *p;) {
        const char *end;
        size_t name = *p == '{' ? placeholder(p, &end) : NAMES;
        if (size + VALUE_MAX + 16 >= FILE_PATH_MAX)
            return false;
        if (name == NAMES) {
            ret[size++] = *p++;
            continue;
        }
        size += put_value(ret + size, value_of(event, name));
        p = end;
    }
    ret[size] = '\0';
    return true;
}
