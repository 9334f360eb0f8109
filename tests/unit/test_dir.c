/* test_dir.c - the directory: made once whoever comes, completed after a crash, refused when it is not ours or not
 * safe. */
#include <fcntl.h>
#include <grp.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>

#include "../../spool/dir.h"
#include "../check_main.h"

enum { SEGMENT = 4 << 20, NOBODY = 65534 };

static char *base, path[256];

static void set_up(void)
{
    base = test_dir();
    snprintf(path, sizeof path, "%s/spool", base);
    dir_fstatfs = NULL;
}

static void tear_down(void)
{
    test_rmdir(base);
    free(base);
}

static const char *in(const char *name)
{
    static char text[512];
    snprintf(text, sizeof text, "%s/%s", path, name);
    return text;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(in(name), "w");
    ck_assert_ptr_nonnull(file);
    ck_assert_int_ge(fputs(text, file), 0);
    fclose(file);
}

static void make(void)
{
    struct dir dir;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    dir_close(&dir);
}

/* The call fails with `code`, says `word`, and writes nothing to *ret. */
static void refuse(uint32_t file_mode, uint32_t flags, int code, const char *word)
{
    struct dir dir, untouched;
    memset(&dir, 0x5a, sizeof dir);
    memset(&untouched, 0x5a, sizeof dir);
    ck_code(dir_open(path, SEGMENT, file_mode, flags, &dir), code);
    ck_assert_msg(strstr(spool_last_error(), word) != NULL, "'%s' is not in '%s'", word, spool_last_error());
    ck_assert_mem_eq(&dir, &untouched, sizeof dir);
}

static mode_t mode_of(const char *name)
{
    struct stat st;
    ck_assert_int_eq(lstat(*name ? in(name) : path, &st), 0);
    return st.st_mode & 07777;
}

/* ---------------------------------------------------------------------------------------------------- making it */

START_TEST(made_and_opened_again)
{
    struct dir dir, again;
    mode_t old = umask(0);
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    umask(old);
    ck_assert(dir.created);
    ck_assert(!dir.read_only);
    ck_assert_uint_eq(dir.segment_bytes, SEGMENT);
    ck_assert_int_eq(mode_of(""), 0700);
    ck_assert_int_eq(mode_of("journal"), 0700);
    ck_assert_int_eq(mode_of("spool.json"), 0600);
    ck_ok(dir_open(path, 2 * SEGMENT, 0600, SPOOL_NO_CREATE, &again));
    ck_assert(!again.created);
    ck_assert_uint_eq(again.segment_bytes, SEGMENT); /* fixed when it was made */
    ck_assert_mem_eq(again.uuid, dir.uuid, 16);
    dir_close(&again);
    ck_ok(dir_open(path, SEGMENT, 0600, SPOOL_READ_ONLY, &again));
    ck_assert(again.read_only);
    dir_close(&again);
    dir_close(&dir);
}
END_TEST

START_TEST(shared_with_a_group)
{
    struct dir dir;
    mode_t old = umask(077);
    ck_ok(dir_open(path, SEGMENT, 0660, 0, &dir));
    umask(old);
    ck_assert_int_eq(mode_of(""), 0770);
    ck_assert_int_eq(mode_of("segments"), 0770);
    ck_assert_int_eq(mode_of("spool.json"), 0660);
    dir_close(&dir);
    refuse(0600, 0, SPOOL_EACCESS, "chmod go-w");
}
END_TEST

START_TEST(not_made)
{
    refuse(0600, SPOOL_NO_CREATE, SPOOL_ENOTSPOOL, "no directory");
    refuse(0600, SPOOL_READ_ONLY, SPOOL_ENOTSPOOL, "no directory");
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert_int_eq(mkdir(path, 0700), 0);
    refuse(0600, SPOOL_NO_CREATE, SPOOL_ENOTSPOOL, "empty");
    strcat(path, "/a/b");
    refuse(0600, 0, ENOENT, "does not exist");
    struct dir dir;
    ck_code(dir_open("", SEGMENT, 0600, 0, &dir), SPOOL_EINVAL);
    ck_code(dir_open(NULL, SEGMENT, 0600, 0, &dir), SPOOL_EINVAL);
}
END_TEST

START_TEST(not_a_directory)
{
    FILE *file = fopen(path, "w");
    fclose(file);
    refuse(0600, 0, SPOOL_ENOTSPOOL, "not a directory");
}
END_TEST

START_TEST(foreign_files)
{
    ck_assert_int_eq(mkdir(path, 0700), 0);
    write_file("thesis.tex", "\\begin{document}");
    refuse(0600, 0, SPOOL_ENOTSPOOL, "thesis.tex");
    ck_assert_int_ne(access(in("journal"), F_OK), 0); /* nothing was written */
    ck_assert_int_eq(unlink(in("thesis.tex")), 0);
    make();
    ck_assert_int_eq(unlink(in("spool.json")), 0);
    write_file("journal/x.jnl", "events");
    refuse(0600, 0, SPOOL_ENOTSPOOL, "spool.json is missing");
}
END_TEST

/* What a crash can leave at any point of making one. */
START_TEST(interrupted_making_is_completed)
{
    static const char *const left[] = {"journal", "segments", "quarantine"};
    ck_assert_int_eq(mkdir(path, 0700), 0);
    for (int i = 0; i < _i && i < 3; i++)
        ck_assert_int_eq(mkdir(in(left[i]), 0700), 0);
    if (_i == 4)
        write_file("spool.json.0123abcd.tmp", "{\"libsp");
    if (_i == 5)
        ck_assert_int_eq(mkdir(in("lost+found"), 0700), 0);
    make();
    ck_assert_int_eq(access(in("spool.json"), F_OK), 0);
    ck_assert_int_ne(access(in("spool.json.0123abcd.tmp"), F_OK), 0);
}
END_TEST

/* Processes and threads that come at once all get the same spool. */
enum { RACERS = 4, ROUNDS = 10 };
static void *open_one(void *arg)
{
    struct dir *dir = arg;
    return dir_open(path, SEGMENT, 0600, 0, dir) ? "failed" : NULL;
}

static int race(int pipe_fd)
{
    pthread_t threads[2];
    struct dir dirs[2];
    void *failed[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, open_one, &dirs[i]);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], &failed[i]);
    if (failed[0] || failed[1])
        return 1;
    for (int i = 0; i < 2; i++) {
        if (write(pipe_fd, dirs[i].uuid, 16) != 16)
            return 2;
        dir_close(&dirs[i]);
    }
    return 0;
}

START_TEST(makers_race)
{
    for (int round = 0; round < ROUNDS; round++) {
        int ends[2], status;
        uint8_t uuids[2 * RACERS][16];
        ck_assert_int_eq(pipe(ends), 0);
        for (int i = 0; i < RACERS; i++) {
            if (fork() == 0)
                _exit(race(ends[1]));
        }
        for (int i = 0; i < RACERS; i++) {
            ck_assert_int_gt(wait(&status), 0);
            ck_assert_int_eq(status, 0);
        }
        ck_assert_int_eq(read(ends[0], uuids, sizeof uuids), sizeof uuids);
        for (int i = 1; i < 2 * RACERS; i++)
            ck_assert_mem_eq(uuids[0], uuids[i], 16);
        close(ends[0]);
        close(ends[1]);
        test_rmdir(path);
    }
}
END_TEST

/* ------------------------------------------------------------------------------------------------------ identity */

START_TEST(identity)
{
    static const struct {
        const char *text;
        int code;
        const char *word;
    } cases[] = {
        {"", SPOOL_EDAMAGED, "spool.json"},
        {"{\"libspool\": 1,\n nonsense", SPOOL_EDAMAGED, "line 2"},
        {"[1]", SPOOL_EDAMAGED, "no JSON object"},
        {"{\"sinks\": []}", SPOOL_ENOTSPOOL, "libspool"},
        {"{\"libspool\": \"1\"}", SPOOL_ENOTSPOOL, "libspool"},
        {"{\"libspool\": 2, \"new\": true}", SPOOL_EVERSION, "(2;"},
        {"{\"libspool\": 0}", SPOOL_EVERSION, "(0;"},
        {"{\"libspool\": 1, \"uuid\": \"01890a5d-ac96-774b-bcce-b302099a8057\"}", SPOOL_EDAMAGED, "segment_bytes"},
        {"{\"libspool\": 1, \"uuid\": \"01890a5d-ac96-774b-bcce-b302099a8057\", \"segment_bytes\": -1}", SPOOL_EDAMAGED,
         "segment_bytes"},
        {"{\"libspool\": 1, \"segment_bytes\": 5}", SPOOL_EDAMAGED, "uuid"},
        {"{\"libspool\": 1, \"uuid\": \"01890a5d-ac96-774b-bcce-b302099a805\", \"segment_bytes\": 5}", SPOOL_EDAMAGED,
         "uuid"},
        {"{\"libspool\": 1, \"uuid\": \"01890a5d-ac96-774b-bcce-b302099a80-7\", \"segment_bytes\": 5}", SPOOL_EDAMAGED,
         "uuid"},
        {"{\"libspool\": 1, \"uuid\": \"01890a5d-ac96-774b-bcce-b302099a80 7\", \"segment_bytes\": 5}", SPOOL_EDAMAGED,
         "uuid"},
    };
    make();
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file("spool.json", cases[i].text);
        refuse(0600, 0, cases[i].code, cases[i].word);
    }
    write_file("spool.json",
               "{\"libspool\": 1, \"uuid\": \"01890a5d-ac96-774b-bcce-b302099a8057\", \"segment_bytes\": 5}");
    struct dir dir;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    ck_assert_uint_eq(dir.segment_bytes, 5);
    ck_assert_mem_eq(dir.uuid, "\x01\x89\x0a\x5d\xac\x96\x77\x4b\xbc\xce\xb3\x02\x09\x9a\x80\x57", 16);
    dir_close(&dir);
}
END_TEST

/* -------------------------------------------------------------------------------------------------------- safety */

START_TEST(writable_by_others)
{
    make();
    chmod(path, 0702);
    refuse(0600, 0, SPOOL_EACCESS, "chmod o-w");
    chmod(path, 0720);
    refuse(0600, 0, SPOOL_EACCESS, "chmod go-w");
    chmod(path, 0755);
    make();
    chmod(in("segments"), 0777);
    refuse(0600, 0, SPOOL_EACCESS, "segments");
}
END_TEST

START_TEST(links_and_odd_types)
{
    static const char *const names[] = {"spool.json", "log.lock",    "state.lock",    "wake",
                                        "state.mdb",  "sink-a.lock", "journal/1.jnl", "segments/1.mdb"};
    make();
    write_file("other", "{\"libspool\": 1}");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char other[300], kept[300];
        snprintf(other, sizeof other, "%s/other", path);
        snprintf(kept, sizeof kept, "%s/kept", base);
        int moved = rename(in(names[i]), kept);
        ck_assert_int_eq(symlink(other, in(names[i])), 0);
        refuse(0600, 0, SPOOL_EACCESS, "link");
        ck_assert_int_eq(unlink(in(names[i])), 0);
        ck_assert_int_eq(link(other, in(names[i])), 0);
        refuse(0600, 0, SPOOL_EACCESS, "hard link");
        ck_assert_int_eq(unlink(in(names[i])), 0);
        ck_assert_int_eq(mkdir(in(names[i]), 0700), 0);
        refuse(0600, 0, SPOOL_EACCESS, "no regular file");
        ck_assert_int_eq(rmdir(in(names[i])), 0);
        if (moved == 0)
            ck_assert_int_eq(rename(kept, in(names[i])), 0);
    }
    ck_assert_int_eq(rmdir(in("quarantine")), 0);
    ck_assert_int_eq(symlink(base, in("quarantine")), 0);
    refuse(0600, 0, SPOOL_EACCESS, "quarantine");
}
END_TEST

static uint32_t fake_type;
static bool fake_read_only;
static int fake_fstatfs(int fd, struct statfs *ret)
{
    if (fstatfs(fd, ret))
        return -1;
    ret->f_type = (__typeof__(ret->f_type))fake_type;
    if (fake_read_only)
        ret->f_flags |= ST_RDONLY;
    return 0;
}

START_TEST(file_systems)
{
    struct dir dir;
    make();
    dir_fstatfs = fake_fstatfs;
    fake_read_only = false;
    fake_type = 0x6969;
    refuse(0600, 0, SPOOL_EREMOTE, "NFS");
    refuse(0600, SPOOL_READ_ONLY, SPOOL_EREMOTE, "SPOOL_ALLOW_NETWORK_FS");
    ck_ok(dir_open(path, SEGMENT, 0600, SPOOL_ALLOW_NETWORK_FS, &dir));
    dir_close(&dir);
    fake_type = 0xff534d42; /* its highest bit is set: f_type is signed */
    refuse(0600, 0, SPOOL_EREMOTE, "CIFS");
    fake_type = 0x9123683e;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    ck_assert(dir.copy_on_write);
    dir_close(&dir);
    fake_type = 0xef53;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    ck_assert(!dir.copy_on_write);
    dir_close(&dir);
    fake_read_only = true;
    refuse(0600, 0, EROFS, "SPOOL_READ_ONLY");
    ck_ok(dir_open(path, SEGMENT, 0600, SPOOL_READ_ONLY, &dir));
    dir_close(&dir);
}
END_TEST

/* What another user gets; needs root to become one. */
static int as_nobody(uint32_t flags)
{
    struct dir dir;
    if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
        return 99;
    int code = dir_open(path, SEGMENT, 0600, flags, &dir);
    return code == SPOOL_OK ? 0 : code == SPOOL_EACCESS ? 1 : code == EACCES ? 2 : 3;
}

static int run_as_nobody(uint32_t flags)
{
    int status;
    pid_t pid = fork();
    if (pid == 0)
        _exit(as_nobody(flags));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

START_TEST(users)
{
    struct stat st;
    struct dir dir;
    if (geteuid() != 0)
        return;
    ck_assert_int_eq(chmod(base, 0755), 0);
    make();
    ck_assert_int_eq(run_as_nobody(0), 2); /* root's, 0700 */
    ck_assert_int_eq(chmod(path, 0755), 0);
    ck_assert_int_eq(run_as_nobody(0), 2); /* may look, but not write */
    test_rmdir(path);
    ck_assert_int_eq(chown(base, NOBODY, NOBODY), 0);
    ck_assert_int_eq(run_as_nobody(0), 0);
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir)); /* root opens it: new files belong to its owner */
    int fd = dir_open_file(&dir, dir.fd, "log.lock", O_RDWR | O_CREAT);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_uint_eq(st.st_uid, NOBODY);
    close(fd);
    dir_close(&dir);
    ck_assert_int_eq(chown(path, 12345, 12345) + chmod(path, 0755), 0);
    ck_assert_int_eq(run_as_nobody(SPOOL_READ_ONLY), 1); /* a third user's */
}
END_TEST

/* --------------------------------------------------------------------------------------------------------- files */

START_TEST(files)
{
    struct dir dir;
    struct stat st;
    mode_t old = umask(077);
    ck_ok(dir_open(path, SEGMENT, 0660, 0, &dir));
    int fd = dir_open_file(&dir, dir.segments_fd, "1.mdb", O_RDWR | O_CREAT);
    umask(old);
    ck_assert_int_eq(fstat(fd, &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0660);
    close(fd);
    ck_assert_int_eq(dir_open_file(&dir, dir.segments_fd, "1.mdb", O_RDWR | O_CREAT | O_EXCL), -EEXIST);
    ck_assert_int_eq(dir_open_file(&dir, dir.segments_fd, "2.mdb", O_RDONLY), -ENOENT);
    ck_assert_int_eq(symlinkat("1.mdb", dir.segments_fd, "3.mdb"), 0);
    ck_assert_int_eq(dir_open_file(&dir, dir.segments_fd, "3.mdb", O_RDWR | O_CREAT), -ELOOP);
    ck_assert_int_eq(mkfifoat(dir.segments_fd, "4.mdb", 0600), 0);
    ck_assert_int_eq(dir_open_file(&dir, dir.segments_fd, "4.mdb", O_RDONLY), -ELOOP);
    dir_close(&dir);
}
END_TEST

static int count_until(void *user, const char *name)
{
    (void)name;
    return --*(int *)user == 0 ? 42 : 0;
}

START_TEST(listing_counting_quarantine)
{
    struct dir dir;
    uint64_t before, bytes, journals;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    ck_ok(dir_used_bytes(&dir, &before, &journals));
    ck_assert_uint_eq(journals, 0);
    write_file("journal/a.jnl", "x");
    write_file("journal/b.jnl", "x");
    write_file("journal/.hidden.jnl", "x");
    write_file("journal/c.jnl.tmp", "x");
    ck_ok(dir_used_bytes(&dir, &bytes, &journals));
    ck_assert_uint_eq(journals, 2);
    ck_assert_uint_ge(bytes, before + 3 * 512);
    int left = 10;
    ck_ok(dir_each(dir.journal_fd, ".jnl", count_until, &left));
    ck_assert_int_eq(left, 8);
    left = 1;
    ck_assert_int_eq(dir_each(dir.journal_fd, ".jnl", count_until, &left), 42);
    ck_ok(dir_each(-1, "", count_until, &left));

    ck_ok(dir_quarantine(&dir, dir.journal_fd, "a.jnl"));
    write_file("journal/a.jnl", "again");
    ck_ok(dir_quarantine(&dir, dir.journal_fd, "a.jnl")); /* the same name within a second */
    left = 10;
    ck_ok(dir_each(dir.quarantine_fd, "", count_until, &left));
    ck_assert_int_eq(left, 8);
    ck_code(dir_quarantine(&dir, dir.journal_fd, "a.jnl"), ENOENT);
    ck_ok(dir_flush(dir.fd));
    dir_close(&dir);
}
END_TEST

/* One whose empty subdirectory was removed is completed when it may be written, and counts as empty when not. */
START_TEST(missing_subdirectory)
{
    struct dir dir;
    uint64_t bytes, journals;
    make();
    ck_assert_int_eq(rmdir(in("quarantine")), 0);
    ck_ok(dir_open(path, SEGMENT, 0600, SPOOL_READ_ONLY, &dir));
    ck_assert_int_eq(dir.quarantine_fd, -1);
    ck_ok(dir_used_bytes(&dir, &bytes, &journals));
    ck_code(dir_quarantine(&dir, dir.fd, "spool.json"), SPOOL_EREADONLY);
    dir_close(&dir);
    ck_assert_int_ne(access(in("quarantine"), F_OK), 0);
    make();
    ck_assert_int_eq(access(in("quarantine"), F_OK), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("dir");
    TCase *t = tcase_create("dir");
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, made_and_opened_again);
    tcase_add_test(t, shared_with_a_group);
    tcase_add_test(t, not_made);
    tcase_add_test(t, not_a_directory);
    tcase_add_test(t, foreign_files);
    tcase_add_loop_test(t, interrupted_making_is_completed, 0, 6);
    tcase_add_test(t, makers_race);
    tcase_add_test(t, identity);
    tcase_add_test(t, writable_by_others);
    tcase_add_test(t, links_and_odd_types);
    tcase_add_test(t, file_systems);
    tcase_add_test(t, users);
    tcase_add_test(t, files);
    tcase_add_test(t, listing_counting_quarantine);
    tcase_add_test(t, missing_subdirectory);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
