/* pagecheck.h - may this LMDB file be mapped? LMDB believes every byte it maps; a damaged page kills the process.
 *
 * Checks with pread() alone: both meta pages, the size of the file, and every meta, branch and leaf page that is
 * reachable, the free list included: page numbers, types, bounds of nodes, no page reached twice, depth, counts.
 * Overflow pages (our blocks) are not read: they carry their own checksums. Reads a few dozen pages of a 256 MiB
 * segment. Written from LMDB's documentation of data version 1 (LMDB 0.9; 64-bit, little-endian, page size from the
 * meta page). The caller keeps writers away. */
#ifndef SPOOL_PAGECHECK_H
#define SPOOL_PAGECHECK_H

#include <stdint.h>

/* SPOOL_OK, SPOOL_EDAMAGED with a message that names page and flaw, SPOOL_EVERSION (a data version other than 1),
 * errno. `file` is for messages. */
int pagecheck(int fd, const char *file);

#endif
