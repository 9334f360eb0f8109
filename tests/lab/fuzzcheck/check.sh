#!/bin/sh
# Every fuzz target for FUZZ_SECONDS (20), two at a time, after the inputs that once found something.
cd "$(dirname "$0")/../../.." || exit 1
SEED=${SEED:-1} FUZZ_SECONDS=${FUZZ_SECONDS:-20} exec tests/fuzz/fuzz.sh
