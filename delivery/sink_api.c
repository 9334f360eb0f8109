/* sink_api.c - the message a sink leaves for the operator: one per thread, beside the library's own so that a hook's
 * calls into the library do not overwrite it. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "delivery.h"

static _Thread_local char sink_message[REASON_MAX + 1], sink_note[REASON_MAX + 1];
static _Thread_local enum spool_notice_kind note_kind;

int delivery_sink_errorv(int code, const char *format, va_list args)
{
    vsnprintf(sink_message, sizeof sink_message, format, args);
    return code;
}

int spool_sink_error(int code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    delivery_sink_errorv(code, format, args);
    va_end(args);
    return code;
}

const char *delivery_sink_message(void)
{
    return sink_message;
}

void delivery_sink_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(sink_note, sizeof sink_note, format, args);
    va_end(args);
    note_kind = SPOOL_NOTICE_SINK_FILE;
}

void delivery_sink_notev(const char *format, va_list args)
{
    vsnprintf(sink_note, sizeof sink_note, format, args);
    note_kind = SPOOL_NOTICE_SINK_NOTE;
}

void spool_sink_note(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    delivery_sink_notev(format, args);
    va_end(args);
}

enum spool_notice_kind delivery_sink_take_note(char ret[REASON_MAX + 1])
{
    memcpy(ret, sink_note, sizeof sink_note);
    sink_note[0] = '\0';
    return note_kind;
}

static _Thread_local uint64_t answers_given, answers_stored;

void delivery_sink_set_progress(uint64_t given, uint64_t stored)
{
    answers_given = given;
    answers_stored = stored;
}

uint32_t spool_sink_unstored(void)
{
    uint64_t unstored = answers_given - answers_stored;
    return unstored < UINT32_MAX ? (uint32_t)unstored : UINT32_MAX;
}

uint64_t delivery_sink_given(void)
{
    return answers_given;
}

uint64_t delivery_sink_stored(void)
{
    return answers_stored;
}
