/* file_ledger.h - what is acknowledged of many files: the file sink with a path that depends on the event.
 *
 * A text file beside the first folder that does not depend on anything, ".<template>.ledger":
 *
 *     <number> <device> <inode> <size> <path>
 *
 * A line is written and flushed before a file is first written to in this ledger (its size then), and at each
 * checkpoint for every file written to since the last. A checkpoint is version 2 of the file sink's, "2 <number>":
 * lines with that number and smaller ones count. At open each file is cut back to its last line that counts, and one
 * that has none to its first line; then the ledger starts over, empty. A line is valid if it ends in a line feed and
 * its number is not smaller than the one before; the first that is not ends the ledger.
 *
 * A file that was deleted, and begun anew as the same inode, is known by a line that says less than the one before. One
 * that is gone, since it was deleted or compressed, needs nothing.
 *
 * When the ledger has grown, it is written anew with what the last two checkpoints say, once the last but one is known
 * to be stored. */
#ifndef DELIVERY_SINKS_FILE_LEDGER_H
#define DELIVERY_SINKS_FILE_LEDGER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "../../lib/base/buffer.h"
#include "file_path.h"

struct ledger {
    char path[FILE_PATH_MAX];
    bool sync;       /* it is flushed, and so are the files */
    bool doubtful;   /* a failed write left half a line: nothing more may be said before it is opened anew */
    uint64_t number; /* of the last checkpoint: lines from now on have the next one */
    uint64_t bytes;
};

/* Its path is made of the template. SPOOL_ECONFIG: too long. */
int ledger_init(struct ledger *ledger, const char *pattern, bool sync);
/* With the checkpoint that is stored, or none (size 0): cuts all files back to it. SPOOL_ECONFIG, SPOOL_EUNAVAILABLE. */
int ledger_recover(struct ledger *ledger, const void *checkpoint, size_t size);
int ledger_put(struct buffer *out, uint64_t number, dev_t dev, ino_t ino, uint64_t size, const char *path);
/* Appends the lines, or with `anew` puts them in place of all. On disk when it returns. errno. */
int ledger_write(struct ledger *ledger, const struct buffer *lines, bool anew);
/* Raises the number; the checkpoint that counts all lines so far. SIZE_MAX: it does not fit. */
size_t ledger_checkpoint(struct ledger *ledger, void *buf, size_t cap);

#endif
