/* images.c - applies a choice to the safe state: one image, in memory. */
#include "images.h"

#include <stdlib.h>
#include <string.h>

uint64_t random_mix(uint64_t a, uint64_t b)
{
    uint64_t state = a ^ (b * UINT64_C(0x9e3779b97f4a7c15));
    return random_next(&state);
}

uint64_t random_next(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

/* What becomes of one change. */
struct fate {
    bool is_there;
    uint64_t tear; /* not 0: only some of its sectors, by this seed */
};

/* --------------------------------------------------------------------------------------------------------- choosing */

static bool touches(const struct disk_op *op, uint32_t dir)
{
    return op->dir == dir || op->dir2 == dir;
}

/* Of a directory's changes a prefix is there, in which one may be missing. */
static void make_legal(const struct disk *disk, struct fate *fate)
{
    for (size_t i = 0; i < disk->ops; i++) {
        const struct disk_op *missing = &disk->op[i];
        unsigned before = 0;
        if (!disk_op_is_name(missing) || fate[i].is_there)
            continue;
        for (size_t k = 0; k < i; k++)
            before += disk_op_is_name(&disk->op[k]) && !fate[k].is_there &&
                      (touches(&disk->op[k], missing->dir) || (missing->dir2 && touches(&disk->op[k], missing->dir2)));
        for (size_t k = i + 1; before && k < disk->ops; k++)
            if (disk_op_is_name(&disk->op[k]) &&
                (touches(&disk->op[k], missing->dir) || (missing->dir2 && touches(&disk->op[k], missing->dir2))))
                fate[k].is_there = false;
    }
}

/* A name that is there has those before it in its directory. */
static void take_only(const struct disk *disk, size_t n, struct fate *fate)
{
    fate[n].is_there = true;
    for (size_t i = 0; i < n && disk_op_is_name(&disk->op[n]); i++)
        fate[i].is_there = disk_op_is_name(&disk->op[i]) && touches(&disk->op[i], disk->op[n].dir);
}

static void take_random(const struct disk *disk, uint64_t seed, struct fate *fate)
{
    static const unsigned percent[] = {5, 20, 50, 80, 95};
    uint64_t random = seed;
    unsigned files = percent[random_next(&random) % 5], names = percent[random_next(&random) % 5];
    bool tears = random_next(&random) % 2;
    for (size_t i = 0; i < disk->ops; i++) {
        fate[i].is_there = random_next(&random) % 100 < (disk_op_is_name(&disk->op[i]) ? names : files);
        if (tears && random_next(&random) % 5 == 0)
            fate[i].tear = random_next(&random) | 1;
    }
}

static void choose(const struct disk *disk, struct choice choice, struct fate *fate)
{
    size_t n = disk->ops;
    for (size_t i = 0; i < n; i++)
        fate[i].is_there = choice.kind == CHOICE_ALL || choice.kind == CHOICE_WITHOUT || choice.kind == CHOICE_TEAR ||
                           (choice.kind == CHOICE_MASK && i < 64 && (choice.n >> i & 1)) ||
                           (choice.kind == CHOICE_PREFIX && i < choice.n);
    if (n > 0 && choice.kind == CHOICE_WITHOUT)
        fate[choice.n % n].is_there = false;
    if (n > 0 && choice.kind == CHOICE_ONLY)
        take_only(disk, choice.n % n, fate);
    if (n > 0 && choice.kind == CHOICE_TEAR)
        fate[choice.n % n].tear = choice.seed | 1;
    if (choice.kind == CHOICE_RANDOM)
        take_random(disk, choice.seed, fate);
    make_legal(disk, fate);
}

/* --------------------------------------------------------------------------------------------------------- applying */

/* The disk's own content, copied when it is about to change. */
static struct disk_content *own(struct image *image, uint32_t id)
{
    if (image->content[id] != &image->own[id]) {
        disk_content_copy(&image->own[id], image->content[id]);
        image->content[id] = &image->own[id];
    }
    return &image->own[id];
}

/* A page that is stored into while it is written to the disk: some words are new, some are as they were. */
static void mix_words(uint8_t *bytes, const uint8_t *old, uint64_t *random)
{
    unsigned percent = (unsigned)(random_next(random) % 100);
    bool is_prefix = random_next(random) % 2;
    for (size_t at = 0; at < SECTOR; at += 8)
        if (is_prefix ? at * 100 >= (size_t)percent * SECTOR : random_next(random) % 100 < percent)
            memcpy(bytes + at, old + at, 8);
}

static void put_mixed(struct image *image, const struct disk_op *op, uint64_t *random)
{
    struct disk_content *content = own(image, op->file);
    uint8_t bytes[SECTOR], old[SECTOR] = {0};
    memcpy(bytes, op->bytes, SECTOR);
    if (op->first < content->sectors)
        memcpy(old, content->bytes + op->first * SECTOR, SECTOR);
    mix_words(bytes, old, random);
    image->hash ^= disk_content_set(content, op->first, bytes, disk_hash(op->file, op->first, bytes, SECTOR));
}

/* The sectors [0, …) or any, by the seed. */
static bool is_torn_away(const struct disk_op *op, size_t sector, uint64_t tear)
{
    if (tear == 0)
        return false;
    if (tear & 2)
        return sector >= random_mix(tear, 1) % op->sectors;
    return random_mix(tear, sector) & 1;
}

static void put_file_op(struct image *image, const struct disk_op *op, uint64_t tear)
{
    struct disk_content *content = own(image, op->file);
    if (op->kind == TRACE_SIZE || op->size > content->size)
        image->hash ^= disk_content_resize(content, op->file, op->size);
    if (tear && op->kind == TRACE_STORE && op->sectors == 1 && !op->dead[0]) {
        put_mixed(image, op, &tear);
        return;
    }
    for (size_t i = 0; i < op->sectors; i++)
        if (!op->dead[i] && !is_torn_away(op, i, tear))
            image->hash ^= disk_content_set(content, op->first + i, op->bytes + i * SECTOR, op->hash[i]);
}

static void apply(struct image *image, struct choice choice)
{
    const struct disk *disk = image->disk;
    struct fate *fate = lab_alloc(NULL, (disk->ops + 1) * sizeof *fate);
    memset(fate, 0, (disk->ops + 1) * sizeof *fate);
    choose(disk, choice, fate);
    for (size_t i = 0; i < disk->ops; i++) {
        if (!fate[i].is_there)
            continue;
        if (disk_op_is_name(&disk->op[i]))
            disk_tree_apply(&image->tree, &disk->op[i]);
        else
            put_file_op(image, &disk->op[i], fate[i].tear);
    }
    free(fate);
}

static void hash_names_and_sizes(struct image *image)
{
    for (size_t i = 0; i < image->tree.count; i++) {
        const struct disk_entry *entry = &image->tree.entry[i];
        image->hash ^= disk_hash(entry->dir, entry->file, (const uint8_t *)entry->name, strlen(entry->name));
        if (!image->disk->file[entry->file].is_directory)
            image->hash ^= random_mix(entry->file, image->content[entry->file]->size);
    }
}

void image_make(const struct disk *disk, struct choice choice, struct image *ret)
{
    bool is_kill = choice.kind == CHOICE_KILL;
    size_t n = disk->trace->nodes + 1;
    *ret = (struct image){.disk = disk, .hash = is_kill ? disk->now_sum : disk->safe_sum};
    ret->own = lab_alloc(NULL, n * sizeof ret->own[0]);
    memset(ret->own, 0, n * sizeof ret->own[0]);
    ret->content = lab_alloc(NULL, n * sizeof ret->content[0]);
    for (size_t id = 0; id < n; id++)
        ret->content[id] = is_kill ? &disk->file[id].now : &disk->file[id].safe;
    disk_tree_copy(&ret->tree, is_kill ? &disk->now : &disk->safe);
    if (!is_kill)
        apply(ret, choice);
    hash_names_and_sizes(ret);
    ret->seed = random_mix(ret->hash, 7);
}

void image_free(struct image *image)
{
    for (size_t id = 0; id <= image->disk->trace->nodes; id++)
        disk_content_free(&image->own[id]);
    free(image->own);
    free(image->content);
    free(image->tree.entry);
}
