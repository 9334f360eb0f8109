/* args.c - options by table.
 *
 * As in GNU programs: options and words in any order, `--` ends the options, `--name=value` or `--name value`, `-n5` or
 * `-n 5`, and letters without a value may stand together. A lone `-` is a word. What is unknown is answered with the
 * nearest name there is. */
#include <stdio.h>
#include <string.h>

#include "output.h"
#include "tool.h"

static const char *const format_choices[] = {"auto", "json", "text", NULL};

const struct opt tool_options[] = {
    {'C', "dir", OPT_TEXT, offsetof(struct tool, dir), "DIR", "the spool's directory (default: $SPOOL_DIR)", NULL},
    {'o', "output", OPT_CHOICE, offsetof(struct tool, format), "FORMAT", "json: one object a line; text: for people",
     format_choices},
    {'h', "help", OPT_FLAG, offsetof(struct tool, help), NULL, "how to use the verb", NULL},
    {0, "version", OPT_FLAG, offsetof(struct tool, version), NULL, "the version of the command and the library", NULL},
    {0},
};

/* ------------------------------------------------------------------------------------------------------- nearest */

enum { WORD_MAX = 32 };

static size_t smallest(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Levenshtein's distance, row by row; words longer than WORD_MAX are near nothing. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t row[WORD_MAX + 1], a_size = strlen(a), b_size = strlen(b);
    if (a_size > WORD_MAX || b_size > WORD_MAX)
        return SIZE_MAX;
    for (size_t j = 0; j <= b_size; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_size; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_size; j++) {
            size_t above = row[j];
            row[j] = smallest(row[j - 1] + 1, above + 1, diagonal + (a[i - 1] != b[j - 1]));
            diagonal = above;
        }
    }
    return row[b_size];
}

const char *args_nearest(const char *word, const char *const *candidates)
{
    const char *nearest = NULL;
    size_t least = strlen(word) < 4 ? 2 : 3; /* at most 1 or 2 slips */
    for (; *candidates; candidates++) {
        size_t distance = edit_distance(word, *candidates);
        bool begins = strlen(word) >= 3 && !strncmp(word, *candidates, strlen(word));
        if (begins)
            distance = 1;
        if (distance < least) {
            least = distance;
            nearest = *candidates;
        }
    }
    return nearest;
}

/* -------------------------------------------------------------------------------------------------------- values */

struct parser {
    struct tool *tool;
    const struct opt *own;
    void *args;
    struct words *words;
    size_t at, kept; /* the word that is looked at; those kept so far */
};

/* One option as it was found on the command line. */
struct found {
    const struct opt *opt;
    void *field;
    const char *value;
    char written[WORD_MAX + 4]; /* "--type", "-n": for messages */
};

static int bad_value(struct parser *parser, const struct found *found, const char *expected)
{
    return say_usage(parser->tool, "%s %s: %s", found->written, found->value, expected);
}

static int store_choice(struct parser *parser, const struct found *found)
{
    char list[128];
    size_t used = 0;
    for (int i = 0; found->opt->choices[i]; i++) {
        if (!strcmp(found->value, found->opt->choices[i])) {
            *(int *)found->field = i;
            return TOOL_DONE;
        }
        if (used < sizeof list)
            used += (size_t)snprintf(list + used, sizeof list - used, "%s%s", i ? ", " : "", found->opt->choices[i]);
    }
    return say_usage(parser->tool, "%s %s: must be one of %s", found->written, found->value, list);
}

static int store_list(struct parser *parser, const struct found *found)
{
    struct opt_list *list = found->field;
    if (list->count == SPOOL_TAGS_MAX)
        return say_usage(parser->tool, "%s may be given at most %d times", found->written, SPOOL_TAGS_MAX);
    list->items[list->count++] = found->value;
    return TOOL_DONE;
}

static int store_number(struct parser *parser, const struct found *found)
{
    struct opt_number *number = found->field;
    number->given = true;
    switch (found->opt->kind) {
    case OPT_COUNT:
        if (!units_parse_count(found->value, &number->value))
            return bad_value(parser, found, "must be a whole number");
        return TOOL_DONE;
    case OPT_DURATION:
        if (!units_parse_duration(found->value, &number->value))
            return bad_value(parser, found, "must be a duration: 30 (seconds), 500ms, 10m, 1h30m, 7d");
        return TOOL_DONE;
    default:
        if (!units_parse_when(found->value, &number->value))
            return bad_value(parser, found, "must be a time: 2026-11-21T09:34:15Z, 2026-11-21, or ago: 10m, 2h, 7d");
        return TOOL_DONE;
    }
}

static int store(struct parser *parser, const struct found *found)
{
    switch (found->opt->kind) {
    case OPT_FLAG:
        *(bool *)found->field = true;
        return TOOL_DONE;
    case OPT_TEXT:
        *(const char **)found->field = found->value;
        return TOOL_DONE;
    case OPT_LIST:
        return store_list(parser, found);
    case OPT_CHOICE:
        return store_choice(parser, found);
    default:
        return store_number(parser, found);
    }
}

/* ------------------------------------------------------------------------------------------------------- finding */

static bool opt_is(const struct opt *opt, const char *name, size_t name_size, char letter)
{
    if (letter)
        return opt->letter == letter;
    return opt->name && strlen(opt->name) == name_size && !memcmp(opt->name, name, name_size);
}

/* Looks an option up, by name or (when not 0) by letter: the verb's own first. */
static bool find(struct parser *parser, const char *name, size_t name_size, char letter, struct found *ret)
{
    for (const struct opt *opt = parser->own; opt && opt->kind; opt++)
        if (opt_is(opt, name, name_size, letter)) {
            ret->opt = opt;
            ret->field = (char *)parser->args + opt->offset;
            return true;
        }
    for (const struct opt *opt = tool_options; opt->kind; opt++)
        if (opt_is(opt, name, name_size, letter)) {
            ret->opt = opt;
            ret->field = (char *)parser->tool + opt->offset;
            return true;
        }
    return false;
}

static int unknown(struct parser *parser, const char *word, size_t name_size)
{
    const char *names[64];
    size_t count = 0;
    for (const struct opt *opt = parser->own; opt && opt->kind && count < 60; opt++)
        if (opt->name)
            names[count++] = opt->name;
    for (const struct opt *opt = tool_options; opt->kind && count < 63; opt++)
        names[count++] = opt->name;
    names[count] = NULL;
    char name[WORD_MAX + 1];
    snprintf(name, sizeof name, "%.*s", (int)name_size, name_size ? word + 2 : "");
    const char *nearest = name_size ? args_nearest(name, names) : NULL;
    if (nearest)
        return say_usage(parser->tool, "unknown option --%s; did you mean --%s?", name, nearest);
    return say_usage(parser->tool, "unknown option %s (after -- everything is taken as it is)", word);
}

/* The value of an option that needs one: what stands behind it in the same word, or else the next word. */
static int take_value(struct parser *parser, struct found *found, const char *attached)
{
    found->value = attached;
    if (!attached && parser->at + 1 < parser->words->count)
        found->value = parser->words->items[++parser->at];
    if (!found->value)
        return say_usage(parser->tool, "%s needs a value: %s", found->written, found->opt->value);
    return TOOL_DONE;
}

static int parse_long(struct parser *parser, const char *word)
{
    const char *name = word + 2, *equals = strchr(name, '=');
    size_t name_size = equals ? (size_t)(equals - name) : strlen(name);
    struct found found = {0};
    snprintf(found.written, sizeof found.written, "--%.*s", (int)name_size, name);
    if (!find(parser, name, name_size, 0, &found))
        return unknown(parser, word, name_size);
    if (found.opt->kind == OPT_FLAG && equals)
        return say_usage(parser->tool, "%s takes no value", found.written);
    if (found.opt->kind != OPT_FLAG) {
        int status = take_value(parser, &found, equals ? equals + 1 : NULL);
        if (status)
            return status;
    }
    return store(parser, &found);
}

static int parse_letters(struct parser *parser, const char *word)
{
    for (const char *letter = word + 1; *letter; letter++) {
        struct found found = {.written = {'-', *letter}};
        if (!find(parser, NULL, 0, *letter, &found))
            return unknown(parser, word, 0);
        bool takes_value = found.opt->kind != OPT_FLAG;
        int status = takes_value ? take_value(parser, &found, letter[1] ? letter + 1 : NULL) : TOOL_DONE;
        if (!status)
            status = store(parser, &found);
        if (status || takes_value)
            return status;
    }
    return TOOL_DONE;
}

static void keep_rest(struct parser *parser, size_t from)
{
    for (size_t i = from; i < parser->words->count; i++)
        parser->words->items[parser->kept++] = parser->words->items[i];
    parser->words->count = parser->kept;
}

int args_parse(struct tool *tool, const struct opt *own, void *args, struct words *words, bool leading_only)
{
    struct parser parser = {tool, own, args, words, 0, 0};
    for (; parser.at < words->count; parser.at++) {
        char *word = words->items[parser.at];
        int status = TOOL_DONE;
        if (word[0] != '-' || !word[1]) {
            if (leading_only)
                break;
            words->items[parser.kept++] = word;
        } else if (!strcmp(word, "--")) {
            parser.at++;
            break;
        } else {
            status = word[1] == '-' ? parse_long(&parser, word) : parse_letters(&parser, word);
        }
        if (status)
            return status;
    }
    keep_rest(&parser, parser.at);
    return TOOL_DONE;
}
