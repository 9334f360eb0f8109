/* acknowledge.pml - what a round of deliveries changes for a sink, cut into transactions, with crashes between them.
 *
 * store_ack(): first rows that become dead letters, one after another; then all that comes from the log in one: the cursor,
 * new rows and letters, and what was delivered is counted; then the rows that are finished with, one after another, each
 * counted with its deletion. The events are 0 … EVENTS-1 of one lane; a delivery succeeds, fails (a row), or is refused (a dead
 * letter). After a crash what was in memory begins again from the state: the window at the cursor, the rows as stored.
 *
 * Asserted after every step: an event is at exactly one place, in the log at or behind the cursor, in a row, a dead letter, or
 * counted, and nothing is counted that was not delivered; somebody knows of every row. At the end every event is counted or
 * a dead letter; without a crash, each is delivered once. */

#define EVENTS 3
#define CRASHES 2

/* state.mdb */
byte cursor;
bool row[EVENTS], dead[EVENTS];
byte counted[EVENTS];

/* the process */
byte window;                          /* every event below it has an outcome */
bool over[EVENTS], put_row[EVENTS], put_dead[EVENTS]; /* of the round, from the log: to count, to store */
bool take_row[EVENTS], kill_row[EVENTS]; /* … of rows: to delete, to make a letter of */
bool has_row[EVENTS];                 /* the rows it knows of */
byte part;                            /* of the acknowledgement that is being stored */

byte delivered[EVENTS];
#ifdef CONTROL_FORGET_ROWS
#define REMEMBERED && false
#else
#define REMEMBERED
#endif
byte crashes = CRASHES;
byte i, e;

inline check()
{
    i = 0;
    do
    :: i < EVENTS ->
        assert((i >= cursor) + row[i] + dead[i] + counted[i] == 1);
        assert(counted[i] <= delivered[i]);
        assert(!row[i] || has_row[i] || take_row[i] || kill_row[i]);
        i++
    :: else -> break
    od;
    i = 0
}

#define EACH(x) i = 0; do :: i < EVENTS -> x; i++ :: else -> break od; i = 0

inline kill_rows() { EACH(if :: kill_row[i] -> dead[i] = true; row[i] = false; kill_row[i] = false :: else fi) }
inline store_copies() { EACH(row[i] = row[i] || put_row[i]; dead[i] = dead[i] || put_dead[i]; put_row[i] = false; put_dead[i] = false) }
inline move_cursor() { EACH(counted[i] = counted[i] + over[i]; over[i] = false); cursor = (window > cursor -> window : cursor) }
/* One of them; when none is left, the acknowledgement is over. */
inline delete_row()
{
    e = 0;
    do
    :: e < EVENTS && !take_row[e] -> e++
    :: else -> break
    od;
    if
    :: e < EVENTS ->
        row[e] = false;
        take_row[e] = false;
#ifndef CONTROL_COUNT_EARLY
        counted[e]++
#endif
    :: else -> part = 0
    fi;
    e = 0
}

active proctype machine()
{
    do
    /* The dispatcher reads the next event from the log. */
    :: atomic { part == 0 && window < EVENTS ->
        e = window;
        if
        :: delivered[e]++; over[e] = true
        :: put_row[e] = true; has_row[e] = true
        :: put_dead[e] = true
        fi;
        window++;
        e = 0 }
    /* A row is due. */
    :: atomic { part == 0 ->
        e = 0;
        do
        :: e < EVENTS && !(has_row[e] && row[e] && !put_row[e] && e < window) -> e++
        :: else -> break
        od;
        if
        :: e < EVENTS ->
            has_row[e] = false;
            if
            :: delivered[e]++; take_row[e] = true
            :: kill_row[e] = true
            fi
        :: else
        fi;
        e = 0;
        assert(crashes < CRASHES || (delivered[0] < 2 && delivered[1] < 2 && delivered[2] < 2)) }
    /* run_part(), some times. */
#ifdef CONTROL_COPIES_FIRST
    :: atomic { part == 0 -> kill_rows(); store_copies(); part = 1; check() }
    :: atomic { part == 1 -> move_cursor(); part = 2; check() }
#else
#ifdef CONTROL_CURSOR_FIRST
    :: atomic { part == 0 -> kill_rows(); move_cursor(); part = 1; check() }
    :: atomic { part == 1 -> store_copies(); part = 2; check() }
#else
    :: atomic { part == 0 -> kill_rows(); part = 1; check() }
    :: atomic { part == 1 ->
        store_copies();
        move_cursor();
#ifdef CONTROL_COUNT_EARLY
        EACH(counted[i] = counted[i] + take_row[i]);
#endif
        part = 2;
        check() }
#endif
#endif
    :: atomic { part == 2 -> delete_row(); check() }
    /* A crash, and what the next process makes of the state. */
    :: atomic { crashes > 0 ->
        crashes--;
        part = 0;
        window = cursor;
        EACH(over[i] = false; put_row[i] = false; put_dead[i] = false; take_row[i] = false; kill_row[i] = false;
            has_row[i] = row[i] REMEMBERED) }
    :: atomic { part == 0 && cursor == EVENTS && !row[0] && !row[1] && !row[2] -> break }
    od;
    EACH(assert(counted[i] > 0 || dead[i]))
}
