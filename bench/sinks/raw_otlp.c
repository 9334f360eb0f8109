/* raw_otlp.c - the same log records by libcurl alone: the protobuf is written by hand, backwards, so that each length is
 * known when its place comes; no encoder of a library does less. Like the sink it parses each body and writes it as a
 * value, not as text, and has an id and a time for each event; PER_REQUEST records go in a POST on a connection that
 * stays, whose answer is waited for.
 *
 *     raw_otlp URL EVENTS BYTES PER_REQUEST */
#include <curl/curl.h>
#include <jansson.h>

#include "load.h"

enum { AROUND = 1024 };

/* By n % 4, what the GenAI conventions make of the types of load.h. */
static const struct kind {
    uint8_t severity;
    const char *severity_text, *event_name, *session_key, *operation;
    bool is_memory;
} kinds[] = {
    {5, "DEBUG", "gen_ai.client.inference.operation.details", "gen_ai.conversation.id", "chat", false},
    {17, "ERROR", "log.error", "session.id", NULL, false},
    {9, "INFO", "memory.interaction", "gen_ai.conversation.id", "create_memory", true},
    {9, "INFO", "memory.plan", "gen_ai.conversation.id", "plan", true},
};

static uint8_t *room, *end, *at; /* what is written is from `at` to `end` */

/* ------------------------------------------------------------------------------------------------ protobuf, backwards */

static void put(const void *bytes, size_t size)
{
    at -= size;
    memcpy(at, bytes, size);
}

static void put_varint(uint64_t value)
{
    uint8_t bytes[10];
    size_t size = 0;
    do
        bytes[size++] = (uint8_t)(value & 0x7f) | (value > 0x7f ? 0x80 : 0);
    while ((value >>= 7) > 0);
    put(bytes, size);
}

static void put_tag(unsigned field, unsigned wire)
{
    put_varint(field << 3 | wire);
}

/* The message that reaches from `at` to `behind` is field `field`. */
static void close_message(unsigned field, const uint8_t *behind)
{
    put_varint((uint64_t)(behind - at));
    put_tag(field, 2);
}

static void put_text(unsigned field, const char *text)
{
    const uint8_t *behind = at;
    put(text, strlen(text));
    close_message(field, behind);
}

static void put_fixed64(unsigned field, uint64_t value)
{
    put(&value, sizeof value); /* little-endian, as x86 and ARM are */
    put_tag(field, 1);
}

static void put_attribute(const char *key, const char *text)
{
    const uint8_t *behind = at;
    put_text(1, text);
    close_message(2, behind);
    put_text(1, key);
    close_message(6, behind);
}

/* A member of the body: a text or a number. */
static void put_member(const char *key, const json_t *value)
{
    const uint8_t *behind = at;
    if (json_is_string(value))
        put_text(1, json_string_value(value));
    else {
        put_varint((uint64_t)json_integer_value(value));
        put_tag(3, 0);
    }
    close_message(2, behind);
    put_text(1, key);
    close_message(1, behind);
}

static void put_body(const struct load *load)
{
    json_error_t error;
    const uint8_t *behind = at;
    const char *key;
    json_t *value, *tree = json_loadb(load->body, load->event.body_size, JSON_REJECT_DUPLICATES, &error);
    if (!tree)
        errx(1, "%s", error.text);
    json_object_foreach(tree, key, value) put_member(key, value);
    json_decref(tree);
    close_message(6, behind);
    close_message(5, behind);
}

static void put_record(uint64_t n, size_t bytes)
{
    static struct load load;
    const struct kind *kind = &kinds[n % 4];
    const uint8_t *behind = at;
    load_event(&load, n, bytes);
    put_text(12, kind->event_name);
    if (kind->is_memory)
        put_attribute("gen_ai.memory.record.id", load.id_text);
    if (kind->operation) {
        put_attribute("gen_ai.provider.name", "_OTHER");
        put_attribute("gen_ai.operation.name", kind->operation);
    }
    put_attribute("gen_ai.agent.name", load.agent);
    put_attribute(kind->session_key, load.event.session);
    put_attribute("libspool.priority", "medium");
    put_attribute("libspool.type", load.event.type);
    put_attribute("libspool.id", load.id_text);
    put_body(&load);
    put_text(3, kind->severity_text);
    put_varint(kind->severity);
    put_tag(2, 0);
    put_fixed64(11, spool_id_time_ns(&load.id));
    put_fixed64(1, spool_id_time_ns(&load.id));
    close_message(2, behind);
}

static void put_resource_attribute(const char *key, const char *text)
{
    const uint8_t *behind = at;
    put_text(1, text);
    close_message(2, behind);
    put_text(1, key);
    close_message(1, behind);
}

/* Events [first, behind): resource, scope, records. */
static void put_request(uint64_t first, uint64_t behind, size_t bytes)
{
    at = end;
    for (uint64_t n = behind; n > first; n--)
        put_record(n - 1, bytes);
    const uint8_t *scope_end = at;
    put_text(2, spool_version());
    put_text(1, "libspool");
    close_message(1, scope_end);
    close_message(2, end);
    const uint8_t *resource_end = at;
    put_resource_attribute("libspool.genai.version", "2026-08");
    put_resource_attribute("service.name", "unknown_service:libspool");
    close_message(1, resource_end);
    close_message(1, end);
}

/* ------------------------------------------------------------------------------------------------------------- libcurl */

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

static CURL *make_handle(const char *url)
{
    CURL *easy = curl_easy_init();
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/x-protobuf");
    headers = curl_slist_append(headers, "Expect:");
    if (!easy || !headers)
        errx(1, "out of memory");
    must(curl_easy_setopt(easy, CURLOPT_URL, url));
    must(curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers));
    must(curl_easy_setopt(easy, CURLOPT_POST, 1L));
    must(curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, ignore));
    return easy;
}

static void post(CURL *easy)
{
    long status = 0;
    must(curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(end - at)));
    must(curl_easy_setopt(easy, CURLOPT_POSTFIELDS, at));
    must(curl_easy_perform(easy));
    must(curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status));
    if (status != 200)
        errx(1, "status %ld", status);
}

int main(int argc, char **argv)
{
    uint64_t events = load_number(argc, argv, 2, 0), bytes = load_number(argc, argv, 3, 0),
             many = load_number(argc, argv, 4, 0);
    if (argc != 5 || many < 1 || bytes > 60000)
        errx(2, "usage: raw_otlp URL EVENTS BYTES PER_REQUEST");
    size_t size = (bytes + AROUND) * many + AROUND;
    room = malloc(size);
    if (!room)
        errx(1, "out of memory");
    end = room + size;
    CURL *easy = make_handle(argv[1]);
    uint64_t start_ns = clock_ns();
    for (uint64_t n = 0; n < events; n += many) {
        put_request(n, n + many < events ? n + many : events, bytes);
        post(easy);
    }
    load_report(events, start_ns);
    curl_easy_cleanup(easy);
    free(room);
    return 0;
}
