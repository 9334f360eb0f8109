/* torture_power.c - a test by power cut, in two halves: ids are printed as they are acknowledged, to be kept elsewhere;
 * when the machine is back, each of them is looked for. Only this can tell whether a disk keeps what it says it has
 * flushed.
 *
 * The first line names the spool, so that the other half needs the list alone. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "torture.h"

#define HEADING "spool-torture-powercut 1 "
#define PREFIX "torture-powercut-"

/* ---------------------------------------------------------------------------------------------------------- preparing
 */

static int store_one(struct spool *spool, uint64_t n, struct spool_id *ret_id)
{
    char body[BODY_ROOM];
    struct spool_event event = SPOOL_EVENT(.type = "torture", .agent = "powercut", .durability = SPOOL_DURABLE_POWER,
                                           .priority = (enum spool_priority)(n % SPOOL_PRIORITIES), .body = body);
    event.body_size = account_write_body(body, 0, n, n % 300);
    return spool_enqueue(spool, &event, ret_id);
}

/* A line at a time: what has been printed has been acknowledged, and what not, nobody counts. */
static int store_and_print(const struct tool *tool, struct spool *spool, uint64_t deadline_ns)
{
    char text[SPOOL_ID_TEXT_SIZE];
    struct spool_id id;
    for (uint64_t n = 1; now_steady_ns() < deadline_ns && !torture_is_interrupted(); n++) {
        int code = store_one(spool, n, &id);
        if (code == SPOOL_EFULL)
            return say_error(tool, code,
                             "as much as was asked for is stored: cut the power sooner, or raise --max-size");
        if (code)
            return say_error(tool, code, "storing");
        if (printf("%s\n", spool_id_format(&id, text)) < 0 || fflush(stdout)) {
            say(tool, "the list: %s", strerror(errno));
            return TOOL_FAILED;
        }
    }
    return TOOL_DONE;
}

int torture_prepare_powercut(const struct tool *tool, const char *parent, const char *name, uint64_t max_bytes,
                             uint64_t deadline_ns)
{
    char dir[TORTURE_PATH + 64], spool_dir[TORTURE_PATH + 96];
    struct spool *spool;
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = max_bytes, .flags = SPOOL_ALLOW_NETWORK_FS);
    snprintf(dir, sizeof dir, "%s/" PREFIX "%s", parent, name);
    snprintf(spool_dir, sizeof spool_dir, "%s/spool", dir);
    if (mkdir(dir, 0700)) {
        say(tool, "%s: %s", dir, strerror(errno));
        return TOOL_FAILED;
    }
    int code = spool_open(spool_dir, &options, &spool);
    if (code)
        return say_error(tool, code, spool_dir);
    printf(HEADING "%s\n", dir + strlen(parent) + 1);
    fflush(stdout);
    say(tool, "cut the power while ids are printed; then: spool torture %s --verify-powercut < LIST", parent);
    int status = store_and_print(tool, spool, deadline_ns);
    spool_close(spool);
    return status;
}

/* ---------------------------------------------------------------------------------------------------------- verifying
 */

struct verification {
    const struct tool *tool;
    struct spool *spool;
    uint64_t found, lost, shown;
};

static int look_for(struct verification *verification, const char *text)
{
    enum { SHOWN_MAX = 10 };
    struct spool_event *event;
    struct spool_id id;
    int code = spool_id_parse(text, &id);
    if (!code)
        code = spool_find(verification->spool, &id, &event);
    if (!code) {
        spool_event_free(event);
        verification->found++;
        return TOOL_DONE;
    }
    if (code != SPOOL_ENOTFOUND)
        return say_error(verification->tool, code, text);
    verification->lost++;
    if (verification->shown++ < SHOWN_MAX)
        say(verification->tool, "lost: %s", text);
    return TOOL_DONE;
}

/* A last line without its line feed was cut off with the power. */
static int look_for_all(struct verification *verification)
{
    char line[128];
    int status = TOOL_DONE;
    while (!status && fgets(line, sizeof line, stdin)) {
        size_t size = strcspn(line, "\n");
        if (!line[size])
            break;
        line[size] = 0;
        status = look_for(verification, line);
    }
    return status;
}

/* The name in the heading is one of ours, and not a way to somewhere else. */
static bool read_heading(char ret_name[128])
{
    char line[256];
    if (!fgets(line, sizeof line, stdin) || strncmp(line, HEADING PREFIX, strlen(HEADING PREFIX)) != 0)
        return false;
    line[strcspn(line, "\n")] = 0;
    snprintf(ret_name, 128, "%.127s", line + strlen(HEADING));
    return !strchr(ret_name, '/');
}

int torture_verify_powercut(const struct tool *tool, const char *parent)
{
    char name[128], dir[TORTURE_PATH + 192], count[UNITS_SIZE], lost[UNITS_SIZE];
    struct verification verification = {.tool = tool};
    struct spool_options options = SPOOL_OPTIONS(.flags = SPOOL_NO_CREATE | SPOOL_ALLOW_NETWORK_FS);
    if (!read_heading(name))
        return say_usage(tool, "standard input does not begin like a list of --prepare-powercut");
    snprintf(dir, sizeof dir, "%s/%s/spool", parent, name);
    int code = spool_open(dir, &options, &verification.spool);
    if (code)
        return say_error(tool, code, dir);
    int status = look_for_all(&verification);
    spool_close(verification.spool);
    if (status)
        return status;
    printf("%s acknowledged events are there, %s are lost: %s\n", units_count(verification.found, count),
           units_count(verification.lost, lost),
           verification.lost    ? "this disk, or its cache, does not keep what it says it has flushed"
           : verification.found ? "flushes are honest, as far as one power cut can tell"
                                : "the list is empty, so nothing is known");
    printf("When you are done: rm -r %s/%s\n", parent, name);
    return verification.lost ? TOOL_FAILED : TOOL_DONE;
}
