#!/usr/bin/env python3
"""A process with hard limits: on the size of files, on descriptors, on memory. The library answers with a code; it does
not end or hang its host, it loses nothing that it acknowledged, and without the limit all goes on.

A write beyond RLIMIT_FSIZE raises SIGXFSZ, which ends a program that does not expect it: the history is written through
a pipe, which has no size, so that every such signal is the library's doing. LIMITS: how many limits of each kind (the
first 3 of a shuffled list; 0: all); SEED."""
import os
import pathlib
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

LIMITS = int(os.environ.get("LIMITS", 3))
SMALL = ["--segment_bytes", 1 << 20, "--journal_bytes", 256 << 10, "--max_bytes", 64 << 20, "--policy", "reject",
         "--full_timeout_ms", 100, "--stop_timeout_ms", 2000]
MIB = 1 << 20
FILE_SIZES = [0, 1, 100, 1000, 5000, 65536, 260000, 266240, 300000, MIB, MIB + 1, 2 * MIB, 5 * MIB, 8 * MIB, 9 * MIB]
DESCRIPTORS = list(range(6, 30))
MEMORY = [20 * MIB, 30 * MIB, 40 * MIB, 50 * MIB, 60 * MIB, 80 * MIB, 100 * MIB, 120 * MIB, 150 * MIB, 200 * MIB]


class Limited:
    """One spool with a backlog of 2,000 events that is worked on under a limit."""

    def __init__(self, checks, name, fresh):
        self.checks, self.what = checks, name
        self.site = harness.Site(checks, name, *SMALL)
        if not fresh:
            self.site.expect(self.site.producer("before", "--count", 2000), f"{name}: the producer of the backlog")

    def run(self, limit, program, tag, *more):
        """Runs a program under `prlimit`; returns its exit status. Its history comes through a pipe."""
        read, write = os.pipe()
        with open(self.site.history, "ab") as log:
            copier = subprocess.Popen(["cat"], stdin=read, stdout=log)
        os.close(read)
        child = self.checks.start("prlimit", *limit, harness.program(program), "--dir", self.site.spool, "--tag", tag,
                                  "--history", f"/dev/fd/{write}", *SMALL, *more, pass_fds=[write],
                                  stdin=subprocess.DEVNULL)
        os.close(write)
        status, report, errors = harness.wait(child, 60)
        copier.wait()
        harness.history.mark(self.site.history, k="kill", p=tag)
        return status, report, errors

    def work(self, limit):
        """Both roles under the limit, then without it: no signal, no hang, nothing lost."""
        complaints = []
        for program, more in (("producer", ["--count", 6000, "--size", 300, "--durability", "mixed"]),
                              ("deliverer", ["--file_sink", self.site.sink, "--drain_ms", 500])):
            status, report, errors = self.run(limit, program, program[:4], *more)
            if status not in (0, 1) or (status == 1 and not (errors or report)):
                complaints.append(f"{program}: status {status}: {errors} {report}")
        self.checks.check(not complaints, f"{self.what}: answers, and does not end or hang", "; ".join(complaints))
        judged = self.site.drain_and_judge(f"{self.what}, lifted")
        return judged.counts()


def under(checks, kind, option, values):
    chosen = list(values)
    checks.random.shuffle(chosen)
    chosen = sorted(chosen[:LIMITS] if LIMITS else chosen)
    for value in chosen:
        for fresh in (True, False):
            name = f"{kind}-{value}-{'new' if fresh else 'used'}"
            Limited(checks, name, fresh).work([f"{option}={value}"])


def file_size(checks):
    under(checks, "fsize", "--fsize", FILE_SIZES)


def descriptors(checks):
    under(checks, "nofile", "--nofile", DESCRIPTORS)


def memory(checks):
    under(checks, "as", "--as", MEMORY)


def control(checks):
    """The way the signal would show: a program that writes too much without the library dies of it."""
    done = harness.run("prlimit", "--fsize=1000", "dd", "if=/dev/zero", f"of={checks.dir('big')}", "bs=2000", "count=1")
    died = done.returncode in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ)
    checks.check(died or "too large" in done.stderr, "control: the limit is in force", f"{done.returncode} {done.stderr}")


if __name__ == "__main__":
    if harness.shutil.which("prlimit") is None:
        print("skipped: rlimits: there is no prlimit")
        print("RESULT 0 0")
        sys.exit(0)
    harness.main("rlimits", [control, file_size, descriptors, memory])
