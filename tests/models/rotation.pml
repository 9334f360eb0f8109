/* rotation.pml - two processes commit into a log that rotates; a third delivers from it, and deletes what it has delivered.
 *
 * Every process keeps in memory which segment is the newest, and may be wrong about it whenever it does not hold log.lock.
 * A segment takes PER_SEGMENT events. What is in the middle of being written (`busy`) may not be looked at. A committer may be
 * killed at every step; the kernel gives its lock back, and LMDB forgets its transaction.
 *
 * Asserted: events go to the newest segment, numbered without gaps; the reader gets every committed event once, in order, and
 * never finds that something was deleted before; a sealed segment does not change. */

#ifndef EVENTS
#define EVENTS 4 /* half of them by each committer */
#endif
#define SEGMENTS 6
#ifndef PER_SEGMENT
#define PER_SEGMENT 1
#endif
#define NOBODY 0
#define PEER_A 1
#define PEER_B 2
#define DELIVERER 3
#define KEEPER 4
#define SINKS 2
#ifndef DELETIONS
#define DELETIONS 1
#endif

/* segments/ */
bool deleted[SEGMENTS + 1];
#define THERE(number) ((number) <= newest && !deleted[number])
byte base[SEGMENTS + 1], next[SEGMENTS + 1]; /* numbers of its first event, and behind its last */
byte event_at[EVENTS + 1];                   /* by number; one array, since numbers say which segment */
byte place_of[EVENTS + 1];                   /* the segment of each number */
byte newest = 1;                             /* the highest number that ever was there */
byte busy;                                   /* a segment that a commit is being written to */

byte log_lock = NOBODY;
byte cursor[SINKS];                      /* of two sinks, in the state */
byte committed, kills = 1;
bool alive[5] = true, done[5];

#define WAIT(condition, x) if :: atomic { alive[me] && (condition) -> x } :: !alive[me] -> goto dead fi
#define STEP(x) WAIT(true, x)

/* log_refresh(): is the newest we know still that, and there? Else the directory tells. */
inline refresh()
{
#ifdef CONTROL_NO_REREAD
    STEP(known = (known == 0 -> newest : known))
#else
    STEP(if :: known == 0 || !THERE(known) || THERE(known + 1) -> known = newest :: else fi)
#endif
}

/* run_commit(), commit_into(), log_begin_segment(). */
inline commit_event()
{
    WAIT(log_lock == NOBODY, log_lock = me);
    refresh();
    if
    :: next[known] - base[known] >= PER_SEGMENT ->
        STEP(assert(newest < SEGMENTS); base[known + 1] = next[known]; next[known + 1] = next[known];
            newest = (known + 1 > newest -> known + 1 : newest)); /* renamed, and the directory flushed */
        STEP(known = known + 1)
    :: else
    fi;
    STEP(assert(THERE(known) && known == newest); busy = known);
    STEP(assert(event_at[next[known]] == 0); committed++; event_at[next[known]] = committed; place_of[next[known]] = known;
        next[known]++;
        busy = 0);
    STEP(log_lock = NOBODY)
}

inline committer()
{
    byte known, left = EVENTS / 2;
    do
    :: left > 0 -> commit_event(); left--
    :: else -> break
    od
}

active proctype peer_a()
{
    byte me = PEER_A;
    committer();
dead:
    done[PEER_A] = true
}

active proctype peer_b()
{
    byte me = PEER_B;
    committer();
dead:
    done[PEER_B] = true
}

active proctype killer()
{
    atomic { kills > 0 -> kills--;
        alive[PEER_A] = false;
        if :: log_lock == PEER_A -> log_lock = NOBODY; busy = 0 :: else fi }
}

/* hold_sealed() and read_sealed() without the lock; else read_current() with it, which answers LOG_SEALED when in vain. */
inline read(sink)
{
    if
    :: known != 0 && held[sink] < next_known ->
        STEP(s = place_of[held[sink]]; assert(THERE(s) && s != busy)); /* opened; deleted later is no harm */
        STEP(held[sink]++; s = 0)
    :: else ->
#ifndef CONTROL_READ_UNLOCKED
        WAIT(log_lock == NOBODY, log_lock = me);
#endif
        STEP(known = newest; next_known = base[newest]); /* log_refresh(): what is below its base is sealed */
        STEP(if
            :: held[sink] >= base[known] && held[sink] < next[known] -> assert(THERE(known) && known != busy); held[sink]++
            :: else
            fi);
#ifndef CONTROL_READ_UNLOCKED
        STEP(log_lock = NOBODY)
#endif
    fi
}

inline lowest(low)
{
#ifdef CONTROL_DELETE_BY_ONE
    STEP(low = cursor[0])
#else
    STEP(low = (cursor[0] < cursor[1] -> cursor[0] : cursor[1]))
#endif
}

/* limits_reclaim(): the cursors first, then log_delete() with the lock, oldest first, never the newest. */
inline reclaim()
{
    lowest(low);
    WAIT(log_lock == NOBODY, log_lock = me);
    STEP(s = 1;
        do
        :: s < newest && next[s] <= low -> deleted[s] = true; s++
        :: else -> break
        od;
        s = 0; low = 0);
    STEP(log_lock = NOBODY)
}

active proctype deliverer()
{
    byte me = DELIVERER, known, next_known, s, held[SINKS];
    do
    :: held[0] < committed -> read(0)
    :: held[1] < committed -> read(1)
    :: atomic { cursor[0] < held[0] -> cursor[0] = held[0] } /* store_ack() */
    :: atomic { cursor[1] < held[1] -> cursor[1] = held[1] }
    :: atomic { done[PEER_A] && done[PEER_B] && held[0] == committed && held[1] == committed -> break }
    od;
    atomic {
        s = 0;
        do
        :: s < committed -> assert(event_at[s] == s + 1); s++
        :: else -> break
        od }
dead:
    skip
}

active proctype keeper()
{
    byte me = KEEPER, s, low, times = DELETIONS;
    do
    :: times > 0 -> times--; reclaim()
    :: else -> break
    od;
dead:
    skip
}
