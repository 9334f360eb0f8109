/* lock_note.c - a note in a lock file, from its holder to whoever looks.
 *
 *    0  4  magic, "SpNt"        4  4  size of the note, little-endian        8  4  CRC32C of the note       12     the
 * note
 *
 * Valid if the magic and the CRC are right. It is written in place with one pwrite() and never flushed: a reader that
 * meets a torn one looks again. The lock is on the first byte of the file, and means nothing for its content. There are
 * no versions of this envelope: another one gets another magic. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../lib/base/bytes.h"
#include "../lib/base/crc32c.h"
#include "../lib/base/error.h"
#include "lock_inside.h"

enum { NOTE_HEADER = 12, TRIES = 3 };
static const uint8_t NOTE_MAGIC[4] = {'S', 'p', 'N', 't'};

int lock_note(struct lock *lock, const void *bytes, size_t size)
{
    uint8_t *note = malloc(NOTE_HEADER + size);
    if (!note)
        return err_errno(ENOMEM, "%s", lock_file_name(lock));
    memcpy(note, NOTE_MAGIC, sizeof NOTE_MAGIC);
    put_u32(note + 4, (uint32_t)size);
    put_u32(note + 8, crc32c(0, bytes, size));
    memcpy(note + NOTE_HEADER, bytes, size);
    ssize_t written = pwrite(lock_fd(lock), note, NOTE_HEADER + size, 0);
    int err = written < 0 ? errno : 0;
    free(note);
    if (written == (ssize_t)(NOTE_HEADER + size))
        return SPOOL_OK;
    return err_errno(err ? err : ENOSPC, "%s: writing a note", lock_file_name(lock));
}

static int read_once(int fd, size_t size_max, uint8_t **ret, size_t *ret_size)
{
    uint8_t header[NOTE_HEADER];
    if (pread(fd, header, sizeof header, 0) != (ssize_t)sizeof header ||
        memcmp(header, NOTE_MAGIC, sizeof NOTE_MAGIC) != 0 || get_u32(header + 4) > size_max)
        return SPOOL_ENOTFOUND;
    size_t size = get_u32(header + 4);
    uint8_t *bytes = malloc(size + 1);
    if (!bytes)
        return ENOMEM;
    if (pread(fd, bytes, size, NOTE_HEADER) != (ssize_t)size || crc32c(0, bytes, size) != get_u32(header + 8)) {
        free(bytes);
        return SPOOL_ENOTFOUND;
    }
    *ret = bytes;
    *ret_size = size;
    return SPOOL_OK;
}

int lock_read_note(struct lock *lock, size_t size_max, uint8_t **ret, size_t *ret_size)
{
    int code = SPOOL_ENOTFOUND;
    for (int i = 0; i < TRIES && code == SPOOL_ENOTFOUND && lock_fd(lock) >= 0; i++)
        code = read_once(lock_fd(lock), size_max, ret, ret_size);
    if (code == ENOMEM)
        return err_errno(ENOMEM, "%s", lock_file_name(lock));
    return code ? err_set(code, "%s: there is no note in it", lock_file_name(lock)) : SPOOL_OK;
}
