/* scenarios.h - all of them, by file. */
#ifndef CRASHLAB_SCENARIOS_H
#define CRASHLAB_SCENARIOS_H

#include "scene.h"

extern const struct lab_scenario scenario_create, scenario_process, scenario_power, scenario_mixed, scenario_many,
    scenario_flush, scenario_group, scenario_laps, scenario_failed_flush, scenario_clock; /* scenario_enqueue.c */
extern const struct lab_scenario scenario_rotation, scenario_compressed, scenario_killed_commit,
    scenario_killed_acknowledgement, scenario_delete, scenario_drop; /* scenario_log.c */
extern const struct lab_scenario scenario_acknowledge, scenario_sinks, scenario_checkpoint, scenario_file_sink,
    scenario_file_compressed, scenario_file_partition, scenario_retry, scenario_retry_rotation, scenario_dead_letters,
    scenario_many_rows; /* scenario_sinks.c */
extern const struct lab_scenario scenario_rewind, scenario_edit, scenario_requeue_to, scenario_forbidden,
    scenario_removal, scenario_reload; /* scenario_control.c */
extern const struct lab_scenario scenario_recovery, scenario_adopt_open, scenario_adopt_alive, scenario_two_writers,
    scenario_surplus, scenario_killed_delivery; /* scenario_processes.c */
extern const struct lab_scenario scenario_journal_damage, scenario_block_damage,
    scenario_salvage;                                                                       /* scenario_damage.c */
extern const struct lab_scenario scenario_agents;                                           /* scenario_agents.c */
extern const struct lab_scenario scenario_random, scenario_random_sinks;                    /* scenario_random.c */
extern const struct lab_scenario scenario_cow_mixed, scenario_cow_laps, scenario_cow_adopt; /* scenario_cow.c */

#endif
