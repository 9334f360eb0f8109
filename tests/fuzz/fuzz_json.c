/* fuzz_json.c - the JSON reader and writer on arbitrary text: nothing outside is read, what is accepted renders and
 * reads again to the same rendering, compacting twice changes nothing, and every string written is valid JSON.
 *
 *     clang -fsanitize=fuzzer,address,undefined … */
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/id.h"
#include "../../lib/base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int condition)
{
    if (!condition)
        abort();
}

/* For an event that brings none. */
static const struct spool_id *some_id(const struct spool_event *event)
{
    static struct spool_id id;
    id_min_at_ns(1795253655123456789u, &id);
    return event->id ? event->id : &id;
}

static void check_event(const char *text, size_t size)
{
    struct spool_event *event, *again;
    char *first, *second;
    size_t first_size, second_size;
    if (spool_event_from_json(text, size, &event) != SPOOL_OK)
        return;
    require(spool_event_to_json(event, some_id(event), &first, &first_size) == SPOOL_OK);
    require(strlen(first) == first_size);
    require(spool_event_from_json(first, first_size, &again) == SPOOL_OK);
    require(spool_event_to_json(again, NULL, &second, &second_size) == SPOOL_OK);
    require(first_size == second_size && memcmp(first, second, first_size) == 0);
    spool_free(first);
    spool_free(second);
    spool_event_free(event);
    spool_event_free(again);
}

static void check_compact(const char *text, size_t size)
{
    struct buffer once = {0}, twice = {0};
    if (json_put_compact(&once, text, size) == SPOOL_OK) {
        require(once.size > 0 && once.size <= size);
        require(json_put_compact(&twice, (const char *)once.data, once.size) == SPOOL_OK);
        require(once.size == twice.size && memcmp(once.data, twice.data, once.size) == 0);
    } else {
        require(once.size == 0);
    }
    buffer_free(&once);
    buffer_free(&twice);
}

static void check_string(const char *text, size_t size)
{
    struct buffer string = {0}, again = {0};
    require(json_put_string(&string, text, size) == 0);
    require(json_put_compact(&again, (const char *)string.data, string.size) == SPOOL_OK);
    require(string.size == again.size && memcmp(string.data, again.data, string.size) == 0);
    buffer_free(&string);
    buffer_free(&again);
}

static void check_time(const char *text, size_t size)
{
    uint64_t first, second;
    struct buffer out = {0};
    if (json_parse_time(text, size, &first) != SPOOL_OK)
        return;
    require(json_put_time(&out, first) == 0);
    require(json_parse_time((const char *)out.data, out.size, &second) == SPOOL_OK && first == second);
    buffer_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size ? size : 1); /* of its own, so that the sanitizer sees a read beyond the end */
    require(text != NULL);
    if (size)
        memcpy(text, data, size);
    check_event(text, size);
    check_compact(text, size);
    check_string(text, size);
    check_time(text, size);
    free(text);
    return 0;
}
