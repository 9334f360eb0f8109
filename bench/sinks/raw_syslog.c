/* raw_syslog.c - the same messages of RFC 5424 by sockets alone. Each is rendered by snprintf() with an id and a time of
 * its own, and goes with its size in front of it (octet counting). Syslog has no answers, so the acknowledgement is the
 * sink's, too: BATCH messages have a connection, whose sending side is shut down, and the server's end is waited for.
 * BATCH 0: one connection for all of them, as a sender has that does not care.
 *
 *     raw_syslog PORT EVENTS BYTES BATCH */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

enum { TARGET = 256 << 10, ROOM = 2 * 65536 + 4096 };
static char out[TARGET + ROOM], host[256];
static size_t used;

static int dial(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        err(1, "port %u", port);
    return fd;
}

static void put_time(const struct load *load, char ret[64])
{
    uint64_t ns = spool_id_time_ns(&load->id);
    time_t seconds = (time_t)(ns / 1000000000u);
    struct tm utc;
    char date[32];
    gmtime_r(&seconds, &utc);
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(ret, 64, "%s.%06uZ", date, (unsigned)(ns / 1000 % 1000000));
}

static void put_message(uint64_t n, size_t bytes)
{
    static struct load load;
    static char header[512];
    char when[64];
    size_t size;
    load_event(&load, n, bytes);
    char *json = load_json(&load, &size);
    put_time(&load, when);
    int head = snprintf(
        header, sizeof header, "<14>1 %s %s %s - %s [spool@32473 id=\"%s\" type=\"%s\" agent=\"%s\" session=\"%s\"] ",
        when, host, load.agent, load.event.type, load.id_text, load.event.type, load.agent, load.event.session);
    used += (size_t)sprintf(out + used, "%zu %s", (size_t)head + size, header);
    memcpy(out + used, json, size);
    used += size;
    spool_free(json);
}

static void send_all(int fd)
{
    for (size_t at = 0; at < used;) {
        ssize_t n = send(fd, out + at, used - at, MSG_NOSIGNAL);
        if (n < 0)
            err(1, "send");
        at += (size_t)n;
    }
    used = 0;
}

/* The server has read everything. */
static void confirm(int fd)
{
    char byte;
    if (shutdown(fd, SHUT_WR) != 0 || read(fd, &byte, 1) != 0)
        err(1, "the server's end");
    close(fd);
}

int main(int argc, char **argv)
{
    uint64_t events = load_number(argc, argv, 2, 0), bytes = load_number(argc, argv, 3, 0),
             batch = load_number(argc, argv, 4, 0);
    uint16_t port = (uint16_t)load_number(argc, argv, 1, 0);
    int fd = -1;
    if (argc != 5)
        errx(2, "usage: raw_syslog PORT EVENTS BYTES BATCH");
    if (gethostname(host, sizeof host - 1) != 0)
        err(1, "gethostname");
    batch = batch ? batch : events;
    uint64_t start_ns = clock_ns();
    for (uint64_t n = 0; n < events; n++) {
        bool last = n % batch == batch - 1 || n + 1 == events;
        if (fd < 0)
            fd = dial(port);
        put_message(n, bytes);
        if (used >= TARGET || last)
            send_all(fd);
        if (last) {
            confirm(fd);
            fd = -1;
        }
    }
    load_report(events, start_ns);
    return 0;
}
