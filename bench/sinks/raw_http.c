/* raw_http.c - what libcurl's multi interface does with the events that drive.c makes, and nothing of ours: renders
 * them with snprintf and posts them, many requests at once on connections that stay open.
 *
 *     raw_http URL structured|ndjson EVENTS BYTES CONCURRENCY PER_REQUEST      prints events a second
 */
#include <curl/curl.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { AROUND = 700, HANDLES_MAX = 64 };

struct slot {
    CURL *easy;
    struct curl_slist *headers;
    char *body;
};

struct work {
    const char *url;
    int ndjson;
    unsigned long events, at;
    size_t bytes, per_request;
    char *data;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The body that drive.c gives event `n`. */
static void make_data(struct work *w, unsigned long n)
{
    int head = snprintf(w->data, w->bytes + 64, "{\"n\":%lu,\"text\":\"", n);
    size_t size = (size_t)head + 2 < w->bytes ? w->bytes : (size_t)head + 2;
    memset(w->data + head, 'x', size - (size_t)head - 2);
    memcpy(w->data + size - 2, "\"}", 3);
}

/* Every event has an id and a time of its own, as text. */
static void put_stamps(unsigned long n, char id[64], char when[64])
{
    struct timespec t;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &utc);
    size_t size = strftime(when, 64, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(when + size, 64 - size, ".%09ldZ", t.tv_nsec);
    snprintf(id, 64, "01a2183b-9261-716a-8000-%012lx", n);
}

static size_t put_event(struct work *w, char *out, unsigned long n)
{
    static const char *const types[] = {"log.llm_call", "log.error", "memory.interaction", "memory.plan"};
    char id[64], when[64];
    const char *format =
        w->ndjson
            ? "{\"id\":\"%s\",\"time\":\"%s\",\"hlc\":\"%015lx.0000\",\"type\":\"%s\",\"agent\":\"agent-%lu\","
              "\"session\":\"s-1\",\"priority\":\"medium\",\"content_type\":\"application/json\",\"data\":%s}\n"
            : "{\"specversion\":\"1.0\",\"id\":\"%s\",\"time\":\"%s\",\"sequence\":\"%015lx.0000\",\"type\":\"%s\","
              "\"agent\":\"agent-%lu\",\"session\":\"s-1\",\"priority\":\"medium\",\"source\":\"urn:libspool\","
              "\"datacontenttype\":\"application/json\",\"data\":%s}";
    make_data(w, n);
    put_stamps(n, id, when);
    return (size_t)snprintf(out, w->bytes + AROUND, format, id, when, n, types[n % 4], n % 16, w->data);
}

static void must(CURLcode code)
{
    if (code != CURLE_OK)
        errx(1, "%s", curl_easy_strerror(code));
}

static size_t ignore(char *bytes, size_t size, size_t n, void *user)
{
    (void)bytes, (void)user;
    return size * n;
}

static void send_next(struct work *w, CURLM *multi, struct slot *slot)
{
    char key[80];
    size_t size = 0;
    snprintf(key, sizeof key, "Idempotency-Key: 01a2183b-9261-716a-8000-2f58%08lx", w->at);
    for (size_t i = 0; i < w->per_request && w->at < w->events; i++, w->at++)
        size += put_event(w, slot->body + size, w->at);
    curl_slist_free_all(slot->headers);
    slot->headers = curl_slist_append(NULL, w->ndjson ? "Content-Type: application/x-ndjson"
                                                      : "Content-Type: application/cloudevents+json; charset=UTF-8");
    slot->headers = curl_slist_append(slot->headers, key);
    slot->headers = curl_slist_append(slot->headers, "Expect:");
    must(curl_easy_setopt(slot->easy, CURLOPT_HTTPHEADER, slot->headers));
    must(curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)size));
    must(curl_easy_setopt(slot->easy, CURLOPT_POSTFIELDS, slot->body));
    curl_multi_add_handle(multi, slot->easy);
}

static void make_slot(const struct work *w, struct slot *slot)
{
    slot->easy = curl_easy_init();
    slot->body = malloc((w->bytes + AROUND) * w->per_request + 1);
    if (!slot->easy || !slot->body)
        errx(1, "out of memory");
    must(curl_easy_setopt(slot->easy, CURLOPT_URL, w->url));
    must(curl_easy_setopt(slot->easy, CURLOPT_POST, 1L));
    must(curl_easy_setopt(slot->easy, CURLOPT_WRITEFUNCTION, ignore));
    must(curl_easy_setopt(slot->easy, CURLOPT_PRIVATE, slot));
}

static struct slot *check_done(const CURLMsg *message)
{
    struct slot *slot = NULL;
    long status = 0;
    must(message->data.result);
    must(curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status));
    must(curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&slot));
    if (status / 100 != 2)
        errx(1, "status %ld", status);
    return slot;
}

static void run(struct work *w, struct slot *slots, size_t count)
{
    CURLM *multi = curl_multi_init();
    int running = 1, left;
    size_t busy = 0;
    for (; busy < count && w->at < w->events; busy++)
        send_next(w, multi, &slots[busy]);
    while (busy > 0) {
        CURLMsg *message;
        curl_multi_perform(multi, &running);
        while ((message = curl_multi_info_read(multi, &left)) != NULL) {
            struct slot *slot = check_done(message);
            curl_multi_remove_handle(multi, slot->easy);
            busy--;
            if (w->at < w->events) {
                send_next(w, multi, slot);
                busy++;
            }
        }
        if (busy > 0)
            curl_multi_poll(multi, NULL, 0, 1000, NULL);
    }
    curl_multi_cleanup(multi);
}

int main(int argc, char **argv)
{
    struct slot slots[HANDLES_MAX] = {0};
    if (argc != 7 || atoi(argv[5]) < 1 || atoi(argv[5]) > HANDLES_MAX)
        errx(2, "usage: raw_http URL structured|ndjson EVENTS BYTES CONCURRENCY PER_REQUEST");
    struct work w = {.url = argv[1],
                     .ndjson = strcmp(argv[2], "ndjson") == 0,
                     .events = strtoul(argv[3], NULL, 10),
                     .bytes = strtoul(argv[4], NULL, 10),
                     .per_request = strtoul(argv[6], NULL, 10)};
    size_t count = (size_t)atoi(argv[5]);
    w.data = malloc(w.bytes + 64);
    for (size_t i = 0; i < count; i++)
        make_slot(&w, &slots[i]);
    double start = now();
    run(&w, slots, count);
    printf("%.0f\n", (double)w.events / (now() - start));
    return 0;
}
