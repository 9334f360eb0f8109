/* world.c - what happens: time passes, clocks are set, machines sleep, restart, send messages. */
#include "world.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "../../../lib/base/error.h"

#define BEGIN_NS 1800000000ull * SEC

struct world world;
enum control control;

/* --------------------------------------------------------------------------------------------------------- chance */

/* splitmix64 (Steele, Lea, Flood 2014). */
uint64_t chance_number(void)
{
    uint64_t z = world.random += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

uint64_t chance_below(uint64_t n)
{
    return n ? chance_number() % n : 0;
}

bool chance_percent(unsigned percent)
{
    return chance_below(100) < percent;
}

int64_t chance_around(uint64_t most)
{
    return (int64_t)chance_below(2 * most + 1) - (int64_t)most;
}

/* --------------------------------------------------------------------------------------------------------- history */

void note(const char *format, ...)
{
    char line[256];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (const char *p = line; *p; p++)
        world.hash = (world.hash ^ (uint8_t)*p) * 0x100000001b3ull;
    if (world.trace)
        printf("%6llu %14.6f  %s\n", (unsigned long long)world.step, (double)(world.true_ns - BEGIN_NS) / 1e9, line);
}

void violation(const char *what, const char *format, ...)
{
    char line[256];
    va_list args;
    if (world.failed)
        return;
    world.failed = true;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    printf("VIOLATION of %s: %s\n  seed %llu, step %llu   (again: clockworld --seed %llu --trace)\n", what, line,
           (unsigned long long)world.seed, (unsigned long long)world.step, (unsigned long long)world.seed);
}

/* ---------------------------------------------------------------------------------------------------------- clocks */

static uint64_t by_rate(uint64_t ns, int64_t ppb)
{
    return ns + (uint64_t)((int64_t)(ns / 1000) * ppb / 1000000);
}

static void node_pass(struct node *node, uint64_t ns)
{
    bool slews = node->slew_until_ns > world.true_ns;
    uint64_t raw = by_rate(ns, node->drift_ppb), slewed = slews ? by_rate(raw, node->slew_ppm * 1000) : raw;
    node->now.raw_ns += raw;
    node->now.mono_ns += slewed;
    node->now.boot_ns += slewed;
    node->now.wall_ns += slewed;
}

/* In parts, so that a slew ends about when it does. */
void world_pass(uint64_t ns)
{
    while (ns) {
        uint64_t part = ns < SEC ? ns : SEC;
        for (unsigned i = 0; i < world.node_count; i++)
            if (world.nodes[i].slew_until_ns > world.true_ns && part > SEC / 10)
                part = SEC / 10;
        for (unsigned i = 0; i < world.node_count; i++)
            node_pass(&world.nodes[i], part);
        world.true_ns += part;
        ns -= part;
    }
}

static uint64_t node_wall(void *user)
{
    return ((struct node *)user)->now.wall_ns;
}

static void node_see(void *user, struct hlc_look *ret)
{
    *ret = ((struct node *)user)->now;
}

static void node_hear(void *user, const struct hlc_event *event)
{
    struct node *node = user;
    node->told++;
    note("node %d is told: %s", node->index, event->text);
}

/* ----------------------------------------------------------------------------------------------------- begin, end */

static void node_boot(struct node *node)
{
    const struct hlc_options options = {.physical = node_wall,
                                        .physical_user = node,
                                        .see = node_see,
                                        .on_event = node_hear,
                                        .event_user = node,
                                        .drift_ppm = DRIFT_PPM,
                                        .no_thread = true};
    if (hlc_new(&options, &node->clock)) {
        violation("setup", "%s", spool_last_error());
        return;
    }
    hlc_raise(node->clock, &node->last); /* what its disk knows */
    node->up = true;
    node->remembers_truth = false;
    node->paused_ns = 0;
    node->highest_ns = spool_id_time_ns(&node->last);
    node->counted = 0;
    node_add_sources(node);
}

static struct server make_server(bool honest, uint32_t root)
{
    struct server s = {.manner = HONEST, .distance_ns = 1 * MS + chance_below(200 * MS), .root = root};
    if (honest) {
        s.offset_ns = chance_around(s.distance_ns - MS / 2);
        return s;
    }
    s.manner = (enum manner)(LIAR_FAR + chance_below(3));
    s.distance_ns = 1 * MS + chance_below(20 * MS);
    s.offset_ns = chance_around(s.manner == LIAR_NEAR ? 400 * MS : 2000 * SEC);
    return s;
}

/* Honest roots first, then liars; of one root there may be many servers that lie. */
static void node_servers(struct node *node)
{
    unsigned honest = 1 + (unsigned)chance_below(4);
    unsigned liars = world.few_liars ? (unsigned)chance_below(honest) : (unsigned)chance_below(4);
    for (unsigned i = 0; i < honest; i++)
        node->servers[node->server_count++] = make_server(true, 100 + i);
    for (unsigned i = 0; i < liars; i++) {
        unsigned many = 1 + (chance_percent(40) ? (unsigned)chance_below(4) : 0);
        const struct server liar = make_server(false, 200 + i);
        for (unsigned k = 0; k < many && node->server_count < SERVERS_MAX; k++)
            node->servers[node->server_count++] = liar;
    }
}

static void node_make(struct node *node, int index)
{
    *node = (struct node){.index = index};
    node->drift_ppb = chance_around((DRIFT_PPM - 1) * 1000);
    node->delay_max_ns = MS + chance_below(chance_percent(30) ? 800 * MS : 40 * MS);
    node->now = (struct hlc_look){world.true_ns + (uint64_t)chance_around(200 * MS), 50 * SEC, 50 * SEC, 60 * SEC};
    node_servers(node);
    node_boot(node);
}

void world_begin(uint64_t seed)
{
    bool trace = world.trace;
    world =
        (struct world){.seed = seed, .random = seed * 0x2545f4914f6cdd1dull + 1, .true_ns = BEGIN_NS, .trace = trace};
    world.few_liars = chance_percent(60);
    world.node_count = 2 + (unsigned)chance_below(NODES_MAX - 1);
    for (unsigned i = 0; i < world.node_count; i++)
        node_make(&world.nodes[i], (int)i);
}

void world_end(void)
{
    for (unsigned i = 0; i < world.node_count; i++)
        hlc_free(world.nodes[i].clock);
}

/* ---------------------------------------------------------------------------------------------------------- events */

static void do_pass(struct node *node)
{
    static const uint64_t most[] = {MS, 100 * MS, 10 * SEC, 100 * SEC, 3000 * SEC};
    (void)node;
    world_pass(chance_below(most[chance_below(5)]) + 1);
}

static void do_poll(struct node *node)
{
    world.polls++;
    node->paused_ns = 0; /* it may go on, and be paused anew */
    hlc_poll(node->clock, false);
    judge_poll(node);
    note("node %d polls", node->index);
}

static void do_stamps(struct node *node)
{
    for (uint64_t n = 1 + chance_below(20); n; n--)
        judge_stamp(node);
}

static void do_read(struct node *node)
{
    judge_reading(node);
}

static void do_send(struct node *node)
{
    struct message *m = &world.messages[chance_below(MESSAGES_MAX)];
    judge_stamp(node);
    *m = (struct message){true, node->last};
    note("node %d sends", node->index);
}

static void do_receive(struct node *node)
{
    struct message *m = &world.messages[chance_below(MESSAGES_MAX)];
    if (!m->waits)
        return;
    int code = hlc_update(node->clock, &m->stamp);
    note("node %d %s a message", node->index, code ? "refuses" : "takes");
    judge_message(node, &m->stamp, code);
    m->waits = code == 0 && chance_percent(50); /* it may come twice */
}

/* A jump is at least what counts as one: less is followed, which is stated. */
static void do_jump(struct node *node)
{
    static const uint64_t most[] = {10 * SEC, 3600 * SEC, 86400 * SEC, 3650ull * 86400 * SEC};
    uint64_t size = 501 * MS + chance_below(most[chance_below(4)]);
    bool back = chance_percent(50) && size < node->now.wall_ns;
    if (!back && node->now.wall_ns < HLC_FLOOR_NS)
        return; /* never set before, it is followed wherever it is set to */
    node->now.wall_ns += back ? 0 - size : size;
    world.jumps++;
    node->paused_ns = 0;
    note("node %d: the wall clock jumps %s by %.3f s", node->index, back ? "back" : "forward", (double)size / 1e9);
}

/* Somebody sets it right again. */
static void do_set_right(struct node *node)
{
    node->now.wall_ns = world.true_ns + (uint64_t)chance_around(50 * MS);
    node->paused_ns = 0;
    hlc_physical_ns(node->clock); /* looked at once a second, before the next one sets it wrong */
    note("node %d: the wall clock is set right", node->index);
}

static void do_sleep(struct node *node)
{
    uint64_t ns = SEC + chance_below(20000 * SEC);
    struct hlc_look before = node->now;
    world_pass(ns);
    node->now.mono_ns = before.mono_ns;
    node->now.raw_ns = before.raw_ns;
    uint64_t rtc = ns + (uint64_t)chance_around(SEC / 2); /* it counts in seconds */
    node->now.boot_ns = before.boot_ns + rtc;
    node->now.wall_ns = before.wall_ns + rtc;
    world.sleeps++;
    note("node %d slept %.3f s", node->index, (double)ns / 1e9);
}

static void do_slew(struct node *node)
{
    node->slew_ppm = chance_around(80000);
    node->slew_until_ns = world.true_ns + chance_below(30 * SEC);
    world.slews++;
    note("node %d slews by %lld ppm", node->index, (long long)node->slew_ppm);
}

static void do_restart(struct node *node)
{
    hlc_free(node->clock);
    uint64_t wall = world.true_ns + (uint64_t)chance_around(200 * MS); /* the RTC; or there is none */
    node->now = (struct hlc_look){chance_percent(20) ? 40 * SEC : wall, 10 * SEC, 10 * SEC, 10 * SEC};
    world.restarts++;
    note("node %d restarts", node->index);
    node_boot(node);
}

static void do_outage(struct node *node)
{
    if (world.few_liars || !node->server_count)
        return;
    struct server *server = &node->servers[chance_below(node->server_count)];
    server->silent = !server->silent;
    note("node %d: a server %s", node->index, server->silent ? "falls silent" : "answers again");
}

static void do_all_outage(struct node *node)
{
    if (world.few_liars)
        return; /* a liar may be the first that answers again: nobody can tell */
    bool silent = chance_percent(50);
    for (unsigned i = 0; i < node->server_count; i++)
        node->servers[i].silent = silent;
    note("node %d: all servers %s", node->index, silent ? "fall silent" : "answer again");
}

static const struct {
    unsigned weight;
    void (*run)(struct node *node);
} events[] = {
    {30, do_pass},    {25, do_poll},  {20, do_stamps},    {20, do_read}, {15, do_send},
    {15, do_receive}, {4, do_jump},   {3, do_set_right},  {2, do_sleep}, {2, do_slew},
    {1, do_restart},  {3, do_outage}, {2, do_all_outage},
};

void world_step(void)
{
    unsigned all = 0;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        all += events[i].weight;
    uint64_t pick = chance_below(all);
    struct node *node = &world.nodes[chance_below(world.node_count)];
    world.step++;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        if (pick < events[i].weight) {
            events[i].run(node);
            return;
        }
        pick -= events[i].weight;
    }
}
