/* options.h - checks what delivery_sink_add() is given and fills in the defaults. */
#ifndef DELIVERY_OPTIONS_H
#define DELIVERY_OPTIONS_H

#include "../spool/store.h"

/* SPOOL_EINVAL: [A-Za-z0-9._-], 1 to 64 characters, the first one no dot. */
int options_check_name(const char *name);

/* Copies min(given, known) bytes of a struct that contains its own size, and fills up with zeros. False: more than we know
 * is set. */
bool options_take_struct(const void *from, size_t given, void *to, size_t known);

/* Copies the hooks, as many as the sink was built with. SPOOL_EABI, SPOOL_EINVAL. */
int options_take_sink(const struct spool_sink *sink, struct spool_sink *ret);

/* Copies the options as they were given, which options_take() has accepted; all zero for NULL. */
void options_given(const struct spool_sink_options *options, struct spool_sink_options *ret);

/* Copies the options, NULL for none, and fills in the defaults. SPOOL_EOPTION, SPOOL_EINVAL. */
int options_take(const struct spool_sink_options *options, const struct spool_sink *sink,
                 struct spool_sink_options *ret);

#endif
