/* found.h - what is in an opened spool: all events of the log, sinks, retry rows, dead letters and numbers. */
#ifndef CRASHLAB_FOUND_H
#define CRASHLAB_FOUND_H

#include "../../../lib/handle.h"
#include "marks.h"

struct found_event {
    int lane;
    uint64_t seq;
    struct spool_id id;
    uint32_t producer, number; /* as its bytes say */
    bool whole;                /* all its bytes are right */
};

struct found_row { /* a retry row or dead letter */
    char sink[SINK_NAME_MAX + 1];
    bool dead;
    struct found_event event;
};

struct found {
    struct found_event *events; /* by lane and sequence number */
    size_t n, cap;
    const struct found_event **by_number; /* by producer, number, lane and sequence number */
    const struct found_event **by_lane;   /* by producer, lane and sequence number */
    const struct found_event **by_id;
    struct found_row *rows; /* by producer and number */
    size_t row_count, row_cap;
    struct store_sink *sinks;
    size_t sink_count, sink_cap;
    struct spool_stats stats;
    uint32_t gaps;    /* sequence numbers that are missing between blocks */
    uint32_t damaged; /* blocks that could not be read */
};

/* 0, or the library's code with its message. */
int found_read(struct spool *spool, struct found *ret);
void found_free(struct found *found);

/* The event in the log; the first one if there are several. */
const struct found_event *found_in_log(const struct found *found, uint32_t producer, uint32_t number);
const struct store_sink *found_sink(const struct found *found, const char *name);
bool found_anywhere(const struct found *found, uint32_t producer, uint32_t number);
const struct found_row *found_row(const struct found *found, const char *sink, bool dead, uint32_t producer,
                                  uint32_t number);
/* Below its cursor or in its ranges. */
bool found_is_passed(const struct store_sink *sink, int lane, uint64_t seq);
/* The sink has still to get it: not below its cursor or in its ranges, or a retry row. */
bool found_waits(const struct found *found, const struct store_sink *sink, uint32_t producer, uint32_t number);
/* Two readings differ: says how, in `why`. */
bool found_differs(const struct found *before, const struct found *after, char *why, size_t size);

#endif
