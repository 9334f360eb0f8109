#!/usr/bin/env python3
"""Kills a producer that also delivers, again and again, and compares what it acknowledged with what arrived.

Every round opens the same spool with two producer threads, delivers into a file sink and a callback that logs, and is
killed with SIGKILL at a random moment, sometimes while it opens. Durability, rate, batch and body sizes change from
round to round; segments (1 MiB) and journals (256 KiB) are so small that rotation, deletion and adoption go on all the
time. In every fifth round it is a process that only delivers. A clean drain ends it. ROUNDS: 25; SEED.
"""
import collections
import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

ROUNDS = int(os.environ.get("ROUNDS", 25))
THREADS, COUNT = 2, 60000
SMALL = ["--segment_bytes", 1 << 20, "--journal_bytes", 256 << 10, "--max_bytes", 256 << 20]


class Crash:
    """The spool, its logs, and what each round did."""

    def __init__(self, checks):
        self.checks, self.random = checks, checks.random
        self.spool = checks.dir("spool")
        self.acks, self.sink, self.seen = (checks.dir(name) for name in ("acks", "events.jsonl", "callback"))
        self.batches = {}

    def sinks(self, calm=False):
        """The callback fails single events the first time, or is down for a moment now and then, unless `calm`."""
        trouble = self.random.choice(([], [], ["--retry_every", 97], ["--down_every", 40]))
        return ["--file_sink", self.sink, "--callback_log", self.seen, *([] if calm else trouble)]

    def producer(self, round):
        """Starts the producer of this round."""
        level = ("process", "power", "mixed")[round % 3]
        batch = self.random.choice((1, 1, 1, 7, 64))
        self.batches[f"r{round}"] = batch
        rate = self.random.choice((2000, 20000, 60000)) if level != "power" else 0
        large = ["--large_every", 500, "--large_size", 20000] if self.random.random() < 0.5 else []
        return self.checks.start(harness.program("producer"), "--dir", self.spool, "--tag", f"r{round}", "--threads",
                                 THREADS, "--count", COUNT, "--durability", level, "--batch", batch, "--rate", rate,
                                 "--size", 20, "--size_max", 400, "--ack_log", self.acks, *large, *SMALL, *self.sinks())

    def round(self, round):
        """Runs a process for a random time and kills it; one that ended by itself must have ended well."""
        if round % 5 == 4:
            child = self.checks.start(harness.program("deliverer"), "--dir", self.spool, "--tag", f"d{round}",
                                      "--until_term", *SMALL, *self.sinks())
        else:
            child = self.producer(round)
        time.sleep(self.random.choice((0.01, 0.05, 0.4, 0.8)) * self.random.random())
        if child.poll() is None:
            harness.kill(child)
            return
        status, _, errors = harness.wait(child)
        if status != 0:
            self.checks.check(False, f"round {round} did not fail by itself", f"status {status}: {errors}")

    def drain(self):
        """The clean end: another process delivers what is left."""
        child = self.checks.start(harness.program("deliverer"), "--dir", self.spool, "--tag", "last", "--drain_ms",
                                  60000, *SMALL, *self.sinks(calm=True))
        status, report, errors = harness.wait(child)
        self.checks.check(status == 0, "the last process drains and closes", f"status {status}: {errors}")
        return report


def check_acknowledged(checks, acked):
    """Ids are unique and grow: within a thread as it enqueued them, and from one round to the next."""
    checks.check(len({record.id for record in acked}) == len(acked), "no two acknowledged ids are equal")
    last, falling = {}, []
    for record in acked:
        falling += [record] if record.id <= last.get((record.tag, record.thread), "") else []
        last[record.tag, record.thread] = record.id
    checks.check(not falling, "ids grow within a producer thread", f"{falling[:2]}")
    greatest, back, bounds = "", [], {}
    for record in acked:
        low, high = bounds.get(record.tag, (record.id, record.id))
        bounds[record.tag] = min(low, record.id), max(high, record.id)
    for tag, (low, high) in bounds.items():  # in the order of the rounds: the log is appended to
        back += [tag] if low <= greatest else []
        greatest = max(greatest, high)
    checks.check(not back, "ids never go back over a restart", f"rounds {back[:5]}")


def check_invented(crash, checks, events, acked):
    """What arrived without an acknowledgement can only be what a thread was enqueueing when it was killed: one call,
    whole. So each thread's numbers run from 0 to the end of a call: the next one, or one whose log was cut short."""
    arrived, last = collections.defaultdict(list), collections.defaultdict(lambda: -1)
    for record in acked:
        last[record.tag, record.thread] = max(last[record.tag, record.thread], record.n)
    for event in events:
        arrived[event["data"]["tag"], event["data"]["thread"]].append(event["data"]["n"])
    invented = []
    for (tag, thread), numbers in arrived.items():
        call, known = crash.batches.get(tag, 1), last[tag, thread] + 1
        whole = {known, -(-known // call) * call if known % call else known + call}
        if sorted(numbers) != list(range(len(numbers))) or (len(numbers) not in whole and len(numbers) != COUNT):
            invented.append(f"{tag} thread {thread}: {known} acknowledged, {len(numbers)} arrived, {call} a call")
    checks.check(not invented, "beyond the acknowledged ones came only whole calls under way", str(invented[:3]))


def check_callback(checks, seen, events, acked):
    """At least once overall, with right bodies; never twice within one process."""
    ids = {record.id for record in seen}
    lost = {record.id for record in acked} - ids
    checks.check(not lost, "callback: all acknowledged events arrived", f"{len(lost)} lost, e.g. {sorted(lost)[:3]}")
    checks.check(all(record.good for record in seen), "callback: all bodies are right")
    stray = ids ^ {event["id"] for event in events}
    checks.check(not stray, "both sinks got the same events", f"{len(stray)} in one only, e.g. {sorted(stray)[:3]}")
    times = collections.Counter((record.tag, record.id) for record in seen)
    twice = [key for key, count in times.items() if count > 1]
    checks.check(not twice, "callback: none came twice to one process", f"{len(twice)}, e.g. {twice[:3]}")
    late = out_of_order_first(seen, events)
    checks.check(not late, "callback: in order within an agent and a priority", f"{len(late)}: {late[:3]}")


def out_of_order_first(seen, events):
    """As harness.out_of_order, for a log with repetitions: only the first time counts."""
    known, first = {event["id"]: event for event in events}, dict.fromkeys(record.id for record in seen)
    return harness.out_of_order([known[id] for id in first if id in known])


def kill(checks):
    crash = Crash(checks)
    for round in range(ROUNDS):
        crash.round(round)
    report = crash.drain()
    acked, seen = harness.read_log(crash.acks), harness.read_log(crash.seen)
    events = harness.read_file_sink(crash.sink)
    print(f"  {ROUNDS} rounds, {len(acked)} acknowledged, {len(events)} in the file, {len(seen)} calls back; {report}")
    checks.check(len(acked) > 20 * ROUNDS, "the rounds did something", f"{len(acked)} acknowledged")
    harness.check_delivery(checks, "file", events, acked)
    check_acknowledged(checks, acked)
    check_invented(crash, checks, events, acked)
    check_callback(checks, seen, events, acked)
    checks.check(report.get("pending") == 0, "nothing is pending after the drain", str(report))
    checks.check(report.get("damaged_blocks") == 0, "nothing was damaged", str(report))


if __name__ == "__main__":
    harness.main("kill", [kill])
