/* ahead.c - packs the next group while the disk takes the last one.
 *
 * Packing keeps a CPU busy and committing mostly waits for the disk; in turns, each would wait for the other. So when a
 * cycle leaves a good deal behind in the ring, a second thread packs that during the commit.
 *
 * What it has packed is an offer and nothing more. The committer takes it only if its next group begins exactly there: not after
 * a commit that failed, or may have failed, since then something else comes next; and not from a journal that failed a
 * flush, of which every record is read again and verified. Nothing of it is in the log before the committer commits it, on top
 * of a commit that is certain: so the hand-over is exactly once as it was without.
 *
 * The thread works only between ahead_begin() and ahead_end(), while the committer is busy with the commit, so that the journal
 * and its ring stay what they are. It is started when it is first of use: a program that enqueues little never has it.
 * If it cannot be started, the committer packs by itself. */
#include "ahead.h"

#include "store_inside.h"

struct ahead {
    struct packer *packer;
    pthread_t thread;
    bool tried, runs; /* the thread: was to be started, and was */
    pthread_mutex_t mutex;
    pthread_cond_t cond;     /* mutex: `wanted` or `ending` has changed */
    bool wanted, ending;     /* mutex: there is a group to pack; the thread has to end */
    struct journal *journal; /* these four belong to the thread while `wanted` is set, and to the committer otherwise */
    uint64_t from, to;
    size_t bytes_max;
    bool packed;
};

static int add_frame(void *user, const uint8_t *payload, size_t size)
{
    return packer_add_frame(user, payload, size);
}

/* A damaged record or a lack of memory: the committer finds it by itself, and says so. */
static void pack(struct ahead *ahead)
{
    packer_reset(ahead->packer);
    ahead->packed = journal_walk(ahead->journal, ahead->from, ahead->bytes_max, false, add_frame, ahead->packer,
                                 &ahead->to) == SPOOL_OK;
}

static void *run(void *arg)
{
    struct ahead *ahead = arg;
    pthread_mutex_lock(&ahead->mutex);
    while (!ahead->ending) {
        if (!ahead->wanted) {
            cond_wait_until(&ahead->cond, &ahead->mutex, DEADLINE_NEVER);
            continue;
        }
        pthread_mutex_unlock(&ahead->mutex);
        pack(ahead);
        pthread_mutex_lock(&ahead->mutex);
        ahead->wanted = false;
        pthread_cond_broadcast(&ahead->cond);
    }
    pthread_mutex_unlock(&ahead->mutex);
    return NULL;
}

struct ahead *ahead_new(struct packer *packer)
{
    struct ahead *ahead = packer ? calloc(1, sizeof *ahead) : NULL;
    bool mutex = ahead && pthread_mutex_init(&ahead->mutex, NULL) == 0;
    if (mutex && cond_init(&ahead->cond) == SPOOL_OK) {
        ahead->packer = packer;
        return ahead;
    }
    if (mutex)
        pthread_mutex_destroy(&ahead->mutex);
    free(ahead);
    packer_free(packer);
    return NULL;
}

static void tell(struct ahead *ahead, bool *what)
{
    pthread_mutex_lock(&ahead->mutex);
    *what = true;
    pthread_cond_broadcast(&ahead->cond);
    pthread_mutex_unlock(&ahead->mutex);
}

void ahead_free(struct ahead *ahead)
{
    if (!ahead)
        return;
    if (ahead->runs) {
        tell(ahead, &ahead->ending);
        pthread_join(ahead->thread, NULL);
    }
    pthread_cond_destroy(&ahead->cond);
    pthread_mutex_destroy(&ahead->mutex);
    packer_free(ahead->packer);
    free(ahead);
}

static bool is_running(struct ahead *ahead)
{
    if (!ahead->tried)
        ahead->runs = thread_start(&ahead->thread, "spool-pack", run, ahead) == 0;
    ahead->tried = true;
    return ahead->runs;
}

void ahead_begin(struct ahead *ahead, struct journal *journal, uint64_t from, size_t bytes_max)
{
    if (!ahead || !is_running(ahead))
        return;
    ahead->journal = journal;
    ahead->from = from;
    ahead->bytes_max = bytes_max;
    tell(ahead, &ahead->wanted);
}

void ahead_end(struct ahead *ahead, bool keep)
{
    if (!ahead || !ahead->runs)
        return;
    pthread_mutex_lock(&ahead->mutex);
    while (ahead->wanted)
        cond_wait_until(&ahead->cond, &ahead->mutex, DEADLINE_NEVER);
    pthread_mutex_unlock(&ahead->mutex);
    ahead->packed &= keep;
}

bool ahead_take(struct ahead *ahead, uint64_t from, struct packer **packer, uint64_t *ret_to)
{
    bool fits = ahead && ahead->packed && ahead->from == from;
    if (ahead)
        ahead->packed = false;
    if (!fits)
        return false;
    struct packer *theirs = *packer;
    *packer = ahead->packer;
    ahead->packer = theirs;
    *ret_to = ahead->to;
    return true;
}
