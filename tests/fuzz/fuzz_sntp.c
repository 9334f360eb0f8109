/* fuzz_sntp.c - sntp_check() and sntp_sample() on arbitrary answers: nothing outside is read, and what is accepted keeps what
 * is promised of it.
 *
 * The first 8 bytes are the time that is known roughly, the next 8 how long the answer took; the rest is the packet. It is tried
 * as it is, and with the nonce made right. */
#include "../../clock/sntp.h"
#include "../../lib/base/bytes.h"
#include "fuzz.h"

#define NONCE 0x0123456789abcdefull
#define SECOND 1000000000ull

static void check(const uint8_t *packet, size_t size, uint64_t about_ns, uint64_t round_ns)
{
    struct sntp_reply reply;
    struct spool_clock_sample sample = {.size = sizeof sample};
    int code = sntp_check(packet, size, NONCE, about_ns, &reply);
    require(code == SPOOL_OK || code == SPOOL_ESTALE || code == SPOOL_EREJECTED || code == SPOOL_EBUSY ||
            code == SPOOL_EUNAVAILABLE);
    if (code)
        return;
    require(size >= SNTP_SIZE && get_be64(packet + 24) == NONCE);
    require(reply.stratum >= 1 && reply.stratum <= 15 && reply.leap >= -1 && reply.leap <= 1);
    require(reply.transmit_ns >= reply.receive_ns && reply.distance_ns < 40 * SECOND);
    if (sntp_sample(&reply, round_ns, 77, &sample))
        return;
    require(sample.error_ns >= reply.distance_ns);
    require(sample.unix_ns >= reply.transmit_ns || sample.unix_ns < round_ns); /* or beyond what 64 bits hold */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    uint64_t about_ns = take_number(&in, 8), round_ns = take_number(&in, 8) % (3600 * SECOND);
    size_t left = input_left(&in);
    uint8_t *copy = malloc(left ? left : 1);
    require(copy != NULL);
    if (left)
        memcpy(copy, in.at, left);
    check(copy, left, about_ns, round_ns);
    if (left >= SNTP_SIZE) {
        put_be64(copy + 24, NONCE);
        check(copy, left, about_ns, round_ns);
        copy[0] = (uint8_t)((copy[0] & 0xc0) | 4 << 3 | 4);
        check(copy, left, about_ns, round_ns);
    }
    free(copy);
    return 0;
}
