#!/bin/sh
# kafka.sh - the topic beside librdkafka alone. There is no broker in Debian: both produce to librdkafka's mock cluster, which
# is within the process and takes its share of the processors. The sink waits for each batch; the raw program does once the
# same, and once it waits for nothing but the end.
. "$(dirname "$0")/common.inc"

EVENTS=$((2 * EVENTS)) # starting the cluster counts, on both sides

ours() {
    "$DRIVE" kafka '{"servers":"mock","tls":false,"properties":{"test.mock.num.brokers":"3"}}' "$EVENTS" "$BYTES" "$batch" \
        "$workers"
}
raw() { "${RAW}_kafka" events "$EVENTS" "$BYTES" "$batch"; }
free() { "${RAW}_kafka" events "$EVENTS" "$BYTES" 0; }

workers=1
for batch in 1024 8192; do
    in_turns "kafka,$batch-a-batch" ours raw
done
in_turns "kafka,beside-no-waits" ours free
workers=2
in_turns "kafka,$batch,2-workers" ours raw
