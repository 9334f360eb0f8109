#!/usr/bin/env python3
"""The wall clock is stepped: back an hour, forward a day, to 1970, to 2040, while events are made and delivered, and
between restarts. Ids never go back, nothing is lost, repeated or held for as long as the step was.

The clock is that of one process, by a preloaded shim (tests/lab/clockshim), not the machine's. STEPS: steps while
running (12); ROUNDS: restarts (12); SEED."""
import datetime
import mmap
import os
import pathlib
import struct
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

STEPS, ROUNDS = int(os.environ.get("STEPS", 12)), int(os.environ.get("ROUNDS", 12))
SMALL = ["--segment_bytes", 1 << 20, "--journal_bytes", 256 << 10, "--max_bytes", 256 << 20]
SHIM = harness.BUILD / "lab" / "clockshim"
PROMISES = {**harness.FILE, "callback": harness.history.Promise(window_ms=None)}
HOUR = 3600


def year(number):
    """The offset that makes it that year."""
    return datetime.datetime(number, 1, 2).timestamp() - time.time()


PLACES = {"now": 0, "an hour ago": -HOUR, "tomorrow": 24 * HOUR, "1970": year(1970), "2040": year(2040)}


class Clock:
    """The wall clock of the processes that are started with its environment."""

    def __init__(self, checks):
        self.path = checks.dir("clock")
        self.path.write_bytes(bytes(8))
        with open(self.path, "r+b") as file:
            self.map = mmap.mmap(file.fileno(), 8)
        self.environment = {**os.environ, "LD_PRELOAD": str(SHIM), "CLOCKSHIM": str(self.path)}

    def set(self, place):
        self.map[:] = struct.pack("<q", int(PLACES[place] * 1e9))
        return place

    def says(self):
        """What `date` says under the shim: seconds since 1970."""
        return int(harness.run("date", "+%s", env=self.environment).stdout)


def shim(checks):
    """Without a shim that works nothing here means anything."""
    clock = Clock(checks)
    for place, offset in PLACES.items():
        clock.set(place)
        checks.check(abs(clock.says() - time.time() - offset) < 60, f"the shim makes it {place}", str(clock.says()))


def ids_follow(checks, site, what):
    """In the order in which they were acknowledged by the one process at a time that there was."""
    ids = [record.id for record in site.read()]
    falls = sum(a >= b for a, b in zip(ids, ids[1:]))
    checks.check(ids and not falls, f"{what}: ids grow whatever the clock does", f"{falls} of {len(ids)} do not")


def stepped_while_running(checks):
    clock = Clock(checks)
    site = harness.Site(checks, "running", *SMALL, promises=PROMISES)
    child = site.producer("p", "--rate", 1500, "--count", 1500 * (STEPS + 1) // 4, "--durability", "mixed",
                          "--file_sink", site.sink, "--callback_log", site.history, "--retry_every", 13,
                          "--drain_ms", 60000, env=clock.environment)
    for step in range(STEPS):
        time.sleep(0.2)
        clock.set(checks.random.choice(list(PLACES)))
    clock.set("an hour ago")
    site.expect(child, "the process whose clock is stepped")
    ids_follow(checks, site, "stepped while running")
    site.judge("stepped while running")


def stepped_between_restarts(checks):
    """Killed, the clock set, started again; retries wait meanwhile."""
    clock = Clock(checks)
    site = harness.Site(checks, "restarts", *SMALL, promises=PROMISES)
    for round in range(ROUNDS):
        clock.set(checks.random.choice(list(PLACES)))
        child = site.producer(f"r{round}", "--rate", 3000, "--durability", "mixed", "--file_sink", site.sink,
                              "--callback_log", site.history, "--retry_every", 13, env=clock.environment)
        harness.wait_until(lambda: any(record.tag == f"r{round}" for record in site.read()), 60)
        time.sleep(0.2 * checks.random.random())
        site.kill(child)
    clock.set("an hour ago")
    site.expect(site.deliverer("last", "--file_sink", site.sink, "--callback_log", site.history, "--drain_ms", 60000,
                               env=clock.environment), "the drain")
    ids_follow(checks, site, "stepped between restarts")
    site.judge("stepped between restarts")


def peers_that_disagree(checks):
    """Two containers whose clocks differ by years; one of them delivers."""
    clocks = [Clock(checks)]
    site = harness.Site(checks, "peers", *SMALL, promises=harness.FILE)
    clocks[0].set("2040")
    first = site.producer("future", "--rate", 2000, "--count", 2000, "--ttl_ms", HOUR * 1000, env=clocks[0].environment)
    second = site.producer("today", "--rate", 2000, "--count", 2000, "--ttl_ms", HOUR * 1000, "--file_sink", site.sink)
    site.expect(first, "the process that is in 2040")
    site.expect(second, "the process that is not")
    site.drain_and_judge("peers that disagree")


def time_to_live(checks):
    """An event from the future is not old; a clock that went back makes none old."""
    clock = Clock(checks)
    for made, delivered in (("2040", "now"), ("now", "an hour ago"), ("now", "1970")):
        name = f"ttl-{made}-{delivered}".replace(" ", "-")
        site = harness.Site(checks, name, *SMALL, promises=harness.FILE)
        clock.set(made)
        site.expect(site.producer("p", "--count", 500, "--ttl_ms", 60000, env=clock.environment), "the producer")
        clock.set(delivered)
        site.drain_and_judge(f"made in {made}, delivered {delivered}")
    site = harness.Site(checks, "ttl-old", *SMALL, promises=harness.FILE)  # the control: it does expire when it is old
    clock.set("now")
    site.expect(site.deliverer("first", "--file_sink", site.sink, env=clock.environment), "the registration")
    site.expect(site.producer("p", "--count", 500, "--ttl_ms", 60000, env=clock.environment), "the producer")
    clock.set("tomorrow")
    site.expect(site.deliverer("late", "--file_sink", site.sink, "--drain_ms", 60000, env=clock.environment),
                "the drain a day later")
    sinks = harness.status(site.spool)["sinks"]
    checks.check(sinks[0]["dropped_events"] == 500, "control: after a day all are expired, and counted", str(sinks))


if __name__ == "__main__":
    if not SHIM.exists():
        print(f"FAILED: there is no {SHIM}: make labs")
        print("RESULT 0 1")
        sys.exit(1)
    harness.main("clock", [shim, stepped_while_running, stepped_between_restarts, peers_that_disagree, time_to_live])
