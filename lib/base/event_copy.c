/* event_copy.c - events that own their memory, and the names of priorities.
 *
 * A copy is one allocation: an event_view followed by the packed event that it points into. The public event is the
 * first member of the view, so that freeing it frees all. */
#include "event.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "id.h"

struct owned_event {
    struct event_view view; /* first: spool_event_free() gets a pointer to its first member */
    _Alignas(8) uint8_t packed[];
};

static int unpack_owned(struct owned_event *owned, size_t packed_size, bool has_id, struct spool_event **ret)
{
    int rc = event_unpack(owned->packed, packed_size, &owned->view);
    if (rc)
        return err_set(SPOOL_EINTERNAL, "a copy of an event could not be read back: was it changed meanwhile?");
    if (!has_id)
        owned->view.event.id = NULL;
    *ret = &owned->view.event;
    return SPOOL_OK;
}

int event_copy(const struct spool_event *event, const struct spool_id *id, struct spool_event **ret)
{
    struct event_measure measure;
    int rc = event_measure(event, SIZE_MAX, &measure);
    if (rc)
        return rc;
    struct owned_event *owned = malloc(sizeof *owned + measure.packed_size);
    if (!owned)
        return err_set(ENOMEM, "out of memory: cannot copy an event of %zu bytes", measure.packed_size);
    struct spool_id none;
    id_min_at_ns(0, &none); /* the packed form has an id always */
    if (!id)
        id = event->id;
    event_pack(event, &measure, id ? id : &none, owned->packed);
    rc = unpack_owned(owned, measure.packed_size, id != NULL, ret);
    if (rc)
        free(owned);
    return rc;
}

int event_repack(const struct event_view *view, uint8_t **ret)
{
    struct event_measure measure;
    int rc = event_measure(&view->event, SIZE_MAX, &measure);
    if (rc || measure.packed_size != view->packed_size)
        return err_set(SPOOL_EINTERNAL, "an event could not be packed again: was it changed meanwhile?");
    uint8_t *packed = malloc(measure.packed_size);
    if (!packed)
        return err_set(ENOMEM, "out of memory: cannot copy an event of %zu bytes", measure.packed_size);
    event_pack(&view->event, &measure, &view->id, packed);
    *ret = packed;
    return SPOOL_OK;
}

void spool_event_free(struct spool_event *event)
{
    free(event);
}

void spool_free(void *memory)
{
    free(memory);
}

/* ---------------------------------------------------------------------------------------------------- priorities */

static const char *const priority_names[SPOOL_PRIORITIES] = {
    [SPOOL_MEDIUM] = "medium", [SPOOL_CRITICAL] = "critical", [SPOOL_HIGH] = "high", [SPOOL_LOW] = "low"};

const char *spool_priority_name(enum spool_priority priority)
{
    return (unsigned)priority < SPOOL_PRIORITIES ? priority_names[priority] : NULL;
}

int spool_priority_parse(const char *name, enum spool_priority *ret_priority)
{
    if (!name || !ret_priority)
        return err_set(SPOOL_EINVAL, "spool_priority_parse: the %s is NULL", name ? "result" : "name");
    for (unsigned i = 0; i < SPOOL_PRIORITIES; i++) {
        if (strcmp(name, priority_names[i]) == 0) {
            *ret_priority = (enum spool_priority)i;
            return SPOOL_OK;
        }
    }
    return err_set(SPOOL_EINVAL, "\"%.64s\" is not a priority: it is critical, high, medium or low", name);
}
