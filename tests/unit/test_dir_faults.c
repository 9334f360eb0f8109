/* test_dir_faults.c - the directory with each single call below it failing once: the answer
 * says what is wrong, nothing stays open, and the next try completes what was begun. */
#include "fail_nth.h"

#include <dirent.h>
#include <sys/vfs.h>

#include "../../spool/dir.h"

/* What fail_nth.h leaves alone and these call. */
FAIL_HOOK(struct dirent *, readdir, (DIR * stream), DIR *, (stream), FAIL_READ, (fail_errno(EIO), NULL))
FAIL_HOOK(int, chmod, (const char *path, mode_t mode), FAIL_ARGS(const char *, mode_t), (path, mode), FAIL_NAME,
          fail_errno(EPERM))
FAIL_HOOK(int, fchmod, (int fd, mode_t mode), FAIL_ARGS(int, mode_t), (fd, mode), FAIL_NAME, fail_errno(EPERM))
FAIL_HOOK(int, fchown, (int fd, uid_t user, gid_t group), FAIL_ARGS(int, uid_t, gid_t), (fd, user, group), FAIL_NAME,
          fail_errno(EPERM))
FAIL_HOOK(int, fstatfs, (int fd, struct statfs *ret), FAIL_ARGS(int, struct statfs *), (fd, ret), FAIL_STAT,
          fail_errno(EIO))
FAIL_HOOK(int, faccessat, (int fd, const char *path, int mode, int flags), FAIL_ARGS(int, const char *, int, int),
          (fd, path, mode, flags), FAIL_STAT, fail_errno(EIO))

/* Another maker is faster: its file is there, and it may have swept ours away. */
static enum { NO_WINNER, WINNER, WINNER_SWEEPS } winner;
static const char WINNERS[] =
    "{\"libspool\": 1, \"segment_bytes\": 4194304, \"uuid\": \"01890a5d-ac96-774b-bcce-b302099a8057\"}";

static void let_winner(int dir, const char *ours)
{
    if (winner == NO_WINNER)
        return;
    int fd = openat(dir, "spool.json", O_WRONLY | O_CREAT | O_EXCL, 0600);
    ck_assert_int_eq(write(fd, WINNERS, sizeof WINNERS - 1), (ssize_t)sizeof WINNERS - 1);
    close(fd);
    if (winner == WINNER_SWEEPS)
        ck_assert_int_eq(unlinkat(dir, ours, 0), 0);
}

static bool no_renameat2; /* as file systems without RENAME_NOREPLACE */

int renameat2(int dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    static int (*next)(int, const char *, int, const char *, unsigned);
    if (!next)
        *(void **)&next = fail_next("renameat2");
    if (fail_hits(FAIL_NAME))
        return fail_errno(EIO);
    let_winner(dir, from);
    return no_renameat2 ? (errno = EINVAL, -1) : next(dir, from, to_dir, to, flags);
}

enum { SEGMENT = 4 << 20 };

static char *base, path[256];

static void set_up(void)
{
    base = test_dir();
    snprintf(path, sizeof path, "%s/spool", base);
    no_renameat2 = false;
}

static void tear_down(void)
{
    test_rmdir(base);
    free(base);
}

static int count_one(void *user, const char *name)
{
    (void)name;
    ++*(int *)user;
    return 0;
}

static int count_files(const struct dir *dir, const char *suffix)
{
    int n = 0;
    ck_ok(dir_each(dir->fd, suffix, count_one, &n));
    return n;
}

/* ------------------------------------------------------------------------------------------------------- opening it */

static const enum fail_class CLASSES[] = {
    FAIL_MEMORY,      FAIL_OPEN, FAIL_READ, FAIL_READ_SHORT, FAIL_WRITE,
    FAIL_WRITE_SHORT, FAIL_SYNC, FAIL_NAME, FAIL_STAT,       FAIL_RANDOM,
};
enum { N_CLASSES = sizeof CLASSES / sizeof *CLASSES };

/* One that opens is whole; so is what the next one finds. */
static bool open_with(enum fail_class class, unsigned n, uint32_t flags)
{
    struct dir dir, untouched;
    memset(&dir, 0x5a, sizeof dir);
    untouched = dir;
    unsigned before = open_files();
    fail_arm(class, n);
    int code = dir_open(path, SEGMENT, 0600, flags, &dir);
    bool fired = fail_disarm();
    if (code) {
        ck_documented(code);
        ck_assert(fired);
        ck_assert_mem_eq(&dir, &untouched, sizeof dir);
        ck_assert_msg(open_files() == before, "class %d, call %u: a file stays open", class, n);
        ck_ok(dir_open(path, SEGMENT, 0600, flags, &dir));
    }
    ck_assert_uint_eq(dir.segment_bytes, SEGMENT);
    ck_assert_int_ge(dir.journal_fd, 0);
    ck_assert_int_eq(count_files(&dir, "spool.json"), 1);
    dir_close(&dir);
    return fired;
}

START_TEST(making_with_one_fault)
{
    for (int link = 0; link < 2; link++) {
        no_renameat2 = link;
        for (unsigned n = 1; open_with(CLASSES[_i], n, 0); n++)
            test_rmdir(path);
        test_rmdir(path);
    }
}
END_TEST

START_TEST(opening_with_one_fault)
{
    open_with(FAIL_NONE, 1, 0);
    for (unsigned n = 1; open_with(CLASSES[_i], n, 0); n++)
        continue;
    for (unsigned n = 1; open_with(CLASSES[_i], n, SPOOL_READ_ONLY); n++)
        continue;
}
END_TEST

/* Where spool.json is published by a link, it has two names for a moment. Its maker may be killed then. */
START_TEST(a_maker_killed_between_link_and_unlink)
{
    struct dir dir;
    open_with(FAIL_NONE, 1, 0);
    int fd = open(path, O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(linkat(fd, "spool.json", fd, "spool.json.0123abcd.tmp", 0), 0);
    ck_code(dir_open(path, SEGMENT, 0600, SPOOL_READ_ONLY, &dir), SPOOL_EACCESS); /* may not remove it */
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    ck_assert_int_eq(count_files(&dir, ".tmp"), 0);
    dir_close(&dir);
    ck_assert_int_eq(linkat(fd, "spool.json", fd, "other", 0), 0); /* a name that is not ours stays, and is refused */
    ck_code(dir_open(path, SEGMENT, 0600, 0, &dir), SPOOL_EACCESS);
    ck_assert_int_eq(unlinkat(fd, "other", 0), 0);
    close(fd);
}
END_TEST

/* Of two makers one wins, and the other opens what it made. */
START_TEST(another_maker_wins)
{
    struct dir dir;
    winner = _i & 1 ? WINNER_SWEEPS : WINNER;
    no_renameat2 = _i & 2;
    int code = dir_open(path, SEGMENT, 0600, 0, &dir);
    winner = NO_WINNER;
    ck_ok(code);
    ck_assert_mem_eq(dir.uuid, "\x01\x89\x0a\x5d\xac\x96\x77\x4b\xbc\xce\xb3\x02\x09\x9a\x80\x57", 16);
    ck_assert_int_eq(count_files(&dir, ".tmp"), 0);
    dir_close(&dir);
}
END_TEST

START_TEST(messages_of_what_cannot_be_made)
{
    static const struct {
        int err;
        const char *word;
    } cases[] = {{EROFS, "mounted read-only"}, {EACCES, "cannot make"}, {ENOENT, "make that first"}};
    struct dir dir;
    fail_err = cases[_i].err;
    fail_arm(FAIL_NAME, 1);
    int code = dir_open(path, SEGMENT, 0600, 0, &dir);
    ck_assert(fail_disarm());
    fail_err = 0;
    ck_code(code, cases[_i].err);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), cases[_i].word));
}
END_TEST

static void put_identity(const char *text, size_t size)
{
    char name[300];
    snprintf(name, sizeof name, "%s/spool.json", path);
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_eq(write(fd, text, size), (ssize_t)size);
    close(fd);
}

START_TEST(odd_identities)
{
    static const char *const uuids[] = {"5", "\"01890a5d+ac96-774b-bcce-b302099a8057\"",
                                        "\"01890a5d-ac96-774b-bcce-b302099a8057a\"", "[]"};
    static char text[70000];
    struct dir dir;
    open_with(FAIL_NONE, 1, 0);
    for (int i = 0; i < 4; i++) {
        int size = snprintf(text, sizeof text, "{\"libspool\": 1, \"segment_bytes\": 5, \"uuid\": %s}", uuids[i]);
        put_identity(text, (size_t)size);
        ck_code(dir_open(path, SEGMENT, 0600, 0, &dir), SPOOL_EDAMAGED);
        ck_assert_ptr_nonnull(strstr(spool_last_error(), "uuid"));
    }
    memset(text, ' ', sizeof text);
    put_identity(text, sizeof text);
    ck_code(dir_open(path, SEGMENT, 0600, 0, &dir), SPOOL_EDAMAGED);
    ck_assert_ptr_nonnull(strstr(spool_last_error(), "too big"));
}
END_TEST

/* A file that has the name of one of our directories. */
START_TEST(files_in_the_place_of_directories)
{
    struct dir dir;
    char name[300];
    ck_assert_int_eq(mkdir(path, 0700), 0);
    snprintf(name, sizeof name, "%s/journal", path);
    close(open(name, O_WRONLY | O_CREAT, 0600));
    ck_code(dir_open(path, SEGMENT, 0600, 0, &dir), SPOOL_ENOTSPOOL);
    ck_assert_int_eq(unlink(name), 0);
    open_with(FAIL_NONE, 1, 0);
    ck_assert_int_eq(rmdir(name), 0);
    close(open(name, O_WRONLY | O_CREAT, 0600));
    ck_code(dir_open(path, SEGMENT, 0600, 0, &dir), SPOOL_EACCESS);
}
END_TEST

/* Another user's, shared with our group or not. (Only root can play both.) */
START_TEST(another_users_directory)
{
    enum { THEM = 12345, US = 12346 };
    static const char *const subs[] = {"", "/journal", "/segments", "/quarantine", "/spool.json"};
    struct dir dir;
    if (geteuid() != 0)
        return;
    open_with(FAIL_NONE, 1, 0);
    for (int i = 0; i < 5; i++) {
        char name[300];
        snprintf(name, sizeof name, "%s%s", path, subs[i]);
        ck_assert_int_eq(chown(name, THEM, US), 0);
        ck_assert_int_eq(chmod(name, i < 4 ? 0770 : 0660), 0);
    }
    ck_assert_int_eq(chmod(base, 0755), 0);
    ck_assert_int_eq(setegid(US), 0);
    ck_assert_int_eq(seteuid(US), 0);
    int shared = dir_open(path, SEGMENT, 0660, 0, &dir);
    if (!shared)
        dir_close(&dir);
    int unshared = dir_open(path, SEGMENT, 0600, 0, &dir);
    ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(chmod(path, 0755), 0);
    ck_assert_int_eq(seteuid(US), 0);
    int theirs = dir_open(path, SEGMENT, 0600, SPOOL_READ_ONLY, &dir);
    ck_assert_int_eq(seteuid(0), 0);
    ck_assert_int_eq(setegid(0), 0);
    ck_ok(shared);
    ck_code(unshared, SPOOL_EACCESS);
    ck_code(theirs, SPOOL_EACCESS);
}
END_TEST

/* ---------------------------------------------------------------------------------------------------- what it is for
 */

/* The limit that was set last; what cannot be read is none. */
START_TEST(limits_with_one_fault)
{
    struct dir dir;
    int code;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    ck_ok(dir_limits_write(&dir, 64 << 20));
    for (int i = 0; i < N_CLASSES; i++) {
        uint64_t bytes = (uint64_t)(100 + i) << 20;
        fail_each(code, CLASSES[i], dir_limits_write(&dir, bytes))
        {
            uint64_t now = dir_limits_read(&dir);
            if (code)
                ck_documented(code);
            ck_assert(now == bytes || (code && now));
            ck_assert_int_eq(count_files(&dir, ".tmp"), 0);
            ck_ok(dir_limits_write(&dir, 64 << 20));
        }
        ck_ok(code);
        ck_assert_uint_eq(dir_limits_read(&dir), bytes);
        fail_each(bytes, CLASSES[i], dir_limits_read(&dir))
        {
            ck_assert(bytes == 0 || bytes == (uint64_t)(100 + i) << 20);
        }
    }
    dir_close(&dir);
}
END_TEST

START_TEST(odd_limits)
{
    static const char *const texts[] = {"", "{\"max_bytes\": 1000}", "[1]", "{\"max", "{\"max_bytes\": \"a\"}"};
    struct dir dir;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    int fd = openat(dir.fd, "limits.json", O_CREAT | O_WRONLY, 0600);
    ck_assert_int_eq(write(fd, texts[_i], strlen(texts[_i])), strlen(texts[_i]));
    close(fd);
    ck_assert_uint_eq(dir_limits_read(&dir), 0);
    ck_ok(dir_limits_write(&dir, 8 << 20));
    ck_assert_uint_eq(dir_limits_read(&dir), 8 << 20);
    dir_close(&dir);
}
END_TEST

static int set_aside(const struct dir *dir)
{
    int fd = dir_open_file(dir, dir->segments_fd, "x.mdb", O_RDWR | O_CREAT);
    if (fd < 0)
        return -fd;
    close(fd);
    return dir_quarantine(dir, dir->segments_fd, "x.mdb");
}

static int remove_one(void *user, const char *name)
{
    const struct dir *dir = user;
    return unlinkat(dir->quarantine_fd, name, 0) ? errno : 0;
}

START_TEST(quarantine_and_counting_with_one_fault)
{
    struct dir dir;
    uint64_t bytes, journals;
    int code;
    ck_ok(dir_open(path, SEGMENT, 0600, 0, &dir));
    for (int i = 0; i < N_CLASSES; i++) {
        fail_each(code, CLASSES[i], set_aside(&dir))
        {
            if (code)
                ck_documented(code);
            ck_ok(dir_each(dir.quarantine_fd, "", remove_one, &dir));
        }
        ck_ok(code);
        fail_each(code, CLASSES[i], dir_used_bytes(&dir, &bytes, &journals))
        {
            ck_documented(code);
        }
        ck_ok(code);
    }
    int kept = 0;
    ck_ok(dir_each(dir.quarantine_fd, "", remove_one, &dir));
    for (int i = 0; i < 3; i++)
        ck_ok(set_aside(&dir));
    ck_ok(dir_each(dir.quarantine_fd, "", count_one, &kept));
    ck_assert_int_eq(kept, 3); /* several in one second have names of their own */
    dir_close(&dir);
}
END_TEST

static Suite *suite(void)
{
    test_in_memory();
    Suite *s = suite_create("dir_faults");
    TCase *t = tcase_create("dir_faults");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, making_with_one_fault, 0, N_CLASSES);
    tcase_add_loop_test(t, opening_with_one_fault, 0, N_CLASSES);
    tcase_add_test(t, a_maker_killed_between_link_and_unlink);
    tcase_add_loop_test(t, messages_of_what_cannot_be_made, 0, 3);
    tcase_add_loop_test(t, another_maker_wins, 0, 4);
    tcase_add_test(t, odd_identities);
    tcase_add_test(t, files_in_the_place_of_directories);
    tcase_add_test(t, another_users_directory);
    tcase_add_test(t, limits_with_one_fault);
    tcase_add_loop_test(t, odd_limits, 0, 5);
    tcase_add_test(t, quarantine_and_counting_with_one_fault);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
