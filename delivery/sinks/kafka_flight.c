/* kafka_flight.c - see kafka_flight.h. */
#include "kafka_flight.h"

#include <stdlib.h>
#include <string.h>

static struct flight **bucket_of(const struct flights *flights, const struct spool_id *id)
{
    uint64_t half;
    memcpy(&half, id->bytes, sizeof half); /* time and its fraction, which differ most at their end */
    half = (half ^ id->bytes[8] ^ (uint64_t)id->bytes[9] << 8) * 0x9e3779b97f4a7c15u;
    return (struct flight **)&flights->buckets[half >> 51];
}

struct flight *flight_find(const struct flights *flights, const struct spool_id *id)
{
    struct flight *flight = *bucket_of(flights, id);
    while (flight && memcmp(&flight->id, id, sizeof *id) != 0)
        flight = flight->next;
    return flight;
}

struct flight *flight_add(struct flights *flights, const struct spool_id *id)
{
    struct flight **bucket = bucket_of(flights, id);
    struct flight *flight = flights->count < FLIGHTS_MAX ? calloc(1, sizeof *flight) : NULL;
    if (!flight)
        return NULL;
    flight->id = *id;
    flight->next = *bucket;
    *bucket = flight;
    flights->count++;
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
    free(flight);
}

void flights_forget_over(struct flights *flights)
{
    for (size_t i = 0; i < FLIGHT_BUCKETS; i++)
        for (struct flight *flight = flights->buckets[i], *next; flight; flight = next) {
            next = flight->next;
            if (flight->state != FLIGHT_PENDING)
                flight_remove(flights, flight);
        }
}

void flights_clear(struct flights *flights)
{
    for (size_t i = 0; i < FLIGHT_BUCKETS; i++)
        while (flights->buckets[i])
            flight_remove(flights, flights->buckets[i]);
}
