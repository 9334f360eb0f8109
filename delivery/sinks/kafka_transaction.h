/* kafka_transaction.h - each batch as one transaction, by a producer that one worker has for itself.
 *
 * Consumers that read what is committed see a batch whole or not at all. A delivery that is cancelled cannot wait for
 * the coordinator, and leaves its transaction as it is. The next one ends it first: it goes on with a commit, which may
 * be done long since, so that events that come again are known to have arrived; what was not to be committed is
 * aborted. What a process leaves when it dies is ended by the next one with the same id, or by the coordinator when
 * the transaction's time is over. */
#ifndef DELIVERY_SINKS_KAFKA_TRANSACTION_H
#define DELIVERY_SINKS_KAFKA_TRANSACTION_H

#include "kafka_producer.h"

/* Ends what the last one has left, and begins; the user has joined. SPOOL_EUNAVAILABLE or SPOOL_ECONFIG with a message:
 * nothing may be produced. `ack_ms` is for each step. */
int kafka_transaction_begin(struct kafka_producer *producer, struct kafka_user *user, const struct cancel *cancel,
                            uint64_t ack_ms);
/* Commits if `code` is SPOOL_OK, and aborts else. Unless it returns SPOOL_OK, none of the user's `n` messages has
 * arrived, as far as is known. The message is that of the first failure. */
int kafka_transaction_end(struct kafka_producer *producer, struct kafka_user *user, size_t n,
                          const struct cancel *cancel, uint64_t ack_ms, int code);
/* Why nothing more can be produced in this transaction (RD_KAFKA_RESP_ERR__STATE), as a code with a message. */
int kafka_transaction_failed(struct kafka_producer *producer);
/* What is open when nothing more is produced: tries to abort it, and not for long. */
void kafka_transaction_leave(struct kafka_producer *producer);

#endif
