/* producer.c - threads that enqueue, log what they intend and what was answered, and may deliver in the same process.
 *
 * Prints one JSON line at its end: {"tag":…,"acked":…,"full":…,"uncertain":…,"open_ms":…,"close_ms":…}. An answer other
 * than SPOOL_OK, SPOOL_EFULL and SPOOL_EUNCERTAIN ends it with exit status 1. program.h has the options. */
#include "sinks.h"

#include <pthread.h>
#include <stdatomic.h>

enum { BATCH_MAX = 64 };

struct producer {
    const struct program *program;
    struct spool *spool;
    int history_fd;
    uint64_t deadline_ns; /* 0: none */
    atomic_ullong acked, full, uncertain;
};

struct producer_thread {
    pthread_t thread;
    struct producer *producer;
    unsigned index;
    char *bodies; /* BATCH_MAX of them */
};

/* Spreads numbers, so that sizes and priorities look random and are the same in every run. */
static uint64_t mix(uint64_t n)
{
    return (n * 0x9e3779b97f4a7c15u) >> 32;
}

static size_t pad_size(const struct program *program, uint64_t n)
{
    if (program->large_every && n % program->large_every == program->large_every - 1)
        return program->large_size;
    uint64_t span = program->size_max > program->size ? program->size_max - program->size : 0;
    return program->size + (span ? mix(n) % span : 0);
}

static size_t body_room(const struct program *program)
{
    size_t room = program->size > program->size_max ? program->size : program->size_max;
    return BODY_OVERHEAD + (room > program->large_size ? room : program->large_size);
}

static enum spool_priority priority_of(const struct program *program, uint64_t n)
{
    enum spool_priority priority = (enum spool_priority)(mix(n) / 7 % SPOOL_PRIORITIES);
    if (strcmp(program->priority, "mixed") != 0)
        must(spool_priority_parse(program->priority, &priority), "--priority");
    return priority;
}

static enum spool_durability durability_of(const struct program *program, uint64_t n)
{
    if (strcmp(program->durability, "mixed") == 0)
        return n % 64 == 63 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS;
    return strcmp(program->durability, "power") == 0 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS;
}

/* Makes event number `n` in slot `i` of a batch; `agent` has room for its name. */
static void make_event(struct producer_thread *self, uint64_t n, size_t i, char agent[32], struct spool_event *ret)
{
    const struct program *program = self->producer->program;
    char *body = self->bodies + i * body_room(program);
    snprintf(agent, 32, "%s-%u-%u", program->tag, self->index, (unsigned)(n % program->agents));
    *ret = SPOOL_EVENT(.type = program->type, .agent = agent, .priority = priority_of(program, n),
                       .durability = durability_of(program, n), .ttl_ms = program->ttl_ms, .body = body,
                       .body_size = body_write(body, program->tag, self->index, n, pad_size(program, n)));
}

static struct history_event event_name(const struct producer_thread *self, uint64_t n)
{
    return (struct history_event){.tag = self->producer->program->tag, .thread = self->index, .n = n};
}

/* Says what is about to be enqueued: a call is known by its first event. */
static void log_intents(const struct producer_thread *self, uint64_t first, size_t count,
                        const struct spool_event *events)
{
    char lines[BATCH_MAX * LINE_SIZE];
    if (self->producer->history_fd < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct history_event name = event_name(self, first + i);
        history_intent(lines + i * LINE_SIZE, &name, first, &events[i], whole_crc(events[i].body, events[i].body_size));
    }
    history_append(self->producer->history_fd, lines, count);
}

static void log_outcomes(const struct producer_thread *self, uint64_t first, size_t count, int code,
                         const struct spool_id *ids)
{
    char lines[BATCH_MAX * LINE_SIZE];
    if (self->producer->history_fd < 0)
        return;
    for (size_t i = 0; i < count; i++) {
        struct history_event name = event_name(self, first + i);
        history_outcome(lines + i * LINE_SIZE, &name, code, &ids[i]);
    }
    history_append(self->producer->history_fd, lines, count);
}

/* One call, logged before and after. */
static int enqueue(struct producer_thread *self, uint64_t first, size_t count)
{
    struct spool_event events[BATCH_MAX];
    struct spool_id ids[BATCH_MAX];
    char agents[BATCH_MAX][32];
    for (size_t i = 0; i < count; i++)
        make_event(self, first + i, i, agents[i], &events[i]);
    log_intents(self, first, count, events);
    int code = count == 1 ? spool_enqueue(self->producer->spool, events, ids)
                          : spool_enqueue_many(self->producer->spool, events, count, ids);
    log_outcomes(self, first, count, code, ids);
    return code;
}

static void count_answer(struct producer *producer, int code, size_t count)
{
    if (code == SPOOL_OK)
        atomic_fetch_add(&producer->acked, count);
    else if (code == SPOOL_EFULL)
        atomic_fetch_add(&producer->full, count);
    else if (code == SPOOL_EUNCERTAIN)
        atomic_fetch_add(&producer->uncertain, count);
    else
        must(code, "spool_enqueue");
}

/* Keeps to --rate; returns false when the time is over. */
static bool pace(const struct producer *producer, uint64_t start_ns, uint64_t done)
{
    if (producer->program->rate)
        sleep_until(start_ns + done * 1000000000u / producer->program->rate);
    return !producer->deadline_ns || now_ns() < producer->deadline_ns;
}

static void *produce(void *argument)
{
    struct producer_thread *self = argument;
    const struct program *program = self->producer->program;
    uint64_t start_ns = now_ns();
    for (uint64_t done = 0; program->count == 0 || done < program->count;) {
        size_t count = program->batch;
        if (program->count && program->count - done < count)
            count = program->count - done;
        if (!pace(self->producer, start_ns, done))
            break;
        count_answer(self->producer, enqueue(self, program->start_at + done, count), count);
        done += count;
    }
    return NULL;
}

static void run_threads(struct producer *producer)
{
    const struct program *program = producer->program;
    struct producer_thread *threads = calloc(program->threads, sizeof *threads);
    if (!threads)
        err(1, "threads");
    for (unsigned i = 0; i < program->threads; i++) {
        threads[i] = (struct producer_thread){.producer = producer, .index = i};
        threads[i].bodies = malloc(BATCH_MAX * body_room(program));
        if (!threads[i].bodies || pthread_create(&threads[i].thread, NULL, produce, &threads[i]) != 0)
            errx(1, "thread %u", i);
    }
    for (unsigned i = 0; i < program->threads; i++) {
        pthread_join(threads[i].thread, NULL);
        free(threads[i].bodies);
    }
    free(threads);
}

int main(int argc, char **argv)
{
    struct program program = program_options(argc, argv);
    if (program.batch > BATCH_MAX)
        errx(2, "--batch: at most %d", BATCH_MAX);
    struct producer producer = {.program = &program, .history_fd = history_open(program.history)};
    struct callback_sink callback;
    uint64_t start_ns = now_ns();
    history_process(producer.history_fd, "opening", program.tag, SPOOL_OK);
    producer.spool = program_open(&program);
    double open_ms = ms_since(start_ns);
    history_process(producer.history_fd, "open", program.tag, SPOOL_OK);
    if (program_add_sinks(&program, producer.spool, &callback))
        must(spool_start(producer.spool), "spool_start");
    program_barrier(&program);
    producer.deadline_ns = program.seconds ? now_ns() + program.seconds * 1000000000u : 0;
    run_threads(&producer);
    int drained = program.drain_ms ? spool_drain(producer.spool, (uint32_t)program.drain_ms) : SPOOL_OK;
    if (drained != SPOOL_OK)
        warnx("spool_drain: %s", spool_last_error());
    start_ns = now_ns();
    int closed = program.no_close ? SPOOL_OK : spool_close(producer.spool);
    printf("{\"tag\":\"%s\",\"acked\":%llu,\"full\":%llu,\"uncertain\":%llu,\"open_ms\":%.3f,\"drain\":\"%s\","
           "\"close\":\"%s\","
           "\"close_ms\":%.3f}\n",
           program.tag, (unsigned long long)producer.acked, (unsigned long long)producer.full,
           (unsigned long long)producer.uncertain, open_ms, spool_error_name(drained), spool_error_name(closed),
           ms_since(start_ns));
    fflush(stdout);
    history_process(producer.history_fd, program.no_close ? "gone" : "close", program.tag, closed);
    if (program.no_close)
        _exit(0);
    return drained == SPOOL_OK && closed == SPOOL_OK ? 0 : 1;
}
