/* sink_faults.c - the hooks of a sink plugin with each single call below them failing once: no memory, no descriptors, no
 * threads, sockets and files that fail.
 *
 *     sink_faults FILE CONFIG [LIBRARY…]
 *
 * For N = 1, 2, 3 … call N of a class fails, while the sink is opened, gets three events, and is closed. Beyond EVERY (100)
 * only some of the many are tried, by the seed SEED. Then, with nothing failing, the events that it did not take come again. It
 * prints `violation TEXT` where
 *
 *     a fault that passes was taken for a wrong configuration, or no message was left
 *     an event was rejected, which nobody would send again
 *     without a fault, or after it, the sink does not deliver
 *     memory that the plugin itself had allocated was there when it was closed, or a descriptor more than before
 *
 * and `delivered ID` for each event that it said it had delivered: whoever runs this compares them with the far side.
 * What allocates in a LIBRARY, a part of its file's name, is spared: some end the process when there is no memory. */
#include <link.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "../unit/fail_nth.h"
#include "sink_host.h"

enum { EVENTS = 3, SPARED_MAX = 16, LIVE_MAX = 1024, TRIES = 40, PATIENCE_MS = 500, WAIT_MS = 10000 };

static unsigned number_of(const char *variable, unsigned otherwise)
{
    const char *text = getenv(variable);
    return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static const char *const class_names[] = {
    [FAIL_MEMORY] = "memory", [FAIL_OPEN] = "open", [FAIL_READ] = "read",     [FAIL_WRITE] = "write",
    [FAIL_SPACE] = "space",   [FAIL_SYNC] = "sync", [FAIL_NAME] = "name",     [FAIL_STAT] = "stat",
    [FAIL_LOCK] = "lock",     [FAIL_MAP] = "map",   [FAIL_THREAD] = "thread", [FAIL_RANDOM] = "random",
    [FAIL_SOCKET] = "socket"};
enum { CLASSES = sizeof class_names / sizeof *class_names };

static struct {
    const struct spool_sink *sink;
    const char *config;
    unsigned long numbers, violations, faults;
    char where[80];
} me;

__attribute__((format(printf, 1, 2))) static void violation(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    printf("violation %s: ", me.where);
    vprintf(format, args);
    printf("\n");
    va_end(args);
    fflush(stdout);
    me.violations++;
}

/* ------------------------------------------------------------------------------------------------------------ memory */

struct range {
    uintptr_t from, to;
};
static struct range plugin, spared[SPARED_MAX];
static size_t spared_count;
static struct {
    int argc;
    char **argv;
} libraries;

static bool is_in(const struct range *range, const void *address)
{
    return (uintptr_t)address >= range->from && (uintptr_t)address < range->to;
}

static bool is_spared(const void *caller)
{
    for (size_t i = 0; i < spared_count; i++)
        if (is_in(&spared[i], caller))
            return true;
    return false;
}

static struct range range_of(const struct dl_phdr_info *info)
{
    struct range range = {info->dlpi_addr, info->dlpi_addr};
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD &&
            info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz > range.to)
            range.to = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
    return range;
}

static int look_at_object(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size, (void)user;
    if (strstr(info->dlpi_name, "libspool-sink-"))
        plugin = range_of(info);
    for (int i = 0; i < libraries.argc; i++)
        if (strstr(info->dlpi_name, libraries.argv[i]) && spared_count < SPARED_MAX)
            spared[spared_count++] = range_of(info);
    return 0;
}

/* What the plugin's own code has allocated while it was watched, on this thread; others may free it. */
static struct {
    void *_Atomic memory;
    const void *caller;
} live[LIVE_MAX];
static _Thread_local bool is_watching;

static void forget_live(const void *memory)
{
    for (size_t i = 0; i < LIVE_MAX && memory; i++) {
        void *expected = (void *)memory;
        if (atomic_compare_exchange_strong(&live[i].memory, &expected, NULL))
            return;
    }
}

static void note_live(void *memory, void *old, const void *caller)
{
    forget_live(old);
    for (size_t i = 0; i < LIVE_MAX && is_watching && is_in(&plugin, caller); i++)
        if (!live[i].memory) {
            live[i].caller = caller;
            live[i].memory = memory;
            return;
        }
}

static bool is_any_live(void)
{
    for (size_t i = 0; i < LIVE_MAX; i++)
        if (live[i].memory)
            return true;
    return false;
}

/* The plugin's leaks, with the place in its file of who allocated: for addr2line. Its threads are given a moment. */
static void tell_leaks(void)
{
    for (int i = 0; i < WAIT_MS / 10 && is_any_live(); i++)
        usleep(10000);
    for (size_t i = 0; i < LIVE_MAX; i++)
        if (live[i].memory)
            violation("what was allocated at %#lx is left (%s)",
                      (unsigned long)((uintptr_t)live[i].caller - plugin.from), host_message);
    for (size_t i = 0; i < LIVE_MAX; i++)
        live[i].memory = NULL;
}

#ifndef __SANITIZE_THREAD__
void FAIL_REAL(free)(void *memory);
void free(void *memory)
{
    forget_live(memory);
    FAIL_REAL(free)(memory);
}
#endif

/* ------------------------------------------------------------------------------------------------------------ one run */

struct batch {
    struct spool_event events[EVENTS];
    struct spool_delivery deliveries[EVENTS];
    char bodies[EVENTS][32];
};

static void fill(struct batch *batch)
{
    char id[SPOOL_ID_TEXT_SIZE];
    for (int i = 0; i < EVENTS; i++) {
        unsigned long number = ++me.numbers;
        snprintf(id, sizeof id, "01890a5d-ac96-774b-bcce-%012lx", number);
        snprintf(batch->bodies[i], sizeof batch->bodies[i], "{\"n\":%lu}", number);
        batch->events[i] = SPOOL_EVENT(.type = "test", .agent = "a", .session = "s", .content_type = "application/json",
                                       .body = batch->bodies[i], .body_size = strlen(batch->bodies[i]));
        batch->deliveries[i] = (struct spool_delivery){.size = sizeof *batch->deliveries, .event = &batch->events[i]};
        batch->deliveries[i].attempt = 1;
        spool_id_parse(id, &batch->deliveries[i].id);
    }
}

/* Cancels a delivery that takes too long, as the library does: after some faults there is nothing to do but wait. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void *state; /* NULL: none is running */
    unsigned long turn;
    bool cancelled;
} watch = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, 0, false};

/* Returns whether the delivery that ends with this was cancelled. */
static bool watch_over(void *state)
{
    pthread_mutex_lock(&watch.lock);
    bool cancelled = watch.cancelled;
    watch.cancelled = false;
    watch.state = state;
    watch.turn++;
    pthread_cond_signal(&watch.changed);
    pthread_mutex_unlock(&watch.lock);
    return cancelled;
}

static void *watcher(void *unused)
{
    pthread_mutex_lock(&watch.lock);
    for (unsigned long turn = watch.turn;; turn = watch.turn) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += PATIENCE_MS * 1000000L;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        while (watch.turn == turn && pthread_cond_timedwait(&watch.changed, &watch.lock, &until) == 0)
            ;
        if (watch.turn == turn && watch.state && me.sink->cancel) {
            me.sink->cancel(watch.state); /* under the lock, so that it is not closed meanwhile */
            watch.cancelled = true;
        }
    }
    return unused;
}

struct attempt {
    int code;
    bool opened, cancelled;
};

static struct attempt open_and_deliver(struct batch *batch)
{
    void *state = NULL;
    struct attempt attempt = {0};
    host_message[0] = '\0';
    attempt.code = me.sink->open(&state, NULL, me.config, NULL, 0);
    attempt.opened = attempt.code == SPOOL_OK;
    if (!attempt.opened)
        return attempt;
    watch_over(state);
    attempt.code = me.sink->deliver(state, batch->deliveries, EVENTS);
    attempt.cancelled = watch_over(NULL);
    me.sink->close(state);
    return attempt;
}

static unsigned count(const struct batch *batch, enum spool_outcome outcome)
{
    unsigned n = 0;
    for (int i = 0; i < EVENTS; i++)
        n += batch->deliveries[i].outcome == outcome;
    return n;
}

/* A busy machine may be too slow for the watcher's patience: what was cancelled is no fault, as long as it comes the next
 * time. */
static void judge(const struct batch *batch, const struct attempt *attempt, bool fired)
{
    int code = attempt->code;
    if (code != SPOOL_OK && code != SPOOL_EUNAVAILABLE && code < 0)
        violation("%s answers %s (%s)", attempt->opened ? "deliver" : "open", spool_error_name(code), host_message);
    if (code != SPOOL_OK && !*host_message)
        violation("%s leaves no message with %s", attempt->opened ? "deliver" : "open", spool_error_name(code));
    if (count(batch, SPOOL_REJECTED) > 0)
        violation("events are rejected: %s", host_message);
    if (!fired && !attempt->cancelled && count(batch, SPOOL_DELIVERED) != EVENTS)
        violation("without a fault: %s (%s)", spool_error_name(code), host_message);
}

/* What was not taken comes again, as it would; the far side may need a moment. */
static void complete(struct batch *batch)
{
    for (int i = 0; i < TRIES && count(batch, SPOOL_DELIVERED) < EVENTS; i++) {
        struct batch again = *batch;
        for (int k = 0; k < EVENTS; k++)
            again.deliveries[k].event = &again.events[k];
        for (int k = 0; k < EVENTS; k++) {
            again.events[k].body = again.bodies[k];
            again.deliveries[k].outcome = SPOOL_RETRY;
        }
        open_and_deliver(&again);
        for (int k = 0; k < EVENTS; k++)
            if (again.deliveries[k].outcome == SPOOL_DELIVERED)
                batch->deliveries[k].outcome = SPOOL_DELIVERED;
        if (count(batch, SPOOL_DELIVERED) < EVENTS)
            usleep(50000);
    }
    if (count(batch, SPOOL_DELIVERED) < EVENTS)
        violation("after the fault it does not deliver: %s", host_message);
}

static void tell_delivered(const struct batch *batch)
{
    char id[SPOOL_ID_TEXT_SIZE];
    for (int i = 0; i < EVENTS; i++)
        if (batch->deliveries[i].outcome == SPOOL_DELIVERED)
            printf("delivered %s\n", spool_id_format(&batch->deliveries[i].id, id));
}

/* A descriptor that a library's thread is about to close is given a moment. */
static void check_descriptors(unsigned before)
{
    unsigned now = open_files();
    for (int i = 0; i < WAIT_MS / 10 && now > before; i++) {
        usleep(10000);
        now = open_files();
    }
    if (now > before)
        violation("%u descriptors more than before", now - before);
}

/* Whether the fault came. */
static bool run(enum fail_class class, unsigned n)
{
    struct batch batch;
    snprintf(me.where, sizeof me.where, "%s %u", class_names[class], n);
    fill(&batch);
    unsigned before = open_files();
    is_watching = true;
    fail_arm(class, n);
    struct attempt attempt = open_and_deliver(&batch);
    bool fired = fail_disarm();
    is_watching = false;
    judge(&batch, &attempt, fired);
    tell_leaks();
    tell_delivered(&batch);
    if (fired || attempt.cancelled) {
        complete(&batch);
        tell_delivered(&batch);
        check_descriptors(before);
    }
    me.faults += fired;
    return fired;
}

int main(int argc, char **argv)
{
    struct batch batch;
    if (argc < 3)
        errx(2, "usage: sink_faults FILE CONFIG [LIBRARY...]");
    me.sink = host_load(argv[1]);
    me.config = argv[2];
    libraries.argc = argc - 3;
    libraries.argv = argv + 3;
    unsigned every = number_of("EVERY", 100);
    srandom(number_of("SEED", 1));
    pthread_t thread;
    if (pthread_create(&thread, NULL, watcher, NULL) != 0)
        err(2, "pthread_create");
    fill(&batch); /* what is made once in a process is made now */
    if (open_and_deliver(&batch).code != SPOOL_OK)
        complete(&batch);
    if (count(&batch, SPOOL_DELIVERED) < EVENTS)
        errx(1, "without any fault: %s", host_message);
    tell_delivered(&batch);
    dl_iterate_phdr(look_at_object, NULL);
    fail_spares = is_spared;
    fail_allocated = note_live;
    for (int class = FAIL_MEMORY; class < CLASSES; class ++)
        for (unsigned n = 1; class_names[class] && run((enum fail_class) class, n);)
            n += n < every ? 1 : 1 + (unsigned)random() % (n / 8);
    printf("faults %lu\n", me.faults);
    return me.violations == 0 ? 0 : 1;
}
