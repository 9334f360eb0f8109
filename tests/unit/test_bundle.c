/* test_bundle.c - the events of a block in either form: what goes in comes out, in little space, and nothing else is
 * read. */
#include "fail_nth.h"

#include "../../lib/base/bundle.h"
#include "../../lib/base/bytes.h"

enum { EVENTS_MAX = 4096 };

static struct bundle_writer *writer;
static struct buffer packed, out; /* what was put, one after the other; the bundle */
static uint32_t count;
static uint32_t at[EVENTS_MAX + 1];

static void set_up(void)
{
    writer = calloc(1, sizeof *writer);
    packed = out = (struct buffer){0};
    count = 0;
}

static void tear_down(void)
{
    bundle_writer_free(writer);
    free(writer);
    buffer_free(&packed);
    buffer_free(&out);
}

static void again(void)
{
    packed.size = out.size = 0;
    count = 0;
}

/* Packs the event behind the others, and puts it into the bundle. */
static void put(const struct spool_event *event, const struct spool_id *id)
{
    struct event_measure measure;
    ck_ok(event_measure(event, SIZE_MAX, &measure));
    ck_ok(buffer_reserve(&packed, measure.packed_size));
    event_pack(event, &measure, id, packed.data + packed.size);
    ck_ok(bundle_put(writer, &out, packed.data + packed.size, measure.packed_size));
    packed.size += measure.packed_size;
    count++;
}

static struct spool_id id_of(uint64_t ticks, uint16_t counter, uint64_t node)
{
    struct spool_id id;
    id_make((struct hlc_stamp){ticks, counter}, node, &id);
    return id;
}

static void put_simple(uint64_t ticks, size_t body_size)
{
    static char body[70000];
    struct spool_id id = id_of(ticks, 0, 7);
    put(&(struct spool_event)SPOOL_EVENT(.type = "log.llm_call", .agent = "planner", .body = body,
                                         .body_size = body_size),
        &id);
}

/* Every event is byte for byte the one that was put, reached in any order; the bundle stands in memory of just its
 * size. */
static void check_same(enum bundle_form form, const struct buffer *bundle)
{
    struct bundle b;
    uint8_t *bytes = malloc(bundle->size);
    memcpy(bytes, bundle->data, bundle->size);
    ck_ok(bundle_open(form, bytes, bundle->size, count, at, &b));
    size_t end = packed.size;
    for (uint32_t i = count; i-- > 0;) {
        struct event_view view;
        struct spool_id id;
        uint8_t *repacked;
        ck_ok(bundle_event(&b, i, &view));
        ck_ok(event_repack(&view, &repacked));
        end -= view.packed_size;
        ck_assert_mem_eq(repacked, packed.data + end, view.packed_size);
        ck_assert_int_eq(((const char *)view.event.body)[view.event.body_size], 0);
        bundle_id(&b, i, &id);
        ck_assert_mem_eq(&id, &view.id, sizeof id);
        ck_assert_uint_ge(bundle_alone(&b, i) + 60, view.packed_size);
        ck_assert_uint_le(bundle_alone(&b, i), view.packed_size + BUNDLE_EVENT_MORE);
        free(repacked);
    }
    ck_assert_uint_eq(end, 0);
    ck_assert_uint_eq(bundle_span(&b, 0, count), bundle_span(&b, 0, count / 2) + bundle_span(&b, count / 2, count));
    free(bytes);
}

/* The size of the bundle. */
static size_t finish(void)
{
    size_t told = bundle_size(writer);
    bundle_end(writer, &out);
    ck_assert_uint_eq(out.size, told);
    ck_assert_uint_eq(bundle_size(writer), 0);
    check_same(BUNDLE_SHARED, &out);
    check_same(BUNDLE_PACKED, &packed);
    return out.size;
}

/* ------------------------------------------------------------------------------------------------------- round trip */

static unsigned seed;

static unsigned below(unsigned n)
{
    return (unsigned)rand_r(&seed) % n;
}

static const char *one_of(const char *const *texts, unsigned n)
{
    return texts[below(n)];
}

/* Near the last one, far from it, before it, of another process, or of any time. */
static struct spool_id any_id(uint64_t *ticks)
{
    *ticks += below(3) ? below(2000) : (uint64_t)below(1 << 20) << below(16);
    uint16_t counter = (uint16_t)(below(3) ? 0 : below(1 << 14));
    switch (below(16)) {
    case 0:
        return id_of(*ticks, counter, below(1000));
    case 1:
        return id_of(*ticks - below(1 << 30), counter, 7);
    case 2:
        return id_of((uint64_t)rand_r(&seed) << 29 | below(1 << 29), counter, 7);
    default:
        return id_of(*ticks, counter, 7);
    }
}

static void put_any(uint64_t *ticks, bool varied)
{
    static const char *const types[] = {"log.llm_call", "t", "memory.belief"};
    static const char *const agents[] = {NULL, "a", "критик"};
    static const char *const traces[] = {NULL, NULL, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"};
    static const size_t sizes[] = {0, 1, 63, 64, 100, 256, 16383, 16384};
    static char body[20000];
    char session[16];
    const char *tags[] = {"x", "another", NULL};
    snprintf(session, sizeof session, "s%u", below(varied ? 100000 : 4));
    struct spool_id id = any_id(ticks), parent = any_id(ticks);
    struct spool_event event = SPOOL_EVENT(.type = one_of(types, 3), .agent = one_of(agents, 3), .body = body,
                                           .priority = SPOOL_HIGH, .traceparent = one_of(traces, 3));
    event.session = below(2) ? session : NULL;
    event.content_type = below(8) ? NULL : "text/plain";
    event.durability = (enum spool_durability)below(3);
    event.parent = below(4) ? NULL : &parent;
    event.tags = below(4) ? NULL : tags + below(2);
    event.occurred_at_ns = below(4) ? 0 : (uint64_t)rand_r(&seed) << below(33);
    event.ttl_ms = below(4) ? 0 : (uint64_t)rand_r(&seed) << below(33);
    event.body_size = sizes[below(below(20) ? 6 : 8)] + below(3); /* long ones take time */
    for (size_t i = 0; i < event.body_size; i += 97)
        body[i] = (char)below(256);
    put(&event, &id);
}

/* One buffer takes bundle after bundle, as in the packer. */
START_TEST(what_is_put_is_read)
{
    seed = (unsigned)test_seed(1);
    for (unsigned round = 0; round < 200; round++) {
        uint64_t ticks = (uint64_t)rand_r(&seed) << below(29);
        unsigned n = 1 + below(below(20) ? 40 : 600);
        bool varied = below(2);
        again();
        for (unsigned i = 0; i < n; i++)
            put_any(&ticks, varied);
        finish();
    }
}
END_TEST

START_TEST(bundles_stand_behind_one_another)
{
    put_simple(1000, 10);
    bundle_end(writer, &out);
    size_t first = out.size;
    put_simple(2000, 20);
    put_simple(2001, 30);
    bundle_end(writer, &out);
    struct bundle b;
    struct event_view view;
    ck_ok(bundle_open(BUNDLE_SHARED, out.data, first, 1, at, &b));
    ck_ok(bundle_open(BUNDLE_SHARED, out.data + first, out.size - first, 2, at, &b));
    ck_ok(bundle_event(&b, 1, &view));
    ck_assert_uint_eq(view.event.body_size, 30);
    ck_assert_uint_eq(id_stamp(&view.id).ticks, 2001);
    ck_assert_str_eq(view.event.agent, "planner");
}
END_TEST

/* -------------------------------------------------------------------------------------------------------------- size */

/* 8 % over 256 bytes are 20 bytes, the block's and LMDB's included. */
START_TEST(an_event_takes_six_to_eight_bytes_besides_its_body)
{
    for (unsigned i = 0; i < 1000; i++)
        put_simple(1ull << 58 | i * 4, 256);
    ck_assert_uint_le(finish(), 1000 * (256 + 6) + 60);
    again();
    for (unsigned i = 0; i < 1000; i++) /* a second and more from one to the next */
        put_simple(1ull << 58 | i * 5000000, 256);
    ck_assert_uint_le(finish(), 1000 * (256 + 12) + 60);
}
END_TEST

/* Everything is different each time, and foreign. */
START_TEST(the_worst_case_is_hardly_larger_than_packed)
{
    char type[SPOOL_TYPE_MAX + 1] = "", tag[8];
    const char *tags[] = {tag, NULL};
    for (unsigned i = 0; i < 2000; i++) {
        struct spool_id id = id_of(1ull << 58, 0x3fff, i + 1), parent = id_of(5 + i, 1, 1000 + i);
        snprintf(type, sizeof type, "t%u", i);
        snprintf(tag, sizeof tag, "%u", i % 10);
        struct spool_event event =
            SPOOL_EVENT(.type = type, .tags = tags, .ttl_ms = UINT64_MAX, .occurred_at_ns = i + 1, .parent = &parent,
                        .body = type, .body_size = i % 8);
        put(&event, &id);
        ck_assert_uint_le(bundle_size(writer), packed.size + (size_t)(i + 1) * BUNDLE_EVENT_MORE);
    }
    ck_assert_uint_le(finish(), packed.size + 2000 * 4);
}
END_TEST

/* Far more envelopes than are remembered: some stand there twice, and each event has its own. */
START_TEST(any_number_of_envelopes)
{
    struct spool_id id = id_of(99, 0, 7);
    char agent[16];
    for (unsigned i = 0; i < 4000; i++) {
        snprintf(agent, sizeof agent, "agent-%u", i * 7919 % 2000);
        put(&(struct spool_event)SPOOL_EVENT(.type = "t", .agent = agent, .body = "12345678", .body_size = 8), &id);
    }
    ck_assert_uint_lt(finish(), packed.size);
}
END_TEST

/* So few that each is found again, however they alternate. */
START_TEST(a_few_hundred_envelopes_stand_there_once)
{
    struct spool_id id = id_of(99, 0, 7);
    char agent[16];
    for (unsigned i = 0; i < 4000; i++) {
        snprintf(agent, sizeof agent, "agent-%u", i * 7919 % 200);
        put(&(struct spool_event)SPOOL_EVENT(.type = "t", .agent = agent), &id);
    }
    finish();
    ck_assert_uint_eq(get_u32(out.data + out.size - 4), 200);
}
END_TEST

/* These agents' envelopes have the same CRC32C. */
START_TEST(envelopes_with_the_same_hash_are_told_apart)
{
    static const char *const agents[] = {"icdnxore", "hhwnnbja"};
    struct spool_id id = id_of(99, 0, 7);
    for (unsigned i = 0; i < 10; i++)
        put(&(struct spool_event)SPOOL_EVENT(.type = "t", .agent = agents[i % 2]), &id);
    finish();
    ck_assert_uint_eq(get_u32(out.data + out.size - 4), 2);
    uint32_t hashes[2], used = 0;
    for (unsigned i = 0; i < BUNDLE_SLOTS; i++)
        if (writer->slots[i].round == writer->round)
            hashes[used++] = writer->slots[i].hash;
    ck_assert_uint_eq(used, 2);
    ck_assert_uint_eq(hashes[0], hashes[1]); /* or this test is about nothing */
}
END_TEST

/* The round is what tells a slot's bundle: when its number comes again, old slots must not be taken for new ones. */
START_TEST(rounds_begin_anew)
{
    put_simple(1, 1);
    put(&(struct spool_event)SPOOL_EVENT(.type = "other"), &(struct spool_id){.bytes = {[6] = 0x70, [8] = 0x80}});
    finish(); /* its slots say round 1 */
    writer->round = UINT32_MAX;
    again();
    put(&(struct spool_event)SPOOL_EVENT(.type = "third"), &(struct spool_id){.bytes = {[6] = 0x70, [8] = 0x80}});
    ck_assert_uint_eq(writer->round, 1);
    put(&(struct spool_event)SPOOL_EVENT(.type = "other"), &(struct spool_id){.bytes = {[6] = 0x70, [8] = 0x80}});
    finish();
}
END_TEST

/* ------------------------------------------------------------------------------------------------------------- bytes */

START_TEST(layout_is_the_documented_one)
{
    struct spool_id base = id_of(1000, 0, 7), later = id_of(1015, 3, 7), earlier = id_of(936, 0, 7);
    struct spool_id foreign = id_of(1000, 0, 8);
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "b", .body_size = 1, .priority = SPOOL_LOW);
    put(&event, &base);
    put(&event, &later);
    put(&event, &earlier);
    event.ttl_ms = 0x1234;
    put(&event, &foreign);
    finish();
    static const char head[] = "\0\4\0b\0" /* envelope 0, a body of 1 byte; the base itself */
                               "\0\4\xf4\x0c"
                               "b\0"             /* 15 later, counted: 61 in one byte; counter 3 */
                               "\0\4\x09\4\0b\0" /* 64 earlier: 258 in two bytes; counter 0 */
                               "\4\4\x0c";       /* envelope 1; an id as it is */
    static const char tail[] = "\x34\x12\0\0\0\0\0\0b\0"
                               "\1\0\0\0\3\1\0\0t\0"
                               "\1\0\0\0\x23\1\0\0t\0";
    const uint8_t *p = out.data, *table;
    ck_assert_mem_eq(p, head, sizeof head - 1);
    p += sizeof head - 1;
    ck_assert_mem_eq(p, &foreign, sizeof foreign);
    p += sizeof foreign;
    ck_assert_mem_eq(p, tail, sizeof tail - 1);
    table = p + sizeof tail - 1;
    ck_assert_uint_eq(get_u32(table), (uint32_t)(table - out.data) - 20);
    ck_assert_uint_eq(get_u32(table + 4), (uint32_t)(table - out.data) - 10);
    ck_assert_mem_eq(table + 8, &base, sizeof base);
    ck_assert_uint_eq(get_u32(table + 24), 2);
    ck_assert_uint_eq(out.size, (size_t)(table - out.data) + 28);
}
END_TEST

/* Opens the bytes in memory of just their size, and reads all there is. */
static int read_all(const uint8_t *from, size_t size, uint32_t events)
{
    struct bundle b;
    uint8_t *bytes = malloc(size ? size : 1);
    if (size)
        memcpy(bytes, from, size);
    int code = bundle_open(BUNDLE_SHARED, bytes, size, events, at, &b);
    for (uint32_t i = 0; !code && i < events; i++) {
        struct event_view view;
        struct event_measure measure;
        ck_ok(bundle_event(&b, i, &view));
        ck_ok(event_measure(&view.event, SIZE_MAX, &measure)); /* it is an event in every way */
        ck_assert_uint_eq(measure.packed_size, view.packed_size);
        ck_assert_int_eq(((const char *)view.event.body)[view.event.body_size], 0);
    }
    free(bytes);
    return code;
}

static void put_a_few(void)
{
    uint64_t ticks = 1ull << 50;
    again();
    seed = 5;
    while (count < 12)
        if (below(2))
            put_simple(++ticks, below(40));
        else
            put_any(&ticks, true);
    finish();
}

START_TEST(what_is_cut_off_or_counted_wrong_is_damaged)
{
    put_a_few();
    for (size_t size = 0; size < out.size; size++)
        ck_code(read_all(out.data, size, count), SPOOL_EDAMAGED);
    for (uint32_t events = 0; events < 2 * count; events++)
        ck_code(read_all(out.data, out.size, events), events == count ? SPOOL_OK : SPOOL_EDAMAGED);
    struct bundle b = {.count = 77};
    static const char unused[] = "\1\0\0\0\0\1\0\0u"; /* an envelope that no event has */
    uint8_t bytes[200], *p = bytes + 5;
    struct spool_id base = id_of(1000, 0, 7);
    memcpy(bytes, "\0\4\0b", 5);
    for (uint32_t i = 0; i < 2; i++, p += 10)
        memcpy(p, unused, 10);
    put_u32(p, 5);
    put_u32(p + 4, 15);
    memcpy(p + 8, &base, sizeof base);
    put_u32(p + 24, 2);
    ck_code(read_all(bytes, (size_t)(p - bytes) + 28, 1), SPOOL_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(err_last(), "impossible number of envelopes, 2"));
    ck_code(bundle_open(BUNDLE_PACKED, packed.data, packed.size - 8, count, at, &b), SPOOL_EDAMAGED);
    ck_code(bundle_open(BUNDLE_PACKED, packed.data, packed.size, count - 1, at, &b), SPOOL_EDAMAGED);
    ck_code(bundle_open(BUNDLE_PACKED, packed.data, packed.size, count + 1, at, &b), SPOOL_EDAMAGED);
    ck_assert_uint_eq(b.count, 77);
}
END_TEST

/* What checksums stop otherwise. Whatever is accepted consists of valid events. */
START_TEST(any_change_is_damage_or_another_event)
{
    unsigned accepted = 0;
    put_a_few();
    for (size_t i = 0; i < out.size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            out.data[i] ^= (uint8_t)(1u << bit);
            accepted += read_all(out.data, out.size, count) == SPOOL_OK;
            out.data[i] ^= (uint8_t)(1u << bit);
        }
    }
    ck_assert_uint_gt(accepted, 0); /* bodies may hold anything */
    for (unsigned round = 0; round < 5000; round++) {
        uint8_t was[8];
        size_t where[8];
        unsigned changes = 1 + below(8);
        for (unsigned i = 0; i < changes; i++) {
            where[i] = below((unsigned)out.size);
            was[i] = out.data[where[i]];
            out.data[where[i]] = (uint8_t)below(256);
        }
        read_all(out.data, out.size, count);
        while (changes-- > 0)
            out.data[where[changes]] = was[changes];
    }
    ck_ok(read_all(out.data, out.size, count));
}
END_TEST

/* One event, "t" at ticks 1000 of node 7, whose bytes up to its body are these. */
static int read_one(const char *head, size_t size, uint8_t base_tick)
{
    uint8_t bytes[200];
    struct spool_id base = id_of(base_tick, 0, 7);
    memcpy(bytes, head, size);
    memcpy(bytes + size, "b\0\1\0\0\0\3\1\0\0t\0", 12);
    put_u32(bytes + size + 12, (uint32_t)size + 2);
    memcpy(bytes + size + 16, &base, sizeof base);
    put_u32(bytes + size + 32, 1);
    return read_all(bytes, size + 36, 1);
}
#define READ_ONE(head) read_one(head, sizeof(head) - 1, 100)

START_TEST(a_number_stands_in_as_few_bytes_as_it_needs)
{
    ck_ok(READ_ONE("\0\4\0"));
    ck_code(READ_ONE("\1\0\4\0"), SPOOL_EDAMAGED);             /* 0 in two bytes */
    ck_code(READ_ONE("\0\5\0\0"), SPOOL_EDAMAGED);             /* 1 in two */
    ck_code(READ_ONE("\0\6\0\0\0\0"), SPOOL_EDAMAGED);         /* … four … */
    ck_code(READ_ONE("\0\7\0\0\0\0\0\0\0\0"), SPOOL_EDAMAGED); /* … eight */
    ck_code(READ_ONE("\0\4\1\0"), SPOOL_EDAMAGED);
    ck_code(READ_ONE("\4\4\0"), SPOOL_EDAMAGED);   /* an envelope that is not there */
    ck_code(READ_ONE("\0\0\0"), SPOOL_EDAMAGED);   /* a body that ends before its NUL */
    ck_code(READ_ONE("\0\x08\0"), SPOOL_EDAMAGED); /* … and one that ends behind it */
}
END_TEST

START_TEST(ids_that_cannot_be_are_damage)
{
    ck_ok(READ_ONE("\0\4\x0c"
                   "\0\0\0\0\0\0\x70\0\x80\0\0\0\0\0\0\0"));
    ck_code(READ_ONE("\0\4\x0c"
                     "\0\0\0\0\0\0\x40\0\x80\0\0\0\0\0\0\0"),
            SPOOL_EDAMAGED); /* no UUIDv7 */
    ck_code(READ_ONE("\0\4\x1c"
                     "\0\0\0\0\0\0\x70\0\x80\0\0\0\0\0\0\0"),
            SPOOL_EDAMAGED);                                                   /* as it is, and a difference */
    ck_ok(READ_ONE("\0\4\x49\6\0"));                                           /* 100 earlier */
    ck_code(READ_ONE("\0\4\x59\6\0"), SPOOL_EDAMAGED);                         /* 101: before the beginning of time */
    ck_ok(READ_ONE("\0\4\4\xfd\xff"));                                         /* counter 16383 */
    ck_code(READ_ONE("\0\4\4\2\0\1\0"), SPOOL_EDAMAGED);                       /* 16384 */
    ck_ok(READ_ONE("\0\4\x03\0\0\0\0\0\0\x80"));                               /* 2 to the power of 59 later … */
    ck_code(READ_ONE("\0\4\xc3\xff\xff\xff\xff\xff\xff\xff"), SPOOL_EDAMAGED); /* … and more than there is time */
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- failures */

/* Of events that are not valid none gets in, and the others are not touched. */
START_TEST(what_is_not_valid_is_refused)
{
    struct spool_id id = id_of(5, 0, 7);
    put_simple(1000, 10);
    size_t before = bundle_size(writer), size = packed.size;
    put(&(struct spool_event)SPOOL_EVENT(.type = "x", .ttl_ms = 5), &id);
    uint8_t *event = packed.data + size;
    static const struct {
        size_t at;
        uint8_t value;
    } flaws[] = {{0, 9}, {8 + 6, 0}, {24, 0}, {24, 9}, {28, 0xff}, {29, 2}, {32, 0}, {40, 1}, {41, 1}};
    bundle_drop(writer);
    again();
    put_simple(1000, 10);
    for (size_t i = 0; i < sizeof flaws / sizeof *flaws; i++) {
        uint8_t changed[64];
        memcpy(changed, event, 48);
        changed[flaws[i].at] = flaws[i].value;
        int code = bundle_put(writer, &out, changed, 48);
        ck_assert_msg(code == SPOOL_EDAMAGED || code == SPOOL_EVERSION, "flaw %zu: %d", i, code);
        ck_assert_uint_eq(bundle_size(writer), before);
    }
    ck_code(bundle_put(writer, &out, event, 47), SPOOL_EDAMAGED);
    ck_assert_uint_eq(bundle_size(writer), before);
    finish();
}
END_TEST

START_TEST(without_memory_nothing_has_changed)
{
    struct event_measure measure;
    uint8_t other[256];
    struct spool_id id = id_of(9, 0, 7);
    struct spool_event event = SPOOL_EVENT(.type = "other");
    int code;
    ck_ok(event_measure(&event, sizeof other, &measure));
    event_pack(&event, &measure, &id, other);
    fail_each(code, FAIL_MEMORY, bundle_put(writer, &out, other, measure.packed_size))
    {
        ck_code(code, ENOMEM);
        ck_assert_uint_eq(bundle_size(writer), 0);
    }
    ck_ok(code);
    bundle_drop(writer);
    out.size = 0;
    while (out.cap - out.size > 400) /* until there is no room for one more */
        put_simple(1000 + count, 100);
    size_t before = bundle_size(writer);
    fail_each(code, FAIL_MEMORY, bundle_put(writer, &out, other, measure.packed_size))
    {
        ck_code(code, ENOMEM);
        ck_assert_uint_eq(bundle_size(writer), before);
    }
    ck_ok(code);
    ck_ok(buffer_reserve(&packed, measure.packed_size));
    ck_ok(buffer_put(&packed, other, measure.packed_size));
    count++;
    finish();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("bundle");
    TCase *c = tcase_create("bundle");
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 60);
    tcase_add_test(c, what_is_put_is_read);
    tcase_add_test(c, bundles_stand_behind_one_another);
    tcase_add_test(c, an_event_takes_six_to_eight_bytes_besides_its_body);
    tcase_add_test(c, the_worst_case_is_hardly_larger_than_packed);
    tcase_add_test(c, any_number_of_envelopes);
    tcase_add_test(c, a_few_hundred_envelopes_stand_there_once);
    tcase_add_test(c, envelopes_with_the_same_hash_are_told_apart);
    tcase_add_test(c, rounds_begin_anew);
    tcase_add_test(c, layout_is_the_documented_one);
    tcase_add_test(c, what_is_cut_off_or_counted_wrong_is_damaged);
    tcase_add_test(c, any_change_is_damage_or_another_event);
    tcase_add_test(c, a_number_stands_in_as_few_bytes_as_it_needs);
    tcase_add_test(c, ids_that_cannot_be_are_damage);
    tcase_add_test(c, what_is_not_valid_is_refused);
    tcase_add_test(c, without_memory_nothing_has_changed);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
