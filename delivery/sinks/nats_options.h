/* nats_options.h - what libnats is told of the settings: how it connects, and what a stream is like that it makes. */
#ifndef DELIVERY_SINKS_NATS_OPTIONS_H
#define DELIVERY_SINKS_NATS_OPTIONS_H

#include "nats_wire.h"

/* *ret is to be destroyed also after a failure; password and token may be NULL. */
natsStatus options_make(const struct wire_settings *settings, const char *password, const char *token,
                        natsOptions **ret);
natsStatus stream_make(jsCtx *js, const struct wire_settings *settings, jsErrCode *ret_error);

#endif
