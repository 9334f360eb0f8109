/* reader.c - reading without consuming: the lanes, merged by id.
 *
 * Each lane is read in the order of its sequence numbers, and of the four events at hand the one with the smallest id comes
 * next. Within a lane that is nearly the order of ids: a journal that was taken over late brings older ones. */
#include "handle.h"

struct lane_head {
    struct store_block *block; /* NULL: nothing at hand */
    uint32_t at;               /* which event of the block */
    uint64_t next_seq;         /* of the block after */
    bool at_end;               /* as of `end_seen` there was none */
    uint32_t end_seen;         /* store_change() before that look */
    struct spool_id id;        /* of the event */
};

struct spool_reader {
    struct spool *spool;
    struct lane_head lane[LANES];
    struct spool_id from, after;
    bool has_after;
    uint64_t since_ns, until_ns;
    char *type, *agent, *session;
    uint32_t flags;
    uint32_t patience_ms; /* of one look beside a peer that commits */
    struct event_view view;
    struct store_block *held; /* what the view points into */
};

/* ------------------------------------------------------------------------------------------------------- a lane */

static void note_id(struct lane_head *head)
{
    bundle_id(&head->block->events, head->at, &head->id);
}

static void drop_block(struct lane_head *head)
{
    store_block_unref(head->block);
    head->block = NULL;
}

/* Until when a look waits for a peer that commits. Who follows comes again soon; to who does not, it would be the end. */
static uint64_t look_until(const struct spool_reader *reader, uint64_t deadline)
{
    uint64_t at_least = deadline_in_ms(reader->patience_ms);
    return deadline > at_least ? deadline : at_least;
}

/* Brings the lane's next block; SPOOL_ENOTFOUND when there is none yet. Damaged ones are passed over: they are counted. */
static int load_block(struct spool_reader *reader, struct lane_head *head, int lane, uint64_t deadline)
{
    for (;;) {
        uint64_t skip_to = 0;
        int code = store_read(reader->spool->store, lane, head->next_seq, look_until(reader, deadline), &head->block,
                              &skip_to);
        if (code == SPOOL_EDAMAGED && skip_to > head->next_seq) {
            head->next_seq = skip_to;
            continue;
        }
        if (code)
            return code;
        uint64_t skip = head->next_seq > head->block->first_seq ? head->next_seq - head->block->first_seq : 0;
        head->next_seq = head->block->first_seq + head->block->count;
        if (skip < head->block->count) {
            head->at = (uint32_t)skip;
            note_id(head);
            return SPOOL_OK;
        }
        drop_block(head);
    }
}

/* The same, but a lane that is at its end is not asked again before something has changed. */
static int need_block(struct spool_reader *reader, int lane, uint64_t deadline)
{
    struct lane_head *head = &reader->lane[lane];
    uint32_t change = store_change(reader->spool->store);
    if (head->at_end && head->end_seen == change)
        return SPOOL_ENOTFOUND;
    int code = load_block(reader, head, lane, deadline);
    head->at_end = code == SPOOL_ENOTFOUND;
    head->end_seen = change;
    return code;
}

static void advance(struct lane_head *head)
{
    if (++head->at < head->block->count)
        note_id(head);
    else
        drop_block(head);
}

/* ------------------------------------------------------------------------------------------------------- choosing */

/* The lane whose event comes next; -1: none has one. */
static int choose(struct spool_reader *reader, uint64_t deadline, int *ret_lane)
{
    *ret_lane = -1;
    for (int lane = 0; lane < LANES; lane++) {
        struct lane_head *head = &reader->lane[lane];
        int code = head->block ? SPOOL_OK : need_block(reader, lane, deadline);
        if (code == SPOOL_ENOTFOUND)
            continue;
        if (code)
            return code;
        if (*ret_lane < 0 || spool_id_compare(&head->id, &reader->lane[*ret_lane].id) < 0)
            *ret_lane = lane;
    }
    return SPOOL_OK;
}

static bool equals(const char *want, const char *have)
{
    size_t n = want ? strlen(want) : 0;
    if (!want)
        return true;
    if (n && want[n - 1] == '*')
        return have && strncmp(want, have, n - 1) == 0;
    return have && strcmp(want, have) == 0;
}

static bool exactly(const char *want, const char *have)
{
    return !want || (have && strcmp(want, have) == 0);
}

static bool is_wanted_id(const struct spool_reader *reader, const struct spool_id *id)
{
    uint64_t at = spool_id_time_ns(id);
    return at >= reader->since_ns && (!reader->until_ns || at <= reader->until_ns) &&
           (!reader->has_after || spool_id_compare(id, &reader->after) > 0);
}

static bool is_wanted(const struct spool_reader *reader, const struct spool_event *event)
{
    return equals(reader->type, event->type) && exactly(reader->agent, event->agent) &&
           exactly(reader->session, event->session);
}

/* Takes the event at the head of the lane into the view; false: not one that is asked for. */
static bool take(struct spool_reader *reader, struct lane_head *head)
{
    bool wanted = is_wanted_id(reader, &head->id);
    if (wanted && bundle_event(&head->block->events, head->at, &reader->view) == SPOOL_OK)
        wanted = is_wanted(reader, &reader->view.event);
    else
        wanted = false;
    if (wanted) {
        store_block_unref(reader->held);
        reader->held = head->block;
        store_block_ref(reader->held);
    }
    advance(head);
    return wanted;
}

/* ------------------------------------------------------------------------------------------------------ public calls */

static int copy_text(const char *text, char **ret)
{
    if (!text)
        return SPOOL_OK;
    *ret = strdup(text);
    return *ret ? SPOOL_OK : err_errno(ENOMEM, "opening a reader");
}

static int seek_start(struct spool_reader *reader)
{
    uint64_t first[LANES], next[LANES];
    int code = store_bounds(reader->spool->store, first, next);
    for (int lane = 0; lane < LANES && !code; lane++) {
        uint64_t *seq = &reader->lane[lane].next_seq;
        if (reader->flags & SPOOL_READER_TAIL)
            *seq = next[lane];
        else if (reader->since_ns || reader->has_after)
            code = store_seek(reader->spool->store, lane, &reader->from, seq);
        else
            *seq = first[lane];
    }
    return code;
}

static int set_up(struct spool_reader *reader, const struct spool_reader_options *options)
{
    if (options->flags & ~(uint32_t)(SPOOL_READER_FOLLOW | SPOOL_READER_TAIL))
        return err_set(SPOOL_EOPTION, "spool_reader_options.flags has the unknown bits 0x%x", options->flags);
    reader->since_ns = options->since_ns;
    reader->until_ns = options->until_ns;
    reader->flags = options->flags;
    id_min_at_ns(options->since_ns, &reader->from);
    if (options->after) {
        reader->after = *options->after;
        reader->has_after = true;
        if (spool_id_compare(&reader->after, &reader->from) > 0)
            reader->from = reader->after;
    }
    int code = copy_text(options->type, &reader->type);
    if (!code)
        code = copy_text(options->agent, &reader->agent);
    if (!code)
        code = copy_text(options->session, &reader->session);
    return code ? code : seek_start(reader);
}

int spool_reader_open(struct spool *spool, const struct spool_reader_options *options, struct spool_reader **ret_reader)
{
    struct spool_reader_options taken = {0};
    int code = handle_check(spool);
    if (!code && !ret_reader)
        code = err_set(SPOOL_EINVAL, "ret_reader is NULL");
    if (!code && options)
        code = struct_take(&taken, sizeof taken, options, options->size, "spool_reader_options");
    if (code)
        return code;
    struct spool_reader *reader = calloc(1, sizeof *reader);
    if (!reader)
        return err_errno(ENOMEM, "opening a reader");
    reader->spool = spool;
    code = set_up(reader, &taken);
    if (code) {
        spool_reader_close(reader);
        return code;
    }
    *ret_reader = reader;
    return SPOOL_OK;
}

/* At the end: waits for a change when following. */
static int at_end(struct spool_reader *reader, uint32_t seen, uint64_t deadline)
{
    if (!(reader->flags & SPOOL_READER_FOLLOW))
        return err_set(SPOOL_ENOTFOUND, "no more events");
    if (store_wait_change(reader->spool->store, seen, deadline) == SPOOL_OK)
        return SPOOL_OK;
    return err_set(SPOOL_ETIMEOUT, "no new event in time");
}

int spool_reader_next(struct spool_reader *reader, uint32_t timeout_ms, const struct spool_event **ret_event)
{
    uint64_t deadline = deadline_in_ms(timeout_ms);
    if (!reader || !ret_event)
        return err_set(SPOOL_EINVAL, "spool_reader_next: NULL is given");
    int code = handle_check(reader->spool);
    reader->patience_ms = timeout_ms || reader->flags & SPOOL_READER_FOLLOW ? 250 : 5000;
    while (!code) {
        int lane;
        uint32_t seen = store_change(reader->spool->store);
        code = choose(reader, deadline, &lane);
        if (code)
            break;
        if (lane < 0) {
            code = at_end(reader, seen, deadline);
        } else if (take(reader, &reader->lane[lane])) {
            *ret_event = &reader->view.event;
            return SPOOL_OK;
        }
    }
    return code;
}

void spool_reader_close(struct spool_reader *reader)
{
    if (!reader)
        return;
    for (int lane = 0; lane < LANES; lane++)
        drop_block(&reader->lane[lane]);
    store_block_unref(reader->held);
    free(reader->type);
    free(reader->agent);
    free(reader->session);
    free(reader);
}
