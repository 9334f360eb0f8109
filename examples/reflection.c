/* reflection.c - an agent that thinks about itself while it works: operations that need several things at once.
 *
 *     reflection [DIR]
 *
 * Each of its operations needs the memory of an agent, and some need the memory of two, or the model. They name them in
 * any order. With a mutex per memory, taken one after the other, this program would stand still soon: "compare planner
 * with critic" takes the planner's memory and waits for the critic's, "compare critic with planner" takes the critic's
 * and waits for the planner's. Here an operation gets all that it named, or nothing yet, so none can wait for another
 * in a circle.
 *
 * It also shows what follows from one without waiting inside it, that asking for such a wait is refused, and how an
 * operation says that it has been told to end. */
#include <err.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "../lib/spool.h"

enum { AGENTS = 3, ROUNDS = 200 };
static const char *const agents[AGENTS] = {"agent:planner", "agent:critic", "agent:writer"};

/* No lock: the scheduler sees to it that only one operation at a time has an agent's memory. */
static struct memory {
    unsigned thoughts, in_use;
} memories[AGENTS];

static struct spool *spool;
static atomic_uint overlaps, finished;

static void must(int code)
{
    if (code != SPOOL_OK)
        errx(1, "%s: %s", spool_error_name(code), spool_last_error());
}

static void think(struct memory *memory)
{
    if (memory->in_use++ > 0) /* would be a race, and thread sanitizers would say so, if two were here at once */
        atomic_fetch_add(&overlaps, 1);
    memory->thoughts++;
    memory->in_use--;
}

/* ------------------------------------------------------------------------------------------------------ operations */

struct comparison {
    size_t a, b;
};

static int compare(struct spool_op *op, void *user)
{
    const struct comparison *c = user;
    (void)op;
    think(&memories[c->a]);
    think(&memories[c->b]);
    return 0;
}

static void count_done(struct spool_op *op, void *user, int result)
{
    (void)op, (void)user;
    if (result == 0)
        atomic_fetch_add(&finished, 1);
}

/* The two memories in the order given: it does not matter. */
static struct spool_op *submit_comparison(struct comparison *c)
{
    struct spool_op *op;
    struct spool_op_options options = SPOOL_OP_OPTIONS(.name = "compare", .run = compare, .done = count_done, .user = c,
                                                       SPOOL_OP_NEEDS({.name = agents[c->a]}, {.name = agents[c->b]},
                                                                      {.name = "model", .mode = SPOOL_OP_SHARED}));
    must(spool_op_submit(spool, &options, &op));
    return op;
}

/* What an operation found out outlives the program as an event, and what follows from it is another operation. */
static int conclude(struct spool_op *op, void *user)
{
    (void)op, (void)user;
    char body[64];
    int size = snprintf(body, sizeof body, "{\"lesson\":\"%u thoughts\"}", memories[0].thoughts);
    struct spool_event event =
        SPOOL_EVENT(.type = SPOOL_TYPE_MEMORY_LEARNING, .agent = "planner", .body = body, .body_size = (size_t)size);
    return spool_enqueue(spool, &event, NULL);
}

static struct spool_op *conclusion;

static int reflect(struct spool_op *op, void *user)
{
    (void)op, (void)user;
    struct spool_op_options options =
        SPOOL_OP_OPTIONS(.name = "conclude", .run = conclude, SPOOL_OP_NEEDS({.name = agents[0]}));
    int code = spool_op_submit(spool, &options, &conclusion); /* it begins when this one has returned */
    if (code != SPOOL_OK)
        return code;
    if (spool_op_wait(conclusion, 1000, NULL) == SPOOL_EDEADLK)
        printf("refused: %s\n", spool_last_error());
    return 0;
}

/* Works until it is told to end; a cancel hook would be for one that sleeps in a call. */
static int ponder(struct spool_op *op, void *user)
{
    (void)user;
    while (!spool_op_is_cancelled(op))
        ;
    puts("ponder: was told to end");
    return 1;
}

/* ------------------------------------------------------------------------------------------------------ the program */

static int finish(const char *what, struct spool_op *op)
{
    int result;
    must(spool_op_wait(op, 30000, &result));
    printf("%s: %s\n", what, result ? spool_strerror(result) : "done");
    spool_op_free(op);
    return result;
}

static void compare_all(void)
{
    static struct comparison comparisons[ROUNDS];
    struct spool_op_options last =
        SPOOL_OP_OPTIONS(.name = "sum up", .run = compare, .user = &(struct comparison){0, 1}, .priority = SPOOL_LOW,
                         SPOOL_OP_NEEDS({.name = agents[0]}, {.name = agents[1]}, {.name = agents[2]},
                                        {.name = "model"}));
    static struct spool_op *ops[ROUNDS];
    struct spool_op *op;
    must(spool_op_set_capacity(spool, "model", 2)); /* two calls at a time */
    for (size_t i = 0; i < ROUNDS; i++) {
        comparisons[i].a = i % AGENTS;
        comparisons[i].b = (i + 1 + i / AGENTS % (AGENTS - 1)) % AGENTS;
        ops[i] = submit_comparison(&comparisons[i]);
    }
    must(spool_op_submit(spool, &last, &op)); /* everything at once, and last in line: it gets its turn */
    finish("sum up", op);
    for (size_t i = 0; i < ROUNDS; i++) {
        must(spool_op_wait(ops[i], 30000, NULL));
        spool_op_free(ops[i]);
    }
    printf("%u comparisons, %u overlaps\n", atomic_load(&finished), atomic_load(&overlaps));
}

int main(int argc, char **argv)
{
    struct spool_op *op;
    struct spool_op_options reflection =
        SPOOL_OP_OPTIONS(.name = "reflect", .run = reflect, SPOOL_OP_NEEDS({.name = agents[0]}));
    struct spool_op_options endless = SPOOL_OP_OPTIONS(.name = "ponder", .run = ponder, .timeout_ms = 50);
    must(spool_open(argc > 1 ? argv[1] : "events.spool", NULL, &spool));
    compare_all();
    must(spool_op_submit(spool, &reflection, &op));
    finish("reflect", op);
    finish("conclude", conclusion);
    must(spool_op_submit(spool, &endless, &op));
    finish("ponder", op);
    must(spool_close(spool));
    return 0;
}
