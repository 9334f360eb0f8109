/* disk.c - the state of the disk while going through the record: what is safe, and what is pending; see disk.h. */
#include "disk.h"

#include <stdlib.h>
#include <string.h>

struct disk *disk_new(const struct trace *trace)
{
    struct disk *disk = lab_alloc(NULL, sizeof *disk);
    *disk = (struct disk){.trace = trace};
    disk->file = lab_alloc(NULL, sizeof disk->file[0] * TRACE_NODES);
    memset(disk->file, 0, sizeof disk->file[0] * TRACE_NODES);
    disk->file[TRACE_ROOT] = (struct disk_file){.is_known = true, .is_directory = true};
    return disk;
}

static void op_free(struct disk_op *op)
{
    free(op->bytes);
    free(op->hash);
    free(op->dead);
}

void disk_free(struct disk *disk)
{
    for (size_t i = 0; i < TRACE_NODES; i++) {
        disk_content_free(&disk->file[i].now);
        disk_content_free(&disk->file[i].safe);
    }
    for (size_t i = 0; i < disk->ops; i++)
        op_free(&disk->op[i]);
    free(disk->file);
    free(disk->op);
    free(disk->now.entry);
    free(disk->safe.entry);
    free(disk);
}

bool disk_op_is_name(const struct disk_op *op)
{
    return op->dir != 0;
}

static struct disk_op *op_add(struct disk *disk, const struct trace_record *record)
{
    if (disk->ops == disk->ops_capacity) {
        disk->ops_capacity = disk->ops_capacity ? 2 * disk->ops_capacity : 256;
        disk->op = lab_alloc(disk->op, disk->ops_capacity * sizeof disk->op[0]);
    }
    struct disk_op *op = &disk->op[disk->ops++];
    *op = (struct disk_op){.number = record->number, .kind = (enum trace_kind)record->kind, .file = record->file};
    return op;
}

/* ------------------------------------------------------------------------------------------------------ directories */

static void know(struct disk *disk, uint32_t id, const char *name, bool is_directory)
{
    disk->file[id].is_known = true;
    disk->file[id].is_directory = is_directory;
    disk->file[id].is_hidden = !is_directory && strcmp(name, "wake") == 0;
}

static void apply_name(struct disk *disk, const struct trace_record *record)
{
    struct disk_op *op = op_add(disk, record);
    op->dir = record->dir;
    op->dir2 = record->dir2;
    op->name = (const char *)record->data;
    op->name2 = op->name + strlen(op->name) + 1;
    op->is_dir2_safe = op->dir2 == 0 || op->dir2 == op->dir;
    if (op->kind == TRACE_CREATE || op->kind == TRACE_MKDIR)
        know(disk, op->file, op->name, op->kind == TRACE_MKDIR);
    const struct disk_entry *replaced = op->dir2 ? disk_tree_find(&disk->now, op->dir2, op->name2) : NULL;
    op->replaced = replaced ? replaced->file : 0;
    disk_tree_apply(&disk->now, op);
}

static void apply_base(struct disk *disk, const struct trace_record *record)
{
    const char *name = (const char *)record->data;
    know(disk, record->file, name, record->kind == TRACE_BASE_DIR);
    struct disk_op op = {.kind = TRACE_CREATE, .file = record->file, .dir = record->dir, .name = name};
    disk_tree_apply(&disk->now, &op);
    disk_tree_apply(&disk->safe, &op);
    if (record->kind == TRACE_BASE_FILE) {
        disk_content_resize(&disk->file[record->file].now, record->file, record->at);
        disk_content_resize(&disk->file[record->file].safe, record->file, record->at);
    }
}

/* ------------------------------------------------------------------------------------------------------------ files */

/* Puts the bytes into the page cache, and returns which sectors have a new version. */
static void write_now(struct disk *disk, const struct trace_record *record, size_t *ret_first, size_t *ret_sectors)
{
    struct disk_content *now = &disk->file[record->file].now;
    size_t first = record->at / SECTOR, end = (record->at + record->size + SECTOR - 1) / SECTOR;
    for (size_t sector = first; sector < end; sector++) {
        uint8_t bytes[SECTOR] = {0};
        if (sector < now->sectors)
            memcpy(bytes, now->bytes + sector * SECTOR, SECTOR);
        size_t from = sector == first ? record->at % SECTOR : 0;
        size_t done = sector * SECTOR + from - record->at;
        size_t n = record->size - done < SECTOR - from ? record->size - done : SECTOR - from;
        memcpy(bytes + from, record->data + done, n);
        disk->now_sum ^= disk_content_set(now, sector, bytes, disk_hash(record->file, sector, bytes, SECTOR));
    }
    if (record->at + record->size > now->size)
        now->size = record->at + record->size;
    *ret_first = first;
    *ret_sectors = end - first;
}

static void apply_write(struct disk *disk, const struct trace_record *record)
{
    size_t first, sectors;
    write_now(disk, record, &first, &sectors);
    const struct disk_content *now = &disk->file[record->file].now;
    struct disk_op *op = op_add(disk, record);
    op->first = first;
    op->sectors = sectors;
    op->size = record->at + record->size;
    op->bytes = lab_alloc(NULL, sectors * SECTOR);
    op->hash = lab_alloc(NULL, sectors * sizeof op->hash[0]);
    op->dead = lab_alloc(NULL, sectors * sizeof op->dead[0]);
    memcpy(op->bytes, now->bytes + first * SECTOR, sectors * SECTOR);
    memcpy(op->hash, now->hash + first, sectors * sizeof op->hash[0]);
    memset(op->dead, 0, sectors * sizeof op->dead[0]);
}

static void apply_base_data(struct disk *disk, const struct trace_record *record)
{
    struct disk_file *file = &disk->file[record->file];
    size_t first, sectors;
    write_now(disk, record, &first, &sectors);
    for (size_t i = first; i < first + sectors; i++)
        disk->safe_sum ^= disk_content_set(&file->safe, i, file->now.bytes + i * SECTOR, file->now.hash[i]);
}

static void apply_size(struct disk *disk, const struct trace_record *record)
{
    op_add(disk, record)->size = record->at;
    disk->now_sum ^= disk_content_resize(&disk->file[record->file].now, record->file, record->at);
}

/* --------------------------------------------------------------------------------------------------------------
 * flushes */

/* Older versions of what is safe now cannot come back. */
static void bury(struct disk *disk, size_t i, size_t sector)
{
    for (size_t older = 0; older < i; older++) {
        struct disk_op *op = &disk->op[older];
        if (op->file == disk->op[i].file && op->dead && sector >= op->first && sector - op->first < op->sectors)
            op->dead[sector - op->first] = true;
    }
}

/* `alone`: without those before it. */
static void save_file_op(struct disk *disk, size_t i, bool alone)
{
    struct disk_op *op = &disk->op[i];
    struct disk_content *safe = &disk->file[op->file].safe;
    if (op->kind == TRACE_SIZE || op->size > safe->size)
        disk->safe_sum ^= disk_content_resize(safe, op->file, op->size);
    for (size_t n = 0; n < op->sectors; n++) {
        if (op->dead[n])
            continue;
        disk->safe_sum ^= disk_content_set(safe, op->first + n, op->bytes + n * SECTOR, op->hash[n]);
        if (alone)
            bury(disk, i, op->first + n);
    }
}

/* What an entry's change was made upon is safe with it. */
static void save_name_op(struct disk *disk, size_t i)
{
    struct disk_op *op = &disk->op[i];
    for (size_t older = 0; older < i; older++) {
        struct disk_op *before = &disk->op[older];
        if (disk_op_is_name(before) && before->number != UINT32_MAX && before->file == op->file)
            save_name_op(disk, older);
    }
    disk_tree_apply(&disk->safe, op);
    op->number = UINT32_MAX; /* done */
}

static void drop_done(struct disk *disk)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->ops; i++)
        if (disk->op[i].number == UINT32_MAX)
            op_free(&disk->op[i]);
        else
            disk->op[kept++] = disk->op[i];
    disk->ops = kept;
}

static bool all_dead(const struct disk_op *op)
{
    for (size_t i = 0; i < op->sectors; i++)
        if (!op->dead[i])
            return false;
    return op->sectors > 0;
}

static void flush_names(struct disk *disk, size_t i, uint32_t id)
{
    struct disk_op *op = &disk->op[i];
    op->is_dir_safe = op->is_dir_safe || id == 0 || op->dir == id;
    op->is_dir2_safe = op->is_dir2_safe || id == 0 || op->dir2 == id;
    if (op->is_dir_safe && op->is_dir2_safe && op->number != UINT32_MAX)
        save_name_op(disk, i);
}

static void apply_flushed(struct disk *disk, const struct trace_record *record)
{
    uint32_t id = record->file;
    for (size_t i = 0; i < disk->ops; i++) {
        struct disk_op *op = &disk->op[i];
        bool covers = record->is_sync ? op->number == record->ref : op->number < record->ref;
        if (covers && disk_op_is_name(op)) {
            flush_names(disk, i, id);
        } else if (covers && (id == 0 || op->file == id)) {
            save_file_op(disk, i, record->is_sync);
            op->number = UINT32_MAX;
        }
    }
    for (size_t i = 0; i < disk->ops; i++)
        if (disk->op[i].dead && all_dead(&disk->op[i]))
            disk->op[i].number = UINT32_MAX;
    drop_done(disk);
}

void disk_apply(struct disk *disk, const struct trace_record *record)
{
    switch ((enum trace_kind)record->kind) {
    case TRACE_MARK:
    case TRACE_FLUSH:
        return;
    case TRACE_BASE_DIR:
    case TRACE_BASE_FILE:
        apply_base(disk, record);
        return;
    case TRACE_BASE_DATA:
        apply_base_data(disk, record);
        return;
    case TRACE_CREATE:
    case TRACE_MKDIR:
    case TRACE_LINK:
    case TRACE_UNLINK:
    case TRACE_RENAME:
    case TRACE_SWAP:
        apply_name(disk, record);
        return;
    case TRACE_WRITE:
    case TRACE_STORE:
        apply_write(disk, record);
        return;
    case TRACE_SIZE:
        apply_size(disk, record);
        return;
    case TRACE_FLUSHED:
        apply_flushed(disk, record);
        return;
    }
}
