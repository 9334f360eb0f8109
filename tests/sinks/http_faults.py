#!/usr/bin/env python3
"""The http sink against servers that break the protocol, hang, or die: every event arrives, none is rejected for what the
server did, memory stays bounded, and cancel ends a deliver in every stage. SEED repeats the faults; EVENTS is how many go
through the server that is stopped and started (100000)."""
import os
import pathlib
import random
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness
from http_server import OK, Server, Unsteady, reset, send, slowly
from sink_site import SinkSite

EVENTS = int(os.environ.get("EVENTS", 100000))


def endless(connection):
    """A body without an end, until the sink has had enough."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        connection.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")


# What each does once, before the server behaves. Those that answer 200 in full but oddly count as delivered.
FAULTS = {
    "closes without a word": send(),
    "resets": send(then=reset),
    "half a status line": send(b"HTTP/1.1 2"),
    "half of the headers": send(OK + b"Content-Le"),
    "a body that is cut": send(OK + b"Content-Length: 100\r\n\r\nabc"),
    "a body that is reset": send(OK + b"Content-Length: 100\r\n\r\nabc", pause=0.05, then=reset),
    "chunks that are cut": send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"),
    "chunks with a length that is none": send(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nab\r\n0\r\n\r\n"),
    "a length that is none": send(OK + b"Content-Length: many\r\n\r\n"),
    "a length below zero": send(OK + b"Content-Length: -5\r\n\r\n"),
    "two lengths": send(OK + b"Content-Length: 5\r\nContent-Length: 7\r\n\r\nabc"),
    "garbage": send(bytes(random.Random(7).randrange(256) for _ in range(5000))),
    "a letter": send(b"220 mail.example ESMTP\r\n"),
    "a status that is none": send(b"HTTP/1.1 abc Hello\r\n\r\n"),
    "status 0": send(b"HTTP/1.1 000 Nothing\r\nContent-Length: 0\r\n\r\n"),
    "status 999": send(b"HTTP/1.1 999 Hello\r\nContent-Length: 0\r\n\r\n"),
    "only 100": send(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "a header of a megabyte": send(OK + b"X: " + b"y" * (1 << 20)),
    "TLS where none is spoken": send(b"\x15\x03\x01\x00\x02\x02\x28"),
}
FINE = {
    "a body without an end": endless,
    "100 before 200": send(b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"),
    "103 before 200": send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK + b"Content-Length: 0\r\n\r\n"),
    "byte by byte": send(*[bytes([b]) for b in OK + b"Content-Length: 3\r\n\r\nabc"], pause=0.002),
    "a body until the end": send(OK + b"\r\nsome text"),
    "HTTP/1.0": send(b"HTTP/1.0 200 OK\r\n\r\n"),
    "bytes too many": send(OK + b"Content-Length: 2\r\n\r\nab and more"),
}


def faults(checks):
    """One misbehaviour after the other, each on one request of its own."""
    acts = list(FAULTS.items()) + list(FINE.items())
    sent = []

    def handler(request):
        if len(sent) >= len(acts):
            return 200
        sent.append(request.ids())
        return acts[len(sent) - 1][1]
    server = Server(handler)
    site = SinkSite(checks, "faults", "http", {"url": server.url, "format": "ndjson", "response_bytes": "16KiB"},
                    batch_events=4, retry={"base": "1ms", "cap": "5ms", "max_attempts": 1})
    ids = site.put_numbers(400)
    checks.check(site.deliver(), "faults: all are heard of", site.said()[-1000:])
    checks.check(len(sent) == len(acts) and not site.dead(), "faults: each was met, and no event is rejected",
                 site.dead())
    for (name, _), before, after in zip(acts, sent, sent[1:] + [None]):
        if after is not None:
            checks.check((before[0] == after[0]) == (name in FAULTS),
                         f"{name}: {'sent again' if name in FAULTS else 'delivered'}")
    there = {i for request in server.requests for i in request.ids()}
    checks.check(there == set(ids), "faults: every event was sent")


def same_key(checks):
    """A request whose answer was lost comes again under the same key."""
    lost = iter([send(), send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")])
    server = Server(lambda request: next(lost, 200))
    site = SinkSite(checks, "same-key", "http", {"url": server.url, "format": "batch"}, batch_events=10)
    site.put_numbers(10)
    checks.check(site.deliver(), "same key: delivered", site.said())
    keys = {request.headers["idempotency-key"] for request in server.requests}
    bodies = {request.raw for request in server.requests}
    checks.check(len(server.requests) == 3 and len(keys) == 1 and len(bodies) == 1,
                 "same key: thrice the same request", keys)


def hangs(checks):
    """A server that never answers is given up at the sink's timeout, and asked again."""
    hung = iter([lambda connection: time.sleep(60)] * 2)
    server = Server(lambda request: next(hung, 200))
    site = SinkSite(checks, "hangs", "http", {"url": server.url}, timeout="300ms", workers=2)
    ids = site.put_numbers(20)
    checks.check(site.deliver(), "hangs: all arrive", site.said())
    checks.check({i for r in server.requests for i in r.ids()} == set(ids) and not site.dead(),
                 "hangs: nothing is rejected")


def too_slow(checks):
    """request_timeout gives up one request, and sends it again; the deliver goes on."""
    hung = iter([lambda connection: time.sleep(60)] * 2)
    server = Server(lambda request: next(hung, 200))
    site = SinkSite(checks, "too-slow", "http", {"url": server.url, "request_timeout": "300ms"}, timeout="10m")
    ids = site.put_numbers(20)
    checks.check(site.deliver(), "too slow: all arrive", site.said())
    checks.check({i for r in server.requests for i in r.ids()} == set(ids), "too slow: nothing is lost")


def memory(checks):
    """Answers without an end cost no memory."""
    server = Server(lambda request: endless if len(server.requests) <= 40 else 200)
    site = SinkSite(checks, "memory", "http", {"url": server.url, "format": "ndjson", "response_bytes": "1MiB"},
                    batch_events=5)
    site.put_numbers(300)
    site.run()
    checks.check(site.drained(), "memory: all are heard of", site.said()[-500:])
    used = harness.rss_anonymous(site.child.pid)
    site.stop()
    checks.check(len(server.requests) >= 60 and 0 < used < 96 << 20, "memory: bounded", f"{used} bytes")
    for coding in ("none", "gzip", "zstd"):
        large = sink_harness.Site(checks, f"large-{coding}", "http", {"url": Server(lambda request: 200).url, "format": "ndjson",
                                                                      "compression": coding, "request_bytes": "4MiB"},
                                  {"batch_events": 4096, "batch_bytes": "4MiB"})
        sink_harness.bounded(checks, large, large.is_empty)


def nobody(checks):
    """Nobody listens, or the name is unknown: the message says so."""
    for url, word in (("http://127.0.0.1:1/x", "127.0.0.1:1"), ("http://no-such-host.invalid/x", "resolve")):
        site = SinkSite(checks, word, "http", {"url": url + "?key=hidden"})
        site.put_numbers(1)
        site.run()
        checks.check(site.says(word) and "hidden" not in site.said(), f"{url}: the operator hears of it", site.said())
        site.stop()


# ------------------------------------------------------------------------------------------------------------- cancel

def cancel(checks):
    """In each stage: looking up the name, connecting, TLS, sending, waiting, reading."""
    sink_harness.cancelled_in_look_up(checks, "http", {"url": "http://far.example/"})
    sink_harness.cancelled_in_connect(checks, "http", lambda port: {"url": f"http://127.0.0.1:{port}/"})
    silent = Server(lambda request: lambda connection: time.sleep(30))
    sink_harness.cancelled_soon(checks, "waiting for an answer", "http", {"url": silent.url})
    sink_harness.cancelled_in_handshake(checks, "http", lambda port: {"url": f"https://127.0.0.1:{port}/"})
    slow = Server(slowly)
    sink_harness.cancelled_alone(checks, "reading an answer", "http", {"url": slow.url})
    sink_harness.cancelled_alone(checks, "before deliver", "http", {"url": silent.url}, after_ms=0)


def stop_while_hung(checks):
    """`spool run` ends in time although the server hangs."""
    silent = Server(lambda request: lambda connection: time.sleep(60))
    site = SinkSite(checks, "stop", "http", {"url": silent.url, "concurrency": 4})
    site.put_numbers(10)
    site.run()
    harness.wait_until(lambda: silent.requests)
    begin = time.monotonic()
    status = site.stop()
    checks.check(status == 0 and time.monotonic() - begin < 30, "stop: in time, and well", f"{status}: {site.said()}")


# ---------------------------------------------------------------------------------------------- many events, hard times

def restarted(checks):
    """EVENTS events through a server that is stopped and started at random: an exact account by id."""
    unsteady = Unsteady(checks.seed)
    site = SinkSite(checks, "restarted", "http",
                    {"url": unsteady.server.url, "format": "ndjson", "compression": "gzip"},
                    workers=2, batch_events=200, retry={"base": "5ms", "cap": "50ms"})
    ids = site.put_numbers(EVENTS)
    stop = threading.Event()
    breaker = threading.Thread(target=unsteady.live, args=(stop,))
    breaker.start()
    site.run()
    harness.wait_until(lambda: len(unsteady.taken) > EVENTS * 9 // 10, 120)
    stop.set()
    breaker.join()
    checks.check(site.drained(120), "restarted: all are delivered", site.said()[-500:])
    far, status = site.far(), site.stop()
    missing, strange = set(ids) - set(unsteady.taken), set(unsteady.taken) - set(ids)
    print(f"    {len(ids)} events, {unsteady.server.connections} connections, {unsteady.repeated} came again")
    checks.check(not missing and not strange and status == 0,
                 "restarted: every event, and by id exactly once", f"{len(missing)} missing, {len(strange)} strange")
    checks.check(unsteady.repeated > 0 and unsteady.server.connections > EVENTS // 10000,
                 "restarted: it was broken off indeed")
    checks.check(not site.dead() and far.get("delivered_events") == EVENTS, "restarted: the spool's account agrees",
                 far)


# ------------------------------------------------------------------------------------------------------------- memory

def valgrind(checks):
    """No leak and no error, through faults, cancels, secrets, compression and concurrency."""
    acts = list(FAULTS.values()) + [422, 500, (429, {"Retry-After": "0"}), lambda connection: time.sleep(5)]
    left = iter(acts)
    server = Server(lambda request: next(left, 200))
    log = checks.dir("valgrind.log")
    site = SinkSite(checks, "valgrind", "http", {
        "url": server.url, "format": "batch", "compression": "zstd", "compress_min": 10, "concurrency": 2,
        "bearer": {"env": "FAR_TOKEN"}}, batch_events=4, timeout="2s", retry={"base": "1ms", "cap": "5ms"})
    site.put_numbers(200)
    site.run("valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite,indirect",
             f"--log-file={log}", FAR_TOKEN="x")
    good = site.drained(120)
    status = site.stop(120)
    checks.check(good and status == 0, "valgrind: nothing to say",
                 f"{status}: {log.read_text()[:3000]} {site.said()[-500:]}")


TESTS = [faults, same_key, hangs, too_slow, memory, nobody, cancel, stop_while_hung, restarted, valgrind]

if __name__ == "__main__":
    only = sys.argv[1:]
    sink_harness.need("http")
    harness.main("http_faults", [test for test in TESTS if not only or test.__name__ in only])
