/* torture_process.c - starting, killing and awaiting workers; and the trees of files that they leave. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "torture.h"

enum { WORDS_MAX = 12, NS_PER_MS = 1000000 };

void pause_ms(uint64_t ms)
{
    struct timespec time = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * NS_PER_MS)};
    nanosleep(&time, NULL); /* cut short by a signal: the caller looks whether it is over */
}

/* ----------------------------------------------------------------------------------------------------------- workers
 */

/* In the child. Its own group, so that an interrupt at the terminal reaches only us, who end it in our own time. */
static void become_worker(const char *const *words, int out_fd, pid_t parent)
{
    const char *argv[WORDS_MAX + 3] = {"spool", "torture-work"};
    size_t count = 2;
    for (; *words && count < WORDS_MAX + 2; words++)
        argv[count++] = *words;
    if (setpgid(0, 0) || prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
        _exit(TOOL_FAILED);
    if (dup2(out_fd, STDOUT_FILENO) >= 0)
        execv("/proc/self/exe", (char *const *)argv);
    _exit(TOOL_FAILED);
}

static pid_t fork_worker(const char *const *words, int out_fd)
{
    pid_t parent = getpid(), worker = fork();
    if (worker == 0)
        become_worker(words, out_fd, parent);
    return worker;
}

pid_t worker_start(const struct tool *tool, const char *const *words, int *ret_out)
{
    int pipe_fds[2] = {-1, -1};
    if (ret_out ? pipe2(pipe_fds, O_CLOEXEC) : (pipe_fds[1] = open("/dev/null", O_WRONLY | O_CLOEXEC)) < 0) {
        say(tool, "a worker: %s", strerror(errno));
        return -1;
    }
    fflush(NULL);
    pid_t worker = fork_worker(words, pipe_fds[1]);
    if (worker < 0)
        say(tool, "a worker: %s", strerror(errno));
    close(pipe_fds[1]);
    if (ret_out && worker >= 0)
        *ret_out = pipe_fds[0];
    else if (ret_out)
        close(pipe_fds[0]);
    return worker;
}

static bool has_ended(pid_t worker, int *ret_status, int flags)
{
    pid_t ended;
    while ((ended = waitpid(worker, ret_status, flags)) < 0 && errno == EINTR)
        ;
    return ended != 0; /* also when it cannot be waited for */
}

void worker_kill(pid_t worker)
{
    int status;
    if (worker <= 0)
        return;
    kill(worker, SIGKILL);
    has_ended(worker, &status, 0);
}

bool worker_wait(pid_t worker, uint64_t timeout_ms, int *ret_status)
{
    uint64_t deadline_ns = now_steady_ns() + timeout_ms * NS_PER_MS;
    *ret_status = 0;
    while (!has_ended(worker, ret_status, WNOHANG)) {
        if (now_steady_ns() >= deadline_ns || torture_is_interrupted()) {
            worker_kill(worker);
            return false;
        }
        pause_ms(2);
    }
    return true;
}

const char *worker_describe(int status, char ret[64])
{
    if (WIFSIGNALED(status))
        snprintf(ret, 64, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(ret, 64, "exit status %d", WEXITSTATUS(status));
    return ret;
}

/* ------------------------------------------------------------------------------------------------------ trees of files
 */

/* Calls `each` with every name in the directory but . and .. */
static bool tree_each(int dir_fd, bool (*each)(void *user, int dir_fd, const char *name), void *user)
{
    int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    bool good = stream != NULL;
    if (!stream && fd >= 0)
        close(fd);
    for (struct dirent *entry; good && (entry = readdir(stream));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            good = each(user, dir_fd, entry->d_name);
    if (stream)
        closedir(stream);
    return good;
}

static int open_dir(int dir_fd, const char *name)
{
    return openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static bool remove_one(void *user, int dir_fd, const char *name)
{
    struct stat st;
    const dev_t *device = user;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT;
    if (!S_ISDIR(st.st_mode))
        return !unlinkat(dir_fd, name, 0) || errno == ENOENT;
    int fd = open_dir(dir_fd, name);
    bool good = fd >= 0 && st.st_dev == *device && tree_each(fd, remove_one, user);
    if (fd >= 0)
        close(fd);
    return good && !unlinkat(dir_fd, name, AT_REMOVEDIR);
}

bool tree_remove(const char *path)
{
    struct stat st;
    if (lstat(path, &st))
        return errno == ENOENT;
    return S_ISDIR(st.st_mode) && remove_one(&st.st_dev, AT_FDCWD, path);
}

static bool copy_bytes(int from, int to)
{
    char bytes[64 << 10];
    for (ssize_t size; (size = read(from, bytes, sizeof bytes)) != 0;) {
        if (size < 0 || write(to, bytes, (size_t)size) != size)
            return false;
    }
    return true;
}

static bool copy_file(int from_dir, int to_dir, const char *name)
{
    int from = openat(from_dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    if (from < 0)
        return errno == ENOENT; /* the spool is in use: it was deleted meanwhile */
    int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool good = to >= 0 && copy_bytes(from, to);
    if (to >= 0)
        close(to);
    close(from);
    return good;
}

static bool copy_one(void *user, int from_dir, const char *name)
{
    int to_dir = *(int *)user;
    struct stat st;
    if (fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT;
    if (!S_ISDIR(st.st_mode))
        return !S_ISREG(st.st_mode) || copy_file(from_dir, to_dir, name);
    int from = open_dir(from_dir, name), to = mkdirat(to_dir, name, 0700) ? -1 : open_dir(to_dir, name);
    bool good = from >= 0 && to >= 0 && tree_each(from, copy_one, &to);
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return good;
}

bool tree_copy(const char *from, const char *to)
{
    int from_fd = open_dir(AT_FDCWD, from), to_fd = mkdir(to, 0700) ? -1 : open_dir(AT_FDCWD, to);
    bool good = from_fd >= 0 && to_fd >= 0 && tree_each(from_fd, copy_one, &to_fd);
    if (from_fd >= 0)
        close(from_fd);
    if (to_fd >= 0)
        close(to_fd);
    return good;
}
