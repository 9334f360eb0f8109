/* exec_child.c - see exec_child.h.
 *
 * posix_spawn() and not fork(): the program has threads, and may be large. The child is known by a pidfd, so that a pid
 * that somebody else has reaped (a program that waits for all its children) is never signalled after the number was
 * given to another process. When this process is killed, the child reads the end of its input. */
#include "exec_child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../lib/base/sync.h"

enum { LOOK_MS = 5, INPUT_BYTES = 256 << 10 };

/* ---------------------------------------------------------------------------------------------------------- starting
 */

static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int err = posix_spawnattr_setsigmask(attributes, &none); /* our threads block all of them */
    if (err == 0)
        err = posix_spawnattr_setsigdefault(attributes, &all);
    if (err == 0)
        err = posix_spawnattr_setpgroup(attributes, 0); /* a Ctrl-C in our terminal is not for it */
    short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP;
    return err ? err : posix_spawnattr_setflags(attributes, flags);
}

static int set_files(posix_spawn_file_actions_t *files, const struct child_command *command, int in, int out)
{
    int err = posix_spawn_file_actions_adddup2(files, in, STDIN_FILENO);
    if (err == 0)
        err = posix_spawn_file_actions_adddup2(files, out, STDOUT_FILENO);
    if (err == 0 && command->quiet)
        err = posix_spawn_file_actions_addopen(files, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (err == 0 && command->folder)
        err = posix_spawn_file_actions_addchdir_np(files, command->folder);
    return err ? err : posix_spawn_file_actions_addclosefrom_np(files, STDERR_FILENO + 1);
}

static int spawn(pid_t *ret, const struct child_command *command, int in, int out)
{
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_t files;
    int err = posix_spawnattr_init(&attributes);
    if (err)
        return err;
    err = posix_spawn_file_actions_init(&files);
    if (err == 0) {
        err = set_attributes(&attributes);
        if (err == 0)
            err = set_files(&files, command, in, out);
        if (err == 0)
            err = posix_spawn(ret, command->argv[0], &files, &attributes, command->argv, command->envp);
        posix_spawn_file_actions_destroy(&files);
    }
    posix_spawnattr_destroy(&attributes);
    return err;
}

/* A pipe whose ends are none of the descriptors 0 to 2, should the program have closed those: dup2() onto itself would
 * leave close-on-exec set. */
static int make_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC) != 0)
        return errno;
    int err = 0;
    for (int i = 0; i < 2 && err == 0; i++) {
        if (ends[i] > STDERR_FILENO)
            continue;
        int moved = fcntl(ends[i], F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
        err = moved < 0 ? errno : 0;
        close(ends[i]);
        ends[i] = moved;
    }
    return err;
}

static void close_end(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

int child_start(struct child *child, const struct child_command *command)
{
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    pid_t pid = 0;
    int err = make_pipe(in);
    if (err == 0)
        err = make_pipe(out);
    if (err == 0 && (fcntl(in[1], F_SETFL, O_NONBLOCK) != 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) != 0))
        err = errno;
    if (err == 0)
        err = spawn(&pid, command, in[0], out[1]);
    if (err == 0) /* so that it has something to do while we do not look; where it may not be, 64 KiB do */
        (void)fcntl(in[1], F_SETPIPE_SZ, INPUT_BYTES);
    close_end(&in[0]);
    close_end(&out[1]);
    if (err) {
        close_end(&in[1]);
        close_end(&out[0]);
        return err;
    }
    *child = (struct child){.pid = pid, .pid_fd = (int)syscall(SYS_pidfd_open, pid, 0), .in = in[1], .out = out[0]};
    return 0;
}

bool child_runs(const struct child *child)
{
    return child->pid > 0;
}

/* ------------------------------------------------------------------------------------------------------------ ending
 */

/* True when it has ended; also when somebody else has reaped it. */
static bool reap(const struct child *child, int *ret_status)
{
    int status = -1;
    pid_t pid = waitpid(child->pid, &status, WNOHANG);
    if (pid == 0)
        return false;
    *ret_status = pid == child->pid ? status : -1;
    return true;
}

static bool await(const struct child *child, uint64_t deadline_ns, int *ret_status)
{
    while (!reap(child, ret_status)) {
        if (mono_ns() >= deadline_ns)
            return false;
        struct pollfd fd = {.fd = child->pid_fd, .events = POLLIN};
        poll(&fd, 1, LOOK_MS);
    }
    return true;
}

/* The whole group: what the child started goes with it. The group's number is the child's, which cannot be another's
 * while the child is not reaped. */
static void kill_all(const struct child *child)
{
    kill(-child->pid, SIGKILL);
    if (child->pid_fd >= 0)
        syscall(SYS_pidfd_send_signal, child->pid_fd, SIGKILL, NULL, 0);
}

void child_end(struct child *child, uint32_t grace_ms, int *ret_status)
{
    int status = -1;
    close_end(&child->in);
    if (child->pid > 0 && !await(child, deadline_in_ms(grace_ms), &status)) {
        kill_all(child);
        await(child, deadline_in_ms(5000), &status); /* one in an uninterruptible wait stays a zombie of ours later */
    }
    close_end(&child->out);
    if (child->pid > 0)
        close_end(&child->pid_fd);
    child->pid = 0;
    if (ret_status)
        *ret_status = status;
}
