/* scheduler.pml - the scheduler of operations (delivery/op_core.c): all or nothing, ageing, reservation.
 *
 * OPS clients submit one operation after the other, each with any set of RESOURCES (each of them not needed, shared or
 * exclusive) and either of two priorities; WORKERS run them. A step of the core is atomic, as it is under its lock. An operation
 * that runs returns some time (weak fairness).
 *
 * Safety: nobody has what conflicts with what another has; nobody behind an aged one is granted what it needs; no state from
 * which nothing goes on. Liveness (-DLIVE, searched for acceptance cycles under weak fairness): every client's operation runs
 * again and again; for the first one, which is as good as any other since nothing asks for their numbers (PAIR: see there).
 *
 * -DPAIR: two cores over one table of resources, as operations of the user and batches of sinks have them (op_core_pair()): every
 * second client is of the other one, and each has WORKERS of its own. A grant overtakes older ones of the other core only if it
 * takes something; an aged one's reservation holds for both.
 *
 * Controls: NO_RESERVE (an aged one is first, but what it needs is given away), NO_AGEING (priority alone), HOLD_AND_WAIT (one
 * resource after the other, as with a mutex each), BARE_RESERVE (what was asked for as shared is reserved from nobody), APART
 * (with PAIR: what is reserved in one core is not in the other), UNCOUNTED (with PAIR: what overtakes is not counted there). */

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

#ifdef PAIR
#define POOL(op) ((op) & 1)
#else
#define POOL(op) 0
#endif

#define CONFLICT(w, s, other_w, other_s) (((w) & ((other_w) | (other_s))) | ((s) & (other_w)))
#define AGED(op) (passed[op] >= BYPASSES)
#define FITS(op) (!CONFLICT(whole[op], shared[op], taken_whole, taken_shared))

/* What those that run have, and how many of the core's workers are busy. */
inline look(pool)
{
    taken_whole = 0; taken_shared = 0; workers = 0; i = 0;
    do
    :: i < OPS ->
        if
        :: state[i] == running -> taken_whole = taken_whole | whole[i]; taken_shared = taken_shared | shared[i];
            workers = workers + (POOL(i) == pool)
        :: else
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* find_grantable(): the aged ones first, each that does not fit or is the other core's reserves; then by priority and age. */
inline find(pool)
{
    pick = NONE; k = 0;
    do
    :: k < length && pick == NONE ->
        if
        :: !AGED(row[k])
        :: AGED(row[k]) && POOL(row[k]) == pool && FITS(row[k]) -> pick = k
#ifdef CONTROL_APART
        :: AGED(row[k]) && POOL(row[k]) != pool
        :: AGED(row[k]) && POOL(row[k]) == pool && !FITS(row[k]) ->
#else
        :: AGED(row[k]) && (POOL(row[k]) != pool || !FITS(row[k])) ->
#endif
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
            :: !AGED(row[k]) && POOL(row[k]) == pool && low[row[k]] == rank && FITS(row[k]) -> pick = k
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

/* Does the grant count as a bypass of that one? */
#ifdef CONTROL_UNCOUNTED
#define OVERTAKES(op, other) (POOL(op) == POOL(other))
#else
#define OVERTAKES(op, other) (POOL(op) == POOL(other) || (whole[op] | shared[op]) != 0)
#endif

/* count_bypass(), count_bypass_of_peer(), unqueue(), age() */
inline grant()
{
    k = 0;
    do
    :: k < pick ->
#ifndef LIVE
        assert(!AGED(row[k]) || !CONFLICT(whole[row[k]], shared[row[k]], whole[row[pick]], shared[row[pick]]));
#endif
#ifndef CONTROL_NO_AGEING
        passed[row[k]] = (passed[row[k]] < BYPASSES && OVERTAKES(row[pick], row[k]) -> passed[row[k]] + 1 : passed[row[k]]);
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

inline next_of(pool)
{
    look(pool);
    if
    :: workers < WORKERS -> find(pool)
    :: else -> pick = NONE
    fi;
    if
    :: pick != NONE -> grant(); pick = 0
    :: else
    fi
}

/* ops_dispatch(), and what workers of sinks do */
inline dispatch()
{
    do
    :: true ->
        next_of(0);
#ifdef PAIR
        if
        :: pick == NONE -> next_of(1)
        :: else
        fi;
#endif
        if
        :: pick == NONE -> break
        :: else
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
#ifdef PAIR
ltl served { [] <> (state[1] == running) } /* whose core it has for itself: the others may take turns against it */
#else
ltl served { [] <> (state[0] == running) }
#endif
#endif
