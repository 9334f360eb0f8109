/* sntp_packet.c - a request, and whether what came is an answer to it and worth anything. */
#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "../lib/base/bytes.h"
#include "../lib/base/error.h"
#include "sntp.h"

#define NS_PER_S 1000000000ull
#define ERA_TO_1970_S 2208988800ull
#define DISTANCE_MAX_NS (16 * NS_PER_S) /* RFC 5905: MAXDISP */

enum { VERSION = 4, MODE_CLIENT = 3, MODE_SERVER = 4, LEAP_UNKNOWN = 3, STRATUM_MAX = 15, PRECISION_MIN = -32 };

void sntp_request(uint64_t nonce, uint8_t ret[SNTP_SIZE])
{
    memset(ret, 0, SNTP_SIZE);
    ret[0] = VERSION << 3 | MODE_CLIENT;
    put_be64(ret + 40, nonce);
}

/* ---------------------------------------------------------------------------------------------------------- times */

/* The seconds since 1900 whose low half is given and that are nearest to `about_s`. */
static uint64_t in_nearest_era(uint32_t seconds, uint64_t about_s)
{
    int32_t ahead = (int32_t)(seconds - (uint32_t)about_s);
    return about_s + (uint64_t)(int64_t)ahead;
}

/* False: before 1970, or beyond what 64 bits of ns hold. */
static bool read_timestamp(const uint8_t *p, uint64_t about_ns, uint64_t *ret_ns)
{
    uint64_t stamp = get_be64(p);
    uint64_t seconds = in_nearest_era((uint32_t)(stamp >> 32), about_ns / NS_PER_S + ERA_TO_1970_S);
    if (seconds < ERA_TO_1970_S || seconds - ERA_TO_1970_S >= UINT64_MAX / NS_PER_S)
        return false;
    *ret_ns = (seconds - ERA_TO_1970_S) * NS_PER_S + ((stamp & UINT32_MAX) * NS_PER_S >> 32);
    return true;
}

/* 16.16 seconds, rounded up. */
static uint64_t read_short(const uint8_t *p)
{
    return (get_be32(p) * NS_PER_S + 0xffff) >> 16;
}

/* The root delay is signed: asymmetric routes made some servers answer less than 0, which is as good as 0. */
static uint64_t read_root_delay(const uint8_t *p)
{
    return get_be32(p) >> 31 ? 0 : read_short(p);
}

/* 2 to the power of it, in seconds. */
static uint64_t read_precision(int8_t exponent)
{
    if (exponent >= 4)
        return DISTANCE_MAX_NS;
    if (exponent >= 0)
        return NS_PER_S << exponent;
    return exponent < PRECISION_MIN ? 1 : (NS_PER_S >> -exponent) + 1;
}

/* -------------------------------------------------------------------------------------------------------- checking */

static bool is_answer(const uint8_t *p, size_t size, uint64_t nonce)
{
    unsigned version = p[0] >> 3 & 7, mode = p[0] & 7;
    return size >= SNTP_SIZE && mode == MODE_SERVER && (version == 3 || version == VERSION) &&
           get_be64(p + 24) == nonce;
}

static int kiss_of_death(const uint8_t *id)
{
    char code[5] = "";
    for (int i = 0; i < 4; i++)
        code[i] = isalnum(id[i]) ? (char)id[i] : '?';
    if (memcmp(code, "DENY", 4) == 0 || memcmp(code, "RSTR", 4) == 0)
        return err_set(SPOOL_EREJECTED, "the server answered %s: it does not want to be asked", code);
    if (memcmp(code, "RATE", 4) == 0)
        return err_set(SPOOL_EBUSY, "the server answered RATE: it is asked too often");
    return err_set(SPOOL_EUNAVAILABLE, "the server answered a kiss-o'-death, %s", code);
}

static int read_times(const uint8_t *p, uint64_t about_ns, struct sntp_reply *ret)
{
    uint64_t reference_ns = 0;
    bool has_reference = get_be64(p + 16) != 0;
    if (!get_be64(p + 32) || !get_be64(p + 40) || !read_timestamp(p + 32, about_ns, &ret->receive_ns) ||
        !read_timestamp(p + 40, about_ns, &ret->transmit_ns))
        return err_set(SPOOL_EUNAVAILABLE, "the server gives no time");
    if (ret->transmit_ns < ret->receive_ns)
        return err_set(SPOOL_EUNAVAILABLE, "the server answered before it was asked: its clock was set back");
    if (has_reference && (!read_timestamp(p + 16, about_ns, &reference_ns) || ret->transmit_ns < reference_ns))
        return err_set(SPOOL_EUNAVAILABLE, "the server was synchronised after it answered: its clock was set back");
    return SPOOL_OK;
}

static int read_distance(const uint8_t *p, struct sntp_reply *ret)
{
    uint64_t distance = read_root_delay(p + 4) / 2 + read_short(p + 8);
    if (distance >= DISTANCE_MAX_NS)
        return err_set(SPOOL_EUNAVAILABLE, "the server is %.3f s from its root: 16 are too much",
                       (double)distance / 1e9);
    ret->distance_ns = distance + read_precision((int8_t)p[3]);
    return SPOOL_OK;
}

int sntp_check(const uint8_t *bytes, size_t size, uint64_t nonce, uint64_t about_ns, struct sntp_reply *ret)
{
    struct sntp_reply reply = {0};
    if (size < SNTP_SIZE || !is_answer(bytes, size, nonce))
        return err_set(SPOOL_ESTALE, "%zu bytes that are no answer to the request", size);
    unsigned leap = bytes[0] >> 6;
    reply.stratum = bytes[1];
    reply.reference_id = get_be32(bytes + 12);
    if (reply.stratum == 0)
        return kiss_of_death(bytes + 12);
    if (leap == LEAP_UNKNOWN || reply.stratum > STRATUM_MAX)
        return err_set(SPOOL_EUNAVAILABLE, "the server is not synchronised (leap %u, stratum %u)", leap, reply.stratum);
    reply.leap = leap == 1 ? 1 : leap == 2 ? -1 : 0;
    int code = read_times(bytes, about_ns, &reply);
    if (!code)
        code = read_distance(bytes, &reply);
    if (!code)
        *ret = reply;
    return code;
}

int sntp_sample(const struct sntp_reply *reply, uint64_t round_ns, uint64_t boot_ns, struct spool_clock_sample *ret)
{
    enum { RATE_SHIFT = 11 }; /* our clock may be 500 ppm wrong while it measures the way */
    uint64_t kept_ns = reply->transmit_ns - reply->receive_ns, slack_ns = (round_ns >> RATE_SHIFT) + 1000;
    if (kept_ns > round_ns + slack_ns)
        return err_set(SPOOL_EUNAVAILABLE, "the server kept the request %.3f ms, longer than the answer took (%.3f ms)",
                       (double)kept_ns / 1e6, (double)round_ns / 1e6);
    uint64_t way_ns = kept_ns < round_ns ? round_ns - kept_ns : 0;
    ret->unix_ns = reply->transmit_ns + way_ns / 2;
    ret->boot_ns = boot_ns;
    ret->error_ns = way_ns - way_ns / 2 + slack_ns + reply->distance_ns;
    ret->leap = reply->leap;
    ret->stratum = reply->stratum;
    return SPOOL_OK;
}
