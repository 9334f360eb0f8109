/* explore_replay.c - judges one image again, from the trace that a violation has left. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "explore.h"

struct spec {
    char file[512];
    uint32_t point;
    struct choice choice;
};

static bool spec_parse(const char *text, struct spec *ret)
{
    const char *last = strrchr(text, '@');
    const char *at = last ? memrchr(text, '@', (size_t)(last - text)) : NULL;
    if (!at || (size_t)(at - text) >= sizeof ret->file)
        return false;
    snprintf(ret->file, sizeof ret->file, "%.*s", (int)(at - text), text);
    ret->point = (uint32_t)strtoul(at + 1, NULL, 10);
    return choice_parse(last + 1, &ret->choice);
}

static int judge_again(struct walk *walk, struct choice choice)
{
    char text[2000], why[1200] = "";
    struct image image;
    trace_describe(walk->trace, walk->at, text, sizeof text);
    printf("after #%u: %s\n", walk->at->number, text);
    text[0] = 0;
    choice_describe(walk->disk, choice, text, sizeof text);
    printf("%s\n", text);
    image_make(walk->disk, choice, &image);
    if (walk->options->keep) {
        remove_tree(walk->options->keep);
        printf("the image is %s%s\n", walk->options->keep,
               image_write(&image, walk->options->keep, NULL) ? " (not)" : "");
    }
    enum lab_crash crash = choice.kind == CHOICE_KILL ? walk->trace->floor : LAB_POWERED;
    int rc = image_write(&image, walk->dir, NULL) ? 2 : 0;
    if (rc == 0)
        rc = !trial_passes(walk->engine, walk->dir, walk->marks, walk->mark_count, crash, true, why, sizeof why);
    remove_tree(walk->dir);
    image_free(&image);
    printf("%s\n", rc == 0 ? "no violation" : rc == 1 ? why : "cannot write the image");
    return rc;
}

int explore_replay(const struct engine *engine_by_name(const char *name), const char *text,
                   const struct explore_options *options)
{
    struct spec spec;
    struct trace *trace = spec_parse(text, &spec) ? trace_load(spec.file) : NULL;
    const struct engine *engine = trace ? engine_by_name(trace->scenario) : NULL;
    if (!engine) {
        fprintf(stderr, "crashlab: %s: not FILE@POINT@CHOICE of a known scenario\n", text);
        return 2;
    }
    char dir[300];
    snprintf(dir, sizeof dir, "%s/replay", options->tmp);
    struct walk walk = {.engine = engine, .options = options, .trace = trace, .dir = dir, .disk = disk_new(trace)};
    const struct trace_record *r = trace_next(trace, NULL);
    for (; r && r->number <= spec.point; r = trace_next(trace, r))
        walk_apply(&walk, r);
    int rc = walk.at ? judge_again(&walk, spec.choice) : 2;
    walk_clear(&walk);
    trace_free(trace);
    return rc;
}
