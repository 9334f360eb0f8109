/* journal_scan.c - finding what a dead process left in its ring.
 *
 * Reads the whole ring into memory and looks at every multiple of 8 bytes, not only along the chain of records: a loss
 * of power may have taken any sectors, and what lies behind a hole counts too. Nothing in the file is trusted before
 * its checksum matched; the file is not mapped, so that a damaged or truncated one raises no signal. What is valid, and
 * what counts, stands in journal_file.c. */
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "../lib/base/bytes.h"
#include "../lib/base/error.h"
#include "journal_inside.h"

struct found {
    uint64_t position;
    uint32_t offset, size, kind;
};

struct scan {
    const struct journal *journal;
    uint8_t *ring; /* the copy */
    bool known;    /* positions outside of [low, high) do not count */
    uint64_t low, high;
    uint64_t wasted_bytes; /* checksummed in vain */
    struct found *found;
    size_t count, cap;
};

/* All of `size` bytes at `offset` of the ring. */
static int read_at(const struct scan *scan, uint8_t *bytes, size_t size, size_t offset)
{
    while (size > 0) {
        ssize_t n = pread(scan->journal->fd, bytes, size, (off_t)(JOURNAL_PAGE + offset));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(errno, "journal %s: cannot read", scan->journal->name);
        if (n == 0)
            return err_set(SPOOL_EDAMAGED, "journal %s: truncated", scan->journal->name);
        bytes += n;
        size -= (size_t)n;
        offset += (size_t)n;
    }
    return SPOOL_OK;
}

static int read_ring(struct scan *scan)
{
    size_t all = scan->journal->ring_bytes;
    scan->ring = malloc(all);
    if (!scan->ring)
        return err_errno(ENOMEM, "journal %s: reading %zu bytes", scan->journal->name, all);
    return read_at(scan, scan->ring, all, 0);
}

static bool is_in_place(const struct scan *scan, uint32_t offset, uint64_t position)
{
    if (scan->known && (position < scan->low || position >= scan->high))
        return false;
    return position < JOURNAL_POSITION_MAX && position % scan->journal->ring_bytes == offset;
}

/* A cheap first look: the last word of a header has only two values, and few positions are in place. */
static bool may_begin(const struct scan *scan, const uint8_t *record, uint32_t offset)
{
    uint64_t kind = get_u64(record + JOURNAL_AT_KIND);
    return (kind == JOURNAL_KIND_FRAME || kind == JOURNAL_KIND_PADDING) &&
           is_in_place(scan, offset, get_u64(record + JOURNAL_AT_POSITION));
}

/* Most journals found at open are emptied ones. Looking through one in small pieces takes half the time of a whole
 * copy, whose memory must be faulted in. */
static int look_through(const struct scan *scan, bool *ret_any)
{
    enum { PIECE = 64 << 10, OVERLAP = JOURNAL_RECORD_HEADER - 8 };
    uint8_t *piece = malloc(PIECE);
    int code = piece ? SPOOL_OK : err_errno(ENOMEM, "journal %s", scan->journal->name);
    bool any = false;
    for (uint32_t at = 0; !code && !any && at + JOURNAL_RECORD_HEADER <= scan->journal->ring_bytes;
         at += PIECE - OVERLAP) {
        uint32_t left = scan->journal->ring_bytes - at, size = left < PIECE ? left : PIECE;
        code = read_at(scan, piece, size, at);
        for (uint32_t i = 0; !code && !any && i + JOURNAL_RECORD_HEADER <= size; i += 8)
            any = may_begin(scan, piece + i, at + i);
    }
    free(piece);
    if (!code)
        *ret_any = any;
    return code;
}

static bool is_valid(struct scan *scan, uint32_t offset, struct journal_header *ret)
{
    if (!journal_read_header(scan->journal, scan->ring, offset, ret))
        return false;
    if (journal_crc_matches(scan->journal, scan->ring + offset, ret))
        return true;
    scan->wasted_bytes += ret->size;
    return false;
}

static int keep(struct scan *scan, uint32_t offset, const struct journal_header *header)
{
    if (scan->count == scan->cap) {
        size_t cap = scan->cap ? scan->cap * 2 : 1024;
        struct found *found = realloc(scan->found, cap * sizeof *found);
        if (!found)
            return err_errno(ENOMEM, "journal %s", scan->journal->name);
        scan->found = found;
        scan->cap = cap;
    }
    scan->found[scan->count++] = (struct found){header->position, offset, header->size, header->kind};
    return SPOOL_OK;
}

/* Torn records never overlap, so that their bytes are less than a ring. A file with more headers that do not match was
 * not written by us, and must not keep us busy for hours. */
static int refuse_crafted(const struct scan *scan)
{
    if (scan->wasted_bytes <= 4ull * scan->journal->ring_bytes)
        return SPOOL_OK;
    return err_set(SPOOL_EDAMAGED, "journal %s: its records overlap, which no process of ours wrote",
                   scan->journal->name);
}

static int find_all(struct scan *scan)
{
    uint32_t last = scan->journal->ring_bytes - JOURNAL_RECORD_HEADER;
    for (uint32_t offset = 0; offset <= last; offset += 8) {
        struct journal_header header;
        if (!may_begin(scan, scan->ring + offset, offset))
            continue;
        if (!is_valid(scan, offset, &header)) {
            int code = refuse_crafted(scan);
            if (code)
                return code;
            continue;
        }
        int code = keep(scan, offset, &header);
        if (code)
            return code;
        offset += JOURNAL_RECORD_HEADER - 8 + header.size;
    }
    return SPOOL_OK;
}

static int by_position(const void *a, const void *b)
{
    uint64_t x = ((const struct found *)a)->position, y = ((const struct found *)b)->position;
    return (x > y) - (x < y);
}

/* Where the next record stands if nothing is missing: bytes too few for a header, at the end of the ring, are skipped.
 */
static uint64_t next_position(const struct scan *scan, uint64_t end)
{
    uint32_t left = scan->journal->ring_bytes - (uint32_t)(end % scan->journal->ring_bytes);
    return left < JOURNAL_RECORD_HEADER ? end + left : end;
}

static int hand_over(const struct scan *scan, int (*each)(void *, const uint8_t *, size_t, uint64_t), void *user,
                     struct journal_scan *result, uint64_t *ret_end)
{
    uint64_t next = scan->known ? next_position(scan, scan->low) : scan->count ? scan->found[0].position : 0;
    for (size_t i = 0; i < scan->count; i++) {
        const struct found *found = &scan->found[i];
        result->gaps += found->position != next;
        next = next_position(scan, found->position + JOURNAL_RECORD_HEADER + found->size);
        if (found->kind != JOURNAL_KIND_FRAME)
            continue;
        result->records++;
        int code = each(user, scan->ring + found->offset + JOURNAL_RECORD_HEADER, found->size, found->position);
        if (code)
            return code;
    }
    *ret_end = next;
    return SPOOL_OK;
}

/* Of our own journal the head is known, and with it what is missing at the end. Of another's, everything at or behind
 * `applied` counts: more than a ring behind there is nothing, unless the newest segment is lost and with it the
 * position; then those records are what it was followed by, and perhaps all that is left of it. */
static void set_window(struct scan *scan, uint64_t applied, bool known)
{
    const struct journal *journal = scan->journal;
    scan->known = known;
    scan->low = applied;
    scan->high = journal->begun ? journal_head(journal) : JOURNAL_POSITION_MAX;
}

static uint64_t begin_behind(const struct scan *scan, uint64_t end)
{
    uint64_t ring = scan->journal->ring_bytes;
    uint64_t least = scan->known && end <= scan->low + ring ? scan->low + ring : end + ring;
    return (least + ring - 1) / ring * ring;
}

int journal_scan(struct journal *journal, uint64_t applied, bool applied_known,
                 int (*each)(void *user, const uint8_t *payload, size_t size, uint64_t position), void *user,
                 struct journal_scan *ret)
{
    if (applied_known && applied >= JOURNAL_POSITION_MAX)
        return err_set(SPOOL_EDAMAGED, "journal %s: impossible position %llu in the log", journal->name,
                       (unsigned long long)applied);
    struct scan scan = {.journal = journal};
    struct journal_scan result = {0};
    uint64_t end = 0;
    set_window(&scan, applied, applied_known);
    bool any = false;
    int code = look_through(&scan, &any);
    if (!code && any)
        code = read_ring(&scan);
    if (!code && any)
        code = find_all(&scan);
    if (!code) {
        if (scan.count)
            qsort(scan.found, scan.count, sizeof *scan.found, by_position);
        code = hand_over(&scan, each, user, &result, &end);
    }
    if (!code) {
        result.gaps += applied_known && journal->begun && end < scan.high;
        result.end = begin_behind(&scan, end);
        *ret = result;
    }
    free(scan.found);
    free(scan.ring);
    return code;
}
