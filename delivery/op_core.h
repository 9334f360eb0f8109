/* op_core.h - who may run when: the scheduler of operations as a state machine, without threads, clocks or locks of its
 * own. Its owner has the lock and tells the time, so that tests and the simulation can drive it step by step.
 *
 *     idle --submit--> waiting --grant--> running --complete--> idle
 *       ^                 |
 *       +----withdraw-----+      (cancelled, or its deadline passed)
 *
 * A task names all it needs when it is submitted and gets all of it or nothing, so nobody holds one thing while waiting
 * for another: no hold-and-wait, hence no deadlock (Coffman et al. 1971).
 *
 * Who is next: first the aged ones, the oldest first; then the others by rank, within a rank the oldest first. A task
 * ages when `bypasses_max` tasks that were submitted later were granted before it. What an aged one needs is reserved:
 * it is not given to anybody behind it. So at most `bypasses_max` later tasks are granted something that it then lacks,
 * whatever its rank and however much it needs; and if those that run come to an end, it runs.
 *
 * tests/models/scheduler.pml is this protocol, searched by spin; without the reservation a task starves there. */
#ifndef DELIVERY_OP_CORE_H
#define DELIVERY_OP_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "op_timers.h"

enum {
    OP_RANKS = 4,
    OP_BUCKETS = 1024,
};

struct op_resource {
    struct op_resource *next; /* in its bucket */
    bool own;                 /* found by no name */
    uint32_t users[2];        /* who holds it, by their cores: tasks, waiting or running, and who may have some later */
    uint32_t least;    /* of its capacity, that one of the latter needs; kept until nobody of its core holds it */
    uint32_t capacity; /* of all that share it; UINT32_MAX: no limit */
    uint64_t used;     /* by running tasks that share it */
    bool whole;        /* a running task has it for itself */
    uint64_t pass;     /* the two below are of that pass over the waiting */
    uint64_t reserved; /* for aged ones ahead */
    bool reserved_whole;
    char name[];
};

struct op_need {
    struct op_resource *resource;
    uint32_t amount; /* of its capacity, shared; 0: all of it, for itself */
};

/* The resources by name, and what two cores that share them have in common. */
struct op_table {
    uint64_t pass, tickets;
    struct op_resource *buckets[OP_BUCKETS];
};

enum op_phase { OP_IDLE, OP_WAITING, OP_RUNNING };

/* Part of its owner's operation. The first members are set before it is submitted. */
struct op_task {
    struct op_need *needs; /* each resource once */
    uint32_t need_count;
    uint32_t rank;        /* 0 before 1 before … OP_RANKS - 1 */
    uint64_t deadline_ns; /* to begin by; DEADLINE_NEVER */
    uint64_t timeout_ns;  /* to run, from op_core_begin(); DEADLINE_NEVER */
    uint64_t overdue_ns;  /* to wait or to run; then it is named, and at each doubling; DEADLINE_NEVER */

    /* The core's own. */
    struct op_core *core; /* it was submitted to */
    enum op_phase phase;
    bool shares;            /* it names a resource that others may name */
    uint64_t ticket;        /* in the order of submission, from 1 */
    uint64_t since_ns;      /* in this phase */
    uint64_t timeout_at_ns; /* running: DEADLINE_NEVER once it was told */
    uint64_t overdue_at_ns; /* when it is named next */
    bool aged;
    uint64_t passed;                /* tasks granted over it and all older ones, see op_core.c */
    struct op_task *older, *newer;  /* among the waiting, or among the running */
    struct op_task *ahead, *behind; /* of its rank, while it waits and is not aged */
    uint64_t due_ns;                /* op_timers.c */
    size_t timer;
};

struct op_list {
    struct op_task *head, *tail;
};

struct op_core {
    uint32_t workers, bypasses_max;
    struct op_table *table, own_table; /* the first is the second, or the peer's */
    unsigned side;                     /* 1: of a pair, the second */
    struct op_core *peer;              /* whose tasks need the same resources, but other workers; NULL: none */
    void (*freed)(void *user);         /* something that its waiting tasks may want is free, by the peer's doing */
    void *user;
    void (*name)(const struct op_task *task, char *text, size_t size); /* of a task, for people */
    uint32_t waiting_count, running_count, sharing_count;              /* the last: of those that wait */
    struct op_list waiting;                                            /* by ticket; the aged ones are its beginning */
    struct op_list running;
    struct op_list rank[OP_RANKS];
    struct op_task *young;   /* the oldest that waits and is not aged, or NULL */
    uint64_t young_bypasses; /* its count */
    bool settled;            /* nobody who waits can be granted before something changes */
    struct op_timers timers;
};

void op_core_init(struct op_core *core, uint32_t workers, uint32_t bypasses_max);
/* Makes the second use the first one's resources. Each has its own workers, order and bound of bypasses; but what an
 * aged task of one needs is given to none behind it in the other, and a task that takes what they share counts as
 * bypassing older ones there. One lock guards both. Neither has a task yet; the first is freed last. */
void op_core_pair(struct op_core *first, struct op_core *second);
/* Everything submitted has come to its end. */
void op_core_free(struct op_core *core);
/* The task in words: "operation 7 "compact"". */
void op_core_name(const struct op_task *task, char *text, size_t size);

/* The resource of that name, made if it isn't there, and held until it is let go: for a need. ENOMEM. */
int op_core_hold(struct op_core *core, const char *name, struct op_resource **ret);
void op_core_let_go(struct op_core *core, struct op_resource *resource);

/* A resource that is found by no name: its owner's alone, to free when no task names it. ENOMEM. */
int op_resource_new(const char *name, uint32_t capacity, struct op_resource **ret);
void op_resource_free(struct op_resource *resource);

/* Somebody who holds the resource will need that much of it again and again (0: all of it). SPOOL_EINVAL if there is
 * less. */
int op_resource_demand(struct op_resource *resource, uint32_t amount);

/* What all that share it may have together; UINT32_MAX: no limit. Running ones keep what they have. SPOOL_EBUSY if a
 * waiting one wants more than that, or somebody demands it; ENOMEM. */
int op_core_set_capacity(struct op_core *core, const char *name, uint32_t capacity);

/* SPOOL_EINVAL if it wants more of something than there is; ENOMEM, but not for one without any deadline. */
int op_core_submit(struct op_core *core, struct op_task *task, uint64_t now_ns);
/* The next one that may run, which has its resources now; NULL if there is none. */
struct op_task *op_core_grant(struct op_core *core, uint64_t now_ns);
bool op_core_has_next(struct op_core *core, uint64_t now_ns); /* would it grant one? */
/* A granted one begins to run: its timeout counts from here. */
void op_core_begin(struct op_core *core, struct op_task *task, uint64_t now_ns);
void op_core_complete(struct op_core *core, struct op_task *task);
/* It waits, and is not to run any more. */
void op_core_withdraw(struct op_core *core, struct op_task *task);

enum op_due {
    OP_DUE_DEADLINE, /* it did not begin in time, and was withdrawn */
    OP_DUE_TIMEOUT,  /* it runs too long; told once */
    OP_DUE_OVERDUE,  /* it waits or runs for long: to be named; told again when it is twice as long */
};
/* The next task for which something is due at `now_ns`, or NULL. Call it until it is, before granting. */
struct op_task *op_core_due(struct op_core *core, uint64_t now_ns, enum op_due *ret);
uint64_t op_core_next_due(const struct op_core *core);

/* Why a task waits. */
struct op_block {
    const struct op_resource *resource; /* the first it lacks; NULL: only a worker */
    const struct op_task *holder;       /* the oldest running one that has of it, else the aged one it is kept for */
};
void op_core_explain(struct op_core *core, const struct op_task *task, struct op_block *ret);
/* How many later ones were granted before it. */
uint64_t op_core_bypasses(const struct op_core *core, const struct op_task *task);

#endif
