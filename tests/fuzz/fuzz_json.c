/* fuzz_json.c - the JSON reader and writer on arbitrary text: nothing outside is read, what is accepted renders and
 * reads again to the same rendering, compacting twice changes nothing, and every string written is valid JSON. Likewise
 * the other texts that are read: ids, times, sizes, durations, base64, UTF-8, priorities.
 */
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/base64.h"
#include "../../lib/base/id.h"
#include "../../lib/base/json.h"
#include "../../lib/base/units.h"
#include "../../lib/base/utf8.h"
#include "fuzz.h"

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

/* ------------------------------------------------------------------------------------------------ texts of all kinds
 */

static void check_base64(const char *text, size_t size)
{
    size_t n, want = base64_size(size);
    uint8_t *bytes = malloc(want + 4), *again = malloc(want + 4);
    require(bytes && again);
    base64_encode((char *)bytes, (const uint8_t *)text, size);
    require(base64_decode(again, (const char *)bytes, want, &n) && n == size &&
            (!size || memcmp(again, text, size) == 0));
    if (base64_decode(bytes, text, size, &n)) { /* there is one form of everything */
        base64_encode((char *)again, bytes, n);
        require(base64_size(n) == size && (!size || memcmp(again, text, size) == 0));
    }
    free(bytes);
    free(again);
}

static void check_utf8(const char *text, size_t size)
{
    const uint8_t *at = (const uint8_t *)text, *end = at + size;
    bool plain = true;
    while (at < end) {
        size_t n = utf8_sequence(at, (size_t)(end - at));
        require(n <= 4 && n <= (size_t)(end - at));
        plain &= n > 0 && !(n == 1 && (*at < 0x20 || *at == 0x7f));
        at += n ? n : 1;
    }
    require(utf8_is_plain_text(text, size) == plain);
}

/* With a NUL behind. */
static void check_words(const char *text)
{
    struct spool_id id, again;
    char words[SPOOL_ID_TEXT_SIZE];
    enum spool_priority priority;
    uint64_t n;
    if (spool_id_parse(text, &id) == SPOOL_OK) {
        require(id_is_valid(&id) && strcasecmp(spool_id_format(&id, words), text) == 0);
        require(spool_id_parse(words, &again) == SPOOL_OK && spool_id_compare(&id, &again) == 0);
        spool_id_time_ns(&id);
    }
    if (spool_priority_parse(text, &priority) == SPOOL_OK)
        require(strcmp(spool_priority_name(priority), text) == 0);
    if (units_parse_bytes(text, &n) == SPOOL_OK || units_parse_duration_ms(text, &n) == SPOOL_OK)
        require(text[0] >= '0' && text[0] <= '9');
    json_is_media_type(text);
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
    check_base64(text, size);
    check_utf8(text, size);
    free(text);
    char *words = strndup((const char *)data, size);
    require(words != NULL);
    check_words(words);
    free(words);
    return 0;
}
