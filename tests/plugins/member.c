/* member.c - for the soak test (tests/programs/soak.c): a member of a group that fails, hangs, forbids and comes back by chance,
 * and notes what it has accepted where the program sees it: a bit of its own in the byte of the event, in a file that all map.
 * The first byte is the program's: not 0 says that there is peace.
 *
 *     {"path": "FILE", "bit": 0 to 7, "seed": N} */
#define _POSIX_C_SOURCE 200809L
#include <errno.h>
#include <fcntl.h>
#include <spool.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

struct member {
    _Atomic unsigned char *accepted;
    size_t size;
    unsigned bit;
    unsigned long long random;
    atomic_bool cancelled;
};

static unsigned draw(struct member *member, unsigned below)
{
    unsigned long long z = (member->random += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return (unsigned)((z ^ (z >> 31)) % below);
}

static int map(struct member *member, const char *path)
{
    struct stat st;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || st.st_size == 0) {
        if (fd >= 0)
            close(fd);
        return spool_sink_error(SPOOL_EUNAVAILABLE, "%s cannot be opened", path);
    }
    member->size = (size_t)st.st_size;
    void *memory = mmap(NULL, member->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    member->accepted = memory;
    return memory == MAP_FAILED ? spool_sink_error(SPOOL_EUNAVAILABLE, "%s cannot be mapped", path) : SPOOL_OK;
}

/* Its keys in any order: they are few. */
static bool read_config(const char *json, char path[256], unsigned *bit, unsigned long long *seed)
{
    const char *at_path = strstr(json, "\"path\":\""), *at_bit = strstr(json, "\"bit\":"),
               *at_seed = strstr(json, "\"seed\":");
    return at_path && at_bit && at_seed && sscanf(at_path, "\"path\":\"%255[^\"]\"", path) == 1 &&
           sscanf(at_bit, "\"bit\":%u", bit) == 1 && *bit < 8 && sscanf(at_seed, "\"seed\":%llu", seed) == 1;
}

static int member_open(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t size)
{
    char path[256];
    (void)user, (void)checkpoint, (void)size;
    struct member *member = calloc(1, sizeof *member);
    if (!member)
        return ENOMEM;
    int code = read_config(json_config, path, &member->bit, &member->random)
                   ? map(member, path)
                   : spool_sink_error(SPOOL_ECONFIG, "member: path, bit and seed are required");
    member->random += (unsigned long long)clock() * 8 + member->bit;
    if (code == SPOOL_OK)
        *ret_state = member;
    else
        free(member);
    return code;
}

static bool is_peace(const struct member *member)
{
    return atomic_load(&member->accepted[0]) != 0;
}

static void hang(struct member *member)
{
    bool deaf = draw(member, 4) == 0;
    for (unsigned ms = draw(member, 400); ms > 0 && (deaf || !member->cancelled) && !is_peace(member); ms--)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void take(struct member *member, struct spool_delivery *delivery)
{
    char text[16] = "";
    memcpy(text, delivery->event->body, delivery->event->body_size < 15 ? delivery->event->body_size : 15);
    size_t number = strtoul(text, NULL, 10);
    if (number + 1 >= member->size) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "there is no event %zu", number);
        return;
    }
    if (!is_peace(member) && draw(member, 300) == 0) {
        spool_delivery_fail(delivery, SPOOL_RETRY, "not now");
        return;
    }
    atomic_fetch_or(&member->accepted[number + 1], (unsigned char)(1u << member->bit));
    delivery->outcome = SPOOL_DELIVERED;
}

static int member_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    struct member *member = state;
    member->cancelled = false;
    unsigned roll = is_peace(member) ? 1000 : draw(member, 1000);
    size_t upto = n;
    if (roll < 60)
        return spool_sink_error(SPOOL_EUNAVAILABLE, "connection refused");
    if (roll < 66)
        return spool_sink_error(SPOOL_ECONFIG, "403 Forbidden");
    if (roll < 74)
        hang(member);
    if (roll < 120)
        upto = draw(member, (unsigned)n + 1); /* and then it is down */
    for (size_t i = 0; i < upto; i++)
        take(member, SPOOL_DELIVERY_AT(batch, i));
    return upto < n ? spool_sink_error(SPOOL_EUNAVAILABLE, "connection reset") : SPOOL_OK;
}

static void member_cancel(void *state)
{
    struct member *member = state;
    member->cancelled = true;
}

static void member_close(void *state)
{
    struct member *member = state;
    munmap((void *)member->accepted, member->size);
    free(member);
}

static const struct spool_sink sink = {.abi = SPOOL_SINK_ABI,
                                       .size = sizeof sink,
                                       .kind = "member",
                                       .open = member_open,
                                       .deliver = member_deliver,
                                       .cancel = member_cancel,
                                       .close = member_close};
SPOOL_SINK_PLUGIN(.sink = &sink, .summary = "a member of a group, for the soak test")
