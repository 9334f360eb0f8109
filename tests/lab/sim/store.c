/* store.c - spool/store.h as delivery/ calls it, over disk.c: takes time, may fail wherever the contract allows it, and
 * may be the last thing its process does. The real one is not linked. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../../../lib/base/error.h"
#include "world.h"

enum { DEFAULT_TIMEOUT_S = 5 };

/* --------------------------------------------------------------------------------------------- delays and failures */

static void check_locks(const char *call)
{
    if (*co_locks() > 0)
        violation("locks", "%s is called with a lock held", call);
}

static uint64_t limit(const struct store *store, uint64_t deadline_ns)
{
    for (int i = 0; i < STOPS_MAX; i++)
        if (store->hurry_ns[i] > 0 && store->hurry_ns[i] < deadline_ns)
            deadline_ns = store->hurry_ns[i];
    return deadline_ns;
}

static bool in_trouble(void)
{
    return !world.healing && sched_now() < world.trouble.until_ns;
}

/* Waits for a lock that somebody holds. */
static int wait_for_lock(const struct store *store, const char *call, uint64_t deadline_ns)
{
    uint64_t held_ns = sched_now() + rng_scale(&world.fault_rng, MS, 20 * SEC);
    fault_count(FAULT_STORE_SLOW);
    for (uint64_t until_ns; !world.healing && sched_now() < held_ns;) {
        until_ns = limit(store, deadline_ns); /* it may come nearer meanwhile */
        if (sched_now() >= until_ns)
            break;
        co_wait(store, held_ns < until_ns ? held_ns : until_ns, "the store", true);
    }
    return sched_now() < held_ns && !world.healing ? err_set(SPOOL_ETIMEOUT, "%s: a peer holds the lock", call)
                                                   : SPOOL_OK;
}

int store_call(const struct store *store, const char *call, uint64_t latency_max_ns, uint64_t deadline_ns)
{
    check_locks(call);
    co_point();
    co_sleep(rng_below(&world.fault_rng, latency_max_ns) + 1);
    uint32_t fails = in_trouble() ? world.trouble.fails : world.healing ? 0 : 5;
    if (in_trouble() && rng_chance(&world.fault_rng, world.trouble.slow)) {
        int code = wait_for_lock(store, call, deadline_ns);
        if (code != SPOOL_OK)
            return code;
    }
    if (!rng_chance(&world.fault_rng, fails))
        return SPOOL_OK;
    static const int codes[] = {EIO, SPOOL_ETIMEOUT, SPOOL_EFULL, ENOMEM, SPOOL_EDAMAGED};
    int code = codes[rng_below(&world.fault_rng, sizeof codes / sizeof *codes)];
    fault_count(FAULT_STORE);
    return err_set(code == SPOOL_EDAMAGED && strcmp(call, "retry_event") != 0 ? EIO : code, "%s is told to fail", call);
}

static uint64_t in_default(void)
{
    return sched_now() + DEFAULT_TIMEOUT_S * SEC;
}

/* ----------------------------------------------------------------------------------------------------------- reading
 */

void store_block_ref(struct store_block *block)
{
    atomic_fetch_add(&block->refs, 1);
}

void store_block_unref(struct store_block *block)
{
    if (block && atomic_fetch_sub(&block->refs, 1) == 1)
        arena_put(block);
}

bool store_is_read_only(const struct store *store)
{
    return (void)store, false;
}

int store_bounds(struct store *store, uint64_t ret_first[LANES], uint64_t ret_next[LANES])
{
    int code = store_call(store, "bounds", 10 * US, in_default());
    for (int lane = 0; lane < LANES && code == SPOOL_OK; lane++) {
        ret_first[lane] = world.first_seq[lane];
        ret_next[lane] = world.next_seq[lane];
    }
    return code;
}

static struct store_block *copy_out(const struct block *from)
{
    size_t size = 0;
    for (uint32_t i = 0; i < from->count; i++)
        size += event_at(from->lane, from->first_seq + i)->size;
    struct store_block *block = arena_get(co_proc(), sizeof *block + (from->count + 1) * sizeof(uint32_t) + size);
    *block = (struct store_block){.lane = from->lane, .count = from->count, .first_seq = from->first_seq, .size = size};
    atomic_init(&block->refs, 1);
    uint32_t *at = (uint32_t *)(block + 1);
    uint8_t *bytes = (uint8_t *)(at + from->count + 1), *to = bytes;
    for (uint32_t i = 0; i < from->count; i++) {
        const struct event *e = event_at(from->lane, from->first_seq + i);
        memcpy(to, e->packed, e->size);
        to += e->size;
    }
    if (bundle_open(BUNDLE_PACKED, bytes, size, from->count, at, &block->events))
        violation("simulation", "a block of packed events cannot be opened: %s", err_last());
    return block;
}

int store_read(struct store *store, int lane, uint64_t seq, uint64_t deadline_ns, struct store_block **ret,
               uint64_t *ret_skip_to)
{
    int code = store_call(store, "read", 100 * US, deadline_ns);
    if (code != SPOOL_OK)
        return code;
    const struct block *block = disk_block(lane, seq);
    if (!block)
        return err_set(SPOOL_ENOTFOUND, "nothing at or after event %llu", (unsigned long long)seq);
    if (block->damaged) {
        *ret_skip_to = block->first_seq + block->count;
        return err_set(SPOOL_EDAMAGED, "the block is damaged");
    }
    *ret = copy_out(block);
    return SPOOL_OK;
}

uint32_t store_control(const struct store *store)
{
    (void)store;
    return world.control_count;
}

/* ------------------------------------------------------------------------------------------------------------- sinks
 */

int store_sink_register(struct store *store, const char *name, const char *kind, uint32_t order, const char *config,
                        bool from_now, struct store_sink *ret)
{
    (void)config;
    int code = store_call(store, "sink_register", MS, in_default());
    if (code != SPOOL_OK)
        return code;
    struct sink_world *sink = disk_sink_named(name);
    disk_register(sink, kind, order, from_now);
    *ret = sink->disk;
    return SPOOL_OK;
}

int store_sink_get(struct store *store, const char *name, struct store_sink *ret)
{
    int code = store_call(store, "sink_get", 100 * US, in_default());
    struct sink_world *sink = disk_sink_named(name);
    if (code != SPOOL_OK)
        return code;
    if (!sink->registered)
        return err_set(SPOOL_ENOTFOUND, "no sink %s", name);
    *ret = sink->disk;
    ret->paused = sink->paused_ns > 0;
    ret->retry_rows = 1; /* may be: rows are looked at */
    sink->paused_read[store->proc] = ret->paused;
    if (world.control == CONTROL_KEEP_PAUSED)
        ret->paused = false;
    return SPOOL_OK;
}

/* For whoever keeps house while nobody serves it (keeper.c). */
int store_sink_limit(struct store *store, const char *name, uint64_t max_pending_bytes, uint64_t max_pending_age_ms)
{
    int code = store_call(store, "sink_limit", MS, in_default());
    struct sink_world *sink = disk_sink_named(name);
    if (code != SPOOL_OK)
        return code;
    if (!sink->registered)
        return err_set(SPOOL_ENOTFOUND, "no sink %s", name);
    sink->disk.max_pending_bytes = max_pending_bytes;
    sink->disk.max_pending_age_ms = max_pending_age_ms;
    return SPOOL_OK;
}

int store_sink_set_best_effort(struct store *store, const char *name, bool best_effort)
{
    (void)store, (void)name, (void)best_effort;
    return SPOOL_OK;
}

/* No two sinks have the same limits. */
static struct sink_world *limited_sink(uint64_t max_bytes, uint64_t max_age_ms)
{
    for (uint32_t i = 0; i < world.sink_count; i++) {
        const struct spool_sink_options *o = &world.sinks[i].options;
        if (o->max_pending_bytes == max_bytes && o->max_pending_age_ms == max_age_ms)
            return &world.sinks[i];
    }
    violation("simulation", "no sink has the limits %llu and %llu", (unsigned long long)max_bytes,
              (unsigned long long)max_age_ms);
    return NULL;
}

static void note_over(struct sink_world *sink, int lane, uint64_t from, uint64_t upto)
{
    for (uint64_t seq = from; seq < upto; seq++) {
        struct tally *t = &sink->tallies[event_number(event_at(lane, seq))];
        if (!t->over)
            fault_count(FAULT_OVERFLOW);
        t->over = true;
    }
}

int store_sink_overflow(struct store *store, const uint64_t cursor[LANES], uint64_t max_bytes, uint64_t max_age_ms,
                        uint64_t ret_upto[LANES])
{
    uint64_t now_ns = hlc_physical_ns(world.procs[store->proc].clock), age_ns = max_age_ms * MS;
    uint64_t born_ns = max_age_ms > 0 && age_ns < now_ns ? now_ns - age_ns : 0;
    struct sink_world *sink = limited_sink(max_bytes, max_age_ms);
    int code = store_call(store, "overflow", MS, in_default());
    if (code != SPOOL_OK)
        return code;
    disk_overflow(cursor, max_bytes, born_ns, ret_upto);
    for (int lane = 0; lane < LANES; lane++)
        note_over(sink, lane, cursor[lane], ret_upto[lane]);
    for (int lane = 0; lane < LANES && world.control == CONTROL_OVER_ALL; lane++)
        ret_upto[lane] += ret_upto[lane] > cursor[lane] && ret_upto[lane] < world.next_seq[lane];
    return SPOOL_OK;
}

int store_sink_pause_for(struct store *store, const char *name, const char *reason)
{
    int code = store_call(store, "sink_pause", MS, in_default());
    struct sink_world *sink = disk_sink_named(name);
    if (code != SPOOL_OK)
        return code;
    if (!sink->registered)
        return err_set(SPOOL_ENOTFOUND, "no sink %s", name);
    world.control_count++; /* once all is healed there is somebody who resumes it at once */
    if (world.control != CONTROL_FORGET_PAUSE && !world.healing)
        sink->paused_ns = sink->paused_ns ? sink->paused_ns : sched_now();
    snprintf(sink->disk.paused_reason, sizeof sink->disk.paused_reason, "%s", reason);
    trace("%s asked to be paused", name);
    proc_wake_all();
    return SPOOL_OK;
}

int store_sink_elect(struct store *store, const char *name)
{
    int code = store_call(store, "sink_elect", 100 * US, in_default());
    struct sink_world *sink = disk_sink_named(name);
    if (code != SPOOL_OK)
        return code;
    if (!sink->registered)
        return err_set(SPOOL_ENOTFOUND, "no sink %s", name);
    bool keeps = keeper_is_running();
    if (sink->owner == store->proc && !keeps && !sink->kept)
        violation("election", "%s elects a sink that it serves already", name);
    if (keeps && world.control == CONTROL_KEEP_SERVED)
        return SPOOL_OK;
    if (sink->owner == store->proc || (sink->owner != PROC_NONE && world.control != CONTROL_TWO_OWNERS))
        return err_set(SPOOL_EBUSY, "%s is served already", name);
    if (sink->owner == PROC_NONE) {
        sink->owner = store->proc;
        sink->kept = keeps;
    }
    trace("process %d is elected for %s", store->proc, name);
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------- in hand */

struct store_hand *store_sink_hand(struct store *store, const char *name)
{
    struct sink_world *sink = disk_sink_named(name);
    sink->hand.sink = sink;
    return sink->owner == store->proc ? &sink->hand : NULL;
}

void store_hand_ref(struct store_hand *hand)
{
    (void)hand;
}

void store_hand_unref(struct store_hand *hand)
{
    (void)hand;
}

void store_hand_mark(struct store_hand *hand, uint32_t slot, const struct store_mark *mark)
{
    co_point();
    if (!hand || slot >= HAND_SLOTS)
        return;
    struct hand_slot *s = &hand->slots[slot];
    s->set = mark != NULL;
    if (!mark)
        return;
    s->lane = mark->lane;
    s->count = mark->count;
    s->first = mark->first;
    s->rows = mark->seqs != NULL;
    if (s->rows)
        memcpy(s->seqs, mark->seqs, mark->count * sizeof *mark->seqs);
}

void store_hand_excuse(struct store_hand *hand)
{
    for (int i = 0; hand && i < HAND_SLOTS; i++)
        hand->slots[i].set = false;
    if (hand)
        hand->excused_ns = sched_now();
}

size_t store_hand_suspects(const struct store_hand *hand, struct store_suspect ret[STORE_SUSPECTS_MAX])
{
    if (!hand)
        return 0;
    memcpy(ret, hand->suspects.list, hand->suspects.n * sizeof *ret);
    return hand->suspects.n;
}

void store_hand_keep(struct store_hand *hand, const struct store_suspect *list, size_t n)
{
    co_point();
    if (!hand)
        return;
    memcpy(hand->suspects.list, list, n * sizeof *list);
    hand->suspects.n = n;
}

static bool slot_has(const struct hand_slot *slot, int lane, uint64_t seq)
{
    if (!slot->set || slot->lane != lane)
        return false;
    if (!slot->rows)
        return seq >= slot->first && seq < slot->first + slot->count;
    for (uint32_t i = 0; i < slot->count; i++)
        if (slot->seqs[i] == seq)
            return true;
    return false;
}

bool hand_has(const struct store_hand *hand, int lane, uint64_t seq)
{
    for (int i = 0; i < HAND_SLOTS; i++)
        if (slot_has(&hand->slots[i], lane, seq))
            return true;
    return false;
}

static void slot_died(struct store_hand *hand, const struct hand_slot *slot)
{
    for (uint32_t i = 0; i < slot->count; i++) {
        uint64_t seq = slot->rows ? slot->seqs[i] : slot->first + i;
        if (slot->count == 1)
            hand->sink->tallies[world.at_seq[slot->lane][seq]].died_alone++;
        if (slot->rows)
            suspects_add(&hand->suspects, slot->lane, seq, seq + 1, slot->count == 1);
    }
    if (!slot->rows)
        suspects_add(&hand->suspects, slot->lane, slot->first, slot->first + slot->count, slot->count == 1);
}

/* The process of that sink died. */
void hand_died(struct store_hand *hand)
{
    for (size_t i = 0; i < hand->suspects.n; i++)
        hand->suspects.list[i].fresh = false;
    for (int i = 0; i < HAND_SLOTS; i++)
        if (hand->slots[i].set && world.control != CONTROL_FORGET_HAND)
            slot_died(hand, &hand->slots[i]);
    store_hand_excuse(hand);
}

/* Also with the delivery's lock held, by a thread that comes back late. */
void store_sink_release(struct store *store, const char *name)
{
    struct sink_world *sink = disk_sink_named(name);
    co_point();
    if (keeper_is_running() && !sink->kept)
        return; /* the control: it never was elected */
    if (sink->owner == store->proc)
        store_hand_excuse(&sink->hand);
    if (sink->owner == store->proc) {
        sink->owner = PROC_NONE;
        sink->kept = false;
        trace("process %d lets go of %s", store->proc, name);
    }
}

int store_checkpoint(struct store *store, uint32_t sink_id, void *buf, size_t cap, size_t *ret_size)
{
    int code = store_call(store, "checkpoint", 100 * US, in_default());
    struct sink_world *sink = disk_sink(sink_id);
    if (code != SPOOL_OK)
        return code;
    if (!sink)
        return err_set(SPOOL_ENOTFOUND, "sink %u is gone", sink_id);
    if (sink->checkpoint_size > cap)
        return err_set(SPOOL_ETOOBIG, "checkpoint");
    memcpy(buf, sink->checkpoint, sink->checkpoint_size);
    *ret_size = sink->checkpoint_size;
    sink->loaded_generation[store->proc] = sink->disk.generation;
    oracle_load(sink);
    trace("process %d reads where %s stands", store->proc, sink->name);
    return SPOOL_OK;
}

/* -------------------------------------------------------------------------------------------------------------- rows
 */

/* The row as it was read; the controls forget something of it. */
static struct store_retry as_read(const struct store_retry *row)
{
    struct store_retry copy = *row;
    if (world.control == CONTROL_FORGET_ATTEMPTS)
        copy.attempts = 0;
    if (world.control == CONTROL_FORGET_ORDER)
        copy.key_hash = 0;
    return copy;
}

int store_retry_each(struct store *store, uint32_t sink_id, int (*each)(void *user, const struct store_retry *row),
                     void *user)
{
    int code = store_call(store, "retry_each", MS, in_default());
    struct sink_world *sink = disk_sink(sink_id);
    if (code != SPOOL_OK || !sink)
        return code;
    for (int lane = 0; lane < LANES; lane++) {
        for (uint64_t seq = 0; seq < world.next_seq[lane] && code == SPOOL_OK; seq++) {
            const struct tally *t = &sink->tallies[world.at_seq[lane][seq]];
            struct store_retry row;
            if (!t->row)
                continue;
            row = as_read(t->row);
            code = each(user, &row);
        }
    }
    sink->paused_seen_ns[store->proc] = sink->paused_read[store->proc] ? sched_now() : 0;
    sink->paused_excused_ns[store->proc] = sched_excused_from();
    return code;
}

int store_retry_event(struct store *store, uint32_t sink_id, int lane, uint64_t seq, uint8_t **ret, size_t *ret_size)
{
    int code = store_call(store, "retry_event", 100 * US, in_default());
    struct sink_world *sink = disk_sink(sink_id);
    if (code != SPOOL_OK && code != SPOOL_EDAMAGED)
        return code;
    const struct event *e = event_at(lane, seq);
    struct tally *t = sink ? &sink->tallies[event_number(e)] : NULL;
    if (code == SPOOL_EDAMAGED && t) {
        t->excused = true;
        fault_count(FAULT_DAMAGE);
    }
    if (code != SPOOL_OK)
        return code;
    if (!t || !t->row)
        return err_set(SPOOL_ENOTFOUND, "no row %d/%llu", lane, (unsigned long long)seq);
    *ret = arena_get(co_proc(), e->size);
    memcpy(*ret, e->packed, e->size);
    *ret_size = e->size;
    return SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------- acknowledgement
 */

/* Between two transactions: a crash, another process, a failure. */
static int between_parts(void *user)
{
    const struct store *store = user;
    co_sleep(rng_below(&world.fault_rng, 200 * US) + 1);
    uint32_t fails = world.healing ? 0 : in_trouble() ? world.trouble.fails : 20;
    if (!rng_chance(&world.fault_rng, fails))
        return SPOOL_OK;
    fault_count(FAULT_ACK_PART);
    if (rng_chance(&world.fault_rng, 3000))
        sched_kill(store->proc);
    return err_set(EIO, "ack is told to fail after a part");
}

static void count_one_less(uint64_t delivered[LANES])
{
    for (int lane = 0; lane < LANES; lane++) {
        if (delivered[lane]) {
            delivered[lane]--;
            return;
        }
    }
}

static struct store_ack spoil(const struct sink_world *sink, const struct store_ack *ack)
{
    static struct store_done done[64];
    struct store_ack changed = *ack;
    if (world.control == CONTROL_EARLY_ACK)
        for (int lane = 0; lane < LANES; lane++)
            changed.cursor[lane] += ack->range_count[lane] == 0 && ack->cursor[lane] < world.next_seq[lane];
    if (world.control == CONTROL_PASS_PARKED)
        while (changed.retry_count > 0 && changed.retries[changed.retry_count - 1].row.attempts == 0)
            changed.retry_count--;
    if (world.control == CONTROL_MISCOUNT)
        count_one_less(changed.delivered);
    for (uint32_t i = 0; world.control == CONTROL_ROW_EARLY && ack->done_count < 60 && i < world.event_count; i++) {
        if (!sink->tallies[i].row)
            continue;
        memcpy(done, ack->done, ack->done_count * sizeof *done);
        done[ack->done_count] = (struct store_done){world.events[i].lane, world.events[i].seq, STORE_END_DELIVERED};
        changed.done = done;
        changed.done_count = ack->done_count + 1;
        break;
    }
    return changed;
}

int store_ack(struct store *store, const struct store_ack *ack, uint64_t deadline_ns)
{
    int code = store_call(store, "ack", 10 * MS, deadline_ns);
    struct sink_world *sink = disk_sink(ack->sink_id);
    if (code != SPOOL_OK)
        return code;
    if (!sink || sink->disk.generation != ack->generation)
        return err_set(SPOOL_ESTALE, "rewound or removed");
    if (sink->owner != store->proc && world.control != CONTROL_TWO_OWNERS)
        violation("election", "process %d acknowledges for %s, which it does not serve", store->proc, sink->name);
    struct store_ack spoilt = spoil(sink, ack);
    world.acks++;
    sched_progress();
    trace("ack %s: delivered %llu dropped %llu, %zu retries, %zu done, %zu dead, cursors %llu %llu %llu %llu",
          sink->name, (unsigned long long)store_ack_delivered(ack), (unsigned long long)store_drops_total(&ack->drops),
          ack->retry_count, ack->done_count, ack->dead_count, (unsigned long long)ack->cursor[0],
          (unsigned long long)ack->cursor[1], (unsigned long long)ack->cursor[2], (unsigned long long)ack->cursor[3]);
    oracle_ack_before(sink, store->proc, &spoilt);
    code = disk_ack(sink, &spoilt, between_parts, store);
    oracle_ack_after(sink, &spoilt, code == SPOOL_OK);
    co_sleep(rng_below(&world.fault_rng, MS) + 1);
    if (code == SPOOL_OK && !world.healing && rng_chance(&world.fault_rng, 10)) {
        fault_count(FAULT_ACK_PART); /* it is on disk, but the answer got lost: it will come again */
        sink->uncertain = true;
        return err_set(EIO, "ack is told to say that it failed");
    }
    return code;
}

/* Options do not change here. */
int store_sink_config(struct store *store, const char *name, char **ret)
{
    (void)store, (void)ret;
    check_locks("sink_config");
    return err_set(SPOOL_ENOTFOUND, "the configuration of %s is not kept here", name);
}

/* Dead letters are counted for ever here: no limit is set. */
int store_dead_trim(struct store *store, const char *sink, const struct store_dead_limits *limits,
                    uint64_t *ret_dropped)
{
    (void)store, (void)sink, (void)limits;
    *ret_dropped = 0;
    return SPOOL_OK;
}

void store_sink_publish(struct store *store, const char *name, const void *bytes, size_t size)
{
    (void)bytes, (void)size;
    check_locks("sink_publish");
    if (disk_sink_named(name)->owner != store->proc && world.control != CONTROL_TWO_OWNERS)
        violation("election", "process %d publishes for %s, which it does not serve", store->proc, name);
}
