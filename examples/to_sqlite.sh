#!/bin/sh
# to_sqlite.sh - from an agent to an archive that you ask with sqlite3: a recorded session, and the process that delivers it
# is killed on the way.
#
#     PATH=build:build/examples:$PATH SPOOL_SINK_PATH=$PWD/build/sinks examples/to_sqlite.sh [DIR]
#
# Everything it makes is in DIR (a new one in /tmp if none is given).
set -eu
session=$(dirname "$(realpath "$0")")/data/session.jsonl
dir=${1:-$(mktemp -d)}
cd "$dir"

# 1. Say where events go. The archive is a file; the sink makes it.
cat > spool.json <<.
{ "spool": { "dir": "spool" },
  "sinks": [ { "name": "archive", "kind": "sqlite", "path": "archive.db", "batch_events": 16 } ] }
.
spool drain -c spool.json

# 2. The agent enqueues. What it was acknowledged is safe, whether anybody delivers or not.
agent --spool spool --ack-log acknowledged "$session"

# 3. Somebody delivers, and is killed: nothing is lost, and nothing comes twice.
spool run -c spool.json &
sleep 0.05
kill -9 $!
wait $! || true
spool drain -c spool.json

# 4. Ask. Every well-known type has a view with its members as columns.
echo "acknowledged: $(wc -l < acknowledged), archived: $(sqlite3 archive.db 'SELECT count(*) FROM events')"
echo
echo "What happened most:"
sqlite3 -column -header archive.db \
    'SELECT type, count(*) AS events, count(DISTINCT agent) AS agents FROM events GROUP BY type ORDER BY 2 DESC LIMIT 5'
echo
echo "What each model cost:"
sqlite3 -column -header archive.db \
    'SELECT model, count(*) AS calls, sum(input_tokens) AS input, sum(output_tokens) AS output, round(sum(cost_usd), 4) AS usd
     FROM log_llm_call GROUP BY model ORDER BY calls DESC LIMIT 5'
echo
echo "The last errors:"
sqlite3 -column -header archive.db 'SELECT time, agent, message FROM log_error ORDER BY id DESC LIMIT 3'
