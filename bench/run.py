#!/usr/bin/env python3
"""run.py - all benchmarks, ours and the peers', and what is made of them: results.json, results.md and plots in
BUILD/bench.

    bench/run.py [--quick] [--only WORD] [--rounds N] [--seconds S] [--resume] [--minutes M] [--list]

Each run is kept as it ends (full.jsonl, quick.jsonl). With --resume what is there is not run again; with --minutes no run is begun
that would end later, so that a machine that is quiet for five minutes now and then does for all: repeat
`make bench RESUME=1 MINUTES=5` until nothing is left.

BUILD (build): where the programs are. BENCH_DIR (BUILD/bench): the disk to measure. BENCH_DOWNLOAD=0: peers that are
not installed are skipped instead of unpacked. BENCH_INPUT: a recorded session as JSON Lines
(../shared/data/agent-trajectories.jsonl where there is one). BACKLOG (1e7): the largest backlog. FLUENT_BIT,
NATS_SERVER: a program or a source tree of these peers (sources.py)."""
import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import command
import parts
import peers
import plan
import report


class Bench:
    """Runs items, and keeps their figures in `parts`."""

    def __init__(self, build, place, kept, rounds, seconds):
        self.program, self.build, self.place = os.path.join(build, "bench", "bench"), build, place
        self.parts, self.rounds, self.seconds = kept, rounds, seconds
        self.room = peers.Room(build, os.environ.get("BENCH_DOWNLOAD", "1") != "0")
        self.cases = {}
        for line in subprocess.run([self.program, "--list"], capture_output=True, text=True, check=True).stdout.splitlines():
            case = json.loads(line)
            self.cases[case["name"]] = case

    def figures(self, item, rate, address):
        """One run of the bench program, in a directory that is gone afterwards."""
        directory = tempfile.mkdtemp(prefix="files.", dir=self.place)
        command_line = [self.program, item.case, "--dir", directory, "--bytes", str(item.bytes), "--producers",
                        str(item.producers), "--seconds", str(item.seconds or self.seconds), "--count", str(item.count or 1),
                        "--rate", str(rate)]
        command_line += ["--address", address] if address else []
        command_line += ["--input", item.input] if item.input else []
        try:
            done = subprocess.run(command_line, capture_output=True, text=True, timeout=1800)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        if done.returncode:
            raise peers.Unavailable((done.stderr.strip().splitlines() or [f"ended with {done.returncode}"])[-1])
        return json.loads(done.stdout)

    def run_served(self, item, rate):
        server = peers.SERVERS[item.server](self.room)
        self.parts.add_server(item.server, server.version, server.settings)
        directory = tempfile.mkdtemp(prefix="server.", dir=self.place)
        os.chmod(directory, 0o755)
        try:
            address = server.start(directory)
            before = server.cpu_seconds()
            figures = self.figures(item, rate, address)
            if figures.get("events"):
                figures["server_cpu_ns"] = (server.cpu_seconds() - before) * 1e9 / figures["events"]
            return figures
        finally:
            server.stop()
            shutil.rmtree(directory, ignore_errors=True)

    def run_item(self, item):
        rate, begin = item.rate, time.monotonic()
        if item.share:
            reached = self.parts.runs.get(item.share_of, {}).get("per_second")
            if not reached:
                return
            rate = reached[-1] * item.share
        os.sync()
        try:
            figures = self.run_served(item, rate) if item.server else self.figures(item, rate, "")
        except (peers.Unavailable, subprocess.TimeoutExpired, OSError) as reason:
            self.parts.add(key=item.key, skipped=str(reason))
            return
        self.parts.add(key=item.key, took=round(time.monotonic() - begin, 2), figures=figures)

    def run(self, items, until):
        """Whatever is due, round by round. False: there was no time for all."""
        for number in range(self.rounds):
            for item in items:
                if not self.parts.is_due(item, number, self.rounds):
                    continue
                if time.monotonic() + self.parts.expected(item, self.seconds) > until:
                    return False
                if sys.stderr.isatty():
                    print(f"\r\033[Kround {number + 1} of {self.rounds}: {item.key}", end="", file=sys.stderr)
                self.run_item(item)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
        return True


def recorded_input():
    names = [os.environ.get("BENCH_INPUT", ""), "../shared/data/agent-trajectories.jsonl"]
    return next((name for name in names if name and os.path.exists(name)), "")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
    return {"cpus": os.cpu_count(), "model": model, "kernel": os.uname().release,
            "date": time.strftime("%Y-%m-%d", time.gmtime())}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="items whose key holds this word")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--resume", action="store_true", help="keep what was measured before")
    parser.add_argument("--minutes", type=float, default=0, help="begin nothing that would end later")
    parser.add_argument("--list", action="store_true", help="only say what would be run, and how long")
    options = parser.parse_args()
    options.seconds = options.seconds or (0.5 if options.quick else 1.0)
    return options


def list_items(items, options, kept):
    total = 0
    for item in items:
        rounds = item.rounds or options.rounds
        each = kept.expected(item, options.seconds) if kept else (item.seconds or options.seconds) + item.overhead
        total += rounds * each
        print(f"{rounds} times {each:4.1f} s  {item.key}")
    print(f"{len(items)} items, about {total / 60:.0f} minutes")


def results_of(bench, options, items):
    kept = bench.parts
    return {"machine": machine(), "rounds": options.rounds, "seconds": options.seconds, "quick": options.quick,
            "cases": bench.cases, "versions": {name: line["version"] for name, line in kept.servers.items()},
            "settings": {name: line["settings"] for name, line in kept.servers.items()}, "skipped": kept.skipped,
            "took_seconds": kept.seconds, "left": kept.left(items, options.rounds), "runs": kept.runs,
            "command": kept.put}


def measure(bench, options, items):
    until = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    done = bench.run([item for item in items if options.only in item.key], until)
    if done and not options.only and not bench.parts.put:
        bench.parts.add(put=command.measure(bench.build, bench.place, 200000 if options.quick else 1000000))


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a server is stopped, too
    build = os.environ.get("BUILD", "build")
    out = os.path.join(build, "bench")
    place = os.path.abspath(os.environ.get("BENCH_DIR", out))
    os.makedirs(place, exist_ok=True)
    items = plan.plan(options.quick, recorded_input())
    path = os.path.join(out, "quick.jsonl" if options.quick else "full.jsonl")
    how = {"quick": options.quick, "rounds": options.rounds, "seconds": options.seconds}
    if options.list:
        list_items(items, options, parts.Parts(path, how, True) if options.resume else None)
        return
    try:
        kept = parts.Parts(path, how, options.resume)
    except parts.Mismatch as problem:
        sys.exit(str(problem))
    bench = Bench(build, place, kept, options.rounds, options.seconds)
    measure(bench, options, items)
    results = results_of(bench, options, items)
    report.write(results, out)
    with open(os.path.join(out, "results.md"), encoding="utf-8") as file:
        print(file.read())
    if results["left"]:
        print(f"{results['left']} runs are left: go on with RESUME=1")


if __name__ == "__main__":
    main()
