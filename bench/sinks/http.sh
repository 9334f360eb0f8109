#!/bin/sh
# The http sink and plain libcurl, both against an nginx that answers 204: an event a request, 16 at once; and JSON Lines,
# 1024 events a request.
. "$(dirname "$0")/common.inc"
NGINX=$(command -v nginx || echo /usr/sbin/nginx)
[ -x "$NGINX" ] || { echo "http: nginx is missing" >&2; exit 0; }

PORT=${PORT:-18471}
cat > "$work/nginx.conf" <<CONF
$([ "$(id -u)" != 0 ] || echo 'user root;')
pid $work/pid; error_log $work/error.log; worker_processes 1; daemon on;
events { worker_connections 128; }
http {
  access_log off; client_max_body_size 64m; client_body_buffer_size 4m; keepalive_requests 1000000000;
  client_body_temp_path $work/b; proxy_temp_path $work/p; fastcgi_temp_path $work/f; uwsgi_temp_path $work/u; scgi_temp_path $work/s;
  server { listen 127.0.0.1:$PORT; location / { return 204; } }
}
CONF
"$NGINX" -p "$work" -e "$work/error.log" -c "$work/nginx.conf"
trap 'kill "$(cat "$work/pid")"; rm -rf "$work"' EXIT
url=http://127.0.0.1:$PORT/

FEW=$((EVENTS / 4))
one_ours() { "$DRIVE" http "{\"url\":\"$url\",\"concurrency\":16}" "$FEW" "$BYTES"; }
one_raw() { "${RAW}_http" "$url" structured "$FEW" "$BYTES" 16 1; }
many_ours() { "$DRIVE" http "{\"url\":\"$url\",\"format\":\"ndjson\",\"request_bytes\":\"4MiB\"}" "$EVENTS" "$BYTES" 1024; }
many_raw() { "${RAW}_http" "$url" ndjson "$EVENTS" "$BYTES" 1 1024; }
in_turns http-structured-16 one_ours one_raw
in_turns http-ndjson many_ours many_raw
