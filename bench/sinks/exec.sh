#!/bin/sh
# exec.sh - the sink and a child that answers each line, beside a program that feeds the same child by pipes alone.
. "$(dirname "$0")/common.inc"

cat > "$work/child.c" <<'C'
#include <stdio.h>
#include <string.h>
int main(void)
{
    static char line[1 << 17];
    while (fgets(line, sizeof line, stdin)) {
        char *id = strstr(line, "\"id\":\"");
        if (id)
            printf("%.36s\n", id + 6);
        if (!id || !strchr(line, '\n'))
            return 1;
        fflush(stdout);
    }
    return 0;
}
C
cc -O2 -o "$work/child" "$work/child.c"
ours() { "$DRIVE" exec "{\"command\":[\"$work/child\"]}" "$EVENTS" "$BYTES" "$batch" "$workers"; }
raw() { "${RAW}_exec" "$work/child" "$EVENTS" "$BYTES" 1024; } # lines without an answer; it has no batches

workers=1
for batch in 1024 8192; do
    in_turns "exec,$batch-a-batch" ours raw
done
workers=2 # each has a child of its own
in_turns "exec,$batch,2-workers" ours raw
