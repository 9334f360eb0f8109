/* sntp_client.c - the SNTP source: one question, one answer, on a socket of its own.
 *
 * Each read opens a new socket, so that the port is as hard to guess as the nonce, sends one request and waits for the
 * answer to it until the time is over; whatever else arrives is passed over. A name is looked up each time (a server's
 * address may change), see resolve.c. A cancel makes an eventfd readable, beside which everything waits.
 *
 * Root: what a server of stratum 2 or more follows, by the address in its reference id; itself, for one of stratum 1,
 * or one that has no better than its own crystal (reference 127.127.x.y). */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"
#include "clock_inside.h"
#include "resolve.h"
#include "sntp.h"

#define RATE_RETRY_MS (15 * 60 * 1000) /* asked too often: a quarter of an hour of silence */
#define ROOT_ADDRESS (1ull << 32)
#define ROOT_ADDRESS_6 (1ull << 62)

struct sntp {
    char host[256], port[8];
    int cancel_fd;
    unsigned turn;        /* which of the server's addresses is asked: the next one after a failure */
    uint64_t transmit_ns; /* of the last answer */
};

/* CLOCK_MONOTONIC_RAW is not slewed while the answer is on its way, which may be by 8 %; it stands while the machine is
 * suspended. So the way took no more than the longer one of the two says. */
struct moment {
    uint64_t boot_ns, raw_ns;
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct moment moment_now(void)
{
    return (struct moment){clock_ns(CLOCK_BOOTTIME), clock_ns(CLOCK_MONOTONIC_RAW)};
}

static uint64_t between(struct moment from, struct moment to)
{
    uint64_t boot = to.boot_ns - from.boot_ns, raw = to.raw_ns - from.raw_ns;
    return boot > raw ? boot : raw;
}

/* -------------------------------------------------------------------------------------------------- opening, closing
 */

/* "host", "host:port", "[v6]:port", or a bare v6 address. */
static int split_server(const char *server, struct sntp *ret)
{
    const char *colon = strrchr(server, ':'), *host = server;
    bool bracketed = *server == '[', is_bare_6 = !bracketed && colon && strchr(server, ':') != colon;
    size_t size = strlen(server);
    const char *port = "123";
    if (bracketed) {
        const char *end = strchr(server, ']');
        if (!end || (end[1] && end[1] != ':'))
            return err_set(SPOOL_EINVAL, "server \"%.80s\": it must look like [2001:db8::1]:123", server);
        host = server + 1;
        size = (size_t)(end - host);
        port = end[1] ? end + 2 : port;
    } else if (colon && !is_bare_6) {
        size = (size_t)(colon - server);
        port = colon + 1;
    }
    if (!size || size >= sizeof ret->host || !*port || strlen(port) > 5 || strspn(port, "0123456789") != strlen(port) ||
        atoi(port) < 1 || atoi(port) > 65535)
        return err_set(SPOOL_EINVAL, "server \"%.80s\": it must look like time.example.org or 192.0.2.1:123", server);
    memcpy(ret->host, host, size);
    ret->host[size] = 0;
    snprintf(ret->port, sizeof ret->port, "%s", port);
    return SPOOL_OK;
}

static int sntp_open(void **ret_state, void *user)
{
    struct sntp *sntp = calloc(1, sizeof *sntp);
    if (!sntp)
        return err_errno(ENOMEM, "an SNTP source");
    int code = split_server(user, sntp);
    sntp->cancel_fd = code ? -1 : eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!code && sntp->cancel_fd < 0)
        code = err_errno(errno, "eventfd");
    if (code) {
        free(sntp);
        return code;
    }
    *ret_state = sntp;
    return SPOOL_OK;
}

static void sntp_close(void *state)
{
    struct sntp *sntp = state;
    close(sntp->cancel_fd);
    free(sntp);
}

static void sntp_cancel(void *state)
{
    struct sntp *sntp = state;
    const uint64_t one = 1;
    if (write(sntp->cancel_fd, &one, sizeof one) < 0)
        return; /* EAGAIN: it is cancelled as often as it can be */
}

/* A cancel is for the read that runs; one that comes too late ends the next, which is tried again. */
static int end_cancelled(struct sntp *sntp)
{
    uint64_t count;
    if (read(sntp->cancel_fd, &count, sizeof count) < 0)
        return err_errno(errno, "eventfd");
    return err_set(SPOOL_EUNAVAILABLE, "cancelled");
}

/* -------------------------------------------------------------------------------------------------------- a question
 */

static int new_socket(const struct resolved *to, int *ret)
{
    int fd = socket(to->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return err_errno(errno, "socket");
    if (connect(fd, (const struct sockaddr *)&to->address, to->size)) { /* nobody else's datagrams are seen then */
        int err = errno;
        close(fd);
        return err_errno(err, "connect");
    }
    *ret = fd;
    return SPOOL_OK;
}

static int send_request(int fd, uint64_t nonce, struct moment *ret_sent)
{
    uint8_t packet[SNTP_SIZE];
    sntp_request(nonce, packet);
    *ret_sent = moment_now();
    if (send(fd, packet, sizeof packet, MSG_NOSIGNAL) != (ssize_t)sizeof packet)
        return err_errno(errno, "sending to the server");
    return SPOOL_OK;
}

struct exchange {
    uint64_t nonce, about_ns;
    struct moment sent, received;
    struct sntp_reply reply;
};

static int receive_reply(const struct sntp *sntp, int fd, uint64_t deadline_ns, struct exchange *x)
{
    uint8_t packet[1024]; /* what is longer is cut: only its beginning is looked at */
    int code;
    do {
        code = wait_readable(fd, sntp->cancel_fd, deadline_ns);
        if (code)
            return code;
        x->received = moment_now();
        ssize_t n = recv(fd, packet, sizeof packet, 0);
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return err_errno(errno, "the server cannot be reached"); /* ECONNREFUSED by ICMP */
        code = n < 0 ? SPOOL_ESTALE : sntp_check(packet, (size_t)n, x->nonce, x->about_ns, &x->reply);
    } while (code == SPOOL_ESTALE);
    return code;
}

static int random_nonce(uint64_t *ret)
{
    ssize_t n;
    do
        n = getrandom(ret, sizeof *ret, 0);
    while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof *ret ? SPOOL_OK : err_errno(n < 0 ? errno : EIO, "no random number for the request");
}

static int exchange(const struct sntp *sntp, const struct resolved *to, uint64_t deadline_ns, struct exchange *x)
{
    int fd = -1, code = random_nonce(&x->nonce);
    uint64_t wall_ns = real_ns();
    x->about_ns = wall_ns > HLC_FLOOR_NS ? wall_ns : HLC_FLOOR_NS;
    if (!code)
        code = new_socket(to, &fd);
    if (code)
        return code;
    code = send_request(fd, x->nonce, &x->sent);
    if (!code)
        code = receive_reply(sntp, fd, deadline_ns, x);
    close(fd);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- the answer */

/* FNV-1a, of an address that is no 32-bit number. */
static uint64_t hash_bytes(const uint8_t *bytes, size_t n)
{
    uint64_t hash = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ bytes[i]) * 0x100000001b3ull;
    return hash;
}

static uint64_t address_root(const struct resolved *to)
{
    if (to->address.ss_family == AF_INET)
        return ROOT_ADDRESS | ntohl(((const struct sockaddr_in *)&to->address)->sin_addr.s_addr);
    const struct in6_addr *address = &((const struct sockaddr_in6 *)&to->address)->sin6_addr;
    return ROOT_ADDRESS_6 | hash_bytes(address->s6_addr, sizeof address->s6_addr) >> 2;
}

/* Two servers on one address are told apart by their port. */
static uint64_t root_of(const struct sntp_reply *reply, const struct resolved *to)
{
    bool is_own = reply->stratum < 2 || reply->reference_id >> 16 == 0x7f7f;
    uint16_t port = to->address.ss_family == AF_INET ? ((const struct sockaddr_in *)&to->address)->sin_port
                                                     : ((const struct sockaddr_in6 *)&to->address)->sin6_port;
    if (!is_own)
        return ROOT_ADDRESS | reply->reference_id;
    return address_root(to) ^ (uint64_t)(ntohs(port) == 123 ? 0 : ntohs(port)) << 40;
}

static int take_reply(struct sntp *sntp, const struct exchange *x, const struct resolved *to,
                      struct spool_clock_sample *ret)
{
    if (x->reply.transmit_ns == sntp->transmit_ns)
        return err_set(SPOOL_EUNAVAILABLE,
                       "the server gave the same time twice: its clock stands, or an answer is replayed");
    int code = sntp_sample(&x->reply, between(x->sent, x->received), x->received.boot_ns, ret);
    if (code)
        return code;
    sntp->transmit_ns = x->reply.transmit_ns;
    ret->root = root_of(&x->reply, to);
    return SPOOL_OK;
}

static int sntp_read(void *state, uint32_t timeout_ms, struct spool_clock_sample *ret)
{
    struct sntp *sntp = state;
    struct resolved to;
    struct exchange x = {0};
    uint64_t deadline_ns = deadline_in_ms(timeout_ms);
    int code = resolve(sntp->host, sntp->port, sntp->turn, sntp->cancel_fd, deadline_ns, &to);
    if (!code)
        code = exchange(sntp, &to, deadline_ns, &x);
    if (!code)
        code = take_reply(sntp, &x, &to, ret);
    if (code == SPOOL_ESTOPPED)
        return end_cancelled(sntp);
    if (code == SPOOL_EBUSY) {
        ret->retry_after_ms = RATE_RETRY_MS;
        code = SPOOL_EUNAVAILABLE;
    }
    sntp->turn += code != SPOOL_OK;
    return code;
}

const struct spool_clock_source sntp_source = {
    .abi = SPOOL_CLOCK_SOURCE_ABI,
    .size = sizeof(struct spool_clock_source),
    .kind = "sntp",
    .open = sntp_open,
    .read = sntp_read,
    .cancel = sntp_cancel,
    .close = sntp_close,
};

int hlc_source_add_sntp(struct hlc *clock, const char *server, const struct spool_clock_source_options *options)
{
    struct spool_clock_source_options o = {0};
    if (!server)
        return err_set(SPOOL_EINVAL, "the server is NULL");
    int code = source_options_take(options, true, false, &o);
    o.user = (void *)(uintptr_t)server; /* open copies it */
    return code ? err_prefix(code, "server %s", server) : source_add(clock, server, &sntp_source, &o, true, false);
}
