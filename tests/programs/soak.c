/* soak.c - everything goes wrong for a while, and then the account has to be right to the event.
 *
 *     soak --dir DIR [--seconds 600] [--seed N]
 *
 * Life after life of a process that produces and delivers: it is killed in a sink, aborted, left by exit(), or closed.
 * Meanwhile sinks fail, hang, slow down, refuse, forbid and come back; rates, priorities and times to live are random; sinks
 * are paused, resumed, added, removed and given other options, and delivery is stopped and started. The ledger, a mapped file that outlives them all,
 * knows of each event what was promised and what arrived. Then one life in peace, and for each sink:
 *
 *     every event that was accepted is delivered, dead, or was allowed to expire; none arrived that was not enqueued;
 *     delivered + dead + dropped, as the spool counts them, is what came in, and the same for all sinks;
 *     where order is promised, first arrivals are in order.
 *
 * All choices come from the seed, which is printed; when they take effect is up to the machine. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../lib/spool.h"

enum { EVENTS_MAX = 4 << 20, SINKS = 3, AGENTS = 6, PRODUCERS = 2, LATE_S = 60 };

/* Of one event. */
struct entry {
    _Atomic uint8_t intended, accepted, may_expire; /* enqueue was called; it returned SPOOL_OK */
    _Atomic uint8_t arrived[SINKS], dead[SINKS];
};

struct ledger {
    _Atomic uint32_t next;                                    /* number of an event */
    _Atomic uint32_t latest[SINKS][AGENTS][SPOOL_PRIORITIES]; /* first arrivals of a key: the greatest number, and 1 */
    _Atomic uint32_t out_of_order, invented, lives, crashes, hangs, pauses;
    _Atomic bool peace;
    struct entry entries[EVENTS_MAX];
};

static struct ledger *ledger;
static const char *dir;
static uint64_t seed = 1;

/* splitmix64, a stream for each use. */
struct stream {
    uint64_t state;
};

static uint64_t draw(struct stream *s, uint64_t below)
{
    uint64_t z = (s->state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (z ^ (z >> 31)) % below;
}

static struct stream stream_of(uint64_t life, uint64_t use)
{
    struct stream s = {seed * 1000003 + life * 8191 + use * 131};
    draw(&s, 2);
    return s;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void rest_ms(uint64_t ms)
{
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

/* ------------------------------------------------------------------------------------------------------------- sinks */

struct soak_sink {
    unsigned index;
    enum spool_order order;
    pthread_mutex_t lock; /* guards random */
    struct stream random;
    atomic_bool cancelled;
};
static struct soak_sink sinks[SINKS];

static uint64_t sink_draw(struct soak_sink *sink, uint64_t below)
{
    pthread_mutex_lock(&sink->lock);
    uint64_t n = draw(&sink->random, below);
    pthread_mutex_unlock(&sink->lock);
    return n;
}

static void note_arrival(struct soak_sink *sink, uint32_t number, const struct spool_event *event)
{
    struct entry *e = &ledger->entries[number];
    ledger->invented += number >= ledger->next || !e->intended;
    if (e->arrived[sink->index] < 255 && e->arrived[sink->index]++ > 0)
        return;
    unsigned agent = (unsigned)(event->agent[1] - '0');
    _Atomic uint32_t *latest = &ledger->latest[sink->index][agent][event->priority];
    if (sink->order != SPOOL_ORDER_NONE && *latest > number + 1) {
        fprintf(stderr, "order: s%u, agent %u, priority %d: event %u behind %u\n", sink->index, agent,
                (int)event->priority, number, *latest - 1);
        ledger->out_of_order++;
    }
    *latest = number + 1 > *latest ? number + 1 : *latest;
}

static void hang(struct soak_sink *sink)
{
    uint64_t most_ms = 300 + sink_draw(sink, 700);
    bool deaf = sink_draw(sink, 4) == 0;
    for (uint64_t ms = 0; ms < most_ms && (deaf || !sink->cancelled) && !ledger->peace; ms += 5)
        rest_ms(5);
}

/* Poison is poison for ever: which events these are is drawn from their number. */
static bool is_poison(const struct soak_sink *sink, uint32_t number)
{
    struct stream s = stream_of(number, 777 + sink->index);
    return draw(&s, 500) == 0;
}

/* False: an ordered sink stops here. */
static bool take_one(struct soak_sink *sink, struct spool_delivery *d)
{
    char text[16] = "";
    memcpy(text, d->event->body, d->event->body_size < 15 ? d->event->body_size : 15);
    uint32_t number = (uint32_t)strtoul(text, NULL, 10);
    if (is_poison(sink, number)) {
        spool_delivery_fail(d, SPOOL_REJECTED, "poison");
        return true;
    }
    if (!ledger->peace && sink_draw(sink, 400) == 0) {
        spool_delivery_fail(d, SPOOL_RETRY, "not now");
        return sink->order == SPOOL_ORDER_NONE;
    }
    note_arrival(sink, number, d->event);
    d->outcome = SPOOL_DELIVERED;
    return true;
}

static int soak_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct soak_sink *sink = state;
    sink->cancelled = false;
    uint64_t roll = ledger->peace ? 1000 : sink_draw(sink, 1000);
    size_t upto = n;
    if (roll < 4)
        raise(SIGKILL);
    if (roll < 24)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "connection refused");
    if (roll < 32)
        hang(sink);
    if (roll < 38)
        return spool_sink_error(SPOOL_ECONFIG, "403 Forbidden");
    if (roll < 80)
        rest_ms(roll % 30);
    if (roll < 110)
        upto = sink_draw(sink, n + 1); /* and then it is down */
    for (size_t i = 0; i < upto; i++) {
        if (roll == 111 && i == n / 2)
            raise(SIGKILL);
        if (!take_one(sink, SPOOL_DELIVERY_AT(batch, i)))
            return SPOOL_OK;
    }
    return upto < n ? SPOOL_EUNAVAILABLE : SPOOL_OK;
}

static void soak_cancel(void *state)
{
    struct soak_sink *sink = state;
    sink->cancelled = true;
}

static const struct spool_sink hooks = {.abi = SPOOL_SINK_ABI,
                                        .size = sizeof(struct spool_sink),
                                        .kind = "soak",
                                        .deliver = soak_deliver,
                                        .cancel = soak_cancel};

static void must(int code, const char *what)
{
    if (code != SPOOL_OK)
        errx(3, "%s: %s (%s)", what, spool_last_error(), spool_error_name(code));
}

static void add_sinks(struct spool *spool, uint64_t life)
{
    static const enum spool_order orders[SINKS] = {SPOOL_ORDER_NONE, SPOOL_ORDER_AGENT, SPOOL_ORDER_LANE};
    for (unsigned i = 0; i < SINKS; i++) {
        struct soak_sink *s = &sinks[i];
        *s = (struct soak_sink){.index = i, .order = orders[i], .random = stream_of(life, 10 + i)};
        pthread_mutex_init(&s->lock, NULL);
        char name[8];
        snprintf(name, sizeof name, "s%u", i);
        struct spool_sink_options options =
            SPOOL_SINK_OPTIONS(.user = s, .order = orders[i], .workers = i == 0 ? 3 : 1, .retry_base_ms = 2,
                               .retry_cap_ms = 200, .timeout_ms = 150, .batch_events_max = 64,
                               .max_attempts = i == 0 ? 6 : 0);
        must(spool_sink_add(spool, name, &hooks, NULL, &options), "adding a sink");
    }
    must(spool_sink_load(spool, "group", "quorum",
                         "{\"members\":[{\"kind\":\"null\"},{\"kind\":\"null\"},{\"kind\":\"null\"}],\"accept\":2}",
                         NULL),
         "adding the quorum");
}

/* --------------------------------------------------------------------------------------------------------- producing */

struct life {
    struct spool *spool;
    uint64_t number;
    double until_s;
    atomic_bool over;
    _Atomic unsigned producer; /* the next one's number */
};

static void enqueue_one(struct spool *spool, struct stream *random, unsigned producer)
{
    uint32_t number = ledger->next++;
    if (number >= EVENTS_MAX)
        errx(3, "more than %d events: shorten it", EVENTS_MAX);
    char body[16], agent[4];
    snprintf(body, sizeof body, "%u", number);
    snprintf(agent, sizeof agent, "a%u", producer * (AGENTS / PRODUCERS) + (unsigned)draw(random, AGENTS / PRODUCERS));
    struct entry *e = &ledger->entries[number];
    struct spool_event event = SPOOL_EVENT(.type = "soak", .agent = agent, .body = body, .body_size = strlen(body),
                                           .priority = (enum spool_priority)draw(random, SPOOL_PRIORITIES));
    event.durability = draw(random, 200) == 0 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS;
    event.ttl_ms = draw(random, 50) == 0 ? 1 + draw(random, 2000) : 0;
    e->may_expire = event.ttl_ms > 0;
    e->intended = 1;
    int code = spool_enqueue(spool, &event, NULL);
    if (code == SPOOL_OK)
        e->accepted = 1;
    else if (code != SPOOL_EFULL && code != SPOOL_ESTOPPED)
        must(code, "enqueueing");
}

/* The numbers of a producer grow, and so do those of each of its agents: order is that of numbers. */
static void *produce(void *arg)
{
    struct life *life = arg;
    unsigned producer = life->producer++;
    struct stream random = stream_of(life->number, 100 + producer);
    while (!life->over && now_s() < life->until_s) {
        uint64_t burst = draw(&random, 60) + 1, pause_ms = draw(&random, 20);
        for (uint64_t i = 0; i < burst && !life->over; i++)
            enqueue_one(life->spool, &random, producer);
        rest_ms(pause_ms);
    }
    return NULL;
}

/* What an operator does meanwhile. */
static void *operate(void *arg)
{
    struct life *life = arg;
    struct stream random = stream_of(life->number, 200);
    bool guest = false;
    while (!life->over && now_s() < life->until_s) {
        char name[8];
        snprintf(name, sizeof name, "s%u", (unsigned)draw(&random, SINKS));
        uint64_t roll = draw(&random, 12);
        int code = SPOOL_OK;
        if (roll < 2) {
            code = spool_sink_pause(life->spool, name);
            ledger->pauses++;
        } else if (roll < 7)
            code = spool_sink_resume(life->spool, name); /* also one that paused itself */
        else if (roll < 8 && !guest)
            guest = (code = spool_sink_load(life->spool, "guest", "null", NULL, NULL)) == SPOOL_OK;
        else if (roll < 9 && guest) {
            code = spool_sink_remove(life->spool, "guest");
            guest = code != SPOOL_OK;
        } else if (roll == 9 && draw(&random, 3) == 0) {
            spool_stop(life->spool, (uint32_t)draw(&random, 400));
            code = spool_start(life->spool);
        }
        else if (roll > 9) {
            struct spool_sink_options change = SPOOL_SINK_OPTIONS(.batch_events_max = 1 + (uint32_t)draw(&random, 200));
            change.retry_cap_ms = 50 + (uint32_t)draw(&random, 300);
            change.timeout_ms = 100 + (uint32_t)draw(&random, 200);
            code = spool_sink_set_options(life->spool, name, &change);
        }
        if (code && code != SPOOL_ETIMEOUT && code != SPOOL_EBUSY && code != SPOOL_EEXISTS && code != SPOOL_ESTOPPED)
            must(code, "operating");
        rest_ms(draw(&random, 120));
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------------- lives */

static struct spool *open_spool(void)
{
    struct spool *spool;
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = 1u << 30, .segment_bytes = 4 << 20,
                                                 .journal_bytes = 1 << 20, .stop_timeout_ms = 2000, .workers = 6);
    must(spool_open(dir, &options, &spool), "opening the spool");
    return spool;
}

static void live(uint64_t number)
{
    struct stream random = stream_of(number, 1);
    struct life life = {.number = number, .until_s = now_s() + 0.2 + (double)draw(&random, 2500) / 1000};
    pthread_t producers[PRODUCERS], operator_;
    life.spool = open_spool();
    add_sinks(life.spool, number);
    must(spool_start(life.spool), "starting");
    for (int i = 0; i < PRODUCERS; i++)
        if (pthread_create(&producers[i], NULL, produce, &life))
            errx(3, "pthread_create");
    if (pthread_create(&operator_, NULL, operate, &life))
        errx(3, "pthread_create");
    uint64_t end = draw(&random, 6);
    if (end == 0) { /* in the middle of everything */
        rest_ms(draw(&random, 1500));
        raise(SIGKILL);
    }
    if (end == 1)
        exit(0);
    pthread_join(operator_, NULL);
    for (int i = 0; i < PRODUCERS; i++)
        pthread_join(producers[i], NULL);
    if (end == 2)
        abort();
    int code = spool_close(life.spool);
    ledger->hangs += code == SPOOL_ETIMEOUT;
    _exit(0);
}

/* Returns false if it did not end. */
static bool await(pid_t pid, int *ret_status)
{
    for (double until_s = now_s() + LATE_S; now_s() < until_s; rest_ms(2)) {
        pid_t got = waitpid(pid, ret_status, WNOHANG);
        if (got == pid)
            return true;
        if (got < 0)
            err(3, "waitpid");
    }
    kill(pid, SIGABRT);
    waitpid(pid, ret_status, 0);
    return false;
}

static unsigned failures;

static void check(bool holds, const char *what)
{
    printf("  %s  %s\n", holds ? "ok    " : "FAILED", what);
    failures += !holds;
}

static void run_lives(double seconds)
{
    double until_s = now_s() + seconds;
    for (uint64_t number = 1; now_s() < until_s; number++) {
        int status = 0;
        fflush(NULL);
        pid_t pid = fork();
        if (pid < 0)
            err(3, "fork");
        if (pid == 0)
            live(number);
        ledger->lives++;
        if (!await(pid, &status))
            check(false, "a life ends in time");
        ledger->crashes += WIFSIGNALED(status) != 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
            check(false, "a life ends without a surprise");
    }
}

/* ----------------------------------------------------------------------------------------------------------- account */

static int note_dead(void *user, const struct spool_dead_letter *letter)
{
    (void)user;
    char text[16] = "";
    memcpy(text, letter->event->body, letter->event->body_size < 15 ? letter->event->body_size : 15);
    uint32_t number = (uint32_t)strtoul(text, NULL, 10);
    if (letter->sink[0] == 's' && number < EVENTS_MAX)
        ledger->entries[number].dead[letter->sink[1] - '0'] = 1;
    return 0;
}

struct counts {
    uint64_t all[SINKS + 1], delivered[SINKS + 1], dropped[SINKS + 1], dead[SINKS + 1], pending;
};

static int note_counts(void *user, const struct spool_sink_info *info)
{
    struct counts *c = user;
    unsigned i = info->name[0] == 's' ? (unsigned)(info->name[1] - '0') : SINKS;
    if (strcmp(info->name, "guest") == 0)
        return 0;
    c->delivered[i] = info->delivered_events;
    c->dropped[i] = info->dropped_events;
    c->dead[i] = info->dead_letters;
    c->all[i] = info->delivered_events + info->dropped_events + info->dead_letters;
    c->pending += info->pending_events;
    return 0;
}

static void account_sink(unsigned i, const struct counts *c, uint64_t accepted, uint64_t intended)
{
    char text[200];
    uint64_t arrived = 0, repeats = 0, dead = 0, expired = 0, lost = 0;
    for (uint32_t k = 0; k < ledger->next; k++) {
        const struct entry *e = &ledger->entries[k];
        arrived += e->arrived[i] > 0;
        repeats += e->arrived[i] > 1 ? e->arrived[i] - 1u : 0;
        dead += e->dead[i];
        bool gone = e->accepted && !e->arrived[i] && !e->dead[i];
        expired += gone && e->may_expire;
        lost += gone && !e->may_expire;
    }
    snprintf(text, sizeof text,
             "s%u: %" PRIu64 " accepted: %" PRIu64 " arrived (%" PRIu64 " repeats), %" PRIu64 " dead, %" PRIu64
             " expired, %" PRIu64 " lost",
             i, accepted, arrived, repeats, dead, expired, lost);
    check(lost == 0, text);
    snprintf(text, sizeof text,
             "s%u: counted %" PRIu64 " delivered + %" PRIu64 " dropped + %" PRIu64 " dead, of %" PRIu64 " to %" PRIu64
             " that came in",
             i, c->delivered[i], c->dropped[i], c->dead[i], accepted, intended);
    check(c->all[i] >= accepted && c->all[i] <= intended && c->dead[i] == dead && expired <= c->dropped[i], text);
}

static void settle_account(struct spool *spool)
{
    static struct counts c;
    char text[160];
    uint64_t accepted = 0, intended = 0;
    for (uint32_t k = 0; k < ledger->next; k++) {
        accepted += ledger->entries[k].accepted;
        intended += ledger->entries[k].intended;
    }
    must(spool_dead_each(spool, NULL, note_dead, NULL), "dead letters");
    must(spool_sink_each(spool, note_counts, &c), "sinks");
    for (unsigned i = 0; i < SINKS; i++)
        account_sink(i, &c, accepted, intended);
    check(c.pending == 0, "nothing waits");
    snprintf(text, sizeof text, "all sinks count the same: %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, c.all[0],
             c.all[1], c.all[2], c.all[3]);
    check(c.all[0] == c.all[1] && c.all[1] == c.all[2] && c.all[2] == c.all[3], text);
    check(ledger->invented == 0, "nothing arrived that was not enqueued");
    check(ledger->out_of_order == 0, "first arrivals are in order where that is promised");
}

static void rest_in_peace(void)
{
    ledger->peace = true;
    struct spool *spool = open_spool();
    add_sinks(spool, 0);
    for (unsigned i = 0; i < SINKS; i++)
        must(spool_sink_resume(spool, (char[]){'s', (char)('0' + i), 0}), "resuming");
    spool_sink_remove(spool, "guest");
    must(spool_start(spool), "starting");
    check(spool_drain(spool, LATE_S * 1000) == SPOOL_OK, "all is delivered once there is peace");
    settle_account(spool);
    check(spool_close(spool) == SPOOL_OK, "the spool is closed");
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"dir", 1, NULL, 'd'}, {"seconds", 1, NULL, 't'}, {"seed", 1, NULL, 's'}, {NULL, 0, NULL, 0}};
    double seconds = 600;
    for (int c; (c = getopt_long(argc, argv, "", options, NULL)) >= 0;) {
        if (c == 'd')
            dir = optarg;
        else if (c == 't')
            seconds = strtod(optarg, NULL);
        else if (c == 's')
            seed = strtoull(optarg, NULL, 10);
        else
            errx(2, "soak --dir DIR [--seconds N] [--seed N]");
    }
    if (!dir)
        errx(2, "--dir is missing");
    ledger = mmap(NULL, sizeof *ledger, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ledger == MAP_FAILED)
        err(3, "mmap");
    printf("seed %" PRIu64 ", %g s (again: SEED=%" PRIu64 " SECONDS=%g make soak)\n", seed, seconds, seed, seconds);
    run_lives(seconds);
    rest_in_peace();
    printf("%u lives, %u crashes, %u closes beside a sink that hung, %u pauses\n", ledger->lives, ledger->crashes,
           ledger->hangs, ledger->pauses);
    printf("RESULT %u %u\n", failures ? 0 : 12, failures);
    return failures ? 1 : 0;
}
