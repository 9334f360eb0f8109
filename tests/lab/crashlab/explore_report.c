/* explore_report.c - a violation in words, and what is needed to see it again. */
#include <stdio.h>
#include <string.h>

#include "explore.h"

static void describe(const struct walk *walk, struct choice choice, enum lab_crash crash, const char *why, char *text,
                     size_t size)
{
    char point[500], chosen[1500], spec[64];
    trace_describe(walk->trace, walk->at, point, sizeof point);
    chosen[0] = 0;
    choice_describe(walk->disk, choice, chosen, sizeof chosen);
    choice_format(choice, spec, sizeof spec);
    snprintf(text, size,
             "VIOLATION in %s, seed %llu%s: %s\n  crash   %s%s, after #%u: %s\n  disk    %s\n  replay  %s@%u@%s\n",
             walk->engine->scenario->name, (unsigned long long)walk->trace->seed,
             walk->is_chain ? ", second crash" : "", why, choice.kind == CHOICE_KILL ? "killed" : "power lost",
             choice.kind == CHOICE_KILL && crash == LAB_POWERED ? " (and power lost before)" : "", walk->at->number,
             point, chosen, walk->saved_as, walk->at->number, spec);
}

static void keep_image(const struct walk *walk, const struct image *image, unsigned n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s-%llu-image%u", walk->options->keep, walk->engine->scenario->name,
             (unsigned long long)walk->trace->seed, n);
    remove_tree(path);
    if (image_write(image, path, NULL))
        fprintf(stderr, "crashlab: cannot keep %s\n", path);
}

void report_violation(struct walk *walk, const struct image *image, struct choice choice, enum lab_crash crash,
                      const char *why)
{
    struct explore_shared *shared = walk->shared;
    uint64_t before = atomic_fetch_add(&shared->violations, 1);
    if (walk->options->control || before + 1 >= VIOLATIONS_MAX)
        atomic_store(&shared->is_over, true);
    unsigned n = atomic_fetch_add(&shared->shown, 1);
    if (n >= VIOLATIONS_SHOWN)
        return;
    describe(walk, choice, crash, why, shared->text[n], sizeof shared->text[n]);
    if (walk->options->control && !walk->options->keep)
        return;
    if (trace_save(walk->trace, walk->saved_as))
        fprintf(stderr, "crashlab: cannot save %s\n", walk->saved_as);
    if (walk->options->keep)
        keep_image(walk, image, n);
}
