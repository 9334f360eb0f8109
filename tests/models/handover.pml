/* handover.pml - from the journal to the log to a sink's cursor, with crashes at every step.
 *
 * One process has the spool; its threads are the alternatives of one loop, each alternative one atomic step of one thread, and a
 * crash is an alternative too: a kill takes what is in the process, a loss of power also what is in the page cache (any
 * subset of it may have reached the disk before). A restart recovers, and may crash while it does.
 *
 * A record takes one slot of the ring; position p is in slot p % RING. Page cache and disk are told apart for the ring
 * (mem, dsk) and for the log (v…: visible, d…: on disk). A transaction of LMDB is visible and on disk in one step, since nobody
 * looks before the lock is dropped; but a commit may fail and be visible all the same (`uncertain`).
 *
 * Each event is answered at most once. What was answered is owed (until, for a process-level one, a loss of power takes it
 * before a flush or commit). The end is reached from every state: no more events and crashes, everything drained.
 * Asserted: no event is in the log twice; what is owed was delivered. */

#ifndef EVENTS
#define EVENTS 3
#endif
#ifndef CRASHES
#define CRASHES 2
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#define RING 2
#define SEQS 12
#define NONE 255

/* page cache and disk */
byte mem_pos[RING] = NONE, mem_ev[RING];
byte dsk_pos[RING] = NONE, dsk_ev[RING];
byte vlog[SEQS], vnext, vpos; /* visible: event at each sequence number (0: none), the next one, the journal's position */
byte dlog[SEQS], dnext, dpos; /* on disk */
byte stored;                  /* the sink's cursor in the state; on disk when its transaction returns */

/* the process */
bool up;                      /* false: recovery has not ended */
byte head, applied, flushed;
bool writing;                 /* a record is half-way in the ring */
bool flushing, failed, lost;
byte target;
byte phase, from, to;         /* committer: 0 idle, 1 gathered, 2 committed */
bool uncertain;
byte window;                  /* deliverer: delivered up to here */
byte low, at;                 /* recovery: the window's begin, the next position to take; low NONE: not begun */

/* the account */
byte made;                    /* events enqueued so far */
bool power[EVENTS + 1], gone[EVENTS + 1], answered[EVENTS + 1], owed[EVENTS + 1], safe[EVENTS + 1], waiting[EVENTS + 1];
byte end[EVENTS + 1], delivered[EVENTS + 1];
byte crashes = CRASHES, faults = FAULTS; /* faults: failing flushes and commits */
bool ended;
byte i, n;                    /* scratch, 0 between steps */

/* segment_append(): a block of one event. */
inline append_log(event)
{
    n = 0;
    do
    :: n < vnext -> assert(vlog[n] != event); n++
    :: else -> break
    od;
    n = 0;
    vlog[vnext] = event;
    vnext++
}

/* LMDB's default: data flushed, then meta. */
inline sync_log()
{
    n = 0;
    do
    :: n < SEQS -> dlog[n] = vlog[n]; n++
    :: else -> break
    od;
    n = 0;
    dnext = vnext;
    dpos = vpos
}

/* What reached `upto` is safe from now on. */
inline mark_safe(upto)
{
    n = 1;
    do
    :: n <= EVENTS ->
        if
        :: waiting[n] && end[n] <= upto && !(lost && end[n] > flushed) -> safe[n] = true
        :: else
        fi;
        n++
    :: else -> break
    od;
    n = 0
}

inline append_records(begin, behind)
{
    i = begin;
    do
    :: i < behind ->
        if
        :: mem_pos[i % RING] == i -> append_log(mem_ev[i % RING])
        :: else -> lost = true /* gather_by_scan(): a failed flush took it */
        fi;
        i++
    :: else -> break
    od;
    i = 0
}

/* Before a slot is written over, what is in it may reach the disk. */
inline write_back_maybe(slot)
{
    if
    :: dsk_pos[slot] = mem_pos[slot]; dsk_ev[slot] = mem_ev[slot]
    :: true
    fi
}

inline forget_process()
{
    up = false; head = 0; applied = 0; flushed = 0; writing = false; flushing = false; failed = false; lost = false;
    target = 0; phase = 0; from = 0; to = 0; uncertain = false; window = 0; low = NONE; at = 0;
    n = 1;
    do
    :: n <= EVENTS -> waiting[n] = false; n++
    :: else -> break
    od;
    n = 0
}

inline lose_power()
{
    i = 0;
    do
    :: i < RING -> write_back_maybe(i); mem_pos[i] = dsk_pos[i]; mem_ev[i] = dsk_ev[i]; i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < SEQS -> vlog[i] = dlog[i]; i++
    :: else -> break
    od;
    vnext = dnext;
    vpos = dpos;
    i = 1;
    do
    :: i <= EVENTS -> owed[i] = owed[i] && (power[i] || safe[i]); i++
    :: else -> break
    od;
    i = 0
}

/* The record of event n is where a waiting producer may be answered: make_power_safe(), or at once at process level. */
#ifdef CONTROL_ANSWER_EARLY /* before the flush has ended */
#define MAY_ANSWER(e) (waiting[e] && !answered[e] && (!power[e] || flushing || flushed >= end[e] || applied >= end[e]))
#else
#ifdef CONTROL_LOST_IS_OK /* "applied" also when the record was not there any more to be committed */
#define MAY_ANSWER(e) (waiting[e] && !answered[e] && (!power[e] || flushed >= end[e] || applied >= end[e]))
#else
#define MAY_ANSWER(e) (waiting[e] && !answered[e] && (!power[e] || flushed >= end[e] || (applied >= end[e] && !lost)))
#endif
#endif

/* replace_journal(): the failed one is empty; what waits on it keeps its answer. */
inline replace_journal()
{
    i = 1;
    do
    :: i <= EVENTS ->
        if
        :: MAY_ANSWER(i) -> answered[i] = true; owed[i] = true
        :: else
        fi;
        waiting[i] = false;
        i++
    :: else -> break
    od;
    i = 0;
    do
    :: i < RING -> mem_pos[i] = NONE; mem_ev[i] = 0; dsk_pos[i] = NONE; dsk_ev[i] = 0; i++
    :: else -> break
    od;
    i = 0;
    head = 0; applied = 0; flushed = 0; target = 0; failed = false; lost = false; vpos = 0; dpos = 0
}

inline check_account()
{
    i = 1;
    do
    :: i <= EVENTS -> assert(!owed[i] || gone[i] || delivered[i] > 0); i++
    :: else -> break
    od;
    i = 0
}

active proctype machine()
{
    byte e;
    low = NONE;
    do
    /* ------------------------------------------------------------------------------------ producers: store_append() */
    :: atomic { up && made < EVENTS && !writing && !failed && head - applied < RING ->
        write_back_maybe(head % RING);
        mem_pos[head % RING] = NONE; mem_ev[head % RING] = 0; /* half-way its checksum does not match */
        writing = true }
    :: atomic { up && writing -> /* journal_publish() */
        made++;
        mem_pos[head % RING] = head; mem_ev[head % RING] = made;
        head++;
        end[made] = head;
        waiting[made] = true;
        writing = false;
        if
        :: power[made] = true
        :: power[made] = false
        fi }
    :: atomic { up -> /* spool_enqueue() returns */
        e = 1;
        do
        :: e <= EVENTS && !MAY_ANSWER(e) -> e++
        :: else -> break
        od;
        if
        :: e <= EVENTS -> answered[e] = true; owed[e] = true
        :: else
        fi;
        e = 0 }

    /* ---------------------------------------------------------------------------------------- journal_flush(), lead() */
    :: atomic { up && !flushing && !failed && flushed < head -> flushing = true; target = head }
    :: atomic { up && flushing ->
        flushing = false;
        i = 0;
        do
        :: i < RING ->
            if
            :: mem_pos[i] != NONE && mem_pos[i] < target -> dsk_pos[i] = mem_pos[i]; dsk_ev[i] = mem_ev[i]
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0;
        flushed = (target > flushed -> target : flushed);
        mark_safe(flushed);
        target = 0 }
    :: atomic { up && flushing && faults > 0 -> /* fdatasync() fails; the kernel may drop the pages */
        faults--;
        flushing = false; failed = true; target = 0;
        i = 0;
        do
        :: i < RING ->
            if
            :: mem_pos[i] != NONE && mem_pos[i] >= flushed && !(writing && i == head % RING) ->
                if
                :: gone[mem_ev[i]] = !power[mem_ev[i]] && !safe[mem_ev[i]]; /* told as damage: the disk's fault */
                    mem_pos[i] = dsk_pos[i]; mem_ev[i] = dsk_ev[i]
                :: true
                fi
            :: else
            fi;
            i++
        :: else -> break
        od;
        i = 0 }

    /* ------------------------------------------------------------------------------------- committer: run_cycle() */
    :: atomic { up && phase == 0 && applied < head -> /* gather(), find_begin() */
        from = applied;
#ifndef CONTROL_REPEAT_UNCERTAIN
        if
        :: uncertain && vpos > applied -> from = vpos
        :: else
        fi;
#endif
        if
        :: to = head
        :: from + 1 < head -> to = from + 1
        fi;
#ifdef CONTROL_REUSE_EARLY
        applied = to;
#endif
        phase = 1 }
    :: atomic { up && phase == 1 -> /* log_commit() */
        append_records(from, to);
#ifdef CONTROL_POSITION_APART
        sync_log();
        phase = 3 }
    :: atomic { up && phase == 3 ->
#endif
        vpos = (to > vpos -> to : vpos);
#ifndef CONTROL_NO_META_SYNC
        sync_log();
#endif
        uncertain = false;
        phase = 2 }
#ifndef CONTROL_POSITION_APART
    :: atomic { up && phase == 1 && faults > 0 -> /* settle(): it is there, and confirm() failed: SPOOL_EUNCERTAIN */
        faults--;
        append_records(from, to);
        vpos = (to > vpos -> to : vpos);
        uncertain = true;
        phase = 0; from = 0; to = 0 }
#endif
    :: atomic { up && phase == 2 -> /* journal_set_applied() */
        applied = to;
        mark_safe(applied);
        phase = 0; from = 0; to = 0 }
    :: atomic { up && failed && !writing && phase == 0 && applied == head -> replace_journal() }

    /* ------------------------------------------------------------------------- delivery, and store_ack() of its cursor */
    :: atomic { up && window < vnext ->
#ifdef CONTROL_CURSOR_EARLY
        stored = window + 1;
        if
        :: vlog[window] != 0 -> skip
        :: else
        fi }
    :: atomic { up && window < vnext && stored > window ->
#endif
        delivered[vlog[window]] = 1;
        window++ }
    :: atomic { up && stored < window -> stored = window }

    /* --------------------------------------------------------------------------------------------------------- crashes */
    :: atomic { crashes > 0 && !ended -> crashes--; forget_process(); if :: lose_power() :: true fi }

    /* ------------------------------------------------------------------------------------------- recovery: apply_all() */
    :: atomic { !up && low == NONE -> /* store_open() */
#ifndef CONTROL_NUMBER_LOW
        if
        :: stored > vnext -> vnext = stored; sync_log() /* catch_up_log() */
        :: else
        fi;
#endif
        low = vpos;
        at = vpos }
    :: atomic { !up && low != NONE -> /* commit_gathered() by pieces, the last one with the position behind everything */
        i = at;
        do
        :: i < low + RING && mem_pos[i % RING] != i -> i++
        :: else -> break
        od;
        if
        :: i < low + RING -> /* one more record */
            at = i + 1;
            append_log(mem_ev[i % RING]);
#ifndef CONTROL_RECOVERY_POSITION_APART
            vpos = at;
#endif
            sync_log()
        :: else ->
            vpos = (at > low -> (low + 2 * RING - 1) / RING * RING : low); /* begin_behind() */
            sync_log();
            head = vpos; applied = vpos; flushed = vpos;
            window = stored;
            up = true; low = NONE; at = 0
        fi;
        i = 0 }

    /* ---------------------------------------------------------------------------------------------------------- the end */
    :: atomic { up && made == EVENTS && crashes == 0 && applied == head && phase == 0 && stored == vnext && !failed ->
        check_account();
        ended = true;
        break }
    od
}
