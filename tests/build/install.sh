#!/bin/sh
# Installs into a fresh folder, builds a program against it with pkg-config, runs it, looks at the manual, uninstalls. From a
# build of its own: the prefix is compiled in, and other tests use build/ at the same time.
set -eu
cd "$(dirname "$0")/../.."
passed=0 failed=0
root=$(mktemp -d "${TMPDIR:-/tmp}/spool-install-XXXXXX")
trap 'rm -rf "$root"' EXIT
check() { # description, command…
    what=$1; shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $what"; fi
}
cat > "$root/use.c" <<'C'
#include <spool.h>
#include <stdio.h>
int main(int argc, char **argv)
{
    struct spool *spool;
    struct spool_event event = SPOOL_EVENT(.type = "test", .body = "{}", .body_size = 2);
    if (argc < 2 || spool_open(argv[1], NULL, &spool) || spool_enqueue(spool, &event, NULL) || spool_close(spool))
        return fprintf(stderr, "%s\n", spool_last_error()), 1;
    return 0;
}
C
export PKG_CONFIG_PATH="$root/stage/opt/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root/stage"
compile_shared() { gcc -Wall -Wextra -Werror -o "$root/shared" "$root/use.c" $(pkg-config --cflags --libs libspool); }
compile_static() { gcc -Wall -Wextra -Werror -o "$root/static" "$root/use.c" $(pkg-config --cflags libspool) "$root/stage/opt/lib/libspool.a" -llmdb -ljansson -lzstd -pthread; }
compile_cxx() { ! command -v g++ > /dev/null || echo '#include <spool.h>
int main() { return spool_version()[0] == 0; }' | g++ -x c++ -Wall -Wextra -Werror -fsyntax-only $(pkg-config --cflags libspool) -; }
nothing_left() { test -z "$(find "$root/stage" ! -type d)"; }
check "make install" make -s install VARIANT=install DESTDIR="$root/stage" PREFIX=/opt > "$root/log" 2>&1 || cat "$root/log"
check "a program builds with pkg-config" compile_shared
check "a program links statically" compile_static
check "the header is C++ too" compile_cxx
check "it runs with the shared library" env LD_LIBRARY_PATH="$root/stage/opt/lib" "$root/shared" "$root/spool-a"
check "it runs with the static library" "$root/static" "$root/spool-b"
check "the command runs" "$root/stage/opt/bin/spool" --version
if command -v man > /dev/null; then
    check "man libspool works" sh -c "MANPATH=$root/stage/opt/share/man man libspool 2>/dev/null | grep -q libspool"
    check "man finds a function by its name" sh -c "MANPATH=$root/stage/opt/share/man man spool_close 2>/dev/null | grep -q spool_close"
fi
check "make uninstall" make -s uninstall VARIANT=install DESTDIR="$root/stage" PREFIX=/opt
check "uninstall leaves nothing" nothing_left
echo "RESULT $passed $failed"
[ "$failed" = 0 ]
