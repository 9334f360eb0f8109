/* verify.c - spool verify: reads everything, checks every checksum, changes nothing; with --seen, marks what it finds as
 * known. */
#include <string.h>

#include "output.h"
#include "tool.h"

struct verify_args {
    bool seen;
};

static const struct opt verify_options[] = {
    OPT_ENTRY(struct verify_args, 0, "seen", OPT_FLAG, seen, NULL,
              "mark all damage as known: status and verify pass over it"),
    {0},
};

struct verifying {
    const struct tool *tool;
    struct progress progress;
    bool json;
};

static void on_finding(void *user, const struct spool_finding *finding)
{
    struct verifying *verifying = user;
    char events[UNITS_SIZE];
    progress_clear(&verifying->progress);
    if (verifying->json) {
        json_t *object = json_object();
        json_set(object, "file", json_text(finding->file));
        json_set(object, "what", json_text(finding->what));
        json_set(object, "events", json_number(finding->events));
        json_set(object, "seen", json_boolean(finding->seen));
        json_print(object);
        return;
    }
    text_print(stdout, finding->file, strlen(finding->file), SIZE_MAX);
    fputs(": ", stdout);
    text_print(stdout, finding->what, strlen(finding->what), SIZE_MAX);
    if (finding->events)
        printf(" (%s events lost)", units_count(finding->events, events));
    if (finding->seen)
        fputs(" (seen)", stdout);
    putchar('\n');
}

static void on_progress(void *user, uint64_t done_bytes, uint64_t all_bytes)
{
    struct verifying *verifying = user;
    char done[UNITS_SIZE], all[UNITS_SIZE];
    if (progress_due(&verifying->progress))
        progress_line(&verifying->progress, "verify: %s of %s, %.0f %%", units_bytes(done_bytes, done),
                      units_bytes(all_bytes, all), all_bytes ? 100.0 * (double)done_bytes / (double)all_bytes : 100.0);
}

static void print_report_json(const struct spool_verify_report *report)
{
    json_t *object = json_object();
    json_set(object, "segments", json_number(report->segments));
    json_set(object, "blocks", json_number(report->blocks));
    json_set(object, "events", json_number(report->events));
    json_set(object, "journals", json_number(report->journals));
    json_set(object, "rows", json_number(report->rows));
    json_set(object, "findings", json_number(report->findings));
    json_set(object, "seen", json_number(report->seen));
    json_print(object);
}

static void print_report(const struct spool_verify_report *report)
{
    char count[UNITS_SIZE];
    if (report->findings)
        printf("damaged: findings: %s", units_count(report->findings, count));
    else
        fputs(report->seen ? "no new damage" : "no damage", stdout);
    if (report->seen)
        printf(", seen before: %s", units_count(report->seen, count));
    printf("; read: %s events", units_count(report->events, count));
    printf(" (blocks: %s", units_count(report->blocks, count));
    printf(", segments: %s", units_count(report->segments, count));
    printf(", journals: %s", units_count(report->journals, count));
    printf(", rows of state: %s)\n", units_count(report->rows, count));
}

static int mark_seen(const struct tool *tool)
{
    struct spool *spool;
    char count[UNITS_SIZE];
    uint64_t findings = 0;
    int status = tool_open(tool, SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    int code = spool_damage_seen(spool, &findings);
    if (code)
        status = say_error(tool, code, NULL);
    else if (tool_wants_json(tool, false))
        json_print(json_pack("{so}", "marked", json_number(findings)));
    else
        printf("marked as seen: what was set aside so far, and %s finding%s\n", units_count(findings, count),
               findings == 1 ? "" : "s");
    spool_close(spool);
    return status;
}

static int verify_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct verify_args *args = user_args;
    if (args->seen)
        return mark_seen(tool);
    struct spool *spool;
    struct verifying verifying = {.tool = tool, .json = tool_wants_json(tool, false)};
    struct spool_verify_report report = {.size = sizeof report};
    (void)words;
    int status = tool_open(tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    progress_start(&verifying.progress, true);
    int code = spool_verify(spool, on_finding, on_progress, &verifying, &report);
    progress_clear(&verifying.progress);
    if (code && code != SPOOL_EDAMAGED)
        status = say_error(tool, code, NULL);
    else if (verifying.json)
        print_report_json(&report);
    else
        print_report(&report);
    spool_close(spool);
    return code ? TOOL_FAILED : status;
}

const struct tool_verb verify_verb = {
    .name = "verify",
    .usage = "[--seen]",
    .summary = "Check every checksum, change nothing; exit status 1 if something is damaged",
    .notes =
        "--seen says that you know of it, and have taken what you need out of quarantine/: exit status 0 from then on.",
    .options = verify_options,
    .run = verify_run,
};
