/* group_fixture.h - members of a group that fail as a test tells them, the group's own files with those in the place of real kinds,
 * and a delivery that keeps the outcomes as the library would. */
#ifndef GROUP_FIXTURE_H
#define GROUP_FIXTURE_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../delivery/delivery.h"
#include "../../lib/base/error.h"
#include "../check_main.h"

enum { EVENTS = 60, MEMBERS = 3 };

/* What a member does. */
enum way {
    WELL,
    DOWN,
    DOWN_HALF,
    REFUSES_SOME,
    REFUSES_BATCH,
    RETRIES_SOME,
    FORBIDDEN,
    NO_OPEN,
    CHECKPOINT_FAILS,
    WAYS,
    RETRIES_AND_FALLS /* asks for another try of a bad one, and is down from there on; not in the combinations */
};

struct told {
    enum way way;
    unsigned got[EVENTS]; /* accepted, by event */
    unsigned opens, closes, cancels, delivers, checkpoints, biggest;
    int latest; /* the greatest number accepted */
};
static struct told members[MEMBERS];

static unsigned number_of(const struct spool_delivery *d)
{
    return (unsigned)strtoul(d->event->body, NULL, 10);
}

static int plug_open(void **ret_state, void *user, const char *config, const void *checkpoint, size_t size)
{
    (void)user, (void)checkpoint, (void)size;
    const char *at = strstr(config, "\"m\":");
    struct told *t = &members[at ? atoi(at + 4) : 0];
    t->opens++;
    *ret_state = t;
    return t->way == NO_OPEN ? spool_sink_error(SPOOL_EUNAVAILABLE, "cannot be opened") : SPOOL_OK;
}

static void take(struct told *t, struct spool_delivery *d)
{
    unsigned number = number_of(d);
    t->got[number]++;
    t->latest = (int)number > t->latest ? (int)number : t->latest;
    d->outcome = SPOOL_DELIVERED;
}

static bool is_bad(const struct spool_delivery *d)
{
    return number_of(d) % 7 == 3;
}

static int plug_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct told *t = state;
    bool bad = false;
    t->delivers++;
    t->biggest = n > t->biggest ? (unsigned)n : t->biggest;
    for (size_t i = 0; i < n; i++)
        bad |= is_bad(&batch[i]);
    if (t->way == DOWN || (t->way == REFUSES_BATCH && bad))
        return t->way == DOWN ? spool_sink_error(SPOOL_EUNAVAILABLE, "is down") : SPOOL_EREJECTED;
    if (t->way == FORBIDDEN)
        return spool_sink_error(SPOOL_ECONFIG, "403");
    for (size_t i = 0; i < (t->way == DOWN_HALF ? n / 2 : n); i++) {
        if (t->way == REFUSES_SOME && is_bad(&batch[i]))
            spool_delivery_fail(&batch[i], SPOOL_REJECTED, "does not like %u", number_of(&batch[i]));
        else if (t->way == RETRIES_SOME && is_bad(&batch[i]))
            spool_delivery_fail(&batch[i], SPOOL_RETRY, "not now");
        else if (t->way == RETRIES_AND_FALLS && is_bad(&batch[i])) {
            spool_delivery_fail(&batch[i], SPOOL_RETRY, "not now");
            return SPOOL_EUNAVAILABLE;
        } else
            take(t, &batch[i]);
    }
    return t->way == DOWN_HALF ? SPOOL_EUNAVAILABLE : SPOOL_OK;
}

static void plug_cancel(void *state)
{
    struct told *t = state;
    t->cancels++;
}

static void plug_close(void *state)
{
    struct told *t = state;
    t->closes++;
}

static size_t plug_checkpoint(void *state, void *buf, size_t cap)
{
    struct told *t = state;
    (void)cap;
    if (t->way == CHECKPOINT_FAILS && t->checkpoints > 0) {
        memset(t->got, 0, sizeof t->got); /* cut back to the last one */
        return SIZE_MAX;
    }
    t->checkpoints++;
    memcpy(buf, "x", 1);
    return 1;
}

static uint32_t plug_traits(const char *config)
{
    return strstr(config, "lossy") ? SPOOL_TRAIT_BEST_EFFORT : 0;
}

static const struct spool_sink plug = {.abi = SPOOL_SINK_ABI,
                                       .size = sizeof(struct spool_sink),
                                       .kind = "plug",
                                       .open = plug_open,
                                       .deliver = plug_deliver,
                                       .cancel = plug_cancel,
                                       .close = plug_close,
                                       .checkpoint = plug_checkpoint,
                                       .traits = plug_traits};

/* The kinds that the group finds. */
#define delivery_kind_find plug_find
#define delivery_kind_check plug_check
#define delivery_sink_traits(sink, config) (sink)->traits(config)
static int plug_find(const char *kind, const char *plugin, struct delivery_kind *ret)
{
    (void)plugin;
    if (strcmp(kind, "plug") != 0)
        return err_set(SPOOL_ENOTFOUND, "there is no kind \"%s\"", kind);
    *ret = (struct delivery_kind){.sink = &plug, .summary = ""};
    return SPOOL_OK;
}
static int plug_check(const struct delivery_kind *kind, const char *config)
{
    (void)kind;
    if (strstr(config, "\"no\":\"memory\""))
        return err_errno(ENOMEM, "reading it");
    return strstr(config, "wrong") ? err_set(SPOOL_ECONFIG, "a key that is wrong") : SPOOL_OK;
}
#include "../../delivery/sinks/group.c"
#include "../../delivery/sinks/group_config.c"
#define through_member failover_through_member
#include "../../delivery/sinks/group_failover.c"
#undef through_member
#include "../../delivery/sinks/group_quorum.c"

/* ------------------------------------------------------------------------------------------- a delivery of the test's */

static struct spool_event events[EVENTS];
static char bodies[EVENTS][8];
static struct spool_delivery given[EVENTS];
static char reasons[EVENTS][REASON_MAX + 1];
static struct spool_delivery *giving;

static void told(void *user, size_t index, const char *text)
{
    (void)user;
    snprintf(reasons[number_of(&giving[index])], sizeof reasons[0], "%s", text);
}

static void make_events(void)
{
    for (unsigned i = 0; i < EVENTS; i++) {
        snprintf(bodies[i], sizeof bodies[i], "%u", i);
        events[i] = SPOOL_EVENT(.type = "t", .body = bodies[i], .body_size = strlen(bodies[i]));
    }
}

/* The outcomes of all events so far, as the library would keep them. */
enum { NONE = -1 };
static int outcome_of[EVENTS];

static void give(const struct spool_sink *sink, void *state, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = from; i < to; i++) {
        if (outcome_of[i] == SPOOL_DELIVERED || outcome_of[i] == SPOOL_REJECTED)
            continue;
        given[n] = (struct spool_delivery){.size = sizeof *given, .event = &events[i], .attempt = 1};
        memcpy(given[n].id.bytes, &i, sizeof i);
        reasons[i][0] = '\0';
        n++;
    }
    if (n == 0)
        return;
    giving = given;
    const struct delivery_capture capture = {given, n, told, NULL};
    delivery_capture_reasons(&capture);
    int code = sink->deliver(state, given, n);
    delivery_capture_reasons(NULL);
    for (size_t i = 0; i < n; i++) {
        unsigned number = number_of(&given[i]);
        bool answered = given[i].outcome != SPOOL_RETRY || *reasons[number];
        if (given[i].outcome != DELIVERY_UNTRIED && answered)
            outcome_of[number] = (int)given[i].outcome;
        else if (code == SPOOL_EREJECTED && n == 1)
            outcome_of[number] = SPOOL_REJECTED;
        else
            outcome_of[number] = NONE;
    }
    if (code == SPOOL_EREJECTED && n > 1) { /* as the library bisects */
        give(sink, state, from, from + (to - from) / 2);
        give(sink, state, from + (to - from) / 2, to);
    }
}

static void *open_patient_group(const struct spool_sink *sink, const char *retry)
{
    char config[512];
    void *state;
    snprintf(config, sizeof config,
             "{\"members\":[{\"kind\":\"plug\",\"m\":0},{\"kind\":\"plug\",\"m\":1},{\"kind\":\"plug\",\"m\":2}],"
             "\"retry_base\":\"%s\",\"retry_cap\":\"%s\"}",
             retry, retry);
    return sink->open(&state, NULL, config, NULL, 0) == SPOOL_OK ? state : NULL;
}

static void *open_group(const struct spool_sink *sink, const char *more)
{
    char config[512];
    void *state;
    snprintf(config, sizeof config,
             "{\"members\":[{\"kind\":\"plug\",\"m\":0},{\"kind\":\"plug\",\"m\":1},{\"kind\":\"plug\",\"m\":2}],"
             "\"retry_base\":0,\"retry_cap\":0%s}",
             more);
    int code = sink->open(&state, NULL, config, NULL, 0);
    if (code != SPOOL_OK)
        return NULL;
    return state;
}

static void tell_members(size_t combination)
{
    memset(members, 0, sizeof members);
    for (int i = 0; i < MEMBERS; i++, combination /= WAYS) {
        members[i].way = (enum way)(combination % WAYS);
        members[i].latest = -1;
    }
    for (int i = 0; i < EVENTS; i++)
        outcome_of[i] = NONE;
}

static bool works(enum way way)
{
    return way == WELL || way == REFUSES_SOME || way == REFUSES_BATCH || way == RETRIES_SOME;
}

static bool refuses(enum way way)
{
    return way == REFUSES_SOME || way == REFUSES_BATCH;
}

enum { COMBINATIONS = WAYS * WAYS * WAYS };

static void describe(size_t combination, char text[64])
{
    snprintf(text, 64, "ways %zu %zu %zu", combination % WAYS, combination / WAYS % WAYS, combination / WAYS / WAYS);
}

static void check_closed(void)
{
    for (int i = 0; i < MEMBERS; i++)
        ck_assert_uint_eq(members[i].closes, members[i].way == NO_OPEN ? 0 : members[i].opens);
}

#endif
