/* minimal.c - the smallest real producer: one event, durable when spool_enqueue() returns.
 *
 *     minimal DIR && spool -C DIR cat */
#include <err.h>

#include "../lib/spool.h"

int main(int argc, char **argv)
{
    struct spool *spool;
    struct spool_id id;
    char text[SPOOL_ID_TEXT_SIZE];
    const char body[] = "{\"model\":\"small-1\",\"input_tokens\":311,\"output_tokens\":42}";
    struct spool_event event =
        SPOOL_EVENT(.type = SPOOL_TYPE_LOG_LLM_CALL, .agent = "planner", .body = body, .body_size = sizeof body - 1);

    if (spool_open(argc > 1 ? argv[1] : "events.spool", NULL, &spool) != SPOOL_OK)
        errx(1, "%s", spool_last_error());
    if (spool_enqueue(spool, &event, &id) != SPOOL_OK)
        errx(1, "%s", spool_last_error());
    warnx("%s is safe", spool_id_format(&id, text));
    return spool_close(spool) == SPOOL_OK ? 0 : 1;
}
