#!/bin/bash
# spool put: arguments, streams, whole events, bad lines.
. "$(dirname "$0")/common.inc"

id_form='^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$'

# One event.
status 0 "$spool" put --type llm_call --agent planner --session s1 --priority high --tag a --tag b --ttl 1h '{"tokens":312}'
is "ids that look like one" 1 "$(grep -cE "$id_form" "$work/out")"
id=$(cat "$work/out")
status 0 "$spool" show "$id" -o json
for want in '"type":"llm_call"' '"agent":"planner"' '"session":"s1"' '"priority":"high"' '"tags":["a","b"]' \
    '"ttl_ms":3600000' '"content_type":"application/json"' '"data":{"tokens":312}'; do
    prints "$want"
done
status 0 "$spool" put --parent "$id" -- --a-body-with-a-dash
child=$(cat "$work/out")
status 0 "$spool" show "$child"
prints "--a-body-with-a-dash"
prints "$id"
prints "text/plain"
prints "message"
status 0 "$spool" put -o json 17
is "id in JSON" 36 "$(json '["id"]' <"$work/out" | tr -d '\n' | wc -c)"
status 0 "$spool" put -q 17
is "output of put -q" "" "$(cat "$work/out")"
status 0 "$spool" put ''
status 0 "$spool" put --content-type text/markdown '# x'
status 0 "$spool" show "$(cat "$work/out")" -o json
prints '"content_type":"text/markdown"'
prints data_base64

# Lines: in order, an id each; empty ones are none; the last needs no line feed; NUL and high bytes are kept.
SPOOL_DIR=$work/lines
{ seq 5000 && printf '\n\n"x\303\244"\nlast'; } | "$spool" put >"$work/ids"
is "exit status" 0 $?
is "ids" 5002 "$(grep -cE "$id_form" "$work/ids")"
is "ids are sorted and different" 5002 "$(sort -u "$work/ids" | cmp - "$work/ids" && sort -u "$work/ids" | wc -l)"
"$spool" cat -o json >"$work/cat"
is "events" 5002 "$(wc -l <"$work/cat")"
is "ids are those of the events" "$(md5sum <"$work/ids")" "$(python3 -c '
import json, sys
for line in sys.stdin: print(json.loads(line)["id"])' <"$work/cat" | md5sum)"
is "bodies in order" "$(seq 5000 | md5sum)" "$(python3 -c '
import json, sys
for line in list(sys.stdin)[:5000]: print(json.loads(line)["data"])' <"$work/cat" | md5sum)"
is "the last body" bGFzdA== "$(tail -1 "$work/cat" | json '["data_base64"]')"

# A slow producer's line does not wait for the next.
mkfifo "$work/pipe"
"$spool" put <"$work/pipe" >"$work/slow" &
children="$children $!"
exec 9>"$work/pipe"
echo one >&9
eventually test -s "$work/slow" && pass || fail "the first line waits for the second"
echo two >&9
exec 9>&-
wait "${children##* }"
is "ids of slow lines" 2 "$(wc -l <"$work/slow")"

# Whole events, there and back with their ids.
SPOOL_DIR=$work/copy
"$spool" put --events -q <"$work/cat"
is "exit status" 0 $?
"$spool" cat -o json | sort >"$work/cat2"
is "the copy is equal" "$(sort "$work/cat" | md5sum)" "$(md5sum <"$work/cat2")"
status 0 "$spool" put --events '{"type":"t","data":[1,2]}'
status 1 "$spool" put --events '{"type":"t",'
says "column"
printf '%s\n' '{"type":"a"}' '{"type":"b"' '{"typ":"c"}' '{"type":""}' '{"type":"d"}' | "$spool" put --events >"$work/out" 2>"$work/err"
is "exit status with bad lines" 1 $?
is "the others are stored" 2 "$(wc -l <"$work/out")"
says "line 2:"
says "line 3:"
says "line 4:"
says "3 lines not stored"

# A line that is too long is named; its neighbours are stored.
SPOOL_DIR=$work/long
{ echo before && head -c 40000000 /dev/zero | tr '\0' x && printf '\nafter\n'; } | "$spool" put >"$work/out" 2>"$work/err"
is "exit status with a long line" 1 $?
is "its neighbours" 2 "$(wc -l <"$work/out")"
says "line 2: longer than"

# Bad envelopes: every line fails, nothing is stored.
status 1 "$spool" put --type "$(printf 'a\001b')" x
status 1 "$spool" put --agent "$(printf '\377')" x
is "events after refusals" 2 "$("$spool" cat -o json | wc -l)"
status 0 "$spool" put --durability process x
finish
