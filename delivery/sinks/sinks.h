/* sinks.h - the sinks that come with the library. */
#ifndef DELIVERY_SINKS_H
#define DELIVERY_SINKS_H

#include "../delivery.h"

extern const struct spool_sink null_sink;
extern const struct spool_sink stdout_sink;
extern const struct spool_sink file_sink;
extern const struct spool_sink failover_sink;
extern const struct spool_sink quorum_sink;
extern const struct spool_sink_setting file_settings[];
extern const struct spool_sink_setting failover_settings[];
extern const struct spool_sink_setting quorum_settings[];

/* Reads the configuration and nothing else. SPOOL_ECONFIG with a message left by spool_sink_error(). */
int null_check(const char *json_config);
int stdout_check(const char *json_config);
int file_check(const char *json_config);
int failover_check(const char *json_config);
int quorum_check(const char *json_config);

#endif
