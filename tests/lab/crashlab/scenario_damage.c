/* scenario_damage.c - one byte is wrong on the medium; everything else goes on, also when that is interrupted. */
#include "scenarios.h"

#include <dirent.h>
#include <fcntl.h>
#include <lmdb.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct mark_rules damage = {.damage = 1, .no_check = 1};

/* ------------------------------------------------------------------------------------------------------- breaking
 * bytes */

static int flip_byte(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return scene_fail(errno, path);
    bool done = pread(fd, &byte, 1, at) == 1;
    byte ^= 0x55;
    done = done && pwrite(fd, &byte, 1, at) == 1;
    close(fd);
    return done ? 0 : scene_fail(EIO, path);
}

/* Where those bytes stand in the file; -1 nowhere. */
static off_t find_bytes(const char *path, const uint8_t *bytes, size_t size)
{
    struct stat st;
    off_t at = -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st))
        return -1;
    uint8_t *all = malloc((size_t)st.st_size);
    if (all && read(fd, all, (size_t)st.st_size) == st.st_size) {
        const uint8_t *found = memmem(all, (size_t)st.st_size, bytes, size);
        at = found ? found - all : -1;
    }
    free(all);
    close(fd);
    return at;
}

/* In whichever file of the folder the event stands. */
static int damage_event(const char *dir, const char *folder, uint32_t producer, uint32_t number, uint32_t size)
{
    enum { PART = 64 };
    uint8_t body[8192];
    char path[600];
    off_t at = -1;
    lab_event_body(producer, number, size, body);
    snprintf(path, sizeof path, "%s/spool/%s", dir, folder);
    DIR *files = opendir(path);
    for (struct dirent *entry; files && at < 0 && (entry = readdir(files));) {
        snprintf(path, sizeof path, "%s/spool/%s/%s", dir, folder, entry->d_name);
        at = entry->d_name[0] == '.' ? -1 : find_bytes(path, body, size < PART ? size : PART);
    }
    if (files)
        closedir(files);
    return at < 0 ? scene_fail(ENOENT, "finding the event to damage") : flip_byte(path, at + 20);
}

static void mark_damage(uint32_t producer, uint32_t number)
{
    const struct mark_answer mark = {.producer = producer, .number = number};
    lab_mark(MARK_DAMAGE, &mark, sizeof mark);
}

/* --------------------------------------------------------------------------------------------------- in the journal */

enum { RECORD_BYTES = 200 };

static bool leave_records(const char *dir, uint64_t seed)
{
    (void)seed;
    const struct scene_options options = {.flush_interval_ms = 60000};
    struct spool *spool = scene_open(dir, &options);
    struct scene_producer producer = {.spool = spool, .number = 1};
    for (int i = 0; spool && i < 14; i++) {
        if (scene_enqueue(&producer, RECORD_BYTES, SPOOL_DURABLE_POWER))
            _exit(1);
    }
    return true;
}

static int prepare_journal_damage(const char *dir, uint64_t seed)
{
    uint32_t number = 3 + (uint32_t)(seed % 8);
    lab_mark(MARK_RULES, &damage, sizeof damage);
    if (scene_child(leave_records, dir, seed) || damage_event(dir, "journal", 1, number, RECORD_BYTES))
        return -1;
    mark_damage(1, number);
    return 0;
}

static int run_open_and_use(const char *dir, uint64_t seed)
{
    lab_mark(MARK_SAFE, NULL, 0);
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 5};
    if (!spool || scene_enqueue_some(&producer, 3, 200, SPOOL_DURABLE_POWER, &seed))
        return -1;
    return scene_close(spool);
}

const struct lab_scenario scenario_journal_damage = {"journal-damage", "a record of a dead process's journal is broken",
                                                     prepare_journal_damage, run_open_and_use, NULL};

/* ------------------------------------------------------------------------------------------------------- in a block */

enum { GROUPS = 6, GROUP = 5, BLOCK_EVENT_BYTES = 3000 };

static int prepare_block_damage(const char *dir, uint64_t seed)
{
    uint32_t group = (uint32_t)(seed % GROUPS);
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    lab_mark(MARK_RULES, &damage, sizeof damage);
    for (int i = 0; spool && i < GROUPS; i++) {
        if (scene_enqueue_many(&producer, GROUP, BLOCK_EVENT_BYTES, SPOOL_DURABLE_PROCESS) || scene_commit(spool))
            return -1;
    }
    if (!spool || scene_close(spool) || damage_event(dir, "segments", 1, group * GROUP + 2, BLOCK_EVENT_BYTES))
        return -1;
    for (uint32_t i = 0; i < GROUP; i++)
        mark_damage(1, group * GROUP + i);
    return 0;
}

static int run_block_damage(const char *dir, uint64_t seed)
{
    lab_mark(MARK_SAFE, NULL, 0);
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 5};
    struct scene_sink sink = {.number = 0, .name = "reader"};
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool) ||
        scene_enqueue_some(&producer, 4, 200, SPOOL_DURABLE_POWER, &seed) || scene_drain(spool))
        return -1;
    return scene_close(spool);
}

const struct lab_scenario scenario_block_damage = {"block-damage",
                                                   "a block is broken: it is set aside, the others go on",
                                                   prepare_block_damage, run_block_damage, NULL};

/* ----------------------------------------------------------------------------------------------------- in the state */

enum { TABLE_OF_SINKS = 2, MDB_PAGE = 4096 };

/* Where the first row of sinks stands in the file: LMDB gives an address, and its page begins with its number. */
static off_t find_sink_row(const char *path)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_cursor *cursor;
    uint8_t first = TABLE_OF_SINKS;
    MDB_val key = {1, &first}, value;
    uint64_t page;
    if (mdb_env_create(&env) || mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_RDONLY, 0600) ||
        mdb_txn_begin(env, NULL, MDB_RDONLY, &txn) || mdb_dbi_open(txn, NULL, 0, &dbi) ||
        mdb_cursor_open(txn, dbi, &cursor) || mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE))
        return -1;
    uintptr_t at = (uintptr_t)value.mv_data;
    memcpy(&page, (const void *)(at & ~(uintptr_t)(MDB_PAGE - 1)), sizeof page);
    off_t offset = (off_t)(page * MDB_PAGE + at % MDB_PAGE + value.mv_size / 2);
    mdb_cursor_close(cursor);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return offset;
}

static enum scene_answer refuses_one(uint32_t producer, uint32_t number, uint32_t attempt)
{
    (void)producer, (void)attempt;
    return number == 3 ? ANSWER_REJECT : ANSWER_ACCEPT;
}

static int prepare_salvage(const char *dir, uint64_t seed)
{
    char path[400];
    struct spool *spool = scene_open(dir, NULL);
    struct scene_producer producer = {.spool = spool, .number = 1};
    struct scene_sink sink = {.number = 0, .name = "held", .answer = refuses_one};
    lab_mark(MARK_RULES, &damage, sizeof damage);
    if (!spool || scene_sink_add(spool, &sink) || spool_start(spool) ||
        scene_enqueue_some(&producer, 6, 200, SPOOL_DURABLE_POWER, &seed) || scene_drain(spool) || scene_stop(spool) ||
        scene_enqueue_some(&producer, 6, 200, SPOOL_DURABLE_POWER, &seed) || scene_close(spool))
        return -1;
    snprintf(path, sizeof path, "%s/spool/state.mdb", dir);
    off_t at = find_sink_row(path);
    return at < 0 ? scene_fail(ENOENT, "finding the row of a sink") : flip_byte(path, at);
}

const struct lab_scenario scenario_salvage = {"salvage", "the row of a sink is broken: the state is salvaged",
                                              prepare_salvage, run_open_and_use, NULL};
