/* pagecheck_node.h - nodes on a branch or leaf page. Private to pagecheck*.c. */
#ifndef SPOOL_PAGECHECK_NODE_H
#define SPOOL_PAGECHECK_NODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAGECHECK_HEADER = 16, PAGECHECK_KEY_MAX = 511, PAGECHECK_DEPTH_MAX = 31 };
enum { PAGECHECK_BRANCH = 0x01, PAGECHECK_LEAF = 0x02, PAGECHECK_OVERFLOW = 0x04, PAGECHECK_META = 0x08 };
enum { PAGECHECK_NODE_ELSEWHERE = 0x01, PAGECHECK_NODE_TREE = 0x02 };

struct pagecheck_node {
    const uint8_t *key, *data;
    size_t key_size, data_size; /* data_size also of data that is elsewhere */
    unsigned flags;
    uint64_t child; /* of a branch's node */
};

/* Room to note which bytes of a page are taken: a bit per two. */
struct pagecheck_nodes {
    uint8_t taken[32768 / 16];
};

/* Whether the offsets and sizes of all nodes lie within the page and none overlaps another. *ret_count: how many there
 * are. */
bool pagecheck_layout(const uint8_t *page, uint32_t page_size, struct pagecheck_nodes *nodes, unsigned *ret_count,
                      char *ret_why, size_t why_size);

/* Node `i` of a page whose layout is right. */
void pagecheck_leaf_node(const uint8_t *page, unsigned i, struct pagecheck_node *ret);
void pagecheck_branch_node(const uint8_t *page, unsigned i, struct pagecheck_node *ret);

#endif
