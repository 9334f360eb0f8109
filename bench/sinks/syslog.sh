#!/bin/sh
# syslog.sh - the sink and a program with sockets alone, both to rsyslog over TCP, which writes a file. The sink confirms each
# batch by a connection of its own; once the raw program does the same, and once it has one connection for everything.
. "$(dirname "$0")/common.inc"
RSYSLOG=$(command -v rsyslogd || echo /usr/sbin/rsyslogd)
[ -x "$RSYSLOG" ] || { echo "syslog: rsyslogd is missing" >&2; exit 0; }

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat > "$work/conf" <<CONF
global(workDirectory="$work" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off")
main_queue(queue.type="Direct")
module(load="imtcp")
input(type="imtcp" address="127.0.0.1" port="$port")
template(name="all" type="string"
         string="%pri%\\t%timereported:::date-rfc3339%\\t%app-name%\\t%msgid%\\t%structured-data%\\t%msg%\\n")
action(type="omfile" file="$work/out" template="all" asyncWriting="off" flushOnTXEnd="on" queue.type="Direct")
CONF
"$RSYSLOG" -n -f "$work/conf" -i "$work/pid" > "$work/log" 2>&1 &
server=$!
trap 'kill $server; wait $server || true; rm -rf "$work"' EXIT
until python3 -c "import socket; socket.create_connection(('127.0.0.1', $port))" 2> /dev/null; do sleep 0.1; done

# All of a run's messages are there, or the figure says nothing.
arrived() {
    lines=$(wc -l < "$work/out")
    : > "$work/out"
    [ "$lines" -eq "$EVENTS" ] || { echo "syslog: $lines of $EVENTS messages are there" >&2; exit 1; }
}
ours() { "$DRIVE" syslog "{\"host\":\"127.0.0.1\",\"port\":$port}" "$EVENTS" "$BYTES" "$batch"; arrived; }
raw() { "${RAW}_syslog" "$port" "$EVENTS" "$BYTES" "$batch"; arrived; }
stream() { "${RAW}_syslog" "$port" "$EVENTS" "$BYTES" 0; arrived; }

for batch in 1024 8192; do
    in_turns "syslog,$batch-a-connection" ours raw
done
in_turns "syslog,beside-one-stream" ours stream
