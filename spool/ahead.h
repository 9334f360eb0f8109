/* ahead.h - the next group of events, packed by a second thread while the disk takes the last one. (ahead.c says when.)
 * All calls are the committer's. */
#ifndef SPOOL_AHEAD_H
#define SPOOL_AHEAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ahead;
struct journal;
struct packer;

/* Takes the packer over, also when it fails. NULL: no memory. Every call takes NULL for "nothing is packed ahead". */
struct ahead *ahead_new(struct packer *packer);
void ahead_free(struct ahead *ahead); /* after ahead_end() */

/* Begins to pack what stands in [from, head), up to `bytes_max`. Until ahead_end() the journal must stay as it is: its room
 * from `from` on is not given back. */
void ahead_begin(struct ahead *ahead, struct journal *journal, uint64_t from, size_t bytes_max);
/* Waits until that is done. `keep`: what stood before `from` is committed for certain; else what was packed is forgotten. */
void ahead_end(struct ahead *ahead, bool keep);
/* What was packed, if it begins at `from`: *packer is exchanged for the one that holds it, *ret_to is the position behind it. It
 * is forgotten in any case. */
bool ahead_take(struct ahead *ahead, uint64_t from, struct packer **packer, uint64_t *ret_to);

#endif
