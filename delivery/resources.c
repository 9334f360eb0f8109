/* resources.c - see resources.h. */
#include "resources.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "../lib/base/error.h"
#include "../lib/base/utf8.h"

static const char blanks[] = " \t\n";

/* Takes "*2" off the end of [text, text + *size); *ret_amount is 0 if there is none. */
static int take_amount(const char *text, size_t *size, uint32_t *ret_amount)
{
    size_t digits = *size;
    while (digits > 0 && text[digits - 1] >= '0' && text[digits - 1] <= '9')
        digits--;
    *ret_amount = 0;
    if (digits == 0 || text[digits - 1] != '*')
        return SPOOL_OK;
    errno = 0;
    unsigned long amount = digits < *size ? strtoul(text + digits, NULL, 10) : 0;
    if (amount == 0 || amount >= UINT32_MAX || errno != 0)
        return err_set(SPOOL_EINVAL, "resource \"%.*s\": a number of at least 1 is expected behind *", (int)*size,
                       text);
    *ret_amount = (uint32_t)amount;
    *size = digits - 1;
    while (*size > 0 && strchr(blanks, text[*size - 1]))
        (*size)--;
    return SPOOL_OK;
}

static int read_need(const char *text, size_t size, struct resource_need *ret)
{
    int code = take_amount(text, &size, &ret->amount);
    if (code != SPOOL_OK)
        return code;
    if (size == 0 || size > SPOOL_OP_RESOURCE_MAX)
        return err_set(SPOOL_EINVAL,
                       "resources: a name has 1 to %d bytes; names stand between commas, such as \"gpu, api*2\"",
                       SPOOL_OP_RESOURCE_MAX);
    if (!utf8_is_plain_text(text, size))
        return err_set(SPOOL_EUTF8, "resources: a name is not valid UTF-8, or holds a control character");
    memcpy(ret->name, text, size);
    ret->name[size] = '\0';
    return SPOOL_OK;
}

int resources_each(const char *text, int (*each)(void *user, const struct resource_need *need), void *user)
{
    int code = SPOOL_OK;
    bool more = text && text[strspn(text, blanks)];
    while (more && code == SPOOL_OK) {
        struct resource_need need;
        text += strspn(text, blanks);
        size_t size = strcspn(text, ","), end = size;
        more = text[size] == ',';
        while (end > 0 && strchr(blanks, text[end - 1]))
            end--;
        code = read_need(text, end, &need);
        text += size + more;
        if (code == SPOOL_OK)
            code = each(user, &need);
    }
    return code;
}

/* Those seen so far. */
struct known {
    struct resource_need needs[SPOOL_SINK_RESOURCES_MAX];
    size_t count;
};

static int check_one(void *user, const struct resource_need *need)
{
    struct known *known = user;
    for (size_t i = 0; i < known->count; i++)
        if (strcmp(known->needs[i].name, need->name) == 0)
            return err_set(SPOOL_EINVAL, "resource %s is named twice: name it once, with all that is needed",
                           need->name);
    if (known->count == SPOOL_SINK_RESOURCES_MAX)
        return err_set(SPOOL_EINVAL, "more than %d resources are named", SPOOL_SINK_RESOURCES_MAX);
    known->needs[known->count++] = *need;
    return SPOOL_OK;
}

int resources_check(const char *text)
{
    struct known known = {.count = 0};
    return resources_each(text, check_one, &known);
}
