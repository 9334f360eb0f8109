/* fault.c - which call fails. Calls are counted by class over all threads, only while armed; so a run with one thread
 * at work repeats exactly, and one with the library's own threads nearly so. */
#include "sweep.h"

#include <execinfo.h>

static struct fault *current; /* in shared memory, set before threads are started */
static _Thread_local unsigned paused;

const char *fault_class_name(int class)
{
#define FAULT_NAME_(id, name, what) name,
    static const char *const names[] = {FAULT_CLASSES(FAULT_NAME_)};
    return names[class];
}

const char *fault_class_what(int class)
{
#define FAULT_WHAT_(id, name, what) what,
    static const char *const texts[] = {FAULT_CLASSES(FAULT_WHAT_)};
    return texts[class];
}

const char *fault_mode_name(int mode)
{
    static const char *const names[] = {"once", "from", "random"};
    return names[mode];
}

void fault_use(struct fault *fault)
{
    void *frame[1];
    backtrace(frame, 1); /* loads what it needs now, not within malloc() */
    current = fault;
}

void fault_arm(bool on)
{
    if (current)
        atomic_store(&current->armed, on);
}

void fault_pause(void)
{
    paused++;
}

void fault_resume(void)
{
    paused--;
}

bool fault_is_armed(void)
{
    return current && !paused && atomic_load_explicit(&current->armed, memory_order_relaxed);
}

bool fault_is_paused(void)
{
    return paused > 0;
}

/* splitmix64, so that call k of a seed always has the same fate. */
static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static bool is_chosen(const struct fault *fault, uint32_t call)
{
    if (fault->mode == MODE_ONCE)
        return call == fault->n;
    if (fault->mode == MODE_FROM)
        return call >= fault->n;
    return mix(fault->seed * 1000003 + call) % fault->n == 0;
}

bool fault_hits(enum fault_class class)
{
    if (!fault_is_armed())
        return false;
    uint32_t call = atomic_fetch_add(&current->calls[class], 1) + 1;
    if (current->class != class || !is_chosen(current, call))
        return false;
    if (atomic_fetch_add(&current->faults, 1) == 0) {
        fault_pause();
        current->frame_count = backtrace(current->frames, FAULT_FRAMES);
        fault_resume();
    }
    return true;
}
