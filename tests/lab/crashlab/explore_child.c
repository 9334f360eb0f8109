/* explore_child.c - work in a process of its own, with a time limit: recording, and the oracle's judgement. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "explore.h"

enum { ORACLE_LIMIT_S = 60, WHY = 1000 };

uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

/* True when it has ended. */
static bool await_end(pid_t pid, unsigned limit_s)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (fd < 0)
        return true; /* then without a limit */
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    uint64_t deadline = now_ns() + (uint64_t)limit_s * 1000000000u;
    int n = 0;
    while (n <= 0 && now_ns() < deadline)
        n = poll(&poll_fd, 1, (int)((deadline - now_ns()) / 1000000u) + 1);
    close(fd);
    return n > 0;
}

int child_run(int (*work)(void *arg), void *arg, unsigned limit_s)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return 255;
    if (pid == 0) {
        setpgid(0, 0); /* with what it forks */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        signal(SIGINT, SIG_DFL);
        signal(SIGTERM, SIG_DFL);
        int rc = work(arg);
        fflush(NULL);
        _exit(rc);
    }
    bool hangs = !await_end(pid, limit_s);
    kill(-pid, SIGKILL); /* or what it left behind */
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
    if (hangs)
        return CHILD_HANGS;
    return WIFSIGNALED(status) ? CHILD_SIGNAL + WTERMSIG(status) : WEXITSTATUS(status);
}

/* ----------------------------------------------------------------------------------------------------------- oracle */

struct trial {
    const struct engine *engine;
    const char *dir;
    const struct lab_mark *marks;
    size_t n;
    enum lab_crash crash;
    bool aloud;
    char *why; /* shared with the child */
};

static int run_oracle(void *arg)
{
    const struct trial *trial = arg;
    lab_control = NULL;
    if (!trial->aloud) {
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (null >= 0)
            dup2(null, STDERR_FILENO);
    }
    return trial->engine->oracle(trial->engine->scenario, trial->dir, trial->marks, trial->n, trial->crash, trial->why,
                                 WHY)
               ? 1
               : 0;
}

static void explain(int status, const char *said, char *why, size_t size)
{
    if (status == CHILD_HANGS)
        snprintf(why, size, "it hangs; %s", said);
    else if (status > CHILD_SIGNAL)
        snprintf(why, size, "signal %d (%s); %s", status - CHILD_SIGNAL, strsignal(status - CHILD_SIGNAL), said);
    else
        snprintf(why, size, "%s", said[0] ? said : "(no reason given)");
}

bool trial_passes(const struct engine *engine, const char *dir, const struct lab_mark *marks, size_t n,
                  enum lab_crash crash, bool aloud, char *why, size_t size)
{
    static char *said;
    if (!said)
        said = mmap(NULL, WHY, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (said == MAP_FAILED)
        abort();
    said[0] = 0;
    struct trial trial = {engine, dir, marks, n, crash, aloud, said};
    int status = child_run(run_oracle, &trial, ORACLE_LIMIT_S);
    if (status != 0)
        explain(status, said, why, size);
    return status == 0;
}
