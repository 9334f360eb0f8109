/* metrics.c - spool metrics: everything that is counted, for Prometheus. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output.h"
#include "tool.h"

struct metrics_args {
    const char *textfile;
};

static const struct opt metrics_options[] = {
    OPT_ENTRY(struct metrics_args, 't', "textfile", OPT_TEXT, textfile, "PATH",
              "replace that file at once, as node_exporter's textfile collector wants it"),
    {0},
};

/* Under another name in the same folder, then renamed: a reader sees the old one or the new one. */
static int write_textfile(const struct tool *tool, const char *path, const char *text, size_t size)
{
    char *temporary = tool_format("%s.%ld.tmp", path, (long)getpid());
    FILE *file = fopen(temporary, "wxe");
    bool written = file && fwrite(text, 1, size, file) == size;
    if (written && fchmod(fileno(file), 0644))
        written = false;
    int err = errno;
    if (file && fclose(file))
        written = false, err = errno;
    if (written && rename(temporary, path))
        written = false, err = errno;
    if (!written) {
        say(tool, "%s: %s", path, strerror(err));
        if (file)
            unlink(temporary);
    }
    free(temporary);
    return written ? TOOL_DONE : TOOL_FAILED;
}

static int metrics_run(const struct tool *tool, void *user_args, const struct words *words)
{
    const struct metrics_args *args = user_args;
    struct spool *spool;
    char *text = NULL;
    size_t size = 0;
    (void)words;
    if (tool->format == FORMAT_JSON)
        return say_usage(tool, "-o json: this is Prometheus text; spool status -o json has the figures as JSON");
    int status = tool_open(tool, SPOOL_READ_ONLY | SPOOL_NO_CREATE, &spool);
    if (status)
        return status;
    int code = spool_metrics(spool, &text, &size);
    if (code)
        status = say_error(tool, code, NULL);
    else if (args->textfile)
        status = write_textfile(tool, args->textfile, text, size);
    else
        fwrite(text, 1, size, stdout); /* tool_finish() looks whether it was lost */
    spool_free(text);
    spool_close(spool);
    return status;
}

const struct tool_verb metrics_verb = {
    .name = "metrics",
    .usage = "[--textfile PATH]",
    .summary = "Print everything that is counted as Prometheus text",
    .options = metrics_options,
    .run = metrics_run,
};
