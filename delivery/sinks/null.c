/* null.c - takes everything and keeps nothing: for measuring, and to let a spool run empty. */
#include "config.h"
#include "sinks.h"

int null_check(const char *json_config)
{
    struct config config;
    int code = config_open(&config, "null", json_config);
    return code == SPOOL_OK ? config_close(&config, code) : code;
}

static int null_open(void **ret_state, void *user, const char *json_config, const void *checkpoint,
                     size_t checkpoint_size)
{
    (void)user, (void)checkpoint, (void)checkpoint_size;
    int code = null_check(json_config);
    if (code == SPOOL_OK)
        *ret_state = NULL;
    return code;
}

static int null_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

const struct spool_sink null_sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "null",
    .open = null_open,
    .deliver = null_deliver,
};
