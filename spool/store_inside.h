/* store_inside.h - what the files that make up the store share. Private to this folder.
 *
 * Locks, in the order in which they may be taken: sinks_mutex, append_mutex. Neither is held while log.lock or state.lock
 * (lock.h) is awaited, nor over any disk flush. */
#ifndef SPOOL_STORE_INSIDE_H
#define SPOOL_STORE_INSIDE_H

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/bytes.h"
#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "block.h"
#include "dir.h"
#include "hand.h"
#include "journal.h"
#include "lock.h"
#include "log.h"
#include "state.h"
#include "store.h"
#include "wake.h"

enum {
    COMMIT_BYTES = 1 << 20, /* so much gathered is committed at once */
    AHEAD_BYTES = 4 << 20,  /* of journal pages at most are made writable before the producers come to them */
    COMMIT_LINGER_MS = 5,   /* with a sink registered, an event waits at most that long for company … */
    COMMIT_PACE_MS = 25,    /* … or as long as this after the last commit, but never longer than flush_interval_ms */
    SPARE_JOURNALS_MAX = 4, /* emptied journals that are kept for processes to come */
    SPARES_KNOWN_MAX = 16,  /* … and remembered, so that a probe need not read them again */
    HOUSEKEEP_MS = 1000,    /* probing for dead peers, deleting what is delivered */
    LOCK_SLICE_MS = 250,    /* of waiting for a file lock, between looks at whether we are stopping */
};

/* A journal and how many producers wait for its flush; a failed one is replaced, and freed when they have left. */
struct ring {
    struct journal *journal;
    atomic_uint users; /* raised under append_mutex; who lowers it does not look at the ring again */
    struct ring *next; /* of the retired; append_mutex */
};

/* A sink this process was elected for. */
struct election {
    char name[SINK_NAME_MAX + 1];
    struct lock *lock;
    struct store_hand *hand;
    struct election *next;
};

struct store {
    struct store_options options;
    struct hlc *clock;
    struct dir dir;
    struct wake *wake;
    struct lock *log_lock, *state_lock;
    struct log *log;
    struct state *state;
    size_t frame_max;
    uint64_t limit_bytes[LANES]; /* the watermark of each lane */

    pthread_mutex_t append_mutex;
    pthread_cond_t committer_cond; /* append_mutex: something for the committer to do */
    pthread_cond_t room_cond;      /* append_mutex: room, progress or failure of the committer */
    struct ring *ring;             /* append_mutex; NULL while none could be made */
    struct ring *retired;          /* append_mutex */
    bool replacing;                /* append_mutex: the committer makes a journal that is not in `ring` yet */
    uint64_t commit_at;            /* append_mutex: wake the committer when the head passes this position */
    uint64_t commit_through;       /* append_mutex: somebody waits for that position to be in a segment */
    uint64_t commit_failures;      /* append_mutex: grows with each failed commit */
    int commit_error;              /* append_mutex: of the last try; 0 when it went well */
    char commit_message[256];      /* append_mutex: what that error said */
    bool stopping;                 /* append_mutex */
    bool want_room;                /* append_mutex: a producer waits for the keeper to make room */
    bool want_drop[LANES];         /* append_mutex: … or to drop the oldest, by policy of that lane */
    uint64_t ring_tried_ns;        /* append_mutex: when a missing journal was last asked for */
    uint64_t enqueued_events, enqueued_bytes, rejected_full; /* append_mutex */
    uint64_t close_deadline_ns;                              /* append_mutex; set with stopping */
    uint64_t committed_ns;                                   /* committer only: when it last tried */
    bool commit_failure_told; /* committer only: one of another reason than a full disk */

    _Atomic uint64_t
        measured_bytes; /* of the directory at the last look, less what the log had grown by then: limits.c */
    _Atomic uint64_t recovered_events;
    _Atomic uint32_t journal_count, sink_count;
    _Atomic uint32_t unapplied_journals; /* of dead processes, that the last sweep could not apply */
    _Atomic bool disk_full;
    _Atomic bool pressure; /* housekeeping is worth doing soon */

    pthread_mutex_t sinks_mutex;
    struct election *elections; /* sinks_mutex */
    uint64_t sinks_again_ns;    /* the keeper: when to look at limits of sinks */

    pthread_mutex_t clock_mutex;
    struct spool_id clock_lease; /* clock_mutex: stamps up to here were promised on disk */
    uint32_t clock_resets;       /* the keeper's: as seen last */

    struct spare { /* keeper only (and open, before it): journals found empty, and when last taken */
        char name[JOURNAL_NAME_SIZE];
        struct timespec taken;
    } spares[SPARES_KNOWN_MAX];
    size_t spare_count;

    pthread_t committer, keeper;
    bool committer_runs, keeper_runs, mutexes_made;
};

static inline uint64_t lock_slice(void)
{
    return deadline_in_ms(LOCK_SLICE_MS);
}

/* committer.c */
void *committer_run(void *store);
/* Tells the committer, append_mutex held, that it has work now. */
void committer_kick(struct store *store);

/* recovery.c */
int recovery_open(struct store *store); /* dead journals applied, and one of our own */
int recovery_own_journal(struct store *store, struct journal **ret);
void recovery_adopt_dead(struct store *store); /* those of others, while we run */
void recovery_inspect(struct store *store, uint32_t *ret_dead, uint64_t *ret_journals);
bool recovery_journal_exists(void *store, const uint8_t uuid[JOURNAL_UUID_SIZE]);

/* packer.c */
struct packer;
int packer_new(struct packer **ret);
void packer_free(struct packer *packer);
int packer_compress(struct packer *packer); /* from now on runs are compressed where it is worth it; ENOMEM */
void packer_reset(struct packer *packer);
int packer_add_frame(struct packer *packer, const uint8_t *payload, size_t size);
size_t packer_bytes(const struct packer *packer);
uint64_t packer_events(const struct packer *packer);
const struct spool_id *packer_max_id(const struct packer *packer);
/* The runs gathered; valid until the next call on the packer. */
void packer_runs(struct packer *packer, struct log_run **ret, size_t *ret_n);

/* keeper.c */
void *keeper_run(void *store);
void keeper_measure(struct store *store); /* brings measured_bytes and sink_count up to date */

/* limits.c */
void limits_init(struct store *store);
/* append_mutex held: may `bytes` more of this lane come in? */
bool limits_allow(const struct store *store, int lane, uint64_t bytes);
/* Without locks: deletes what is delivered, and drops by policy what must go. */
void limits_reclaim(struct store *store);
uint64_t
limits_used_bytes(const struct store *store);     /* of the directory: the last look and what was committed since */
bool limits_are_tight(const struct store *store); /* three quarters of max_bytes are used */
bool limits_is_full(int code);                    /* of what a commit answered: there is no room */
/* append_mutex held: the last commit found no room on the disk (and did not fail for another reason). */
bool limits_disk_is_full(const struct store *store);

/* store_removal.c */
void removals_finish(struct store *store); /* of all sinks that are marked and that nobody delivers to any more */
void removal_of_namesake(struct store *store, const char *name); /* before another one of that name is registered */

/* store.c */
void store_tell_change(struct store *store, bool control);
void store_damaged(void *store, const char *file, const char *what, uint64_t events);

#endif
