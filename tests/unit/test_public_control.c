/* test_public_control.c - rewinding, options that change, dead letters as text, and a configuration that is read again: through
 * the public interface, with a sink of the test's. */
#include <sys/wait.h>

#include "../../lib/handle.h"
#include "obedient_fixture.h"

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
    ck_ok(spool_drain(spool, 60000));
    ck_assert_uint_eq(count_of(&obedient.delivered), EVENTS);
    ck_ok(spool_sink_rewind(spool, "a", 0, &ids[7], &again));
    ck_assert_uint_eq(again, 3);
    until(count_of(&obedient.delivered) == EVENTS + 3);
    ck_ok(spool_drain(spool, 60000));
    ck_ok(spool_sink_rewind(spool, "a", 1, NULL, &again)); /* 1970: all there is */
    ck_assert_uint_eq(again, EVENTS);
    until(count_of(&obedient.delivered) == 2 * EVENTS + 3);
    ck_ok(spool_drain(spool, 60000));
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
    ck_ok(spool_drain(spool, 60000));
    for (unsigned i = 1, all = EVENTS; i < EVENTS; i++) {
        uint64_t at_ns = spool_id_time_ns(&ids[i]), before_ns = spool_id_time_ns(&ids[i - 1]);
        ck_ok(spool_sink_rewind(spool, "a", i % 2 ? at_ns : before_ns + (at_ns - before_ns) / 2, NULL, &again));
        ck_assert_uint_eq(again, EVENTS - i);
        ck_ok(spool_drain(spool, 60000));
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
    ck_ok(spool_stop(spool, 60000)); /* now the row is stored */
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

/* Where a process that does not serve the sink finds it. */
static uint64_t stored_limit(struct spool *spool, const char *name)
{
    struct store_sink *sink = malloc(sizeof *sink);
    ck_ok(store_sink_get(spool->store, name, sink));
    uint64_t bytes = sink->max_pending_bytes;
    free(sink);
    return bytes;
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
    ck_assert_uint_eq(stored_limit(spool, "a"), 0);
    told[0] = 0;
    write_config(
        file, "{\"name\":\"a\",\"kind\":\"null\",\"max_pending_bytes\":\"1MiB\"},{\"name\":\"c\",\"kind\":\"null\"}");
    ck_ok(spool_reload_config(spool, file, note_change, told));
    ck_assert_str_eq(told, "a=2 ");
    ck_assert_uint_eq(stored_limit(spool, "a"), 1 << 20);
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
    ck_ok(spool_drain(spool, 60000)); /* the old one is in force */
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
