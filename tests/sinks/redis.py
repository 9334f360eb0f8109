#!/usr/bin/env python3
"""Redis: what stands in the stream, each event once while the server and the deliverer are killed, and what it does with a
server that keeps nothing, is full, hangs, or shows the wrong certificate. EVENTS: 100000; SEED."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness

EVENTS = int(os.environ.get("EVENTS", 100000))
PASSWORD = "open-sesame-7193"


class Redis:
    """A server of its own; `words` are further settings."""

    def __init__(self, checks, name="redis", *words, durable=True):
        self.checks, self.home, self.port = checks, checks.dir(name), harness.free_port()
        self.home.mkdir()
        log = ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
        self.server = sink_harness.Server(
            checks, ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--dir", self.home, "--save", "", "--unixsocket",
                     self.home / "socket", *log, *words], self.answers, checks.dir(name + ".log"))
        self.start()

    def cli(self, *words, **keywords):
        done = harness.run("redis-cli", "-s", self.home / "socket", *words, **keywords)
        return done.stdout.strip()

    def answers(self):
        return self.cli("PING") in ("PONG", "NOAUTH Authentication required.")

    def start(self):
        return self.server.start()

    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def entries(self, stream, take=False):
        """The entries as dicts of their fields; with `take` they are gone then."""
        read = "local r = {} for _, e in ipairs(redis.call('XRANGE', KEYS[1], '-', '+')) do r[#r + 1] = cjson.encode(e[2]) end " \
               + ("redis.call('XTRIM', KEYS[1], 'MAXLEN', 0) " if take else "") + "return r"
        rows = [json.loads(line) for line in self.cli("--raw", "EVAL", read, 1, stream).splitlines() if line]
        return [dict(zip(row[::2], row[1::2])) for row in rows]

    def ids(self, stream):
        return [entry["id"] for entry in self.entries(stream)]

    def end(self):
        self.server.stop()


def site(checks, name, options=None, **keys):
    return sink_harness.Site(checks, name, "redis", {"url": server.url(), "stream": name, **keys}, options)


def keeps_everything(checks):
    one = site(checks, "everything")
    full = {"type": "t\u00fcp", "agent": "a'\"\\", "session": "s", "priority": "critical", "tags": ["x", "\u20ac\"{},"],
            "content_type": "application/cloudevents+json", "ttl_ms": 3600000, "data": {"big": "x" * 1000000, "nul": "\0"}}
    binary = {"type": "b", "content_type": "application/octet-stream", "data_base64": "AP8K"}
    given = one.put_events([full, binary])
    one.drains("an event with everything")
    got = server.entries("everything")
    checks.check([entry["id"] for entry in got] == given and [entry["type"] for entry in got] == [full["type"], "b"],
                 "id and type are fields", str([list(entry) for entry in got]))
    events = [json.loads(entry["event"]) for entry in got]
    checks.check(all(events[0][key] == value for key, value in full.items()), "the event is native JSON")
    checks.check(events[1]["data_base64"] == "AP8K", "a body that is no text")


def each_once_after_kills(checks):
    """The server and the deliverer are killed and stopped, while events of all priorities flow and a consumer deletes."""
    one = site(checks, "kills", {"batch_events": 512})
    producer = one.producer(EVENTS, "--rate", sink_harness.rate(EVENTS))
    runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kills, counts, taken = 0, [], []
    while (producer.poll() is None or kills < 5) and kills < 12:
        sink_harness.flows(lambda: int(server.cli("XLEN", "kills")), lambda: producer.poll() is not None and one.is_empty())
        time.sleep(0.5 * checks.random.random())
        server.server.stop((signal.SIGKILL, signal.SIGTERM)[kills % 4 == 3])
        if kills % 3 == 1:
            runner.kill()
            runner.wait()
            runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.2 * checks.random.random())
        server.start()
        counts.append(int(server.cli("XLEN", "kills")))
        if kills == 4:  # a consumer that takes what is there away; what was taken must not come again
            taken = [entry["id"] for entry in server.entries("kills", take=True)]
        kills += 1
    status, _, errors = harness.wait(producer, 120)
    checks.check(status == 0, "the producer ends well", errors)
    runner.send_signal(signal.SIGTERM)
    checks.check(runner.wait(60) == 0, "the deliverer ends well")
    checks.check(sum(a != b for a, b in zip(counts, counts[1:])) >= 2, f"events flow between the {kills} kills", str(counts))
    one.drains("after the kills")
    wanted = one.acknowledged()
    checks.check(len(wanted) == EVENTS, f"{EVENTS} events are acknowledged", str(len(wanted)))
    left = server.entries("kills")
    sink_harness.account(checks, "after the kills", wanted, taken + [entry["id"] for entry in left])
    bad = sum(not harness.body_is_good(json.loads(entry["event"])["data"]) for entry in left)
    checks.check(bad == 0, "every body is as it was enqueued", f"{bad} are not")
    journal = [int(server.cli("LLEN", "{kills}:spool:journal")), int(server.cli("MEMORY", "USAGE", "{kills}:spool:journal"))]
    checks.check(0 < journal[0] <= 64 + 1024 and journal[1] < 2 << 20, "the journal is bounded", str(journal))


def each_once_however_late_it_is_stored(checks):
    """A crash when 300 batches were delivered and the spool, whose disk hung, had stored nothing of them."""
    plugin = harness.BUILD / "sinks" / "libspool-sink-redis.so"
    done = harness.run(harness.program("again"), plugin, json.dumps({"url": server.url(), "stream": "late"}), 300)
    there = server.ids("late")
    checks.check(harness.last_json(done.stdout) == {"first": 300, "again": 300}, "both times all are taken", done.stderr)
    checks.check(len(there) == len(set(there)) == 300, "and each is there once", str(len(there)))


def several_at_once(checks):
    """Several workers, two deliverers, and the same events from two spools."""
    one = site(checks, "several", {"workers": 3, "batch_events": 100})
    two = site(checks, "several-two", {"batch_events": 70}, stream="several")
    first = one.put_events([{"type": "t", "data": i} for i in range(3000)])
    again = [{"type": "t", "data": i, "id": id_} for i, id_ in enumerate(first[-1000:])]
    more = two.put_events(again + [{"type": "t", "data": i} for i in range(2000)])
    one.drains("the first time")
    runner = two.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    more += one.put_events([{"type": "t", "data": i} for i in range(2000)])
    one.drains("beside another deliverer")
    two_done = harness.wait_until(lambda: len(set(server.ids("several"))) == len(set(first) | set(more)))
    runner.send_signal(signal.SIGTERM)
    checks.check(runner.wait(60) == 0 and two_done, "both end well")
    sink_harness.account(checks, "several at once", set(first) | set(more), server.ids("several"))


def trims(checks):
    one = site(checks, "trims", maxlen=500)
    one.produce(5000)
    one.drains("into a stream with a limit")
    length = int(server.cli("XLEN", "trims"))
    checks.check(500 <= length < 1000, "the stream has about its limit", str(length))


def servers_that_lose(checks):
    global weak
    weak = Redis(checks, "weak", durable=False)
    one = site(checks, "weak-one", url=weak.url())
    one.put("{}")
    one.is_down("without a log", "may lose what it acknowledges: set its appendonly")
    any_ = site(checks, "weak-any", url=weak.url(), durability="any")
    any_.put("{}")
    any_.drains("when that is accepted")
    weak.cli("CONFIG", "SET", "maxmemory", "1mb")
    any_.put("{}")
    any_.is_down("full", "OOM")
    weak.cli("CONFIG", "SET", "maxmemory", "0")
    any_.drains("with room again")
    weak.cli("FLUSHALL")
    any_.put("{}")
    any_.drains("after everything was deleted")
    checks.check(len(weak.ids("weak-any")) == 1, "new events come")
    weak.cli("SCRIPT", "FLUSH")
    runner = any_.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    any_.put("{}")
    checks.check(harness.wait_until(lambda: len(weak.ids("weak-any")) == 2), "and without the script")
    weak.cli("SCRIPT", "FLUSH")
    any_.put("{}")
    checks.check(harness.wait_until(lambda: len(weak.ids("weak-any")) == 3), "also when it is lost on the way")
    runner.send_signal(signal.SIGTERM)
    runner.wait(60)
    weak.cli("SET", "wrong", "text")
    wrong = site(checks, "wrong", url=weak.url(), durability="any")
    wrong.put("{}")
    wrong.is_down("a key of another type", "WRONGTYPE")
    weak.cli("DEL", "wrong")
    wrong.resume()
    wrong.drains("when the key is free")
    checks.check(len(weak.ids("wrong")) == 1, "the event is there, once")
    replicas = site(checks, "replicas", url=weak.url(), durability="any", replicas=1, replicas_timeout="100ms")
    replicas.put("{}")
    replicas.is_down("without a replica", "0 of 1 replicas")
    replica = Redis(checks, "replica", "--replicaof", "127.0.0.1", str(weak.port), durable=False)
    replicas.drains("with a replica")
    checks.check(len(weak.ids("replicas")) == 1 and len(replica.ids("replicas")) == 1, "once on both")
    replica.end()
    weak.end()


def secrets_and_certificates(checks):
    key, cert = checks.dir("server.key"), checks.dir("server.crt")
    harness.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    port = harness.free_port()
    safe = Redis(checks, "safe", "--tls-port", str(port), "--tls-cert-file", str(cert), "--tls-key-file", str(key),
                 "--tls-auth-clients", "no", "--requirepass", PASSWORD)
    file = checks.dir("password")
    file.write_text("wrong-secret-55\n")
    file.chmod(0o600)
    one = site(checks, "careful", url=safe.url(), password={"file": str(file)})
    one.put("{}")
    one.is_down("with a wrong password", "WRONGPASS")
    sink_harness.says_nothing_secret(one, "a wrong password", "wrong-secret-55", one.said)
    file.write_text(PASSWORD + "\n")
    one.resume()
    one.drains("with the right password")
    sink_harness.says_nothing_secret(one, "a password", PASSWORD)
    for name, more, words in (("unknown", {}, "certificate is not trusted"), ("address", {"ca": str(cert)}, "not trusted.*mismatch")):
        host = "127.0.0.1" if name == "address" else "localhost"
        tls = site(checks, "tls-" + name, url=f"rediss://{host}:{port}", password={"file": str(file)}, **more)
        tls.put("{}")
        tls.is_down(f"TLS, {name}", words)
    tls = site(checks, "tls", url=f"rediss://localhost:{port}", password={"file": str(file)}, ca=str(cert))
    wanted = tls.produce(3000)
    tls.drains("by TLS")
    got = safe.cli("--no-auth-warning", "-a", PASSWORD, "XLEN", "tls")
    checks.check(got == "3000", "and all is there", got)
    safe.end()


def cancelled_at_any_moment(checks):
    keys = {"url": server.url(), "stream": "cancelled"}
    server.server.process.send_signal(signal.SIGSTOP)
    sink_harness.cancelled_soon(checks, "a server that stands still", "redis", keys)
    server.server.process.send_signal(signal.SIGCONT)
    sink_harness.cancelled_in_connect(checks, "redis", lambda port: {**keys, "url": f"redis://127.0.0.1:{port}"})
    names = {"url": "redis://no.such.host.example"}
    sink_harness.cancelled_in_look_up(checks, "redis", names)
    slow = site(checks, "slow", env=sink_harness.slow_names(checks), connect_timeout="300ms", **names)
    slow.put("{}")
    slow.is_down("a name server that is silent", "no name server answers")
    server.cli("CLIENT", "PAUSE", "1500", "WRITE")
    sink_harness.cancelled_soon(checks, "a server that makes clients wait", "redis", keys)


def needs_no_more_than_it_should(checks):
    one = site(checks, "valgrind")
    one.produce(300)
    sink_harness.leaks(one, "a delivery")
    checks.check(len(server.ids("valgrind")) == 300, "and all is delivered")
    large = site(checks, "memory", {"batch_events": 4096, "batch_bytes": "4MiB"})
    sink_harness.bounded(checks, large, lambda: server.cli("XLEN", "memory") == "20000")


def as_documented(checks):
    sink_harness.manual_example(checks, "redis", **{"unix:///run/redis/redis.sock": f"unix://{server.home}/socket",
                                                    "redis-cli": f"redis-cli -s {server.home}/socket"})
    one = site(checks, "words")
    for words, problem in ((["url=http://x"], "must begin with"), (["url=redis://"], "names no host"), ([], "url"),
                           (["url=redis://x:99999999"], "port"), (["url=redis://[::1"], "]"), (["url=redis://x/y"], "database"),
                           (["url=redis://u:secretword@x"], "must not hold a password"), (["url=unix:///x", "password=abc"], "password"),
                           (["url=unix:///x", "durability=some"], "durability")):
        done = harness.run(harness.SPOOL, "-C", one.spool, "sink", "add", "bad", "redis", *words)
        checks.check(done.returncode != 0 and problem in done.stderr and "secretword" not in done.stderr,
                     f"{' '.join(words)} is refused", done.stderr)


def with_a_server(checks):
    global server
    server = Redis(checks)
    sink_harness.with_server(checks, server, [
        keeps_everything, each_once_after_kills, each_once_however_late_it_is_stored, several_at_once, trims, servers_that_lose, secrets_and_certificates,
        cancelled_at_any_moment, needs_no_more_than_it_should, as_documented])


if __name__ == "__main__":
    sink_harness.main("redis", [with_a_server])
