/* clock_config.h - the "clock" section of spool.json. Private to lib/. */
#ifndef LIB_CLOCK_CONFIG_H
#define LIB_CLOCK_CONFIG_H

#include <jansson.h>

#include "spool.h"

/* Adds servers, changes the sources that are there. No section: nothing. No spool: only checks its keys and values.
 * SPOOL_ECONFIG names the key. */
int clock_config_apply(const json_t *section, struct spool *spool);

#endif
