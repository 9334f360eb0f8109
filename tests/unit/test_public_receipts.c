/* test_public_receipts.c - what became of an event at each sink, asked for and told: through the public interface, with a sink of
 * the test's. */
#include "obedient_fixture.h"

/* ---------------------------------------------------------------------------------------------------------- receipts */

struct answer {
    const char *sink;
    enum spool_receipt_state state;
    uint32_t attempts;
    uint64_t due_ns;
    size_t history;
    unsigned count;
    char reason[300];
};

static int note_answer(void *user, const struct spool_receipt *receipt)
{
    struct answer *answer = user;
    answer->count++;
    if (strcmp(receipt->sink, answer->sink) != 0)
        return 0;
    answer->state = receipt->state;
    answer->attempts = receipt->attempts;
    answer->due_ns = receipt->due_ns;
    answer->history = receipt->history_count;
    snprintf(answer->reason, sizeof answer->reason, "%s", receipt->reason);
    return 0;
}

static struct answer ask_for(struct spool *spool, const struct spool_id *id, const char *sink)
{
    struct answer answer = {.sink = sink, .state = (enum spool_receipt_state) - 1};
    ck_ok(spool_receipt(spool, id, note_answer, &answer));
    return answer;
}

static enum spool_receipt_state state_of(struct spool *spool, const struct spool_id *id, const char *sink)
{
    return ask_for(spool, id, sink).state;
}

/* It failed between those times, and is due an hour later. */
static void check_due(const struct answer *answer, uint64_t from_ns, uint64_t to_ns)
{
    const uint64_t hour_ns = HOUR_MS * NS_PER_MS;
    ck_assert_msg(answer->due_ns >= from_ns + hour_ns && answer->due_ns <= to_ns + hour_ns,
                  "due %llu ns after an hour, and the test took %llu",
                  (unsigned long long)(answer->due_ns - from_ns - hour_ns), (unsigned long long)(to_ns - from_ns));
}

START_TEST(receipts_of_each_state)
{
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){.retry_base_ms = 3600000, .retry_cap_ms = 3600000});
    struct spool_id ok = put(spool, "\"ok\"", 0), no = put(spool, "\"no\"", 0), later = put(spool, "\"hour\"", 0);
    uint64_t before_ns = real_ns();
    ck_assert_int_eq(state_of(spool, &ok, "a"), SPOOL_RECEIPT_QUEUED);
    ck_assert_uint_eq(ask_for(spool, &ok, "a").due_ns, 0);
    ck_ok(spool_start(spool));
    until(state_of(spool, &ok, "a") == SPOOL_RECEIPT_DELIVERED);
    until(state_of(spool, &no, "a") == SPOOL_RECEIPT_DEAD);
    until(state_of(spool, &later, "a") == SPOOL_RECEIPT_RETRYING);
    struct answer dead = ask_for(spool, &no, "a"), retry = ask_for(spool, &later, "a");
    ck_assert_uint_eq(dead.attempts, 1);
    ck_assert_uint_eq(dead.history, 1);
    ck_assert_str_eq(dead.reason, "told to");
    ck_assert_uint_eq(retry.attempts, 1);
    ck_assert_str_eq(retry.reason, "not now");
    check_due(&retry, before_ns, real_ns());
    ck_assert_uint_eq(dead.due_ns, 0);
    /* a sink that began later, one with a filter, and one that began with the oldest */
    ck_ok(spool_stop(spool, 60000));
    add(spool, "late", (struct spool_sink_options){.flags = SPOOL_SINK_FROM_NOW});
    add(spool, "picky", (struct spool_sink_options){.filter = "{\"include\":{\"type\":\"other\"}}"});
    add(spool, "old", (struct spool_sink_options){.retry_base_ms = 10});
    ck_assert_int_eq(state_of(spool, &ok, "late"), SPOOL_RECEIPT_SKIPPED);
    ck_assert_int_eq(state_of(spool, &ok, "picky"), SPOOL_RECEIPT_FILTERED);
    ck_assert_int_eq(state_of(spool, &ok, "old"), SPOOL_RECEIPT_QUEUED);
    ck_assert_uint_eq(ask_for(spool, &ok, "a").count, 4);
    ck_ok(spool_close(spool));

    spool = open_spool(NULL); /* after a restart, nobody delivering */
    ck_assert_int_eq(state_of(spool, &ok, "a"), SPOOL_RECEIPT_DELIVERED);
    ck_assert_int_eq(state_of(spool, &no, "a"), SPOOL_RECEIPT_DEAD);
    struct answer again = ask_for(spool, &later, "a");
    ck_assert_int_eq(again.state, SPOOL_RECEIPT_RETRYING);
    ck_assert_uint_eq(again.due_ns, retry.due_ns);
    ck_assert_int_eq(state_of(spool, &ok, "late"), SPOOL_RECEIPT_SKIPPED);
    ck_ok(spool_dead_requeue(spool, "a", &no, NULL));
    ck_assert_int_eq(state_of(spool, &no, "a"), SPOOL_RECEIPT_QUEUED);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

START_TEST(receipts_of_what_is_expired_in_flight_gone_or_unknown)
{
    begin();
    struct spool *spool = open_spool(NULL);
    struct spool_id old = {{0}}, id;
    add(spool, "a", (struct spool_sink_options){0});
    struct spool_id expired = put(spool, "\"ok\"", 1);
    until(state_of(spool, &expired, "a") == SPOOL_RECEIPT_EXPIRED);
    obedient.hold = true;
    id = put(spool, "\"ok\"", 0);
    ck_ok(spool_start(spool));
    until(state_of(spool, &id, "a") == SPOOL_RECEIPT_IN_FLIGHT);
    let_go(&obedient);
    until(state_of(spool, &id, "a") == SPOOL_RECEIPT_DELIVERED);
    ck_assert_int_eq(state_of(spool, &expired, "a"), SPOOL_RECEIPT_OVER);
    ck_ok(spool_id_parse("01890a5d-ac96-774b-bcce-b302099a8057", &old)); /* of 2023 */
    ck_assert_int_eq(state_of(spool, &old, "a"), SPOOL_RECEIPT_GONE);
    ck_ok(spool_id_parse("7f890a5d-ac96-774b-bcce-b302099a8057", &old)); /* of times to come */
    struct answer none = {.sink = "a"};
    ck_code(spool_receipt(spool, &old, note_answer, &none), SPOOL_ENOTFOUND);
    ck_code(spool_receipt(spool, NULL, note_answer, &none), SPOOL_EINVAL);
    ck_code(spool_receipt(spool, &id, NULL, &none), SPOOL_EINVAL);
    memset(&old, 0, sizeof old);
    ck_code(spool_receipt(spool, &old, note_answer, &none), SPOOL_EID);
    ck_assert_str_eq(spool_receipt_state_name(SPOOL_RECEIPT_IN_FLIGHT), "in flight");
    ck_assert_str_eq(spool_receipt_state_name((enum spool_receipt_state)99), "unknown");
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

static uint64_t dead_letters(struct spool *spool)
{
    struct spool_stats stats = SPOOL_STATS();
    ck_ok(spool_stats(spool, &stats));
    return stats.dead_letters;
}

/* A cursor that has passed an event does not say that it was delivered. */
START_TEST(receipts_of_what_was_purged)
{
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){0});
    struct spool_id ok = put(spool, "\"ok\"", 0), no = put(spool, "\"no\"", 0), after = put(spool, "\"ok\"", 0);
    ck_ok(spool_start(spool));
    until(state_of(spool, &no, "a") == SPOOL_RECEIPT_DEAD && state_of(spool, &after, "a") == SPOOL_RECEIPT_DELIVERED);
    ck_ok(spool_dead_purge(spool, "a", &no, NULL));
    struct answer purged = ask_for(spool, &no, "a");
    ck_assert_int_eq(purged.state, SPOOL_RECEIPT_PURGED);
    ck_assert_str_eq(purged.reason, "was purged");
    ck_assert_str_eq(spool_receipt_state_name(purged.state), "purged");
    ck_assert_int_eq(state_of(spool, &ok, "a"), SPOOL_RECEIPT_DELIVERED);
    ck_ok(spool_close(spool));

    spool = open_spool(NULL);
    ck_assert_int_eq(state_of(spool, &no, "a"), SPOOL_RECEIPT_PURGED);
    for (int i = 0; i < 96; i++) /* as many as are remembered: then it is not known of the first any more */
        put(spool, "\"no\"", 0);
    add(spool, "a", (struct spool_sink_options){0});
    ck_ok(spool_start(spool));
    until(dead_letters(spool) == 96);
    ck_ok(spool_dead_purge(spool, "a", NULL, NULL));
    ck_assert_int_eq(state_of(spool, &no, "a"), SPOOL_RECEIPT_OVER);
    ck_assert_int_eq(state_of(spool, &ok, "a"), SPOOL_RECEIPT_OVER);
    ck_assert_int_eq(state_of(spool, &after, "a"), SPOOL_RECEIPT_DELIVERED);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* ----------------------------------------------------------------------------------------------- dropped by a limit */

static int note_dropped(void *user, const struct spool_sink_info *info)
{
    *(uint64_t *)user = info->dropped_events;
    return 0;
}

static uint64_t dropped(struct spool *spool)
{
    uint64_t n = 0;
    ck_ok(spool_sink_each(spool, note_dropped, &n));
    return n;
}

/* Nobody had it, and nobody is told so: in this process, and after a restart. */
static struct spool *check_not_delivered(struct spool *spool, const struct spool_id *id)
{
    for (int i = 0; i < 2; i++) {
        struct answer answer = ask_for(spool, id, "a");
        ck_assert_int_eq(answer.state, SPOOL_RECEIPT_OVER);
        ck_assert_ptr_nonnull(strstr(answer.reason, "dropped by a limit"));
        if (i == 0) {
            ck_ok(spool_close(spool));
            spool = open_spool(NULL);
        }
    }
    return spool;
}

/* By age: by the keeper while nobody serves the sink, and by who serves it. */
START_TEST(what_waited_too_long_was_not_delivered)
{
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){.max_pending_age_ms = 1});
    ck_ok(spool_sink_pause(spool, "a"));
    if (_i)
        ck_ok(spool_start(spool));
    struct spool_id id = put(spool, "\"ok\"", 0);
    for (int i = 1; i < 5; i++)
        put(spool, "\"ok\"", 0);
    until(dropped(spool) == 5);
    if (_i)
        ck_ok(spool_stop(spool, 60000));
    spool = check_not_delivered(spool, &id);
    ck_assert_uint_eq(count_of(&obedient.tried), 0);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* By size, likewise: the oldest were dropped, and those behind are delivered and told so. */
START_TEST(what_was_too_much_was_not_delivered)
{
    enum { MANY = 100, BODY = 100000 };
    static char body[BODY];
    struct spool_id ids[MANY];
    begin();
    struct spool *spool = open_spool(NULL);
    memset(body, 'x', sizeof body - 1);
    memcpy(body, "\"ok", 3);
    add(spool, "a", (struct spool_sink_options){.max_pending_bytes = 5 << 20});
    ck_ok(spool_sink_pause(spool, "a"));
    if (_i)
        ck_ok(spool_start(spool));
    for (int i = 0; i < MANY; i++)
        ids[i] = put(spool, body, 0);
    until(dropped(spool) > 0);
    if (_i)
        ck_ok(spool_stop(spool, 60000));
    spool = check_not_delivered(spool, &ids[0]);
    ck_assert_int_eq(state_of(spool, &ids[MANY - 1], "a"), SPOOL_RECEIPT_QUEUED);
    add(spool, "a", (struct spool_sink_options){.max_pending_bytes = 5 << 20});
    ck_ok(spool_sink_resume(spool, "a"));
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    until(state_of(spool, &ids[MANY - 1], "a") == SPOOL_RECEIPT_DELIVERED);
    ck_assert_int_eq(state_of(spool, &ids[0], "a"), SPOOL_RECEIPT_OVER);
    ck_assert_uint_eq(count_of(&obedient.delivered) + dropped(spool), MANY);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* With the spool full its oldest segment goes, and what was in it is gone, for all that is known. */
START_TEST(what_a_full_spool_dropped_is_gone)
{
    static char body[100000];
    const struct spool_options options = {.full_policy = {[SPOOL_MEDIUM] = SPOOL_FULL_DROP_OLDEST}};
    begin();
    struct spool *spool = open_spool(&options);
    memset(body, 'x', sizeof body - 1);
    add(spool, "a", (struct spool_sink_options){0});
    struct spool_id id = put(spool, body, 0);
    for (int i = 0; i < 1000 && dropped(spool) == 0; i++)
        put(spool, body, 0);
    until(state_of(spool, &id, "a") == SPOOL_RECEIPT_GONE);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* ---------------------------------------------------------------------------------------------------------- callback */

struct told {
    pthread_mutex_t lock;
    unsigned by_state[32]; /* of enum spool_receipt_state */
    struct spool *spool;
};

static void be_told(void *user, const struct spool_receipt *receipt)
{
    struct told *told = user;
    pthread_mutex_lock(&told->lock);
    told->by_state[receipt->state]++;
    pthread_mutex_unlock(&told->lock);
}

static unsigned told_of(struct told *told, enum spool_receipt_state state)
{
    pthread_mutex_lock(&told->lock);
    unsigned n = told->by_state[state];
    pthread_mutex_unlock(&told->lock);
    return n;
}

START_TEST(the_callback_hears_of_every_event_once)
{
    static struct told told = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct spool_options options = {.on_delivery = be_told, .delivery_user = &told};
    begin();
    struct spool *spool = open_spool(&options);
    add(spool, "a", (struct spool_sink_options){0});
    add(spool, "b", (struct spool_sink_options){.filter = "{\"include\":{\"type\":\"other\"}}"});
    for (int i = 0; i < EVENTS; i++)
        put(spool, i % 5 ? "\"ok\"" : "\"no\"", 0);
    put(spool, "\"ok\"", 1);
    usleep(5000); /* older than its time to live */
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    until(told_of(&told, SPOOL_RECEIPT_DELIVERED) == EVENTS - 2);
    until(told_of(&told, SPOOL_RECEIPT_DEAD) == 2);
    until(told_of(&told, SPOOL_RECEIPT_EXPIRED) == 1);
    until(told_of(&told, SPOOL_RECEIPT_FILTERED) + told_of(&told, SPOOL_RECEIPT_EXPIRED) >= EVENTS + 1);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* A sink that loses events unnoticed: nowhere it is said that it delivers. */
static uint32_t are_lossy(const char *config)
{
    return strstr(config, "lossy") ? SPOOL_TRAIT_BEST_EFFORT : 0;
}

static int count_best_effort(void *user, const struct spool_sink_info *info)
{
    *(unsigned *)user += info->best_effort;
    return 0;
}

START_TEST(what_a_best_effort_sink_took_was_sent)
{
    static struct told told = {.lock = PTHREAD_MUTEX_INITIALIZER};
    const struct spool_options options = {.on_delivery = be_told, .delivery_user = &told};
    const struct spool_sink_options sink_options = SPOOL_SINK_OPTIONS(.user = &obedient);
    struct spool_sink lossy = hooks;
    unsigned marked = 0;
    begin();
    lossy.traits = are_lossy;
    struct spool *spool = open_spool(&options);
    ck_ok(spool_sink_add(spool, "lossy", &lossy, "{\"lossy\":1}", &sink_options));
    ck_ok(spool_sink_add(spool, "sure", &lossy, "{}", &sink_options));
    struct spool_id ok = put(spool, "\"ok\"", 0);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 60000));
    ck_assert_int_eq(state_of(spool, &ok, "lossy"), SPOOL_RECEIPT_SENT);
    ck_assert_int_eq(state_of(spool, &ok, "sure"), SPOOL_RECEIPT_DELIVERED);
    ck_assert_str_eq(spool_receipt_state_name(SPOOL_RECEIPT_SENT), "sent (best effort)");
    until(told_of(&told, SPOOL_RECEIPT_SENT) == 1 && told_of(&told, SPOOL_RECEIPT_DELIVERED) == 1);
    ck_ok(spool_close(spool));
    spool = open_spool(NULL); /* kept, also where its hooks are not known */
    ck_assert_int_eq(state_of(spool, &ok, "lossy"), SPOOL_RECEIPT_SENT);
    ck_ok(spool_sink_each(spool, count_best_effort, &marked));
    ck_assert_uint_eq(marked, 1);
    ck_ok(spool_sink_add(spool, "lossy", &lossy, "{}",
                         &sink_options)); /* with another configuration it is another matter */
    marked = 0;
    ck_ok(spool_sink_each(spool, count_best_effort, &marked));
    ck_assert_uint_eq(marked, 0);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("public_receipts");
    TCase *t = tcase_create("public_receipts");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, receipts_of_each_state);
    tcase_add_test(t, receipts_of_what_is_expired_in_flight_gone_or_unknown);
    tcase_add_test(t, receipts_of_what_was_purged);
    tcase_add_loop_test(t, what_waited_too_long_was_not_delivered, 0, 2);
    tcase_add_loop_test(t, what_was_too_much_was_not_delivered, 0, 2);
    tcase_add_test(t, what_a_full_spool_dropped_is_gone);
    tcase_add_test(t, the_callback_hears_of_every_event_once);
    tcase_add_test(t, what_a_best_effort_sink_took_was_sent);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
