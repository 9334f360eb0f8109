/* disk_tree.c - names: which file has which name in which directory. A change is done only where it finds what it was
 * made upon, so that leaving one out leaves out those that depend on it. */
#include "disk.h"

#include <string.h>

static struct disk_entry *find(const struct disk_tree *tree, uint32_t dir, const char *name)
{
    for (size_t i = 0; i < tree->count; i++)
        if (tree->entry[i].dir == dir && strcmp(tree->entry[i].name, name) == 0)
            return &tree->entry[i];
    return NULL;
}

const struct disk_entry *disk_tree_find(const struct disk_tree *tree, uint32_t dir, const char *name)
{
    return find(tree, dir, name);
}

void disk_tree_copy(struct disk_tree *to, const struct disk_tree *from)
{
    *to = (struct disk_tree){.count = from->count, .capacity = from->count};
    to->entry = lab_alloc(NULL, from->count * sizeof to->entry[0]);
    if (from->count)
        memcpy(to->entry, from->entry, from->count * sizeof to->entry[0]);
}

static void add(struct disk_tree *tree, uint32_t dir, const char *name, uint32_t file)
{
    if (find(tree, dir, name))
        return;
    if (tree->count == tree->capacity) {
        tree->capacity = tree->capacity ? 2 * tree->capacity : 32;
        tree->entry = lab_alloc(tree->entry, tree->capacity * sizeof tree->entry[0]);
    }
    struct disk_entry *entry = &tree->entry[tree->count++];
    *entry = (struct disk_entry){.dir = dir, .file = file};
    memcpy(entry->name, name, strlen(name) + 1);
}

static void drop(struct disk_tree *tree, struct disk_entry *entry)
{
    *entry = tree->entry[--tree->count];
}

static void move(struct disk_tree *tree, const struct disk_op *op)
{
    struct disk_entry *from = find(tree, op->dir, op->name), *to = find(tree, op->dir2, op->name2);
    if (!from || from->file != op->file || (to ? to->file : 0) != op->replaced || from == to)
        return;
    if (to) {
        to->file = op->file;
        drop(tree, from);
    } else {
        from->dir = op->dir2;
        memcpy(from->name, op->name2, strlen(op->name2) + 1);
    }
}

static void swap(struct disk_tree *tree, const struct disk_op *op)
{
    struct disk_entry *a = find(tree, op->dir, op->name), *b = find(tree, op->dir2, op->name2);
    if (!a || !b || a->file != op->file || b->file != op->replaced)
        return;
    a->file = op->replaced;
    b->file = op->file;
}

void disk_tree_apply(struct disk_tree *tree, const struct disk_op *op)
{
    struct disk_entry *entry = find(tree, op->dir, op->name);
    if (op->kind == TRACE_RENAME)
        move(tree, op);
    else if (op->kind == TRACE_SWAP)
        swap(tree, op);
    else if (op->kind != TRACE_UNLINK)
        add(tree, op->dir, op->name, op->file);
    else if (entry && entry->file == op->file)
        drop(tree, entry);
}
