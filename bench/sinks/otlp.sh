#!/bin/sh
# otlp.sh - log records, bodies and all, 1024 a request, by the sink and by libcurl alone. nginx stands in for the collector: it
# reads each request and answers 200 with an empty ExportLogsServiceResponse, so that what is measured is the sender.
. "$(dirname "$0")/common.inc"
. "$(dirname "$0")/nginx.inc"
start_nginx 'default_type application/x-protobuf; return 200 "";'

ours() { "$DRIVE" otlp "{\"endpoint\":\"$url\",\"content\":\"on\"}" "$EVENTS" "$BYTES" 1024; }
raw() { "${RAW}_otlp" "${url}v1/logs" "$EVENTS" "$BYTES" 1024; }
in_turns otlp,1024-a-request ours raw
