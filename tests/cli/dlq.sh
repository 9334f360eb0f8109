#!/bin/bash
# Dead letters: list, show, requeue, purge. They are made by a small program whose sink refuses what its body says.
. "$(dirname "$0")/common.inc"

cat >"$work/refuse.c" <<'C'
#include <stdio.h>
#include <string.h>
#include "spool.h"
static int deliver(void *state, struct spool_delivery *batch, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *d = SPOOL_DELIVERY_AT(batch, i);
        if (d->event->body_size > 3 && !memcmp(d->event->body, "\"no", 3))
            spool_delivery_fail(d, SPOOL_REJECTED, "refused by %s", (char *)state);
        else
            d->outcome = SPOOL_DELIVERED;
    }
    return 0;
}
int main(int argc, char **argv)
{
    struct spool *spool;
    struct spool_sink sink = {.abi = SPOOL_SINK_ABI, .size = sizeof sink, .kind = "picky", .deliver = deliver};
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.user = "the test");
    int code = argc < 2 || spool_open(argv[1], NULL, &spool);
    if (!code)
        code = spool_sink_add(spool, "picky", &sink, NULL, &options) || spool_start(spool) || spool_drain(spool, 20000);
    if (code)
        fprintf(stderr, "%s\n", spool_last_error());
    return code || spool_close(spool);
}
C
library=${SPOOL_LIBRARY:-$(dirname "$spool")/libspool.a}
status 0 "${CC:-cc}" ${CFLAGS:-} ${SANITIZE:+-fsanitize=$SANITIZE} -I"$root/lib" -o "$work/refuse" "$work/refuse.c" "$library" \
    -llmdb -ljansson -lzstd -pthread

printf '%s\n' '"yes"' '"no 1"' '"no 2"' '"yes"' '"no 3"' | "$spool" put --agent anna --type question >"$work/ids"
status 0 "$spool" dlq list
says "no dead letters"
status 0 "$work/refuse" "$SPOOL_DIR"
status 0 "$spool" dlq list
prints "refused by the test"
is "rows and their title" 4 "$(wc -l <"$work/out")"
status 0 "$spool" dlq list -o json
is "list -o json" 3 "$(wc -l <"$work/out")"
is "reason" "refused by the test" "$(head -1 "$work/out" | json '["reason"]')"
is "event" "no 1" "$(head -1 "$work/out" | json '["event"]["data"]')"
is "list -n" 1 "$("$spool" dlq list -o json -n 1 | wc -l)"
is "list --sink" 0 "$("$spool" dlq list -o json --sink other | wc -l)"
status 0 "$spool" status
prints "dead      3 letters"
prints "spool dlq list"

bad=$(sed -n 2p "$work/ids")
good=$(sed -n 1p "$work/ids")
status 0 "$spool" dlq show "$bad"
prints "refused by the test"
prints "anna"
prints '"no 1"'
status 3 "$spool" dlq show "$good"
status 3 "$spool" dlq requeue "$good"
status 0 "$spool" show "$bad"

status 0 "$spool" dlq purge "$bad"
prints "1 dead letter purged"
status 3 "$spool" dlq purge "$bad"
status 0 "$spool" dlq requeue --sink picky --all
prints "2 dead letters requeued"
is "pending again" 2 "$("$spool" sinks -o json | json '["pending_events"]')"
status 3 "$spool" dlq requeue --all
status 0 "$work/refuse" "$SPOOL_DIR"
status 0 "$spool" dlq purge --all -o json
is "purged" 2 "$(json '["purged"]' <"$work/out")"
status 0 "$spool" sink remove picky
finish
