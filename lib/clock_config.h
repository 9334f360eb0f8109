/* clock_config.h - the "clock" section of spool.json. Private to lib/. */
#ifndef LIB_CLOCK_CONFIG_H
#define LIB_CLOCK_CONFIG_H

#include <jansson.h>

#include "spool.h"

/* Checks all of it, on a clock of its own, and changes nothing. No section: nothing. SPOOL_ECONFIG names the key; what
 * spool_clock_source_add_sntp() says otherwise, and ENOMEM. */
int clock_config_check(const json_t *section);
/* Adds servers and changes the sources that are there, for the section of the spool's file. This may have been another one
 * before: servers that it named then, and does not any more, are removed. One call at a time. */
int clock_config_of_file(const json_t *section, struct spool *spool);
void clock_config_forget(struct spool *spool); /* frees what is kept for that */

#endif
