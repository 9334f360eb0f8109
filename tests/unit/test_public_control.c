/* test_public_control.c - receipts, the delivery callback, rewinding, options that change, and a configuration that is read
 * again: through the public interface, with a sink of the test's. */
#include <pthread.h>
#include <sys/wait.h>

#include "../../lib/base/sync.h"
#include "../../lib/spool.h"
#include "scratch_fixture.h"

enum { EVENTS = 10, HOUR_MS = 3600000 };

/* A sink that does with each event what its body says: ok, no (rejected), later (tried again), hour (tried again in one). */
struct obedient {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool hold; /* deliver waits */
    unsigned delivered, tried;
};

static struct obedient obedient;

static bool says(const struct spool_delivery *delivery, const char *word)
{
    return delivery->event->body_size > strlen(word) && !memcmp(delivery->event->body, word, strlen(word));
}

static int obey(void *state, struct spool_delivery *batch, size_t n)
{
    struct obedient *o = state;
    pthread_mutex_lock(&o->lock);
    while (o->hold)
        pthread_cond_wait(&o->changed, &o->lock);
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        o->tried++;
        if (says(delivery, "\"no"))
            spool_delivery_fail(delivery, SPOOL_REJECTED, "told to");
        else if (says(delivery, "\"later") || says(delivery, "\"hour"))
            spool_delivery_fail(delivery, SPOOL_RETRY, "not now");
        else
            delivery->outcome = SPOOL_DELIVERED;
        if (says(delivery, "\"hour"))
            delivery->retry_after_ms = HOUR_MS;
        o->delivered += delivery->outcome == SPOOL_DELIVERED;
    }
    pthread_cond_broadcast(&o->changed);
    pthread_mutex_unlock(&o->lock);
    return 0;
}

static void let_go(void *state)
{
    struct obedient *o = state;
    pthread_mutex_lock(&o->lock);
    o->hold = false;
    pthread_cond_broadcast(&o->changed);
    pthread_mutex_unlock(&o->lock);
}

static const struct spool_sink hooks = {
    .abi = SPOOL_SINK_ABI, .size = sizeof hooks, .kind = "obedient", .deliver = obey, .cancel = let_go};

static unsigned count_of(const unsigned *counter)
{
    pthread_mutex_lock(&obedient.lock);
    unsigned n = *counter;
    pthread_mutex_unlock(&obedient.lock);
    return n;
}

#define until(condition)                                                                                               \
    do {                                                                                                               \
        uint64_t end_ = deadline_in_ms(20000);                                                                         \
        while (!(condition) && mono_ns() < end_)                                                                       \
            usleep(2000);                                                                                              \
        ck_assert_msg(condition, "%s did not come true", #condition);                                                  \
    } while (0)

static void begin(void)
{
    scratch_begin();
    memset(&obedient, 0, sizeof obedient);
    pthread_mutex_init(&obedient.lock, NULL);
    pthread_cond_init(&obedient.changed, NULL);
}

static struct spool *open_spool(const struct spool_options *more)
{
    struct spool_options options = more ? *more : SPOOL_OPTIONS(.max_bytes = 0);
    struct spool *spool;
    options.size = sizeof options;
    options.max_bytes = 32 << 20;
    options.retention_ms = 3600000;
    ck_ok(spool_open(path, &options, &spool));
    return spool;
}

static void add(struct spool *spool, const char *name, struct spool_sink_options options)
{
    options.size = sizeof options;
    options.user = &obedient;
    ck_ok(spool_sink_add(spool, name, &hooks, NULL, &options));
}

static struct spool_id put(struct spool *spool, const char *body, uint64_t ttl_ms)
{
    struct spool_id id;
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = body, .body_size = strlen(body), .ttl_ms = ttl_ms);
    ck_ok(spool_enqueue(spool, &event, &id));
    return id;
}

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
    ck_ok(spool_stop(spool, 5000));
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
    ck_ok(spool_drain(spool, 20000));
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
    ck_ok(spool_drain(spool, 20000));
    ck_assert_int_eq(state_of(spool, &ok, "lossy"), SPOOL_RECEIPT_SENT);
    ck_assert_int_eq(state_of(spool, &ok, "sure"), SPOOL_RECEIPT_DELIVERED);
    ck_assert_str_eq(spool_receipt_state_name(SPOOL_RECEIPT_SENT), "sent (best effort)");
    until(told_of(&told, SPOOL_RECEIPT_SENT) == 1 && told_of(&told, SPOOL_RECEIPT_DELIVERED) == 1);
    ck_ok(spool_close(spool));
    spool = open_spool(NULL); /* kept, also where its hooks are not known */
    ck_assert_int_eq(state_of(spool, &ok, "lossy"), SPOOL_RECEIPT_SENT);
    ck_ok(spool_sink_each(spool, count_best_effort, &marked));
    ck_assert_uint_eq(marked, 1);
    ck_ok(spool_sink_add(spool, "lossy", &lossy, "{}", &sink_options)); /* with another configuration it is another matter */
    marked = 0;
    ck_ok(spool_sink_each(spool, count_best_effort, &marked));
    ck_assert_uint_eq(marked, 0);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* ----------------------------------------------------------------------------------------------- rewind and options */

START_TEST(a_rewound_sink_gets_events_again)
{
    struct spool_id ids[EVENTS];
    uint64_t again = 0;
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){0});
    for (int i = 0; i < EVENTS; i++)
        ids[i] = put(spool, "\"ok\"", 0);
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 20000));
    ck_assert_uint_eq(count_of(&obedient.delivered), EVENTS);
    ck_ok(spool_sink_rewind(spool, "a", 0, &ids[7], &again));
    ck_assert_uint_eq(again, 3);
    until(count_of(&obedient.delivered) == EVENTS + 3);
    ck_ok(spool_drain(spool, 20000));
    ck_ok(spool_sink_rewind(spool, "a", 1, NULL, &again)); /* 1970: all there is */
    ck_assert_uint_eq(again, EVENTS);
    until(count_of(&obedient.delivered) == 2 * EVENTS + 3);
    ck_ok(spool_drain(spool, 20000));
    ck_ok(spool_sink_rewind(spool, "a", spool_id_time_ns(&ids[9]) + 1000000000, NULL, &again)); /* nothing is skipped */
    ck_assert_uint_eq(again, 0);
    ck_code(spool_sink_rewind(spool, "b", 1, NULL, &again), SPOOL_ENOTFOUND);
    ck_code(spool_sink_rewind(spool, "a", 0, NULL, &again), SPOOL_EINVAL);
    ck_code(spool_sink_rewind(spool, "a", 1, &ids[0], &again), SPOOL_EINVAL);
    ids[0].bytes[0] ^= 1;
    ck_code(spool_sink_rewind(spool, "a", 0, &ids[0], &again), SPOOL_ENOTFOUND);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* To a moment between two events, and to that of one: exactly what is not earlier comes again. */
START_TEST(rewound_to_a_time)
{
    struct spool_id ids[EVENTS];
    uint64_t again = 0;
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){0});
    for (int i = 0; i < EVENTS; i++) {
        ids[i] = put(spool, "\"ok\"", 0);
        usleep(2000); /* so that each has a time of its own */
    }
    ck_ok(spool_start(spool));
    ck_ok(spool_drain(spool, 20000));
    for (unsigned i = 1, all = EVENTS; i < EVENTS; i++) {
        uint64_t at_ns = spool_id_time_ns(&ids[i]), before_ns = spool_id_time_ns(&ids[i - 1]);
        ck_ok(spool_sink_rewind(spool, "a", i % 2 ? at_ns : before_ns + (at_ns - before_ns) / 2, NULL, &again));
        ck_assert_uint_eq(again, EVENTS - i);
        ck_ok(spool_drain(spool, 20000));
        all += EVENTS - i;
        ck_assert_uint_eq(count_of(&obedient.delivered), all);
    }
    ck_ok(spool_sink_rewind(spool, "a", spool_id_time_ns(&ids[EVENTS - 1]) + NS_PER_MS, NULL, &again));
    ck_assert_uint_eq(again, 0); /* a millisecond behind the last one */
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* It was not finished with: it comes once, and no rewind counts it. */
START_TEST(a_rewind_does_not_count_what_waits_for_a_retry)
{
    uint64_t again = 0;
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){.retry_base_ms = 600000, .retry_cap_ms = 600000});
    put(spool, "\"ok\"", 0);
    put(spool, "\"later\"", 0);
    put(spool, "\"ok\"", 0);
    ck_ok(spool_start(spool));
    until(count_of(&obedient.delivered) == 2);
    until(count_of(&obedient.tried) >= 3);
    ck_ok(spool_stop(spool, 20000)); /* now the row is stored */
    ck_ok(spool_sink_rewind(spool, "a", 1, NULL, &again));
    ck_assert_uint_eq(again, 2);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

static int count_letters(void *user, const struct spool_dead_letter *letter)
{
    (void)letter;
    ++*(unsigned *)user;
    return 0;
}

static unsigned letters(struct spool *spool)
{
    unsigned n = 0;
    ck_ok(spool_dead_each(spool, NULL, count_letters, &n));
    return n;
}

START_TEST(options_change_while_it_is_served)
{
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){.retry_base_ms = 1, .retry_cap_ms = 5});
    put(spool, "\"later\"", 0);
    ck_ok(spool_start(spool));
    until(count_of(&obedient.tried) > 3); /* no limit so far */
    ck_assert_uint_eq(letters(spool), 0);
    ck_ok(spool_sink_set_options(spool, "a", &SPOOL_SINK_OPTIONS(.max_attempts = 2)));
    until(letters(spool) == 1);
    for (int i = 0; i < 5; i++)
        put(spool, "\"no\"", 0);
    until(letters(spool) == 6);
    ck_ok(spool_sink_set_options(spool, "a", &SPOOL_SINK_OPTIONS(.dead_events_max = 2))); /* the others stand */
    until(letters(spool) == 2);
    ck_code(spool_sink_set_options(spool, "a", &SPOOL_SINK_OPTIONS(.workers = 2)), SPOOL_EOPTION);
    ck_code(spool_sink_set_options(spool, "a", &SPOOL_SINK_OPTIONS(.retry_base_ms = 10)),
            SPOOL_EINVAL); /* above the cap */
    ck_code(spool_sink_set_options(spool, "nobody", &SPOOL_SINK_OPTIONS(.max_attempts = 2)), SPOOL_ENOTFOUND);
    ck_code(spool_sink_set_options(spool, "a", NULL), SPOOL_EINVAL);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* -------------------------------------------------------------------------------------------------- a dead letter as text */

START_TEST(a_dead_letter_there_and_back)
{
    struct spool_dead_letter *letter;
    char *text, *again;
    uint64_t n;
    begin();
    struct spool *spool = open_spool(NULL);
    add(spool, "a", (struct spool_sink_options){0});
    struct spool_id no = put(spool, "\"no\"", 0);
    ck_ok(spool_start(spool));
    until(letters(spool) == 1);
    ck_ok(spool_dead_get(spool, NULL, &no, &letter));
    ck_assert_str_eq(letter->reason, "told to");
    ck_assert_uint_eq(letter->history_count, 1);
    ck_ok(spool_dead_to_json(letter, &text, NULL));
    spool_dead_letter_free(letter);
    ck_code(spool_dead_import(spool, text, strlen(text)), SPOOL_EEXISTS);
    ck_ok(spool_dead_purge(spool, NULL, &no, &n));
    ck_code(spool_dead_get(spool, "a", &no, &letter), SPOOL_ENOTFOUND);
    ck_ok(spool_dead_import(spool, text, strlen(text)));
    ck_ok(spool_dead_get(spool, "a", &no, &letter));
    ck_assert_uint_eq(letter->history_count, 2);
    ck_assert_int_eq(letter->history[1].kind, SPOOL_ATTEMPT_IMPORTED);
    letter->history_count = 1;
    ck_ok(spool_dead_to_json(letter, &again, NULL));
    ck_assert_str_eq(text, again);
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "\"ok\"", .body_size = 4);
    ck_ok(spool_dead_edit(spool, "a", &no, &event, &n));
    ck_ok(spool_dead_requeue(spool, "a", &no, &n));
    until(count_of(&obedient.delivered) == 1); /* as it was edited */
    until(letters(spool) == 0);
    struct spool_id other = put(spool, "\"ok\"", 0);
    event.id = &other;
    ck_code(spool_dead_edit(spool, "a", &no, &event, &n), SPOOL_EID);
    event.type = NULL;
    event.id = NULL;
    ck_code(spool_dead_edit(spool, "a", &no, &event, &n), SPOOL_ETYPE);
    spool_dead_letter_free(letter);
    spool_dead_letter_free(NULL);
    spool_free(text);
    spool_free(again);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- reading again */

static void write_config(const char *file, const char *sinks)
{
    FILE *out = fopen(file, "w");
    fprintf(out, "{\"spool\": {\"dir\": \"%s\", \"max_bytes\": \"32MiB\"}, \"sinks\": [%s]}", path, sinks);
    fclose(out);
}

static void write_clock(const char *file, const char *servers)
{
    FILE *out = fopen(file, "w");
    fprintf(out, "{\"spool\": {\"dir\": \"%s\", \"max_bytes\": \"32MiB\"}, \"clock\": {\"servers\": [%s]}}", path,
            servers);
    fclose(out);
}

static void note_change(void *user, const char *sink, enum spool_reload_change change)
{
    char *text = user;
    sprintf(text + strlen(text), "%s=%d ", sink, (int)change);
}

START_TEST(a_configuration_is_read_again)
{
    char file[600], told[400] = "";
    struct spool *spool;
    begin();
    snprintf(file, sizeof file, "%s/spool.json", dir);
    write_config(file, "{\"name\":\"a\",\"kind\":\"null\"},{\"name\":\"b\",\"kind\":\"null\"}");
    ck_ok(spool_open_config(file, &spool));
    ck_ok(spool_start(spool));
    ck_ok(spool_reload_config(spool, file, note_change, told));
    ck_assert_str_eq(told, "");
    write_config(
        file, "{\"name\":\"a\",\"kind\":\"null\",\"retry\":{\"max_attempts\":3}},{\"name\":\"c\",\"kind\":\"null\"}");
    ck_ok(spool_reload_config(spool, file, note_change, told));
    ck_assert_str_eq(told, "a=2 c=1 b=4 ");
    told[0] = 0;
    write_config(file, "{\"name\":\"a\",\"kind\":\"null\",\"order\":\"agent\"},{\"name\":\"c\",\"kind\":\"null\"}");
    ck_ok(spool_reload_config(spool, file, note_change, told));
    ck_assert_str_eq(told, "a=3 ");
    put(spool, "1", 0);
    ck_code(spool_drain(spool, 1000), SPOOL_ETIMEOUT); /* b is still there and holds it */
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "sink b"));
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

static int note_source(void *user, const struct spool_clock_source_info *info)
{
    char *text = user;
    if (strncmp(info->name, "127.", 4) == 0)
        sprintf(text + strlen(text), "%s ", info->name);
    return 0;
}

static const char *servers_of(struct spool *spool)
{
    static char text[200];
    text[0] = 0;
    ck_ok(spool_clock_source_each(spool, note_source, text));
    return text;
}

START_TEST(servers_of_time_are_those_of_the_file)
{
    char file[600];
    struct spool *spool;
    begin();
    snprintf(file, sizeof file, "%s/spool.json", dir);
    write_clock(file, "\"127.0.0.1:9\", {\"server\": \"127.0.0.2:9\"}");
    ck_ok(spool_open_config(file, &spool));
    ck_ok(spool_clock_source_add_sntp(spool, "127.0.0.3:9", NULL)); /* the program's own */
    ck_assert_str_eq(servers_of(spool), "127.0.0.1:9 127.0.0.2:9 127.0.0.3:9 ");
    write_clock(file, "\"127.0.0.4:9\", \"127.0.0.2:9\", \"bad name\"");
    ck_code(spool_reload_config(spool, file, NULL, NULL), SPOOL_EINVAL);
    write_clock(file, "\"127.0.0.2:9\"");
    ck_ok(spool_reload_config(spool, file, NULL, NULL));
    ck_assert_str_eq(servers_of(spool), "127.0.0.2:9 127.0.0.3:9 ");
    write_config(file, "");
    ck_ok(spool_reload_config(spool, file, NULL, NULL));
    ck_assert_str_eq(servers_of(spool), "127.0.0.3:9 ");
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

START_TEST(a_wrong_configuration_is_refused_as_a_whole)
{
    static const struct {
        const char *sinks, *says;
        int code;
    } cases[] = {
        {"{\"name\":\"new\",\"kind\":\"null\"},{\"name\":\"b\",\"kind\":\"null\",\"x\":1}", "sinks[1]", SPOOL_ECONFIG},
        {"{\"name\":\"new\",\"kind\":\"null\"},{\"name\":\"b\"}", "sinks[1].kind", SPOOL_ECONFIG},
        {"{\"name\":\"new\",\"kind\":\"null\"},{\"name\":\"new\",\"kind\":\"null\"}", "already", SPOOL_ECONFIG},
        {"{\"name\":\"new\",\"kind\":\"null\"},{\"name\":\"b\",\"kind\":\"nonsense\"}", "nonsense", SPOOL_ENOTFOUND},
        {"{\"name\":\"new\",\"kind\":\"null\"},{\"name\":\"b\",\"kind\":\"null\",\"workers\":1000}", "workers",
         SPOOL_EINVAL},
        {"{\"name\":\"new\",\"kind\":\"null\"}], \"sinks\": [", "", SPOOL_EJSON},
    };
    char file[600], told[400] = "", text[900];
    struct spool *spool;
    unsigned sinks = 0;
    begin();
    snprintf(file, sizeof file, "%s/spool.json", dir);
    write_config(file, "{\"name\":\"a\",\"kind\":\"null\"}");
    ck_ok(spool_open_config(file, &spool));
    ck_ok(spool_start(spool));
    write_config(file, cases[_i].sinks);
    int code = spool_reload_config(spool, file, note_change, told);
    ck_assert_msg(code == cases[_i].code, "%d %s", code, spool_last_error());
    ck_assert_msg(strstr(spool_last_error(), cases[_i].says) != NULL, "%s", spool_last_error());
    ck_assert_str_eq(told, "");
    struct spool_stats stats = SPOOL_STATS();
    ck_ok(spool_stats(spool, &stats));
    sinks = stats.sinks;
    ck_assert_uint_eq(sinks, 1);
    put(spool, "1", 0);
    ck_ok(spool_drain(spool, 20000)); /* the old one is in force */
    snprintf(text, sizeof text, "{\"spool\": {\"dir\": \"%s\", \"max_bytes\": \"64MiB\"}, \"sinks\": []}", path);
    FILE *out = fopen(file, "w");
    fputs(text, out);
    fclose(out);
    ck_code(spool_reload_config(spool, file, NULL, NULL), SPOOL_ECONFIG);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "max_bytes"));
    snprintf(text, sizeof text,
             "{\"spool\": {\"dir\": \"%s\", \"max_bytes\": \"32MiB\", \"compress\": \"zstd\"}, \"sinks\": []}", path);
    out = fopen(file, "w");
    fputs(text, out);
    fclose(out);
    ck_code(spool_reload_config(spool, file, NULL, NULL), SPOOL_ECONFIG);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "compress"));
    ck_code(spool_reload_config(spool, "/nonexistent/file", NULL, NULL), ENOENT);
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

/* ----------------------------------------------------------------------------------------------------------- notices */

static void count_notice(void *user, const struct spool_notice *notice)
{
    unsigned *counts = user; /* of one thread: nobody delivers */
    if (notice->kind == SPOOL_NOTICE_RECOVERED)
        *counts += (unsigned)notice->count;
}

/* What a process left in its journal is told of when it is taken in. */
START_TEST(a_recovered_journal_is_told_of)
{
    unsigned recovered = 0;
    begin();
    pid_t child = fork();
    if (child == 0) {
        struct spool_options process = SPOOL_OPTIONS(.flush_interval_ms = SPOOL_FLUSH_NEVER);
        struct spool *spool = open_spool(&process);
        struct spool_event events[EVENTS];
        for (int i = 0; i < EVENTS; i++)
            events[i] = SPOOL_EVENT(.type = "t", .durability = SPOOL_DURABLE_PROCESS);
        _exit(spool_enqueue_many(spool, events, EVENTS, NULL) == SPOOL_OK ? 0 : 1);
    }
    int ended;
    ck_assert(waitpid(child, &ended, 0) == child && ended == 0);
    const struct spool_options options = {.on_notice = count_notice, .notice_user = &recovered};
    struct spool *spool = open_spool(&options);
    struct spool_stats stats = SPOOL_STATS();
    ck_ok(spool_stats(spool, &stats));
    ck_assert_uint_eq(stats.stored_events, EVENTS);
    ck_assert_uint_eq(recovered, stats.recovered_events); /* 0 if the committer was faster than the exit */
    ck_ok(spool_close(spool));
    scratch_end();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("public_control");
    TCase *t = tcase_create("public_control");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, receipts_of_each_state);
    tcase_add_test(t, receipts_of_what_is_expired_in_flight_gone_or_unknown);
    tcase_add_test(t, receipts_of_what_was_purged);
    tcase_add_test(t, the_callback_hears_of_every_event_once);
    tcase_add_test(t, what_a_best_effort_sink_took_was_sent);
    tcase_add_test(t, a_rewound_sink_gets_events_again);
    tcase_add_test(t, rewound_to_a_time);
    tcase_add_test(t, a_rewind_does_not_count_what_waits_for_a_retry);
    tcase_add_test(t, options_change_while_it_is_served);
    tcase_add_test(t, a_dead_letter_there_and_back);
    tcase_add_test(t, a_configuration_is_read_again);
    tcase_add_test(t, servers_of_time_are_those_of_the_file);
    tcase_add_forking_test(t, a_recovered_journal_is_told_of);
    tcase_add_loop_test(t, a_wrong_configuration_is_refused_as_a_whole, 0, 6);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
