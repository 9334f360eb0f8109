#!/usr/bin/env python3
"""Several processes on one spool: enqueueing at once, without closing, in two PID namespaces, beside a stopped peer,
over a fork, and two that both want to deliver. Segments are small (4 MiB), so that rotation and deletion go on."""
import os
import pathlib
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

FORKS = int(os.environ.get("FORKS", 8))
SMALL = ["--segment_bytes", 4 << 20, "--journal_bytes", 256 << 10, "--max_bytes", 1 << 30]


def new_site(checks, name, **keywords):
    return harness.Site(checks, name, *SMALL, **keywords)


def begin_together(children):
    """Lets producers that were started with --wait begin at once."""
    for child in children:
        child.stdout.readline()
    for child in children:
        child.stdin.write("\n")
        child.stdin.flush()


def four_processes(checks):
    site = new_site(checks, "four")
    deliverer = site.serving("d")
    levels = ("process", "process", "mixed", "power")
    children = [site.producer(f"p{i}", "--wait", "--threads", 2, "--durability", level, "--count",
                              400 if level == "power" else 12000, *(["--no_close"] if i == 1 else []))
                for i, level in enumerate(levels)]
    begin_together(children)
    for i, child in enumerate(children):
        site.expect(child, f"producer {i}" + (" (not closing)" if i == 1 else ""))
    site.terminate(deliverer, "the deliverer")
    site.drain_and_judge("four processes")
    acked = site.read()
    checks.check(len(acked) == 2 * (3 * 12000 + 400), "everything was acknowledged", str(len(acked)))


def abandoned_journal(checks):
    """What a process left that exited without closing is delivered by a peer that lives: nobody opens anew."""
    site = new_site(checks, "abandoned")
    deliverer = site.serving("d")
    site.expect(site.producer("gone", "--count", 500, "--no_close"), "the producer that does not close")
    arrived = harness.wait_until(lambda: site.sink.exists() and site.sink.read_bytes().count(b"\n") == 500)
    checks.check(arrived, "a living peer adopts the journal of one that is gone")
    site.terminate(deliverer, "the deliverer")
    site.drain_and_judge("abandoned journal")


def pid_namespaces(checks):
    prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if harness.run(*prefix, "true").returncode != 0:
        checks.skip("two PID namespaces", "unshare is not permitted here")
        return
    site = new_site(checks, "namespaces")
    children = [site.producer(f"ns{i}", "--wait", "--threads", 2, "--count", 8000, *more, prefix=prefix)
                for i, more in enumerate(([], ["--file_sink", site.sink, "--drain_ms", 60000], ["--no_close"]))]
    begin_together(children)
    for i, child in enumerate(children):
        site.expect(child, f"process 1 of namespace {i}")
    site.drain_and_judge("PID namespaces")
    acked = site.read()
    checks.check(len(acked) == 3 * 16000, "everything was acknowledged", str(len(acked)))


def stop_beside_stopped_peer(site, attempt):
    """Stops a peer at a random moment, possibly with a lock in its hands, kills another one, so that there is a journal to
    adopt, and ends a third. Returns the milliseconds that this one took to stop and close."""
    checks = site.checks
    peer = site.producer(f"peer{attempt}", "--threads", 2, "--count", 8000, "--rate", 20000)
    victim = site.producer(f"dead{attempt}", "--rate", 5000)
    other = site.serving(f"d{attempt}", "--stop_timeout_ms", 1500)
    time.sleep(0.02 + 0.3 * checks.random.random())
    peer.send_signal(signal.SIGSTOP)
    site.kill(victim)
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
    site = new_site(checks, "stopped")
    times = sorted(stop_beside_stopped_peer(site, attempt) for attempt in range(8))
    print(f"  {times[4]:.0f} ms, the slowest {times[-1]:.0f} ms")
    # The deadline counts twice, for stop and for close; the rest is for a loaded machine, which may hold up a single one longer.
    checks.check(times[4] < 2 * 1500 + 2000 and times[-1] < 2 * 1500 + 20000, "stop and close return by their deadline", times)
    site.drain_and_judge("stopped peer")


def fork_in_the_middle(checks):
    """Forks again and again, each time at another moment of what the threads are doing."""
    site = new_site(checks, "fork")
    for i, more in enumerate(([], ["--file_sink", site.sink, "--drain_ms", 60000])):
        child = site.start("forker", f"fork{i}", "--forks", FORKS, "--start_at", i * FORKS, *more)
        report = site.expect(child, f"the process that forks {FORKS} times" + (" and delivers" if more else ""))
        checks.check(report.get("checks", 0) >= 4 and report.get("failed") == 0, "handles after fork", str(report))
    site.drain_and_judge("fork")


def elected_deliverer(checks):
    """Of two that want to deliver one does; when it is killed the other takes over."""
    site = new_site(checks, "elected", promises={"callback": harness.history.Promise()})
    both = [site.deliverer(tag, "--callback_log", site.history, "--until_term") for tag in ("d0", "d1")]
    site.expect(site.producer("a", "--count", 3000), "the first producer")
    all_in = harness.wait_until(lambda: len(site.read("seen")) >= 3000)
    counts = [deliveries(site, child) for child in both]
    checks.check(all_in and sorted(counts) == [0, 3000], "exactly one delivers", str(counts))
    working, waiting = both if counts[0] else reversed(both)
    site.kill(working)
    site.expect(site.producer("b", "--count", 3000), "the second producer")
    wanted = {record.id for record in site.read() if record.tag == "b"}
    took_over = harness.wait_until(lambda: wanted <= {record.id for record in site.read("seen")})
    checks.check(took_over, "the other takes over when it is killed", f"{len(site.read('seen'))} arrived")
    site.terminate(waiting, "the deliverer that took over")
    harness.judge(checks, "elected", [site.history], {}, site.promises)


def deliveries(site, child):
    """How many events the callback of that process got."""
    wanted = f'"p":"{site.tags[child]}"'.encode()
    with open(site.history, "rb") as lines:
        return sum(line.startswith(b'{"k":"seen"') and wanted in line for line in lines)


if __name__ == "__main__":
    harness.main("processes", [four_processes, abandoned_journal, pid_namespaces, stopped_peer, fork_in_the_middle,
                               elected_deliverer])
