/* raw_http.c - what libcurl's multi interface does with the events that drive.c makes: renders each with an id and a time
 * of its own, as CloudEvents (by snprintf) or as lines of native JSON, and posts them, many requests at once on connections
 * that stay open; each has the sink's headers, and its answer must be a 2xx.
 *
 *     raw_http URL structured|ndjson EVENTS BYTES CONCURRENCY PER_REQUEST      prints events a second */
#include <curl/curl.h>
#include <time.h>

#include "load.h"

enum { AROUND = 700, HANDLES_MAX = 64 };

struct slot {
    CURL *easy;
    struct curl_slist *headers;
    char *body;
};

struct work {
    const char *url;
    int ndjson;
    uint64_t events, at;
    size_t bytes, per_request;
};

static void put_time(const struct load *load, char ret[64])
{
    uint64_t ns = spool_id_time_ns(&load->id);
    time_t seconds = (time_t)(ns / 1000000000u);
    struct tm utc;
    gmtime_r(&seconds, &utc);
    size_t size = strftime(ret, 64, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(ret + size, 64 - size, ".%09uZ", (unsigned)(ns % 1000000000u));
}

static size_t put_line(const struct load *load, char *out)
{
    size_t size;
    char *json = load_json(load, &size);
    memcpy(out, json, size);
    out[size] = '\n';
    spool_free(json);
    return size + 1;
}

static size_t put_event(struct work *w, char *out, uint64_t n)
{
    static struct load load;
    char when[64];
    load_event(&load, n, w->bytes);
    if (w->ndjson)
        return put_line(&load, out);
    put_time(&load, when);
    return (size_t)snprintf(
        out, w->bytes + AROUND,
        "{\"specversion\":\"1.0\",\"id\":\"%s\",\"time\":\"%s\",\"sequence\":\"%015lx.0000\",\"type\":\"%s\","
        "\"agent\":\"%s\",\"session\":\"s-1\",\"priority\":\"medium\",\"source\":\"urn:libspool\","
        "\"datacontenttype\":\"application/json\",\"data\":%s}",
        load.id_text, when, (unsigned long)n, load.event.type, load.agent, load.body);
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
    snprintf(key, sizeof key, "Idempotency-Key: 01a2183b-9261-716a-8000-2f58%08lx", (unsigned long)w->at);
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
    for (size_t i = 0; i < count; i++)
        make_slot(&w, &slots[i]);
    uint64_t start_ns = clock_ns();
    run(&w, slots, count);
    load_report(w.events, start_ns);
    return 0;
}
