#!/bin/sh
# run.sh - all benchmarks; figures as Markdown on standard output and in BUILD/bench/results.md, as JSON beside it.
#
# BUILD (build): where the programs are. DIR (BUILD/bench): the disk to measure. ROUNDS (3), SECONDS_EACH (3); QUICK=1:
# half a second each, which is too short for the sustained figures to mean much.
set -eu
here=$(dirname "$0")
build=${BUILD:-build}
dir=${DIR:-$build/bench}
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-${QUICK:+0.5}}
mkdir -p "$build/bench" "$dir"
files=$(mktemp -d "$dir/files.XXXXXX")
trap 'rm -rf "$files"' EXIT
{
    "$build/bench/bench" --dir "$files/bench" --rounds "$rounds" --seconds "${seconds:-3}" \
        --json "$build/bench/bench.json"
    echo
    BUILD=$build DIR=$files/put JSON=$build/bench/put.json "$here/put.sh"
} > "$build/bench/results.md"
cat "$build/bench/results.md"
