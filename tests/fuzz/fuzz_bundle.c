/* fuzz_bundle.c - bundle_open() on arbitrary bytes: nothing outside is read, and what is accepted consists of valid
 * events, which make a bundle again that says the same.
 *
 * Random bytes hardly ever add up to a bundle. So with an odd first byte one is made from the input, and a few of its
 * bytes are changed before it is opened. */
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/bundle.h"
#include "fuzz.h"

enum { COUNT_MAX = 4096 };

static uint32_t at[COUNT_MAX + 1], at_again[COUNT_MAX + 1];
static struct bundle_writer writer;
static struct buffer out;

static bool is_same(const struct bundle *a, const struct bundle *b, uint32_t i)
{
    struct event_view view_a, view_b;
    uint8_t *packed_a, *packed_b;
    require(bundle_event(a, i, &view_a) == SPOOL_OK && bundle_event(b, i, &view_b) == SPOOL_OK);
    require(event_repack(&view_a, &packed_a) == SPOOL_OK && event_repack(&view_b, &packed_b) == SPOOL_OK);
    bool same = view_a.packed_size == view_b.packed_size && memcmp(packed_a, packed_b, view_a.packed_size) == 0;
    free(packed_a);
    free(packed_b);
    return same;
}

static void put_again(const struct bundle *bundle, uint32_t i)
{
    struct event_view view;
    struct spool_id id;
    uint8_t *packed;
    require(bundle_event(bundle, i, &view) == SPOOL_OK);
    require(((const char *)view.event.body)[view.event.body_size] == 0);
    bundle_id(bundle, i, &id);
    require(memcmp(&id, &view.id, sizeof id) == 0);
    require(event_repack(&view, &packed) == SPOOL_OK);
    require(bundle_put(&writer, &out, packed, view.packed_size) == SPOOL_OK);
    free(packed);
}

static void check_again(const struct bundle *bundle)
{
    struct bundle again;
    out.size = 0;
    for (uint32_t i = 0; i < bundle->count; i++)
        put_again(bundle, i);
    bundle_end(&writer, &out);
    require(bundle_open(BUNDLE_SHARED, out.data, out.size, bundle->count, at_again, &again) == SPOOL_OK);
    for (uint32_t i = 0; i < bundle->count; i++)
        require(is_same(bundle, &again, i));
}

/* In an allocation of its own, so that the sanitizer sees a read beyond the end. Packed events may be damaged each. */
static void check_open(enum bundle_form form, const uint8_t *bytes, size_t size, uint32_t count)
{
    struct bundle bundle;
    struct event_view view;
    uint8_t *copy = malloc(size ? size : 1);
    require(copy != NULL);
    if (size)
        memcpy(copy, bytes, size);
    bool opened = count > 0 && bundle_open(form, copy, size, count, at, &bundle) == SPOOL_OK;
    for (uint32_t i = 0; opened && form == BUNDLE_PACKED && i < count; i++)
        bundle_event(&bundle, i, &view);
    if (opened && form == BUNDLE_SHARED)
        check_again(&bundle);
    free(copy);
}

/* --------------------------------------------------------------------------------------------- a bundle from input */

static void put_made(struct input *in)
{
    static const char trace[] = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    static const char *const texts[] = {"t", "log.llm_call", "a\xc3\xa9", "text/plain"};
    struct spool_id id, parent;
    struct event_measure measure;
    uint8_t packed[1024], which = take_u8(in), more = take_u8(in);
    const char *tags[] = {texts[more & 3], NULL};
    id_make((struct hlc_stamp){take_odd_number(in), take_u8(in) & 0x7f}, which & 1 ? 7 : take_u8(in), &id);
    id_make((struct hlc_stamp){take_odd_number(in), 0}, 7, &parent);
    struct spool_event event =
        SPOOL_EVENT(.type = texts[which >> 6], .agent = more & 4 ? texts[more >> 6] : NULL,
                    .occurred_at_ns = which & 2 ? take_odd_number(in) : 0,
                    .ttl_ms = which & 4 ? take_odd_number(in) : 0, .parent = which & 8 ? &parent : NULL,
                    .traceparent = which & 16 ? trace : NULL, .tags = which & 32 ? tags : NULL);
    event.body = take_bytes(in, take_u8(in), &event.body_size);
    require(event_measure(&event, sizeof packed, &measure) == SPOOL_OK);
    event_pack(&event, &measure, &id, packed);
    require(bundle_put(&writer, &out, packed, measure.packed_size) == SPOOL_OK);
}

static void check_made(struct input in)
{
    struct input damage = {in.at, in.at + (in.end - in.at) / 4};
    uint32_t count = 0;
    in.at = damage.end;
    out.size = 0;
    while ((count == 0 || input_left(&in)) && count < COUNT_MAX) {
        put_made(&in);
        count++;
    }
    bundle_end(&writer, &out);
    uint8_t *made = malloc(out.size);
    size_t size = out.size;
    require(made != NULL);
    memcpy(made, out.data, size);
    require(bundle_open(BUNDLE_SHARED, made, size, count, at, &(struct bundle){0}) == SPOOL_OK);
    check_open(BUNDLE_SHARED, made, size, count);
    while (damage.at < damage.end)
        made[take_number(&damage, 2) % size] ^= take_u8(&damage);
    check_open(BUNDLE_SHARED, made, size, count);
    free(made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 1 && data[0] & 1)
        check_made((struct input){data + 1, data + size});
    else if (size > 1) {
        check_open(BUNDLE_SHARED, data + 2, size - 2, data[1]);
        check_open(BUNDLE_PACKED, data + 2, size - 2, data[1]);
    }
    return 0;
}
