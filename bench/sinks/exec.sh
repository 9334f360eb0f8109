#!/bin/sh
# The exec sink and a child that answers each line, beside the same child fed by a pipe with the same lines.
. bench/sinks/common.inc
cat > "$work/child.c" <<'C'
#include <stdio.h>
#include <string.h>
int main(void)
{
    static char line[1 << 16];
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
awk -v n="$EVENTS" -v bytes="$BYTES" 'BEGIN { for (i = 0; i < bytes; i++) pad = pad "x"; for (i = 0; i < n; i++)
    printf "{\"id\":\"01890a5d-ac96-774b-bcce-b302099a8057\",\"type\":\"t\",\"data\":{\"n\":%d,\"text\":\"%s\"}}\n", i, pad }' > "$work/lines"
ours() { "$DRIVE" exec "{\"command\":[\"$work/child\"]}" "$EVENTS" "$BYTES" 1024; }
raw() {
    start=$(date +%s.%N)
    "$work/child" < "$work/lines" | cat > /dev/null
    echo "$start $(date +%s.%N) $EVENTS" | awk '{ printf "%.0f\n", $3 / ($2 - $1) }'
}
in_turns exec ours raw
