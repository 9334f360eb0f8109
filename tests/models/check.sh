#!/bin/bash
# The models of tests/models/: spin finds no error in what we do, and one in each control.
#
# A model is searched to its end: a search that was cut short (depth, memory) counts as a failure. A control is the same model
# with one thing done wrong (-DCONTROL_…): a model that does not catch it says nothing.
#
#     tests/models/check.sh           everything below, in less than a minute
#     LONG=1 tests/models/check.sh    more events, crashes and faults at once: some minutes, 4 GiB
#     tests/models/check.sh adoption  one model; the trail of a failure is explained by the lines printed with it
set -u
cd "$(dirname "$0")" || exit 1
"../tools/install-packages" spin gcc >&2 || exit 1
work=$(mktemp -d "${TMPDIR:-/tmp}/models-of-spool-XXXXXX")
trap 'rm -rf "$work"' EXIT
models=$PWD
only=${1:-}
memory_mib=${LONG:+6000}
memory_mib=${memory_mib:-1500}
depth=${LONG:+8000000}
depth=${depth:-1000000}
passed=0
failed=0

# search MODEL FLAGS…: sets `found` (errors), `states`, `seconds`; `found` is "cut" if the search is not complete.
search() {
    local model=$1
    shift
    rm -rf "$work/run" && mkdir "$work/run" && cd "$work/run" || exit 1
    found=broken states=0 seconds=0
    spin -a "$@" "$models/$model.pml" >spin.out 2>&1 && ! grep -qv '^ltl ' spin.out || return
    gcc "$level" -w $kind -DCOLLAPSE -DMEMLIM="$memory_mib" -o pan pan.c >gcc.out 2>&1 || return
    nice ./pan $how -m"$depth" >pan.out 2>&1
    found=$(sed -nE 's/.*errors: ([0-9]+).*/\1/p' pan.out)
    states=$(sed -nE 's/^ *([0-9.e+]+) states, stored.*/\1/p' pan.out)
    seconds=$(sed -nE 's/.*elapsed time ([0-9.e+-]+) seconds.*/\1/p' pan.out)
    if [ "$found" = 0 ] && grep -qE 'Search not completed|max search depth too small|out of memory|reached -DMEMLIM' pan.out; then
        found=cut
    fi
}

# Assertions alone; a state from which nothing goes on is an error too; every promised thing happens again and again, if
# whoever can go on does so at some time (weak fairness).
safety() { kind=-DSAFETY how=-E; }
deadlock() { kind=-DSAFETY how=; }
liveness() { kind='-DNFAIR=3' how='-a -f'; }
safety

# Where the search takes a moment only, the compiler takes most of the time.
level=-O0

# holds MODEL FLAGS…: no error in all of its states.
holds() {
    [ -z "$only" ] || [ "$only" = "$1" ] || return
    level=-O1 search "$@"
    if [ "$found" = 0 ]; then
        passed=$((passed + 1))
        printf 'ok    %-14s %10s states, %5s s   %s\n' "$1" "$states" "$seconds" "${*:2}"
    else
        failed=$((failed + 1))
        printf 'FAIL  %-14s errors: %s   %s\n' "$1" "${found:-?}" "${*:2}"
        tail -n 5 spin.out gcc.out pan.out 2>/dev/null
        [ ! -s "$1.pml.trail" ] || spin -t -p -k "$1.pml.trail" "${@:2}" "$models/$1.pml" 2>&1 | tail -n 60
    fi
}

# catches MODEL CONTROL FLAGS…: an assertion fails when that is done wrong (or there is a deadlock, or a cycle in which
# what was promised does not happen).
catches() {
    [ -z "$only" ] || [ "$only" = "$1" ] || return
    local model=$1 control=$2
    shift 2
    search "$model" "-DCONTROL_$control" "$@"
    if [ "${found:-0}" != 0 ] && grep -qE '^pan:1: (assertion violated|invalid end state|acceptance cycle)' pan.out 2>/dev/null; then
        passed=$((passed + 1))
        printf 'ok    %-14s caught after %s states   %s\n' "$model" "$states" "$control"
    else
        failed=$((failed + 1))
        printf 'FAIL  %-14s not caught (%s)   %s\n' "$model" "$found" "$control"
    fi
}

holds handover -DEVENTS=3 -DCRASHES=2 -DFAULTS=0
holds handover -DEVENTS=2 -DCRASHES=2 -DFAULTS=2
catches handover ANSWER_EARLY                           # acknowledged before the flush has ended
catches handover REUSE_EARLY                            # room in the ring used again before the commit returned
catches handover POSITION_APART -DEVENTS=2              # the position in a transaction of its own
catches handover RECOVERY_POSITION_APART -DEVENTS=2     # likewise while a journal is recovered
catches handover NO_META_SYNC -DEVENTS=2                # MDB_NOMETASYNC
catches handover CURSOR_EARLY                           # acknowledged before it was delivered
catches handover REPEAT_UNCERTAIN -DEVENTS=2            # a failed commit repeated without a look whether it is there
catches handover LOST_IS_OK                             # what a failed flush took, answered with OK
catches handover NUMBER_LOW -DEVENTS=2                  # new events numbered below what sinks have acknowledged

holds adoption -DKILLS=2
holds adoption -DKILLS=1 -DWITH_CLOCK
holds adoption -DKILLS=0 -DWITH_POWER
catches adoption NO_FILE_LOCK                           # adopters without the record lock
catches adoption NO_NLINK                               # a file that was removed while one waited for its lock
catches adoption SAME_TICK -DWITH_CLOCK                 # a spare one is told by its time, within a tick of the clock
catches adoption NO_DIR_FLUSH -DKILLS=0 -DWITH_POWER    # a position forgotten before the removal is on disk

holds own_journal
catches own_journal NO_REPLACING                        # the keeper meets a journal that is being made

holds rotation -DPER_SEGMENT=1
holds rotation -DPER_SEGMENT=2
catches rotation NO_REREAD                              # a commit into a segment that another process sealed
catches rotation READ_UNLOCKED -DPER_SEGMENT=2          # the current segment read without the lock
catches rotation DELETE_BY_ONE -DEVENTS=2               # deleted when one sink has passed

holds acknowledge
catches acknowledge CURSOR_FIRST                        # what failed is stored after the cursor
catches acknowledge COPIES_FIRST                        # … or before it
catches acknowledge COUNT_EARLY                         # a row is counted before it is deleted
catches acknowledge FORGET_ROWS                         # nobody knows of a row after a crash

deadlock
holds scheduler                                         # with a bound of one bypass …
holds scheduler -DBYPASSES=2                            # … and of two
catches scheduler HOLD_AND_WAIT                         # one resource after the other
catches scheduler NO_RESERVE                            # what an aged one needs is given away
holds scheduler -DPAIR                                  # operations and batches, two workers each …
holds scheduler -DPAIR -DWORKERS=1                      # … and one
catches scheduler APART -DPAIR                          # what one core has reserved is given away by the other
liveness
holds scheduler -DLIVE
catches scheduler NO_RESERVE -DLIVE                     # … and then it starves
catches scheduler BARE_RESERVE -DLIVE                   # what it wants to share is given away for exclusive use
catches scheduler NO_AGEING -DLIVE                      # priority alone
holds scheduler -DLIVE -DPAIR
catches scheduler APART -DLIVE -DPAIR
catches scheduler UNCOUNTED -DLIVE -DPAIR               # one core does not count what overtakes in the other
safety

if [ -n "${LONG:-}" ]; then
    deadlock
    holds scheduler -DRESOURCES=3
    holds scheduler -DOPS=4 -DRESOURCES=1
    liveness
    holds scheduler -DLIVE -DOPS=4 -DRESOURCES=1
    holds scheduler -DLIVE -DBYPASSES=2
    holds scheduler -DLIVE -DRESOURCES=3
    safety
    holds handover -DEVENTS=3 -DCRASHES=1 -DFAULTS=1
    holds handover -DEVENTS=3 -DCRASHES=2 -DFAULTS=1
    holds adoption -DKILLS=2 -DWITH_CLOCK
    holds adoption -DKILLS=1 -DWITH_POWER
    holds rotation -DPER_SEGMENT=1 -DDELETIONS=2
fi
echo "RESULT $passed $failed"
[ "$failed" -eq 0 ]
