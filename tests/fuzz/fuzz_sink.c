/* fuzz_sink.c - a sink that answers anything: codes, outcomes, reasons, times, sizes of checkpoints; with structs of
 * any size and options of any value. What it did not accept for good reaches a better sink of that name afterwards.
 *
 * The answers come from the input, one after the other, whichever thread asks. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "../../lib/spool.h"
#include "fuzz.h"

enum { EVENTS = 12, STEPS_MAX = 400 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct input answers;
static unsigned asked;
static atomic_bool settled[EVENTS]; /* accepted, or refused, by the first sink; or seen by the second */
static char dir[96];

static uint8_t answer(void)
{
    pthread_mutex_lock(&mutex);
    asked++;
    uint8_t byte = take_u8(&answers);
    pthread_mutex_unlock(&mutex);
    return byte;
}

static int any_code(uint8_t byte)
{
    static const int codes[] = {SPOOL_OK,
                                SPOOL_OK,
                                SPOOL_OK,
                                SPOOL_EUNAVAILABLE,
                                SPOOL_EREJECTED,
                                SPOOL_ECONFIG,
                                SPOOL_EINVAL,
                                SPOOL_EFULL,
                                SPOOL_EINTERNAL,
                                5,
                                28,
                                -1000,
                                INT32_MAX,
                                INT32_MIN,
                                SPOOL_ETIMEOUT};
    return codes[byte % (sizeof codes / sizeof *codes)];
}

/* ------------------------------------------------------------------------------------------------------------- hooks
 */

static int bad_open(void **ret_state, void *user, const char *json_config, const void *checkpoint, size_t size)
{
    unsigned sum = 0;
    require(json_config != NULL && size <= SPOOL_CHECKPOINT_MAX);
    for (size_t i = 0; i < size; i++)
        sum += ((const uint8_t *)checkpoint)[i];
    (void)sum;
    *ret_state = user;
    uint8_t byte = answer();
    return byte < 200 ? SPOOL_OK : spool_sink_error(any_code(byte), "%s", byte & 1 ? "no" : "");
}

static unsigned number_of(const struct spool_delivery *delivery)
{
    require(delivery->event->body_size == 1);
    unsigned n = *(const uint8_t *)delivery->event->body;
    require(n < EVENTS);
    return n;
}

/* Only what the contract says counts as an answer for good. */
static void note(const struct spool_delivery *delivery)
{
    if (delivery->outcome == SPOOL_DELIVERED || delivery->outcome == SPOOL_REJECTED)
        atomic_store(&settled[number_of(delivery)], true);
}

static void answer_one(struct spool_delivery *delivery)
{
    static const enum spool_outcome outcomes[] = {SPOOL_RETRY, SPOOL_DELIVERED, SPOOL_REJECTED, SPOOL_DELIVERED};
    uint8_t byte = answer();
    delivery->outcome = byte < 220 ? outcomes[byte % 4] : (enum spool_outcome)(byte * 7 - 1700);
    if (byte % 5 == 0)
        delivery->retry_after_ms = byte % 2 ? byte % 4u : UINT64_MAX - byte;
    if (byte % 7 == 0)
        spool_delivery_fail(delivery, delivery->outcome, "%*s\xff\x01", byte * 3, "why");
    note(delivery);
}

static int bad_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    for (size_t i = 0; i < n; i++)
        answer_one(SPOOL_DELIVERY_AT(batch, i));
    uint8_t byte = answer();
    return byte < 128 ? SPOOL_OK : any_code(byte);
}

static int good_deliver(void *state, struct spool_delivery *batch, size_t n)
{
    (void)state;
    for (size_t i = 0; i < n; i++) {
        struct spool_delivery *delivery = SPOOL_DELIVERY_AT(batch, i);
        atomic_store(&settled[number_of(delivery)], true);
        delivery->outcome = SPOOL_DELIVERED;
    }
    return 0;
}

static size_t bad_checkpoint(void *state, void *buf, size_t cap)
{
    static const size_t sizes[] = {
        0, 1, 100, SPOOL_CHECKPOINT_MAX, SPOOL_CHECKPOINT_MAX + 1, SIZE_MAX, SIZE_MAX - 1, 1 << 20};
    (void)state;
    memset(buf, 'c', cap);
    return sizes[answer() % 8];
}

/* ----------------------------------------------------------------------------------------------------- adding the sink
 */

/* Structs of sizes the input says, in an allocation of that size. Codes are not looked at: most are refusals. */
static void add_odd_sink(struct spool *spool, struct input *in)
{
    struct spool_sink sink = {
        .abi = take_u8(in) % 3u, .size = take_u8(in), .kind = take_u8(in) & 1 ? "odd" : NULL, .deliver = bad_deliver};
    struct spool_sink_options options = SPOOL_SINK_OPTIONS(.order = (enum spool_order)(take_u8(in) % 5));
    options.size = take_u8(in);
    options.workers = (uint32_t)take_odd_number(in);
    options.retry_rows_max = (uint32_t)take_odd_number(in);
    size_t sink_room = sink.size > 16 ? sink.size : 16, options_room = options.size > 8 ? options.size : 8;
    void *sink_bytes = calloc(1, sink_room), *options_bytes = calloc(1, options_room);
    require(sink_bytes && options_bytes);
    memcpy(sink_bytes, &sink, sink_room < sizeof sink ? sink_room : sizeof sink);
    memcpy(options_bytes, &options, options_room < sizeof options ? options_room : sizeof options);
    if (spool_sink_add(spool, "odd", sink_bytes, NULL, options_bytes) == SPOOL_OK)
        spool_sink_remove(spool, "odd");
    free(sink_bytes);
    free(options_bytes);
}

static int add_bad_sink(struct spool *spool, struct input *in)
{
    uint8_t flags = take_u8(in);
    const struct spool_sink sink = {.abi = SPOOL_SINK_ABI,
                                    .size = sizeof sink,
                                    .kind = "bad",
                                    .open = flags & 1 ? bad_open : NULL,
                                    .deliver = bad_deliver,
                                    .checkpoint = flags & 2 ? bad_checkpoint : NULL};
    struct spool_sink_options options =
        SPOOL_SINK_OPTIONS(.order = flags >> 2 & 3 ? (flags >> 2 & 3) - 1 : 0, .workers = flags >> 4 & 3,
                           .retry_base_ms = 1, .retry_cap_ms = 2);
    options.batch_events_max = take_u8(in) % 8u;
    options.max_attempts = flags & 64 ? take_u8(in) % 4u : 0;
    options.retry_rows_max = take_u8(in) % 6u;
    return spool_sink_add(spool, "sink", &sink, NULL, &options);
}

/* ----------------------------------------------------------------------------------------------------------- the run
 */

static void enqueue_all(struct spool *spool)
{
    static const char *const agents[] = {"a", "b", NULL};
    for (uint8_t i = 0; i < EVENTS; i++) {
        struct spool_event event =
            SPOOL_EVENT(.type = "t", .agent = agents[i % 3], .priority = i / 3 % SPOOL_PRIORITIES,
                        .durability = SPOOL_DURABLE_PROCESS, .body = &i, .body_size = 1);
        require(spool_enqueue(spool, &event, NULL) == SPOOL_OK);
    }
}

static struct spool *open_it(void)
{
    const struct spool_options options =
        SPOOL_OPTIONS(.max_bytes = 16 << 20, .journal_bytes = 64 << 10, .segment_bytes = 1 << 20, .workers = 3);
    struct spool *spool;
    require(spool_open(dir, &options, &spool) == SPOOL_OK);
    return spool;
}

static int count_dead(void *user, const struct spool_dead_letter *letter)
{
    atomic_store(&settled[*(const uint8_t *)letter->event->body], true);
    ++*(unsigned *)user;
    return 0;
}

/* Until all is done or the input is used up: then answers are zero, which is SPOOL_RETRY, for ever. */
static void serve_badly(struct spool *spool)
{
    require(spool_start(spool) == SPOOL_OK);
    for (int i = 0; i < 20 && spool_drain(spool, 2) == SPOOL_ETIMEOUT; i++) {
        pthread_mutex_lock(&mutex);
        bool over = !input_left(&answers) || asked > STEPS_MAX;
        pthread_mutex_unlock(&mutex);
        if (over)
            break;
    }
    int code = spool_stop(spool, 20000);
    require(code == SPOOL_OK);
}

/* What waits for a retry far in the future is found in the account instead: pending events are not lost. */
static int add_pending(void *user, const struct spool_sink_info *info)
{
    *(uint64_t *)user += info->pending_events;
    return 0;
}

static void serve_well(struct spool *spool)
{
    const struct spool_sink good = {.abi = SPOOL_SINK_ABI, .size = sizeof good, .kind = "bad", .deliver = good_deliver};
    unsigned dead = 0, missing = 0;
    uint64_t pending = 0;
    require(spool_sink_add(spool, "sink", &good, NULL, NULL) == SPOOL_OK);
    require(spool_start(spool) == SPOOL_OK);
    spool_drain(spool, 50);
    require(spool_stop(spool, 20000) == SPOOL_OK);
    require(spool_sink_each(spool, add_pending, &pending) == 0);
    require(spool_dead_each(spool, NULL, count_dead, &dead) == 0);
    for (unsigned i = 0; i < EVENTS; i++)
        missing += !atomic_load(&settled[i]);
    if (missing > pending)
        fprintf(stderr, "%u events are missing, %llu wait, %u are dead\n", missing, (unsigned long long)pending, dead);
    require(missing <= pending);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, data + size};
    snprintf(dir, sizeof dir, "%s/spool", scratch_dir());
    scratch_remove(dir);
    for (unsigned i = 0; i < EVENTS; i++)
        atomic_store(&settled[i], false);
    asked = 0;
    struct spool *spool = open_it();
    if (take_u8(&in) % 4 == 0)
        add_odd_sink(spool, &in);
    int code = add_bad_sink(spool, &in);
    require(code == SPOOL_OK);
    answers = in;
    enqueue_all(spool);
    serve_badly(spool);
    require(spool_close(spool) == SPOOL_OK);
    spool = open_it();
    serve_well(spool);
    require(spool_close(spool) == SPOOL_OK);
    return 0;
}
