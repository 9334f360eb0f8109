#!/bin/sh
# redis.sh - the stream beside pipelined XADD by hiredis alone, on a server of its own that flushes its log before it answers.
. "$(dirname "$0")/common.inc"

redis-server --port 0 --unixsocket "$work/socket" --dir "$work" --save '' --appendonly yes --appendfsync always \
    --auto-aof-rewrite-percentage 0 > "$work/log" 2>&1 &
server=$!
trap 'kill $server; wait $server || true; rm -rf "$work"' EXIT
cli() { redis-cli -s "$work/socket" "$@" > /dev/null 2>&1; }
until cli PING; do sleep 0.1; done

ours() { cli FLUSHALL; "$DRIVE" redis "{\"url\":\"unix://$work/socket\"}" "$EVENTS" "$BYTES" "$batch"; }
raw() { cli FLUSHALL; "${RAW}_redis" "$work/socket" events "$EVENTS" "$BYTES" "$batch"; }

for batch in 1024 4096; do
    in_turns "redis,$batch-a-call" ours raw
done
