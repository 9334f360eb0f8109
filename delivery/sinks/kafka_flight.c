/* kafka_flight.c - see kafka_flight.h. */
#include "kafka_flight.h"

#include <stdlib.h>
#include <string.h>

struct load *load_for(struct load *old, size_t n)
{
    if (!old || old->cap < n) {
        free(old);
        old = malloc(sizeof *old + n * sizeof old->flights[0]);
        if (!old)
            return NULL;
        old->cap = n;
    }
    old->pending = n;
    old->left = 0;
    old->transaction = 0;
    for (size_t i = 0; i < n; i++)
        old->flights[i] = (struct flight){.load = old};
    return old;
}

void load_take_back(struct load *load, size_t n, bool pending)
{
    for (size_t i = 0; i < n; i++) {
        struct flight *flight = &load->flights[i];
        if (flight->state != FLIGHT_ARRIVED)
            continue;
        flight->state = pending ? FLIGHT_PENDING : FLIGHT_FAILED;
        flight->error = RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
        load->pending += pending;
    }
}

static struct flight **bucket_of(const struct flights *flights, const struct spool_id *id)
{
    uint64_t half;
    memcpy(&half, id->bytes, sizeof half); /* time and its fraction, which differ most at their end */
    half = (half ^ id->bytes[8] ^ (uint64_t)id->bytes[9] << 8) * 0x9e3779b97f4a7c15u;
    return (struct flight **)&flights->buckets[half >> 51];
}

void flights_leave(struct flights *flights, struct load *load, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct flight *flight = &load->flights[i];
        if (flight->state != FLIGHT_PENDING)
            continue;
        struct flight **bucket = bucket_of(flights, &flight->id);
        flight->next = *bucket;
        *bucket = flight;
        flights->count++;
        load->left++;
    }
    if (load->left == 0)
        free(load);
}

struct flight *flight_find(const struct flights *flights, const struct spool_id *id)
{
    struct flight *flight = *bucket_of(flights, id);
    while (flight && memcmp(&flight->id, id, sizeof *id) != 0)
        flight = flight->next;
    return flight;
}

void flight_remove(struct flights *flights, struct flight *flight)
{
    struct flight **at = bucket_of(flights, &flight->id);
    while (*at && *at != flight)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = flight->next;
    flights->count--;
    if (--flight->load->left == 0)
        free(flight->load);
}

void flights_forget_over(struct flights *flights)
{
    for (size_t i = 0; i < FLIGHT_BUCKETS; i++)
        for (struct flight *flight = flights->buckets[i], *next; flight; flight = next) {
            next = flight->next;
            if (flight->state != FLIGHT_PENDING && !flight->is_asked_for)
                flight_remove(flights, flight);
        }
}

static void settle(struct flight *flight, bool arrived)
{
    flight->load->pending -= flight->state == FLIGHT_PENDING;
    flight->state = arrived ? FLIGHT_ARRIVED : FLIGHT_FAILED;
    flight->error = RD_KAFKA_RESP_ERR__PURGE_INFLIGHT;
}

void flights_settle(struct flights *flights, uint64_t transaction, bool arrived)
{
    for (size_t i = 0; flights->count > 0 && i < FLIGHT_BUCKETS; i++)
        for (struct flight *flight = flights->buckets[i]; flight; flight = flight->next)
            if (flight->load->transaction == transaction)
                settle(flight, arrived);
}

void flights_clear(struct flights *flights)
{
    for (size_t i = 0; i < FLIGHT_BUCKETS; i++)
        while (flights->buckets[i])
            flight_remove(flights, flights->buckets[i]);
}
