/* redis.c - events as entries of a Redis stream, each exactly once.
 *
 * An entry has the fields id, type and event, the native JSON rendering. Redis numbers the entries itself: numbers made
 * from the event's clock would have to grow, and events of several priorities, or that are tried again, do not come in
 * the order of their ids.
 *
 * Exactly once: a batch is one call of a script, which Redis runs and logs as a whole. Beside the entries it appends
 * the ids of the batch to a list, the journal of the last batches, and counts. Whoever delivers knows what
 * is in the journal, and how far it was counted: an event that is there is not sent again. If the count is another one
 * than it knows, because an answer was lost or somebody else delivered meanwhile, the script adds nothing and answers
 * with the journal. So the guarantee costs one short list element a batch, asks no questions while nothing breaks, and
 * does not depend on what consumers have done with the entries. What may come again is what
 * the spool has not stored as delivered: so many batches the journal keeps, and KEEP_BATCHES more.
 *
 * Keys of Redis: STREAM; {STREAM}:spool:journal and {STREAM}:spool:count, in the same slot of a cluster. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"
#include "redis_known.h"
#include "redis_link.h"

enum { KEEP_BATCHES = 64, UNSTORED_MAX = 1024, SYNCS_MAX = 100, SHA_SIZE = 40 };
enum durability { DURABLE_FSYNC, DURABLE_ANY };
static const char *const durability_names[] = {"fsync", "any", NULL};

/* KEYS: stream, journal, count. ARGV: count that is known, longest stream (0: no limit), batches to keep, ids of the
 * batch, then id, type and event of each. What may fail for its type comes before the first write. */
static const char script[] =
    "local count = redis.call('GET', KEYS[3]) or '0'\n"
    "if count ~= ARGV[1] then\n"
    "  local journal = redis.call('LRANGE', KEYS[2], 0, -1)\n"
    "  table.insert(journal, 1, count)\n"
    "  return journal\n"
    "end\n"
    "redis.call('LLEN', KEYS[2])\n"
    "local next = string.format('%.0f', tonumber(count) + 1)\n"
    "for i = 5, #ARGV, 3 do\n"
    "  if ARGV[2] == '0' then\n"
    "    redis.call('XADD', KEYS[1], '*', 'id', ARGV[i], 'type', ARGV[i + 1], 'event', ARGV[i + 2])\n"
    "  else\n"
    "    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', 'id', ARGV[i], 'type', ARGV[i + 1], 'event', ARGV[i "
    "+ 2])\n"
    "  end\n"
    "end\n"
    "redis.call('RPUSH', KEYS[2], ARGV[4])\n"
    "redis.call('LTRIM', KEYS[2], -tonumber(ARGV[3]), -1)\n"
    "redis.call('SET', KEYS[3], next)\n"
    "return next\n";

struct stream {
    struct redis_where where;
    struct secret password;
    char *name, *journal, *counter;
    uint64_t connect_ms, maxlen, replicas, replicas_ms;
    int durability;
    struct cancel cancel;
    struct redis_link link;
    char sha[SHA_SIZE + 1]; /* of the script; "": not loaded */
    char count[24];         /* as far as known; "?": not */
    struct known known;
    struct buffer command, words, ids;
};

/* -------------------------------------------------------------------------------------------------------- connecting
 */

static int log_in(struct stream *s)
{
    char *password = NULL, db[8];
    int code = secret_read(&s->password, "password", &password);
    const char *const alone[] = {"AUTH", password, NULL}, *const both[] = {"AUTH", s->where.user, password, NULL};
    if (code == SPOOL_OK && password)
        code = redis_say(&s->link, NULL, s->where.user ? both : alone);
    secret_wipe(password);
    snprintf(db, sizeof db, "%u", s->where.db);
    const char *const select[] = {"SELECT", db, NULL};
    return code == SPOOL_OK && s->where.db > 0 ? redis_say(&s->link, NULL, select) : code;
}

/* The value of a setting of the server, such as "yes". */
static int setting_is(struct stream *s, const char *name, const char *wanted, bool *ret)
{
    redisReply *reply = NULL;
    const char *const ask[] = {"CONFIG", "GET", name, NULL};
    int code = redis_say(&s->link, &reply, ask);
    if (code != SPOOL_OK)
        return code;
    *ret = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && strcmp(reply->element[1]->str, wanted) == 0;
    freeReplyObject(reply);
    return SPOOL_OK;
}

/* Redis acknowledges what it may forget, unless its log is flushed before each answer. */
static int check_durability(struct stream *s)
{
    bool logs = false, always = false;
    if (s->durability == DURABLE_ANY)
        return SPOOL_OK;
    int code = setting_is(s, "appendonly", "yes", &logs);
    if (code == SPOOL_OK)
        code = setting_is(s, "appendfsync", "always", &always);
    if (code == SPOOL_ECONFIG)
        return spool_sink_error(code, "Redis does not tell whether it keeps what it acknowledges (CONFIG GET is not "
                                      "allowed): if it does, set \"durability\" to \"any\"");
    if (code == SPOOL_OK && !(logs && always))
        return spool_sink_error(SPOOL_ECONFIG, "Redis may lose what it acknowledges: set its appendonly to yes and its "
                                               "appendfsync to always, or \"durability\" to \"any\"");
    return code;
}

static int load_script(struct stream *s)
{
    redisReply *reply = NULL;
    const char *const load[] = {"SCRIPT", "LOAD", script, NULL};
    int code = redis_say(&s->link, &reply, load);
    if (code != SPOOL_OK)
        return code;
    if (reply->type == REDIS_REPLY_STRING && reply->len == SHA_SIZE)
        memcpy(s->sha, reply->str, SHA_SIZE);
    freeReplyObject(reply);
    return *s->sha ? SPOOL_OK : spool_sink_error(SPOOL_EUNAVAILABLE, "Redis: the script could not be loaded");
}

static int connect_server(struct stream *s)
{
    if (s->link.fd >= 0 && *s->sha)
        return SPOOL_OK;
    memset(s->sha, 0, sizeof s->sha);
    strcpy(s->count, "?"); /* the script will answer with the journal */
    int code = redis_link_open(&s->link, &s->where, s->connect_ms);
    if (code == SPOOL_OK)
        code = log_in(s);
    if (code == SPOOL_OK)
        code = check_durability(s);
    if (code == SPOOL_OK)
        code = load_script(s);
    if (code != SPOOL_OK)
        redis_link_close(&s->link);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- delivering
 */

/* The words of one event. An event that cannot be rendered is refused alone; so is none of which that could be said. */
static int add_event(struct stream *s, struct spool_delivery *delivery)
{
    char id[SPOOL_ID_TEXT_SIZE], *json = NULL;
    size_t size = 0;
    int code = spool_event_to_json(delivery->event, &delivery->id, &json, &size);
    if (code == ENOMEM)
        return code;
    if (code != SPOOL_OK) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "cannot be written as JSON: %s", spool_last_error());
        return SPOOL_OK;
    }
    int err = buffer_put(&s->ids, delivery->id.bytes, sizeof delivery->id.bytes);
    err = err ? err : redis_text(&s->words, spool_id_format(&delivery->id, id));
    err = err ? err : redis_text(&s->words, delivery->event->type);
    err = err ? err : redis_word(&s->words, json, size);
    spool_free(json);
    return err;
}

/* The events that are not there yet; *ret is their number. */
static int add_events(struct stream *s, struct spool_delivery *batch, size_t n, size_t *ret)
{
    s->words.size = s->ids.size = 0;
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        int err =
            known_has(&s->known, &delivery->id) || delivery->outcome == SPOOL_REJECTED ? 0 : add_event(s, delivery);
        if (err)
            return err;
    }
    *ret = s->ids.size / sizeof((struct spool_id *)0)->bytes;
    return 0;
}

static int make_command(struct stream *s, struct spool_delivery *batch, size_t n, size_t *ret_count)
{
    struct buffer *out = &s->command;
    out->size = 0;
    int err = add_events(s, batch, n, ret_count);
    err = err ? err : redis_words(out, 3 + 3 + 4 + 3 * *ret_count);
    err = err ? err : redis_text(out, "EVALSHA");
    err = err ? err : redis_text(out, s->sha);
    err = err ? err : redis_text(out, "3");
    err = err ? err : redis_text(out, s->name);
    err = err ? err : redis_text(out, s->journal);
    err = err ? err : redis_text(out, s->counter);
    err = err ? err : redis_text(out, s->count);
    err = err ? err : redis_number(out, s->maxlen);
    err = err ? err : redis_number(out, KEEP_BATCHES + spool_sink_unstored());
    err = err ? err : redis_word(out, s->ids.data, s->ids.size);
    err = err ? err : buffer_put(out, s->words.data, s->words.size);
    return err ? spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory") : SPOOL_OK;
}

/* The journal: the count, then the ids of each batch. */
static int learn(struct stream *s, const redisReply *journal)
{
    int err = 0;
    known_clear(&s->known);
    for (size_t i = 1; i < journal->elements && !err; i++)
        err = known_add(&s->known, journal->element[i]->str, (size_t)journal->element[i]->len / 16);
    if (err || journal->elements == 0)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "out of memory");
    snprintf(s->count, sizeof s->count, "%s", journal->element[0]->str);
    return SPOOL_OK;
}

/* One call of the script. SPOOL_ESTALE: it answered with the journal; the events are not there. */
static int call(struct stream *s)
{
    redisReply *reply = NULL;
    int code = redis_ask(&s->link, &s->command, &reply);
    if (code != SPOOL_OK) {
        memset(s->sha, 0, sizeof s->sha); /* it may be the script that is gone */
        redis_link_close(&s->link);
        return code;
    }
    if (reply->type == REDIS_REPLY_ARRAY)
        code = learn(s, reply) == SPOOL_OK ? SPOOL_ESTALE : SPOOL_EUNAVAILABLE;
    else
        snprintf(s->count, sizeof s->count, "%s", reply->type == REDIS_REPLY_STRING ? reply->str : "?");
    freeReplyObject(reply);
    if (code == SPOOL_OK && known_add(&s->known, s->ids.data, s->ids.size / 16) != 0)
        strcpy(s->count, "?"); /* they are there: to be asked for the next time */
    return code;
}

static int store(struct stream *s, struct spool_delivery *batch, size_t n)
{
    for (int i = 0; i < SYNCS_MAX; i++) {
        size_t count = 0;
        int code = make_command(s, batch, n, &count);
        if (code != SPOOL_OK || (count == 0 && strcmp(s->count, "?") != 0))
            return code;
        code = call(s);
        if (code != SPOOL_ESTALE)
            return code;
    }
    return spool_sink_error(SPOOL_EUNAVAILABLE, "Redis: too many others deliver to %s", s->name);
}

static int wait_for_replicas(struct stream *s)
{
    char replicas[24], timeout_ms[24];
    redisReply *reply = NULL;
    if (s->replicas == 0)
        return SPOOL_OK;
    snprintf(replicas, sizeof replicas, "%llu", (unsigned long long)s->replicas);
    snprintf(timeout_ms, sizeof timeout_ms, "%llu", (unsigned long long)s->replicas_ms);
    const char *const wait[] = {"WAIT", replicas, timeout_ms, NULL};
    int code = redis_say(&s->link, &reply, wait);
    if (code != SPOOL_OK)
        return code;
    uint64_t have = reply->type == REDIS_REPLY_INTEGER ? (uint64_t)reply->integer : 0;
    freeReplyObject(reply);
    return have >= s->replicas ? SPOOL_OK
                               : spool_sink_error(SPOOL_EUNAVAILABLE, "Redis: %llu of %s replicas have it",
                                                  (unsigned long long)have, replicas);
}

static int stream_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct stream *s = state;
    if (spool_sink_unstored() >
        UNSTORED_MAX) /* the disk of the spool hangs: more could not be told apart after a crash */
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%d batches are delivered and not stored as such yet",
                                UNSTORED_MAX);
    int code = connect_server(s);
    if (code == SPOOL_OK)
        code = store(s, batch, n);
    if (code == SPOOL_OK)
        code = wait_for_replicas(s);
    for (size_t i = 0; i < n && code == SPOOL_OK; i++)
        if (SPOOL_DELIVERY_AT(batch, i)->outcome != SPOOL_REJECTED)
            SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    cancel_done(&s->cancel);
    return code;
}

static void stream_cancel(void *state)
{
    struct stream *s = state;
    cancel_set(&s->cancel);
}

/* ----------------------------------------------------------------------------------------------------- configuration
 */

static int read_url(struct config *config, struct stream *s)
{
    char *url = NULL;
    int code = config_text(config, "url", NULL, &url);
    if (code == SPOOL_OK)
        code = redis_parse_url(url, &s->where);
    free(url);
    return code;
}

/* A file, or NULL. */
static int read_file_name(struct config *config, const char *key, char **ret)
{
    return json_object_get(config->object, key) ? config_text(config, key, NULL, ret) : SPOOL_OK;
}

static int read_stream(struct config *config, struct stream *s)
{
    int code = config_text(config, "stream", "events", &s->name);
    if (code != SPOOL_OK)
        return code;
    const char *open = strchr(s->name, '{') ? "" : "{", *close = *open ? "}" : "";
    if (asprintf(&s->journal, "%s%s%s:spool:journal", open, s->name, close) < 0)
        s->journal = NULL;
    if (asprintf(&s->counter, "%s%s%s:spool:count", open, s->name, close) < 0)
        s->counter = NULL;
    return s->journal && s->counter ? SPOOL_OK : spool_sink_error(ENOMEM, "out of memory");
}

static int read_config(struct stream *s, const char *json_config)
{
    struct config config;
    int code = config_open(&config, "redis", json_config);
    if (code == SPOOL_OK)
        code = read_url(&config, s);
    if (code == SPOOL_OK)
        code = read_stream(&config, s);
    if (code == SPOOL_OK)
        code = config_secret(&config, "password", false, &s->password);
    if (code == SPOOL_OK)
        code = read_file_name(&config, "ca", &s->where.ca);
    if (code == SPOOL_OK)
        code = read_file_name(&config, "cert", &s->where.cert);
    if (code == SPOOL_OK)
        code = read_file_name(&config, "key", &s->where.key);
    if (code == SPOOL_OK)
        code = config_number(&config, "maxlen", 0, &s->maxlen);
    if (code == SPOOL_OK)
        code = config_choice(&config, "durability", durability_names, DURABLE_FSYNC, &s->durability);
    if (code == SPOOL_OK)
        code = config_number(&config, "replicas", 0, &s->replicas);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "replicas_timeout", 5000, &s->replicas_ms);
    if (code == SPOOL_OK)
        code = config_duration_ms(&config, "connect_timeout", 10000, &s->connect_ms);
    return config_close(&config, code);
}

static void forget_config(struct stream *s)
{
    redis_where_free(&s->where);
    secret_free(&s->password);
    free(s->name);
    free(s->journal);
    free(s->counter);
}

static void stream_close(void *state)
{
    struct stream *s = state;
    if (!s)
        return;
    redis_link_close(&s->link);
    known_clear(&s->known);
    buffer_free(&s->command);
    buffer_free(&s->words);
    buffer_free(&s->ids);
    forget_config(s);
    cancel_free(&s->cancel);
    free(s);
}

/* The connection is made by the first delivery, which can be cancelled. */
static int stream_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                       size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return spool_sink_error(ENOMEM, "out of memory");
    int err = cancel_init(&s->cancel);
    s->link = (struct redis_link){.fd = -1, .cancel = &s->cancel};
    int code = err ? spool_sink_error(err, "%s", spool_strerror(err)) : read_config(s, json_config);
    if (code == SPOOL_OK)
        *ret_state = s;
    else
        stream_close(s);
    return code;
}

static int stream_check(const char *json_config)
{
    struct stream s = {0};
    int code = read_config(&s, json_config);
    forget_config(&s);
    return code;
}

static const struct spool_sink_setting settings[] = {
    {"url", "text (required)", "redis://[USER@]HOST[:PORT][/DB], rediss:// for TLS, unix:///PATH"},
    {"password", "secret", "for AUTH"},
    {"stream", "text, events", "the stream's key"},
    {"maxlen", "number, 0", "entries to keep, about; 0: all"},
    {"durability", "fsync, any; fsync", "fsync: refuse a server that acknowledges before it has flushed"},
    {"replicas", "number, 0", "replicas that must have a batch (WAIT)"},
    {"replicas_timeout", "duration, 5s", "how long to wait for them"},
    {"connect_timeout", "duration, 10s", "for looking up the name, connecting and TLS"},
    {"ca", "file", "authorities to trust instead of the system's"},
    {"cert", "file", "our certificate, and its chain"},
    {"key", "file", "its key"},
    {NULL, NULL, NULL},
};

static const struct spool_sink stream_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "redis",
    .open = stream_open,
    .deliver = stream_deliver,
    .cancel = stream_cancel,
    .close = stream_close,
};

SPOOL_SINK_PLUGIN(.sink = &stream_sink, .check = stream_check, .settings = settings,
                  .summary = "entries of a Redis stream, each event exactly once")
