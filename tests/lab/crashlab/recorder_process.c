/* recorder_process.c - interposed ends of processes. A process may be killed or stopped at any instruction, but not
 * inside a recorded call: then the call would have been made and not be noted, or the other way round. So who kills
 * holds the lock of the trace until the other one is dead. */
#include "recorder.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Until it is dead (or stopped); somebody else's child cannot be awaited. */
static void await(pid_t pid, int signal)
{
    siginfo_t info;
    int what = signal == SIGKILL ? WEXITED : WSTOPPED;
    if (waitid(P_PID, (id_t)pid, &info, what | WNOWAIT) != 0)
        recorder_pause_us(5000);
}

int kill(pid_t pid, int signal)
{
    bool counts = pid > 0 && (signal == SIGKILL || signal == SIGSTOP);
    struct trace *trace = counts ? recorder_enter() : NULL;
    if (trace)
        recorder_stores(trace);
    if (trace && pid == getpid() && signal == SIGKILL)
        trace->may_die = true;
    int rc = (int)syscall(SYS_kill, pid, signal), err = errno;
    if (trace && rc == 0 && pid != getpid())
        await(pid, signal);
    if (trace)
        recorder_leave(trace);
    errno = err;
    return rc;
}

int raise(int signal)
{
    if (signal == SIGKILL)
        return kill(getpid(), signal);
    return (int)syscall(SYS_tgkill, getpid(), gettid(), signal);
}

/* Ends other threads, too, which may be inside a recorded call. */
void _exit(int status)
{
    struct trace *trace = recorder_enter();
    if (trace) {
        recorder_stores(trace);
        trace->may_die = true;
    }
    for (;;)
        syscall(SYS_exit_group, status);
}
