/* letters.c - what a run said about single dead letters, and whether it is so afterwards. An edit or a move that was answered
 * is there whole; one that failed has happened or has not, and never loses the event. */
#include "run.h"

#include <string.h>

static uint32_t plain[EVENTS_MAX],
    edited[EVENTS_MAX]; /* dead letters of the event, as it was and with the edited type */

static int count_letter(void *user, const struct spool_dead_letter *letter)
{
    uint32_t n;
    (void)user;
    if (!body_number(letter->event->body, letter->event->body_size, &n))
        violation("a dead letter that nobody enqueued");
    else if (strcmp(letter->sink, sink_names[SINK_REJECTING]) != 0)
        violation("a dead letter of sink %s: event %u", letter->sink, n);
    else if (strcmp(letter->event->type, LETTER_TYPE_EDITED) == 0)
        edited[n]++;
    else
        plain[n]++;
    return 0;
}

/* Nothing was said about it but that it is rejected. */
static bool check_usual(uint32_t n, bool in_log)
{
    uint32_t want = in_log && sink_rejects(n), have = plain[n] + edited[n];
    if (have != want && !(ledger->requeued && have < want))
        return violation("%u dead letter(s) of event %u instead of %u", have, n, want);
    return edited[n] == 0 || violation("the dead letter of event %u was edited by nobody", n);
}

/* The other sink has had it once anyway. */
static bool check_moved(uint32_t n, bool for_certain)
{
    bool there = plain[n] > 0, over_there = atomic_load(&ledger->delivered[SINK_GOOD][n]) > 1;
    if (!there && !over_there)
        return violation("event %u was requeued to another sink, and neither is there", n);
    return !for_certain || !there || violation("event %u was requeued to another sink, and is dead here still", n);
}

static bool check_one(uint32_t n, bool in_log)
{
    uint32_t have = plain[n] + edited[n];
    switch (ledger->letters[n]) {
    case LETTER_USUAL:
        return check_usual(n, in_log);
    case LETTER_EDITING:
        return have == 1 || violation("%u dead letters of event %u after an edit that failed", have, n);
    case LETTER_EDITED:
        return (edited[n] == 1 && have == 1) || violation("the edit of event %u's dead letter is not there", n);
    case LETTER_UNSURE:
        return have <= 1 || violation("%u dead letters of event %u", have, n);
    case LETTER_GONE:
        return have == 0 || violation("the dead letter of event %u was purged and is there", n);
    case LETTER_BACK:
        return have == 1 || violation("the dead letter of event %u was imported; there are %u", n, have);
    default:
        return check_moved(n, ledger->letters[n] == LETTER_MOVED);
    }
}

bool letters_check(struct spool *spool, const uint32_t in_log[EVENTS_MAX])
{
    if (!must_work("spool_dead_each", spool_dead_each(spool, NULL, count_letter, NULL)))
        return false;
    for (uint32_t n = 0; n < EVENTS_MAX; n++) {
        if (!check_one(n, in_log[n] > 0))
            return false;
    }
    return true;
}
