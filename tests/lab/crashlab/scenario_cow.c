/* scenario_cow.c - the same as others, on a file system that copies on write: there the journal is written with
 * pwrite(), a record at a time, and so are padding and the last lap's leftovers. What is found after the crash is
 * opened as usual. */
#include <linux/magic.h>
#include <sys/statfs.h>

#include "../../../spool/dir.h"
#include "scenarios.h"

static int pretend_btrfs(int fd, struct statfs *ret)
{
    int rc = fstatfs(fd, ret);
    ret->f_type = BTRFS_SUPER_MAGIC;
    return rc;
}

static int run_on_cow(const struct lab_scenario *scenario, const char *dir, uint64_t seed)
{
    dir_fstatfs = pretend_btrfs; /* this process ends with the run */
    return scenario->run(dir, seed);
}

static int run_mixed(const char *dir, uint64_t seed)
{
    return run_on_cow(&scenario_mixed, dir, seed);
}
static int run_laps(const char *dir, uint64_t seed)
{
    return run_on_cow(&scenario_laps, dir, seed);
}
static int run_adopt(const char *dir, uint64_t seed)
{
    return run_on_cow(&scenario_adopt_open, dir, seed);
}

static int prepare_mixed(const char *dir, uint64_t seed)
{
    return scenario_mixed.prepare ? scenario_mixed.prepare(dir, seed) : 0;
}
static int prepare_laps(const char *dir, uint64_t seed)
{
    return scenario_laps.prepare ? scenario_laps.prepare(dir, seed) : 0;
}
static int prepare_adopt(const char *dir, uint64_t seed)
{
    return scenario_adopt_open.prepare ? scenario_adopt_open.prepare(dir, seed) : 0;
}

const struct lab_scenario scenario_cow_mixed = {"cow-mixed", "both levels, on a file system that copies on write",
                                                prepare_mixed, run_mixed, NULL};
const struct lab_scenario scenario_cow_laps = {"cow-laps", "laps round the journal's ring, likewise", prepare_laps,
                                               run_laps, NULL};
const struct lab_scenario scenario_cow_adopt = {"cow-adoption", "a dead process's journal is taken over, likewise",
                                                prepare_adopt, run_adopt, NULL};
