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
status 0 ${CC:-cc} ${CFLAGS:-} ${SANITIZE:+-fsanitize=$SANITIZE} -I"$root/lib" -o "$work/refuse" "$work/refuse.c" "$library" \
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

# The history, and counting by reason.
status 0 "$spool" dlq show "$bad"
prints "failed: refused by the test"
is "history" failed "$("$spool" dlq show "$bad" -o json | json '["history"][0]["what"]')"
status 0 "$spool" dlq stats
prints "refused by the test"
is "stats" 3 "$("$spool" dlq stats -o json | json '["dead_letters"]')"
is "stats of another" "" "$("$spool" dlq stats -o json --sink other)"

# Export, and import into another spool and again into this one.
status 0 "$spool" dlq export
says "3 dead letters"
cp "$work/out" "$work/letters"
is "export" 3 "$(wc -l <"$work/letters")"
"$spool" -C "$work/other" dlq import <"$work/letters" >"$work/out"
is "import" "3 dead letters imported" "$(cat "$work/out")"
"$spool" -C "$work/other" dlq export 2>/dev/null >"$work/again"
is "what comes back" same "$(python3 - "$work/letters" "$work/again" <<'P'
import json, sys
def load(path):
    rows = [json.loads(line) for line in open(path)]
    for row in rows:
        row["history"] = [h for h in row["history"] if h["what"] != "imported"]
    return rows
print("same" if load(sys.argv[1]) == load(sys.argv[2]) else "different")
P
)"
"$spool" dlq import <"$work/letters" >"$work/out" 2>"$work/err"
is "imported twice" 1 $?
says "line 1"
is "none more" 3 "$("$spool" dlq list -o json | wc -l)"
printf '%s\n' '{"sink":"a"}' '' 'x' '{"sink":"../x","event":{}}' '{"sink":"a","colour":1}' >"$work/wrong"
"$spool" -C "$work/other" dlq import <"$work/wrong" >"$work/out" 2>"$work/err"
is "wrong lines" 1 $?
says "line 3"
says "line 4"
says 'unknown member "colour"'
prints "0 dead letters imported"

# Editing: the body, the whole event, from standard input, and what is refused.
status 1 "$spool" dlq edit "$bad" --body '{"yes":'
says "not the JSON"
status 0 "$spool" dlq edit "$bad" --body '"yes now"'
prints "is edited"
is "body" "yes now" "$("$spool" dlq show "$bad" -o json | json '["event"]["data"]')"
is "noted" edited "$("$spool" dlq show "$bad" -o json | json '["history"][-1]["what"]')"
is "all else stays" anna "$("$spool" dlq show "$bad" -o json | json '["event"]["agent"]')"
status 0 "$spool" dlq edit "$bad" --event '{"type":"answer","data":[1.50]}'
is "event" answer "$("$spool" dlq show "$bad" -o json | json '["event"]["type"]')"
echo '{"type":"question","agent":"anna","data":"no 1"}' | "$spool" dlq edit "$bad" -o json >"$work/out"
is "from standard input" edited "$(json '["result"]' <"$work/out")"
status 1 "$spool" dlq edit "$bad" --event '{"type":"answer"'
status 1 "$spool" dlq edit "$bad" --event "{\"type\":\"a\",\"id\":\"$good\"}"
says "keeps its id"
status 2 "$spool" dlq edit "$bad" --event '{}' --body x
status 2 "$spool" dlq edit
status 2 "$spool" dlq edit nonsense
status 3 "$spool" dlq edit "$good" --body x
printf '#!/bin/sh\nsed -i "s/no 1/edited by hand/" "$1"\n' >"$work/editor"
chmod +x "$work/editor"
EDITOR=$work/editor VISUAL='' script -qec "'$spool' dlq edit $bad" /dev/null >"$work/out" 2>&1 </dev/null
is "in an editor" "edited by hand" "$("$spool" dlq show "$bad" -o json | json '["event"]["data"]')"
EDITOR=false VISUAL='' script -qec "'$spool' dlq edit $bad; echo status \$?" /dev/null >"$work/out" 2>&1 </dev/null
prints "status 1"

# To another sink, and to all.
status 3 "$spool" dlq requeue "$bad" --to nobody
status 2 "$spool" dlq requeue "$bad" --to picky --to-all
status 0 "$spool" sink add --from-now log file "path=$work/log.jsonl"
status 0 "$spool" dlq requeue "$bad" --to log
status 0 "$spool" drain --timeout 20 || true
is "the other sink has it" "edited by hand" "$(json '["data"]' <"$work/log.jsonl")"
is "no letter" 2 "$("$spool" dlq list -o json | wc -l)"
second=$(sed -n 3p "$work/ids")
status 0 "$spool" dlq requeue "$second" --to-all
both_have_come() { "$spool" drain --timeout 1; [ "$(wc -l <"$work/log.jsonl")" = 2 ]; } # nobody serves the other sink
eventually both_have_come && pass || fail "all of them"
is "its own, too" 1 "$("$spool" sinks -o json | grep picky | json '["pending_events"]')"
status 0 "$spool" sink remove log
status 0 "$work/refuse" "$SPOOL_DIR"
head -1 "$work/letters" | "$spool" dlq import >"$work/out"
is "back again" 3 "$("$spool" dlq list -o json | wc -l)"

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
