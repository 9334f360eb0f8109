/* http_status.c - see http_status.h. */
#include "http_status.h"

#include <stdbool.h>
#include <string.h>

#include "../../lib/spool.h"

static const char *const class_names[] = {"deliver", "down", "retry", "pause", "reject", NULL}; /* enum http_class */

static enum http_class default_of(int status)
{
    switch (status) {
    case 408:
    case 421:
    case 423:
    case 425:
    case 429:
    case 502:
    case 503:
    case 504:
        return HTTP_DOWN;
    case 301:
    case 308:
    case 401:
    case 402:
    case 403:
    case 404:
    case 405:
    case 406:
    case 407:
    case 410:
    case 411:
    case 415:
    case 417:
    case 426:
    case 428:
    case 505:
        return HTTP_PAUSE;
    case 409:
        return HTTP_RETRY; /* the same Idempotency-Key is being worked on */
    default:
        break;
    }
    static const enum http_class by_hundred[] = {HTTP_DOWN, HTTP_DOWN,   HTTP_DELIVER,
                                                 HTTP_DOWN, HTTP_REJECT, HTTP_RETRY};
    return by_hundred[status / 100];
}

/* OTLP names those to be sent again; all others must not be (opentelemetry.io/docs/specs/otlp, "Retryable Response
 * Codes"). Those that need the operator are not sent again before he has seen to it. */
static enum http_class otlp_default_of(int status)
{
    enum http_class class = default_of(status);
    bool again = status < 400 || status == 429 || status == 502 || status == 503 || status == 504;
    return class == HTTP_RETRY || (class == HTTP_DOWN && !again) ? HTTP_REJECT : class;
}

enum http_class http_class_of(const struct http_classes *classes, long status)
{
    return status >= 100 && status < HTTP_STATUSES ? (enum http_class)classes->of[status] : HTTP_DOWN;
}

/* A status, 404, or a hundred of them, "5xx". *ret_first and *ret_n; false if it is neither. */
static bool parse_range(const json_t *item, int *ret_first, int *ret_n)
{
    const char *text = json_string_value(item);
    json_int_t status = json_is_integer(item) ? json_integer_value(item) : 0;
    if (text && strlen(text) == 3 && *text >= '2' && *text <= '5' && strcmp(text + 1, "xx") == 0) {
        *ret_first = (*text - '0') * 100;
        *ret_n = 100;
        return true;
    }
    *ret_first = (int)status;
    *ret_n = 1;
    return status >= 200 && status < HTTP_STATUSES;
}

static bool set_class(const json_t *list, enum http_class class, struct http_classes *classes, int size)
{
    size_t i;
    json_t *item;
    int first, n;
    json_array_foreach(list, i, item)
    {
        if (!parse_range(item, &first, &n))
            return false;
        if (n == size)
            memset(classes->of + first, class, (size_t)n);
    }
    return json_is_array(list);
}

static int wrong(const struct config *config)
{
    return spool_sink_error(
        SPOOL_ECONFIG,
        "configuration of the %s sink: \"status\" must give \"deliver\", \"down\", \"retry\", \"pause\" "
        "or \"reject\" an array of statuses, such as [404, \"5xx\"]",
        config->kind);
}

static bool is_class(const char *name)
{
    for (int i = 0; class_names[i]; i++)
        if (strcmp(name, class_names[i]) == 0)
            return true;
    return false;
}

int http_classes_read(struct config *config, enum http_rules rules, struct http_classes *ret)
{
    const char *name;
    json_t *value, *lists = json_object_get(config->object, "status");
    for (int status = 0; status < HTTP_STATUSES; status++)
        ret->of[status] = (uint8_t)(rules == HTTP_RULES_OTLP ? otlp_default_of(status) : default_of(status));
    if (!lists)
        return SPOOL_OK;
    if (!json_is_object(lists))
        return wrong(config);
    json_object_foreach(lists, name, value) if (!is_class(name)) return wrong(config);
    for (int size = 100; size > 0; size -= 99) /* hundreds first, so that a status that is named has the last word */
        for (int class = 0; class_names[class]; class ++)
            if ((value = json_object_get(lists, class_names[class])) != NULL &&
                !set_class(value, (enum http_class) class, ret, size))
                return wrong(config);
    json_object_del(config->object, "status");
    return SPOOL_OK;
}
