/* hand.c - the file sink-<name>.mark: what the process that serves a sink has in its hands.
 *
 * It is written with pwrite(2) before and after each call of deliver: 1 us into the page cache, which outlives the
 * process but not the machine, and that is all it is for. Nothing depends on it but the finding of deadly events; where
 * it cannot be written, delivery goes on without. Numbers are little-endian.
 *
 *       0   8  "SPOOLMRK"                          8   4  version, 1            12   4  zero
 *      16  16  boot of the machine that the marks are of: a death of the machine is no event's fault
 *      32   4  number of suspects, at most 512    36   4  CRC32C of the bytes of those
 *      64      suspects, 24 each: u32 lane, with the highest bit if it was alone, u32 deaths, u64 first, u64 end
 *   16384      a slot of 4,096 bytes for each worker:
 *              0  4  1: in hand, 0: nothing       4   4  CRC32C of what follows, as far as it is used
 *              8  4  lane                        12   4  number of events
 *             16  8  sequence number of the first
 *             24  4  sequence numbers that follow, when they are not consecutive; 0: they are       28  4  zero
 *             32     those, u64 each
 *
 * A slot counts if its first number is 1 and its checksum is right; the suspects if theirs is. A file of another
 * version or without the magic is begun anew. Version recipe: raise the version; old files are begun anew, they are
 * worth little.
 *
 * Only a death counts. spool_stop() clears the slots of a sink that hangs, since whoever kills the process then is not
 * the event's fault; so does exit(), which ends a process in the middle of deliver without that being wrong, unless the
 * sink itself has called it. */
#include "hand.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/bytes.h"
#include "../lib/base/crc32c.h"
#include "../lib/base/error.h"
#include "../lib/base/sync.h"

enum {
    HAND_VERSION = 1,
    BOOT_SIZE = 16,
    AT_BOOT = 16,
    AT_COUNT = 32,
    AT_SUSPECTS = 64,
    SUSPECT_SIZE = 24,
    AT_SLOTS = 16384,
    SLOT_SIZE = 4096,
    SLOT_HEADER = 32,
    SLOTS = 64,
};
_Static_assert(AT_SUSPECTS + STORE_SUSPECTS_MAX * SUSPECT_SIZE <= AT_SLOTS, "suspects do not fit");
_Static_assert(SLOT_HEADER + STORE_MARK_ROWS_MAX * 8 <= SLOT_SIZE, "a mark does not fit");

#define ALONE 0x80000000u

static const char magic[8] = {'S', 'P', 'O', 'O', 'L', 'M', 'R', 'K'};

struct store_hand {
    atomic_uint refs;
    struct store_hand *next; /* all_mutex */
    int fd;                  /* -1: no file */
    pid_t pid;
    uint8_t boot[BOOT_SIZE];
    struct suspects suspects;
};

/* All of this process, for exit(). */
static pthread_mutex_t all_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct store_hand *all;
static atomic_bool exiting;

/* ------------------------------------------------------------------------------------------------------- reading */

/* Where there is none to be read, every boot is the same. */
static void read_boot(uint8_t ret[BOOT_SIZE])
{
    char text[64] = "";
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
    if (fd >= 0)
        close(fd);
    memset(ret, 0, BOOT_SIZE);
    for (size_t i = 0, at = 0; n > 0 && i < (size_t)n && at < 2 * BOOT_SIZE; i++) {
        const char *digit = strchr("0123456789abcdef", text[i]);
        if (digit && text[i]) {
            ret[at / 2] |= (uint8_t)((digit - "0123456789abcdef") << (at % 2 ? 0 : 4));
            at++;
        }
    }
}

static void parse_suspects(const uint8_t *head, struct suspects *ret)
{
    uint32_t n = get_u32(head + AT_COUNT);
    ret->n = 0;
    if (n > STORE_SUSPECTS_MAX || get_u32(head + AT_COUNT + 4) != crc32c(0, head + AT_SUSPECTS, n * SUSPECT_SIZE))
        return;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *at = head + AT_SUSPECTS + i * SUSPECT_SIZE;
        uint32_t lane = get_u32(at);
        struct store_suspect s = {.lane = (int)(lane & ~ALONE), .alone = lane & ALONE, .crashes = get_u32(at + 4)};
        s.first = get_u64(at + 8);
        s.end = get_u64(at + 16);
        if (s.lane >= 0 && s.lane < LANES && s.first < s.end)
            ret->list[ret->n++] = s;
    }
}

static void take_slot(const uint8_t *slot, size_t size, struct suspects *suspects)
{
    if (size < SLOT_HEADER || get_u32(slot) != 1)
        return;
    uint32_t lane = get_u32(slot + 8), count = get_u32(slot + 12), rows = get_u32(slot + 24);
    uint64_t first = get_u64(slot + 16);
    if (lane >= LANES || count == 0 || rows > STORE_MARK_ROWS_MAX || size < SLOT_HEADER + 8 * (size_t)rows)
        return;
    if (get_u32(slot + 4) != crc32c(0, slot + 8, SLOT_HEADER - 8 + 8 * (size_t)rows) || first + count < first)
        return;
    if (rows == 0)
        suspects_add(suspects, (int)lane, first, first + count, count == 1);
    for (uint32_t i = 0; i < rows; i++) {
        uint64_t seq = get_u64(slot + SLOT_HEADER + 8 * i);
        suspects_add(suspects, (int)lane, seq, seq + 1, rows == 1);
    }
}

static void read_file(struct store_hand *hand)
{
    uint8_t *bytes = calloc(1, AT_SLOTS > SLOT_SIZE ? AT_SLOTS : SLOT_SIZE);
    if (!bytes)
        return;
    bool known = pread(hand->fd, bytes, AT_SLOTS, 0) >= AT_SUSPECTS && memcmp(bytes, magic, sizeof magic) == 0 &&
                 get_u32(bytes + 8) == HAND_VERSION;
    bool same_boot = known && memcmp(bytes + AT_BOOT, hand->boot, BOOT_SIZE) == 0;
    if (known)
        parse_suspects(bytes, &hand->suspects);
    for (uint32_t i = 0; i < SLOTS && same_boot; i++) {
        ssize_t n = pread(hand->fd, bytes, SLOT_SIZE, AT_SLOTS + (off_t)i * SLOT_SIZE);
        if (n <= 0)
            break;
        take_slot(bytes, (size_t)n, &hand->suspects);
    }
    free(bytes);
}

/* ------------------------------------------------------------------------------------------------------- writing */

static bool write_at(struct store_hand *hand, const void *bytes, size_t size, off_t at)
{
    struct file_size_signal signal;
    file_size_signal_hold(&signal); /* costs nothing on our own threads, which are the ones that deliver */
    bool written = hand->fd >= 0 && pwrite(hand->fd, bytes, size, at) == (ssize_t)size;
    file_size_signal_release(&signal);
    return written;
}

static bool write_head(struct store_hand *hand)
{
    uint8_t head[AT_SLOTS] = {0};
    const struct suspects *s = &hand->suspects;
    memcpy(head, magic, sizeof magic);
    put_u32(head + 8, HAND_VERSION);
    memcpy(head + AT_BOOT, hand->boot, BOOT_SIZE);
    put_u32(head + AT_COUNT, (uint32_t)s->n);
    for (size_t i = 0; i < s->n; i++) {
        uint8_t *at = head + AT_SUSPECTS + i * SUSPECT_SIZE;
        put_u32(at, (uint32_t)s->list[i].lane | (s->list[i].alone ? ALONE : 0));
        put_u32(at + 4, s->list[i].crashes);
        put_u64(at + 8, s->list[i].first);
        put_u64(at + 16, s->list[i].end);
    }
    put_u32(head + AT_COUNT + 4, crc32c(0, head + AT_SUSPECTS, s->n * SUSPECT_SIZE));
    return write_at(hand, head, AT_SUSPECTS + s->n * SUSPECT_SIZE, 0);
}

static void clear_slot(struct store_hand *hand, uint32_t slot)
{
    static const uint8_t zero[4];
    write_at(hand, zero, sizeof zero, AT_SLOTS + (off_t)slot * SLOT_SIZE);
}

/* A slot that was never used is behind the end of the file. */
static void clear_slots(struct store_hand *hand)
{
    off_t end = hand->fd < 0 ? 0 : lseek(hand->fd, 0, SEEK_END);
    for (uint32_t i = 0; i < SLOTS && AT_SLOTS + (off_t)i * SLOT_SIZE < end; i++)
        clear_slot(hand, i);
}

void store_hand_mark(struct store_hand *hand, uint32_t slot, const struct store_mark *mark)
{
    uint8_t bytes[SLOT_SIZE];
    if (!hand || slot >= SLOTS)
        return;
    if (!mark || mark->count == 0 || atomic_load(&exiting)) {
        clear_slot(hand, slot);
        return;
    }
    uint32_t rows = mark->seqs ? mark->count : 0;
    if (rows > STORE_MARK_ROWS_MAX)
        return;
    put_u32(bytes, 1);
    put_u32(bytes + 8, (uint32_t)mark->lane);
    put_u32(bytes + 12, mark->count);
    put_u64(bytes + 16, rows ? mark->seqs[0] : mark->first);
    put_u32(bytes + 24, rows);
    put_u32(bytes + 28, 0);
    for (uint32_t i = 0; i < rows; i++)
        put_u64(bytes + SLOT_HEADER + 8 * i, mark->seqs[i]);
    size_t size = SLOT_HEADER + 8 * (size_t)rows;
    put_u32(bytes + 4, crc32c(0, bytes + 8, size - 8));
    write_at(hand, bytes, size, AT_SLOTS + (off_t)slot * SLOT_SIZE);
    if (atomic_load(&exiting)) /* meanwhile */
        clear_slot(hand, slot);
}

void store_hand_excuse(struct store_hand *hand)
{
    if (hand)
        clear_slots(hand);
}

size_t store_hand_suspects(const struct store_hand *hand, struct store_suspect ret[STORE_SUSPECTS_MAX])
{
    size_t n = hand ? hand->suspects.n : 0;
    if (n > 0)
        memcpy(ret, hand->suspects.list, n * sizeof *ret);
    return n;
}

void store_hand_keep(struct store_hand *hand, const struct store_suspect *list, size_t n)
{
    if (!hand || n > STORE_SUSPECTS_MAX)
        return;
    if (n > 0)
        memmove(hand->suspects.list, list, n * sizeof *list);
    hand->suspects.n = n;
    write_head(hand);
}

/* ------------------------------------------------------------------------------------------- opening and closing */

static void link_hand(struct store_hand *hand)
{
    pthread_mutex_lock(&all_mutex);
    hand->next = all;
    all = hand;
    pthread_mutex_unlock(&all_mutex);
}

/* all_mutex held. */
static void unlink_hand(struct store_hand *hand)
{
    struct store_hand **link = &all;
    while (*link && *link != hand)
        link = &(*link)->next;
    if (*link)
        *link = hand->next;
}

void store_hand_ref(struct store_hand *hand)
{
    if (hand)
        atomic_fetch_add(&hand->refs, 1);
}

void store_hand_unref(struct store_hand *hand)
{
    if (!hand || atomic_fetch_sub(&hand->refs, 1) != 1)
        return;
    if (hand->fd >= 0)
        close(hand->fd);
    free(hand);
}

/* exit() ends the process in the middle of whatever its other threads do. */
__attribute__((destructor)) static void hand_at_exit(void)
{
    if (thread_is_ours() || pthread_mutex_trylock(&all_mutex) != 0)
        return;
    atomic_store(&exiting, true);
    for (struct store_hand *hand = all; hand; hand = hand->next)
        if (hand->pid == getpid())
            clear_slots(hand);
    pthread_mutex_unlock(&all_mutex);
}

struct store_hand *hand_open(const struct dir *dir, const char *sink, const struct reporter *reporter)
{
    char name[SINK_NAME_MAX + 16];
    snprintf(name, sizeof name, "sink-%s.mark", sink);
    struct store_hand *hand = calloc(1, sizeof *hand);
    if (!hand)
        return NULL;
    atomic_init(&hand->refs, 1);
    hand->pid = getpid();
    read_boot(hand->boot);
    hand->fd = openat(dir->fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, dir->file_mode);
    if (hand->fd >= 0)
        read_file(hand);
    if (hand->fd < 0 || !write_head(hand))
        report(reporter, SPOOL_LOG_WARNING,
               "%s: cannot be written (%s): an event that kills the process will not be found", name, strerror(errno));
    clear_slots(hand);
    link_hand(hand);
    return hand;
}

void hand_abandon(struct store_hand *hand)
{
    if (!hand || pthread_mutex_trylock(&all_mutex) != 0)
        return; /* a thread that did not come along had it: exit() does not look at the list either */
    unlink_hand(hand);
    pthread_mutex_unlock(&all_mutex);
    store_hand_unref(hand);
}

void hand_close(struct store_hand *hand)
{
    if (!hand)
        return;
    pthread_mutex_lock(&all_mutex);
    unlink_hand(hand);
    pthread_mutex_unlock(&all_mutex);
    clear_slots(hand);
    store_hand_unref(hand);
}
