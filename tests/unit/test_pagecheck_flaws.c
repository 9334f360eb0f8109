/* test_pagecheck_flaws.c - a small LMDB file made by hand, in which one thing at a time is not as it should be: each is
 * found, and named. (test_pagecheck.c damages files that LMDB made, at random.) */
#include <fcntl.h>
#include <sys/mman.h>

#include "../../lib/base/bytes.h"
#include "../../spool/pagecheck.h"
#include "../../spool/pagecheck_node.h"
#include "../check_main.h"

enum { PAGE = 512, PAGES = 16, META = 16, FREE_TREE = 24, MAIN_TREE = 72, RECORD = 48, INTEGER = 8 };
enum { FREE_LEAF = 2, BRANCH, LEFT, RIGHT, NAMED, LARGE, LIST = 9, FREE_PAGE = 14 };
static uint8_t file[PAGES][PAGE];
static uint8_t *node_of[8]; /* as begin_file() made them: */
enum { NODE_FREE, NODE_FIRST, NODE_BOUND, NODE_A, NODE_TREE, NODE_LARGE, NODE_NAMED };

/* ------------------------------------------------------------------------------------------------------ the file */

static void begin_page(unsigned page, unsigned flags)
{
    uint8_t *bytes = file[page];
    put_u64(bytes, page);
    put_u16(bytes + 10, (uint16_t)flags);
    put_u16(bytes + 12, PAGECHECK_HEADER);
    put_u16(bytes + 14, PAGE);
}

static uint8_t *add_node(unsigned page, const void *key, size_t key_size, size_t data_size)
{
    uint8_t *bytes = file[page];
    unsigned lower = get_u16(bytes + 12), upper = get_u16(bytes + 14);
    upper -= (unsigned)(8 + key_size + data_size + 1) & ~1u;
    put_u16(bytes + lower, (uint16_t)upper);
    put_u16(bytes + 12, (uint16_t)(lower + 2));
    put_u16(bytes + 14, (uint16_t)upper);
    uint8_t *node = bytes + upper;
    put_u16(node + 6, (uint16_t)key_size);
    if (key_size)
        memcpy(node + 8, key, key_size);
    return node;
}

static uint8_t *add_leaf_node(unsigned page, const void *key, size_t key_size, unsigned flags, const void *data,
                              size_t size)
{
    uint8_t *node = add_node(page, key, key_size, flags & PAGECHECK_NODE_ELSEWHERE ? 8 : size);
    put_u16(node, (uint16_t)size);
    put_u16(node + 2, (uint16_t)(size >> 16));
    put_u16(node + 4, (uint16_t)flags);
    memcpy(node + 8 + key_size, data, flags & PAGECHECK_NODE_ELSEWHERE ? 8 : size);
    return node;
}

static uint8_t *add_branch_node(unsigned page, const char *key, unsigned child)
{
    uint8_t *node = add_node(page, key, strlen(key), 0);
    put_u16(node, (uint16_t)child);
    return node;
}

static void put_tree(uint8_t *record, unsigned flags, unsigned depth, uint64_t entries, uint64_t root)
{
    put_u16(record + 4, (uint16_t)flags);
    put_u16(record + 6, (uint16_t)depth);
    put_u64(record + 32, entries);
    put_u64(record + 40, root);
}

static uint8_t *meta_of(unsigned page)
{
    return file[page] + META;
}

static void put_meta(unsigned page, uint64_t txn)
{
    begin_page(page, PAGECHECK_META);
    uint8_t *meta = meta_of(page);
    put_u32(meta, 0xBEEFC0DE);
    put_u32(meta + 4, 1);
    put_u64(meta + 16, 64 * PAGE);
    put_tree(meta + FREE_TREE, INTEGER, 1, 1, FREE_LEAF);
    put_u32(meta + FREE_TREE, PAGE);
    put_tree(meta + MAIN_TREE, 0, 2, 3, BRANCH);
    put_u64(meta + 120, PAGES - 1);
    put_u64(meta + 128, txn);
}

static void put_list(uint8_t *list, uint64_t count, uint64_t first, uint64_t second)
{
    put_u64(list, count);
    put_u64(list + 8, first);
    put_u64(list + 16, second);
}

/* A list of free pages; a branch with two leaves; in them a row, a named tree, a value of two pages. */
static void begin_file(void)
{
    uint8_t key[8], data[RECORD] = {0};
    memset(file, 0, sizeof file);
    put_meta(0, 4);
    put_meta(1, 3);
    begin_page(FREE_LEAF, PAGECHECK_LEAF);
    put_u64(key, 3);
    put_list(data, 2, FREE_PAGE, FREE_PAGE - 1);
    node_of[NODE_FREE] = add_leaf_node(FREE_LEAF, key, 8, 0, data, 24);
    begin_page(BRANCH, PAGECHECK_BRANCH);
    node_of[NODE_FIRST] = add_branch_node(BRANCH, "", LEFT);
    node_of[NODE_BOUND] = add_branch_node(BRANCH, "m", RIGHT);
    begin_page(LEFT, PAGECHECK_LEAF);
    node_of[NODE_A] = add_leaf_node(LEFT, "a", 1, 0, "value", 5);
    begin_page(RIGHT, PAGECHECK_LEAF);
    memset(data, 0, sizeof data);
    put_tree(data, INTEGER, 1, 1, NAMED);
    node_of[NODE_TREE] = add_leaf_node(RIGHT, "m", 1, PAGECHECK_NODE_TREE, data, RECORD);
    put_u64(data, LARGE);
    node_of[NODE_LARGE] = add_leaf_node(RIGHT, "o", 1, PAGECHECK_NODE_ELSEWHERE, data, 600);
    begin_page(NAMED, PAGECHECK_LEAF);
    put_u64(key, 5);
    node_of[NODE_NAMED] = add_leaf_node(NAMED, key, 8, 0, "value", 5);
    begin_page(LARGE, PAGECHECK_OVERFLOW);
    put_u32(file[LARGE] + 12, 2);
}

static int check(size_t size)
{
    int fd = memfd_create("pagecheck", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, file, size), (ssize_t)size);
    int code = pagecheck(fd, "x.mdb");
    close(fd);
    return code;
}

/* Makes the file anew, changes it, and the check says `text`; NULL: it passes. */
#define changed(text, ...)                                                                                             \
    do {                                                                                                               \
        begin_file();                                                                                                  \
        __VA_ARGS__;                                                                                                   \
        int code_ = check(sizeof file);                                                                                \
        const char *text_ = (text);                                                                                    \
        ck_assert_msg(code_ == (text_ ? SPOOL_EDAMAGED : SPOOL_OK), "%s: %d (%s)", #__VA_ARGS__, code_, err_last());   \
        ck_assert_msg(!text_ || strstr(err_last(), text_), "%s: says \"%s\"", #__VA_ARGS__, err_last());               \
    } while (0)

#define NODE_DATA(node, key_size) (node_of[node] + 8 + (key_size))

/* ------------------------------------------------------------------------------------------------------- the tests */

START_TEST(the_file_as_it_should_be_passes)
{
    changed(NULL, (void)0);
    ck_code(check(sizeof file - PAGE), SPOOL_OK); /* what nobody refers to may be missing */
    ck_code(check(LARGE * PAGE + PAGE), SPOOL_EDAMAGED);
}
END_TEST

START_TEST(an_empty_one_passes)
{
    begin_file();
    for (unsigned page = 0; page < 2; page++) {
        put_tree(meta_of(page) + FREE_TREE, INTEGER, 0, 0, UINT64_MAX);
        put_tree(meta_of(page) + MAIN_TREE, 0, 0, 0, UINT64_MAX);
        put_u64(meta_of(page) + 120, 1);
        put_u64(meta_of(page) + 128, 0);
    }
    ck_ok(check(2 * PAGE));
}
END_TEST

START_TEST(keys)
{
    changed("has a key of 0 bytes", put_u16(node_of[NODE_A] + 6, 0));
    changed("among integers", put_u16(node_of[NODE_NAMED] + 6, 4));
    changed("has keys that do not ascend", node_of[NODE_A][8] = 'z');     /* beyond the bound behind it */
    changed("has keys that do not ascend", node_of[NODE_A][8] = 'm');     /* a bound must exceed what is before it */
    changed("has keys that do not ascend", node_of[NODE_LARGE][8] = 'm'); /* twice */
    changed("has keys that do not ascend", node_of[NODE_TREE][8] = 'l');
    changed("has keys that do not ascend", add_leaf_node(RIGHT, "nn", 2, 0, "", 0));
    changed(NULL, add_leaf_node(RIGHT, "oo", 2, 0, "", 0); put_u64(meta_of(0) + MAIN_TREE + 32, 4)); /* a longer one */
}
END_TEST

START_TEST(lists_of_free_pages)
{
    uint8_t *list;
    changed("longer than its value", put_u16(node_of[NODE_FREE], 4));
    changed("longer than its value", list = NODE_DATA(NODE_FREE, 8); put_u64(list, 3));
    changed("does not descend", put_list(NODE_DATA(NODE_FREE, 8), 2, 13, 14));
    changed("does not descend", put_list(NODE_DATA(NODE_FREE, 8), 2, 13, 13));
    changed("which is used elsewhere", put_list(NODE_DATA(NODE_FREE, 8), 2, 13, NAMED));
    changed("which does not exist", put_list(NODE_DATA(NODE_FREE, 8), 2, PAGES, 13));
    changed("which does not exist", put_list(NODE_DATA(NODE_FREE, 8), 2, 13, 1));
    changed("a transaction that has not been", put_u64(node_of[NODE_FREE] + 8, 0));
    changed("a transaction that has not been", put_u64(node_of[NODE_FREE] + 8, 5));
}
END_TEST

/* A long one stands on pages of its own. */
static void put_list_elsewhere(uint64_t at, uint64_t second)
{
    put_u16(node_of[NODE_FREE] + 4, PAGECHECK_NODE_ELSEWHERE);
    put_u64(NODE_DATA(NODE_FREE, 8), at);
    begin_page(LIST, PAGECHECK_OVERFLOW);
    put_u32(file[LIST] + 12, 1);
    put_list(file[LIST] + PAGECHECK_HEADER, 2, FREE_PAGE, second);
}

START_TEST(lists_of_free_pages_elsewhere)
{
    changed(NULL, put_list_elsewhere(LIST, FREE_PAGE - 1));
    changed("does not descend", put_list_elsewhere(LIST, FREE_PAGE));
    changed("which is used elsewhere", put_list_elsewhere(LIST, LIST));
    changed("which does not exist", put_list_elsewhere(PAGES, 13));
    changed("first of 1 overflow pages", put_list_elsewhere(LIST + 1, 13));
    changed("longer than its value", put_list_elsewhere(LIST, 13); put_u16(node_of[NODE_FREE], 0));
}
END_TEST

START_TEST(values_elsewhere)
{
    uint8_t *large = file[LARGE];
    changed("which does not exist", put_u64(NODE_DATA(NODE_LARGE, 1), PAGES));
    changed("first of 2 overflow pages", put_u64(large, 3));
    changed("first of 2 overflow pages", put_u16(large + 10, PAGECHECK_LEAF));
    changed("first of 2 overflow pages", put_u32(large + 12, 1));
    changed("which does not exist", put_u32(large + 12, 100));
    changed("which is used elsewhere", put_u32(large + 12, 7));
    changed(NULL, put_u32(large + 12, 4)); /* a value that became shorter keeps its pages */
}
END_TEST

START_TEST(nodes)
{
    changed("has a node with flags 8", put_u16(node_of[NODE_A] + 4, 8));
    changed("has a node with flags 2", put_u16(node_of[NODE_FREE] + 4, PAGECHECK_NODE_TREE));
    changed("has a node with flags 2", put_u16(node_of[NODE_NAMED] + 4, PAGECHECK_NODE_TREE));
    changed("has a node with flags 3", put_u16(node_of[NODE_LARGE] + 4, 3));
    changed("has a node with flags 2 and 5 bytes", put_u16(node_of[NODE_A] + 4, PAGECHECK_NODE_TREE));
    changed("outside of the page", put_u16(node_of[NODE_A], 60000));
    changed("outside of the page's nodes", put_u16(file[LEFT] + PAGECHECK_HEADER, 17));
    changed("outside of the page's nodes", put_u16(file[LEFT] + PAGECHECK_HEADER, PAGE - 2));
    changed("overlaps another", put_u16(file[RIGHT] + PAGECHECK_HEADER + 2, get_u16(file[RIGHT] + PAGECHECK_HEADER)));
    changed("has its nodes between", put_u16(file[LEFT] + 12, PAGECHECK_HEADER));
    changed("has its nodes between", put_u16(file[LEFT] + 12, PAGECHECK_HEADER + 3));
    changed("has its nodes between", put_u16(file[LEFT] + 14, PAGE + 2));
    changed("has its nodes between", put_u16(file[LEFT] + 14, 18); put_u16(file[LEFT] + 12, 20));
    changed("has its nodes between", put_u16(file[LEFT] + 14, 31));
}
END_TEST

START_TEST(pages)
{
    changed("says that it is page 9", put_u64(file[LEFT], 9));
    changed("has flags 1 instead of 2", put_u16(file[LEFT] + 10, PAGECHECK_BRANCH));
    changed("has flags 2 instead of 1", put_u16(file[BRANCH] + 10, PAGECHECK_LEAF));
    changed("is a branch page with 1 children", put_u16(file[BRANCH] + 12, PAGECHECK_HEADER + 2));
    changed("which is used elsewhere", put_u16(node_of[NODE_BOUND], LEFT));
    changed("which does not exist", put_u16(node_of[NODE_FIRST], PAGES));
    changed("which does not exist", put_u16(node_of[NODE_FIRST] + 4, 1));
}
END_TEST

START_TEST(trees)
{
    uint8_t *free_tree = meta_of(0) + FREE_TREE, *main_tree = meta_of(0) + MAIN_TREE;
    changed("a tree with flags 0", put_u16(free_tree + 4, 0));
    changed("a tree with flags 8", put_u16(main_tree + 4, INTEGER));
    changed("a tree with flags 2", put_u16(main_tree + 4, 2));
    changed("a tree with flags 80", put_u16(NODE_DATA(NODE_TREE, 1) + 4, 0x80));
    changed("levels deep", put_u16(main_tree + 6, PAGECHECK_DEPTH_MAX + 1));
    changed("a tree of 0 levels", put_u16(main_tree + 6, 0));
    changed("a tree of 2 levels", put_u64(main_tree + 40, UINT64_MAX));
    changed("a tree of 0 levels with 3", put_u16(main_tree + 6, 0); put_u64(main_tree + 40, UINT64_MAX));
    changed("with 7 entries, which has 3", put_u64(main_tree + 32, 7));
    changed("with 2 entries, which has 1", put_u64(NODE_DATA(NODE_TREE, 1) + 32, 2));
}
END_TEST

START_TEST(meta_pages)
{
    static const uint32_t sizes[] = {0, 256, 65536, 768};
    changed("is no meta page", put_u16(file[1] + 10, PAGECHECK_LEAF));
    changed("is no meta page", put_u32(meta_of(1), 1));
    changed("its data version is 9", put_u32(meta_of(1) + 4, 9));
    changed("pages are 1024 bytes long", put_u32(meta_of(1) + FREE_TREE, 1024));
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        begin_file();
        put_u32(meta_of(0) + FREE_TREE, sizes[i]);
        put_u32(meta_of(1) + FREE_TREE, sizes[i]);
        ck_code(check(sizeof file), SPOOL_EDAMAGED);
    }
    changed("pages are used in a map of", put_u64(meta_of(1) + 16, UINT64_MAX));
    changed("0 pages are used", put_u64(meta_of(1) + 120, 0));
    changed("64 pages are used", put_u64(meta_of(1) + 120, 64));
}
END_TEST

START_TEST(transactions_take_turns)
{
    changed(NULL, put_meta(1, 5));
    changed("which cannot both be", put_meta(1, 4));
    changed("which cannot both be", put_meta(1, 7));
    changed("which cannot both be", put_meta(0, 5));
    changed("which cannot both be", put_meta(1, 1));
    changed("which cannot both be", put_u64(meta_of(1) + 120, PAGES)); /* the older one knows more pages */
    changed("which cannot both be", put_meta(0, 0); put_meta(1, 3));
}
END_TEST

static Suite *suite(void)
{
    Suite *suite = suite_create("pagecheck_flaws");
    TCase *tcase = tcase_create("pagecheck_flaws");
    tcase_add_test(tcase, the_file_as_it_should_be_passes);
    tcase_add_test(tcase, an_empty_one_passes);
    tcase_add_test(tcase, keys);
    tcase_add_test(tcase, lists_of_free_pages);
    tcase_add_test(tcase, lists_of_free_pages_elsewhere);
    tcase_add_test(tcase, values_elsewhere);
    tcase_add_test(tcase, nodes);
    tcase_add_test(tcase, pages);
    tcase_add_test(tcase, trees);
    tcase_add_test(tcase, meta_pages);
    tcase_add_test(tcase, transactions_take_turns);
    suite_add_tcase(suite, tcase);
    return suite;
}

CHECK_MAIN(suite)
