/* fuzz_dir.c - a whole spool directory, damaged: opened, read, delivered, verified, enqueued to, closed and opened
 * again.
 *
 * The input is a recipe of tests/lab/wreck/damage.c; what must hold is in tests/lab/wreck/exercise.c. */
#include "../lab/wreck/wreck.h"
#include "fuzz.h"

static struct wreck_template template;
static char dir[80];

static void set_up(void)
{
    const char *problem = wreck_template_make(scratch_dir(), &template);
    if (problem)
        fprintf(stderr, "no template: %s\n", problem);
    require(!problem);
    snprintf(dir, sizeof dir, "%s/spool", scratch_dir());
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct wreck_damage damage;
    static struct wreck_outcome outcome;
    if (!dir[0])
        set_up();
    memset(&outcome, 0, sizeof outcome);
    require(wreck_template_put(&template, dir));
    wreck_damage(&template, dir, data, size, &damage);
    wreck_exercise(&template, &damage, dir, &outcome);
    if (outcome.complaint[0])
        fprintf(stderr, "%s: %s\n", damage.told, outcome.complaint);
    require(!outcome.complaint[0]);
    return 0;
}
