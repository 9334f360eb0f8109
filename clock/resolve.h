/* resolve.h - a server's address, within a time and interruptible. */
#ifndef CLOCK_RESOLVE_H
#define CLOCK_RESOLVE_H

#include <stdint.h>
#include <sys/socket.h>

struct resolved {
    struct sockaddr_storage address;
    socklen_t size;
};

/* The address of that turn (modulo their number). SPOOL_EUNAVAILABLE: there is none, or not in time; SPOOL_ESTOPPED:
 * `cancel_fd` became readable. */
int resolve(const char *host, const char *port, unsigned turn, int cancel_fd, uint64_t deadline_ns,
            struct resolved *ret);

/* Until `fd` can be read: SPOOL_OK, SPOOL_ETIMEOUT, or SPOOL_ESTOPPED when `cancel_fd` can. errno. */
int wait_readable(int fd, int cancel_fd, uint64_t deadline_ns);

#endif
