/* ops_fixture.h - operations for tests: one that waits at a gate, one that notes that it ran, and what was told of
 * them. */
#ifndef OPS_FIXTURE_H
#define OPS_FIXTURE_H

#include <pthread.h>
#include <stdatomic.h>

#include "../../delivery/delivery.h"
#include "../../lib/base/sync.h"
#include "../check_main.h"

/* What happened to one operation. */
struct probe {
    struct spool_op *op;
    atomic_uint runs, cancels, dones, order; /* order: the place of its run among all */
    atomic_int done_result, code;            /* code: what a call inside answered */
    atomic_bool gate;                        /* run returns when this is set … */
    bool deaf;                               /* … or when it was cancelled, unless deaf */
    int answer;                              /* what run returns */
    char message[SPOOL_OP_RESOURCE_MAX + 300];
    struct spool_op *other;
};

static atomic_uint runs_so_far;

/* Never for a duration: until it is so, or the test fails after a minute. */
#define ck_until(condition)                                                                                            \
    do {                                                                                                               \
        uint64_t until_ = deadline_in_ms(60000);                                                                       \
        while (!(condition)) {                                                                                         \
            ck_assert_msg(mono_ns() < until_, "not within a minute: %s", #condition);                                  \
            usleep(500);                                                                                               \
        }                                                                                                              \
    } while (0)

static inline int probe_run(struct spool_op *op, void *user)
{
    struct probe *probe = user;
    atomic_store(&probe->order, atomic_fetch_add(&runs_so_far, 1) + 1);
    atomic_fetch_add(&probe->runs, 1);
    while (!atomic_load(&probe->gate) && (probe->deaf || !spool_op_is_cancelled(op)))
        usleep(200);
    return probe->answer;
}

static inline void probe_cancel(struct spool_op *op, void *user)
{
    (void)op;
    atomic_fetch_add(&((struct probe *)user)->cancels, 1);
}

static inline void probe_done(struct spool_op *op, void *user, int result)
{
    (void)op;
    struct probe *probe = user;
    atomic_store(&probe->done_result, result);
    atomic_fetch_add(&probe->dones, 1);
}

#define PROBE_OPTIONS(probe, ...)                                                                                      \
    SPOOL_OP_OPTIONS(.run = probe_run, .cancel = probe_cancel, .done = probe_done, .user = (probe), __VA_ARGS__)
#define NEEDS SPOOL_OP_NEEDS
#define ALL(name_)                                                                                                     \
    {                                                                                                                  \
        .name = (name_)                                                                                                \
    }
#define SHARE(name_, amount_)                                                                                          \
    {                                                                                                                  \
        .name = (name_), .mode = SPOOL_OP_SHARED, .amount = (amount_)                                                  \
    }

/* ------------------------------------------------------------------------------------------------------ what is told
 */

static struct {
    pthread_mutex_t lock;
    unsigned count;
    char last[600];
} told = {.lock = PTHREAD_MUTEX_INITIALIZER};

static inline void note_told(void *user, const struct spool_notice *notice)
{
    (void)user;
    if (notice->kind != SPOOL_NOTICE_OP_OVERDUE)
        return;
    pthread_mutex_lock(&told.lock);
    told.count++;
    snprintf(told.last, sizeof told.last, "%s", notice->reason);
    pthread_mutex_unlock(&told.lock);
}

static inline unsigned told_count(void)
{
    pthread_mutex_lock(&told.lock);
    unsigned count = told.count;
    pthread_mutex_unlock(&told.lock);
    return count;
}

static inline bool was_told(const char *part)
{
    pthread_mutex_lock(&told.lock);
    bool so = strstr(told.last, part) != NULL;
    pthread_mutex_unlock(&told.lock);
    return so;
}

#endif
