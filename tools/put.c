/* put.c - spool put: events from an argument or from the lines of standard input.
 *
 * Lines are gathered into frames, which the library stores all or none: a frame ends when it holds FRAME_EVENTS_MAX
 * events, when it is as big as a single event may be, or when no more input is ready, so that a slow producer's line
 * does not wait for the next one. Under load one flush then serves a thousand lines. Ids are printed when their frame
 * is durable.
 *
 * When the library refuses a frame because of an event in it, the frame is halved until that event stands alone: it is
 * reported with its line number, the others are stored, in order. Anything else (full, disk failed) ends the command
 * and says from which line on nothing was stored. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lines.h"
#include "output.h"
#include "tool.h"

enum { FRAME_EVENTS_MAX = 1024, EVENT_OVERHEAD = 128, PRINT_BUFFER = 256 << 10 };

#define DEFAULT_TYPE "message"
#define CONTENT_JSON "application/json"
#define CONTENT_PLAIN "text/plain"

struct put_args {
    const char *type, *agent, *session, *content_type, *parent;
    int priority, durability; /* enum spool_priority, enum spool_durability */
    struct opt_list tags;
    struct opt_number ttl;
    bool events, quiet;
};

static const char *const priorities[] = {"medium", "critical", "high", "low", NULL}; /* as enum spool_priority */
static const char *const durabilities[] = {"default", "process", "power", NULL};

#define OPT(...) OPT_ENTRY(struct put_args, __VA_ARGS__)
static const struct opt put_options[] = {
    OPT('t', "type", OPT_TEXT, type, "T", "type of the events (default: " DEFAULT_TYPE ")"),
    OPT('a', "agent", OPT_TEXT, agent, "A", "agent: the ordering and sharding key"),
    OPT('s', "session", OPT_TEXT, session, "S", "session"),
    {'p', "priority", OPT_CHOICE, offsetof(struct put_args, priority), "P", "critical, high, medium (default) or low",
     priorities},
    {'d', "durability", OPT_CHOICE, offsetof(struct put_args, durability), "D",
     "power (default): flushed to disk before the id is printed; process", durabilities},
    OPT(0, "tag", OPT_LIST, tags, "T", "a tag; may be repeated"),
    OPT(0, "content-type", OPT_TEXT, content_type, "C", "of the bodies (default: JSON if it looks like it, else text)"),
    OPT(0, "parent", OPT_TEXT, parent, "ID", "the event that caused these"),
    OPT(0, "ttl", OPT_DURATION, ttl, "D", "not delivered when older than that: 30 (seconds), 10m, 7d"),
    OPT(0, "events", OPT_FLAG, events, NULL, "each line is a whole event in native JSON, as `spool cat` prints it"),
    OPT('q', "quiet", OPT_FLAG, quiet, NULL, "print no ids"),
    {0},
};

/* One run of the verb. */
struct put {
    const struct tool *tool;
    const struct put_args *args;
    struct spool *spool;
    struct spool_event envelope; /* of every event, but for the body */
    struct spool_id parent;
    size_t envelope_size;    /* about, packed */
    bool json, stopped;      /* stopped: nothing more can be stored */
    uint64_t stored, failed; /* events */
    struct progress progress;
    struct lines lines;
    /* the frame that is gathered */
    size_t count, frame_size, frame_max;
    struct spool_event events[FRAME_EVENTS_MAX];
    struct spool_event *parsed[FRAME_EVENTS_MAX]; /* with --events: what spool_event_free() takes */
    struct spool_id ids[FRAME_EVENTS_MAX];
    uint64_t numbers[FRAME_EVENTS_MAX]; /* of their lines */
};

/* ------------------------------------------------------------------------------------------------------- bodies */

static bool is_number(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (!strchr("0123456789+-.eE", text[i]) || !text[i])
            return false;
    return size && (text[0] == '-' || (text[0] >= '0' && text[0] <= '9'));
}

static bool is_text(const char *text, size_t size, const char *expected)
{
    return size == strlen(expected) && !memcmp(text, expected, size);
}

/* Judged by its ends alone: a label for readers is not worth parsing every body. */
static bool looks_like_json(const char *text, size_t size)
{
    while (size && strchr(" \t\r\n", *text) && *text)
        text++, size--;
    while (size && strchr(" \t\r\n", text[size - 1]) && text[size - 1])
        size--;
    if (!size)
        return true; /* an empty body says nothing about its type: the default */
    char first = text[0], last = text[size - 1];
    if (first == '{' || first == '[' || first == '"')
        return size > 1 && last == (first == '{' ? '}' : first == '[' ? ']' : '"');
    return is_number(text, size) || is_text(text, size, "true") || is_text(text, size, "false") ||
           is_text(text, size, "null");
}

static void set_body(const struct put *put, struct spool_event *event, const char *body, size_t size)
{
    *event = put->envelope;
    event->body = body;
    event->body_size = size;
    if (!event->content_type)
        event->content_type = looks_like_json(body, size) ? CONTENT_JSON : CONTENT_PLAIN;
}

/* ------------------------------------------------------------------------------------------------------- storing */

/* The event itself is refused: the others are not concerned. */
static bool is_fault_of_event(int code)
{
    switch (code) {
    case SPOOL_EINVAL:
    case SPOOL_ETYPE:
    case SPOOL_ETOOBIG:
    case SPOOL_EUTF8:
    case SPOOL_EID:
    case SPOOL_EJSON:
        return true;
    default:
        return false;
    }
}

static void print_ids(struct put *put, const struct spool_id *ids, size_t n)
{
    char text[SPOOL_ID_TEXT_SIZE];
    put->stored += n;
    for (size_t i = 0; i < n && !put->args->quiet; i++) {
        spool_id_format(&ids[i], text);
        if (put->json)
            fputs_unlocked("{\"id\":\"", stdout);
        fwrite_unlocked(text, 1, SPOOL_ID_TEXT_SIZE - 1, stdout);
        fputs_unlocked(put->json ? "\"}\n" : "\n", stdout);
    }
}

/* A JSON line is one line of its own: that is left out of the library's "line 1, column 9". */
static void report_line(struct put *put, uint64_t number, const char *message)
{
    static const char own[] = "line 1, ";
    if (!strncmp(message, own, sizeof own - 1))
        message += sizeof own - 1;
    progress_clear(&put->progress);
    say(put->tool, "line %llu: %s: not stored", (unsigned long long)number, message);
    put->failed++;
}

static void report_stop(struct put *put, int code, size_t first, size_t n)
{
    progress_clear(&put->progress);
    put->stopped = true;
    say_error(put->tool, code, NULL);
    unsigned long long from = put->numbers[first], to = put->numbers[first + n - 1];
    if (code == SPOOL_EUNCERTAIN)
        say(put->tool, "lines %llu to %llu may or may not be stored, later ones are not", from, to);
    else
        say(put->tool, "nothing is stored from line %llu on", from);
}

static int enqueue(struct put *put, size_t first, size_t n)
{
    if (n == 1)
        return spool_enqueue(put->spool, &put->events[first], &put->ids[first]);
    return spool_enqueue_many(put->spool, &put->events[first], n, &put->ids[first]);
}

/* Stores events [first, first + n) of the frame, in halves if one of them is refused. */
static void store(struct put *put, size_t first, size_t n)
{
    if (!n || put->stopped)
        return;
    int code = enqueue(put, first, n);
    if (code == SPOOL_OK) {
        print_ids(put, &put->ids[first], n);
    } else if (!is_fault_of_event(code)) {
        report_stop(put, code, first, n);
    } else if (n == 1) {
        report_line(put, put->numbers[first], spool_last_error());
    } else {
        store(put, first, n / 2);
        store(put, first + n / 2, n - n / 2);
    }
}

static void show_progress(struct put *put)
{
    char stored[UNITS_SIZE], rate[UNITS_SIZE];
    if (progress_due(&put->progress))
        progress_line(&put->progress, "put: %s events, %s/s", units_count(put->stored, stored),
                      units_count(progress_rate(&put->progress, put->stored), rate));
}

static void frame_store(struct put *put)
{
    store(put, 0, put->count);
    for (size_t i = 0; put->args->events && i < put->count; i++)
        spool_event_free(put->parsed[i]);
    put->count = put->frame_size = 0;
    show_progress(put);
}

/* ------------------------------------------------------------------------------------------------------- streams */

static size_t text_size(const char *text)
{
    return text ? strlen(text) : 0;
}

static size_t envelope_size(const struct spool_event *event)
{
    size_t size = EVENT_OVERHEAD + text_size(event->type) + text_size(event->agent) + text_size(event->session) +
                  text_size(event->content_type) + text_size(event->traceparent);
    for (const char *const *tag = event->tags; tag && *tag; tag++)
        size += strlen(*tag) + 2;
    return size;
}

static void frame_add(struct put *put, const struct spool_event *event, size_t size)
{
    if (put->count && put->frame_size + size > put->frame_max)
        frame_store(put);
    put->numbers[put->count] = put->lines.number;
    put->events[put->count++] = *event;
    put->frame_size += size;
    if (put->count == FRAME_EVENTS_MAX)
        frame_store(put);
}

/* Bad lines are reported after what stands before them, so that ids and messages are in the order of the input. */
static void take_event_line(struct put *put, const char *line, size_t size)
{
    struct spool_event *event;
    int code = spool_event_from_json(line, size, &event);
    if (code) {
        char *message = tool_format("%s", spool_last_error());
        frame_store(put);
        report_line(put, put->lines.number, message);
        free(message);
        return;
    }
    event->durability = put->envelope.durability;
    size_t packed = envelope_size(event) + event->body_size;
    if (put->count && put->frame_size + packed > put->frame_max)
        frame_store(put);
    put->parsed[put->count] = event;
    frame_add(put, event, packed);
}

static void take_line(struct put *put, const char *line, size_t size)
{
    struct spool_event event;
    if (!size)
        return; /* as documented: empty lines are no events */
    if (put->args->events) {
        take_event_line(put, line, size);
        return;
    }
    set_body(put, &event, line, size);
    frame_add(put, &event, put->envelope_size + size);
}

static void take_long_line(struct put *put)
{
    char max[UNITS_SIZE];
    units_bytes(put->frame_max, max);
    char *message = tool_format("longer than the %s that an event of this spool may have", max);
    frame_store(put);
    report_line(put, put->lines.number, message);
    free(message);
}

/* No complete line is left in the buffer: stores what is gathered unless more can be had at once, then reads. */
static int read_more(struct put *put)
{
    bool ready = lines_ready(&put->lines);
    if (put->count && (!ready || !lines_has_room(&put->lines)))
        frame_store(put);
    if (!ready)
        fflush(stdout);
    int error = lines_fill(&put->lines);
    if (!error)
        return TOOL_DONE;
    frame_store(put);
    say(put->tool, "standard input: %s", strerror(error));
    return TOOL_FAILED;
}

static int put_lines(struct put *put)
{
    char *line;
    size_t size;
    while (!put->stopped) {
        switch (lines_next(&put->lines, &line, &size)) {
        case LINES_LINE:
            take_line(put, line, size);
            break;
        case LINES_TOO_LONG:
            take_long_line(put);
            break;
        case LINES_MORE:
            if (read_more(put) != TOOL_DONE)
                return TOOL_FAILED;
            break;
        case LINES_END:
            frame_store(put);
            return put->stopped || put->failed ? TOOL_FAILED : TOOL_DONE;
        }
    }
    return TOOL_FAILED;
}

static void print_summary(struct put *put)
{
    char stored[UNITS_SIZE], rate[UNITS_SIZE], failed[UNITS_SIZE];
    bool was_long = put->progress.shown;
    progress_clear(&put->progress);
    if (was_long)
        say(put->tool, "%s events stored, %s/s", units_count(put->stored, stored),
            units_count(progress_rate(&put->progress, put->stored), rate));
    if (put->failed)
        say(put->tool, "%s line%s not stored, see above", units_count(put->failed, failed),
            put->failed == 1 ? "" : "s");
}

static int put_stream(struct put *put)
{
    static char print_buffer[PRINT_BUFFER];
    struct spool_stats stats = SPOOL_STATS();
    int code = spool_stats(put->spool, &stats);
    if (code)
        return say_error(put->tool, code, NULL);
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO))
        say(put->tool, "each line is an event; end with Ctrl-D");
    setvbuf(stdout, print_buffer, _IOFBF, sizeof print_buffer);
    put->frame_max = (size_t)stats.event_bytes_max;
    /* JSON may take six bytes for one of the event's. */
    lines_init(&put->lines, STDIN_FILENO, put->args->events ? put->frame_max * 6 : put->frame_max);
    progress_start(&put->progress, put->args->quiet || !isatty(STDOUT_FILENO));
    int status = put_lines(put);
    print_summary(put);
    lines_free(&put->lines);
    return status;
}

/* -------------------------------------------------------------------------------------------------------- single */

static int put_event(struct put *put, const struct spool_event *event)
{
    struct spool_id id;
    int code = spool_enqueue(put->spool, event, &id);
    if (code)
        return say_error(put->tool, code, NULL);
    print_ids(put, &id, 1);
    return TOOL_DONE;
}

static int put_single(struct put *put, const char *body)
{
    struct spool_event event, *parsed;
    if (!put->args->events) {
        set_body(put, &event, body, strlen(body));
        return put_event(put, &event);
    }
    int code = spool_event_from_json(body, strlen(body), &parsed);
    if (code)
        return say_error(put->tool, code, NULL);
    parsed->durability = put->envelope.durability;
    int status = put_event(put, parsed);
    spool_event_free(parsed);
    return status;
}

/* --------------------------------------------------------------------------------------------------------- verb */

static int check_args(const struct put *put)
{
    const struct put_args *args = put->args;
    if (args->events && (args->type || args->agent || args->session || args->content_type || args->parent ||
                         args->tags.count || args->ttl.given || args->priority))
        return say_usage(put->tool, "--events: the lines say that themselves; only --durability goes with it");
    if (args->ttl.given && !args->ttl.value)
        return say_usage(put->tool, "--ttl 0: must be more than zero; leave it out for events that stay");
    return TOOL_DONE;
}

static int make_envelope(struct put *put)
{
    const struct put_args *args = put->args;
    put->envelope = SPOOL_EVENT(.type = args->type ? args->type : DEFAULT_TYPE, .agent = args->agent,
                                .session = args->session, .priority = (enum spool_priority)args->priority,
                                .durability = (enum spool_durability)args->durability,
                                .content_type = args->content_type, .ttl_ms = args->ttl.value);
    if (args->tags.count)
        put->envelope.tags = args->tags.items;
    if (args->parent) {
        int code = spool_id_parse(args->parent, &put->parent);
        if (code) {
            say_error(put->tool, code, "--parent");
            return TOOL_USAGE;
        }
        put->envelope.parent = &put->parent;
    }
    put->envelope_size = envelope_size(&put->envelope) + sizeof CONTENT_JSON;
    return TOOL_DONE;
}

static int put_run(const struct tool *tool, void *args, const struct words *words)
{
    static struct put put; /* static: too big for a stack */
    memset(&put, 0, sizeof put);
    put.tool = tool;
    put.args = args;
    put.json = tool_wants_json(tool, false);
    int status = check_args(&put);
    if (!status)
        status = make_envelope(&put);
    if (!status)
        status = tool_open(tool, 0, &put.spool);
    if (status)
        return status;
    status = words->count ? put_single(&put, words->items[0]) : put_stream(&put);
    int code = spool_close(put.spool);
    if (code && !status)
        status = say_error(tool, code, "closing the spool");
    return status;
}

const struct tool_verb put_verb = {
    .name = "put",
    .usage = "[options] [BODY]",
    .summary = "Store events: BODY, or each line of standard input",
    .notes =
        "Prints the id of each event, one a line, once the event is durable. Empty lines are no events. A line that\n"
        "cannot be stored is reported with its number, the others are stored, and the exit status is 1.",
    .options = put_options,
    .words_max = 1,
    .run = put_run,
};
