/* say.c - messages on stderr, exit statuses, and opening the spool: what every verb needs first. */
#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tool.h"

static void say_list(const struct tool *tool, const char *format, va_list list)
{
    fputs("spool: ", stderr);
    if (tool && tool->verb)
        fprintf(stderr, "%s: ", tool->verb);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
}

void say(const struct tool *tool, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say_list(tool, format, list);
    va_end(list);
}

int say_usage(const struct tool *tool, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    say_list(tool, format, list);
    va_end(list);
    fprintf(stderr, "spool: try: spool help%s%s\n", tool->verb ? " " : "", tool->verb ? tool->verb : "");
    return TOOL_USAGE;
}

/* What the library's message cannot know: which command helps. */
static const char *advice(int code)
{
    switch (code) {
    case SPOOL_ENOTSPOOL:
        return "check -C and SPOOL_DIR; `spool put` makes a spool in an empty or new directory";
    case SPOOL_EFULL:
        return "`spool status` shows who holds events; `spool drain` delivers them";
    case SPOOL_EDAMAGED:
        return "`spool verify` names what is damaged";
    case SPOOL_EBUSY:
        return "`spool sinks` shows which sinks are served elsewhere; that process must end first";
    case EACCES:
    case EPERM:
        return "run as the owner of the directory";
    default:
        return NULL;
    }
}

/* Is `what` named in the message already, as a word of its own? */
static bool is_named(const char *message, const char *what)
{
    size_t size = strlen(what);
    for (const char *at = strstr(message, what); size && at; at = strstr(at + 1, what))
        if ((at == message || strchr(" \"(/", at[-1])) && (!at[size] || strchr(" :,.\")/", at[size])))
            return true;
    return false;
}

static int say_failure(const struct tool *tool, int code, const char *what, const char *next)
{
    const char *message = spool_last_error();
    if (!*message)
        message = spool_strerror(code);
    bool prefix = what && !is_named(message, what);
    say(tool, "%s%s%s", prefix ? what : "", prefix ? ": " : "", message);
    if (next)
        fprintf(stderr, "spool: %s\n", next);
    return code == SPOOL_ENOTFOUND || code == ENOENT ? TOOL_NOTHING : TOOL_FAILED;
}

int say_error(const struct tool *tool, int code, const char *what)
{
    return say_failure(tool, code, what, advice(code));
}

void *tool_alloc(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (!memory) {
        fputs("spool: out of memory\n", stderr);
        exit(TOOL_FAILED);
    }
    return memory;
}

char *tool_format(const char *format, ...)
{
    char *text = NULL;
    va_list list;
    va_start(list, format);
    int size = vasprintf(&text, format, list);
    va_end(list);
    if (size < 0) {
        fputs("spool: out of memory\n", stderr);
        exit(TOOL_FAILED);
    }
    return text;
}

static atomic_bool damage_seen;

/* Who only looks changes nothing, so no count of the spool tells of what is left out. */
static void say_damage(void *user, const struct spool_notice *notice)
{
    const struct tool tool = {.verb = user};
    if (notice->kind != SPOOL_NOTICE_DAMAGE)
        return;
    atomic_store(&damage_seen, true);
    if (user != verify_verb.name) /* which finds it again, and counts */
        say(&tool, "%s", notice->reason);
}

bool tool_saw_damage(void)
{
    return atomic_load(&damage_seen);
}

void tool_say_note(void *user, const struct spool_notice *notice)
{
    const struct tool tool = {.verb = user};
    if (notice->kind == SPOOL_NOTICE_SINK_NOTE || notice->kind == SPOOL_NOTICE_SINK_FILE)
        say(&tool, "%s: %s", notice->sink, notice->reason);
}

int tool_open(const struct tool *tool, uint32_t flags, struct spool **ret_spool)
{
    if (!tool->dir)
        return say_usage(tool, "which spool? Give its directory with -C DIR, or set SPOOL_DIR");
    struct spool_options options = SPOOL_OPTIONS(.flags = flags, .notice_user = (void *)tool->verb);
    options.on_notice = flags & SPOOL_READ_ONLY ? say_damage : tool_say_note;
    int code = spool_open(tool->dir, &options, ret_spool);
    if (!code)
        return TOOL_DONE;
    /* What keeps a spool from opening, verify does not find either: the message says what to do. */
    int status = say_failure(tool, code, tool->dir, code == SPOOL_EDAMAGED ? NULL : advice(code));
    if (flags & (SPOOL_READ_ONLY | SPOOL_NO_CREATE))
        return code == SPOOL_ENOTSPOOL ? TOOL_NOTHING : status;
    return TOOL_FAILED; /* who makes a spool does not look for one */
}

bool tool_wants_json(const struct tool *tool, bool when_auto)
{
    return tool->format == FORMAT_JSON || (tool->format == FORMAT_AUTO && when_auto);
}

int tool_finish(const struct tool *tool, int status)
{
    if (!fflush(stdout) && !ferror(stdout))
        return status;
    say(tool, "standard output: %s: not everything was printed", strerror(errno));
    return status == TOOL_DONE ? TOOL_FAILED : status;
}
