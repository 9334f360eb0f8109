/* run.c - spool run and spool drain: deliver until told to stop, or until nothing waits. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "serve.h"

enum { LOOK_EVERY_MS = 1000, DRAIN_SLICE_MS = 250 };
static const uint64_t NS_PER_MS = 1000000;

struct serve_args {
    const char *config;
    struct opt_number timeout, stop_timeout;
};

#define OPT(...) OPT_ENTRY(struct serve_args, __VA_ARGS__)
#define CONFIG_OPTION OPT('c', "config", OPT_TEXT, config, "FILE", "spool and sinks from a file, see spool.json(5)")
#define STOP_OPTION OPT(0, "stop-timeout", OPT_DURATION, stop_timeout, "D", "what sinks get to finish (default: 5 s)")

static const struct opt run_options[] = {CONFIG_OPTION, STOP_OPTION, {0}};
static const struct opt drain_options[] = {
    OPT('t', "timeout", OPT_DURATION, timeout, "S", "give up after S seconds (or 500ms, 10m); default: never"),
    CONFIG_OPTION,
    STOP_OPTION,
    {0},
};

static int serve_open(struct server *server, const struct tool *tool, const struct serve_args *args)
{
    if (args->stop_timeout.given && args->stop_timeout.value > UINT32_MAX)
        return say_usage(tool, "--stop-timeout: too long");
    int status = server_open(server, tool, args->config);
    if (!status && args->stop_timeout.given)
        server->stop_timeout_ms = (uint32_t)args->stop_timeout.value;
    return status;
}

/* ---------------------------------------------------------------------------------------------------------- run */

/* Looks at the sinks every second until a signal comes, which is returned; negative or positive library codes end it in
 * *ret_code. */
static int run_until_signal(struct server *server, int *ret_code)
{
    int number = 0;
    *ret_code = SPOOL_OK;
    while (!number && !*ret_code) {
        *ret_code = server_report(server);
        if (!*ret_code)
            number = server_signal(server, LOOK_EVERY_MS);
    }
    return number;
}

static int run_run(const struct tool *tool, void *user_args, const struct words *words)
{
    struct server server;
    const struct serve_args *args = user_args;
    (void)words;
    int code, status = serve_open(&server, tool, args);
    if (status)
        return status;
    server.verbose = true;
    say(tool, "delivering from %s; SIGTERM or Ctrl-C stops", args->config ? args->config : tool->dir);
    if (!server_report(&server) && !server.last.count)
        say(tool, "no sink is registered yet: spool sink add NAME KIND");
    int number = run_until_signal(&server, &code);
    progress_clear(&server.progress);
    if (code)
        status = say_error(tool, code, NULL);
    else
        say(tool, "%s: stopping, within %g s; again to leave at once", number == SIGINT ? "interrupted" : "terminated",
            server.stop_timeout_ms / 1000.0);
    int closed = server_close(&server, false);
    return status ? status : closed;
}

/* --------------------------------------------------------------------------------------------------------- drain */

struct draining {
    uint64_t deadline_ns, look_ns; /* steady clock: the end, and the next look at the sinks */
    int signal;                    /* that ended it, or 0 */
};

static uint32_t drain_slice_ms(const struct draining *draining)
{
    uint64_t now = now_steady_ns();
    uint64_t left_ms = draining->deadline_ns > now ? (draining->deadline_ns - now) / NS_PER_MS : 0;
    return left_ms < DRAIN_SLICE_MS ? (uint32_t)left_ms : DRAIN_SLICE_MS;
}

/* In slices, so that signals and progress are not kept waiting. Returns SPOOL_OK when nothing waits, SPOOL_ETIMEOUT
 * when the time is over or a signal came. */
static int drain_until(struct server *server, struct draining *draining)
{
    for (;;) {
        int code = spool_drain(server->spool, drain_slice_ms(draining));
        uint64_t now = now_steady_ns();
        if (code == SPOOL_ETIMEOUT)
            draining->signal = server_signal(server, 0);
        if (code != SPOOL_ETIMEOUT || draining->signal || now >= draining->deadline_ns)
            return code;
        if (now < draining->look_ns)
            continue;
        draining->look_ns = now + LOOK_EVERY_MS * NS_PER_MS;
        code = server_report(server);
        if (code)
            return code;
    }
}

static void drain_print_json(const struct server *server, bool empty)
{
    json_t *object = json_object();
    json_set(object, "empty", json_boolean(empty));
    json_set(object, "delivered_events", json_number(server_delivered(server)));
    json_set(object, "pending_events", json_number(server->last.pending_sum));
    json_set(object, "given_up_events", json_number(server_given_up(server)));
    json_print(object);
}

/* The last look, after which everything is said. */
static int drain_conclude(struct server *server, const struct serve_args *args, bool empty, int number)
{
    char delivered[UNITS_SIZE], span[UNITS_SIZE];
    int code = server_report(server);
    if (code)
        return say_error(server->tool, code, NULL);
    progress_clear(&server->progress);
    if (tool_wants_json(server->tool, false))
        drain_print_json(server, empty);
    if (empty && server_given_up(server))
        say(server->tool, "empty; %s delivered, %s given up: spool dlq list",
            units_count(server_delivered(server), delivered), units_count(server_given_up(server), span));
    else if (empty)
        say(server->tool, "empty; %s delivered", units_count(server_delivered(server), delivered));
    if (empty)
        return TOOL_DONE;
    char *holders = survey_holders(&server->last);
    say(server->tool, "not empty %s%s: %s", number ? "when interrupted" : "after ",
        number ? "" : units_span(args->timeout.value * NS_PER_MS, span), *holders ? holders : "new events came in");
    free(holders);
    return TOOL_FAILED;
}

static int drain_server(struct server *server, const struct serve_args *args)
{
    struct draining draining = {.deadline_ns = UINT64_MAX};
    if (args->timeout.given && args->timeout.value < UINT64_MAX / NS_PER_MS / 2)
        draining.deadline_ns = now_steady_ns() + args->timeout.value * NS_PER_MS;
    int code = server_report(server);
    if (!code && !server->last.count) {
        say(server->tool, "no sink is registered, so there is nothing to deliver to: spool sink add NAME KIND");
        return TOOL_NOTHING;
    }
    if (!code)
        code = drain_until(server, &draining);
    if (code && code != SPOOL_ETIMEOUT)
        return say_error(server->tool, code, NULL);
    return drain_conclude(server, args, !code, draining.signal);
}

static int drain_run(const struct tool *tool, void *user_args, const struct words *words)
{
    struct server server;
    const struct serve_args *args = user_args;
    (void)words;
    int status = serve_open(&server, tool, args);
    if (status)
        return status;
    status = drain_server(&server, args);
    int closed = server_close(&server, true);
    return status ? status : closed;
}

const struct tool_verb run_verb = {
    .name = "run",
    .usage = "[-c FILE] [options]",
    .summary = "Deliver to the sinks until SIGTERM or SIGINT",
    .notes = "Without -c: the sinks registered in the spool of -C, also those that are added while it runs.\n"
             "A second signal leaves at once.",
    .options = run_options,
    .run = run_run,
};
const struct tool_verb drain_verb = {
    .name = "drain",
    .usage = "[--timeout S] [-c FILE] [options]",
    .summary = "Deliver until nothing waits, also what a dead process left",
    .notes = "Exit status 1 if something still waits after S seconds; 3 if no sink is registered.",
    .options = drain_options,
    .run = drain_run,
};
