#!/usr/bin/env python3
"""Every plugin with each single call below it failing once, while it is opened, gets events and is closed: no memory, no
descriptors, sockets and files that fail (tests/programs/sink_faults.c says what is a violation). Every event that a sink said
it had delivered must be over there. SEED chooses which of very many calls fail; EVERY=100000: all of them."""
import importlib.util
import json
import os
import pathlib
import re
import sqlite3
import sys

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)  # instead of this folder, whose http.py is not Python's
import harness
import http_server
import sink_harness

OTLP_ID = re.compile(rb"libspool\.id\x12\x26\x0a\x24([0-9a-f-]{36})")
# Whose own allocations do not fail. jansson 2.14 writes beyond its buffer then, librdkafka ends the process, and libpq often
# waits for what will not come, until the delivery is cancelled.
SPARED = ["libjansson"]


def module(name):
    """The test of another kind, for its server."""
    spec = importlib.util.spec_from_file_location(f"sink_{name}", HERE / f"{name}.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def suffer(checks, what, kind, config, found, spared=()):
    """Runs the faults; `found()` are the ids over there."""
    plugin = harness.BUILD / "sinks" / f"libspool-sink-{kind}.so"
    if not plugin.exists():
        checks.skip(what, f"{plugin.name} was not built")
        return
    done = harness.run(harness.program("sink_faults"), plugin, json.dumps(config), *SPARED, *spared, timeout=600,
                       env={**os.environ, "SEED": str(checks.seed)})
    lines = done.stdout.splitlines()
    wrong = [line for line in lines if line.startswith("violation")]
    delivered = {line.split()[1] for line in lines if line.startswith("delivered")}
    faults = int(lines[-1].split()[1]) if lines and lines[-1].startswith("faults") else 0
    print(f"    {what}: {faults} faults, {len(delivered)} events")
    checks.check(done.returncode in (0, 1) and faults > 10 and not wrong, f"{what}: a fault is no more than a fault",
                 f"exit {done.returncode}, {faults} faults: {wrong[:8]} {done.stderr[-500:]}")
    there = set(found())
    checks.check(delivered and delivered <= there, f"{what}: what was delivered is there",
                 f"{len(delivered - there)} of {len(delivered)} are not, such as {sorted(delivered - there)[:3]}")


def sqlite(checks):
    path = checks.dir("archive.db")
    suffer(checks, "sqlite", "sqlite", {"path": str(path)},
           lambda: [row[0] for row in sqlite3.connect(path).execute("SELECT id FROM events")])


def exec_(checks):
    log = checks.dir("exec.log")
    command = ["/usr/bin/env", "python3", str(HERE / "lib" / "exec_child.py"), "good", str(log), str(checks.seed)]
    suffer(checks, "exec", "exec", {"command": command, "stderr": "null"}, lambda: log.read_text().split())


def http(checks):
    for form, more in (("structured", {}), ("ndjson", {"compression": "gzip", "compress_min": 0}),
                       ("batch", {"compression": "zstd", "compress_min": 0, "headers": {"x-a": "b"}})):
        server = http_server.Server(lambda request: 200)
        suffer(checks, f"http, {form}", "http", {"url": server.url, "format": form, **more},
               lambda: [name for request in server.requests for name in request.ids()])


def otlp(checks):
    for encoding in ("protobuf", "json"):
        server = http_server.Server(lambda request: 200)
        suffer(checks, f"otlp, {encoding}", "otlp",
               {"endpoint": f"http://127.0.0.1:{server.port}", "encoding": encoding, "signals": "both", "content": "on"},
               lambda: otlp_ids(server.requests, encoding))


def otlp_ids(requests, encoding):
    if encoding == "protobuf":
        return [name.decode() for request in requests for name in OTLP_ID.findall(request.body)]
    return [name for request in requests
            for name in re.findall(r'"libspool\.id","value":\{"stringValue":"([0-9a-f-]{36})"', request.body.decode())]


def syslog(checks):
    server = module("syslog").Rsyslog(checks, "rsyslog").start()
    for way, config in server.ways().items():
        suffer(checks, f"syslog, {way}", "syslog", config, server.ids)


def redis(checks):
    server = module("redis").Redis(checks)
    try:
        suffer(checks, "redis", "redis", {"url": server.url(), "stream": "faults"}, lambda: server.ids("faults"))
    finally:
        server.end()


def postgres(checks):
    server = module("postgres").Postgres(checks)
    try:
        suffer(checks, "postgres", "postgres", {"conninfo": server.conninfo(), "table": "faults", "create": "table"},
               lambda: server.query('SELECT id FROM "faults"'), spared=["libpq"])
    finally:
        server.end()


def nats(checks):
    server = module("nats").Nats(checks, "nats")
    try:
        suffer(checks, "nats", "nats", {"servers": server.url(), "stream": "faults", "subject": "faults.{type}",
                                        "create": True}, lambda: server.ids("faults"))
    finally:
        server.end()


def kafka(checks):
    for what, more in (("kafka", {}), ("kafka, transactions", {"transactional_id": "faults"})):
        mock = module("kafka").Mock(checks, "faults")
        suffer(checks, what, "kafka", {"servers": mock.servers, "topic": "faults", "tls": False, **more},
               lambda: [row[1] for row in mock.messages()], spared=["librdkafka"])
        mock.end()


TESTS = [sqlite, exec_, http, otlp, syslog, redis, postgres, nats, kafka]

if __name__ == "__main__":
    only = sys.argv[1:]
    harness.main("faults", [test for test in TESTS if not only or test.__name__ in only])
