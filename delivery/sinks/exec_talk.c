/* exec_talk.c - see exec_talk.h.
 *
 * A line to the child is an event in the native JSON form. A line of the child is
 *
 *     <id>                      the event is done with: delivered
 *     <id> ok
 *     <id> retry [<ms>] [why]   not now; <ms>: not before that
 *     <id> reject [why]         never
 *
 * in any order, once for each event. Anything else is nonsense: the child is not what it should be, and is ended. Both
 * pipes are served at once, so that neither side can wait for the other for ever; lines are rendered only as the pipe
 * takes them.
 *
 * A child that flushes each answer would wake us for each one, and for each page that it has read. So when it has all
 * that it may have, or its pipe is full, it is left alone for most of the time that it will need, by its pace so far:
 * it goes on meanwhile, and the answers are read many at once. It must neither run out of lines, nor wait for us with
 * the last answer of a batch. */
#include "exec_talk.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "../../lib/base/error.h"
#include "../../lib/base/json.h"

enum {
    OUT_TARGET = 64 << 10, /* bytes rendered ahead */
    FEW = 16,              /* events that are worth a pause */
    PAUSE_MIN_NS = 10000,
    PAUSE_MAX_NS = 200000, /* half of what a fast child needs for a full pipe */
};

static struct spool_delivery *delivery_at(const struct talk *talk, size_t i)
{
    return SPOOL_DELIVERY_AT(talk->batch, i);
}

/* ----------------------------------------------------------------------------------------------------- ids to indices
 */

static const struct spool_id *id_at(const struct talk *talk, size_t i)
{
    return &delivery_at(talk, i)->id;
}

static int compare_by_id(const void *a, const void *b, void *user)
{
    const struct talk *talk = user;
    return spool_id_compare(id_at(talk, *(const uint32_t *)a), id_at(talk, *(const uint32_t *)b));
}

static int prepare(struct talk *talk)
{
    talk->by_id = malloc(talk->n * sizeof *talk->by_id);
    talk->is_answered = calloc(talk->n, sizeof *talk->is_answered);
    if (!talk->by_id || !talk->is_answered)
        return ENOMEM;
    bool is_sorted = true; /* as it is but for what is tried again */
    for (size_t i = 0; i < talk->n; i++) {
        talk->by_id[i] = (uint32_t)i;
        is_sorted = is_sorted && (i == 0 || spool_id_compare(id_at(talk, i - 1), id_at(talk, i)) < 0);
    }
    if (!is_sorted)
        qsort_r(talk->by_id, talk->n, sizeof *talk->by_id, compare_by_id, talk);
    return 0;
}

/* Where in by_id the first one stands that is not below `id`. */
static size_t lower_bound(const struct talk *talk, const struct spool_id *id)
{
    size_t low = 0, high = talk->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (spool_id_compare(id_at(talk, talk->by_id[middle]), id) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static bool is_at(const struct talk *talk, size_t place, const struct spool_id *id)
{
    return place < talk->n && spool_id_compare(id_at(talk, talk->by_id[place]), id) == 0;
}

/* The index of the event; n if it has none of that id. Most children answer in order. */
static size_t find(struct talk *talk, const struct spool_id *id)
{
    size_t place = talk->expected;
    if (!is_at(talk, place, id))
        place = lower_bound(talk, id);
    if (!is_at(talk, place, id))
        return talk->n;
    talk->expected = place + 1;
    return talk->by_id[place];
}

/* ------------------------------------------------------------------------------------------------------------ sending
 */

/* One event more behind what is to be written. errno. */
static int render(struct talk *talk)
{
    struct spool_delivery *delivery = delivery_at(talk, talk->sent);
    size_t before = talk->out.size;
    int code = json_put_event(&talk->out, delivery->event, &delivery->id);
    if (code == SPOOL_OK)
        code = buffer_put(&talk->out, "\n", 1);
    if (code == ENOMEM) {
        talk->out.size = before;
        return ENOMEM;
    }
    if (code != SPOOL_OK) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "cannot be written as JSON: %s", err_last());
        talk->is_answered[talk->sent++] = true;
        talk->answered++;
        return 0;
    }
    talk->alone = talk->sent++;
    talk->open++;
    return 0;
}

/* As many more as it has, so that it need not wait for the first lines of many. */
static int render_ahead(struct talk *talk)
{
    if (talk->written == talk->out.size)
        talk->out.size = talk->written = 0;
    size_t more = talk->open < FEW ? FEW : talk->open, end = talk->sent + more < talk->n ? talk->sent + more : talk->n;
    int err = 0;
    while (err == 0 && talk->sent < end && talk->open < talk->window && talk->out.size < OUT_TARGET)
        err = render(talk);
    return err;
}

static bool has_output(const struct talk *talk)
{
    return talk->written < talk->out.size;
}

/* ------------------------------------------------------------------------------------------------------------ answers
 */

/* "retry 500 why", "reject why", "ok", "". False: none of them. */
static bool take_outcome(struct spool_delivery *delivery, char *text)
{
    char *rest = text + strcspn(text, " ");
    rest += *rest ? 1 : 0;
    size_t word = (size_t)(rest - text) - (rest > text && rest[-1] == ' ');
    if (word == 0 || (word == 2 && memcmp(text, "ok", 2) == 0)) {
        delivery->outcome = SPOOL_DELIVERED;
        return true;
    }
    if (word == 6 && memcmp(text, "reject", 6) == 0) {
        spool_delivery_fail(delivery, SPOOL_REJECTED, "%s", *rest ? rest : "the child rejects it");
        return true;
    }
    if (word != 5 || memcmp(text, "retry", 5) != 0)
        return false;
    char *end = rest;
    if (*rest >= '0' && *rest <= '9')
        delivery->retry_after_ms = strtoull(rest, &end, 10);
    end += *end == ' ';
    spool_delivery_fail(delivery, SPOOL_RETRY, "%s", *end ? end : "the child asks for another try");
    return true;
}

/* What a terminal could take for a command must not get into a message. */
static enum talk_end nonsense(struct talk *talk, const char *line)
{
    size_t i = 0;
    for (; line[i] && i < sizeof talk->nonsense - 1; i++)
        talk->nonsense[i] = line[i] >= ' ' && line[i] <= '~' ? line[i] : '?';
    talk->nonsense[i] = '\0';
    return TALK_NONSENSE;
}

/* Reasons are shown on terminals. */
static void clean(char *line)
{
    for (; *line; line++)
        if ((unsigned char)*line < ' ' || *line == 0x7f)
            *line = '?';
}

static enum talk_end take_line(struct talk *talk, char *line)
{
    char text[SPOOL_ID_TEXT_SIZE];
    struct spool_id id;
    size_t size = strlen(line), id_size = SPOOL_ID_TEXT_SIZE - 1;
    if (size > 0 && line[size - 1] == '\r')
        line[--size] = '\0';
    clean(line);
    if (size < id_size || (line[id_size] != ' ' && line[id_size] != '\0'))
        return nonsense(talk, line);
    memcpy(text, line, id_size);
    text[id_size] = '\0';
    size_t i = spool_id_parse(text, &id) == SPOOL_OK ? find(talk, &id) : talk->n;
    if (i >= talk->sent || talk->is_answered[i])
        return nonsense(talk, line);
    if (!take_outcome(delivery_at(talk, i), line + id_size + (line[id_size] == ' ')))
        return nonsense(talk, line);
    talk->is_answered[i] = true;
    talk->answered++;
    talk->open--;
    return TALK_DONE;
}

/* All whole lines; what is left of one moves to the front. */
static enum talk_end take_lines(struct talk *talk)
{
    char *at = talk->in, *end = talk->in + talk->in_size, *feed;
    enum talk_end result = TALK_DONE;
    while (result == TALK_DONE && (feed = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        *feed = '\0';
        result = strlen(at) == (size_t)(feed - at) ? take_line(talk, at) : nonsense(talk, at);
        at = feed + 1;
    }
    talk->in_size = (size_t)(end - at);
    memmove(talk->in, at, talk->in_size);
    if (result == TALK_DONE && talk->in_size >= ANSWER_MAX) {
        talk->in[ANSWER_MAX - 1] = '\0';
        return nonsense(talk, talk->in);
    }
    return result;
}

static enum talk_end read_some(struct talk *talk)
{
    ssize_t n = read(talk->child->out, talk->in + talk->in_size, sizeof talk->in - talk->in_size);
    if (n > 0) {
        talk->is_more = talk->in_size + (size_t)n == sizeof talk->in;
        talk->in_size += (size_t)n;
        return take_lines(talk);
    }
    if (n == 0)
        return TALK_ENDED;
    if (errno == EAGAIN || errno == EINTR)
        return TALK_DONE;
    talk->err = errno;
    return TALK_FAILED;
}

/* ------------------------------------------------------------------------------------------------------- conversation
 */

static int left_ms(uint64_t deadline_ns)
{
    uint64_t now = mono_ns();
    uint64_t ms = deadline_ns <= now ? 0 : (deadline_ns - now) / NS_PER_MS + 1;
    return ms < 60000 ? (int)ms : 60000;
}

/* What it said before it ended counts. */
static enum talk_end read_last(struct talk *talk)
{
    size_t before;
    enum talk_end end;
    do {
        before = talk->answered;
        end = read_some(talk);
    } while (end == TALK_DONE && talk->answered > before);
    return end == TALK_DONE ? TALK_ENDED : end;
}

/* How long the child takes for an event: by what it answered since the last look, if it had enough to do. */
static void learn_pace(struct talk *talk)
{
    size_t answers = talk->answered - talk->looked_at;
    if (answers < FEW && talk->open > 0)
        return;
    uint64_t now_ns = mono_ns(), before_ns = talk->child->each_ns;
    if (talk->looked_ns > 0 && talk->open > 0) {
        uint64_t each_ns = (now_ns - talk->looked_ns) / answers;
        talk->child->each_ns = before_ns ? (3 * before_ns + each_ns) / 4 : each_ns;
    }
    talk->looked_ns = now_ns;
    talk->looked_at = talk->answered;
}

static enum talk_end read_all(struct talk *talk)
{
    enum talk_end end;
    do {
        talk->is_more = false;
        end = read_some(talk);
    } while (end == TALK_DONE && talk->is_more);
    learn_pace(talk);
    return end;
}

/* As much as the pipe takes. */
static enum talk_end write_some(struct talk *talk)
{
    size_t left = talk->out.size - talk->written;
    ssize_t n = write(talk->child->in, talk->out.data + talk->written, left);
    talk->is_full = n < (ssize_t)left;
    if (n >= 0)
        talk->written += (size_t)n;
    else if (errno == EPIPE)
        return read_last(talk);
    else if (errno != EAGAIN && errno != EINTR) {
        talk->err = errno;
        return TALK_FAILED;
    }
    return TALK_DONE;
}

/* How long to let a child go on that is at work on several: less than it needs for them. 0: not at all. */
static uint64_t pause_ns(const struct talk *talk)
{
    uint64_t each_ns = talk->child->each_ns, ns = each_ns * talk->open * 3 / 4;
    ns = ns < PAUSE_MAX_NS ? ns : PAUSE_MAX_NS;
    bool can_send = has_output(talk) && !talk->is_full;
    return can_send || ns < PAUSE_MIN_NS || ns < FEW * each_ns ? 0 : ns;
}

/* True: cancelled. */
static bool pause_while_busy(const struct talk *talk)
{
    struct pollfd cancel = {.fd = talk->cancel->fd, .events = POLLIN};
    const struct timespec time = {.tv_nsec = (long)pause_ns(talk)};
    return time.tv_nsec > 0 && ppoll(&cancel, 1, &time, NULL) > 0;
}

/* One wait, and what it brought. */
static enum talk_end step(struct talk *talk, uint64_t deadline_ns)
{
    struct pollfd fds[] = {
        {.fd = talk->cancel->fd, .events = POLLIN},
        {.fd = talk->child->out, .events = POLLIN},
        {.fd = has_output(talk) ? talk->child->in : -1, .events = POLLOUT},
    };
    if (pause_while_busy(talk))
        return TALK_CANCELLED;
    int timeout_ms = left_ms(deadline_ns);
    int n = poll(fds, 3, timeout_ms);
    if (n < 0 && errno != EINTR) {
        talk->err = errno;
        return TALK_FAILED;
    }
    if (n <= 0)
        return timeout_ms == 0 ? TALK_SILENT : TALK_DONE;
    if (fds[0].revents)
        return TALK_CANCELLED;
    enum talk_end end = fds[1].revents ? read_all(talk) : TALK_DONE; /* first: what it said before it ended counts */
    return end == TALK_DONE && fds[2].revents ? write_some(talk) : end;
}

static enum talk_end converse(struct talk *talk)
{
    enum talk_end end = TALK_DONE;
    talk->err = prepare(talk);
    uint64_t deadline_ns = deadline_in_ms(talk->answer_timeout_ms);
    while (end == TALK_DONE && talk->err == 0 && talk->answered < talk->n) {
        size_t before = talk->answered;
        talk->err = render_ahead(talk);
        if (talk->err == 0 && talk->answered < talk->n)
            end = step(talk, deadline_ns);
        if (talk->answered > before)
            deadline_ns = deadline_in_ms(talk->answer_timeout_ms);
    }
    return talk->err ? TALK_FAILED : end;
}

/* A pause is to end when it should; by default the kernel takes 50 us more. */
enum talk_end talk_run(struct talk *talk)
{
    prctl(PR_SET_TIMERSLACK, 1000ul);
    enum talk_end end = converse(talk);
    prctl(PR_SET_TIMERSLACK, 0ul); /* as it was */
    return end;
}

void talk_free(struct talk *talk)
{
    free(talk->by_id);
    free(talk->is_answered);
    buffer_free(&talk->out);
}
