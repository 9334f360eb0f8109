/* found.c - see found.h. */
#include "found.h"

#include "../../../lib/base/event.h"

enum { PATIENCE_MS = 10000 };

/* Room for one more; NULL when memory is out. */
static void *add(void **array, size_t *n, size_t *cap, size_t size)
{
    if (*n == *cap) {
        size_t more = *cap ? *cap * 2 : 64;
        void *grown = realloc(*array, more * size);
        if (!grown)
            return NULL;
        *array = grown;
        *cap = more;
    }
    return memset((char *)*array + (*n)++ * size, 0, size);
}

/* ---------------------------------------------------------------------------------------------------------- the log */

static void read_event(const struct event_view *view, int lane, uint64_t seq, struct found_event *ret)
{
    ret->lane = lane;
    ret->seq = seq;
    ret->id = view->id;
    ret->whole = lab_event_read(&view->event, &ret->producer, &ret->number);
}

static int read_packed(const uint8_t *packed, size_t size, int lane, uint64_t seq, struct found_event *ret)
{
    struct event_view view;
    int code = event_unpack(packed, size, &view);
    if (!code)
        read_event(&view, lane, seq, ret);
    return code;
}

static int read_block(const struct store_block *block, struct found *found)
{
    int code = SPOOL_OK;
    for (uint32_t i = 0; i < block->count && !code; i++) {
        struct event_view view;
        struct found_event *event = add((void **)&found->events, &found->n, &found->cap, sizeof *event);
        code = event ? bundle_event(&block->events, i, &view) : ENOMEM;
        if (!code)
            read_event(&view, block->lane, block->first_seq + i, event);
    }
    return code;
}

static int read_lane(struct store *store, int lane, uint64_t seq, uint64_t end, struct found *found)
{
    struct store_block *block;
    while (seq < end) {
        uint64_t skip_to = seq;
        int code = store_read(store, lane, seq, deadline_in_ms(PATIENCE_MS), &block, &skip_to);
        if (code == SPOOL_ENOTFOUND) {
            found->gaps++;
            return SPOOL_OK;
        }
        if (code == SPOOL_EDAMAGED) {
            found->damaged++;
            seq = skip_to > seq ? skip_to : seq + 1;
            continue;
        }
        if (code)
            return code;
        found->gaps += block->first_seq != seq;
        code = read_block(block, found);
        seq = block->first_seq + block->count;
        store_block_unref(block);
        if (code)
            return code;
    }
    return SPOOL_OK;
}

static int read_log(struct store *store, struct found *found)
{
    uint64_t first[LANES], next[LANES];
    int code = store_bounds(store, first, next);
    for (int lane = 0; lane < LANES && !code; lane++)
        code = read_lane(store, lane, first[lane], next[lane], found);
    return code;
}

/* -------------------------------------------------------------------------------------------------------- the state */

static int keep_sink(void *user, const struct store_sink *sink)
{
    struct found *found = user;
    struct store_sink *copy = add((void **)&found->sinks, &found->sink_count, &found->sink_cap, sizeof *copy);
    if (!copy)
        return ENOMEM;
    *copy = *sink;
    return 0;
}

static struct found_row *add_row(struct found *found, const char *sink, bool dead)
{
    struct found_row *row = add((void **)&found->rows, &found->row_count, &found->row_cap, sizeof *row);
    if (!row)
        return NULL;
    snprintf(row->sink, sizeof row->sink, "%s", sink);
    row->dead = dead;
    return row;
}

struct reading_rows {
    struct found *found;
    const char *sink;
};

static int keep_retry(void *user, const struct store_retry *retry)
{
    struct reading_rows *reading = user;
    struct found_row *row = add_row(reading->found, reading->sink, false);
    if (!row)
        return ENOMEM;
    row->event.lane = retry->lane;
    row->event.seq = retry->seq;
    return 0;
}

static int fill_retry(struct store *store, uint32_t sink_id, struct found_row *row)
{
    uint8_t *packed;
    size_t size;
    int code = store_retry_event(store, sink_id, row->event.lane, row->event.seq, &packed, &size);
    if (code)
        return code;
    code = read_packed(packed, size, row->event.lane, row->event.seq, &row->event);
    free(packed);
    return code;
}

static int read_retries(struct store *store, const struct store_sink *sink, struct found *found)
{
    struct reading_rows reading = {found, sink->name};
    size_t before = found->row_count;
    int code = store_retry_each(store, sink->id, keep_retry, &reading);
    for (size_t i = before; i < found->row_count && !code; i++)
        code = fill_retry(store, sink->id, &found->rows[i]);
    return code;
}

static int keep_dead(void *user, const struct store_dead *dead)
{
    struct found_row *row = add_row(user, dead->sink, true);
    return row ? read_packed(dead->packed, dead->packed_size, dead->row.lane, dead->row.seq, &row->event) : ENOMEM;
}

/* ---------------------------------------------------------------------------------------------------------- sorting */

static int compare_numbers(const struct found_event *a, const struct found_event *b)
{
    if (a->producer != b->producer)
        return a->producer < b->producer ? -1 : 1;
    return (a->number > b->number) - (a->number < b->number);
}

static int compare_places(const struct found_event *a, const struct found_event *b)
{
    if (a->lane != b->lane)
        return a->lane < b->lane ? -1 : 1;
    return (a->seq > b->seq) - (a->seq < b->seq);
}

static int by_number(const void *a, const void *b)
{
    const struct found_event *x = *(const struct found_event *const *)a, *y = *(const struct found_event *const *)b;
    int order = compare_numbers(x, y);
    return order ? order : compare_places(x, y);
}

static int by_lane(const void *a, const void *b)
{
    const struct found_event *x = *(const struct found_event *const *)a, *y = *(const struct found_event *const *)b;
    if (x->producer != y->producer)
        return x->producer < y->producer ? -1 : 1;
    return compare_places(x, y);
}

static int by_id(const void *a, const void *b)
{
    const struct found_event *x = *(const struct found_event *const *)a, *y = *(const struct found_event *const *)b;
    return memcmp(&x->id, &y->id, sizeof x->id);
}

static int by_row(const void *a, const void *b)
{
    const struct found_row *x = a, *y = b;
    int order = compare_numbers(&x->event, &y->event);
    if (!order)
        order = strcmp(x->sink, y->sink);
    return order ? order : x->dead - y->dead;
}

static const struct found_event **sorted(const struct found *found, int (*order)(const void *, const void *))
{
    const struct found_event **all = malloc((found->n + 1) * sizeof *all);
    for (size_t i = 0; all && i < found->n; i++)
        all[i] = &found->events[i];
    if (all)
        qsort(all, found->n, sizeof *all, order);
    return all;
}

static int sort_all(struct found *found)
{
    found->by_number = sorted(found, by_number);
    found->by_lane = sorted(found, by_lane);
    found->by_id = sorted(found, by_id);
    if (found->row_count)
        qsort(found->rows, found->row_count, sizeof *found->rows, by_row);
    return found->by_number && found->by_lane && found->by_id ? SPOOL_OK : ENOMEM;
}

int found_read(struct spool *spool, struct found *ret)
{
    memset(ret, 0, sizeof *ret);
    ret->stats.size = sizeof ret->stats;
    int code = read_log(spool->store, ret);
    if (!code)
        code = store_sink_each(spool->store, keep_sink, ret);
    for (size_t i = 0; i < ret->sink_count && !code; i++)
        code = read_retries(spool->store, &ret->sinks[i], ret);
    if (!code)
        code = store_dead_each(spool->store, NULL, keep_dead, ret);
    if (!code)
        code = sort_all(ret);
    return code ? code : spool_stats(spool, &ret->stats);
}

void found_free(struct found *found)
{
    free(found->events);
    free(found->rows);
    free(found->sinks);
    free(found->by_number);
    free(found->by_lane);
    free(found->by_id);
    memset(found, 0, sizeof *found);
}

/* ---------------------------------------------------------------------------------------------------------- looking */

static bool is_event(const struct found_event *event, uint32_t producer, uint32_t number)
{
    return event->producer == producer && event->number == number;
}

const struct found_event *found_in_log(const struct found *found, uint32_t producer, uint32_t number)
{
    const struct found_event wanted = {.producer = producer, .number = number};
    size_t low = 0, high = found->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (compare_numbers(found->by_number[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < found->n && is_event(found->by_number[low], producer, number) ? found->by_number[low] : NULL;
}

/* The place of its first row, or of one behind it. */
static size_t first_row(const struct found *found, uint32_t producer, uint32_t number)
{
    const struct found_event wanted = {.producer = producer, .number = number};
    size_t low = 0, high = found->row_count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (compare_numbers(&found->rows[middle].event, &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool found_anywhere(const struct found *found, uint32_t producer, uint32_t number)
{
    size_t row = first_row(found, producer, number);
    return found_in_log(found, producer, number) ||
           (row < found->row_count && is_event(&found->rows[row].event, producer, number));
}

const struct store_sink *found_sink(const struct found *found, const char *name)
{
    for (size_t i = 0; i < found->sink_count; i++) {
        if (strcmp(found->sinks[i].name, name) == 0)
            return &found->sinks[i];
    }
    return NULL;
}

const struct found_row *found_row(const struct found *found, const char *sink, bool dead, uint32_t producer,
                                  uint32_t number)
{
    for (size_t i = first_row(found, producer, number); i < found->row_count; i++) {
        const struct found_row *row = &found->rows[i];
        if (!is_event(&row->event, producer, number))
            break;
        if (row->dead == dead && strcmp(row->sink, sink) == 0)
            return row;
    }
    return NULL;
}

bool found_is_passed(const struct store_sink *sink, int lane, uint64_t seq)
{
    if (seq < sink->cursor[lane])
        return true;
    for (uint32_t i = 0; i < sink->range_count[lane]; i++) {
        if (seq - sink->ranges[lane][i].first < sink->ranges[lane][i].count)
            return true;
    }
    return false;
}

bool found_waits(const struct found *found, const struct store_sink *sink, uint32_t producer, uint32_t number)
{
    const struct found_event *event = found_in_log(found, producer, number);
    if (event && !found_is_passed(sink, event->lane, event->seq))
        return true;
    return found_row(found, sink->name, false, producer, number) != NULL;
}

/* -------------------------------------------------------------------------------------------------------- comparing */

static bool same_event(const struct found_event *a, const struct found_event *b)
{
    return a->lane == b->lane && a->seq == b->seq && is_event(a, b->producer, b->number) &&
           memcmp(&a->id, &b->id, sizeof a->id) == 0;
}

static bool same_sink(const struct store_sink *a, const struct store_sink *b)
{
    bool same = strcmp(a->name, b->name) == 0 && a->id == b->id && a->generation == b->generation &&
                a->paused == b->paused && a->delivered == b->delivered && a->retry_rows == b->retry_rows &&
                a->dead_rows == b->dead_rows && memcmp(a->cursor, b->cursor, sizeof a->cursor) == 0;
    for (int lane = 0; lane < LANES; lane++)
        same = same && a->range_count[lane] == b->range_count[lane];
    return same;
}

bool found_differs(const struct found *a, const struct found *b, char *why, size_t size)
{
    const char *what = a->n != b->n                     ? "the number of events in the log"
                       : a->sink_count != b->sink_count ? "the number of sinks"
                       : a->row_count != b->row_count   ? "the number of retries and dead letters"
                                                        : NULL;
    for (size_t i = 0; i < a->n && !what; i++)
        what = same_event(&a->events[i], &b->events[i]) ? NULL : "an event of the log";
    for (size_t i = 0; i < a->sink_count && !what; i++)
        what = same_sink(&a->sinks[i], &b->sinks[i]) ? NULL : "a sink's place or count";
    for (size_t i = 0; i < a->row_count && !what; i++)
        what = same_event(&a->rows[i].event, &b->rows[i].event) ? NULL : "a retry or dead letter";
    if (what)
        snprintf(why, size, "closing and opening once more changed %s (%zu, then %zu events)", what, a->n, b->n);
    return what != NULL;
}
