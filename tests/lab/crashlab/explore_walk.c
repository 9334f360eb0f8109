/* explore_walk.c - one worker at one point of the record: makes images, leaves out those seen before, and has them
 * judged. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"

enum { CHAIN_ONE_IN = 24, CHAIN_AMID_COMMIT_ONE_IN = 4 };

void walk_apply(struct walk *walk, const struct trace_record *record)
{
    disk_apply(walk->disk, record);
    walk->at = record;
    if (record->kind != TRACE_MARK)
        return;
    if (walk->mark_count == walk->mark_capacity) {
        walk->mark_capacity = walk->mark_capacity ? 2 * walk->mark_capacity : 256;
        walk->marks = lab_alloc(walk->marks, walk->mark_capacity * sizeof walk->marks[0]);
    }
    walk->marks[walk->mark_count++] =
        (struct lab_mark){.kind = (uint32_t)record->at, .size = record->size, .data = record->data};
}

void walk_clear(struct walk *walk)
{
    disk_free(walk->disk);
    free(walk->marks);
    walk->disk = NULL;
    walk->marks = NULL;
    walk->mark_count = walk->mark_capacity = 0;
}

/* Notes the image as seen; true if it was already. When the table is full, all are new. */
static bool is_seen(struct explore_shared *shared, uint64_t key)
{
    key |= key == 0;
    for (size_t probe = 0; probe < 64; probe++) {
        _Atomic uint64_t *slot = &shared->seen[(key + probe) % SEEN];
        uint64_t old = 0;
        if (atomic_compare_exchange_strong(slot, &old, key))
            return false;
        if (old == key)
            return true;
    }
    return false;
}

static enum lab_crash crash_of(const struct walk *walk, struct choice choice)
{
    return choice.kind == CHOICE_KILL ? walk->trace->floor : LAB_POWERED;
}

/* Killed in the middle of the write that ends a commit, a process leaves what the next one sees and the disk does not have. */
static bool is_worth_a_chain(const struct walk *walk, const struct image *image, struct choice choice)
{
    bool amid_commit = choice.kind == CHOICE_KILL && walk->at->kind == TRACE_WRITE && walk->at->is_sync;
    if (amid_commit && walk->engine->scenario->go_on)
        return true;
    return random_mix(image->hash, walk->options->seed) % (amid_commit ? CHAIN_AMID_COMMIT_ONE_IN : CHAIN_ONE_IN) == 0;
}

static void judge_image(struct walk *walk, const struct image *image, struct choice choice)
{
    char why[1200];
    enum lab_crash crash = crash_of(walk, choice);
    int err = image_write(image, walk->dir, NULL);
    if (err) {
        snprintf(walk->shared->failure, sizeof walk->shared->failure, "%s: %s", walk->dir, strerror(err));
        atomic_store(&walk->shared->is_over, true);
        return;
    }
    atomic_fetch_add(&walk->shared->images, 1);
    bool passes = trial_passes(walk->engine, walk->dir, walk->marks, walk->mark_count, crash, false, why, sizeof why);
    remove_tree(walk->dir);
    if (!passes)
        report_violation(walk, image, choice, crash, why);
    else if (!walk->is_chain && walk->engine->recover && is_worth_a_chain(walk, image, choice))
        explore_chain(walk, image, choice, crash);
}

/* Stores that were found together were not made one by one in the order in which they are noted: between two of them no
 * process can have been killed, though the power may go with either of them on the disk. */
static bool is_amid_stores(const struct walk *walk)
{
    const struct trace_record *next = trace_next(walk->trace, walk->at);
    return walk->at->kind == TRACE_STORE && next && next->kind == TRACE_STORE;
}

bool walk_try(void *user, struct choice choice)
{
    struct walk *walk = user;
    if (choice.kind == CHOICE_KILL && is_amid_stores(walk))
        return true;
    if (atomic_load(&walk->shared->is_over) || now_ns() > walk->shared->deadline_ns)
        return false;
    struct image image;
    image_make(walk->disk, choice, &image);
    uint64_t key = random_mix(random_mix(image.hash, walk->mark_count), crash_of(walk, choice));
    if (is_seen(walk->shared, key))
        atomic_fetch_add(&walk->shared->same, 1);
    else
        judge_image(walk, &image, choice);
    image_free(&image);
    return !atomic_load(&walk->shared->is_over);
}
