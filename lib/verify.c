/* verify.c - spool_verify() and spool_damage_seen(): findings, and which of them an operator has seen. */
#include "handle.h"

struct verification {
    struct spool *spool;
    void (*each)(void *user, const struct spool_finding *finding);
    void (*progress)(void *user, uint64_t done_bytes, uint64_t all_bytes);
    void *user;
    bool marking;
    uint64_t seen;
    int code; /* the first failure of marking */
    char message[200];
};

static void mark(struct verification *v, const struct spool_finding *finding)
{
    int code = store_seen_mark(v->spool->store, finding);
    if (!code || v->code)
        return;
    v->code = code;
    snprintf(v->message, sizeof v->message, "%s", err_last());
}

static void take(void *user, const struct spool_finding *found)
{
    struct verification *v = user;
    struct spool_finding finding = *found;
    finding.seen = store_seen_has(v->spool->store, found);
    v->seen += finding.seen;
    if (v->marking && !finding.seen)
        mark(v, found);
    if (v->each)
        v->each(v->user, &finding);
}

static void pass_on(void *user, uint64_t done_bytes, uint64_t all_bytes)
{
    const struct verification *v = user;
    if (v->progress)
        v->progress(v->user, done_bytes, all_bytes);
}

static int run(struct verification *v, struct spool_verify_report *report)
{
    int code = store_verify(v->spool->store, take, pass_on, v, report);
    if (code && code != SPOOL_EDAMAGED)
        return code;
    report->seen = v->seen;
    report->findings -= v->seen;
    return report->findings
               ? err_set(SPOOL_EDAMAGED, "%s: %llu finding(s)", v->spool->dir, (unsigned long long)report->findings)
               : SPOOL_OK;
}

int spool_verify(struct spool *spool, void (*each)(void *user, const struct spool_finding *finding),
                 void (*progress)(void *user, uint64_t done_bytes, uint64_t all_bytes), void *user,
                 struct spool_verify_report *ret_report)
{
    struct verification v = {.spool = spool, .each = each, .progress = progress, .user = user};
    struct spool_verify_report report = {.size = sizeof report};
    int code = handle_check(spool);
    if (!code)
        code = run(&v, &report);
    if ((code && code != SPOOL_EDAMAGED) || !ret_report)
        return code;
    int given = struct_give(ret_report, &report, sizeof report, "spool_verify_report");
    return given ? given : code;
}

int spool_damage_seen(struct spool *spool, uint64_t *ret_findings)
{
    struct verification v = {.spool = spool, .marking = true};
    struct spool_verify_report report = {.size = sizeof report};
    int code = handle_check(spool);
    if (!code && store_is_read_only(spool->store))
        code = err_set(SPOOL_EREADONLY, "%s is open for reading only", spool->dir);
    if (!code)
        code = run(&v, &report);
    if (code && code != SPOOL_EDAMAGED)
        return code;
    code = v.code ? err_set(v.code, "%s", v.message) : store_seen_all(spool->store);
    if (!code && ret_findings)
        *ret_findings = report.findings;
    return code;
}
