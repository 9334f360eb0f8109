/* fuzz_cli.c - the spool command with arbitrary words and standard input, on a small spool.
 *
 * The input is words, one a line, an empty line, and standard input. tools/spool.c is compiled with another name for
 * its main(). Words that name paths are left out: what they say would be done. So are verbs that wait for a signal or
 * for events, unless they are asked for help. */
#include <fcntl.h>
#include <sys/mman.h>

#include "../../lib/spool.h"
#include "fuzz.h"

int spool_tool_main(int argc, char **argv);

enum { WORDS_MAX = 24, RUNS_PER_SPOOL = 50 };

static char dir[96];
static int input_fd = -1;

static void make_spool(void)
{
    const struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = 8 << 20, .journal_bytes = 64 << 10, .segment_bytes = 1 << 20);
    struct spool *spool;
    struct spool_event event = SPOOL_EVENT(.type = "first", .agent = "a", .body = "{}", .body_size = 2);
    scratch_remove(scratch_dir());
    require(mkdir(scratch_dir(), 0700) == 0 && chdir(scratch_dir()) == 0);
    require(spool_open(dir, &options, &spool) == SPOOL_OK);
    require(spool_enqueue(spool, &event, NULL) == SPOOL_OK);
    require(spool_sink_load(spool, "hole", "null", NULL, NULL) == SPOOL_OK);
    require(spool_close(spool) == SPOOL_OK);
}

static void set_up(void)
{
    snprintf(dir, sizeof dir, "%s/spool", scratch_dir());
    setenv("SPOOL_DIR", dir, 1);
    input_fd = memfd_create("stdin", MFD_CLOEXEC);
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    require(input_fd >= 0 && null >= 0 && dup2(null, STDOUT_FILENO) >= 0);
}

static int is_any(const char *word, const char *const *list)
{
    for (; *list; list++) {
        if (strstr(word, *list))
            return 1;
    }
    return 0;
}

static int is_harmless(char **argv, int argc)
{
    static const char *const places[] = {"/", "..", NULL}, *const waiting[] = {"run",     "drain", "tail", "follow",
                                                                               "torture", "-f",    NULL};
    int waits = 0, helps = 0;
    for (int i = 1; i < argc; i++) {
        if (is_any(argv[i], places))
            return 0;
        waits |= is_any(argv[i], waiting);
        helps |= i == argc - 1 && strcmp(argv[i], "--help") == 0;
    }
    return !waits || helps;
}

/* Splits the head into words; returns where standard input begins. */
static char *split(char *text, char **argv, int *ret_argc)
{
    static char name[] = "spool";
    int argc = 0;
    argv[argc++] = name;
    while (*text && *text != '\n' && argc < WORDS_MAX) {
        char *end = strchr(text, '\n');
        argv[argc++] = text;
        if (!end) {
            text += strlen(text);
            break;
        }
        *end = 0;
        text = end + 1;
    }
    argv[argc] = NULL;
    *ret_argc = argc;
    return *text == '\n' ? text + 1 : text;
}

static void set_input(const char *bytes, size_t size)
{
    require(ftruncate(input_fd, 0) == 0 && pwrite(input_fd, bytes, size, 0) == (ssize_t)size);
    require(lseek(input_fd, 0, SEEK_SET) == 0 && dup2(input_fd, STDIN_FILENO) == STDIN_FILENO);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned runs;
    char *argv[WORDS_MAX + 1], *text = malloc(size + 1);
    int argc;
    require(text != NULL);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    if (input_fd < 0)
        set_up();
    char *rest = split(text, argv, &argc);
    if (is_harmless(argv, argc)) {
        if (runs++ % RUNS_PER_SPOOL == 0)
            make_spool();
        set_input(rest, (size_t)(text + size - rest));
        int status = spool_tool_main(argc, argv);
        require(status >= 0 && status <= 3);
    }
    free(text);
    return 0;
}
