/* raw_exec.c - the same lines to the same child by pipes alone. Each event is rendered with an id and a time of its own;
 * at most WINDOW lines are without an answer, as with the sink. Both pipes are served by poll(), and each answer must be
 * the id of the oldest line that has none. There is no batch whose end is waited for.
 *
 *     raw_exec PROGRAM EVENTS BYTES WINDOW */
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "load.h"

enum { TARGET = 64 << 10, ROOM = 2 * 65536 + 4096, WINDOW_MAX = 4096, LINE = SPOOL_ID_TEXT_SIZE };
extern char **environ;

static struct {
    uint64_t events, sent, answered, window;
    size_t bytes;
    char out[TARGET + ROOM], in[64 << 10], ids[WINDOW_MAX][LINE]; /* a line is an id and its end */
    size_t written, used, read;
    int to, from;
} talk;

static pid_t start(const char *program)
{
    int in[2], out[2];
    pid_t pid;
    posix_spawn_file_actions_t files;
    char *argv[] = {(char *)program, NULL};
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        err(1, "pipe");
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    int code = posix_spawn(&pid, program, &files, NULL, argv, environ);
    if (code)
        errx(1, "%s: %s", program, strerror(code));
    posix_spawn_file_actions_destroy(&files);
    close(in[0]);
    close(out[1]);
    talk.to = in[1];
    talk.from = out[0];
    if (fcntl(talk.to, F_SETFL, O_NONBLOCK) != 0 || fcntl(talk.from, F_SETFL, O_NONBLOCK) != 0)
        err(1, "fcntl");
    return pid;
}

static void render(void)
{
    static struct load load;
    size_t size;
    load_event(&load, talk.sent, talk.bytes);
    char *json = load_json(&load, &size);
    memcpy(talk.out + talk.used, json, size);
    talk.out[talk.used + size] = '\n';
    talk.used += size + 1;
    spool_free(json);
    memcpy(talk.ids[talk.sent++ % talk.window], load.id_text, LINE - 1);
}

static void render_ahead(void)
{
    if (talk.written < talk.used)
        return;
    talk.written = talk.used = 0;
    while (talk.sent < talk.events && talk.sent - talk.answered < talk.window && talk.used < TARGET)
        render();
}

static void take_answers(void)
{
    ssize_t n = read(talk.from, talk.in + talk.read, sizeof talk.in - talk.read);
    if (n <= 0)
        err(1, "the child's answers");
    size_t at = 0;
    talk.read += (size_t)n;
    for (; talk.read - at >= LINE; at += LINE, talk.answered++)
        if (memcmp(talk.in + at, talk.ids[talk.answered % talk.window], LINE - 1) != 0 ||
            talk.in[at + LINE - 1] != '\n')
            errx(1, "an answer that is none");
    memmove(talk.in, talk.in + at, talk.read - at);
    talk.read -= at;
}

static void step(void)
{
    struct pollfd fds[] = {{.fd = talk.from, .events = POLLIN},
                           {.fd = talk.written < talk.used ? talk.to : -1, .events = POLLOUT}};
    if (poll(fds, 2, 20000) <= 0)
        errx(1, "the child says nothing");
    if (fds[0].revents)
        take_answers();
    if (!fds[1].revents)
        return;
    ssize_t n = write(talk.to, talk.out + talk.written, talk.used - talk.written);
    if (n < 0)
        err(1, "write");
    talk.written += (size_t)n;
}

int main(int argc, char **argv)
{
    talk.events = load_number(argc, argv, 2, 0);
    talk.bytes = load_number(argc, argv, 3, 0);
    talk.window = load_number(argc, argv, 4, 0);
    if (argc != 5 || talk.window < 1 || talk.window > WINDOW_MAX)
        errx(2, "usage: raw_exec PROGRAM EVENTS BYTES WINDOW");
    uint64_t start_ns = clock_ns();
    pid_t pid = start(argv[1]);
    while (talk.answered < talk.events) {
        render_ahead();
        step();
    }
    load_report(talk.events, start_ns);
    close(talk.to);
    return waitpid(pid, NULL, 0) == pid ? 0 : 1;
}
