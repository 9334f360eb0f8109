#!/bin/sh
# check.sh - the short version of the world of clocks: seeds that must pass, the same seed twice, and faults that are made on
# purpose and must be caught. SEED=n begins elsewhere, RUNS=n tries more worlds.
set -u
world=${BUILD:-build}/lab/clockworld
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

echo "$world --seed $seed --runs ${RUNS:-2000}"
$world --seed "$seed" --runs "${RUNS:-2000}"
note $? "no violation"

out=$($world --seed "$seed" --runs 50 --twice)
note $? "a seed is a world, step for step: 50 seeds twice"

for control in $($world --help 2>&1 | sed -n 's/^  \([a-z-]*\) .*/\1/p'); do
    out=$($world --seed "$seed" --runs 1000 --control "$control")
    [ $? = 1 ] && echo "$out" | grep -q '^VIOLATION'
    note $? "control $control is caught: $(echo "$out" | sed -n 's/^VIOLATION of //p' | cut -c1-90)"
done

echo "RESULT $passed $failed"
