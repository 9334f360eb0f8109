/* sources.c - servers, asked through the SNTP packets of the library, over a network whose two ways are never alike. */
#include <string.h>

#include "../../../clock/sntp.h"
#include "../../../lib/base/bytes.h"
#include "../../../lib/base/error.h"
#include "world.h"

struct asking {
    struct node *node;
    struct server *server;
};
static struct asking askings[NODES_MAX][SERVERS_MAX];

static uint64_t ntp_time(uint64_t unix_ns)
{
    return (unix_ns / SEC + 2208988800ull) << 32 | (unix_ns % SEC << 32) / SEC;
}

/* A liar that is near pretends to be better than all and is just outside of what is true, or shares a part with some. */
static int64_t lie(const struct server *server)
{
    if (server->manner == LIAR_WANDERING)
        return server->offset_ns + chance_around(20 * SEC);
    return server->offset_ns;
}

static void put_short(uint8_t *p, uint64_t ns)
{
    uint64_t value = (ns << 16) / SEC + 1;
    p[0] = (uint8_t)(value >> 24), p[1] = (uint8_t)(value >> 16), p[2] = (uint8_t)(value >> 8), p[3] = (uint8_t)value;
}

static void make_reply(const struct server *server, uint64_t nonce, uint64_t received, uint64_t sent,
                       uint8_t p[SNTP_SIZE])
{
    memset(p, 0, SNTP_SIZE);
    p[0] = 4 << 3 | 4;
    p[1] = 2;
    p[3] = (uint8_t)-24;
    put_short(p + 8, server->distance_ns);
    put_be64(p + 24, nonce);
    put_be64(p + 32, ntp_time(received));
    put_be64(p + 40, ntp_time(sent));
}

/* As sntp_client.c takes it. */
static uint64_t longer(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static int read_server(void *state, uint32_t timeout_ms, struct spool_clock_sample *ret)
{
    struct asking *a = state;
    uint8_t request[SNTP_SIZE], reply[SNTP_SIZE];
    struct sntp_reply parsed;
    struct hlc_look sent = a->node->now, *now = &a->node->now;
    uint64_t nonce = chance_number();
    (void)timeout_ms;
    if (a->server->silent)
        return err_set(SPOOL_EUNAVAILABLE, "silent");
    sntp_request(nonce, request);
    world_pass(chance_below(a->node->delay_max_ns) + 1000);
    int64_t offset = a->server->manner == HONEST ? a->server->offset_ns : lie(a->server);
    uint64_t received = world.true_ns + (uint64_t)offset;
    world_pass(chance_below(MS));
    make_reply(a->server, get_be64(request + 40), received, world.true_ns + (uint64_t)offset, reply);
    world_pass(chance_below(a->node->delay_max_ns) + 1000);
    int code = sntp_check(reply, sizeof reply, nonce, world.true_ns, &parsed);
    if (!code)
        code = sntp_sample(&parsed, longer(now->boot_ns - sent.boot_ns, now->raw_ns - sent.raw_ns), now->boot_ns, ret);
    ret->root = a->server->root;
    return code;
}

void node_add_sources(struct node *node)
{
    for (unsigned i = 0; i < node->server_count; i++) {
        struct asking *a = &askings[node->index][i];
        char name[8] = {'s', (char)('0' + i)};
        const struct spool_clock_source hooks = {SPOOL_CLOCK_SOURCE_ABI, sizeof hooks, "world", .read = read_server};
        *a = (struct asking){node, &node->servers[i]};
        const struct spool_clock_source_options options =
            SPOOL_CLOCK_SOURCE_OPTIONS(.user = a, .poll_interval_ms = 16000 + 1000 * i,
                                       .preference = (uint32_t)chance_below(3));
        if (hlc_source_add(node->clock, name, &hooks, &options))
            violation("setup", "source %s: %s", name, spool_last_error());
    }
}
