/* exercise.c - opens a damaged spool and uses all of it, as programs do; complains about what must not happen.
 *
 * That is, besides dying and hanging, which main.c sees: an event that nobody enqueued or with another body; an event
 * lost whose file is whole; a refusal to open that no damage explains; descriptors or threads left behind; events
 * enqueued afterwards that don't arrive. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../../../lib/spool.h"
#include "wreck.h"

enum { DRAIN_MS = 40000, ROUNDS = 2, SINK_HELD = 1, SINK_OUT = 2, SINK_MARK = 4, SINKS_ALL = 7 };

struct exercise {
    const struct wreck_template *template;
    const struct wreck_damage *damage;
    const char *dir;
    struct wreck_outcome *out;
    struct spool *spool;
    atomic_uint notices;
    atomic_bool wrong;                               /* a body that was never enqueued */
    atomic_bool seen[WRECK_EVENTS];                  /* by the sink "held" */
    atomic_uint seen_new[ROUNDS * WRECK_NEW_EVENTS]; /* by which sinks, see SINK_… */
    atomic_uint delivered;
};

static void complain(struct exercise *x, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void complain(struct exercise *x, const char *format, ...)
{
    va_list args;
    if (x->out->complaint[0])
        return;
    va_start(args, format);
    vsnprintf(x->out->complaint, sizeof x->out->complaint, format, args);
    va_end(args);
}

static void step(struct exercise *x, const char *name)
{
    snprintf(x->out->step, sizeof x->out->step, "%s", name);
}

/* --------------------------------------------------------------------------------------------------- what comes out */

static bool check_event(struct exercise *x, const struct spool_event *event, unsigned *ret_n)
{
    if (strcmp(event->type, "wreck") == 0 && wreck_body_is_right(event->body, event->body_size, ret_n) &&
        (*ret_n < WRECK_EVENTS || (*ret_n >= WRECK_NEW && *ret_n < WRECK_NEW + ROUNDS * WRECK_NEW_EVENTS)))
        return true;
    atomic_store(&x->wrong, true);
    return false;
}

/* One sink; which one is in its `user`. */
struct taker {
    struct exercise *x;
    unsigned which;
};

static int take_delivery(void *state, struct spool_delivery *batch, size_t n)
{
    const struct taker *taker = state;
    struct exercise *x = taker->x;
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        unsigned number;
        delivery->outcome = SPOOL_DELIVERED;
        if (!check_event(x, delivery->event, &number))
            continue;
        if (number >= WRECK_NEW)
            atomic_fetch_or(&x->seen_new[number - WRECK_NEW], taker->which);
        else if (taker->which == SINK_HELD)
            atomic_store(&x->seen[number], true);
    }
    if (taker->which == SINK_HELD)
        atomic_fetch_add(&x->delivered, (unsigned)n);
    return 0;
}

static size_t any_checkpoint(void *state, void *buf, size_t cap)
{
    (void)state, (void)cap;
    memset(buf, 'x', 10);
    return 10;
}

static void on_notice(void *user, const struct spool_notice *notice)
{
    struct exercise *x = user;
    if (notice->kind == SPOOL_NOTICE_DAMAGE)
        atomic_fetch_add(&x->notices, 1);
}

/* ---------------------------------------------------------------------------------------------------------- opening */

/* What a damage may be answered with: nothing but a damaged identity and odd files keep a spool from opening. */
static bool may_refuse(const struct exercise *x, int code)
{
    switch (code) {
    case SPOOL_EACCESS:
    case EISDIR:
    case ENOTEMPTY:
    case ENXIO: /* a socket */
    case EEXIST:
        return x->damage->odd;
    case SPOOL_ENOTSPOOL:
    case SPOOL_EDAMAGED:
    case SPOOL_EVERSION:
    case SPOOL_EOPTION:
        return x->damage->identity;
    default:
        return false;
    }
}

static bool open_it(struct exercise *x, uint32_t flags)
{
    const struct spool_options options = SPOOL_OPTIONS(.max_bytes = 64 << 20, .journal_bytes = 256 << 10, .workers = 2,
                                                       .flags = flags, .on_notice = on_notice, .notice_user = x);
    int code = spool_open(x->dir, &options, &x->spool);
    if (!flags)
        x->out->open_code = code;
    if (!code)
        return true;
    if (!may_refuse(x, code))
        complain(x, "does not open: %s: %s", spool_error_name(code), spool_last_error());
    return false;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

static void read_all(struct exercise *x)
{
    struct spool_reader *reader;
    const struct spool_event *event;
    struct spool_id last = {{0}};
    unsigned number, n = 0;
    int code = spool_reader_open(x->spool, NULL, &reader);
    while (!code && (code = spool_reader_next(reader, 20000, &event)) == SPOOL_OK && n++ < 100000) {
        check_event(x, event, &number);
        last = *event->id;
    }
    if (code == SPOOL_OK || code == SPOOL_ETIMEOUT)
        complain(x, "the reader does not end (%s)", spool_error_name(code));
    spool_reader_close(reader);
    struct spool_event *found;
    if (n && spool_find(x->spool, &last, &found) == SPOOL_OK)
        spool_event_free(found);
}

static int look_at_sink(void *user, const struct spool_sink_info *info)
{
    (void)user;
    return info->name && info->kind && info->json_config ? 0 : 1;
}

static int look_at_letter(void *user, const struct spool_dead_letter *letter)
{
    unsigned number;
    check_event(user, letter->event, &number);
    return 0;
}

static void look_at_all(struct exercise *x)
{
    struct spool_stats stats = SPOOL_STATS();
    struct spool_verify_report report = {.size = sizeof report};
    step(x, "read");
    read_all(x);
    step(x, "look");
    spool_stats(x->spool, &stats);
    spool_sink_each(x->spool, look_at_sink, NULL);
    spool_dead_each(x->spool, NULL, look_at_letter, x);
    step(x, "verify");
    spool_verify(x->spool, NULL, NULL, NULL, &report);
    x->out->findings += (unsigned)report.findings;
}

static void close_it(struct exercise *x)
{
    step(x, "close");
    int code = spool_close(x->spool);
    if (code)
        complain(x, "close: %s: %s", spool_error_name(code), spool_last_error());
}

/* ----------------------------------------------------------------------------------------------------------- using it
 */

static void expect_ok(struct exercise *x, const char *what, int code)
{
    if (code)
        complain(x, "%s: %s: %s", what, spool_error_name(code), spool_last_error());
}

static void add_sink(struct exercise *x, const char *name, unsigned which)
{
    static struct taker takers[SINKS_ALL + 1];
    const struct spool_sink sink = {.abi = SPOOL_SINK_ABI,
                                    .size = sizeof sink,
                                    .kind = "wreck",
                                    .deliver = take_delivery,
                                    .checkpoint = which == SINK_MARK ? any_checkpoint : NULL};
    takers[which] = (struct taker){x, which};
    const struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.user = &takers[which], .retry_base_ms = 1, .retry_cap_ms = 2);
    expect_ok(x, name, spool_sink_add(x->spool, name, &sink, NULL, &options));
}

static void add_sinks(struct exercise *x)
{
    add_sink(x, "held", SINK_HELD);
    add_sink(x, "out", SINK_OUT);
    add_sink(x, "mark", SINK_MARK);
}

static void enqueue_new(struct exercise *x, unsigned round)
{
    char body[WRECK_BODY_MAX];
    for (unsigned i = 0; i < WRECK_NEW_EVENTS; i++) {
        unsigned n = WRECK_NEW + round * WRECK_NEW_EVENTS + i;
        struct spool_event event = SPOOL_EVENT(.type = "wreck", .priority = i % SPOOL_PRIORITIES, .body = body,
                                               .body_size = wreck_body(n, body));
        expect_ok(x, "enqueue", spool_enqueue(x->spool, &event, NULL));
    }
}

static void use_it(struct exercise *x, unsigned round)
{
    step(x, "serve");
    add_sinks(x);
    expect_ok(x, "start", spool_start(x->spool));
    step(x, "enqueue");
    enqueue_new(x, round);
    step(x, "drain");
    if (!x->out->complaint[0])
        expect_ok(x, "drain", spool_drain(x->spool, DRAIN_MS));
    step(x, "requeue");
    spool_dead_requeue(x->spool, NULL, NULL, NULL);
    if (!x->out->complaint[0])
        expect_ok(x, "drain after requeue", spool_drain(x->spool, DRAIN_MS));
}

/* -------------------------------------------------------------------------------------------------------- the account
 */

static void check_arrivals(struct exercise *x)
{
    unsigned lost = 0, first = 0, fresh = 0;
    if (atomic_load(&x->wrong))
        complain(x, "an event came out that nobody enqueued, or with another body");
    for (unsigned n = 0; n < WRECK_EVENTS; n++) {
        if (!x->damage->touched[x->template->home[n]] && !atomic_load(&x->seen[n]) && !lost++)
            first = n;
    }
    for (unsigned i = 0; i < ROUNDS * WRECK_NEW_EVENTS; i++)
        fresh += atomic_load(&x->seen_new[i]) != SINKS_ALL;
    /* With another uuid the state is another spool's; what else became of the identity is told by open. */
    if (lost && !x->damage->identity)
        complain(x, "%u events are lost although their file is whole, the first is %u in %s", lost, first,
                 x->template->files[x->template->home[first]].name);
    if (fresh)
        complain(x, "%u events enqueued afterwards did not arrive everywhere", fresh);
}

static unsigned count_entries(const char *path)
{
    unsigned n = 0;
    DIR *stream = opendir(path);
    while (stream && readdir(stream))
        n++;
    if (stream)
        closedir(stream);
    return n;
}

/* A thread that was joined may stand in /proc a moment longer. */
static unsigned count_threads(unsigned want)
{
    unsigned n = count_entries("/proc/self/task");
    for (int i = 0; n > want && i < 2000; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        n = count_entries("/proc/self/task");
    }
    return n;
}

static void check_leftovers(struct exercise *x, unsigned fds, unsigned threads)
{
    unsigned now = count_entries("/proc/self/fd");
    if (now != fds)
        complain(x, "%u descriptors are open, %u were before", now, fds);
    now = count_threads(threads);
    if (now != threads)
        complain(x, "%u threads are left, %u were before", now, threads);
}

void wreck_exercise(const struct wreck_template *template, const struct wreck_damage *damage, const char *dir,
                    struct wreck_outcome *ret)
{
    static struct exercise x; /* too big for a stack */
    unsigned fds = count_entries("/proc/self/fd"), threads = count_entries("/proc/self/task");
    memset(&x, 0, sizeof x);
    x.template = template, x.damage = damage, x.dir = dir, x.out = ret;
    step(&x, "open read-only");
    if (open_it(&x, SPOOL_READ_ONLY)) {
        look_at_all(&x);
        close_it(&x);
    }
    for (unsigned round = 0; round < ROUNDS; round++) {
        step(&x, "open");
        ret->opened = open_it(&x, 0);
        if (!ret->opened)
            break;
        use_it(&x, round);
        look_at_all(&x);
        close_it(&x);
    }
    step(&x, "account");
    if (ret->opened)
        check_arrivals(&x);
    check_leftovers(&x, fds, threads);
    ret->notices = atomic_load(&x.notices);
    ret->delivered = atomic_load(&x.delivered);
    ret->finished = true;
}
