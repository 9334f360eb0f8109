#!/bin/sh
# Unit tests under valgrind's memcheck: no invalid access, nothing definitely lost.
cd "$(dirname "$0")/../.." || exit 1
build=${BUILD:-build}
passed=0 failed=0
# Not those that fork much or run long on purpose: the sanitizers have them.
for name in buffer error id event json block window wake journal_flush state state_ack log delivery delivery_retry sink_basic \
    sink_file config public public_ops store; do
    program=$build/tests/test_$name
    [ -x "$program" ] || continue
    if output=$(CK_FORK=no CK_DEFAULT_TIMEOUT=0 VALGRIND=1 timeout 300 valgrind -q --error-exitcode=9 --leak-check=full \
        --errors-for-leak-kinds=definite --child-silent-after-fork=yes "$program" 2>&1); then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        printf 'FAILED: %s under valgrind\n%s\n' "$program" "$output"
    fi
done
echo "RESULT $passed $failed"
[ "$failed" = 0 ]
