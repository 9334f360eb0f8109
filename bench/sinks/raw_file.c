/* raw_file.c - the same lines by write(2) alone. Each event is rendered with an id and a time of its own; lines are
 * gathered up to 256 KiB, as the sink does, and written at once; the file is flushed by fdatasync() every 50 ms, as often
 * as the engine asks a busy file sink for a checkpoint, and at the end. (No spool beside it: an event is written once
 * here, and twice where it went through a spool.)
 *
 *     raw_file PATH EVENTS BYTES */
#include <fcntl.h>
#include <unistd.h>

#include "load.h"

enum { TARGET = 256 << 10, ROOM = 2 * 65536 + 4096, FLUSH_NS = 50000000 };

static void write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n < 0)
            err(1, "write");
        bytes += n;
        size -= (size_t)n;
    }
}

static void flush_if_due(int fd, uint64_t *flushed_ns)
{
    if (clock_ns() - *flushed_ns < FLUSH_NS)
        return;
    if (fdatasync(fd) != 0)
        err(1, "fdatasync");
    *flushed_ns = clock_ns();
}

int main(int argc, char **argv)
{
    static struct load load;
    static char lines[TARGET + ROOM];
    uint64_t events = load_number(argc, argv, 2, 0), bytes = load_number(argc, argv, 3, 0);
    if (argc != 4)
        errx(2, "usage: raw_file PATH EVENTS BYTES");
    int fd = open(argv[1], O_WRONLY | O_CREAT | O_APPEND | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        err(1, "%s", argv[1]);
    size_t used = 0, size;
    uint64_t start_ns = clock_ns(), flushed_ns = start_ns;
    for (uint64_t n = 0; n < events; n++) {
        load_event(&load, n, bytes);
        char *json = load_json(&load, &size);
        memcpy(lines + used, json, size);
        lines[used + size] = '\n';
        used += size + 1;
        spool_free(json);
        if (used < TARGET && n + 1 < events)
            continue;
        write_all(fd, lines, used);
        used = 0;
        flush_if_due(fd, &flushed_ns);
    }
    if (fdatasync(fd) != 0)
        err(1, "fdatasync");
    load_report(events, start_ns);
    close(fd);
    return 0;
}
