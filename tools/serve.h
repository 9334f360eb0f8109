/* serve.h - delivering in this process: what run and drain share. */
#ifndef TOOLS_SERVE_H
#define TOOLS_SERVE_H

#include "output.h"
#include "survey.h"
#include "tool.h"

struct server {
    const struct tool *tool;
    struct spool *spool;
    bool configured; /* by a file: its sinks are all there will be */
    const char *config;
    bool verbose; /* also says which sinks work */
    uint32_t stop_timeout_ms;
    struct survey last;                     /* as reported last, to tell what has changed */
    uint64_t delivered_before, dead_before; /* by earlier runs */
    uint32_t disk_full;
    uint64_t damaged_blocks;
    struct progress progress;
};

/* Opens the spool of `config` (NULL: of -C, with the sinks that are registered) and starts to deliver. From here on
 * SIGTERM, SIGINT and SIGHUP are blocked and asked for with server_signal(). Prints what went wrong; enum tool_status.
 */
int server_open(struct server *server, const struct tool *tool, const char *config);

/* Reports every sink that has changed its state, new sinks, a full disk, damage; shows progress. Returns the library's
 * code. */
int server_report(struct server *server);

/* Waits for a signal, at most `timeout_ms`; 0 if none came. */
int server_signal(struct server *server, uint32_t timeout_ms);

/* Stops delivery within its time (a second signal ends the process at once), closes the spool, and says what waits.
 * With `quiet` only if something went wrong. */
int server_close(struct server *server, bool quiet);

/* Events delivered since server_open(). */
uint64_t server_delivered(const struct server *server);
/* Dead letters more than then. */
uint64_t server_given_up(const struct server *server);

#endif
