/* registration.h - a sink's configuration and the options it was added with, as one text, which the store keeps: so
 * that whoever serves the sink later (spool run) filters and waits as it was told.
 *
 * The text is the configuration itself; if options were given, a byte 0x1e (record separator, which no JSON text holds)
 * follows, and a JSON object with those that are not the default, under the names of struct spool_sink_options. A
 * library that knows no options takes the whole for the configuration and refuses it: it must not deliver without the
 * filter. Version recipe: a new option is a new name; a name that is not known is an error. */
#ifndef DELIVERY_REGISTRATION_H
#define DELIVERY_REGISTRATION_H

#include "delivery.h"

/* The text, malloc'd. `options` may be NULL. ENOMEM. */
int registration_text(const char *config, const struct spool_sink_options *options, char **ret);

/* Puts the numbers of `change` that are not 0 in the place of those in `to`. */
void registration_patch(struct spool_sink_options *to, const struct spool_sink_options *change);

#endif
