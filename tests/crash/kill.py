#!/usr/bin/env python3
"""Kills a producer that also delivers, again and again, and has the history checker judge what was seen.

Every round opens the same spool with two producer threads, delivers into a file sink and a callback that logs, and is
killed with SIGKILL at a random moment, sometimes while it opens. Durability, rate, batch and body sizes change from
round to round; segments (1 MiB) and journals (256 KiB) are so small that rotation, deletion and adoption go on all the
time. In every fifth round it is a process that only delivers. A clean drain ends it. ROUNDS: 25; SEED.
"""
import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

ROUNDS = int(os.environ.get("ROUNDS", 25))
THREADS, COUNT = 2, 60000
PROMISES = {**harness.FILE, "callback": harness.history.Promise()}
SMALL = ["--segment_bytes", 1 << 20, "--journal_bytes", 256 << 10, "--max_bytes", 256 << 20]


class Crash:
    """The spool, its logs, and what each round did."""

    def __init__(self, checks):
        self.checks, self.random = checks, checks.random
        self.spool = checks.dir("spool")
        self.history, self.sink = checks.dir("history"), checks.dir("events.jsonl")

    def sinks(self, calm=False):
        """The callback fails single events the first time, or is down for a moment now and then, unless `calm`."""
        trouble = self.random.choice(([], [], ["--retry_every", 97], ["--down_every", 40]))
        return ["--file_sink", self.sink, "--callback_log", self.history, "--history", self.history,
                *([] if calm else trouble)]

    def producer(self, round):
        """Starts the producer of this round."""
        level = ("process", "power", "mixed")[round % 3]
        batch = self.random.choice((1, 1, 1, 7, 64))
        rate = self.random.choice((2000, 20000, 60000)) if level != "power" else 0
        large = ["--large_every", 500, "--large_size", 20000] if self.random.random() < 0.5 else []
        return self.checks.start(harness.program("producer"), "--dir", self.spool, "--tag", f"r{round}", "--threads",
                                 THREADS, "--count", COUNT, "--durability", level, "--batch", batch, "--rate", rate,
                                 "--size", 20, "--size_max", 400, *large, *SMALL, *self.sinks())

    def round(self, round):
        """Runs a process for a random time and kills it; one that ended by itself must have ended well."""
        tag = f"d{round}" if round % 5 == 4 else f"r{round}"
        if round % 5 == 4:
            child = self.checks.start(harness.program("deliverer"), "--dir", self.spool, "--tag", tag,
                                      "--until_term", *SMALL, *self.sinks())
        else:
            child = self.producer(round)
        time.sleep(self.random.choice((0.01, 0.05, 0.4, 0.8)) * self.random.random())
        if child.poll() is None:
            harness.kill(child, self.history, tag)
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


def kill(checks):
    crash = Crash(checks)
    for round in range(ROUNDS):
        crash.round(round)
    report = crash.drain()
    judged = harness.judge(checks, f"{ROUNDS} rounds", [crash.history], {"file": crash.sink}, PROMISES)
    harness.control(checks, "kill", [crash.history], {"file": crash.sink})
    acked = judged.counts().get("ok", 0)
    checks.check(acked > 20 * ROUNDS, "the rounds did something", f"{acked} acknowledged")
    checks.check(report.get("pending") == 0, "nothing is pending after the drain", str(report))
    checks.check(report.get("damaged_blocks") == 0, "nothing was damaged", str(report))


if __name__ == "__main__":
    harness.main("kill", [kill])
