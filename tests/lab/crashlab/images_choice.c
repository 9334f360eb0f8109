/* images_choice.c - which choices are tried, and their names. */
#include "images.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALL_SUBSETS_FIRST = 3, ALL_SUBSETS = 6, SAMPLE = 12, RANDOMS = 6, TEARS = 6 };

static const char *const names[] = {"kill", "none", "all", "mask", "without", "only", "prefix", "tear", "random"};

void choice_format(struct choice choice, char *buf, size_t size)
{
    unsigned long long n = choice.n, seed = choice.seed;
    const char *name = names[choice.kind];
    if (choice.kind <= CHOICE_ALL)
        snprintf(buf, size, "%s", name);
    else if (choice.kind == CHOICE_MASK)
        snprintf(buf, size, "mask:%llx", n);
    else if (choice.kind == CHOICE_TEAR)
        snprintf(buf, size, "tear:%llu:%llu", n, seed);
    else
        snprintf(buf, size, "%s:%llu", name, choice.kind == CHOICE_RANDOM ? seed : n);
}

bool choice_parse(const char *text, struct choice *ret)
{
    *ret = (struct choice){0};
    size_t length = strcspn(text, ":");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) != length || strncmp(text, names[i], length) != 0)
            continue;
        ret->kind = (enum choice_kind)i;
        char *end = NULL;
        uint64_t number = text[length] ? strtoull(text + length + 1, &end, ret->kind == CHOICE_MASK ? 16 : 10) : 0;
        if (ret->kind == CHOICE_RANDOM)
            ret->seed = number;
        else
            ret->n = number;
        if (end && *end == ':')
            ret->seed = strtoull(end + 1, NULL, 10);
        return true;
    }
    return false;
}

/* ------------------------------------------------------------------------------------------------------------ plans */

struct plan {
    const struct disk *disk;
    uint64_t random;
    bool (*each)(void *user, struct choice choice);
    void *user;
    bool is_over;
};

static void try(struct plan *plan, enum choice_kind kind, uint64_t n, uint64_t seed)
{
    if (!plan->is_over)
        plan->is_over = !plan->each(plan->user, (struct choice){kind, n, seed});
}

/* Each change if they are few, else a sample. */
static void try_each(struct plan *plan, enum choice_kind kind, size_t sample)
{
    size_t n = plan->disk->ops;
    for (size_t i = 0; i < n && i < sample; i++)
        try(plan, kind, n <= sample ? i : random_next(&plan->random) % n, 0);
}

static void try_randoms(struct plan *plan, unsigned randoms, unsigned tears)
{
    for (unsigned i = 0; i < randoms; i++)
        try(plan, CHOICE_RANDOM, 0, random_next(&plan->random) >> 32);
    for (unsigned i = 0; i < tears; i++)
        try(plan, CHOICE_TEAR, random_next(&plan->random) % plan->disk->ops, random_next(&plan->random) >> 32);
}

static void try_subsets(struct plan *plan)
{
    for (uint64_t mask = 1; mask + 1 < UINT64_C(1) << plan->disk->ops; mask++)
        try(plan, CHOICE_MASK, mask, 0);
}

void choice_each(const struct disk *disk, unsigned pass, uint64_t seed, bool (*each)(void *user, struct choice choice),
                 void *user)
{
    struct plan plan = {.disk = disk, .random = seed, .each = each, .user = user};
    if (pass == 0) {
        try(&plan, CHOICE_KILL, 0, 0);
        try(&plan, CHOICE_NONE, 0, 0);
        try(&plan, CHOICE_ALL, 0, 0);
    }
    if (disk->ops == 0)
        return;
    if (pass == 0 && disk->ops <= ALL_SUBSETS_FIRST)
        try_subsets(&plan);
    else if (pass == 1 && disk->ops <= ALL_SUBSETS)
        try_subsets(&plan);
    else if (pass == 1) {
        try_each(&plan, CHOICE_WITHOUT, SAMPLE);
        try_each(&plan, CHOICE_ONLY, SAMPLE);
        try_each(&plan, CHOICE_PREFIX, SAMPLE);
    }
    try_randoms(&plan, pass == 0 ? 2 : RANDOMS, pass == 0 ? 1 : TEARS);
}

/* ------------------------------------------------------------------------------------------------------------ words */

static void describe_one(const struct disk *disk, size_t i, char *buf, size_t size)
{
    const struct trace_record *r = trace_next(disk->trace, NULL);
    while (r && r->number != disk->op[i].number)
        r = trace_next(disk->trace, r);
    char what[400] = "?";
    if (r)
        trace_describe(disk->trace, r, what, sizeof what);
    size_t used = strlen(buf);
    snprintf(buf + used, size - used, "%s[%zu] %s", used && buf[used - 1] != ' ' ? "; " : "", i, what);
}

void choice_describe(const struct disk *disk, struct choice choice, char *buf, size_t size)
{
    enum { SHOWN = 6 };
    size_t n = disk->ops;
    switch (choice.kind) {
    case CHOICE_KILL:
        snprintf(buf, size, "everything written is there");
        return;
    case CHOICE_NONE:
        snprintf(buf, size, "none of %zu pending changes are there", n);
        return;
    case CHOICE_ALL:
        snprintf(buf, size, "all of %zu pending changes are there", n);
        return;
    case CHOICE_RANDOM:
        snprintf(buf, size, "a random choice of %zu pending changes is there", n);
        return;
    case CHOICE_PREFIX:
        snprintf(buf, size, "the first %llu of %zu pending changes are there", (unsigned long long)choice.n, n);
        return;
    case CHOICE_WITHOUT:
        snprintf(buf, size, "all of %zu pending changes but ", n);
        break;
    case CHOICE_ONLY:
        snprintf(buf, size, "of %zu pending changes only ", n);
        break;
    case CHOICE_TEAR:
        snprintf(buf, size, "all of %zu pending changes, but some sectors only of ", n);
        break;
    case CHOICE_MASK:
        snprintf(buf, size, "of %zu pending changes only ", n);
        for (size_t i = 0, shown = 0; i < n && shown < SHOWN; i++)
            if (choice.n >> i & 1 && ++shown)
                describe_one(disk, i, buf, size);
        return;
    }
    describe_one(disk, choice.n % n, buf, size);
}
