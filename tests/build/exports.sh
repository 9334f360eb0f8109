#!/bin/sh
# Only spool_* may be visible from outside, in both libraries, and everything the header declares must be there.
set -eu
cd "$(dirname "$0")/../.."
build=${BUILD:-build}
passed=0 failed=0
check() { # description, command…
    what=$1; shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what"; fi
}
so=$build/libspool.so.0
visible=$(nm -D --defined-only "$so" | awk '$2 != "A" { print $3 }' | sed 's/@.*//' | sort -u)
inside=$(nm -g --defined-only "$build/libspool.a" 2>/dev/null | awk 'NF == 3 { print $3 }' | sort -u)
declared=$(gcc -E -P lib/spool.h | tr '\n' ' ' | grep -oE '\bspool_[a-z_0-9]+ ?\(' | tr -d ' (' | sort -u)

only_ours() { ! printf '%s\n' "$1" | grep -v '^spool_'; }
all_declared() { test -z "$(for f in $declared; do printf '%s\n' "$1" | grep -qx "$f" || echo "missing: $f"; done | tee /dev/stderr)"; }
none_undeclared() { test -z "$(for f in $1; do printf '%s\n' "$declared" | grep -qx "$f" || echo "not in spool.h: $f"; done | tee /dev/stderr)"; }
check "the shared library exports only spool_*" only_ours "$visible"
check "the static library exports only spool_*" only_ours "$inside"
check "the shared library has all that spool.h declares" all_declared "$visible"
check "the static library has all that spool.h declares" all_declared "$inside"
check "nothing is exported that spool.h does not declare" none_undeclared "$visible"
echo "RESULT $passed $failed"
[ "$failed" = 0 ]
