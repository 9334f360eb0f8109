#!/bin/bash
# Sinks: add, list, pause, resume, remove; run and drain; status.
. "$(dirname "$0")/common.inc"

status 0 "$spool" put first
status 0 "$spool" status
prints "no sink is registered"
status 3 "$spool" drain
says "no sink is registered"

status 0 "$spool" sink add log file "path=$work/events.jsonl"
status 2 "$spool" sink add other nosuchkind
says "nosuchkind"
status 2 "$spool" sink add other file pth=x
says '"pth" is unknown; did you mean "path"?'
status 2 "$spool" sink add other file path=x rotate_byte=1
says 'did you mean "rotate_bytes"?'
status 2 "$spool" sink add other file colour=red
says '"path" is required'
status 2 "$spool" sink add .hidden null
status 0 "$spool" sink add --from-now later null
status 0 "$spool" sinks
prints "$work/events.jsonl"
is "sinks -o json" 2 "$("$spool" sinks -o json | wc -l)"
is "pending of log" 1 "$("$spool" sinks -o json | grep '"log"' | json '["pending_events"]')"
is "pending of later" 0 "$("$spool" sinks -o json | grep '"later"' | json '["pending_events"]')"
is "configuration of log" "$work/events.jsonl" "$("$spool" sinks -o json | grep '"log"' | json '["config"]["path"]')"

# Status: what waits, who holds it, what to do.
seq 99 | "$spool" put -q
status 0 "$spool" status
prints "waiting   100 events, the oldest for"
prints "nobody delivers to log"
is "status -o json is one line" 1 "$("$spool" status -o json | wc -l)"
is "waiting_events" 100 "$("$spool" status -o json | json '["waiting_events"]')"
is "sinks in it" 2 "$("$spool" status -o json | json '["sinks"].__len__()')"

# A paused sink holds its events.
status 0 "$spool" sink pause log
status 1 "$spool" drain --timeout 0.5
says "log holds 100"
status 0 "$spool" status
prints "paused"
prints "spool sink resume log"
status 1 "$spool" drain --timeout 500ms -o json
is "empty" False "$(json '["empty"]' <"$work/out")"
is "pending_events" 100 "$(json '["pending_events"]' <"$work/out")"
status 0 "$spool" sink resume log
status 0 "$spool" drain --timeout 30
says "empty"
is "delivered" 100 "$(wc -l <"$work/events.jsonl")"
is "delivered ids" 100 "$(python3 -c 'import json, sys
print(len({json.loads(line)["id"] for line in sys.stdin}))' <"$work/events.jsonl")"
status 0 "$spool" drain --timeout 0

# A sink that is down: drain gives up in time and says why.
touch "$work/file"
status 0 "$spool" sink add far file "path=$work/file/is-no-directory.jsonl"
status 1 "$spool" drain --timeout 1
says "far holds 100"
status 0 "$spool" sink remove far
prints "100"
status 3 "$spool" sink remove far
status 3 "$spool" sink pause far
status 0 "$spool" drain --timeout 10

# run: delivers what comes, also to sinks that are added later; stops on SIGTERM and says what remains.
"$spool" run >"$work/run.out" 2>"$work/run.err" &
runner=$!
children="$children $runner"
lines_are() { [ "$(wc -l <"$1")" -eq "$2" ]; }
eventually grep -q delivering "$work/run.err" && pass || fail "run does not say that it delivers"
seq 50 | "$spool" put -q
eventually lines_are "$work/events.jsonl" 150 && pass || fail "run does not deliver what comes"
status 0 "$spool" sinks -o json
is "state elsewhere" elsewhere "$(grep '"log"' "$work/out" | json '["state"]')"
status 0 "$spool" sink add --from-now second file "path=$work/second.jsonl"
eventually grep -q second "$work/run.err" && pass || fail "run does not take up a new sink"
status 0 "$spool" put x
eventually lines_are "$work/second.jsonl" 1 && pass || fail "the new sink gets nothing"
kill -HUP $runner
eventually grep -q SIGHUP "$work/run.err" && pass || fail "SIGHUP is not answered"
kill -TERM $runner
wait $runner
is "exit status of run" 0 $?
is "run says what remains" 1 "$(grep -c 'stopped; .* delivered; nothing waits' "$work/run.err")"

# With a configuration file.
cat >"$work/spool.json" <<JSON
{"spool": {"dir": "$work/configured", "stop_timeout": "2s"},
 "sinks": [{"name": "c", "kind": "file", "path": "$work/c.jsonl", "retry": {"base": "10ms"}}]}
JSON
status 0 "$spool" drain -c "$work/spool.json"
seq 10 | "$spool" -C "$work/configured" put -q
status 0 "$spool" drain -c "$work/spool.json" --timeout 20
is "delivered by configuration" 10 "$(wc -l <"$work/c.jsonl")"
status 3 "$spool" run -c "$work/none.json"
printf '{"spool": {"dir": "%s", "colour": 1}}' "$work/configured" >"$work/bad.json"
status 2 "$spool" run -c "$work/bad.json"
says "colour"
printf '{"spool":\n {]' >"$work/bad.json"
status 2 "$spool" run -c "$work/bad.json"
says "line 2"
printf '{"spool": {"dir": "%s"}, "sinks": [{"name": "x", "kind": "fil"}]}' "$work/configured" >"$work/bad.json"
status 2 "$spool" drain -c "$work/bad.json"
says "no kind \"fil\""

# A filter, a linger time, and what is told of them; kinds; a probe.
rm -rf "$work/filtered"
dir=$SPOOL_DIR; SPOOL_DIR=$work/filtered
status 2 "$spool" sink add --filter '{"include":{"colour":"red"}}' far null
says "filter.include.colour"
status 0 "$spool" sink add --filter '{"exclude":{"tag":"debug"}}' --linger 5ms far null
status 0 "$spool" put --tag debug first
status 0 "$spool" put --tag prod second
status 0 "$spool" drain --timeout 60
is "delivered" 1 "$("$spool" sinks -o json | json '["delivered_events"]')"
is "filtered" 1 "$("$spool" sinks -o json | json '["filtered_events"]')"
is "options" 5 "$("$spool" sinks -o json | json '["options"]["linger_ms"]')"
status 0 "$spool" sink kinds
prints "rotate_bytes"
status 3 "$spool" sink kinds nosuchkind
is "kinds -o json" 5 "$(SPOOL_SINK_PATH=/nonexistent "$spool" sink kinds -o json | grep -c '"file":null')"
status 1 env SPOOL_SINK_PATH=here "$spool" sink kinds
says "not an absolute folder"
status 0 "$spool" sink test far
prints "far accepted an event of type spool.probe"
status 3 "$spool" sink test nobody

# One that keeps checkpoints is probed in its deliverer's place: what it has stays, what comes later stands behind it, once.
status 0 "$spool" sink add log file "path=$work/probed.jsonl"
status 0 "$spool" sink test log
prints "log accepted an event of type spool.probe"
is "probed at first" 1 "$(grep -c '"probe":true,"sink":"log"' "$work/probed.jsonl")"
status 0 "$spool" drain --timeout 60
status 0 "$spool" sink test log
status 0 "$spool" put --type third 3
status 0 "$spool" drain --timeout 60
is "probes, and once what was put" "spool.probe message message spool.probe third" \
    "$(sed 's/.*"type":"\([^"]*\)".*/\1/' "$work/probed.jsonl" | tr '\n' ' ' | sed 's/ $//')"
"$spool" run 2>/dev/null & server=$!
children="$children $server"
i=0; until ! "$spool" sinks -o json | grep '"name":"log"' | grep -q '"absent"' || [ $((i += 1)) -gt 600 ]; do sleep 0.1; done
status 1 "$spool" sink test log
says "a process delivers to it"
kill "$server"; wait "$server"
mkdir "$work/isdir"
status 0 "$spool" sink add folder file "path=$work/isdir"
status 1 "$spool" sink test folder
says "isdir"
SPOOL_DIR=$dir

finish
