/* history.h - what happened to one event at one sink, packed to stand in its row. (history.c has the format.) */
#ifndef SPOOL_HISTORY_H
#define SPOOL_HISTORY_H

#include <stddef.h>
#include <stdint.h>

#include "store.h"

enum {
    HISTORY_ROOM_MIN = 512,  /* bytes that a row always has for its history */
    HISTORY_ROOM_MAX = 1536, /* … and at most */
};

struct history {
    size_t size;
    uint8_t bytes[HISTORY_ROOM_MAX];
};

/* Reads packed entries; the reasons point into `bytes`. At most STORE_ATTEMPTS_MAX. SPOOL_EDAMAGED. */
int history_read(const uint8_t *bytes, size_t size, struct store_attempt ret[STORE_ATTEMPTS_MAX], size_t *ret_n);

/* Appends an entry; the oldest ones are summed up as far as `room` (at least HISTORY_ROOM_MIN) asks for it. One that is
 * the last already (same kind and time) is not added again. A history that cannot be read begins anew. */
void history_add(struct history *history, const struct store_attempt *entry, size_t room);

/* Sums up the oldest entries until it fits `room`. */
void history_fit(struct history *history, size_t room);

#endif
