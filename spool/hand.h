/* hand.h - what a process has in a sink's hands, in a file that outlives it: so that an event which kills the process
 * each time is found. (hand.c has the format.) One per elected sink; store.h has what delivery calls. */
#ifndef SPOOL_HAND_H
#define SPOOL_HAND_H

#include "dir.h"
#include "suspect.h"

/* Opens or makes the file of a sink whose lock is held, and turns what a dead process left in hand into suspects. Never
 * fails for want of a file: then nothing is kept, which is told once. NULL: ENOMEM. */
struct store_hand *hand_open(const struct dir *dir, const char *sink, const struct reporter *reporter);
/* The election ends, in order: nothing is in hand. Drops its reference. */
void hand_close(struct store_hand *hand);
void hand_abandon(struct store_hand *hand); /* in a forked child: touches no file */

#endif
