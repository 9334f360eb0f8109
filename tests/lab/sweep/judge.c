/* judge.c - opens the directory after a run, without faults, and compares it with the ledger.
 *
 * What was acknowledged is there exactly once, with its bytes and its id; what failed is not there; nothing else is.
 * Verify finds nothing, and nothing is in quarantine/. Then the spool works: another event is taken and all sinks
 * drain, each given every event at least once, the file each exactly once, the dead letters those that are rejected;
 * and what the statistics call delivered is the number of events. */
#include "run.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DRAIN_LIMIT_MS = 60000, LINE_MAX_BYTES = 65536 };
static uint32_t count_of[EVENTS_MAX]; /* in the log */
static uint32_t total;

/* ---------------------------------------------------------------------------------------------------------- the log */

static bool note_event(const struct spool_event *event)
{
    uint32_t n;
    if (!body_number(event->body, event->body_size, &n))
        return violation("the log has an event that nobody enqueued");
    const struct ledger_event *known = &ledger->events[n];
    if (known->has_id && memcmp(&known->id, event->id, sizeof known->id) != 0)
        return violation("event %u has another id than it was answered", n);
    count_of[n]++;
    total++;
    return true;
}

static bool read_log(struct spool *spool)
{
    struct spool_reader *reader;
    const struct spool_event *event;
    memset(count_of, 0, sizeof count_of);
    total = 0;
    if (!must_work("spool_reader_open", spool_reader_open(spool, NULL, &reader)))
        return false;
    int code;
    while ((code = spool_reader_next(reader, DRAIN_LIMIT_MS, &event)) == SPOOL_OK) {
        if (!note_event(event))
            break;
    }
    spool_reader_close(reader);
    return code == SPOOL_OK || code == SPOOL_ENOTFOUND || must_work("spool_reader_next", code);
}

static bool may_be_missing(uint32_t n)
{
    const struct ledger_event *event = &ledger->events[n];
    return event->answer < ANSWER_PROCESS || (event->answer == ANSWER_PROCESS && ledger->power_is_cut) ||
           ledger->may_drop || (ledger->damaged && !ledger->whole[n]);
}

static bool may_be_there(uint32_t n)
{
    return ledger->events[n].answer != ANSWER_NONE && ledger->events[n].answer != ANSWER_FAILED;
}

static bool check_log(struct spool *spool)
{
    if (!read_log(spool))
        return false;
    for (uint32_t n = 0; n < EVENTS_MAX; n++) {
        if (ledger->is_baseline)
            ledger->whole[n] = count_of[n] > 0;
        if (count_of[n] > 1)
            return violation("event %u is there %u times", n, count_of[n]);
        if (count_of[n] == 0 && !may_be_missing(n))
            return violation("event %u was acknowledged and is not there", n);
        if (count_of[n] == 1 && !may_be_there(n))
            return violation("event %u was refused and is there", n);
    }
    return true;
}

/* --------------------------------------------------------------------------------------------------------- damage */

static void tell_finding(void *user, const struct spool_finding *finding)
{
    (void)user;
    violation("verify found %s: %s", finding->file, finding->what);
}

static bool check_quarantine(const char *dir)
{
    char path[512];
    snprintf(path, sizeof path, "%s/quarantine", dir);
    DIR *open_dir = opendir(path);
    struct dirent *entry;
    while (open_dir && (entry = readdir(open_dir))) {
        if (entry->d_name[0] != '.')
            violation("%s is in quarantine, but nothing was damaged", entry->d_name);
    }
    if (open_dir)
        closedir(open_dir);
    return !*ledger->violation;
}

static bool check_whole(struct spool *spool, const char *dir)
{
    struct spool_verify_report report = {.size = sizeof report};
    int code = spool_verify(spool, ledger->damaged ? NULL : tell_finding, NULL, NULL, &report);
    if (ledger->damaged)
        return true;
    struct spool_stats stats = SPOOL_STATS();
    if (!must_work("spool_verify", code) || !must_work("spool_stats", spool_stats(spool, &stats)))
        return false;
    if (stats.damaged_blocks || stats.damaged_events)
        return violation("damage is counted, but nothing was damaged");
    return check_quarantine(dir);
}

/* ------------------------------------------------------------------------------------------------------ the sinks */

/* Options that were set are kept until the sink is added anew, as it is below. */
static int check_option(void *user, const struct spool_sink_info *info)
{
    (void)user;
    bool set = strstr(info->options_json, OPTION_SET_TEXT) != NULL;
    if (strcmp(info->name, sink_names[SINK_GOOD]) == 0 && !set)
        violation("options were set, and are not there: %s", info->options_json);
    return 0;
}

/* From the event on that it was rewound to, all came once more. */
static bool check_rewound(void)
{
    for (uint32_t n = 0; n < EVENTS_MAX; n++) {
        uint32_t times = atomic_load(&ledger->delivered[SINK_GOOD][n]);
        if (ledger->again[n] && times < 2)
            return violation("the sink was rewound, and event %u was delivered %u times", n, times);
    }
    return true;
}

static bool check_deliveries(int kind)
{
    for (uint32_t n = 0; n < EVENTS_MAX; n++) {
        uint32_t times = atomic_load(&ledger->delivered[kind][n]);
        if (!times && count_of[n] && !(kind == SINK_REJECTING && sink_rejects(n)))
            return violation("event %u was not delivered to sink %s", n, sink_names[kind]);
        if (times && !count_of[n] && !may_be_there(n))
            return violation("event %u was refused and delivered to sink %s", n, sink_names[kind]);
    }
    return true;
}

static bool note_line(const char *line, uint32_t *lines)
{
    uint32_t n;
    if (!line_event(line, &n))
        return violation("the file sink's file has a line that is no event: %.80s", line);
    lines[n]++;
    return true;
}

static bool check_file(const char *dir)
{
    static uint32_t lines[EVENTS_MAX];
    static char line[LINE_MAX_BYTES];
    char path[512];
    sink_file_path(dir, path, sizeof path);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file) && note_line(line, lines))
        ;
    if (file)
        fclose(file);
    for (uint32_t n = 0; n < EVENTS_MAX && !*ledger->violation; n++) {
        if (lines[n] != count_of[n] && !(lines[n] == 1 && may_be_there(n) && may_be_missing(n)))
            violation("event %u is %u times in the file, %u times in the log", n, lines[n], count_of[n]);
    }
    return !*ledger->violation;
}

/* A commit whose failure was not certain may have been repeated; but never may more be counted than there are events.
 */
static int check_counts(void *user, const struct spool_sink_info *info)
{
    (void)user;
    if (info->pending_events || info->retrying_events)
        violation("sink %s is drained, but %llu events are pending", info->name,
                  (unsigned long long)info->pending_events);
    if (!ledger->requeued && !ledger->recounted &&
        info->delivered_events + info->dead_letters + info->dropped_events != total)
        violation("sink %s: %llu delivered, %llu dead, %llu dropped, but there were %u events", info->name,
                  (unsigned long long)info->delivered_events, (unsigned long long)info->dead_letters,
                  (unsigned long long)info->dropped_events, total);
    return 0;
}

static bool check_sinks(struct spool *spool, const char *dir)
{
    if (ledger->option_set)
        spool_sink_each(spool, check_option, NULL);
    bool counts = !ledger->may_drop && !ledger->damaged && !ledger->spare_sink && !ledger->power_is_cut;
    if (!sinks_add(spool, dir, true, must_work) || !must_work("spool_start", spool_start(spool)))
        return false;
    if (ledger->spare_sink && spool_sink_remove(spool, "spare") > 0)
        return violation("sink spare cannot be removed: %s", spool_last_error());
    if (!must_work("spool_drain", spool_drain(spool, DRAIN_LIMIT_MS)) || !read_log(spool))
        return false;
    for (int kind = 0; kind < SINK_FILE; kind++) {
        if (!check_deliveries(kind))
            return false;
    }
    if (counts)
        spool_sink_each(spool, check_counts, NULL);
    return (ledger->damaged || letters_check(spool, count_of)) && check_rewound() && check_file(dir);
}

/* ---------------------------------------------------------------------------------------------------------- all of it
 */

static bool check_more(struct spool *spool)
{
    uint32_t first = ledger->event_count;
    run_enqueue(spool, first, SPOOL_DURABLE_POWER);
    run_enqueue(spool, first + 1, SPOOL_DURABLE_PROCESS);
    if (ledger->events[first].answer != ANSWER_POWER || ledger->events[first + 1].answer != ANSWER_PROCESS)
        return violation("the spool takes no events any more: %s", spool_last_error());
    ledger->whole[first] = ledger->whole[first + 1] = true;
    return true;
}

void sweep_judge(const char *dir)
{
    struct spool *spool;
    struct spool_options options = sweep_options();
    if (!must_work("spool_open", spool_open(dir, &options, &spool)))
        return;
    if (check_log(spool) && check_whole(spool, dir) && check_more(spool))
        check_sinks(spool, dir);
    int code = spool_close(spool);
    if (!*ledger->violation)
        must_work("spool_close", code);
}
