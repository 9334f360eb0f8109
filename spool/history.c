/* history.c - the history of a retried event or a dead letter: one entry an attempt, and one for what people did to it.
 *
 * Entries stand behind each other, the oldest first. Little-endian:
 *
 *    0  1  enum spool_attempt_kind         1  1  size of the reason; 255: the same as that of the entry before
 *    2  8  when, wall clock                10    SUMMARY only: u32 how many entries it stands for, u64 until when
 *          the reason
 *
 * Valid if the kinds are known, the reasons fit, and there are at most STORE_ATTEMPTS_MAX. A row has limited room, so
 * that it stays within a leaf page of LMDB: the oldest entries are summed up into one, which keeps the first one's time
 * and reason. A sink that fails in the same way each time costs ten bytes an attempt.
 *
 * Version recipe: a new kind is a new value, which an older library refuses; so raise STATE_VERSION with it. */
#include "history.h"

#include <string.h>

#include "../lib/base/bytes.h"
#include "../lib/base/error.h"
#include "../lib/base/utf8.h"

enum { ENTRY_HEADER = 10, SUMMARY_MORE = 12, SAME_REASON = 255 };

/* ---------------------------------------------------------------------------------------------------------- reading */

static int damaged(void)
{
    return err_set(SPOOL_EDAMAGED, "the history of an event does not fit its row");
}

/* One entry; `last` is the one before, or NULL. Returns the bytes it takes, 0 if it is none. */
static size_t read_entry(const uint8_t *bytes, size_t avail, const struct store_attempt *last,
                         struct store_attempt *ret)
{
    if (avail < ENTRY_HEADER || bytes[0] < SPOOL_ATTEMPT_FAILED || bytes[0] > SPOOL_ATTEMPT_SUMMARY)
        return 0;
    bool summary = bytes[0] == SPOOL_ATTEMPT_SUMMARY, same = bytes[1] == SAME_REASON;
    size_t header = ENTRY_HEADER + (summary ? SUMMARY_MORE : 0), size = header + (same ? 0 : bytes[1]);
    if (size > avail || (same && !last) || (!same && bytes[1] > STORE_ATTEMPT_REASON_MAX))
        return 0;
    ret->kind = bytes[0];
    ret->at_ns = get_u64(bytes + 2);
    ret->count = summary ? get_u32(bytes + ENTRY_HEADER) : 1;
    ret->until_ns = summary ? get_u64(bytes + ENTRY_HEADER + 4) : ret->at_ns;
    ret->reason = same ? last->reason : (const char *)bytes + header;
    ret->reason_size = same ? last->reason_size : bytes[1];
    return size;
}

int history_read(const uint8_t *bytes, size_t size, struct store_attempt ret[STORE_ATTEMPTS_MAX], size_t *ret_n)
{
    size_t n = 0;
    for (size_t at = 0, taken; at < size; at += taken) {
        if (n == STORE_ATTEMPTS_MAX)
            return damaged();
        taken = read_entry(bytes + at, size - at, n ? &ret[n - 1] : NULL, &ret[n]);
        if (!taken)
            return damaged();
        n++;
    }
    *ret_n = n;
    return SPOOL_OK;
}

/* ---------------------------------------------------------------------------------------------------------- writing */

static bool same_reason(const struct store_attempt *a, const struct store_attempt *b)
{
    return a->reason_size == b->reason_size && memcmp(a->reason, b->reason, a->reason_size) == 0;
}

static size_t packed_size(const struct store_attempt *entries, size_t i)
{
    size_t size = ENTRY_HEADER + (entries[i].kind == SPOOL_ATTEMPT_SUMMARY ? SUMMARY_MORE : 0);
    return size + (i && same_reason(&entries[i], &entries[i - 1]) ? 0 : entries[i].reason_size);
}

static size_t packed_size_of_all(const struct store_attempt *entries, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++)
        size += packed_size(entries, i);
    return size;
}

static size_t pack_entry(const struct store_attempt *entries, size_t i, uint8_t *out)
{
    const struct store_attempt *entry = &entries[i];
    bool same = i && same_reason(entry, &entries[i - 1]);
    size_t at = ENTRY_HEADER;
    out[0] = (uint8_t)entry->kind;
    out[1] = same ? SAME_REASON : (uint8_t)entry->reason_size;
    put_u64(out + 2, entry->at_ns);
    if (entry->kind == SPOOL_ATTEMPT_SUMMARY) {
        put_u32(out + at, entry->count);
        put_u64(out + at + 4, entry->until_ns);
        at += SUMMARY_MORE;
    }
    if (!same && entry->reason_size) {
        memcpy(out + at, entry->reason, entry->reason_size);
        at += entry->reason_size;
    }
    return at;
}

/* The two oldest become one. */
static void sum_up(struct store_attempt *entries, size_t *n)
{
    struct store_attempt *first = &entries[0], *second = &entries[1];
    first->kind = SPOOL_ATTEMPT_SUMMARY;
    first->count = first->count > UINT32_MAX - second->count ? UINT32_MAX : first->count + second->count;
    first->until_ns = second->until_ns;
    memmove(second, second + 1, (*n - 2) * sizeof *second);
    --*n;
}

static void pack(struct history *history, struct store_attempt *entries, size_t n, size_t room)
{
    struct history packed = {0};
    while (n > 1 && (n > STORE_ATTEMPTS_MAX || packed_size_of_all(entries, n) > room))
        sum_up(entries, &n);
    for (size_t i = 0; i < n; i++)
        packed.size += pack_entry(entries, i, packed.bytes + packed.size);
    *history = packed;
}

void history_add(struct history *history, const struct store_attempt *entry, size_t room)
{
    struct store_attempt entries[STORE_ATTEMPTS_MAX + 1];
    size_t n = 0;
    if (history_read(history->bytes, history->size, entries, &n))
        n = 0;
    if (n && entries[n - 1].kind == entry->kind && entries[n - 1].at_ns == entry->at_ns)
        return; /* of an acknowledgement that is sent again */
    entries[n] = *entry;
    if (entry->kind != SPOOL_ATTEMPT_SUMMARY) {
        entries[n].count = 1;
        entries[n].until_ns = entry->at_ns;
    }
    if (entries[n].reason_size > STORE_ATTEMPT_REASON_MAX)
        entries[n].reason_size = utf8_cut(entries[n].reason, STORE_ATTEMPT_REASON_MAX);
    pack(history, entries, n + 1, room);
}

void history_fit(struct history *history, size_t room)
{
    struct store_attempt entries[STORE_ATTEMPTS_MAX + 1];
    size_t n = 0;
    if (history->size <= room || history_read(history->bytes, history->size, entries, &n))
        return;
    pack(history, entries, n, room);
}
