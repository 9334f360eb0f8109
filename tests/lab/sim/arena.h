/* arena.h - the memory of a simulated process: thrown away as a whole when it crashes, counted when it ends in order,
 * poisoned when it is freed. */
#ifndef SIM_ARENA_H
#define SIM_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sched.h"

enum { ARENA_WORLD = PROCS_MAX, ARENAS }; /* one a process, and the model's own, which is reset between runs */

void *arena_get(int arena, size_t size); /* filled with a pattern; never NULL */
void arena_put(void *p);
size_t arena_size(const void *p);
bool arena_owns(const void *p);
void arena_reset(int arena);
size_t arena_live(int arena); /* pieces not given back */

#endif
