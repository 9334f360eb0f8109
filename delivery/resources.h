/* resources.h - the named resources that each batch of a sink needs besides a worker, as text: names with commas between
 * them, each as a whole, or with an amount of what is shared.    "gpu, api:openai*2" */
#ifndef DELIVERY_RESOURCES_H
#define DELIVERY_RESOURCES_H

#include <stdint.h>

#include "../lib/spool.h"

/* One of them, in memory of the caller's of resources_each(). */
struct resource_need {
    char name[SPOOL_OP_RESOURCE_MAX + 1];
    uint32_t amount; /* of its capacity, shared; 0: all of it */
};

/* Calls `each` for them until it returns something else than SPOOL_OK, which is then returned. NULL and blanks: none.
 * SPOOL_EINVAL, SPOOL_EUTF8: what is wrong with the text. */
int resources_each(const char *text, int (*each)(void *user, const struct resource_need *need), void *user);
/* Only looks whether the text is right, and names each resource once. */
int resources_check(const char *text);

#endif
