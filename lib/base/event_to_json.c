/* event_to_json.c - spool_event_to_json(). Apart from event_json.c, which plugins have a copy of. */
#include "error.h"
#include "event.h"
#include "id.h"
#include "json.h"

static int check_id(const struct spool_id *id)
{
    if (!id)
        return err_set(SPOOL_EINVAL, "spool_event_to_json: the event has no id, and none was given");
    if (!id_is_valid(id))
        return err_set(SPOOL_EID, "spool_event_to_json: the id is not a UUIDv7");
    return SPOOL_OK;
}

int spool_event_to_json(const struct spool_event *event, const struct spool_id *id, char **ret_json, size_t *ret_size)
{
    struct event_measure measure;
    struct buffer out = {0};
    if (!ret_json)
        return err_set(SPOOL_EINVAL, "spool_event_to_json: ret_json is NULL");
    int rc = event_measure(event, SIZE_MAX, &measure);
    if (!rc)
        rc = check_id(id ? id : event->id);
    if (!rc)
        rc = json_put_event(&out, event, id ? id : event->id);
    if (!rc)
        rc = buffer_put(&out, "", 1); /* the NUL */
    if (rc) {
        buffer_free(&out);
        return rc;
    }
    *ret_json = (char *)out.data;
    if (ret_size)
        *ret_size = out.size - 1;
    return SPOOL_OK;
}
