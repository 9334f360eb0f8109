# Functions that controls replace, see controls.c.
LAB_LDFLAGS_sweep := -Wl,--wrap=journal_flush,--wrap=log_commit,--wrap=ahead_begin,--wrap=ahead_end,--wrap=ahead_take,--wrap=store_flush,--wrap=packer_free,--wrap=store_sink_rewind,--wrap=store_dead_edit,--wrap=store_dead_requeue_to,--wrap=spool_op_submit,--wrap=group_deliver,--wrap=resources_each,--wrap=key_stripe
