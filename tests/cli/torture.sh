#!/bin/bash
# spool torture: a short run that goes well and leaves nothing, wrong usage, an interrupt, the two halves of a power cut; and that
# its account sees what is lost, twice, invented or out of order.
. "$(dirname "$0")/common.inc"
ground=$work/ground
mkdir "$ground"

# A run. How many rounds there are depends on the machine; that what was acknowledged was found does not.
status 0 "$spool" torture "$ground" --seconds 6 --seed 7 -o json
[ -s "$work/err" ] && fail "it says something" || pass
cp "$work/out" "$work/report"
is "good" True "$(json '["good"]' <"$work/report")"
is "seed" 7 "$(json '["seed"]' <"$work/report")"
is "kills" True "$(json '["rounds"]["kill"]["kills"] >= 3' <"$work/report")"
is "acknowledged" True "$(json '["rounds"]["kill"]["acknowledged"] > 0' <"$work/report")"
is "lost" 0 "$(json '["rounds"]["kill"]["lost"]' <"$work/report")"
is "probes" 4 "$(json '["probes"].values().__len__()' <"$work/report")"
is "flushes" True "$(json '["ground"]["flushes"] > 0' <"$work/report")"
is "nothing is left" "" "$(ls "$ground")"

# In words, and kept when asked for.
status 0 "$spool" torture --seconds=1 --keep "$ground"
prints "What you can rely on here"
prints "Not tested: loss of power"
says "kept: $ground/torture-"
rm -r "$ground"/torture-*

# An interrupt ends it at once, its workers too, and it cleans up.
"$spool" torture "$ground" --minutes 5 --json >"$work/out" 2>"$work/err" &
torture=$!
children=$torture
has_begun() { ls -d "$ground"/torture-*/round-* >/dev/null 2>&1; }
eventually has_begun || fail "it does not begin"
kill -INT $torture
wait $torture
is "exit status of an interrupted one" 1 $?
is "interrupted" True "$(json '["interrupted"]' <"$work/out")"
is "nothing is left by an interrupted one" "" "$(ls "$ground")"
children=

# Wrong usage touches nothing.
status 2 "$spool" torture
status 2 "$spool" torture "$work/none"
says "No such file"
status 2 "$spool" torture "$work/report"
says "not a directory"
status 2 "$spool" torture "$ground" --seconds 0
status 2 "$spool" torture "$ground" --seconds 5 --minutes 1
says "not both"
status 2 "$spool" torture "$ground" --max-size 1
status 2 "$spool" torture "$ground" --second
says "did you mean --seconds?"
status 2 "$spool" torture "$ground" --prepare-powercut --verify-powercut
status 1 "$spool" torture "$ground" --max-size 1000000
says "free"
is "nothing was made" "" "$(ls "$ground")"
run "$spool" help
if grep -q torture-work "$work/out"; then fail "workers are listed"; else pass; fi

# The two halves of a power cut, without one: all are there; one that nobody stored is not; the last line may be cut off.
status 0 "$spool" torture "$ground" --prepare-powercut --seconds 1
cp "$work/out" "$work/list"
[ "$(wc -l <"$work/list")" -gt 2 ] && pass || fail "too few ids"
"$spool" torture "$ground" --verify-powercut <"$work/list" >"$work/out" 2>"$work/err"
is "exit status of a good verification" 0 $?
prints "0 are lost"
{ cat "$work/list" && printf '0190'; } | "$spool" torture "$ground" --verify-powercut >"$work/out" 2>"$work/err"
is "exit status with a last line cut off" 0 $?
{ cat "$work/list" && echo 01890a5d-ac96-774b-bcce-b302099a8057; } |
    "$spool" torture "$ground" --verify-powercut >"$work/out" 2>"$work/err"
is "exit status with one lost" 1 $?
prints "1 are lost"
says "lost: 01890a5d"
echo nonsense | "$spool" torture "$ground" --verify-powercut >"$work/out" 2>"$work/err"
is "exit status with another list" 2 $?

# Controls of the account: each thing it must see, planted by hand in a small run.
"$spool" torture-work make "$work/s" 16777216 "$work/events" && "$spool" torture-work produce "$work/s" "$work/acks" 1 50 block &&
    "$spool" torture-work drain "$work/s" >"$work/out"
is "damaged blocks" "damaged 0" "$(cat "$work/out")"
account() { run "$spool" torture-work account "$work/acks" "$1"; }
account "$work/events"
is "a sound account" 0 "$code"
prints "acknowledged 50, found 50, lost 0, twice 0, invented 0, out of order 0, not answered 0"
sed 7d "$work/events" >"$work/lost"
sed 7p "$work/events" >"$work/twice"
sed '7s/"pad":"./"pad":"X/' "$work/events" >"$work/invented"
tac "$work/events" >"$work/disordered"
for what in lost twice invented; do
    account "$work/$what"
    is "$what is seen" 1 "$code"
    prints "$what 1"
done
account "$work/disordered"
is "disorder is seen" 1 "$code"
if grep -q 'out of order 0' "$work/out"; then fail "disorder is not counted"; else pass; fi
head -c 3136 "$work/acks" >"$work/fewer" # 49 lines
run "$spool" torture-work account "$work/fewer" "$work/events"
is "an event whose answer was not written down is no fault" 0 "$code"
prints "not answered 1"
finish
