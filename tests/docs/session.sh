#!/usr/bin/env bash
# The shipped session is what its generator makes and what it claims to be, the judge of the demo finds every fault it is
# there for, and the demo ends well.
# shellcheck disable=SC2013,SC2015 # the lists hold no blanks; "or" shows what was said, and fails
set -u
cd "$(dirname "$0")/../.." || exit 1
session=examples/data/session.jsonl
build=${BUILD:-build}
work=$(mktemp -d "${TMPDIR:-/tmp}/spool-session-XXXXXX") || exit 1
trap 'rm -rf "$work"' EXIT
passed=0 failed=0

check() { # check WHAT COMMAND…
    local what=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1))
    else
        failed=$((failed + 1))
        echo "FAILED: $what"
        tail -n 20 "$work/out" | sed 's/^/    /'
    fi
}

# ------------------------------------------------------------------------------------------------------- the session
reproduces() { PYTHONHASHSEED=1 LC_ALL=C python3 examples/data/generate-session.py | cmp - "$session"; }
at_least() { [ "$2" -ge "$1" ] || { echo "$2, not $1"; false; }; }
check "the generator makes the session, byte for byte" reproduces
check "it has 2,000 events" at_least 2000 "$(wc -l <"$session")"
check "it is below 2.5 MB" at_least "$(wc -c <"$session")" 2500000
check "some bodies have 100 KB" at_least 5 "$(LC_ALL=C awk 'length > 102400' "$session" | wc -l)"
check "some events are empty" at_least 5 "$(grep -cv '"body"' "$session")"
for type in $(sed -nE 's/^#define SPOOL_TYPE_[A-Z_]+ +"([a-z_.]+)".*/\1/p' lib/spool.h); do
    check "it has events of type $type" at_least 20 "$(grep -cE "\"type\": ?\"$type\"" "$session")"
done

# --------------------------------------------------------------------------------------------------------- the judge
# An ack log and a delivery of the session's first 50 lines, as the agent and the file sink write them.
head -n 50 "$session" >"$work/session"
python3 - "$work" <<'EOF'
import json, sys, uuid
work = sys.argv[1]
with open(f"{work}/acks", "w") as acks, open(f"{work}/delivered", "w") as delivered:
    for line, text in enumerate(open(f"{work}/session", encoding="utf-8"), 1):
        event = json.loads(text)
        out = {"id": str(uuid.UUID(int=line)), "type": event["type"], "agent": event["agent"],
               "session": event["session"], "priority": event["priority"]}
        out.update({"tags": event["tags"]} if "tags" in event else {})
        out.update({"data": event["body"]} if "body" in event else {})
        print(out["id"], line, event["type"], file=acks)
        print(json.dumps(out), file=delivered)
EOF
judge() { tests/tools/compare-session "$work/session" "$work/acks" "$1"; }
says() { judge "$work/judged" >"$work/said"; [ $? = "$1" ] && grep -qE "$2" "$work/said" || { cat "$work/said"; false; }; }

cp "$work/delivered" "$work/judged"
check "all is well" says 0 '^demo: 50 acknowledged, 50 delivered, 0 lost, 0 duplicated$'
sed 7d "$work/delivered" >"$work/judged"
check "a lost event" says 1 '^demo: 50 acknowledged, 49 delivered, 1 lost, 0 duplicated$'
sed 7p "$work/delivered" >"$work/judged"
check "a duplicated event" says 1 '^demo: 50 acknowledged, 51 delivered, 0 lost, 1 duplicated$'
sed '9s/"content": "/&x/; 9s/"metric": "/&x/; 9s/"goal": "/&x/; 9s/"model": "/&x/' "$work/delivered" >"$work/judged"
check "a changed body" says 1 'wrong: event .*9 is not what line 9 of the session says'
sed '3s/"id": "0/"id": "f/' "$work/delivered" >"$work/judged"
check "an event under another id" says 1 '1 more delivered than acknowledged'
{ sed 1,9d "$work/delivered" && sed -n 1,9p "$work/delivered"; } >"$work/judged"
check "another order" says 1 'wrong: event .* arrived behind'
{ cat "$work/delivered" && echo '{"id":"x","type":"invented","priority":"low"}'; } >"$work/judged"
check "an invented event" says 1 'wrong: event x was delivered, and is none'
{ cat "$work/delivered" && printf '{"id":"x","ty'; } >"$work/judged"
check "half a line" says 1 'line 51: not an event'
cp "$work/delivered" "$work/judged"
sed -i '$d' "$work/acks"
check "a line that was never acknowledged" says 1 'wrong: 1 lines of the session were never acknowledged'

# ---------------------------------------------------------------------------------------------------- agent and demo
refuses() { # refuses MESSAGE LINE…
    local message=$1
    shift
    printf '%s\n' "$@" >"$work/bad"
    ! "$build/examples/agent" --spool "$work/spool" "$work/bad" >"$work/said" 2>&1 && grep -qF -e "$message" "$work/said" &&
        [ ! -e "$work/spool" ] || { cat "$work/said"; false; }
}
demo_ends_well() {
    tests/demo.sh >"$work/demo" 2>&1 && tail -n 1 "$work/demo" |
        grep -qE '^demo: 2[0-9]{3} acknowledged, 2[0-9]{3} delivered, 0 lost, 0 duplicated$' || { cat "$work/demo"; false; }
}
if [ -x "$build/examples/agent" ] && [ -x "$build/spool" ]; then
    check "the agent refuses what is no JSON" refuses 'line 2, column 10:' '{"type":"a"}' '{"type":"b'
    check "… an event without a type" refuses 'line 1: ' '{"agent":"a"}'
    check "… an unknown priority" refuses 'line 1: ' '{"type":"a","priority":"urgent"}'
    check "… a tag that is no text" refuses 'line 1: tag 2 is no text' '{"type":"a","tags":["x",3]}'
    check "… a parent that comes later" refuses 'line 1: the parent must be an earlier line' '{"type":"a","parent":1}'
    check "make demo" demo_ends_well
else
    echo "skipped: session: agent and demo: $build/examples/agent and $build/spool are not there"
fi

# ---------------------------------------------------------------------------------------------------- install-packages
silent() { [ -z "$(tests/tools/install-packages "$@" 2>&1)" ]; }
dry() { INSTALL_PACKAGES_DRY=1 tests/tools/install-packages "$@" 2>&1; }
names_missing() { [ "$(dry libc6 no-such-package)" = "install-packages: installing no-such-package" ]; }
other_system() { mkdir "$work/bin" && ln -s /bin/sh "$work/bin/sh" && PATH=$work/bin tests/tools/install-packages gcc 2>&1; }
if command -v dpkg-query >/dev/null; then
    check "install-packages is silent when nothing is missing" silent libc6 dpkg
    check "… and names what is" names_missing
fi
check "… without dpkg it says what is needed" grep -q 'no Debian system. Needed.* gcc$' <(other_system)
echo "RESULT $passed $failed"
[ $failed = 0 ]
