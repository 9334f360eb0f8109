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
prints "spool verify --seen"

# Known damage troubles nobody until there is more of it.
status 1 "$spool" status --check
status 0 "$spool" verify --seen
prints "marked as seen"
status 0 "$spool" status -o json
is "seen" True "$(json '["damage"]["seen"]' <"$work/out")"
status 0 "$spool" status --check
prints "set aside (seen)"
status 0 "$spool" verify
prints "no new damage, seen before:"
prints "(seen)"
status 0 "$spool" verify -o json
is "findings are told as seen" "0 True" "$(tail -1 "$work/out" | json '["findings"]') $(head -1 "$work/out" | json '["seen"]')"
status 3 "$spool" -C "$work/none" verify --seen

# A state that was damaged, or is gone: told once, counted, and the file is not named twice.
head -c 8192 /dev/urandom | dd of="$SPOOL_DIR/state.mdb" conv=notrunc status=none
status 1 "$spool" verify
is "the file's name" 0 "$(grep -c 'state.mdb: state.mdb' "$work/out")"
status 0 "$spool" put -q more
status 1 "$spool" status --check
prints "damage was found and set aside"
status 0 "$spool" verify --seen
status 0 "$spool" status
is "damage is no problem any more" 0 "$(grep -c "damage was found" "$work/out")"
rm "$SPOOL_DIR/state.mdb"
status 0 "$spool" put -q more
status 1 "$spool" status --check
prints "damage was found and set aside"

# What keeps a spool from opening is not to be found by verify.
echo garbage >"$SPOOL_DIR/spool.json"
status 1 "$spool" verify
says "put it back from a copy"
is "no advice that leads nowhere" 0 "$(grep -c 'names what is damaged' "$work/err")"

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
