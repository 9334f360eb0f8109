/* spool.c - the spool command: finds the verb, reads its options, runs it; and the help texts.
 *
 * See spool(1). Each group of verbs has its own file; tool.h is what they share. */
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static int help_run(const struct tool *tool, void *args, const struct words *words);
static int version_run(const struct tool *tool, void *args, const struct words *words);

static const struct tool_verb help_verb = {
    .name = "help", .usage = "[VERB]", .summary = "List the verbs, or explain one", .words_max = 2, .run = help_run};
static const struct tool_verb version_verb = {
    .name = "version", .usage = "", .summary = "Print the version", .run = version_run};

/* In the order of the help text. */
static const struct tool_verb *const verbs[] = {
    &put_verb,         &run_verb,          &drain_verb,      &status_verb,      &cat_verb,        &tail_verb,
    &show_verb,        &sinks_verb,        &sink_add_verb,   &sink_remove_verb, &sink_pause_verb, &sink_resume_verb,
    &sink_rewind_verb, &sink_set_verb,     &sink_kinds_verb, &sink_test_verb,   &clock_verb,      &clock_reset_verb,
    &dlq_list_verb,    &dlq_show_verb,     &dlq_stats_verb,  &dlq_requeue_verb, &dlq_edit_verb,   &dlq_purge_verb,
    &dlq_export_verb,  &dlq_import_verb,   &metrics_verb,    &verify_verb,      &torture_verb,    &help_verb,
    &version_verb,     &torture_work_verb,
};
enum { VERBS = sizeof verbs / sizeof *verbs };

/* --------------------------------------------------------------------------------------------------------- verbs */

static size_t first_word_size(const char *name)
{
    return strcspn(name, " ");
}

static bool is_first_word(const struct tool_verb *verb, const char *word)
{
    return strlen(word) == first_word_size(verb->name) && !strncmp(verb->name, word, strlen(word));
}

/* The verb that the words begin with, of two words if there is one; *ret_used tells how many of them it took. */
static const struct tool_verb *verb_find(const struct words *words, size_t *ret_used)
{
    const struct tool_verb *alone = NULL;
    for (size_t i = 0; i < VERBS; i++) {
        const char *second = strchr(verbs[i]->name, ' ');
        if (!is_first_word(verbs[i], words->items[0]))
            continue;
        if (!second)
            alone = verbs[i];
        if (!second || words->count < 2 || strcmp(second + 1, words->items[1]))
            continue;
        *ret_used = 2;
        return verbs[i];
    }
    *ret_used = 1;
    return alone;
}

/* Like "sink" and "dlq", which need a second word. */
static bool is_group(const char *word)
{
    for (size_t i = 0; i < VERBS; i++)
        if (strchr(verbs[i]->name, ' ') && is_first_word(verbs[i], word))
            return true;
    return false;
}

/* "sink" alone, or with a word that is none of its verbs: says which there are. `names` are all of that group. */
static int verb_incomplete(const struct tool *tool, const char *group, const char *word, const char *const *names)
{
    char list[128];
    size_t used = 0;
    for (size_t i = 0; names[i] && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? "|" : "", strchr(names[i], ' ') + 1);
    if (word)
        return say_usage(tool, "unknown verb %s %s; there are spool %s %s", group, word, group, list);
    return say_usage(tool, "which verb? spool %s %s", group, list);
}

static int verb_unknown(const struct tool *tool, const struct words *words)
{
    const char *candidates[VERBS + 1] = {NULL}, *first = words->items[0];
    bool group = is_group(first);
    char tried[64];
    size_t count = 0;
    for (size_t i = 0; i < VERBS; i++)
        if (verbs[i]->summary && (!group || is_first_word(verbs[i], first)))
            candidates[count++] = verbs[i]->name;
    if (group && words->count < 2)
        return verb_incomplete(tool, first, NULL, candidates);
    snprintf(tried, sizeof tried, "%s%s%s", first, group ? " " : "", group ? words->items[1] : "");
    const char *nearest = args_nearest(tried, candidates);
    if (nearest)
        return say_usage(tool, "unknown verb %s; did you mean %s?", tried, nearest);
    return group ? verb_incomplete(tool, first, words->items[1], candidates)
                 : say_usage(tool, "unknown verb %s", tried);
}

/* ---------------------------------------------------------------------------------------------------------- help */

static void print_options(const char *title, const struct opt *opt)
{
    if (!opt || !opt->kind)
        return;
    printf("\n%s\n", title);
    for (; opt->kind; opt++) {
        char left[80], letter[8] = "    ";
        if (opt->letter)
            snprintf(letter, sizeof letter, "-%c%s", opt->letter, opt->name ? ", " : "");
        snprintf(left, sizeof left, "%s%s%s%s%s", letter, opt->name ? "--" : "", opt->name ? opt->name : "",
                 opt->value ? " " : "", opt->value ? opt->value : "");
        printf("  %-26s %s\n", left, opt->help);
    }
}

static void help_print_verb(const struct tool_verb *verb)
{
    printf("spool [-C DIR] %s%s%s\n%s.\n", verb->name, *verb->usage ? " " : "", verb->usage,
           verb->summary ? verb->summary : "Not for users");
    if (verb->notes)
        printf("\n%s\n", verb->notes);
    print_options("Options", verb->options);
    print_options("Options of every verb", tool_options);
}

static void help_print_all(void)
{
    puts("spool [-C DIR] VERB: guaranteed delivery of events, see spool(1) and libspool(7)\n\nVerbs");
    for (size_t i = 0; i < VERBS; i++)
        if (verbs[i]->summary)
            printf("  %-14s %s\n", verbs[i]->name, verbs[i]->summary);
    print_options("Options of every verb", tool_options);
    puts("\nExit status: 0 done, 1 failed, 2 wrong usage, 3 nothing there\n`spool help VERB` explains a verb");
}

static int help_run(const struct tool *tool, void *args, const struct words *words)
{
    (void)args;
    size_t used;
    const struct tool_verb *verb = words->count ? verb_find(words, &used) : NULL;
    bool found_some = false;
    if (verb)
        help_print_verb(verb);
    else if (!words->count)
        help_print_all();
    for (size_t i = 0; words->count == 1 && !verb && i < VERBS; i++)
        if (is_first_word(verbs[i], words->items[0])) {
            printf("%s", found_some ? "\n" : "");
            help_print_verb(verbs[i]);
            found_some = true;
        }
    if (verb || found_some || !words->count)
        return TOOL_DONE;
    return verb_unknown(&(struct tool){.dir = tool->dir}, words); /* the advice is "spool help", as for a verb */
}

static int version_run(const struct tool *tool, void *args, const struct words *words)
{
    (void)args, (void)words;
    if (tool_wants_json(tool, false))
        printf("{\"command\":\"%s\",\"library\":\"%s\"}\n", SPOOL_BUILD_VERSION, spool_version());
    else
        printf("spool %s (libspool %s)\n", SPOOL_BUILD_VERSION, spool_version());
    return TOOL_DONE;
}

/* ---------------------------------------------------------------------------------------------------------- main */

/* Of a verb that is the first word of others, as "clock": the one of those that `word` may stand for. NULL: none. */
static const char *nearest_below(const struct tool_verb *verb, const char *word)
{
    const char *seconds[VERBS + 1] = {NULL}, *names[VERBS];
    size_t count = 0;
    for (size_t i = 0; i < VERBS; i++) {
        if (!strchr(verbs[i]->name, ' ') || !is_first_word(verbs[i], verb->name))
            continue;
        names[count] = verbs[i]->name;
        seconds[count++] = strchr(verbs[i]->name, ' ') + 1;
    }
    const char *nearest = args_nearest(word, seconds);
    for (size_t i = 0; i < count; i++)
        if (nearest == seconds[i])
            return names[i];
    return NULL;
}

static int check_word_count(const struct tool *tool, const struct tool_verb *verb, const struct words *words)
{
    if (words->count < verb->words_min)
        return say_usage(tool, "something is missing: spool %s %s", verb->name, verb->usage);
    const char *nearest = words->count ? nearest_below(verb, words->items[0]) : NULL;
    if (words->count > verb->words_max && nearest)
        return say_usage(tool, "%s: is no verb; did you mean %s?", words->items[0], nearest);
    if (words->count > verb->words_max)
        return say_usage(tool, "too many words, from \"%s\" on: spool %s %s", words->items[verb->words_max], verb->name,
                         verb->usage);
    return TOOL_DONE;
}

static int verb_run(struct tool *tool, const struct tool_verb *verb, struct words *words)
{
    alignas(max_align_t) char args[ARGS_SIZE_MAX] = {0};
    tool->verb = verb->name;
    int status = args_parse(tool, verb->options, args, words, false);
    if (!status && tool->help) {
        help_print_verb(verb);
        return TOOL_DONE;
    }
    if (!status)
        status = check_word_count(tool, verb, words);
    return status ? status : verb->run(tool, args, words);
}

static int tool_run(struct tool *tool, struct words *words)
{
    size_t used;
    int status = args_parse(tool, NULL, NULL, words, true);
    if (status)
        return status;
    if (tool->version)
        return version_run(tool, NULL, words);
    if (tool->help)
        return help_run(tool, NULL, words);
    if (!words->count)
        return say_usage(tool, "which verb? For example: put, status, drain");
    const struct tool_verb *verb = verb_find(words, &used);
    if (!verb)
        return verb_unknown(tool, words);
    struct words rest = {words->items + used, words->count - used};
    return verb_run(tool, verb, &rest);
}

int main(int argc, char **argv)
{
    const char *dir = getenv("SPOOL_DIR");
    struct tool tool = {.dir = dir && *dir ? dir : NULL};
    struct words words = {argv + 1, argc ? (size_t)argc - 1 : 0};
    return tool_finish(&tool, tool_run(&tool, &words));
}
