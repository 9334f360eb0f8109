/* clock_merge.c - several readers as one, in the order of ids, and that order checked.
 *
 * Each reader has one event at hand; the smallest of them goes into a window, a heap of copies, from which the smallest is
 * given when the window is full or all readers are at their end. So events that were stored late are put in their place, as far
 * as the window reaches (WINDOW_EVENTS or WINDOW_BYTES); what comes later still is given when it is met. Late or not is
 * judged where it is stored, in its own spool, and before the window.
 *
 * The last stamp of each producer is kept in a table of PRODUCERS places; two of one place forget each other, so that a
 * regression may be missed among very many producers, but none is made up. */
#include "base/event.h"
#include "handle.h"

enum { PRODUCERS = 1024, WINDOW_EVENTS = 8192, WINDOW_BYTES = 32 << 20 };
#define AHEAD_NS (500 * NS_PER_MS)

struct merge_head {
    struct spool_reader *reader;
    const struct spool_event *event; /* NULL: none at hand */
    bool at_end, any;
    struct spool_id latest;               /* of all that it gave so far */
    struct spool_id producers[PRODUCERS]; /* the last of each, at its node's place */
};

/* One in the window. */
struct merge_entry {
    struct spool_event *event; /* a copy */
    uint64_t content, number;  /* hash; in which order it came in */
    size_t reader;
    enum spool_merge_flaw flaw;
    struct spool_id expected;
};

struct spool_merge {
    struct merge_head *heads;
    size_t count;
    struct merge_entry *window; /* a heap, the smallest first */
    size_t held, held_bytes;
    uint64_t taken;           /* into the window */
    struct merge_entry given; /* what the caller has; its event is NULL before the first */
    struct spool_id last;     /* given before that, whose content is: */
    uint64_t last_content;
    bool any;
};

/* --------------------------------------------------------------------------------------------------------- content */

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++)
        hash = (hash ^ p[i]) * 0x100000001b3ull; /* FNV-1a */
    return (hash ^ n) * 0x100000001b3ull;
}

static uint64_t hash_text(uint64_t hash, const char *text)
{
    return text ? hash_bytes(hash, text, strlen(text)) : hash_bytes(hash, "\xff", 1);
}

/* What makes two events with one id the same: all that a producer gave. */
static uint64_t content_of(const struct spool_event *event)
{
    uint64_t hash = hash_bytes(0xcbf29ce484222325ull, event->body, event->body_size);
    hash = hash_text(hash, event->type);
    hash = hash_text(hash, event->agent);
    hash = hash_text(hash, event->session);
    hash = hash_text(hash, event->content_type);
    hash = hash_text(hash, event->traceparent);
    for (size_t i = 0; event->tags && event->tags[i]; i++)
        hash = hash_text(hash, event->tags[i]);
    if (event->parent)
        hash = hash_bytes(hash, event->parent, sizeof *event->parent);
    const uint64_t numbers[] = {(uint64_t)event->priority, event->occurred_at_ns, event->ttl_ms};
    return hash_bytes(hash, numbers, sizeof numbers);
}

/* -------------------------------------------------------------------------------------------------------- judging */

static size_t place_of(const struct spool_id *id)
{
    uint64_t node = id_node(id);
    return (size_t)((node ^ node >> 24) * 0x9e3779b97f4a7c15ull >> 54);
}

/* Where the event should be: behind its parent, behind the last of its producer, behind the latest of its spool. */
static void judge(const struct merge_head *head, struct merge_entry *ret)
{
    const struct spool_id *id = head->event->id, *own = &head->producers[place_of(id)], *parent = head->event->parent;
    if (parent && spool_id_compare(id, parent) <= 0) {
        ret->flaw = SPOOL_MERGE_BEFORE_PARENT;
        ret->expected = *parent;
    } else if (id_node(own) == id_node(id) && spool_id_compare(id, own) < 0) {
        ret->flaw = SPOOL_MERGE_REGRESSED;
        ret->expected = *own;
    } else if (head->any && spool_id_compare(id, &head->latest) < 0) {
        ret->flaw = SPOOL_MERGE_LATE;
        ret->expected = head->latest;
    } else if (spool_id_time_ns(id) > real_ns() + AHEAD_NS) {
        ret->flaw = SPOOL_MERGE_AHEAD;
    }
}

static void note_order(struct merge_head *head)
{
    const struct spool_id *id = head->event->id;
    struct spool_id *own = &head->producers[place_of(id)];
    if (id_node(own) != id_node(id) || spool_id_compare(id, own) > 0)
        *own = *id;
    if (!head->any || spool_id_compare(id, &head->latest) > 0)
        head->latest = *id;
    head->any = true;
}

/* ----------------------------------------------------------------------------------------------------- the window */

static int compare(const struct merge_entry *a, const struct merge_entry *b)
{
    int order = spool_id_compare(a->event->id, b->event->id);
    if (order)
        return order;
    if (a->content != b->content)
        return a->content < b->content ? -1 : 1;
    return a->number < b->number ? -1 : 1;
}

static void push(struct spool_merge *merge, const struct merge_entry *entry)
{
    size_t at = merge->held++;
    for (; at && compare(entry, &merge->window[(at - 1) / 2]) < 0; at = (at - 1) / 2)
        merge->window[at] = merge->window[(at - 1) / 2];
    merge->window[at] = *entry;
    merge->held_bytes += entry->event->body_size;
}

static struct merge_entry pop(struct spool_merge *merge)
{
    struct merge_entry first = merge->window[0], last = merge->window[--merge->held];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < merge->held) {
        if (child + 1 < merge->held && compare(&merge->window[child + 1], &merge->window[child]) < 0)
            child++;
        if (compare(&last, &merge->window[child]) <= 0)
            break;
        merge->window[at] = merge->window[child];
        at = child;
    }
    merge->window[at] = last;
    merge->held_bytes -= first.event->body_size;
    return first;
}

/* -------------------------------------------------------------------------------------------------------- reading */

static int fill_heads(struct spool_merge *merge, uint32_t timeout_ms)
{
    for (size_t i = 0; i < merge->count; i++) {
        struct merge_head *head = &merge->heads[i];
        if (head->event || head->at_end)
            continue;
        int code = spool_reader_next(head->reader, timeout_ms, &head->event);
        head->at_end = code == SPOOL_ENOTFOUND;
        if (code && !head->at_end)
            return code;
    }
    return SPOOL_OK;
}

/* The one whose event is the smallest; NULL: all are at their end. */
static struct merge_head *choose(const struct spool_merge *merge)
{
    struct merge_head *best = NULL;
    for (size_t i = 0; i < merge->count; i++) {
        struct merge_head *head = &merge->heads[i];
        if (head->event && (!best || spool_id_compare(head->event->id, best->event->id) < 0))
            best = head;
    }
    return best;
}

static int take_in(struct spool_merge *merge, struct merge_head *head)
{
    struct merge_entry entry = {
        .content = content_of(head->event), .number = merge->taken, .reader = (size_t)(head - merge->heads)};
    judge(head, &entry);
    int code = event_copy(head->event, head->event->id, &entry.event);
    if (code)
        return code;
    note_order(head);
    head->event = NULL; /* only now its reader may be asked for the next */
    merge->taken++;
    push(merge, &entry);
    return SPOOL_OK;
}

static int fill_window(struct spool_merge *merge, uint32_t timeout_ms)
{
    while (merge->held < WINDOW_EVENTS && merge->held_bytes < WINDOW_BYTES) {
        int code = fill_heads(merge, timeout_ms);
        struct merge_head *head = code ? NULL : choose(merge);
        if (!head)
            return code;
        code = take_in(merge, head);
        if (code)
            return code;
    }
    return SPOOL_OK;
}

/* It is next to its copies only now. */
static void judge_copies(const struct spool_merge *merge, struct merge_entry *entry)
{
    bool is_copy = merge->any && spool_id_compare(entry->event->id, &merge->last) == 0;
    if (!is_copy || entry->flaw == SPOOL_MERGE_BEFORE_PARENT)
        return;
    entry->flaw = entry->content == merge->last_content ? SPOOL_MERGE_DUPLICATE : SPOOL_MERGE_CONFLICT;
    memset(&entry->expected, 0, sizeof entry->expected);
}

static void give(struct spool_merge *merge)
{
    struct merge_entry entry = pop(merge);
    judge_copies(merge, &entry);
    merge->last = *entry.event->id;
    merge->last_content = entry.content;
    merge->any = true;
    merge->given = entry;
}

int spool_merge_next(struct spool_merge *merge, uint32_t timeout_ms, struct spool_merge_item *ret_item)
{
    const struct spool_merge_item none = {0};
    if (!merge || !ret_item)
        return err_set(SPOOL_EINVAL, "spool_merge_next: NULL is given");
    int code = struct_give(ret_item, &none, sizeof none, "spool_merge_item");
    if (!code)
        code = fill_window(merge, timeout_ms);
    if (code)
        return code;
    if (!merge->held)
        return err_set(SPOOL_ENOTFOUND, "no more events");
    spool_event_free(merge->given.event);
    give(merge);
    const struct spool_merge_item item = {.event = merge->given.event,
                                          .reader = merge->given.reader,
                                          .flaw = merge->given.flaw,
                                          .expected = merge->given.expected};
    return struct_give(ret_item, &item, sizeof item, "spool_merge_item");
}

/* ----------------------------------------------------------------------------------------------------------- life */

int spool_merge_open(struct spool_reader *const *readers, size_t n, struct spool_merge **ret_merge)
{
    if (!readers || !n || n > UINT16_MAX || !ret_merge)
        return err_set(SPOOL_EINVAL, "spool_merge_open: no readers are given, too many, or NULL");
    for (size_t i = 0; i < n; i++)
        if (!readers[i])
            return err_set(SPOOL_EINVAL, "spool_merge_open: reader %zu is NULL", i);
    struct spool_merge *merge = calloc(1, sizeof *merge);
    if (!merge)
        return err_errno(ENOMEM, "merging %zu readers", n);
    merge->heads = calloc(n, sizeof *merge->heads);
    merge->window = calloc(WINDOW_EVENTS, sizeof *merge->window);
    if (!merge->heads || !merge->window) {
        spool_merge_close(merge);
        return err_errno(ENOMEM, "merging %zu readers", n);
    }
    for (size_t i = 0; i < n; i++)
        merge->heads[i].reader = readers[i];
    merge->count = n;
    *ret_merge = merge;
    return SPOOL_OK;
}

void spool_merge_close(struct spool_merge *merge)
{
    if (!merge)
        return;
    for (size_t i = 0; i < merge->held; i++)
        spool_event_free(merge->window[i].event);
    spool_event_free(merge->given.event);
    free(merge->window);
    free(merge->heads);
    free(merge);
}

const char *spool_merge_flaw_name(enum spool_merge_flaw flaw)
{
    static const char *const names[] = {"fine",      "late",     "regressed", "before its parent",
                                        "duplicate", "conflict", "ahead"};
    return (unsigned)flaw < sizeof names / sizeof *names ? names[flaw] : "unknown";
}
