#!/bin/sh
# The man pages: mandoc finds nothing to warn about, and every function and constant of spool.h is described.
set -u
cd "$(dirname "$0")/../.." || exit 1
passed=0 failed=0

check() { # check WHAT COMMAND…
    what=$1
    shift
    if "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)) && echo "FAILED: $what"; fi
}

lint() { mandoc -Tlint -Wwarning "$1"; }

# The comments of the header name functions as well, so they are taken out first.
functions() { sed 's|/\*.*\*/||; /\/\*/,/\*\//d' lib/spool.h | grep -oE '\bspool_[a-z_]+\(' | tr -d '(' | sort -u; }
has_page() { grep -qE "^\.Nm $1( ,)?$" man/*.3 && grep -qE "^\.F[no] $1( |$)" man/*.3; }
is_indexed() { grep -qE "^\.Fn $1( |$)" man/libspool.3; }

error_names() { sed -nE 's/^ *X\((E[A-Z0-9]+),.*/SPOOL_\1/p' lib/spool.h; }

# What a caller may set, and what spool_stats() tells.
members() {
    perl -0pe 's|/\*.*?\*/||gs' lib/spool.h |
        sed -nE '/^struct spool_(options|event|sink_options|reader_options|stats) \{/,/^\}/p' | sed '/(\*/d' | grep -oE '\b[a-z_]+(\[[A-Z_]+\])?( *,|;)' | grep -oE '^[a-z_]+' | sort -u
}

# A page that is referred to exists, as a page or as a name of one; those of other projects are not ours to check.
references() { sed -nE 's/^\.Xr (l?i?b?spool[a-z_.]*) ([0-9]).*/\1 \2/p' man/*.[0-9] | sort -u; }
has_target() { [ -f "man/$1.$2" ] || grep -qE "^\.Nm $1( ,)?$" man/*."$2"; }

for page in man/*.[0-9]; do
    check "$page has warnings" lint "$page"
done
for name in $(functions); do
    check "$name has no page with a synopsis" has_page "$name"
    check "$name is not in libspool.3" is_indexed "$name"
done
for name in $(error_names); do
    case $name in
    SPOOL_EUNAVAILABLE | SPOOL_EREJECTED | SPOOL_ESTALE) continue ;; # answers of sinks, and of no function
    esac
    check "$name is in no page" grep -qE "^\.(It )?Dv .*\b$name\b" man/*.3
done
for member in $(members); do
    [ "$member" = size ] || check "member $member is in no page" grep -qE "^\.(It )?Va .*\b$member\b" man/*.3
done
references >"${TMPDIR:-/tmp}/references-$$"
while read -r name section; do
    check "a page refers to $name($section), which is not there" has_target "$name" "$section"
done <"${TMPDIR:-/tmp}/references-$$"
rm -f "${TMPDIR:-/tmp}/references-$$"
echo "RESULT $passed $failed"
[ $failed = 0 ]
