/* sntp.h - the packets of NTP version 4 (RFC 5905), as far as a client needs them. Pure functions.
 *
 * A packet is 48 bytes, big-endian; extensions and a MAC may follow, and are not looked at:
 *
 *    0  leap 2 bits | version 3 | mode 3      8  root dispersion, 16.16 s    24  origin timestamp
 *    1  stratum                              12  reference id                32  receive timestamp
 *    2  poll exponent, 3 precision exponent  16  reference timestamp         40  transmit timestamp
 *    4  root delay, 16.16 s signed
 *
 * A timestamp is seconds.fraction 32.32 in an era of 136 years: the one nearest to a time that is known roughly is
 * meant. A request carries 64 random bits in the place of its transmit timestamp, and nothing else that tells of the
 * client; an answer is one only if it has the same bits as origin. So it is no replay, and nobody who does not see the
 * request can make it up. */
#ifndef CLOCK_SNTP_H
#define CLOCK_SNTP_H

#include <stddef.h>
#include <stdint.h>

#include "../lib/spool.h"

enum { SNTP_SIZE = 48 };

struct sntp_reply {
    uint64_t receive_ns, transmit_ns; /* since 1970: when the request came there, and the answer left */
    uint64_t distance_ns;             /* of the server from its root: half the root delay, root dispersion, precision */
    uint32_t stratum, reference_id;
    int leap;
};

void sntp_request(uint64_t nonce, uint8_t ret[SNTP_SIZE]);

/* Reads `size` bytes as the answer to the request with that nonce. `about_ns`: the time, known to 68 years.
 *   SPOOL_ESTALE        no answer to this request (short, another origin, no server's): wait for the right one
 *   SPOOL_EREJECTED     kiss-o'-death DENY, RSTR: never ask again
 *   SPOOL_EBUSY         kiss-o'-death RATE: ask less often
 *   SPOOL_EUNAVAILABLE  an answer that vouches for no time: not synchronised, stratum 0 or above 15, 16 s or more from
 * its root, or with times that contradict each other */
int sntp_check(const uint8_t *bytes, size_t size, uint64_t nonce, uint64_t about_ns, struct sntp_reply *ret);

/* The time at `boot_ns`, when the answer came, `round_ns` after the request left. It took something between nothing and
 * the whole round trip, less what the server kept it. SPOOL_EUNAVAILABLE if that is less than nothing. */
int sntp_sample(const struct sntp_reply *reply, uint64_t round_ns, uint64_t boot_ns, struct spool_clock_sample *ret);

/* The source for sntp_client.c; `user` is the server's name. */
extern const struct spool_clock_source sntp_source;

#endif
