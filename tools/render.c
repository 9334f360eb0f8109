/* render.c - an event for people, and JSON for programs. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "output.h"
#include "tool.h"

enum { WIDTH_DEFAULT = 200, WIDTH_MIN = 40, NAME_WIDTH_MAX = 32 };

/* --------------------------------------------------------------------------------------------------- for people */

/* Columns of the terminal on stdout; looked up once. */
static size_t screen_width(void)
{
    static size_t width;
    struct winsize window;
    if (width)
        return width;
    width = WIDTH_DEFAULT;
    if (isatty(STDOUT_FILENO) && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) && window.ws_col)
        width = window.ws_col < WIDTH_MIN ? WIDTH_MIN : window.ws_col;
    return width;
}

static size_t print_padded(FILE *out, const char *text, size_t width)
{
    size_t size = strlen(text), used = text_width(text);
    text_print(out, text, size, NAME_WIDTH_MAX);
    if (used > NAME_WIDTH_MAX)
        used = NAME_WIDTH_MAX;
    size_t padding = (used < width ? width - used : 0) + 2;
    fprintf(out, "%*s", (int)padding, "");
    return used + padding;
}

void event_print_line(FILE *out, const struct spool_event *event)
{
    char time[UNITS_SIZE];
    const char *priority = spool_priority_name(event->priority);
    size_t used = print_padded(out, units_time(spool_id_time_ns(event->id), 3, time), 24);
    used += print_padded(out, priority ? priority : "?", 8);
    used += print_padded(out, event->type, 18);
    used += print_padded(out, event->agent ? event->agent : "-", 10);
    size_t screen = screen_width();
    text_print(out, event->body, event->body_size, screen > used + 10 ? screen - used : 10);
    fputc('\n', out);
}

static void print_field(FILE *out, const char *name, const char *value)
{
    if (!value)
        return;
    fprintf(out, "%-13s ", name);
    text_print(out, value, strlen(value), SIZE_MAX);
    fputc('\n', out);
}

static void print_time_field(FILE *out, const char *name, uint64_t unix_ns)
{
    char time[UNITS_SIZE], age[UNITS_SIZE];
    fprintf(out, "%-13s %s (%s ago)\n", name, units_time(unix_ns, 9, time), units_age(unix_ns, age));
}

static void print_envelope(FILE *out, const struct spool_event *event)
{
    char id[SPOOL_ID_TEXT_SIZE], span[UNITS_SIZE];
    print_field(out, "id", spool_id_format(event->id, id));
    print_time_field(out, "time", spool_id_time_ns(event->id));
    if (event->occurred_at_ns)
        print_time_field(out, "occurred at", event->occurred_at_ns);
    print_field(out, "type", event->type);
    print_field(out, "priority", spool_priority_name(event->priority));
    print_field(out, "agent", event->agent);
    print_field(out, "session", event->session);
    if (event->parent)
        print_field(out, "parent", spool_id_format(event->parent, id));
    for (const char *const *tag = event->tags; tag && *tag; tag++)
        print_field(out, "tag", *tag);
    print_field(out, "traceparent", event->traceparent);
    if (event->ttl_ms)
        print_field(out, "ttl", units_span(event->ttl_ms * 1000000, span));
    print_field(out, "content type", event->content_type);
}

static void indent(FILE *out, int depth)
{
    fprintf(out, "\n%*s", depth * 2, "");
}

/* A string of valid JSON text, from quote to quote, as it is; returns its size. */
static size_t print_string(FILE *out, const char *text)
{
    size_t size = 1;
    for (; text[size] != '"'; size++)
        if (text[size] == '\\')
            size++;
    text_print(out, text, size + 1, SIZE_MAX);
    return size + 1;
}

/* Writes valid JSON text with line breaks, and numbers and escapes as they are. */
static void print_indented(FILE *out, const char *text, size_t size)
{
    bool opened = false; /* a bracket just now: its line break waits for what follows */
    int depth = 0;
    for (size_t i = 0; i < size; i++) {
        char c = text[i];
        if (strchr(" \t\r\n", c))
            continue;
        bool closes = c == '}' || c == ']';
        depth -= closes;
        if (opened != closes)
            indent(out, depth);
        opened = c == '{' || c == '[';
        depth += opened;
        if (c == '"')
            i += print_string(out, text + i) - 1;
        else
            fputc(c, out);
        if (c == ':')
            fputc(' ', out);
        else if (c == ',')
            indent(out, depth);
    }
    fputc('\n', out);
}

static bool is_json(const char *text, size_t size)
{
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    json_decref(value);
    return value;
}

void event_print_full(FILE *out, const struct spool_event *event)
{
    char size[UNITS_SIZE];
    print_envelope(out, event);
    fprintf(out, "%-13s %s\n", "body", units_bytes(event->body_size, size));
    if (!event->body_size)
        return;
    fputc('\n', out);
    if (is_json(event->body, event->body_size)) {
        print_indented(out, event->body, event->body_size);
        return;
    }
    const char *at = event->body, *end = at + event->body_size;
    while (at < end) {
        const char *feed = memchr(at, '\n', (size_t)(end - at)), *stop = feed ? feed : end;
        text_print(out, at, (size_t)(stop - at), SIZE_MAX);
        fputc('\n', out);
        at = stop + 1;
    }
}

/* ------------------------------------------------------------------------------------------------- for programs */

int event_print_json(FILE *out, const struct spool_event *event)
{
    char *json;
    size_t size;
    int code = spool_event_to_json(event, NULL, &json, &size);
    if (code)
        return code;
    fwrite(json, 1, size, out);
    fputc('\n', out);
    spool_free(json);
    return SPOOL_OK;
}

static void json_give_up(void)
{
    fputs("spool: out of memory\n", stderr);
    exit(TOOL_FAILED);
}

void json_set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value))
        json_give_up();
}

void json_print(json_t *object)
{
    char *text = json_dumps(object, JSON_COMPACT);
    if (!text)
        json_give_up();
    fputs(text, stdout);
    free(text);
    putchar('\n');
    json_decref(object);
}

json_t *json_text(const char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    char *copy = tool_format("%s", text); /* not UTF-8: a path or a message cut in the middle of a character */
    for (char *c = copy; *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = json_string(copy);
    free(copy);
    return value;
}

json_t *json_number(uint64_t number)
{
    return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t)number);
}

json_t *json_time(uint64_t unix_ns)
{
    char time[UNITS_SIZE];
    return unix_ns ? json_string(units_time(unix_ns, 9, time)) : json_null();
}
