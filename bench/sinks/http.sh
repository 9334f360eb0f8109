#!/bin/sh
# http.sh - the http sink and plain libcurl, both against an nginx that answers 204: an event a request, 16 at once; and JSON
# Lines, 1024 events a request.
. "$(dirname "$0")/common.inc"
. "$(dirname "$0")/nginx.inc"
start_nginx 'return 204;'

FEW=$((EVENTS / 4))
one_ours() { "$DRIVE" http "{\"url\":\"$url\",\"concurrency\":16}" "$FEW" "$BYTES"; }
one_raw() { "${RAW}_http" "$url" structured "$FEW" "$BYTES" 16 1; }
many_ours() { "$DRIVE" http "{\"url\":\"$url\",\"format\":\"ndjson\",\"request_bytes\":\"4MiB\"}" "$EVENTS" "$BYTES" 1024; }
many_raw() { "${RAW}_http" "$url" ndjson "$EVENTS" "$BYTES" 1 1024; }
in_turns http-structured-16 one_ours one_raw
in_turns http-ndjson many_ours many_raw
