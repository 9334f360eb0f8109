/* fuzz.h - what the fuzz targets share: taking values from the input, and a scratch directory.
 *
 * A target is a file fuzz_<name>.c with LLVMFuzzerTestOneInput(). libFuzzer, AFL++ and standalone_main.c call it; see
 * fuzz.sh. It aborts (by require) when something is wrong that no sanitizer sees. */
#ifndef FUZZ_H
#define FUZZ_H

#include <ftw.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../memory.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define require(condition)                                                                                             \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                                    \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

/* ------------------------------------------------------------------------------------------------------------- input
 */

struct input {
    const uint8_t *at, *end;
};

static inline size_t input_left(const struct input *in)
{
    return (size_t)(in->end - in->at);
}

/* Zero when there is no more. */
static inline uint8_t take_u8(struct input *in)
{
    return in->at < in->end ? *in->at++ : 0;
}

static inline uint64_t take_number(struct input *in, int bytes)
{
    uint64_t n = 0;
    for (int i = 0; i < bytes; i++)
        n |= (uint64_t)take_u8(in) << 8 * i;
    return n;
}

/* Small, at an edge, or any: one byte says which. */
static inline uint64_t take_odd_number(struct input *in)
{
    uint8_t kind = take_u8(in);
    if (kind < 200)
        return kind;
    switch (kind % 7) {
    case 0:
        return UINT64_MAX - take_u8(in);
    case 1:
        return (1ull << 63) - 2 + take_u8(in) % 5;
    case 2:
        return (1ull << 32) - 2 + take_u8(in) % 5;
    case 3:
        return (1ull << 16) - 2 + take_u8(in) % 5;
    default:
        return take_number(in, 8);
    }
}

/* Up to `most` bytes of the input, in place. */
static inline const uint8_t *take_bytes(struct input *in, size_t most, size_t *ret_size)
{
    const uint8_t *bytes = in->at;
    *ret_size = most < input_left(in) ? most : input_left(in);
    in->at += *ret_size;
    return bytes;
}

/* ----------------------------------------------------------------------------------------------------------- scratch
 */

static char scratch[64]; /* "": none yet */

static inline int scratch_remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st, (void)flag, (void)ftw;
    return remove(path);
}

static inline void scratch_remove(const char *path)
{
    nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static inline void scratch_end(void)
{
    scratch_remove(scratch);
}

/* A directory in memory that goes when the process ends. */
static inline const char *scratch_dir(void)
{
    if (scratch[0])
        return scratch;
    snprintf(scratch, sizeof scratch, "%.40s/fuzz-XXXXXX", memory_dir());
    require(mkdtemp(scratch) != NULL);
    atexit(scratch_end);
    return scratch;
}

#endif
