/* state_verify.c - reads every page and row of the state and checks that they agree; changes nothing.
 *
 * The pages under one shared lock, then the rows in chunks, each under its own: a busy spool goes on in between, so
 * what spans rows (an event and its pieces) is compared within one transaction. Findings are told without a lock. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "pagecheck.h"
#include "state_inside.h"

enum { FINDINGS = 32, WHAT_MAX = 200 };

struct state_verification {
    struct state *state;
    uint64_t deadline_ns;
    void (*each)(void *user, const struct spool_finding *finding);
    void *user;
    struct spool_verify_report *report;
    char what[FINDINGS][WHAT_MAX]; /* of the chunk */
    uint64_t events[FINDINGS];
    unsigned n;
};

/* A message that begins with the file's name says it but once. */
static void find(struct state_verification *v, uint64_t events, const char *what)
{
    static const char prefix[] = STATE_FILE ": ";
    bool named = strncmp(what, prefix, sizeof prefix - 1) == 0;
    snprintf(v->what[v->n], WHAT_MAX, "%s", named ? what + sizeof prefix - 1 : what);
    v->events[v->n++] = events;
}

static void tell(struct state_verification *v)
{
    for (unsigned i = 0; i < v->n; i++) {
        const struct spool_finding finding = {
            .size = sizeof finding, .file = STATE_FILE, .what = v->what[i], .events = v->events[i]};
        if (v->each)
            v->each(v->user, &finding);
    }
    v->report->findings += v->n;
    v->n = 0;
}

/* ------------------------------------------------------------------------------------------------------- the pages */

static int check_file(struct state_verification *v)
{
    const struct dir *dir = v->state->options.dir;
    int fd = dir_open_file(dir, dir->fd, STATE_FILE, O_RDONLY);
    if (fd == -ENOENT)
        return SPOOL_OK; /* read only, and none was made yet */
    if (fd < 0)
        return -fd;
    int code = pagecheck(fd, STATE_FILE);
    close(fd);
    if (code == SPOOL_EDAMAGED)
        find(v, 0, err_last());
    return code;
}

static int verify_pages(struct state_verification *v)
{
    struct lock *lock = v->state->options.lock;
    int code = lock_take(lock, LOCK_SHARED, v->deadline_ns);
    if (code)
        return err_prefix(code, "state.lock");
    code = check_file(v);
    lock_drop(lock, LOCK_SHARED);
    tell(v);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- the rows */

static int check_event(struct state_txn *txn, const struct state_row *view)
{
    struct copy_row copy;
    uint8_t *packed;
    int code = copy_row_parse(view, &copy);
    if (!code)
        code = copy_load(txn, &copy, &packed);
    if (!code)
        free(packed);
    return code;
}

static int check_blob(struct state_txn *txn, const struct state_key *key)
{
    struct state_key prefix = *key;
    uint8_t *bytes;
    size_t size;
    prefix.size -= 4;
    if (get_be32(key->bytes + prefix.size) != 0)
        return SPOOL_OK; /* checked with its first piece */
    int code = state_blob_get(txn, &prefix, &bytes, &size);
    if (!code)
        free(bytes);
    return code;
}

static int check_content(struct state_txn *txn, const struct state_key *key, const struct state_row *view)
{
    struct sink_row sink;
    switch (key->bytes[0]) {
    case TABLE_SINK:
        return sink_row_parse(view, &sink);
    case TABLE_DEAD:
    case TABLE_RETRY:
        return check_event(txn, view);
    case TABLE_CHECKPOINT:
    case TABLE_CONFIG:
        return key->size == 9 ? check_blob(txn, key) : err_set(SPOOL_EDAMAGED, "a key of %zu bytes", key->size);
    case TABLE_META:
    case TABLE_RANGES:
    case TABLE_PIECE:
    case TABLE_DAMAGE:
        return SPOOL_OK; /* the checksum says it all; pieces are read with their event */
    default:
        return err_set(SPOOL_EDAMAGED, "a row of an unknown table");
    }
}

static int check_row(struct state_verification *v, struct state_txn *txn, const struct state_key *key,
                     const MDB_val *value)
{
    char where[80], what[WHAT_MAX];
    struct state_row view;
    int code = state_table_check(v->state, key, value, &view);
    if (!code)
        code = check_content(txn, key, &view);
    v->report->rows++;
    if (code != SPOOL_EDAMAGED)
        return code;
    snprintf(what, sizeof what, "%s: %.110s", state_table_describe(key->bytes, key->size, where), err_last());
    find(v, key->bytes[0] == TABLE_DEAD || key->bytes[0] == TABLE_RETRY, what);
    return SPOOL_OK;
}

/* SPOOL_ENOTFOUND behind the last row. */
static int check_chunk(struct state_verification *v, struct state_txn *txn, struct state_key *at)
{
    int code = SPOOL_OK;
    for (int i = 0; i < STATE_CHUNK_ROWS && v->n < FINDINGS && !code; i++) {
        MDB_val value;
        code = state_table_next_raw(txn, at, 0, &value);
        if (!code)
            code = check_row(v, txn, at, &value);
    }
    return code;
}

static int verify_rows(struct state_verification *v)
{
    struct state_key at = {.size = 0};
    int code = SPOOL_OK;
    while (!code) {
        struct state_txn txn;
        code = state_txn_read(v->state, v->deadline_ns, &txn);
        if (code)
            return code;
        code = check_chunk(v, &txn, &at);
        txn.note_count = 0; /* verifying tells, it does not count */
        state_txn_abort(&txn);
        tell(v);
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

int state_verify(struct state *state, uint64_t deadline_ns,
                 void (*each)(void *user, const struct spool_finding *finding), void *user,
                 struct spool_verify_report *report)
{
    struct state_verification *v = calloc(1, sizeof *v);
    if (!v)
        return err_errno(ENOMEM, "verifying " STATE_FILE);
    *v = (struct state_verification){
        .state = state, .deadline_ns = deadline_ns, .each = each, .user = user, .report = report};
    uint64_t before = report->findings;
    int code = verify_pages(v);
    if (!code)
        code = verify_rows(v);
    free(v);
    if (code && code != SPOOL_EDAMAGED)
        return code;
    return report->findings == before ? SPOOL_OK
                                      : err_set(SPOOL_EDAMAGED, STATE_FILE ": %llu finding(s)",
                                                (unsigned long long)(report->findings - before));
}
