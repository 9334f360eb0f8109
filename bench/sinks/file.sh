#!/bin/sh
# The file sink, flushed by checkpoints, beside dd of as many bytes with one flush at the end.
. bench/sinks/common.inc
ours() { "$DRIVE" file "{\"path\":\"$work/out.jsonl\"}" "$EVENTS" "$BYTES" 1024; size=$(stat -c %s "$work/out.jsonl"); rm -f "$work"/out* "$work"/.out*; echo "$size" > "$work/size"; }
raw() {
    start=$(date +%s.%N)
    dd if=/dev/zero of="$work/copy" bs=256K count=$(($(cat "$work/size") / 262144 + 1)) conv=fdatasync status=none
    echo "$start $(date +%s.%N) $EVENTS" | awk '{ printf "%.0f\n", $3 / ($2 - $1) }'
    rm -f "$work/copy"
}
in_turns file ours raw
