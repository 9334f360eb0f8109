#!/usr/bin/env bash
# A plugin as somebody outside makes one: examples/sink_template.c and spool.h in a folder of their own, built and run as
# spool-sink(7) says; by a program with the static library, by one with the shared one, and with strict compilers.
cd "$(dirname "$0")/../.." || exit 1
build=$(realpath "${BUILD:-build}")
work=$(mktemp -d "${TMPDIR:-/tmp}/spool-template-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0
check() { # check WHAT COMMAND…
    local what=$1
    shift
    if "$@" > "$work/out" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $what"
        sed 's/^/    /' "$work/out"
    fi
}
says() { grep -q -e "$1" "$work/said"; }

mkdir "$work/plugins" "$work/include"
cp lib/spool.h "$work/include/"
cp examples/sink_template.c "$work/plugins/"
# The literal block of the page, word for word, but that cc finds spool.h and that the file it writes is ours.
awk '/^\.Bd -literal/ { inside = 1; next } /^\.Ed/ { inside = 0 } inside' man/spool-sink.7 |
    sed -e "s|^cc |cc -I$work/include |" -e "s|/tmp/far.txt|$work/far.txt|" > "$work/plugins/do.sh"
by_the_manual() { (cd "$work/plugins" && PATH="$build:$PATH" sh -eux ./do.sh) > "$work/said" 2>&1 || { cat "$work/said"; return 1; }; }
check "what spool-sink(7) says works" by_the_manual
check "the kind is listed with its settings" says '^template .*a template'
check "its settings too" says 'the file that is appended to'
check "the probe is accepted" says 'far accepted an event of type spool.probe'
check "the probe has arrived" grep -q '"probe":true,"sink":"far"' "$work/far.txt"

export SPOOL_SINK_PATH=$work/plugins
spool() { "$build/spool" -C "$work/plugins/q" "$@"; }
check "an event is put" spool put '{"n":1}'
check "it is delivered" spool drain --timeout 60
check "it has arrived" grep -q '{"n":1}$' "$work/far.txt"
check "one of two lines is put" spool put --type two -- "$(printf 'a\nb')"
check "all is answered" spool drain --timeout 60
spool dlq list > "$work/said"
check "what is refused is a dead letter with its reason" says 'more than one line'
rejects() { ! spool sink add "$@" > "$work/said" 2>&1; }
check "a configuration it refuses is not stored" rejects bad template colour=red
check "and says so" says 'the configuration is'

cat > "$work/host.c" <<'C'
#include <spool.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    struct spool *spool;
    struct spool_event event = SPOOL_EVENT(.type = "t", .body = "from the shared library", .body_size = 23,
                                           .content_type = "text/plain");
    (void)argc;
    if (spool_open(argv[1], NULL, &spool) || spool_sink_load(spool, "far", "template", argv[2], NULL) || spool_start(spool) ||
        spool_enqueue(spool, &event, NULL) || spool_drain(spool, 60000) || spool_close(spool))
        return fprintf(stderr, "%s\n", spool_last_error()), 1;
    return 0;
}
C
if [ -f "$build/libspool.so.0" ] && ! nm -D "$build/libspool.so.0" | grep -q __asan; then
    check "a program with the shared library builds" gcc -I"$work/include" -o "$work/host" "$work/host.c" -L"$build" -l:libspool.so.0
    check "it runs" env LD_LIBRARY_PATH="$build" "$work/host" "$work/q2" "{\"path\":\"$work/far2.txt\"}"
    check "its event has arrived" grep -q 'from the shared library$' "$work/far2.txt"
fi
strict() { "$@" -shared -fPIC -I"$work/include" -o "$work/strict.so" examples/sink_template.c; }
check "gcc is content" strict gcc -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Wmissing-prototypes -Wshadow -Werror
command -v clang > /dev/null && check "clang is content" strict clang -std=c11 -D_GNU_SOURCE -Wall -Wextra -Wpedantic -Werror
only_one() { [ "$(nm -D --defined-only "$work/strict.so" | awk '{ print $3 }')" = spool_sink_plugin ]; }
check "it exports its description alone" only_one
echo "RESULT $passed $failed"
[ $failed = 0 ]
