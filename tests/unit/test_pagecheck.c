/* test_pagecheck.c - what passes the check LMDB can live with, and what LMDB writes passes.
 *
 * Two kinds of environments are made as the library makes them: a segment (named trees, integer keys, large values,
 * only appended to) and a state (rows in the main tree, put and deleted). Then their pages are damaged, some thousand
 * times; whatever still passes is read and written with LMDB in a child process, which must not die. */
#include <fcntl.h>
#include <lmdb.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../../lib/base/bytes.h"
#include "../../spool/pagecheck.h"
#include "../check_main.h"

enum { MAP_BYTES = 4 << 20, FILE_MAX = MAP_BYTES, VALUE_MAX = 6000 };
static const char *const trees[] = {"critical", "high", "meta"};
enum { TREES = 3, META = 2 };

static char *dir, path[256];

static void set_up(void)
{
    dir = test_dir();
    snprintf(path, sizeof path, "%s/x.mdb", dir);
}

static void tear_down(void)
{
    test_rmdir(dir);
    free(dir);
}

static int check(const char *file)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    int code = pagecheck(fd, "x.mdb");
    close(fd);
    return code;
}

static uint64_t random_state;

static uint64_t random_below(uint64_t n)
{
    random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
    return (random_state >> 33) % n;
}

/* ----------------------------------------------------------------------------------------------------- environments */

static MDB_env *open_env(void)
{
    MDB_env *env;
    if (mdb_env_create(&env))
        return NULL;
    if (mdb_env_set_maxdbs(env, TREES) == 0 && mdb_env_set_mapsize(env, MAP_BYTES) == 0 &&
        mdb_env_open(env, path, MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK | MDB_NOSYNC, 0600) == 0)
        return env;
    mdb_env_close(env);
    return NULL;
}

static int put(MDB_txn *txn, MDB_dbi tree, const void *key, size_t key_size, size_t size, unsigned flags)
{
    MDB_val k = {key_size, (void *)key}, v = {size, NULL};
    int rc = mdb_put(txn, tree, &k, &v, MDB_RESERVE | flags);
    if (!rc)
        memset(v.mv_data, 'v', size);
    return rc;
}

static uint64_t last_key(MDB_txn *txn, MDB_dbi tree)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    uint64_t last = 0;
    if (mdb_cursor_open(txn, tree, &cursor))
        return 0;
    if (mdb_cursor_get(cursor, &key, &value, MDB_LAST) == 0 && key.mv_size == 8)
        last = get_u64(key.mv_data);
    mdb_cursor_close(cursor);
    return last;
}

/* One transaction as the log's: blocks of all sizes behind the last, rows replaced. */
static void append_like_log(MDB_env *env, unsigned blocks)
{
    MDB_txn *txn;
    if (mdb_txn_begin(env, NULL, 0, &txn))
        return;
    int rc = 0;
    for (unsigned i = 0; !rc && i < TREES; i++) {
        MDB_dbi tree;
        rc = mdb_dbi_open(txn, trees[i], MDB_CREATE | (i == META ? 0 : MDB_INTEGERKEY), &tree);
        uint64_t key = rc || i == META ? 0 : last_key(txn, tree);
        for (unsigned n = 0; !rc && i != META && n < blocks; n++) {
            key++;
            rc = put(txn, tree, &key, sizeof key, random_below(4) ? 100 + random_below(200) : random_below(VALUE_MAX),
                     MDB_APPEND);
        }
        for (unsigned n = 0; !rc && i == META && n < 3; n++) {
            char name[32];
            snprintf(name, sizeof name, "row %u", (unsigned)random_below(40));
            rc = put(txn, tree, name, strlen(name), 60 + random_below(100), 0);
        }
    }
    if (rc)
        mdb_txn_abort(txn);
    else if (mdb_txn_commit(txn))
        return;
}

/* One transaction as the state's: rows come, change and go. */
static void change_like_state(MDB_env *env, unsigned rows)
{
    MDB_txn *txn;
    MDB_dbi tree;
    if (mdb_txn_begin(env, NULL, 0, &txn))
        return;
    int rc = mdb_dbi_open(txn, NULL, 0, &tree);
    for (unsigned n = 0; !rc && n < rows; n++) {
        uint8_t name[8 + 100] = {0};
        put_be64(name, random_below(600));
        MDB_val key = {8 + random_below(2) * (size_t)random_below(90), name};
        if (random_below(2))
            rc = put(txn, tree, name, key.mv_size, random_below(3) ? random_below(300) : random_below(9000), 0);
        else
            rc = mdb_del(txn, tree, &key, NULL);
        rc = rc == MDB_NOTFOUND ? 0 : rc;
    }
    if (rc)
        mdb_txn_abort(txn);
    else if (mdb_txn_commit(txn))
        return;
}

typedef void (*change_fn)(MDB_env *env, unsigned n);

static void make_env(change_fn change, unsigned commits, unsigned n)
{
    unlink(path);
    MDB_env *env = open_env();
    ck_assert_ptr_nonnull(env);
    for (unsigned i = 0; i < commits; i++)
        change(env, n);
    mdb_env_close(env);
}

/* ------------------------------------------------------------------------------------------- what LMDB writes passes
 */

static void check_while_it_grows(change_fn change, unsigned n)
{
    MDB_env *env = open_env();
    ck_assert_ptr_nonnull(env);
    for (unsigned i = 0; i < 120; i++) {
        change(env, n);
        ck_assert_msg(check(path) == SPOOL_OK, "after commit %u: %s", i, err_last());
    }
    mdb_env_close(env);
}

START_TEST(growing_segments_pass)
{
    random_state = test_seed(11);
    check_while_it_grows(append_like_log, 7);
}
END_TEST

START_TEST(changing_states_pass)
{
    random_state = test_seed(12);
    check_while_it_grows(change_like_state, 60);
    unlink(path);
    check_while_it_grows(change_like_state, 3);
}
END_TEST

/* A thousand pages freed at once: their list does not fit a page of its own. */
START_TEST(long_lists_of_free_pages_pass)
{
    random_state = 13;
    make_env(append_like_log, 20, 10);
    MDB_env *env = open_env();
    MDB_txn *txn;
    MDB_dbi tree;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
        ck_assert_int_eq(mdb_dbi_open(txn, trees[i], 0, &tree), 0);
        ck_assert_int_eq(mdb_drop(txn, tree, i == 1), 0);
        ck_assert_int_eq(mdb_txn_commit(txn), 0);
        ck_ok(check(path));
    }
    mdb_env_close(env);
    ck_ok(check(path));
}
END_TEST

START_TEST(what_is_no_lmdb_file_is_refused)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_code(pagecheck(fd, "x"), SPOOL_EDAMAGED);
    uint8_t noise[8192];
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)random_below(256);
    ck_assert_int_eq(pwrite(fd, noise, sizeof noise, 0), sizeof noise);
    ck_code(pagecheck(fd, "x"), SPOOL_EDAMAGED);
    close(fd);
    ck_code(pagecheck(-1, "x"), EBADF);
}
END_TEST

START_TEST(other_data_version_is_named)
{
    make_env(append_like_log, 2, 2);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    uint32_t version = htole32(2);
    ck_assert_int_eq(pwrite(fd, &version, sizeof version, 20), sizeof version);
    ck_code(pagecheck(fd, "x.mdb"), SPOOL_EDAMAGED); /* only one of the meta pages says so */
    ck_assert_int_eq(pwrite(fd, &version, sizeof version, 4096 + 20), sizeof version);
    ck_code(pagecheck(fd, "x.mdb"), SPOOL_EVERSION);
    close(fd);
}
END_TEST

/* Trees with duplicate keys, which no file of ours has, take other ways through LMDB. */
START_TEST(duplicate_keys_are_refused)
{
    MDB_env *env = open_env();
    MDB_txn *txn;
    MDB_dbi tree;
    ck_assert_int_eq(mdb_txn_begin(env, NULL, 0, &txn), 0);
    ck_assert_int_eq(mdb_dbi_open(txn, "d", MDB_CREATE | MDB_DUPSORT, &tree), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    ck_code(check(path), SPOOL_EDAMAGED);
}
END_TEST

START_TEST(every_truncation_is_found)
{
    struct stat st;
    random_state = 14;
    make_env(append_like_log, 3, 6);
    ck_assert_int_eq(stat(path, &st), 0);
    for (off_t size = st.st_size - 1; size >= 0; size -= 1 + size / 40) {
        ck_assert_int_eq(truncate(path, size), 0);
        ck_code(check(path), SPOOL_EDAMAGED);
    }
}
END_TEST

/* --------------------------------------------------------------------------------- what passes LMDB can live with */

static volatile unsigned sink; /* so that reading is not optimised away */

static void read_tree(MDB_txn *txn, MDB_dbi tree)
{
    MDB_cursor *cursor;
    MDB_val key, value;
    if (mdb_cursor_open(txn, tree, &cursor))
        return;
    for (int rc = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); !rc;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        MDB_val again = key;
        for (size_t i = 0; i < value.mv_size; i += 64)
            sink += ((const uint8_t *)value.mv_data)[i];
        if (random_below(8) == 0)
            mdb_get(txn, tree, &again, &value);
    }
    for (int rc = mdb_cursor_get(cursor, &key, &value, MDB_LAST); !rc;
         rc = mdb_cursor_get(cursor, &key, &value, MDB_PREV))
        sink++;
    mdb_cursor_close(cursor);
}

static void read_all(MDB_env *env)
{
    MDB_txn *txn;
    MDB_dbi tree;
    if (mdb_txn_begin(env, NULL, MDB_RDONLY, &txn))
        return;
    for (unsigned i = 0; i < TREES; i++) {
        if (mdb_dbi_open(txn, trees[i], 0, &tree) == 0)
            read_tree(txn, tree);
    }
    if (mdb_dbi_open(txn, NULL, 0, &tree) == 0)
        read_tree(txn, tree);
    mdb_txn_abort(txn);
}

static void use_env(change_fn change)
{
    MDB_env *env = open_env();
    if (!env)
        return;
    read_all(env);
    for (int i = 0; i < 4; i++)
        change(env, 12);
    read_all(env);
    mdb_env_close(env);
}

struct file {
    uint8_t bytes[FILE_MAX];
    size_t size;
    uint32_t pages[2048]; /* meta, branch and leaf pages */
    size_t page_count;
};
static struct file original;

static void load_file(void)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = read(fd, original.bytes, sizeof original.bytes);
    ck_assert_int_gt(n, 8192);
    close(fd);
    original.size = (size_t)n;
    original.page_count = 0;
    for (uint32_t page = 0; page < original.size / 4096 && original.page_count < 2048; page++) {
        const uint8_t *bytes = original.bytes + (size_t)page * 4096;
        unsigned flags = get_u16(bytes + 10);
        if (page < 2 || (get_u64(bytes) == page && (flags == 1 || flags == 2)))
            original.pages[original.page_count++] = page;
    }
}

/* One change to one page that matters to LMDB, of many kinds. */
static void damage(uint8_t *bytes)
{
    static const uint64_t odd[] = {0, 1, 2, 8, 15, 16, 17, 255, 4095, 4096, 4097, 32767, 65535, UINT32_MAX, UINT64_MAX};
    uint32_t page = original.pages[random_below(original.page_count)];
    uint8_t *at = bytes + (size_t)page * 4096;
    size_t offset = random_below(2) ? random_below(200) : random_below(4096);
    switch (random_below(7)) {
    case 0:
        at[offset] ^= (uint8_t)(1u << random_below(8));
        break;
    case 1:
        at[offset] = (uint8_t)random_below(256);
        break;
    case 2:
        put_u16(at + (offset & 4094), (uint16_t)odd[random_below(15)]);
        break;
    case 3:
        put_u64(at + (offset & 4088), odd[random_below(15)] + random_below(3));
        break;
    case 4: /* another page's content */
        memcpy(at, bytes + (size_t)original.pages[random_below(original.page_count)] * 4096, 4096);
        break;
    case 5: /* a sector lost */
        memset(at + (offset & 3584), 0, 512);
        break;
    default: /* a reference to another page, where nodes are */
        put_u64(at + (offset & 4094 & ~1ull) % 4088, random_below(original.size / 4096 + 3));
    }
}

static void write_file(const uint8_t *bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, bytes, original.size) != (ssize_t)original.size || ftruncate(fd, (off_t)original.size))
        _exit(2);
    close(fd);
}

struct progress {
    unsigned round, passed;
    uint64_t random_before;
};

/* In a child. It goes on from progress->round. */
static void damage_rounds(change_fn change, unsigned rounds, struct progress *progress)
{
    static uint8_t bytes[FILE_MAX];
    for (; progress->round < rounds; progress->round++) {
        progress->random_before = random_state;
        memcpy(bytes, original.bytes, original.size);
        for (uint64_t n = 1 + random_below(3); n > 0; n--)
            damage(bytes);
        write_file(bytes);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        int code = pagecheck(fd, "x.mdb");
        close(fd);
        if (code != SPOOL_OK)
            continue;
        progress->passed++;
        use_env(change);
    }
    _exit(0);
}

static void survive(change_fn change, unsigned rounds)
{
    struct progress *progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(progress, MAP_FAILED);
    load_file();
    ck_assert_uint_gt(original.page_count, 4);
    pid_t pid = fork();
    if (pid == 0)
        damage_rounds(change, rounds, progress);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "round %u (random state %llu) ended with status %x",
                  progress->round, (unsigned long long)progress->random_before, (unsigned)status);
    printf("%u of %u damaged files passed\n", progress->passed, rounds);
    ck_assert_uint_lt(progress->passed, rounds); /* it does find something */
    munmap(progress, sizeof *progress);
}

static unsigned rounds_wanted(unsigned fallback)
{
    const char *text = getenv("ROUNDS");
    return text ? (unsigned)strtoul(text, NULL, 0) : fallback;
}

START_TEST(damaged_segments_kill_nobody)
{
    random_state = test_seed(21);
    make_env(append_like_log, 12, 20);
    survive(append_like_log, rounds_wanted(1500));
}
END_TEST

START_TEST(damaged_states_kill_nobody)
{
    random_state = test_seed(22);
    make_env(change_like_state, 40, 60);
    survive(change_like_state, rounds_wanted(1500));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("pagecheck");
    TCase *c = tcase_create("pagecheck");
    tcase_add_checked_fixture(c, set_up, tear_down);
    tcase_set_timeout(c, 300);
    tcase_add_test(c, growing_segments_pass);
    tcase_add_test(c, changing_states_pass);
    tcase_add_test(c, long_lists_of_free_pages_pass);
    tcase_add_test(c, what_is_no_lmdb_file_is_refused);
    tcase_add_test(c, other_data_version_is_named);
    tcase_add_test(c, duplicate_keys_are_refused);
    tcase_add_test(c, every_truncation_is_found);
    tcase_add_test(c, damaged_segments_kill_nobody);
    tcase_add_test(c, damaged_states_kill_nobody);
    suite_add_tcase(s, c);
    return s;
}

CHECK_MAIN(suite)
