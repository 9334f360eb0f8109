#!/usr/bin/env python3
"""The kafka sink with a transactional id. A broker of our own (tests/kafka_broker.py) shows what consumers that read committed
messages see, while the deliverer is killed and fenced, answers are lost and come late, and messages are refused; librdkafka's
mock cluster, which someone else wrote, has brokers that go down and coordinators that move. EVENTS: 20000; SEED."""
import collections
import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import threading

sys.dont_write_bytecode = True
HERE = pathlib.Path(__file__).resolve().parent
sys.path[0] = str(HERE.parent)
import harness
import kafka_broker
import sink_harness
from kafka_broker import ADD_PARTITIONS, END_TXN, INIT_PRODUCER_ID, PRODUCE

EVENTS = int(os.environ.get("EVENTS", 20000))
PLAIN = {"tls": False, "topic": "t", "properties": {"compression.type": "none"}}


def keys(broker, **more):
    return {"servers": broker.server, "transactional_id": "agents", **PLAIN, **more}


def site(checks, broker, name, options=None, **more):
    return sink_harness.Site(checks, name, "kafka", keys(broker, **more), options)


def ids(records):
    return [record.id for record in records]


def once(checks, what, broker, wanted):
    """Everything is there once, for those who read what is committed, and nothing is left open."""
    sink_harness.account(checks, what, wanted, ids(broker.committed()))
    checks.check(all(record.state != "open" for record in broker.stored()), f"{what}: nothing is left open")


def a_batch_is_a_transaction(checks):
    for workers in (1, 2):
        broker = kafka_broker.Broker("t")
        one = site(checks, broker, f"batches{workers}", {"batch_events": 50, "workers": workers})
        wanted = one.produce(1000)
        one.drains(f"by {workers}")
        once(checks, f"by {workers}", broker, wanted)
        sizes = collections.Counter(record.transaction for record in broker.committed())
        checks.check(len(sizes) >= 20 and max(sizes.values()) <= 50, f"by {workers}: a transaction for each batch", str(sizes))
        checks.check(set(broker.transactional) <= {"agents-1", "agents-2"} and "agents-1" in broker.transactional,
                     f"by {workers}: the id has the worker's number", str(list(broker.transactional)))
        broker.end()


def killed(checks):
    """What a killed deliverer leaves open is aborted by the next one. Repeated is what was committed and not noted yet."""
    broker = kafka_broker.Broker("t")
    one = site(checks, broker, "killed", {"batch_events": 100})
    broker.commit_s = 0.02  # so that it lasts for some seconds
    wanted = one.produce(EVENTS)
    one.killed_while_delivering("killed", 6, EVENTS)
    one.drains("killed")
    sink_harness.account(checks, "killed", wanted, ids(broker.committed()), once=False)
    checks.check(all(record.state != "open" for record in broker.stored()), "killed: nothing is left open")
    broker.end()


def refused(checks):
    """A message set that a broker refuses: which message it is, the library finds by halves, and the others arrive."""
    for transactional_id in ("agents", None):
        broker = kafka_broker.Broker("t", partitions=1)
        one = sink_harness.Site(checks, f"refused{transactional_id}", "kafka",
                                {"servers": broker.server, **PLAIN, **({"transactional_id": "a"} if transactional_id else {})})
        broker.refused = "too-much-of-it"
        given = one.put_events([{"type": "t", "data": "too-much-of-it" if i == 17 else i} for i in range(40)])
        one.drains("refused")
        letters = one.dead_letters()
        checks.check([letter["event"]["id"] for letter in letters] == [given[17]] and "too large" in json.dumps(letters[0]),
                     f"transactions {transactional_id}: what is refused is the only dead letter", str(letters))
        once(checks, f"transactions {transactional_id}: beside what is refused", broker, set(given) - {given[17]})
        broker.end()


def aborted(checks):
    """A transaction that fails is aborted, and its events come again."""
    broker = kafka_broker.Broker("t")
    one = site(checks, broker, "aborted", {"batch_events": 100})
    for api, error in ((PRODUCE, 87), (ADD_PARTITIONS, kafka_broker.INVALID_MAPPING), (END_TXN, kafka_broker.INVALID_MAPPING)):
        broker.fault(api, "error", error)
        wanted = one.produce(300)
        one.drains(f"error {error} of request {api}")
        once(checks, f"error {error} of request {api}", broker, wanted)
    checks.check(any(record.state == "aborted" for record in broker.stored()), "something was aborted")
    broker.end()


def answers_are_lost(checks):
    """The coordinator has done it, but the answer does not arrive: asked again, it says so."""
    broker = kafka_broker.Broker("t")
    one = site(checks, broker, "lost", {"batch_events": 100})
    for api in (INIT_PRODUCER_ID, ADD_PARTITIONS, PRODUCE, END_TXN):
        for fault in (("lose",), ("drop",), ("error", kafka_broker.NOT_COORDINATOR)):
            if (api, fault[0]) != (PRODUCE, "error"):
                broker.fault(api, *fault)
    wanted = one.produce(1000)
    one.drains("lost answers")
    once(checks, "lost answers", broker, wanted)
    broker.end()


def a_commit_answers_late(checks):
    """The delivery is cancelled while it waits for the commit. The next one goes on with it, and nothing is produced again."""
    broker = kafka_broker.Broker("t")
    gate = threading.Event()
    one = site(checks, broker, "late", {"batch_events": 100, "timeout": "400ms"})
    wanted = one.produce(300)
    broker.fault(END_TXN, "hold", gate)
    runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    checks.check(harness.wait_until(lambda: "cancelled" in one_reason(one)), "the delivery is cancelled meanwhile", one_reason(one))
    gate.set()
    checks.check(harness.wait_until(one.is_empty), "late: all is delivered")
    once(checks, "a late commit", broker, wanted)
    checks.check(len(broker.stored()) == len(wanted), "a late commit: nothing was produced twice", f"{len(broker.stored())}")
    runner.terminate()
    runner.wait(60)
    broker.end()


def one_reason(one):
    return json.dumps(harness.status(one.spool))


def fenced(checks):
    broker = kafka_broker.Broker("t")
    one = site(checks, broker, "fenced", {"batch_events": 100})
    one.put("{}")
    one.drains("before")
    gate = threading.Event()
    broker.fault(END_TXN, "hold", gate)
    one.put("{}")
    child = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    checks.check(harness.wait_until(lambda: broker.requests[END_TXN] >= 2), "a commit is asked for")
    broker.fence("agents-1")
    gate.set()
    checks.check(harness.wait_until(one.is_empty), "fenced: a new producer delivers it")
    said = one_reason(one)
    child.terminate()
    child.wait(60)
    checks.check(collections.Counter(record.state for record in broker.stored()) == {"committed": 2, "aborted": 1},
                 "what was fenced is aborted, and committed by the next", f"{broker.stored()} {said}")
    broker.fault(INIT_PRODUCER_ID, "error", kafka_broker.FENCED)
    one.put("{}")
    for _ in range(200):
        broker.fault(INIT_PRODUCER_ID, "error", kafka_broker.FENCED)
    one.is_down("fenced again and again", "another producer has taken the transactional id")
    broker.end()


def says_what_is_wrong(checks):
    broker = kafka_broker.Broker("t")
    one = site(checks, broker, "right")
    for _ in range(20):
        broker.fault(INIT_PRODUCER_ID, "error", kafka_broker.AUTHORIZATION)
    one.put("{}")
    one.is_down("no right to the id", "(?i)transactional.id authorization")
    broker.clear()
    one.resume()
    one.drains("with the right")
    broker.end()
    for words, problem in ((["transactional_id="], "empty"), (['properties={"transactional.id":"x"}'], "key of its own")):
        done = harness.run(harness.SPOOL, "-C", one.spool, "sink", "add", "bad", "kafka", "servers=x", *words)
        checks.check(done.returncode != 0 and problem in done.stderr, f"{' '.join(words)} is refused", done.stderr)


def cancelled_at_any_moment(checks):
    for what, api in (("while the id is made known", INIT_PRODUCER_ID), ("while a partition is added", ADD_PARTITIONS),
                      ("while it produces", PRODUCE), ("while it commits", END_TXN)):
        broker = kafka_broker.Broker("t")
        for _ in range(8):
            broker.fault(api, "hold", threading.Event())
        sink_harness.cancelled_soon(checks, what, "kafka", keys(broker))
        broker.end()
    sink_harness.cancelled_in_connect(checks, "kafka", lambda port: {**PLAIN, "transactional_id": "a", "servers": f"127.0.0.1:{port}"})


def mock_of(checks, topic):
    spec = importlib.util.spec_from_file_location("sink_kafka", HERE / "kafka.py")
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded.Mock(checks, topic)


def brokers_go(checks):
    """librdkafka's mock cluster: with three brokers, of which any may be the coordinator."""
    mock = mock_of(checks, "coordinators")
    one = sink_harness.Site(checks, "coordinators", "kafka",
                            {"servers": mock.servers, "topic": mock.topic, "tls": False, "transactional_id": mock.topic, "ack_timeout": "2s"},
                            {"batch_events": 128})
    producer = one.producer(EVENTS, "--rate", sink_harness.rate(EVENTS))
    runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    rounds = 0
    while (producer.poll() is None or rounds < 8) and rounds < 20:
        broker = checks.random.randint(1, 3)
        if rounds % 2:
            mock.do("coordinator", broker)
        else:
            mock.do("down", broker)
            harness.wait_until(lambda: False, 0.3 * checks.random.random())
            mock.do("up", broker)
        harness.wait_until(lambda: False, 0.4 * checks.random.random())
        rounds += 1
    status, _, errors = harness.wait(producer, 120)
    checks.check(status == 0, "the producer ends well", errors)
    runner.terminate()
    checks.check(runner.wait(60) == 0, "the deliverer ends well")
    one.drains("after the trouble")
    got = mock.messages()
    sink_harness.account(checks, "after the trouble", one.acknowledged(), [row[1] for row in got], once=False)
    mock.end()


if __name__ == "__main__":
    sink_harness.main("kafka", [a_batch_is_a_transaction, killed, refused, aborted, answers_are_lost, a_commit_answers_late, fenced,
                                says_what_is_wrong, cancelled_at_any_moment, brokers_go])
