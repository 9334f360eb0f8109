/* journal_append.c - writing records into the ring, and walking those that are there.
 *
 * The appender has the ring to itself between the head and `applied` one lap on: it writes there and then publishes the
 * new head with release, so that who reads the head with acquire reads whole records. The order of its stores does not
 * matter to recovery, see journal_file.c. */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../lib/base/bytes.h"
#include "../lib/base/crc32c.h"
#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "journal_inside.h"

/* ------------------------------------------------------------------------------------------------ a record's header */

enum { AT_SIZE = 4, AT_ZERO = 20 };

static uint32_t record_crc(const struct journal *journal, const uint8_t *record, uint32_t kind, uint32_t size)
{
    size_t payload = kind == JOURNAL_KIND_FRAME ? size : 0;
    return crc32c(journal->seed, record + AT_SIZE, JOURNAL_RECORD_HEADER - AT_SIZE + payload);
}

void journal_write_header(const struct journal *journal, uint8_t *record, uint32_t kind, uint32_t size,
                          uint64_t position)
{
    put_u32(record + AT_SIZE, size);
    put_u64(record + JOURNAL_AT_POSITION, position);
    put_u32(record + JOURNAL_AT_KIND, kind);
    put_u32(record + AT_ZERO, 0);
    put_u32(record, record_crc(journal, record, kind, size));
}

/* The fields are possible at that place of the ring; says nothing about position and CRC. */
bool journal_read_header(const struct journal *journal, const uint8_t *ring, uint32_t offset,
                         struct journal_header *ret)
{
    const uint8_t *record = ring + offset;
    uint32_t kind = get_u32(record + JOURNAL_AT_KIND), size = get_u32(record + AT_SIZE);
    uint32_t left = journal->ring_bytes - offset - JOURNAL_RECORD_HEADER;
    if (get_u32(record + AT_ZERO) != 0 || size % 8 != 0)
        return false;
    if (kind == JOURNAL_KIND_FRAME ? size == 0 || size > left || size > journal_payload_max(journal)
                                   : kind != JOURNAL_KIND_PADDING || size != left)
        return false;
    *ret = (struct journal_header){get_u32(record), size, get_u64(record + JOURNAL_AT_POSITION), kind};
    return true;
}

bool journal_crc_matches(const struct journal *journal, const uint8_t *record, const struct journal_header *header)
{
    return header->crc == record_crc(journal, record, header->kind, header->size);
}

/* ------------------------------------------------------------------------------------------------------- appending */

/* Brings the pages in, so that the first lap of appends does not wait for the disk. It still takes a fault a page (3.5
 * us, 270 ns an event) because they are clean; making them dirty here takes 14 ms and a flush of the whole ring, too
 * much for a process that enqueues one event. A failure does no harm. */
static void prefault(const struct journal *journal)
{
    madvise(journal->ring, journal->ring_bytes, MADV_POPULATE_READ);
}

void journal_begin_at(struct journal *journal, uint64_t position)
{
    prefault(journal);
    journal->head_offset = (uint32_t)(position % journal->ring_bytes);
    journal->reserved = 0;
    journal->begun = true;
    journal->lap_begin = journal->pages_open = position;
    atomic_store(&journal->applied, position);
    atomic_store(&journal->flushed, position);
    atomic_store(&journal->head, position);
}

/* Opens [from, to), which may go over the end of the ring. */
static bool open_range(struct journal *journal, uint64_t from, uint64_t to)
{
    while (from < to) {
        uint32_t offset = (uint32_t)(from % journal->ring_bytes);
        uint64_t left = journal->ring_bytes - offset, size = to - from < left ? to - from : left;
        uint32_t page = offset & ~(uint32_t)(JOURNAL_PAGE - 1);
        if (madvise(journal->ring + page, size + (offset - page), MADV_POPULATE_WRITE))
            return false; /* a kernel before 5.14, or no memory: then producers fault as they come */
        from += size;
    }
    return true;
}

void journal_open_pages(struct journal *journal, size_t ahead_bytes)
{
    uint64_t lap_end = journal->lap_begin + journal->ring_bytes, to = journal_head(journal) + ahead_bytes;
    to = to < lap_end ? to : lap_end;
    if (journal->use_pwrite || journal->pages_open >= to)
        return;
    uint64_t from = journal->pages_open;
    journal->pages_open = open_range(journal, from, to) ? to : lap_end;
}

static bool is_possible(const struct journal *journal, size_t payload_size)
{
    return journal->begun && payload_size > 0 && payload_size % 8 == 0 && payload_size <= journal_payload_max(journal);
}

bool journal_has_room(const struct journal *journal, size_t payload_size)
{
    if (!is_possible(journal, payload_size))
        return false;
    uint64_t head = atomic_load_explicit(&journal->head, memory_order_relaxed);
    uint64_t used = head - atomic_load_explicit(&journal->applied, memory_order_acquire);
    uint32_t skip = journal_skip(journal, journal->head_offset, payload_size);
    return used + skip + JOURNAL_RECORD_HEADER + payload_size <= journal->ring_bytes;
}

uint8_t *journal_reserve(struct journal *journal, size_t payload_size)
{
    if (!journal_has_room(journal, payload_size))
        return NULL;
    journal->reserved = (uint32_t)payload_size;
    if (journal->use_pwrite)
        return journal->scratch + JOURNAL_RECORD_HEADER;
    uint32_t skip = journal_skip(journal, journal->head_offset, payload_size);
    return journal->ring + (skip ? 0 : journal->head_offset) + JOURNAL_RECORD_HEADER;
}

static int write_whole(const struct journal *journal, uint32_t offset, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = pwrite(journal->fd, bytes, size, (off_t)JOURNAL_PAGE + offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(n < 0 ? errno : ENOSPC, "journal %s: cannot write", journal->name);
        bytes += n;
        size -= (size_t)n;
        offset += (uint32_t)n;
    }
    return SPOOL_OK;
}

static int write_at(const struct journal *journal, uint32_t offset, const uint8_t *bytes, size_t size)
{
    struct file_size_signal signal;
    if (!journal->size_limited)
        return write_whole(journal, offset, bytes, size);
    file_size_signal_hold(&signal);
    int code = write_whole(journal, offset, bytes, size);
    file_size_signal_release(&signal);
    return code;
}

static int write_padding(const struct journal *journal, uint64_t position, uint32_t skip)
{
    uint8_t header[JOURNAL_RECORD_HEADER];
    if (skip < JOURNAL_RECORD_HEADER)
        return SPOOL_OK;
    uint8_t *record = journal->use_pwrite ? header : journal->ring + journal->head_offset;
    journal_write_header(journal, record, JOURNAL_KIND_PADDING, skip - JOURNAL_RECORD_HEADER, position);
    return journal->use_pwrite ? write_at(journal, journal->head_offset, header, sizeof header) : SPOOL_OK;
}

static int write_record(const struct journal *journal, uint64_t position, uint32_t offset)
{
    uint8_t *record = journal->use_pwrite ? journal->scratch : journal->ring + offset;
    journal_write_header(journal, record, JOURNAL_KIND_FRAME, journal->reserved, position);
    return journal->use_pwrite ? write_at(journal, offset, record, JOURNAL_RECORD_HEADER + journal->reserved)
                               : SPOOL_OK;
}

int journal_publish(struct journal *journal, uint64_t *ret_end)
{
    if (!journal->reserved)
        return err_set(SPOOL_EINTERNAL, "journal %s: nothing is reserved", journal->name);
    uint64_t head = atomic_load_explicit(&journal->head, memory_order_relaxed);
    uint32_t skip = journal_skip(journal, journal->head_offset, journal->reserved);
    uint32_t offset = skip ? 0 : journal->head_offset;
    int code = skip ? write_padding(journal, head, skip) : SPOOL_OK;
    if (!code)
        code = write_record(journal, head + skip, offset);
    if (code)
        return code;
    uint32_t bytes = JOURNAL_RECORD_HEADER + journal->reserved;
    journal->head_offset = offset + bytes < journal->ring_bytes ? offset + bytes : 0;
    journal->reserved = 0;
    *ret_end = head + skip + bytes;
    atomic_store_explicit(&journal->head, *ret_end, memory_order_release);
    return SPOOL_OK;
}

uint64_t journal_head(const struct journal *journal)
{
    return atomic_load_explicit(&journal->head, memory_order_acquire);
}

uint64_t journal_applied(const struct journal *journal)
{
    return atomic_load_explicit(&journal->applied, memory_order_acquire);
}

/* --------------------------------------------------------------------------------------------------------- walking */

struct walk {
    struct journal *journal;
    bool verify;
    uint64_t at, head;
    uint32_t offset; /* at % ring_bytes */
};

static void walk_on(struct walk *walk, uint32_t bytes)
{
    walk->at += bytes;
    walk->offset += bytes;
    if (walk->offset >= walk->journal->ring_bytes)
        walk->offset = 0;
}

/* Also without `verify` the header is checked: what a failing disk brought in must not lead outside. */
static int walk_look(const struct walk *walk, struct journal_header *ret)
{
    const struct journal *journal = walk->journal;
    bool good = journal_read_header(journal, journal->ring, walk->offset, ret) && ret->position == walk->at &&
                walk->head - walk->at >= JOURNAL_RECORD_HEADER + ret->size &&
                (!walk->verify || journal_crc_matches(journal, journal->ring + walk->offset, ret));
    if (good)
        return SPOOL_OK;
    return err_set(SPOOL_EDAMAGED, "journal %s: the record at position %llu is not what was written", journal->name,
                   (unsigned long long)walk->at);
}

int journal_walk(struct journal *journal, uint64_t from, size_t bytes_max, bool verify,
                 int (*each)(void *user, const uint8_t *payload, size_t size), void *user, uint64_t *ret_to)
{
    struct walk walk = {journal, verify, from, journal_head(journal), (uint32_t)(from % journal->ring_bytes)};
    size_t passed = 0;
    while (walk.at < walk.head && passed < bytes_max) {
        uint32_t left = journal->ring_bytes - walk.offset;
        if (left < JOURNAL_RECORD_HEADER) {
            walk_on(&walk, left);
            continue;
        }
        struct journal_header header;
        int code = walk_look(&walk, &header);
        if (!code && header.kind == JOURNAL_KIND_FRAME) {
            code = each(user, journal->ring + walk.offset + JOURNAL_RECORD_HEADER, header.size);
            passed += header.size;
        }
        if (code)
            return code;
        walk_on(&walk, JOURNAL_RECORD_HEADER + header.size);
    }
    *ret_to = walk.at;
    return SPOOL_OK;
}
