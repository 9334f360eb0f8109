/* postgres.c - PostgreSQL as a queue: an INSERT a transaction, and 1,000 rows by COPY; protocol 3.0, a connection a
 * producer. The server trusts this machine, so that there is no password. */
#include "socket.h"

#define SETTINGS "fsync=on, synchronous_commit=on, wal_sync_method=fdatasync, table (seq bigserial, body text)"

static void put_word(struct connection *c, uint32_t word)
{
    word = htonl(word);
    connection_put(c, &word, sizeof word);
}

static void put_short(struct connection *c, uint16_t word)
{
    word = htons(word);
    connection_put(c, &word, sizeof word);
}

static void put_message(struct connection *c, char type, const void *bytes, size_t size)
{
    connection_put(c, &type, 1);
    put_word(c, (uint32_t)size + 4);
    connection_put(c, bytes, size);
}

/* Reads up to a message of type `wanted`. */
static void await(struct connection *c, char wanted)
{
    for (char type = 0; type != wanted;) {
        char text[512];
        uint32_t size;
        connection_get(c, &type, 1);
        connection_get(c, &size, sizeof size);
        size = ntohl(size) - 4;
        size_t take = size < sizeof text - 1 ? size : sizeof text - 1;
        connection_get(c, text, take);
        connection_get(c, NULL, size - take);
        for (size_t i = 0; i < take; i++)
            text[i] = text[i] ? text[i] : ' ';
        text[take] = 0;
        if (type == 'E')
            errx(1, "PostgreSQL: %s", text);
    }
}

static void query(struct connection *c, const char *sql, char wanted)
{
    put_message(c, 'Q', sql, strlen(sql) + 1);
    connection_send(c);
    await(c, wanted);
}

static void prepare(struct connection *c)
{
    static const char parse[] = "add\0INSERT INTO events (body) VALUES ($1)\0\0";
    put_message(c, 'P', parse, sizeof parse);
    put_message(c, 'S', "", 0);
    connection_send(c);
    await(c, 'Z');
}

static struct connection *connect_to(const char *address)
{
    static const char startup[] = "user\0bench\0database\0postgres\0";
    struct connection *c = connection_open(address);
    put_word(c, sizeof startup + 8);
    put_word(c, 196608);
    connection_put(c, startup, sizeof startup);
    connection_send(c);
    await(c, 'Z');
    return c;
}

static void *begin(const struct context *context)
{
    struct connection *c = connect_to(context->address);
    query(c, "DROP TABLE IF EXISTS events; CREATE TABLE events (seq bigserial PRIMARY KEY, body text NOT NULL)", 'Z');
    connection_close(c);
    return (void *)context;
}

static void *join(void *shared, unsigned index)
{
    (void)index;
    struct connection *c = connect_to(((const struct context *)shared)->address);
    prepare(c);
    return c;
}

static size_t step_single(void *producer, uint64_t number)
{
    static const char execute[] = "\0\0\0\0\0";
    struct connection *c = producer;
    struct body body = payload(number);
    connection_put(c, "B", 1); /* the unnamed portal, statement "add", no formats, one parameter, no result formats */
    put_word(c, (uint32_t)(4 + 1 + 4 + 2 + 2 + 4 + body.size + 2));
    connection_put(c, "\0add", 5);
    put_short(c, 0);
    put_short(c, 1);
    put_word(c, (uint32_t)body.size);
    connection_put(c, body.text, body.size);
    put_short(c, 0);
    put_message(c, 'E', execute, 5);
    put_message(c, 'S', "", 0);
    connection_send(c);
    await(c, 'Z');
    return 1;
}

static size_t step_copy(void *producer, uint64_t number)
{
    struct connection *c = producer;
    size_t n = payload_batch();
    query(c, "COPY events (body) FROM STDIN", 'G');
    for (size_t i = 0; i < n; i++) {
        struct body body = payload(number * n + i);
        connection_put(c, "d", 1);
        put_word(c, (uint32_t)body.size + 5);
        connection_put(c, body.text, body.size);
        connection_put(c, "\n", 1);
    }
    put_message(c, 'c', "", 0);
    connection_send(c);
    await(c, 'Z');
    return n;
}

static void postgres_single(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .join = join, .step = step_single, .leave = connection_close}, context,
          outcome);
}

static void postgres_copy(const struct context *context, struct outcome *outcome)
{
    drive(&(struct driver){.begin = begin, .join = join, .step = step_copy, .leave = connection_close}, context,
          outcome);
}

const struct bench_case postgres_cases[] = {
    {"postgres_single", "PostgreSQL, an INSERT a transaction", SETTINGS, postgres_single},
    {"postgres_copy", "PostgreSQL, COPY of 1,000 rows", SETTINGS, postgres_copy},
    {0},
};
