/* run.h - what scenarios are made of. Each notes in the ledger what it was answered. */
#ifndef RUN_H
#define RUN_H

#include "sweep.h"

/* NULL: did not open. */
struct spool *run_open(const char *dir, const struct spool_options *options);
void run_enqueue(struct spool *spool, uint32_t n, enum spool_durability durability);
void run_enqueue_many(struct spool *spool, uint32_t first, uint32_t count, enum spool_durability durability);
/* Of event n; its agent is "even" or "odd", as n is. */
enum spool_priority run_priority(uint32_t n);
/* Reads all; counts how many there were. Under faults: either an error, or all that was acknowledged. */
void run_read_all(struct spool *spool);
void run_end_of(struct spool *spool); /* disarms, and ends as run_end says */
/* How often each event is in a file beside the spool, a line each; a piece of one may only be at the end. */
void run_count_lines(const char *dir, const char *name, uint32_t lines[EVENTS_MAX]);
void sleep_ms(unsigned ms);

/* For prepare: without faults, and fatal if it does not work. */
struct spool *made(const char *dir, const struct spool_options *options);

/* Scenarios in other files. */
void run_deliver(const char *dir);
void run_deliver_dead(const char *dir);
void run_deliver_on(const char *dir);
void run_stop(const char *dir);
void run_dead_letters(const char *dir);
void run_sinks(const char *dir);
void run_config(const char *dir);
void run_drop(const char *dir);
void run_operations(const char *dir);
void run_edit_letters(const char *dir);
void run_move_letters(const char *dir);
void run_rewind(const char *dir);
void run_set_options(const char *dir);
void run_receipts(const char *dir);
void run_metrics(const char *dir);
void run_filter(const char *dir);
void run_agents(const char *dir);
void run_plugin(const char *dir);
void run_failover(const char *dir);
void run_quorum(const char *dir);
void prepare_damaged_log(const char *dir);
void prepare_damaged_state(const char *dir);
void run_repair(const char *dir);

#endif
