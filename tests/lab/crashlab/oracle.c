/* oracle.c - judges an image: opens it as a program does after the crash, compares it with what was promised, opens it
 * once more, and uses it.
 *
 * The clock of the first part stands an hour back, so that a new id is greater than the old ones only because the
 * library found those on the disk. */
#include "oracle.h"

#include <dirent.h>

enum { JOURNAL_BYTES = 64 << 10, MAX_BYTES = 64 << 20, STOP_TIMEOUT_MS = 5000 };

/* ------------------------------------------------------------------------------------------------- opening, closing */

static _Atomic bool clock_is_late;

static uint64_t oracle_clock(void *user)
{
    (void)user;
    return real_ns() - (atomic_load(&clock_is_late) ? 3600ull * 1000 * NS_PER_MS : 0);
}

static int open_spool(const char *dir, uint32_t flags, struct spool **ret)
{
    char path[300];
    snprintf(path, sizeof path, "%s/spool", dir);
    const struct spool_options options =
        SPOOL_OPTIONS(.journal_bytes = JOURNAL_BYTES, .max_bytes = MAX_BYTES, .clock_ns = oracle_clock, .workers = 1,
                      .stop_timeout_ms = STOP_TIMEOUT_MS, .flags = flags);
    return spool_open(path, &options, ret);
}

static bool oracle_open(struct oracle *oracle)
{
    int code = open_spool(oracle->dir, oracle->promise.opened ? SPOOL_NO_CREATE : 0, &oracle->spool);
    if (code)
        oracle->spool = NULL;
    return !code || oracle_fails(oracle, code, "it does not open");
}

static bool oracle_close(struct oracle *oracle)
{
    int code = spool_close(oracle->spool);
    oracle->spool = NULL;
    return !code || oracle_fails(oracle, code, "closing it");
}

bool oracle_fails(struct oracle *oracle, int code, const char *doing)
{
    snprintf(oracle->why, oracle->why_size, "%s: %s: %s", doing, spool_error_name(code),
             code < 0 ? spool_last_error() : spool_strerror(code));
    return false;
}

int lab_recover(const struct lab_scenario *scenario, const char *dir)
{
    struct spool *spool;
    control_begin();
    if (scenario->go_on)
        return scenario->go_on(dir, 1);
    int code = open_spool(dir, 0, &spool);
    return code ? code : spool_close(spool);
}

/* ---------------------------------------------------------------------------------------------------------- looking */

static bool read_and_judge(struct oracle *oracle)
{
    int code = found_read(oracle->spool, &oracle->found);
    if (code)
        return oracle_fails(oracle, code, "reading it");
    const struct judge judge = {&oracle->promise, &oracle->found, oracle->why, oracle->why_size};
    return judge_all(&judge);
}

/* Opened again, nothing may have changed. */
static bool look_again(struct oracle *oracle)
{
    struct found again = {0};
    if (!oracle_close(oracle) || !oracle_open(oracle))
        return false;
    int code = found_read(oracle->spool, &again);
    bool right = code ? oracle_fails(oracle, code, "reading it again")
                      : !found_differs(&oracle->found, &again, oracle->why, oracle->why_size);
    found_free(&again);
    return right;
}

/* ----------------------------------------------------------------------------------------------------------- damage */

struct findings {
    struct oracle *oracle;
    bool any;
};

static void keep_finding(void *user, const struct spool_finding *finding)
{
    struct findings *findings = user;
    if (!findings->any)
        snprintf(findings->oracle->why, findings->oracle->why_size, "spool_verify: %s: %s", finding->file,
                 finding->what);
    findings->any = true;
}

static bool verifies(struct oracle *oracle)
{
    struct spool_verify_report report = {.size = sizeof report};
    struct findings findings = {.oracle = oracle};
    int code = spool_verify(oracle->spool, keep_finding, NULL, &findings, &report);
    if (findings.any)
        return oracle->promise.rules.damage;
    return !code || oracle_fails(oracle, code, "spool_verify");
}

static bool quarantine_is_empty(struct oracle *oracle)
{
    char path[300];
    snprintf(path, sizeof path, "%s/spool/quarantine", oracle->dir);
    DIR *dir = opendir(path);
    if (!dir)
        return oracle_fails(oracle, errno, path);
    bool empty = true;
    for (struct dirent *entry; empty && (entry = readdir(dir));) {
        empty = entry->d_name[0] == '.' || oracle->promise.rules.damage;
        if (!empty)
            snprintf(oracle->why, oracle->why_size, "quarantine/ has %s", entry->d_name);
    }
    closedir(dir);
    return empty;
}

/* ------------------------------------------------------------------------------------------------------------ using */

static bool id_is_new(struct oracle *oracle, const struct spool_id *id)
{
    char old[SPOOL_ID_TEXT_SIZE], new[SPOOL_ID_TEXT_SIZE];
    struct spool_id newest = oracle->promise.newest;
    for (size_t i = 0; i < oracle->found.n; i++) {
        if (memcmp(&oracle->found.events[i].id, &newest, sizeof newest) > 0)
            newest = oracle->found.events[i].id;
    }
    if (memcmp(id, &newest, sizeof newest) > 0)
        return true;
    snprintf(oracle->why, oracle->why_size, "a new id is %s, though %s was handed out before", spool_id_format(id, new),
             spool_id_format(&newest, old));
    return false;
}

/* Events of our own, one of each priority. */
static bool enqueue_probes(struct oracle *oracle)
{
    uint8_t body[EVENT_BODY_MIN];
    struct spool_id id;
    for (uint32_t i = 0; i < SPOOL_PRIORITIES; i++) {
        lab_event_body(PROBE_PRODUCER, i, sizeof body, body);
        const struct spool_event event =
            SPOOL_EVENT(.type = "lab", .priority = (enum spool_priority)i, .durability = SPOOL_DURABLE_PROCESS,
                        .content_type = "application/octet-stream", .body = body, .body_size = sizeof body);
        int code = spool_enqueue(oracle->spool, &event, &id);
        if (code)
            return oracle_fails(oracle, code, "enqueueing into it");
        if (!id_is_new(oracle, &id))
            return false;
    }
    int code = spool_flush(oracle->spool, STOP_TIMEOUT_MS);
    return !code || oracle_fails(oracle, code, "flushing it");
}

static bool judge_image(struct oracle *oracle)
{
    atomic_store(&clock_is_late, true);
    if (!oracle_open(oracle) || !read_and_judge(oracle) || !quarantine_is_empty(oracle))
        return false;
    if (!look_again(oracle) || !verifies(oracle) || !enqueue_probes(oracle))
        return false;
    atomic_store(&clock_is_late, false);
    return oracle_deliver(oracle) && quarantine_is_empty(oracle);
}

int lab_oracle(const struct lab_scenario *scenario, const char *dir, const struct lab_mark *marks, size_t n,
               enum lab_crash crash, char *why, size_t why_size)
{
    (void)scenario;
    struct oracle oracle = {.dir = dir, .why = why, .why_size = why_size};
    const char *control = lab_control;
    if (!control_is_of_recovery())
        lab_control = NULL;
    control_begin();
    snprintf(why, why_size, "all is well");
    if (promise_build(marks, n, crash, &oracle.promise)) {
        snprintf(why, why_size, "out of memory");
        return -1;
    }
    bool right = judge_image(&oracle);
    if (oracle.spool)
        spool_close(oracle.spool);
    found_free(&oracle.found);
    promise_free(&oracle.promise);
    lab_control = control;
    return right ? 0 : -1;
}
