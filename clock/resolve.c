/* resolve.c - names become addresses by getaddrinfo(), which cannot be interrupted: so on a thread of its own, which is
 * left behind when there is no time to wait for it, and then frees the question itself when it gets there. (glibc's
 * getaddrinfo_a() does the same with threads that no sanitizer knows of, and whose questions cannot be freed.) */
#include "resolve.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"

int wait_readable(int fd, int cancel_fd, uint64_t deadline_ns)
{
    struct pollfd both[] = {{.fd = fd, .events = POLLIN}, {.fd = cancel_fd, .events = POLLIN}};
    for (;;) {
        uint64_t now = mono_ns(), left_ms = now < deadline_ns ? (deadline_ns - now) / NS_PER_MS + 1 : 0;
        int n = now < deadline_ns ? poll(both, 2, left_ms < INT32_MAX ? (int)left_ms : INT32_MAX) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(errno, "poll");
        if (n == 0)
            return err_set(SPOOL_ETIMEOUT, "the server does not answer");
        return both[1].revents ? err_set(SPOOL_ESTOPPED, "cancelled") : SPOOL_OK;
    }
}

/* Shared by who asks and the thread that looks it up. */
struct question {
    _Atomic int users;
    _Atomic bool done; /* makes what the thread wrote visible */
    int done_fd;       /* readable when the rest is filled in */
    char host[256], port[8];
    int status; /* of getaddrinfo() */
    struct addrinfo *list;
};

static void question_unref(struct question *q)
{
    if (atomic_fetch_sub(&q->users, 1) > 1)
        return;
    if (q->list)
        freeaddrinfo(q->list);
    close(q->done_fd);
    free(q);
}

static struct question *question_new(const char *host, const char *port)
{
    struct question *q = calloc(1, sizeof *q);
    if (!q)
        return NULL;
    snprintf(q->host, sizeof q->host, "%s", host);
    snprintf(q->port, sizeof q->port, "%s", port);
    q->users = 1;
    q->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->done_fd >= 0)
        return q;
    free(q);
    return NULL;
}

static void look_up(struct question *q, int flags)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = flags | AI_NUMERICSERV};
    q->status = getaddrinfo(q->host, q->port, &hints, &q->list);
}

static void *look_up_run(void *arg)
{
    struct question *q = arg;
    const uint64_t one = 1;
    look_up(q, AI_ADDRCONFIG);
    ssize_t n;
    atomic_store(&q->done, true);
    do
        n = write(q->done_fd, &one, sizeof one);
    while (n < 0 && errno == EINTR);
    question_unref(q);
    return NULL;
}

static int start(struct question *q)
{
    pthread_t thread;
    atomic_fetch_add(&q->users, 1);
    int code = thread_start(&thread, "spool-resolve", look_up_run, q);
    if (code)
        atomic_fetch_sub(&q->users, 1);
    else
        pthread_detach(thread);
    return code;
}

static int take_turn(const struct addrinfo *list, unsigned turn, struct resolved *ret)
{
    unsigned n = 0;
    for (const struct addrinfo *at = list; at; at = at->ai_next)
        n++;
    const struct addrinfo *at = list;
    for (unsigned i = n ? turn % n : 0; i; i--)
        at = at->ai_next;
    if (!at || at->ai_addrlen > sizeof ret->address)
        return err_set(SPOOL_EUNAVAILABLE, "the name has no address");
    memcpy(&ret->address, at->ai_addr, at->ai_addrlen);
    ret->size = at->ai_addrlen;
    return SPOOL_OK;
}

static int ask(struct question *q, unsigned turn, int cancel_fd, uint64_t deadline_ns, struct resolved *ret)
{
    look_up(q, AI_NUMERICHOST); /* an address needs no asking */
    if (!q->status)
        return take_turn(q->list, turn, ret);
    int code = start(q);
    if (!code)
        code = wait_readable(q->done_fd, cancel_fd, deadline_ns);
    if (code)
        return code == SPOOL_ETIMEOUT ? err_set(SPOOL_EUNAVAILABLE, "%s: the name was not resolved in time", q->host)
                                      : code;
    if (!atomic_load(&q->done) || q->status)
        return err_set(SPOOL_EUNAVAILABLE, "%s: %s", q->host, gai_strerror(q->status));
    return take_turn(q->list, turn, ret);
}

int resolve(const char *host, const char *port, unsigned turn, int cancel_fd, uint64_t deadline_ns,
            struct resolved *ret)
{
    struct question *q = question_new(host, port);
    if (!q)
        return err_errno(errno ? errno : ENOMEM, "resolving %s", host);
    int code = ask(q, turn, cancel_fd, deadline_ns, ret);
    question_unref(q);
    return code;
}
