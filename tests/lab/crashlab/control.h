/* control.h - deliberately broken variants of the library, which the oracle must notice. The list is in control.c. */
#ifndef CRASHLAB_CONTROL_H
#define CRASHLAB_CONTROL_H

#include <stdbool.h>

/* That control is switched on. */
bool control_is(const char *name);
/* Called before each opening: breaks what has to be broken beforehand. */
void control_begin(void);
/* The one switched on breaks recovery, so that the oracle must leave it on. */
bool control_is_of_recovery(void);

/* Called before each flush of a directory by this thread; false: it is not flushed. */
extern _Thread_local bool (*control_before_flush)(int fd);
bool control_flush_nothing(int fd);

/* Not a control: from now on fstat() says of *.jsonl files an inode that follows from the name. An image is a copy, and
 * the library's file sink would take its files for somebody else's. */
void control_same_inodes(bool on);

#endif
