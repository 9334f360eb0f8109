#!/bin/sh
# Each sink beside the best that its library's own example does for the same events: `make bench-sinks`. One script a kind,
# bench/sinks/<kind>.sh, prints one line a case:
#
#     <case> <events a second of the sink> <events a second of the example>
#
# The two are run in turns in the same minute, and what is printed is the median of each. KINDS="exec file" runs those alone.
set -eu
cd "$(dirname "$0")/../.."
BUILD=$(realpath "${BUILD:-build}")
export BUILD SPOOL_SINK_PATH="$BUILD/sinks" DRIVE="$BUILD/bench/sinks/drive" RAW="$BUILD/bench/sinks/raw"
printf '%-28s %14s %14s %8s\n' sink 'ours, ev/s' 'raw, ev/s' ratio
for kind in ${KINDS:-$(cd bench/sinks && ls ./*.sh | sed 's|^\./||; s|\.sh$||' | grep -vx -e run -e common)}; do
    "bench/sinks/$kind.sh" | while read -r name ours raw; do
        printf '%-28s %14s %14s %8s\n' "$name" "$ours" "$raw" "$(awk "BEGIN { printf \"%.2f\", $ours / $raw }")"
    done
done
