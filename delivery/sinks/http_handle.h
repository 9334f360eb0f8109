/* http_handle.h - libcurl's handles for http_client.c, and nobody else. Messages are left by spool_sink_error(). */
#ifndef DELIVERY_SINKS_HTTP_HANDLE_H
#define DELIVERY_SINKS_HTTP_HANDLE_H

#include "http_client.h"

/* Makes ex->easy, with all that does not change from request to request but secrets. ENOMEM, SPOOL_ECONFIG. */
int http_handle_make(const struct http_settings *settings, struct http_exchange *ex);
/* Gives it the secrets as they were read last. ENOMEM, SPOOL_ECONFIG. */
int http_handle_secrets(CURL *easy, const struct http_settings *settings);
/* ENOMEM or SPOOL_ECONFIG of an option that libcurl refuses. */
int http_refused(CURLcode code);

#endif
