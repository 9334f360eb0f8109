#!/usr/bin/env python3
"""run.py - all benchmarks, ours and the peers', and what is made of them: results.json, results.md and plots in
BUILD/bench.

    bench/run.py [--quick] [--only WORD] [--rounds N] [--seconds S]

BUILD (build): where the programs are. BENCH_DIR (BUILD/bench): the disk to measure. BENCH_DOWNLOAD=0: peers that are
not installed are skipped instead of unpacked. BENCH_INPUT: a recorded session as JSON Lines
(../shared/data/agent-trajectories.jsonl where there is one, else examples/). BACKLOG (1e7): the largest backlog."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

import command
import peers
import plan
import report


class Bench:
    """Runs items and keeps their figures: runs[key][figure] is a list, a value a round."""

    def __init__(self, build, place, rounds, seconds):
        self.program, self.build, self.place = os.path.join(build, "bench", "bench"), build, place
        self.rounds, self.seconds = rounds, seconds
        self.room = peers.Room(build, os.environ.get("BENCH_DOWNLOAD", "1") != "0")
        self.runs, self.skipped, self.versions, self.settings = {}, {}, {}, {}
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
        self.versions[item.server], self.settings[item.server] = server.version, server.settings
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
        rate = item.rate
        if item.share:
            reached = self.runs.get(item.share_of, {}).get("per_second")
            if not reached:
                return
            rate = reached[-1] * item.share
        os.sync()
        try:
            figures = self.run_served(item, rate) if item.server else self.figures(item, rate, "")
        except (peers.Unavailable, subprocess.TimeoutExpired, OSError) as reason:
            self.skipped[item.key] = str(reason)
            return
        for name, value in figures.items():
            self.runs.setdefault(item.key, {}).setdefault(name, []).append(value)

    def run(self, items):
        for number in range(self.rounds):
            for item in items:
                if item.key in self.skipped or (item.rounds and number >= item.rounds):
                    continue
                if sys.stderr.isatty():
                    print(f"\r\033[Kround {number + 1} of {self.rounds}: {item.key}", end="", file=sys.stderr)
                self.run_item(item)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)


def recorded_input():
    names = [os.environ.get("BENCH_INPUT", ""), "../shared/data/agent-trajectories.jsonl"]
    return next((name for name in names if name and os.path.exists(name)), "")


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.split(":")[1].strip() for line in file if line.startswith("model name")), "")
    return {"cpus": os.cpu_count(), "model": model, "kernel": os.uname().release,
            "date": time.strftime("%Y-%m-%d", time.gmtime())}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="items whose key holds this word")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0)
    options = parser.parse_args()
    build = os.environ.get("BUILD", "build")
    out = os.path.join(build, "bench")
    place = os.path.abspath(os.environ.get("BENCH_DIR", out))
    os.makedirs(place, exist_ok=True)
    bench = Bench(build, place, options.rounds, options.seconds or (0.5 if options.quick else 1.5))
    items = [item for item in plan.plan(options.quick, recorded_input()) if options.only in item.key]
    begin = time.monotonic()
    bench.run(items)
    put = {} if options.only else command.measure(build, place, 200000 if options.quick else 1000000)
    results = {"machine": machine(), "rounds": options.rounds, "seconds": bench.seconds, "quick": options.quick,
               "cases": bench.cases, "versions": bench.versions, "settings": bench.settings, "skipped": bench.skipped,
               "took_seconds": time.monotonic() - begin, "runs": bench.runs, "command": put}
    report.write(results, out)
    with open(os.path.join(out, "results.md"), encoding="utf-8") as file:
        print(file.read())


if __name__ == "__main__":
    main()
