# Controls change what these functions do; see control_wraps.c.
LAB_LDFLAGS_crashlab += -Wl,--wrap=log_commit,--wrap=log_refresh,--wrap=segment_settle,--wrap=state_settle,--wrap=journal_walk,--wrap=journal_scan,--wrap=journal_begin_at \
    -Wl,--wrap=state_ack,--wrap=store_ack,--wrap=store_dead_requeue,--wrap=store_dead_requeue_to,--wrap=store_sink_pause_for,--wrap=store_dead_edit,--wrap=store_sink_rewind,--wrap=store_sink_limit,--wrap=state_clock_raise,--wrap=state_drop_below,--wrap=fstat,--wrap=stat \
    -Wl,--wrap=recovery_journal_exists,--wrap=dir_flush,--wrap=state_check_home
# The file sink is told the same inode in every copy of its files; the recorder is not (control_wraps.c).
LAB_CFLAGS_crashlab += -Dfstat=lab_real_fstat
