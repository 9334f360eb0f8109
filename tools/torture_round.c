/* torture_round.c - rounds: each makes a spool of its own, does something to its processes or files, and ends with the
 * account. What a round does follows from the seed and its number. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "torture.h"

enum {
    WORK_MS = 60000, /* a worker that takes longer is taken for hung */
    DRAIN_MS = 180000,
    EVENT_BYTES = 700, /* of disk that an event takes, here and there together */
    FULL_BYTES = 8 << 20,
};

struct round {
    struct torture *torture;
    enum round_kind kind;
    struct round_tally *tally;
    char dir[TORTURE_PATH + 32], spool[TORTURE_PATH + 48], acks[TORTURE_PATH + 48], events[TORTURE_PATH + 48];
    uint64_t count_max; /* events of one producer */
    unsigned producers; /* started so far */
    uint64_t damaged;   /* blocks, as told by the drain */
    bool failed;
};

const char *round_name(enum round_kind kind)
{
    static const char *const names[] = {"kill", "stop", "full", "no space", "damage", "copy"};
    return names[kind];
}

static void trouble(struct round *round, const char *what, const char *detail)
{
    round->failed = true;
    torture_trouble(round->torture, "round %" PRIu64 " (%s): %s%s%s", round->torture->round, round_name(round->kind),
                    what, *detail ? ": " : "", detail);
}

/* ----------------------------------------------------------------------------------------------------------- workers
 */

static pid_t start(struct round *round, const char *const *words, int *ret_out)
{
    pid_t worker = round->failed ? -1 : worker_start(round->torture->tool, words, ret_out);
    if (worker < 0 && !round->failed)
        trouble(round, "a process could not be started", "");
    return worker;
}

/* Waits for a worker that must end well. */
static void finish(struct round *round, pid_t worker, uint64_t timeout_ms, const char *what)
{
    char how[64];
    int status;
    if (worker < 0)
        return;
    bool ended = worker_wait(worker, timeout_ms, &status);
    if (torture_is_interrupted())
        return;
    if (!ended)
        trouble(round, what, "hung, and was killed");
    else if (status)
        trouble(round, what, worker_describe(status, how));
}

static void make_spool(struct round *round, uint64_t max_bytes)
{
    char bytes[32];
    snprintf(bytes, sizeof bytes, "%" PRIu64, max_bytes);
    const char *words[] = {"make", round->spool, bytes, round->events, NULL};
    finish(round, start(round, words, NULL), WORK_MS, "making the spool");
}

static pid_t start_producer(struct round *round, uint64_t count, const char *how)
{
    char producer[16], events[32];
    snprintf(producer, sizeof producer, "%u", ++round->producers);
    snprintf(events, sizeof events, "%" PRIu64, count);
    const char *words[] = {"produce", round->spool, round->acks, producer, events, how, NULL};
    return start(round, words, NULL);
}

static pid_t start_deliverer(struct round *round)
{
    const char *words[] = {"deliver", round->spool, NULL};
    return start(round, words, NULL);
}

static void drain(struct round *round, const char *spool)
{
    const char *words[] = {"drain", spool, NULL};
    char said[64] = "";
    int out = -1;
    pid_t worker = start(round, words, &out);
    finish(round, worker, DRAIN_MS, "draining");
    if (worker < 0)
        return;
    ssize_t size = read(out, said, sizeof said - 1);
    close(out);
    if (size > 0)
        sscanf(said, "damaged %" SCNu64, &round->damaged);
}

/* ----------------------------------------------------------------------------------------------------------- accounts
 */

static void take_account(struct round *round, struct account *account)
{
    *account = (struct account){0};
    if (!round->failed && !account_take(round->acks, round->events, account))
        trouble(round, "its files cannot be read", strerror(errno));
    account_add(&round->tally->account, account);
}

static void count_trouble(struct round *round, uint64_t count, const char *what)
{
    char detail[UNITS_SIZE];
    if (count)
        trouble(round, what, units_count(count, detail));
}

/* The whole promise: for spools whose processes were treated badly, but not their files. */
static void check_promise(struct round *round)
{
    struct account account;
    if (torture_is_interrupted())
        return;
    take_account(round, &account);
    count_trouble(round, account.lost, "acknowledged events were lost");
    count_trouble(round, account.duplicated, "events arrived twice at a sink that keeps a checkpoint");
    count_trouble(round, account.invented, "events arrived that nobody enqueued");
    count_trouble(round, account.disordered, "events arrived out of order");
    count_trouble(round, round->damaged, "blocks were damaged");
}

/* -------------------------------------------------------------------------------------------------------- kill, stop
 */

enum { SLOTS = 3 }; /* two producers and a deliverer */

static pid_t start_slot(struct round *round, unsigned slot)
{
    return slot < SLOTS - 1 ? start_producer(round, round->count_max, "block") : start_deliverer(round);
}

/* Kills one of them, or all at once, and starts them again. */
static void kill_some(struct round *round, pid_t workers[SLOTS])
{
    bool all = torture_between(round->torture, 0, 3) == 0;
    unsigned one = (unsigned)torture_between(round->torture, 0, SLOTS - 1);
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        if (!all && slot != one)
            continue;
        worker_kill(workers[slot]);
        round->tally->kills++;
        workers[slot] = -1;
    }
    for (unsigned slot = 0; slot < SLOTS; slot++)
        if (workers[slot] < 0)
            workers[slot] = start_slot(round, slot);
}

static void round_kill(struct round *round)
{
    pid_t workers[SLOTS] = {-1, -1, -1};
    make_spool(round, round->torture->max_bytes / 8);
    for (unsigned slot = 0; slot < SLOTS; slot++)
        workers[slot] = start_slot(round, slot);
    uint64_t times = torture_between(round->torture, 3, 8);
    for (uint64_t i = 0; i < times && !round->failed && !torture_is_interrupted(); i++) {
        pause_ms(torture_between(round->torture, 1, 150));
        kill_some(round, workers);
    }
    for (unsigned slot = 0; slot < SLOTS; slot++)
        worker_kill(workers[slot]);
    drain(round, round->spool);
    check_promise(round);
}

static void await_first_ack(struct round *round)
{
    struct stat st;
    for (int tries = 0; tries < 2000 && !torture_is_interrupted(); tries++) {
        if (!stat(round->acks, &st) && st.st_size > 0)
            return;
        pause_ms(10);
    }
    if (!torture_is_interrupted())
        trouble(round, "a producer does not begin", "");
}

/* A peer stands still, perhaps with a lock in its hands: one that has the spool open goes on as long as its journal has
 * room, and closes in time. Then the peer goes on too, and is killed. (To open a spool whose lock is held ends by its
 * deadline.) */
static void round_stop(struct round *round)
{
    make_spool(round, round->torture->max_bytes / 8);
    pid_t producer = start_producer(round, 2000, "block");
    await_first_ack(round);
    pid_t peer = torture_between(round->torture, 0, 2) ? start_producer(round, round->count_max, "block")
                                                       : start_deliverer(round);
    pause_ms(torture_between(round->torture, 5, 100));
    if (peer > 0)
        kill(peer, SIGSTOP);
    round->tally->stops++;
    finish(round, producer, WORK_MS, "a producer beside a process that is stopped");
    if (peer > 0)
        kill(peer, SIGCONT);
    pause_ms(torture_between(round->torture, 0, 50));
    worker_kill(peer);
    round->tally->kills++;
    drain(round, round->spool);
    check_promise(round);
}

/* -------------------------------------------------------------------------------------------------------------- full
 */

static void round_full(struct round *round)
{
    make_spool(round, FULL_BYTES);
    bool rejects = torture_between(round->torture, 0, 1);
    finish(round, start_producer(round, FULL_BYTES / 100, rejects ? "reject" : "block"), WORK_MS, "filling it");
    drain(round, round->spool);
    finish(round, start_producer(round, 100, "block"), WORK_MS, "storing again once it is drained");
    drain(round, round->spool);
    check_promise(round);
}

/* Files may not grow beyond a limit: a write fails as on a disk without room. */
static void round_no_space(struct round *round)
{
    char limit[32];
    make_spool(round, round->torture->max_bytes / 8);
    snprintf(limit, sizeof limit, "%" PRIu64, torture_between(round->torture, 400, 900) << 10);
    pid_t producer = start_producer(round, 4000, limit);
    int status;
    if (producer > 0 && !worker_wait(producer, WORK_MS, &status) && !torture_is_interrupted())
        trouble(round, "a producer without room on the disk", "hung, and was killed");
    else if (producer > 0 && WIFSIGNALED(status) && !torture_is_interrupted())
        trouble(round, "a producer without room on the disk", strsignal(WTERMSIG(status)));
    drain(round, round->spool);
    check_promise(round);
}

/* ------------------------------------------------------------------------------------------------------ damage, copy
 */

/* One of the files with that ending, the `pick`th; false if there is none. */
static bool find_file(const char *dir, const char *ending, uint64_t pick, char ret[TORTURE_PATH + 320])
{
    DIR *stream = opendir(dir);
    uint64_t count = 0;
    for (struct dirent *entry; stream && (entry = readdir(stream));) {
        size_t size = strlen(entry->d_name), end = strlen(ending);
        if (size < end || strcmp(entry->d_name + size - end, ending) || pick % ++count)
            continue;
        snprintf(ret, TORTURE_PATH + 320, "%s/%s", dir, entry->d_name);
    }
    if (stream)
        closedir(stream);
    return count > 0;
}

static bool choose_victim(struct round *round, char ret[TORTURE_PATH + 320])
{
    static const char *const places[][2] = {{"/segments", ".mdb"}, {"/journal", ".jnl"}, {"", "state.mdb"}};
    char dir[TORTURE_PATH + 64];
    uint64_t place = torture_between(round->torture, 0, 5);
    place = place < 3 ? 0 : place - 3; /* mostly a segment */
    snprintf(dir, sizeof dir, "%s%s", round->spool, places[place][0]);
    return find_file(dir, places[place][1], torture_between(round->torture, 1, 8), ret);
}

static bool overwrite(struct torture *torture, int fd, off_t size)
{
    unsigned char bytes[512];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (unsigned char)torture_random(torture);
    size_t many = torture_between(torture, 0, 1) ? sizeof bytes : 1;
    off_t at = (off_t)torture_between(torture, 0, (uint64_t)size - many);
    return pwrite(fd, bytes, many, at) == (ssize_t)many;
}

/* A few places written over, or the end cut off. */
static bool damage(struct round *round, const char *path)
{
    struct torture *torture = round->torture;
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    bool good = fd >= 0 && !fstat(fd, &st) && st.st_size >= 4096;
    if (good && torture_between(torture, 0, 5) == 0)
        good = !ftruncate(fd, (off_t)torture_between(torture, 0, (uint64_t)st.st_size - 1));
    else
        for (uint64_t places = torture_between(torture, 1, 20); good && places; places--)
            good = overwrite(torture, fd, st.st_size);
    if (fd >= 0)
        close(fd);
    return good;
}

static void round_damage(struct round *round)
{
    struct account account;
    char victim[TORTURE_PATH + 320];
    make_spool(round, round->torture->max_bytes / 8);
    finish(round, start_producer(round, torture_between(round->torture, 300, 3000), "block"), WORK_MS, "a producer");
    if (round->failed || torture_is_interrupted())
        return;
    if (!choose_victim(round, victim) || !damage(round, victim)) {
        trouble(round, "no file could be damaged", strerror(errno));
        return;
    }
    drain(round, round->spool);
    if (torture_is_interrupted())
        return;
    take_account(round, &account);
    round->tally->announced += round->damaged;
    count_trouble(round, account.invented, "events arrived that nobody enqueued");
    if (account.lost && !round->damaged)
        count_trouble(round, account.lost, "events were lost by damage that was not told");
}

/* Copied while it is written to: what comes out of the copy is right, if not all. */
static void round_copy(struct round *round)
{
    struct account account;
    char copy[TORTURE_PATH + 64];
    snprintf(copy, sizeof copy, "%s/copy", round->dir);
    make_spool(round, round->torture->max_bytes / 8);
    pid_t producer = start_producer(round, round->count_max, "block");
    pause_ms(torture_between(round->torture, 20, 150));
    if (!round->failed && !tree_copy(round->spool, copy))
        trouble(round, "it cannot be copied", strerror(errno));
    worker_kill(producer);
    round->tally->kills++;
    drain(round, copy);
    if (torture_is_interrupted())
        return;
    struct account all = round->tally->account;
    take_account(round, &account);
    round->tally->account = all;
    round->tally->account.found += account.found;
    round->tally->account.invented += account.invented;
    count_trouble(round, account.invented, "events arrived from the copy that nobody enqueued");
}

/* -------------------------------------------------------------------------------------------------------------- rounds
 */

static void prepare(struct round *round)
{
    struct torture *torture = round->torture;
    snprintf(round->dir, sizeof round->dir, "%s/round-%" PRIu64, torture->dir, torture->round);
    snprintf(round->spool, sizeof round->spool, "%s/spool", round->dir);
    snprintf(round->acks, sizeof round->acks, "%s/acknowledged", round->dir);
    snprintf(round->events, sizeof round->events, "%s/events.jsonl", round->dir);
    round->count_max = torture->max_bytes / 8 / EVENT_BYTES;
    if (mkdir(round->dir, 0700))
        trouble(round, "its directory cannot be made", strerror(errno));
}

void round_run(struct torture *torture, enum round_kind kind)
{
    static void (*const runs[])(struct round *) = {round_kill,     round_stop,   round_full,
                                                   round_no_space, round_damage, round_copy};
    struct round round = {.torture = torture, .kind = kind, .tally = &torture->tally[kind]};
    torture->round++;
    torture->random = torture->seed + torture->round * 0x9e3779b97f4a7c15u; /* so that a round can be repeated */
    torture_note_progress(torture, round_name(kind));
    prepare(&round);
    if (!round.failed)
        runs[kind](&round);
    round.tally->rounds++;
    if (!round.failed && !tree_remove(round.dir))
        trouble(&round, "its directory cannot be removed", strerror(errno));
}
