/* agent.c - an agent that replays a recorded session through the library, and may be killed at any moment.
 *
 *     agent --spool DIR [options] SESSION.jsonl
 *
 * A session is JSON Lines: {"type":…, "agent":…, "session":…, "priority":…, "tags":[…], "parent":N, "body":…}. Only
 * `type` is required; `body` is any JSON value and is handed on as the exact text that stands in the line (no body: an
 * empty event); `parent` is the number of an earlier line, whose event caused this one.
 *
 * Every agent of the session keeps its order: its lines belong to one thread. A line waits until its parent has an id.
 *
 * THE ACK LOG answers what was promised when the process was killed: one line "id line-number type" per event, written
 * with one write(2) after spool_enqueue() returned SPOOL_OK. `--resume` goes on with the lines that are not in it. An
 * event whose acknowledgement the kill kept from being written is enqueued again, and that is another event with
 * another id: the spool never saw them as one. (A program that minds keeps the id of what it is about to enqueue.) So
 * "lost" means an id in the ack log that never arrived, and "duplicated" an id that arrived twice. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "../lib/spool.h"

struct options {
    const char *spool_dir, *session, *sink_file, *ack_log;
    bool resume;
    unsigned threads;
    double rate; /* events a second, of all threads together; 0: as fast as it goes */
    enum spool_durability durability;
};

/* One line of the session. The JSON value owns the texts, the file's text holds the body. */
struct message {
    json_t *json;
    const char *type, *agent, *session;
    const char *tags[SPOOL_TAGS_MAX + 1];
    const char *body;
    size_t body_size, parent; /* parent: line number; 0: none */
    enum spool_priority priority;
    uint64_t turn; /* its place among those that are still to be sent */
    bool sent;     /* has an id. Guarded by agent.lock, like `id` */
    struct spool_id id;
};

struct agent {
    struct options options;
    char *text;               /* the session file; bodies point into it */
    struct message *messages; /* [line - 1] */
    size_t count;
    struct spool *spool;
    int ack_fd;            /* -1: none */
    struct timespec start; /* of sending, CLOCK_MONOTONIC */
    pthread_mutex_t lock;
    pthread_cond_t some_sent; /* some message got its id, or `failed` was set */
    bool failed;              /* guarded by `lock` */
    size_t acknowledged;      /* in this run; guarded by `lock` */
};

static volatile sig_atomic_t interrupted; /* SIGTERM or SIGINT: finish the event at hand and close */

/* ------------------------------------------------------------------------------------------------ reading a session */

static char *read_file(const char *path, size_t *ret_size)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        err(1, "%s", path);
    size_t size = (size_t)st.st_size, done = 0;
    char *text = malloc(size + 1);
    if (!text)
        err(1, "%s", path);
    while (done < size) {
        ssize_t n = read(fd, text + done, size - done);
        if (n < 0 && errno != EINTR)
            err(1, "%s", path);
        if (n == 0)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    close(fd);
    text[done] = '\0';
    *ret_size = done;
    return text;
}

static const char *skip_string(const char *at)
{
    for (at++; *at != '"'; at++)
        at += *at == '\\';
    return at + 1;
}

/* The end of the JSON value that begins at `at`, in a line known to be valid. */
static const char *skip_value(const char *at)
{
    for (size_t depth = 0; depth > 0 || !strchr(",}] \t\r", *at);) {
        if (*at == '"') {
            at = skip_string(at);
            continue;
        }
        depth += *at == '{' || *at == '[';
        depth -= *at == '}' || *at == ']';
        at++;
    }
    return at;
}

/* Finds the text of member "body" in a line that holds one valid JSON object: jansson has no exact text to give. */
static void find_body(const char *line, struct message *message)
{
    const char *at = strchr(line, '{') + 1;
    for (at += strspn(at, " \t\r"); *at != '}'; at += strspn(at, " \t\r,")) {
        bool is_body = strncmp(at, "\"body\"", 6) == 0;
        at = skip_string(at);
        at += strspn(at, " \t\r:");
        const char *end = skip_value(at);
        if (is_body) {
            message->body = at;
            message->body_size = (size_t)(end - at);
        }
        at = end;
    }
}

static void read_tags(json_t *tags, struct message *message, size_t line)
{
    size_t count = json_array_size(tags);
    if (tags && !json_is_array(tags))
        errx(1, "line %zu: the tags must be an array", line);
    if (count > SPOOL_TAGS_MAX)
        errx(1, "line %zu: more than %d tags", line, SPOOL_TAGS_MAX);
    for (size_t i = 0; i < count; i++) {
        message->tags[i] = json_string_value(json_array_get(tags, i));
        if (!message->tags[i])
            errx(1, "line %zu: tag %zu is no text", line, i + 1);
    }
}

static void read_message(char *text, size_t line, struct message *message)
{
    json_error_t error;
    json_int_t parent = 0;
    json_t *tags = NULL;
    const char *priority = "medium";
    message->json = json_loads(text, JSON_ALLOW_NUL, &error);
    if (!message->json)
        errx(1, "line %zu, column %d: %s", line, error.column, error.text);
    if (json_unpack_ex(message->json, &error, 0, "{s:s, s?s, s?s, s?s, s?o, s?I}", "type", &message->type, "agent",
                       &message->agent, "session", &message->session, "priority", &priority, "tags", &tags, "parent",
                       &parent) != 0)
        errx(1, "line %zu: %s", line, error.text);
    if (spool_priority_parse(priority, &message->priority) != SPOOL_OK)
        errx(1, "line %zu: %s", line, spool_last_error());
    if (parent < 0 || (size_t)parent >= line)
        errx(1, "line %zu: the parent must be an earlier line", line);
    message->parent = (size_t)parent;
    read_tags(tags, message, line);
    find_body(text, message);
}

static void read_session(struct agent *agent)
{
    size_t size, lines = 0;
    char *text = agent->text = read_file(agent->options.session, &size);
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n' || i + 1 == size;
    agent->messages = calloc(lines + 1, sizeof *agent->messages);
    if (!agent->messages)
        err(1, "%s", agent->options.session);
    for (char *at = text, *end; at < text + size; at = end + 1) {
        end = strchrnul(at, '\n');
        *end = '\0';
        read_message(at, agent->count + 1, &agent->messages[agent->count]);
        agent->count++;
    }
}

/* ------------------------------------------------------------------------------------------------------ the ack log */

/* Marks the lines whose events were acknowledged in an earlier run. */
static void replay_ack_log(struct agent *agent, char *text)
{
    char *rest = NULL;
    for (char *row = strtok_r(text, "\n", &rest); row; row = strtok_r(NULL, "\n", &rest)) {
        char id[SPOOL_ID_TEXT_SIZE];
        size_t line;
        if (sscanf(row, "%36s %zu", id, &line) != 2 || line < 1 || line > agent->count)
            errx(1, "%s: not an acknowledgement of this session: %s", agent->options.ack_log, row);
        if (spool_id_parse(id, &agent->messages[line - 1].id) != SPOOL_OK)
            errx(1, "%s: %s", agent->options.ack_log, spool_last_error());
        agent->messages[line - 1].sent = true;
    }
}

/* Opens the log to append. Half a line at its end, if a kill ever leaves one, is taken off: that event was not logged.
 */
static void open_ack_log(struct agent *agent)
{
    const char *path = agent->options.ack_log;
    int flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | (agent->options.resume ? 0 : O_TRUNC);
    agent->ack_fd = path ? open(path, flags, 0600) : -1;
    if (path && agent->ack_fd < 0)
        err(1, "%s", path);
    if (!path || !agent->options.resume)
        return;
    size_t size;
    char *text = read_file(path, &size), *last = strrchr(text, '\n');
    size_t whole = last ? (size_t)(last + 1 - text) : 0;
    if (whole < size && ftruncate(agent->ack_fd, (off_t)whole) != 0)
        err(1, "%s", path);
    text[whole] = '\0';
    replay_ack_log(agent, text);
    free(text);
}

static void log_ack(struct agent *agent, const struct message *message, const struct spool_id *id)
{
    char row[SPOOL_ID_TEXT_SIZE + SPOOL_TYPE_MAX + 32], text[SPOOL_ID_TEXT_SIZE];
    int size = snprintf(row, sizeof row, "%s %zu %s\n", spool_id_format(id, text),
                        (size_t)(message - agent->messages) + 1, message->type);
    if (agent->ack_fd >= 0 && write(agent->ack_fd, row, (size_t)size) != size)
        err(1, "%s", agent->options.ack_log);
}

/* ---------------------------------------------------------------------------------------------------------- sending */

/* Waits until it is this message's turn at the rate asked for. */
static void keep_pace(const struct agent *agent, const struct message *message)
{
    if (agent->options.rate <= 0)
        return;
    uint64_t wait_ns = (uint64_t)((double)message->turn * 1e9 / agent->options.rate);
    uint64_t nsec = (uint64_t)agent->start.tv_nsec + wait_ns % 1000000000u;
    struct timespec until = {.tv_sec = agent->start.tv_sec + (time_t)(wait_ns / 1000000000u + nsec / 1000000000u),
                             .tv_nsec = (long)(nsec % 1000000000u)};
    while (!interrupted && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

/* The id of the event that caused this one, once its thread has sent it: parents are earlier lines, so that the
 * earliest line not sent yet waits for nobody. NULL if there is no parent, or sending has ended. */
static const struct spool_id *await_parent(struct agent *agent, const struct message *message)
{
    if (!message->parent)
        return NULL;
    const struct message *parent = &agent->messages[message->parent - 1];
    pthread_mutex_lock(&agent->lock);
    while (!parent->sent && !agent->failed)
        pthread_cond_wait(&agent->some_sent, &agent->lock);
    const struct spool_id *id = parent->sent ? &parent->id : NULL;
    pthread_mutex_unlock(&agent->lock);
    return id;
}

/* When the disk failed in the middle, the event may or may not be stored: under the same id it is stored once. */
static int enqueue(struct spool *spool, struct spool_event *event, struct spool_id *ret_id)
{
    struct spool_id id;
    int code = spool_enqueue(spool, event, &id);
    for (int tries = 0; code == SPOOL_EUNCERTAIN && tries < 3; tries++) {
        event->id = &id;
        code = spool_enqueue(spool, event, &id);
    }
    if (code == SPOOL_OK)
        *ret_id = id;
    return code;
}

static int send_message(struct agent *agent, struct message *message)
{
    struct spool_id id;
    const struct spool_id *parent = await_parent(agent, message);
    if (message->parent && !parent)
        return SPOOL_ESTOPPED;
    struct spool_event event =
        SPOOL_EVENT(.type = message->type, .agent = message->agent, .session = message->session, .parent = parent,
                    .priority = message->priority, .durability = agent->options.durability, .body = message->body,
                    .body_size = message->body_size, .tags = message->tags);
    int code = enqueue(agent->spool, &event, &id);
    if (code != SPOOL_OK) {
        warnx("line %zu: %s", (size_t)(message - agent->messages) + 1, spool_last_error());
        return code;
    }
    log_ack(agent, message, &id);
    pthread_mutex_lock(&agent->lock);
    message->id = id;
    message->sent = true;
    agent->acknowledged++;
    pthread_cond_broadcast(&agent->some_sent);
    pthread_mutex_unlock(&agent->lock);
    return SPOOL_OK;
}

static bool has_failed(struct agent *agent)
{
    pthread_mutex_lock(&agent->lock);
    bool failed = agent->failed;
    pthread_mutex_unlock(&agent->lock);
    return failed;
}

static void fail(struct agent *agent)
{
    pthread_mutex_lock(&agent->lock);
    agent->failed = true;
    pthread_cond_broadcast(&agent->some_sent);
    pthread_mutex_unlock(&agent->lock);
}

struct sender {
    pthread_t thread;
    struct agent *agent;
    unsigned index;
};

/* FNV-1a: all lines of an agent go to one thread. */
static unsigned thread_of(const struct agent *agent, const struct message *message)
{
    uint32_t hash = 2166136261u;
    for (const char *c = message->agent ? message->agent : ""; *c; c++)
        hash = (hash ^ (unsigned char)*c) * 16777619u;
    return hash % agent->options.threads;
}

static void *run_sender(void *arg)
{
    struct sender *self = arg;
    struct agent *agent = self->agent;
    for (size_t i = 0; i < agent->count && !has_failed(agent); i++) {
        struct message *message = &agent->messages[i];
        if (thread_of(agent, message) != self->index || message->turn == 0)
            continue;
        keep_pace(agent, message);
        if (interrupted || send_message(agent, message) != SPOOL_OK)
            fail(agent);
    }
    return NULL;
}

static void send_all(struct agent *agent)
{
    uint64_t turns = 0;
    struct sender *senders = calloc(agent->options.threads, sizeof *senders);
    if (!senders)
        err(1, "threads");
    for (size_t i = 0; i < agent->count; i++)
        agent->messages[i].turn = agent->messages[i].sent ? 0 : ++turns;
    clock_gettime(CLOCK_MONOTONIC, &agent->start);
    for (unsigned i = 0; i < agent->options.threads; i++) {
        senders[i] = (struct sender){.agent = agent, .index = i};
        errno = pthread_create(&senders[i].thread, NULL, run_sender, &senders[i]);
        if (errno)
            err(1, "threads");
    }
    for (unsigned i = 0; i < agent->options.threads; i++)
        pthread_join(senders[i].thread, NULL);
    free(senders);
}

/* ------------------------------------------------------------------------------------------------------------- main */

static void must(int code)
{
    if (code != SPOOL_OK)
        errx(1, "%s", spool_last_error());
}

static void open_spool(struct agent *agent)
{
    must(spool_open(agent->options.spool_dir, NULL, &agent->spool));
    if (!agent->options.sink_file)
        return;
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_AGENT);
    json_t *config = json_pack("{s:s}", "path", agent->options.sink_file);
    char *text = config ? json_dumps(config, 0) : NULL;
    if (!text)
        errx(1, "%s: the path must be UTF-8", agent->options.sink_file);
    must(spool_sink_load(agent->spool, "file", "file", text, &options));
    must(spool_start(agent->spool));
    free(text);
    json_decref(config);
}

static void free_session(struct agent *agent)
{
    for (size_t i = 0; i < agent->count; i++)
        json_decref(agent->messages[i].json);
    free(agent->messages);
    free(agent->text);
}

static int usage(FILE *out)
{
    fputs("usage: agent --spool DIR [options] SESSION.jsonl\n"
          "  --spool DIR           the spool; it is made if it is not there\n"
          "  --sink FILE           deliver to this file in the same process\n"
          "  --ack-log FILE        append a line for each acknowledged event\n"
          "  --resume              leave out the lines that are in the ack log\n"
          "  --threads N           spread the agents over N threads (default 4)\n"
          "  --rate N              events a second (default: as fast as it goes)\n"
          "  --durability LEVEL    process or power (default power)\n",
          out);
    return out == stdout ? 0 : 2;
}

static enum spool_durability parse_durability(const char *text)
{
    if (strcmp(text, "process") == 0)
        return SPOOL_DURABLE_PROCESS;
    if (strcmp(text, "power") != 0)
        errx(2, "--durability: process or power, not %s", text);
    return SPOOL_DURABLE_POWER;
}

static double parse_number(const char *name, const char *text, double max)
{
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !(number > 0) || number > max)
        errx(2, "%s: a number from 1 to %.0f is expected, not %s", name, max, text);
    return number;
}

static void parse_options(int argc, char **argv, struct options *ret)
{
    static const struct option names[] = {
        {"spool", 1, NULL, 's'},      {"sink", 1, NULL, 'f'},    {"ack-log", 1, NULL, 'a'},
        {"resume", 0, NULL, 'r'},     {"threads", 1, NULL, 't'}, {"rate", 1, NULL, 'n'},
        {"durability", 1, NULL, 'd'}, {"help", 0, NULL, 'h'},    {NULL, 0, NULL, 0},
    };
    *ret = (struct options){.threads = 4};
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        switch (c) {
        case 's':
            ret->spool_dir = optarg;
            break;
        case 'f':
            ret->sink_file = optarg;
            break;
        case 'a':
            ret->ack_log = optarg;
            break;
        case 'r':
            ret->resume = true;
            break;
        case 't':
            ret->threads = (unsigned)parse_number("--threads", optarg, 64);
            break;
        case 'n':
            ret->rate = parse_number("--rate", optarg, 1e9);
            break;
        case 'd':
            ret->durability = parse_durability(optarg);
            break;
        case 'h':
            exit(usage(stdout));
        default:
            exit(usage(stderr));
        }
    }
    if (!ret->spool_dir || optind + 1 != argc || (ret->resume && !ret->ack_log) || !ret->threads)
        exit(usage(stderr));
    ret->session = argv[optind];
}

static void on_signal(int number)
{
    (void)number;
    interrupted = 1;
}

int main(int argc, char **argv)
{
    struct agent agent = {.lock = PTHREAD_MUTEX_INITIALIZER, .some_sent = PTHREAD_COND_INITIALIZER};
    struct sigaction action = {.sa_handler = on_signal};
    parse_options(argc, argv, &agent.options);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    read_session(&agent);
    open_ack_log(&agent);
    open_spool(&agent);
    send_all(&agent);
    int code = spool_close(agent.spool);
    if (code != SPOOL_OK)
        warnx("%s", spool_last_error());
    printf("agent: %zu events acknowledged in this run\n", agent.acknowledged);
    free_session(&agent);
    return code != SPOOL_OK || agent.failed;
}
