/* exec_child.h - the child of an exec sink: started without a shell, spoken to over two pipes, ended in any case. */
#ifndef DELIVERY_SINKS_EXEC_CHILD_H
#define DELIVERY_SINKS_EXEC_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct child {
    pid_t pid;        /* 0: none */
    int pid_fd;       /* -1 where the kernel has none */
    int in, out;      /* ours: its standard input and output; -1 when closed; non-blocking, close-on-exec */
    uint64_t each_ns; /* it takes for an event, lately; 0: not known yet */
};

struct child_command {
    char **argv; /* argv[0] is an absolute path */
    char **envp;
    char *folder; /* to start in; NULL: ours */
    bool quiet;   /* its standard error goes to /dev/null, else where ours does */
};

/* Starts it: in a process group of its own, with no signal blocked or ignored, and none of our descriptors. errno. */
int child_start(struct child *child, const struct child_command *command);
bool child_runs(const struct child *child);
/* Closes its input, waits up to grace_ms for its end, then kills its group. `ret_status` (may be NULL) gets what
 * waitpid() tells, -1 if that is not known. No child: nothing. */
void child_end(struct child *child, uint32_t grace_ms, int *ret_status);

#endif
