/* fuzz_block.c - block_check() and row_check() on arbitrary bytes: nothing outside is read, and what is accepted is
 * written again to the very same bytes.
 *
 * Checksums stop nearly all random inputs. So each is tried twice: as it is, and with magic and checksums made right.
 */
#include <stdlib.h>
#include <string.h>

#include "../../lib/base/bytes.h"
#include "../../lib/base/crc32c.h"
#include "../../spool/block.h"
#include "../../spool/segment_row.h"
#include "fuzz.h"

static void check_block(const uint8_t *bytes, size_t size)
{
    struct block_info info;
    struct store_block *block;
    int code = block_check(bytes, size, &info), copied = block_copy(bytes, size, &block);
    require(code == copied || (code == SPOOL_OK && copied == SPOOL_EDAMAGED)); /* the events themselves */
    if (copied)
        return;
    uint8_t *again = malloc(size);
    require(again != NULL && size == BLOCK_HEADER + info.size && block->size == info.events_size);
    block_write(again, &info, bytes + BLOCK_HEADER);
    size_t reserved = info.codec == BLOCK_PLAIN ? 72 : 76; /* readers ignore what is there */
    memcpy(again + reserved, bytes + reserved, 84 - reserved);
    put_u32(again + BLOCK_HEADER - 4, crc32c(0, again, BLOCK_HEADER - 4));
    require(memcmp(again, bytes, size) == 0);
    free(again);
    store_block_unref(block);
}

static void check_row(const uint8_t *bytes, size_t size)
{
    struct segment_row row;
    struct segment_head head;
    struct segment_tally tally;
    uint8_t uuid[JOURNAL_UUID_SIZE];
    uint64_t applied;
    if (row_check(bytes, size, &row))
        return;
    row_read_head(&row, &head);
    row_read_tally(&row, &tally);
    row_read_position(&row, uuid, &applied);
}

static void sign_block(uint8_t *bytes, size_t size)
{
    if (size < BLOCK_HEADER)
        return;
    memcpy(bytes, BLOCK_MAGIC, sizeof BLOCK_MAGIC);
    put_u32(bytes + 32, (uint32_t)(size - BLOCK_HEADER));
    put_u32(bytes + 36, crc32c(0, bytes + BLOCK_HEADER, size - BLOCK_HEADER));
    put_u32(bytes + BLOCK_HEADER - 4, crc32c(0, bytes, BLOCK_HEADER - 4));
}

static void sign_row(uint8_t *bytes, size_t size)
{
    if (size < ROW_HEADER)
        return;
    memcpy(bytes, ROW_MAGIC, sizeof ROW_MAGIC);
    put_u32(bytes + 12, (uint32_t)size);
    put_u32(bytes + 8, crc32c(0, bytes + 12, size - 12));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    require(copy != NULL);
    if (size)
        memcpy(copy, data, size);
    check_block(copy, size);
    check_row(copy, size);
    sign_block(copy, size);
    check_block(copy, size);
    sign_row(copy, size);
    check_row(copy, size);
    free(copy);
    return 0;
}
