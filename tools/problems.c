/* problems.c - what asks for action, of a spool and its sinks, and which: the first thing that spool status says. */
#include <stdlib.h>
#include <string.h>

#include "status.h"

enum { SILENT_S = 60, WAITS_S = 10 };
static const uint64_t NS_PER_S = 1000000000;

static void add_problem(struct problems *problems, bool urgent, char *what, char *action)
{
    if (problems->count == PROBLEMS_MAX) {
        free(what);
        free(action);
        return;
    }
    problems->items[problems->count++] = (struct problem){urgent, what, action};
}

void problems_free(struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        free(problems->items[i].what);
        free(problems->items[i].action);
    }
    problems->count = 0;
}

static char *text(const char *constant)
{
    return tool_format("%s", constant);
}

/* The state in the process that delivers, where that is another one. */
static enum spool_sink_state true_state(const struct spool_sink_info *sink)
{
    return sink->state == SPOOL_SINK_ELSEWHERE ? sink->deliverer_state : sink->state;
}

static void see_down(struct problems *problems, const struct spool_sink_info *sink)
{
    char span[UNITS_SIZE], count[UNITS_SIZE];
    add_problem(problems, false,
                tool_format("%s is down, %u failure%s in a row: %s", sink->name, sink->attempt, plural(sink->attempt),
                            sink->last_error),
                tool_format("see to %s; its %s event%s wait%s, and it is tried again in %s", sink->name,
                            units_count(sink->pending_events, count), plural(sink->pending_events),
                            sink->pending_events == 1 ? "s" : "", units_span(sink->next_try_ms * 1000000, span)));
}

/* Its next batch waits for a resource that somebody has had for long. */
static void see_waiting(struct problems *problems, const struct spool_sink_info *sink)
{
    char span[UNITS_SIZE];
    if (!*sink->waits_for || sink->waits_ms < WAITS_S * 1000u)
        return;
    add_problem(
        problems, false,
        tool_format("%s waits for %s, for %s", sink->name, sink->waits_for, units_span(sink->waits_ms * 1000000, span)),
        text("see to whoever has it; events wait, and nothing is lost"));
}

/* It says that it runs, and has said nothing for long although there is work. */
static void see_silent(struct problems *problems, const struct spool_sink_info *sink)
{
    char age[UNITS_SIZE];
    uint64_t now = now_wall_ns();
    if (sink->state != SPOOL_SINK_ELSEWHERE || sink->deliverer_state != SPOOL_SINK_RUNNING || !sink->pending_events ||
        now < sink->deliverer_seen_ns + SILENT_S * NS_PER_S || now < sink->oldest_ns + SILENT_S * NS_PER_S)
        return;
    add_problem(problems, true,
                tool_format("process %u, which delivers to %s, has not moved on for %s", sink->deliverer_pid,
                            sink->name, units_age(sink->deliverer_seen_ns, age)),
                tool_format("is it stopped, or does %s hang? Another one takes over when it ends", sink->name));
}

static void see_sink(struct problems *problems, const struct spool_sink_info *sink)
{
    enum spool_sink_state state = true_state(sink);
    if (sink->removing)
        add_problem(problems, false,
                    tool_format("%s is to be removed, and who delivers to it has not let go", sink->name),
                    text("it goes as soon as that happens; if the sink hangs, end the process that delivers to it"));
    else if (state == SPOOL_SINK_PAUSED && sink->pending_events)
        add_problem(
            problems, false,
            tool_format("%s is paused%s%s", sink->name, *sink->paused_reason ? ": " : "", sink->paused_reason),
            tool_format("%sspool sink resume %s", *sink->paused_reason ? "see to that, then " : "", sink->name));
    else if (state == SPOOL_SINK_FAILED)
        add_problem(problems, true, tool_format("%s refuses its configuration: %s", sink->name, sink->last_error),
                    tool_format("correct it with spool sink add %s", sink->name));
    else if (state == SPOOL_SINK_HUNG)
        add_problem(problems, true, tool_format("%s hangs: %s", sink->name, sink->last_error),
                    text("end the process that delivers to it; events that it was given are delivered again"));
    else if (state == SPOOL_SINK_DOWN)
        see_down(problems, sink);
    else if (state == SPOOL_SINK_ABSENT && sink->pending_events)
        add_problem(
            problems, false,
            tool_format("nobody delivers to %s%s%s", sink->name, *sink->last_error ? "; its last error: " : "",
                        sink->last_error),
            tool_format("start `spool run` or the program that serves it; if the sink is gone for good: spool sink "
                        "remove %s",
                        sink->name));
    see_waiting(problems, sink);
    see_silent(problems, sink);
}

static void see_spool(struct problems *problems, const struct status *status)
{
    const struct spool_stats *stats = &status->stats;
    char count[UNITS_SIZE];
    if (stats->disk_full)
        add_problem(problems, true, text("the disk refuses writes"),
                    text("free space; what was accepted is safe and delivery goes on"));
    if (stats->used_bytes > stats->max_bytes / 5 * 4)
        add_problem(problems, true, text("more than 80 % of the limit is used: low priorities are refused first"),
                    text("see to the sink that waits longest, or raise max_bytes"));
    if (stats->dead_journals)
        add_problem(problems, false, text("a process died and its journal waits, with events not counted here"),
                    text("any spool run, drain or put takes it in"));
    if (has_new_damage(stats))
        add_problem(problems, false, text("damage was found and set aside in quarantine/"),
                    text("spool verify; when that is seen to, spool verify --seen"));
    if (tool_saw_damage())
        add_problem(problems, true, text("a damaged file cannot be read, and its events are not counted here"),
                    text("any spool run, drain or put saves what is whole in it; then spool verify"));
    if (stats->dead_letters)
        add_problem(problems, false,
                    tool_format("%s event%s given up", units_count(stats->dead_letters, count),
                                stats->dead_letters == 1 ? " was" : "s were"),
                    text("spool dlq stats and spool dlq list, then spool dlq requeue, edit or purge"));
    if (!status->survey.count && stats->stored_events)
        add_problem(problems, false, text("no sink is registered, events wait for the first"),
                    text("spool sink add NAME KIND"));
}

/* The urgent ones first. */
static int compare_problems(const void *a, const void *b)
{
    const struct problem *x = a, *y = b;
    return (int)y->urgent - (int)x->urgent;
}

void problems_find(const struct status *status, struct problems *ret)
{
    ret->count = 0;
    for (size_t i = 0; i < status->survey.count; i++)
        see_sink(ret, &status->survey.sinks[i]);
    see_spool(ret, status);
    qsort(ret->items, ret->count, sizeof *ret->items, compare_problems);
}

void problems_print(const struct problems *problems)
{
    for (size_t i = 0; i < problems->count; i++) {
        const struct problem *problem = &problems->items[i];
        fputs(problem->urgent ? "!! " : "!  ", stdout);
        text_print(stdout, problem->what, strlen(problem->what), SIZE_MAX);
        fputs("\n   -> ", stdout);
        text_print(stdout, problem->action, strlen(problem->action), SIZE_MAX);
        putchar('\n');
    }
    puts(problems->count ? "" : "all is well\n");
}
