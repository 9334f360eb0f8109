/* controls.c - the library broken on purpose, by functions that the linker puts before its own (--wrap, flags.mk). Each
 * must be caught, or the sweep proves nothing. */
#include "sweep.h"

#include <stdlib.h>
#include <string.h>

#include "../../../delivery/keys.h"
#include "../../../delivery/resources.h"
#include "../../../delivery/sinks/group.h"
#include "../../../spool/ahead.h"
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
    {"packed-on-failed", "what was packed during a commit that failed is committed as if it had not", "rotate",
     FAULT_LMDB_COMMIT, MODE_ONCE, END_CLOSE, 24, "was acknowledged and is not there"},
    {"leak", "memory is not freed", "open-existing", FAULT_OPEN_EMFILE, MODE_ONCE, END_CLOSE, 8, "leak"},
    {"undocumented", "a failed flush is answered SPOOL_EINTERNAL", "flush", FAULT_SYNC, MODE_FROM, END_CLOSE, 4,
     "SPOOL_EINTERNAL"},
    {"false-rewind", "a rewind that failed is answered OK", "rewind", FAULT_LMDB_COMMIT, MODE_ONCE, END_CLOSE, 8,
     "drained, but event 20"},
    {"false-edit", "an edit of a dead letter that failed is answered OK", "edit-letters", FAULT_LMDB_COMMIT, MODE_ONCE,
     END_CLOSE, 4, "the edit of event"},
    {"lost-move", "a dead letter that cannot be requeued to another sink is purged", "move-letters", FAULT_LMDB_COMMIT,
     MODE_ONCE, END_CLOSE, 4, "neither is there"},
    {"refused-runs", "an operation that was refused is ended all the same", "operations", FAULT_MEMORY, MODE_ONCE,
     END_CLOSE, 16, "was refused, and one of its hooks"},
    {"needs-nothing", "a sink is served without the resources that it names", "agents", FAULT_WAIT, MODE_ONCE,
     END_CLOSE, 12, "than allowed have the resource"},
    {"shares-agents", "events of an agent are given to several workers at once", "agents", FAULT_WAIT, MODE_ONCE,
     END_CLOSE, 12, "came before event"},
    {"member-lies", "what a group's member failed to take counts as delivered", "failover", FAULT_WRITE_EIO, MODE_ONCE,
     END_CLOSE, 12, "are needed"},
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

static _Atomic uint64_t packed_from; /* where what was packed ahead begins: one spool at a time */

void __real_ahead_begin(struct ahead *ahead, struct journal *journal, uint64_t from, size_t bytes_max);
void __wrap_ahead_begin(struct ahead *ahead, struct journal *journal, uint64_t from, size_t bytes_max);
void __wrap_ahead_begin(struct ahead *ahead, struct journal *journal, uint64_t from, size_t bytes_max)
{
    atomic_store(&packed_from, from);
    __real_ahead_begin(ahead, journal, from, bytes_max);
}

void __real_ahead_end(struct ahead *ahead, bool keep);
void __wrap_ahead_end(struct ahead *ahead, bool keep);
void __wrap_ahead_end(struct ahead *ahead, bool keep)
{
    __real_ahead_end(ahead, keep || is_active("packed-on-failed"));
}

bool __real_ahead_take(struct ahead *ahead, uint64_t from, struct packer **packer, uint64_t *ret_to);
bool __wrap_ahead_take(struct ahead *ahead, uint64_t from, struct packer **packer, uint64_t *ret_to);
bool __wrap_ahead_take(struct ahead *ahead, uint64_t from, struct packer **packer, uint64_t *ret_to)
{
    return __real_ahead_take(ahead, is_active("packed-on-failed") ? atomic_load(&packed_from) : from, packer, ret_to);
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

int __real_store_sink_rewind(struct store *store, const char *name, const uint64_t cursor[LANES], uint64_t *ret_again);
int __wrap_store_sink_rewind(struct store *store, const char *name, const uint64_t cursor[LANES], uint64_t *ret_again);
int __wrap_store_sink_rewind(struct store *store, const char *name, const uint64_t cursor[LANES], uint64_t *ret_again)
{
    int code = __real_store_sink_rewind(store, name, cursor, ret_again);
    if (!code || !is_active("false-rewind"))
        return code;
    *ret_again = 20; /* as many as there would have been */
    return SPOOL_OK;
}

int __real_store_dead_edit(struct store *store, const char *sink, const struct spool_id *id, const uint8_t *packed,
                           size_t size, uint64_t *ret_n);
int __wrap_store_dead_edit(struct store *store, const char *sink, const struct spool_id *id, const uint8_t *packed,
                           size_t size, uint64_t *ret_n);
int __wrap_store_dead_edit(struct store *store, const char *sink, const struct spool_id *id, const uint8_t *packed,
                           size_t size, uint64_t *ret_n)
{
    int code = __real_store_dead_edit(store, sink, id, packed, size, ret_n);
    if (!code || !is_active("false-edit"))
        return code;
    *ret_n = 1;
    return SPOOL_OK;
}

int __real_store_dead_requeue_to(struct store *store, const char *sink, const struct spool_id *id, const char *to,
                                 uint64_t *ret_n);
int __wrap_store_dead_requeue_to(struct store *store, const char *sink, const struct spool_id *id, const char *to,
                                 uint64_t *ret_n);
int __wrap_store_dead_requeue_to(struct store *store, const char *sink, const struct spool_id *id, const char *to,
                                 uint64_t *ret_n)
{
    int code = __real_store_dead_requeue_to(store, sink, id, to, ret_n);
    if (code && is_active("lost-move"))
        store_dead_purge(store, sink, id, ret_n);
    return code;
}

int __real_spool_op_submit(struct spool *spool, const struct spool_op_options *options, struct spool_op **ret_op);
int __wrap_spool_op_submit(struct spool *spool, const struct spool_op_options *options, struct spool_op **ret_op);
int __wrap_spool_op_submit(struct spool *spool, const struct spool_op_options *options, struct spool_op **ret_op)
{
    int code = __real_spool_op_submit(spool, options, ret_op);
    if (code && is_active("refused-runs"))
        options->done(NULL, options->user, SPOOL_OK);
    return code;
}

int __real_resources_each(const char *text, int (*each)(void *user, const struct resource_need *need), void *user);
int __wrap_resources_each(const char *text, int (*each)(void *user, const struct resource_need *need), void *user);
int __wrap_resources_each(const char *text, int (*each)(void *user, const struct resource_need *need), void *user)
{
    return is_active("needs-nothing") ? SPOOL_OK : __real_resources_each(text, each, user);
}

uint64_t __real_key_stripe(uint64_t key);
uint64_t __wrap_key_stripe(uint64_t key);
uint64_t __wrap_key_stripe(uint64_t key)
{
    static _Atomic uint32_t events;
    return is_active("shares-agents") ? 1ull << atomic_fetch_add(&events, 1) % 64 : __real_key_stripe(key);
}

int __real_group_deliver(struct group *group, struct member *member, struct spool_delivery *batch, size_t n,
                         size_t *ret_tried);
int __wrap_group_deliver(struct group *group, struct member *member, struct spool_delivery *batch, size_t n,
                         size_t *ret_tried);
int __wrap_group_deliver(struct group *group, struct member *member, struct spool_delivery *batch, size_t n,
                         size_t *ret_tried)
{
    int code = __real_group_deliver(group, member, batch, n, ret_tried);
    if (!code || !is_active("member-lies"))
        return code;
    for (size_t i = 0; i < *ret_tried; i++)
        SPOOL_DELIVERY_AT(batch, group->work_of[i])->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}
