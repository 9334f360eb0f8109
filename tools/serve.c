/* serve.c - delivering in this process: what run and drain share.
 *
 * Once a second the sinks are looked at. What has changed since the last look is printed, a line for each change, so
 * that a log of it can be read; a terminal also gets one line of progress. */
#include <jansson.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "serve.h"

enum { STOP_TIMEOUT_MS = 5000 };

/* ------------------------------------------------------------------------------------------------------- signals */

static sigset_t signals_awaited(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

/* A sink that writes into a pipe nobody reads must hear of it as an error. */
static void signals_prepare(void)
{
    sigset_t set = signals_awaited();
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void say_reload(void *user, const char *sink, enum spool_reload_change change)
{
    static const char *const texts[] = {
        [SPOOL_RELOAD_SAME] = "is as it was",
        [SPOOL_RELOAD_ADDED] = "is added",
        [SPOOL_RELOAD_CHANGED] = "goes on with other options",
        [SPOOL_RELOAD_REPLACED] = "was changed, and goes on where it was",
        [SPOOL_RELOAD_RELEASED] = "is not in the file any more: not served, its events wait (spool sink remove)",
    };
    say(((const struct server *)user)->tool, "%s %s", sink, texts[change]);
}

static void reload(struct server *server)
{
    if (!server->configured) {
        say(server->tool,
            "SIGHUP: there is no file to read again; sinks that are added or changed are taken over anyway");
        return;
    }
    int code = spool_reload_config(server->spool, server->config, say_reload, server);
    if (!code)
        say(server->tool, "SIGHUP: %s is in force", server->config);
    else
        say(server->tool, "SIGHUP: %s", spool_last_error());
    if (code == SPOOL_ECONFIG || code == SPOOL_EJSON)
        say(server->tool, "nothing of it is taken, delivery goes on as before");
}

int server_signal(struct server *server, uint32_t timeout_ms)
{
    sigset_t set = signals_awaited();
    struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000};
    int number = sigtimedwait(&set, NULL, &timeout);
    if (number != SIGHUP)
        return number > 0 ? number : 0;
    progress_clear(&server->progress);
    reload(server);
    return 0;
}

/* For the second signal. Nothing is lost by it: what was delivered but not acknowledged is delivered again. */
static void on_second_signal(int number)
{
    static const char text[] = "spool: left at once; what was not acknowledged will be delivered again\n";
    (void)number;
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0)
        _exit(TOOL_FAILED);
    _exit(TOOL_FAILED);
}

static void signals_make_urgent(void)
{
    sigset_t set = signals_awaited();
    signal(SIGTERM, on_second_signal);
    signal(SIGINT, on_second_signal);
    signal(SIGHUP, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* ------------------------------------------------------------------------------------------------------- opening */

/* The stop_timeout of a configuration file, which the library has already found correct. */
static uint32_t configured_stop_timeout(const char *file)
{
    uint64_t ms = STOP_TIMEOUT_MS;
    json_t *root = json_load_file(file, 0, NULL);
    json_t *value = json_object_get(json_object_get(root, "spool"), "stop_timeout");
    if (json_is_integer(value))
        ms = (uint64_t)json_integer_value(value);
    else if (json_is_string(value) && !units_parse_duration(json_string_value(value), &ms))
        ms = STOP_TIMEOUT_MS;
    json_decref(root);
    return ms && ms < UINT32_MAX ? (uint32_t)ms : STOP_TIMEOUT_MS;
}

/* No restart mends it: somebody must change the file, or install the plugin that it names. */
static bool is_in_the_file(int code)
{
    return code == SPOOL_ECONFIG || code == SPOOL_EJSON || code == SPOOL_EINVAL || code == SPOOL_EOPTION ||
           code == SPOOL_ENOTFOUND || code == SPOOL_EABI;
}

static int open_configured(struct server *server, const char *config)
{
    const struct spool_options callbacks =
        SPOOL_OPTIONS(.on_notice = tool_say_note, .notice_user = (void *)server->tool->verb);
    int code = spool_open_config_with(config, &callbacks, &server->spool);
    if (code) {
        int status = say_error(server->tool, code, NULL);
        return is_in_the_file(code) ? TOOL_USAGE : status;
    }
    server->configured = true;
    server->config = config;
    server->stop_timeout_ms = configured_stop_timeout(config);
    return TOOL_DONE;
}

/* Sinks that are registered but not served here yet: at the start, and later those that `spool sink add` registers. */
static void load_sinks(struct server *server)
{
    static bool failing; /* say it once, not every second */
    int code = spool_sink_load_registered(server->spool, NULL);
    if (code && !failing)
        say(server->tool, "a sink is not served: %s", spool_last_error());
    failing = code != SPOOL_OK;
}

static int open_registered(struct server *server)
{
    int status = tool_open(server->tool, SPOOL_NO_CREATE, &server->spool);
    if (!status)
        load_sinks(server);
    return status;
}

static int remember_start(struct server *server)
{
    struct survey survey;
    struct spool_stats stats = SPOOL_STATS();
    int code = survey_take(server->spool, &survey);
    if (!code)
        code = spool_stats(server->spool, &stats);
    if (code)
        return code;
    server->delivered_before = survey.delivered;
    server->dead_before = survey.dead_letters;
    server->damaged_blocks = stats.damaged_blocks;
    if (stats.recovered_events)
        say(server->tool, "took in %llu events from the journals of dead processes",
            (unsigned long long)stats.recovered_events);
    survey_free(&survey);
    return SPOOL_OK;
}

int server_open(struct server *server, const struct tool *tool, const char *config)
{
    *server = (struct server){.tool = tool, .stop_timeout_ms = STOP_TIMEOUT_MS};
    signals_prepare();
    int status = config ? open_configured(server, config) : open_registered(server);
    if (status)
        return status;
    int code = remember_start(server);
    if (!code)
        code = spool_start(server->spool);
    if (!code) {
        progress_start(&server->progress, true);
        return TOOL_DONE;
    }
    status = say_error(tool, code, NULL);
    spool_close(server->spool);
    return status;
}

/* ------------------------------------------------------------------------------------------------------ reporting */

static void report_sink(struct server *server, const struct spool_sink_info *sink, const struct spool_sink_info *before)
{
    const struct tool *tool = server->tool;
    bool expected =
        sink->state == SPOOL_SINK_STOPPED || (sink->state == SPOOL_SINK_RUNNING && !server->verbose && !before);
    if (expected || (before && before->state == sink->state))
        return;
    progress_clear(&server->progress);
    switch (sink->state) {
    case SPOOL_SINK_RUNNING:
        say(tool, "%s (%s): %s", sink->name, sink->kind,
            before && before->state != SPOOL_SINK_ELSEWHERE ? "works again" : "delivering");
        break;
    case SPOOL_SINK_DOWN:
        say(tool, "%s is down: %s; events wait, tried again until it works", sink->name, sink->last_error);
        break;
    case SPOOL_SINK_FAILED:
        say(tool, "%s refuses its configuration: %s", sink->name, sink->last_error);
        break;
    case SPOOL_SINK_ABSENT:
        say(tool, "%s (%s) is not served here: %s", sink->name, sink->kind,
            server->configured ? "the file does not name it" : "only the program that registered it can");
        break;
    case SPOOL_SINK_ELSEWHERE:
        say(tool, "%s is served by another process; this one takes over when that ends", sink->name);
        break;
    case SPOOL_SINK_PAUSED:
        say(tool, "%s is paused%s%s: spool sink resume %s", sink->name, *sink->paused_reason ? ", " : "",
            sink->paused_reason, sink->name);
        break;
    default:
        say(tool, "%s is %s%s%s", sink->name, spool_sink_state_name(sink->state), *sink->last_error ? ": " : "",
            sink->last_error);
    }
}

static void report_changes(struct server *server, const struct survey *now)
{
    for (size_t i = 0; i < now->count; i++)
        report_sink(server, &now->sinks[i], survey_find(&server->last, now->sinks[i].name));
    for (size_t i = 0; i < server->last.count; i++)
        if (!survey_find(now, server->last.sinks[i].name)) {
            progress_clear(&server->progress);
            say(server->tool, "%s is removed", server->last.sinks[i].name);
        }
}

static void report_troubles(struct server *server, const struct spool_stats *stats)
{
    if (stats->disk_full != server->disk_full) {
        progress_clear(&server->progress);
        say(server->tool,
            stats->disk_full ? "the disk is full: delivery goes on, free space" : "the disk has room again");
    }
    if (stats->damaged_blocks > server->damaged_blocks) {
        progress_clear(&server->progress);
        say(server->tool, "a damaged block was set aside, everything else goes on: spool verify");
    }
    server->disk_full = stats->disk_full;
    server->damaged_blocks = stats->damaged_blocks;
}

static void show_progress(struct server *server)
{
    char delivered[UNITS_SIZE], rate[UNITS_SIZE], pending[UNITS_SIZE], age[UNITS_SIZE];
    const struct survey *now = &server->last;
    uint64_t count = server_delivered(server);
    if (progress_due(&server->progress))
        progress_line(&server->progress, "%s delivered, %s/s, %s wait (oldest %s), %llu dead letters",
                      units_count(count, delivered), units_count(progress_rate(&server->progress, count), rate),
                      units_count(now->pending_sum, pending), units_age(now->oldest_ns, age),
                      (unsigned long long)now->dead_letters);
}

uint64_t server_delivered(const struct server *server)
{
    return server->last.delivered > server->delivered_before ? server->last.delivered - server->delivered_before : 0;
}

uint64_t server_given_up(const struct server *server)
{
    return server->last.dead_letters > server->dead_before ? server->last.dead_letters - server->dead_before : 0;
}

int server_report(struct server *server)
{
    struct survey now;
    struct spool_stats stats = SPOOL_STATS();
    if (!server->configured)
        load_sinks(server);
    int code = survey_take(server->spool, &now);
    if (!code)
        code = spool_stats(server->spool, &stats);
    if (code)
        return code;
    report_changes(server, &now);
    report_troubles(server, &stats);
    survey_free(&server->last);
    server->last = now;
    show_progress(server);
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------- stopping */

static void say_what_remains(struct server *server)
{
    struct survey now;
    char delivered[UNITS_SIZE];
    if (survey_take(server->spool, &now))
        return;
    survey_free(&server->last);
    server->last = now;
    char *holders = survey_holders(&now);
    say(server->tool, "stopped; %s delivered; %s%s", units_count(server_delivered(server), delivered),
        *holders ? "still waiting: " : "nothing waits", holders);
    free(holders);
}

int server_close(struct server *server, bool quiet)
{
    progress_clear(&server->progress);
    signals_make_urgent();
    int code = spool_stop(server->spool, server->stop_timeout_ms);
    int status = code ? say_error(server->tool, code, "stopping") : TOOL_DONE;
    if (!quiet)
        say_what_remains(server);
    code = spool_close(server->spool);
    if (code && !status)
        status = say_error(server->tool, code, "closing the spool");
    survey_free(&server->last);
    return status;
}
