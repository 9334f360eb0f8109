/* majority.h - which interval a majority of sources agrees on.
 *
 * Marzullo, "Maintaining the Time in a Distributed System" (1984), in the form that NTP uses (RFC 5905, 11.2.1): each
 * source is an interval that holds the true time if it is honest. The answer spans all points that lie in the intervals
 * of more than half of them. When more than half are honest the true time is such a point, hence within. (The stretch
 * that the most intervals share, as the algorithm is often told, may leave it out: two liars and two of three honest
 * ones make four.)
 *
 * Sources with one root have their time from one place, and are one vote, which is given to every point in an interval
 * of any of them. */
#ifndef CLOCK_MAJORITY_H
#define CLOCK_MAJORITY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { MAJORITY_MAX = 32 };

struct vote {
    uint64_t earliest_ns, latest_ns; /* closed; earliest <= latest */
    uint64_t root;
};
struct majority {
    uint64_t earliest_ns, latest_ns;
    unsigned voting, agreeing; /* roots; those of which an interval reaches into the answer */
};

/* False: there is none; ret->voting is set all the same. At most MAJORITY_MAX votes are looked at. */
bool majority_find(const struct vote *votes, size_t n, struct majority *ret);

static inline bool vote_reaches(const struct vote *vote, uint64_t earliest_ns, uint64_t latest_ns)
{
    return vote->earliest_ns <= latest_ns && vote->latest_ns >= earliest_ns;
}

#endif
