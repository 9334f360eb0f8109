/* torture_account.c - what was acknowledged against what arrived: nothing lost, twice, invented, or out of order.
 *
 * Knows nothing of the library but the text form of an id: it reads what the workers wrote down before the answers were
 * known to anybody else, and the lines that the file sink wrote. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "torture.h"

struct seen {
    struct spool_id id;
    unsigned producer;
    int priority;
    uint64_t n, line; /* where it stood in its file */
    bool sound;       /* its body is one that we made */
};
struct seen_list {
    struct seen *items;
    size_t count, room;
};

static void list_add(struct seen_list *list, const struct seen *seen)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 1024;
        struct seen *items = tool_alloc(room, sizeof *items);
        if (list->count)
            memcpy(items, list->items, list->count * sizeof *items);
        free(list->items);
        list->items = items;
        list->room = room;
    }
    list->items[list->count++] = *seen;
}

/* --------------------------------------------------------------------------------------------------- acknowledgements
 */

void account_write_ack(char line[ACK_LINE], const struct spool_id *id, unsigned producer, uint64_t n)
{
    char text[SPOOL_ID_TEXT_SIZE], all[ACK_LINE + 1];
    snprintf(all, sizeof all, "%s %7u %17" PRIu64 "\n", spool_id_format(id, text), producer, n);
    memcpy(line, all, ACK_LINE);
}

static bool read_ack(const char *line, struct seen *ret)
{
    char id[SPOOL_ID_TEXT_SIZE];
    memcpy(id, line, sizeof id - 1);
    id[sizeof id - 1] = 0;
    return spool_id_parse(id, &ret->id) == SPOOL_OK &&
           sscanf(line + sizeof id, "%u %" SCNu64, &ret->producer, &ret->n) == 2;
}

/* A last line that is not whole was never followed by an answer that anybody counts. */
static bool read_acks(FILE *file, struct seen_list *list)
{
    char line[ACK_LINE + 1] = {0};
    while (fread(line, ACK_LINE, 1, file) == 1) {
        struct seen seen = {.line = list->count};
        if (!read_ack(line, &seen)) {
            errno = EBADMSG;
            return false;
        }
        list_add(list, &seen);
    }
    return !ferror(file);
}

/* -------------------------------------------------------------------------------------------------------------- events
 */

/* FNV-1a, 64 bits. */
static uint64_t checksum(unsigned producer, uint64_t n, const char *pad, size_t pad_size)
{
    char head[48];
    uint64_t sum = 0xcbf29ce484222325u;
    size_t size = (size_t)snprintf(head, sizeof head, "%u/%" PRIu64 "/", producer, n);
    for (size_t i = 0; i < size + pad_size; i++)
        sum = (sum ^ (unsigned char)(i < size ? head[i] : pad[i - size])) * 0x100000001b3u;
    return sum;
}

size_t account_write_body(char body[BODY_ROOM], unsigned producer, uint64_t n, size_t pad)
{
    char text[BODY_PAD_MAX + 1];
    pad = pad < BODY_PAD_MAX ? pad : BODY_PAD_MAX;
    for (size_t i = 0; i < pad; i++)
        text[i] = (char)('a' + (n * 7 + i * 31 + producer) % 26);
    text[pad] = 0;
    return (size_t)snprintf(body, BODY_ROOM,
                            "{\"producer\":%u,\"n\":%" PRIu64 ",\"sum\":\"%016" PRIx64 "\",\"pad\":\"%s\"}", producer,
                            n, checksum(producer, n, text, pad), text);
}

static bool is_sound(json_t *data, struct seen *seen)
{
    json_int_t producer, n;
    const char *sum, *pad;
    char want[20];
    if (json_unpack(data, "{s:I, s:I, s:s, s:s}", "producer", &producer, "n", &n, "sum", &sum, "pad", &pad))
        return false;
    seen->producer = (unsigned)producer;
    seen->n = (uint64_t)n;
    snprintf(want, sizeof want, "%016" PRIx64, checksum(seen->producer, seen->n, pad, strlen(pad)));
    return !strcmp(sum, want);
}

static void read_event(const char *line, size_t size, struct seen_list *list)
{
    struct seen seen = {.line = list->count};
    const char *id = "", *priority = "";
    enum spool_priority parsed = SPOOL_MEDIUM;
    json_t *event = json_loadb(line, size, 0, NULL), *data = NULL;
    bool good = event && !json_unpack(event, "{s:s, s:s, s:o}", "id", &id, "priority", &priority, "data", &data) &&
                spool_id_parse(id, &seen.id) == SPOOL_OK && spool_priority_parse(priority, &parsed) == SPOOL_OK;
    seen.priority = (int)parsed;
    seen.sound = good && is_sound(data, &seen);
    json_decref(event);
    list_add(list, &seen);
}

static bool read_events(FILE *file, struct seen_list *list)
{
    char *line = NULL;
    size_t room = 0;
    for (ssize_t size; (size = getline(&line, &room, file)) > 0;)
        read_event(line, (size_t)size, list);
    free(line);
    return !ferror(file);
}

static bool read_file(const char *path, bool (*read)(FILE *file, struct seen_list *list), struct seen_list *list)
{
    FILE *file = fopen(path, "re");
    if (!file)
        return errno == ENOENT;
    bool good = read(file, list);
    int error = errno;
    fclose(file);
    errno = error;
    return good;
}

/* ----------------------------------------------------------------------------------------------------------- comparing
 */

static int by_id(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    int order = spool_id_compare(&x->id, &y->id);
    return order ? order : (x->line > y->line) - (x->line < y->line);
}

static int by_key(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;
    if (x->producer != y->producer)
        return x->producer < y->producer ? -1 : 1;
    if (x->priority != y->priority)
        return x->priority - y->priority;
    return (x->line > y->line) - (x->line < y->line);
}

static void sort(struct seen_list *list, int (*order)(const void *, const void *))
{
    if (list->count)
        qsort(list->items, list->count, sizeof *list->items, order);
}

/* Leaves of each event the first arrival; those that nobody made are counted and left out. */
static void leave_first(struct seen_list *events, struct account *account)
{
    size_t kept = 0;
    sort(events, by_id);
    for (size_t i = 0; i < events->count; i++) {
        const struct seen *seen = &events->items[i];
        if (!seen->sound)
            account->invented++;
        else if (kept && !spool_id_compare(&events->items[kept - 1].id, &seen->id))
            account->duplicated++;
        else
            events->items[kept++] = *seen;
    }
    events->count = kept;
    account->found = kept;
}

/* Both by id, each id once. */
static void compare(const struct seen_list *acks, const struct seen_list *events, struct account *account)
{
    size_t at = 0;
    for (size_t i = 0; i < acks->count; i++) {
        const struct seen *ack = &acks->items[i];
        for (; at < events->count && spool_id_compare(&events->items[at].id, &ack->id) < 0; at++)
            account->unanswered++;
        if (at == events->count || spool_id_compare(&events->items[at].id, &ack->id)) {
            account->lost++;
            continue;
        }
        const struct seen *event = &events->items[at++];
        account->invented += event->producer != ack->producer || event->n != ack->n;
    }
    account->unanswered += events->count - at;
}

/* Of an agent and a priority they arrive as they were enqueued. */
static void check_order(struct seen_list *events, struct account *account)
{
    sort(events, by_key);
    for (size_t i = 1; i < events->count; i++) {
        const struct seen *before = &events->items[i - 1], *seen = &events->items[i];
        account->disordered +=
            before->producer == seen->producer && before->priority == seen->priority && before->n > seen->n;
    }
}

bool account_take(const char *acks_path, const char *events_path, struct account *ret)
{
    struct seen_list acks = {0}, events = {0};
    struct account account = {0};
    bool good = read_file(acks_path, read_acks, &acks) && read_file(events_path, read_events, &events);
    int error = errno;
    if (good) {
        account.acknowledged = acks.count;
        sort(&acks, by_id);
        leave_first(&events, &account);
        compare(&acks, &events, &account);
        check_order(&events, &account);
        *ret = account;
    }
    free(acks.items);
    free(events.items);
    errno = error;
    return good;
}

void account_add(struct account *sum, const struct account *more)
{
    sum->acknowledged += more->acknowledged;
    sum->found += more->found;
    sum->lost += more->lost;
    sum->duplicated += more->duplicated;
    sum->invented += more->invented;
    sum->disordered += more->disordered;
    sum->unanswered += more->unanswered;
}
