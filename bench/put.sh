#!/bin/sh
# put.sh - the `spool put` command as a process: lines a second from a file, and how long a single put takes.
#
# BUILD (build), DIR (BUILD/bench/put, removed), LINES (1,000,000), SINGLES (50). Prints Markdown, and JSON to $JSON.
set -eu
build=${BUILD:-build}
dir=${DIR:-$build/bench/put}
lines=${LINES:-1000000}
singles=${SINGLES:-50}
spool=$build/spool
export LC_ALL=C

now_ns() { date +%s%N; }

# median of the numbers on standard input
median() { sort -n | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'; }

[ ! -e "$dir" ] || { echo "$dir exists: name another DIR" >&2; exit 1; }
mkdir -p "$dir"
trap 'rm -rf "$dir"' EXIT
awk -v n="$lines" 'BEGIN { for (i = 0; i < n; i++) printf "{\"n\":%d,\"model\":\"m\",\"text\":\"%060d\"}\n", i, i }' \
    > "$dir/lines"

many() {
    for round in 1 2 3; do
        sync
        start=$(now_ns)
        "$spool" -C "$dir/many$round" put --type bench < "$dir/lines" > "$dir/ids"
        end=$(now_ns)
        [ "$(wc -l < "$dir/ids")" -eq "$lines" ] || { echo "spool put printed too few ids" >&2; exit 1; }
        rm -rf "$dir/many$round" "$dir/ids"
        echo "$end $start $lines" | awk '{ printf "%.0f\n", $3 * 1e9 / ($1 - $2) }'
    done | median
}

# Milliseconds of one, from a row of $singles, so that the clock's own process hardly counts. Starting any process costs
# something: that is shown beside it.
single() {
    "$@" > "$dir/id"
    for round in 1 2 3; do
        start=$(now_ns)
        for i in $(seq "$singles"); do
            "$@" > "$dir/id"
        done
        echo "$(now_ns) $start $singles" | awk '{ printf "%.3f\n", ($1 - $2) / 1e6 / $3 }'
    done | median
}

rate=$(many)
put_ms=$(single "$spool" -C "$dir/single" put --type bench '{"n":1}')
true_ms=$(single /bin/true)
met() { awk "BEGIN { print ($1) ? \"met\" : \"**not met**\" }"; }
echo "| command | measured | wanted | |"
echo "|---|---:|---:|---|"
echo "| spool put < $lines lines, lines a second | $rate | at least 300000 | $(met "$rate >= 300000") |"
echo "| a single spool put, power level, ms | $put_ms | below 20 | $(met "$put_ms < 20") |"
echo "| /bin/true, to compare, ms | $true_ms | | |"
if [ -n "${JSON:-}" ]; then
    printf '{"put_lines_per_second":%s,"put_single_ms":%s,"true_ms":%s}\n' "$rate" "$put_ms" "$true_ms" > "$JSON"
fi
