/* test_committer.c - the committer by itself: pages of the ring that it opens ahead of producers; and beside a producer that does
 * not wait, while commits fail at random. */
#include <dirent.h>
#include <dlfcn.h>
#include <lmdb.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>

#include "scratch_fixture.h"

#include "../../lib/spool.h"

enum { EVENTS = 3000, BODY = 1000 };

static bool is_committer(void)
{
    char name[16] = "";
    prctl(PR_GET_NAME, name);
    return strcmp(name, "spool-commit") == 0;
}

/* ------------------------------------------------------------------------------------------ commits that go wrong */

static uint64_t state; /* of the committer's random numbers */
static atomic_bool failing;
static atomic_uint undone, unsaid; /* commits that failed; and that were done although they said so */

static unsigned draw(unsigned n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33) % n;
}

int mdb_txn_commit(MDB_txn *txn)
{
    static int (*_Atomic real)(MDB_txn * txn);
    if (!real)
        real = (int (*)(MDB_txn *))dlsym(RTLD_NEXT, "mdb_txn_commit");
    unsigned what = atomic_load(&failing) && is_committer() ? draw(8) : 7;
    if (what == 0) {
        atomic_fetch_add(&undone, 1);
        mdb_txn_abort(txn);
        return EIO;
    }
    int rc = real(txn);
    if (what > 1 || rc)
        return rc;
    atomic_fetch_add(&unsaid, 1);
    return EIO;
}

/* ------------------------------------------------------------------------------------------- pages opened ahead */

/* How much of the journal's mapping is open for writing, by the kernel's account, in KiB. */
static unsigned long open_kib(void)
{
    char line[4200], journal[4200];
    unsigned long kib = 0, dirty;
    bool ours = false;
    snprintf(journal, sizeof journal, "%s/journal/", path);
    FILE *maps = fopen("/proc/self/smaps", "r");
    ck_assert_ptr_nonnull(maps);
    while (fgets(line, sizeof line, maps)) {
        if (strstr(line, "-") && strchr(line, '/')) /* a mapping's first line, of a file */
            ours = strstr(line, journal) != NULL;
        if (ours && (sscanf(line, "Private_Dirty: %lu", &dirty) == 1 || sscanf(line, "Shared_Dirty: %lu", &dirty) == 1))
            kib += dirty;
    }
    fclose(maps);
    return kib;
}

static struct spool *open_with(uint32_t flush_interval_ms)
{
    struct spool *spool;
    ck_ok(spool_open(
        path, &SPOOL_OPTIONS(.max_bytes = 64 << 20, .journal_bytes = 1 << 20, .flush_interval_ms = flush_interval_ms),
        &spool));
    return spool;
}

/* Else each page costs the producer that comes to it first a fault. */
START_TEST(a_ring_that_nobody_flushes_is_opened_at_once)
{
    struct spool *spool = open_with(SPOOL_FLUSH_NEVER);
    unsigned long kib = 0; /* of one look: the kernel may write some of it back */
    for (int i = 0; i < 1000 && (kib = open_kib()) < 1024; i++)
        poll(NULL, 0, 10);
    ck_assert_uint_ge(kib, 1024);
    ck_ok(spool_close(spool));
}
END_TEST

/* ------------------------------------------------------------------------------------------------ commits that fail */

static bool has_thread(const char *wanted)
{
    bool found = false;
    DIR *tasks = opendir("/proc/self/task");
    ck_assert_ptr_nonnull(tasks);
    for (struct dirent *task; (task = readdir(tasks));) {
        char file[300], name[32] = "";
        snprintf(file, sizeof file, "/proc/self/task/%s/comm", task->d_name);
        FILE *comm = fopen(file, "r");
        if (!comm)
            continue;
        if (fgets(name, sizeof name, comm))
            name[strcspn(name, "\n")] = '\0';
        found |= strcmp(name, wanted) == 0;
        fclose(comm);
    }
    closedir(tasks);
    return found;
}

static void enqueue(struct spool *spool, uint64_t number)
{
    uint64_t body[BODY / 8];
    for (size_t i = 0; i < BODY / 8; i++)
        body[i] = number;
    struct spool_event event = SPOOL_EVENT(.type = "t", .content_type = "application/octet-stream", .body = body,
                                           .body_size = sizeof body, .durability = SPOOL_DURABLE_PROCESS);
    ck_ok(spool_enqueue(spool, &event, NULL));
}

/* In the order in which they stand in the log. */
static void check_all(struct spool *spool)
{
    struct spool_reader *reader;
    const struct spool_event *event;
    struct spool_reader_options options = SPOOL_READER_OPTIONS(.flags = 0);
    ck_ok(spool_reader_open(spool, &options, &reader));
    for (uint64_t number = 0, found; number < EVENTS; number++) {
        ck_ok(spool_reader_next(reader, 10000, &event));
        memcpy(&found, event->body, sizeof found);
        ck_assert_uint_eq(found, number);
    }
    ck_code(spool_reader_next(reader, 0, &event), SPOOL_ENOTFOUND);
    spool_reader_close(reader);
}

START_TEST(whichever_commits_fail_each_event_is_there_once_and_in_its_place)
{
    struct spool *spool;
    struct spool_options options = SPOOL_OPTIONS(.max_bytes = 64 << 20, .segment_bytes = 1 << 20,
                                                 .journal_bytes = 512 << 10, .full_timeout_ms = 60000);
    state = test_seed(1);
    ck_ok(spool_open(path, &options, &spool));
    atomic_store(&failing, true);
    for (uint64_t number = 0; number < EVENTS; number++)
        enqueue(spool, number);
    atomic_store(&failing, false);
    ck_assert(has_thread("spool-pack")); /* groups were packed ahead */
    ck_assert_uint_gt(atomic_load(&undone) + atomic_load(&unsaid), 0);
    ck_ok(spool_close(spool));
    options.flags = SPOOL_READ_ONLY;
    ck_ok(spool_open(path, &options, &spool));
    check_all(spool);
    ck_ok(spool_close(spool));
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("committer");
    TCase *t = tcase_create("committer");
    tcase_add_checked_fixture(t, scratch_begin, scratch_end);
    tcase_add_test(t, a_ring_that_nobody_flushes_is_opened_at_once);
    tcase_add_test(t, whichever_commits_fail_each_event_is_there_once_and_in_its_place);
    suite_add_tcase(s, t);
    return s;
}

CHECK_MAIN(suite)
