# What the code under simulation calls of the outside world, given to wrap.c instead.
sim_wrapped := malloc calloc realloc free strdup clock_gettime getrandom \
    pthread_mutex_init pthread_mutex_destroy pthread_mutex_lock pthread_mutex_unlock \
    pthread_cond_init pthread_cond_destroy pthread_cond_wait pthread_cond_timedwait pthread_cond_signal \
    pthread_cond_broadcast pthread_create pthread_join pthread_detach pthread_sigmask pthread_setname_np \
    backoff_draw_ns breaker_failed delivery_kind_find delivery_kind_check group_deliver sinks_close_later key_picker_take filter_passes
sim_comma := ,
LAB_LDFLAGS_sim := $(foreach name,$(sim_wrapped),-Wl$(sim_comma)--wrap=$(name))
