#!/bin/sh
# to_nats.sh - from an agent to a NATS JetStream stream: a recorded session, delivered by a process that is killed on the way.
#
#     nats-server -js &
#     PATH=build:build/examples:$PATH SPOOL_SINK_PATH=$PWD/build/sinks examples/to_nats.sh [DIR [nats://HOST:PORT]]
#
# Everything it makes is in DIR (a new one in /tmp if none is given), and in the stream AGENTS.
set -eu
session=$(dirname "$(realpath "$0")")/data/session.jsonl
dir=${1:-$(mktemp -d)}
server=${2:-nats://127.0.0.1:4222}
cd "$dir"

# 1. Say where events go: agents.AGENT.TYPE, in a stream that is made if it is not there. Whoever subscribes to
#    agents.*.log.error hears of every agent's errors.
cat > spool.json <<.
{ "spool": { "dir": "spool" },
  "sinks": [ { "name": "bus", "kind": "nats", "servers": "$server", "subject": "agents.{agent}.{type}",
               "stream": "AGENTS", "create": true, "batch_events": 16 } ] }
.
spool drain -c spool.json

# 2. The agent enqueues. It does not matter whether the server is there.
agent --spool spool --ack-log acknowledged "$session" 2>&1

# 3. Somebody delivers, and is killed. The stream knows the ids of the last ten minutes: nothing is stored twice.
spool run -c spool.json &
sleep 0.05
kill -9 $!
wait $! || true
spool drain -c spool.json
echo "delivered $(spool -C spool -o json sinks | grep -o '"delivered_events": *[0-9]*' | head -n 1 | grep -o '[0-9]*$')"
