#!/bin/sh
# check.sh - the short version of the simulation: seeds that must pass, the same seed twice, and faults of the library
# that are made on purpose and must be caught. SEED=n begins elsewhere, RUNS=n tries more seeds.
set -u
sim=${BUILD:-build}/lab/sim
seed=${SEED:-1}
passed=0
failed=0

note() { # result, text
    if [ "$1" = 0 ]; then
        passed=$((passed + 1))
        echo "  ok      $2"
    else
        failed=$((failed + 1))
        echo "  FAILED  $2"
    fi
}

echo "$sim --seed $seed --runs ${RUNS:-3000}"
$sim --seed "$seed" --runs "${RUNS:-3000}"
note $? "no violation"

out=$($sim --seed "$seed" --runs 60 --twice)
note $? "a seed is a run, step for step: 60 seeds twice"

for control in $($sim --help 2>&1 | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do
    out=$($sim --seed "$seed" --runs 600 --control "$control")
    [ $? = 1 ] && ! echo "$out" | grep -q '^VIOLATION of crash,'
    note $? "control $control is caught: $(echo "$out" | sed -n 's/^VIOLATION of //p' | cut -c1-90)"
done

echo "RESULT $passed $failed"
