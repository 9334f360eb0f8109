/* wrong.c - plugins that must be refused, each for its own reason, and two that must not; WRONG says which. */
#include <spool.h>
#include <stddef.h>
#include <stdlib.h>

static int deliver(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state, (void)batch, (void)n;
    return SPOOL_OK;
}

/* A later version of the structs, with more at their ends. */
struct later_sink {
    struct spool_sink now;
    void (*more)(void);
};
struct later_plugin {
    struct spool_sink_plugin now;
    void (*more)(void);
};

enum wrong { FINE, TAIL_OF_ZEROS, ABI, SHORT, TAIL, SINK_ABI, SINK_TAIL, KIND, NO_SINK, NEW_HOST, NO_DELIVER };
#ifndef WRONG
#define WRONG FINE
#endif

static void more(void) {}

static void attach(const struct spool_sink_host *host)
{
    (void)host;
    if (WRONG > TAIL_OF_ZEROS)
        abort(); /* nothing of what is refused may be called */
}

static const struct later_sink sink = {
    .now =
        {
            .abi = WRONG == SINK_ABI ? 2 : SPOOL_SINK_ABI,
            .size = sizeof sink,
            .kind = WRONG == KIND ? "other" : "wrong",
            .deliver = WRONG == NO_DELIVER ? NULL : deliver,
        },
    .more = WRONG == SINK_TAIL ? more : NULL,
};

extern const struct later_plugin spool_sink_plugin;
#ifndef NO_SYMBOL
const struct later_plugin spool_sink_plugin = {
    .now =
        {
            .abi = WRONG == ABI ? 7 : SPOOL_SINK_ABI,
            .size = WRONG == SHORT ? offsetof(struct spool_sink_plugin, sink) : sizeof spool_sink_plugin,
            .host_size = WRONG == NEW_HOST ? 100000 : sizeof(struct spool_sink_host),
            .attach = attach,
            .sink = WRONG == NO_SINK ? NULL : &sink.now,
        },
    .more = WRONG == TAIL ? more : NULL,
};
#endif
