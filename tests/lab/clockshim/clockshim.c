/* clockshim.c - another wall clock for one process: preloaded (LD_PRELOAD), it adds an offset to CLOCK_REALTIME.
 *
 * The offset, nanoseconds as a 64-bit number, is read from the mapped file $CLOCKSHIM, so that a test steps the clock
 * of a running process by writing there. The monotonic clocks go on as they are, and so does the kernel's idea of time
 * (file times): as when somebody sets the clock of a machine, but for the machine. Linked with -shared: see flags.mk.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_SECOND 1000000000

static _Atomic int64_t none;
static _Atomic int64_t *offset_ns = &none;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void clockshim_begin(void)
{
    const char *path = getenv("CLOCKSHIM");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *map = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset_ns, PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (map != MAP_FAILED)
        offset_ns = map;
    *(void **)&real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!real_clock_gettime)
        clockshim_begin(); /* another constructor was first */
    int code = real_clock_gettime(clock, now);
    if (code || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE))
        return code;
    int64_t ns = (int64_t)now->tv_sec * NS_PER_SECOND + now->tv_nsec + atomic_load(offset_ns);
    ns = ns > 0 ? ns : 0;
    now->tv_sec = (time_t)(ns / NS_PER_SECOND);
    now->tv_nsec = (long)(ns % NS_PER_SECOND);
    return 0;
}

time_t time(time_t *ret)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (ret)
        *ret = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *now, void *zone)
{
    struct timespec ts = {0};
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &ts);
    now->tv_sec = ts.tv_sec;
    now->tv_usec = (suseconds_t)(ts.tv_nsec / 1000);
    return 0;
}
