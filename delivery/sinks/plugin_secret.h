/* plugin_secret.h - passwords, tokens and the like, which a configuration only refers to:
 *
 *     "password": {"env": "FAR_PASSWORD"}        an environment variable
 *     "password": {"file": "/run/secrets/far"}   a file; one line feed at its end is left out
 *
 * A secret itself in the configuration is refused when the sink is registered: configurations are stored, listed and
 * stand on command lines. The reference is read when the sink is opened, so that a secret that was changed is taken up
 * the next time. No message has more of it than the name of the variable or file. */
#ifndef DELIVERY_SINKS_PLUGIN_SECRET_H
#define DELIVERY_SINKS_PLUGIN_SECRET_H

#include <stdbool.h>

#include "config.h"

enum { SECRET_MAX = 16 << 10 }; /* bytes */

/* A reference; free with secret_free(). */
struct secret {
    char *env, *file; /* one of them; none: the key was not there */
};

/* Reads the reference under `key`. SPOOL_ECONFIG when it is none, or is missing and `required`. For check and open. */
int config_secret(struct config *config, const char *key, bool required, struct secret *ret);
/* The secret, malloc'd; NULL when there is no reference. Release with secret_wipe(). SPOOL_ECONFIG: the variable is not
 * set, the file is not there, empty, too long, holds a NUL or others may read it; message by spool_sink_error(). */
int secret_read(const struct secret *secret, const char *key, char **ret);
/* Overwrites and frees; NULL is fine. */
void secret_wipe(char *text);
void secret_free(struct secret *secret);

#endif
