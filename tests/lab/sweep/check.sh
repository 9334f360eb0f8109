#!/bin/sh
# The short version of the fault sweep: all controls, then as many cases of the plan as SECONDS_SWEEP (60) allow, in an order
# that SEED (1) gives. The long version: build/lab/sweep --jobs 2
set -u
sweep=${BUILD:-build}/lab/sweep
seed=${SEED:-1}
passed=0 failed=0
count() {
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}
count "$sweep" --controls --seed "$seed"
count "$sweep" --seconds "${SECONDS_SWEEP:-60}" --seed "$seed" --jobs 2
echo "RESULT $passed $failed"
