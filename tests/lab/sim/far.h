/* far.h - between the files that play the sinks: far.c, how a sink answers, and members.c, groups of sinks. */
#ifndef SIM_FAR_H
#define SIM_FAR_H

#include "world.h"

enum { FAR_ALONE = -1 };

/* One state of a sink, as open makes it. It lives in the model, so that its misuse can be told. */
struct far_state {
    struct sink_world *sink;
    int proc;
    bool open, busy, cancelled;
    uint64_t cancelled_ns;
    uint64_t last_co, last_acquired; /* of the last deliver: the same again is a half of that batch */
    int last_code;
    int bit;     /* which member of a group it is, or FAR_ALONE */
    void *group; /* the library's own state, of a group */
};

/* What a deliver works with. */
struct far_call {
    struct far_state *state;
    struct spool_delivery *batch;
    size_t n;
    bool *reasoned; /* beside the batch: a reason was given */
};

void far_enter(struct far_state *state, const char *hook);
void far_leave(struct far_state *state);
/* Opening fails now and then, as the mood says. */
bool far_open_fails(const struct mood *mood);
/* Sets outcomes in one of the ways of the mood, and returns what deliver returns. */
int far_answer(struct far_call *call, const struct mood *mood, size_t *ret_way);
const struct mood *far_mood(const struct sink_world *sink);

/* members.c */
int group_sim_open(struct far_state *state);
int group_sim_answer(struct far_call *call);
void group_sim_cancel(struct far_state *state);
void group_sim_close(struct far_state *state);
void member_takes(const struct far_state *state, const struct event *event);

#endif
