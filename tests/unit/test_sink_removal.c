/* test_sink_removal.c - a sink is removed while somebody delivers to it: the mark, who honours it, and when. */
#include <signal.h>
#include <sys/wait.h>

#include "../../lib/spool.h"
#include "store_fixture.h"

#define until(condition)                                                                                               \
    do {                                                                                                               \
        uint64_t end_ = deadline_in_ms(60000);                                                                         \
        while (!(condition) && mono_ns() < end_)                                                                       \
            usleep(2000);                                                                                              \
        ck_assert_msg(condition, "%s did not come true", #condition);                                                  \
    } while (0)

/* ----------------------------------------------------------------------------------------------------------- the store */

static struct store *open_store(void)
{
    struct store_options options = small_options();
    struct store *store = NULL;
    ck_ok(store_open(path, &options, hlc, &store));
    return store;
}

static struct store_sink add_sink(struct store *store)
{
    static struct store_sink sink;
    ck_ok(store_sink_register(store, "s", "test", 0, "{}", false, &sink));
    return sink;
}

static int find_sink(struct store *store, struct store_sink *ret)
{
    return store_sink_get(store, "s", ret);
}

/* It is asked for, and nothing goes while somebody delivers; the keeper sees to it when that one lets go. */
START_TEST(it_goes_when_its_deliverer_lets_go)
{
    static struct store_sink sink;
    store_begin();
    struct store *store = open_store();
    add_sink(store);
    ck_ok(store_sink_elect(store, "s"));
    uint32_t control = store_control(store);
    ck_code(store_sink_remove(store, "s", deadline_in_ms(30)), SPOOL_ETIMEOUT);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "as soon as"));
    ck_assert_uint_ne(store_control(store), control); /* who delivers has to hear of it */
    ck_ok(find_sink(store, &sink));
    ck_assert(sink.removing);
    removals_finish(store); /* not yet */
    ck_ok(find_sink(store, &sink));
    store_sink_release(store, "s");
    until(find_sink(store, &sink) == SPOOL_ENOTFOUND); /* nobody asks again */
    ck_code(store_sink_remove(store, "s", deadline_in_ms(30)), SPOOL_ENOTFOUND);
    ck_ok(store_close(store, deadline_in_ms(60000)));
    store_end();
}
END_TEST

/* Who waits for it is content whoever did it: nobody by that name is there any more, or another one is, and is even served. */
START_TEST(it_is_gone_whoever_removed_it)
{
    static struct store_sink sink;
    store_begin();
    struct store *store = open_store();
    add_sink(store);
    ck_ok(store_sink_ask_removal(store, "s", deadline_in_ms(60000)));
    removals_finish(store); /* a keeper comes first */
    ck_ok(store_sink_await_removal(store, "s", deadline_in_ms(60000)));
    add_sink(store);
    ck_ok(store_sink_await_removal(store, "s", deadline_in_ms(60000)));
    ck_ok(store_sink_elect(store, "s"));
    ck_ok(store_sink_await_removal(store, "s", deadline_in_ms(60000)));
    ck_ok(find_sink(store, &sink));
    ck_assert(!sink.removing);
    store_sink_release(store, "s");
    ck_ok(store_close(store, deadline_in_ms(60000)));
    store_end();
}
END_TEST

/* Whoever asked and whoever delivered are gone: the next one that opens does it, before anything else. */
START_TEST(it_goes_at_the_next_open)
{
    static struct store_sink sink;
    store_begin();
    struct store *store = open_store();
    add_sink(store);
    ck_ok(store_sink_elect(store, "s"));
    ck_ok(store_sink_ask_removal(store, "s", deadline_in_ms(60000)));
    ck_ok(store_close(store, deadline_in_ms(60000)));
    store = open_store();
    ck_code(find_sink(store, &sink), SPOOL_ENOTFOUND);
    ck_ok(store_close(store, deadline_in_ms(60000)));
    store_end();
}
END_TEST

/* Also while the old one is still served: the new one has nothing of it, and nobody removes it. */
START_TEST(one_registered_in_its_place_is_a_new_one)
{
    static struct store_sink sink;
    store_begin();
    struct store *store = open_store();
    struct store_sink old = add_sink(store);
    const struct store_ack ack = {.sink_id = old.id, .generation = old.generation, .delivered = {7}};
    ck_ok(store_ack(store, &ack, deadline_in_ms(60000)));
    ck_ok(store_sink_elect(store, "s"));
    ck_ok(store_sink_ask_removal(store, "s", deadline_in_ms(60000)));
    struct store_sink new = add_sink(store);
    ck_assert_uint_gt(new.id, old.id);
    ck_assert_uint_eq(new.delivered, 0);
    ck_assert(!new.removing);
    ck_code(store_ack(store, &ack, deadline_in_ms(5000)), SPOOL_ESTALE); /* of who still serves the old one */
    ck_code(state_sink_remove_marked(store->state, "s", deadline_in_ms(5000)), SPOOL_ENOTFOUND);
    store_sink_release(store, "s");
    removals_finish(store);
    ck_ok(find_sink(store, &sink));
    ck_ok(store_close(store, deadline_in_ms(60000)));
    store_end();
}
END_TEST

/* --------------------------------------------------------------------------------------------------- another process */

/* A sink that delivers, or hangs and does not heed cancel. */
static bool hangs;

static int deliver(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    while (hangs)
        pause();
    for (size_t i = 0; i < n; i++)
        SPOOL_DELIVERY_AT(batch, i)->outcome = SPOOL_DELIVERED;
    return SPOOL_OK;
}

static const struct spool_sink hooks = {
    .abi = SPOOL_SINK_ABI, .size = sizeof hooks, .kind = "removed", .deliver = deliver};

static struct spool *open_spool(uint32_t stop_timeout_ms)
{
    struct spool *spool = NULL;
    const struct spool_options options = SPOOL_OPTIONS(.max_bytes = 32 << 20, .stop_timeout_ms = stop_timeout_ms);
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

static void put(struct spool *spool)
{
    struct spool_event event = SPOOL_EVENT(.type = "t", .durability = SPOOL_DURABLE_PROCESS);
    ck_ok(spool_enqueue(spool, &event, NULL));
}

struct seen {
    unsigned sinks, removing;
    uint64_t pending, delivered; /* of "s" */
    enum spool_sink_state state;
};

static int see(void *user, const struct spool_sink_info *info)
{
    struct seen *seen = user;
    seen->sinks++;
    if (strcmp(info->name, "s") != 0)
        return 0;
    seen->removing += info->removing;
    seen->pending = info->pending_events;
    seen->delivered = info->delivered_events;
    seen->state = info->state;
    return 0;
}

static struct seen look_at(struct spool *spool)
{
    struct seen seen = {0};
    ck_ok(spool_sink_each(spool, see, &seen));
    return seen;
}

struct peer {
    pid_t pid;
    int to, from;
};

/* Serves "s" and "other", tells when it does, and then, at each word from the parent, adds "s" anew and has it served. */
static void serve(int to, int from)
{
    char c;
    struct spool *spool = open_spool(5000);
    const struct spool_sink_options options = SPOOL_SINK_OPTIONS(.retry_base_ms = 1);
    ck_ok(spool_sink_add(spool, "s", &hooks, NULL, &options));
    ck_ok(spool_sink_load(spool, "other", "null", NULL, NULL));
    ck_ok(spool_start(spool));
    ck_assert_int_eq(write(to, "s", 1), 1);
    while (read(from, &c, 1) == 1) {
        put(spool);
        uint64_t delivered = look_at(spool).delivered;
        ck_assert_uint_eq(delivered, 0);
        ck_ok(spool_sink_add(spool, "s", &hooks, NULL, &options));
        ck_ok(spool_drain(spool, 60000)); /* nobody holds anything for the one that went */
        ck_assert_uint_gt(look_at(spool).delivered, 0);
        ck_assert_int_eq(write(to, "d", 1), 1);
    }
    ck_ok(spool_close(spool));
    _exit(0);
}

static struct peer start_peer(void)
{
    int to[2], from[2];
    char c;
    ck_assert(pipe(to) == 0 && pipe(from) == 0);
    struct peer peer = {.pid = fork(), .to = to[1], .from = from[0]};
    if (peer.pid == 0) {
        close(to[1]);
        close(from[0]);
        serve(from[1], to[0]);
    }
    close(to[0]);
    close(from[1]);
    ck_assert_int_eq(read(peer.from, &c, 1), 1);
    return peer;
}

static void end_peer(struct peer *peer, int want)
{
    int status = 0;
    close(peer->to);
    ck_assert_int_eq(waitpid(peer->pid, &status, 0), peer->pid);
    ck_assert_int_eq(status, want);
    close(peer->from);
}

START_TEST(removed_while_another_process_delivers)
{
    char c;
    scratch_begin();
    struct peer peer = start_peer();
    struct spool *spool = open_spool(30000);
    for (int i = 0; i < 20; i++)
        put(spool);
    if (_i)
        ck_ok(spool_sink_pause(spool, "s"));
    until(_i || look_at(spool).delivered == 20);
    ck_ok(spool_sink_remove(spool, "s"));
    ck_assert_uint_eq(look_at(spool).sinks, 1);
    ck_code(spool_sink_remove(spool, "s"), SPOOL_ENOTFOUND);
    ck_assert_int_eq(write(peer.to, "x", 1), 1); /* it goes on, and takes another one of that name */
    ck_assert_int_eq(read(peer.from, &c, 1), 1);
    end_peer(&peer, 0);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* The deliverer hangs: the removal is noted, and done when that process dies. */
START_TEST(removed_when_a_process_that_hangs_dies)
{
    scratch_begin();
    hangs = true;
    struct peer peer = start_peer();
    struct spool *spool = open_spool(300);
    put(spool);
    until(look_at(spool).state == SPOOL_SINK_ELSEWHERE);
    usleep(
        50000); /* most often it is in the hook by then; where it is not, the removal is done at once, which is fine */
    int code = spool_sink_remove(spool, "s");
    ck_assert(code == SPOOL_ETIMEOUT || code == SPOOL_OK);
    ck_assert_uint_eq(look_at(spool).removing, code == SPOOL_ETIMEOUT);
    ck_ok(spool_drain(spool, 60000)); /* "other" goes on over there, and nobody waits for this one */
    kill(peer.pid, SIGKILL);
    end_peer(&peer, SIGKILL);
    until(look_at(spool).sinks == 1);
    ck_ok(spool_close(spool));
    hangs = false;
    scratch_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sink_removal");
    TCase *t = tcase_create("sink_removal");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, it_goes_when_its_deliverer_lets_go);
    tcase_add_test(t, it_is_gone_whoever_removed_it);
    tcase_add_test(t, it_goes_at_the_next_open);
    tcase_add_test(t, one_registered_in_its_place_is_a_new_one);
    if (test_can_fork())
        tcase_add_loop_test(t, removed_while_another_process_delivers, 0, 2);
    tcase_add_forking_test(t, removed_when_a_process_that_hangs_dies);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
