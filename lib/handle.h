/* handle.h - the open spool as the public calls see it. Private to lib/. */
#ifndef LIB_HANDLE_H
#define LIB_HANDLE_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#include "../clock/clock.h"
#include "../delivery/delivery.h"
#include "../spool/store.h"
#include "base/error.h"
#include "base/sync.h"
#include "spool.h"

struct spool {
    char *dir;
    dev_t device; /* of the directory: what makes two paths the same spool */
    ino_t inode;
    struct spool_options options; /* with the defaults filled in */
    uint32_t fork_generation;     /* when it was opened */
    unsigned opened;              /* registry mutex: how often; 0: closed while a sink hung, kept for the next open */
    struct hlc *clock;
    struct store *store;
    struct delivery *_Atomic delivery; /* NULL while the store opens, and when it closes; fixed in between */
    struct scheduler *scheduler;       /* of the next two */
    struct ops *ops;                   /* fixed while it is open */
    bool closing;                      /* registry mutex: being closed by some thread */
    bool power;                        /* the default durability */
    unsigned stops;                    /* stops_mutex of sinks.c: threads in spool_stop() … */
    uint64_t stop_deadline_ns;         /* … and the earliest of their deadlines */
    char **file_servers; /* servers of time that its configuration file named last; NULL ends them. NULL: none */
    struct spool *next;  /* registry mutex */
};

/* SPOOL_EINVAL for NULL, SPOOL_EFORKED in a forked child. Every public call on a handle begins with it. */
int handle_check(const struct spool *spool);

enum { CLOCK_DRIFT_PPM_MAX = 100000 };

/* options.c: checks and fills in the defaults. `options` may be NULL. */
int handle_options(const struct spool_options *options, struct spool_options *ret);
void handle_store_options(const struct spool_options *options, struct store_options *ret);

/* Copies a versioned struct of the caller's size into ours, zero-filled. SPOOL_EOPTION if the caller's is longer and has
 * something in the part that we do not know. `what` names it in messages. */
int struct_take(void *dst, size_t our_size, const void *src, size_t their_size, const char *what);
/* Copies an answer into the caller's struct, at most the size it was compiled with (its first member). */
int struct_give(void *dst, const void *src, size_t our_size, const char *what);

/* dead.c: a history as the public calls show it. */
struct history_texts {
    struct spool_attempt attempts[STORE_ATTEMPTS_MAX];
    char reasons[STORE_ATTEMPTS_MAX][STORE_ATTEMPT_REASON_MAX + 1];
};
void history_texts(const struct store_attempt *attempts, size_t n, struct history_texts *ret);

/* sinks.c: ends operations and delivery by the deadline. */
int handle_stop(struct spool *spool, uint64_t deadline_ns);
/* observe.c: how a sink is. Release with free(). */
struct observed {
    bool here;      /* this process delivers to it */
    bool published; /* `report` is what another one said, else only its metrics count, and only if `here` */
    enum spool_sink_state state, deliverer_state;
    struct delivery_sink_status status;
    struct delivery_report report;
};
int observe_sink(struct spool *spool, const struct store_sink *sink, struct observed **ret);

/* find.c: where an event stands in the log, with a copy of it: spool_event_free(). SPOOL_ENOTFOUND without a message. */
struct event_place {
    int lane;
    uint64_t seq;
    struct spool_event *event;
};
int find_in_log(struct spool *spool, const struct spool_id *id, struct event_place *ret);

/* pending.c: what a sink still holds. The last ones of arrays by lane: it is not known of which. */
struct pending {
    uint64_t events, retrying; /* the former with the latter */
    uint64_t cursor[LANES];
    uint64_t in_log[LANES + 1]; /* none in the last */
    uint64_t retrying_in[LANES + 1], events_in[LANES + 1];
    uint64_t oldest_ns, oldest_in_ns[LANES]; /* time of the oldest event; 0: none, or not asked for */
};
/* Beside a stopped peer, by what is known at the deadline. */
void pending_of(struct spool *spool, const struct store_sink *sink, uint64_t deadline_ns, struct pending *ret);
/* With the ages, which reads the retry table and a block of each lane. */
void pending_with_ages(struct spool *spool, const struct store_sink *sink, struct pending *ret);

#endif
