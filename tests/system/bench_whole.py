#!/usr/bin/env python3
"""The whole plan of the benchmark from its start to the README's table, with figures that are made up: some runs fail, some
servers cannot be had, some figures are 0, and it is stopped again and again in the middle of a line. Then, what has to do with
the disk and the registry of packages; and the guard of instruction counts."""
import contextlib
import io
import json
import os
import pathlib
import re
import shutil
import sys
import types
import xml.etree.ElementTree

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

sys.path[:0] = [str(harness.ROOT / "bench"), str(harness.ROOT / "bench" / "guard")]
import guard
import parts
import peers
import place
import plan
import readme
import report
import run

ROUNDS, SECONDS = 3, 0.5
HOW = {"quick": False, "rounds": ROUNDS, "seconds": SECONDS}
RATES = ("events", "per_second", "cpu_ns", "p50_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns")
OTHERS = ("payload_bytes", "disk_bytes", "bytes_per_second", "age_p50_ns", "age_p99_ns", "open_ms", "drain_bytes_per_second",
          "anonymous_bytes", "slowed_percent")


class Stop(Exception):
    """In place of a signal."""


class Played(run.Bench):
    """Runs nothing. Stops in the middle of run number `stops_at`."""

    def __init__(self, t, kept, where, absent, stops_at):
        super().__init__(str(harness.BUILD), where, kept, ROUNDS, SECONDS)
        self.t, self.absent, self.stops_at = t, absent, stops_at

    def figures(self, item, rate, address):
        self.stops_at -= 1
        if self.stops_at < 0:
            raise Stop
        certain = item.case in ("spool_power", "spool_backlog", "spool_null")  # what the checks look for
        if not certain and self.t.random.random() < 0.02:
            raise peers.Unavailable("failed by chance")
        zero = not certain and self.t.random.random() < 0.1
        return {name: 0 if zero else self.t.random.uniform(1, 1e6) for name in RATES + OTHERS}

    def server(self, name):
        if name in self.absent:
            raise peers.Unavailable("not installed")
        self.parts.add_server(name, "1.0", "made up | with & and <")
        return name

    def run_served(self, item, rate, server):
        return self.figures(item, rate, "127.0.0.1:1")

    def run_command(self, lines):
        self.parts.add(put={"lines": lines, "lines_per_second": 1e6, "single_ms": 5, "true_ms": 0.5})


OPTIONS = types.SimpleNamespace(only="", minutes=0, rounds=ROUNDS, seconds=SECONDS, quick=False)


def until_nothing_is_left(t, items, path, where, absent):
    """Goes on and on, as with RESUME=1; the file loses the end of its last line each time. Returns the Bench, and how often."""
    for times in range(1000):
        bench = Played(t, parts.Parts(path, HOW, times > 0), where, absent, t.random.randrange(150))
        try:
            run.measure(bench, OPTIONS, items)
            return bench, times
        except Stop:
            pathlib.Path(path).write_bytes(pathlib.Path(path).read_bytes()[:-t.random.randrange(1, 20)])
    return bench, times


def test_whole_plan(t):
    run.os.sync = lambda: None  # nothing is written that would matter
    items = plan.plan(False, "a recorded session")
    absent = t.random.sample(sorted(peers.SERVERS), 3)
    out = t.dir("out")
    out.mkdir()
    where = place.Place(out)
    bench, times = until_nothing_is_left(t, items, str(out / "full.jsonl"), where, absent)
    left, skipped = bench.parts.left(items, ROUNDS), bench.parts.skipped
    t.check(left == 0 and times > 3, f"{len(items)} items are run to their end, beside {len(skipped)} skipped, stopped {times} times",
            f"{left} are left")
    complete = [key for key, row in bench.parts.runs.items() if key not in skipped]
    wanted = {item.key: item.rounds or ROUNDS for item in items}
    t.check(all(len(values) == wanted[key] for key in complete for values in bench.parts.runs[key].values()),
            "each has as many figures as rounds")
    t.check(all(item.key in skipped for item in items if item.server in absent), f"without {', '.join(absent)}")
    results = run.results_of(bench, OPTIONS, items)
    (out / "sizes.svg").write_text("stale")
    report.write(results, str(out))
    check_report(t, out, results)
    report.write(dict(results, runs={}), str(out))
    t.check(not list(out.glob("*.svg")) and "not in this run" in (out / "results.md").read_text(), "a report of nothing has no plots")


def is_within(mark, width, height):
    """Of an SVG; a text that ends at x is about 6 units a letter long."""
    x, y = float(mark.get("x") or 0), float(mark.get("y") or 0)
    begin = x - 6 * len(mark.text) if mark.get("text-anchor") == "end" else x
    return 0 <= begin and x <= width and 0 <= y <= height


def check_report(t, out, results):
    text = (out / "results.md").read_text()
    t.check(all(title in text for title in ("## Targets", "## Settings", "not installed")), "the report says what was skipped")
    t.check(json.loads((out / "results.json").read_text())["left"] == 0, "and its figures are one whole file")
    for plot in sorted(out.glob("*.svg")):
        root = xml.etree.ElementTree.fromstring(plot.read_text())
        width, height = float(root.get("width")), float(root.get("height"))
        outside = [mark.text for mark in root if not is_within(mark, width, height)]
        t.check(not outside, f"{plot.name} lies within its page", str(outside))
    t.check({path.stem for path in out.glob("*.svg")} == set(report.PLOTS) == set(re.findall(r"!\[.*\]\((.*)\.svg\)", text)),
            "and all plots are there, and shown")
    table = readme.table(results)
    columns = {line.count("|") for line in table.splitlines() if line}
    t.check("| **libspool**, power level |" in table and columns == {5}, "so is the README's table", str(columns))


def test_share(t):
    """What is paced by another one's rate is never begun flat out instead, and does not keep a run from being complete."""
    base, share = plan.Item("spool_null", count=1), plan.Item("spool_ages", share=0.5, share_of=plan.NULL)
    for name, line, rate in (("skipped", {"skipped": "failed"}, None), ("still", {"took": 1, "figures": {"per_second": 0}}, None),
                             ("known", {"took": 1, "figures": {"per_second": 100}}, 50)):
        played = Played(t, parts.Parts(str(t.dir(name + ".jsonl")), HOW, False), place.Place(t.dir(name)), (), 100)
        played.figures = lambda item, rate, address: {"rate": rate}
        t.check(played.rate_of(share) is None and played.parts.left([share], ROUNDS), f"{name}: waits for the other one")
        played.parts.add(key=base.key, **line)
        played.run([share], 1e9)
        got = played.parts.runs.get(share.key, {}).get("rate")
        t.check(got == (rate and [rate] * ROUNDS) and played.parts.left([share], ROUNDS) == 0, f"{name}: at a rate of {rate}", str(got))


def test_room(t):
    """10^8 events of backlog are 27 GB, and the disk has less."""
    where = place.Place(t.dir("room"))
    backlog = plan.Item("spool_backlog", count=10 ** 8)
    t.check(27e9 < backlog.room_bytes(1) < 40e9, "what a backlog takes is known before", str(backlog.room_bytes(1)))
    bench = run.Bench(str(harness.BUILD), where, parts.Parts(str(t.dir("room.jsonl")), HOW, False), 1, 1)
    whole, shutil.disk_usage = shutil.disk_usage, lambda path: types.SimpleNamespace(free=10 ** 10)
    try:
        bench.run_item(backlog)
    finally:
        shutil.disk_usage = whole
    reason = bench.parts.skipped.get(backlog.key, "")
    t.check("GB" in reason and "10.0 GB are free" in reason and "BENCH_DIR" in reason, "one that has no room is skipped", reason)
    t.check(not where.lacks(0), "and nothing else is")


def test_no_network(t):
    """Packages that cannot be had are asked for once, not for each of a hundred runs."""
    tools, asked = t.dir("tools"), t.dir("asked")
    tools.mkdir()
    (tools / "apt-get").write_text(f"#!/bin/sh\necho $* >> {asked}\necho 'E: no network' >&2\nexit 100\n")
    (tools / "apt-get").chmod(0o755)
    path, os.environ["PATH"] = os.environ["PATH"], f"{tools}:{os.environ['PATH']}"
    try:
        room, reasons = peers.Room(str(t.dir("network")), True), []
        for _ in range(3):
            with contextlib.suppress(peers.Unavailable):
                room.find("no-such-server", ("no-such-package",))
            try:
                room.find("no-such-server", ("no-such-package",))
            except peers.Unavailable as reason:
                reasons.append(str(reason))
    finally:
        os.environ["PATH"] = path
    t.check(reasons == ["cannot be downloaded: E: no network"] * 3, "the reason is what apt-get said", str(reasons))
    t.check(len(asked.read_text().splitlines()) == 1, "which was asked once", asked.read_text())


def guarded(compiler, scale):
    """What guard.py prints and answers when all paths take `scale` times what is noted."""
    with open(guard.FIGURES, encoding="utf-8") as file:
        noted = json.load(file)
    guard.compiler = lambda: compiler or noted["compiler"]
    guard.count = lambda program, path: noted["instructions_an_event"][path] * scale
    with contextlib.redirect_stdout(io.StringIO()) as said:
        status = guard.main()
    return status, said.getvalue()


def test_guard(t):
    for compiler, scale, fails in ((None, 1.04, False), (None, 1.06, True), (None, 0.94, True), ("Clang 99, -O2 -g", 1.2, False),
                                   ("Clang 99, -O2 -g", 0.5, False), ("Clang 99, -O2 -g", 1.3, True)):
        status, said = guarded(compiler, scale)
        passed, failed = (0, len(guard.PATHS)) if fails else (len(guard.PATHS), 0)
        t.check(bool(status) == fails and f"RESULT {passed} {failed}" in said,
                f"{scale} times the figure by {compiler or 'the compiler of the figures'} {'fails' if fails else 'passes'}", said)
    t.check("compared loosely" in said, "another compiler is compared loosely, and that is said", said)
    status, said = guarded("12.2.0, -O0", 3)
    t.check(said.startswith("skipped: ") and "NOTHING WAS COMPARED" in said and "guard-update" in said,
            "beside other flags it is said that nothing was compared", said)


if __name__ == "__main__":
    harness.main("bench_whole", [test_whole_plan, test_share, test_room, test_no_network, test_guard])
