/* json_media.c - whether a content type is JSON. In a file of its own: plugins use it, which have no other part of the
 * rendering of events. */
#include <string.h>
#include <strings.h>

#include "json.h"

bool json_is_media_type(const char *content_type)
{
    size_t size = strcspn(content_type, ";");
    while (size > 0 && content_type[size - 1] == ' ')
        size--;
    if (size > 5 && strncasecmp(content_type + size - 5, "+json", 5) == 0)
        return true;
    return size == 16 && strncasecmp(content_type, "application/json", size) == 0;
}
