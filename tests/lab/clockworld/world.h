/* world.h - a world of machines whose clocks are wrong, servers some of which lie, and a true time that only we know.
 *
 * Everything happens on one thread at points of true time; a seed is a world and its history, step for step. The clocks
 * under test are whole (clock/ as it is, SNTP packets included, but no sockets): each machine has four clocks by one
 * oscillator, off by at most the drift that its clock is told; walls are set, machines sleep and lose power, daemons slew.
 *
 * What must hold, at every step (judge.c):
 *   increasing   the stamps of a machine grow, over restarts too
 *   causality    what follows a message that was accepted is later than it; refused is what is too far ahead, and only that
 *   truth        true time lies in the stated interval while more than half of the roots that vote are honest, and
 *                afterwards, while nobody answers
 *   named        an honest source is then no falseticker
 *   growth       without a new answer an interval never gets narrower than it was by more than the clock's resolution
 *   ahead        in a world whose liars are few, no stamp is ever far ahead of the truth, whatever the walls do
 *   behind       a stamp is not behind the physical time of its machine
 *   order        of two readings BEFORE and AFTER are so in truth
 *   expiry       what expires is not ahead of physical time, and stands while paused */
#ifndef CLOCKWORLD_WORLD_H
#define CLOCKWORLD_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "../../../clock/clock.h"

#define SEC 1000000000ull
#define MS 1000000ull

enum { NODES_MAX = 5, SERVERS_MAX = 8, MESSAGES_MAX = 16, DRIFT_PPM = 50 };

enum manner { HONEST, LIAR_FAR, LIAR_NEAR, LIAR_WANDERING };

struct server {
    enum manner manner;
    int64_t offset_ns;    /* of its clock from the truth */
    uint64_t distance_ns; /* what it says of itself */
    uint32_t root;
    bool silent;
};

struct node {
    int index;
    bool up;
    struct hlc *clock;
    struct hlc_look now;
    int64_t drift_ppb;      /* of its oscillator */
    int64_t slew_ppm;       /* of wall, boot and mono, until: */
    uint64_t slew_until_ns; /* true time */
    uint64_t delay_max_ns;  /* of its network */
    struct server servers[SERVERS_MAX];
    unsigned server_count;

    struct spool_id last; /* stamp */
    uint64_t highest_ns;  /* the latest that a stamp may be based on */
    uint64_t counted;     /* stamps since */
    bool remembers_truth; /* the last agreement was of a majority that was honest */
    bool poisoned;        /* liars were more than half of those that answered, once */
    uint64_t paused_ns;   /* expiry when it was paused; 0: it is not */
    uint64_t told;
};

struct message {
    bool waits;
    struct spool_id stamp;
};

struct past { /* a reading, and when it truly was */
    struct spool_clock_reading reading;
    uint64_t true_ns;
    bool valid;
};

extern struct world {
    uint64_t seed, random;
    uint64_t true_ns;
    bool few_liars; /* less than half of the roots of every machine, and all servers answer */
    struct node nodes[NODES_MAX];
    unsigned node_count;
    struct message messages[MESSAGES_MAX];
    struct past past[32];
    uint64_t step;
    uint64_t hash; /* of the history */
    bool trace, failed;
    uint64_t stamps, readings, asserted, accepted, refused, jumps, restarts, sleeps, slews, polls, holdovers, compared;
} world;

/* Breaks on purpose what must be noticed: wrap.c. */
enum control {
    CONTROL_NONE,
#define CONTROLS(X)                                                                                                    \
    X(NO_MAJORITY, "no-majority", "the least error is believed, whoever says it")                                      \
    X(MOST_SHARED, "most-shared", "the stretch that most intervals share, instead of all that a majority covers")      \
    X(NO_ROOTS, "no-roots", "sources that share a root count each")                                                    \
    X(NO_GROWTH, "no-growth", "the error does not grow")                                                               \
    X(NO_SLEEP, "no-sleep", "time does not pass while suspended")                                                      \
    X(NO_SLEW, "no-slew", "slewing by others is not noticed")                                                          \
    X(FOLLOW_BACK, "follow-back", "stamps follow a wall clock that is set back")                                       \
    X(FOLLOW_FORWARD, "follow-forward", "stamps follow a jump forward")                                                \
    X(NO_MERGE, "no-merge", "a stamp that came with a message is forgotten")                                           \
    X(NO_LIMIT, "no-limit", "a stamp from elsewhere is merged however far ahead it is")
#define CONTROL_ENUM(id, name, text) CONTROL_##id,
    CONTROLS(CONTROL_ENUM)
#undef CONTROL_ENUM
};
extern enum control control;

uint64_t chance_number(void);
uint64_t chance_below(uint64_t n);
bool chance_percent(unsigned percent);
int64_t chance_around(uint64_t most); /* -most to most */

void world_begin(uint64_t seed);
void world_end(void);
void world_step(void);
void world_pass(uint64_t ns);
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
void violation(const char *what, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* sources.c */
void node_add_sources(struct node *node);

/* judge.c: what a step did is told here. */
void judge_stamp(struct node *node);
void judge_message(struct node *node, const struct spool_id *remote, int code);
void judge_reading(struct node *node);
void judge_poll(struct node *node);

#endif
