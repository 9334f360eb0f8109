/* scene.h - what scenarios and the oracle both need: a spool with the smallest files there are, events that can be told
 * apart, sinks that note what they answer. Every call that promises something makes its marks by itself. */
#ifndef CRASHLAB_SCENE_H
#define CRASHLAB_SCENE_H

#include <stdatomic.h>

#include "../../../lib/handle.h"
#include "marks.h"

/* ------------------------------------------------------------------------------------------------------------ spool */

struct scene_options {
    uint32_t journal_bytes; /* default 64 KiB */
    uint32_t segment_bytes; /* default 320 KiB: LMDB wants 48 pages in reserve for each commit */
    uint64_t max_bytes;     /* default 64 MiB */
    uint32_t flush_interval_ms;
    uint32_t full_timeout_ms;
    uint32_t workers; /* threads that deliver; default 1 */
    enum spool_full_policy low_policy;
    uint64_t (*clock_ns)(void *user); /* NULL: the system's */
    bool quiet;                       /* no MARK_OPENED */
    enum spool_compression compress;
    void (*on_notice)(void *user, const struct spool_notice *notice);
};

/* The spool of a laboratory directory stands in DIR/spool. Opens it past the public limits of sizes; the handle works
 * with every public call. NULL after saying why on stderr. `options` may be NULL. */
struct spool *scene_open(const char *dir, const struct scene_options *options);
/* Also makes what was answered durable. 0 or failed. */
int scene_close(struct spool *spool);
/* The keeper's round (adopting journals, deleting segments), now instead of within a second. */
void scene_keep_house(struct spool *spool);
/* Seals the current segment. */
int scene_rotate(struct spool *spool);
/* Events taken over from journals of dead processes so far; and waiting until there are that many. */
uint64_t scene_recovered(const struct spool *spool);
int scene_wait_recovered(struct spool *spool, uint64_t events);
/* The same on this thread; and before each removal of a journal is durable, another segment is begun, as another
 * process might just then. */
int scene_adopt_rotating(struct spool *spool, uint64_t events);

/* ----------------------------------------------------------------------------------------------------------- events */

/* A producer: of one thread. */
struct scene_producer {
    struct spool *spool;
    uint32_t number, next;
    enum spool_priority priority; /* of the events to come */
    uint32_t order_agents;        /* so many agents in turn, at most 4; 0: none */
};

uint64_t scene_random(uint64_t *state);
/* One event of `size` bytes, with its marks. 0, or the library's code after saying it on stderr. */
int scene_enqueue(struct scene_producer *producer, uint32_t size, enum spool_durability durability);
int scene_enqueue_many(struct scene_producer *producer, uint32_t count, uint32_t size,
                       enum spool_durability durability);
/* May answer SPOOL_EUNCERTAIN or SPOOL_EFULL: no failure. */
int scene_enqueue_try(struct scene_producer *producer, uint32_t size, enum spool_durability durability);
/* `n` of random sizes up to `size_max`. */
int scene_enqueue_some(struct scene_producer *producer, uint32_t n, uint32_t size_max, enum spool_durability durability,
                       uint64_t *random);
int scene_flush(struct spool *spool);
/* A number for the marks around a flush or a settling. */
struct mark_flush scene_round(void);
int scene_stamp(struct spool *spool);
/* All in segments. */
int scene_commit(struct spool *spool);

/* ------------------------------------------------------------------------------------------------------------ sinks */

/* What a sink of the laboratory does with an event. */
enum scene_answer { ANSWER_ACCEPT, ANSWER_RETRY, ANSWER_REJECT };

struct scene_sink {
    uint32_t number; /* of its marks */
    const char *name;
    enum spool_order order;
    bool keeps_file;    /* exactly once, in DIR/<name>.out */
    const char *config; /* not NULL: the library's own sink of kind "file"; paths in it are relative to DIR */
    uint32_t max_attempts, batch_events_max, workers;
    enum scene_answer (*answer)(uint32_t producer, uint32_t number, uint32_t attempt); /* NULL: accepts */
    atomic_bool *forbids; /* may be NULL: while it is true the sink says that only an operator can mend it */
    const char *dir;
    /* For the oracle, which makes no marks: hears of each event instead. */
    void (*heard)(void *user, const struct scene_sink *sink, const struct spool_delivery *delivery);
    void *user;
    atomic_uint answered; /* events, of any outcome */
    int fd;               /* of the file */
    uint64_t size;
    char file[300];
};

int scene_sink_add(struct spool *spool, struct scene_sink *sink);
/* from_outside: as another process does, which knows nothing of who delivers to it. */
int scene_sink_remove(struct spool *spool, const struct scene_sink *sink, bool from_outside);
int scene_sink_pause(struct spool *spool, const struct scene_sink *sink, bool on);
/* Until it has answered so often, since it was added. */
int scene_wait_answered(const struct scene_sink *sink, unsigned n);
/* Until all that it accepted is stored, so many events, and so many rows of retries. */
int scene_wait_stored(struct spool *spool, const struct scene_sink *sink, uint64_t delivered, uint64_t retries);
int scene_drain(struct spool *spool);
/* Stops delivery, starts nothing. */
int scene_stop(struct spool *spool);
int scene_requeue(struct spool *spool, const struct scene_sink *sink);
int scene_purge(struct spool *spool, const struct scene_sink *sink);
/* To the oldest event there is. */
int scene_rewind(struct spool *spool, const struct scene_sink *sink);
/* Its dead letters go to another sink. */
int scene_move(struct spool *spool, const struct scene_sink *from, const struct scene_sink *to);
/* Sets max_pending_bytes: larger than what a scenario keeps, so that nothing is dropped. */
int scene_limit(struct spool *spool, const struct scene_sink *sink, uint32_t bytes);
/* What a configuration that is read again says of the sink, and what is to become of it. */
struct scene_configured {
    bool named;
    uint32_t limit; /* max_pending_bytes, as in scene_limit() */
    const char *order;
    enum spool_reload_change expected;
};
/* For a sink of kind "file" that was added. */
int scene_reload(struct spool *spool, const struct scene_sink *sink, const struct scene_configured *configured);
/* Until a sink that forbids deliveries is paused, with its reason. */
int scene_wait_paused(struct spool *spool, const struct scene_sink *sink);
/* Puts each dead letter's event in its own place: nothing but its rows change. */
int scene_edit(struct spool *spool, const struct scene_sink *sink);
/* The file of a sink that keeps one: a producer and a number, eight bytes each event. */
void scene_sink_path(const char *dir, const char *name, char *ret, size_t size);

/* -------------------------------------------------------------------------------------------------------- processes */

/* Runs `work` in a child, which is killed when it returns true, and ends by itself (exit 0) when it returns false. 0,
 * or it did neither. */
int scene_child(bool (*work)(const char *dir, uint64_t seed), const char *dir, uint64_t seed);

/* One line on stderr; returns `code`, or -1 for 0. */
int scene_fail(int code, const char *doing);

#endif
