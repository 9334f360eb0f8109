#!/usr/bin/env bash
# The main job, shown: an agent is killed again and again while its sink breaks and comes back, and nothing is lost.
#
#     tests/demo.sh [SESSION.jsonl]        called by `make demo`; BUILD says where the programs are, SEED repeats a run
#
# The agent replays a session through the library and delivers to a JSON Lines file in the same process. It logs every
# acknowledgement; what it was told is safe is compared with what the file holds at the end (tests/tools/compare-session).
set -u
cd "$(dirname "$0")/.." || exit 1
build=${BUILD:-build}
session=${1:-examples/data/session.jsonl}
seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
kills=6

say() { printf 'demo: %s\n' "$*"; }
die() { say "$*"; exit 1; }
count() { cat "$@" 2>/dev/null | wc -l; }

[ -r "$session" ] || die "there is no session $session; give one with: make demo SESSION=file.jsonl"
for program in examples/agent spool; do
    [ -x "$build/$program" ] || die "there is no $build/$program: run make first"
done
events=$(grep -c '' "$session") || die "$session is empty"
work=$(mktemp -d "${TMPDIR:-/tmp}/spool-demo-XXXXXX") || exit 1
spool=$work/spool sink=$work/sink acks=$work/acks
RANDOM=$seed
agent=
trap 'status=$?; [ -z "$agent" ] || kill -9 "$agent" 2>/dev/null; [ $status != 0 ] || rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

# At this rate the session outlasts all the kills: they come within 1.2 s of a start.
rate=$((events / (kills + 2) + 1))

start_agent() {
    "$build/examples/agent" --spool "$spool" --sink "$sink/events.jsonl" --ack-log "$acks" --resume --threads 4 "$@" \
        "$session" >"$work/agent.out" 2>&1 &
    agent=$!
}

# Waits for the agent and keeps its exit status in $status, without the shell's own report of a killed job.
await_agent() {
    wait "$agent" 2>/dev/null
    status=$?
    agent=
}

# A file in place of the sink's directory: permissions would not stop root.
break_sink() { mv "$sink" "$sink.away" && : >"$sink"; }
mend_sink() { rm "$sink" && mv "$sink.away" "$sink"; }

run_and_kill() {
    local ms=$((100 + RANDOM % 1100))
    start_agent --rate "$rate"
    sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
    kill -9 "$agent" 2>/dev/null
    await_agent
    [ $status = 137 ] || [ $status = 0 ] || die "the agent failed: $(tail -n 1 "$work/agent.out") (see $work)"
    say "run $1: SIGKILL after $ms ms; $(count "$acks") acknowledged, $(count "$sink"*/events.jsonl) in the sink's file so far"
}

mkdir "$sink"
say "$session, $events events, by 4 threads; seed $seed, files in $work"
for ((run = 1; run <= kills; run++)); do
    [ $run != 3 ] || { break_sink && say "the sink is broken: a file stands in place of its directory"; }
    [ $run != 5 ] || { mend_sink && say "the sink is back"; }
    run_and_kill $run
done

start_agent
await_agent
[ $status = 0 ] || die "the agent failed: $(tail -n 1 "$work/agent.out") (see $work)"
say "run $run: undisturbed to the end of the session; $(count "$acks") acknowledged"
"$build/spool" -C "$spool" drain --timeout 60 >"$work/drain.out" 2>&1 ||
    die "spool drain failed: $(tail -n 1 "$work/drain.out") (see $work)"
say "drained; comparing what was acknowledged with what arrived, by id and content"
python3 tests/tools/compare-session "$session" "$acks" "$sink"/*.jsonl || die "kept for inspection: $work"
