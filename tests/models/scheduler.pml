/* scheduler.pml - the scheduler of operations (delivery/op_core.c): all or nothing, ageing, reservation.
 *
 * OPS clients submit one operation after the other, each with any set of RESOURCES (each of them not needed, shared or
 * exclusive) and either of two priorities; WORKERS run them. A step of the core is atomic, as it is under its lock. An operation
 * that runs returns some time (weak fairness).
 *
 * Safety: nobody has what conflicts with what another has; nobody behind an aged one is granted what it needs; no state from
 * which nothing goes on. Liveness (-DLIVE, searched for acceptance cycles under weak fairness): every client's operation runs
 * again and again; for the first one, which is as good as any other since nothing asks for their numbers.
 *
 * Controls: NO_RESERVE (an aged one is first, but what it needs is given away), NO_AGEING (priority alone), HOLD_AND_WAIT (one
 * resource after the other, as with a mutex each), BARE_RESERVE (what was asked for as shared is reserved from nobody). */

#ifndef OPS
#define OPS 3
#endif
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef RESOURCES
#define RESOURCES 2
#endif
#ifndef BYPASSES
#define BYPASSES 1
#endif
#define NONE 255
#define MASKS ((1 << RESOURCES) - 1)

mtype = { idle, waiting, running };
mtype state[OPS] = idle;
byte whole[OPS], shared[OPS]; /* needs: a bit for each resource */
bool low[OPS];                /* priority */
byte passed[OPS];             /* by how many later ones, up to BYPASSES */
byte row[OPS], length;        /* those that wait, by age */

/* scratch, 0 between steps */
hidden byte k, pick, taken_whole, taken_shared, workers, rank, i;

#define CONFLICT(w, s, other_w, other_s) (((w) & ((other_w) | (other_s))) | ((s) & (other_w)))
#define AGED(op) (passed[op] >= BYPASSES)
#define FITS(op) (!CONFLICT(whole[op], shared[op], taken_whole, taken_shared))

/* What those that run have. */
inline look()
{
    taken_whole = 0; taken_shared = 0; workers = 0; i = 0;
    do
    :: i < OPS ->
        if
        :: state[i] == running -> taken_whole = taken_whole | whole[i]; taken_shared = taken_shared | shared[i]; workers++
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* find_grantable(): the aged ones first, each that does not fit reserves; then by priority and age. */
inline find()
{
    pick = NONE; k = 0;
    do
    :: k < length && pick == NONE && AGED(row[k]) ->
        if
        :: FITS(row[k]) -> pick = k
        :: else ->
#ifndef CONTROL_NO_RESERVE
            taken_whole = taken_whole | whole[row[k]];
#ifndef CONTROL_BARE_RESERVE
            taken_shared = taken_shared | shared[row[k]];
#endif
#endif
            skip
        fi;
        k++
    :: else -> break
    od;
    rank = 0;
    do
    :: rank < 2 && pick == NONE ->
        k = 0;
        do
        :: k < length && pick == NONE ->
            if
            :: !AGED(row[k]) && low[row[k]] == rank && FITS(row[k]) -> pick = k
            :: else
            fi;
            k++
        :: else -> break
        od;
        rank++
    :: else -> break
    od;
    rank = 0; k = 0
}

/* count_bypass(), unqueue(), age() */
inline grant()
{
    k = 0;
    do
    :: k < pick ->
#ifndef LIVE
        assert(!AGED(row[k]) || !CONFLICT(whole[row[k]], shared[row[k]], whole[row[pick]], shared[row[pick]]));
#endif
#ifndef CONTROL_NO_AGEING
        passed[row[k]] = (passed[row[k]] < BYPASSES -> passed[row[k]] + 1 : BYPASSES);
#endif
        k++
    :: else -> break
    od;
    state[row[pick]] = running;
    passed[row[pick]] = 0;
    do
    :: k + 1 < length -> row[k] = row[k + 1]; k++
    :: else -> break
    od;
    length--;
    row[length] = 0; k = 0
}

inline check_exclusion()
{
    i = 0;
    do
    :: i < OPS ->
        k = i + 1;
        do
        :: k < OPS ->
            assert(state[i] != running || state[k] != running || !CONFLICT(whole[i], shared[i], whole[k], shared[k]));
            k++
        :: else -> break
        od;
        i++
    :: else -> break
    od;
    i = 0; k = 0
}

/* ops_dispatch() */
inline dispatch()
{
    do
    :: true ->
        look();
        if
        :: workers < WORKERS -> find()
        :: else -> pick = NONE
        fi;
        if
        :: pick != NONE -> grant()
        :: else -> break
        fi
    od;
    taken_whole = 0; taken_shared = 0; workers = 0; pick = 0;
    check_exclusion()
}

/* Any set: each resource not at all, shared or for itself. */
inline choose(op)
{
    i = 0;
    do
    :: i < RESOURCES ->
        if
        :: true
        :: whole[op] = whole[op] | (1 << i)
        :: shared[op] = shared[op] | (1 << i)
        fi;
        i++
    :: else -> break
    od;
    i = 0;
    if
    :: low[op] = false
    :: low[op] = true
    fi
}

#ifdef CONTROL_HOLD_AND_WAIT
byte held; /* by anybody */

active [2] proctype client()
{
    byte first;
    do
    :: atomic {
        if
        :: first = 1
        :: first = 2
        fi }
       atomic { !(held & first) -> held = held | first }
       atomic { !(held & (3 - first)) -> held = 3 }
       atomic { held = 0 }
    od
}
#else
active [OPS] proctype client()
{
    do
    :: atomic { state[_pid] == idle -> /* op_core_submit() */
        choose(_pid);
        row[length] = _pid;
        length++;
        state[_pid] = waiting;
        dispatch() }
    :: atomic { state[_pid] == running -> /* op_core_complete() */
        state[_pid] = idle; whole[_pid] = 0; shared[_pid] = 0; low[_pid] = false;
        dispatch() }
    od
}
#endif

#ifdef LIVE
ltl served { [] <> (state[0] == running) }
#endif
