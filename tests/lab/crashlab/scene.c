/* scene.c - the spool of a scenario and its events; see scene.h. */
#include "scene.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../../lib/base/bytes.h"
#include "../../../spool/store_inside.h"
#include "control.h"

enum { PATIENCE_MS = 20000 };

int scene_fail(int code, const char *doing)
{
    fprintf(stderr, "scenario: %s: %s\n", doing, code < 0 ? spool_last_error() : spool_strerror(code));
    return code ? code : -1;
}

/* ------------------------------------------------------------------------------------------------ bytes of an event */

uint64_t scene_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u); /* splitmix64 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void lab_event_body(uint32_t producer, uint32_t number, uint32_t size, uint8_t *body)
{
    uint64_t random = (uint64_t)producer << 32 | number, word = 0;
    put_u32(body, producer);
    put_u32(body + 4, number);
    put_u32(body + 8, size);
    for (uint32_t i = EVENT_BODY_MIN; i < size; i++) {
        word = (i - EVENT_BODY_MIN) % 8 ? word >> 8 : scene_random(&random);
        body[i] = (uint8_t)word;
    }
}

bool lab_event_read(const struct spool_event *event, uint32_t *ret_producer, uint32_t *ret_number)
{
    const uint8_t *body = event->body;
    if (event->body_size < EVENT_BODY_MIN || get_u32(body + 8) != event->body_size)
        return false;
    *ret_producer = get_u32(body);
    *ret_number = get_u32(body + 4);
    uint8_t *right = malloc(event->body_size);
    if (!right)
        return false;
    lab_event_body(*ret_producer, *ret_number, (uint32_t)event->body_size, right);
    bool same = memcmp(right, body, event->body_size) == 0;
    free(right);
    return same;
}

/* ---------------------------------------------------------------------------------------------------------- opening */

static void on_change(void *user)
{
    struct spool *spool = user;
    struct delivery *delivery = atomic_load(&spool->delivery);
    if (delivery)
        delivery_wake(delivery);
}

static void small_files(struct spool *spool, const struct scene_options *o, struct store_options *ret)
{
    handle_store_options(&spool->options, ret);
    ret->journal_bytes = o->journal_bytes ? o->journal_bytes : 64 << 10;
    ret->segment_bytes = o->segment_bytes ? o->segment_bytes : 320 << 10;
    ret->max_bytes = o->max_bytes ? o->max_bytes : 64 << 20;
    ret->on_change = on_change;
    ret->change_user = spool;
}

static int make_stages(struct spool *spool, const struct scene_options *o)
{
    struct store_options store_options;
    struct delivery *delivery;
    small_files(spool, o, &store_options);
    int code = hlc_new(&(struct hlc_options){.physical = o->clock_ns}, &spool->clock);
    if (!code)
        code = store_open(spool->dir, &store_options, spool->clock, &spool->store);
    const struct delivery_options options = {
        .workers = o->workers ? o->workers : 1, .reporter = store_options.reporter, .clock = spool->clock, .seed = 1};
    if (!code)
        code = delivery_new(spool->store, &options, &delivery);
    if (!code)
        atomic_store(&spool->delivery, delivery);
    if (!code)
        code = ops_new(&(struct ops_options){.workers = 1, .bypasses_max = 1, .reporter = store_options.reporter},
                       &spool->ops);
    return code;
}

/* As spool_open(), but for sizes that are below its limits. Not in its registry: spool_close() does not mind. */
struct spool *scene_open(const char *dir, const struct scene_options *options)
{
    struct scene_options o = options ? *options : (struct scene_options){0};
    struct spool *spool = calloc(1, sizeof *spool);
    struct spool_options public = SPOOL_OPTIONS(.flush_interval_ms = o.flush_interval_ms, .on_notice = o.on_notice,
                                                .full_timeout_ms = o.full_timeout_ms, .compress = o.compress);
    public.full_policy[SPOOL_LOW] = o.low_policy;
    control_begin();
    int code = !spool || asprintf(&spool->dir, "%s/spool", dir) < 0 ? ENOMEM : fork_watch();
    if (!code)
        code = handle_options(&public, &spool->options);
    if (!code) {
        spool->fork_generation = fork_generation();
        spool->power = true;
        spool->opened = 1;
        code = make_stages(spool, &o);
    }
    if (code) {
        scene_fail(code, "opening");
        return NULL; /* the process ends */
    }
    if (!o.quiet)
        lab_mark(MARK_OPENED, NULL, 0);
    return spool;
}

struct mark_flush scene_round(void)
{
    static atomic_uint number;
    return (struct mark_flush){.process = (uint32_t)getpid(), .number = atomic_fetch_add(&number, 1)};
}

/* What was enqueued is power-safe after it, and what sinks answered is stored. */
int scene_close(struct spool *spool)
{
    const struct mark_flush round = scene_round();
    lab_mark(MARK_SETTLE, &round, sizeof round);
    lab_mark(MARK_FLUSH, &round, sizeof round);
    int code = spool_close(spool);
    if (code)
        return scene_fail(code, "closing");
    lab_mark(MARK_SETTLED, &round, sizeof round);
    lab_mark(MARK_FLUSHED, &round, sizeof round);
    return 0;
}

void scene_keep_house(struct spool *spool)
{
    atomic_store(&spool->store->pressure, true);
    store_tell_change(spool->store, false);
}

int scene_rotate(struct spool *spool)
{
    int code = log_rotate(spool->store->log, 1, deadline_in_ms(PATIENCE_MS));
    return code ? scene_fail(code, "beginning another segment") : 0;
}

uint64_t scene_recovered(const struct spool *spool)
{
    return atomic_load(&spool->store->recovered_events);
}

int scene_wait_recovered(struct spool *spool, uint64_t events)
{
    uint64_t deadline = deadline_in_ms(PATIENCE_MS);
    while (scene_recovered(spool) < events) {
        if (mono_ns() > deadline)
            return scene_fail(ETIMEDOUT, "waiting for the journal of a dead process");
        scene_keep_house(spool);
        usleep(2000);
    }
    return 0;
}

static _Thread_local struct spool *rotating;

static bool rotate_first(int fd)
{
    control_before_flush = NULL;
    if (fd == rotating->store->dir.journal_fd)
        log_rotate(rotating->store->log, 1, deadline_in_ms(PATIENCE_MS));
    control_before_flush = rotate_first;
    return true;
}

int scene_adopt_rotating(struct spool *spool, uint64_t events)
{
    rotating = spool;
    control_before_flush = rotate_first;
    recovery_adopt_dead(spool->store);
    control_before_flush = NULL;
    return scene_recovered(spool) == events ? 0 : scene_fail(EAGAIN, "adopting the journals of dead processes");
}

/* ------------------------------------------------------------------------------------------------------- enqueueing */

static struct mark_frame frame_of(const struct scene_producer *producer, uint32_t count, uint32_t size,
                                  enum spool_durability durability)
{
    return (struct mark_frame){
        .producer = producer->number,
        .first = producer->next,
        .count = count,
        .size = size < EVENT_BODY_MIN ? EVENT_BODY_MIN : size,
        .priority = producer->priority,
        .process = (uint32_t)getpid(),
        .power = durability != SPOOL_DURABLE_PROCESS,
        .agents = producer->order_agents,
    };
}

/* Fills events of the frame; `bodies` holds count * size bytes. */
static void fill_events(const struct scene_producer *producer, const struct mark_frame *frame, uint8_t *bodies,
                        enum spool_durability durability, struct spool_event *events)
{
    static const char *const agents[] = {"a", "b", "c", "d"};
    for (uint32_t i = 0; i < frame->count; i++) {
        uint32_t number = frame->first + i;
        lab_event_body(frame->producer, number, frame->size, bodies + (size_t)i * frame->size);
        events[i] = SPOOL_EVENT(.type = "lab", .priority = producer->priority, .durability = durability,
                                .content_type = "application/octet-stream", .body = bodies + (size_t)i * frame->size,
                                .body_size = frame->size);
        if (producer->order_agents)
            events[i].agent = agents[number % producer->order_agents];
    }
}

static int enqueue_frame(struct scene_producer *producer, uint32_t count, uint32_t size,
                         enum spool_durability durability)
{
    struct mark_frame frame = frame_of(producer, count, size, durability);
    const size_t head = offsetof(struct mark_frame, ids);
    struct spool_event events[FRAME_EVENTS_MAX];
    uint8_t *bodies = malloc((size_t)count * frame.size);
    if (!bodies)
        return ENOMEM;
    fill_events(producer, &frame, bodies, durability, events);
    lab_mark(MARK_ENQUEUE, &frame, head);
    frame.code = count == 1 ? spool_enqueue(producer->spool, events, frame.ids)
                            : spool_enqueue_many(producer->spool, events, count, frame.ids);
    lab_mark(MARK_ENQUEUED, &frame, head + count * sizeof *frame.ids);
    producer->next += count;
    free(bodies);
    return frame.code;
}

int scene_enqueue_try(struct scene_producer *producer, uint32_t size, enum spool_durability durability)
{
    return enqueue_frame(producer, 1, size, durability);
}

int scene_enqueue(struct scene_producer *producer, uint32_t size, enum spool_durability durability)
{
    int code = enqueue_frame(producer, 1, size, durability);
    return code ? scene_fail(code, "enqueueing") : 0;
}

int scene_enqueue_many(struct scene_producer *producer, uint32_t count, uint32_t size, enum spool_durability durability)
{
    int code = enqueue_frame(producer, count, size, durability);
    return code ? scene_fail(code, "enqueueing many") : 0;
}

int scene_enqueue_some(struct scene_producer *producer, uint32_t n, uint32_t size_max, enum spool_durability durability,
                       uint64_t *random)
{
    int code = 0;
    for (uint32_t i = 0; i < n && !code; i++)
        code = scene_enqueue(producer, (uint32_t)(scene_random(random) % size_max), durability);
    return code;
}

int scene_flush(struct spool *spool)
{
    const struct mark_flush round = scene_round();
    lab_mark(MARK_FLUSH, &round, sizeof round);
    int code = spool_flush(spool, PATIENCE_MS);
    if (code)
        return scene_fail(code, "flushing");
    lab_mark(MARK_FLUSHED, &round, sizeof round);
    return 0;
}

int scene_stamp(struct spool *spool)
{
    struct spool_id stamp;
    int code = spool_clock_now(spool, &stamp);
    if (code)
        return scene_fail(code, "asking the clock");
    lab_mark(MARK_STAMP, &stamp, sizeof stamp);
    return 0;
}

int scene_commit(struct spool *spool)
{
    int code = store_commit(spool->store, deadline_in_ms(PATIENCE_MS));
    return code ? scene_fail(code, "committing") : 0;
}

/* -------------------------------------------------------------------------------------------------------- processes */

static void be_the_child(bool (*work)(const char *dir, uint64_t seed), const char *dir, uint64_t seed)
{
    if (work(dir, seed))
        kill(getpid(), SIGKILL);
    _exit(0);
}

int scene_child(bool (*work)(const char *dir, uint64_t seed), const char *dir, uint64_t seed)
{
    int status;
    pid_t pid = fork();
    if (pid < 0)
        return scene_fail(errno, "fork");
    if (pid == 0)
        be_the_child(work, dir, seed);
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR)
            return scene_fail(errno, "waitpid");
    }
    bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    return killed || (WIFEXITED(status) && WEXITSTATUS(status) == 0) ? 0 : scene_fail(ECHILD, "a child failed");
}
