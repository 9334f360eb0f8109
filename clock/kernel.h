/* kernel.h - what the kernel knows of the wall clock: the judgement alone, for source_local.c and its tests. */
#ifndef CLOCK_KERNEL_H
#define CLOCK_KERNEL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/timex.h>

struct kernel_state {
    uint64_t error_ns; /* SPOOL_CLOCK_UNKNOWN: nobody disciplines it */
    bool disciplined;
    int leap;
    int32_t tai_offset_s;
};

/* `state` is what ntp_adjtime() returned. */
void kernel_judge(const struct timex *tx, int state, struct kernel_state *ret);

#endif
