/* op.c - operations: the public face of the scheduler in delivery/. */
#include "handle.h"

int spool_op_submit(struct spool *spool, const struct spool_op_options *options, struct spool_op **ret_op)
{
    struct spool_op_options taken;
    int code = handle_check(spool);
    if (!code && !options)
        code = err_set(SPOOL_EINVAL, "spool_op_submit: options is NULL");
    if (!code)
        code = struct_take(&taken, sizeof taken, options, options->size, "spool_op_options");
    if (!code && store_is_read_only(spool->store))
        code = err_set(SPOOL_EREADONLY, "%s is open for reading only: it starts no thread", spool->dir);
    return code ? code : ops_submit(spool->ops, &taken, ret_op);
}

int spool_op_wait(struct spool_op *op, uint32_t timeout_ms, int *ret_result)
{
    return op_wait(op, deadline_in_ms(timeout_ms), ret_result);
}

int spool_op_cancel(struct spool_op *op)
{
    return op_cancel(op);
}

int spool_op_is_cancelled(const struct spool_op *op)
{
    return op_is_cancelled(op);
}

uint64_t spool_op_id(const struct spool_op *op)
{
    return op_id(op);
}

void spool_op_free(struct spool_op *op)
{
    op_free(op);
}

int spool_op_set_capacity(struct spool *spool, const char *resource, uint32_t capacity)
{
    int code = handle_check(spool);
    return code ? code : ops_set_capacity(spool->ops, resource, capacity);
}

const char *spool_op_state_name(enum spool_op_state state)
{
    switch (state) {
    case SPOOL_OP_WAITING:
        return "waiting";
    case SPOOL_OP_RUNNING:
        return "running";
    case SPOOL_OP_CANCELLING:
        return "cancelling";
    case SPOOL_OP_ENDING:
        return "ending";
    case SPOOL_OP_HUNG:
        return "hung";
    }
    return NULL;
}

int spool_op_each(struct spool *spool, int (*each)(void *user, const struct spool_op_info *info), void *user)
{
    int code = handle_check(spool);
    if (!code && !each)
        code = err_set(SPOOL_EINVAL, "spool_op_each: no function is given");
    if (!code)
        code = ops_each(spool->ops, each, user);
    return code ? code : delivery_batches_each(spool->delivery, each, user);
}
