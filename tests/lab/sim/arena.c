/* arena.c - sizes are rounded up to powers of two; what is freed is overwritten and waits in a queue before it is used
 * again, so that whoever still uses it meets nonsense. With AddressSanitizer it is poisoned as well (compile
 * with --param asan-stack=0 then: it does not know our stacks). */
#include "arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, size) ((void)(p), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(p, size) ((void)(p), (void)(size))
#endif

enum { CLASSES = 28, QUEUE_MIN = 64 };
static const size_t arena_bytes = (size_t)1 << 30;
static const uint64_t live_magic = 0x11feb10c11feb10cull, free_magic = 0xdeadb10cdeadb10cull;

struct piece {
    uint64_t magic;
    uint32_t class;
    uint32_t size;
    struct piece *next; /* in the queue of freed ones */
    uint64_t unused;    /* keeps what follows aligned to 16 */
};

struct arena {
    uint8_t *base, *top, *high; /* high: the most that was used since it was made */
    size_t live;
    struct {
        struct piece *head, *tail;
        size_t count;
    } freed[CLASSES];
};

static struct arena arenas[ARENAS];

static void arena_map(struct arena *a)
{
    a->base = mmap(NULL, arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (a->base == MAP_FAILED) {
        perror("sim: memory");
        abort();
    }
    a->top = a->high = a->base;
}

static struct piece *take_freed(struct arena *a, uint32_t class)
{
    struct piece *piece = a->freed[class].head;
    if (a->freed[class].count < QUEUE_MIN)
        return NULL;
    a->freed[class].head = piece->next;
    a->freed[class].count--;
    return piece;
}

static struct piece *take_new(struct arena *a, uint32_t class)
{
    struct piece *piece = (struct piece *)a->top;
    a->top += sizeof *piece + ((size_t)1 << class);
    if (a->top > a->base + arena_bytes) {
        fprintf(stderr, "sim: a simulated process uses more than %zu bytes\n", arena_bytes);
        abort();
    }
    if (a->high < a->top)
        a->high = a->top;
    return piece;
}

void *arena_get(int arena, size_t size)
{
    struct arena *a = &arenas[arena];
    uint32_t class = 5;
    if (!a->base)
        arena_map(a);
    while (((size_t)1 << class) < size)
        class ++;
    if (class >= CLASSES) {
        fprintf(stderr, "sim: %zu bytes at once\n", size);
        abort();
    }
    struct piece *piece = take_freed(a, class);
    if (!piece)
        piece = take_new(a, class);
    ASAN_UNPOISON_MEMORY_REGION(piece + 1, size);
    piece->magic = live_magic;
    piece->class = class;
    piece->size = (uint32_t)size;
    a->live++;
    return memset(piece + 1, 0xa5, size);
}

static struct arena *arena_of(const void *p)
{
    for (int i = 0; i < ARENAS; i++)
        if ((const uint8_t *)p >= arenas[i].base && (const uint8_t *)p < arenas[i].base + arena_bytes && arenas[i].base)
            return &arenas[i];
    return NULL;
}

bool arena_owns(const void *p)
{
    return arena_of(p) != NULL;
}

size_t arena_size(const void *p)
{
    return ((const struct piece *)p - 1)->size;
}

void arena_put(void *p)
{
    struct arena *a = arena_of(p);
    struct piece *piece = (struct piece *)p - 1;
    if (piece->magic != live_magic) {
        violation("memory", piece->magic == free_magic ? "freed twice" : "free of what was never allocated");
        return;
    }
    memset(p, 0xdd, piece->size);
    ASAN_POISON_MEMORY_REGION(p, piece->size);
    piece->magic = free_magic;
    piece->next = NULL;
    if (a->freed[piece->class].count++ > 0)
        a->freed[piece->class].tail->next = piece;
    else
        a->freed[piece->class].head = piece;
    a->freed[piece->class].tail = piece;
    a->live--;
}

void arena_reset(int arena)
{
    struct arena *a = &arenas[arena];
    uint8_t *base = a->base, *high = a->high;
    if (!base)
        return;
    ASAN_UNPOISON_MEMORY_REGION(base, (size_t)(high - base));
    *a = (struct arena){.base = base, .top = base, .high = high};
}

size_t arena_live(int arena)
{
    return arenas[arena].live;
}
