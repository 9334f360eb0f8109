#!/bin/sh
# file.sh - the sink, flushed by its checkpoints, beside a program that renders, writes and flushes the same lines.
. "$(dirname "$0")/common.inc"

ours() {
    "$DRIVE" file "{\"path\":\"$work/out.jsonl\"}" "$EVENTS" "$BYTES" 1024
    rm -f "$work"/out* "$work"/.out*
}
raw() { "${RAW}_file" "$work/copy" "$EVENTS" "$BYTES"; rm -f "$work/copy"; }
in_turns file ours raw
