/* test_public_bad_input.c - what a caller can get wrong, through the public API only: each mistake has its own error, a
 * message that says what was wrong, and leaves nothing behind. */
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#include "../check_main.h"

enum { NOBODY = 65534, NFS_MAGIC = 0x6969 };

static char *base; /* scratch directory */
static char *dir;  /* the spool in it */

static void setup(void)
{
    base = test_dir();
    ck_assert_int_gt(asprintf(&dir, "%s/spool", base), 0);
}

static void teardown(void)
{
    test_rmdir(base);
    free(dir);
    free(base);
}

/* The file system's type as the library sees it, so that a network file system can be played. */
static long played_type;

static int play_type(int result, struct statfs *st)
{
    if (result == 0 && played_type)
        st->f_type = played_type;
    return result;
}

int fstatfs(int fd, struct statfs *st)
{
    return play_type((int)syscall(SYS_fstatfs, fd, st), st);
}
int statfs(const char *path, struct statfs *st)
{
    return play_type((int)syscall(SYS_statfs, path, st), st);
}

/* -------------------------------------------------------------------------------------------------------- helpers */

static struct spool *open_spool(void)
{
    struct spool *spool = NULL;
    ck_ok(spool_open(dir, NULL, &spool));
    return spool;
}

/* The call fails with `want`, writes no output, and its message holds `says`. */
static void expect_refused(int code, int want, const char *says)
{
    ck_code(code, want);
    ck_assert_msg(strstr(spool_last_error(), says), "\"%s\" does not say \"%s\"", spool_last_error(), says);
}

static void expect_open_refused(const char *path, const struct spool_options *options, int want, const char *says)
{
    struct spool *spool = (struct spool *)&base;
    expect_refused(spool_open(path, options, &spool), want, says);
    ck_assert_ptr_eq(spool, (struct spool *)&base);
}

static void expect_event_refused(struct spool *spool, const struct spool_event *event, int want, const char *says)
{
    struct spool_id id = {{0}};
    expect_refused(spool_enqueue(spool, event, &id), want, says);
    ck_assert_mem_eq(id.bytes, ((struct spool_id){{0}}).bytes, sizeof id.bytes);
}

/* Nothing at all is stored in the spool, then closes it. */
static void expect_empty(struct spool *spool)
{
    struct spool_stats stats = SPOOL_STATS();
    struct spool_reader *reader = NULL;
    const struct spool_event *event;
    ck_ok(spool_stats(spool, &stats));
    ck_assert_uint_eq(stats.enqueued_events, 0);
    ck_ok(spool_flush(spool, 60000));
    ck_ok(spool_reader_open(spool, NULL, &reader));
    ck_code(spool_reader_next(reader, 100, &event), SPOOL_ENOTFOUND);
    spool_reader_close(reader);
    ck_ok(spool_close(spool));
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    ck_assert_int_eq(fclose(file), 0);
}

static char *inside(const char *parent, const char *name)
{
    char *path = NULL;
    ck_assert_int_gt(asprintf(&path, "%s/%s", parent, name), 0);
    return path;
}

/* --------------------------------------------------------------------------------------------------------- events */

START_TEST(no_type)
{
    struct spool *spool = open_spool();
    struct spool_event none = SPOOL_EVENT(.type = NULL), empty = SPOOL_EVENT(.type = "");
    expect_event_refused(spool, &none, SPOOL_ETYPE, "type");
    expect_event_refused(spool, &empty, SPOOL_ETYPE, "type");
    expect_event_refused(spool, NULL, SPOOL_EINVAL, "");
    expect_empty(spool);
}
END_TEST

START_TEST(oversize)
{
    struct spool *spool = open_spool();
    struct spool_stats stats = SPOOL_STATS();
    ck_ok(spool_stats(spool, &stats));
    char *body = calloc(1, stats.event_bytes_max + 1);
    ck_assert_ptr_nonnull(body);
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = body, .body_size = stats.event_bytes_max + 1);
    expect_event_refused(spool, &event, SPOOL_ETOOBIG, "");
    event.body_size = SIZE_MAX; /* must not wrap around */
    expect_event_refused(spool, &event, SPOOL_ETOOBIG, "");
    event.body_size = 1, event.body = NULL;
    expect_event_refused(spool, &event, SPOOL_EINVAL, "body");
    free(body);
    expect_empty(spool);
}
END_TEST

START_TEST(long_envelope)
{
    struct spool *spool = open_spool();
    char text[SPOOL_TYPE_MAX + 2];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = 0;
    struct spool_event type = SPOOL_EVENT(.type = text), agent = SPOOL_EVENT(.type = "t", .agent = text);
    struct spool_event session = SPOOL_EVENT(.type = "t", .session = text);
    struct spool_event content = SPOOL_EVENT(.type = "t", .content_type = text);
    const char *tags[] = {text, NULL};
    struct spool_event tagged = SPOOL_EVENT(.type = "t", .tags = tags);
    struct spool_event *events[] = {&type, &agent, &session, &content, &tagged};
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) {
        int code = spool_enqueue(spool, events[i], NULL);
        ck_assert_msg(code == SPOOL_ETOOBIG || code == SPOOL_ETYPE || code == SPOOL_EINVAL, "event %zu: %s", i,
                      spool_error_name(code));
        ck_assert_str_ne(spool_last_error(), "");
    }
    expect_empty(spool);
}
END_TEST

START_TEST(too_many_tags)
{
    struct spool *spool = open_spool();
    const char *tags[SPOOL_TAGS_MAX + 2] = {NULL};
    for (size_t i = 0; i <= SPOOL_TAGS_MAX; i++)
        tags[i] = "tag";
    struct spool_event event = SPOOL_EVENT(.type = "t", .tags = tags);
    int code = spool_enqueue(spool, &event, NULL);
    ck_assert_msg(code == SPOOL_EINVAL || code == SPOOL_ETOOBIG, "%s", spool_error_name(code));
    expect_empty(spool);
}
END_TEST

START_TEST(invalid_utf8)
{
    static const char *const bad[] = {"\xff",     "a\x80z", "\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80",
                                      "\xe2\x82", "a\nb",   "a\x01z",   "\x7f"};
    struct spool *spool = open_spool();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *tags[] = {"fine", bad[i], NULL};
        struct spool_event events[] = {SPOOL_EVENT(.type = bad[i]), SPOOL_EVENT(.type = "t", .agent = bad[i]),
                                       SPOOL_EVENT(.type = "t", .session = bad[i]),
                                       SPOOL_EVENT(.type = "t", .content_type = bad[i]),
                                       SPOOL_EVENT(.type = "t", .tags = tags)};
        for (size_t j = 0; j < sizeof events / sizeof *events; j++) {
            int code = spool_enqueue(spool, &events[j], NULL);
            ck_assert_msg(code == SPOOL_EUTF8, "text %zu in event %zu: %s", i, j, spool_error_name(code));
        }
    }
    expect_empty(spool);
}
END_TEST

START_TEST(bad_members)
{
    struct spool *spool = open_spool();
    struct spool_id none = {{0}};
    struct spool_event id = SPOOL_EVENT(.type = "t", .id = &none), parent = SPOOL_EVENT(.type = "t", .parent = &none);
    struct spool_event trace = SPOOL_EVENT(.type = "t", .traceparent = "00-short");
    struct spool_event priority = SPOOL_EVENT(.type = "t", .priority = (enum spool_priority)9);
    struct spool_event durability = SPOOL_EVENT(.type = "t", .durability = (enum spool_durability)9);
    struct spool_event sizeless = {.type = "t"};
    expect_event_refused(spool, &id, SPOOL_EID, "");
    expect_event_refused(spool, &parent, SPOOL_EID, "parent");
    expect_event_refused(spool, &trace, SPOOL_EINVAL, "traceparent");
    expect_event_refused(spool, &priority, SPOOL_EINVAL, "priority");
    expect_event_refused(spool, &durability, SPOOL_EINVAL, "durability");
    int code = spool_enqueue(spool, &sizeless, NULL);
    ck_assert_msg(code == SPOOL_EINVAL || code == SPOOL_EOPTION, "size 0: %s", spool_error_name(code));
    expect_empty(spool);
}
END_TEST

START_TEST(newer_struct)
{
    struct spool *spool = open_spool();
    struct {
        struct spool_event event;
        uint64_t added;
    } newer = {.event = SPOOL_EVENT(.type = "t"), .added = 1};
    newer.event.size = sizeof newer;
    expect_event_refused(spool, &newer.event, SPOOL_EOPTION, "");
    expect_empty(spool);
}
END_TEST

START_TEST(many_is_all_or_none)
{
    struct spool *spool = open_spool();
    struct spool_event events[] = {SPOOL_EVENT(.type = "good"), SPOOL_EVENT(.type = "good"), SPOOL_EVENT(.type = "")};
    expect_refused(spool_enqueue_many(spool, events, 3, NULL), SPOOL_ETYPE, "2");
    expect_empty(spool);
}
END_TEST

START_TEST(ids_that_are_none)
{
    static const char *const bad[] = {"",
                                      "x",
                                      "01890a5d-ac96-774b-bcce-b302099a805",
                                      "01890a5d-ac96-774b-bcce-b302099a80577",
                                      "01890a5dxac96-774b-bcce-b302099a8057",
                                      "01890a5d-ac96-474b-bcce-b302099a8057",
                                      "01890a5d-ac96-774b-3cce-b302099a8057",
                                      "g1890a5d-ac96-774b-bcce-b302099a8057"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct spool_id id = {{7}};
        int code = spool_id_parse(bad[i], &id);
        ck_assert_msg(code == SPOOL_EID, "\"%s\": %s", bad[i], spool_error_name(code));
        ck_assert_uint_eq(id.bytes[0], 7);
    }
}
END_TEST

START_TEST(json_with_line_and_column)
{
    struct spool_event *event = (struct spool_event *)&base;
    static const char broken[] = "{\"type\":\"t\",\n \"agent\": oops}", unknown[] = "{\"type\":\"t\",\"colour\":1}";
    expect_refused(spool_event_from_json(broken, sizeof broken - 1, &event), SPOOL_EJSON, "line 2");
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "column"));
    ck_assert_int_ne(spool_event_from_json(unknown, sizeof unknown - 1, &event), SPOOL_OK);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "colour"));
    ck_assert_int_ne(spool_event_from_json("", 0, &event), SPOOL_OK);
    ck_assert_ptr_eq(event, (struct spool_event *)&base);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- options */

START_TEST(unknown_option)
{
    struct {
        struct spool_options options;
        uint64_t added;
    } newer = {.options = SPOOL_OPTIONS(0), .added = 1};
    struct spool_options flags = SPOOL_OPTIONS(.flags = 1u << 30), policy = SPOOL_OPTIONS(0), small = SPOOL_OPTIONS(0);
    newer.options.size = sizeof newer;
    policy.full_policy[1] = (enum spool_full_policy)7;
    small.max_bytes = 4096;
    expect_open_refused(dir, &newer.options, SPOOL_EOPTION, "");
    expect_open_refused(dir, &flags, SPOOL_EOPTION, "flags");
    struct spool *spool;
    ck_assert_int_ne(spool_open(dir, &policy, &spool), SPOOL_OK);
    expect_open_refused(dir, &small, SPOOL_EOPTION, "max_bytes");
    ck_assert_msg(access(dir, F_OK) != 0, "a refused option made the directory");
}
END_TEST

START_TEST(unknown_configuration_key)
{
    char *file = inside(base, "spool.json"), *text = NULL;
    struct spool *spool = (struct spool *)&base;
    ck_assert_int_gt(asprintf(&text, "{\n  \"spool\": {\"dir\": \"%s\", \"durabilty\": \"power\"}\n}\n", dir), 0);
    write_file(file, text);
    expect_refused(spool_open_config(file, &spool), SPOOL_ECONFIG, "durabilty");
    write_file(file, "{\n  \"spool\": {\n    \"dir\" \"x\"}}\n");
    expect_refused(spool_open_config(file, &spool), SPOOL_EJSON, "line 3");
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "column"));
    ck_assert_ptr_eq(spool, (struct spool *)&base);
    ck_assert_msg(access(dir, F_OK) != 0, "a refused configuration made the directory");
    free(text);
    free(file);
}
END_TEST

START_TEST(unknown_sink_key)
{
    struct spool *spool = open_spool();
    struct spool_stats stats = SPOOL_STATS();
    expect_refused(spool_sink_load(spool, "f", "file", "{\"path\":\"/tmp/x\",\"colour\":1}", NULL), SPOOL_ECONFIG,
                   "colour");
    int code = spool_sink_load(spool, "f", "file", "{\"path\" oops}", NULL);
    ck_assert_msg(code == SPOOL_EJSON || code == SPOOL_ECONFIG, "%s", spool_error_name(code));
    expect_refused(spool_sink_load(spool, "f", "no-such-kind", NULL, NULL), SPOOL_ENOTFOUND, "no-such-kind");
    expect_refused(spool_sink_load(spool, "../f", "null", NULL, NULL), SPOOL_EINVAL, "");
    ck_ok(spool_stats(spool, &stats));
    ck_assert_uint_eq(stats.sinks, 0);
    ck_ok(spool_close(spool));
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ directory */

START_TEST(not_a_spool)
{
    char *file = inside(base, "letter.txt");
    write_file(file, "hello");
    expect_open_refused(base, NULL, SPOOL_ENOTSPOOL, base);
    struct spool_options existing = SPOOL_OPTIONS(.flags = SPOOL_NO_CREATE);
    expect_open_refused(dir, &existing, SPOOL_ENOTSPOOL, "");
    ck_assert_msg(access(dir, F_OK) != 0, "SPOOL_NO_CREATE made the directory");
    ck_assert_int_ne(spool_open(file, NULL, &(struct spool *){NULL}), SPOOL_OK);
    expect_open_refused(NULL, NULL, SPOOL_EINVAL, "");
    expect_open_refused("", NULL, SPOOL_EINVAL, "");
    free(file);
}
END_TEST

START_TEST(parent_is_absent)
{
    char *path = inside(base, "a/b");
    expect_open_refused(path, NULL, ENOENT, path);
    free(path);
}
END_TEST

/* Puts another version behind "libspool" in spool.json. */
static void change_version(void)
{
    char *path = inside(dir, "spool.json"), text[4096] = "";
    FILE *file = fopen(path, "re");
    ck_assert_ptr_nonnull(file);
    ck_assert_uint_gt(fread(text, 1, sizeof text - 1, file), 0);
    fclose(file);
    char *version = strstr(text, "\"libspool\"");
    ck_assert_msg(version, "no version in %s", text);
    version += strcspn(version, "0123456789");
    *version = '9';
    write_file(path, text);
    free(path);
}

START_TEST(newer_version)
{
    ck_ok(spool_close(open_spool()));
    change_version();
    expect_open_refused(dir, NULL, SPOOL_EVERSION, "9");
}
END_TEST

START_TEST(no_permission)
{
    if (geteuid() == 0) {
        ck_assert_int_eq(chmod(base, 0700), 0);
        ck_assert_int_eq(seteuid(NOBODY), 0);
    } else {
        ck_assert_int_eq(chmod(base, 0), 0);
    }
    expect_open_refused(dir, NULL, EACCES, dir);
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0), 0);
    chmod(base, 0700);
}
END_TEST

START_TEST(others_may_write)
{
    ck_ok(spool_close(open_spool()));
    ck_assert_int_eq(chmod(dir, 0777), 0);
    expect_open_refused(dir, NULL, SPOOL_EACCESS, dir);
    ck_assert_int_eq(chmod(dir, 0700), 0);
    ck_ok(spool_close(open_spool()));
}
END_TEST

START_TEST(links_for_files)
{
    static const char *const names[] = {"spool.json", "state.mdb", "wake",    "log.lock",
                                        "state.lock", "journal",   "segments"};
    char *away = inside(base, "elsewhere");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ck_ok(spool_close(open_spool()));
        char *path = inside(dir, names[i]);
        ck_assert_msg(rename(path, away) == 0, "%s: %s", path, strerror(errno));
        ck_assert_int_eq(symlink(away, path), 0);
        expect_open_refused(dir, NULL, SPOOL_EACCESS, names[i]);
        ck_assert_int_eq(unlink(path), 0);
        ck_assert_int_eq(rename(away, path), 0);
        free(path);
    }
    free(away);
}
END_TEST

START_TEST(directory_is_a_link)
{
    char *link = inside(base, "link");
    ck_ok(spool_close(open_spool()));
    ck_assert_int_eq(symlink("/etc/passwd", link), 0);
    ck_assert_int_ne(spool_open(link, NULL, &(struct spool *){NULL}), SPOOL_OK);
    free(link);
}
END_TEST

START_TEST(read_only_file_system)
{
    if (geteuid() != 0 || unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", base, "tmpfs", 0, "size=64m") != 0) {
        puts("skipped: read-only file system: mounting is not permitted here");
        return;
    }
    ck_ok(spool_close(open_spool()));
    ck_assert_int_eq(mount(NULL, base, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    expect_open_refused(dir, NULL, EROFS, dir);
    char *absent = inside(base, "absent");
    expect_open_refused(absent, NULL, EROFS, absent);
    free(absent);
    struct spool_options inspect = SPOOL_OPTIONS(.flags = SPOOL_READ_ONLY);
    struct spool *spool = NULL;
    ck_ok(spool_open(dir, &inspect, &spool));
    expect_event_refused(spool, &SPOOL_EVENT(.type = "t"), SPOOL_EREADONLY, "");
    ck_ok(spool_close(spool));
    umount2(base, MNT_DETACH);
}
END_TEST

START_TEST(network_file_system)
{
    struct spool_options allowed = SPOOL_OPTIONS(.flags = SPOOL_ALLOW_NETWORK_FS);
    struct spool *spool = NULL;
    played_type = NFS_MAGIC;
    expect_open_refused(dir, NULL, SPOOL_EREMOTE, "NFS");
    ck_ok(spool_open(dir, &allowed, &spool));
    ck_ok(spool_close(spool));
    played_type = 0;
}
END_TEST

START_TEST(null_arguments)
{
    struct spool *spool = open_spool();
    struct spool_event event = SPOOL_EVENT(.type = "t");
    ck_code(spool_open(dir, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_enqueue(NULL, &event, NULL), SPOOL_EINVAL);
    ck_code(spool_enqueue_many(spool, NULL, 1, NULL), SPOOL_EINVAL);
    ck_code(spool_stats(spool, NULL), SPOOL_EINVAL);
    ck_code(spool_sink_add(spool, NULL, NULL, NULL, NULL), SPOOL_EINVAL);
    ck_code(spool_find(spool, NULL, NULL), SPOOL_EINVAL);
    ck_ok(spool_close(NULL));
    spool_event_free(NULL);
    spool_reader_close(NULL);
    spool_free(NULL);
    expect_empty(spool);
}
END_TEST

static Suite *suite(void)
{
    const TTest *const tests[] = {no_type,
                                  oversize,
                                  long_envelope,
                                  too_many_tags,
                                  invalid_utf8,
                                  bad_members,
                                  newer_struct,
                                  many_is_all_or_none,
                                  ids_that_are_none,
                                  json_with_line_and_column,
                                  unknown_option,
                                  unknown_configuration_key,
                                  unknown_sink_key,
                                  not_a_spool,
                                  parent_is_absent,
                                  newer_version,
                                  no_permission,
                                  others_may_write,
                                  links_for_files,
                                  directory_is_a_link,
                                  read_only_file_system,
                                  network_file_system,
                                  null_arguments};
    Suite *s = suite_create("public_bad_input");
    TCase *t = tcase_create("bad input");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_set_timeout(t, 30);
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        tcase_add_test(t, tests[i]);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
