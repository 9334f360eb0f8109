/* damage.c - carries out a recipe: a list of damages, each to one file of the directory.
 *
 * A damage is { kind 1, file 1, place 4, amount 2 } and, for some kinds, bytes. Places lean to the beginning of a file
 * and to page boundaries, where LMDB and the formats have what they believe. Numbers in the recipe are taken modulo
 * what there is, so that any bytes are a recipe. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "../../../lib/base/bytes.h"
#include "wreck.h"

enum { PAGE = 4096, SECTOR = 512, STEP_SIZE = 8, DAMAGES_MAX = 8, FILE_MAX = 4 << 20 };

struct bench {
    const struct wreck_template *template;
    const char *dir;
    struct wreck_damage *damage;
    const uint8_t *at, *end; /* the recipe */
    /* the damage under way */
    size_t index;
    const struct wreck_file *file;
    char path[512];
    uint32_t place;
    uint16_t amount;
};

static void tell(struct bench *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell(struct bench *b, const char *format, ...)
{
    size_t used = strlen(b->damage->told);
    va_list args;
    va_start(args, format);
    vsnprintf(b->damage->told + used, sizeof b->damage->told - used, format, args);
    va_end(args);
}

static uint8_t take(struct bench *b)
{
    return b->at < b->end ? *b->at++ : 0;
}

/* ------------------------------------------------------------------------------------------------- bytes of the file
 */

static size_t place_in(const struct bench *b, size_t size)
{
    if (size == 0)
        return 0;
    switch (b->place >> 30) {
    case 0:
        return b->place % (size < 3 * PAGE ? size : 3 * PAGE);
    case 1: /* the head of some page: its header and its list of nodes */
        return ((size_t)(b->place >> 8) % (size / PAGE + 1) * PAGE + b->place % 64) % size;
    default:
        return b->place % size;
    }
}

static void put_bytes(struct bench *b, size_t at, const void *bytes, size_t size)
{
    int fd = open(b->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return;
    if (at < b->file->size) /* never grows it */
        size = size < b->file->size - at ? size : b->file->size - at;
    if (at < b->file->size && pwrite(fd, bytes, size, (off_t)at) < 0)
        tell(b, " (failed)");
    close(fd);
}

/* Not through a link that an earlier damage put there. */
static bool set_size(const struct bench *b, size_t size)
{
    int fd = open(b->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    bool good = fd >= 0 && ftruncate(fd, (off_t)size) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

static void flip_bit(struct bench *b)
{
    size_t at = place_in(b, b->file->size);
    if (b->file->size == 0)
        return;
    uint8_t byte = b->file->bytes[at] ^ (uint8_t)(1u << (b->amount & 7));
    put_bytes(b, at, &byte, 1);
    tell(b, "bit %u of byte %zu", b->amount & 7, at);
}

static void put_own_bytes(struct bench *b)
{
    uint8_t bytes[16];
    size_t at = place_in(b, b->file->size), n = 1 + b->amount % sizeof bytes;
    for (size_t i = 0; i < n; i++)
        bytes[i] = take(b);
    put_bytes(b, at, bytes, n);
    tell(b, "%zu bytes at %zu", n, at);
}

static void put_noise(struct bench *b, size_t at, size_t size)
{
    static uint8_t noise[64 * PAGE];
    uint64_t x = b->place * 0x9e3779b97f4a7c15u + b->amount + 1;
    size = size < sizeof noise ? size : sizeof noise;
    for (size_t i = 0; i < size; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        noise[i] = (uint8_t)(x >> 32);
    }
    put_bytes(b, at, noise, size);
}

static void put_pages_of_noise(struct bench *b)
{
    size_t at = place_in(b, b->file->size) & ~(size_t)(PAGE - 1), size = (1 + b->amount % 4u) * PAGE;
    put_noise(b, at, size);
    tell(b, "noise over %zu bytes at %zu", size, at);
}

static void put_zeros(struct bench *b)
{
    static const uint8_t zeros[8 * PAGE];
    size_t unit = b->amount & 1 ? SECTOR : PAGE, at = place_in(b, b->file->size) & ~(unit - 1);
    size_t size = (1 + (b->amount >> 1) % 8u) * unit;
    put_bytes(b, at, zeros, size);
    tell(b, "zeros over %zu bytes at %zu", size, at);
}

/* A number that LMDB or we may stumble over, where numbers stand. */
static void put_odd_number(struct bench *b)
{
    static const uint64_t odd[] = {0,    1,    2,    8,     15,    16,         17,         255,
                                   4095, 4096, 4097, 32767, 65535, UINT32_MAX, UINT64_MAX, 1ull << 63};
    size_t width = b->amount & 1 ? 2 : b->amount & 2 ? 4 : 8, at = place_in(b, b->file->size) & ~(width - 1);
    uint8_t bytes[8];
    uint64_t number = odd[b->amount >> 2 & 15] + (b->amount >> 6 & 3);
    put_u64(bytes, number);
    put_bytes(b, at, bytes, width);
    tell(b, "the number %llx in %zu bytes at %zu", (unsigned long long)number, width, at);
}

/* A misdirected write: a page of this or another file stands in place of this one. */
static void put_other_page(struct bench *b)
{
    const struct wreck_file *from =
        b->amount & 1 ? b->file : &b->template->files[(b->amount >> 1) % b->template->count];
    size_t at = place_in(b, b->file->size) & ~(size_t)(PAGE - 1);
    size_t from_at = (size_t)(b->amount * 40503u >> 3) % (from->size / PAGE + 1) * PAGE;
    size_t size = from->size - from_at < PAGE ? from->size - from_at : PAGE;
    put_bytes(b, at, from->bytes + from_at, size);
    tell(b, "%s at %zu put at %zu", from->name, from_at, at);
}

/* A lost write: what stood there before. */
static void put_old_page(struct bench *b)
{
    size_t at = place_in(b, b->file->size) & ~(size_t)(PAGE - 1), size = (1 + b->amount % 3u) * PAGE;
    if (!b->file->old || at >= b->file->old_size)
        return;
    size = size < b->file->old_size - at ? size : b->file->old_size - at;
    put_bytes(b, at, b->file->old + at, size);
    tell(b, "%zu bytes at %zu as they were before", size, at);
}

static void put_old_file(struct bench *b)
{
    b->damage->extra = true;
    if (!b->file->old || !set_size(b, 0))
        return;
    int fd = open(b->path, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && write(fd, b->file->old, b->file->old_size) < 0)
        tell(b, " (failed)");
    if (fd >= 0)
        close(fd);
    tell(b, "all as it was before");
}

static void cut(struct bench *b)
{
    size_t at = place_in(b, b->file->size);
    at = b->amount & 1 ? at & ~(size_t)(PAGE - 1) : at;
    at = b->amount & 2 ? 0 : at;
    if (set_size(b, at))
        tell(b, "cut to %zu", at);
}

static void extend(struct bench *b)
{
    size_t size = b->file->size + 1 + place_in(b, FILE_MAX - b->file->size);
    if (!set_size(b, size))
        return;
    tell(b, "extended to %zu", size);
    int fd = open(b->path, O_WRONLY | O_APPEND | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd >= 0 && b->amount & 1 && write(fd, b->file->bytes, b->file->size % (3 * PAGE)) >= 0)
        tell(b, " and its own beginning");
    if (fd >= 0)
        close(fd);
}

/* ----------------------------------------------------------------------------------------------------- names of files
 */

/* Another name in the same directory, near the file's own or odd. */
static void make_name(const struct bench *b, char ret[512])
{
    static const char *const names[] = {
        "segments/00000000000000000002.mdb",
        "segments/00000000000000000009.mdb",
        "segments/18446744073709551615.mdb",
        "segments/18446744073709551614.mdb",
        "segments/00000000000000000000.mdb",
        "segments/00000000000000000003.mdb.tmp",
        "segments/00000000000000000001.tmp",
        "segments/x.mdb",
        "segments/1.mdb",
        "segments/99999999999999999999.mdb",
        "journal/00010203-0405-4607-8809-0a0b0c0d0e0f.jnl",
        "journal/00010203-0405-4607-8809-0a0b0c0d0e0f.jnl.tmp",
        "journal/x.jnl",
        "journal/.jnl",
        "journal/00010203.jnl",
        "state.mdb",
        "state.mdb.tmp",
        "state.mdb.salvage",
        "state.mdb-lock",
        "spool.json",
        "spool.json.00000000.tmp",
        "limits.json",
        "limits.json.tmp",
        "log.lock",
        "state.lock",
        "sink-out.lock",
        "sink-held.lock",
        "sink-.lock",
        "wake",
        "quarantine/1700000000-state.mdb",
        "quarantine/x",
        "core",
        "lost+found",
        "segments/core",
        "journal/00010203-0405-4607-8809-0a0b0c0d0e0f",
    };
    size_t most = sizeof names / sizeof *names;
    snprintf(ret, 512, "%s/%s", b->dir, names[b->place % most]);
}

/* A name that was something else's is damaged too. */
static void touch_name(struct bench *b, const char *path)
{
    const char *name = path + strlen(b->dir) + 1;
    for (size_t i = 0; i < b->template->count; i++) {
        if (strcmp(b->template->files[i].name, name) == 0)
            b->damage->touched[i] = true;
    }
    b->damage->identity |= strcmp(name, "spool.json") == 0;
}

static void remove_file(struct bench *b)
{
    if (unlink(b->path) == 0)
        tell(b, "removed");
}

static void rename_file(struct bench *b)
{
    char to[512];
    make_name(b, to);
    touch_name(b, to);
    b->damage->extra = true;
    if (rename(b->path, to) == 0)
        tell(b, "renamed to %s", to + strlen(b->dir) + 1);
}

static void copy_file(struct bench *b)
{
    char to[512];
    make_name(b, to);
    touch_name(b, to);
    b->damage->extra = true;
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return;
    const uint8_t *bytes = b->amount & 1 && b->file->old ? b->file->old : b->file->bytes;
    size_t size = b->amount & 1 && b->file->old ? b->file->old_size : b->file->size;
    if (write(fd, bytes, size) == (ssize_t)size)
        tell(b, "copied to %s", to + strlen(b->dir) + 1);
    close(fd);
}

static void exchange_files(struct bench *b)
{
    size_t other = b->place % b->template->count;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", b->dir, b->template->files[other].name);
    touch_name(b, path);
    b->damage->extra = true;
    if (renameat2(AT_FDCWD, b->path, AT_FDCWD, path, RENAME_EXCHANGE) == 0)
        tell(b, "exchanged with %s", b->template->files[other].name);
}

static bool make_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof address.sun_path || fd < 0)
        return false;
    memcpy(address.sun_path, path, strlen(path) + 1);
    bool good = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    close(fd);
    return good;
}

static bool make_odd(unsigned kind, const char *path, const char *dir)
{
    char aim[512];
    snprintf(aim, sizeof aim, "%s/spool.json", dir);
    switch (kind) {
    case 0:
        return symlink("/dev/zero", path) == 0;
    case 1:
        return symlink(aim, path) == 0;
    case 2:
        return link(aim, path) == 0;
    case 3:
        return mkfifo(path, 0600) == 0;
    case 4:
        return mkdir(path, 0700) == 0;
    case 5:
        return make_socket(path);
    default:
        return symlink("nowhere", path) == 0;
    }
}

/* A link, FIFO, directory … in place of the file, or under another name. */
static void put_odd_file(struct bench *b)
{
    static const char *const kinds[] = {"link to /dev/zero", "link",   "hard link",  "FIFO",
                                        "directory",         "socket", "broken link"};
    unsigned kind = b->amount % 7u;
    char path[512];
    snprintf(path, sizeof path, "%s", b->path);
    if (b->amount & 0x100)
        make_name(b, path);
    touch_name(b, path);
    b->damage->odd = true;
    unlink(path);
    if (make_odd(kind, path, b->dir))
        tell(b, "%s at %s", kinds[kind], path + strlen(b->dir) + 1);
}

static void put_garbage_file(struct bench *b)
{
    char to[512];
    make_name(b, to);
    touch_name(b, to);
    b->damage->extra = true;
    int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return;
    size_t size = b->amount % (3u * PAGE);
    for (size_t i = 0; i < size; i += 8) {
        uint8_t bytes[8];
        put_u64(bytes, (i + b->amount) * 0x9e3779b97f4a7c15u);
        if (write(fd, bytes, sizeof bytes) < 0)
            break;
    }
    close(fd);
    tell(b, "garbage in %s", to + strlen(b->dir) + 1);
}

/* For files of text: one of their bytes becomes another that means something there. */
static void change_text(struct bench *b)
{
    static const char meaning[] = "{}[]\",:-09aefn\\ \n";
    size_t at = place_in(b, b->file->size < 200 ? b->file->size : 200);
    put_bytes(b, at, &meaning[b->amount % (sizeof meaning - 1)], 1);
    tell(b, "'%c' at %zu", meaning[b->amount % (sizeof meaning - 1)], at);
}

/* ------------------------------------------------------------------------------------------------------------ recipes
 */

static void (*const kinds[])(struct bench *b) = {
    flip_bit,       put_own_bytes,    put_pages_of_noise, put_zeros,    put_odd_number,
    put_odd_number, put_other_page,   put_old_page,       put_old_file, cut,
    extend,         remove_file,      rename_file,        copy_file,    exchange_files,
    put_odd_file,   put_garbage_file, change_text,        flip_bit,     put_own_bytes,
};

/* Three times in four a file that LMDB maps or that holds events. */
static size_t choose_file(const struct bench *b, uint8_t choice)
{
    size_t index = (choice >> 2) % b->template->count;
    for (size_t i = 0; choice & 3 && i < b->template->count; i++) {
        const char *name = b->template->files[index].name;
        if (strchr(name, '/') || strcmp(name, "state.mdb") == 0)
            break;
        index = (index + 1) % b->template->count;
    }
    return index;
}

static void damage_one(struct bench *b)
{
    uint8_t kind = take(b), choice = take(b);
    b->index = choose_file(b, choice);
    b->file = &b->template->files[b->index];
    b->place = (uint32_t)take(b) | (uint32_t)take(b) << 8;
    b->place |= (uint32_t)take(b) << 16 | (uint32_t)take(b) << 24;
    b->amount = (uint16_t)(take(b) | take(b) << 8);
    snprintf(b->path, sizeof b->path, "%s/%s", b->dir, b->file->name);
    b->damage->touched[b->index] = true;
    b->damage->identity |= strcmp(b->file->name, "spool.json") == 0;
    tell(b, "%s%s: ", b->damage->count++ ? "; " : "", b->file->name);
    kinds[kind % (sizeof kinds / sizeof *kinds)](b);
}

void wreck_damage(const struct wreck_template *template, const char *dir, const uint8_t *recipe, size_t size,
                  struct wreck_damage *ret)
{
    struct bench b = {.template = template, .dir = dir, .damage = ret, .at = recipe, .end = recipe + size};
    memset(ret, 0, sizeof *ret);
    while (b.end - b.at >= STEP_SIZE && ret->count < DAMAGES_MAX)
        damage_one(&b);
}
