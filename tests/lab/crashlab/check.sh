#!/bin/sh
# Crash images of the library, for about two minutes: the engine's own test, all scenarios, all controls.
# SEED=n takes another seed, SECONDS=n more or less time, JOBS=n other workers (2).
# Ends with "RESULT passed failed": one check for each scenario and for each control.
set -u
seconds=${SECONDS:-0} seed=${SEED:-1} jobs=${JOBS:-2}
[ "$seconds" -gt 0 ] || seconds=120
lab=${BUILD:-build}/lab/crashlab
out=$(mktemp) || exit 1
trap 'rm -f "$out"' EXIT
trap 'exit 1' INT TERM

part() { # part SECONDS ARGUMENTS...
    limit=$1
    shift
    "$lab" --seed "$seed" --jobs "$jobs" --seconds "$limit" "$@" 2>&1 | tee -a "$out"
}

part $((seconds / 12)) --selftest
part $((seconds * 2 / 3))
# A control ends with the first violation, mostly within a second: the limit is for slow machines.
part 60 --controls

passed=$(grep -c '^check passed: ' "$out")
failed=$(grep -c '^check failed: ' "$out")
# A part that broke off is a failure, too.
[ $((passed + failed)) -ge "$("$lab" --list | wc -l)" ] || failed=$((failed + 1))
sed -n 's/^check failed: /FAILED /p' "$out"
echo "RESULT $passed $failed"
[ "$failed" -eq 0 ]
