/* file_tend.h - what happens to files of the file sink that are complete: they are compressed, and deleted when they
 * are too old or too many, by a thread of its own.
 *
 * With one file at a time every file is complete but the one that is written to. With many at once (file_parts.h) a file
 * that nobody has open may go on: it is complete when the next number has been begun, when no event would get its path
 * any more, since the date in it is over, or when it has not changed for as long as a file is written to. Limits of age
 * and size hold for all files of the template together, whatever agents they are of.
 *
 * A file is left alone while it may still be cut back: as long as it is written to, and then until the checkpoint that
 * goes beyond it is stored. So whoever reads a compressed file reads each event once, whatever crashed. All are found
 * by their names (file_names.h), so that what a crash left undone is done later. A compressed file appears whole, under
 * its final name, before the plain one goes; a reader may see both for a moment. */
#ifndef DELIVERY_SINKS_FILE_TEND_H
#define DELIVERY_SINKS_FILE_TEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tend;

struct tend_options {
    const char *pattern; /* valid until tend_free() */
    bool compress;
    int level;           /* of zstd */
    uint64_t max_age_ms; /* 0: no limit, as the next */
    uint64_t max_bytes;  /* of all files together */
    bool has_parts;      /* many files at once */
    uint64_t rotate_ms;  /* with has_parts; 0: a file is written to as long as its path is the same */
};

/* Makes it; *ret is NULL when there is nothing to do, which is fine for all others. errno. */
int tend_new(const struct tend_options *options, struct tend **ret);
/* Starts the thread, once what is being written to is protected. errno. */
int tend_run(struct tend *tend);
/* The file is about to be opened and written to. When it returns nothing is done to it; it may have been compressed or
 * deleted just before, so look then. Waits for that to be broken off. ENOMEM, EBUSY (not within two seconds). */
int tend_protect(struct tend *tend, const char *path);
/* It will not be written to any more, and all of it is covered by a checkpoint that is stored. */
void tend_release(struct tend *tend, const char *path);
/* It will not be written to any more. */
void tend_finished(struct tend *tend, const char *path);
/* A checkpoint is taken, with this number; and: those up to `stored` are stored (delivery_sink_stored()). */
void tend_checkpoint(struct tend *tend, uint64_t number);
void tend_stored(struct tend *tend, uint64_t stored);
/* Something the operator should hear of, at most `size` bytes; false: nothing new. */
bool tend_take_problem(struct tend *tend, char *ret, size_t size);
/* Ends the thread, soon: what it is at is begun anew next time; and frees it. */
void tend_free(struct tend *tend);

#endif
