#!/bin/bash
# What is changed while it runs: sink rewind and set, receipts of `spool show`, and SIGHUP.
. "$(dirname "$0")/common.inc"

wait_for() { # a condition, at most a minute
    for _ in $(seq 600); do
        if eval "$1" 2>/dev/null; then
            pass
            return
        fi
        sleep 0.1
    done
    fail "did not come true: $1"
}

printf '%s\n' one two three | "$spool" put >"$work/ids"
second=$(sed -n 2p "$work/ids")
status 0 "$spool" sink add log file "path=$work/log.jsonl"
status 0 "$spool" show "$second"
prints "two"
prints "queued"
is "receipts" queued "$("$spool" show --receipts "$second" -o json | json '["state"]')"
"$spool" show "$second" -o json >"$work/out"
is "show -o json is the event alone" 1 "$(wc -l <"$work/out")"
status 0 "$spool" drain
is "delivered" delivered "$("$spool" show -r "$second" -o json | json '["state"]')"
status 0 "$spool" sink add --from-now hole null
is "skipped" skipped "$("$spool" show -r "$second" -o json | grep hole | json '["state"]')"
status 0 "$spool" show -r 01890a5d-ac96-774b-bcce-b302099a8057
prints "gone"
says "not stored any more"
status 3 "$spool" show -r 7f890a5d-ac96-774b-bcce-b302099a8057
status 2 "$spool" show -r nonsense
status 2 "$spool" show

# Rewinding.
status 0 "$spool" sink rewind log --to "$second"
prints "2 events again"
is "waiting again" 2 "$("$spool" sinks -o json | grep '"log"' | json '["pending_events"]')"
status 0 "$spool" drain
is "delivered again" 5 "$(wc -l <"$work/log.jsonl")"
status 0 "$spool" sink rewind log --to 1h -o json
is "rewind -o json" 3 "$(json '["again_events"]' <"$work/out")"
status 0 "$spool" drain
status 0 "$spool" sink rewind log --to "$("$spool" show "$second" -o json | json '["time"]')" -o json
is "rewind to the time of the second" 2 "$(json '["again_events"]' <"$work/out")"
status 0 "$spool" drain
sleep 0.01
status 0 "$spool" put -q four
status 0 "$spool" drain
fourth=$("$spool" cat -o json | tail -1 | json '["time"]')
status 0 "$spool" sink rewind log --to "$(python3 -c 'import datetime as d, sys
at = d.datetime.fromisoformat(sys.argv[1][:26] + "+00:00")
print((at - d.timedelta(milliseconds=5)).isoformat().replace("+00:00", "Z"))' "$fourth")" -o json
is "rewind to 5 ms before the fourth" 1 "$(json '["again_events"]' <"$work/out")"
status 0 "$spool" drain
status 0 "$spool" sink rewind log --to now
prints "stays where it is"
status 3 "$spool" sink rewind nobody --to 1h
status 3 "$spool" sink rewind log --to 01890a5d-ac96-774b-bcce-b302099a8057
status 2 "$spool" sink rewind log
status 2 "$spool" sink rewind log --to "the day before"
status 2 "$spool" sink rewind --to 1h

# Options.
status 0 "$spool" sink set log retry.cap=1m retry.max_attempts=7 dead.bytes_max=2MiB timeout=5s
prints "log is changed"
status 0 "$spool" sink set log retry.base=50ms -o json
is "sink set -o json" changed "$(json '["result"]' <"$work/out")"
status 2 "$spool" sink set log
status 2 "$spool" sink set log retry.cup=1m
says "did you mean retry.cap?"
status 2 "$spool" sink set log retry.cap=soon
status 2 "$spool" sink set log retry.max_attempts=0
status 2 "$spool" sink set log timeout=5
says "unit"
status 0 "$spool" sink add other null
prints "is registered"
status 0 "$spool" sink add other null --linger 1s
prints "goes on where it is"
status 0 "$spool" sink remove -f other
status 2 "$spool" sink set log order=lane
says "spool sink add"
status 0 "$spool" sink set log max_crashes=5 max_pending_bytes=64MiB max_pending_age=7d
status 2 "$spool" sink set log batch_bytes=12XB
status 2 "$spool" sink set log retry.cap
status 1 "$spool" sink set log retry.base=1h
says "retry_cap_ms"
status 3 "$spool" sink set nobody retry.cap=1m

# SIGHUP, without a file and with one.
"$spool" run 2>"$work/run" &
child=$!
children="$children $child"
wait_for 'grep -q "delivering from" "$work/run"'
kill -HUP $child
wait_for 'grep -q "no file to read again" "$work/run"'
# Without a restart a sink goes and comes back.
before=$("$spool" sinks -o json | wc -l)
status 0 "$spool" sink remove -f log
says "another process delivers to log"
prints "log is removed"
is "one sink fewer" $((before - 1)) "$("$spool" sinks -o json | wc -l)"
wait_for 'grep -q "log is removed" "$work/run"'
status 0 "$spool" sink add log file "path=$work/again.jsonl"
wait_for '[ "$(wc -l <"$work/again.jsonl")" = 4 ]'
kill -TERM $child
wait $child
is "run ends with 0" 0 $?

config() { printf '{"spool": {"dir": "%s"}, "sinks": [%s]}' "$work/conf" "$1" >"$work/spool.json"; }
log='{"name": "log", "kind": "file", "path": "'$work'/conf.jsonl"}'
config "$log"
"$spool" run -c "$work/spool.json" 2>"$work/run" &
child=$!
children="$children $child"
wait_for 'grep -q "log (file): delivering" "$work/run"'
"$spool" -C "$work/conf" put -q first
wait_for '[ "$(wc -l <"$work/conf.jsonl")" = 1 ]'
config "$log, {\"name\": \"bad\"}"
kill -HUP $child
wait_for 'grep -q "sinks\[1\].kind" "$work/run"'
wait_for 'grep -q "delivery goes on as before" "$work/run"'
"$spool" -C "$work/conf" put -q second
wait_for '[ "$(wc -l <"$work/conf.jsonl")" = 2 ]'
config '{"name": "log", "kind": "file", "path": "'$work'/other.jsonl"}, {"name": "hole", "kind": "null"}'
kill -HUP $child
wait_for 'grep -q "hole is added" "$work/run"'
wait_for 'grep -q "log was changed" "$work/run"'
"$spool" -C "$work/conf" put -q third
wait_for '[ "$(wc -l <"$work/other.jsonl")" = 1 ]'
is "nothing came twice" 2 "$(wc -l <"$work/conf.jsonl")"
config '{"name": "hole", "kind": "null", "retry": {"max_attempts": 5}}'
kill -HUP $child
wait_for 'grep -q "log is not in the file any more" "$work/run"'
wait_for 'grep -q "hole goes on with other options" "$work/run"'
"$spool" -C "$work/conf" put -q fourth
is "its events are held" 1 "$("$spool" -C "$work/conf" sinks -o json | grep '"log"' | json '["pending_events"]')"
kill -TERM $child
wait $child
is "run -c ends with 0" 0 $?
finish
