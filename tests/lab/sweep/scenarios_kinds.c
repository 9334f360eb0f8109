/* scenarios_kinds.c - scenarios about sinks that are more than a function: filters, plugins, groups of sinks. The sink is
 * called "spare": the judge removes it. */
#include "run.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DRAIN_MS = 400, LINE_BYTES = 65536 };

void run_count_lines(const char *dir, const char *name, uint32_t lines[EVENTS_MAX])
{
    static char line[LINE_BYTES];
    char path[512];
    fault_pause();
    beside(dir, name, path, sizeof path);
    FILE *file = fopen(path, "r");
    bool piece = false;
    while (file && fgets(line, sizeof line, file)) {
        uint32_t n;
        if (piece)
            violation("%s has a piece of a line in its middle", name);
        if (line_event(line, &n))
            lines[n]++;
        else
            piece = true;
    }
    if (file)
        fclose(file);
    fault_resume();
}

/* -------------------------------------------------------------------------------------------------------------- filter */

void run_filter(const char *dir)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    ledger->spare_sink = true;
    fault_arm(true);
    bool added = answered("spool_sink_add", sink_add_spare(spool));
    bool drained =
        answered("spool_start", spool_start(spool)) && added && answered("spool_drain", spool_drain(spool, DRAIN_MS));
    for (uint32_t n = 1; drained && n < ledger->event_count; n += 2) {
        if (!atomic_load(&ledger->spare[n]))
            violation("drained, but event %u passes the filter and was not delivered", n);
    }
    run_end_of(spool);
}

/* -------------------------------------------------------------------------------------------------------------- plugin */

static void plugin_path(char *buf, size_t size)
{
    char exe[300];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    char *folder = strstr(exe, "/lab/");
    if (folder)
        *folder = '\0';
    snprintf(buf, size, "%s/tests/plugins/libspool-sink-echo.so", exe);
}

/* Only the loading is disturbed: the plugin is a test's, and what it does with a bad disk is its own affair. */
void run_plugin(const char *dir)
{
    static uint32_t lines[EVENTS_MAX];
    char path[512], config[640], plugin[400];
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    beside(dir, "out/echo", path, sizeof path);
    snprintf(config, sizeof config, "{\"path\":\"%s\"}", path);
    plugin_path(plugin, sizeof plugin);
    struct spool_sink_options sink = SPOOL_SINK_OPTIONS(.plugin = plugin, .retry_base_ms = 1, .retry_cap_ms = 20);
    ledger->spare_sink = ledger->keeps_plugin = true;
    fault_arm(true);
    bool loaded = answered("spool_sink_load", spool_sink_load(spool, "spare", "echo", config, &sink));
    fault_arm(false);
    if (!loaded)
        must_work("spool_sink_load", spool_sink_load(spool, "spare", "echo", config, &sink));
    must_work("spool_start", spool_start(spool));
    must_work("spool_drain", spool_drain(spool, 60000));
    run_count_lines(dir, "out/echo", lines);
    for (uint32_t n = 0; n < ledger->event_count; n++) {
        if (lines[n] != 1)
            violation("event %u is %u times in what the plugin wrote", n, lines[n]);
    }
    run_end_of(spool);
}

/* -------------------------------------------------------------------------------------------------------------- groups */

static int add_group(struct spool *spool, const char *dir, const char *kind, unsigned members)
{
    static char config[2400];
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.retry_base_ms = 1, .retry_cap_ms = 20, .batch_events_max = 16);
    int used = snprintf(config, sizeof config, "{\"retry_base\":\"1ms\",\"retry_cap\":\"20ms\",\"members\":[");
    for (unsigned i = 0; i < members; i++) {
        char path[512], name[16];
        snprintf(name, sizeof name, "out/%u", i);
        beside(dir, name, path, sizeof path);
        used += snprintf(config + used, sizeof config - (size_t)used, "%s{\"kind\":\"file\",\"path\":\"%s\"}",
                         i > 0 ? "," : "", path);
    }
    snprintf(config + used, sizeof config - (size_t)used, "]}");
    return spool_sink_load(spool, "spare", kind, config, &options);
}

/* Drained means that so many members have every event. */
static void check_members(const char *dir, unsigned members, unsigned accept)
{
    static unsigned have[EVENTS_MAX];
    for (unsigned i = 0; i < members; i++) {
        static uint32_t lines[EVENTS_MAX];
        char name[16];
        memset(lines, 0, sizeof lines);
        snprintf(name, sizeof name, "out/%u", i);
        run_count_lines(dir, name, lines);
        for (uint32_t n = 0; n < ledger->event_count; n++)
            have[n] += lines[n] > 0;
    }
    for (uint32_t n = 0; n < ledger->event_count; n++) {
        if (have[n] < accept)
            violation("drained, but event %u is in %u of %u members, %u are needed", n, have[n], members, accept);
    }
}

static void deliver_to_group(const char *dir, const char *kind, unsigned members, unsigned accept)
{
    struct spool_options options = sweep_options();
    struct spool *spool = run_open(dir, &options);
    ledger->spare_sink = true;
    fault_arm(true);
    bool added = answered("spool_sink_load", add_group(spool, dir, kind, members));
    if (answered("spool_start", spool_start(spool)) && added && answered("spool_drain", spool_drain(spool, DRAIN_MS)))
        check_members(dir, members, accept);
    run_end_of(spool);
}

void run_failover(const char *dir)
{
    deliver_to_group(dir, "failover", 2, 1);
}

void run_quorum(const char *dir)
{
    deliver_to_group(dir, "quorum", 3, 2);
}
