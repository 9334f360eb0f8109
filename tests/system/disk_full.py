#!/usr/bin/env python3
"""A full spool and a full disk: enqueue answers by policy, draining goes on, nothing acknowledged is lost, and it works
again when there is room. The full disk is a small tmpfs, for which the test must be root; else that part is skipped."""
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

MIB = 1 << 20
SMALL = ["--segment_bytes", MIB, "--journal_bytes", 256 << 10, "--max_bytes", 16 * MIB]
SLACK = 0.02  # of max_bytes: one segment (1/64) is the step in which room is given and taken


class Full:
    """One spool that is filled, and its logs."""

    def __init__(self, checks, directory, options):
        self.checks, self.spool, self.options = checks, directory, options
        self.history, self.sink = checks.dir(f"{directory.name}.history"), checks.dir(f"{directory.name}.jsonl")
        self.drains = 0

    def program(self, name, *more, timeout=120):
        done = harness.run(harness.program(name), "--dir", self.spool, "--history", self.history, *self.options, *more,
                           timeout=timeout)
        return done.returncode, harness.last_json(done.stdout), done.stderr.strip()

    def produce(self, tag, what, *more):
        """A producer that must end well, whatever was full; returns its report."""
        status, report, errors = self.program("producer", "--tag", tag, "--size", 2000, *more)
        self.checks.check(status == 0, f"{what}: the producer ends well", f"status {status}: {errors}")
        return report

    def drain(self, what):
        self.drains += 1
        status, report, errors = self.program("deliverer", "--tag", f"drain{self.drains}", "--file_sink", self.sink,
                                              "--drain_ms", 60000)
        self.checks.check(status == 0, f"{what}: draining works", f"status {status}: {errors}")
        return report

    def compare(self, what):
        harness.judge(self.checks, what, [self.history], {"file": self.sink})


def fills_rejects_and_recovers(full, what):
    """The course that a full spool and a full disk have in common."""
    checks = full.checks
    report = full.produce("one", what, "--policy", "reject", "--count", 12000)
    checks.check(report.get("full", 0) > 0, f"{what}: rejects when full", str(report))
    checks.check(report.get("acked", 0) > 1000, f"{what}: accepts until then", str(report))
    report = full.produce("two", f"{what}, opened again", "--policy", "reject", "--count", 2000)
    checks.check(report.get("full", 0) > 0, f"{what}: still full after opening again", str(report))
    full.drain(what)
    full.compare(what)
    report = full.produce("three", f"{what}, drained", "--policy", "reject", "--count", 500)
    checks.check(report.get("full") == 0, f"{what}: has room again after the drain", str(report))
    full.drain(f"{what}, again")
    full.compare(f"{what}, in the end")


def reject(checks):
    fills_rejects_and_recovers(Full(checks, checks.dir("reject"), SMALL), "max_bytes")


def block(checks):
    full = Full(checks, checks.dir("block"), SMALL)
    report = full.produce("wait", "block without a sink", "--policy", "block", "--full_timeout_ms", 50, "--priority",
                          "low", "--count", 10000, "--seconds", 4)
    checks.check(report.get("full", 0) > 0, "block: gives up after its time", str(report))
    report = full.produce("flow", "block with a sink", "--policy", "block", "--full_timeout_ms", 30000, "--count",
                          20000, "--file_sink", full.sink, "--drain_ms", 60000)
    checks.check(report.get("full") == 0 and report.get("acked") == 20000, "block: waits for room and loses nothing",
                 str(report))
    full.drain("block")
    full.compare("block")


def drop_oldest(checks):
    full = Full(checks, checks.dir("drop"), SMALL)
    # Registers it, so that drops are counted.
    status, _, errors = full.program("deliverer", "--tag", "first", "--file_sink", full.sink)
    checks.check(status == 0, "drop: the sink is registered", errors)
    report = full.produce("drop", "drop", "--policy", "drop", "--count", 20000)
    checks.check(report.get("acked") == 20000, "drop: accepts everything", str(report))
    drained = full.drain("drop")
    acked = [record.id for record in harness.read_log(full.history)]
    events = harness.read_file_sink(full.sink)
    kept = {event["id"] for event in events}
    checks.check(len(kept) == len(events) and kept <= set(acked), "drop: what is left arrives once")
    checks.check(drained.get("dropped", 0) > 0 and len(kept) + drained["dropped"] == len(acked),
                 "drop: every event is delivered or counted as dropped",
                 f"{len(acked)} acknowledged, {len(kept)} arrived, {drained.get('dropped')} dropped")
    harness.history.mark(full.history, k="dropped", s="file", count=drained.get("dropped", 0))
    full.compare("drop")
    newest = acked[-1000:]
    checks.check(set(newest) <= kept, "drop: the newest are kept", f"{len(set(newest) - kept)} of 1000 are not")


def watermarks(checks):
    """As it fills, lower priorities meet the limit first: 80, 90, 95, 100 %."""
    full = Full(checks, checks.dir("marks"),
                ["--segment_bytes", MIB, "--journal_bytes", 64 << 10, "--max_bytes", 64 * MIB])
    status, report, errors = full.program("filler", "--tag", "fill")
    checks.check(status == 0, "the filler ends well", f"status {status}: {errors}")
    for priority, mark in (("low", 0.80), ("medium", 0.90), ("high", 0.95), ("critical", 1.00)):
        share = report.get(priority, 0)
        near = mark - SLACK < share <= mark + SLACK
        checks.check(near, f"{priority} meets the limit near {mark:.0%}", f"at {share:.1%}")
    checks.check(report.get("critical", 2) <= 1 + 1 / 64, "max_bytes bounds the directory, to a segment", str(report))
    full.drain("watermarks")
    full.compare("watermarks")


class Disk:
    """A small tmpfs; `mounted` is False where that is not permitted."""

    def __init__(self, checks, name, size):
        self.path = checks.dir(name)
        self.path.mkdir()
        self.mounted = harness.run("mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", self.path).returncode == 0

    def fill(self, leave):
        """Takes all room but `leave` bytes away, as another program would."""
        free = harness.os.statvfs(self.path)
        size = free.f_bavail * free.f_frsize - leave
        with open(self.path / "other", "ab") as other:
            other.write(b"\xff" * max(size, 0))

    def free(self):
        (self.path / "other").unlink()

    def unmount(self):
        if self.mounted:
            harness.run("umount", self.path)


def small_disk(checks):
    """The disk is smaller than max_bytes: it is the disk that refuses."""
    disk = Disk(checks, "small", 24 * MIB)
    if not disk.mounted:
        checks.skip("full disk", "mounting a tmpfs is not permitted here")
        return
    try:
        options = ["--segment_bytes", MIB, "--journal_bytes", 256 << 10]
        fills_rejects_and_recovers(Full(checks, disk.path / "small-disk", options), "small disk")
    finally:
        disk.unmount()


def disk_taken_by_others(checks):
    """Another program fills the disk: the spool opens, drains and, when there is room again, goes on."""
    disk = Disk(checks, "taken", 48 * MIB)
    if not disk.mounted:
        checks.skip("disk filled by others", "mounting a tmpfs is not permitted here")
        return
    try:
        full = Full(checks, disk.path / "taken-disk", ["--segment_bytes", MIB, "--journal_bytes", 256 << 10])
        full.produce("before", "before", "--count", 2000, "--durability", "mixed")
        disk.fill(0)
        report = full.produce("during", "while full", "--count", 3000, "--policy", "reject", "--priority", "low")
        checks.check(report.get("full", 0) > 0, "while full: rejects what has no room", str(report))
        full.drain("while full")
        full.compare("while full")
        disk.free()
        report = full.produce("after", "with room again", "--count", 2000, "--policy", "reject")
        checks.check(report.get("full") == 0, "with room again: accepts everything", str(report))
        full.drain("with room again")
        full.compare("with room again")
    finally:
        disk.unmount()


def damaged_state(checks):
    """state.mdb is damaged, and another program has filled the disk: the spool opens and drains. (The room that a new
    state needs comes from the damaged one's reserve.)"""
    disk = Disk(checks, "damaged", 64 * MIB)
    if not disk.mounted:
        checks.skip("damaged state on a full disk", "mounting a tmpfs is not permitted here")
        return
    try:
        full = Full(checks, disk.path / "damaged-disk", ["--segment_bytes", MIB, "--journal_bytes", 256 << 10])
        full.produce("before", "before", "--count", 1000, "--durability", "mixed")
        full.drain("before")
        full.produce("waiting", "before, undelivered", "--count", 1000)
        disk.fill(0)
        with open(full.spool / "state.mdb", "r+b") as state:
            state.write(b"\xa5" * 8192)
        full.drain("damaged and full")
        checks.check(any((full.spool / "quarantine").iterdir()), "the damaged state is kept in quarantine/")
        full.compare("damaged and full")
        disk.free()
        full.produce("after", "damaged, with room again", "--count", 1000, "--policy", "reject")
        full.drain("damaged, with room again")
        full.compare("damaged, with room again")
    finally:
        disk.unmount()


if __name__ == "__main__":
    harness.main("disk_full", [reject, block, drop_oldest, watermarks, small_disk, disk_taken_by_others,
                              damaged_state])
