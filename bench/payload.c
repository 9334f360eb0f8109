/* payload.c - bodies of events: text made of words from a fixed seed, or the real ones of a recorded session.
 *
 * Made-up bodies are one JSON object of exactly the bytes asked for. They differ, so that nobody gains by seeing the
 * same one again, and compress about as text of few words does: figures of compression come from recorded input. */
#include "../lib/spool.h"
#include "case.h"

enum { POOL_BYTES = 4 << 20, POOL_MIN = 16, POOL_MAX = 1024, INPUT_MAX = 65536 };
enum { FRAME_BYTES = 3 << 20, ENVELOPE_BYTES = 128 /* of an event, at most */ };

static struct body *pool;
static size_t pool_size, batch;

static uint32_t next_random(void)
{
    static uint64_t state = 0x9e3779b97f4a7c15;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static const char *next_word(void)
{
    static const char *const words[] = {"plan",   "tool",  "call",   "search",  "result", "agent", "step",  "retry",
                                        "token",  "model", "answer", "file",    "test",   "error", "fixed", "user",
                                        "flight", "order", "done",   "context", "policy", "cost",  "limit", "the"};
    return words[next_random() % (sizeof words / sizeof *words)];
}

static void fill_text(char *text, size_t size)
{
    for (size_t at = 0; at < size;) {
        char piece[32];
        int n = snprintf(piece, sizeof piece, "%s %x ", next_word(), next_random() & 0xfff);
        size_t take = (size_t)n < size - at ? (size_t)n : size - at;
        memcpy(text + at, piece, take);
        at += take;
    }
}

/* The smallest are what is left of {"a":"…"}. */
static void make_body(struct body *body, size_t bytes)
{
    char *text = calloc(1, bytes + 1);
    if (!text)
        err(1, "payload");
    if (bytes < 16)
        errx(2, "--bytes: at least 16");
    memcpy(text, "{\"text\":\"", 9);
    fill_text(text + 9, bytes - 11);
    memcpy(text + bytes - 2, "\"}", 2);
    *body = (struct body){text, bytes};
}

static void read_input(const char *path)
{
    FILE *file = fopen(path, "re");
    char *line = NULL;
    size_t cap = 0;
    if (!file)
        err(1, "%s", path);
    for (ssize_t n; pool_size < INPUT_MAX && (n = getline(&line, &cap, file)) > 0;) {
        struct spool_event *event;
        char *body = strstr(line, "\"body\":"); /* as recordings call it; the native rendering says "data" */
        if (body)
            memcpy(body, "\"data\":", 7);
        ok(spool_event_from_json(line, (size_t)n, &event), path);
        char *text = malloc(event->body_size + 1);
        if (!text)
            err(1, "payload");
        memcpy(text, event->body, event->body_size);
        pool[pool_size++] = (struct body){text, event->body_size};
        spool_event_free(event);
    }
    free(line);
    fclose(file);
}

static void make_pool(size_t bytes)
{
    size_t n = POOL_BYTES / bytes;
    n = n < POOL_MIN ? POOL_MIN : n > POOL_MAX ? POOL_MAX : n;
    while (pool_size < n)
        make_body(&pool[pool_size++], bytes);
}

void payload_begin(const struct context *context)
{
    if (pool)
        return;
    pool = calloc(INPUT_MAX, sizeof *pool);
    if (!pool)
        err(1, "payload");
    if (context->input)
        read_input(context->input);
    else
        make_pool(context->bytes);
    batch = 1 + (size_t)(FRAME_BYTES / (payload_mean() + ENVELOPE_BYTES));
    batch = batch < BATCH ? batch : BATCH;
}

struct body payload(uint64_t number)
{
    return pool[number % pool_size];
}

double payload_mean(void)
{
    double sum = 0;
    for (size_t i = 0; i < pool_size; i++)
        sum += (double)pool[i].size;
    return sum / (double)pool_size;
}

size_t payload_batch(void)
{
    return batch;
}
