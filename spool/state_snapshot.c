/* state_snapshot.c - sinks and cursors in a form of its own, kept at the head of each segment.
 *
 * When state.mdb is lost or damaged, the newest segment tells which sinks there were. Little-endian:
 *
 *    0  8  magic, "SpSnap\0\0"         8  4  version, 2             12  4  number of sinks
 *   16  8  next generation            24  8  next number of a copy  32  4  next sink id        36  4  zero
 *   40     per sink:
 *           (flags: 1 paused, 2 to be removed, 4 best effort)
 *           0  4  id                   4  4  flags                8  4  order   12  4  size of the configuration
 *          16  8  generation          24 32  cursor of each lane   56  1  size of the name     57  1  size of the kind
 *          58 32  start of each lane (version 1: absent)
 *                 name, kind, configuration
 *   end 4  CRC32C of all before it
 *
 * Valid if magic, sizes and CRC are right; bytes behind the CRC are not allowed. Version recipe: magic, version and the
 * CRC at the end stay; a change of the rest raises SNAPSHOT_VERSION, and state_restore() goes on reading the older
 * ones. */
#include "state_inside.h"

enum {
    SNAPSHOT_VERSION = 2,
    SNAPSHOT_HEADER = 40,
    SINK_FIXED = 90,
    SINK_FIXED_1 = 58, /* of version 1 */
    AT_CONFIG_SIZE = 12,
    AT_GENERATION = 16,
    AT_CURSOR = 24,
    AT_NAME_SIZE = 56,
    AT_KIND_SIZE = 57,
    AT_START = 58,
};
static const uint8_t SNAPSHOT_MAGIC[8] = "SpSnap\0";

static struct state_key config_key(uint32_t id)
{
    struct state_key key = state_key(TABLE_CONFIG);
    state_key_u32(&key, id);
    return key;
}

/* --------------------------------------------------------------------------------------------------------- writing */

static int put_sink(const struct sink_row *sink, const uint8_t *config, size_t config_size, struct buffer *out)
{
    uint8_t fixed[SINK_FIXED];
    put_u32(fixed, sink->id);
    put_u32(fixed + 4, (sink->paused ? 1 : 0) | (sink->removing ? 2 : 0) | (sink->best_effort ? 4 : 0));
    put_u32(fixed + 8, sink->order);
    put_u32(fixed + AT_CONFIG_SIZE, (uint32_t)config_size);
    put_u64(fixed + AT_GENERATION, sink->generation);
    for (int lane = 0; lane < LANES; lane++) {
        put_u64(fixed + AT_CURSOR + 8 * lane, sink->cursor[lane]);
        put_u64(fixed + AT_START + 8 * lane, sink->start[lane]);
    }
    fixed[AT_NAME_SIZE] = (uint8_t)strlen(sink->name);
    fixed[AT_KIND_SIZE] = (uint8_t)strlen(sink->kind);
    int code = buffer_put(out, fixed, sizeof fixed);
    if (!code)
        code = buffer_put(out, sink->name, fixed[AT_NAME_SIZE]);
    if (!code)
        code = buffer_put(out, sink->kind, fixed[AT_KIND_SIZE]);
    return code ? code : buffer_put(out, config, config_size);
}

static int put_sinks(struct state_txn *txn, struct buffer *out, uint32_t *count)
{
    struct sink_row sink;
    uint32_t at = 0;
    int code;
    while ((code = sink_row_next(txn, &at, &sink)) == SPOOL_OK) {
        struct state_key key = config_key(sink.id);
        uint8_t *config = NULL;
        size_t size = 0;
        code = state_blob_get(txn, &key, &config, &size);
        if (!code || code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED)
            code = put_sink(&sink, config, size, out);
        free(config);
        if (code)
            return code;
        ++*count;
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static int write_snapshot(struct state_txn *txn, struct buffer *out)
{
    uint8_t header[SNAPSHOT_HEADER] = {0}, crc[4];
    struct state_numbers numbers;
    uint32_t count = 0;
    int code = state_numbers_get(txn, &numbers);
    if (!code)
        code = buffer_put(out, header, sizeof header);
    if (!code)
        code = put_sinks(txn, out, &count);
    if (code)
        return code;
    memcpy(header, SNAPSHOT_MAGIC, sizeof SNAPSHOT_MAGIC);
    put_u32(header + 8, SNAPSHOT_VERSION);
    put_u32(header + 12, count);
    put_u64(header + 16, numbers.generation);
    put_u64(header + 24, numbers.copy);
    put_u32(header + 32, numbers.sink);
    memcpy(out->data, header, sizeof header);
    put_u32(crc, crc32c(0, out->data, out->size));
    return buffer_put(out, crc, sizeof crc);
}

int state_snapshot(struct state *state, uint64_t deadline_ns, struct buffer *out)
{
    struct state_txn txn;
    struct buffer snapshot = {0};
    int code = state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = write_snapshot(&txn, &snapshot);
    state_txn_abort(&txn);
    if (!code)
        code = buffer_put(out, snapshot.data, snapshot.size);
    buffer_free(&snapshot);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- reading */

struct snapshot_reader {
    const uint8_t *at, *end; /* of the sinks */
    uint32_t left;
    size_t fixed; /* bytes of a sink before its texts */
    struct state_numbers numbers;
};

struct snapshot_sink {
    struct sink_row row;
    const uint8_t *config;
    size_t config_size;
};

static int damaged(const char *what)
{
    return err_set(SPOOL_EDAMAGED, "the snapshot of sinks is damaged: %s", what);
}

static int begin_reading(const uint8_t *snapshot, size_t size, struct snapshot_reader *ret)
{
    if (size < SNAPSHOT_HEADER + 4 || memcmp(snapshot, SNAPSHOT_MAGIC, sizeof SNAPSHOT_MAGIC) != 0)
        return damaged("it does not begin as one");
    if (get_u32(snapshot + size - 4) != crc32c(0, snapshot, size - 4))
        return damaged("checksum does not match");
    uint32_t version = get_u32(snapshot + 8);
    if (version < 1 || version > SNAPSHOT_VERSION)
        return err_set(SPOOL_EVERSION, "the snapshot of sinks is of version %u, this library knows up to %d", version,
                       SNAPSHOT_VERSION);
    ret->fixed = version == 1 ? SINK_FIXED_1 : SINK_FIXED;
    ret->left = get_u32(snapshot + 12);
    ret->numbers.generation = get_u64(snapshot + 16);
    ret->numbers.copy = get_u64(snapshot + 24);
    ret->numbers.sink = get_u32(snapshot + 32);
    ret->at = snapshot + SNAPSHOT_HEADER;
    ret->end = snapshot + size - 4;
    return SPOOL_OK;
}

static int read_texts(struct snapshot_reader *reader, struct snapshot_sink *ret)
{
    const uint8_t *p = reader->at;
    size_t name = p[AT_NAME_SIZE], kind = p[AT_KIND_SIZE], config = get_u32(p + AT_CONFIG_SIZE);
    size_t avail = (size_t)(reader->end - p) - reader->fixed;
    if (!name || name > SINK_NAME_MAX || kind > SINK_KIND_MAX || config > STATE_CONFIG_MAX ||
        name + kind + config > avail)
        return damaged("the texts of a sink do not fit it");
    memcpy(ret->row.name, p + reader->fixed, name);
    memcpy(ret->row.kind, p + reader->fixed + name, kind);
    ret->config = p + reader->fixed + name + kind;
    ret->config_size = config;
    reader->at = ret->config + config;
    return SPOOL_OK;
}

/* SPOOL_ENOTFOUND behind the last. */
static int read_sink(struct snapshot_reader *reader, struct snapshot_sink *ret)
{
    const uint8_t *p = reader->at;
    memset(ret, 0, sizeof *ret);
    if (!reader->left)
        return p == reader->end ? err_set(SPOOL_ENOTFOUND, "no more sinks") : damaged("it is too long");
    if ((size_t)(reader->end - p) < reader->fixed)
        return damaged("it is too short");
    reader->left--;
    ret->row.id = get_u32(p);
    ret->row.paused = get_u32(p + 4) & 1;
    ret->row.removing = get_u32(p + 4) & 2;
    ret->row.best_effort = get_u32(p + 4) & 4;
    ret->row.order = get_u32(p + 8);
    ret->row.generation = get_u64(p + AT_GENERATION);
    for (int lane = 0; lane < LANES; lane++) {
        ret->row.cursor[lane] = get_u64(p + AT_CURSOR + 8 * lane);
        ret->row.start[lane] = reader->fixed > SINK_FIXED_1 ? get_u64(p + AT_START + 8 * lane) : 0;
    }
    return read_texts(reader, ret);
}

static int check_snapshot(const uint8_t *snapshot, size_t size)
{
    struct snapshot_reader reader;
    struct snapshot_sink sink;
    int code = begin_reading(snapshot, size, &reader);
    while (!code)
        code = read_sink(&reader, &sink);
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

/* ------------------------------------------------------------------------------------------------------- restoring */

/* What restoring does; looking first, so that nothing is written when nothing is missing, as nearly always. */
struct restoring {
    struct state_txn *txn;
    bool write;
    uint32_t missing; /* sinks */
    bool low;         /* numbers to be given out */
};

/* A sink that is there keeps its place: a lower cursor only delivers again. One that was removed since stays removed.
 */
static int restore_sink(struct restoring *restoring, struct snapshot_sink *sink)
{
    struct sink_row old;
    int code = sink_row_get(restoring->txn, sink->row.id, &old);
    if (code == SPOOL_ENOTFOUND || code == SPOOL_EDAMAGED)
        code = sink_row_find(restoring->txn, sink->row.name, &old);
    if (code != SPOOL_ENOTFOUND)
        return code;
    restoring->missing++;
    if (!restoring->write)
        return SPOOL_OK;
    struct state_key key = config_key(sink->row.id);
    code = state_blob_put(restoring->txn, &key, sink->config, sink->config_size);
    return code ? code : sink_row_put(restoring->txn, &sink->row);
}

static int raise_numbers(struct restoring *restoring, const struct state_numbers *least)
{
    struct state_numbers numbers;
    int code = state_numbers_get(restoring->txn, &numbers);
    if (code)
        return code;
    restoring->low = numbers.sink < least->sink || numbers.generation < least->generation || numbers.copy < least->copy;
    if (!restoring->low || !restoring->write)
        return SPOOL_OK;
    numbers.sink = numbers.sink < least->sink ? least->sink : numbers.sink;
    numbers.generation = numbers.generation < least->generation ? least->generation : numbers.generation;
    numbers.copy = numbers.copy < least->copy ? least->copy : numbers.copy;
    return state_numbers_put(restoring->txn, &numbers);
}

static int restore_in(struct restoring *restoring, const uint8_t *snapshot, size_t size)
{
    struct snapshot_reader reader;
    struct snapshot_sink sink;
    int code = begin_reading(snapshot, size, &reader);
    if (!code)
        code = raise_numbers(restoring, &reader.numbers);
    while (!code) {
        code = read_sink(&reader, &sink);
        if (!code)
            code = restore_sink(restoring, &sink);
    }
    return code == SPOOL_ENOTFOUND ? SPOOL_OK : code;
}

static int run_restore(struct state *state, bool write, const uint8_t *snapshot, size_t size, uint64_t deadline_ns,
                       struct restoring *ret)
{
    struct state_txn txn;
    *ret = (struct restoring){.txn = &txn, .write = write};
    int code = write ? state_txn_write(state, deadline_ns, &txn) : state_txn_read(state, deadline_ns, &txn);
    if (code)
        return code;
    code = restore_in(ret, snapshot, size);
    if (write)
        return state_txn_end(&txn, code);
    state_txn_abort(&txn);
    return code;
}

int state_restore(struct state *state, const uint8_t *snapshot, size_t size, uint64_t deadline_ns, uint32_t *ret_added)
{
    struct restoring restoring = {0};
    int code = check_snapshot(snapshot, size);
    if (!code)
        code = run_restore(state, false, snapshot, size, deadline_ns, &restoring);
    if (!code && (restoring.missing || restoring.low))
        code = run_restore(state, true, snapshot, size, deadline_ns, &restoring);
    if (!code && ret_added)
        *ret_added = restoring.missing;
    return code;
}
