/* segment_find.c - searches the raw bytes of a damaged segment for blocks and rows whose checksums hold.
 *
 * Both begin with a magic of 8 bytes, at any offset (a row stands behind its key, which may be of odd length), and say
 * how long they are. What lies inside a whole block is not looked at: an event's body may hold anything. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/base/bytes.h"
#include "../lib/base/error.h"
#include "segment_salvage.h"

enum { WINDOW = 1 << 20, MAGIC_SIZE = 8 };

/* --------------------------------------------------------------------------------------------------------- reading */

static int read_part(const struct found *found, uint64_t offset, uint8_t *to, size_t size)
{
    while (size) {
        ssize_t n = pread(found->fd, to, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return err_errno(n < 0 ? errno : EIO, "reading a damaged segment at byte %llu", (unsigned long long)offset);
        to += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return SPOOL_OK;
}

int segment_find_read(const struct found *found, uint64_t offset, size_t size, struct buffer *out)
{
    out->size = 0;
    int code = buffer_reserve(out, size);
    if (!code)
        code = read_part(found, offset, out->data, size);
    if (!code)
        out->size = size;
    return code;
}

/* --------------------------------------------------------------------------------------------------------- keeping */

static void *next_slot(void **array, size_t *count, size_t *cap, size_t size)
{
    if (*count == *cap) {
        size_t more = *cap ? *cap * 2 : 256;
        void *grown = realloc(*array, more * size);
        if (!grown)
            return NULL;
        *array = grown;
        *cap = more;
    }
    return (uint8_t *)*array + (*count)++ * size;
}

static int keep_block(struct found *found, uint64_t offset, const struct block_info *info)
{
    struct found_block *slot =
        next_slot((void **)&found->blocks, &found->block_count, &found->block_cap, sizeof *found->blocks);
    if (!slot)
        return err_errno(ENOMEM, "salvaging a segment");
    *slot = (struct found_block){.info = *info, .offset = offset};
    return SPOOL_OK;
}

static int keep_position(struct found *found, const struct segment_row *row)
{
    struct found_position kept = {.commit = row->commit};
    if (row_read_position(row, kept.position.uuid, &kept.position.applied))
        return SPOOL_OK;
    struct found_position *slot =
        next_slot((void **)&found->positions, &found->position_count, &found->position_cap, sizeof *found->positions);
    if (!slot)
        return err_errno(ENOMEM, "salvaging a segment");
    *slot = kept;
    return SPOOL_OK;
}

static int keep_tally(struct found *found, const struct segment_row *row)
{
    struct found_tally kept = {.commit = row->commit};
    if (row_read_tally(row, &kept.tally))
        return SPOOL_OK;
    struct found_tally *slot =
        next_slot((void **)&found->tallies, &found->tally_count, &found->tally_cap, sizeof *found->tallies);
    if (!slot)
        return err_errno(ENOMEM, "salvaging a segment");
    *slot = kept;
    return SPOOL_OK;
}

static int keep_row(struct found *found, uint64_t offset, const struct segment_row *row)
{
    switch (row->kind) {
    case ROW_HEAD: {
        int code = row_read_head(row, &found->head);
        found->have_head |= code == SPOOL_OK;
        if (code == SPOOL_EVERSION)
            found->other_format = get_u32(row->payload);
        return SPOOL_OK;
    }
    case ROW_TALLY:
        return keep_tally(found, row);
    case ROW_POSITION:
        return keep_position(found, row);
    case ROW_SNAPSHOT:
        if (found->snapshot_size && found->snapshot_commit > row->commit)
            return SPOOL_OK;
        found->snapshot_offset = offset + ROW_HEADER;
        found->snapshot_size = row->size;
        found->snapshot_commit = row->commit;
        return SPOOL_OK;
    }
    return SPOOL_OK;
}

/* ------------------------------------------------------------------------------------------------------- the search */

/* Something begins at `offset`: *ret_size is its size if it is whole, otherwise 0. */
static int look_at(struct found *found, uint64_t offset, const uint8_t *magic, struct buffer *scratch, size_t *ret_size)
{
    bool is_block = memcmp(magic, BLOCK_MAGIC, MAGIC_SIZE) == 0;
    size_t least = is_block ? BLOCK_HEADER : ROW_HEADER;
    *ret_size = 0;
    if (found->file_bytes - offset < least)
        return SPOOL_OK;
    int code = segment_find_read(found, offset, least, scratch);
    if (code)
        return code;
    size_t size = is_block ? block_size(scratch->data) : row_size(scratch->data);
    if (size < least || size > found->file_bytes - offset)
        return SPOOL_OK;
    code = segment_find_read(found, offset, size, scratch);
    if (code)
        return code;
    struct block_info info;
    struct segment_row row;
    code = is_block ? block_check(scratch->data, size, &info) : row_check(scratch->data, size, &row);
    if (code) /* not whole; of a newer version it is not ours to read */
        return code == SPOOL_EVERSION ? code : SPOOL_OK;
    *ret_size = size;
    return is_block ? keep_block(found, offset, &info) : keep_row(found, offset, &row);
}

/* The next place at or after `at` where a magic may begin. Both begin with "SPL". */
static const uint8_t *next_magic(const uint8_t *at, const uint8_t *end)
{
    while (end - at >= MAGIC_SIZE) {
        at = memmem(at, (size_t)(end - at), BLOCK_MAGIC, 3);
        if (!at || end - at < MAGIC_SIZE)
            return NULL;
        if (memcmp(at, BLOCK_MAGIC, MAGIC_SIZE) == 0 || memcmp(at, ROW_MAGIC, MAGIC_SIZE) == 0)
            return at;
        at++;
    }
    return NULL;
}

/* Goes through one window; *ret_next is where the next one begins. */
static int search_window(struct found *found, uint64_t offset, const uint8_t *window, size_t size,
                         struct buffer *scratch, uint64_t *ret_next)
{
    const uint8_t *at = window, *end = window + size;
    while ((at = next_magic(at, end)) != NULL) {
        size_t whole;
        uint64_t here = offset + (uint64_t)(at - window);
        int code = look_at(found, here, at, scratch, &whole);
        if (code)
            return code;
        size_t step = whole ? whole : 1;
        if (step > (size_t)(end - at)) {
            *ret_next = here + step;
            return SPOOL_OK;
        }
        at += step;
    }
    *ret_next = offset + size >= found->file_bytes ? found->file_bytes : offset + size - (MAGIC_SIZE - 1);
    return SPOOL_OK;
}

static int search(struct found *found)
{
    struct buffer scratch = {0}, window = {0};
    int code = SPOOL_OK;
    for (uint64_t offset = 0; !code && offset + MAGIC_SIZE <= found->file_bytes;) {
        uint64_t left = found->file_bytes - offset;
        size_t size = left < WINDOW ? (size_t)left : WINDOW;
        code = segment_find_read(found, offset, size, &window);
        if (!code)
            code = search_window(found, offset, window.data, size, &scratch, &offset);
    }
    buffer_free(&scratch);
    buffer_free(&window);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ meta pages */

struct meta {
    uint64_t txn, last_page;
    uint32_t page_size;
};

/* LMDB's meta page at `offset`. (pagecheck.c has the format.) */
static bool read_meta(const struct found *found, uint64_t offset, struct meta *ret)
{
    uint8_t page[16 + 136];
    if (found->file_bytes < offset + sizeof page || read_part(found, offset, page, sizeof page))
        return false;
    if (get_u32(page + 16) != 0xBEEFC0DE || get_u32(page + 20) != 1)
        return false;
    ret->page_size = get_u32(page + 16 + 24);
    ret->last_page = get_u64(page + 16 + 120);
    ret->txn = get_u64(page + 16 + 128);
    return true;
}

/* As pagecheck() wants them: even and odd transactions take turns, and the file only grows. */
static bool metas_agree(const struct meta metas[2])
{
    const struct meta *newer = &metas[metas[1].txn > metas[0].txn], *older = &metas[metas[1].txn <= metas[0].txn];
    return metas[0].page_size == metas[1].page_size && metas[0].txn % 2 == 0 && metas[1].txn % 2 == 1 &&
           newer->txn - older->txn == 1 && newer->last_page >= older->last_page;
}

static void read_metas(struct found *found)
{
    struct meta metas[2] = {{0}};
    bool first = read_meta(found, 0, &metas[0]);
    bool second = read_meta(found, first ? metas[0].page_size : (uint32_t)sysconf(_SC_PAGESIZE), &metas[1]);
    found->metas_whole = first && second && metas_agree(metas);
    found->certain_txn = metas[0].txn > metas[1].txn ? metas[0].txn : metas[1].txn;
    if (first && second && !found->metas_whole) /* one of the numbers is damage, and it is not known which */
        found->certain_txn = 0;
}

int segment_find(int fd, struct found *ret)
{
    struct stat st;
    *ret = (struct found){.fd = fd};
    if (fstat(fd, &st))
        return err_errno(errno, "salvaging a segment");
    ret->file_bytes = (uint64_t)st.st_size;
    read_metas(ret);
    int code = search(ret);
    /* Beside a head of ours it is only something that an event carries. */
    if (!code && ret->other_format && !ret->have_head)
        return err_set(SPOOL_EVERSION, "the segment has format %u, which this libspool (%s) does not read",
                       ret->other_format, spool_version());
    return code;
}

void segment_find_free(struct found *found)
{
    free(found->blocks);
    free(found->positions);
    free(found->tallies);
}
