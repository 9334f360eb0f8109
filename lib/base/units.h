/* units.h - sizes and durations as people write them: "8GiB", "100ms". Used by every configuration. */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H

#include <stdint.h>

/* A whole number of bytes, followed at once by nothing or one of B, kB, MB, GB, TB (powers of 1,000), KiB, MiB, GiB,
 * TiB (powers of 1,024). SPOOL_EINVAL, also when it does not fit 64 bits. */
int units_parse_bytes(const char *text, uint64_t *ret_bytes);

/* A whole number followed at once by ms, s, m, h or d; a bare "0" needs no unit. SPOOL_EINVAL, likewise. */
int units_parse_duration_ms(const char *text, uint64_t *ret_ms);

#endif
