#!/bin/sh
# kafka.sh - the topic beside librdkafka alone. There is no broker in Debian: both produce to librdkafka's mock cluster.
. "$(dirname "$0")/common.inc"

EVENTS=$((4 * EVENTS)) # starting the cluster counts, on both sides

ours() {
    "$DRIVE" kafka '{"servers":"mock","tls":false,"properties":{"test.mock.num.brokers":"3"}}' "$EVENTS" "$BYTES" "$batch"
}
raw() { "${RAW}_kafka" events "$EVENTS" "$BYTES"; }

for batch in 1024 8192; do
    in_turns "kafka,$batch-a-batch" ours raw
done
