#!/bin/bash
# Help texts, wrong usage, exit statuses 2 and 3.
. "$(dirname "$0")/common.inc"

status 0 "$spool" --version
prints "spool "
status 0 "$spool" version
status 0 "$spool" help
for verb in put run drain status cat tail show sinks "sink add" "sink remove" "sink pause" "sink resume" \
    "sink rewind" "sink set" "sink kinds" "sink test" "dlq list" "dlq show" "dlq stats" "dlq requeue" "dlq edit" "dlq purge" \
    "dlq export" "dlq import" clock "clock reset" metrics verify torture; do
    run "$spool" help
    prints "$verb"
    status 0 "$spool" help $verb
    prints "spool [-C DIR] $verb"
    cp "$work/out" "$work/help"
    status 0 "$spool" $verb --help
    is "help $verb and $verb --help" "$(cat "$work/help")" "$(cat "$work/out")"
done

status 2 "$spool"
says "which verb?"
status 2 "$spool" statsu
says "did you mean status?"
status 2 "$spool" sink ad
says "did you mean sink add?"
status 2 "$spool" sink rm name
says "add|remove|"
status 0 "$spool" version -o json
is "version -o json" "$("$spool" version | cut -d ' ' -f 2)" "$(json '["command"]' <"$work/out")"
status 2 "$spool" metrics -o json
says "status -o json"
status 2 "$spool" dlq
says "list|show|stats|requeue|edit|purge|export|import"
status 2 "$spool" frobnicate
says "unknown verb frobnicate"
status 2 "$spool" help frobnicate
status 2 "$spool" put --typ x body
says "did you mean --type?"
status 2 "$spool" put -Z body
says "unknown option -Z"
status 2 "$spool" put --type
says "--type needs a value"
status 2 "$spool" put --quiet=yes body
says "takes no value"
status 2 "$spool" put --priority urgent body
says "medium, critical, high, low"
status 2 "$spool" put two words
says "too many words"
status 2 "$spool" put --ttl soon body
says "duration"
status 2 "$spool" put --parent not-an-id body
status 2 "$spool" put --events --type x '{}'
status 2 "$spool" cat --since yesterday
says "2026-11-21T09:34:15Z"
status 2 "$spool" cat --since 2026-02-30
status 2 "$spool" cat --since 10
status 2 "$spool" cat --since 1h --until 2h
status 2 "$spool" cat -n -1
status 2 "$spool" show
status 2 "$spool" show not-an-id
status 2 "$spool" -o yaml status
says "json, text"
status 2 "$spool" dlq purge
says "--all"
status 2 "$spool" sink add name
status 2 "$spool" sink add name file path
says "KEY=VALUE"
SPOOL_DIR= status 2 "$spool" status
says "-C DIR"

# Nothing there: nothing is made by looking.
for verb in status cat tail sinks "dlq list" verify drain "sink pause x" "dlq purge --all" "show 01890a5d-ac96-774b-bcce-b302099a8057"; do
    status 3 "$spool" -C "$work/none" $verb
done
[ ! -e "$work/none" ] && pass || fail "looking made a directory"
mkdir "$work/foreign" && touch "$work/foreign/file"
status 1 "$spool" -C "$work/foreign" put x
is "files in a foreign directory" file "$(ls "$work/foreign")"

# What cannot be printed is reported.
"$spool" help >/dev/full 2>"$work/err"
is "exit status with a full disk behind stdout" 1 $?
says "standard output"
finish
