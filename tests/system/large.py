#!/usr/bin/env python3
"""A large backlog: opening it is quick whatever its size, and draining it takes little memory of its own.

256 MiB of bodies in `make check`, 4 GiB with LARGE=1 in `make large` (needs 6 GiB of disk), LARGE_BYTES for any other.
The memory limit always counts; the time to open only does with LARGE=1, else a loaded machine would decide."""
import os
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

MIB = 1 << 20
LARGE = os.environ.get("LARGE", "") not in ("", "0")
LARGE_BYTES = int(os.environ.get("LARGE_BYTES", 4096 * MIB if LARGE else 256 * MIB))
BODY = 1000
ANONYMOUS_MAX = 32 * MIB  # what is in flight, 8 MiB a sink, and the library's own
OPEN_MS_MAX = 100 if LARGE else 5000
TIMEOUT = 120 + LARGE_BYTES / (20 * MIB)


def most_anonymous(child):
    """The most anonymous memory a running process had, sampled until it ends."""
    most = 0
    deadline = time.monotonic() + TIMEOUT
    while child.poll() is None and time.monotonic() < deadline:
        most = max(most, harness.rss_anonymous(child.pid))
        time.sleep(0.01)
    return most


def large(checks):
    spool, count = checks.dir("spool"), LARGE_BYTES // (BODY + 80)
    made = harness.run(harness.program("producer"), "--dir", spool, "--count", count, "--size", BODY, "--batch", 64,
                       "--full_timeout_ms", 60000, timeout=TIMEOUT)
    report = harness.last_json(made.stdout)
    checks.check(made.returncode == 0 and report.get("acked") == count, "the backlog is made",
                 made.stderr + str(report))
    used = sum(path.stat().st_blocks * 512 for path in spool.rglob("*") if path.is_file())
    opened = [open_once(checks, spool) for _ in range(5)]
    middle = sorted(opened)[2]
    print(f"  {used / MIB:.0f} MiB on disk; opened in {middle:.1f} ms (median of {[round(ms, 1) for ms in opened]})")
    checks.check(middle < OPEN_MS_MAX, f"opening takes less than {OPEN_MS_MAX} ms", f"{middle:.1f} ms")
    drain(checks, spool, count)


def open_once(checks, spool):
    """Opens and closes; returns the milliseconds that opening took."""
    done = harness.run(harness.program("deliverer"), "--dir", spool, timeout=TIMEOUT)
    checks.check(done.returncode == 0, "it opens and closes", done.stderr)
    return harness.last_json(done.stdout).get("open_ms", 1e9)


def drain(checks, spool, count):
    start = time.monotonic()
    child = checks.start(harness.program("deliverer"), "--dir", spool, "--null_sink", "--drain_ms", int(TIMEOUT * 1000))
    most = most_anonymous(child)
    status, report, errors = harness.wait(child, 10)
    seconds = time.monotonic() - start
    print(f"  drained {count} events in {seconds:.1f} s, at most {most / MIB:.1f} MiB of anonymous memory")
    checks.check(status == 0 and report.get("pending") == 0, "it drains", f"status {status}: {errors} {report}")
    checks.check(0 < most < ANONYMOUS_MAX, f"draining takes less than {ANONYMOUS_MAX // MIB} MiB",
                 f"{most / MIB:.1f} MiB")
    checks.check(report.get("segments", 99) <= 2, "and gives the disk back", str(report))


if __name__ == "__main__":
    harness.main("large", [large])
