/* fuzz_dead.c - the import of a dead letter from arbitrary text: refused with a message, or what is exported afterwards
 * says the same and can be imported again. */
#include "../../lib/spool.h"
#include "fuzz.h"

static struct spool *spool;

static void set_up(void)
{
    char dir[96];
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = 8 << 20, .durability = SPOOL_DURABLE_PROCESS);
    snprintf(dir, sizeof dir, "%s/s", scratch_dir());
    require(spool_open(dir, &options, &spool) == SPOOL_OK);
}

static int export(void *user, const struct spool_dead_letter *letter)
{
    char **ret = user;
    require(!*ret);
    require(letter->history_count <= 32 && letter->history_count > 0);
    require(letter->history[letter->history_count - 1].kind == SPOOL_ATTEMPT_IMPORTED);
    require(spool_dead_to_json(letter, ret, NULL) == SPOOL_OK);
    return 0;
}

static char *only_letter(void)
{
    char *text = NULL;
    require(spool_dead_each(spool, NULL, export, &text) == SPOOL_OK);
    require(text != NULL);
    return text;
}

/* Without the history, which notes each import. */
static void cut_history(char *text)
{
    char *from = strstr(text, "\"history\":["), *to = strstr(text, ",\"event\":{\"id\"");
    require(from && to);
    memmove(from, to, strlen(to) + 1);
}

static void there_and_back(void)
{
    uint64_t n = 0;
    char *first = only_letter(), *second;
    require(spool_dead_import(spool, first, strlen(first)) == SPOOL_EEXISTS);
    require(spool_dead_purge(spool, NULL, NULL, &n) == SPOOL_OK && n == 1);
    require(spool_dead_import(spool, first, strlen(first)) == SPOOL_OK);
    second = only_letter();
    require(spool_dead_purge(spool, NULL, NULL, &n) == SPOOL_OK && n == 1);
    cut_history(first);
    cut_history(second);
    require(strcmp(first, second) == 0);
    spool_free(first);
    spool_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!spool)
        set_up();
    int code = spool_dead_import(spool, (const char *)data, size);
    if (code == SPOOL_OK)
        there_and_back();
    else
        require(code != SPOOL_EINTERNAL && spool_last_error()[0]);
    return 0;
}
