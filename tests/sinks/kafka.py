#!/usr/bin/env python3
"""Kafka, as far as librdkafka's mock cluster goes, since Debian has no broker: what is in the topic, no event lost while
brokers go down and come back and the deliverer is killed, and what it does when nobody answers. The mock cluster stores what
is produced again, so that repetitions are counted, but not judged. EVENTS: 100000; SEED."""
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


class Mock:
    """A mock cluster with one topic."""

    def __init__(self, checks, topic):
        self.checks, self.topic = checks, topic
        self.process = checks.start(harness.program("kafka_mock"), topic, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.servers = self.process.stdout.readline().strip()

    def do(self, *words):
        """Returns how many messages were read so far."""
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def messages(self):
        """(key, id, value) of what is in the topic."""
        harness.wait_until(lambda: self.do("count") >= self.do("end"))
        path = self.checks.dir(f"{self.topic}.dump")
        self.do("dump", path)
        return [line.split("\t", 2) for line in path.read_text().splitlines()]

    def end(self):
        self.process.kill()


def site(checks, mock, name, options=None, **keys):
    keys = {"servers": mock.servers, "topic": mock.topic, "tls": False, **keys}
    return sink_harness.Site(checks, name, "kafka", keys, options)


def keeps_everything(checks):
    mock = Mock(checks, "everything")
    one = site(checks, mock, "everything")
    events = [{"type": "log.llm_call", "agent": "planner", "data": {"nul": "\0", "big": "x" * 300000}},
              {"type": "t\u00fcp", "content_type": "text/plain", "data_base64": "AP8="}]
    given = one.put_events(events)
    one.drains("events of all kinds")
    got = {row[1]: row for row in mock.messages()}
    checks.check(set(got) == set(given), "the id is a header", str(list(got)))
    checks.check([got[id_][0] for id_ in given] == ["planner", ""], "the agent is the key")
    values = [json.loads(got[id_][2]) for id_ in given]
    checks.check(values[0]["data"] == events[0]["data"] and values[1]["data_base64"] == "AP8=", "the value is native JSON")
    big = one.put_events([{"type": "t", "data": "x" * 1100000}, {"type": "t"}])
    one.drains("beside what is too big")
    letters = one.dead_letters()
    checks.check(len(letters) == 1 and "too large" in json.dumps(letters[0]), "that is a dead letter", str(letters))
    checks.check(big[1] in {row[1] for row in mock.messages()}, "the other arrives")
    mock.end()


def none_lost_when_brokers_go(checks):
    mock = Mock(checks, "kills")
    one = site(checks, mock, "kills", {"batch_events": 512}, ack_timeout="2s")
    producer = one.producer(EVENTS, "--rate", sink_harness.rate(EVENTS))
    runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    counts, rounds = [0], 0
    while (producer.poll() is None or rounds < 8) and rounds < 20:
        sink_harness.flows(lambda: mock.do("count"), lambda: producer.poll() is not None and one.is_empty())
        time.sleep(0.4 * checks.random.random())
        down = [1, 2, 3] if rounds % 4 == 3 else [checks.random.randint(1, 3)]
        for broker in down:
            mock.do("down", broker)
        mock.do("fail", checks.random.randint(0, 5))
        if rounds % 4 == 1:
            runner.kill()
            runner.wait()
            runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.4 * checks.random.random())
        for broker in down:
            counts.append(mock.do("up", broker))
        rounds += 1
    status, _, errors = harness.wait(producer, 120)
    checks.check(status == 0, "the producer ends well", errors)
    runner.send_signal(signal.SIGTERM)
    checks.check(runner.wait(60) == 0, "the deliverer ends well")
    checks.check(sum(a < b for a, b in zip(counts, counts[1:])) >= 3, f"events flow in {rounds} rounds", str(counts))
    one.drains("after the trouble")
    wanted = one.acknowledged()
    checks.check(len(wanted) == EVENTS, f"{EVENTS} events are acknowledged", str(len(wanted)))
    got = mock.messages()
    sink_harness.account(checks, "after the trouble", wanted, [row[1] for row in got], once=False)
    bad = sum(not harness.body_is_good(json.loads(row[2])["data"]) for row in got)
    checks.check(bad == 0, "every body is as it was enqueued", f"{bad} are not")
    mock.end()


def what_is_under_way_is_not_sent_again(checks):
    """Answers that take longer than a delivery waits for them: the events come again, perhaps to another worker, and are not
    produced again. The breaker lets whole batches pass: by a few events at a time it would take minutes."""
    for workers in (1, 3):
        mock = Mock(checks, f"slow{workers}")
        one = site(checks, mock, f"slow{workers}", {"timeout": "400ms", "batch_events": 100, "workers": workers, "order": "none",
                                                    "breaker": {"probe_events": 100}}, ack_timeout="60s")
        mock.do("delay", 1000)
        wanted = one.produce(300)
        one.drains(f"slowly, by {workers}", 120)
        mock.do("delay", 0)
        sink_harness.account(checks, f"answered late, {workers} workers", wanted, [row[1] for row in mock.messages()])
        mock.end()


def says_what_is_wrong(checks):
    port = harness.free_port()
    nobody = sink_harness.Site(checks, "nobody", "kafka", {"servers": f"127.0.0.1:{port}", "tls": False, "ack_timeout": "1s"})
    nobody.put("{}")
    nobody.is_down("no broker", "(?i)refused|brokers are down|acknowledg")
    mock = Mock(checks, "tls")
    tls = site(checks, mock, "tls", tls=True, ack_timeout="2s")
    tls.put("{}")
    tls.is_down("a broker without TLS", "(?i)ssl|disconnected|brokers are down|acknowledg")
    mock.end()
    strange = sink_harness.Site(checks, "strange", "kafka", {"servers": "127.0.0.1:9", "properties": {"no.such": "x"}})
    strange.put("{}")
    strange.is_down("an unknown property", "no.such")
    secret = checks.dir("password")
    secret.write_text("open-sesame-7193\n")
    secret.chmod(0o600)
    login = sink_harness.Site(checks, "login", "kafka", {"servers": f"127.0.0.1:{port}", "user": "u", "ack_timeout": "500ms",
                                                         "password": {"file": str(secret)}})
    login.put("{}")
    login.is_down("nobody to log in at", "(?i)kafka")
    sink_harness.says_nothing_secret(login, "a password", "open-sesame-7193", login.said)


def cancelled_at_any_moment(checks):
    mock = Mock(checks, "cancel")
    mock.do("delay", 20000)
    keys = {"servers": mock.servers, "topic": "cancel", "tls": False}
    sink_harness.cancelled_soon(checks, "brokers that do not answer", "kafka", keys)
    mock.do("delay", 0)
    for _ in range(5):  # as often as it may be tried
        mock.do("hang", 20000)
    sink_harness.cancelled_soon(checks, "in the middle of a batch", "kafka", keys)
    sink_harness.cancelled_in_connect(checks, "kafka", lambda port: {**keys, "servers": f"127.0.0.1:{port}"})
    sink_harness.cancelled_in_look_up(checks, "kafka", {**keys, "servers": "no.such.host.example:9092"})
    mock.end()


def needs_no_more_than_it_should(checks):
    mock = Mock(checks, "valgrind")
    one = site(checks, mock, "valgrind", ack_timeout="60s")
    wanted = one.produce(300)
    sink_harness.leaks(one, "a delivery")
    sink_harness.account(checks, "under valgrind", wanted, [row[1] for row in mock.messages()], once=False)
    for workers in (1, 2):
        large = site(checks, mock, f"memory{workers}", {"batch_events": 4096, "batch_bytes": "4MiB", "workers": workers, "order": "none"})
        wanted = mock.do("end") + 20000
        sink_harness.bounded(checks, large, lambda: mock.do("end") >= wanted, most=128 << 20)
    mock.end()


def as_documented(checks):
    mock = Mock(checks, "agents")
    sink_harness.manual_example(checks, "kafka", **{"127.0.0.1:9092": mock.servers})
    checks.check(len(mock.messages()) == 1, "the message of the example is in the topic")
    mock.end()
    one = sink_harness.Site(checks, "words", "kafka", {"servers": "127.0.0.1:9", "tls": False})
    for words, problem in (([], "servers"), (["servers=x", "user=u"], "password"), (["servers=x", "compression=zip"], "compression"),
                           (["servers=x", 'properties={"sasl.password":"secretword"}'], "no secrets"),
                           (["servers=x", 'properties={"a":1}'], "texts"), (["servers=x", "password=secretword", "user=u"], "password")):
        done = harness.run(harness.SPOOL, "-C", one.spool, "sink", "add", "bad", "kafka", *words)
        checks.check(done.returncode != 0 and problem in done.stderr and "secretword" not in done.stderr,
                     f"{' '.join(words)} is refused", done.stderr)


if __name__ == "__main__":
    sink_harness.main("kafka", [keeps_everything, none_lost_when_brokers_go, what_is_under_way_is_not_sent_again, says_what_is_wrong,
                                cancelled_at_any_moment, needs_no_more_than_it_should, as_documented])
