/* program.h - what the helper programs of the tests share: their options, bodies that prove themselves, and log lines.
 *
 * A body is {"tag":"r1","thread":0,"n":17,"pad":"rrr","crc":"9abcdef0"}: who made it, and the CRC-32 of "r1/0/17/rrr",
 * so that a reader can tell what is whole and who must have sent it without knowing its id.
 *
 * What they log is in history.h. tests/harness.py reads both. */
#ifndef TESTS_PROGRAM_H
#define TESTS_PROGRAM_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../lib/spool.h"
#include "history.h"

enum { TAG_MAX = 8, BODY_OVERHEAD = 128 };

/* Every program knows every option; 0 and NULL mean the default. */
struct program {
    const char *dir, *tag, *history, *file_sink, *callback_log, *durability, *priority, *policy, *type;
    uint64_t null_sink, threads, count, size, size_max, large_every, large_size, agents, batch, rate, seconds, start_at;
    uint64_t segment_bytes, journal_bytes, max_bytes, flush_interval_ms, flush_never, full_timeout_ms;
    uint64_t wait, no_close, drain_ms, until_term, stop_timeout_ms, read_only, slow_ms, retry_every, down_every;
    uint64_t forks, ttl_ms;
};

enum option_kind { OPTION_TEXT, OPTION_NUMBER, OPTION_FLAG };

struct option_row {
    const char *name;
    enum option_kind kind;
    size_t offset;
};

#define OPTION(kind, field)                                                                                            \
    {                                                                                                                  \
#field, OPTION_##kind, offsetof(struct program, field)                                                         \
    }

static const struct option_row OPTIONS[] = {
    OPTION(TEXT, dir),
    OPTION(TEXT, tag),           /* who this is, at most 8 characters: part of bodies, agents and log lines */
    OPTION(TEXT, history),       /* gets a line for every intent and every answer, see history.h */
    OPTION(TEXT, file_sink),     /* deliver into this file, ordered by agent */
    OPTION(TEXT, callback_log),  /* deliver to a callback that writes a line for every event; may be the same file */
    OPTION(FLAG, null_sink),     /* deliver to the null sink */
    OPTION(TEXT, durability),    /* process, power, or mixed: every 64th event power */
    OPTION(TEXT, priority),      /* a name, or mixed */
    OPTION(TEXT, policy),        /* block, reject or drop, for all priorities */
    OPTION(TEXT, type),          /* of the events */
    OPTION(NUMBER, threads),     /* producers */
    OPTION(NUMBER, count),       /* events of each thread; 0: until killed or `seconds` are over */
    OPTION(NUMBER, size),        /* bytes of padding in a body, at least … */
    OPTION(NUMBER, size_max),    /* … and at most */
    OPTION(NUMBER, large_every), /* every so many events one of … */
    OPTION(NUMBER, large_size),  /* … so many bytes */
    OPTION(NUMBER, agents),      /* of each thread */
    OPTION(NUMBER, batch),       /* events in one spool_enqueue_many() */
    OPTION(NUMBER, rate),        /* events a second of each thread; 0: as fast as it goes */
    OPTION(NUMBER, seconds),     /* stop after that long */
    OPTION(NUMBER, start_at),    /* number of the first event */
    OPTION(NUMBER, segment_bytes),
    OPTION(NUMBER, journal_bytes),
    OPTION(NUMBER, max_bytes),
    OPTION(NUMBER, flush_interval_ms),
    OPTION(FLAG, flush_never),
    OPTION(NUMBER, full_timeout_ms),
    OPTION(FLAG, wait),       /* say "ready" when open, and begin when a line comes on standard input */
    OPTION(FLAG, no_close),   /* exit without closing the spool */
    OPTION(NUMBER, drain_ms), /* at the end, wait that long until every sink has all */
    OPTION(FLAG, until_term), /* deliver until SIGTERM */
    OPTION(NUMBER, stop_timeout_ms),
    OPTION(FLAG, read_only),
    OPTION(NUMBER, slow_ms),     /* the callback sink takes that long for a batch */
    OPTION(NUMBER, retry_every), /* the callback sink fails every so many-th event at its first attempt */
    OPTION(NUMBER, down_every),  /* the callback sink is down for every so many-th batch, after half of it */
    OPTION(NUMBER, ttl_ms),      /* of the events */
    OPTION(NUMBER, forks),       /* forker: how often */
};

static inline const struct option_row *option_find(const char *word)
{
    for (size_t i = 0; i < sizeof OPTIONS / sizeof *OPTIONS; i++)
        if (strncmp(word, "--", 2) == 0 && strcmp(word + 2, OPTIONS[i].name) == 0)
            return &OPTIONS[i];
    errx(2, "unknown option %s", word);
}

static inline uint64_t option_number(const char *name, const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 0);
    if (errno || *end || end == text)
        errx(2, "--%s %s: not a number", name, text);
    return value;
}

/* Reads `--name value` and `--flag` words over the defaults. Exits with 2 on what it does not know. */
static inline struct program program_options(int argc, char **argv)
{
    struct program program = {.tag = "p",
                              .threads = 1,
                              .agents = 4,
                              .batch = 1,
                              .size = 100,
                              .priority = "mixed",
                              .durability = "process",
                              .policy = "block",
                              .type = "test.event"};
    for (int i = 1; i < argc; i++) {
        const struct option_row *row = option_find(argv[i]);
        void *field = (char *)&program + row->offset;
        if (row->kind == OPTION_FLAG) {
            *(uint64_t *)field = 1;
            continue;
        }
        if (++i == argc)
            errx(2, "--%s needs a value", row->name);
        if (row->kind == OPTION_TEXT)
            *(const char **)field = argv[i];
        else
            *(uint64_t *)field = option_number(row->name, argv[i]);
    }
    if (!program.dir || strlen(program.tag) > TAG_MAX || program.threads == 0 || program.batch == 0)
        errx(2, "--dir is missing, or --tag, --threads or --batch is wrong");
    return program;
}

static inline uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static inline double ms_since(uint64_t start_ns)
{
    return (double)(now_ns() - start_ns) / 1e6;
}

static inline void sleep_until(uint64_t at_ns)
{
    struct timespec ts = {.tv_sec = (time_t)(at_ns / 1000000000u), .tv_nsec = (long)(at_ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
        ;
}

/* Exits, naming the call, the code and the message, when `code` is a failure. */
static inline void must(int code, const char *call)
{
    if (code != SPOOL_OK)
        errx(1, "%s: %s: %s", call, spool_error_name(code), spool_last_error());
}

/* ---------------------------------------------------------------------------------------------------------- spool */

static inline enum spool_full_policy program_policy(const char *name)
{
    if (strcmp(name, "reject") == 0)
        return SPOOL_FULL_REJECT;
    return strcmp(name, "drop") == 0 ? SPOOL_FULL_DROP_OLDEST : SPOOL_FULL_BLOCK;
}

static inline struct spool_options program_spool_options(const struct program *program)
{
    struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = program->max_bytes, .segment_bytes = program->segment_bytes,
                      .journal_bytes = (uint32_t)program->journal_bytes,
                      .flush_interval_ms =
                          program->flush_never ? SPOOL_FLUSH_NEVER : (uint32_t)program->flush_interval_ms,
                      .full_timeout_ms = (uint32_t)program->full_timeout_ms,
                      .stop_timeout_ms = (uint32_t)program->stop_timeout_ms,
                      .flags = program->read_only ? SPOOL_READ_ONLY : 0);
    for (size_t i = 0; i < SPOOL_PRIORITIES; i++)
        options.full_policy[i] = program_policy(program->policy);
    return options;
}

/* Opens the spool; exits on failure. */
static inline struct spool *program_open(const struct program *program)
{
    struct spool_options options = program_spool_options(program);
    struct spool *spool;
    must(spool_open(program->dir, &options, &spool), "spool_open");
    return spool;
}

/* Says "ready" and waits for a line, so that a test can let several begin at once. */
static inline void program_barrier(const struct program *program)
{
    if (!program->wait)
        return;
    puts("ready");
    fflush(stdout);
    while (getchar() != '\n' && !feof(stdin))
        ;
}

/* --------------------------------------------------------------------------------------------------------- bodies */

static inline uint32_t crc32_step(uint32_t crc, const void *data, size_t size)
{
    static const uint32_t nibble[16] = {0,          0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                        0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                        0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    const uint8_t *byte = data;
    for (size_t i = 0; i < size; i++) {
        crc = nibble[(crc ^ byte[i]) & 15] ^ (crc >> 4);
        crc = nibble[(crc ^ (byte[i] >> 4)) & 15] ^ (crc >> 4);
    }
    return crc;
}

/* The checksum that a body carries. */
static inline uint32_t body_crc(const char *tag, unsigned thread, uint64_t n, const char *pad, size_t pad_size)
{
    char head[64];
    int size = snprintf(head, sizeof head, "%s/%u/%" PRIu64 "/", tag, thread, n);
    return ~crc32_step(crc32_step(UINT32_MAX, head, (size_t)size), pad, pad_size);
}

/* Writes a body with `pad_size` bytes of padding; `dst` has BODY_OVERHEAD bytes more. Returns its size. */
static inline size_t body_write(char *dst, const char *tag, unsigned thread, uint64_t n, size_t pad_size)
{
    int head = sprintf(dst, "{\"tag\":\"%s\",\"thread\":%u,\"n\":%" PRIu64 ",\"pad\":\"", tag, thread, n);
    char *pad = dst + head;
    memset(pad, 'a' + (int)(n % 26), pad_size);
    int tail = sprintf(pad + pad_size, "\",\"crc\":\"%08x\"}", body_crc(tag, thread, n, pad, pad_size));
    return (size_t)head + pad_size + (size_t)tail;
}

/* The CRC-32 of a whole body, or of any bytes. */
static inline uint32_t whole_crc(const void *data, size_t size)
{
    return ~crc32_step(UINT32_MAX, data, size);
}

/* Reads a body; true if it is one that body_write() made, unchanged. `ret_tag` is what it says, as far as it does. */
static inline bool body_check(const char *body, size_t size, char ret_tag[TAG_MAX + 1], unsigned *ret_thread,
                              uint64_t *ret_n)
{
    enum { TAIL = sizeof "\",\"crc\":\"00000000\"}" - 1 };
    char head[BODY_OVERHEAD] = "";
    unsigned crc = 0;
    int pad_at = 0;
    ret_tag[0] = '\0';
    memcpy(head, body, size < sizeof head - 1 ? size : sizeof head - 1);
    *ret_thread = 0, *ret_n = 0;
    if (sscanf(head, "{\"tag\":\"%8[a-zA-Z0-9]\",\"thread\":%u,\"n\":%" SCNu64 ",\"pad\":\"%n", ret_tag, ret_thread,
               ret_n, &pad_at) != 3 ||
        pad_at == 0 || size < (size_t)pad_at + TAIL)
        return false;
    size_t pad_size = size - (size_t)pad_at - TAIL;
    char tail[TAIL + 1] = "";
    memcpy(tail, body + pad_at + pad_size, TAIL);
    return sscanf(tail, "\",\"crc\":\"%8x\"}", &crc) == 1 &&
           crc == body_crc(ret_tag, *ret_thread, *ret_n, body + pad_at, pad_size);
}

#endif
