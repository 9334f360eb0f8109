/* pagecheck.c - may this LMDB file be mapped?
 *
 * LMDB data version 1, as far as it matters here. The file is a row of pages of one size. Page: 16 bytes of header
 * (u64 own number, u16 pad, u16 flags, u16 lower, u16 upper; u32 count of pages instead of the last two on an overflow
 * page).
 *
 *   meta      pages 0 and 1, the one with the higher transaction number counts. Behind the header: u32 magic, u32
 * version, u64 address, u64 map size, the records of the free tree (its pad is the page size) and of the main tree, u64
 * last page, u64 transaction record    of a tree: u32 pad, u16 flags, u16 depth, u64 branch, leaf and overflow pages,
 * u64 entries, u64 root (all ones: empty) branch,   u16 offsets of nodes from 16 to `lower`, nodes from `upper` to the
 * end. A node: u16 lo, u16 hi, u16 flags, u16 key leaf      size, key, data. In a branch lo, hi and flags are the
 * child's number; in a leaf lo and hi are the data's size, and flags say whether the data is elsewhere (1: an overflow
 * page's number stands here) or is a tree's record (2) overflow  whole pages of data behind one header
 *
 * The main tree's values are records of named trees. The free tree's keys are transaction numbers, its values lists of
 * free pages: u64 count, then the numbers, descending.
 *
 * A file passes if and only if all pages that LMDB can come to through the current meta page are what they should be,
 * each is reached once, no free page is in use, keys ascend, and nothing lies outside of file and map. Trees with
 * duplicate keys are refused, since no file of ours has them. Headers of overflow pages matter to LMDB when it deletes
 * them: they are looked at except in named trees with integer keys, from which nothing is ever deleted (a segment's
 * lanes, full of large blocks). */
#include "pagecheck.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../lib/base/bytes.h"
#include "../lib/base/error.h"
#include "pagecheck_node.h"

enum { DATA_VERSION = 1, META_SIZE = 136, TREE_RECORD = 48, FREE_TREE = 24, MAIN_TREE = 72, LAST_PAGE = 120 };
enum { PAGE_SIZE_MIN = 512, PAGE_SIZE_MAX = 32768, IDS_MAX_BYTES = 1 << 30 };
enum { KEYS_DUPLICATE = 0x04 | 0x10 | 0x20 | 0x40, KEYS_REVERSE = 0x02, KEYS_INTEGER = 0x08 };
static const uint32_t MAGIC = 0xBEEFC0DE;
static const uint64_t EMPTY = UINT64_MAX, MAP_BYTES_MAX = 1ull << 40;

enum tree_kind { TREE_FREE, TREE_MAIN, TREE_NAMED };

struct tree {
    enum tree_kind kind;
    bool integer_keys;
    uint16_t flags, depth;
    uint64_t entries, root;
    /* While it is walked: */
    uint64_t entries_seen;
    uint8_t last_key[PAGECHECK_KEY_MAX]; /* the greatest leaf key so far, or a bound from a branch */
    size_t last_size;
    bool has_last, last_is_bound; /* a bound may be met, a key must be exceeded */
};

struct check {
    int fd;
    const char *file;
    uint64_t file_bytes, last_page, txn;
    uint32_t page_size;
    uint8_t *seen;                           /* a bit per page: reached or free */
    uint8_t *pages[PAGECHECK_DEPTH_MAX * 2]; /* buffers, one a level; the main tree's and then the named tree's */
    struct pagecheck_nodes nodes;
};

static int flaw(const struct check *check, uint64_t page, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int flaw(const struct check *check, uint64_t page, const char *format, ...)
{
    char what[200];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return err_set(SPOOL_EDAMAGED, "%s: page %" PRIu64 " %s", check->file, page, what);
}

/* --------------------------------------------------------------------------------------------------------- reading */

static int read_at(const struct check *check, uint64_t page, uint64_t offset, uint8_t *to, size_t size)
{
    while (size) {
        ssize_t n = pread(check->fd, to, size, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_errno(errno, "%s: page %" PRIu64, check->file, page);
        if (n == 0)
            return flaw(check, page, "lies behind the end of the file");
        to += n;
        offset += (uint64_t)n;
        size -= (size_t)n;
    }
    return SPOOL_OK;
}

/* Notes that `count` pages from `page` on are used, or free. */
static int claim(struct check *check, uint64_t page, uint64_t count, uint64_t from)
{
    if (page < 2 || page > check->last_page || count > check->last_page - page + 1)
        return flaw(check, from, "refers to page %" PRIu64 ", which does not exist", page);
    for (uint64_t at = page; at < page + count; at++) {
        uint8_t bit = (uint8_t)(1u << (at & 7));
        if (check->seen[at >> 3] & bit)
            return flaw(check, from, "refers to page %" PRIu64 ", which is used elsewhere", at);
        check->seen[at >> 3] |= bit;
    }
    return SPOOL_OK;
}

static int claim_in_file(struct check *check, uint64_t page, uint64_t count, uint64_t from)
{
    int code = claim(check, page, count, from);
    if (!code && (page + count) * check->page_size > check->file_bytes)
        return flaw(check, from, "refers to page %" PRIu64 ", which lies behind the end of the file", page + count - 1);
    return code;
}

static int read_page(struct check *check, unsigned level, uint64_t page, uint8_t **ret)
{
    uint8_t **buffer = &check->pages[level];
    if (!*buffer && !(*buffer = malloc(check->page_size)))
        return err_errno(ENOMEM, "checking %s", check->file);
    *ret = *buffer;
    return read_at(check, page, page * check->page_size, *buffer, check->page_size);
}

/* ------------------------------------------------------------------------------------------------------------ keys */

static int compare_keys(const struct tree *tree, const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size)
{
    if (tree->integer_keys) {
        uint64_t x = get_u64(a), y = get_u64(b);
        return (x > y) - (x < y);
    }
    int order = memcmp(a, b, a_size < b_size ? a_size : b_size);
    return order ? order : (a_size > b_size) - (a_size < b_size);
}

static int check_key(const struct check *check, struct tree *tree, uint64_t page, const struct pagecheck_node *node)
{
    if (node->key_size == 0 || node->key_size > PAGECHECK_KEY_MAX)
        return flaw(check, page, "has a key of %zu bytes", node->key_size);
    if (tree->integer_keys && node->key_size != 8)
        return flaw(check, page, "has a key of %zu bytes among integers", node->key_size);
    return SPOOL_OK;
}

/* Keys ascend over the whole tree; a branch's key bounds the leaves on both of its sides. */
static int check_order(const struct check *check, struct tree *tree, uint64_t page, const struct pagecheck_node *node,
                       bool is_bound)
{
    int code = check_key(check, tree, page, node);
    if (code)
        return code;
    int order = tree->has_last ? compare_keys(tree, node->key, node->key_size, tree->last_key, tree->last_size) : 1;
    if (order < 0 || (order == 0 && (is_bound || !tree->last_is_bound)))
        return flaw(check, page, "has keys that do not ascend");
    memcpy(tree->last_key, node->key, node->key_size);
    tree->last_size = node->key_size;
    tree->has_last = true;
    tree->last_is_bound = is_bound;
    return SPOOL_OK;
}

/* ----------------------------------------------------------------------------------------------------- free pages */

static int claim_free(struct check *check, uint64_t page, const uint8_t *ids, size_t size)
{
    uint64_t count = size < 8 ? UINT64_MAX : get_u64(ids), last = UINT64_MAX;
    if (count > (size - 8) / 8)
        return flaw(check, page, "has a list of free pages that is longer than its value");
    for (uint64_t i = 1; i <= count; i++) {
        uint64_t free_page = get_u64(ids + 8 * i);
        if (free_page >= last)
            return flaw(check, page, "has a list of free pages that does not descend");
        int code = claim(check, free_page, 1, page);
        if (code)
            return code;
        last = free_page;
    }
    return SPOOL_OK;
}

/* A long list stands on overflow pages, behind their header. */
static int claim_free_elsewhere(struct check *check, uint64_t page, uint64_t at, size_t size)
{
    uint8_t *ids = size <= IDS_MAX_BYTES ? malloc(size ? size : 1) : NULL;
    if (!ids)
        return size <= IDS_MAX_BYTES ? err_errno(ENOMEM, "checking %s", check->file)
                                     : flaw(check, page, "has a list of free pages of %zu bytes", size);
    int code = read_at(check, at, at * check->page_size + PAGECHECK_HEADER, ids, size);
    if (!code)
        code = claim_free(check, page, ids, size);
    free(ids);
    return code;
}

/* --------------------------------------------------------------------------------------------------------- values */

/* A value that became shorter keeps all of its pages: the header says how many, at least `needed`. */
static int read_overflow_header(const struct check *check, uint64_t page, uint64_t needed, uint64_t *ret_count)
{
    uint8_t header[PAGECHECK_HEADER];
    int code = read_at(check, page, page * check->page_size, header, sizeof header);
    if (code)
        return code;
    uint32_t count = get_u32(header + 12);
    if (get_u64(header) != page || get_u16(header + 10) != PAGECHECK_OVERFLOW || count < needed)
        return flaw(check, page, "should be the first of %" PRIu64 " overflow pages, and is not", needed);
    *ret_count = count;
    return SPOOL_OK;
}

static int check_overflow(struct check *check, const struct tree *tree, uint64_t page,
                          const struct pagecheck_node *node)
{
    uint64_t at = get_u64(node->data);
    uint64_t count = (PAGECHECK_HEADER - 1 + (uint64_t)node->data_size) / check->page_size + 1;
    int code = SPOOL_OK;
    if (at > check->last_page)
        return flaw(check, page, "refers to page %" PRIu64 ", which does not exist", at);
    if (!(tree->kind == TREE_NAMED && tree->integer_keys))
        code = read_overflow_header(check, at, count, &count);
    if (!code)
        code = claim_in_file(check, at, count, page);
    if (!code && tree->kind == TREE_FREE)
        code = claim_free_elsewhere(check, page, at, node->data_size);
    return code;
}

static int check_tree(struct check *check, enum tree_kind kind, const uint8_t record[TREE_RECORD], uint64_t page);

static int check_value(struct check *check, struct tree *tree, uint64_t page, const struct pagecheck_node *node)
{
    bool is_tree = node->flags == PAGECHECK_NODE_TREE;
    if (node->flags & ~(PAGECHECK_NODE_ELSEWHERE | PAGECHECK_NODE_TREE) || (is_tree && tree->kind != TREE_MAIN))
        return flaw(check, page, "has a node with flags %x", node->flags);
    if (node->flags == (PAGECHECK_NODE_ELSEWHERE | PAGECHECK_NODE_TREE) || (is_tree && node->data_size != TREE_RECORD))
        return flaw(check, page, "has a node with flags %x and %zu bytes", node->flags, node->data_size);
    if (tree->kind == TREE_FREE && (get_u64(node->key) == 0 || get_u64(node->key) > check->txn))
        return flaw(check, page, "has free pages of a transaction that has not been");
    if (node->flags == PAGECHECK_NODE_ELSEWHERE)
        return check_overflow(check, tree, page, node);
    if (is_tree)
        return check_tree(check, TREE_NAMED, node->data, page);
    return tree->kind == TREE_FREE ? claim_free(check, page, node->data, node->data_size) : SPOOL_OK;
}

/* ----------------------------------------------------------------------------------------------------------- pages */

static int check_page(struct check *check, struct tree *tree, uint64_t page, unsigned depth, uint64_t from);

static int check_leaf(struct check *check, struct tree *tree, uint64_t page, const uint8_t *bytes, unsigned count)
{
    int code = SPOOL_OK;
    for (unsigned i = 0; !code && i < count; i++) {
        struct pagecheck_node node;
        pagecheck_leaf_node(bytes, i, &node);
        code = check_order(check, tree, page, &node, false);
        if (!code)
            code = check_value(check, tree, page, &node);
    }
    tree->entries_seen += count;
    return code;
}

static int check_branch(struct check *check, struct tree *tree, uint64_t page, const uint8_t *bytes, unsigned count,
                        unsigned depth)
{
    int code = SPOOL_OK;
    if (count < 2 && tree->kind != TREE_FREE)
        return flaw(check, page, "is a branch page with %u children", count);
    for (unsigned i = 0; !code && i < count; i++) {
        struct pagecheck_node node;
        pagecheck_branch_node(bytes, i, &node);
        if (i > 0) /* LMDB never looks at the first one's key */
            code = check_order(check, tree, page, &node, true);
        if (!code)
            code = check_page(check, tree, node.child, depth + 1, page);
    }
    return code;
}

static int check_header(const struct check *check, const struct tree *tree, uint64_t page, const uint8_t *bytes,
                        unsigned depth)
{
    unsigned flags = get_u16(bytes + 10), want = depth == tree->depth ? PAGECHECK_LEAF : PAGECHECK_BRANCH;
    if (get_u64(bytes) != page)
        return flaw(check, page, "says that it is page %" PRIu64, get_u64(bytes));
    if (flags != want)
        return flaw(check, page, "has flags %x instead of %x", flags, want);
    return SPOOL_OK;
}

/* `depth` counts from 1, the root. */
static int check_page(struct check *check, struct tree *tree, uint64_t page, unsigned depth, uint64_t from)
{
    uint8_t *bytes = NULL;
    unsigned count;
    char why[128];
    if (depth > tree->depth)
        return flaw(check, from, "is deeper in its tree than there are levels");
    int code = claim_in_file(check, page, 1, from);
    if (!code)
        code = read_page(check, depth - 1 + (tree->kind == TREE_NAMED ? PAGECHECK_DEPTH_MAX : 0), page, &bytes);
    if (!code)
        code = check_header(check, tree, page, bytes, depth);
    if (code)
        return code;
    if (!pagecheck_layout(bytes, check->page_size, &check->nodes, &count, why, sizeof why))
        return flaw(check, page, "%s", why);
    return depth == tree->depth ? check_leaf(check, tree, page, bytes, count)
                                : check_branch(check, tree, page, bytes, count, depth);
}

/* ----------------------------------------------------------------------------------------------------------- trees */

static void read_tree(struct tree *tree, enum tree_kind kind, const uint8_t record[TREE_RECORD])
{
    memset(tree, 0, sizeof *tree);
    tree->kind = kind;
    tree->flags = get_u16(record + 4);
    tree->depth = get_u16(record + 6);
    tree->entries = get_u64(record + 32);
    tree->root = get_u64(record + 40);
    tree->integer_keys = (tree->flags & KEYS_INTEGER) != 0;
}

static int check_tree_record(const struct check *check, const struct tree *tree, uint64_t page)
{
    if (tree->flags & (KEYS_DUPLICATE | KEYS_REVERSE) || (tree->kind == TREE_FREE && !tree->integer_keys) ||
        (tree->kind == TREE_MAIN && tree->flags))
        return flaw(check, page, "describes a tree with flags %x", tree->flags);
    if (tree->kind == TREE_NAMED && tree->flags & ~KEYS_INTEGER)
        return flaw(check, page, "describes a tree with flags %x", tree->flags);
    if (tree->depth > PAGECHECK_DEPTH_MAX)
        return flaw(check, page, "describes a tree %u levels deep", tree->depth);
    if ((tree->root == EMPTY) != (tree->depth == 0) || (tree->depth == 0 && tree->entries))
        return flaw(check, page, "describes a tree of %u levels with %" PRIu64 " entries", tree->depth, tree->entries);
    return SPOOL_OK;
}

static int check_tree(struct check *check, enum tree_kind kind, const uint8_t record[TREE_RECORD], uint64_t page)
{
    struct tree tree;
    read_tree(&tree, kind, record);
    int code = check_tree_record(check, &tree, page);
    if (code || tree.depth == 0)
        return code;
    code = check_page(check, &tree, tree.root, 1, page);
    if (!code && tree.entries_seen != tree.entries)
        return flaw(check, page, "describes a tree with %" PRIu64 " entries, which has %" PRIu64, tree.entries,
                    tree.entries_seen);
    return code;
}

/* ------------------------------------------------------------------------------------------------------ meta pages */

static int check_meta(const struct check *check, uint64_t page, const uint8_t *bytes)
{
    const uint8_t *meta = bytes + PAGECHECK_HEADER;
    if (!(get_u16(bytes + 10) & PAGECHECK_META) || get_u32(meta) != MAGIC)
        return flaw(check, page, "is no meta page");
    if (get_u32(meta + 4) != DATA_VERSION)
        return flaw(check, page, "says that its data version is %u", get_u32(meta + 4));
    uint32_t page_size = get_u32(meta + FREE_TREE);
    if (page_size < PAGE_SIZE_MIN || page_size > PAGE_SIZE_MAX || page_size & (page_size - 1) ||
        page_size != check->page_size)
        return flaw(check, page, "says that pages are %u bytes long", page_size);
    uint64_t map_bytes = get_u64(meta + 16), last_page = get_u64(meta + LAST_PAGE);
    if (map_bytes > MAP_BYTES_MAX || last_page < 1 || last_page >= map_bytes / page_size)
        return flaw(check, page, "says that %" PRIu64 " pages are used in a map of %" PRIu64 " bytes", last_page,
                    map_bytes);
    return SPOOL_OK;
}

/* One meta page with another version is damaged; two that agree were written by another LMDB. */
static int check_version(const struct check *check, uint8_t metas[2][PAGECHECK_HEADER + META_SIZE])
{
    uint32_t version = get_u32(metas[0] + PAGECHECK_HEADER + 4);
    bool agree = version == get_u32(metas[1] + PAGECHECK_HEADER + 4);
    for (int i = 0; i < 2; i++)
        agree &= get_u32(metas[i] + PAGECHECK_HEADER) == MAGIC;
    if (!agree || version == DATA_VERSION)
        return SPOOL_OK;
    return err_set(SPOOL_EVERSION, "%s: LMDB data version %u; this libspool reads version %d", check->file, version,
                   DATA_VERSION);
}

static uint64_t meta_txn(const uint8_t *bytes)
{
    return get_u64(bytes + PAGECHECK_HEADER + META_SIZE - 8);
}

/* Transactions take turns: the even ones write page 0, the odd ones page 1, and the file only grows. A transaction
 * number that does not fit would make LMDB go back to an older state without a word. */
static int check_turns(const struct check *check, uint8_t metas[2][PAGECHECK_HEADER + META_SIZE])
{
    uint64_t even = meta_txn(metas[0]), odd = meta_txn(metas[1]);
    unsigned newer = odd > even;
    uint64_t last_of_newer = get_u64(metas[newer] + PAGECHECK_HEADER + LAST_PAGE);
    uint64_t last_of_older = get_u64(metas[!newer] + PAGECHECK_HEADER + LAST_PAGE);
    bool fresh = even == 0 && odd == 0;
    if (fresh ||
        (even % 2 == 0 && odd % 2 == 1 && (newer ? odd - even : even - odd) == 1 && last_of_newer >= last_of_older))
        return SPOOL_OK;
    return flaw(check, 0, "and page 1 tell of transactions %" PRIu64 " and %" PRIu64 ", which cannot both be", even,
                odd);
}

/* The page size stands in the first meta page, and tells where the second one is. */
static int read_metas(struct check *check, uint8_t metas[2][PAGECHECK_HEADER + META_SIZE])
{
    enum { SIZE = PAGECHECK_HEADER + META_SIZE };
    int code = read_at(check, 0, 0, metas[0], SIZE);
    if (code)
        return code;
    check->page_size = get_u32(metas[0] + PAGECHECK_HEADER + FREE_TREE);
    code = read_at(check, 1, check->page_size, metas[1], SIZE);
    if (!code)
        code = check_version(check, metas);
    if (!code)
        code = check_meta(check, 0, metas[0]);
    if (!code)
        code = check_meta(check, 1, metas[1]);
    return code ? code : check_turns(check, metas);
}

static int check_file(struct check *check)
{
    uint8_t metas[2][PAGECHECK_HEADER + META_SIZE];
    int code = read_metas(check, metas);
    if (code)
        return code;
    unsigned page = meta_txn(metas[1]) > meta_txn(metas[0]);
    const uint8_t *meta = metas[page] + PAGECHECK_HEADER;
    check->last_page = get_u64(meta + LAST_PAGE);
    check->txn = meta_txn(metas[page]);
    check->seen = calloc(1, check->last_page / 8 + 1);
    if (!check->seen)
        return err_errno(ENOMEM, "checking %s", check->file);
    code = check_tree(check, TREE_FREE, meta + FREE_TREE, page);
    return code ? code : check_tree(check, TREE_MAIN, meta + MAIN_TREE, page);
}

int pagecheck(int fd, const char *file)
{
    struct stat st;
    struct check *check = calloc(1, sizeof *check);
    if (!check)
        return err_errno(ENOMEM, "checking %s", file);
    check->fd = fd;
    check->file = file;
    int code = fstat(fd, &st) ? err_errno(errno, "%s", file) : SPOOL_OK;
    check->file_bytes = code ? 0 : (uint64_t)st.st_size;
    if (!code)
        code = check_file(check);
    for (size_t i = 0; i < sizeof check->pages / sizeof check->pages[0]; i++)
        free(check->pages[i]);
    free(check->seen);
    free(check);
    return code;
}
