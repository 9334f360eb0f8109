/* raw_redis.c - XADD of the same entries by hiredis alone, as its README shows for many commands: BATCH of them
 * appended, then their replies read. Each entry is rendered with an id and a time of its own. (The sink sends a batch as
 * one call of a script, which also writes down which batches there were.)
 *
 *     raw_redis SOCKET STREAM EVENTS BYTES BATCH */
#include <hiredis/hiredis.h>

#include "load.h"

static void append(redisContext *redis, const char *stream, uint64_t n, size_t bytes)
{
    static struct load load;
    char *json;
    size_t size;
    load_event(&load, n, bytes);
    json = load_json(&load, &size);
    const char *words[] = {"XADD", stream, "*", "id", load.id_text, "type", load.event.type, "event", json};
    const size_t sizes[] = {4, strlen(stream), 1, 2, SPOOL_ID_TEXT_SIZE - 1, 4, strlen(load.event.type), 5, size};
    if (redisAppendCommandArgv(redis, 9, words, sizes) != REDIS_OK)
        errx(1, "%s", redis->errstr);
    spool_free(json);
}

int main(int argc, char **argv)
{
    uint64_t events = load_number(argc, argv, 3, 0), bytes = load_number(argc, argv, 4, 0),
             batch = load_number(argc, argv, 5, 1);
    if (argc != 6)
        errx(2, "usage: raw_redis SOCKET STREAM EVENTS BYTES BATCH");
    redisContext *redis = redisConnectUnix(argv[1]);
    if (!redis || redis->err)
        errx(1, "%s: %s", argv[1], redis ? redis->errstr : "out of memory");
    uint64_t start_ns = clock_ns();
    for (uint64_t n = 0; n < events;) {
        uint64_t first = n;
        for (; n < events && n - first < batch; n++)
            append(redis, argv[2], n, bytes);
        for (uint64_t i = first; i < n; i++) {
            redisReply *reply;
            if (redisGetReply(redis, (void **)&reply) != REDIS_OK || reply->type != REDIS_REPLY_STRING)
                errx(1, "XADD: %s", redis->errstr);
            freeReplyObject(reply);
        }
    }
    load_report(events, start_ns);
    redisFree(redis);
    return 0;
}
