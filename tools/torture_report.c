/* torture_report.c - what spool torture found: in plain words what can be relied on here, or as one JSON object. */
#include <inttypes.h>
#include <string.h>

#include "torture.h"

static bool is_implausible(const struct torture_ground *ground)
{
    return ground->flush_count && ground->flush_p50_ns < FLUSH_IMPLAUSIBLE_NS;
}

static void sum_up(const struct torture *torture, struct round_tally *ret)
{
    *ret = (struct round_tally){0};
    for (int kind = 0; kind < ROUND_KINDS; kind++) {
        const struct round_tally *tally = &torture->tally[kind];
        ret->rounds += tally->rounds;
        ret->kills += tally->kills;
        ret->stops += tally->stops;
        account_add(&ret->account, &tally->account);
    }
}

/* -------------------------------------------------------------------------------------------------------------- words
 */

static void print_ground(const struct torture_ground *ground)
{
    printf("file system  %s on %s, mounted on %s (%s)\n", ground->type, ground->source, ground->mounted_on,
           ground->options);
    if (*ground->write_cache)
        printf("device       its write cache is: %s\n", ground->write_cache);
    if (ground->network)
        puts(
            "             A network file system: locks, mappings and flushes depend on a server and its settings. The\n"
            "             library refuses it (SPOOL_EREMOTE) unless SPOOL_ALLOW_NETWORK_FS is given.");
    if (ground->copy_on_write)
        puts("             It copies on write: the journal is written with pwrite() instead of through a mapping, and\n"
             "             enqueueing costs about 0.4 us more. On such a disk leave some room free: overwriting takes "
             "space.");
    if (ground->memory)
        puts("             It is in memory: nothing survives a loss of power or a restart of the machine.");
}

static void print_flush(const struct torture_ground *ground)
{
    if (!ground->flush_count)
        return;
    printf("flushes      p50 %.0f us, p99 %.0f us, longest %.0f us (%" PRIu64 " of one page)\n",
           (double)ground->flush_p50_ns / 1e3, (double)ground->flush_p99_ns / 1e3, (double)ground->flush_max_ns / 1e3,
           ground->flush_count);
    if (is_implausible(ground) && !ground->memory)
        puts("             Too fast for a disk that keeps what it flushes: a cache without a battery may answer for "
             "it. Only\n"
             "             a power cut can tell: spool help torture, --prepare-powercut.");
}

static void print_rounds(const struct torture *torture)
{
    static const char *const titles[] = {"ROUND", ">ROUNDS", ">KILLS",    ">ACKNOWLEDGED", ">FOUND",
                                         ">LOST", ">TWICE",  ">INVENTED", ">DISORDERED"};
    struct table *table = table_new(titles, sizeof titles / sizeof *titles);
    char text[UNITS_SIZE];
    for (int kind = 0; kind < ROUND_KINDS; kind++) {
        const struct round_tally *tally = &torture->tally[kind];
        const uint64_t counts[] = {tally->rounds,
                                   tally->kills,
                                   tally->account.acknowledged,
                                   tally->account.found,
                                   tally->account.lost,
                                   tally->account.duplicated,
                                   tally->account.invented,
                                   tally->account.disordered};
        table_cell(table, "%s", round_name((enum round_kind)kind));
        for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
            table_cell(table, "%s", units_count(counts[i], text));
    }
    putchar('\n');
    table_print(table, stdout);
    table_free(table);
    const struct round_tally *damage = &torture->tally[ROUND_DAMAGE];
    if (damage->rounds)
        printf("What was lost in the damage rounds was in the bytes that they wrote over, and was told: %s damaged "
               "block(s).\n",
               units_count(damage->announced, text));
}

static void print_reliance(const struct torture *torture, const struct round_tally *sum)
{
    const struct torture_ground *ground = &torture->ground;
    char kills[UNITS_SIZE], events[UNITS_SIZE];
    puts("\nWhat you can rely on here");
    if (sum->rounds)
        printf("  - Processes may die at any moment: %s were killed, and of %s acknowledged events none was lost, none "
               "came\n"
               "    twice or out of order, except where files were damaged on purpose.\n",
               units_count(sum->kills, kills), units_count(sum->account.acknowledged, events));
    if (torture->tally[ROUND_STOP].rounds)
        puts("  - A process that stands still does not hold up the others.");
    if (torture->tally[ROUND_FULL].rounds && torture->tally[ROUND_NO_SPACE].rounds)
        puts("  - A full spool, and files that cannot grow, cost no acknowledged event, and it drains.");
    if (torture->tally[ROUND_DAMAGE].rounds)
        puts("  - Damaged files are found and told, and what is whole is delivered.");
    if (ground->memory)
        puts("  - NOT on anything after a loss of power: this is memory.");
    else
        printf("  - Loss of power: %s. Not tried; --prepare-powercut does.\n",
               is_implausible(ground) ? "DOUBTFUL, flushes are too fast"
                                      : "flushes take as long as they do when they are real");
}

static void print_untested(const struct torture *torture)
{
    puts("\nNot tested: loss of power, a disk that fails or forgets, a clock that jumps, other machines on the same "
         "files.");
    for (int kind = 0; kind < ROUND_KINDS; kind++)
        if (!torture->tally[kind].rounds)
            printf("Not tested for want of time: rounds of %s.\n", round_name((enum round_kind)kind));
}

static void print_troubles(const struct torture *torture)
{
    puts("\nWhat went wrong");
    for (size_t i = 0; i < torture->trouble_count; i++)
        printf("  ! %s\n", torture->troubles[i]);
    if (torture->more_troubles)
        printf("  ! and %" PRIu64 " more\n", torture->more_troubles);
    printf("Kept: %s\nAgain with: spool torture DIR --seed %" PRIu64 "\n", torture->dir, torture->seed);
}

static void print_words(const struct torture *torture)
{
    struct round_tally sum;
    char took[UNITS_SIZE];
    sum_up(torture, &sum);
    printf("spool torture: %" PRIu64 " rounds in %s, seed %" PRIu64 "%s\n\n", torture->round,
           units_span(now_steady_ns() - torture->start_ns, took), torture->seed,
           torture_is_interrupted() ? ", interrupted" : "");
    print_ground(&torture->ground);
    print_flush(&torture->ground);
    for (size_t i = 0; i < torture->probe_count; i++)
        printf("%-12s %s%s\n", torture->probes[i].name,
               torture->probes[i].good ? "" : "WRONG: ", torture->probes[i].detail);
    print_rounds(torture);
    if (torture->trouble_count)
        print_troubles(torture);
    else
        print_reliance(torture, &sum);
    print_untested(torture);
}

/* --------------------------------------------------------------------------------------------------------------- JSON
 */

static json_t *ground_json(const struct torture_ground *ground)
{
    json_t *object = json_object();
    json_set(object, "type", json_text(ground->type));
    json_set(object, "source", json_text(ground->source));
    json_set(object, "mounted_on", json_text(ground->mounted_on));
    json_set(object, "options", json_text(ground->options));
    json_set(object, "write_cache", json_text(ground->write_cache));
    json_set(object, "network", json_boolean(ground->network));
    json_set(object, "copy_on_write", json_boolean(ground->copy_on_write));
    json_set(object, "memory", json_boolean(ground->memory));
    json_set(object, "flushes", json_number(ground->flush_count));
    json_set(object, "flush_p50_ns", json_number(ground->flush_p50_ns));
    json_set(object, "flush_p99_ns", json_number(ground->flush_p99_ns));
    json_set(object, "flush_max_ns", json_number(ground->flush_max_ns));
    json_set(object, "flush_implausible", json_boolean(is_implausible(ground)));
    return object;
}

static json_t *tally_json(const struct round_tally *tally)
{
    json_t *object = json_object();
    json_set(object, "rounds", json_number(tally->rounds));
    json_set(object, "kills", json_number(tally->kills));
    json_set(object, "stops", json_number(tally->stops));
    json_set(object, "acknowledged", json_number(tally->account.acknowledged));
    json_set(object, "found", json_number(tally->account.found));
    json_set(object, "lost", json_number(tally->account.lost));
    json_set(object, "duplicated", json_number(tally->account.duplicated));
    json_set(object, "invented", json_number(tally->account.invented));
    json_set(object, "disordered", json_number(tally->account.disordered));
    json_set(object, "unanswered", json_number(tally->account.unanswered));
    json_set(object, "damaged_blocks", json_number(tally->announced));
    return object;
}

static void print_json(const struct torture *torture)
{
    json_t *object = json_object(), *probes = json_object(), *rounds = json_object(), *troubles = json_array();
    for (size_t i = 0; i < torture->probe_count; i++)
        json_set(probes, torture->probes[i].name, json_boolean(torture->probes[i].good));
    for (int kind = 0; kind < ROUND_KINDS; kind++)
        json_set(rounds, round_name((enum round_kind)kind), tally_json(&torture->tally[kind]));
    for (size_t i = 0; i < torture->trouble_count; i++)
        json_array_append_new(troubles, json_text(torture->troubles[i]));
    json_set(object, "good", json_boolean(torture->trouble_count == 0));
    json_set(object, "interrupted", json_boolean(torture_is_interrupted()));
    json_set(object, "seed", json_number(torture->seed));
    json_set(object, "seconds", json_real((double)(now_steady_ns() - torture->start_ns) / 1e9));
    json_set(object, "ground", ground_json(&torture->ground));
    json_set(object, "probes", probes);
    json_set(object, "rounds", rounds);
    json_set(object, "troubles", troubles);
    if (torture->trouble_count)
        json_set(object, "kept", json_text(torture->dir));
    json_print(object);
}

void report_print(const struct torture *torture, bool json)
{
    if (json)
        print_json(torture);
    else
        print_words(torture);
}
