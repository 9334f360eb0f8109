/* source.c - the table, and what becomes of an answer. */
#include "source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/sync.h"

#define BACKOFF_MAX_NS (1024 * 1000 * NS_PER_MS)

/* ----------------------------------------------------------------------------------------------------- the table */

static const struct spool_clock_source memory_hooks = {
    .abi = SPOOL_CLOCK_SOURCE_ABI, .size = sizeof(struct spool_clock_source), .kind = "monotonic"};

static struct source *new_memory(void)
{
    struct source *memory = calloc(1, sizeof *memory);
    if (!memory)
        return NULL;
    snprintf(memory->name, sizeof memory->name, "monotonic");
    snprintf(memory->kind, sizeof memory->kind, "monotonic");
    memory->hooks = memory_hooks;
    memory->memory = memory->local = memory->builtin = true;
    memory->due_ns = UINT64_MAX;
    return memory;
}

int sources_init(struct sources *s, uint32_t drift_ppm)
{
    *s = (struct sources){.drift_ppm = drift_ppm, .random = 0x9e3779b97f4a7c15ull};
    s->memory = new_memory();
    if (!s->memory)
        return err_errno(ENOMEM, "the table of time sources");
    int code =
        pthread_mutex_init(&s->lock, NULL) ? err_errno(ENOMEM, "the mutex of time sources") : cond_init(&s->changed);
    if (code) {
        free(s->memory);
        s->memory = NULL;
        return code;
    }
    s->list[0] = s->memory;
    return SPOOL_OK;
}

void source_free(struct source *source)
{
    if (source && source->hooks.close)
        source->hooks.close(source->state);
    free(source);
}

void sources_free(struct sources *s)
{
    if (!s->memory)
        return;
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++)
        source_free(s->list[i]);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
}

void sources_abandon(struct sources *s)
{
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++) {
        if (s->list[i] && !s->list[i]->sntp)
            s->list[i]->hooks.close = NULL;
        source_free(s->list[i]);
    }
}

struct source *sources_find(const struct sources *s, const char *name)
{
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++)
        if (s->list[i] && !s->list[i]->doomed && strcmp(s->list[i]->name, name) == 0)
            return s->list[i];
    return NULL;
}

struct source *sources_next_due(const struct sources *s, bool local_only)
{
    struct source *next = NULL;
    for (size_t i = 0; i < SPOOL_CLOCK_SOURCES_MAX; i++) {
        struct source *source = s->list[i];
        if (!source || source->memory || source->busy || source->doomed || (local_only && !source->local))
            continue;
        if (!next || source->due_ns < next->due_ns)
            next = source;
    }
    return next;
}

uint32_t sources_drift_ppm(const struct sources *s)
{
    enum { DISCIPLINED_PPM = 50, FREE_PPM = 500 };
    if (s->drift_ppm)
        return s->drift_ppm;
    return s->disciplined ? DISCIPLINED_PPM : FREE_PPM;
}

/* ------------------------------------------------------------------------------------------------------- answers */

/* xorshift64*: spreads the polls of many programs, no secret. */
static uint64_t next_random(struct sources *s)
{
    s->random ^= s->random >> 12;
    s->random ^= s->random << 25;
    s->random ^= s->random >> 27;
    return s->random * 0x2545f4914f6cdd1dull;
}

/* The next read, an eighth of the interval later at most: never earlier, so that the least interval is one. */
static void schedule(struct sources *s, struct source *source, uint64_t now_ns, uint64_t wait_ns)
{
    uint64_t jitter = source->local ? 0 : next_random(s) % (wait_ns / 8 + 1);
    source->interval_ns = wait_ns;
    source->due_ns = saturating_add(now_ns, saturating_add(wait_ns, jitter));
}

static uint64_t poll_interval_ns(const struct source *source)
{
    return source->options.poll_interval_ms * NS_PER_MS;
}

/* When the source does not know at which moment of the call its time was true, it was at the end or up to the whole
 * call earlier: the middle, give or take a half. */
static struct anchor anchor_of(const struct spool_clock_sample *sample, const struct hlc_look *before,
                               const struct hlc_look *after)
{
    struct anchor a = {sample->unix_ns, sample->error_ns, *after, sample->leap};
    uint64_t call_ns = after->boot_ns - before->boot_ns;
    bool known = sample->boot_ns >= before->boot_ns && sample->boot_ns <= after->boot_ns;
    uint64_t since_ns = known ? after->boot_ns - sample->boot_ns : call_ns / 2;
    a.unix_ns = saturating_add(a.unix_ns, since_ns);
    if (!known)
        a.error_ns = saturating_add(a.error_ns, call_ns - call_ns / 2);
    return a;
}

static bool is_possible(const struct spool_clock_sample *sample)
{
    return sample->unix_ns > 0 && sample->leap >= -1 && sample->leap <= 1;
}

void source_answered(struct sources *s, struct source *source, const struct spool_clock_sample *sample,
                     const struct hlc_look *before, const struct hlc_look *after)
{
    if (!is_possible(sample)) {
        source_failed(s, source, SPOOL_EINVAL, "it answered what cannot be: no time, or an unknown leap", sample,
                      after);
        return;
    }
    source->asked = true;
    source->failing = false;
    source->answers++;
    source->last_error[0] = 0;
    source->root = sample->root;
    source->stratum = sample->stratum;
    source->unbounded = sample->error_ns == SPOOL_CLOCK_UNKNOWN;
    if (source->unbounded)
        source->count = 0; /* what it said before it says no longer */
    source->newest = (source->newest + 1) % SAMPLES;
    source->samples[source->newest] = anchor_of(sample, before, after);
    source->count += source->count < SAMPLES;
    schedule(s, source, after->boot_ns, poll_interval_ns(source));
}

void source_failed(struct sources *s, struct source *source, int code, const char *message,
                   const struct spool_clock_sample *sample, const struct hlc_look *after)
{
    uint64_t wait_ns = 2 * source->interval_ns, least_ns = poll_interval_ns(source);
    source->asked = true;
    source->failing = true;
    source->failures++;
    source->refused = code == SPOOL_EREJECTED;
    snprintf(source->last_error, sizeof source->last_error, "%s", message);
    wait_ns = wait_ns < BACKOFF_MAX_NS ? wait_ns : BACKOFF_MAX_NS;
    wait_ns = wait_ns > least_ns ? wait_ns : least_ns;
    if (sample->retry_after_ms > wait_ns / NS_PER_MS && sample->retry_after_ms < UINT64_MAX / NS_PER_MS)
        wait_ns = sample->retry_after_ms * NS_PER_MS;
    schedule(s, source, after->boot_ns, wait_ns);
    if (source->refused)
        source->due_ns = UINT64_MAX;
}
