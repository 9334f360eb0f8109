/* wake.h - a mapped page of futex words shared by all processes of a spool (file DIR/wake, 4 KiB). */
#ifndef SPOOL_WAKE_H
#define SPOOL_WAKE_H

#include "lock.h"

struct wake_page {            /* at offset 0 of the file; its content is only hints, any bytes are fine */
    _Atomic uint32_t change;  /* futex: bumped after each commit and change of control */
    _Atomic uint32_t control; /* bumped (before `change`) when sinks, pauses, retries, dead letters were changed */
    struct lock_hint log, state;
    _Atomic uint32_t clock_resets; /* bumped by an operator: every process follows the wall clock as it is */
};

struct wake;

/* Maps the file; creates it unless read_only. When read_only and it is missing or unwritable: a private page, or a
 * read-only mapping (waiting works, bumping does nothing). errno. */
int wake_open(int dir_fd, bool read_only, mode_t mode, struct wake **ret);
void wake_close(struct wake *wake);
struct wake_page *wake_page(struct wake *wake); /* for hints; NULL when it must not be written */

uint32_t wake_change(const struct wake *wake);
uint32_t wake_control(const struct wake *wake);
void wake_bump(struct wake *wake, bool control); /* and wakes every waiter */
uint32_t wake_clock_resets(const struct wake *wake);
void wake_clock_reset(struct wake *wake);
/* Returns 0 when `change` differs from `seen`, SPOOL_ETIMEOUT at the deadline. */
int wake_wait(struct wake *wake, uint32_t seen, uint64_t deadline_ns);

/* The bare futex calls, shared between processes, for lock.c and journal.c. Deadline on CLOCK_MONOTONIC. */
int futex_wait_until(_Atomic uint32_t *word, uint32_t seen, uint64_t deadline_ns); /* 0 (maybe spurious), ETIMEDOUT */
void futex_wake_one(_Atomic uint32_t *word);
void futex_wake_all(_Atomic uint32_t *word);
/* Adds 1 and wakes all, in one call that cannot raise a signal, whatever became of the page. */
void futex_bump(_Atomic uint32_t *word);

#endif
