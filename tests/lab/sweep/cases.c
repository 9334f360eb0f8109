/* cases.c - one case: the scenario's directory is copied, the run meets the fault in one process, the judge looks in
 * another. */
#include "../../memory.h"
#include "sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SLOW_S = 10 };
unsigned watchdog_s = 60;
bool sweep_verbose;
static char base[256];          /* this process's folder */
static struct ledger *prepared; /* the ledger after prepare and baseline */

/* ------------------------------------------------------------------------------------------------------------- files
 */

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static void remove_tree(const char *path)
{
    nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void *shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        exit(3);
    return memory;
}

static void die(const char *what)
{
    fprintf(stderr, "sweep: %s: %s\n", what, strerror(errno));
    exit(3);
}

/* Holes stay holes: state.mdb is 17 MiB of reserve. */
static void copy_file(int from, int to, off_t size)
{
    static char buf[1 << 16];
    for (off_t at = 0; (at = lseek(from, at, SEEK_DATA)) >= 0 && at < size;) {
        off_t end = lseek(from, at, SEEK_HOLE);
        while (at < end) {
            ssize_t n = pread(from, buf, (size_t)(end - at) < sizeof buf ? (size_t)(end - at) : sizeof buf, at);
            if (n <= 0 || pwrite(to, buf, (size_t)n, at) != n)
                die("copying");
            at += n;
        }
    }
    if (ftruncate(to, size))
        die("copying");
}

static void copy_tree(const char *from, const char *to);

static void copy_entry(const char *from, const char *to)
{
    struct stat st;
    if (lstat(from, &st))
        die(from);
    if (S_ISDIR(st.st_mode)) {
        copy_tree(from, to);
        return;
    }
    int source = open(from, O_RDONLY), target = open(to, O_WRONLY | O_CREAT | O_EXCL, st.st_mode & 0777);
    if (source < 0 || target < 0)
        die(to);
    copy_file(source, target, st.st_size);
    close(source);
    close(target);
}

static void copy_tree(const char *from, const char *to)
{
    DIR *dir = opendir(from);
    struct dirent *entry;
    if (!dir || mkdir(to, 0700))
        die(to);
    while ((entry = readdir(dir))) {
        char a[512], b[512];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(a, sizeof a, "%s/%s", from, entry->d_name);
        snprintf(b, sizeof b, "%s/%s", to, entry->d_name);
        copy_entry(a, b);
    }
    closedir(dir);
}

void case_base(char *ret, size_t size)
{
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm); /* libc allocates once for time zones: not a leak of a run */
    snprintf(base, sizeof base, "%s/sweep-XXXXXX", memory_dir());
    if (!mkdtemp(base))
        die(base);
    if (!ledger) {
        ledger = shared(sizeof *ledger);
        prepared = shared(sizeof *prepared);
    }
    snprintf(ret, size, "%s", base);
}

void case_base_remove(void)
{
    remove_tree(base);
}

/* --------------------------------------------------------------------------------------------------------- processes
 */

static bool has_ended(pid_t pid, int *status)
{
    for (unsigned i = 0; i < watchdog_s * 1000; i++) {
        if (waitpid(pid, status, WNOHANG) == pid)
            return true;
        nanosleep(&(struct timespec){0, i < 20 ? 200000 : 1000000}, NULL);
    }
    return false;
}

/* Runs `job` in a process of its own; a violation if it dies or does not end. */
static void in_child(const char *what, void (*job)(const void *user), const void *user)
{
    int status = 0;
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid == 0) {
        job(user);
        _exit(0);
    }
    if (!has_ended(pid, &status)) {
        violation("%s hangs: no end within %u s", what, watchdog_s);
        kill(pid, SIGABRT);
        waitpid(pid, &status, 0);
    } else if (WIFSIGNALED(status)) {
        violation("%s was ended by signal %d (%s)", what, WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else if (WEXITSTATUS(status)) {
        violation("%s ended with status %d", what, WEXITSTATUS(status));
    }
}

static unsigned count_descriptors(void)
{
    unsigned n = 0;
    DIR *dir = opendir("/proc/self/fd");
    while (dir && readdir(dir))
        n++;
    if (dir)
        closedir(dir);
    return n;
}

static void check_balance(unsigned descriptors)
{
    char where[300];
    memory_watch(false);
    uint64_t leaks = memory_leaks(where, sizeof where);
    unsigned now = count_descriptors();
    if (ledger->is_baseline && ledger->keeps_plugin)
        ledger->kept = (uint32_t)leaks;
    if (leaks > ledger->kept)
        violation("%llu allocation(s) leak:%s", (unsigned long long)leaks, where);
    if (now != descriptors)
        violation("%u descriptors are open, before it were %u", now, descriptors);
}

static void job_run(const void *user)
{
    const struct sweep_case *it = user;
    char dir[300];
    snprintf(dir, sizeof dir, "%s/work/spool", base);
    run_end = it->end;
    fault_use(&ledger->fault);
    if (it->end == END_POWER)
        power_use(dir);
    unsigned descriptors = count_descriptors();
    memory_watch(it->end == END_CLOSE);
    it->scenario->run(dir);
    if (it->end == END_CLOSE)
        check_balance(descriptors);
}

static void job_judge(const void *user)
{
    char dir[300];
    (void)user;
    snprintf(dir, sizeof dir, "%s/work/spool", base);
    fault_use(NULL);
    sweep_judge(dir);
}

static void job_prepare(const void *user)
{
    const struct scenario *scenario = user;
    char dir[300];
    snprintf(dir, sizeof dir, "%s/first/spool", base);
    scenario->prepare(dir);
}

bool case_prepare(const struct scenario *scenario)
{
    char path[300];
    snprintf(path, sizeof path, "%s/first", base);
    remove_tree(path);
    memset(ledger, 0, sizeof *ledger);
    if (mkdir(path, 0700))
        die(path);
    snprintf(path, sizeof path, "%s/first/out", base);
    if (mkdir(path, 0700))
        die(path);
    in_child("prepare", job_prepare, scenario);
    *prepared = *ledger;
    if (*ledger->violation)
        printf("VIOLATION %s: preparing: %s\n", scenario->name, ledger->violation);
    return !*ledger->violation;
}

/* ------------------------------------------------------------------------------------------------------------ a case
 */

const char *end_name(int end)
{
    static const char *const names[] = {"close", "exit", "power"};
    return names[end];
}

static int first_object(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size;
    *(uintptr_t *)user = info->dlpi_addr;
    return 1; /* the program itself comes first */
}

static void print_place(uintptr_t program, const void *frame)
{
    char command[600], line[300], exe[300];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    exe[n > 0 ? n : 0] = '\0';
    snprintf(command, sizeof command, "addr2line -f -s -p -e '%s' 0x%zx 2>/dev/null", exe,
             (uintptr_t)frame - program - 1);
    FILE *pipe = popen(command, "r");
    if (pipe && fgets(line, sizeof line, pipe) && line[0] != '?')
        printf("        %s", line);
    if (pipe)
        pclose(pipe);
}

/* Not wrong by itself: the machine may be busy. */
static void print_case(const char *what, long seconds, const struct sweep_case *it)
{
    printf("%s: %ld s: sweep --scenario %s --class %s --mode %s --n %u --seed %llu --end %s\n", what, seconds,
           it->scenario->name, fault_class_name(it->class), fault_mode_name(it->mode), it->n,
           (unsigned long long)it->seed, end_name(it->end));
    fflush(stdout);
}

static void print_violation(const struct sweep_case *it)
{
    uintptr_t program = 0;
    dl_iterate_phdr(first_object, &program);
    printf("VIOLATION %s\n    replay: sweep --scenario %s --class %s --mode %s --n %u --seed %llu --end %s\n",
           ledger->violation, it->scenario->name, fault_class_name(it->class), fault_mode_name(it->mode), it->n,
           (unsigned long long)it->seed, end_name(it->end));
    for (int i = 0; i < ledger->fault.frame_count; i++)
        print_place(program, ledger->fault.frames[i]);
    const char *at = ledger->violation;
    for (void *where; (at = strchr(at, '@')); at++) {
        if (sscanf(at, "@%p", &where) == 1)
            print_place(program, where);
    }
    fflush(stdout);
}

static void do_case(const struct sweep_case *it)
{
    char from[300], to[300];
    snprintf(from, sizeof from, "%s/first", base);
    snprintf(to, sizeof to, "%s/work", base);
    remove_tree(to);
    copy_tree(from, to);
    *ledger = *prepared;
    ledger->fault.class = it->class;
    ledger->fault.mode = it->mode;
    ledger->fault.n = it->n;
    ledger->fault.seed = it->seed;
    in_child("the run", job_run, it);
    if (!*ledger->violation)
        in_child("the judge", job_judge, NULL);
}

bool case_run(const struct sweep_case *it, bool *ret_hit)
{
    time_t from = time(NULL), took;
    do_case(it);
    if ((took = time(NULL) - from) >= SLOW_S)
        print_case("slow", (long)took, it);
    *ret_hit = atomic_load(&ledger->fault.faults) > 0;
    if (!*ledger->violation)
        return true;
    if (!control_active || sweep_verbose)
        print_violation(it);
    return false;
}

bool case_baseline(const struct scenario *scenario, uint32_t ret_calls[FAULT_CLASS_COUNT])
{
    bool good = true;
    for (int end = 0; end < END_COUNT && good; end++) {
        const struct sweep_case it = {.scenario = scenario, .mode = MODE_ONCE, .end = end, .n = UINT32_MAX};
        bool hit;
        prepared->is_baseline = end == END_CLOSE;
        good = case_run(&it, &hit);
        if (end == END_CLOSE) {
            memcpy(prepared->whole, ledger->whole, sizeof prepared->whole);
            prepared->kept = ledger->kept;
        }
        for (int class = 0; class < FAULT_CLASS_COUNT; class ++) {
            uint32_t calls = atomic_load(&ledger->fault.calls[class]);
            ret_calls[class] = calls > ret_calls[class] || !end ? calls : ret_calls[class];
        }
    }
    prepared->is_baseline = false;
    return good;
}
