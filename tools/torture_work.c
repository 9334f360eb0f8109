/* torture_work.c - the workers of spool torture: this command once more, so that it can be killed.
 *
 *     torture-work make SPOOL MAX_BYTES EVENTS          makes the spool, with a file sink that writes EVENTS
 *     torture-work produce SPOOL ACKS PRODUCER COUNT HOW
 *                                                       stores COUNT events and writes down what was acknowledged; HOW
 * is reject, block (when full) or a limit on the size of its files torture-work deliver SPOOL delivers until it is
 * killed torture-work drain SPOOL                          delivers everything, prints "damaged BLOCKS", and ends
 *     torture-work locked FILE                          locks it, says so, and waits
 *     torture-work rename DIR                           renames over a file, for ever
 *     torture-work account ACKS EVENTS                  the account alone; exit status 1 if something is wrong
 *
 * Not listed in the help. Every answer that is not as it should be ends a worker with status 1 and a message. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "torture.h"

enum { SEGMENT_BYTES = 1 << 20, JOURNAL_BYTES = 256 << 10, FULL_ENOUGH = 20 };

static int open_spool(const struct tool *tool, const char *dir, struct spool_options *options, struct spool **ret)
{
    options->segment_bytes = SEGMENT_BYTES;
    options->journal_bytes = JOURNAL_BYTES;
    int code = spool_open(dir, options, ret);
    return code ? say_error(tool, code, dir) : TOOL_DONE;
}

static int close_spool(const struct tool *tool, struct spool *spool, int status)
{
    int code = spool_close(spool);
    return code && !status ? say_error(tool, code, "closing") : status;
}

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

/* ------------------------------------------------------------------------------------------------------------- making
 */

static int work_make(const struct tool *tool, char **words)
{
    struct spool *spool;
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = number(words[1]), .flags = SPOOL_ALLOW_NETWORK_FS);
    struct spool_sink_options order = SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT);
    int status = open_spool(tool, words[0], &options, &spool);
    if (status)
        return status;
    json_t *config = json_object();
    json_set(config, "path", json_text(words[2]));
    char *text = json_dumps(config, 0);
    int code = text ? spool_sink_load(spool, "found", "file", text, &order) : ENOMEM;
    free(text);
    json_decref(config);
    return close_spool(tool, spool, code ? say_error(tool, code, "adding the sink") : TOOL_DONE);
}

/* ---------------------------------------------------------------------------------------------------------- producing
 */

struct production {
    const struct tool *tool;
    struct spool *spool;
    int acks_fd;
    unsigned producer;
    uint64_t count, full;
};

/* Spreads numbers, so that sizes and priorities look random and are the same for the same event. */
static uint64_t mix(uint64_t n)
{
    return (n + 1) * 0x9e3779b97f4a7c15u >> 33;
}

static int enqueue(struct production *production, uint64_t n, struct spool_id *ret_id)
{
    char agent[32], body[BODY_ROOM];
    uint64_t random = mix(n ^ (uint64_t)production->producer << 32);
    snprintf(agent, sizeof agent, "producer-%u", production->producer);
    size_t pad = random % 16 ? random / 16 % 200 : random / 16 % BODY_PAD_MAX;
    struct spool_event event =
        SPOOL_EVENT(.type = "torture", .agent = agent, .priority = (enum spool_priority)(random / 7 % SPOOL_PRIORITIES),
                    .durability = random % 8 == 0 ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS, .body = body);
    event.body_size = account_write_body(body, production->producer, n, pad);
    return spool_enqueue(production->spool, &event, ret_id);
}

static int write_down(const struct production *production, const struct spool_id *id, uint64_t n)
{
    char line[ACK_LINE];
    account_write_ack(line, id, production->producer, n);
    if (write(production->acks_fd, line, sizeof line) == (ssize_t)sizeof line)
        return TOOL_DONE;
    say(production->tool, "the list of acknowledgements: %s", strerror(errno));
    return TOOL_FAILED;
}

static int produce_all(struct production *production)
{
    struct spool_id id;
    int status = TOOL_DONE;
    for (uint64_t n = 1; !status && n <= production->count && production->full < FULL_ENOUGH; n++) {
        int code = enqueue(production, n, &id);
        if (code == SPOOL_EFULL)
            production->full++;
        else
            status = code ? say_error(production->tool, code, "storing") : write_down(production, &id, n);
    }
    return status;
}

/* A limit on the size of files fails writes like a disk without room. */
static bool limit_files(const char *how)
{
    struct rlimit limit = {.rlim_cur = number(how), .rlim_max = number(how)};
    return !limit.rlim_cur || (signal(SIGXFSZ, SIG_IGN) != SIG_ERR && !setrlimit(RLIMIT_FSIZE, &limit));
}

static int work_produce(const struct tool *tool, char **words)
{
    struct spool_options options = SPOOL_OPTIONS(.full_timeout_ms = 50, .flags = SPOOL_ALLOW_NETWORK_FS);
    struct production production = {.tool = tool, .producer = (unsigned)number(words[2]), .count = number(words[3])};
    bool rejects = !strcmp(words[4], "reject");
    for (int i = 0; i < SPOOL_PRIORITIES; i++)
        options.full_policy[i] = rejects ? SPOOL_FULL_REJECT : SPOOL_FULL_BLOCK;
    production.acks_fd = open(words[1], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (production.acks_fd < 0 || !limit_files(words[4])) {
        say(tool, "%s: %s", words[1], strerror(errno));
        return TOOL_FAILED;
    }
    int status = open_spool(tool, words[0], &options, &production.spool);
    if (!status)
        status = close_spool(tool, production.spool, produce_all(&production));
    close(production.acks_fd);
    return status;
}

/* --------------------------------------------------------------------------------------------------------- delivering
 */

static int start_delivery(const struct tool *tool, const char *dir, struct spool **ret)
{
    struct spool_options options = SPOOL_OPTIONS(.flags = SPOOL_ALLOW_NETWORK_FS);
    int status = open_spool(tool, dir, &options, ret);
    if (status)
        return status;
    int code = spool_sink_load_registered(*ret, NULL);
    if (!code)
        code = spool_start(*ret);
    return code ? close_spool(tool, *ret, say_error(tool, code, "delivering")) : TOOL_DONE;
}

static int work_deliver(const struct tool *tool, char **words)
{
    struct spool *spool;
    int status = start_delivery(tool, words[0], &spool);
    while (!status)
        pause(); /* for SIGKILL */
    return status;
}

static int work_drain(const struct tool *tool, char **words)
{
    enum { DRAIN_MS = 120000 };
    struct spool *spool;
    struct spool_stats stats = SPOOL_STATS();
    int status = start_delivery(tool, words[0], &spool);
    if (status)
        return status;
    int code = spool_drain(spool, DRAIN_MS);
    if (!code)
        code = spool_stats(spool, &stats);
    if (!code)
        printf("damaged %" PRIu64 "\n", stats.damaged_blocks);
    return close_spool(tool, spool, code ? say_error(tool, code, "draining") : TOOL_DONE);
}

/* ------------------------------------------------------------------------------------------------------------- probing
 */

static int work_locked(const struct tool *tool, char **words)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
    int fd = open(words[0], O_RDWR | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_SETLK, &lock)) {
        say(tool, "%s: %s", words[0], strerror(errno));
        return TOOL_FAILED;
    }
    printf("locked\n");
    fflush(stdout);
    for (;;)
        pause(); /* for SIGKILL */
}

/* One whole file of a single letter under a name of its own, then under the name that others look at. */
static bool rename_once(int dir_fd, char letter)
{
    enum { SIZE = 20000 };
    char bytes[SIZE];
    memset(bytes, letter, sizeof bytes);
    int fd = openat(dir_fd, "new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool good = write(fd, bytes, sizeof bytes) == (ssize_t)sizeof bytes && !fdatasync(fd);
    close(fd);
    return good && !renameat(dir_fd, "new", dir_fd, "file");
}

static int work_rename(const struct tool *tool, char **words)
{
    int dir_fd = open(words[0], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    char letter = 'a';
    while (dir_fd >= 0 && rename_once(dir_fd, letter))
        letter = letter == 'z' ? 'a' : (char)(letter + 1);
    say(tool, "%s: %s", words[0], strerror(errno));
    return TOOL_FAILED;
}

static int work_account(const struct tool *tool, char **words)
{
    struct account account;
    if (!account_take(words[0], words[1], &account)) {
        say(tool, "%s", strerror(errno));
        return TOOL_FAILED;
    }
    printf("acknowledged %" PRIu64 ", found %" PRIu64 ", lost %" PRIu64 ", twice %" PRIu64 ", invented %" PRIu64
           ", out of order %" PRIu64 ", not answered %" PRIu64 "\n",
           account.acknowledged, account.found, account.lost, account.duplicated, account.invented, account.disordered,
           account.unanswered);
    return account.lost || account.duplicated || account.invented || account.disordered ? TOOL_FAILED : TOOL_DONE;
}

/* ---------------------------------------------------------------------------------------------------------- which one
 */

static int work_run(const struct tool *tool, void *args, const struct words *words)
{
    static const struct {
        const char *name;
        size_t words;
        int (*run)(const struct tool *tool, char **words);
    } works[] = {
        {"make", 3, work_make},       {"produce", 5, work_produce}, {"deliver", 1, work_deliver},
        {"drain", 1, work_drain},     {"locked", 1, work_locked},   {"rename", 1, work_rename},
        {"account", 2, work_account},
    };
    (void)args;
    for (size_t i = 0; i < sizeof works / sizeof *works; i++)
        if (!strcmp(words->items[0], works[i].name) && words->count == works[i].words + 1)
            return works[i].run(tool, words->items + 1);
    return say_usage(tool, "no such work; see torture_work.c");
}

const struct tool_verb torture_work_verb = {
    .name = "torture-work",
    .usage = "WORK WORD...",
    .words_min = 1,
    .words_max = 6,
    .run = work_run,
};
