/* fuzz_journal.c - a journal file of arbitrary bytes: taking it over and scanning it reads nothing outside, ends soon,
 * and reports only records that were written.
 *
 * An even first byte: the rest stands at the beginning of the file, and the file has that length or the right one. An
 * odd one: the rest are changes { offset 2, byte 1 } to a ring full of records, which is right otherwise. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/crc32c.h"
#include "../../spool/journal.h"
#include "fuzz.h"

enum { PAGE = 4096, RING = 64 << 10, FILE_BYTES = PAGE + RING, PAYLOAD = 104, APPLIED = 5 * RING };

static const char NAME[] = "00010203-0405-4607-8809-0a0b0c0d0e0f.jnl";
static int dir_fd = -1;
static uint8_t valid[FILE_BYTES], image[FILE_BYTES];

static void put_header(uint8_t *page)
{
    memcpy(page, "SPOOLJNL\1\0\0\0", 12);
    put_u32(page + 12, RING);
    for (uint8_t i = 0; i < 16; i++)
        page[16 + i] = (uint8_t)(i | (i == 6 ? 0x40 : i == 8 ? 0x80 : 0));
    put_u32(page + 32, crc32c(0, page, 32));
}

static void fill(uint8_t *payload, uint64_t position)
{
    for (size_t i = 0; i < PAYLOAD; i += 8)
        put_u64(payload + i, position * 0x9e3779b97f4a7c15u + i);
}

static void put_file(const uint8_t *bytes, size_t size)
{
    int fd = openat(dir_fd, NAME, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    require(fd >= 0 && write(fd, bytes, size) == (ssize_t)size);
    close(fd);
}

/* The scan takes every record of this one; the fuzzer changes it. */
static void make_valid(void)
{
    struct journal *journal;
    uint64_t end;
    put_header(valid);
    put_file(valid, sizeof valid);
    require(journal_adopt(dir_fd, NAME, true, &journal) == 0);
    journal_begin_at(journal, APPLIED);
    for (uint8_t *payload; (payload = journal_reserve(journal, PAYLOAD));) {
        fill(payload, journal_head(journal));
        require(journal_publish(journal, &end) == 0);
    }
    journal_close(journal);
    int fd = openat(dir_fd, NAME, O_RDONLY);
    require(fd >= 0 && read(fd, valid, sizeof valid) == sizeof valid);
    close(fd);
}

static void set_up(void)
{
    dir_fd = open(scratch_dir(), O_RDONLY | O_DIRECTORY);
    require(dir_fd >= 0);
    make_valid();
}

struct seen {
    bool must_be_ours;
    uint64_t end, count;
};

static int check_record(void *user, const uint8_t *payload, size_t size, uint64_t position)
{
    struct seen *seen = user;
    uint8_t want[PAYLOAD];
    require(position >= seen->end && size > 0 && size % 8 == 0);
    seen->end = position + JOURNAL_RECORD_HEADER + size;
    seen->count += payload[0] + payload[size - 1] < 1024; /* touched */
    if (!seen->must_be_ours)
        return 0;
    fill(want, position);
    require(size == PAYLOAD && memcmp(payload, want, size) == 0);
    return 0;
}

static void scan(struct journal *journal, bool known, bool must_be_ours)
{
    struct seen seen = {.must_be_ours = must_be_ours};
    struct journal_scan result;
    if (journal_scan(journal, known ? APPLIED : 0, known, check_record, &seen, &result))
        return;
    require(result.records == seen.count && result.end >= seen.end && result.end % 8 == 0);
}

static void try_file(size_t size, bool must_be_ours)
{
    struct journal *journal;
    bool dead;
    put_file(image, size);
    if (journal_inspect(dir_fd, NAME, &journal, &dead) == 0) {
        scan(journal, true, must_be_ours);
        scan(journal, false, must_be_ours);
        journal_close(journal);
    }
    if (journal_adopt(dir_fd, NAME, false, &journal) == 0)
        journal_close(journal);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (dir_fd < 0)
        set_up();
    if (size < 1)
        return 0;
    bool changes = data[0] & 1, whole = data[0] & 2;
    data++, size--;
    memcpy(image, valid, sizeof image);
    if (changes) {
        for (; size >= 3; data += 3, size -= 3)
            image[PAGE + (data[0] | data[1] << 8) % RING] = data[2];
        try_file(sizeof image, true);
        return 0;
    }
    size = size < sizeof image ? size : sizeof image;
    memcpy(image, data, size);
    try_file(whole ? sizeof image : size, false);
    return 0;
}
