/* soak.c - everything goes wrong for a while, and then the account has to be right to the event.
 *
 *     soak --dir DIR [--seconds 600] [--seed N]
 *
 * Life after life of a process that produces and delivers: it is killed in a sink, aborted, left by exit(), or closed.
 * Meanwhile sinks fail, hang, slow down, refuse, forbid and come back, and so do the members of a quorum and of a failover
 * group (tests/plugins/member.c); rates, priorities and times to live are random; sinks are paused, resumed, rewound, added,
 * removed and given other options, and delivery is stopped and started. The ledger, a mapped file that outlives them all,
 * knows of each event what was promised and what arrived. Then one life in peace, and for each sink:
 *
 *     every event that was accepted is delivered, dead, or was allowed to expire; none arrived that was not enqueued;
 *     delivered + dead + dropped, as the spool counts them, is what came in and what rewinding brought again, and the same
 *     for all sinks; of the groups, so many members as it takes have every event;
 *     where order is promised, first arrivals are in order.
 *
 * All choices come from the seed, which is printed; when they take effect is up to the machine. */
#include "soak_account.h"

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

static const char *beside(const char *name, char *buf, size_t size)
{
    snprintf(buf, size, "%s-%s", dir, name);
    return buf;
}

/* Beside this program's folder. */
static const char *plugin_path(char *buf, size_t size)
{
    char exe[400];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = 0;
    char *folder = strstr(exe, "/programs/");
    if (!folder)
        errx(3, "this program is not where its plugin is looked for");
    *folder = 0;
    snprintf(buf, size, "%s/tests/plugins/soak/libspool-sink-member.so", exe);
    return buf;
}

static void add_group(struct spool *spool, const char *kind, unsigned first, unsigned count, uint64_t life)
{
    char config[4000], plugin[500], path[500];
    int used = snprintf(config, sizeof config, "{\"retry_base\":\"2ms\",\"retry_cap\":\"100ms\",\"members\":[");
    plugin_path(plugin, sizeof plugin);
    beside("members", path, sizeof path);
    for (unsigned i = 0; i < count; i++)
        used += snprintf(config + used, sizeof config - (size_t)used,
                         "%s{\"kind\":\"member\",\"plugin\":\"%s\",\"path\":\"%s\",\"bit\":%u,\"seed\":%" PRIu64 "}",
                         i > 0 ? "," : "", plugin, path, first + i, (seed * 1000003 + life * 8191) % 1000000007);
    snprintf(config + used, sizeof config - (size_t)used, "]}");
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.retry_base_ms = 2, .retry_cap_ms = 200, .timeout_ms = 150, .batch_events_max = 64);
    must(spool_sink_load(spool, kind, kind, config, &options), "adding a group");
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
    add_group(spool, "quorum", 0, QUORUM_MEMBERS, life);
    add_group(spool, "failover", QUORUM_MEMBERS, FAILOVER_MEMBERS, life);
}

/* --------------------------------------------------------------------------------------------------------- producing */

struct life {
    struct spool *spool;
    uint64_t number;
    double until_s;
    atomic_bool over;
    _Atomic unsigned producer; /* the next one's number */
    pthread_mutex_t lock;      /* guards recent */
    struct spool_id recent[RECENT];
};

static void note_recent(struct life *life, uint32_t number, const struct spool_id *id)
{
    pthread_mutex_lock(&life->lock);
    life->recent[number % RECENT] = *id;
    pthread_mutex_unlock(&life->lock);
}

static void enqueue_one(struct life *life, struct stream *random, unsigned producer)
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
    struct spool_id id;
    int code = spool_enqueue(life->spool, &event, &id);
    if (code == SPOOL_OK) {
        e->accepted = 1;
        note_recent(life, number, &id);
    } else if (code != SPOOL_EFULL && code != SPOOL_ESTOPPED)
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
            enqueue_one(life, &random, producer);
        rest_ms(pause_ms);
    }
    return NULL;
}

/* To one of the last events, or by a time of up to two seconds ago. What the call says is part of the account; where the
 * process dies in it, nobody knows whether it was done. */
static int rewind_sink(struct life *life, unsigned index, struct stream *random)
{
    char name[8];
    uint64_t again = 0, ago_ns = draw(random, RETENTION_MS) * 1000000;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    pthread_mutex_lock(&life->lock);
    struct spool_id id = life->recent[draw(random, RECENT)];
    pthread_mutex_unlock(&life->lock);
    bool by_id = id.bytes[0] > 0 || id.bytes[1] > 0 ? draw(random, 2) == 0 : false;
    snprintf(name, sizeof name, "s%u", index);
    ledger->unknown[index]++;
    uint64_t to_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec - ago_ns;
    int code = spool_sink_rewind(life->spool, name, by_id ? 0 : to_ns, by_id ? &id : NULL, &again);
    if (code == SPOOL_OK) {
        ledger->again[index] += again;
        ledger->rewound[index]++;
        ledger->rewinds++;
    }
    ledger->unknown[index]--;
    return code == SPOOL_ENOTFOUND && by_id ? SPOOL_OK : code; /* not committed yet, or not stored any more */
}

/* What an operator does meanwhile. */
static void *operate(void *arg)
{
    struct life *life = arg;
    struct stream random = stream_of(life->number, 200);
    bool guest = false;
    while (!life->over && now_s() < life->until_s) {
        static const char *const names[COUNTED] = {"s0", "s1", "s2", "quorum", "failover"};
        const char *name = names[draw(&random, COUNTED)];
        uint64_t roll = draw(&random, 13);
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
            if (code == SPOOL_ENOTFOUND) /* an earlier call had no time to wait until it was let go of */
                code = SPOOL_OK;
            guest = code != SPOOL_OK;
        } else if (roll == 9 && draw(&random, 3) == 0) {
            spool_stop(life->spool, (uint32_t)draw(&random, 400));
            code = spool_start(life->spool);
        } else if (roll == 12)
            code = rewind_sink(life, (unsigned)draw(&random, REWOUND), &random);
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
    struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = 1u << 30, .segment_bytes = 4 << 20, .journal_bytes = 1 << 20,
                      .stop_timeout_ms = 2000, .workers = 6, .retention_ms = RETENTION_MS);
    must(spool_open(dir, &options, &spool), "opening the spool");
    return spool;
}

static void live(uint64_t number)
{
    struct stream random = stream_of(number, 1);
    struct life life = {.number = number, .until_s = now_s() + 0.2 + (double)draw(&random, 2500) / 1000};
    pthread_t producers[PRODUCERS], operator_;
    pthread_mutex_init(&life.lock, NULL);
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

static void rest_in_peace(void)
{
    ledger->peace = true;
    members[0] = 1;
    struct spool *spool = open_spool();
    add_sinks(spool, 0);
    for (unsigned i = 0; i < SINKS; i++)
        must(spool_sink_resume(spool, (char[]){'s', (char)('0' + i), 0}), "resuming");
    must(spool_sink_resume(spool, "quorum"), "resuming");
    must(spool_sink_resume(spool, "failover"), "resuming");
    spool_sink_remove(spool, "guest");
    must(spool_start(spool), "starting");
    check(spool_drain(spool, LATE_S * 1000) == SPOOL_OK, "all is delivered once there is peace");
    settle_account(spool);
    check(spool_close(spool) == SPOOL_OK, "the spool is closed");
}

static void map_members(void)
{
    char path[500];
    int fd = open(beside("members", path, sizeof path), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, EVENTS_MAX + 1))
        err(3, "%s", path);
    members = mmap(NULL, EVENTS_MAX + 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (members == MAP_FAILED)
        err(3, "mmap");
    close(fd);
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
    map_members();
    printf("seed %" PRIu64 ", %g s (again: SEED=%" PRIu64 " SECONDS=%g make soak)\n", seed, seconds, seed, seconds);
    run_lives(seconds);
    rest_in_peace();
    printf("%u lives, %u crashes, %u closes beside a sink that hung, %u pauses, %u rewinds\n", ledger->lives,
           ledger->crashes, ledger->hangs, ledger->pauses, ledger->rewinds);
    printf("RESULT %u %u\n", failures ? 0 : 14, failures);
    return failures ? 1 : 0;
}
