#!/usr/bin/env python3
"""Several processes on one spool: enqueueing at once, without closing, in two PID namespaces, beside a stopped peer,
over a fork, and two that both want to deliver. Segments are small (4 MiB), so that rotation and deletion go on."""
import pathlib
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

SMALL = ["--segment_bytes", 4 << 20, "--journal_bytes", 256 << 10, "--max_bytes", 1 << 30]


class Site:
    """One spool with its logs, and the processes that work on it."""

    def __init__(self, checks, name):
        self.checks, self.spool = checks, checks.dir(name)
        self.acks, self.sink = checks.dir(name + ".acks"), checks.dir(name + ".jsonl")

    def producer(self, tag, *more, prefix=()):
        return self.checks.start(*prefix, harness.program("producer"), "--dir", self.spool, "--tag", tag, "--ack_log",
                                 self.acks, "--size_max", 500, *SMALL, *more, stdin=harness.subprocess.PIPE)

    def deliverer(self, tag, *more):
        child = self.checks.start(harness.program("deliverer"), "--dir", self.spool, "--tag", tag, *SMALL, *more)
        child.stdout.readline()  # "ready"
        return child

    def expect(self, child, what, timeout=120):
        """The process ends well; returns its report."""
        status, report, errors = harness.wait(child, timeout)
        self.checks.check(status == 0, f"{what} ends well", f"status {status}: {errors} {report}")
        return report

    def drain_and_compare(self, what):
        """Delivers everything into the file sink and compares it with what was acknowledged. Returns the records."""
        self.expect(self.deliverer("drain", "--file_sink", self.sink, "--drain_ms", 60000), "the drain")
        acked = harness.read_log(self.acks)
        events = harness.read_file_sink(self.sink)
        self.checks.check(len({record.id for record in acked}) == len(acked), f"{what}: no two ids are equal")
        harness.check_delivery(self.checks, what, events, acked)
        return acked


def begin_together(children):
    """Lets producers that were started with --wait begin at once."""
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()


def four_processes(checks):
    site = Site(checks, "four")
    deliverer = site.deliverer("d", "--file_sink", site.sink, "--until_term")
    levels = ("process", "process", "mixed", "power")
    children = [site.producer(f"p{i}", "--wait", "--threads", 2, "--durability", level, "--count",
                              400 if level == "power" else 12000, *(["--no_close"] if i == 1 else []))
                for i, level in enumerate(levels)]
    begin_together(children)
    for i, child in enumerate(children):
        site.expect(child, f"producer {i}" + (" (not closing)" if i == 1 else ""))
    deliverer.send_signal(signal.SIGTERM)
    site.expect(deliverer, "the deliverer")
    acked = site.drain_and_compare("four processes")
    checks.check(len(acked) == 2 * (3 * 12000 + 400), "everything was acknowledged", str(len(acked)))


def abandoned_journal(checks):
    """What a process left that exited without closing is delivered by a peer that lives: nobody opens anew."""
    site = Site(checks, "abandoned")
    deliverer = site.deliverer("d", "--file_sink", site.sink, "--until_term")
    site.expect(site.producer("gone", "--count", 500, "--no_close"), "the producer that does not close")
    arrived = harness.wait_until(lambda: site.sink.exists() and site.sink.read_bytes().count(b"\n") == 500, 30)
    checks.check(arrived, "a living peer adopts the journal of one that is gone")
    deliverer.send_signal(signal.SIGTERM)
    site.expect(deliverer, "the deliverer")
    site.drain_and_compare("abandoned journal")


def pid_namespaces(checks):
    prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if harness.run(*prefix, "true").returncode != 0:
        checks.skip("two PID namespaces", "unshare is not permitted here")
        return
    site = Site(checks, "namespaces")
    children = [site.producer(f"ns{i}", "--wait", "--threads", 2, "--count", 8000, *more, prefix=prefix)
                for i, more in enumerate(([], ["--file_sink", site.sink, "--drain_ms", 60000], ["--no_close"]))]
    begin_together(children)
    for i, child in enumerate(children):
        site.expect(child, f"process 1 of namespace {i}")
    acked = site.drain_and_compare("PID namespaces")
    checks.check(len(acked) == 3 * 16000, "everything was acknowledged", str(len(acked)))


def stop_beside_stopped_peer(site, attempt):
    """Stops a peer at a random moment, possibly with a lock in its hands, kills another one, so that there is a journal to
    adopt, and ends a third. Returns the milliseconds that this one took to stop and close."""
    checks = site.checks
    peer = site.producer(f"peer{attempt}", "--threads", 2, "--count", 20000, "--rate", 20000)
    victim = site.producer(f"dead{attempt}", "--rate", 5000)
    other = site.deliverer(f"d{attempt}", "--file_sink", site.sink, "--until_term", "--stop_timeout_ms", 1500)
    time.sleep(0.02 + 0.3 * checks.random.random())
    peer.send_signal(signal.SIGSTOP)
    harness.kill(victim)
    time.sleep(checks.random.choice((0.05, 1.2)))
    other.send_signal(signal.SIGTERM)
    # The lock may keep the last acknowledgements from being stored, so any answer is right, if only it comes.
    status, report, errors = harness.wait(other, 60)
    peer.send_signal(signal.SIGCONT)
    site.expect(peer, f"the peer after SIGCONT {attempt}")
    if status is None or "stop_ms" not in report:
        checks.check(False, f"stop beside a stopped peer, attempt {attempt}", f"status {status}: {errors}")
    return report.get("stop_ms", 0)


def stopped_peer(checks):
    site = Site(checks, "stopped")
    slowest = max(stop_beside_stopped_peer(site, attempt) for attempt in range(8))
    print(f"  the slowest took {slowest:.0f} ms")
    # The deadline counts twice, for stop and for close; the rest is for a loaded machine.
    checks.check(slowest < 2 * 1500 + 2000, "stop and close return by their deadline", f"{slowest} ms")
    site.drain_and_compare("stopped peer")


def fork_in_the_middle(checks):
    site = Site(checks, "fork")
    for i, more in enumerate(([], ["--file_sink", site.sink, "--drain_ms", 60000])):
        child = checks.start(harness.program("forker"), "--dir", site.spool, "--tag", f"fork{i}", "--ack_log",
                             site.acks, *SMALL, *more)
        report = site.expect(child, "the forking process" + (" that delivers" if more else ""))
        checks.check(report.get("checks", 0) >= 4 and report.get("failed") == 0, "handles after fork", str(report))
    site.drain_and_compare("fork")


def elected_deliverer(checks):
    """Of two that want to deliver one does; when it is killed the other takes over."""
    site = Site(checks, "elected")
    logs = [checks.dir(f"elected.log{i}") for i in range(2)]
    first = site.deliverer("d0", "--callback_log", logs[0], "--until_term")
    second = site.deliverer("d1", "--callback_log", logs[1], "--until_term")
    site.expect(site.producer("a", "--count", 3000), "the first producer")
    all_in = harness.wait_until(lambda: len(harness.read_log(logs[0])) + len(harness.read_log(logs[1])) >= 3000, 30)
    counts = [len(harness.read_log(log)) for log in logs]
    checks.check(all_in and sorted(counts) == [0, 3000], "exactly one delivers", str(counts))
    working, waiting = (first, second) if counts[0] else (second, first)
    log = logs[0] if waiting is first else logs[1]
    harness.kill(working)
    site.expect(site.producer("b", "--count", 3000), "the second producer")
    wanted = {record.id for record in harness.read_log(site.acks) if record.tag == "b"}
    took_over = harness.wait_until(lambda: wanted <= {record.id for record in harness.read_log(log)}, 30)
    checks.check(took_over, "the other takes over when it is killed", f"{len(harness.read_log(log))} arrived there")
    waiting.send_signal(signal.SIGTERM)
    site.expect(waiting, "the deliverer that took over")
    ids = [record.id for record in harness.read_log(log)]
    checks.check(len(ids) == len(set(ids)), "and gives nothing out twice")


if __name__ == "__main__":
    harness.main("processes", [four_processes, abandoned_journal, pid_namespaces, stopped_peer, fork_in_the_middle,
                               elected_deliverer])
