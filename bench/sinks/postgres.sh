#!/bin/sh
# postgres.sh - the table beside COPY into the same table by libpq alone, on a server of its own.
. "$(dirname "$0")/common.inc"

bin=$(ls -d /usr/lib/postgresql/*/bin | tail -1)
home=$(mktemp -d "${TMPDIR:-/tmp}/spool-bench-postgres-XXXXXX")
as=
[ "$(id -u)" != 0 ] || { as='setpriv --reuid=postgres --regid=postgres --clear-groups'; chown postgres: "$home"; }
$as "$bin/initdb" -D "$home/data" -U owner -A trust --no-instructions > /dev/null 2>&1
$as "$bin/postgres" -D "$home/data" -k "$home" -c listen_addresses= -c max_wal_size=4GB > "$home/log" 2>&1 &
server=$!
trap 'kill -QUIT $server; wait $server || true; rm -rf "$work" "$home"' EXIT
until "$bin/pg_isready" -q -h "$home"; do sleep 0.1; done

where="host=$home user=owner dbname=postgres"
sql() { "$bin/psql" -qX "$where" -c "$1"; }
ours() {
    sql 'SET client_min_messages = warning; DROP TABLE IF EXISTS events; CHECKPOINT'
    "$DRIVE" postgres "{\"conninfo\":\"$where\",\"create\":\"table\"}" "$EVENTS" "$BYTES" "$batch" "$workers"
}
raw() { sql 'TRUNCATE events; CHECKPOINT'; "${RAW}_postgres" "$where" events "$EVENTS" "$BYTES" "$batch"; }

workers=1
for batch in 1024 8192; do
    in_turns "postgres,$batch-a-copy" ours raw
done
workers=2
in_turns "postgres,$batch,2-workers" ours raw
