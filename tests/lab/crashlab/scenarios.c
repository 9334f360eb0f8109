/* scenarios.c - the list. */
#include "scenarios.h"

const struct lab_scenario *const lab_scenarios[] = {
    &scenario_create,       &scenario_process,     &scenario_power,           &scenario_mixed,
    &scenario_many,         &scenario_flush,       &scenario_group,           &scenario_laps,
    &scenario_failed_flush, &scenario_clock,       &scenario_rotation,        &scenario_killed_commit,
    &scenario_killed_acknowledgement, &scenario_delete,
    &scenario_drop,         &scenario_acknowledge, &scenario_sinks,           &scenario_checkpoint,
    &scenario_file_sink,    &scenario_retry,       &scenario_retry_rotation,  &scenario_dead_letters,
    &scenario_many_rows,    &scenario_recovery,    &scenario_adopt_open,      &scenario_adopt_alive,
    &scenario_two_writers,  &scenario_surplus,     &scenario_killed_delivery, &scenario_journal_damage,
    &scenario_block_damage, &scenario_salvage,     &scenario_random,          &scenario_random_sinks,
    &scenario_cow_mixed,    &scenario_cow_laps,    &scenario_cow_adopt,       &scenario_compressed,
    &scenario_rewind,       &scenario_edit,
    NULL,
};
