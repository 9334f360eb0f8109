/* config.c - spool.json: a spool and its sinks from a file. Unknown keys are errors that name the key; see spool.json(5).
 *
 * Keys are read by table. A sink's keys that are none of ours are its kind's own and are handed on as its JSON. */
#include <jansson.h>
#include <stddef.h>

#include "base/buffer.h"
#include "base/json_tree.h"
#include "base/units.h"
#include "clock_config.h"
#include "config.h"

enum key_type { KEY_BYTES64, KEY_BYTES32, KEY_MS64, KEY_MS32, KEY_COUNT32, KEY_MODE };
struct key {
    const char *name;
    enum key_type type;
    size_t offset;
};

#define SPOOL_KEY(name, type, field)                                                                                   \
    {                                                                                                                  \
        name, type, offsetof(struct spool_options, field)                                                              \
    }
static const struct key spool_keys[] = {
    SPOOL_KEY("max_bytes", KEY_BYTES64, max_bytes),
    SPOOL_KEY("journal_bytes", KEY_BYTES32, journal_bytes),
    SPOOL_KEY("segment_bytes", KEY_BYTES64, segment_bytes),
    SPOOL_KEY("flush_interval", KEY_MS32, flush_interval_ms),
    SPOOL_KEY("retention", KEY_MS64, retention_ms),
    SPOOL_KEY("full_timeout", KEY_MS32, full_timeout_ms),
    SPOOL_KEY("stop_timeout", KEY_MS32, stop_timeout_ms),
    SPOOL_KEY("workers", KEY_COUNT32, workers),
    SPOOL_KEY("mode", KEY_MODE, file_mode),
    {0},
};

#define SINK_KEY(name, type, field)                                                                                    \
    {                                                                                                                  \
        name, type, offsetof(struct spool_sink_options, field)                                                         \
    }
static const struct key sink_keys[] = {
    SINK_KEY("workers", KEY_COUNT32, workers),
    SINK_KEY("batch_events", KEY_COUNT32, batch_events_max),
    SINK_KEY("batch_bytes", KEY_BYTES32, batch_bytes_max),
    SINK_KEY("timeout", KEY_MS32, timeout_ms),
    SINK_KEY("linger", KEY_MS32, linger_ms),
    SINK_KEY("inflight_bytes", KEY_BYTES64, inflight_bytes_max),
    SINK_KEY("max_crashes", KEY_COUNT32, max_crashes),
    SINK_KEY("max_pending_bytes", KEY_BYTES64, max_pending_bytes),
    SINK_KEY("max_pending_age", KEY_MS64, max_pending_age_ms),
    {0},
};
static const struct key retry_keys[] = {
    SINK_KEY("base", KEY_MS32, retry_base_ms),
    SINK_KEY("cap", KEY_MS32, retry_cap_ms),
    SINK_KEY("max_attempts", KEY_COUNT32, max_attempts),
    SINK_KEY("max_age", KEY_MS64, max_age_ms),
    SINK_KEY("rows_max", KEY_COUNT32, retry_rows_max),
    SINK_KEY("bytes_max", KEY_BYTES64, retry_bytes_max),
    {0},
};

static const struct key dead_keys[] = {
    SINK_KEY("events_max", KEY_COUNT32, dead_events_max),
    SINK_KEY("bytes_max", KEY_BYTES64, dead_bytes_max),
    SINK_KEY("age_max", KEY_MS64, dead_age_max_ms),
    {0},
};

static const struct key breaker_keys[] = {
    SINK_KEY("failures", KEY_COUNT32, breaker_failures),
    SINK_KEY("probe_events", KEY_COUNT32, probe_events),
    SINK_KEY("probes", KEY_COUNT32, probes),
    {0},
};

/* --------------------------------------------------------------------------------------------------- single values */

/* A text with a unit ("8GiB", "100ms") or a plain non-negative number (bytes, milliseconds). */
static int read_number(json_t *value, const struct key *key, const char *where, uint64_t *ret)
{
    bool is_time = key->type == KEY_MS32 || key->type == KEY_MS64;
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *ret = (uint64_t)json_integer_value(value);
        return SPOOL_OK;
    }
    if (!json_is_string(value) || key->type == KEY_COUNT32)
        return err_set(SPOOL_ECONFIG, "%s.%s: a number is expected%s", where, key->name,
                       key->type == KEY_COUNT32 ? ""
                       : is_time                ? ", or a text such as \"100ms\""
                                                : ", or a text such as \"8GiB\"");
    const char *text = json_string_value(value);
    int code = is_time ? units_parse_duration_ms(text, ret) : units_parse_bytes(text, ret);
    return code ? err_prefix(SPOOL_ECONFIG, "%s.%s", where, key->name) : SPOOL_OK;
}

static int read_mode(json_t *value, const struct key *key, const char *where, uint64_t *ret)
{
    char *end = NULL;
    const char *text = json_string_value(value);
    if (text)
        *ret = strtoul(text, &end, 8);
    if (text && *text && !*end)
        return SPOOL_OK;
    return err_set(SPOOL_ECONFIG, "%s.%s: an octal text such as \"0640\" is expected", where, key->name);
}

static int read_key(json_t *value, const struct key *key, const char *where, void *into)
{
    uint64_t n = 0;
    int code = key->type == KEY_MODE ? read_mode(value, key, where, &n) : read_number(value, key, where, &n);
    if (code)
        return code;
    bool is_64 = key->type == KEY_BYTES64 || key->type == KEY_MS64;
    if (!is_64 && n > UINT32_MAX)
        return err_set(SPOOL_ECONFIG, "%s.%s: too large", where, key->name);
    char *field = (char *)into + key->offset;
    uint32_t narrow = (uint32_t)n;
    if (is_64)
        memcpy(field, &n, sizeof n);
    else
        memcpy(field, &narrow, sizeof narrow);
    return SPOOL_OK;
}

static const struct key *find_key(const struct key *keys, const char *name)
{
    for (; keys->name; keys++) {
        if (strcmp(keys->name, name) == 0)
            return keys;
    }
    return NULL;
}

static int read_text(json_t *value, const char *where, const char *name, const char **ret)
{
    *ret = json_string_value(value);
    return *ret ? SPOOL_OK : err_set(SPOOL_ECONFIG, "%s.%s: a text is expected", where, name);
}

/* The index of the text in `names` (NULL-terminated). */
static int read_choice(json_t *value, const char *where, const char *name, const char *const *names, unsigned *ret)
{
    const char *text = json_string_value(value);
    for (unsigned i = 0; text && names[i]; i++) {
        if (strcmp(names[i], text) == 0) {
            *ret = i;
            return SPOOL_OK;
        }
    }
    char known[128] = "";
    for (unsigned i = 0; names[i]; i++)
        snprintf(known + strlen(known), sizeof known - strlen(known), "%s%s", i ? ", " : "", names[i]);
    return err_set(SPOOL_ECONFIG, "%s.%s: \"%s\" is none of %s", where, name, text ? text : "(no text)", known);
}

/* ------------------------------------------------------------------------------------------------ the spool section */

static int read_full(json_t *object, struct spool_options *options)
{
    static const char *const policies[] = {"block", "reject", "drop-oldest", NULL};
    const char *name;
    json_t *value;
    if (!json_is_object(object))
        return err_set(SPOOL_ECONFIG, "spool.full: an object such as {\"low\": \"reject\"} is expected");
    json_object_foreach(object, name, value)
    {
        enum spool_priority priority;
        unsigned policy;
        if (spool_priority_parse(name, &priority))
            return err_set(SPOOL_ECONFIG, "spool.full.%s: there is no such priority", name);
        int code = read_choice(value, "spool.full", name, policies, &policy);
        if (code)
            return code;
        options->full_policy[priority] = (enum spool_full_policy)policy;
    }
    return SPOOL_OK;
}

static int read_spool_key(const char *name, json_t *value, struct spool_options *options, const char **ret_dir)
{
    static const char *const levels[] = {"process", "power", NULL}, *const codecs[] = {"none", "zstd", NULL};
    const struct key *key = find_key(spool_keys, name);
    if (key)
        return read_key(value, key, "spool", options);
    if (strcmp(name, "dir") == 0)
        return read_text(value, "spool", name, ret_dir);
    if (strcmp(name, "full") == 0)
        return read_full(value, options);
    if (strcmp(name, "durability") == 0) {
        unsigned level;
        int code = read_choice(value, "spool", name, levels, &level);
        options->durability = code ? SPOOL_DURABLE_DEFAULT : level ? SPOOL_DURABLE_POWER : SPOOL_DURABLE_PROCESS;
        return code;
    }
    if (strcmp(name, "compress") == 0) {
        unsigned codec;
        int code = read_choice(value, "spool", name, codecs, &codec);
        options->compress = code ? SPOOL_COMPRESS_NONE : (enum spool_compression)codec;
        return code;
    }
    return err_set(SPOOL_ECONFIG, "spool.%s: unknown key", name);
}

static int read_spool(json_t *object, struct spool_options *options, const char **ret_dir)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object))
        return err_set(SPOOL_ECONFIG, "\"spool\": an object is expected, such as {\"dir\": \"/var/lib/agent/spool\"}");
    json_object_foreach(object, name, value)
    {
        int code = read_spool_key(name, value, options, ret_dir);
        if (code)
            return code;
    }
    return *ret_dir ? SPOOL_OK : err_set(SPOOL_ECONFIG, "spool.dir: missing: which directory?");
}

/* ------------------------------------------------------------------------------------------------------ the sinks */

/* An object of numbers that is one key of a sink. */
static int read_group(json_t *object, const char *group, const struct key *keys, struct sink_config *sink)
{
    char where[sizeof sink->where + 10];
    const char *name;
    json_t *value;
    snprintf(where, sizeof where, "%s.%s", sink->where, group);
    if (!json_is_object(object))
        return err_set(SPOOL_ECONFIG, "%s: an object is expected", where);
    json_object_foreach(object, name, value)
    {
        const struct key *key = find_key(keys, name);
        if (!key)
            return err_set(SPOOL_ECONFIG, "%s.%s: unknown key", where, name);
        int code = read_key(value, key, where, &sink->options);
        if (code)
            return code;
    }
    return SPOOL_OK;
}

/* A text, or an array of texts, each of one resource. */
static int read_resources(json_t *value, struct sink_config *sink)
{
    struct buffer text = {0};
    int code = SPOOL_OK;
    size_t count = json_is_array(value) ? json_array_size(value) : 1;
    for (size_t i = 0; i < count && !code; i++) {
        const char *name = json_string_value(json_is_array(value) ? json_array_get(value, i) : value);
        if (!name || (json_is_array(value) && strchr(name, ',')))
            code = err_set(SPOOL_ECONFIG,
                           "%s.resources: a text such as \"gpu, api*2\" is expected, or an array of such, "
                           "each without a comma",
                           sink->where);
        if (!code && i > 0)
            code = buffer_put_text(&text, ", ");
        if (!code)
            code = buffer_put_text(&text, name);
    }
    if (!code)
        code = buffer_put(&text, "", 1);
    sink->options.resources = sink->resources = (char *)text.data; /* freed with it, also after a failure */
    return code;
}

static int read_sink_key(const char *name, json_t *value, struct sink_config *sink)
{
    static const char *const orders[] = {"none", "agent", "lane", NULL};
    const struct key *key = find_key(sink_keys, name);
    if (key)
        return read_key(value, key, sink->where, &sink->options);
    if (strcmp(name, "name") == 0)
        return read_text(value, sink->where, name, &sink->name);
    if (strcmp(name, "kind") == 0)
        return read_text(value, sink->where, name, &sink->kind);
    if (strcmp(name, "retry") == 0)
        return read_group(value, name, retry_keys, sink);
    if (strcmp(name, "dead") == 0)
        return read_group(value, "dead", dead_keys, sink);
    if (strcmp(name, "breaker") == 0)
        return read_group(value, name, breaker_keys, sink);
    if (strcmp(name, "order") == 0) {
        unsigned order;
        int code = read_choice(value, sink->where, name, orders, &order);
        sink->options.order = code ? SPOOL_ORDER_NONE : (enum spool_order)order;
        return code;
    }
    if (strcmp(name, "plugin") == 0)
        return read_text(value, sink->where, name, &sink->options.plugin);
    if (strcmp(name, "resources") == 0)
        return read_resources(value, sink);
    if (strcmp(name, "filter") == 0) {
        sink->options.filter = sink->filter = json_tree_text(value);
        return sink->filter ? SPOOL_OK : err_errno(ENOMEM, "%s", sink->where);
    }
    if (strcmp(name, "from_now") == 0) {
        if (!json_is_boolean(value))
            return err_set(SPOOL_ECONFIG, "%s.from_now: true or false is expected", sink->where);
        sink->options.flags |= json_is_true(value) ? SPOOL_SINK_FROM_NOW : 0;
        return SPOOL_OK;
    }
    return json_object_set(sink->own, name, value) ? err_errno(ENOMEM, "%s", sink->where) : SPOOL_OK;
}

static int read_sink(json_t *object, struct sink_config *sink)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object))
        return err_set(SPOOL_ECONFIG, "%s: an object is expected", sink->where);
    json_object_foreach(object, name, value)
    {
        int code = read_sink_key(name, value, sink);
        if (code)
            return code;
    }
    if (!sink->name)
        return err_set(SPOOL_ECONFIG, "%s.name: missing", sink->where);
    return sink->kind ? SPOOL_OK : err_set(SPOOL_ECONFIG, "%s.kind: missing", sink->where);
}

int config_read_sink(json_t *object, size_t index, struct sink_config *ret)
{
    *ret = (struct sink_config){.options = SPOOL_SINK_OPTIONS(.order = SPOOL_ORDER_NONE)};
    snprintf(ret->where, sizeof ret->where, "sinks[%zu]", index);
    ret->own = json_object();
    if (!ret->own)
        return err_errno(ENOMEM, "%s", ret->where);
    int code = read_sink(object, ret);
    if (!code && !(ret->text = json_tree_text(ret->own)))
        code = err_errno(ENOMEM, "%s", ret->where);
    return code;
}

void config_free_sink(struct sink_config *sink)
{
    free(sink->text);
    free(sink->filter);
    free(sink->resources);
    json_decref(sink->own);
}

static int add_sink(struct spool *spool, json_t *object, size_t index)
{
    struct sink_config sink;
    int code = config_read_sink(object, index, &sink);
    if (!code && (code = spool_sink_load(spool, sink.name, sink.kind, sink.text, &sink.options)))
        err_prefix(code, "%s", sink.where);
    config_free_sink(&sink);
    return code;
}

static int check_array(json_t *array)
{
    return array && !json_is_array(array) ? err_set(SPOOL_ECONFIG, "\"sinks\": an array is expected") : SPOOL_OK;
}

static int add_sinks(struct spool *spool, json_t *array)
{
    size_t index;
    json_t *object;
    int code = check_array(array);
    json_array_foreach(array, index, object)
    {
        code = code ? code : add_sink(spool, object, index);
    }
    return code;
}

/* ------------------------------------------------------------------------------------------------------- the file */

static int check_sections(json_t *root)
{
    const char *name;
    json_t *value;
    if (!json_is_object(root))
        return err_set(SPOOL_ECONFIG, "an object with \"spool\" and \"sinks\" is expected");
    json_object_foreach(root, name, value)
    {
        if (strcmp(name, "spool") != 0 && strcmp(name, "sinks") != 0 && strcmp(name, "clock") != 0)
            return err_set(SPOOL_ECONFIG, "\"%s\": unknown key; known are \"spool\", \"sinks\" and \"clock\"", name);
    }
    return SPOOL_OK;
}

int config_read_spool(json_t *root, struct spool_options *ret, const char **ret_dir)
{
    *ret = SPOOL_OPTIONS(.max_bytes = 0);
    *ret_dir = NULL;
    int code = check_sections(root);
    if (!code)
        code = read_spool(json_object_get(root, "spool"), ret, ret_dir);
    return code ? code : check_array(json_object_get(root, "sinks"));
}

/* The name of the first setting in which the two differ; NULL if none. */
const char *config_difference(const struct spool_options *a, const struct spool_options *b)
{
    for (const struct key *key = spool_keys; key->name; key++) {
        bool wide = key->type == KEY_BYTES64 || key->type == KEY_MS64;
        if (memcmp((const char *)a + key->offset, (const char *)b + key->offset, wide ? 8 : 4) != 0)
            return key->name;
    }
    if (a->durability != b->durability)
        return "durability";
    if (a->compress != b->compress)
        return "compress";
    return memcmp(a->full_policy, b->full_policy, sizeof a->full_policy) != 0 ? "full" : NULL;
}

static void take_callbacks(struct spool_options *to, const struct spool_options *from)
{
    to->log = from->log;
    to->log_user = from->log_user;
    to->on_notice = from->on_notice;
    to->notice_user = from->notice_user;
    to->on_delivery = from->on_delivery;
    to->delivery_user = from->delivery_user;
}

static int open_from(json_t *root, const struct spool_options *callbacks, struct spool **ret_spool)
{
    struct spool_options options;
    const char *dir;
    struct spool *spool = NULL;
    int code = config_read_spool(root, &options, &dir);
    take_callbacks(&options, callbacks);
    if (!code)
        code = spool_open(dir, &options, &spool);
    if (!code)
        code = clock_config_of_file(json_object_get(root, "clock"), spool);
    if (!code)
        code = add_sinks(spool, json_object_get(root, "sinks"));
    if (code) {
        char message[512];
        snprintf(message, sizeof message, "%s", err_last());
        spool_close(spool);
        return err_set(code, "%s", message);
    }
    *ret_spool = spool;
    return SPOOL_OK;
}

/* All of it; a file that cannot be read is no wrong JSON. */
static int read_file(const char *path, struct buffer *out)
{
    enum { PART = 4096 };
    FILE *file = fopen(path, "re");
    if (!file)
        return err_errno(errno, "%s", path);
    int code = SPOOL_OK;
    for (bool more = true; !code && more;) {
        code = buffer_reserve(out, PART);
        size_t n = code ? 0 : fread(out->data + out->size, 1, PART, file);
        out->size += n;
        more = n == PART;
    }
    if (!code && ferror(file))
        code = err_errno(errno ? errno : EIO, "%s: cannot read", path);
    fclose(file);
    return code;
}

int config_load(const char *path, json_t **ret)
{
    json_error_t error;
    struct buffer text = {0};
    int code = read_file(path, &text);
    if (!code)
        code = json_tree((const char *)text.data, text.size, ret, &error);
    if (code == SPOOL_EJSON)
        err_set(code, "%s, line %d, column %d: %s", path, error.line, error.column, error.text);
    else if (code == ENOMEM)
        err_errno(code, "%s", path);
    buffer_free(&text);
    return code;
}

int spool_open_config_with(const char *json_file, const struct spool_options *given, struct spool **ret_spool)
{
    json_t *root;
    struct spool_options callbacks = SPOOL_OPTIONS(.max_bytes = 0);
    if (!json_file || !ret_spool)
        return err_set(SPOOL_EINVAL, "spool_open_config: NULL is given");
    int code = given ? struct_take(&callbacks, sizeof callbacks, given, given->size, "spool_options") : SPOOL_OK;
    if (!code)
        code = config_load(json_file, &root);
    if (code)
        return code;
    code = open_from(root, &callbacks, ret_spool);
    json_decref(root);
    return code ? err_prefix(code, "%s", json_file) : SPOOL_OK;
}

int spool_open_config(const char *json_file, struct spool **ret_spool)
{
    return spool_open_config_with(json_file, NULL, ret_spool);
}
