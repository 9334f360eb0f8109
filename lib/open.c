/* open.c - opening and closing, and the registry of what this process has open.
 *
 * POSIX record locks belong to the process and are dropped when any descriptor of the file is closed, and LMDB forbids to
 * open a file twice: so a directory opened twice is one handle, counted. A spool that was closed while a sink hung stays in
 * the registry with a count of 0, since its lock and memory are still in use; the next open of that directory goes on with it.
 *
 * For the same reason a forked child that has opened the directory itself keeps the descriptors of an inherited handle until
 * its own is closed: closing them would give up its own locks, and a peer would take its journal for a dead one's.
 *
 * Opening and closing may take seconds, beside a stopped peer or a sink that hangs: then other spools must still close,
 * and open. So the registry's mutex is held only to look and to change. One thread opens at a time (open_mutex, taken
 * first); whoever opens what is just being closed waits for that. */
#include <sys/stat.h>

#include "clock_config.h"
#include "handle.h"

static pthread_mutex_t open_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t registry_cond = PTHREAD_COND_INITIALIZER; /* a spool was closed */
static struct spool *registry;                                  /* registry_mutex */
static struct spool *inherited; /* registry_mutex: handles of the parent that were closed, and are not freed yet */

/* In a forked child nothing is open, and the mutex may be held by a thread that is not there. */
static void forget_parent(void)
{
    pthread_mutex_init(&open_mutex, NULL);
    pthread_mutex_init(&registry_mutex, NULL);
    pthread_cond_init(&registry_cond, NULL);
    registry = inherited = NULL;
}

static int watch_forks(void)
{
    static bool watching; /* open_mutex */
    int code = fork_watch();
    if (code || watching)
        return code;
    int err = pthread_atfork(NULL, NULL, forget_parent);
    if (err)
        return err_errno(err, "pthread_atfork");
    watching = true;
    return SPOOL_OK;
}

int handle_check(const struct spool *spool)
{
    if (!spool)
        return err_set(SPOOL_EINVAL, "the spool is NULL");
    if (spool->fork_generation != fork_generation())
        return err_set(SPOOL_EFORKED, "%s was opened by the parent process: open it again in the child", spool->dir);
    return SPOOL_OK;
}

/* registry_mutex held. */
static struct spool *find_inode(dev_t device, ino_t inode)
{
    struct spool *spool = registry;
    while (spool && (spool->device != device || spool->inode != inode))
        spool = spool->next;
    return spool;
}

/* registry_mutex held. *ret is NULL if it is not open; a directory that cannot be looked at might be. */
static int find_open(const char *dir, struct spool **ret)
{
    struct stat st;
    *ret = NULL;
    if (stat(dir, &st))
        return errno == ENOENT ? SPOOL_OK : err_errno(errno, "%s", dir);
    *ret = find_inode(st.st_dev, st.st_ino);
    return SPOOL_OK;
}

static void forget(struct spool *gone)
{
    for (struct spool **at = &registry; *at; at = &(*at)->next) {
        if (*at == gone) {
            *at = gone->next;
            return;
        }
    }
}

/* ------------------------------------------------------------------------------------------------------- opening */

static void on_change(void *user)
{
    struct spool *spool = user;
    struct delivery *delivery = atomic_load(&spool->delivery);
    if (delivery)
        delivery_wake(delivery);
}

static void on_clock_event(void *user, const struct hlc_event *event)
{
    static const enum spool_notice_kind kinds[] = {
        [HLC_JUMP] = SPOOL_NOTICE_CLOCK_JUMP,     [HLC_LEAP] = SPOOL_NOTICE_CLOCK_JUMP,
        [HLC_UNSET] = SPOOL_NOTICE_CLOCK_JUMP,    [HLC_SUSPEND] = SPOOL_NOTICE_CLOCK_SUSPEND,
        [HLC_STATUS] = SPOOL_NOTICE_CLOCK_STATUS, [HLC_REMOTE] = SPOOL_NOTICE_CLOCK_REMOTE,
    };
    struct spool *spool = user;
    struct store_options options;
    handle_store_options(&spool->options, &options);
    notify(&options.reporter, kinds[event->kind], NULL, event->remote, 0, "%s", event->text);
}

static int make_clock(struct spool *spool)
{
    const struct hlc_options options = {
        .physical = spool->options.clock_ns,
        .physical_user = spool->options.clock_user,
        .on_event = on_clock_event,
        .event_user = spool,
        .max_offset_ns = spool->options.clock_max_offset_ms * NS_PER_MS,
        .drift_ppm = spool->options.clock_drift_ppm,
        .no_thread = (spool->options.flags & SPOOL_READ_ONLY) != 0,
    };
    return hlc_new(&options, &spool->clock);
}

static int make_store(struct spool *spool)
{
    struct store_options options;
    handle_store_options(&spool->options, &options);
    options.on_change = on_change;
    options.change_user = spool;
    return store_open(spool->dir, &options, spool->clock, &spool->store);
}

static int make_delivery(struct spool *spool)
{
    struct store_options store_options;
    handle_store_options(&spool->options, &store_options);
    const struct delivery_options options = {
        .scheduler = spool->scheduler,
        .workers = spool->options.workers,
        .reporter = store_options.reporter,
        .clock = spool->clock,
        .on_delivery = spool->options.on_delivery,
        .delivery_user = spool->options.delivery_user,
    };
    struct delivery *delivery;
    int code = delivery_new(spool->store, &options, &delivery);
    if (!code)
        atomic_store(&spool->delivery, delivery);
    return code;
}

static int make_ops(struct spool *spool)
{
    struct store_options store_options;
    handle_store_options(&spool->options, &store_options);
    const struct ops_options options = {
        .scheduler = spool->scheduler,
        .workers = spool->options.op_workers,
        .bypasses_max = spool->options.op_bypasses_max,
        .reporter = store_options.reporter,
    };
    return ops_new(&options, &spool->ops);
}

static int know_directory(struct spool *spool)
{
    struct stat st;
    if (stat(spool->dir, &st))
        return err_errno(errno, "%s", spool->dir);
    spool->device = st.st_dev;
    spool->inode = st.st_ino;
    return SPOOL_OK;
}

static void free_handle(struct spool *spool)
{
    delivery_free(atomic_load(&spool->delivery));
    ops_free(spool->ops);
    scheduler_unref(spool->scheduler);
    hlc_free(spool->clock);
    clock_config_forget(spool);
    free(spool->dir);
    free(spool);
}

/* open_mutex held. */
static int open_new(const char *dir, const struct spool_options *options, struct spool **ret)
{
    struct spool *spool = calloc(1, sizeof *spool);
    if (!spool)
        return err_errno(ENOMEM, "opening %s", dir);
    spool->options = *options;
    spool->power = options->durability == SPOOL_DURABLE_POWER;
    spool->fork_generation = fork_generation();
    spool->dir = strdup(dir);
    int code = spool->dir ? make_clock(spool) : err_errno(ENOMEM, "opening %s", dir);
    if (!code)
        code = make_store(spool);
    if (!code)
        code = scheduler_new(&spool->scheduler);
    if (!code)
        code = make_delivery(spool);
    if (!code)
        code = make_ops(spool);
    if (!code)
        code = know_directory(spool);
    if (code) {
        store_close(spool->store, 0);
        free_handle(spool);
        return code;
    }
    spool->opened = 1;
    pthread_mutex_lock(&registry_mutex);
    spool->next = registry;
    registry = spool;
    pthread_mutex_unlock(&registry_mutex);
    *ret = spool;
    return SPOOL_OK;
}

/* registry_mutex held. */
static int open_again(struct spool *spool, const struct spool_options *options, struct spool **ret)
{
    if ((spool->options.flags ^ options->flags) & SPOOL_READ_ONLY)
        return err_set(SPOOL_EBUSY, "%s is open in this process %s: close that first, or open it the same way",
                       spool->dir, spool->options.flags & SPOOL_READ_ONLY ? "for reading only" : "for writing");
    spool->opened++;
    *ret = spool;
    return SPOOL_OK;
}

/* open_mutex held. *ret_known: it is open here already, and the answer stands. */
static int look_up(const char *dir, const struct spool_options *options, struct spool **ret_spool, bool *ret_known)
{
    struct spool *known;
    pthread_mutex_lock(&registry_mutex);
    int code = find_open(dir, &known);
    while (known && known->closing) {
        pthread_cond_wait(&registry_cond, &registry_mutex);
        code = find_open(dir, &known);
    }
    if (known)
        code = open_again(known, options, ret_spool);
    pthread_mutex_unlock(&registry_mutex);
    *ret_known = known != NULL;
    return code;
}

int spool_open(const char *dir, const struct spool_options *options, struct spool **ret_spool)
{
    struct spool_options taken;
    struct file_size_signal signal;
    if (!dir || !*dir || !ret_spool)
        return err_set(SPOOL_EINVAL, "spool_open: %s", ret_spool ? "no directory is given" : "ret_spool is NULL");
    int code = handle_options(options, &taken);
    if (code)
        return code;
    file_size_signal_hold(&signal);
    pthread_mutex_lock(&open_mutex);
    bool known = false;
    code = watch_forks();
    if (!code)
        code = look_up(dir, &taken, ret_spool, &known);
    if (!code && !known)
        code = open_new(dir, &taken, ret_spool);
    pthread_mutex_unlock(&open_mutex);
    file_size_signal_release(&signal);
    return code;
}

/* ------------------------------------------------------------------------------------------------------- closing */

static void free_abandoned(struct spool *spool)
{
    delivery_abandon(atomic_load(&spool->delivery));
    ops_abandon(spool->ops);
    scheduler_unref(spool->scheduler);
    store_abandon(spool->store);
    hlc_abandon(spool->clock);
    clock_config_forget(spool);
    free(spool->dir);
    free(spool);
}

/* Frees what no spool of this process stands in the way of, one that is being opened included. */
static void free_inherited(void)
{
    pthread_mutex_lock(&open_mutex);
    pthread_mutex_lock(&registry_mutex);
    for (struct spool **at = &inherited; *at;) {
        struct spool *spool = *at;
        if (find_inode(spool->device, spool->inode)) {
            at = &spool->next;
            continue;
        }
        *at = spool->next;
        free_abandoned(spool);
    }
    pthread_mutex_unlock(&registry_mutex);
    pthread_mutex_unlock(&open_mutex);
}

/* In a forked child: the memory goes, files and locks stay the parent's. */
static int abandon(struct spool *spool)
{
    pthread_mutex_lock(&registry_mutex);
    bool last = --spool->opened == 0;
    if (last) {
        spool->next = inherited;
        inherited = spool;
    }
    pthread_mutex_unlock(&registry_mutex);
    if (last)
        free_inherited();
    return SPOOL_OK;
}

/* A sink, or an operation, still uses what is open: it stays so, power-safe, and in the registry. */
static int keep_for_hung(struct spool *spool)
{
    char message[256];
    snprintf(message, sizeof message, "%s", err_last());
    store_hurry(spool->store, DEADLINE_NEVER);
    int code = store_flush(spool->store, deadline_in_ms(1000));
    return code ? code : err_set(SPOOL_ETIMEOUT, "%s", message);
}

/* It is marked as closing, and still in the registry: who opens the directory now waits. */
static int close_last(struct spool *spool, bool *ret_hung)
{
    uint64_t deadline = deadline_in_ms(spool->options.stop_timeout_ms);
    store_hurry(spool->store, deadline);
    int code = handle_stop(spool, deadline);
    *ret_hung = delivery_has_hung(atomic_load(&spool->delivery)) || ops_have_hung(spool->ops);
    if (*ret_hung)
        return keep_for_hung(spool);
    int closed = store_close(spool->store, deadline);
    return closed ? closed : code;
}

static void end_closing(struct spool *spool, bool hung)
{
    pthread_mutex_lock(&registry_mutex);
    spool->closing = false;
    if (!hung)
        forget(spool);
    bool heirs = inherited != NULL;
    pthread_cond_broadcast(&registry_cond);
    pthread_mutex_unlock(&registry_mutex);
    if (!hung)
        free_handle(spool);
    if (heirs)
        free_inherited();
}

static bool begin_closing(struct spool *spool)
{
    pthread_mutex_lock(&registry_mutex);
    bool last = spool->opened > 0 && --spool->opened == 0;
    if (last)
        spool->closing = true;
    pthread_mutex_unlock(&registry_mutex);
    return last;
}

static int close_counted(struct spool *spool)
{
    struct file_size_signal signal;
    bool hung;
    if (!begin_closing(spool))
        return SPOOL_OK;
    file_size_signal_hold(&signal);
    int code = close_last(spool, &hung);
    file_size_signal_release(&signal);
    end_closing(spool, hung);
    return code;
}

int spool_close(struct spool *spool)
{
    if (!spool)
        return SPOOL_OK;
    if (spool->fork_generation != fork_generation())
        return abandon(spool);
    if (thread_is_ours())
        return err_set(SPOOL_EDEADLK, "spool_close() from a thread of the library would wait for itself");
    return close_counted(spool);
}
