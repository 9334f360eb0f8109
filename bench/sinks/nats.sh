#!/bin/sh
# nats.sh - the stream beside js_PublishMsgAsync() by libnats alone, on a server of its own.
. "$(dirname "$0")/common.inc"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
nats-server -js -sd "$work/store" -a 127.0.0.1 -p "$port" > "$work/log" 2>&1 &
server=$!
trap 'kill $server; wait $server || true; rm -rf "$work"' EXIT
until grep -qs 'Server is ready' "$work/log"; do sleep 0.1; done

url=nats://127.0.0.1:$port round=0
# A stream for each run of ours, in which the raw program then writes, too, with other ids.
ours() {
    round=$((round + 1))
    echo "$batch$round" > "$work/stream"
    "$DRIVE" nats "{\"servers\":\"$url\",\"stream\":\"s$batch$round\",\"subject\":\"s$batch$round.{agent}.{type}\",\"create\":true}" \
        "$EVENTS" "$BYTES" "$batch"
}
raw() { "${RAW}_nats" "$url" "s$(cat "$work/stream")" "$EVENTS" "$BYTES"; }

for batch in 1024 4096; do
    in_turns "nats,$batch-a-batch" ours raw
done
