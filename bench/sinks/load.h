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

static inline void load_event(struct load *load, uint64_t n, size_t bytes)
{
    static const char *const types[] = {"log.llm_call", "log.error", "memory.interaction", "memory.plan"};
    int head = snprintf(load->body, sizeof load->body, "{\"n\":%llu,\"text\":\"", (unsigned long long)n);
    size_t size = (size_t)head + 2 < bytes ? bytes : (size_t)head + 2;
    memset(load->body + head, 'x', size - (size_t)head - 2);
    memcpy(load->body + size - 2, "\"}", 3);
    snprintf(load->agent, sizeof load->agent, "agent-%u", (unsigned)(n % 16));
    load->event = SPOOL_EVENT(.type = types[n % 4], .agent = load->agent, .session = "s-1",
                              .content_type = "application/json", .body = load->body, .body_size = size);
    load_id(n, &load->id);
    spool_id_format(&load->id, load->id_text);
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
