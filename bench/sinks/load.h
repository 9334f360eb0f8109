/* load.h - for the raw programs: the events that drive.c enqueues, with ids like the library's. */
#ifndef BENCH_SINKS_LOAD_H
#define BENCH_SINKS_LOAD_H

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/spool.h"
#include "../measure.h"

/* One event, and what its texts are kept in. */
struct load {
    struct spool_event event;
    struct spool_id id;
    char id_text[SPOOL_ID_TEXT_SIZE], agent[16], body[65536];
};

/* A UUIDv7 a sixteenth of a millisecond after the one before it. */
static inline void load_id(uint64_t n, struct spool_id *ret)
{
    uint64_t ms = 1800000000000u + n / 16;
    for (int i = 0; i < 6; i++)
        ret->bytes[i] = (uint8_t)(ms >> (40 - 8 * i));
    ret->bytes[6] = (uint8_t)(0x70 | n % 16);
    ret->bytes[7] = 0;
    memcpy(ret->bytes + 8, "\x80\0\x12\x34\x56\x78\x9a\xbc", 8);
}

/* Decimal digits; returns the end. What printf() would take for it should not count against the raw programs. */
static inline char *load_decimal(char *at, uint64_t n)
{
    char digits[20];
    int i = 0;
    do
        digits[i++] = (char)('0' + n % 10);
    while ((n /= 10) > 0);
    while (i > 0)
        *at++ = digits[--i];
    return at;
}

/* The sink's events lie in a spool, from which it reads them; these are made up, at next to no cost. */
static inline void load_event(struct load *load, uint64_t n, size_t bytes)
{
    static const char *const types[] = {"log.llm_call", "log.error", "memory.interaction", "memory.plan"};
    static const char head[] = "{\"n\":", middle[] = ",\"text\":\"";
    memcpy(load->body, head, sizeof head - 1);
    char *at = load_decimal(load->body + sizeof head - 1, n);
    memcpy(at, middle, sizeof middle - 1);
    at += sizeof middle - 1;
    size_t least = (size_t)(at - load->body) + 2, size = least < bytes ? bytes : least;
    memset(at, 'x', size - least);
    memcpy(load->body + size - 2, "\"}", 3);
    memcpy(load->agent, "agent-", 6);
    *load_decimal(load->agent + 6, n % 16) = '\0';
    load->event = SPOOL_EVENT(.type = types[n % 4], .agent = load->agent, .session = "s-1",
                              .content_type = "application/json", .body = load->body, .body_size = size);
    load_id(n, &load->id);
    spool_id_format(&load->id, load->id_text);
}

/* The event's native JSON, as most sinks write it. */
static inline char *load_json(const struct load *load, size_t *ret_size)
{
    char *json;
    if (spool_event_to_json(&load->event, &load->id, &json, ret_size) != SPOOL_OK)
        errx(1, "%s", spool_last_error());
    return json;
}

/* Prints events a second. */
static inline void load_report(uint64_t events, uint64_t start_ns)
{
    printf("%.0f\n", (double)events * 1e9 / (double)(clock_ns() - start_ns));
}

/* Argument `at`, a number, or the fallback. */
static inline uint64_t load_number(int argc, char **argv, int at, uint64_t fallback)
{
    return at < argc ? strtoull(argv[at], NULL, 0) : fallback;
}

#endif
