/* lab.h - the crash-image explorer: what its parts know of each other.
 *
 *   scenario  does something with a spool in a directory, and says in marks what it was promised
 *   recorder  notes every write, flush, rename … of it, in the order in which they happened (interposed system calls), and
 *             at each of them what changed in the files that are written through a mapping
 *   explorer  stops the record at every point, and builds each state in which the disk could be after losing power there (or
 *             the page cache, after the process was killed there)
 *   oracle    opens such a state with the real library and compares it with the marks made before that point
 *   control   breaks the library on purpose; the oracle must notice */
#ifndef CRASHLAB_LAB_H
#define CRASHLAB_LAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ------------------------------------------------------------------------------------------------------- scenarios */

struct lab_scenario {
    const char *name;
    const char *what; /* one line */
    /* Makes the directory's first content, unrecorded and taken to be safely on disk; may make marks. NULL: an empty directory. May fork
     * children and kill them. 0, or it failed and said why on stderr. */
    int (*prepare)(const char *dir, uint64_t seed);
    /* The recorded part, in a process of its own; may start threads, fork and kill children (recorded too). 0 or failed. */
    int (*run)(const char *dir, uint64_t seed);
    /* What the next process does with the directory, besides opening and closing it; recorded for second crashes. May be NULL. */
    int (*go_on)(const char *dir, uint64_t seed);
};
extern const struct lab_scenario *const lab_scenarios[]; /* NULL ends it */

/* ----------------------------------------------------------------------------------------------------------- marks */

/* Notes something the oracle needs to know, at this point of the record. The meaning of kind and data is between scenario
 * and oracle. Any thread, any process of the scenario. Before an operation begins: its intent; after it returned: its outcome. */
void lab_mark(uint32_t kind, const void *data, size_t size);

struct lab_mark {
    uint32_t kind, size;
    const void *data;
};

enum lab_crash {
    LAB_KILLED,  /* the process died: everything it wrote is there */
    LAB_POWERED, /* the power went: what was flushed is there, the rest may be */
};

/* --------------------------------------------------------------------------------------------------------- oracle */

/* Judges the directory as it was found after the crash. `crash` is LAB_POWERED if the power went at any time (also when a
 * second crash only killed the process). `data` of the marks is aligned to 8 bytes. Runs in a process of its own, may
 * change the directory. Returns 0, or non-zero with the reason in `why`, a sentence. */
int lab_oracle(const struct lab_scenario *scenario, const char *dir, const struct lab_mark *marks, size_t n,
               enum lab_crash crash, char *why, size_t why_size);

/* Opens the directory, as a program does after the crash, and closes it. Recorded by the explorer to find out what a second
 * crash in the middle of that does. 0 or failed. */
int lab_recover(const struct lab_scenario *scenario, const char *dir);

/* -------------------------------------------------------------------------------------------------------- controls */

struct lab_control {
    const char *name;
    const char *what;
    const char *scenario; /* the one that has to notice; NULL: any */
};
extern const struct lab_control lab_controls[]; /* a NULL name ends it */

/* The control that is switched on in this process (and its children); NULL: none, the library is as it is. The explorer sets it
 * and leaves it set; the oracle itself switches it off while it judges, unless the control is about recovery. */
extern const char *lab_control;

/* For controls about flushes: asked by the recorder for each flush of a file or directory below the recorded one
 * (path relative to it); true: the flush is not recorded, as if the disk had not done it (the call itself returns 0). */
bool lab_forgets_flush(const char *path, bool is_directory);

#endif
