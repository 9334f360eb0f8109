/* tool.h - the spool command: what its files share.
 *
 * A verb is one `struct tool_verb`: its name, its options as a table, and a function. spool.c finds the verb, has its
 * words parsed by args.c into the verb's own struct, and calls it; help texts are made from the same tables. The
 * command knows the library by spool.h alone. */
#ifndef TOOLS_TOOL_H
#define TOOLS_TOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../lib/spool.h"

/* Exit statuses: a promise of spool(1). */
enum tool_status { TOOL_DONE = 0, TOOL_FAILED = 1, TOOL_USAGE = 2, TOOL_NOTHING = 3 };

enum tool_format { FORMAT_AUTO = 0, FORMAT_JSON, FORMAT_TEXT };

/* What every verb accepts. */
struct tool {
    const char *dir; /* -C, else $SPOOL_DIR, else NULL */
    int format;      /* enum tool_format */
    bool help, version;
    const char *verb; /* the name of the verb that runs, for messages */
};

/* ------------------------------------------------------------------------------------------------ options (args.c) */

enum opt_kind {
    OPT_FLAG = 1, /* bool */
    OPT_TEXT,     /* const char *, NULL if not given */
    OPT_LIST,     /* struct opt_list; may be repeated */
    OPT_COUNT,    /* struct opt_number */
    OPT_DURATION, /* struct opt_number: milliseconds, from "30", "30s", "1h30m" */
    OPT_WHEN,     /* struct opt_number: nanoseconds since 1970, from RFC 3339 or a time ago */
    OPT_CHOICE,   /* int: index into `choices` */
};
struct opt_list {
    const char *items[SPOOL_TAGS_MAX + 1]; /* NULL-terminated */
    size_t count;
};
struct opt_number {
    bool given;
    uint64_t value;
};
struct opt {
    char letter;        /* 0 if it has a long name only */
    const char *name;   /* NULL if it has a letter only */
    enum opt_kind kind; /* 0 ends a table */
    size_t offset;      /* of the field in the verb's struct */
    const char *value;  /* the value's name in help texts */
    const char *help;
    const char *const *choices; /* NULL-terminated */
};

#define OPT_ENTRY(type, letter, name, kind, field, value, help)                                                        \
    {                                                                                                                  \
        letter, name, kind, offsetof(type, field), value, help, NULL                                                   \
    }

extern const struct opt tool_options[]; /* the fields of struct tool */

/* The words of a verb that are no options, in order. */
struct words {
    char **items;
    size_t count;
};

struct tool_verb {
    const char *name;          /* one word or two: "put", "sink add" */
    const char *usage;         /* behind the name */
    const char *summary;       /* one line; NULL: the verb is not listed, it is for the command itself */
    const char *notes;         /* more for `spool help VERB`, or NULL */
    const struct opt *options; /* of its own, or NULL */
    size_t words_min, words_max;
    /* `args` points to a zeroed struct that the options were stored in. Returns enum tool_status. */
    int (*run)(const struct tool *tool, void *args, const struct words *words);
};

enum { ARGS_SIZE_MAX = 1024 }; /* the largest struct of options a verb may have */

/* Takes options out of `words`, which are moved together in place. `own` (may be NULL) go to `args`, tool_options to
 * `tool`. With `leading_only` it ends at the first word that is no option. Returns TOOL_DONE, or TOOL_USAGE with the
 * message printed. */
int args_parse(struct tool *tool, const struct opt *own, void *args, struct words *words, bool leading_only);

/* The candidate nearest to `word` by edit distance, or NULL if none is near. `candidates` is NULL-terminated. */
const char *args_nearest(const char *word, const char *const *candidates);

/* ------------------------------------------------------------------------------------------------ messages (say.c) */

/* Prints "spool: VERB: message" on stderr. */
void say(const struct tool *tool, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The same for wrong usage, with a pointer to the verb's help; returns TOOL_USAGE. */
int say_usage(const struct tool *tool, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Reports a failed call: "spool: VERB: <what>: <the library's message>" and what to do next, when we know. Returns the
 * exit status that belongs to `code`. `what` may be NULL. */
int say_error(const struct tool *tool, int code, const char *what);

/* Out of memory in the command itself: there is nothing to go on with. */
void *tool_alloc(size_t count, size_t size);
char *tool_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Opens the spool of -C. `flags` as in spool_options. Returns TOOL_DONE, else prints and returns the status. */
int tool_open(const struct tool *tool, uint32_t flags, struct spool **ret_spool);

/* Something that is damaged was left out of what a spool that is open for reading shows; it was said on stderr. */
bool tool_saw_damage(void);
/* For spool_options.on_notice, with the verb: what a sink has to say although nothing failed. */
void tool_say_note(void *user, const struct spool_notice *notice);

/* JSON was asked for with -o, or `when_auto` holds and nothing was. */
bool tool_wants_json(const struct tool *tool, bool when_auto);

/* Flushes stdout; TOOL_FAILED and a message if something printed was lost, else `status`. */
int tool_finish(const struct tool *tool, int status);

/* ---------------------------------------------------------------------------------------------------------- verbs */

extern const struct tool_verb put_verb, run_verb, drain_verb;
extern const struct tool_verb cat_verb, tail_verb, show_verb, verify_verb, torture_verb;
extern const struct tool_verb torture_work_verb; /* not listed */
extern const struct tool_verb status_verb, sinks_verb, metrics_verb;
extern const struct tool_verb sink_rewind_verb, sink_set_verb;
extern const struct tool_verb sink_add_verb, sink_remove_verb, sink_pause_verb, sink_resume_verb;
extern const struct tool_verb sink_kinds_verb, sink_test_verb;
extern const struct tool_verb clock_verb, clock_reset_verb;
extern const struct tool_verb dlq_list_verb, dlq_show_verb, dlq_stats_verb, dlq_export_verb;
extern const struct tool_verb dlq_requeue_verb, dlq_edit_verb, dlq_purge_verb, dlq_import_verb;

#endif
