#!/usr/bin/env python3
"""NATS JetStream: what stands in the stream, each event once while a server is killed and while the leader of a cluster of
three is, and what it does without a stream, with a wrong password or certificate, and with servers that hang.

EVENTS: 100000, of which the cluster gets a third again; LONG=1: a million for the cluster, whose leaders die until nine tenths are there; SEED."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path[0] = str(pathlib.Path(__file__).resolve().parent.parent)  # instead of this folder, whose http.py is not Python's
import urllib.request

import harness
import nats_client
import sink_harness
from nats_witness import Witness

EVENTS = int(os.environ.get("EVENTS", 100000))
LONG = os.environ.get("LONG")
CLUSTER_EVENTS = 1000000 if LONG else EVENTS // 3
PASSWORD = "open-sesame-7193"


class Nats:
    """A server of its own; `words` are further lines of its configuration."""

    def __init__(self, checks, name, words="", cluster="", start=True, api=True):
        self.checks, self.name, self.port, self.monitor = checks, name, harness.free_port(), harness.free_port()
        config = checks.dir(name + ".conf")
        config.write_text(f"server_name: {name}\nlisten: 127.0.0.1:{self.port}\nhttp: 127.0.0.1:{self.monitor}\n"
                          f"jetstream {{ store_dir: \"{checks.dir(name)}\", max_memory_store: 64MB, max_file_store: 4GB }}\n"
                          f"{cluster}\n{words}\n")
        self.server = sink_harness.Server(checks, ["nats-server", "-c", config], self.healthy, checks.dir(name + ".log"))
        if start:
            self.server.start()

    def healthy(self, path="healthz"):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/{path}", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def client(self):
        return nats_client.Client(self.port)

    def with_client(self, call):
        with self.client() as client:
            return call(client)

    def read(self, stream):
        return list(nats_client.read([self], stream))

    def ids(self, stream):
        return [row[1] for row in nats_client.read([self], stream)]

    def count(self, stream):
        try:
            return self.with_client(lambda client: client.info(stream)).get("state", {}).get("messages", 0)
        except (OSError, EOFError):
            return -1

    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def end(self):
        self.server.stop()


def site(checks, name, options=None, **keys):
    keys = {"servers": server.url(), "stream": name, "subject": name + ".{agent}.{type}", "create": True, **keys}
    return sink_harness.Site(checks, name, "nats", keys, options)


def keeps_everything(checks):
    one = site(checks, "everything")
    events = [{"type": "log.llm_call", "agent": "planner", "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
               "data": {"nul": "\0", "big": "x" * 300000}}, {"type": "a..b.", "agent": "a.b *>%c\u00e9"},
              {"type": ".", "content_type": "text/plain", "data_base64": "AP8="}]
    given = one.put_events(events)
    one.drains("events with strange names")
    got = server.read("everything")
    checks.check([row[1] for row in got] == given, "in order, with their ids", str([row[1] for row in got]))
    subjects = [row[0] for row in got]
    checks.check(subjects == ["everything.planner.log.llm_call", "everything.a%2Eb%20%2A%3E%25c\u00e9.a%2E%2Eb%2E", "everything.-.%2E"],
                 "what a subject must not hold is escaped", str(subjects))
    bodies = [json.loads(row[2]) for row in got]
    checks.check(bodies[0]["data"] == events[0]["data"] and bodies[2]["data_base64"] == "AP8=", "the payload is native JSON")
    info = server.with_client(lambda client: client.info("everything"))["config"]
    checks.check(info["subjects"] == ["everything.>"] and info["duplicate_window"] == 600 * 10**9 and info["num_replicas"] == 1,
                 "the stream is made as documented", str(info))


def each_once_after_kills(checks):
    one = site(checks, "kills", {"batch_events": 512}, ack_timeout="1s")
    producer = one.producer(EVENTS, "--rate", sink_harness.rate(EVENTS))
    runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kills, counts = 0, []
    while (producer.poll() is None or kills < 5) and kills < 12:
        sink_harness.flows(lambda: server.count("kills"), lambda: producer.poll() is not None and one.is_empty())
        time.sleep(0.5 * checks.random.random())
        server.server.stop((signal.SIGKILL, signal.SIGTERM)[kills % 4 == 3])
        if kills % 3 == 1:
            runner.kill()
            runner.wait()
            runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        server.server.start()
        counts.append(server.count("kills"))
        kills += 1
    status, _, errors = harness.wait(producer, 120)
    checks.check(status == 0, "the producer ends well", errors)
    runner.send_signal(signal.SIGTERM)
    checks.check(runner.wait(60) == 0, "the deliverer ends well")
    checks.check(sum(a < b for a, b in zip(counts, counts[1:])) >= 2, f"events flow between the {kills} kills", str(counts))
    one.drains("after the kills")
    wanted = one.acknowledged()
    checks.check(len(wanted) == EVENTS, f"{EVENTS} events are acknowledged", str(len(wanted)))
    got = server.read("kills")
    sink_harness.account(checks, "after the kills", wanted, [row[1] for row in got])
    bad = sum(not harness.body_is_good(json.loads(row[2])["data"]) for row in got)
    checks.check(bad == 0, "every body is as it was enqueued", f"{bad} are not")


class Cluster:
    """Three servers that know each other."""

    def __init__(self, checks):
        routes = [harness.free_port() for _ in range(3)]
        known = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
        self.nodes = [Nats(checks, f"n{i}", start=False, cluster=f"cluster {{ name: c, listen: 127.0.0.1:{route}, routes: [{known}] }}")
                      for i, route in enumerate(routes)]
        for node in self.nodes:
            node.server.launch()
        checks.check(harness.wait_until(lambda: all(node.healthy() for node in self.nodes)), "the cluster is up")
        self.witnesses = [Witness(checks, f"{node.name}.said", node.port) for node in self.nodes]

    def acknowledged(self):
        return set().union(*(witness.acknowledged() for witness in self.witnesses))

    def led_by(self, stream):
        """The node that leads it now, or None."""
        for node in self.nodes:
            try:
                name = node.with_client(lambda client: client.info(stream)).get("cluster", {}).get("leader")
            except (OSError, EOFError):
                continue
            if name:
                return next(other for other in self.nodes if other.name == name)
        return None

    def is_whole(self, stream):
        """All replicas have what the leader has, so that one of them is one too many when the leader dies."""
        try:
            replicas = self.leader(stream).with_client(lambda client: client.info(stream)).get("cluster", {}).get("replicas", [])
        except (OSError, EOFError):
            return False
        return len(replicas) == 2 and all(one.get("current") and not one.get("lag") for one in replicas)

    def leader(self, stream, timeout=60):
        found = []
        if not harness.wait_until(lambda: found.append(self.led_by(stream)) or found[-1], timeout):
            raise RuntimeError(f"nobody leads the stream {stream}")
        return found[-1]

    def start_anew(self):
        for node in self.nodes:
            node.server.stop()
        for node in self.nodes:
            node.server.launch()
        harness.wait_until(lambda: all(node.healthy() for node in self.nodes))

    def ids(self, stream):
        """What is in the stream. After such kills a server of 2.9 may wait for itself and give nothing: then all begin anew."""
        try:
            return [row[1] for row in nats_client.read(self.nodes, stream)]
        except EOFError as error:
            print(f"    {error}: the servers are started anew")
            self.start_anew()
            return [row[1] for row in nats_client.read(self.nodes, stream)]

    def end(self):
        for end in self.witnesses + self.nodes:
            end.end()


def leader_of_a_cluster_dies(checks):
    """Three servers, three replicas; again and again the leader of the stream is killed and comes back. On a busy machine
    nats-server 2.9 is left with replicas that differ: some of what it had acknowledged is not in the stream, or twice. So witnesses
    know what was acknowledged, which every event must be; and what it then loses is no more than a few."""
    cluster = Cluster(checks)
    one = site(checks, "cluster", {"batch_events": 512}, servers=[witness.url() for witness in cluster.witnesses], replicas=3,
               ack_timeout="1s")
    first = one.put("{}")
    one.drains("the first event", 60)
    producer = one.producer(CLUSTER_EVENTS, "--rate", sink_harness.rate(CLUSTER_EVENTS))
    runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    kills, counts, start = 0, [], time.monotonic()
    while kills < 3 or (LONG and counts[-1] < 0.9 * CLUSTER_EVENTS and kills < 40):  # a server takes seconds to come back
        harness.wait_until(lambda: cluster.is_whole("cluster"), 10)
        leader = cluster.leader("cluster")
        sink_harness.flows(lambda: leader.count("cluster"), lambda: producer.poll() is not None and one.is_empty())
        time.sleep(0.5 * checks.random.random())
        counts.append(leader.count("cluster"))
        leader.server.stop()
        time.sleep(0.5 * checks.random.random())
        leader.server.start(60)
        kills += 1
    status, _, errors = harness.wait(producer, 600)
    checks.check(status == 0, f"the producer ends well, the leader was killed {kills} times", f"{errors} {counts}")
    checks.check(sum(a < b for a, b in zip(counts, counts[1:])) >= min(2, kills // 2), "events flow between the kills", str(counts))
    runner.send_signal(signal.SIGTERM)
    checks.check(runner.wait(60) == 0, "the deliverer ends well")
    one.drains("after the kills", 300)
    took = time.monotonic() - start
    wanted, acknowledged = one.acknowledged() | {first}, cluster.acknowledged()
    checks.check(len(wanted) == CLUSTER_EVENTS + 1, f"{CLUSTER_EVENTS} events are enqueued", str(len(wanted)))
    checks.check(wanted == acknowledged, "the cluster has acknowledged each of them, and nothing else",
                 f"{len(wanted - acknowledged)} it has not, {len(acknowledged - wanted)} are strange")
    ids = cluster.ids("cluster")
    lost, twice = len(wanted - set(ids)), len(ids) - len(set(ids))
    checks.check(set(ids) <= wanted and lost + twice <= CLUSTER_EVENTS // 50, "they are in the stream, each once",
                 f"{lost} are not, {twice} are there twice, {len(set(ids) - wanted)} are strange")
    print(f"    {lost} that the cluster had acknowledged are not in its stream, {twice} are there twice")
    print(f"    {CLUSTER_EVENTS} events, {kills} leaders killed, {took:.0f} s, {len(ids)} messages in the stream")
    cluster.end()


def tells_events_apart(checks):
    one, two = site(checks, "apart"), site(checks, "apart-two", stream="apart", subject="apart.{agent}.{type}")
    first = one.put_events([{"type": "t", "data": i} for i in range(500)])
    one.drains("the first time")
    more = two.put_events([{"type": "t", "data": i, "id": id_} for i, id_ in enumerate(first)] + [{"type": "t"}] * 100)
    two.drains("again, among new ones")
    sink_harness.account(checks, "delivered twice", set(first) | set(more), server.ids("apart"))


def streams_that_are_not_right(checks):
    one = site(checks, "missing", create=False)
    one.put("{}")
    one.is_down("no stream", "there is no stream missing: make it")
    server.with_client(lambda client: client.ask("STREAM.CREATE.missing", {"name": "missing", "subjects": ["missing.>"],
                                                                           "max_msg_size": 1000}))
    one.put_events([{"type": "t", "data": "x" * (2000 if i % 10 == 5 else 20)} for i in range(100)])
    one.resume()
    one.drains("once the stream is there")
    letters = one.dead_letters()
    checks.check(server.count("missing") == 91 and len(letters) == 10, "what is too big for it are dead letters",
                 f"{server.count('missing')} {len(letters)}")
    checks.check(letters and "message size" in json.dumps(letters[0]), "with the reason", str(letters[:1]))
    wrong = site(checks, "wrong", subject="missing.{type}", create=False, stream="apart")
    wrong.put("{}")
    wrong.is_down("a subject of another stream", "another stream takes the subject")
    huge = site(checks, "huge")
    huge.put_events([{"type": "t", "data": "x" * 1100000}, {"type": "t"}])
    huge.drains("beside what no server takes")
    checks.check(server.count("huge") == 1 and len(huge.dead_letters()) == 1, "the other is there")


def secrets_and_certificates(checks):
    key, cert = checks.dir("server.key"), checks.dir("server.crt")
    harness.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    safe = Nats(checks, "safe", f"authorization {{ user: agent, password: \"{PASSWORD}\" }}\n"
                                f"tls {{ cert_file: \"{cert}\", key_file: \"{key}\" }}")
    file = checks.dir("password")
    file.write_text("wrong-secret-55\n")
    file.chmod(0o600)
    keys = {"user": "agent", "password": {"file": str(file)}, "ca": str(cert)}
    url = f"tls://localhost:{safe.port}"
    one = site(checks, "careful", servers=url, **keys)
    one.put("{}")
    one.is_down("with a wrong password", "(?i)authorization")
    sink_harness.says_nothing_secret(one, "a wrong password", "wrong-secret-55", one.said)
    file.write_text(PASSWORD + "\n")
    one.resume()
    one.drains("with the right password, by TLS")
    sink_harness.says_nothing_secret(one, "a password", PASSWORD)
    for name, more in (("unknown", {"ca": "/etc/ssl/certs/ca-certificates.crt"}), ("address", {"servers": f"tls://127.0.0.1:{safe.port}"})):
        tls = site(checks, "tls-" + name, **{"servers": url, **keys, **more})
        tls.put("{}")
        tls.is_down(f"TLS, {name}", "(?i)ssl|certificate")
    safe.end()


def cancelled_at_any_moment(checks):
    keys = {"servers": server.url(), "stream": "apart", "subject": "apart.{type}"}
    server.server.process.send_signal(signal.SIGSTOP)
    sink_harness.cancelled_soon(checks, "a server that stands still", "nats", keys)
    server.server.process.send_signal(signal.SIGCONT)
    sink_harness.cancelled_in_batch(checks, "nats", server.port, lambda port: {**keys, "servers": f"nats://127.0.0.1:{port}"})
    sink_harness.cancelled_in_connect(checks, "nats", lambda port: {**keys, "servers": f"nats://127.0.0.1:{port}"})
    sink_harness.cancelled_in_look_up(checks, "nats", {"servers": "nats://no.such.host.example:4222"})


def needs_no_more_than_it_should(checks):
    one = site(checks, "valgrind")
    one.produce(300)
    sink_harness.leaks(one, "a delivery")
    checks.check(server.count("valgrind") == 300, "and all is delivered")
    large = site(checks, "memory", {"batch_events": 4096, "batch_bytes": "4MiB"})
    sink_harness.bounded(checks, large, lambda: server.count("memory") == 20000)


def as_documented(checks):
    sink_harness.manual_example(checks, "nats", **{"nats://127.0.0.1:4222": server.url()})
    said = sink_harness.example(checks, "to_nats.sh", server.url())
    checks.check("2385 events acknowledged" in said and re.search("delivered 2385", said), "the walk-through delivers all", said)
    checks.check(server.count("AGENTS") >= 2385, "into the stream", str(server.count("AGENTS")))
    one = site(checks, "words")
    for words, problem in (([], "servers"), (["servers=http://x"], "nats://"), (["servers=nats://u:secretword@x"], "no user or password"),
                           (["servers=nats://x", "subject={agent}"], "constant"), (["servers=nats://x", "subject=a..b"], "empty"),
                           (["servers=nats://x", "subject=a.*"], "wildcards"), (["servers=nats://x", "stream=a.b"], "stream"),
                           (["servers=nats://x", "token=abc"], "token")):
        done = harness.run(harness.SPOOL, "-C", one.spool, "sink", "add", "bad", "nats", *words)
        checks.check(done.returncode != 0 and problem in done.stderr and "secretword" not in done.stderr,
                     f"{' '.join(words)} is refused", done.stderr)


def with_a_server(checks):
    global server
    server = Nats(checks, "single")
    sink_harness.with_server(checks, server, [
        keeps_everything, tells_events_apart, streams_that_are_not_right, each_once_after_kills, leader_of_a_cluster_dies,
        secrets_and_certificates, cancelled_at_any_moment, needs_no_more_than_it_should, as_documented])


if __name__ == "__main__":
    sink_harness.main("nats", [with_a_server])
