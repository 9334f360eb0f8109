/* plugin_resolve.c - see plugin_resolve.h. */
#include "plugin_resolve.h"

#include <errno.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../../lib/base/sync.h"
#include "../../lib/spool.h"

static const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};

/* One question, held by the thread that asks the system and by whoever waits: the last one frees it. */
struct lookup {
    atomic_int holders;
    int done; /* an eventfd: readable once the rest is set */
    int error;
    struct addrinfo *found;
    char host[];
};

static void drop(struct lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->holders, 1) > 1)
        return;
    if (lookup->found)
        freeaddrinfo(lookup->found);
    if (lookup->done >= 0)
        close(lookup->done);
    free(lookup);
}

static void *look_up(void *argument)
{
    struct lookup *lookup = argument;
    uint64_t one = 1;
    lookup->error = getaddrinfo(lookup->host, NULL, &hints, &lookup->found);
    ssize_t n = write(lookup->done, &one, sizeof one);
    (void)n; /* a fresh counter takes it */
    drop(lookup);
    return NULL;
}

static struct lookup *ask(const char *host)
{
    pthread_t thread;
    struct lookup *lookup = calloc(1, sizeof *lookup + strlen(host) + 1);
    if (!lookup)
        return NULL;
    strcpy(lookup->host, host);
    atomic_store(&lookup->holders, 1);
    lookup->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    atomic_fetch_add(&lookup->holders, 1);
    if (lookup->done >= 0 && thread_start(&thread, "spool-resolve", look_up, lookup) == 0) {
        pthread_detach(thread);
        return lookup;
    }
    atomic_fetch_sub(&lookup->holders, 1);
    drop(lookup);
    return NULL;
}

static int unknown(const char *host, int error)
{
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", host, gai_strerror(error));
}

/* An address needs nobody to be asked. */
static bool is_address(const char *host, struct addrinfo **ret)
{
    struct addrinfo numeric = hints;
    numeric.ai_flags = AI_NUMERICHOST;
    return getaddrinfo(host, NULL, &numeric, ret) == 0;
}

int resolve(const struct cancel *cancel, const char *host, uint64_t deadline_ns, struct addrinfo **ret)
{
    if (is_address(host, ret))
        return SPOOL_OK;
    struct lookup *lookup = ask(host);
    if (!lookup)
        return spool_sink_error(ENOMEM, "%s: no memory or thread to look it up", host);
    int code = SPOOL_OK;
    enum cancel_wait how = cancel_wait(cancel, lookup->done, POLLIN, deadline_ns);
    if (how == WAIT_CANCELLED)
        code = spool_sink_error(SPOOL_EUNAVAILABLE, "%s: cancelled while its address was looked up", host);
    else if (how == WAIT_TIMEOUT)
        code = spool_sink_error(SPOOL_EUNAVAILABLE, "%s: no name server answers", host);
    else if (lookup->error)
        code = unknown(host, lookup->error);
    else {
        *ret = lookup->found;
        lookup->found = NULL; /* the thread is done with it: `done` was written after */
    }
    drop(lookup);
    return code;
}
