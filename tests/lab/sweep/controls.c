/* controls.c - the library broken on purpose, by functions that the linker puts before its own (--wrap, flags.mk). Each
 * must be caught, or the sweep proves nothing. */
#include "sweep.h"

#include <stdlib.h>
#include <string.h>

#include "../../../spool/journal.h"
#include "../../../spool/log.h"
#include "../../../spool/store_inside.h"

const char *control_active;

const struct control controls[] = {
    {"false-ok", "a failed flush of the journal is answered OK", "enqueue-power", FAULT_SYNC, MODE_FROM, END_POWER, 4,
     "was acknowledged and is not there"},
    {"swallowed-commit", "a failed commit is taken for a good one", "commit", FAULT_LMDB_COMMIT, MODE_ONCE, END_EXIT, 4,
     "was acknowledged and is not there"},
    {"twice", "a failed commit is repeated although it was done", "commit", FAULT_LMDB_COMMIT, MODE_ONCE, END_CLOSE, 4,
     "is there 2 times"},
    {"leak", "memory is not freed", "open-existing", FAULT_OPEN_EMFILE, MODE_ONCE, END_CLOSE, 8, "leak"},
    {"undocumented", "a failed flush is answered SPOOL_EINTERNAL", "flush", FAULT_SYNC, MODE_FROM, END_CLOSE, 4,
     "SPOOL_EINTERNAL"},
    {"abort", "a failed commit ends the program", "commit", FAULT_LMDB_COMMIT, MODE_ONCE, END_CLOSE, 4, "signal 6"},
};
const size_t control_count = sizeof controls / sizeof *controls;

static bool is_active(const char *name)
{
    return control_active && strcmp(control_active, name) == 0;
}

int __real_journal_flush(struct journal *journal, uint64_t position, uint64_t deadline_ns);
int __wrap_journal_flush(struct journal *journal, uint64_t position, uint64_t deadline_ns);
int __wrap_journal_flush(struct journal *journal, uint64_t position, uint64_t deadline_ns)
{
    int code = __real_journal_flush(journal, position, deadline_ns);
    return is_active("false-ok") ? SPOOL_OK : code;
}

int __real_log_commit(struct log *log, struct log_run *runs, size_t n, const struct log_position *positions,
                      size_t position_count, uint64_t deadline_ns);
int __wrap_log_commit(struct log *log, struct log_run *runs, size_t n, const struct log_position *positions,
                      size_t position_count, uint64_t deadline_ns);
int __wrap_log_commit(struct log *log, struct log_run *runs, size_t n, const struct log_position *positions,
                      size_t position_count, uint64_t deadline_ns)
{
    int code = __real_log_commit(log, runs, n, positions, position_count, deadline_ns);
    if (code && is_active("swallowed-commit"))
        return SPOOL_OK;
    if (code && is_active("abort"))
        abort();
    if (code && is_active("twice"))
        __real_log_commit(log, runs, n, NULL, 0, deadline_ns);
    return code;
}

int __real_store_flush(struct store *store, uint64_t deadline_ns);
int __wrap_store_flush(struct store *store, uint64_t deadline_ns);
int __wrap_store_flush(struct store *store, uint64_t deadline_ns)
{
    int code = __real_store_flush(store, deadline_ns);
    return code && is_active("undocumented") ? SPOOL_EINTERNAL : code;
}

void __real_packer_free(struct packer *packer);
void __wrap_packer_free(struct packer *packer);
void __wrap_packer_free(struct packer *packer)
{
    if (!is_active("leak"))
        __real_packer_free(packer);
}
