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
pc() { PKG_CONFIG_PATH="$root/stage/opt/lib/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root/stage" pkg-config "$@"; }
compile_shared() { gcc -Wall -Wextra -Werror -o "$root/shared" "$root/use.c" $(pc --cflags --libs libspool); }
compile_static() { gcc -Wall -Wextra -Werror -o "$root/static" "$root/use.c" $(pc --cflags libspool) "$root/stage/opt/lib/libspool.a" -llmdb -ljansson -lzstd -pthread; }
compile_cxx() { ! command -v g++ > /dev/null || echo '#include <spool.h>
int main() { return spool_version()[0] == 0; }' | g++ -x c++ -Wall -Wextra -Werror -fsyntax-only $(pc --cflags libspool) -; }
nothing_left() { test -z "$(find "$root/stage" ! -type d)"; }
install_quietly() { make -s -j2 install VARIANT=install DESTDIR="$root/stage" PREFIX=/opt > "$root/log" 2>&1 || { cat "$root/log"; false; }; }
check "make install" install_quietly
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
# Plugins in the folder that the library was made with: nothing else says where they are.
prefix=$root/prefix
printf '#!/bin/sh\nwhile read -r line; do printf "%%s\\n" "$line" >> "%s/got"; expr "$line" : ".*\"id\":\"\([^\"]*\)"; done\n' "$root" > "$root/child"
chmod 755 "$root/child"
install_here() { make -s -j2 install VARIANT=install DESTDIR= PREFIX="$prefix" > "$root/log" 2>&1 || { cat "$root/log"; false; }; }
installed() { env -u SPOOL_SINK_PATH "$prefix/bin/spool" "$@"; }
is_listed() { installed -o json sink kinds exec | grep -qF "\"file\":\"$prefix/lib/libspool/libspool-sink-exec.so\""; }
delivers() {
    installed -C "$root/spool-c" put --type test --content-type text/plain hello > /dev/null &&
        installed -C "$root/spool-c" sink add child exec "command=[\"$root/child\"]" > /dev/null &&
        installed -C "$root/spool-c" drain --timeout 60 2> /dev/null && grep -q '"type":"test"' "$root/got"
}
is_writable_refused() {
    chmod 777 "$prefix/lib/libspool" && ! installed -C "$root/spool-c" sink test child > /dev/null 2> "$root/refused" &&
        grep -q "libspool-sink-exec.so\|may write" "$root/refused"
}
check "make install into a prefix" install_here
check "a plugin is found where it was installed" is_listed
check "it delivers from there" delivers
check "but not if others can write there" is_writable_refused
check "make uninstall from the prefix" make -s uninstall VARIANT=install DESTDIR= PREFIX="$prefix"
check "uninstall leaves nothing in the prefix" test -z "$(find "$prefix" ! -type d)"
check "make uninstall" make -s uninstall VARIANT=install DESTDIR="$root/stage" PREFIX=/opt
check "uninstall leaves nothing" nothing_left
echo "RESULT $passed $failed"
[ "$failed" = 0 ]
