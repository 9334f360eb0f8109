/* read.c - spool cat, tail and show: events as they are stored, without consuming them. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "merge.h"
#include "output.h"
#include "tool.h"

enum { TAIL_DEFAULT = 10, READ_TIMEOUT_MS = 10000, FOLLOW_TIMEOUT_MS = 1000, DAMAGED_MAX = 1000 };

struct read_args {
    const char *type, *agent, *session;
    struct opt_number since, until, count;
    bool follow, check;
};

#define OPT(...) OPT_ENTRY(struct read_args, __VA_ARGS__)
#define FILTER_OPTIONS                                                                                                 \
    OPT('t', "type", OPT_TEXT, type, "T", "only events of that type; llm* is a prefix"),                               \
        OPT('a', "agent", OPT_TEXT, agent, "A", "only events of that agent"),                                          \
        OPT('s', "session", OPT_TEXT, session, "S", "only events of that session")

static const struct opt cat_options[] = {
    OPT(0, "since", OPT_WHEN, since, "T", "only events from then on: 2026-11-21T09:34:15Z, 2026-11-21, 10m, 7d"),
    OPT(0, "until", OPT_WHEN, until, "T", "only events before that"),
    FILTER_OPTIONS,
    OPT('n', "lines", OPT_COUNT, count, "N", "the first N only"),
    OPT(0, "check", OPT_FLAG, check, NULL, "say which events are out of order, and what was expected"),
    {0},
};

static const struct opt tail_options[] = {
    OPT('f', "follow", OPT_FLAG, follow, NULL, "wait for more and print it as it is stored"),
    OPT('n', "lines", OPT_COUNT, count, "N", "the last N (default: 10)"),
    FILTER_OPTIONS,
    {0},
};

/* One look at a spool. */
struct view {
    const struct tool *tool;
    struct spool *spool;
    struct spool_reader_options options;
    bool json;
    uint64_t damaged; /* blocks met */
};

/* What a reader does with an event; false ends the reading. */
typedef bool (*view_each)(struct view *view, const struct spool_event *event, void *user);

/* ------------------------------------------------------------------------------------------------------- reading */

/* Events in journals that nobody has applied are not seen by a read-only look: say so rather than leave them out. */
static void warn_of_journals(const struct view *view)
{
    struct spool_stats stats = SPOOL_STATS();
    if (spool_stats(view->spool, &stats) || !stats.dead_journals)
        return;
    say(view->tool,
        "not shown: events in %u journal%s of processes that died; `spool run`, `drain` or `put` takes them in",
        stats.dead_journals, stats.dead_journals == 1 ? "" : "s");
}

static int view_open(struct view *view, const struct tool *tool, const struct read_args *args)
{
    *view = (struct view){.tool = tool, .json = tool_wants_json(tool, !isatty(STDOUT_FILENO))};
    view->options = SPOOL_READER_OPTIONS(.since_ns = args->since.value, .until_ns = args->until.value,
                                         .type = args->type, .agent = args->agent, .session = args->session);
    int status = tool_open(tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &view->spool);
    if (!status)
        warn_of_journals(view);
    return status;
}

/* While following: waiting is all right, but whoever reads our output should see what there is, and when they are gone
 * there is nothing to wait for. */
static bool view_wait(struct view *view)
{
    return (view->options.flags & SPOOL_READER_FOLLOW) && !fflush(stdout);
}

/* True when reading goes on after `code`, which is not SPOOL_OK. */
static bool view_survives(struct view *view, int code)
{
    if (code == SPOOL_ETIMEOUT)
        return view_wait(view);
    if (code != SPOOL_EDAMAGED || ++view->damaged > DAMAGED_MAX)
        return false;
    say(view->tool, "%s: left out", spool_last_error());
    return true;
}

/* Reads what the options select until `each` has enough. Returns SPOOL_OK at the end. */
static int view_read(struct view *view, view_each each, void *user)
{
    struct spool_reader *reader;
    const struct spool_event *event;
    bool follow = view->options.flags & SPOOL_READER_FOLLOW;
    int code = spool_reader_open(view->spool, &view->options, &reader);
    if (code)
        return code;
    uint32_t timeout_ms = follow ? 0 : READ_TIMEOUT_MS; /* first what is there, then print it, then wait */
    do {
        code = spool_reader_next(reader, timeout_ms, &event);
        if (follow)
            timeout_ms = code == SPOOL_ETIMEOUT ? FOLLOW_TIMEOUT_MS : 0;
        if (code == SPOOL_OK && !each(view, event, user))
            break;
    } while (code == SPOOL_OK || view_survives(view, code));
    spool_reader_close(reader);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static bool view_print(struct view *view, const struct spool_event *event)
{
    if (!view->json)
        event_print_line(stdout, event);
    else if (event_print_json(stdout, event))
        say(view->tool, "an event cannot be shown: %s", spool_last_error());
    return !ferror(stdout);
}

static int view_close(struct view *view, int code)
{
    int status = code ? say_error(view->tool, code, NULL) : TOOL_DONE;
    spool_close(view->spool);
    return view->damaged && !status ? TOOL_FAILED : status;
}

/* ---------------------------------------------------------------------------------------------------------- cat */

static bool cat_each(struct view *view, const struct spool_event *event, void *user)
{
    uint64_t *left = user;
    return view_print(view, event) && --*left;
}

/* Several spools as one, or the order of one checked. */
static int cat_merged(const struct tool *tool, const struct read_args *args, const struct words *words)
{
    const char *const *dirs = words->count ? (const char *const *)words->items : &tool->dir;
    const struct merge_request request = {
        .dirs = dirs,
        .count = words->count ? words->count : 1,
        .options = SPOOL_READER_OPTIONS(.since_ns = args->since.value, .until_ns = args->until.value,
                                        .type = args->type, .agent = args->agent, .session = args->session),
        .most = args->count.given ? args->count.value : UINT64_MAX,
        .check = args->check,
    };
    return merge_cat(tool, &request);
}

static int cat_run(const struct tool *tool, void *user_args, const struct words *words)
{
    struct read_args *args = user_args;
    struct view view;
    if (args->until.given && args->since.given && args->until.value <= args->since.value)
        return say_usage(tool, "--until is not later than --since: nothing can be between them");
    if (words->count || args->check)
        return cat_merged(tool, args, words);
    int status = view_open(&view, tool, args);
    if (status)
        return status;
    uint64_t left = args->count.given ? args->count.value : UINT64_MAX;
    return view_close(&view, left ? view_read(&view, cat_each, &left) : SPOOL_OK);
}

/* --------------------------------------------------------------------------------------------------------- tail */

/* The last N: counts backwards from now in windows of time that grow, so that a long spool is not read from its
 * beginning for its end; then the last window is read again, without what is too much at its front. Every window is
 * four times as long as the one before, so all together cost little more than the last. */
static const uint64_t WINDOW_FIRST_NS = 1000000000;

static bool count_each(struct view *view, const struct spool_event *event, void *user)
{
    (void)view, (void)event;
    ++*(uint64_t *)user;
    return true;
}

/* Leaves the window in view->options.since_ns. */
static int tail_find(struct view *view, uint64_t wanted, uint64_t *ret_found)
{
    uint64_t now = now_wall_ns(), window = WINDOW_FIRST_NS, found;
    for (;;) {
        view->options.since_ns = window < now ? now - window : 0;
        found = 0;
        int code = view_read(view, count_each, &found);
        if (code)
            return code;
        if (found >= wanted || !view->options.since_ns)
            break;
        window = window < UINT64_MAX / 4 ? window * 4 : UINT64_MAX;
    }
    *ret_found = found;
    return SPOOL_OK;
}

static bool tail_each(struct view *view, const struct spool_event *event, void *user)
{
    uint64_t *skip = user;
    if (!*skip)
        return view_print(view, event);
    --*skip;
    return true;
}

static int tail_read(struct view *view, const struct read_args *args)
{
    uint64_t wanted = args->count.given ? args->count.value : TAIL_DEFAULT, found = 0;
    int code = SPOOL_OK;
    if (wanted)
        code = tail_find(view, wanted, &found);
    if (args->follow)
        view->options.flags |= SPOOL_READER_FOLLOW | (wanted ? 0 : SPOOL_READER_TAIL);
    uint64_t skip = found > wanted ? found - wanted : 0;
    if (code || (!wanted && !args->follow))
        return code;
    return view_read(view, tail_each, &skip);
}

static int tail_run(const struct tool *tool, void *args, const struct words *words)
{
    struct view view;
    (void)words;
    int status = view_open(&view, tool, args);
    if (status)
        return status;
    return view_close(&view, tail_read(&view, args));
}

/* --------------------------------------------------------------------------------------------------------- show */

const struct tool_verb cat_verb = {
    .name = "cat",
    .usage = "[options] [DIR ...]",
    .summary = "Print the stored events, oldest first, without consuming them",
    .notes = "JSON Lines, or a line for people on a terminal; -o chooses. Delivered events are there as long as their\n"
             "segment and the retention keep them. Of several DIR they are merged by id, copies printed once.",
    .options = cat_options,
    .words_max = 64,
    .run = cat_run,
};
const struct tool_verb tail_verb = {
    .name = "tail",
    .usage = "[-f] [-n N] [options]",
    .summary = "Print the last events, and with -f those that follow",
    .options = tail_options,
    .run = tail_run,
};
