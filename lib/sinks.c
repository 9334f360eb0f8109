/* sinks.c - adding, loading, removing and pausing sinks; starting and stopping delivery. */
#include "handle.h"

static int check_writable(const struct spool *spool, const char *name)
{
    int code = handle_check(spool);
    if (!code && !name)
        code = err_set(SPOOL_EINVAL, "the sink's name is NULL");
    if (!code && store_is_read_only(spool->store))
        code = err_set(SPOOL_EREADONLY, "%s is open for reading only", spool->dir);
    return code;
}

int spool_sink_add(struct spool *spool, const char *name, const struct spool_sink *sink, const char *json_config,
                   const struct spool_sink_options *options)
{
    int code = check_writable(spool, name);
    return code ? code : delivery_sink_add(spool->delivery, name, sink, json_config, options);
}

/* The path of the plugin, if that was named by options that are long enough to do so. */
static const char *plugin_of(const struct spool_sink_options *options)
{
    size_t end = offsetof(struct spool_sink_options, plugin) + sizeof options->plugin;
    return options && options->size >= end ? options->plugin : NULL;
}

int spool_sink_load(struct spool *spool, const char *name, const char *kind, const char *json_config,
                    const struct spool_sink_options *options)
{
    int code = check_writable(spool, name);
    if (code)
        return code;
    struct delivery_kind found;
    code = delivery_kind_find(kind, plugin_of(options), &found);
    if (!code)
        code = delivery_kind_check(&found, json_config);
    if (code)
        return err_prefix(code, "sink %s", name);
    return delivery_sink_add(spool->delivery, name, found.sink, json_config, options);
}

int spool_sink_kind_each(int (*each)(void *user, const struct spool_sink_kind *kind), void *user)
{
    return each ? delivery_kind_each(each, user) : err_set(SPOOL_EINVAL, "spool_sink_kind_each: no callback was given");
}

/* ---------------------------------------------------------------------------------------- those registered before */

struct loading {
    struct spool *spool;
    size_t n;
    int code;          /* the first failure */
    char message[256]; /* its message */
};

static void note_failure(struct loading *loading, int code)
{
    if (loading->code)
        return;
    loading->code = code;
    snprintf(loading->message, sizeof loading->message, "%s", err_last());
}

static int add_stored(struct spool *spool, const struct store_sink *sink, struct delivery_registration *stored,
                      bool *ret_is_own)
{
    struct delivery_kind known;
    int code = delivery_kind_find(sink->kind, stored->plugin, &known);
    *ret_is_own = code == SPOOL_ENOTFOUND; /* a program's own kind */
    stored->options.order = (enum spool_order)sink->order;
    if (!code)
        code = delivery_sink_add(spool->delivery, sink->name, known.sink, stored->config, &stored->options);
    return *ret_is_own ? SPOOL_OK : code;
}

/* Adds a sink as it was registered. *ret_is_own: its kind is not known here, it is some program's own. */
static int load_stored(struct spool *spool, const struct store_sink *sink, bool *ret_is_own)
{
    struct delivery_registration stored;
    char *text = NULL;
    int code = store_sink_config(spool->store, sink->name, &text);
    if (!code)
        code = delivery_registration_read(text, &stored);
    if (code) {
        free(text);
        return code;
    }
    code = add_stored(spool, sink, &stored, ret_is_own);
    delivery_registration_free(&stored);
    return code;
}

static int load_one(void *user, const struct store_sink *sink)
{
    struct loading *loading = user;
    struct delivery *delivery = loading->spool->delivery;
    struct delivery_sink_status status;
    if (sink->removing || delivery_sink_status(delivery, sink->name, &status) == SPOOL_OK)
        return 0; /* nobody's any more, or here already */
    bool is_own = false;
    int code = load_stored(loading->spool, sink, &is_own);
    if (code)
        note_failure(loading, code);
    else
        loading->n += !is_own;
    return 0;
}

int spool_sink_load_registered(struct spool *spool, size_t *ret_n)
{
    struct loading loading = {.spool = spool};
    int code = check_writable(spool, "");
    if (!code)
        code = store_sink_each(spool->store, load_one, &loading);
    if (!code && loading.code)
        code = err_set(loading.code, "%s", loading.message);
    if (!code && ret_n)
        *ret_n = loading.n;
    return code;
}

/* ------------------------------------------------------------------------------------------------- removing, pausing */

int spool_sink_remove(struct spool *spool, const char *name)
{
    uint64_t deadline = deadline_in_ms(spool ? spool->options.stop_timeout_ms : 0), at_least;
    int code = check_writable(spool, name);
    if (!code && thread_is_ours())
        code = err_set(SPOOL_EDEADLK, "spool_sink_remove() from a thread of the library would wait for itself");
    if (!code)
        code = store_sink_ask_removal(spool->store, name, deadline);
    if (!code)
        code = delivery_sink_drop(spool->delivery, name, deadline);
    if (code)
        return code;
    at_least = deadline_in_ms(250); /* a sink may have taken all of it to end */
    return store_sink_await_removal(spool->store, name, deadline > at_least ? deadline : at_least);
}

static int pause_sink(struct spool *spool, const char *name, bool paused)
{
    int code = check_writable(spool, name);
    return code ? code : store_sink_pause(spool->store, name, paused);
}

int spool_sink_pause(struct spool *spool, const char *name)
{
    return pause_sink(spool, name, true);
}

int spool_sink_resume(struct spool *spool, const char *name)
{
    return pause_sink(spool, name, false);
}

/* --------------------------------------------------------------------------------------------------- start and stop */

int spool_start(struct spool *spool)
{
    int code = check_writable(spool, "");
    if (!code)
        code = ops_start(spool->ops);
    return code ? code : delivery_start(spool->delivery);
}

/* Both have the same time: what runs of either is cancelled at half of it. */
int handle_stop(struct spool *spool, uint64_t deadline_ns)
{
    char message[256];
    ops_begin_stop(spool->ops, deadline_ns);
    int code = delivery_stop(spool->delivery, deadline_ns);
    snprintf(message, sizeof message, "%s", code ? err_last() : "");
    int ops_code = ops_stop(spool->ops, deadline_ns);
    return code ? err_set(code, "%s", message) : ops_code;
}

/* Several threads may stop at once: locks are not waited for beyond the earliest deadline until the last of them is done. */
static pthread_mutex_t stops_mutex = PTHREAD_MUTEX_INITIALIZER;

static void begin_stop(struct spool *spool, uint64_t deadline)
{
    pthread_mutex_lock(&stops_mutex);
    if (spool->stops++ == 0 || deadline < spool->stop_deadline_ns)
        spool->stop_deadline_ns = deadline;
    store_hurry(spool->store, spool->stop_deadline_ns);
    pthread_mutex_unlock(&stops_mutex);
}

static void end_stop(struct spool *spool)
{
    pthread_mutex_lock(&stops_mutex);
    if (--spool->stops == 0)
        store_hurry(spool->store, DEADLINE_NEVER);
    pthread_mutex_unlock(&stops_mutex);
}

int spool_stop(struct spool *spool, uint32_t timeout_ms)
{
    int code = handle_check(spool);
    if (!code && thread_is_ours())
        code = err_set(SPOOL_EDEADLK, "spool_stop() from a thread of the library would wait for itself");
    if (code)
        return code;
    uint64_t deadline = deadline_in_ms(timeout_ms);
    begin_stop(spool, deadline);
    code = handle_stop(spool, deadline);
    end_stop(spool);
    return code;
}
