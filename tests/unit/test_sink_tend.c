/* test_sink_tend.c - complete files of the file sink: which names fit a template, when they are compressed and deleted,
 * and that those that may still be cut back are left alone. */
#include <fcntl.h>
#include <sys/stat.h>
#include <zstd.h>

#include "../../delivery/sinks/file_compress.h"
#include "../../delivery/sinks/file_names.h"
#include "../../delivery/sinks/file_tend.h"
#include "../../lib/base/sync.h"
#include "scratch_fixture.h"

START_TEST(names)
{
    static const struct {
        const char *pattern, *name;
        int form; /* enum file_form; -1: does not fit */
    } cases[] = {
        {"a.jsonl", "a.jsonl", FORM_PLAIN},
        {"a.jsonl", "a-000001.jsonl", FORM_PLAIN},
        {"a.jsonl", "a-1234567.jsonl.zst", FORM_ZST},
        {"a.jsonl", "a.jsonl.zst.tmp", FORM_TMP},
        {"a.jsonl", "a-00001.jsonl", -1},
        {"a.jsonl", "b.jsonl", -1},
        {"a.jsonl", "a.jsonl.gz", -1},
        {"a.jsonl", "a.jsonl.zst.zst", -1},
        {"a.jsonl", "a-000001-000002.jsonl", -1},
        {"a", "a-000001", FORM_PLAIN},
        {".a", ".a-000001", FORM_PLAIN},
        {"e-%Y%m%d.jsonl", "e-20261121.jsonl", FORM_PLAIN},
        {"e-%Y%m%d.jsonl", "e-20261121-000002.jsonl", FORM_PLAIN},
        {"e-%Y%m%d.jsonl", "e-2026112.jsonl", -1},
        {"e-%Y%m%d.jsonl", "e-other.jsonl", -1},
        {"e-%F-%j%%.x", "e-2026-11-21-325%.x", FORM_PLAIN},
        {"log.%Y", "log-000001.2026", FORM_PLAIN},
        {"log-%Y", "log-2026-000001", FORM_PLAIN},
        {"log-%H%M%S", "log-000001", FORM_PLAIN},
        {"%Q", "x", -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum file_form form = FORM_PLAIN;
        bool fits = file_names_fit(cases[i].pattern, cases[i].name, &form);
        ck_assert_msg((fits ? (int)form : -1) == cases[i].form, "%s, %s", cases[i].pattern, cases[i].name);
    }
    char conversion = 0;
    ck_assert(file_names_can("/a%%/%Y/%F.x", &conversion));
    ck_assert(!file_names_can("/a/%B.x", &conversion));
    ck_assert_int_eq(conversion, 'B');
}
END_TEST

static char *file(const char *name)
{
    static char path_of[4][600];
    static int next;
    next = (next + 1) % 4;
    snprintf(path_of[next], sizeof path_of[next], "%s/%s", dir, name);
    return path_of[next];
}

static void make(const char *name, size_t size, int64_t age_s)
{
    struct timespec times[2] = {{.tv_sec = (time_t)(real_ns() / 1000000000) - age_s},
                                {.tv_sec = (time_t)(real_ns() / 1000000000) - age_s}};
    char *bytes = malloc(size + 1);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)('a' + i % 23);
    int fd = open(file(name), O_WRONLY | O_CREAT | O_TRUNC, 0640);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, bytes, size), (ssize_t)size);
    ck_assert_int_eq(futimens(fd, times), 0);
    close(fd);
    free(bytes);
}

static bool is_there(const char *name)
{
    return access(file(name), F_OK) == 0;
}

static bool becomes(const char *name, bool there)
{
    for (int i = 0; i < 6000 && is_there(name) != there; i++)
        usleep(10000);
    return is_there(name) == there;
}

START_TEST(a_listing_has_what_fits_and_no_more)
{
    struct file_list list;
    char pattern[600];
    const char *folders[] = {"2026-01", "2026-02", "other", "2026-01/log.jsonl"};
    for (size_t i = 0; i < 4; i++)
        ck_assert_int_eq(mkdir(file(folders[i]), 0755), 0);
    make("2026-01/log-000001.jsonl.zst", 10, 30);
    make("2026-02/log.jsonl", 20, 10);
    make("2026-02/log-000001.jsonl", 30, 20);
    make("2026-02/log.jsonl.bak", 5, 0);
    make("other/log.jsonl", 5, 0);
    ck_assert_int_eq(symlink("log.jsonl", file("2026-02/log-000009.jsonl")), 0);
    snprintf(pattern, sizeof pattern, "%s/%%Y-%%m/log.jsonl", dir);
    ck_assert_int_eq(file_names_list(pattern, &list), 0);
    ck_assert_uint_eq(list.count, 3);
    ck_assert_str_eq(list.entries[0].path, file("2026-01/log-000001.jsonl.zst"));
    ck_assert_str_eq(list.entries[1].path, file("2026-02/log-000001.jsonl"));
    ck_assert_str_eq(list.entries[2].path, file("2026-02/log.jsonl"));
    ck_assert_uint_eq(list.entries[1].size, 30);
    file_list_free(&list);
    ck_assert_int_eq(file_names_list("/nonexistent/%Y/x", &list), 0);
    ck_assert_uint_eq(list.count, 0);
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ compression */

START_TEST(a_compressed_file_is_whole)
{
    const size_t sizes[] = {0, 1, 1000, 3 << 20};
    atomic_bool stop = false;
    for (size_t i = 0; i < 4; i++) {
        struct stat st;
        make("f", sizes[i], 100);
        make("f.zst.tmp", 7, 0); /* left by one that was killed */
        ck_assert_int_eq(chmod(file("f"), 0604), 0);
        ck_ok(file_compress(file("f"), 3, &stop));
        ck_assert(!is_there("f") && !is_there("f.zst.tmp"));
        ck_assert_int_eq(stat(file("f.zst"), &st), 0);
        ck_assert_uint_eq(st.st_mode & 0777, 0604);
        ck_assert_int_le(st.st_mtime, (time_t)(real_ns() / 1000000000) - 50);
        char *packed = malloc((size_t)st.st_size + 1), *plain = malloc(sizes[i] + 1);
        FILE *stream = fopen(file("f.zst"), "re");
        ck_assert_uint_eq(fread(packed, 1, (size_t)st.st_size + 1, stream), (size_t)st.st_size);
        fclose(stream);
        ck_assert_uint_eq(ZSTD_decompress(plain, sizes[i] + 1, packed, (size_t)st.st_size), sizes[i]);
        for (size_t k = 0; k < sizes[i]; k++)
            ck_assert_int_eq(plain[k], (char)('a' + k % 23));
        free(packed);
        free(plain);
    }
    atomic_store(&stop, true);
    make("f", 1 << 20, 0);
    ck_assert_int_eq(file_compress(file("f"), 3, &stop), ECANCELED);
    ck_assert(is_there("f") && !is_there("f.zst.tmp"));
    ck_assert_int_eq(file_compress(file("nothing"), 3, &stop), ENOENT);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- protection
 */

static struct tend *start(bool compress, uint64_t max_age_ms, uint64_t max_bytes)
{
    static char pattern[600];
    struct tend *tend = NULL;
    snprintf(pattern, sizeof pattern, "%s/f.jsonl", dir);
    const struct tend_options options = {
        .pattern = pattern, .compress = compress, .level = 3, .max_age_ms = max_age_ms, .max_bytes = max_bytes};
    ck_ok(tend_new(&options, &tend));
    return tend;
}

/* A file may be touched only when a checkpoint that was taken after its end is stored. */
START_TEST(what_may_be_cut_back_is_left_alone)
{
    make("f.jsonl", 1000, 0);
    make("f-000001.jsonl", 1000, 0);
    make("f-000002.jsonl", 1000, 0);
    struct tend *tend = start(true, 0, 0);
    ck_ok(tend_protect(tend, file("f-000001.jsonl")));
    ck_ok(tend_protect(tend, file("f-000002.jsonl")));
    ck_ok(tend_run(tend));
    ck_assert(becomes("f.jsonl.zst", true)); /* left by an earlier process */
    tend_finished(tend, file("f-000001.jsonl"));
    tend_stored(tend, 7); /* stored, but taken before its end */
    tend_checkpoint(tend, 8);
    tend_stored(tend, 7);
    make("f-000009.jsonl", 10, 0);
    usleep(50000);
    ck_assert(is_there("f-000001.jsonl") && is_there("f-000002.jsonl"));
    tend_stored(tend, 8);
    ck_assert(becomes("f-000001.jsonl", false));
    ck_assert(is_there("f-000001.jsonl.zst") && is_there("f-000002.jsonl"));
    tend_free(tend);
}
END_TEST

/* Who wants to write to a file that is being compressed waits until that is broken off, and finds it as it was. */
START_TEST(compressing_gives_way_to_writing)
{
    bool broken_off = false;
    for (int i = 0; i < 50 && !broken_off; i++) {
        make("f.jsonl", 16 << 20, 0);
        struct tend *tend = start(true, 0, 0);
        ck_ok(tend_run(tend));
        while (!is_there("f.jsonl.zst.tmp") && !is_there("f.jsonl.zst"))
            usleep(100); /* Check's timeout ends it */
        ck_ok(tend_protect(tend, file("f.jsonl")));
        broken_off = is_there("f.jsonl");
        ck_assert(is_there("f.jsonl") != is_there("f.jsonl.zst") && !is_there("f.jsonl.zst.tmp"));
        usleep(20000);
        ck_assert(is_there("f.jsonl") == broken_off);
        tend_release(tend, file("f.jsonl"));
        ck_assert(becomes("f.jsonl", false)); /* and then it is compressed after all */
        tend_free(tend);
        ck_assert_int_eq(unlink(file("f.jsonl.zst")), 0);
    }
    ck_assert(broken_off);
    tend_release(NULL, "x");
}
END_TEST

START_TEST(old_ones_are_deleted)
{
    make("f.jsonl", 10, 1000);
    make("f-000001.jsonl.zst", 10, 1000);
    make("f-000002.jsonl", 10, 1000);
    make("f-000003.jsonl", 10, 0);
    make("other.jsonl", 10, 1000);
    struct tend *tend = start(false, 500000, 0);
    ck_ok(tend_protect(tend, file("f-000002.jsonl")));
    ck_ok(tend_run(tend));
    ck_assert(becomes("f.jsonl", false) && becomes("f-000001.jsonl.zst", false));
    ck_assert(is_there("f-000002.jsonl") && is_there("f-000003.jsonl") && is_there("other.jsonl"));
    tend_free(tend);
}
END_TEST

START_TEST(the_oldest_go_when_there_is_too_much)
{
    for (int i = 0; i < 10; i++) {
        char name[32];
        snprintf(name, sizeof name, "f-%06d.jsonl", i + 1);
        make(name, 1000, 100 - i);
    }
    struct tend *tend = start(false, 0, 4500);
    ck_ok(tend_run(tend));
    ck_assert(becomes("f-000006.jsonl", false));
    ck_assert(!is_there("f-000001.jsonl") && is_there("f-000007.jsonl") && is_there("f-000010.jsonl"));
    tend_free(tend);
    tend_free(NULL);
    ck_assert_ptr_null(start(false, 0, 0)); /* nothing to do, no thread */
}
END_TEST

START_TEST(what_cannot_be_done_is_told)
{
    char problem[300] = "";
    make("f.jsonl", 1000, 0);
    ck_assert_int_eq(mkdir(file("f.jsonl.zst"), 0755), 0); /* in the way of the final name */
    struct tend *tend = start(true, 0, 0);
    ck_ok(tend_run(tend));
    for (int i = 0; i < 6000 && !tend_take_problem(tend, problem, sizeof problem); i++)
        usleep(10000);
    tend_free(tend);
    ck_assert_ptr_nonnull(strstr(problem, "cannot be compressed"));
    ck_assert(is_there("f.jsonl") && !is_there("f.jsonl.zst.tmp"));
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *suite = suite_create("sink_tend");
    TCase *tcase = tcase_create("sink_tend");
    tcase_set_timeout(tcase, 180);
    tcase_add_checked_fixture(tcase, scratch_begin, scratch_end);
    tcase_add_test(tcase, names);
    tcase_add_test(tcase, a_listing_has_what_fits_and_no_more);
    tcase_add_test(tcase, a_compressed_file_is_whole);
    tcase_add_test(tcase, what_may_be_cut_back_is_left_alone);
    tcase_add_test(tcase, compressing_gives_way_to_writing);
    tcase_add_test(tcase, old_ones_are_deleted);
    tcase_add_test(tcase, the_oldest_go_when_there_is_too_much);
    tcase_add_test(tcase, what_cannot_be_done_is_told);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
