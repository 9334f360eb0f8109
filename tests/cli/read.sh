#!/bin/bash
# spool cat, tail and show: selection, order, formats, following, exit statuses.
. "$(dirname "$0")/common.inc"

"$spool" put -q --type log.error --agent a --session s1 <<<'{"n":1}'
"$spool" put -q --type log.context --agent b --session s2 <<<'{"n":2}'
seq 3 30 | "$spool" put -q --type number --agent a
ids=$("$spool" cat -o json | python3 -c 'import json, sys
for line in sys.stdin: print(json.loads(line)["id"])')

count() { "$spool" cat "$@" | wc -l; }
is "all" 30 "$(count)"
is "--type" 1 "$(count --type log.error)"
is "--type with a prefix" 2 "$(count --type 'log.*')"
is "--agent" 29 "$(count --agent a)"
is "--session" 1 "$(count --session s2)"
is "-n" 4 "$(count -n 4)"
is "-n 0" 0 "$(count -n 0)"
is "-n4" 4 "$(count -n4)"
is "--since ago" 30 "$(count --since 1h)"
is "--since now" 0 "$(count --since now)"
is "--since in days ago" 30 "$(count --since '7d ago')"
is "--until ago" 0 "$(count --until 1h)"
is "--until a date" 0 "$(count --until 2020-01-01)"
is "--since a time" 30 "$(count --since 2020-01-01T00:00:00.5+02:00)"
is "an empty answer is done" 0 "$("$spool" cat --type nothing >/dev/null; echo $?)"
is "order" "$(echo "$ids" | sort)" "$ids"

is "tail" 10 "$("$spool" tail | wc -l)"
is "tail -n" "$(seq 28 30)" "$("$spool" tail -n 3 -o json | python3 -c 'import json, sys
for line in sys.stdin: print(json.loads(line)["data"])')"
is "tail -n of more than there are" 30 "$("$spool" tail -n 100 | wc -l)"
is "tail --type" 1 "$("$spool" tail --type log.error | wc -l)"
is "tail -n 0" 0 "$("$spool" tail -n 0 | wc -l)"

# For people: a line each, whatever the body holds; nothing reaches the terminal as a command.
status 0 "$spool" cat -o text
is "lines" 30 "$(wc -l <"$work/out")"
prints "log.error"
printf '\033[31mred\033[0m\tx' | "$spool" put -q --type nasty
status 0 "$spool" tail -n 1 -o text
prints "?[31mred?[0m x"
is "escapes" 0 "$(grep -c $'\033' "$work/out")"

# Following.
"$spool" tail -f -n 0 -o json >"$work/followed" &
children="$children $!"
comes() { "$spool" put -q --type followed 1 && grep -q followed "$work/followed"; } # what came before it began is not shown
eventually comes && pass || fail "tail -f does not show what comes"
is "what was there before" 0 "$(grep -vc followed "$work/followed")"
kill "${children##* }"

# One event.
first=${ids%%$'\n'*}
status 0 "$spool" show "$first"
prints "$first"
prints '"n": 1'
status 0 "$spool" show "$first" -o json
is "show -o json" 1 "$(json '["data"]["n"]' <"$work/out")"
status 3 "$spool" show 01890a5d-ac96-774b-bcce-b302099a8057
status 0 "$spool" show "$(echo "$first" | tr a-f A-F)"
finish
