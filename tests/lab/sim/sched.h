/* sched.h - threads as coroutines, one at a time, on a virtual clock.
 *
 * At every synchronisation point the seed decides who goes on; when nobody can, the clock jumps to the next deadline.
 * A coroutine belongs to a simulated process (or to none: the world), and dies with it at whatever point it has
 * reached. */
#ifndef SIM_SCHED_H
#define SIM_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rng.h"

enum { PROC_NONE = -1, PROCS_MAX = 2 };
#define NEVER UINT64_MAX
#define US 1000ull
#define MS 1000000ull
#define SEC 1000000000ull

/* Injected faults, counted by kind. A new one is a line here. */
#define SIM_FAULTS(X)                                                                                                  \
    X(SPURIOUS, "spurious wake-up")                                                                                    \
    X(LATE, "late timer")                                                                                              \
    X(STALL, "stalled thread")                                                                                         \
    X(LOST_WAKE, "wake-up of another process lost")                                                                    \
    X(THREAD, "thread that cannot be started")                                                                         \
    X(MEMORY, "out of memory")                                                                                         \
    X(CRASH, "crash")                                                                                                  \
    X(JUMP, "wall clock jump")                                                                                         \
    X(STORE, "failing call of the store")                                                                              \
    X(STORE_SLOW, "slow call of the store")                                                                            \
    X(ACK_PART, "acknowledgement that failed after a part")                                                            \
    X(DAMAGE, "damaged block or row")                                                                                  \
    X(HOLE, "hole in the log")                                                                                         \
    X(OVERFLOW, "event beyond what may wait")                                                                          \
    X(OPEN, "sink that cannot be opened")                                                                              \
    X(RETRY, "event to be tried again")                                                                                \
    X(REJECT, "rejected event or batch")                                                                               \
    X(DOWN, "unavailable sink")                                                                                        \
    X(SLOW, "slow sink")                                                                                               \
    X(HANG, "hanging hook")                                                                                            \
    X(LOST_ANSWER, "answer lost on the way back")                                                                      \
    X(WRONG, "wrong answer")                                                                                           \
    X(CHECKPOINT, "failed checkpoint")

enum fault {
#define SIM_FAULT_NAME(name, text) FAULT_##name,
    SIM_FAULTS(SIM_FAULT_NAME)
#undef SIM_FAULT_NAME
        FAULTS
};
const char *fault_text(enum fault fault);
void fault_count(enum fault fault);

struct sched_options {
    uint64_t seed;
    bool by_priority;        /* random priorities with change points (Burckhardt et al., PCT) instead of even chances */
    uint32_t switches;       /* chances of 10,000: to give way at a synchronisation point */
    uint32_t spurious, late; /* likewise, at each choice and each timed wait */
    uint64_t step_max_ns;    /* what a step between two points takes */
    bool trace;
};

struct co;
typedef void co_body(void *arg);

void sched_begin(const struct sched_options *options);
/* Runs until sched_end(), a violation or nobody is left. */
void sched_run(void);
void sched_end(void);
void sched_quiet(void);          /* no more faults of its own */
void sched_wake_everybody(void); /* those whose wait may end for no reason, to look again at the world */

uint64_t sched_now(void); /* virtual CLOCK_MONOTONIC, ns */
uint64_t sched_steps(void);
uint64_t sched_hash(void);
void sched_mix(uint64_t value); /* into the hash of the run */
void sched_progress(void);      /* something useful happened: nobody is spinning */
/* Stalls and late timers, what a deadline may be missed by: the sum of those begun so far, and the same for the
 * beginning of a time that is measured, to which those that are not over yet still belong. */
uint64_t sched_excused_ns(void);
uint64_t sched_excused_from(void);
const uint64_t *sched_faults(void); /* counts by kind */

/* Returns an id that is never used again. */
uint64_t co_start(int proc, const char *name, co_body *body, void *arg);
bool co_is_alive(uint64_t id);
uint64_t co_self(void); /* 0: none runs */
int co_proc(void);      /* of the running one */
const char *co_name(void);
void co_rename(const char *name); /* the running one */

uint32_t *co_locks(void);    /* how many the running one holds */
uint64_t *co_acquired(void); /* and how often it took one */

/* A synchronisation point. */
void co_point(void);
/* Waits for co_wake() on that address. False when the deadline has passed. `spurious`: may return true for nothing. */
bool co_wait(const void *on, uint64_t deadline_ns, const char *why, bool spurious);
void co_wake_one(const void *on); /* any of those that wait */
void co_wake_all(const void *on);
void co_sleep(uint64_t ns);

/* The process ends at once / at its n-th synchronisation point from now. proc_died() is called afterwards. */
void sched_kill(int proc);
void sched_kill_after(int proc, uint32_t points);
/* Somebody of the process is not given the processor for a while. */
void sched_stall(int proc, uint64_t ns);
size_t sched_count(int proc); /* its coroutines */

/* Prints who waits for what. */
void sched_print(void);

/* world's: */
void proc_died(int proc);
void violation(const char *rule, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool violated(void);
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
