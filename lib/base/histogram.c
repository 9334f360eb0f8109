/* histogram.c - merging, asking and packing. (histogram.h has the idea.) */
#include "histogram.h"

#include <string.h>

#include "bytes.h"

enum { PACKED_HEADER = 26, PACKED_BUCKET = 10 };

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        to->buckets[i] += from->buckets[i];
    to->count += from->count;
    to->sum += from->sum;
    to->max = from->max > to->max ? from->max : to->max;
}

/* The lowest value of a bucket, and how many values it has. */
static uint64_t lower_bound(unsigned bucket, uint64_t *ret_width)
{
    unsigned shift = bucket < 2 * HISTOGRAM_SUB ? 0 : bucket / HISTOGRAM_SUB - 1;
    *ret_width = 1ull << shift;
    return bucket < HISTOGRAM_SUB ? bucket : (uint64_t)(HISTOGRAM_SUB + bucket % HISTOGRAM_SUB) << shift;
}

uint64_t histogram_quantile(const struct histogram *h, double q)
{
    uint64_t wanted = (uint64_t)(q * (double)h->count), seen = 0, width;
    if (!h->count)
        return 0;
    wanted = wanted < 1 ? 1 : wanted > h->count ? h->count : wanted;
    unsigned bucket = 0;
    while (bucket < HISTOGRAM_BUCKETS - 1 && (seen += h->buckets[bucket]) < wanted)
        bucket++;
    uint64_t value = lower_bound(bucket, &width) + width / 2;
    return value < h->max ? value : h->max;
}

uint64_t histogram_below(const struct histogram *h, uint64_t bound)
{
    uint64_t n = 0;
    for (unsigned i = 0, end = histogram_bucket(bound); i < end; i++)
        n += h->buckets[i];
    return n;
}

size_t histogram_pack(const struct histogram *h, uint8_t *to, size_t room)
{
    size_t at = PACKED_HEADER;
    if (room < at)
        return 0;
    put_u64(to, h->count);
    put_u64(to + 8, h->sum);
    put_u64(to + 16, h->max);
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        if (!h->buckets[i])
            continue;
        if (room - at < PACKED_BUCKET)
            return 0;
        put_u16(to + at, (uint16_t)i);
        put_u64(to + at + 2, h->buckets[i]);
        at += PACKED_BUCKET;
    }
    put_u16(to + 24, (uint16_t)((at - PACKED_HEADER) / PACKED_BUCKET));
    return at;
}

size_t histogram_unpack(const uint8_t *from, size_t avail, struct histogram *ret)
{
    if (avail < PACKED_HEADER)
        return 0;
    size_t n = get_u16(from + 24), size = PACKED_HEADER + n * PACKED_BUCKET;
    if (size > avail)
        return 0;
    memset(ret, 0, sizeof *ret);
    ret->count = get_u64(from);
    ret->sum = get_u64(from + 8);
    ret->max = get_u64(from + 16);
    for (size_t i = 0; i < n; i++) {
        unsigned bucket = get_u16(from + PACKED_HEADER + i * PACKED_BUCKET);
        if (bucket >= HISTOGRAM_BUCKETS)
            return 0;
        ret->buckets[bucket] += get_u64(from + PACKED_HEADER + i * PACKED_BUCKET + 2);
    }
    return size;
}
