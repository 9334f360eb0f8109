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
finish
