/* journal.h - the ring file in front: where an event becomes durable. (journal_file.c opens with the format in prose.)
 *
 * One process owns a journal by a record lock on its file. Positions are absolute byte counts that only grow; position p
 * stands at ring offset p % ring_bytes. Records lie in [applied, head): appended, and not yet committed to a segment. */
#ifndef SPOOL_JOURNAL_H
#define SPOOL_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "../lib/base/buffer.h"

struct journal;
enum { JOURNAL_UUID_SIZE = 16, JOURNAL_RECORD_HEADER = 24, JOURNAL_NAME_SIZE = 48 /* "<uuid>.jnl" */ };

/* Makes a new journal in `dir_fd` (…/journal): written full of zeros under a .tmp name, flushed, renamed, directory
 * flushed, locked; appending begins at position 0. `use_pwrite`: never store through the mapping (copy-on-write file
 * systems raise SIGBUS on a full disk). errno. */
int journal_create(int dir_fd, uint32_t ring_bytes, mode_t mode, bool use_pwrite, struct journal **ret);

/* Takes over an existing file: SPOOL_EBUSY if its owner lives, SPOOL_EVERSION, SPOOL_EDAMAGED (header or size), SPOOL_ENOTFOUND
 * (gone meanwhile), errno. Nothing may be appended before journal_begin_at(). A file the calling process owns already must
 * not be opened again (the caller knows its own by name). */
int journal_adopt(int dir_fd, const char *name, bool use_pwrite, struct journal **ret);

/* Reads without owning, for read-only inspection: as journal_adopt() but without lock or mapping for writing. *ret_dead
 * tells whether no process owns it. */
int journal_inspect(int dir_fd, const char *name, struct journal **ret, bool *ret_dead);

/* Reads every valid record whose position is in [applied, applied + ring) — or every valid one when !applied_known — in
 * the order of positions, from the file as it is. `each` gets the payload (valid during the call); non-zero ends and is
 * returned. *ret_end: where new records may begin so that nothing left over can ever match: applied + ring_bytes rounded
 * up to a ring multiple is one way; when !applied_known: beyond every valid record by a ring. *ret_gaps: unexplained holes
 * between records. Trusts no byte it has not checked. */
struct journal_scan {
    uint64_t end, records, gaps;
};
int journal_scan(struct journal *journal, uint64_t applied, bool applied_known,
                 int (*each)(void *user, const uint8_t *payload, size_t size, uint64_t position), void *user,
                 struct journal_scan *ret);

/* Begins appending at `position` (multiple of 8), with nothing unapplied. The caller has stored that position in the log
 * first. */
void journal_begin_at(struct journal *journal, uint64_t position);

void journal_close(struct journal *journal);   /* leaves the file; drops the lock */
void journal_abandon(struct journal *journal); /* in a forked child */
int journal_remove(struct journal *journal);   /* unlinks the file, flushes the directory, and closes */

const uint8_t *journal_uuid(const struct journal *journal);
const char *journal_name(const struct journal *journal);
uint32_t journal_ring_bytes(const struct journal *journal);
size_t journal_payload_max(const struct journal *journal); /* a quarter of the ring */

/* ---- Appending. The caller serialises these three with a lock of its own. ---- */

/* Room for a record of `payload_size` (multiple of 8), padding included? */
bool journal_has_room(const struct journal *journal, size_t payload_size);
/* Where to write the payload of the next record (in the ring itself, or a scratch buffer with use_pwrite). NULL: no room. */
uint8_t *journal_reserve(struct journal *journal, size_t payload_size);
/* Checksums and publishes the reserved record; *ret_end is the position behind it. errno only with use_pwrite. */
int journal_publish(struct journal *journal, uint64_t *ret_end);

/* ---- Any thread. ---- */
uint64_t journal_head(const struct journal *journal); /* behind the last published record */
uint64_t journal_applied(const struct journal *journal);
uint64_t journal_flushed(const struct journal *journal); /* power-safe up to here: flushed or applied, the greater */

/* Waits until everything below `position` is power-safe; one waiter flushes for all. Returns SPOOL_OK, SPOOL_ETIMEOUT, or
 * errno of a flush that failed: then the journal is failed for good (journal_is_failed), the pages may be gone from the page
 * cache, and only journal_set_applied() makes anything in it safe. */
int journal_flush(struct journal *journal, uint64_t position, uint64_t deadline_ns);
bool journal_is_failed(const struct journal *journal);
struct histogram;
/* Adds how long its flushes took, in microseconds. */
void journal_flush_times(struct journal *journal, struct histogram *to);

/* ---- The committer's thread only. ---- */

/* Calls `each` for the records in [from, head) in order, checking CRCs when `verify` (a record that does not match is
 * SPOOL_EDAMAGED), until it returns non-zero or `bytes_max` payload bytes are passed. *ret_to: behind the last one passed. */
int journal_walk(struct journal *journal, uint64_t from, size_t bytes_max, bool verify,
                 int (*each)(void *user, const uint8_t *payload, size_t size), void *user, uint64_t *ret_to);

/* Makes the pages that the producers come to next writable ahead of them, `ahead_bytes` beyond the head, on the first lap
 * round the ring: else each costs a producer a page fault. Changes no byte. A hint: failures are ignored. */
void journal_open_pages(struct journal *journal, size_t ahead_bytes);

/* The log holds everything below `position`, durably: its room may be used again. Wakes those waiting in journal_flush. */
void journal_set_applied(struct journal *journal, uint64_t position);

/* Before that: of what a failed flush should have written, not all was still in memory. Nobody can tell whose it was, so
 * that journal_has_lost() from then on of every position that no flush has covered. */
void journal_set_lost(struct journal *journal);
bool journal_has_lost(const struct journal *journal, uint64_t position);

/* Fault injection for tests: when set, replaces fdatasync() of journals. */
extern int (*journal_fdatasync)(int fd);

#endif
