/* dead.c - dead letters: listing, looking at one, requeueing, editing, purging. (dead_json.c exports and imports.) */
#include "handle.h"

const char *spool_attempt_kind_name(enum spool_attempt_kind kind)
{
    static const char *const names[] = {
        [SPOOL_ATTEMPT_FAILED] = "failed",     [SPOOL_ATTEMPT_REQUEUED] = "requeued", [SPOOL_ATTEMPT_EDITED] = "edited",
        [SPOOL_ATTEMPT_IMPORTED] = "imported", [SPOOL_ATTEMPT_SUMMARY] = "summary",
    };
    bool known = kind >= SPOOL_ATTEMPT_FAILED && kind <= SPOOL_ATTEMPT_SUMMARY;
    return known ? names[kind] : "unknown";
}

/* ---------------------------------------------------------------------------------------------------------- looking */

struct listing {
    int (*each)(void *user, const struct spool_dead_letter *letter);
    void *user;
};

void history_texts(const struct store_attempt *attempts, size_t n, struct history_texts *ret)
{
    for (size_t i = 0; i < n; i++) {
        memcpy(ret->reasons[i], attempts[i].reason, attempts[i].reason_size);
        ret->reasons[i][attempts[i].reason_size] = 0;
        ret->attempts[i] = (struct spool_attempt){
            .size = sizeof ret->attempts[i],
            .kind = (enum spool_attempt_kind)attempts[i].kind,
            .count = attempts[i].count,
            .at_ns = attempts[i].at_ns,
            .until_ns = attempts[i].until_ns,
            .reason = ret->reasons[i],
        };
    }
}

static int list_one(void *user, const struct store_dead *dead)
{
    struct listing *listing = user;
    struct history_texts history;
    struct event_view view;
    if (event_unpack(dead->packed, dead->packed_size, &view))
        return 0; /* damaged: spool_verify() names it */
    history_texts(dead->attempts, dead->attempt_count, &history);
    const struct spool_dead_letter letter = {
        .size = sizeof letter,
        .sink = dead->sink,
        .event = &view.event,
        .attempts = dead->row.attempts,
        .died_at_ns = dead->died_ns,
        .reason = dead->row.reason,
        .history = history.attempts,
        .history_count = dead->attempt_count,
    };
    return listing->each(listing->user, &letter);
}

int spool_dead_each(struct spool *spool, const char *sink,
                    int (*each)(void *user, const struct spool_dead_letter *letter), void *user)
{
    struct listing listing = {.each = each, .user = user};
    int code = handle_check(spool);
    if (!code && !each)
        code = err_set(SPOOL_EINVAL, "spool_dead_each: no callback");
    return code ? code : store_dead_each(spool->store, sink, list_one, &listing);
}

/* A letter with all that it points to: its texts stand behind it. */
struct letter_copy {
    struct spool_dead_letter letter;
    struct history_texts history;
    char sink[SINK_NAME_MAX + 1], reason[REASON_MAX + 1];
    struct spool_event *event;
};

struct getting {
    struct letter_copy *copy;
    int code;
};

static int keep_letter(void *user, const struct store_dead *dead)
{
    struct getting *getting = user;
    struct event_view view;
    if (event_unpack(dead->packed, dead->packed_size, &view))
        return 0;
    struct letter_copy *copy = calloc(1, sizeof *copy);
    getting->code = copy ? event_copy(&view.event, &view.id, &copy->event) : err_errno(ENOMEM, "a dead letter");
    if (getting->code) {
        free(copy);
        return 1;
    }
    memcpy(copy->sink, dead->sink, sizeof copy->sink);
    memcpy(copy->reason, dead->row.reason, sizeof copy->reason);
    history_texts(dead->attempts, dead->attempt_count, &copy->history);
    copy->letter = (struct spool_dead_letter){
        .size = sizeof copy->letter,
        .sink = copy->sink,
        .event = copy->event,
        .attempts = dead->row.attempts,
        .died_at_ns = dead->died_ns,
        .reason = copy->reason,
        .history = copy->history.attempts,
        .history_count = dead->attempt_count,
    };
    getting->copy = copy;
    return 1;
}

int spool_dead_get(struct spool *spool, const char *sink, const struct spool_id *id,
                   struct spool_dead_letter **ret_letter)
{
    struct getting getting = {.code = SPOOL_ENOTFOUND};
    int code = handle_check(spool);
    if (!code && (!id || !ret_letter))
        code = err_set(SPOOL_EINVAL, "spool_dead_get: NULL is given");
    if (!code)
        code = store_dead_find(spool->store, sink, id, keep_letter, &getting);
    if (code && code != 1)
        return code;
    if (getting.code == SPOOL_ENOTFOUND)
        return err_set(SPOOL_ENOTFOUND, "there is no dead letter of that id%s%s", sink ? " of sink " : "",
                       sink ? sink : "");
    if (!getting.code)
        *ret_letter = &getting.copy->letter;
    return getting.code;
}

void spool_dead_letter_free(struct spool_dead_letter *letter)
{
    struct letter_copy *copy = (struct letter_copy *)letter; /* its first member */
    if (!copy)
        return;
    spool_event_free(copy->event);
    free(copy);
}

/* --------------------------------------------------------------------------------------------------------- changing */

static int change(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n,
                  int (*how)(struct store *, const char *, const struct spool_id *, uint64_t *))
{
    uint64_t n = 0;
    int code = handle_check(spool);
    if (!code)
        code = how(spool->store, sink, id, &n);
    if (!code && ret_n)
        *ret_n = n;
    return code;
}

int spool_dead_requeue(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n)
{
    return change(spool, sink, id, ret_n, store_dead_requeue);
}

int spool_dead_purge(struct spool *spool, const char *sink, const struct spool_id *id, uint64_t *ret_n)
{
    return change(spool, sink, id, ret_n, store_dead_purge);
}

int spool_dead_requeue_to(struct spool *spool, const char *sink, const struct spool_id *id, const char *to,
                          uint64_t *ret_n)
{
    uint64_t n = 0;
    int code = handle_check(spool);
    if (!code)
        code = store_dead_requeue_to(spool->store, sink, id, to, &n);
    if (!code && ret_n)
        *ret_n = n;
    return code;
}

static int edit(struct spool *spool, const char *sink, const struct spool_id *id, const struct spool_event *event,
                uint64_t *ret_n)
{
    struct event_measure measure;
    int code = event_measure(event, store_frame_max(spool->store), &measure);
    if (code)
        return code;
    uint8_t *packed = malloc(measure.packed_size);
    if (!packed)
        return err_errno(ENOMEM, "an event of %zu bytes", measure.packed_size);
    event_pack(event, &measure, id, packed);
    code = store_dead_edit(spool->store, sink, id, packed, measure.packed_size, ret_n);
    free(packed);
    return code;
}

int spool_dead_edit(struct spool *spool, const char *sink, const struct spool_id *id, const struct spool_event *event,
                    uint64_t *ret_n)
{
    int code = handle_check(spool);
    if (!code && (!id || !event))
        code = err_set(SPOOL_EINVAL, "spool_dead_edit: NULL is given");
    if (!code && event->id && spool_id_compare(event->id, id) != 0)
        code = err_set(SPOOL_EID, "an edited dead letter keeps its id: the event has another one");
    return code ? code : edit(spool, sink, id, event, ret_n);
}
