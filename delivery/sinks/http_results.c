/* http_results.c - see http_results.h. A server answers in the order of the request, as a rule: each search
 * begins behind the last one found. */
#include "http_results.h"

#include <jansson.h>

static struct spool_delivery *find(struct spool_delivery *batch, size_t first, size_t end, const struct spool_id *id,
                                   size_t *at)
{
    for (size_t i = first; i < end; i++, (*at)++) {
        if (*at >= end)
            *at = first;
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, *at);
        if (spool_id_compare(&delivery->id, id) == 0)
            return delivery;
    }
    return NULL;
}

const char *
http_results_read(const struct buffer *answer, bool is_cut, struct spool_delivery *batch, size_t first, size_t end,
                  void (*take)(void *user, struct spool_delivery *delivery, long status, const char *reason),
                  void *user)
{
    json_t *root = is_cut ? NULL : json_loadb((const char *)answer->data, answer->size, 0, NULL), *item;
    json_t *results = json_object_get(root, "results");
    size_t i, at = first;
    if (!json_is_array(results)) {
        json_decref(root);
        return is_cut ? "its body is longer than response_bytes" : "its body is not what it should be";
    }
    json_array_foreach(results, i, item)
    {
        struct spool_id id;
        const char *text = json_string_value(json_object_get(item, "id"));
        const char *reason = json_string_value(json_object_get(item, "reason"));
        const json_t *status = json_object_get(item, "status");
        if (!text || !json_is_integer(status) || spool_id_parse(text, &id) != SPOOL_OK)
            continue;
        struct spool_delivery *delivery = find(batch, first, end, &id, &at);
        if (delivery && delivery->outcome == SPOOL_RETRY)
            take(user, delivery, (long)json_integer_value(status), reason ? reason : "no reason given");
    }
    json_decref(root);
    return "this event is not named in its body";
}
