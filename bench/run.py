#!/usr/bin/env python3
"""run.py - all benchmarks, ours and the peers', and what is made of them: results.json, results.md and plots in
BUILD/bench.

    bench/run.py [--quick] [--only WORD] [--rounds N] [--seconds S] [--resume [--retry]] [--minutes M] [--list]

Each run is kept as it ends (full.jsonl, quick.jsonl). With --resume what is there is not run again; with --minutes no run
is begun that would end later, so that a machine that is quiet for five minutes now and then does for all: repeat
`make bench RESUME=1 MINUTES=5` until nothing is left. A case that cannot be run is skipped with its reason, and the
others go on.

BUILD (build): where the programs are. BENCH_DIR (BUILD/bench): the disk to measure; a case that may take more than is free
there is skipped. BENCH_DOWNLOAD=0: peers that are not installed are skipped instead of unpacked. BENCH_INPUT: a recorded
session as JSON Lines (../shared/data/agent-trajectories.jsonl where there is one). BACKLOG (1e7): the largest backlog.
FLUENT_BIT, NATS_SERVER: a program or a source tree of these peers (sources.py)."""
import argparse
import json
import os
import signal
import subprocess
import sys
import time

import command
import parts
import peers
import place
import plan
import report
from place import ENDS_WITH_US

PUT = "spool put"


class Bench:
    """Runs items, and keeps their figures in `parts`."""

    def __init__(self, build, where, kept, rounds, seconds):
        self.program, self.build, self.place = os.path.join(build, "bench", "bench"), build, where
        self.parts, self.rounds, self.seconds = kept, rounds, seconds
        self.room = peers.Room(build, os.environ.get("BENCH_DOWNLOAD", "1") != "0")
        self.servers, self.cases = {}, {}
        for line in subprocess.run([self.program, "--list"], capture_output=True, text=True, check=True).stdout.splitlines():
            case = json.loads(line)
            self.cases[case["name"]] = case

    def figures(self, item, rate, address):
        """One run of the bench program, in a directory that is gone afterwards."""
        with self.place.directory("files") as directory:
            command_line = [*ENDS_WITH_US, self.program, item.case, "--dir", directory, "--bytes", str(item.bytes),
                            "--producers", str(item.producers), "--seconds", str(item.seconds or self.seconds),
                            "--count", str(item.count or 1), "--rate", str(rate)]
            command_line += ["--address", address] if address else []
            command_line += ["--input", item.input] if item.input else []
            limit = 120 + 10 * self.parts.expected(item, self.seconds)
            try:
                done = subprocess.run(command_line, capture_output=True, text=True, timeout=limit)
            except subprocess.TimeoutExpired as reason:
                raise peers.Unavailable(f"was not done after {limit:.0f} s") from reason
        if done.returncode:
            raise peers.Unavailable(peers.last_line(done.stderr, f"ended with {done.returncode}"))
        try:
            return json.loads(done.stdout)
        except ValueError as reason:
            raise peers.Unavailable(f"printed no figures but {done.stdout[:80]!r}") from reason

    def server(self, name):
        """Found, or else unpacked or built, which is not to be in the time of a run."""
        if name not in self.servers:
            self.servers[name] = peers.SERVERS[name](self.room)
            self.parts.add_server(name, self.servers[name].version, self.servers[name].settings)
        return self.servers[name]

    def run_served(self, item, rate, server):
        with self.place.directory("server") as directory:
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

    def rate_of(self, item):
        """Events a second: as the item says, or its share of what another one reached. None: that is to come yet."""
        if not item.share:
            return item.rate
        reached = self.parts.runs.get(item.share_of, {}).get("per_second")
        if item.share_of in self.parts.skipped or (reached and reached[-1] <= 0):
            raise peers.Unavailable(f"a share of what {item.share_of} reaches, which is not known")
        return reached[-1] * item.share if reached else None

    def run_item(self, item):
        try:
            server = self.server(item.server) if item.server else None
            begin = time.monotonic()
            os.sync()
            lack = self.place.lacks(item.room_bytes(self.seconds))
            if lack:
                raise peers.Unavailable(lack)
            rate = self.rate_of(item)
            if rate is None:
                return
            figures = self.run_served(item, rate, server) if server else self.figures(item, rate, "")
        except (peers.Unavailable, subprocess.SubprocessError, OSError) as reason:
            self.parts.add(key=item.key, skipped=str(reason))
            return
        self.parts.add(key=item.key, took=round(time.monotonic() - begin, 2), figures=figures)

    def run(self, items, seconds):
        """Whatever is due, round by round, as far as it ends within so many seconds. What would never fit is left out."""
        until = time.monotonic() + seconds
        for number in range(self.rounds):
            for item in items:
                expected = self.parts.expected(item, self.seconds)
                if not self.parts.is_due(item, number, self.rounds) or expected > seconds:
                    continue
                if time.monotonic() + expected > until:
                    return
                if sys.stderr.isatty():
                    print(f"\r\033[Kround {number + 1} of {self.rounds}: {item.key}", end="", file=sys.stderr)
                self.run_item(item)
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)

    def run_command(self, lines):
        """`spool put`, once."""
        try:
            with self.place.directory("put") as directory:
                self.parts.add(put=command.measure(self.build, directory, lines))
        except (subprocess.SubprocessError, RuntimeError, OSError) as reason:
            self.parts.add(key=PUT, skipped=str(reason))


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
    parser.add_argument("--retry", action="store_true", help="what was skipped before is tried again")
    parser.add_argument("--minutes", type=float, default=0, help="begin nothing that would end later")
    parser.add_argument("--list", action="store_true", help="only say what would be run, and how long")
    options = parser.parse_args()
    options.seconds = options.seconds or (0.5 if options.quick else 1.0)
    return options


def list_items(items, options, kept):
    total = 0
    for item in items:
        rounds = item.rounds or options.rounds
        each = kept.expected(item, options.seconds) if kept else item.expected(options.seconds)
        total += rounds * each
        print(f"{rounds} times {each:4.1f} s  {item.key}")
    print(f"{len(items)} items, about {total:.0f} s: {total // 60:.0f} min {total % 60:.0f} s")


def results_of(bench, options, items):
    kept = bench.parts
    return {"machine": machine(), "rounds": options.rounds, "seconds": options.seconds, "quick": options.quick,
            "cases": bench.cases, "versions": {name: line["version"] for name, line in kept.servers.items()},
            "settings": {name: line["settings"] for name, line in kept.servers.items()}, "skipped": kept.skipped,
            "took_seconds": kept.seconds, "left": kept.left(items, options.rounds), "runs": kept.runs,
            "command": kept.put}


def chosen(items, word):
    """Those whose key holds the word, and those whose rates these need."""
    named = [item for item in items if word in item.key]
    needed = {item.key for item in named} | {item.share_of for item in named}
    return [item for item in items if item.key in needed]


def measure(bench, options, items):
    bench.run(chosen(items, options.only), options.minutes * 60 or float("inf"))
    kept = bench.parts
    if not (options.only or kept.put or PUT in kept.skipped or kept.left(items, options.rounds)):
        bench.run_command(200000 if options.quick else 1000000)


def say_what_is_left(bench, options, items):
    left = bench.parts.left(items, options.rounds)
    if left:
        print(f"{left} runs are left: go on with RESUME=1")
    longest = max((bench.parts.expected(item, options.seconds) for item in items
                   if bench.parts.left([item], options.rounds)), default=0)
    if options.minutes and longest > options.minutes * 60:
        print(f"one of them takes about {longest:.0f} s, more than MINUTES allows")
    if bench.parts.skipped:
        print(f"{len(bench.parts.skipped)} cases were skipped, see above: RESUME=1 RETRY=1 tries them again")


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that a server is stopped, too
    build = os.environ.get("BUILD", "build")
    out = os.path.join(build, "bench")
    items = plan.plan(options.quick, recorded_input())
    path = os.path.join(out, "quick.jsonl" if options.quick else "full.jsonl")
    how = {"quick": options.quick, "rounds": options.rounds, "seconds": options.seconds}
    try:
        if options.list:
            list_items(items, options, parts.Parts(path, how, True) if options.resume else None)
            return
        where = place.Place(os.environ.get("BENCH_DIR", out))
        kept = parts.Parts(path, how, options.resume, options.retry)
    except (parts.Mismatch, place.Taken) as problem:
        sys.exit(str(problem))
    bench = Bench(build, where, kept, options.rounds, options.seconds)
    measure(bench, options, items)
    report.write(results_of(bench, options, items), out)
    with open(os.path.join(out, "results.md"), encoding="utf-8") as file:
        print(file.read())
    say_what_is_left(bench, options, items)


if __name__ == "__main__":
    main()
