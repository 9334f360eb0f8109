/* journal_inside.h - what the files of the journal share; the format stands in journal_file.c. Private to journal_*.c.
 */
#ifndef SPOOL_JOURNAL_INSIDE_H
#define SPOOL_JOURNAL_INSIDE_H

#include <pthread.h>
#include <stdatomic.h>

#include "../lib/base/histogram.h"
#include "journal.h"

enum {
    JOURNAL_PAGE = 4096, /* the header's; the ring begins behind it */
    JOURNAL_RING_MIN = 64 << 10,
    JOURNAL_RING_MAX = 1 << 30,
    JOURNAL_AT_POSITION = 8,           /* of a record … */
    JOURNAL_AT_KIND = 16,              /* … its kind, and four zero bytes */
    JOURNAL_KIND_FRAME = 0x4d415246,   /* "FRAM" */
    JOURNAL_KIND_PADDING = 0x20444150, /* "PAD " */
};

#define JOURNAL_POSITION_MAX (UINT64_C(1) << 62) /* no sum of positions and sizes overflows below it */

struct journal {
    int fd, dir_fd;
    char name[JOURNAL_NAME_SIZE];
    uint8_t uuid[JOURNAL_UUID_SIZE];
    uint32_t seed; /* crc32c of the uuid: every record's checksum begins with it */
    uint32_t ring_bytes;
    bool use_pwrite;
    bool size_limited; /* RLIMIT_FSIZE is below the file's size: writing it may raise SIGXFSZ */
    bool begun;        /* journal_begin_at() has been called; set once, before other threads know us */
    uint8_t *ring;     /* the mapped ring; NULL when inspecting */
    uint8_t *scratch;  /* use_pwrite: where the next record is put together; the appender's lock */

    uint32_t head_offset;     /* head % ring_bytes; the appender's lock */
    uint32_t reserved;        /* payload bytes reserved, 0: nothing; the appender's lock */
    _Atomic uint64_t head;    /* written under the appender's lock, with release; read by all with acquire */
    _Atomic uint64_t applied; /* written by the committer */

    uint64_t lap_begin,
        pages_open; /* positions: where appending began, and up to where pages are open; the committer's */

    pthread_mutex_t flush_mutex;
    _Atomic uint64_t flushed;       /* written under flush_mutex */
    _Atomic int failure;            /* errno of the flush that failed; written under flush_mutex, once */
    _Atomic bool lost;              /* records were gone after it; written by the committer, once, before `applied` */
    bool flushing;                  /* flush_mutex: a thread is in fdatasync() */
    uint64_t flush_target;          /* flush_mutex: what the flush that runs covers */
    uint32_t flush_number;          /* flush_mutex: of the flush that runs or ran last */
    _Atomic unsigned flush_waiters; /* raised under flush_mutex */
    struct histogram flush_us;      /* flush_mutex: how long flushes took */
    _Atomic uint32_t flush_done[2]; /* futexes, for flushes of even and of odd number; bumped under flush_mutex */
};

/* A record's header in memory order; all words are little-endian on disk. */
struct journal_header {
    uint32_t crc, size;
    uint64_t position;
    uint32_t kind;
};

/* The fields at `offset` of the ring image `ring` are possible there; says nothing about position and CRC. */
bool journal_read_header(const struct journal *journal, const uint8_t *ring, uint32_t offset,
                         struct journal_header *ret);
bool journal_crc_matches(const struct journal *journal, const uint8_t *record, const struct journal_header *header);
void journal_write_header(const struct journal *journal, uint8_t *record, uint32_t kind, uint32_t size,
                          uint64_t position);

/* The bytes at the end of the ring that a record of `payload_size` at `offset` cannot use. */
static inline uint32_t journal_skip(const struct journal *journal, uint32_t offset, size_t payload_size)
{
    uint32_t left = journal->ring_bytes - offset;
    return left < JOURNAL_RECORD_HEADER + payload_size ? left : 0;
}

#endif
