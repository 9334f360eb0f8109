/* syslog_message.h - an event as a message of RFC 5424. */
#ifndef DELIVERY_SINKS_SYSLOG_MESSAGE_H
#define DELIVERY_SINKS_SYSLOG_MESSAGE_H

#include "plugin.h"

struct message_form {
    int facility;
    char host[256]; /* our name; "-" if there is none */
    char *app_name; /* NULL: the event's agent, else "spool" */
    int bare;       /* MSG is the body alone, not the whole event */
};

/* Appends the message, without any frame; *ret_header is where its MSG begins. SPOOL_EREJECTED: it cannot be written,
 * with a message; ENOMEM. */
int message_put(struct buffer *out, const struct message_form *form, const struct spool_delivery *delivery,
                size_t *ret_header);
/* 0 to 7: the severity of an event's priority. */
int message_severity(enum spool_priority priority);
/* NULL-terminated; the index is the facility. */
extern const char *const message_facilities[];

#endif
