/* stdout.c - JSON Lines on standard output. */
#include "../../lib/base/buffer.h"
#include "config.h"
#include "lines.h"
#include "sinks.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int stdout_check(const char *json_config)
{
    struct config config;
    int code = config_open(&config, "stdout", json_config);
    return code == SPOOL_OK ? config_close(&config, code) : code;
}

static int stdout_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                       size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    int code = stdout_check(json_config);
    if (code != SPOOL_OK)
        return code;
    struct buffer *out = calloc(1, sizeof *out);
    if (!out)
        return spool_sink_error(ENOMEM, "out of memory");
    *ret_state = out;
    return SPOOL_OK;
}

/* Buffer by buffer: what was written before a failure counts. */
static int stdout_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct buffer *out = state;
    for (size_t i = 0; i < n;) {
        size_t first = i;
        out->size = 0;
        int code = lines_render(out, batch, n, &i);
        if (code != SPOOL_OK)
            return code;
        code = lines_write(STDOUT_FILENO, out->data, out->size);
        if (code != SPOOL_OK)
            return spool_sink_error(SPOOL_EUNAVAILABLE, "standard output: %s", spool_strerror(code));
        lines_delivered(batch, first, i);
    }
    return SPOOL_OK;
}

static void stdout_close(void *state)
{
    buffer_free(state);
    free(state);
}

const struct spool_sink stdout_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "stdout",
    .open = stdout_open,
    .deliver = stdout_deliver,
    .close = stdout_close,
};
