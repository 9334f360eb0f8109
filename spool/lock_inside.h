/* lock_inside.h - what lock_note.c needs of a lock. Private to both. */
#ifndef SPOOL_LOCK_INSIDE_H
#define SPOOL_LOCK_INSIDE_H

#include "lock.h"

int lock_fd(const struct lock *lock); /* -1: read only, and the file is not there */
const char *lock_file_name(const struct lock *lock);

#endif
