/* group.c - see group.h. */
#include "group.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/sync.h"

/* -------------------------------------------------------------------------------------------------- opening a member */

static void note_failure(struct group *g, struct member *m, int code, const char *text)
{
    m->code = code;
    snprintf(m->error, sizeof m->error, "%s", *text ? text : spool_strerror(code));
    breaker_failed(&m->breaker, &g->jitter, mono_ns());
}

static void member_close(struct group *g, struct member *m)
{
    pthread_mutex_lock(&g->lock);
    bool was_open = m->open;
    m->open = false;
    while (m->cancelling > 0)
        cond_wait_until(&g->idle, &g->lock, DEADLINE_NEVER);
    pthread_mutex_unlock(&g->lock);
    if (was_open && m->sink.close)
        m->sink.close(m->state);
    m->state = NULL;
}

static bool member_checkpoint(struct member *m)
{
    uint8_t bytes[SPOOL_CHECKPOINT_MAX];
    if (!m->sink.checkpoint)
        return true;
    spool_sink_error(SPOOL_OK, "%s", "");
    size_t size = m->sink.checkpoint(m->state, bytes, sizeof bytes);
    if (size > sizeof bytes)
        return false;
    memcpy(m->checkpoint, bytes, size);
    m->checkpoint_size = size;
    return true;
}

/* A checkpoint that failed: the member is opened anew, where the last one was. */
static int checkpoint_failed(struct group *g, struct member *m)
{
    char text[REASON_MAX + 1];
    const char *message = delivery_sink_message();
    snprintf(text, sizeof text, "checkpoint failed%s%.200s", *message ? ": " : "", message);
    member_close(g, m);
    note_failure(g, m, SPOOL_EUNAVAILABLE, text);
    return SPOOL_EUNAVAILABLE;
}

static int member_open(struct group *g, struct member *m)
{
    if (m->open)
        return SPOOL_OK;
    void *state = NULL;
    int code = SPOOL_OK;
    spool_sink_error(SPOOL_OK, "%s", "");
    if (m->sink.open)
        code = m->sink.open(&state, NULL, m->config, m->checkpoint, m->checkpoint_size);
    if (code != SPOOL_OK) {
        note_failure(g, m, code, delivery_sink_message());
        return code;
    }
    m->state = state;
    pthread_mutex_lock(&g->lock);
    m->open = true;
    pthread_mutex_unlock(&g->lock);
    return m->checkpoint_size == 0 && !member_checkpoint(m) ? checkpoint_failed(g, m) : SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------- the group's hooks */

/* A group is open when one of its members is; the others are tried again by deliver. */
int group_open(const char *kind, void **ret_state, const char *json_config)
{
    struct group *g;
    int code = group_read(kind, json_config, &g);
    if (code != SPOOL_OK)
        return code;
    size_t open = 0;
    for (size_t i = 0; i < g->member_count; i++)
        open += member_open(g, &g->members[i]) == SPOOL_OK;
    if (open == 0) {
        code = group_unavailable(g);
        group_free(g);
        return code == SPOOL_ECONFIG ? code : SPOOL_EUNAVAILABLE;
    }
    *ret_state = g;
    return SPOOL_OK;
}

void group_cancel(void *state)
{
    struct group *g = state;
    atomic_store(&g->cancelled, true);
    for (size_t i = 0; i < g->member_count; i++) {
        struct member *m = &g->members[i];
        pthread_mutex_lock(&g->lock);
        bool open = m->open && m->sink.cancel;
        m->cancelling += open;
        pthread_mutex_unlock(&g->lock);
        if (!open)
            continue;
        m->sink.cancel(m->state);
        pthread_mutex_lock(&g->lock);
        m->cancelling--;
        pthread_cond_broadcast(&g->idle);
        pthread_mutex_unlock(&g->lock);
    }
}

void group_close(void *state)
{
    struct group *g = state;
    for (size_t i = 0; i < g->member_count; i++)
        member_close(g, &g->members[i]);
    group_free(g);
}

/* ----------------------------------------------------------------------------------------------------------- a batch */

static int grow(struct group *g, size_t n)
{
    free(g->work);
    free(g->work_of);
    free(g->reason);
    free(g->pending);
    free(g->accepted);
    free(g->refused);
    g->work = malloc(n * sizeof *g->work);
    g->work_of = malloc(n * sizeof *g->work_of);
    g->reason = malloc(n * sizeof *g->reason);
    g->pending = malloc(n * sizeof *g->pending);
    g->accepted = malloc(n * sizeof *g->accepted);
    g->refused = malloc(n * sizeof *g->refused);
    bool whole = g->work && g->work_of && g->reason && g->pending && g->accepted && g->refused;
    g->cap = whole ? n : 0;
    return whole ? SPOOL_OK : spool_sink_error(ENOMEM, "batch of %zu events", n);
}

int group_begin(struct group *g, size_t n)
{
    if (n > g->cap && grow(g, n) != SPOOL_OK)
        return ENOMEM;
    atomic_store(&g->cancelled, false);
    memset(g->reason, 0, n * sizeof *g->reason);
    memset(g->accepted, 0, n * sizeof *g->accepted);
    memset(g->refused, 0, n * sizeof *g->refused);
    g->texts.size = 0;
    for (size_t i = 0; i < n; i++)
        g->pending[i] = (uint32_t)i;
    return SPOOL_OK;
}

/* spool_delivery_fail() of a member, for what it was given. */
static void take_reason(void *user, size_t index, const char *text)
{
    struct group *g = user;
    size_t at = g->texts.size;
    if (buffer_printf(&g->texts, "%s: %s", g->at->name, text) != SPOOL_OK || buffer_put(&g->texts, "", 1) != SPOOL_OK)
        return; /* without memory only the reason is lost */
    g->reason[g->work_of[index]] = (uint32_t)at + 1;
}

static void lay_out(struct group *g, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct spool_delivery *from = SPOOL_DELIVERY_AT(batch, g->pending[i]);
        g->work[i] = (struct spool_delivery){
            .size = sizeof *g->work, .event = from->event, .id = from->id, .attempt = from->attempt};
    }
}

/* No answer yet, also if the member cannot even be opened. */
static void forget_answers(struct group *g, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *d = SPOOL_DELIVERY_AT(batch, g->pending[i]);
        g->work_of[i] = g->pending[i];
        g->reason[g->pending[i]] = 0;
        d->outcome = SPOOL_RETRY;
        d->retry_after_ms = 0;
    }
}

static void collect(struct group *g, struct spool_delivery *batch, size_t n, bool holds)
{
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *to = SPOOL_DELIVERY_AT(batch, g->work_of[i]);
        bool lost = g->work[i].outcome == DELIVERY_UNTRIED || (g->work[i].outcome == SPOOL_DELIVERED && !holds);
        to->outcome = lost ? SPOOL_RETRY : g->work[i].outcome;
        to->retry_after_ms = lost ? 0 : g->work[i].retry_after_ms;
    }
}

bool group_was_answered(const struct group *g, const struct spool_delivery *batch, size_t i)
{
    const struct spool_delivery *d = SPOOL_DELIVERY_AT(batch, i);
    return d->outcome != SPOOL_RETRY || d->retry_after_ms > 0 || g->reason[i] > 0;
}

static int run_member(struct group *g, struct member *m, struct spool_delivery *batch, size_t n)
{
    lay_out(g, batch, n);
    g->at = m;
    const struct delivery_capture mine = {g->work, n, take_reason, g};
    const struct delivery_capture *before = delivery_capture_reasons(&mine);
    spool_sink_error(SPOOL_OK, "%s", "");
    int code = m->sink.deliver(m->state, g->work, n);
    delivery_capture_reasons(before);
    if (code != SPOOL_OK && code != SPOOL_EREJECTED)
        note_failure(g, m, code, delivery_sink_message());
    bool durable = member_checkpoint(m); /* also of what it took before it failed */
    collect(g, batch, n, durable);
    return durable ? code : checkpoint_failed(g, m);
}

int group_deliver(struct group *g, struct member *m, struct spool_delivery *batch, size_t n, size_t *ret_tried)
{
    uint32_t room = breaker_room(&m->breaker, 0);
    size_t count = n < room ? n : room;
    *ret_tried = count;
    forget_answers(g, batch, count);
    breaker_try(&m->breaker, mono_ns());
    int code = member_open(g, m);
    if (code != SPOOL_OK)
        return code == SPOOL_EREJECTED ? SPOOL_EUNAVAILABLE : code;
    code = run_member(g, m, batch, count);
    if (code == SPOOL_OK || code == SPOOL_EREJECTED)
        breaker_worked(&m->breaker, (uint32_t)count, mono_ns());
    return code;
}

void group_choose(const struct group *g, size_t least, bool ret[GROUP_MEMBERS_MAX])
{
    uint64_t now_ns = mono_ns();
    size_t chosen = 0;
    for (size_t i = 0; i < g->member_count; i++) {
        ret[i] = breaker_allows(&g->members[i].breaker, now_ns);
        chosen += ret[i] && group_counts(g, i);
    }
    for (; chosen < least; chosen++) {
        size_t best = GROUP_MEMBERS_MAX;
        for (size_t i = 0; i < g->member_count; i++)
            if (!ret[i] && group_counts(g, i) &&
                (best == GROUP_MEMBERS_MAX || g->members[i].breaker.until_ns < g->members[best].breaker.until_ns))
                best = i;
        if (best == GROUP_MEMBERS_MAX)
            return; /* there are no more */
        ret[best] = true;
    }
}

void group_tell_reasons(struct group *g, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *d = SPOOL_DELIVERY_AT(batch, i);
        if (g->reason[i] > 0 && d->outcome != SPOOL_DELIVERED && d->outcome != DELIVERY_UNTRIED)
            spool_delivery_fail(d, d->outcome, "%s", (const char *)g->texts.data + g->reason[i] - 1);
    }
}

int group_unavailable(const struct group *g)
{
    char text[REASON_MAX + 1] = "";
    bool operator_alone = true, any = false;
    for (size_t i = 0; i < g->member_count; i++) {
        const struct member *m = &g->members[i];
        if (m->breaker.state == SPOOL_BREAKER_CLOSED || !group_counts(g, i))
            continue;
        char part[GROUP_NAME_MAX + REASON_MAX + 8];
        snprintf(part, sizeof part, "%s%s: %s", *text ? "; " : "", m->name, m->error);
        strncat(text, part, REASON_MAX - strlen(text));
        operator_alone &= m->code == SPOOL_ECONFIG;
        any = true;
    }
    return spool_sink_error(any && operator_alone ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE, "no member is left: %s", text);
}
