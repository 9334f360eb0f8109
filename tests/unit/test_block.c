/* test_block.c - the format of blocks: what is written is read, and nothing else is. */
#include <zstd.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/crc32c.h"
#include "../../lib/base/id.h"
#include "../../spool/block.h"
#include "../check_main.h"

enum { EVENTS_SIZE = 4 * EVENT_PACKED_MIN, VALUE_SIZE = BLOCK_HEADER + EVENTS_SIZE };

static uint8_t events[EVENTS_SIZE], value[VALUE_SIZE + 8];

/* The smallest there are, EVENT_PACKED_MIN bytes each. */
static void put_events(uint8_t *dst, unsigned count)
{
    const struct spool_event event = SPOOL_EVENT(.type = "t", .priority = SPOOL_LOW);
    for (unsigned i = 0; i < count; i++) {
        struct event_measure measure;
        struct spool_id id;
        id_make((struct hlc_stamp){.ticks = 5 + i}, 1, &id);
        ck_ok(event_measure(&event, EVENT_PACKED_MIN, &measure));
        event_pack(&event, &measure, &id, dst + (size_t)i * EVENT_PACKED_MIN);
    }
}

static struct block_info sample(void)
{
    struct block_info info = {.lane = LANE_LOW, .count = 4, .first_seq = 1ull << 40, .commit = 77, .size = EVENTS_SIZE};
    id_make((struct hlc_stamp){.ticks = 5}, 1, &info.min_id);
    id_make((struct hlc_stamp){.ticks = 9}, 1, &info.max_id);
    put_events(events, 4);
    return info;
}

static void write_sample(void)
{
    struct block_info info = sample();
    block_write(value, &info, events);
}

/* After a change of a field: makes the header's checksum right again, so that the field itself is looked at. */
static void sign_header(void)
{
    put_u32(value + BLOCK_HEADER - 4, crc32c(0, value, BLOCK_HEADER - 4));
}

START_TEST(what_is_written_is_read)
{
    struct block_info info = sample(), got, peeked;
    struct store_block *block;
    write_sample();
    ck_ok(block_check(value, VALUE_SIZE, &got));
    ck_ok(block_peek(value, VALUE_SIZE, &peeked));
    ck_assert_int_eq(got.lane, info.lane);
    ck_assert_uint_eq(got.count, info.count);
    ck_assert_uint_eq(got.first_seq, info.first_seq);
    ck_assert_uint_eq(got.commit, info.commit);
    ck_assert_uint_eq(got.size, info.size);
    ck_assert_mem_eq(&got.min_id, &info.min_id, sizeof got.min_id);
    ck_assert_mem_eq(&got.max_id, &info.max_id, sizeof got.max_id);
    ck_assert_uint_eq(peeked.first_seq, info.first_seq);
    ck_ok(block_copy(value, VALUE_SIZE, &block));
    ck_assert_uint_eq(block->size, sizeof events);
    ck_assert_mem_eq(block->events.bytes, events, sizeof events);
    ck_assert_uint_eq(block->first_seq, info.first_seq);
    store_block_unref(block);
    ck_assert_uint_eq(block_size(value), VALUE_SIZE);
}
END_TEST

START_TEST(layout_is_the_documented_one)
{
    write_sample();
    ck_assert_mem_eq(value, "SPLblk1\n", 8);
    ck_assert_uint_eq(get_u16(value + 8), 1);
    ck_assert_uint_eq(value[10], LANE_LOW);
    ck_assert_uint_eq(value[11], 0);
    ck_assert_uint_eq(get_u32(value + 12), 4);
    ck_assert_uint_eq(get_u64(value + 16), 1ull << 40);
    ck_assert_uint_eq(get_u64(value + 24), 77);
    ck_assert_uint_eq(get_u32(value + 32), EVENTS_SIZE);
    ck_assert_uint_eq(get_u32(value + 36), crc32c(0, events, sizeof events));
    ck_assert_uint_eq(get_u32(value + 84), crc32c(0, value, 84));
}
END_TEST

START_TEST(every_damaged_bit_is_found)
{
    struct block_info info;
    struct store_block *block = NULL;
    write_sample();
    for (size_t bit = 0; bit < VALUE_SIZE * 8; bit++) {
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_code(block_check(value, VALUE_SIZE, &info), SPOOL_EDAMAGED);
        ck_code(block_copy(value, VALUE_SIZE, &block), SPOOL_EDAMAGED);
        ck_code(block_peek(value, VALUE_SIZE, &info), bit / 8 < BLOCK_HEADER ? SPOOL_EDAMAGED : SPOOL_OK);
        value[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_ptr_null(block);
}
END_TEST

START_TEST(every_other_size_is_refused)
{
    struct block_info info;
    write_sample();
    for (size_t size = 0; size < sizeof value; size++) {
        if (size != VALUE_SIZE)
            ck_code(block_check(value, size, &info), SPOOL_EDAMAGED);
    }
}
END_TEST

START_TEST(newer_version_and_codec_are_named)
{
    struct block_info info = {.count = 99};
    write_sample();
    static const uint16_t unknown[] = {0, 3, 0xffff};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        put_u16(value + 8, unknown[i]);
        sign_header();
        ck_code(block_check(value, VALUE_SIZE, &info), SPOOL_EVERSION);
    }
    ck_assert_ptr_nonnull(strstr(err_last(), "format 65535"));
    write_sample();
    value[11] = 2;
    sign_header();
    ck_code(block_peek(value, VALUE_SIZE, &info), SPOOL_EVERSION);
    ck_assert_uint_eq(info.count, 99);
}
END_TEST

/* Fields that cannot be, under a right checksum. */
START_TEST(impossible_fields_are_refused)
{
    struct block_info info;
    write_sample();
    value[10] = LANES;
    sign_header();
    ck_code(block_peek(value, VALUE_SIZE, &info), SPOOL_EDAMAGED);
    write_sample();
    put_u32(value + 12, 0);
    sign_header();
    ck_code(block_peek(value, VALUE_SIZE, &info), SPOOL_EDAMAGED);
    put_u32(value + 12, 5); /* more than fit */
    sign_header();
    ck_code(block_peek(value, VALUE_SIZE, &info), SPOOL_EDAMAGED);
    write_sample();
    put_u64(value + 16, UINT64_MAX - 2);
    sign_header();
    ck_code(block_peek(value, VALUE_SIZE, &info), SPOOL_EDAMAGED);
    write_sample();
    memset(value + 40, 0xff, 16); /* smallest id above the largest */
    sign_header();
    ck_code(block_peek(value, VALUE_SIZE, &info), SPOOL_EDAMAGED);
    write_sample();
    put_u32(value + 32, EVENTS_SIZE + 4);
    sign_header();
    ck_code(block_peek(value, VALUE_SIZE + 4, &info), SPOOL_EDAMAGED);
}
END_TEST

/* A right checksum over events that are none: not by a medium, but by a mistake, or by somebody. */
START_TEST(a_block_whose_events_are_none_is_damaged)
{
    struct store_block *block = NULL;
    struct block_info info = sample();
    put_u32(events + EVENT_PACKED_MIN, 3 * EVENT_PACKED_MIN + 8); /* the second one reaches beyond the end */
    block_write(value, &info, events);
    ck_code(block_copy(value, VALUE_SIZE, &block), SPOOL_EDAMAGED);
    info = sample();
    info.count = 3;
    block_write(value, &info, events);
    ck_code(block_copy(value, VALUE_SIZE, &block), SPOOL_EDAMAGED);
    info = sample();
    info.form = BUNDLE_SHARED;
    block_write(value, &info, events);
    ck_code(block_copy(value, VALUE_SIZE, &block), SPOOL_EDAMAGED);
    ck_assert_ptr_null(block);
}
END_TEST

/* What is written today; before, version 1. */
START_TEST(the_version_says_how_events_stand)
{
    static struct bundle_writer writer;
    struct buffer bundle = {0};
    struct block_info info = sample(), got;
    struct store_block *block;
    for (unsigned i = 0; i < 4; i++)
        ck_ok(bundle_put(&writer, &bundle, events + (size_t)i * EVENT_PACKED_MIN, EVENT_PACKED_MIN));
    bundle_end(&writer, &bundle);
    info.form = BUNDLE_SHARED;
    info.size = (uint32_t)bundle.size;
    ck_assert_uint_lt(bundle.size, EVENTS_SIZE);
    block_write(value, &info, bundle.data);
    ck_assert_uint_eq(get_u16(value + 8), 2);
    ck_ok(block_check(value, BLOCK_HEADER + bundle.size, &got));
    ck_assert_int_eq(got.form, BUNDLE_SHARED);
    ck_ok(block_copy(value, BLOCK_HEADER + bundle.size, &block));
    for (uint32_t i = 0; i < 4; i++) {
        struct event_view view;
        ck_ok(bundle_event(&block->events, i, &view));
        ck_assert_uint_eq(id_stamp(&view.id).ticks, 5 + i);
        ck_assert_int_eq(view.event.priority, SPOOL_LOW);
    }
    store_block_unref(block);
    buffer_free(&bundle);
    bundle_writer_free(&writer);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ compressed */

enum { LONG_SIZE = 100 * EVENT_PACKED_MIN };
static uint8_t long_events[LONG_SIZE], frame[LONG_SIZE], squeezed[BLOCK_HEADER + LONG_SIZE];

/* A compressed block of LONG_SIZE bytes of events, in `squeezed`; returns its size. */
static size_t write_compressed(void)
{
    struct block_info info = sample();
    put_events(long_events, 100);
    info.count = 100;
    size_t size = ZSTD_compress(frame, sizeof frame, long_events, sizeof long_events, 1);
    ck_assert(!ZSTD_isError(size));
    info.codec = BLOCK_ZSTD;
    info.size = (uint32_t)size;
    info.events_size = LONG_SIZE;
    block_write(squeezed, &info, frame);
    return BLOCK_HEADER + size;
}

static void sign_compressed(size_t size)
{
    put_u32(squeezed + 32, (uint32_t)(size - BLOCK_HEADER));
    put_u32(squeezed + 36, crc32c(0, squeezed + BLOCK_HEADER, size - BLOCK_HEADER));
    put_u32(squeezed + BLOCK_HEADER - 4, crc32c(0, squeezed, BLOCK_HEADER - 4));
}

START_TEST(compressed_events_are_read)
{
    struct block_info got;
    struct store_block *block;
    size_t size = write_compressed();
    ck_assert_uint_lt(size, LONG_SIZE / 2);
    ck_ok(block_check(squeezed, size, &got));
    ck_assert_int_eq(got.codec, BLOCK_ZSTD);
    ck_assert_uint_eq(got.events_size, LONG_SIZE);
    ck_assert_uint_eq(got.size, size - BLOCK_HEADER);
    ck_ok(block_copy(squeezed, size, &block));
    ck_assert_uint_eq(block->size, LONG_SIZE);
    ck_assert_mem_eq(block->events.bytes, long_events, LONG_SIZE);
    store_block_unref(block);
    ck_assert_uint_eq(block_size(squeezed), size);
    ck_assert_uint_eq(squeezed[11], 1);
    ck_assert_uint_eq(get_u32(squeezed + 72), LONG_SIZE);
}
END_TEST

START_TEST(every_damaged_bit_of_a_compressed_block_is_found)
{
    struct block_info info;
    struct store_block *block = NULL;
    size_t size = write_compressed();
    for (size_t bit = 0; bit < size * 8; bit++) {
        squeezed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_code(block_check(squeezed, size, &info), SPOOL_EDAMAGED);
        ck_code(block_copy(squeezed, size, &block), SPOOL_EDAMAGED);
        squeezed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert_ptr_null(block);
}
END_TEST

/* Under right checksums: not by a medium, but by a mistake, or by somebody. */
START_TEST(a_frame_that_does_not_unpack_as_said_is_damage)
{
    struct store_block *block = NULL;
    struct block_info info;
    size_t size = write_compressed();
    for (int i = 0; i < 2; i++) { /* it unpacks to less, and to more */
        put_u32(squeezed + 72, i ? LONG_SIZE - 8 : LONG_SIZE + 8);
        sign_compressed(size);
        ck_code(block_copy(squeezed, size, &block), SPOOL_EDAMAGED);
        ck_code(block_check(squeezed, size, &info), SPOOL_EDAMAGED);
    }
    size = write_compressed();
    memset(squeezed + BLOCK_HEADER, 0xa5, 8); /* no frame at all */
    sign_compressed(size);
    ck_code(block_copy(squeezed, size, &block), SPOOL_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(err_last(), "cannot be unpacked"));
    size = write_compressed() - 1; /* cut off */
    sign_compressed(size);
    ck_code(block_copy(squeezed, size, &block), SPOOL_EDAMAGED);
    ck_assert_ptr_null(block);
}
END_TEST

/* Before any room is made for them. */
START_TEST(compressed_sizes_are_bounded)
{
    static const uint32_t impossible[] = {0, 4, LONG_SIZE + 4, BLOCK_COMPRESSED_MAX + 8, 0xfffffff8};
    struct block_info info;
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        size_t size = write_compressed();
        put_u32(squeezed + 72, impossible[i]);
        sign_compressed(size);
        ck_code(block_peek(squeezed, size, &info), SPOOL_EDAMAGED);
    }
    size_t size = write_compressed();
    put_u32(squeezed + 72, (uint32_t)(size - BLOCK_HEADER) & ~7u); /* not smaller than the events */
    put_u32(squeezed + 12, 1);
    sign_compressed(size);
    ck_code(block_peek(squeezed, size, &info), SPOOL_EDAMAGED);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("block");
    TCase *c = tcase_create("block");
    tcase_add_test(c, what_is_written_is_read);
    tcase_add_test(c, layout_is_the_documented_one);
    tcase_add_test(c, every_damaged_bit_is_found);
    tcase_add_test(c, every_other_size_is_refused);
    tcase_add_test(c, newer_version_and_codec_are_named);
    tcase_add_test(c, impossible_fields_are_refused);
    tcase_add_test(c, a_block_whose_events_are_none_is_damaged);
    tcase_add_test(c, the_version_says_how_events_stand);
    tcase_add_test(c, compressed_events_are_read);
    tcase_add_test(c, every_damaged_bit_of_a_compressed_block_is_found);
    tcase_add_test(c, a_frame_that_does_not_unpack_as_said_is_damage);
    tcase_add_test(c, compressed_sizes_are_bounded);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
