/* answers.c - which codes each call may answer when something below it fails, as spool.h says: errno (where the header
 * names errno, or leaves it to its general rule), and the codes named here. Never SPOOL_EINTERNAL, and never
 * SPOOL_EDAMAGED for what is whole: a call that failed is no damage. */
#include "sweep.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct documented {
    const char *call;
    bool strict; /* no errno */
    int codes[6];
};
static const struct documented documented[] = {
    {"spool_open", false, {SPOOL_EFULL}}, /* of a new one */
    {"spool_open_config", false, {SPOOL_EFULL}},
    {"spool_close", false, {SPOOL_ETIMEOUT, SPOOL_EUNCERTAIN, SPOOL_EFULL}},
    {"spool_enqueue", true, {SPOOL_EFULL, SPOOL_EUNCERTAIN}},
    {"spool_enqueue_many", false, {SPOOL_EFULL, SPOOL_EUNCERTAIN}},
    {"spool_flush", false, {SPOOL_ETIMEOUT, SPOOL_EUNCERTAIN}},
    {"spool_drain", false, {SPOOL_ETIMEOUT, SPOOL_ENOTFOUND}},
    {"spool_sink_add", false, {SPOOL_EFULL}},
    {"spool_sink_load", false, {SPOOL_EFULL}},
    {"spool_sink_load_registered", false, {SPOOL_EFULL}},
    {"spool_sink_remove", false, {SPOOL_EFULL, SPOOL_ETIMEOUT, SPOOL_ENOTFOUND}},
    {"spool_sink_pause", false, {SPOOL_EFULL, SPOOL_ENOTFOUND}},
    {"spool_sink_resume", false, {SPOOL_EFULL, SPOOL_ENOTFOUND}},
    {"spool_start", false, {0}},
    {"spool_stop", false, {SPOOL_ETIMEOUT, SPOOL_EFULL}},
    {"spool_stats", false, {0}},
    {"spool_sink_each", false, {0}},
    {"spool_dead_each", false, {0}},
    {"spool_dead_requeue", false, {SPOOL_EFULL}},
    {"spool_dead_purge", false, {SPOOL_EFULL}},
    {"spool_dead_get", false, {0}},
    {"spool_dead_to_json", false, {0}},
    {"spool_dead_edit", false, {SPOOL_EFULL}},
    {"spool_dead_import", false, {SPOOL_EFULL, SPOOL_EEXISTS}},
    {"spool_dead_requeue_to", false, {SPOOL_EFULL}},
    {"spool_sink_rewind", false, {SPOOL_EFULL, SPOOL_ETIMEOUT}},
    {"spool_sink_set_options", false, {SPOOL_EFULL}},
    {"spool_reload_config", false, {SPOOL_EFULL, SPOOL_ETIMEOUT}},
    {"spool_receipt", false, {0}},
    {"spool_metrics", false, {0}},
    {"spool_op_submit", false, {0}},
    {"spool_op_wait", true, {0}},
    {"spool_op_cancel", true, {0}},
    {"spool_op_each", false, {0}},
    {"spool_op_set_capacity", false, {0}},
    {"spool_reader_open", false, {0}},
    {"spool_reader_next", false, {SPOOL_ENOTFOUND, SPOOL_ETIMEOUT}},
    {"spool_find", false, {0}},
    {"spool_verify", false, {0}},
    {"spool_clock_now", false, {SPOOL_EFULL}},
};

static const struct documented *find(const char *call)
{
    for (size_t i = 0; i < sizeof documented / sizeof *documented; i++) {
        if (strcmp(documented[i].call, call) == 0)
            return &documented[i];
    }
    return NULL;
}

static bool is_documented(const char *call, int code)
{
    const struct documented *known = find(call);
    if (!known)
        return violation("the laboratory has no list of codes of %s", call);
    if (code > 0)
        return !known->strict;
    if (code == SPOOL_EDAMAGED && ledger->damaged)
        return true;
    for (size_t i = 0; i < sizeof known->codes / sizeof *known->codes; i++) {
        if (code == known->codes[i])
            return true;
    }
    return false;
}

bool answered(const char *call, int code)
{
    fault_pause();
    bool good = code == SPOOL_OK || is_documented(call, code);
    if (!good)
        violation("%s answered %s, which is not documented: %s", call, spool_error_name(code), spool_last_error());
    else if (code && !*spool_last_error())
        good = violation("%s answered %s without a message", call, spool_error_name(code));
    if (code && sweep_verbose)
        fprintf(stderr, "    %s: %s: %s\n", call, spool_error_name(code), spool_last_error());
    fault_resume();
    return code == SPOOL_OK;
}

bool must_work(const char *call, int code)
{
    return code == SPOOL_OK ||
           violation("without faults, %s answered %s: %s", call, spool_error_name(code), spool_last_error());
}
