/* adoption.pml - one journal, its owner, and two processes that may adopt it; each may be killed, stopped or slow at every step,
 * and power may be lost.
 *
 * What is not here: positions in detail (handover.pml). `applied` counts records: those above it are found by a scan, and
 * without a stored position all that are in the file. A stopped process is one that takes no step for long.
 *
 * Asserted: no record is in the log twice; when all is over, and a living process has swept once more, every record
 * that was written is in the log; nobody writes into a file that he does not own. */

#define NOBODY 0
#define OWNER 1
#define PEER_A 2
#define PEER_B 3
#define ROTATOR 4
#define LAST 5
#ifndef KILLS
#define KILLS 1
#endif
#define RECORDS 2
#ifdef WITH_CLOCK
#define TICKS 2
#else
#define TICKS 0
#endif

/* the file */
bool name = true, name_on_disk = true; /* its entry in journal/: as seen, and as flushed */
byte file_lock = OWNER;                /* the record lock; dies with its holder */
byte written;                          /* records in it */
byte changed;                          /* its time of change, in ticks of the file system's clock */
byte now;

/* the log */
byte log_lock = NOBODY;
byte copies[RECORDS + 1];              /* of each record in the log */
byte applied;                          /* the journal's position in the newest segment … */
bool known;                            /* … if it is there */

bool alive[6] = true, done[6];
byte kills = KILLS;

/* A step of process `me`, unless it is dead; WAIT: one that first awaits something, and may die while it waits. */
#define WAIT(condition, x) if :: atomic { alive[me] && (condition) -> x } :: !alive[me] -> goto dead fi
#define STEP(x) WAIT(true, x)

/* log_commit(): records first+1 … last and the position, in one transaction, one step: who else looks holds log.lock too. */
inline commit(first, last)
{
    WAIT(log_lock == NOBODY,
        r = first + 1;
        do
        :: r <= last -> copies[r]++; assert(copies[r] == 1); r++
        :: else -> break
        od;
        r = 0;
        applied = (last > applied || !known -> last : applied); known = true)
}

inline check_log()
{
    r = 1;
    do
    :: r <= written -> assert(copies[r] == 1); r++
    :: else -> break
    od;
    r = 0
}

/* A process that writes records and commits them. Ends by closing, or leaves records for others. */
inline work()
{
    do
    :: atomic { alive[me] && written < RECORDS ->
#ifndef CONTROL_NO_FILE_LOCK
        assert(file_lock == me);
#endif
        written++;
        changed = now } /* its pages become dirty */
    :: atomic { alive[me] && mine < written -> to = written };
        commit(mine, to);
        STEP(mine = to; to = 0)
    :: atomic { alive[me] -> break }
    :: !alive[me] -> goto dead
    od
}

active proctype owner()
{
    byte me = OWNER, mine, to, r;
    work();
    STEP(if :: file_lock == me -> file_lock = NOBODY :: else fi); /* journal_close() */
dead:
    done[me] = true
}

/* sweep_one(): journal_adopt(), apply_journal(), keep_or_remove(). */
inline sweep()
{
    STEP(
        skip_it = !name || (remembers && remembered == changed); /* is_known_spare() */
        if
        :: !skip_it -> remembers = false
        :: else
        fi);
    if
    :: !skip_it ->
        opened = false;
        STEP(if :: name -> opened = true :: else fi); /* open_file() */
        STEP(
#ifdef CONTROL_NO_FILE_LOCK
            got = opened);
#else
            got = opened && file_lock == NOBODY;
            if :: got -> file_lock = me :: else fi);
#ifndef CONTROL_NO_NLINK /* take_ownership(): fstat() after the lock */
        STEP(if :: got && !name -> got = false; file_lock = NOBODY :: else fi);
#endif
#endif
        if
        :: got ->
            WAIT(log_lock == NOBODY, first = (known -> applied : 0)); /* log_position() */
            STEP(last = written); /* journal_scan() */
            if
            :: last > first -> commit(first, last)
            :: else
            fi;
            STEP(mine = last);
            if /* keep_or_remove() */
            :: may_own -> STEP(changed = now; owns = true) /* touch() */
            :: STEP( /* a spare one: remember_spare(), journal_close() */
#ifdef CONTROL_SAME_TICK
                   remembers = true;
#else
                   remembers = changed < now;
#endif
                   remembered = changed);
                STEP(if :: file_lock == me -> file_lock = NOBODY :: else fi)
            :: STEP(name = false); /* one too many: journal_remove() */
                STEP(name_on_disk = name); /* dir_flush() */
                STEP(if :: file_lock == me -> file_lock = NOBODY :: else fi)
            fi
        :: else
        fi;
        opened = false; got = false; first = 0; last = 0
    :: else
    fi;
    skip_it = false
}

/* Opens the spool, perhaps takes the journal for its own, works, and goes. */
active proctype peer_a()
{
    byte me = PEER_A, mine, to, r, first, last, remembered;
    bool opened, got, owns, remembers, skip_it, may_own = true;
    sweep();
    if
    :: owns -> work(); STEP(file_lock = NOBODY)
    :: else
    fi;
dead:
    done[me] = true
}

/* Lives on with a journal of its own, and sweeps now and then: its keeper. The last time when all others are gone. */
active proctype peer_b()
{
    byte me = PEER_B, mine, to, r, first, last, remembered, sweeps = 1;
    bool opened, got, owns, remembers, skip_it, may_own = false;
    do
    :: atomic { alive[me] && sweeps > 0 -> sweeps-- }; sweep()
    :: atomic { alive[me] && done[OWNER] && done[PEER_A] -> break }
    :: !alive[me] -> goto dead
    od;
    STEP(now = TICKS + 1);
    sweep();
    STEP(check_log());
dead:
    done[me] = true
}

#ifdef WITH_POWER
/* Rotates once: log_begin_segment() copies positions of journals that recovery_journal_exists(). */
active proctype rotator()
{
    byte me = ROTATOR;
    bool gone;
    WAIT(log_lock == NOBODY, log_lock = me);
    STEP(gone = !name);
#ifndef CONTROL_NO_DIR_FLUSH
    if
    :: gone -> STEP(name_on_disk = name)
    :: else
    fi;
#endif
    STEP(if :: gone -> known = false; applied = 0 :: else fi; log_lock = NOBODY);
dead:
    done[me] = true
}
#endif

inline die(who)
{
    alive[who] = false;
    if :: file_lock == who -> file_lock = NOBODY :: else fi;
    if :: log_lock == who -> log_lock = NOBODY :: else fi
}

/* Who is killed leaves his locks to the kernel. A loss of power takes all, and what no flush has made sure of. */
active proctype fate()
{
    do
    :: atomic { kills > 0 -> kills--;
        if
        :: die(OWNER)
        :: die(PEER_A)
#ifdef WITH_POWER
        :: die(ROTATOR)
#endif
        fi }
    :: atomic { now < TICKS -> now++ }
#ifdef WITH_POWER
    :: atomic { !done[PEER_B] ->
        die(OWNER); die(PEER_A); die(PEER_B); die(ROTATOR);
        if :: name = name_on_disk :: true fi;
        run opener();
        break }
#endif
    :: atomic { done[PEER_B] -> break }
    od
}

#ifdef WITH_POWER
/* After a loss of power: whoever opens next. */
proctype opener()
{
    byte me = LAST, mine, to, r, first, last, remembered;
    bool opened, got, owns, remembers, skip_it, may_own = false;
    sweep();
    STEP(check_log());
dead:
    done[me] = true
}
#endif
