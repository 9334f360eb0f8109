/* fuzz_event.c - event_unpack() on arbitrary bytes: it reads nothing outside, and whatever it accepts packs again to
 * the very same bytes, because there is one packed form of an event.
 *
 * Random bytes hardly ever add up to an event. So with an odd first byte an event is made from the input, packed, and a
 * few of its bytes are changed before it is unpacked. */
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/event.h"
#include "../../lib/base/id.h"
#include "fuzz.h"

static void check_repack(const struct event_view *view, const uint8_t *packed)
{
    struct event_measure measure;
    require(event_measure(&view->event, SIZE_MAX, &measure) == SPOOL_OK);
    require(measure.packed_size == view->packed_size && measure.packed_size == event_packed_size(packed));
    uint8_t *again = malloc(measure.packed_size);
    require(again != NULL);
    event_pack(&view->event, &measure, &view->id, again);
    require(memcmp(again, packed, measure.packed_size) == 0);
    require(((const char *)view->event.body)[view->event.body_size] == 0);
    free(again);
}

/* In an allocation of its own, so that the sanitizer sees a read beyond the end. */
static void check_unpack(const uint8_t *bytes, size_t size)
{
    struct event_view view;
    uint8_t *copy = malloc(size ? size : 1);
    require(copy != NULL);
    if (size)
        memcpy(copy, bytes, size);
    if (event_unpack(copy, size, &view) == SPOOL_OK)
        check_repack(&view, copy);
    free(copy);
}

/* -------------------------------------------------------------------------------------------- an event from input */

/* A text of up to 15 bytes of the input, or none. */
static const char *take_text(struct input *in, char text[16])
{
    size_t size = take_u8(in) % 16;
    for (size_t i = 0; i < size; i++)
        text[i] = (char)take_u8(in);
    text[size] = 0;
    return size ? text : NULL;
}

static void check_made(struct input in)
{
    static const char trace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    char type[16], agent[16], session[16], content_type[16], tag[16];
    struct spool_id id, parent;
    struct event_measure measure;
    struct input damage = {in.at, in.at + (in.end - in.at) / 4};
    in.at = damage.end;
    uint8_t which = take_u8(&in);
    id_make((struct hlc_stamp){take_u8(&in), take_u8(&in)}, take_u8(&in), &id);
    id_min_at_ns(take_u8(&in), &parent);
    const char *tags[] = {take_text(&in, tag), tag, NULL};
    struct spool_event event =
        SPOOL_EVENT(.agent = take_text(&in, agent), .session = take_text(&in, session),
                    .content_type = take_text(&in, content_type), .priority = which & 3, .type = take_text(&in, type),
                    .occurred_at_ns = which & 4, .ttl_ms = which & 8, .parent = which & 16 ? &parent : NULL,
                    .traceparent = which & 32 ? trace : NULL, .tags = tags, .body = in.at,
                    .body_size = (size_t)(in.end - in.at));
    if (event_measure(&event, 1 << 20, &measure) != SPOOL_OK)
        return;
    uint8_t *packed = malloc(measure.packed_size);
    require(packed != NULL);
    event_pack(&event, &measure, &id, packed);
    struct event_view view;
    require(event_unpack(packed, measure.packed_size, &view) == SPOOL_OK);
    check_repack(&view, packed);
    while (damage.at < damage.end) {
        size_t at = take_u8(&damage) % measure.packed_size;
        packed[at] = take_u8(&damage);
    }
    check_unpack(packed, measure.packed_size);
    free(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_unpack(data, size);
    if (size > 1 && data[0] & 1)
        check_made((struct input){data + 1, data + size});
    return 0;
}
