/* fault_sweep.h - an operation with each single call below it failing once: every class of fail_nth.h, each call in
 * turn.
 *
 * `before` makes ready and `after` looks with the fault off; the answer may be OK, when `after` finds that all is as it
 * should be: some faults do no harm. Includes fail_nth.h: once in a program. */
#ifndef FAULT_SWEEP_H
#define FAULT_SWEEP_H

#include "fail_nth.h"

struct operation {
    const char *name;
    void (*before)(void); /* may be NULL */
    int (*run)(void);
    void (*after)(int code);
};

static unsigned sweep_most; /* N, for what would grow with each try; 0: until no fault fires */
static char where[100];     /* operation, class, N: for messages */

#define ck_here(condition) ck_assert_msg((condition), "%s: %s (%s)", where, #condition, err_last())
#define ok_here(call)                                                                                                  \
    do {                                                                                                               \
        int here_ = (call);                                                                                            \
        ck_assert_msg(here_ == SPOOL_OK, "%s: %s: %s (%s)", where, #call, spool_error_name(here_), err_last());        \
    } while (0)

static inline bool sweep_once(const struct operation *operation, enum fail_class class, unsigned n)
{
    snprintf(where, sizeof where, "%s, class %d, call %u", operation->name, (int)class, n);
    if (operation->before)
        operation->before();
    err_set(SPOOL_OK, "nothing");
    fail_arm(class, n);
    int code = operation->run();
    bool fired = fail_disarm();
    ck_here(fired || code == SPOOL_OK);
    ck_here(code != SPOOL_EINTERNAL && strcmp(spool_error_name(code), "unknown") != 0);
    ck_here(code == SPOOL_OK || strcmp(err_last(), "nothing") != 0);
    operation->after(code);
    return fired;
}

static inline void sweep_class(const struct operation *operation, enum fail_class class)
{
    for (unsigned n = 1; sweep_once(operation, class, n) && n != sweep_most; n++)
        ck_here(n < 1000);
}

static inline void sweep(const struct operation *operation)
{
    for (enum fail_class class = FAIL_MEMORY; class <= FAIL_LMDB_COMMIT; class ++)
        sweep_class(operation, class);
}

#endif
