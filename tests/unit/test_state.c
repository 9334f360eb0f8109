/* test_state.c - sinks, snapshot, counters, versions, several processes, and a random sequence against a plain model.
 */
#include <sys/mman.h>

#include "state_fixture.h"

/* ---------------------------------------------------------------------------------------------------------- sinks */

START_TEST(register_and_find)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink;
    bool is_new = false;
    ck_ok(state_sink_register(f.state, "log", "file", 1, "{\"a\":1}", start_at, soon(), &sink, &is_new));
    ck_assert(is_new);
    ck_assert_uint_eq(sink.cursor[2], 3);
    ck_assert_uint_gt(sink.generation, 0);
    reopen(&f);
    struct store_sink again;
    ck_ok(state_sink_get(f.state, "log", soon(), &again));
    ck_assert_mem_eq(&again, &sink, sizeof sink);
    char *config;
    ck_ok(state_sink_config(f.state, "log", soon(), &config));
    ck_assert_str_eq(config, "{\"a\":1}");
    free(config);
    const uint64_t other[LANES] = {9, 9, 9, 9};
    ck_ok(state_sink_register(f.state, "log", "stdout", 2, "{\"b\":2}", other, soon(), &again, &is_new));
    ck_assert(!is_new);
    ck_assert_str_eq(again.kind, "stdout");
    ck_assert_uint_eq(again.order, 2);
    ck_assert_uint_eq(again.cursor[0], 1);
    ck_assert_uint_eq(again.id, sink.id);
    ck_assert_uint_eq(again.generation, sink.generation);
    end(&f);
}
END_TEST

START_TEST(bad_registrations)
{
    struct fixture f;
    begin(&f);
    struct store_sink sink;
    char longer[STATE_CONFIG_MAX + 2];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    ck_code(state_sink_register(f.state, "", "null", 0, "{}", start_at, soon(), &sink, NULL), SPOOL_EINVAL);
    ck_code(state_sink_register(f.state, longer, "null", 0, "{}", start_at, soon(), &sink, NULL), SPOOL_EINVAL);
    ck_code(state_sink_register(f.state, "a", "", 0, "{}", start_at, soon(), &sink, NULL), SPOOL_EINVAL);
    ck_code(state_sink_register(f.state, "a", "null", 0, longer, start_at, soon(), &sink, NULL), SPOOL_ETOOBIG);
    ck_code(state_sink_get(f.state, "a", soon(), &sink), SPOOL_ENOTFOUND);
    ck_code(state_sink_remove(f.state, "a", soon()), SPOOL_ENOTFOUND);
    ck_code(state_sink_pause(f.state, "a", true, soon()), SPOOL_ENOTFOUND);
    longer[STATE_CONFIG_MAX] = 0;
    ck_ok(state_sink_register(f.state, "a", "null", 0, longer, start_at, soon(), &sink, NULL));
    char *config;
    ck_ok(state_sink_config(f.state, "a", soon(), &config));
    ck_assert_str_eq(config, longer);
    free(config);
    end(&f);
}
END_TEST

static int count_sinks(void *user, const struct store_sink *sink)
{
    (void)sink;
    ++*(int *)user;
    return 0;
}

static int stop_at_once(void *user, const struct store_sink *sink)
{
    (void)sink;
    ++*(int *)user;
    return 77;
}

START_TEST(remove_pause_each)
{
    struct fixture f;
    begin(&f);
    struct store_sink a = add_sink(&f, "a"), b = add_sink(&f, "b"), got;
    ck_assert_uint_ne(a.id, b.id);
    ck_assert_uint_ne(a.generation, b.generation);
    ck_ok(state_sink_pause(f.state, "b", true, soon()));
    ck_ok(state_sink_get(f.state, "b", soon(), &got));
    ck_assert(got.paused);
    ck_ok(state_sink_remove(f.state, "a", soon()));
    ck_code(state_sink_get(f.state, "a", soon(), &got), SPOOL_ENOTFOUND);
    reopen(&f);
    a = add_sink(&f, "a");
    ck_assert_uint_gt(a.id, b.id); /* an id is never used again */
    int n = 0;
    ck_ok(state_sink_each(f.state, soon(), count_sinks, &n));
    ck_assert_int_eq(n, 2);
    ck_assert_int_eq(state_sink_each(f.state, soon(), stop_at_once, &n), 77);
    ck_assert_int_eq(n, 3);
    end(&f);
}
END_TEST

/* Kept with the sink until it is resumed; limits beside it stay. */
START_TEST(a_pause_has_a_reason)
{
    struct fixture f;
    begin(&f);
    struct store_sink got;
    char longest[REASON_MAX + 1];
    memset(longest, 'x', REASON_MAX);
    longest[REASON_MAX] = '\0';
    add_sink(&f, "a");
    add_sink(&f, "b");
    ck_code(state_sink_pause_for(f.state, "c", "why", soon()), SPOOL_ENOTFOUND);
    ck_ok(state_sink_pause_for(f.state, "a", "403 Forbidden", soon()));
    ck_ok(state_sink_limit(f.state, "a", 1 << 20, 5000, soon()));
    ck_ok(state_sink_pause_for(f.state, "b", longest, soon()));
    reopen(&f);
    ck_ok(state_sink_get(f.state, "a", soon(), &got));
    ck_assert(got.paused && !strcmp(got.paused_reason, "403 Forbidden"));
    ck_assert_uint_eq(got.max_pending_bytes, 1 << 20);
    ck_assert_uint_eq(got.max_pending_age_ms, 5000);
    ck_ok(state_sink_get(f.state, "b", soon(), &got));
    ck_assert_str_eq(got.paused_reason, longest);
    ck_ok(state_sink_pause(f.state, "a", false, soon()));
    ck_ok(state_sink_get(f.state, "a", soon(), &got));
    ck_assert(!got.paused && !got.paused_reason[0]);
    ck_assert_uint_eq(got.max_pending_bytes, 1 << 20);
    ck_ok(state_sink_limit(f.state, "a", 0, 0, soon()));
    ck_ok(state_sink_remove(f.state, "b", soon()));
    add_sink(&f, "b"); /* another one of that name */
    ck_ok(state_sink_get(f.state, "b", soon(), &got));
    ck_assert(!got.paused && !got.paused_reason[0]);
    end(&f);
}
END_TEST

START_TEST(low_cursor_and_drop)
{
    struct fixture f;
    begin(&f);
    uint64_t low[LANES], dropped = 1;
    uint32_t sinks = 9;
    ck_ok(state_low_cursor(f.state, soon(), low, &sinks));
    ck_assert_uint_eq(sinks, 0);
    ck_assert_uint_eq(low[3], 0);
    struct store_sink a = add_sink(&f, "a");
    add_sink(&f, "b");
    const struct store_range ranges[] = {{20, 5}, {40, 10}};
    const struct store_ack ack = {
        .sink_id = a.id, .generation = a.generation, .cursor = {10}, .ranges = {ranges}, .range_count = {2}};
    ck_ok(state_ack(f.state, &ack, soon()));
    ck_ok(state_low_cursor(f.state, soon(), low, &sinks));
    ck_assert_uint_eq(sinks, 2);
    ck_assert_uint_eq(low[0], 1);
    ck_assert_uint_eq(low[1], 2);
    /* a: 10 to 44 without 20..24 and 40..43: 34 - 5 - 4; then 44 to 49 is done: cursor 50. b: 1 to 44. */
    const uint64_t upto[LANES] = {44, 0, 3, 4};
    const uint64_t first[LANES] = {0};
    ck_ok(state_drop_below(f.state, first, upto, soon(), &dropped));
    ck_assert_uint_eq(dropped, 43);                                  /* as many different ones */
    ck_ok(state_drop_below(f.state, first, upto, soon(), &dropped)); /* by a peer at the same time, say */
    ck_assert_uint_eq(dropped, 0);
    struct state_stats stats;
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_eq(stats.counters[STATE_DROPPED_EVENTS], 43);
    struct store_sink got;
    ck_ok(state_sink_get(f.state, "a", soon(), &got));
    ck_assert_uint_eq(got.cursor[0], 50);
    ck_assert_uint_eq(got.range_count[0], 0);
    ck_assert_uint_eq(got.dropped, 25);
    end(&f);
}
END_TEST

/* Nobody's cursor tells that they were dropped before. */
START_TEST(drop_without_sinks)
{
    struct fixture f;
    begin(&f);
    const uint64_t from[LANES] = {10, 0, 5, 7}, upto[LANES] = {30, 0, 6, 7}, then[LANES] = {40, 0, 6, 9};
    uint64_t dropped = 1;
    for (int i = 0; i < 2; i++) {
        ck_ok(state_drop_below(f.state, from, upto, soon(), &dropped));
        ck_assert_uint_eq(dropped, i ? 0 : 21);
    }
    ck_ok(state_drop_below(f.state, upto, then, soon(), &dropped));
    ck_assert_uint_eq(dropped, 12);
    struct state_stats stats;
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_eq(stats.counters[STATE_DROPPED_EVENTS], 33);
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------- counters, clock, statistics */

START_TEST(counters_and_clock)
{
    struct fixture f;
    begin(&f);
    struct state_stats stats;
    struct spool_id id = {{1, 2, 3}}, low = {{1, 2, 2}}, got;
    ck_code(state_clock_get(f.state, soon(), &got), SPOOL_ENOTFOUND);
    ck_ok(state_clock_raise(f.state, &id, soon()));
    ck_ok(state_clock_raise(f.state, &low, soon()));
    ck_ok(state_count(f.state, STATE_DROPPED_EVENTS, 7, NULL, soon()));
    ck_ok(state_count(f.state, STATE_DROPPED_EVENTS, 7, NULL, soon()));
    ck_ok(state_count(f.state, STATE_DAMAGED_BLOCKS, 1, "segments/1.mdb: block 9", soon()));
    reopen(&f);
    ck_ok(state_count(f.state, STATE_DAMAGED_BLOCKS, 1, "segments/1.mdb: block 9", soon()));
    ck_ok(state_count(f.state, STATE_DAMAGED_BLOCKS, 1, "", soon()));
    char longer[400];
    memset(longer, 'y', sizeof longer);
    longer[399] = 0;
    ck_ok(state_count(f.state, STATE_DAMAGED_BLOCKS, 1, longer, soon()));
    longer[398] = 'z'; /* differs only behind what fits the key */
    ck_ok(state_count(f.state, STATE_DAMAGED_BLOCKS, 1, longer, soon()));
    ck_ok(state_clock_get(f.state, soon(), &got));
    ck_assert_mem_eq(&got, &id, sizeof id);
    add_sink(&f, "a");
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_eq(stats.counters[STATE_DROPPED_EVENTS], 14);
    ck_assert_uint_eq(stats.counters[STATE_DAMAGED_BLOCKS], 4);
    ck_assert_uint_eq(stats.sinks, 1);
    ck_assert_uint_gt(stats.rows, 5);
    ck_assert_uint_gt(stats.bytes, 4096);
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------- snapshot */

START_TEST(snapshot_round_trip)
{
    struct fixture f, g;
    begin(&f);
    begin(&g);
    struct buffer copy = {0};
    ck_ok(buffer_put_text(&copy, "ahead"));
    ck_ok(state_snapshot(f.state, soon(), &copy)); /* of nothing */
    ck_ok(state_restore(g.state, copy.data + 5, copy.size - 5, soon(), NULL));
    struct store_sink a = add_sink(&f, "a"), b = add_sink(&f, "bb"), got;
    ck_ok(state_sink_pause(f.state, "bb", true, soon()));
    ck_ok(state_sink_mark_removal(f.state, "bb", soon()));
    copy.size = 0;
    ck_ok(state_snapshot(f.state, soon(), &copy));
    ck_ok(state_restore(g.state, copy.data, copy.size, soon(), NULL));
    ck_ok(state_sink_get(g.state, "bb", soon(), &got));
    b.paused = b.removing = true;
    ck_assert_mem_eq(&got, &b, sizeof b);
    char *config;
    ck_ok(state_sink_config(g.state, "a", soon(), &config));
    ck_assert_str_eq(config, "{}");
    free(config);
    const struct store_ack ack = {.sink_id = a.id, .generation = a.generation, .cursor = {100}};
    ck_ok(state_ack(g.state, &ack, soon()));
    ck_ok(state_sink_remove(g.state, "bb", soon()));
    ck_ok(state_restore(g.state, copy.data, copy.size, soon(), NULL)); /* lowers no cursor, revives nobody */
    ck_ok(state_sink_get(g.state, "a", soon(), &got));
    ck_assert_uint_eq(got.cursor[0], 100);
    ck_code(state_sink_get(g.state, "bb", soon(), &got), SPOOL_ENOTFOUND);
    ck_assert_uint_gt(add_sink(&g, "c").id, b.id);
    buffer_free(&copy);
    end(&f);
    end(&g);
}
END_TEST

START_TEST(snapshot_damaged)
{
    struct fixture f, g;
    begin(&f);
    begin(&g);
    struct buffer copy = {0};
    struct store_sink got;
    add_sink(&f, "a");
    ck_ok(state_snapshot(f.state, soon(), &copy));
    for (size_t i = 0; i < copy.size; i++) {
        copy.data[i] ^= 1;
        ck_code(state_restore(g.state, copy.data, copy.size, soon(), NULL), SPOOL_EDAMAGED);
        copy.data[i] ^= 1;
        ck_code(state_restore(g.state, copy.data, i, soon(), NULL), SPOOL_EDAMAGED);
    }
    /* whole, but of another version, too long, or with sizes that lie */
    put_u32(copy.data + 8, 3);
    put_u32(copy.data + copy.size - 4, crc32c(0, copy.data, copy.size - 4));
    ck_code(state_restore(g.state, copy.data, copy.size, soon(), NULL), SPOOL_EVERSION);
    put_u32(copy.data + 8, 2);
    for (uint32_t count = 0; count < 4; count += 2) {
        put_u32(copy.data + 12, count);
        put_u32(copy.data + copy.size - 4, crc32c(0, copy.data, copy.size - 4));
        ck_code(state_restore(g.state, copy.data, copy.size, soon(), NULL), SPOOL_EDAMAGED);
    }
    put_u32(copy.data + 12, 1);
    put_u32(copy.data + 40 + 12, UINT32_MAX);
    put_u32(copy.data + copy.size - 4, crc32c(0, copy.data, copy.size - 4));
    ck_code(state_restore(g.state, copy.data, copy.size, soon(), NULL), SPOOL_EDAMAGED);
    ck_code(state_sink_get(g.state, "a", soon(), &got), SPOOL_ENOTFOUND);
    buffer_free(&copy);
    end(&f);
    end(&g);
}
END_TEST

/* ------------------------------------------------------------------------------------------------ version, read only
 */

/* Writes a version row of another version into the file. */
static void forge_version(struct fixture *f, uint32_t version)
{
    struct state_txn txn;
    struct state_key key = state_key(TABLE_META);
    uint8_t body[16] = {0};
    state_key_u8(&key, META_VERSION);
    put_u32(body, version);
    ck_ok(state_txn_write(f->state, soon(), &txn));
    ck_ok(state_table_put(&txn, &key, body, sizeof body));
    ck_ok(state_txn_commit(&txn));
}

static uint32_t crc_of_file(const struct fixture *f)
{
    char path[512];
    snprintf(path, sizeof path, "%s/state.mdb", f->path);
    int fd = open(path, O_RDONLY);
    struct stat st;
    ck_assert(fd >= 0 && fstat(fd, &st) == 0);
    void *bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    ck_assert(bytes != MAP_FAILED);
    uint32_t crc = crc32c(0, bytes, (size_t)st.st_size);
    munmap(bytes, (size_t)st.st_size);
    close(fd);
    return crc;
}

START_TEST(other_version)
{
    const uint32_t version = (uint32_t[]){STATE_VERSION + 1, 0, UINT32_MAX}[_i];
    struct fixture f;
    begin(&f);
    add_sink(&f, "a");
    forge_version(&f, version);
    close_state(&f);
    uint32_t before = crc_of_file(&f);
    ck_code(open_state(&f, 0), SPOOL_EVERSION);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "version"));
    close_state(&f);
    ck_code(open_state(&f, SPOOL_READ_ONLY), SPOOL_EVERSION);
    ck_assert_uint_eq(crc_of_file(&f), before);
    end(&f);
}
END_TEST

START_TEST(other_version_and_damaged)
{
    struct fixture f;
    begin(&f);
    forge_version(&f, STATE_VERSION + 1);
    close_state(&f);
    char path[512];
    snprintf(path, sizeof path, "%s/state.mdb", f.path);
    int fd = open(path, O_RDWR);
    const uint8_t zeros[32] = {0};
    ck_assert(pwrite(fd, zeros, sizeof zeros, 0) == 32);
    ck_assert(pwrite(fd, zeros, sizeof zeros, 4096) == 32);
    close(fd);
    ck_code(open_state(&f, 0), SPOOL_EVERSION);
    end(&f);
}
END_TEST

START_TEST(read_only)
{
    struct fixture f, w;
    begin(&f);
    close_state(&f);
    char path[512];
    snprintf(path, sizeof path, "%s/state.mdb", f.path);
    ck_assert_int_eq(unlink(path), 0);
    ck_ok(open_state(&f, SPOOL_READ_ONLY));
    struct store_sink sink;
    uint64_t low[LANES];
    uint32_t sinks = 1;
    struct spool_id id = {{1}};
    ck_code(state_sink_get(f.state, "a", soon(), &sink), SPOOL_ENOTFOUND);
    ck_ok(state_low_cursor(f.state, soon(), low, &sinks));
    ck_assert_uint_eq(sinks, 0);
    ck_code(state_sink_register(f.state, "a", "null", 0, "{}", start_at, soon(), &sink, NULL), SPOOL_EREADONLY);
    ck_code(state_clock_raise(f.state, &id, soon()), SPOOL_EREADONLY);
    struct spool_verify_report report = {.size = sizeof report};
    ck_ok(state_verify(f.state, soon(), NULL, NULL, &report));
    ck_assert(access(path, F_OK) != 0);
    /* Another process makes it: seen from now on. */
    pid_t pid = fork();
    if (pid == 0) {
        memset(&w, 0, sizeof w);
        w.path = f.path;
        ck_ok(open_state(&w, 0));
        add_sink(&w, "a");
        close_state(&w);
        _exit(0);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    ck_ok(state_sink_get(f.state, "a", soon(), &sink));
    end(&f);
}
END_TEST

/* ------------------------------------------------------------------------------------------------ several processes */

static void count_up(const char *path, int times)
{
    struct fixture f = {.path = (char *)path};
    ck_ok(open_state(&f, 0));
    for (int i = 0; i < times; i++) {
        ck_ok(state_count(f.state, STATE_DROPPED_EVENTS, 1, NULL, deadline_in_ms(60000)));
        uint64_t low[LANES];
        uint32_t sinks;
        ck_ok(state_low_cursor(f.state, deadline_in_ms(60000), low, &sinks));
    }
    close_state(&f);
}

START_TEST(two_processes)
{
    struct fixture f;
    begin(&f);
    close_state(&f);
    pid_t pids[2];
    for (int i = 0; i < 2; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            count_up(f.path, 150);
            _exit(0);
        }
    }
    for (int i = 0; i < 2; i++) {
        int status;
        ck_assert_int_eq(waitpid(pids[i], &status, 0), pids[i]);
        ck_assert_int_eq(status, 0);
    }
    ck_ok(open_state(&f, 0));
    struct state_stats stats;
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_eq(stats.counters[STATE_DROPPED_EVENTS], 300);
    end(&f);
}
END_TEST

/* A handle of which the file is replaced by a peer goes on with the new file. */
START_TEST(replaced_by_a_peer)
{
    struct fixture f, g;
    begin(&f);
    begin(&g);
    add_sink(&f, "old");
    memcpy(g.dir.uuid, f.dir.uuid, sizeof f.dir.uuid);
    g.state->seed = f.state->seed;
    forge_version(&g, STATE_VERSION); /* again, with the other's seed */
    struct state_totals totals = {.dead_letters = 0};
    struct state_txn txn;
    ck_ok(state_txn_write(g.state, soon(), &txn));
    ck_ok(state_totals_put(&txn, &totals));
    ck_ok(state_txn_commit(&txn));
    add_sink(&g, "new");
    char from[512], to[512];
    snprintf(from, sizeof from, "%s/state.mdb", g.path);
    snprintf(to, sizeof to, "%s/state.mdb", f.path);
    ck_assert_int_eq(rename(from, to), 0);
    struct store_sink sink;
    ck_ok(state_sink_get(f.state, "new", soon(), &sink));
    ck_code(state_sink_get(f.state, "old", soon(), &sink), SPOOL_ENOTFOUND);
    ck_ok(state_sink_pause(f.state, "new", true, soon()));
    end(&f);
    close_state(&g);
    test_rmdir(g.path);
    free(g.path);
}
END_TEST

static void *use_from_thread(void *arg)
{
    struct fixture *f = arg;
    intptr_t failed = 0;
    for (int i = 0; i < 40; i++) {
        uint64_t low[LANES];
        uint32_t sinks;
        struct store_sink sink;
        failed += state_count(f->state, STATE_DROPPED_EVENTS, 1, NULL, deadline_in_ms(20000)) != SPOOL_OK;
        failed += state_low_cursor(f->state, deadline_in_ms(20000), low, &sinks) != SPOOL_OK;
        failed += state_sink_get(f->state, "a", deadline_in_ms(20000), &sink) != SPOOL_OK;
    }
    return (void *)failed;
}

START_TEST(several_threads)
{
    struct fixture f;
    pthread_t threads[4];
    begin(&f);
    add_sink(&f, "a");
    for (int i = 0; i < 4; i++)
        ck_assert_int_eq(pthread_create(&threads[i], NULL, use_from_thread, &f), 0);
    for (int i = 0; i < 4; i++) {
        void *failed;
        ck_assert_int_eq(pthread_join(threads[i], &failed), 0);
        ck_assert_ptr_null(failed);
    }
    struct state_stats stats;
    ck_ok(state_stats(f.state, soon(), &stats));
    ck_assert_uint_eq(stats.counters[STATE_DROPPED_EVENTS], 160);
    end(&f);
}
END_TEST

START_TEST(deadline_is_kept)
{
    struct fixture f;
    begin(&f);
    int to_child[2], to_parent[2];
    char byte = 0;
    ck_assert(pipe(to_child) == 0 && pipe(to_parent) == 0);
    pid_t pid = fork();
    if (pid == 0) { /* holds the lock until told */
        struct fixture c = {.path = f.path};
        struct state_txn txn;
        ck_ok(open_state(&c, 0));
        ck_ok(state_txn_write(c.state, soon(), &txn));
        if (write(to_parent[1], &byte, 1) != 1 || read(to_child[0], &byte, 1) != 1)
            _exit(1);
        state_txn_abort(&txn);
        close_state(&c);
        _exit(0);
    }
    ck_assert_int_eq(read(to_parent[0], &byte, 1), 1);
    struct store_sink sink;
    ck_code(state_sink_get(f.state, "a", deadline_in_ms(50), &sink), SPOOL_ETIMEOUT);
    ck_code(state_count(f.state, STATE_DROPPED_EVENTS, 1, NULL, 0), SPOOL_ETIMEOUT);
    ck_assert_int_eq(write(to_child[1], &byte, 1), 1);
    ck_code(state_sink_get(f.state, "a", soon(), &sink), SPOOL_ENOTFOUND);
    int status;
    waitpid(pid, &status, 0);
    ck_assert_int_eq(status, 0);
    for (int i = 0; i < 2; i++)
        close(to_child[i]), close(to_parent[i]);
    end(&f);
}
END_TEST

/* Closing the parent's handle in a forked child touches nothing of the parent's. */
/* What a crash in the middle of state_sink_remove() leaves; found by the crash-image explorer. */
START_TEST(mark_of_a_removed_sink_is_no_damage)
{
    struct fixture f;
    begin(&f);
    struct state_txn txn;
    const struct sink_row mark = {.id = 7, .generation = 3, .removed = true};
    ck_ok(state_txn_write(f.state, soon(), &txn));
    ck_ok(state_txn_end(&txn, sink_row_put(&txn, &mark)));
    struct spool_verify_report report = {.size = sizeof report};
    ck_ok(state_verify(f.state, soon(), NULL, NULL, &report));
    ck_assert_uint_eq(report.findings, 0);
    reopen(&f);
    ck_ok(state_verify(f.state, soon(), NULL, NULL, &report));
    end(&f);
}
END_TEST

START_TEST(abandoned_after_fork)
{
    struct fixture f;
    begin(&f);
    add_sink(&f, "a");
    pid_t pid = fork();
    if (pid == 0) {
        state_abandon(f.state);
        lock_abandon(f.lock);
        _exit(0);
    }
    int status;
    waitpid(pid, &status, 0);
    ck_assert_int_eq(status, 0);
    ck_ok(state_sink_pause(f.state, "a", true, soon()));
    end(&f);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("state");
    TCase *t = tcase_create("state");
    tcase_set_timeout(t, 60);
    tcase_add_test(t, register_and_find);
    tcase_add_test(t, bad_registrations);
    tcase_add_test(t, remove_pause_each);
    tcase_add_test(t, a_pause_has_a_reason);
    tcase_add_test(t, low_cursor_and_drop);
    tcase_add_test(t, drop_without_sinks);
    tcase_add_test(t, counters_and_clock);
    tcase_add_test(t, snapshot_round_trip);
    tcase_add_test(t, snapshot_damaged);
    tcase_add_loop_test(t, other_version, 0, 3);
    tcase_add_test(t, other_version_and_damaged);
    tcase_add_test(t, read_only);
    tcase_add_test(t, two_processes);
    tcase_add_test(t, replaced_by_a_peer);
    tcase_add_test(t, several_threads);
    tcase_add_test(t, deadline_is_kept);
    tcase_add_test(t, abandoned_after_fork);
    tcase_add_test(t, mark_of_a_removed_sink_is_no_damage);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
