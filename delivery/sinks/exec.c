/* exec.c - events to a program that runs as our child: a line each to its standard input, an answer each from its
 * standard output (exec_talk.c has the protocol). For whatever has no sink of its own: a script is enough.
 *
 * The child is started with the first batch and stays. When it ends, says nothing for answer_timeout, or answers
 * nonsense, it is ended for good and the sink is unavailable: the engine tries again with its backoff, which starts a
 * new one. Events it had not answered come again, so a child may see an event twice; it has the id to tell.
 *
 * An event that ends the child each time must not hold up all others. So after an end, as many events as were under way
 * go one at a time; if the child ends again, the one that it had fails alone (an attempt, so that max_attempts makes it
 * a dead letter). What only an operator can mend (no such program, exit status 78) is SPOOL_ECONFIG. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "exec_talk.h"

extern char **environ;

enum { WINDOW_MAX = 4096, EXIT_CONFIG = 78 /* EX_CONFIG of sysexits.h */, ARGS_MAX = 256 };

struct exec {
    struct child child;
    struct child_command command;
    char **own_env; /* the strings of envp that are ours */
    uint64_t answer_timeout_ms, stop_grace_ms, window;
    size_t wary; /* events still to be sent one at a time */
    struct cancel cancel;
};

/* ------------------------------------------------------------------------------------------------------ configuration
 */

static int wrong(const char *key, const char *what)
{
    return spool_sink_error(SPOOL_ECONFIG, "configuration of the exec sink: \"%s\" %s", key, what);
}

static void free_texts(char **texts)
{
    for (char **text = texts; text && *text; text++)
        free(*text);
    free(texts);
}

/* An array of texts, its NULL included. */
static int read_command(struct config *config, char ***ret)
{
    json_t *array = json_object_get(config->object, "command"), *item;
    size_t n = json_array_size(array), i;
    if (n == 0 || n > ARGS_MAX)
        return wrong("command", "must be an array: [\"/path/of/program\", \"argument\", …]");
    char **argv = calloc(n + 1, sizeof *argv);
    if (!argv)
        return spool_sink_error(ENOMEM, "out of memory");
    *ret = argv;
    json_array_foreach(array, i, item)
    {
        if (!json_is_string(item) || strlen(json_string_value(item)) != json_string_length(item))
            return wrong("command", "must be an array of texts without NUL");
        argv[i] = strdup(json_string_value(item));
        if (!argv[i])
            return spool_sink_error(ENOMEM, "out of memory");
    }
    if (argv[0][0] != '/')
        return wrong("command", "must begin with an absolute path: no shell and no PATH is used");
    json_object_del(config->object, "command");
    return SPOOL_OK;
}

static int check_variable(const char *name, json_t *value)
{
    if (!*name || strchr(name, '='))
        return wrong("env", "has a name that is none");
    if (!json_is_string(value) || strlen(json_string_value(value)) != json_string_length(value))
        return wrong("env",
                     "must hold texts without NUL; a secret reaches the child through the environment it inherits");
    return SPOOL_OK;
}

/* "NAME=value" texts of the object. */
static int read_env(struct config *config, char ***ret)
{
    json_t *object = json_object_get(config->object, "env"), *value;
    const char *name;
    size_t n = 0;
    if (object && !json_is_object(object))
        return wrong("env", "must be an object: {\"NAME\": \"value\"}");
    char **texts = calloc(json_object_size(object) + 1, sizeof *texts);
    if (!texts)
        return spool_sink_error(ENOMEM, "out of memory");
    *ret = texts;
    json_object_foreach(object, name, value)
    {
        int code = check_variable(name, value);
        if (code == SPOOL_OK && asprintf(&texts[n++], "%s=%s", name, json_string_value(value)) < 0) {
            texts[n - 1] = NULL;
            code = spool_sink_error(ENOMEM, "out of memory");
        }
        if (code != SPOOL_OK)
            return code;
    }
    json_object_del(config->object, "env");
    return SPOOL_OK;
}

static int read_folder(struct config *config, char **ret)
{
    int code = config_text(config, "folder", "", ret);
    if (code != SPOOL_OK)
        return code;
    if (**ret == '\0') {
        free(*ret);
        *ret = NULL;
    } else if (**ret != '/')
        return wrong("folder", "must be an absolute path");
    return SPOOL_OK;
}

static int configure(struct exec *x, const char *json)
{
    static const char *const errors[] = {"inherit", "null", NULL};
    struct config c;
    int quiet = 0;
    int code = config_open(&c, "exec", json);
    if (code == SPOOL_OK)
        code = read_command(&c, &x->command.argv);
    if (code == SPOOL_OK)
        code = read_env(&c, &x->own_env);
    if (code == SPOOL_OK)
        code = read_folder(&c, &x->command.folder);
    if (code == SPOOL_OK)
        code = config_choice(&c, "stderr", errors, 0, &quiet);
    if (code == SPOOL_OK)
        code = config_duration_ms(&c, "answer_timeout", 20000, &x->answer_timeout_ms);
    if (code == SPOOL_OK)
        code = config_duration_ms(&c, "stop_grace", 1000, &x->stop_grace_ms);
    if (code == SPOOL_OK)
        code = config_number(&c, "window", 1024, &x->window);
    code = config_close(&c, code);
    x->command.quiet = quiet == 1;
    if (code == SPOOL_OK && (x->window < 1 || x->window > WINDOW_MAX))
        code = wrong("window", "must be 1 to 4096");
    if (code == SPOOL_OK &&
        (x->answer_timeout_ms == 0 || x->answer_timeout_ms > UINT32_MAX || x->stop_grace_ms > 60000))
        code = wrong(x->stop_grace_ms > 60000 ? "stop_grace" : "answer_timeout", "is out of range");
    return code;
}

static void free_config(struct exec *x)
{
    free_texts(x->command.argv);
    free_texts(x->own_env);
    free(x->command.envp);
    free(x->command.folder);
}

static int exec_check(const char *json_config)
{
    struct exec x = {0};
    int code = configure(&x, json_config);
    free_config(&x);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- the child
 */

static bool is_overridden(const struct exec *x, const char *variable)
{
    size_t name = strcspn(variable, "=") + 1;
    for (char **own = x->own_env; *own; own++)
        if (strncmp(*own, variable, name) == 0)
            return true;
    return false;
}

/* Ours, with what the configuration sets in place of it. */
static int make_env(struct exec *x)
{
    size_t n = 0;
    for (char **text = environ; text && *text; text++)
        n++;
    for (char **own = x->own_env; *own; own++)
        n++;
    char **envp = calloc(n + 1, sizeof *envp);
    if (!envp)
        return spool_sink_error(ENOMEM, "out of memory");
    n = 0;
    for (char **text = environ; text && *text; text++)
        if (!is_overridden(x, *text))
            envp[n++] = *text;
    for (char **own = x->own_env; *own; own++)
        envp[n++] = *own;
    x->command.envp = envp;
    return SPOOL_OK;
}

static bool needs_operator(int err)
{
    return err == ENOENT || err == EACCES || err == ENOTDIR || err == ENOEXEC || err == ELOOP || err == ENAMETOOLONG;
}

static int start(struct exec *x)
{
    if (child_runs(&x->child))
        return SPOOL_OK;
    int err = child_start(&x->child, &x->command);
    if (err == 0)
        return SPOOL_OK;
    return spool_sink_error(needs_operator(err) ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE, "cannot start %s: %s",
                            x->command.argv[0], spool_strerror(err));
}

static int tell_status(const struct exec *x, int status)
{
    const char *program = x->command.argv[0];
    if (status == -1)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s ended", program);
    if (WIFSIGNALED(status))
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s was ended by signal %d", program, WTERMSIG(status));
    if (WEXITSTATUS(status) == EXIT_CONFIG)
        return spool_sink_error(SPOOL_ECONFIG, "%s ended with status 78: its configuration is wrong", program);
    return spool_sink_error(SPOOL_EUNAVAILABLE, "%s ended with status %d", program, WEXITSTATUS(status));
}

static int give_up_child(struct exec *x, const struct talk *talk, enum talk_end end)
{
    int status;
    const char *program = x->command.argv[0];
    child_end(&x->child, end == TALK_ENDED ? 100 : 0, &status);
    switch (end) {
    case TALK_ENDED:
        return tell_status(x, status);
    case TALK_SILENT:
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s gave no answer within %llu ms and was ended", program,
                                (unsigned long long)x->answer_timeout_ms);
    case TALK_NONSENSE:
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s answered nonsense and was ended: \"%s\"", program,
                                talk->nonsense);
    case TALK_CANCELLED:
        return spool_sink_error(SPOOL_EUNAVAILABLE, "cancelled; %s was ended", program);
    default:
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s: %s", program, spool_strerror(talk->err));
    }
}

/* The child had exactly this one: it fails alone, the others are not held up. */
static void blame(const struct talk *talk, enum talk_end end)
{
    bool alone = talk->window == 1 && talk->open == 1;
    if (alone && (end == TALK_ENDED || end == TALK_SILENT))
        spool_delivery_fail(SPOOL_DELIVERY_AT(talk->batch, talk->alone), SPOOL_RETRY,
                            "the program %s while it had this event", end == TALK_ENDED ? "ended" : "gave no answer");
}

/* ------------------------------------------------------------------------------------------------------------- hooks
 */

/* Part of a batch: while wary, one at a time. *ret_n: how many it took. */
static int deliver_part(struct exec *x, struct spool_delivery *batch, size_t n, size_t *ret_n)
{
    struct talk talk = {
        .child = &x->child,
        .cancel = &x->cancel,
        .answer_timeout_ms = (uint32_t)x->answer_timeout_ms,
        .window = x->wary > 0 ? 1 : x->window,
        .batch = batch,
        .n = x->wary > 0 && x->wary < n ? x->wary : n,
    };
    enum talk_end end = talk_run(&talk);
    if (x->wary > 0)
        x->wary -= talk.answered < x->wary ? talk.answered : x->wary;
    int code = SPOOL_OK;
    if (end != TALK_DONE) {
        blame(&talk, end);
        code = give_up_child(x, &talk, end);
        if (end == TALK_ENDED || end == TALK_SILENT)
            x->wary = talk.open > x->wary ? talk.open : x->wary;
    }
    *ret_n = talk.n;
    talk_free(&talk);
    return code;
}

static int exec_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct exec *x = state;
    int code = SPOOL_OK;
    for (size_t done = 0, part; done < n && code == SPOOL_OK; done += part) {
        part = 0;
        code = start(x);
        if (code == SPOOL_OK)
            code = deliver_part(x, SPOOL_DELIVERY_AT(batch, done), n - done, &part);
    }
    cancel_done(&x->cancel);
    return code;
}

static void exec_cancel(void *state)
{
    struct exec *x = state;
    cancel_set(&x->cancel);
}

static void exec_close(void *state)
{
    struct exec *x = state;
    if (!x)
        return;
    child_end(&x->child, (uint32_t)x->stop_grace_ms, NULL);
    cancel_free(&x->cancel);
    free_config(x);
    free(x);
}

static int exec_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                     size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    struct exec *x = calloc(1, sizeof *x);
    if (!x)
        return spool_sink_error(ENOMEM, "out of memory");
    x->child = (struct child){.pid_fd = -1, .in = -1, .out = -1};
    x->cancel.fd = -1;
    int code = configure(x, json_config);
    if (code == SPOOL_OK)
        code = make_env(x);
    int err = code == SPOOL_OK ? cancel_init(&x->cancel) : 0;
    if (err)
        code = spool_sink_error(err, "exec sink: %s", spool_strerror(err));
    if (code == SPOOL_OK)
        *ret_state = x;
    else
        exec_close(x);
    return code;
}

static const struct spool_sink exec_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "exec",
    .open = exec_open,
    .deliver = exec_deliver,
    .cancel = exec_cancel,
    .close = exec_close,
};

static const struct spool_sink_setting exec_settings[] = {
    {"command", "array of texts (required)", "the program's absolute path and its arguments; no shell"},
    {"env", "object, {}", "variables set for it, beside the environment it inherits"},
    {"folder", "text, ours", "absolute path of the folder it starts in"},
    {"stderr", "inherit | null, inherit", "where its standard error goes"},
    {"answer_timeout", "duration, 20s", "it is ended when it answers nothing for so long"},
    {"stop_grace", "duration, 1s", "between the end of its input and its being killed; at most 60s"},
    {"window", "number, 1024", "events it may have that it has not answered; 1 to 4096"},
    {NULL, NULL, NULL},
};

SPOOL_SINK_PLUGIN(.sink = &exec_sink, .check = exec_check, .settings = exec_settings,
                  .summary = "a line an event to a program that runs as a child and answers by ids")
