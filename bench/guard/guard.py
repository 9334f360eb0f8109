#!/usr/bin/env python3
"""guard.py - the hot paths must not grow slower unseen: their instructions, counted by callgrind, against figures.json.

    bench/guard/guard.py [--update]

Instruction counts repeat on a noisy machine as times do not. A path fails when it takes over 5 % more or less than
its figure: less, too, so that the figure follows, and the next slip is seen. When a change is meant, `make
guard-update` writes the figures anew; they are to be committed with it.

They belong to a compiler and its flags. Another compiler with the same flags is compared loosely: no path may take over
a quarter more (by Debian's Clang they take 13 % less to 1 % more). Beside other flags nothing is compared, and that
is said."""
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
FIGURES = os.path.join(HERE, "figures.json")
PATHS = ["enqueue", "pack", "read", "render", "count"]
CLOSELY, LOOSELY = (-0.05, 0.05), (-1, 0.25)  # by how much a path may differ


def run(command):
    """Its output. What valgrind says last is empty lines."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if re.sub(r"^==\d+==", "", line).strip()]
        raise RuntimeError((said or [f"{command[0]} ended with {done.returncode}"])[-1])
    return done.stdout


def compiler():
    """Whatever its command is called: "12.2.0" of GCC, "Debian Clang 14.0.6"; and its flags."""
    macros = run(os.environ.get("CC", "cc").split() + ["-dM", "-E", "-x", "c", os.devnull])
    version = re.search(r'^#define __VERSION__ "(.*)"', macros, re.M).group(1)
    return f"{version}, {os.environ.get('OPT', '-O2 -g')}"


def bounds(noted, this):
    """How closely figures of the compiler `noted` hold for another one. None: not at all."""
    if noted == this:
        return CLOSELY
    return LOOSELY if noted.rpartition(", ")[2] == this.rpartition(", ")[2] else None


def count(program, path):
    """Instructions an event in measured_PATH() and all that it calls. Valgrind cannot read what some compilers note for
    debuggers, and does not need it."""
    with tempfile.TemporaryDirectory() as room:
        out, bare = os.path.join(room, "callgrind"), os.path.join(room, "bare")
        run(["objcopy", "--strip-debug", program, bare])
        events = run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", "--collect-atstart=no",
                      f"--toggle-collect=measured_{path}", bare, os.path.join(room, "spool")])
        with open(out, encoding="utf-8") as file:
            totals = re.search(r"^(?:totals|summary): (\d+)", file.read(), re.M)
        return int(totals.group(1)) / int(events)


def compare(measured, noted, limits):
    """How many paths failed."""
    failed = 0
    for path in PATHS:
        share = measured[path] / noted[path] - 1
        bad = not limits[0] <= share <= limits[1]
        failed += bad
        print(f"{'not ok' if bad else 'ok    '} {path:8} {measured[path]:8.1f} instructions an event, {noted[path]:8.1f} noted "
              f"({share * 100:+.1f} %)")
    if failed and limits is CLOSELY:
        print("Is that meant? Then `make guard-update`, and commit bench/guard/figures.json with the change.")
    return failed


def measure():
    program = os.path.join(os.environ.get("BUILD", "build"), "bench", "guard")
    return {path: round(count(program, path), 1) for path in PATHS}


def update():
    figures = {"compiler": compiler(), "instructions_an_event": measure()}
    with open(FIGURES, "w", encoding="utf-8") as file:
        json.dump(figures, file, indent=1)
        file.write("\n")
    print(figures)


def main():
    if "--update" in sys.argv:
        return update()
    with open(FIGURES, encoding="utf-8") as file:
        figures = json.load(file)
    limits = bounds(figures["compiler"], compiler())
    if not limits:
        print(f"skipped: bench/guard: NOTHING WAS COMPARED: the figures are of {figures['compiler']}, this is {compiler()}. "
              "Build with those flags, or keep figures of your own: make guard-update before a change, make guard after it")
        print("RESULT 0 0")
        return 0
    if limits is LOOSELY:
        print(f"compared loosely: the figures are of {figures['compiler']}, this is {compiler()}")
    failed = compare(measure(), figures["instructions_an_event"], limits)
    print(f"RESULT {len(PATHS) - failed} {failed}")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
