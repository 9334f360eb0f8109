/* echo.c - a plugin as somebody outside writes it, with spool.h alone: appends an event's id and JSON to a file. For
 * the tests of the loader. It calls every function of the host that it can. */
#include <spool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int check(const char *json_config)
{
    return strstr(json_config, "\"path\"") ? SPOOL_OK
                                           : spool_sink_error(SPOOL_ECONFIG, "echo: \"%s\" is required", "path");
}

/* {"path":"…"}, and nothing else. */
static int echo_open(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t size)
{
    char path[256];
    (void)user, (void)checkpoint, (void)size;
    if (sscanf(json_config, "{\"path\":\"%255[^\"]\"}", path) != 1)
        return spool_sink_error(SPOOL_ECONFIG, "echo: {\"path\":\"FILE\"} is all it takes");
    FILE *file = fopen(path, "ae");
    if (!file)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s cannot be opened", path);
    *ret_state = file;
    return SPOOL_OK;
}

static void write_one(FILE *file, struct spool_delivery *delivery)
{
    char id[SPOOL_ID_TEXT_SIZE], *json;
    struct spool_id again;
    if (spool_event_to_json(delivery->event, &delivery->id, &json, NULL) != SPOOL_OK) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "echo: %s", spool_last_error());
        return;
    }
    spool_id_format(&delivery->id, id);
    if (spool_id_parse(id, &again) == SPOOL_OK && spool_id_compare(&again, &delivery->id) == 0 &&
        spool_id_time_ns(&again) > 0)
        fprintf(file, "%s %s %s\n", id, spool_priority_name(delivery->event->priority), json);
    spool_free(json);
    delivery->outcome = SPOOL_DELIVERED;
}

static int echo_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        if (strcmp(delivery->event->type, "refuse") == 0)
            spool_delivery_fail(delivery, SPOOL_REJECTED, "echo refuses %s", delivery->event->type);
        else
            write_one(state, delivery);
    }
    return fflush(state) == 0 ? SPOOL_OK : spool_sink_error(SPOOL_EUNAVAILABLE, "%s", spool_strerror(5));
}

static void echo_close(void *state)
{
    fclose(state);
}

static const struct spool_sink sink = {
    .abi = SPOOL_SINK_ABI,
    .size = sizeof(struct spool_sink),
    .kind = "echo",
    .open = echo_open,
    .deliver = echo_deliver,
    .close = echo_close,
};
static const struct spool_sink_setting settings[] = {{"path", "text (required)", "where to write"}, {NULL, NULL, NULL}};

SPOOL_SINK_PLUGIN(.sink = &sink, .check = check, .settings = settings, .summary = "writes what it gets into a file")
