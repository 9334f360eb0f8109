/* clock_merge.c - several readers as one, and the order of events checked.
 *
 * Each reader has one event at hand, of which the smallest comes next. A reader's own events are in order but for those that
 * were stored late; these are given when they are met, and said to be late.
 *
 * The last stamp of each producer is kept in a table of PRODUCERS places; two of one place forget each other, so that a
 * regression may be missed among very many producers, but none is made up. */
#include "handle.h"

enum { PRODUCERS = 4096 };
#define AHEAD_NS (500 * NS_PER_MS)

struct merge_head {
    struct spool_reader *reader;
    const struct spool_event *event; /* NULL: none at hand */
    bool at_end;
};

struct spool_merge {
    struct merge_head *heads;
    size_t count;
    struct spool_id latest; /* of all given so far */
    uint64_t content;       /* hash of the event given last, whose id is: */
    struct spool_id last;
    bool any;
    size_t given;                         /* whose event the caller has; count: none */
    struct spool_id producers[PRODUCERS]; /* the last of each, at its node's place */
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

/* ---------------------------------------------------------------------------------------------------------- order */

static bool comes_before(const struct merge_head *a, const struct merge_head *b)
{
    int order = spool_id_compare(a->event->id, b->event->id);
    return order ? order < 0 : content_of(a->event) < content_of(b->event);
}

static size_t place_of(const struct spool_id *id)
{
    uint64_t node = id_node(id);
    return (size_t)((node ^ node >> 24) * 0x9e3779b97f4a7c15ull >> 52);
}

/* Where the event should be: behind its parent, behind the last of its producer, behind the latest of all. */
static void judge(const struct spool_merge *merge, const struct spool_event *event, uint64_t content,
                  struct spool_merge_item *ret)
{
    const struct spool_id *id = event->id, *own = &merge->producers[place_of(id)];
    bool is_copy = merge->any && spool_id_compare(id, &merge->last) == 0;
    if (event->parent && spool_id_compare(id, event->parent) <= 0) {
        ret->flaw = SPOOL_MERGE_BEFORE_PARENT;
        ret->expected = *event->parent;
    } else if (is_copy) {
        ret->flaw = content == merge->content ? SPOOL_MERGE_DUPLICATE : SPOOL_MERGE_CONFLICT;
    } else if (id_node(own) == id_node(id) && spool_id_compare(id, own) <= 0) {
        ret->flaw = SPOOL_MERGE_REGRESSED;
        ret->expected = *own;
    } else if (merge->any && spool_id_compare(id, &merge->latest) < 0) {
        ret->flaw = SPOOL_MERGE_LATE;
        ret->expected = merge->latest;
    } else if (spool_id_time_ns(id) > real_ns() + AHEAD_NS) {
        ret->flaw = SPOOL_MERGE_AHEAD;
    }
}

static void remember(struct spool_merge *merge, const struct spool_event *event, uint64_t content)
{
    struct spool_id *own = &merge->producers[place_of(event->id)];
    if (id_node(own) != id_node(event->id) || spool_id_compare(event->id, own) > 0)
        *own = *event->id;
    if (!merge->any || spool_id_compare(event->id, &merge->latest) > 0)
        merge->latest = *event->id;
    merge->last = *event->id;
    merge->content = content;
    merge->any = true;
}

/* -------------------------------------------------------------------------------------------------------- reading */

/* The caller is done with the event that it has: only now its reader may be asked for the next. */
static void take_back(struct spool_merge *merge)
{
    if (merge->given < merge->count)
        merge->heads[merge->given].event = NULL;
    merge->given = merge->count;
}

static int fill(struct spool_merge *merge, uint32_t timeout_ms)
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

static size_t choose(const struct spool_merge *merge)
{
    size_t best = merge->count;
    for (size_t i = 0; i < merge->count; i++)
        if (merge->heads[i].event && (best == merge->count || comes_before(&merge->heads[i], &merge->heads[best])))
            best = i;
    return best;
}

int spool_merge_next(struct spool_merge *merge, uint32_t timeout_ms, struct spool_merge_item *ret_item)
{
    if (!merge || !ret_item)
        return err_set(SPOOL_EINVAL, "spool_merge_next: NULL is given");
    take_back(merge);
    int code = fill(merge, timeout_ms);
    if (code)
        return code;
    size_t at = choose(merge);
    if (at == merge->count)
        return err_set(SPOOL_ENOTFOUND, "no more events");
    const struct spool_event *event = merge->heads[at].event;
    struct spool_merge_item item = {.event = event, .reader = at};
    uint64_t content = content_of(event);
    judge(merge, event, content, &item);
    code = struct_give(ret_item, &item, sizeof item, "spool_merge_item");
    if (code)
        return code;
    remember(merge, event, content);
    merge->given = at;
    return SPOOL_OK;
}

/* ----------------------------------------------------------------------------------------------------------- life */

int spool_merge_open(struct spool_reader *const *readers, size_t n, struct spool_merge **ret_merge)
{
    if (!readers || !n || n > SIZE_MAX / 64 || !ret_merge)
        return err_set(SPOOL_EINVAL, "spool_merge_open: no readers are given, or NULL");
    for (size_t i = 0; i < n; i++)
        if (!readers[i])
            return err_set(SPOOL_EINVAL, "spool_merge_open: reader %zu is NULL", i);
    struct spool_merge *merge = calloc(1, sizeof *merge);
    struct merge_head *heads = calloc(n, sizeof *heads);
    if (!merge || !heads) {
        free(merge);
        free(heads);
        return err_errno(ENOMEM, "merging %zu readers", n);
    }
    for (size_t i = 0; i < n; i++)
        heads[i].reader = readers[i];
    merge->heads = heads;
    merge->count = merge->given = n;
    *ret_merge = merge;
    return SPOOL_OK;
}

void spool_merge_close(struct spool_merge *merge)
{
    if (!merge)
        return;
    free(merge->heads);
    free(merge);
}

const char *spool_merge_flaw_name(enum spool_merge_flaw flaw)
{
    static const char *const names[] = {"fine",      "late",     "regressed", "before its parent",
                                        "duplicate", "conflict", "ahead"};
    return (unsigned)flaw < sizeof names / sizeof *names ? names[flaw] : "unknown";
}
