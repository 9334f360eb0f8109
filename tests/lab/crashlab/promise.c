/* promise.c - see promise.h. Goes through the marks once, in the order in which they were made. */
#include "promise.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS_MAX = 64 };

struct reading {
    struct promise *promise;
    uint64_t dones, answers; /* counted so far */
    struct round {           /* flushes and settlings under way */
        struct mark_flush mark;
        uint64_t dones, answers; /* those before it */
    } rounds[ROUNDS_MAX];
    unsigned round_count;
};

/* --------------------------------------------------------------------------------------------------- finding events */

static size_t slot_of(const struct promise *promise, uint32_t producer, uint32_t number)
{
    uint64_t hash = ((uint64_t)producer << 32 | number) * 0x9e3779b97f4a7c15u;
    size_t slot = (size_t)(hash >> 32) & (promise->index_size - 1);
    while (promise->index[slot]) {
        const struct promise_event *event = &promise->events[promise->index[slot] - 1];
        if (event->frame.producer == producer && event->number == number)
            break;
        slot = (slot + 1) & (promise->index_size - 1);
    }
    return slot;
}

struct promise_event *promise_find(const struct promise *promise, uint32_t producer, uint32_t number)
{
    uint32_t at = promise->index_size ? promise->index[slot_of(promise, producer, number)] : 0;
    return at ? &promise->events[at - 1] : NULL;
}

/* All events are counted first, so that nothing moves later. */
static int make_room(struct promise *promise, const struct lab_mark *marks, size_t n)
{
    size_t events = 0;
    for (size_t i = 0; i < n; i++) {
        if (marks[i].kind == MARK_ENQUEUE)
            events += ((const struct mark_frame *)marks[i].data)->count;
    }
    promise->index_size = 64;
    while (promise->index_size < events * 2)
        promise->index_size *= 2;
    promise->cap = events + 1;
    promise->events = calloc(promise->cap, sizeof *promise->events);
    promise->index = calloc(promise->index_size, sizeof *promise->index);
    return promise->events && promise->index ? 0 : ENOMEM;
}

/* ------------------------------------------------------------------------------------------------------- enqueueing */

static void raise_id(struct spool_id *to, const struct spool_id *id)
{
    if (memcmp(id, to, sizeof *to) > 0)
        *to = *id;
}

/* A sink of the library's own makes no marks: it may have accepted everything. Its files tell. */
static bool is_mute(const struct promise_sink *sink)
{
    return strcmp(sink->mark.kind, "file") == 0;
}

static void hold_anew(struct promise *promise, struct promise_event *event, int sink)
{
    bool known = promise->sinks[sink].known, mute = is_mute(&promise->sinks[sink]);
    uint8_t may = (uint8_t)(PLACE_WAITS | (event->loose || mute ? PLACE_GONE : 0));
    event->hold[sink] = (struct promise_hold){.may = known ? may : 0, .left = event->hold[sink].left};
    event->loose |= known && mute;
}

static void begin_event(struct promise *promise, const struct mark_frame *frame, uint32_t number)
{
    size_t slot = slot_of(promise, frame->producer, number);
    if (promise->index[slot])
        return; /* enqueued again */
    struct promise_event *event = &promise->events[promise->n++];
    promise->index[slot] = (uint32_t)promise->n;
    memcpy(&event->frame, frame, offsetof(struct mark_frame, ids));
    event->number = number;
    for (int sink = 0; sink < SINKS_OF_LAB_MAX; sink++)
        hold_anew(promise, event, sink);
}

static void read_enqueue(struct reading *reading, const struct mark_frame *frame)
{
    for (uint32_t i = 0; i < frame->count; i++)
        begin_event(reading->promise, frame, frame->first + i);
}

static void read_enqueued(struct reading *reading, const struct mark_frame *frame)
{
    reading->dones++;
    for (uint32_t i = 0; i < frame->count; i++) {
        struct promise_event *event = promise_find(reading->promise, frame->producer, frame->first + i);
        event->done = frame->code == SPOOL_OK;
        event->covered |= event->done && frame->power;
        event->done_order = reading->dones;
        event->has_id = event->done;
        event->id = frame->ids[i];
    }
}

/* -------------------------------------------------------------------------------------------- flushes and settlings */

static void begin_round(struct reading *reading, const struct mark_flush *mark)
{
    if (reading->round_count == ROUNDS_MAX) { /* of killed processes: the oldest ones never end */
        memmove(reading->rounds, reading->rounds + 1, sizeof *reading->rounds * (ROUNDS_MAX - 1));
        reading->round_count--;
    }
    reading->rounds[reading->round_count++] =
        (struct round){.mark = *mark, .dones = reading->dones, .answers = reading->answers};
}

static const struct round *find_round(const struct reading *reading, const struct mark_flush *mark)
{
    for (unsigned i = reading->round_count; i-- > 0;) {
        const struct round *round = &reading->rounds[i];
        if (round->mark.process == mark->process && round->mark.number == mark->number)
            return round;
    }
    return NULL;
}

static void read_flushed(struct reading *reading, const struct mark_flush *mark)
{
    const struct round *round = find_round(reading, mark);
    for (size_t i = 0; round && i < reading->promise->n; i++) {
        struct promise_event *event = &reading->promise->events[i];
        event->covered |= event->done && event->frame.process == mark->process && event->done_order <= round->dones;
    }
}

static void settle_hold(struct promise_sink *sink, struct promise_hold *hold, const struct mark_flush *mark,
                        const struct round *round)
{
    if (!hold->answer || hold->answer_process != mark->process || hold->answer_order > round->answers)
        return;
    hold->may = hold->answer;
    sink->settled += hold->answer == PLACE_GONE;
    hold->answer = 0;
}

static void read_settled(struct reading *reading, const struct mark_flush *mark)
{
    const struct round *round = find_round(reading, mark);
    for (size_t i = 0; round && i < reading->promise->n; i++) {
        for (int sink = 0; sink < SINKS_OF_LAB_MAX; sink++)
            settle_hold(&reading->promise->sinks[sink], &reading->promise->events[i].hold[sink], mark, round);
    }
}

static void read_safe(struct reading *reading)
{
    for (size_t i = 0; i < reading->promise->n; i++)
        reading->promise->events[i].covered |= reading->promise->events[i].done;
}

/* ------------------------------------------------------------------------------------------------------------ sinks */

static void read_sink_add(struct promise *promise, const struct mark_sink *mark)
{
    struct promise_sink *sink = &promise->sinks[mark->sink];
    sink->mark = *mark;
    if (sink->known)
        return;
    sink->known = true;
    sink->paused = 0;
    sink->limit = 0;
    sink->reason[0] = '\0';
    for (size_t i = 0; i < promise->n; i++)
        hold_anew(promise, &promise->events[i], (int)mark->sink);
}

static void read_sink_remove(struct promise *promise, const struct mark_sink *mark)
{
    promise->sinks[mark->sink].sure = false;
    promise->sinks[mark->sink].was_removed = true;
    for (size_t i = 0; i < promise->n; i++)
        promise->events[i].loose = true;
}

static void read_sink_removed(struct promise *promise, const struct mark_sink *mark)
{
    promise->sinks[mark->sink].known = false;
    for (size_t i = 0; i < promise->n; i++) {
        struct promise_hold *hold = &promise->events[i].hold[mark->sink];
        if (hold->may & PLACE_DEAD)
            hold->left = hold->may == PLACE_DEAD ? 2 : 1;
        hold->may = hold->answer = 0;
    }
}

/* Dead letters of the sink go on to `to`, also those of an earlier one of that name. */
static void read_take_dead(struct promise *promise, const struct mark_sink *mark, uint8_t to)
{
    for (size_t i = 0; i < promise->n; i++) {
        struct promise_hold *hold = &promise->events[i].hold[mark->sink];
        hold->before = hold->may;
        hold->may |= hold->left && hold->may ? to : 0;
        hold->left = hold->left ? 1 : 0;
        if (!(hold->may & PLACE_DEAD))
            continue;
        hold->may |= to;
        promise->events[i].loose |= to == PLACE_GONE;
    }
}

static void read_taken_dead(struct promise *promise, const struct mark_sink *mark, uint8_t to)
{
    for (size_t i = 0; i < promise->n; i++) {
        struct promise_hold *hold = &promise->events[i].hold[mark->sink];
        if (hold->before == PLACE_DEAD)
            hold->may = to;
        else if (hold->before & PLACE_DEAD)
            hold->may = (uint8_t)(hold->before | to);
        hold->before = 0;
    }
}

/* It leaves the one and waits for the other, at one moment. */
static void read_move(struct promise *promise, const struct mark_sink *mark)
{
    for (size_t i = 0; i < promise->n; i++) {
        struct promise_hold *from = &promise->events[i].hold[mark->sink], *to = &promise->events[i].hold[mark->on];
        from->before = from->may;
        if (!(from->may & PLACE_DEAD))
            continue;
        from->moving = from->may == PLACE_DEAD ? (uint8_t)(mark->on + 1) : 0;
        from->may |= PLACE_GONE;
        to->may |= PLACE_WAITS;
        to->answer = 0;
    }
}

static void read_moved(struct promise *promise, const struct mark_sink *mark)
{
    for (size_t i = 0; i < promise->n; i++) {
        struct promise_hold *from = &promise->events[i].hold[mark->sink], *to = &promise->events[i].hold[mark->on];
        if (from->before == PLACE_DEAD) {
            from->may = PLACE_GONE;
            to->may = PLACE_WAITS;
        }
        from->moving = from->before = 0;
    }
}

/* What the sink had accepted waits for it again, answers that are on their way are void. (Scenarios rewind without dead
 * letters, and before a segment goes.) */
static void read_rewind(struct promise *promise, const struct mark_sink *mark, bool done)
{
    for (size_t i = 0; i < promise->n; i++) {
        struct promise_hold *hold = &promise->events[i].hold[mark->sink];
        if (!(hold->may & PLACE_GONE))
            continue;
        hold->may = done ? PLACE_WAITS : hold->may | PLACE_WAITS;
        hold->answer = 0;
    }
}

static void read_answer(struct reading *reading, const struct mark_answer *mark, uint8_t place)
{
    struct promise_event *event = promise_find(reading->promise, mark->producer, mark->number);
    if (!event)
        return; /* the sink got something invented: that is found on the disk, too */
    struct promise_hold *hold = &event->hold[mark->sink];
    hold->may |= place;
    hold->answer = place;
    hold->answer_process = mark->process;
    hold->answer_order = ++reading->answers;
    event->loose |= place == PLACE_GONE;
    event->was_dead |= place == PLACE_DEAD;
    reading->promise->sinks[mark->sink].accepts += place == PLACE_GONE;
}

/* -------------------------------------------------------------------------------------------------------- the whole */

/* Which of its events is counted how is not known any more, nor of the other one. */
static void note_moved(struct promise *promise, uint32_t kind, const struct mark_sink *mark)
{
    bool moves = kind == MARK_REQUEUE || kind == MARK_PURGE || kind == MARK_MOVE || kind == MARK_REWIND;
    promise->sinks[mark->sink].moved |= moves;
    if (kind == MARK_MOVE)
        promise->sinks[mark->on].moved = true;
}

static void read_sink_mark(struct promise *promise, uint32_t kind, const struct mark_sink *mark)
{
    struct promise_sink *sink = &promise->sinks[mark->sink];
    note_moved(promise, kind, mark);
    switch (kind) {
    case MARK_SINK_ADD:
        read_sink_add(promise, mark);
        break;
    case MARK_SINK_ADDED:
        sink->sure = true;
        break;
    case MARK_SINK_REMOVE:
        read_sink_remove(promise, mark);
        break;
    case MARK_SINK_REMOVED:
        read_sink_removed(promise, mark);
        break;
    case MARK_SINK_PAUSE:
        sink->paused = -1;
        memcpy(sink->reason, mark->reason, sizeof sink->reason);
        break;
    case MARK_SINK_PAUSED:
        sink->paused = (int)mark->on;
        break;
    case MARK_REQUEUE:
        read_take_dead(promise, mark, PLACE_WAITS);
        break;
    case MARK_REQUEUED:
        read_taken_dead(promise, mark, PLACE_WAITS);
        break;
    case MARK_PURGE:
        read_take_dead(promise, mark, PLACE_GONE);
        break;
    case MARK_PURGED:
        read_taken_dead(promise, mark, PLACE_GONE);
        break;
    case MARK_MOVE:
        read_move(promise, mark);
        break;
    case MARK_MOVED:
        read_moved(promise, mark);
        break;
    case MARK_LIMIT:
        sink->limit = -1;
        break;
    case MARK_LIMITED:
        sink->limit = (int64_t)mark->on;
        break;
    case MARK_REWIND:
    case MARK_REWOUND:
        read_rewind(promise, mark, kind == MARK_REWOUND);
        break;
    default:
        break;
    }
}

static void read_damage(struct promise *promise, const struct mark_answer *mark)
{
    struct promise_event *event = promise_find(promise, mark->producer, mark->number);
    if (event)
        event->damaged = true;
}

static void read_mark(struct reading *reading, const struct lab_mark *mark)
{
    struct promise *promise = reading->promise;
    switch (mark->kind) {
    case MARK_RULES:
        memcpy(&promise->rules, mark->data, sizeof promise->rules);
        break;
    case MARK_OPENED:
        promise->opened = true;
        break;
    case MARK_ENQUEUE:
        read_enqueue(reading, mark->data);
        break;
    case MARK_ENQUEUED:
        read_enqueued(reading, mark->data);
        break;
    case MARK_FLUSH:
        begin_round(reading, mark->data);
        break;
    case MARK_SETTLE:
        begin_round(reading, mark->data);
        break;
    case MARK_FLUSHED:
        read_flushed(reading, mark->data);
        break;
    case MARK_SETTLED:
        read_settled(reading, mark->data);
        break;
    case MARK_SAFE:
        read_safe(reading);
        break;
    case MARK_STAMP:
        raise_id(&promise->newest, mark->data);
        break;
    case MARK_ACCEPT:
        read_answer(reading, mark->data, PLACE_GONE);
        break;
    case MARK_REJECT:
        read_answer(reading, mark->data, PLACE_DEAD);
        break;
    case MARK_DAMAGE:
        read_damage(promise, mark->data);
        break;
    default:
        read_sink_mark(promise, mark->kind, mark->data);
        break;
    }
}

int promise_build(const struct lab_mark *marks, size_t n, enum lab_crash crash, struct promise *ret)
{
    struct reading reading = {.promise = ret};
    memset(ret, 0, sizeof *ret);
    int err = make_room(ret, marks, n);
    for (size_t i = 0; i < n && !err; i++)
        read_mark(&reading, &marks[i]);
    for (size_t i = 0; i < ret->n; i++) {
        struct promise_event *event = &ret->events[i];
        event->must = event->done && !event->damaged && (event->covered || crash == LAB_KILLED);
        if (event->must)
            raise_id(&ret->newest, &event->id);
    }
    return err;
}

void promise_free(struct promise *promise)
{
    free(promise->events);
    free(promise->index);
}
