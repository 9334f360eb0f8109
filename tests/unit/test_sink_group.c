/* test_sink_group.c - failover and quorum, with members that fail in every pattern: to each member one of the ways below, in
 * all combinations, and the outcome of each event counted against what the group promises. Members are a plug of the test:
 * the kind "null" is replaced by one that does as it is told. */
#include "group_fixture.h"

/* ---------------------------------------------------------------------------------------------------------- failover */

static bool is_held(const char *at, unsigned event)
{
    for (int i = 0; i < MEMBERS; i++)
        if (members[i].got[event] > 0)
            return true;
    ck_abort_msg("%s: event %u counts as delivered, but no member has it", at, event);
    return false;
}

START_TEST(failover_in_every_pattern)
{
    for (size_t combination = 0; combination < COMBINATIONS; combination++) {
        char at[64];
        describe(combination, at);
        tell_members(combination);
        void *state = open_group(&failover_sink, "");
        if (!state) {
            ck_assert(members[0].way == NO_OPEN && members[1].way == NO_OPEN && members[2].way == NO_OPEN);
            continue;
        }
        for (int round = 0; round < 12; round++)
            give(&failover_sink, state, 0, EVENTS);
        int first = 0; /* the first one that works: it decides */
        while (first < MEMBERS && !works(members[first].way))
            first++;
        for (unsigned i = 0; i < EVENTS; i++) {
            bool bad = i % 7 == 3;
            if (outcome_of[i] == SPOOL_DELIVERED)
                is_held(at, i);
            if (first < MEMBERS && !bad)
                ck_assert_msg(outcome_of[i] == SPOOL_DELIVERED, "%s: event %u has outcome %d", at, i, outcome_of[i]);
            if (first < MEMBERS && bad &&
                outcome_of[i] != SPOOL_DELIVERED) /* one that failed half way may have had it */
                ck_assert_msg(refuses(members[first].way)          ? outcome_of[i] == SPOOL_REJECTED
                              : members[first].way == RETRIES_SOME ? outcome_of[i] == SPOOL_RETRY
                                                                   : false,
                              "%s: bad event %u has outcome %d", at, i, outcome_of[i]);
            unsigned copies = members[0].got[i] + members[1].got[i] + members[2].got[i];
            ck_assert_msg(copies <= 1, "%s: event %u was accepted %u times", at, i, copies);
        }
        failover_sink.close(state);
        check_closed();
    }
}
END_TEST

/* The second takes over, and the first is returned to with a few at first. */
START_TEST(failover_returns_when_it_recovers)
{
    tell_members(0);
    members[0].way = DOWN;
    void *state = open_group(&failover_sink, "");
    ck_assert_ptr_nonnull(state);
    give(&failover_sink, state, 0, 20);
    for (unsigned i = 0; i < 20; i++)
        ck_assert_uint_eq(members[1].got[i], 1);
    members[0].way = WELL;
    members[0].biggest = 0;
    give(&failover_sink, state, 20, EVENTS);
    for (unsigned i = 20; i < EVENTS; i++)
        ck_assert_uint_eq(members[0].got[i], 1);
    ck_assert_uint_le(members[0].biggest, 32); /* 16, then as many as have been accepted more */
    ck_assert_uint_eq(members[2].delivers, 0);
    failover_sink.close(state);
}
END_TEST

/* An event that the first one answered for and that is to be tried again is not overtaken by way of the second. */
START_TEST(failover_overtakes_no_retry)
{
    tell_members(0);
    members[0].way = RETRIES_AND_FALLS;
    void *state = open_group(&failover_sink, "");
    ck_assert_ptr_nonnull(state);
    give(&failover_sink, state, 0, 10);
    for (unsigned i = 0; i < 10; i++)
        ck_assert_int_eq(outcome_of[i], i < 3 ? (int)SPOOL_DELIVERED : i == 3 ? (int)SPOOL_RETRY : NONE);
    ck_assert_uint_eq(members[1].delivers, 0);
    members[0].way = DOWN; /* now nobody has answered: the second one gets them all, in order */
    give(&failover_sink, state, 0, 10);
    for (unsigned i = 3; i < 10; i++)
        ck_assert_uint_eq(members[1].got[i], 1);
    failover_sink.close(state);
}
END_TEST

/* While it recovers it gets sixteen, and asks for another try of one of them: those behind go back as if nobody had seen them. */
START_TEST(failover_leaves_those_behind_untried)
{
    tell_members(0);
    members[0].way = DOWN;
    void *state = open_group(&failover_sink, "");
    give(&failover_sink, state, EVENTS - 1, EVENTS);
    members[0].way = RETRIES_SOME;
    members[0].biggest = members[1].delivers = 0;
    give(&failover_sink, state, 0, 30);
    ck_assert_uint_eq(members[0].biggest, 16);
    for (unsigned i = 0; i < 30; i++)
        ck_assert_int_eq((int)given[i].outcome, i >= 16      ? (int)DELIVERY_UNTRIED
                                                : i % 7 == 3 ? (int)SPOOL_RETRY
                                                             : (int)SPOOL_DELIVERED);
    ck_assert_uint_eq(members[1].delivers, 0);
    failover_sink.close(state);
}
END_TEST

START_TEST(what_only_an_operator_mends)
{
    for (int all = 0; all < 2; all++) {
        tell_members(0);
        members[0].way = members[1].way = FORBIDDEN;
        members[2].way = all ? FORBIDDEN : DOWN;
        void *state = open_group(&failover_sink, "");
        given[0] = (struct spool_delivery){.size = sizeof *given, .event = &events[0], .attempt = 1};
        int code = failover_sink.deliver(state, given, 1);
        ck_assert_int_eq(code, all ? SPOOL_ECONFIG : SPOOL_EUNAVAILABLE);
        ck_assert_ptr_nonnull(strstr(delivery_sink_message(), "plug-0: 403"));
        failover_sink.close(state);
    }
}
END_TEST

/* One that failed is left alone until its wait is over, however many batches there are, and then it gets its turn. */
START_TEST(a_member_that_failed_is_left_alone)
{
    const struct spool_sink *sink = _i ? &quorum_sink : &failover_sink;
    tell_members(0);
    members[0].way = DOWN;
    void *state = open_patient_group(sink, "20h");
    for (size_t i = 0; i < EVENTS; i += 5)
        give(sink, state, i, i + 5);
    for (size_t i = 0; i < EVENTS; i++)
        ck_assert_int_eq(outcome_of[i], SPOOL_DELIVERED);
    ck_assert_uint_eq(members[0].delivers,
                      1); /* of a wait between 0 and 20 h less than the test takes is drawn once in a million */
    sink->close(state);

    tell_members(0);
    members[0].way = DOWN;
    state = open_patient_group(sink, "20ms");
    give(sink, state, 0, 1);
    members[0].way = WELL;
    for (uint64_t end = mono_ns() + 20 * 1000 * NS_PER_MS; mono_ns() < end && members[0].got[1] == 0;) {
        outcome_of[1] = NONE;
        members[1].got[1] = members[2].got[1] = 0;
        give(sink, state, 1, 2);
    }
    ck_assert_uint_eq(members[0].got[1], 1);
    sink->close(state);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------------ quorum */

/* Of the members the first `counting` count. */
static void check_quorum(const char *at, unsigned accept, int counting)
{
    for (unsigned i = 0; i < EVENTS; i++) {
        unsigned have = 0, can = 0, refused = 0;
        bool bad = i % 7 == 3;
        for (int m = counting; m < MEMBERS; m++)
            ck_assert_msg(members[m].got[i] <= 1, "%s: member %d got event %u %u times", at, m, i, members[m].got[i]);
        for (int m = 0; m < counting; m++) {
            have += members[m].got[i] > 0;
            can += works(members[m].way) && !(bad && (refuses(members[m].way) || members[m].way == RETRIES_SOME));
            refused += bad && refuses(members[m].way);
            ck_assert_msg(members[m].got[i] <= 1, "%s: member %d got event %u %u times", at, m, i, members[m].got[i]);
        }
        bool delivered = outcome_of[i] == SPOOL_DELIVERED;
        ck_assert_msg(!delivered || have >= accept, "%s: event %u is delivered, %u members have it", at, i, have);
        ck_assert_msg(delivered || can < accept, "%s: event %u has outcome %d, although %u members take it", at, i,
                      outcome_of[i], can);
        ck_assert_msg(outcome_of[i] != SPOOL_REJECTED || (unsigned)counting - refused < accept,
                      "%s: event %u is refused, although %u members do not", at, i, (unsigned)counting - refused);
    }
}

START_TEST(quorum_in_every_pattern)
{
    for (size_t combination = 0; combination < COMBINATIONS; combination++) {
        for (unsigned accept = 1; accept <= MEMBERS; accept++) {
            char at[80], ways[64], more[32];
            describe(combination, ways);
            snprintf(at, sizeof at, "%s, accept %u", ways, accept);
            snprintf(more, sizeof more, ",\"accept\":%u", accept);
            tell_members(combination);
            void *state = open_group(&quorum_sink, more);
            if (!state)
                continue; /* none can be opened */
            for (int round = 0; round < 12; round++)
                give(&quorum_sink, state, 0, EVENTS);
            check_quorum(at, accept, MEMBERS);
            quorum_sink.close(state);
            check_closed();
        }
    }
}
END_TEST

/* Whatever the third one does, the two others decide; and it gets what it takes all the same. */
START_TEST(quorum_does_not_count_best_effort)
{
    for (size_t combination = 0; combination < COMBINATIONS; combination++) {
        for (unsigned accept = 1; accept <= 2; accept++) {
            char at[128], ways[64], config[256];
            void *state;
            describe(combination, ways);
            snprintf(at, sizeof at, "%s, accept %u, the third one is best effort", ways, accept);
            snprintf(config, sizeof config,
                     "{\"members\":[{\"kind\":\"plug\",\"m\":0},{\"kind\":\"plug\",\"m\":1},{\"kind\":\"plug\",\"m\":2,"
                     "\"lossy\":1}],\"retry_base\":0,\"retry_cap\":0,\"accept\":%u}",
                     accept);
            tell_members(combination);
            if (quorum_sink.open(&state, NULL, config, NULL, 0) != SPOOL_OK)
                continue;
            for (int round = 0; round < 12; round++)
                give(&quorum_sink, state, 0, EVENTS);
            check_quorum(at, accept, 2);
            for (unsigned i = 0; i < EVENTS && members[2].way == WELL; i++)
                ck_assert_msg(members[2].got[i] == 1, "%s: the third one has event %u %u times", at, i,
                              members[2].got[i]);
            quorum_sink.close(state);
            check_closed();
        }
    }
}
END_TEST

/* One is down, and comes back: those without a quorum get it, and nobody gets an event twice. */
START_TEST(quorum_is_completed_later)
{
    tell_members(0);
    members[1].way = members[2].way = DOWN;
    void *state = open_group(&quorum_sink, "");
    give(&quorum_sink, state, 0, EVENTS);
    for (unsigned i = 0; i < EVENTS; i++)
        ck_assert_int_eq(outcome_of[i], NONE);
    members[2].way = WELL;
    give(&quorum_sink, state, 0, EVENTS);
    for (unsigned i = 0; i < EVENTS; i++) {
        ck_assert_int_eq(outcome_of[i], SPOOL_DELIVERED);
        ck_assert_uint_eq(members[0].got[i], 1);
        ck_assert_uint_eq(members[2].got[i], 1);
    }
    quorum_sink.close(state);
}
END_TEST

START_TEST(cancel_reaches_all_members)
{
    tell_members(0);
    members[1].way = NO_OPEN;
    void *state = open_group(&quorum_sink, "");
    quorum_sink.cancel(state);
    quorum_sink.cancel(state);
    ck_assert_uint_eq(members[0].cancels, 2);
    ck_assert_uint_eq(members[1].cancels, 0);
    ck_assert_uint_eq(members[2].cancels, 2);
    quorum_sink.close(state);
}
END_TEST

/* ----------------------------------------------------------------------------------------------------- configuration */

static const struct {
    const char *config, *message;
} refused[] = {
    {"{}", "\"members\" must be an array"},
    {"{\"members\":[]}", "\"members\" must be an array"},
    {"{\"members\":{}}", "\"members\" must be an array"},
    {"{\"members\":[7]}", "members[0]: an object"},
    {"{\"members\":[{\"m\":1}]}", "members[0]: \"kind\""},
    {"{\"members\":[{\"kind\":7}]}", "members[0]: \"kind\""},
    {"{\"members\":[{\"kind\":\"plug\"},{\"kind\":\"plough\"}]}", "members[1]: there is no kind \"plough\""},
    {"{\"members\":[{\"kind\":\"plug\",\"key\":\"wrong\"}]}", "members[0]: a key that is wrong"},
    {"{\"members\":[{\"kind\":\"plug\",\"name\":\"\"}]}", "members[0]: \"name\""},
    {"{\"members\":[{\"kind\":\"plug\"}],\"more\":1}", "more"},
    {"{\"members\":[{\"kind\":\"plug\"}],\"accept\":2}", "accept"},
    {"{\"members\":[{\"kind\":\"plug\"}],\"retry_base\":\"2s\",\"retry_cap\":\"1s\"}", "retry_cap"},
    {"{\"members\":[{\"kind\":\"plug\"}],\"retry_cap\":\"900d\"}", "retry_cap"},
    {"{\"members\":[{\"kind\":\"plug\",\"lossy\":1}]}", "all members are best effort"},
    {"{\"members\":[{\"kind\":\"plug\"},{\"kind\":\"plug\",\"lossy\":1}],\"accept\":2}", "do not count"},
    {"{\"members\":[{\"kind\":\"plug\"}],\"best_effort\":true}", "best_effort"},
};

/* A failover is best effort if its last member is, and it must say so; nowhere else may one be. */
START_TEST(failover_and_best_effort)
{
    static const struct {
        const char *members, *more, *message; /* NULL: it is taken */
        uint32_t traits;
    } cases[] = {
        {"{\"kind\":\"plug\"},{\"kind\":\"plug\",\"lossy\":1}", "", "members[1]: is best effort", 0},
        {"{\"kind\":\"plug\"},{\"kind\":\"plug\",\"lossy\":1}", ",\"best_effort\":false", "members[1]: is best effort",
         0},
        {"{\"kind\":\"plug\"},{\"kind\":\"plug\",\"lossy\":1}", ",\"best_effort\":true", NULL, SPOOL_TRAIT_BEST_EFFORT},
        {"{\"kind\":\"plug\",\"lossy\":1},{\"kind\":\"plug\"}", ",\"best_effort\":true", "members[0]: is best effort",
         0},
        {"{\"kind\":\"plug\"},{\"kind\":\"plug\"}", ",\"best_effort\":true", NULL, 0},
        {"{\"kind\":\"plug\"}", ",\"best_effort\":1", "must be true or false", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char config[256];
        snprintf(config, sizeof config, "{\"members\":[%s]%s}", cases[i].members, cases[i].more);
        ck_assert_int_eq(failover_check(config), cases[i].message ? SPOOL_ECONFIG : SPOOL_OK);
        if (cases[i].message)
            ck_assert_msg(strstr(delivery_sink_message(), cases[i].message) != NULL, "%s", delivery_sink_message());
        ck_assert_uint_eq(failover_sink.traits(config), cases[i].traits);
    }
    ck_assert_int_eq(quorum_check("{\"members\":[{\"kind\":\"plug\"},{\"kind\":\"plug\",\"lossy\":1}],\"accept\":1}"),
                     SPOOL_OK);
}
END_TEST

START_TEST(bad_configurations_are_named)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ck_assert_msg(quorum_check(refused[i].config) == SPOOL_ECONFIG, "%s", refused[i].config);
        ck_assert_msg(strstr(delivery_sink_message(), refused[i].message) != NULL, "%s: %s", refused[i].config,
                      delivery_sink_message());
    }
    ck_assert_int_eq(failover_check("{\"members\":[{\"kind\":\"plug\"}],\"accept\":1}"), SPOOL_ECONFIG);
    /* What the system refuses may work later: it does not stand, as a wrong configuration does. */
    ck_assert_int_eq(failover_check("{\"members\":[{\"kind\":\"plug\",\"no\":\"memory\"}]}"), ENOMEM);
    ck_assert_int_eq(failover_check("{\"members\":[{\"kind\":\"plug\",\"name\":\"primary\"}]}"), SPOOL_OK);
    ck_assert_int_eq(quorum_check("{\"members\":[{\"kind\":\"plug\"},{\"kind\":\"plug\"}]}"), SPOOL_OK);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("sink_group");
    TCase *tc = tcase_create("group");
    tcase_set_timeout(tc, 120);
    tcase_add_checked_fixture(tc, make_events, NULL);
    tcase_add_test(tc, failover_in_every_pattern);
    tcase_add_test(tc, failover_returns_when_it_recovers);
    tcase_add_test(tc, failover_overtakes_no_retry);
    tcase_add_test(tc, failover_leaves_those_behind_untried);
    tcase_add_test(tc, what_only_an_operator_mends);
    tcase_add_loop_test(tc, a_member_that_failed_is_left_alone, 0, 2);
    tcase_add_test(tc, quorum_in_every_pattern);
    tcase_add_test(tc, quorum_does_not_count_best_effort);
    tcase_add_test(tc, failover_and_best_effort);
    tcase_add_test(tc, quorum_is_completed_later);
    tcase_add_test(tc, cancel_reaches_all_members);
    tcase_add_test(tc, bad_configurations_are_named);
    suite_add_tcase(s, tc);
    return s;
}

CHECK_MAIN(suite)
