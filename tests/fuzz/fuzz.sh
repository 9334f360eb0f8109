#!/bin/sh
# Builds the fuzz targets and runs them. Called by `make fuzz` and by tests/lab/fuzzcheck/check.sh.
#
#     FUZZ_SECONDS=30 BUILD=build tests/fuzz/fuzz.sh [build|run|merge] [TARGET…]
#
# For each target (default: all) it replays tests/fuzz/regress/TARGET, then runs libFuzzer for FUZZ_SECONDS from
# tests/fuzz/corpus/TARGET, two targets at a time, seeded by SEED (printed). What is found goes to $BUILD/fuzz/TARGET.
# AFL=1 runs afl-fuzz afterwards on the same targets, as long. `build` only builds. `merge` makes the corpus in the tree
# anew: from it, from the hand-made inputs of make_corpus.py, and from what was found, as few files as cover the same.
# The last line is "RESULT passed failed", one check a target (and fuzzer).
set -eu
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
case $BUILD in
/*) out=$BUILD/fuzz ;;
*) out=$PWD/$BUILD/fuzz ;;
esac
here=$PWD/tests/fuzz # some targets leave the folder in which they were started
seconds=${FUZZ_SECONDS:-30}
seed=${SEED:-$(date +%s)}
libs="-llmdb -ljansson -lzstd -lm -pthread"
all=$(ls tests/fuzz/fuzz_*.c | sed 's|.*/fuzz_\(.*\)\.c|\1|')
do=run
case ${1:-} in
build | run | merge)
    do=$1
    shift
    ;;
esac
targets=${*:-$all}
# Leaks are not looked for: sinks that hang and handles that are abandoned keep what they need on purpose.
# A target that is killed leaves its scratch directory: here, where all of them go in the end.
# In memory, if there is room: a container gives /dev/shm 64 MiB, unless it is told otherwise.
shm_kib=$(df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 { print $4 }')
[ "${shm_kib:-0}" -ge 524288 ] && shm=/dev/shm || shm=/tmp
TMPDIR=$(mktemp -d "${TMPDIR:-$shm}/fuzz-XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
trap 'exit 130' INT TERM
export ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1:handle_abort=1 UBSAN_OPTIONS=print_stacktrace=1

# The library and the command, once for all targets: $1 directory, $2 compiler, $3 sanitizers.
build_library() {
    tools=$(ls tools/*.c | sed "s|\(.*\)\.c|$1/obj/\1.o|")
    make -j2 --no-print-directory BUILD="$1" CC="$2" SANITIZE="$3" OPT='-O1 -g' WARN=-w "$1/libspool-inside.a" $tools |
        grep -v -e '^  CC' -e '^  AR' -e 'is up to date' || true
    [ -f "$1/libspool-inside.a" ] || return 1
    mkdir -p "$1/tools"
    for object in $tools; do
        [ "$object" = "$1/obj/tools/spool.o" ] || ln -sf "$object" "$1/tools/"
    done
    # shellcheck disable=SC2086
    $2 -std=c11 -O1 -g -w -D_GNU_SOURCE -DSPOOL_BUILD_VERSION='"fuzz"' -Dmain=spool_tool_main ${3:+-fsanitize=$3} -c \
        -o "$1/tools/main.o" tools/spool.c
}

# One target: $1 directory, $2 compiler, $3 sanitizers with which to link, $4 target, $5 more sources.
build_target() {
    parts=
    [ "$4" != dir ] || parts="tests/lab/wreck/template.c tests/lab/wreck/damage.c tests/lab/wreck/exercise.c"
    [ "$4" != cli ] || parts="$1/tools/*.o"
    # shellcheck disable=SC2086
    $2 -std=c11 -O1 -g -w -D_GNU_SOURCE ${3:+-fsanitize=$3 -fno-sanitize-recover=all} -o "$1/fuzz_$4" \
        "tests/fuzz/fuzz_$4.c" $5 $parts "$1/libspool-inside.a" $libs
}

build_all() {
    mkdir -p "$out"
    build_library "$out/asan" clang fuzzer-no-link,address,undefined
    for target in $targets; do
        build_target "$out/asan" clang fuzzer,address,undefined "$target" ""
    done
    [ -n "${AFL:-}" ] || return 0
    AFL_QUIET=1 build_library "$out/afl" afl-clang-fast ""
    for target in $targets; do
        AFL_QUIET=1 build_target "$out/afl" afl-clang-fast fuzzer "$target" ""
    done
}

# Ours and libFuzzer's words are told apart: the targets' own noise goes nowhere.
quiet() { case $1 in cli) echo 3 ;; config | dir) echo 1 ;; *) echo 0 ;; esac }

dictionary() {
    [ ! -f "tests/fuzz/dict/$1.dict" ] || echo "-dict=$here/dict/$1.dict"
}

replay() {
    [ -d "tests/fuzz/regress/$1" ] || return 0
    "$out/asan/fuzz_$1" -close_fd_mask="$(quiet "$1")" -timeout=120 "$here/regress/$1"/* >"$out/$1.replay" 2>&1
}

# Says one line, and keeps the rest in $out/TARGET.log.
run_one() {
    mkdir -p "$out/$1" "tests/fuzz/corpus/$1"
    if ! replay "$1"; then
        echo "FAIL $1: an input of tests/fuzz/regress/$1"
        tail -30 "$out/$1.replay"
        return 1
    fi
    status=0
    # shellcheck disable=SC2046
    "$out/asan/fuzz_$1" -seed="$seed" -max_total_time="$seconds" -timeout=120 -rss_limit_mb=3000 -len_control=0 \
        -max_len=4096 -print_final_stats=1 -verbosity=1 -close_fd_mask="$(quiet "$1")" $(dictionary "$1") \
        -artifact_prefix="$out/$1-" "$out/$1" "$here/corpus/$1" >"$out/$1.log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$out/$1.log")
    cover=$(sed -n 's/.*cov: \([0-9]*\) ft: \([0-9]*\).*/\1 edges, \2 features/p' "$out/$1.log" | tail -1)
    if [ $status -ne 0 ] || [ -z "$runs" ]; then
        echo "FAIL $1: status $status after ${runs:-0} inputs; see $out/$1.log, and $out/$1-*"
        grep -E 'ERROR|not so|SUMMARY|Test unit written' "$out/$1.log" | head -8
        return 1
    fi
    echo "ok   $1: $runs inputs, $cover"
}

# afl-fuzz wants a directory of inputs and finds things in OUT/default/crashes and hangs.
afl_one() {
    mkdir -p "$out/afl-in-$1"
    cp tests/fuzz/corpus/"$1"/* "$out/afl-in-$1/" 2>/dev/null || printf 'x' >"$out/afl-in-$1/x"
    env -u ASAN_OPTIONS -u UBSAN_OPTIONS AFL_SKIP_CPUFREQ=1 AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES=1 AFL_NO_UI=1 \
        AFL_NO_AFFINITY=1 AFL_FORKSRV_INIT_TMOUT=60000 afl-fuzz -V "$seconds" -t 20000 -m none \
        -i "$out/afl-in-$1" -o "$out/afl-out-$1" "$out/afl/fuzz_$1" >"$out/$1.afl.log" 2>&1 || true
    stats=$out/afl-out-$1/default/fuzzer_stats
    runs=$(sed -n 's/^execs_done *: *//p' "$stats" 2>/dev/null)
    crashes=$(ls "$out/afl-out-$1/default/crashes" "$out/afl-out-$1/default/hangs" 2>/dev/null | grep -c '^id:' || true)
    if [ -z "$runs" ] || [ "$crashes" -ne 0 ]; then
        echo "FAIL $1 (AFL++): ${crashes:-?} crashes and hangs after ${runs:-0} inputs; see $out/afl-out-$1"
        return 1
    fi
    echo "ok   $1 (AFL++): $runs inputs"
}

# Runs the function for every target and counts: every other target in each of two rows.
run_row() {
    function=$1
    shift
    for target; do
        if $function "$target" >"$out/$target.say" 2>&1; then
            : >"$out/done.ok.$target"
        else
            : >"$out/done.bad.$target"
        fi
        cat "$out/$target.say"
    done
}

two_at_a_time() {
    rm -f "$out"/done.*
    # shellcheck disable=SC2046,SC2086
    run_row "$1" $(printf '%s\n' $targets | sed -n 'p;n') &
    # shellcheck disable=SC2046,SC2086
    run_row "$1" $(printf '%s\n' $targets | sed -n 'n;p')
    wait
    passed=$((passed + $(ls "$out" | grep -c '^done.ok' || true)))
    failed=$((failed + $(ls "$out" | grep -c '^done.bad' || true)))
}

merge_one() {
    rm -rf "$out/$1.all" "$out/$1.less"
    mkdir -p "$out/$1.all" "$out/$1.less" "$out/$1" "tests/fuzz/corpus/$1"
    python3 tests/fuzz/make_corpus.py "$1" "$out/$1.all"
    for from in "$out/$1" "tests/fuzz/corpus/$1"; do # which have names in common
        find "$from" -type f -size -8 -exec cp -t "$out/$1.all" {} +
    done
    "$out/asan/fuzz_$1" -merge=1 -close_fd_mask="$(quiet "$1")" "$out/$1.less" "$out/$1.all" >"$out/$1.merge" 2>&1
    # Of those the smallest by coverage gained per file: libFuzzer orders its result so that the first ones cover most.
    python3 tests/fuzz/make_corpus.py --keep 36 "$out/$1.less" "tests/fuzz/corpus/$1"
    echo "$1: $(ls "tests/fuzz/corpus/$1" | wc -l) files"
}

packages="clang libclang-rt-14-dev gcc make pkg-config liblmdb-dev libjansson-dev libzstd-dev"
tests/tools/install-packages $packages ${AFL:+afl++}
build_all
case $do in
build) exit 0 ;;
merge)
    for target in $targets; do
        merge_one "$target"
    done
    exit 0
    ;;
esac
echo "seed $seed, $seconds s each"
passed=0
failed=0
two_at_a_time run_one
[ -z "${AFL:-}" ] || two_at_a_time afl_one
echo "RESULT $passed $failed"
[ "$failed" -eq 0 ]
