#!/bin/bash
# spool verify: a whole spool, and one with a block damaged by hand.
. "$(dirname "$0")/common.inc"

seq 20000 | sed 's/.*/{"number":&,"text":"something to find in a block"}/' | "$spool" put -q
status 0 "$spool" verify
prints "no damage"
prints "20,000 events"
status 0 "$spool" verify -o json
is "events" 20000 "$(json '["events"]' <"$work/out")"

# One byte in the middle of a stored body.
segment=$(ls "$SPOOL_DIR"/segments/*.mdb | head -1)
python3 - "$segment" <<'PY'
import sys
data = bytearray(open(sys.argv[1], 'rb').read())
at = data.find(b'{"number":7777,')
assert at > 0
data[at + 30] ^= 0x20
open(sys.argv[1], 'r+b').write(data)
PY
status 1 "$spool" verify
prints "segments/"
prints "damaged"
status 1 "$spool" verify -o json
is "a finding names its file" 1 "$(head -1 "$work/out" | grep -c '"file":"segments/')"
is "findings" True "$(tail -1 "$work/out" | json '["findings"] > 0')"

# Everything else is read and delivered, and the damage is counted.
status 0 "$spool" sink add log file "path=$work/events.jsonl"
status 0 "$spool" drain --timeout 30
delivered=$(wc -l <"$work/events.jsonl")
[ "$delivered" -gt 10000 ] && [ "$delivered" -lt 20000 ] && pass || fail "delivered $delivered of 20000"
status 0 "$spool" status -o json
is "damage is counted" True "$(json '["damage"]["blocks"] > 0' <"$work/out")"
is "no event is forgotten" 20000 "$(($(json '["damage"]["events"]' <"$work/out") + delivered))"
status 0 "$spool" status
prints "spool verify"

# The segment that is written to, with nothing left of its first pages: it cannot even be opened, and that is said.
export SPOOL_DIR=$work/beheaded
status 0 "$spool" put -q one
dd if=/dev/zero of="$(ls "$SPOOL_DIR"/segments/*.mdb)" bs=4096 count=8 conv=notrunc status=none
status 1 "$spool" verify
prints "segments/00000000000000000001.mdb"
status 1 "$spool" verify -o json
is "findings of a segment that cannot be opened" 1 "$(tail -1 "$work/out" | json '["findings"]')"
status 1 "$spool" status --check
prints "a damaged file cannot be read"
says "segments/00000000000000000001.mdb"
status 0 "$spool" cat
says "segments/00000000000000000001.mdb"
finish
