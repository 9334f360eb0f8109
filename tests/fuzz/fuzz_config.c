/* fuzz_config.c - a configuration file of arbitrary text, and a sink's configuration: refused with a message, or it
 * works.
 *
 * An '@' in the text stands for the scratch directory and a slash. Inputs that name other paths are left out: what they
 * say would be done. */
#include <signal.h>
#include <sys/resource.h>

#include "../../delivery/delivery.h"
#include "fuzz.h"

enum { FILE_BYTES_MAX = 24 << 20 };

static char file[96], spool_dir[96];

static void set_up(void)
{
    snprintf(file, sizeof file, "%s/spool.json", scratch_dir());
    snprintf(spool_dir, sizeof spool_dir, "%s/s", scratch_dir());
    require(chdir(scratch_dir()) == 0);
    /* A journal may have a GiB: the refusal is as good a test. */
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){FILE_BYTES_MAX, FILE_BYTES_MAX});
}

static void write_file(const uint8_t *data, size_t size)
{
    FILE *out = fopen(file, "we");
    require(out != NULL);
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '@')
            fprintf(out, "%s/", scratch_dir());
        else
            fputc(data[i], out);
    }
    require(fclose(out) == 0);
}

static void try_file(void)
{
    struct spool *spool = NULL;
    struct spool_event event = SPOOL_EVENT(.type = "t", .durability = SPOOL_DURABLE_PROCESS);
    int code = spool_open_config(file, &spool);
    if (code) {
        require(!spool && spool_last_error()[0]);
        return;
    }
    int stored = spool_enqueue(spool, &event, NULL);
    require(stored == SPOOL_OK || spool_last_error()[0]);
    require(spool_close(spool) == SPOOL_OK);
}

static void check_sink(const char *text)
{
    static const char *const kinds[] = {"null", "file", "stdout"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        delivery_builtin_check(kinds[i], text);
}

/* Takes away everything the configuration made, whatever its names. */
static void clean_up(void)
{
    scratch_remove(scratch_dir());
    require(mkdir(scratch_dir(), 0700) == 0 && chdir(scratch_dir()) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!file[0])
        set_up();
    if (memchr(data, '/', size) || memmem(data, size, "\\u002", 5) || memmem(data, size, "..", 2))
        return 0;
    char *text = malloc(size + 1);
    require(text != NULL);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    check_sink(text);
    free(text);
    write_file(data, size);
    try_file();
    clean_up();
    return 0;
}
