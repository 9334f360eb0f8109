/* hook_memory.c - allocation: may fail, and is watched for leaks.
 *
 * What the dynamic loader allocates is left alone: it keeps thread storage with cached stacks, and ends the program
 * when memory fails while it looks up a symbol. */
#include "sweep.h"

#include <errno.h>
#include <execinfo.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __SANITIZE_ADDRESS__
#define REAL(name) __interceptor_##name
#else
#define REAL(name) __libc_##name
#define __libc_aligned_alloc __libc_memalign
#endif
void *REAL(malloc)(size_t size);
void *REAL(calloc)(size_t n, size_t size);
void *REAL(realloc)(void *old, size_t size);
void *REAL(aligned_alloc)(size_t alignment, size_t size);
void REAL(free)(void *memory);

/* ------------------------------------------------------------------------------------------------------ the loader */

static uintptr_t loader_from, loader_to; /* set before threads are started */

static int find_loader(struct dl_phdr_info *info, size_t size, void *user)
{
    (void)size, (void)user;
    if (!strstr(info->dlpi_name, "/ld-linux"))
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        uintptr_t end = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr + info->dlpi_phdr[i].p_memsz;
        loader_to = end > loader_to ? end : loader_to;
    }
    loader_from = info->dlpi_addr;
    return 1;
}

__attribute__((constructor)) static void know_loader(void)
{
    dl_iterate_phdr(find_loader, NULL);
}

static bool is_loader(const void *caller)
{
    return (uintptr_t)caller >= loader_from && (uintptr_t)caller < loader_to;
}

/* ----------------------------------------------------------------------------------------------------------- leaks */

enum { SLOTS = 1 << 16, WHERE = 8 };
struct allocation {
    void *memory; /* NULL: free slot */
    size_t size;
    void *where[WHERE];
};
static struct allocation table[SLOTS]; /* table_mutex; open addressing */
static pthread_mutex_t table_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_bool watching;

static size_t slot_of(const void *memory)
{
    return ((uintptr_t)memory >> 4) * 2654435761u % SLOTS;
}

static void note(void *memory, size_t size, const void *caller)
{
    if (!memory || !atomic_load_explicit(&watching, memory_order_relaxed) || is_loader(caller))
        return;
    pthread_mutex_lock(&table_mutex);
    size_t i = slot_of(memory);
    while (table[i].memory)
        i = (i + 1) % SLOTS;
    table[i] = (struct allocation){.memory = memory, .size = size, .where = {(void *)caller}};
    pthread_mutex_unlock(&table_mutex);
}

/* Moves up those behind the gap that belong before it. */
static void close_gap(size_t gap)
{
    for (size_t i = (gap + 1) % SLOTS; table[i].memory; i = (i + 1) % SLOTS) {
        size_t home = slot_of(table[i].memory);
        bool stays = gap < i ? home > gap && home <= i : home > gap || home <= i;
        if (stays)
            continue;
        table[gap] = table[i];
        gap = i;
    }
    table[gap].memory = NULL;
}

static void forget(const void *memory)
{
    if (!memory || !atomic_load_explicit(&watching, memory_order_relaxed))
        return;
    pthread_mutex_lock(&table_mutex);
    size_t i = slot_of(memory);
    while (table[i].memory && table[i].memory != memory)
        i = (i + 1) % SLOTS;
    if (table[i].memory)
        close_gap(i);
    pthread_mutex_unlock(&table_mutex);
}

void memory_watch(bool on)
{
    atomic_store(&watching, on);
}

uint64_t memory_leaks(char *text, size_t size)
{
    uint64_t n = 0;
    size_t used = 0;
    *text = '\0';
    pthread_mutex_lock(&table_mutex);
    for (size_t i = 0; i < SLOTS; i++) {
        if (!table[i].memory)
            continue;
        if (n++ < 3 && used + 60 < size)
            used += (size_t)snprintf(text + used, size - used, " %zu bytes from @%p", table[i].size, table[i].where[0]);
    }
    pthread_mutex_unlock(&table_mutex);
    return n;
}

/* ----------------------------------------------------------------------------------------------------------- hooks */

static bool fails(const void *caller)
{
    if (!fault_is_armed() || is_loader(caller) || !fault_hits(FAULT_MEMORY))
        return false;
    errno = ENOMEM;
    return true;
}

#define CALLER __builtin_return_address(0)

void *malloc(size_t size)
{
    void *memory = fails(CALLER) ? NULL : REAL(malloc)(size);
    note(memory, size, CALLER);
    return memory;
}

void *calloc(size_t n, size_t size)
{
    void *memory = fails(CALLER) ? NULL : REAL(calloc)(n, size);
    note(memory, n * size, CALLER);
    return memory;
}

void *realloc(void *old, size_t size)
{
    if (fails(CALLER))
        return NULL;
    forget(old);
    void *memory = REAL(realloc)(old, size);
    note(memory ? memory : old, size, CALLER);
    return memory;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    void *memory = fails(CALLER) ? NULL : REAL(aligned_alloc)(alignment, size);
    note(memory, size, CALLER);
    return memory;
}

int posix_memalign(void **ret, size_t alignment, size_t size)
{
    void *memory = fails(CALLER) ? NULL : REAL(aligned_alloc)(alignment, size);
    if (!memory)
        return ENOMEM;
    note(memory, size, CALLER);
    *ret = memory;
    return 0;
}

void free(void *memory)
{
    forget(memory);
    REAL(free)(memory);
}
