#!/usr/bin/env python3
"""Several processes on one spool, killed at random while the others go on: producers that never close, deliverers that
take over from each other, one that opens beside those that die.

`kill_peers` keeps three producers and two deliverers running; each round stops one at a random moment, for good with
SIGKILL, sometimes after a while under SIGSTOP, sometimes (a deliverer) in order, and starts another in its place.
`take_turns` has two deliverers that want the same sinks and kills whichever delivers. Segments and journals are small.
ROUNDS: 25; SEED."""
import os
import pathlib
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

ROUNDS = int(os.environ.get("ROUNDS", 25))
SMALL = ["--segment_bytes", 1 << 20, "--journal_bytes", 256 << 10, "--max_bytes", 256 << 20]
# A peer that is stopped or killed holds locks for a moment, so that answers are stored late: no window.
PROMISES = {**harness.FILE, "callback": harness.history.Promise(window_ms=None)}


class Crowd:
    """The processes that run, by the role they have; each start has a tag of its own."""

    def __init__(self, checks):
        self.checks, self.random = checks, checks.random
        self.site = harness.Site(checks, "crowd", *SMALL, promises=PROMISES)
        self.running, self.started = [], 0

    def sinks(self):
        trouble = self.random.choice(([], [], ["--retry_every", 97], ["--down_every", 40]))
        return ["--file_sink", self.site.sink, "--callback_log", self.site.history, *trouble]

    def start(self, role):
        self.started += 1
        if role == "deliverer":
            child = self.site.start("deliverer", f"d{self.started}", "--until_term", *self.sinks())
        else:
            level = self.random.choice(("process", "power", "mixed"))
            also = self.sinks() if self.random.random() < 0.2 else []
            child = self.site.producer(f"p{self.started}", "--threads", 2, "--count", 100000, "--durability", level,
                                       "--rate", self.random.choice((300, 3000)), "--batch",
                                       self.random.choice((1, 1, 7)), *also)
        self.running.append((role, child))

    def end(self, role, child):
        """Ends one of them in one of the ways in which processes end."""
        how = self.random.choice(("kill", "kill", "stop and kill", "term"))
        if how == "stop and kill":
            child.send_signal(signal.SIGSTOP)
            time.sleep(0.2 * self.random.random())
        if how != "term" or role != "deliverer":
            self.site.kill(child)
        elif child.poll() is None:
            self.finish(child)

    def finish(self, child):
        """In order; early in its life the signal may end it before it has said that it wants to handle it."""
        child.send_signal(signal.SIGTERM)
        status, _, errors = harness.wait(child)
        if status == -signal.SIGTERM:
            harness.history.mark(self.site.history, k="kill", p=self.site.tags[child])
        elif status != 0:
            self.checks.check(False, f"deliverer {self.site.tags[child]} ends in order", f"status {status}: {errors}")

    def round(self):
        time.sleep(self.random.choice((0.02, 0.1, 0.3)) * self.random.random())
        role, child = self.running.pop(self.random.randrange(len(self.running)))
        if child.poll() is not None:
            status, _, errors = harness.wait(child)
            self.checks.check(False, f"{self.site.tags[child]} did not end by itself", f"status {status}: {errors}")
        self.end(role, child)
        self.start(role)


def kill_peers(checks):
    crowd = Crowd(checks)
    for role in ("producer", "deliverer", "producer", "deliverer", "producer"):
        crowd.start(role)
    for _ in range(ROUNDS):
        crowd.round()
    for _, child in crowd.running:
        crowd.site.kill(child)
    crowd.site.expect(crowd.site.deliverer("last", "--file_sink", crowd.site.sink, "--callback_log",
                                           crowd.site.history, "--drain_ms", 60000), "the drain")
    judged = crowd.site.judge(f"{ROUNDS} rounds, {crowd.started} processes")
    harness.control(checks, "kill_peers", [crowd.site.history], {"file": crowd.site.sink})
    checks.check(judged.counts().get("ok", 0) > 10 * ROUNDS, "the rounds did something", str(judged.counts()))


def last_deliverer(site, tags):
    """Which of `tags` was the last to log a delivery."""
    with open(site.history, "rb") as lines:
        at = max(lines.seek(0, 2) - (1 << 20), 0)
        lines.seek(at)
        for line in reversed(lines.read().splitlines()):
            for tag in tags:
                if line.startswith(b'{"k":"seen"') and f'"p":"{tag}"'.encode() in line:
                    return tag
    return None


def take_turns(checks):
    """A producer that goes on for all the time; whichever deliverer delivers is killed, and the other takes over."""
    site = harness.Site(checks, "turns", *SMALL, promises=PROMISES)
    sinks = ["--file_sink", site.sink, "--callback_log", site.history]
    both = {tag: site.start("deliverer", tag, "--until_term", *sinks) for tag in ("d0", "d1")}
    producer = site.producer("p", "--count", 100000, "--rate", 1000)
    took_over = 0
    for turn in range(max(ROUNDS // 4, 3)):
        working = None
        harness.wait_until(lambda: last_deliverer(site, both), 60)
        working = last_deliverer(site, both)
        if not checks.check(working, f"turn {turn}: one of two delivers"):
            break
        time.sleep(0.1 * checks.random.random())
        site.kill(both.pop(working))
        other = next(iter(both))
        took_over += harness.wait_until(lambda: last_deliverer(site, [other]), 60)
        both[f"e{turn}"] = site.start("deliverer", f"e{turn}", "--until_term", *sinks)
    checks.check(took_over == max(ROUNDS // 4, 3), "the other took over each time", f"{took_over}")
    site.kill(producer)
    for child in both.values():
        site.kill(child)
    site.drain_and_judge("taking turns", "--callback_log", site.history)


if __name__ == "__main__":
    harness.main("kill_peers", [kill_peers, take_turns])
