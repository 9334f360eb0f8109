/* acknowledge.pml - what a round of deliveries changes for a sink, cut into transactions, with crashes between them.
 *
 * store_ack(): first the copies of events that failed (retry rows, dead letters), then the cursor, then the rows that are
 * finished with. The events are 0 … EVENTS-1 of one lane; a delivery succeeds, fails (a row), or is refused (a dead letter).
 * After a crash what was in memory begins again from the state: the window at the cursor, the rows as stored; a row stands for its
 * event, which is then not read from the log again.
 *
 * Asserted after every step: an event is in the log at or behind the cursor, or in a row, or a dead letter, or it was
 * delivered; and somebody knows of every row. At the end every event was delivered or is a dead letter; without a crash, each is delivered once. */

#define EVENTS 3
#define CRASHES 2

/* state.mdb */
byte cursor;
bool row[EVENTS], dead[EVENTS];

/* the process */
byte window;                          /* every event below it has an outcome */
bool put_row[EVENTS], put_dead[EVENTS], take_row[EVENTS]; /* of the round: to store, to delete */
bool has_row[EVENTS];                 /* the rows it knows of */
byte part;                            /* 0: none; 1: copies stored; 2: the cursor, too */

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
        assert(i >= cursor || row[i] || dead[i] || delivered[i] > 0);
        assert(!row[i] || has_row[i] || take_row[i] || put_dead[i]);
        i++
    :: else -> break
    od;
    i = 0
}

#define EACH(x) i = 0; do :: i < EVENTS -> x; i++ :: else -> break od; i = 0

inline store_copies() { EACH(row[i] = row[i] || put_row[i]; dead[i] = dead[i] || put_dead[i]; put_row[i] = false) }
inline move_cursor() { cursor = (window > cursor -> window : cursor) }
inline delete_rows()
{
    EACH(row[i] = row[i] && !take_row[i] && !put_dead[i]; take_row[i] = false; put_dead[i] = false)
}

active proctype machine()
{
    do
    /* The dispatcher reads the next event from the log, unless a stored row stands for it. */
    :: atomic { part == 0 && window < EVENTS ->
        e = window;
        if
        :: has_row[e]
        :: !has_row[e] ->
            if
            :: delivered[e]++
            :: put_row[e] = true; has_row[e] = true
            :: put_dead[e] = true
            fi
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
            :: put_dead[e] = true
            fi
        :: else
        fi;
        e = 0;
        assert(crashes < CRASHES || (delivered[0] < 2 && delivered[1] < 2 && delivered[2] < 2)) }
    /* run_part(), three times. */
#ifdef CONTROL_CURSOR_FIRST
    :: atomic { part == 0 -> move_cursor(); part = 1; check() }
    :: atomic { part == 1 -> store_copies(); part = 2; check() }
#else
    :: atomic { part == 0 -> store_copies(); part = 1; check() }
    :: atomic { part == 1 -> move_cursor(); part = 2; check() }
#endif
    :: atomic { part == 2 -> delete_rows(); part = 0; check() }
    /* A crash, and what the next process makes of the state. */
    :: atomic { crashes > 0 ->
        crashes--;
        part = 0;
        window = cursor;
        EACH(put_row[i] = false; put_dead[i] = false; take_row[i] = false;
            has_row[i] = row[i] REMEMBERED) }
    :: atomic { part == 0 && cursor == EVENTS && !row[0] && !row[1] && !row[2] && !put_row[0] && !put_row[1] && !put_row[2] &&
        !put_dead[0] && !put_dead[1] && !put_dead[2] -> break }
    od;
    EACH(assert(delivered[i] > 0 || dead[i]))
}
