/* scene_sink.c - sinks of the laboratory: they note what they answer before they answer it; see scene.h.
 *
 * One that keeps a file appends eight bytes an event, and its checkpoint is the length of what it has flushed: what
 * stands behind that at open is cut off, which makes it exactly once. */
#include <fcntl.h>
#include <unistd.h>

#include "../../../lib/base/bytes.h"
#include "control.h"
#include "scene.h"

enum { PATIENCE_MS = 20000, ENTRY_BYTES = 8 };

/* --------------------------------------------------------------------------------------------------------- the file */

void scene_sink_path(const char *dir, const char *name, char *ret, size_t size)
{
    snprintf(ret, size, "%s/%s.out", dir, name);
}

static int flush_directory(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int err = fd < 0 ? errno : fsync(fd) ? errno : 0;
    if (fd >= 0)
        close(fd);
    return err;
}

/* `user` is the sink; a state is the same. */
static int open_sink(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                     size_t checkpoint_size)
{
    (void)json_config;
    struct scene_sink *sink = user;
    *ret_state = sink;
    if (!sink->keeps_file)
        return SPOOL_OK;
    sink->size = checkpoint_size == 8 ? get_u64(checkpoint) : 0;
    sink->fd = open(sink->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (sink->fd < 0)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s", sink->file);
    if (flush_directory(sink->dir) || ftruncate(sink->fd, (off_t)sink->size))
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s", sink->file);
    return SPOOL_OK;
}

static void close_sink(void *state)
{
    struct scene_sink *sink = state;
    if (sink->keeps_file && sink->fd >= 0)
        close(sink->fd);
    sink->fd = -1;
}

static bool append_entry(struct scene_sink *sink, uint32_t producer, uint32_t number)
{
    uint8_t entry[ENTRY_BYTES];
    put_u32(entry, producer);
    put_u32(entry + 4, number);
    if (pwrite(sink->fd, entry, sizeof entry, (off_t)sink->size) != sizeof entry)
        return false;
    sink->size += sizeof entry;
    return true;
}

static size_t checkpoint_sink(void *state, void *buf, size_t cap)
{
    struct scene_sink *sink = state;
    if (cap < 8 || fdatasync(sink->fd))
        return SIZE_MAX;
    put_u64(buf, sink->size);
    return 8;
}

/* ------------------------------------------------------------------------------------------------------- delivering */

static enum scene_answer answer_of(const struct scene_sink *sink, uint32_t producer, uint32_t number, uint32_t attempt)
{
    return sink->answer ? sink->answer(producer, number, attempt) : ANSWER_ACCEPT;
}

static void mark_answer(const struct scene_sink *sink, uint32_t producer, uint32_t number, enum scene_answer answer,
                        uint32_t attempt)
{
    const struct mark_answer mark = {sink->number, producer, number, (uint32_t)getpid()};
    bool last = sink->max_attempts && attempt >= sink->max_attempts;
    if (answer == ANSWER_ACCEPT)
        lab_mark(MARK_ACCEPT, &mark, sizeof mark);
    else if (answer == ANSWER_REJECT || last)
        lab_mark(MARK_REJECT, &mark, sizeof mark);
}

static void deliver_one(struct scene_sink *sink, struct spool_delivery *delivery)
{
    static const enum spool_outcome outcomes[] = {SPOOL_DELIVERED, SPOOL_RETRY, SPOOL_REJECTED};
    uint32_t producer = 0, number = 0;
    lab_event_read(delivery->event, &producer, &number);
    enum scene_answer answer = answer_of(sink, producer, number, delivery->attempt);
    if (sink->heard)
        sink->heard(sink->user, sink, delivery);
    else
        mark_answer(sink, producer, number, answer, delivery->attempt);
    if (answer == ANSWER_ACCEPT && sink->keeps_file && !append_entry(sink, producer, number))
        answer = ANSWER_RETRY;
    delivery->outcome = outcomes[answer];
    atomic_fetch_add(&sink->answered, 1);
}

static struct mark_sink mark_of(const struct scene_sink *sink, bool on)
{
    struct mark_sink mark = {.sink = sink->number, .on = on, .order = sink->order, .workers = sink->workers};
    snprintf(mark.name, sizeof mark.name, "%s", sink->name);
    snprintf(mark.kind, sizeof mark.kind, "%s", sink->config ? "file" : sink->keeps_file ? "lab-file" : "lab");
    snprintf(mark.config, sizeof mark.config, "%s", sink->config ? sink->config : "");
    return mark;
}

static const char forbidden[] = "403";

static int forbid(const struct scene_sink *sink)
{
    struct mark_sink mark = mark_of(sink, true);
    snprintf(mark.reason, sizeof mark.reason, "%s", forbidden);
    lab_mark(MARK_SINK_PAUSE, &mark, sizeof mark);
    return spool_sink_error(SPOOL_ECONFIG, "the far side says %s", forbidden);
}

static int deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct scene_sink *sink = state;
    if (sink->forbids && atomic_load(sink->forbids))
        return forbid(sink);
    for (size_t i = 0; i < n; i++)
        deliver_one(sink, SPOOL_DELIVERY_AT(batch, i));
    return SPOOL_OK;
}

/* ----------------------------------------------------------------------------------------------- what is done to it */

static void mark_sink(const struct scene_sink *sink, enum mark_kind kind, bool on)
{
    const struct mark_sink mark = mark_of(sink, on);
    if (!sink->heard)
        lab_mark(kind, &mark, sizeof mark);
}

/* An image has another path: so the process goes there, and the configuration stays the same. */
static int add_file_sink(struct spool *spool, struct scene_sink *sink, const struct spool_sink_options *options)
{
    control_same_inodes(true);
    if (chdir(sink->dir))
        return errno;
    return spool_sink_load(spool, sink->name, "file", sink->config, options);
}

static int add_own_sink(struct spool *spool, struct scene_sink *sink, const struct spool_sink_options *options)
{
    const struct spool_sink hooks = {
        .abi = SPOOL_SINK_ABI,
        .size = sizeof hooks,
        .kind = sink->keeps_file ? "lab-file" : "lab",
        .open = open_sink,
        .deliver = deliver,
        .close = close_sink,
        .checkpoint = sink->keeps_file ? checkpoint_sink : NULL,
    };
    sink->fd = -1;
    if (sink->keeps_file)
        scene_sink_path(sink->dir, sink->name, sink->file, sizeof sink->file);
    return spool_sink_add(spool, sink->name, &hooks, "{}", options);
}

int scene_sink_add(struct spool *spool, struct scene_sink *sink)
{
    const struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.user = sink, .order = sink->order, .max_attempts = sink->max_attempts, .retry_base_ms = 1,
                           .retry_cap_ms = 2, .batch_events_max = sink->batch_events_max, .workers = sink->workers);
    mark_sink(sink, MARK_SINK_ADD, true);
    int code = sink->config ? add_file_sink(spool, sink, &options) : add_own_sink(spool, sink, &options);
    if (code)
        return scene_fail(code, "adding a sink");
    mark_sink(sink, MARK_SINK_ADDED, true);
    return 0;
}

int scene_sink_remove(struct spool *spool, const struct scene_sink *sink, bool from_outside)
{
    mark_sink(sink, MARK_SINK_REMOVE, false);
    int code = from_outside ? store_sink_remove(spool->store, sink->name, deadline_in_ms(PATIENCE_MS))
                            : spool_sink_remove(spool, sink->name);
    if (code)
        return scene_fail(code, "removing a sink");
    mark_sink(sink, MARK_SINK_REMOVED, false);
    return 0;
}

int scene_sink_pause(struct spool *spool, const struct scene_sink *sink, bool on)
{
    mark_sink(sink, MARK_SINK_PAUSE, on);
    int code = on ? spool_sink_pause(spool, sink->name) : spool_sink_resume(spool, sink->name);
    if (code)
        return scene_fail(code, "pausing a sink");
    mark_sink(sink, MARK_SINK_PAUSED, on);
    return 0;
}

static int settle(struct spool *spool, int (*how)(struct spool *spool, uint32_t timeout_ms), const char *doing)
{
    const struct mark_flush round = scene_round();
    lab_mark(MARK_SETTLE, &round, sizeof round);
    int code = how(spool, PATIENCE_MS);
    if (code)
        return scene_fail(code, doing);
    lab_mark(MARK_SETTLED, &round, sizeof round);
    return 0;
}

int scene_wait_answered(const struct scene_sink *sink, unsigned n)
{
    uint64_t deadline = deadline_in_ms(PATIENCE_MS);
    while (atomic_load(&sink->answered) < n) {
        if (mono_ns() > deadline)
            return scene_fail(ETIMEDOUT, "waiting for a sink");
        usleep(500);
    }
    return 0;
}

/* Counters of answers are stored in the transaction of the answers. */
int scene_wait_stored(struct spool *spool, const struct scene_sink *sink, uint64_t delivered, uint64_t retries)
{
    struct store_sink found = {0};
    uint64_t deadline = deadline_in_ms(PATIENCE_MS);
    while (found.delivered < delivered || found.retry_rows < retries) {
        if (mono_ns() > deadline)
            return scene_fail(ETIMEDOUT, "waiting for answers to be stored");
        usleep(500);
        int code = store_sink_get(spool->store, sink->name, &found);
        if (code)
            return scene_fail(code, "looking at a sink");
    }
    const struct mark_flush round = scene_round();
    lab_mark(MARK_SETTLE, &round, sizeof round);
    lab_mark(MARK_SETTLED, &round, sizeof round);
    return 0;
}

int scene_drain(struct spool *spool)
{
    return settle(spool, spool_drain, "draining");
}
int scene_stop(struct spool *spool)
{
    return settle(spool, spool_stop, "stopping");
}

int scene_requeue(struct spool *spool, const struct scene_sink *sink)
{
    mark_sink(sink, MARK_REQUEUE, true);
    int code = spool_dead_requeue(spool, sink->name, NULL, NULL);
    if (code && code != SPOOL_ENOTFOUND)
        return scene_fail(code, "requeueing dead letters");
    mark_sink(sink, MARK_REQUEUED, true);
    return 0;
}

int scene_purge(struct spool *spool, const struct scene_sink *sink)
{
    mark_sink(sink, MARK_PURGE, true);
    int code = spool_dead_purge(spool, sink->name, NULL, NULL);
    if (code && code != SPOOL_ENOTFOUND)
        return scene_fail(code, "purging dead letters");
    mark_sink(sink, MARK_PURGED, true);
    return 0;
}

int scene_rewind(struct spool *spool, const struct scene_sink *sink)
{
    mark_sink(sink, MARK_REWIND, true);
    int code = spool_sink_rewind(spool, sink->name, 1, NULL, NULL);
    if (code)
        return scene_fail(code, "rewinding a sink");
    mark_sink(sink, MARK_REWOUND, true);
    return 0;
}

int scene_move(struct spool *spool, const struct scene_sink *from, const struct scene_sink *to)
{
    struct mark_sink mark = mark_of(from, false);
    mark.on = to->number;
    lab_mark(MARK_MOVE, &mark, sizeof mark);
    int code = spool_dead_requeue_to(spool, from->name, NULL, to->name, NULL);
    if (code && code != SPOOL_ENOTFOUND)
        return scene_fail(code, "requeueing to another sink");
    lab_mark(MARK_MOVED, &mark, sizeof mark);
    return 0;
}

int scene_limit(struct spool *spool, const struct scene_sink *sink, uint32_t bytes)
{
    struct mark_sink mark = mark_of(sink, false);
    mark.on = bytes;
    lab_mark(MARK_LIMIT, &mark, sizeof mark);
    int code = spool_sink_set_options(spool, sink->name, &SPOOL_SINK_OPTIONS(.max_pending_bytes = bytes));
    if (code)
        return scene_fail(code, "limiting what may wait");
    lab_mark(MARK_LIMITED, &mark, sizeof mark);
    return 0;
}

int scene_wait_paused(struct spool *spool, const struct scene_sink *sink)
{
    struct mark_sink mark = mark_of(sink, true);
    struct store_sink found;
    uint64_t deadline = deadline_in_ms(PATIENCE_MS);
    snprintf(mark.reason, sizeof mark.reason, "%s", forbidden);
    for (;;) {
        int code = store_sink_get(spool->store, sink->name, &found);
        if (code)
            return scene_fail(code, "looking at a sink");
        if (found.paused)
            break;
        if (mono_ns() > deadline)
            return scene_fail(ETIMEDOUT, "waiting for a sink to be paused");
        usleep(500);
    }
    lab_mark(MARK_SINK_PAUSED, &mark, sizeof mark);
    return 0;
}

/* Their ids, to edit them when no callback runs. */
struct letter_ids {
    struct spool_id ids[64];
    size_t n;
};

static int keep_id(void *user, const struct spool_dead_letter *letter)
{
    struct letter_ids *kept = user;
    if (kept->n < sizeof kept->ids / sizeof *kept->ids)
        kept->ids[kept->n++] = *letter->event->id;
    return 0;
}

int scene_edit(struct spool *spool, const struct scene_sink *sink)
{
    struct letter_ids kept = {.n = 0};
    int code = spool_dead_each(spool, sink->name, keep_id, &kept);
    for (size_t i = 0; i < kept.n && !code; i++) {
        struct spool_dead_letter *letter;
        code = spool_dead_get(spool, sink->name, &kept.ids[i], &letter);
        if (code)
            break;
        code = spool_dead_edit(spool, sink->name, &kept.ids[i], letter->event, NULL);
        spool_dead_letter_free(letter);
    }
    return code ? scene_fail(code, "editing dead letters") : 0;
}
