/* merge.c - spool cat DIR...: events of several spools in the one order that they have, and what is out of it.
 *
 * Copies of an event that is in several spools are printed once. With --check each event that stands where it should not is
 * told on standard error, and in JSON gets a member "order": {"flaw": "late", "expected_before": "..."}. */
#include "merge.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "output.h"

enum { READ_TIMEOUT_MS = 10000, DAMAGED_MAX = 1000 };

struct merging {
    const struct tool *tool;
    const struct merge_request *request;
    struct spool **spools;
    struct spool_reader **readers;
    struct spool_merge *merge;
    uint64_t printed, flawed, damaged;
    bool json;
};

/* -------------------------------------------------------------------------------------------------------- printing */

/* How the other event is to be named: the one it should be before, or behind. */
static const char *relation(enum spool_merge_flaw flaw)
{
    switch (flaw) {
    case SPOOL_MERGE_LATE:
    case SPOOL_MERGE_REGRESSED:
        return "before";
    case SPOOL_MERGE_BEFORE_PARENT:
        return "after";
    default:
        return NULL;
    }
}

static void tell_flaw(const struct merging *m, const struct spool_merge_item *item)
{
    char id[SPOOL_ID_TEXT_SIZE], expected[SPOOL_ID_TEXT_SIZE];
    const char *how = relation(item->flaw);
    spool_id_format(item->event->id, id);
    if (how)
        say(m->tool, "%s is out of order (%s): it was expected %s %s", id, spool_merge_flaw_name(item->flaw), how,
            spool_id_format(&item->expected, expected));
    else if (item->flaw == SPOOL_MERGE_CONFLICT)
        say(m->tool, "%s is there twice, with another content", id);
    else
        say(m->tool, "%s is in the future of this machine's clock", id);
}

/* The rendering with one member more. */
static int print_flawed_json(const struct spool_merge_item *item)
{
    char *json, expected[SPOOL_ID_TEXT_SIZE];
    size_t size;
    const char *how = relation(item->flaw);
    int code = spool_event_to_json(item->event, item->event->id, &json, &size);
    if (code)
        return code;
    printf("%.*s,\"order\":{\"flaw\":\"%s\"", (int)(size - 1), json, spool_merge_flaw_name(item->flaw));
    if (how)
        printf(",\"expected_%s\":\"%s\"", how, spool_id_format(&item->expected, expected));
    puts("}}");
    spool_free(json);
    return SPOOL_OK;
}

static void print_item(struct merging *m, const struct spool_merge_item *item)
{
    bool flawed = item->flaw != SPOOL_MERGE_FINE && m->request->check;
    int code = SPOOL_OK;
    if (flawed)
        tell_flaw(m, item);
    m->flawed += flawed;
    m->printed++;
    if (!m->json)
        event_print_line(stdout, item->event);
    else
        code = flawed ? print_flawed_json(item) : event_print_json(stdout, item->event);
    if (code)
        say(m->tool, "an event cannot be shown: %s", spool_last_error());
}

/* -------------------------------------------------------------------------------------------------------- reading */

static bool survives(struct merging *m, int code)
{
    if (code != SPOOL_EDAMAGED || ++m->damaged > DAMAGED_MAX)
        return false;
    say(m->tool, "%s: left out", spool_last_error());
    return true;
}

static int print_all(struct merging *m)
{
    struct spool_merge_item item = SPOOL_MERGE_ITEM();
    int code = SPOOL_OK;
    while (m->printed < m->request->most && !ferror(stdout)) {
        code = spool_merge_next(m->merge, READ_TIMEOUT_MS, &item);
        if (code && !survives(m, code))
            break;
        if (!code && item.flaw != SPOOL_MERGE_DUPLICATE)
            print_item(m, &item);
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

/* What nobody has taken in from journals of dead processes is not seen: said, rather than left out. */
static void warn_of_journals(const struct merging *m, size_t i)
{
    struct spool_stats stats = SPOOL_STATS();
    if (spool_stats(m->spools[i], &stats) == SPOOL_OK && stats.dead_journals)
        say(m->tool,
            "%s: not shown: events in %u journal%s of processes that died; `spool run`, `drain` or `put` takes them in",
            m->request->dirs[i], stats.dead_journals, stats.dead_journals == 1 ? "" : "s");
}

static int open_one(struct merging *m, size_t i)
{
    struct tool there = *m->tool;
    there.dir = m->request->dirs[i];
    int status = tool_open(&there, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &m->spools[i]);
    if (status)
        return status;
    warn_of_journals(m, i);
    int code = spool_reader_open(m->spools[i], &m->request->options, &m->readers[i]);
    return code ? say_error(m->tool, code, there.dir) : TOOL_DONE;
}

static int open_all(struct merging *m)
{
    int status = TOOL_DONE;
    for (size_t i = 0; i < m->request->count && !status; i++)
        status = open_one(m, i);
    if (status)
        return status;
    int code = spool_merge_open(m->readers, m->request->count, &m->merge);
    return code ? say_error(m->tool, code, NULL) : TOOL_DONE;
}

static void close_all(struct merging *m)
{
    spool_merge_close(m->merge);
    for (size_t i = 0; i < m->request->count; i++) {
        spool_reader_close(m->readers[i]);
        spool_close(m->spools[i]);
    }
    free(m->readers);
    free(m->spools);
}

int merge_cat(const struct tool *tool, const struct merge_request *request)
{
    struct merging m = {.tool = tool, .request = request, .json = tool_wants_json(tool, !isatty(STDOUT_FILENO))};
    m.spools = tool_alloc(request->count, sizeof *m.spools);
    m.readers = tool_alloc(request->count, sizeof *m.readers);
    int status = open_all(&m);
    int code = status ? SPOOL_OK : print_all(&m);
    if (code)
        status = say_error(tool, code, NULL);
    if (m.flawed)
        say(tool, "%llu events are out of order", (unsigned long long)m.flawed);
    close_all(&m);
    return status ? status : m.flawed || m.damaged ? TOOL_FAILED : TOOL_DONE;
}
