/* reload.c - spool_reload_config(): a configuration file is read again while its spool delivers.
 *
 * First everything is read and checked: what is wrong anywhere refuses the whole, and nothing has changed. Then each sink is
 * compared with how it is registered. One whose options alone differ hears of them and goes on; one that is otherwise
 * another is let go of, within the time that stopping has, and added anew: it goes on at its cursor, so that only what was
 * in its hands may come again. One that the file does not name any more is let go of and stays registered, as it would
 * after a restart: its events are held. */
#include <errno.h>
#include <sys/stat.h>

#include "clock_config.h"
#include "config.h"

enum { SINKS_MAX = 256 };

struct reloading {
    struct spool *spool;
    void (*each)(void *user, const char *sink, enum spool_reload_change change);
    void *user;
    struct sink_config sinks[SINKS_MAX];
    size_t count;
    int code; /* the first failure of applying … */
    char message[400];
};

/* --------------------------------------------------------------------------------------------------------- checking */

static int check_spool(const struct spool *spool, const struct spool_options *given, const char *dir)
{
    struct spool_options filled;
    struct stat st;
    int err = stat(dir, &st) ? errno : 0;
    if (err && err != ENOENT && err != ENOTDIR) /* it may well be the one that is open */
        return err_errno(err, "spool.dir: %s", dir);
    if (err || st.st_dev != spool->device || st.st_ino != spool->inode)
        return err_set(SPOOL_ECONFIG, "spool.dir: %s is not the directory that is open: restart for another one", dir);
    int code = handle_options(given, &filled);
    const char *name = code ? NULL : config_difference(&filled, &spool->options);
    return name ? err_set(SPOOL_ECONFIG, "spool.%s: cannot be changed while it is open: restart for that", name) : code;
}

static int check_sink(const struct reloading *r, const struct sink_config *sink)
{
    struct delivery_kind kind;
    char *text = NULL;
    for (const struct sink_config *other = r->sinks; other < sink; other++)
        if (strcmp(other->name, sink->name) == 0)
            return err_set(SPOOL_ECONFIG, "name: \"%s\" is the name of %s already", sink->name, other->where);
    int code = delivery_check_name(sink->name);
    if (!code)
        code = delivery_kind_find(sink->kind, sink->options.plugin, &kind);
    if (!code)
        code = delivery_kind_check(&kind, sink->text);
    if (!code)
        code = delivery_registration_text(sink->text, &sink->options, &text);
    free(text);
    return code;
}

static int read_sinks(struct reloading *r, json_t *array)
{
    size_t index;
    json_t *object;
    if (json_array_size(array) > SINKS_MAX)
        return err_set(SPOOL_ECONFIG, "\"sinks\": %zu sinks, at most %d", json_array_size(array), SINKS_MAX);
    json_array_foreach(array, index, object)
    {
        struct sink_config *sink = &r->sinks[r->count];
        int code = config_read_sink(object, index, sink);
        r->count++;
        if (code)
            return code; /* names the sink already */
        code = check_sink(r, sink);
        if (code)
            return err_prefix(code, "%s", sink->where);
    }
    return SPOOL_OK;
}

/* --------------------------------------------------------------------------------------------------------- applying */

static void note_failure(struct reloading *r, const char *sink, int code)
{
    if (r->code)
        return;
    r->code = code;
    snprintf(r->message, sizeof r->message, "sink %s: %s", sink, err_last());
}

static void tell(struct reloading *r, const char *sink, enum spool_reload_change change)
{
    if (r->each)
        r->each(r->user, sink, change);
}

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static uint32_t workers_of(const struct spool_sink_options *options)
{
    return options->workers ? options->workers : 1;
}

/* What there is to do for a sink that is here. *ret_text: its new registration. */
static int compare(struct reloading *r, const struct sink_config *sink, enum spool_reload_change *ret, char **ret_text)
{
    struct delivery_registration old;
    struct store_sink *stored = malloc(sizeof *stored);
    char *text = NULL, *was = NULL;
    int code = stored ? store_sink_get(r->spool->store, sink->name, stored) : err_errno(ENOMEM, "sink %s", sink->name);
    if (!code)
        code = store_sink_config(r->spool->store, sink->name, &text);
    if (!code && !(was = strdup(text)))
        code = err_errno(ENOMEM, "sink %s", sink->name);
    if (!code)
        code = delivery_registration_text(sink->text, &sink->options, ret_text);
    if (!code)
        code = delivery_registration_read(text, &old);
    if (!code) {
        bool same_sink = strcmp(stored->kind, sink->kind) == 0 && stored->order == (uint32_t)sink->options.order &&
                         strcmp(old.config, sink->text) == 0 && same_text(old.plugin, sink->options.plugin) &&
                         same_text(old.filter, sink->options.filter) &&
                         same_text(old.resources, sink->options.resources) &&
                         workers_of(&old.options) == workers_of(&sink->options);
        bool same = same_sink && strcmp(was, *ret_text) == 0;
        *ret = same ? SPOOL_RELOAD_SAME : same_sink ? SPOOL_RELOAD_CHANGED : SPOOL_RELOAD_REPLACED;
        delivery_registration_free(&old);
        text = NULL;
    }
    free(text);
    free(was);
    free(stored);
    return code;
}

static int load_sink(struct reloading *r, const struct sink_config *sink)
{
    return spool_sink_load(r->spool, sink->name, sink->kind, sink->text, &sink->options);
}

static int let_go(struct reloading *r, const char *name)
{
    return delivery_sink_drop(r->spool->delivery, name, deadline_in_ms(r->spool->options.stop_timeout_ms));
}

/* What may wait is also kept where whoever does not serve the sink finds it. */
static int change_options(struct store *store, const struct sink_config *sink, const char *text)
{
    const struct spool_sink_options *options = &sink->options;
    int code = store_sink_set_config(store, sink->name, text);
    return code ? code : store_sink_limit(store, sink->name, options->max_pending_bytes, options->max_pending_age_ms);
}

static void apply(struct reloading *r, const struct sink_config *sink)
{
    struct delivery_sink_status status;
    enum spool_reload_change change = SPOOL_RELOAD_ADDED;
    char *text = NULL;
    int code = SPOOL_OK;
    bool here = delivery_sink_status(r->spool->delivery, sink->name, &status) == SPOOL_OK;
    if (here)
        code = compare(r, sink, &change, &text);
    if (!code && change == SPOOL_RELOAD_CHANGED)
        code = change_options(r->spool->store, sink, text);
    if (!code && change == SPOOL_RELOAD_REPLACED)
        code = let_go(r, sink->name);
    if (!code && (change == SPOOL_RELOAD_ADDED || change == SPOOL_RELOAD_REPLACED))
        code = load_sink(r, sink);
    free(text);
    if (code)
        note_failure(r, sink->name, code);
    else if (change != SPOOL_RELOAD_SAME)
        tell(r, sink->name, change);
}

/* Those of a program's own kind are none of the file's business. */
static int release_missing(void *user, const struct store_sink *sink)
{
    struct reloading *r = user;
    struct delivery_sink_status status;
    struct delivery_kind kind;
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->sinks[i].name, sink->name) == 0)
            return 0;
    if (delivery_sink_status(r->spool->delivery, sink->name, &status) || delivery_kind_find(sink->kind, NULL, &kind))
        return 0;
    int code = let_go(r, sink->name);
    if (code)
        note_failure(r, sink->name, code);
    else
        tell(r, sink->name, SPOOL_RELOAD_RELEASED);
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- the whole */

static int reload(struct reloading *r, json_t *root)
{
    struct spool_options options;
    const char *dir;
    int code = config_read_spool(root, &options, &dir);
    if (!code)
        code = check_spool(r->spool, &options, dir);
    if (!code)
        code = read_sinks(r, json_object_get(root, "sinks"));
    if (!code)
        code = clock_config_check(json_object_get(root, "clock"));
    if (code)
        return code;
    code = clock_config_of_file(json_object_get(root, "clock"), r->spool);
    if (code)
        return code;
    for (size_t i = 0; i < r->count; i++)
        apply(r, &r->sinks[i]);
    code = store_sink_each(r->spool->store, release_missing, r);
    return r->code ? err_set(r->code, "%s", r->message) : code;
}

int spool_reload_config(struct spool *spool, const char *json_file,
                        void (*each)(void *user, const char *sink, enum spool_reload_change change), void *user)
{
    json_t *root = NULL;
    int code = handle_check(spool);
    if (!code && !json_file)
        code = err_set(SPOOL_EINVAL, "spool_reload_config: no file");
    if (!code && store_is_read_only(spool->store))
        code = err_set(SPOOL_EREADONLY, "%s is open for reading only", spool->dir);
    if (!code && thread_is_ours())
        code = err_set(SPOOL_EDEADLK, "spool_reload_config() from a thread of the library would wait for itself");
    struct reloading *r = code ? NULL : calloc(1, sizeof *r);
    if (!code && !r)
        code = err_errno(ENOMEM, "%s", json_file);
    if (!code)
        code = config_load(json_file, &root);
    if (!code) {
        *r = (struct reloading){.spool = spool, .each = each, .user = user};
        code = reload(r, root);
        code = code ? err_prefix(code, "%s", json_file) : SPOOL_OK;
    }
    for (size_t i = 0; r && i < r->count; i++)
        config_free_sink(&r->sinks[i]);
    json_decref(root);
    free(r);
    return code;
}
