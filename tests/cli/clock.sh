#!/bin/bash
# spool clock, spool clock reset, and spool cat over several spools. (Servers: tests/system/sntp.py.)
# shellcheck source=tests/cli/common.inc
. "$(dirname "$0")/common.inc"

status 3 "$spool" clock
"$spool" put -q --type first 1
status 0 "$spool" clock
prints "kernel"
prints "realtime"
prints "monotonic"
prints "verdict"
status 0 "$spool" clock -o json
is "an object a source, and the time" 4 "$(wc -l <"$work/out")"
grep -q '"source":"kernel","kind":"kernel","verdict"' "$work/out" && pass || fail "the kernel is not shown"
tail -n 1 "$work/out" | grep -q '"status":.*"stamp":.*"confidence":' && pass || fail "the time is not shown"

# A server that is not there is shown as such, with why; that is an answer, and no failure.
status 0 "$spool" clock --server 127.0.0.1:9 --timeout 10s
prints "unreachable"
prints "127.0.0.1:9"
status 2 "$spool" clock --server "no name"
status 2 "$spool" clock again
says "too many words"
status 2 "$spool" clock rest
says "did you mean clock reset?"
echo '{"clock": {"servers": ["127.0.0.1:9"], "sources": {"realtime": {"assumed_error": "2s"}}}}' >"$work/spool.json"
status 0 "$spool" clock -c "$work/spool.json"
prints "synchronised"
prints "127.0.0.1:9"
echo '{"clock": {"severs": []}}' >"$work/spool.json"
status 1 "$spool" clock -c "$work/spool.json"
says "clock.severs"
status 1 "$spool" clock -c "$work/none.json"

# Nothing of it changes the spool but reset, which is for the processes that have it open.
status 0 "$spool" clock reset
prints "follows"
status 0 "$spool" clock reset -o json
prints '"reset"'
status 3 "$spool" -C "$work/none" clock reset

# Several spools in one order, whatever the order of the names; copies once.
"$spool" -C "$work/other" put -q --type second 2
"$spool" put -q --type third 3
"$spool" cat -o json | "$spool" -C "$work/other" put --events -q
for dirs in "$SPOOL_DIR $work/other" "$work/other $SPOOL_DIR"; do
    # shellcheck disable=SC2086
    status 0 "$spool" cat -o json $dirs
    is "types, in order, once" "first second third" "$(sed -E 's/.*"type":"([a-z]*)".*/\1/' "$work/out" | xargs)"
done
status 0 "$spool" cat -o json -n 2 "$SPOOL_DIR" "$work/other"
is "the first two" 2 "$(wc -l <"$work/out")"
status 3 "$spool" cat "$SPOOL_DIR" "$work/none"

# What is out of order is said, with what was expected: a copy of an older one behind younger ones.
status 0 "$spool" cat --check -o json
status 1 "$spool" -C "$work/other" cat --check -o json
says "is out of order"
says "expected before"
prints '"order":{"flaw":"late","expected_before":"'
while read -r line; do
    echo "$line" | json '["type"]' >/dev/null || fail "no JSON: $line"
done <"$work/out"

# An effect before its cause: a parent from a clock that is a year ahead.
far=$(printf '%012x' $((($(date +%s) + 31536000) * 1000)))
"$spool" put -q --type effect --parent "${far:0:8}-${far:8:4}-7000-8000-000000000001" x
status 1 "$spool" cat --check -o json
prints '"order":{"flaw":"before its parent","expected_after":"'
finish
