/* disk_content.c - the bytes of a file as sectors, and a sum of hashes over them that is kept up to date. */
#include "disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void *lab_alloc(void *memory, size_t size)
{
    void *p = realloc(memory, size ? size : 1);
    if (!p) {
        fputs("crashlab: out of memory\n", stderr);
        _exit(3);
    }
    return p;
}

static uint64_t mix(uint64_t x)
{
    x ^= x >> 31;
    x *= UINT64_C(0x9e3779b97f4a7c15);
    x ^= x >> 29;
    return x * UINT64_C(0xbf58476d1ce4e5b9);
}

/* Zeros hash to 0 wherever they are. */
uint64_t disk_hash(uint32_t file, uint64_t place, const uint8_t *bytes, size_t size)
{
    uint64_t sum = mix(place + 1) ^ mix(file + UINT64_C(0x100000000)), any = 0;
    for (size_t i = 0; i + 8 <= size; i += 8) {
        uint64_t word;
        memcpy(&word, bytes + i, sizeof word);
        any |= word;
        sum = (sum ^ word) * UINT64_C(0xff51afd7ed558ccd);
        sum ^= sum >> 32;
    }
    for (size_t i = size & ~(size_t)7; i < size; i++) {
        any |= bytes[i];
        sum = (sum ^ bytes[i]) * UINT64_C(0x100000001b3);
    }
    return any ? mix(sum) | 1 : 0;
}

/* Zeros; of large ones, pages that are never touched. */
static void *alloc_zeros(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p)
        lab_alloc(NULL, SIZE_MAX);
    return p;
}

/* Sectors of zeros are not touched: most of a large file is holes. */
static void copy_sectors(struct disk_content *to, const struct disk_content *from)
{
    for (size_t i = 0; i < from->sectors; i++)
        if (from->hash[i]) {
            memcpy(to->bytes + i * SECTOR, from->bytes + i * SECTOR, SECTOR);
            to->hash[i] = from->hash[i];
        }
}

static struct disk_content content_of(size_t sectors, size_t size)
{
    return (struct disk_content){alloc_zeros(sectors, SECTOR), alloc_zeros(sectors, sizeof(uint64_t)), size, sectors};
}

static void make_room(struct disk_content *content, size_t sectors)
{
    if (sectors <= content->sectors)
        return;
    sectors = sectors < 2 * content->sectors ? 2 * content->sectors : sectors;
    struct disk_content larger = content_of(sectors, content->size);
    copy_sectors(&larger, content);
    disk_content_free(content);
    *content = larger;
}

uint64_t disk_content_set(struct disk_content *content, size_t sector, const uint8_t *bytes, uint64_t hash)
{
    make_room(content, sector + 1);
    uint64_t change = content->hash[sector] ^ hash;
    memcpy(content->bytes + sector * SECTOR, bytes, SECTOR);
    content->hash[sector] = hash;
    return change;
}

uint64_t disk_content_resize(struct disk_content *content, uint32_t file, uint64_t size)
{
    static const uint8_t zeros[SECTOR];
    uint64_t change = 0;
    make_room(content, (size + SECTOR - 1) / SECTOR);
    if (size < content->size && size % SECTOR) {
        uint8_t last[SECTOR];
        size_t sector = size / SECTOR;
        memcpy(last, content->bytes + sector * SECTOR, SECTOR);
        memset(last + size % SECTOR, 0, SECTOR - size % SECTOR);
        change ^= disk_content_set(content, sector, last, disk_hash(file, sector, last, SECTOR));
    }
    for (size_t i = (size + SECTOR - 1) / SECTOR; size < content->size && i < content->sectors; i++)
        if (content->hash[i])
            change ^= disk_content_set(content, i, zeros, 0);
    content->size = size;
    return change;
}

void disk_content_copy(struct disk_content *to, const struct disk_content *from)
{
    *to = content_of(from->sectors, from->size);
    copy_sectors(to, from);
}

void disk_content_free(struct disk_content *content)
{
    free(content->bytes);
    free(content->hash);
    *content = (struct disk_content){0};
}
