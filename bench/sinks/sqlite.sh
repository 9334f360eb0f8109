#!/bin/sh
# sqlite.sh - the archive beside a bulk insert into the same schema, in transactions of several sizes; the last line is our
# best beside the best of the raw ones.
. "$(dirname "$0")/common.inc"

ours() { rm -f "$work"/a.db*; "$DRIVE" sqlite "{\"path\":\"$work/a.db\"}" "$EVENTS" "$BYTES" "$batch"; }
raw() { rm -f "$work"/n.db*; "${RAW}_sqlite" "$work/a.db" "$work/n.db" "$EVENTS" "$BYTES" "$batch"; }

for batch in 1024 4096 16384; do
    in_turns "sqlite,$batch-an-insert" ours raw | tee -a "$work/lines"
done
awk '{ if ($2 > ours) ours = $2; if ($3 > raw) raw = $3 } END { print "sqlite,best", ours, raw }' "$work/lines"
