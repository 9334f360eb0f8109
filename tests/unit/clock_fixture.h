/* clock_fixture.h - a machine whose clocks do what a test wants, a hybrid logical clock on it, and what it told. */
#ifndef CLOCK_FIXTURE_H
#define CLOCK_FIXTURE_H

#include "../check_main.h"

#include "../../clock/clock.h"
#include "../../lib/base/sync.h"

#define START_NS 1795253655000000000ull /* some day in 2026 */
#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)

enum { EVENT_KINDS = HLC_REMOTE + 1 };

struct machine {
    struct hlc_look now;
    struct hlc *clock;
    int told[EVENT_KINDS];
    int64_t last_ns[EVENT_KINDS];
    char text[EVENT_KINDS][256];
};

static inline uint64_t machine_wall(void *user)
{
    return ((const struct machine *)user)->now.wall_ns;
}

static inline void machine_see(void *user, struct hlc_look *ret)
{
    *ret = ((const struct machine *)user)->now;
}

static inline void machine_hear(void *user, const struct hlc_event *event)
{
    struct machine *m = user;
    m->told[event->kind]++;
    m->last_ns[event->kind] = event->ns;
    snprintf(m->text[event->kind], sizeof m->text[0], "%s", event->text);
}

static inline void machine_pass(struct machine *m, uint64_t ns)
{
    m->now.wall_ns += ns;
    m->now.boot_ns += ns;
    m->now.mono_ns += ns;
    m->now.raw_ns += ns;
}

static inline void machine_suspend(struct machine *m, uint64_t ns)
{
    m->now.wall_ns += ns;
    m->now.boot_ns += ns;
}

static inline void machine_begin(struct machine *m, uint64_t wall_ns, struct hlc_options options)
{
    *m = (struct machine){.now = {wall_ns, 1000 * SECOND, 900 * SECOND, 950 * SECOND}};
    options.physical = machine_wall;
    options.physical_user = m;
    options.see = machine_see;
    options.on_event = machine_hear;
    options.event_user = m;
    options.no_thread = true;
    ck_ok(hlc_new(&options, &m->clock));
}

/* The next stamp, which must be later than `last`. */
static inline struct spool_id machine_stamp(struct machine *m, struct spool_id last)
{
    struct spool_id id;
    hlc_now(m->clock, &id);
    if (!id_is_valid(&id) || spool_id_compare(&id, &last) <= 0)
        ck_abort_msg("stamp %llx, counter %u is not later", (unsigned long long)id_stamp(&id).ticks,
                     id_stamp(&id).counter);
    return id;
}

/* A source that says what it is told to. */
struct teller {
    struct machine *machine;
    int64_t offset_ns; /* from the machine's wall clock */
    uint64_t error_ns, root;
    int leap, code, reads;
};

static inline int teller_read(void *state, uint32_t timeout_ms, struct spool_clock_sample *ret)
{
    struct teller *t = state;
    (void)timeout_ms;
    t->reads++;
    if (t->code)
        return err_set(t->code, "the teller says nothing");
    ret->unix_ns = t->machine->now.wall_ns + (uint64_t)t->offset_ns;
    ret->boot_ns = t->machine->now.boot_ns;
    ret->error_ns = t->error_ns;
    ret->root = t->root;
    ret->leap = t->leap;
    return SPOOL_OK;
}

static inline void teller_add(struct machine *m, const char *name, struct teller *t, uint32_t preference)
{
    const struct spool_clock_source hooks = {SPOOL_CLOCK_SOURCE_ABI, sizeof hooks, "teller", .read = teller_read};
    t->machine = m;
    ck_ok(hlc_source_add(m->clock, name, &hooks,
                         &SPOOL_CLOCK_SOURCE_OPTIONS(.user = t, .preference = preference, .poll_interval_ms = 16000)));
}

static inline struct spool_clock_reading machine_read(struct machine *m)
{
    struct spool_clock_reading reading;
    ck_ok(hlc_read(m->clock, &reading));
    return reading;
}

struct wanted_source {
    const char *name;
    struct spool_clock_source_info info;
    bool found;
};

static inline int machine_pick(void *user, const struct spool_clock_source_info *info)
{
    struct wanted_source *wanted = user;
    if (strcmp(info->name, wanted->name))
        return 0;
    wanted->info = *info;
    wanted->found = true;
    return 0;
}

/* Texts in it are gone. */
static inline struct spool_clock_source_info machine_source(struct machine *m, const char *name)
{
    struct wanted_source wanted = {.name = name};
    ck_ok(hlc_source_each(m->clock, machine_pick, &wanted));
    ck_assert_msg(wanted.found, "there is no source %s", name);
    return wanted.info;
}

#endif
