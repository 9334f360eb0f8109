/* torture.h - spool torture: tries the promise out on the user's own disk. What its files share.
 *
 *   torture.c          the verb: its directory, which part comes when, the end
 *   torture_fs.c       what the directory lies on, and how fast it flushes
 *   torture_probe.c    what the library needs of a file system: locks, maps, renames
 *   torture_round.c    rounds with spools: processes are killed, stopped, starved, their files damaged
 *   torture_process.c  starting, killing and awaiting the workers
 *   torture_work.c     a worker: this command once more, as a verb that is not listed
 *   torture_account.c  what was acknowledged against what arrived
 *   torture_report.c   what was found, in plain words or JSON
 *   torture_power.c    the two halves of a test by power cut
 *
 * Everything happens in one directory of our own, and everything random comes from one seed. */
#ifndef TOOLS_TORTURE_H
#define TOOLS_TORTURE_H

#include <limits.h>
#include <sys/types.h>

#include "output.h"
#include "tool.h"

enum {
    TORTURE_PATH = PATH_MAX + 64,
    TORTURE_PROBES_MAX = 8,
    TORTURE_TROUBLES_MAX = 16,
    TORTURE_WORKERS_MAX = 8,
};

/* ------------------------------------------------------------------------------------ the account (torture_account.c)
 */

/* Workers log each event that was acknowledged as one line of this size, written at once: so a killed one leaves no
 * half of a line (a write is cut at pages only). */
enum { ACK_LINE = 64 };

struct account {
    uint64_t acknowledged; /* answered with SPOOL_OK, and written down */
    uint64_t found;        /* different events that arrived */
    uint64_t lost;         /* acknowledged, and not found */
    uint64_t duplicated;   /* arrived once more */
    uint64_t invented;     /* arrived, but nobody made it so */
    uint64_t disordered;   /* arrived behind a later one of the same agent and priority */
    uint64_t unanswered;   /* arrived, but its producer was killed before it could write that down */
};
void account_add(struct account *sum, const struct account *more);
/* Reads both files (one that is missing is empty). False: it cannot be read; errno tells. */
bool account_take(const char *acks_path, const char *events_path, struct account *ret);
void account_write_ack(char line[ACK_LINE], const struct spool_id *id, unsigned producer, uint64_t n);
/* The body of event `n` of a producer, with a checksum. Returns its size; `room` is enough from BODY_ROOM on. */
enum { BODY_PAD_MAX = 1500, BODY_ROOM = BODY_PAD_MAX + 128 };
size_t account_write_body(char body[BODY_ROOM], unsigned producer, uint64_t n, size_t pad);

/* -------------------------------------------------------------------------------- the ground (torture_fs.c, _probe.c)
 */

struct torture_ground {
    char type[32], mounted_on[256], source[256], options[512], write_cache[32];
    bool network, copy_on_write, memory;
    uint64_t flush_count, flush_p50_ns, flush_p99_ns, flush_max_ns; /* of 4 KiB written over, each flushed */
};
enum { FLUSH_IMPLAUSIBLE_NS = 20000 }; /* no disk that keeps what it flushes is that fast */
bool ground_describe(const char *dir, struct torture_ground *ret);
bool ground_measure_flush(const char *dir, uint64_t most_ms, struct torture_ground *ground);

struct torture_probe {
    const char *name;
    bool good;
    char detail[160];
};

/* ----------------------------------------------------------------------------------------------------- the whole run
 */

enum round_kind { ROUND_KILL, ROUND_STOP, ROUND_FULL, ROUND_NO_SPACE, ROUND_DAMAGE, ROUND_COPY, ROUND_KINDS };
struct round_tally {
    uint64_t rounds, kills, stops;
    struct account account;
    uint64_t announced; /* damaged blocks that were told */
};

struct torture {
    const struct tool *tool;
    char dir[TORTURE_PATH]; /* ours */
    uint64_t seed, random, max_bytes;
    uint64_t start_ns, deadline_ns; /* steady clock */
    struct progress progress;
    struct torture_ground ground;
    struct torture_probe probes[TORTURE_PROBES_MAX];
    size_t probe_count;
    struct round_tally tally[ROUND_KINDS];
    uint64_t round; /* that runs */
    char *troubles[TORTURE_TROUBLES_MAX];
    size_t trouble_count;
    uint64_t more_troubles;
};

uint64_t torture_random(struct torture *torture); /* splitmix64 */
uint64_t torture_between(struct torture *torture, uint64_t least, uint64_t most);
/* The user interrupted, or the time is over. */
bool torture_is_over(const struct torture *torture);
bool torture_is_interrupted(void);
/* Something that must not be. */
void torture_trouble(struct torture *torture, const char *format, ...) __attribute__((format(printf, 2, 3)));
void torture_note_progress(struct torture *torture, const char *what);

void probe_all(struct torture *torture);
const char *round_name(enum round_kind kind);
/* Runs one round; troubles are noted. */
void round_run(struct torture *torture, enum round_kind kind);
void report_print(const struct torture *torture, bool json);
/* Both return enum tool_status. */
int torture_prepare_powercut(const struct tool *tool, const char *parent, const char *name, uint64_t max_bytes,
                             uint64_t deadline_ns);
int torture_verify_powercut(const struct tool *tool, const char *parent);

/* ----------------------------------------------------------------------------------- processes (torture_process.c) */

/* Starts this command as a worker with these words (NULL-terminated); -1: it could not, which is said. Its standard
 * output is *ret_out if that is not NULL. It dies with us, and hears no signal from the terminal. */
pid_t worker_start(const struct tool *tool, const char *const *words, int *ret_out);
/* Kills it by its id and waits for it. */
void worker_kill(pid_t worker);
/* Waits at most `timeout_ms`, then kills it. *ret_status as of waitpid(). False: it had to be killed. */
bool worker_wait(pid_t worker, uint64_t timeout_ms, int *ret_status);
/* "exit status 3", "signal 11 (Segmentation fault)". */
const char *worker_describe(int status, char ret[64]);
void pause_ms(uint64_t ms);
/* Removes a directory of ours with all that is in it; follows no links and leaves its file system never. */
bool tree_remove(const char *path);
bool tree_copy(const char *from, const char *to);

#endif
