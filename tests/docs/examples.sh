#!/usr/bin/env bash
# Everything that the documentation shows as a program compiles without a warning, and does what it is for.
#
# Taken from the EXAMPLES of the man pages (and "A first program" of libspool.7), and from README.md: every block of C.
# All are compiled against lib/spool.h; those with a main() that are marked `.\" run` (in README.md: all) are linked with
# the static library and run in an empty directory. The programs of examples/ are run as well.
set -u
cd "$(dirname "$0")/../.." || exit 1
build=$(realpath "${BUILD:-build}")
work=$(mktemp -d "${TMPDIR:-/tmp}/spool-examples-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

check() { # check WHAT COMMAND…
    local what=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $what"
        sed 's/^/    /' "$work/out"
    fi
}

# The literal blocks of one page as $work/<page>-<n>.c, or .run.c; those that include nothing are no C.
extract_page() {
    awk -v stem="$work/$(basename "$1")" '
        /^\.\\" run$/ { run = 1; next }
        /^\.Bd -literal/ { n++; file = stem "-" n (run ? ".run" : "") ".c"; text = ""; inside = 1; run = 0; next }
        /^\.Ed/ { if (text ~ /#include <spool.h>/) printf "%s", text > file; inside = 0 }
        inside { gsub(/\\e/, "\\"); sub(/^\\&/, ""); text = text $0 "\n" }' "$1"
}

extract_readme() {
    awk -v stem="$work/README" '
        /^```c$/ { n++; inside = 1; next }
        /^```/ { inside = 0 }
        inside { print > (stem "-" n ".run.c") }' README.md
}

compile() { gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wstrict-prototypes -Wmissing-prototypes -Werror -Ilib "$@"; }
link() { compile -o "$1" "$2" "$build/libspool.a" -llmdb -ljansson -lzstd -pthread; }
run_alone() { (mkdir -p "$1.dir" && cd "$1.dir" && timeout 30 "$1" 2>&1 | tee "$1.out" && exit "${PIPESTATUS[0]}"); }
printed() { [ "$(grep -cE "$3" "$work/$2.out")" = "$1" ]; }

for page in man/*.3 man/libspool.7; do extract_page "$page"; done
extract_readme
for source in "$work"/*.c; do
    name=$(basename "$source" .c)
    check "$name compiles" compile -c -o "$work/$name.o" "$source"
done
if [ -f "$build/libspool.a" ]; then
    for source in "$work"/*.run.c; do
        name=$(basename "$source" .c)
        check "$name links" link "$work/$name" "$source"
        check "$name runs" run_alone "$work/$name"
    done
    for program in minimal custom_sink reflection; do
        ln -s "$build/examples/$program" "$work/$program"
        check "examples/$program runs" run_alone "$work/$program"
    done
    check "examples/minimal: an event is safe" printed 1 minimal ' is safe$'
    check "examples/custom_sink: two events are delivered" printed 2 custom_sink '^delivered '
    check "examples/custom_sink: one of them at the second attempt" printed 1 custom_sink 'attempt 2: log.error '
    check "examples/reflection: all ran, one at a time" printed 1 reflection '^200 comparisons, 0 overlaps$'
    check "examples/reflection: the one that needs all of it too" printed 1 reflection '^sum up: done$'
    check "examples/reflection: a wait inside is refused" printed 1 reflection '^refused: operation 202 .*"conclude"'
    check "examples/reflection: what follows runs" printed 1 reflection '^conclude: done$'
    check "examples/reflection: one that overruns its time is cancelled" printed 1 reflection '^ponder: not done within the time given$'
    check "examples/reflection: and it saw that, and returned" printed 1 reflection '^ponder: was told to end$'
    check "examples/custom_sink: the refused one is a dead letter" printed 1 custom_sink '^dead letter .* sink far: 422'
else
    echo "skipped: examples: linking and running: there is no $build/libspool.a"
fi
count=$(find "$work" -name '*.c' | wc -l)
check "examples were found in every page ($count)" test "$count" -ge 15
echo "RESULT $passed $failed"
[ $failed = 0 ]
