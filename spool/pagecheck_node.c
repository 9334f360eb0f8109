/* pagecheck_node.c - the layout of one branch or leaf page. (pagecheck.c has the format.) */
#include "pagecheck_node.h"

#include <stdio.h>
#include <string.h>

#include "../lib/base/bytes.h"

enum { NODE_HEADER = 8 };

static unsigned node_offset(const uint8_t *page, unsigned i)
{
    return get_u16(page + PAGECHECK_HEADER + 2 * i);
}

static uint64_t leaf_node_size(const uint8_t *node)
{
    uint64_t data = get_u16(node) | (uint64_t)get_u16(node + 2) << 16;
    if (get_u16(node + 4) & PAGECHECK_NODE_ELSEWHERE)
        data = 8;
    return NODE_HEADER + get_u16(node + 6) + data;
}

static uint64_t branch_node_size(const uint8_t *node)
{
    return NODE_HEADER + (uint64_t)get_u16(node + 6);
}

/* LMDB moves nodes about when it deletes one: overlapping ones would make it write outside the page. */
static bool take(struct pagecheck_nodes *nodes, unsigned offset, uint64_t size)
{
    for (uint64_t at = offset / 2; at < (offset + size + 1) / 2; at++) {
        uint8_t bit = (uint8_t)(1u << (at & 7));
        if (nodes->taken[at >> 3] & bit)
            return false;
        nodes->taken[at >> 3] |= bit;
    }
    return true;
}

static const char *node_flaw(const uint8_t *page, uint32_t page_size, unsigned i, unsigned upper,
                             struct pagecheck_nodes *nodes)
{
    unsigned offset = node_offset(page, i);
    if (offset < upper || offset & 1 || offset + NODE_HEADER > page_size)
        return "begins outside of the page's nodes";
    bool leaf = get_u16(page + 10) & PAGECHECK_LEAF;
    uint64_t size = leaf ? leaf_node_size(page + offset) : branch_node_size(page + offset);
    if (offset + size > page_size)
        return "ends outside of the page";
    return take(nodes, offset, size) ? NULL : "overlaps another";
}

bool pagecheck_layout(const uint8_t *page, uint32_t page_size, struct pagecheck_nodes *nodes, unsigned *ret_count,
                      char *ret_why, size_t why_size)
{
    unsigned lower = get_u16(page + 12), upper = get_u16(page + 14);
    if (lower <= PAGECHECK_HEADER || lower & 1 || lower > upper || upper > page_size || upper & 1) {
        snprintf(ret_why, why_size, "has its nodes between %u and %u", lower, upper);
        return false;
    }
    memset(nodes->taken, 0, page_size / 16);
    *ret_count = (lower - PAGECHECK_HEADER) / 2;
    for (unsigned i = 0; i < *ret_count; i++) {
        const char *why = node_flaw(page, page_size, i, upper, nodes);
        if (!why)
            continue;
        snprintf(ret_why, why_size, "has a node (%u) that %s", i, why);
        return false;
    }
    return true;
}

void pagecheck_leaf_node(const uint8_t *page, unsigned i, struct pagecheck_node *ret)
{
    const uint8_t *node = page + node_offset(page, i);
    ret->flags = get_u16(node + 4);
    ret->key_size = get_u16(node + 6);
    ret->key = node + NODE_HEADER;
    ret->data = ret->key + ret->key_size;
    ret->data_size = get_u16(node) | (size_t)get_u16(node + 2) << 16;
    ret->child = 0;
}

void pagecheck_branch_node(const uint8_t *page, unsigned i, struct pagecheck_node *ret)
{
    const uint8_t *node = page + node_offset(page, i);
    ret->flags = 0;
    ret->key_size = get_u16(node + 6);
    ret->key = node + NODE_HEADER;
    ret->data = NULL;
    ret->data_size = 0;
    ret->child = get_u16(node) | (uint64_t)get_u16(node + 2) << 16 | (uint64_t)get_u16(node + 4) << 32;
}
