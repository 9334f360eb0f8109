#!/usr/bin/env python3
"""The benchmark's harness, not its figures: a run that was stopped goes on, peers that cannot be had are skipped with a
plain reason, and the plan fits the time that is promised for it."""
import json
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

RUN, README = harness.ROOT / "bench" / "run.py", harness.ROOT / "bench" / "readme.py"
KEY = "raw_write/256B/1p"
SHORT = ["--only", KEY, "--seconds", "0.02", "--rounds", "2"]


def place(t, name):
    """A build folder of its own, so that nobody's figures are overwritten."""
    build = t.dir(name)
    (build / "bench").mkdir(parents=True)
    (build / "bench" / "bench").symlink_to(harness.BUILD / "bench" / "bench")
    return build


def run(build, *arguments, **env):
    return subprocess.run([sys.executable, "-B", RUN, *arguments], cwd=harness.ROOT, capture_output=True, text=True,
                          env=dict(os.environ, BUILD=str(build), BENCH_DOWNLOAD="0", **env))


def results(build):
    return json.loads((build / "bench" / "results.json").read_text())


def test_goes_on(t):
    build = place(t, "parts")
    kept = build / "bench" / "full.jsonl"
    done = run(build, *SHORT)
    if not t.check(done.returncode == 0, "a part of the plan is run", done.stderr):
        return
    first = results(build)["runs"][KEY]["per_second"]
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])
    done = run(build, *SHORT, "--resume")
    second = results(build)["runs"].get(KEY, {}).get("per_second", [])
    t.check(len(first) == len(second) == 2 and first[0] == second[0], "what was cut off is run again, the rest is kept",
            f"{first} {second} {done.stderr}")
    t.check(first[1] != second[1], "as a run of its own", str(second))
    run(build, *SHORT, "--resume")
    t.check(results(build)["runs"][KEY]["per_second"] == second, "what is whole is not run again")
    run(build, *SHORT)
    t.check(results(build)["runs"][KEY]["per_second"] != second, "unless it is not gone on with")


def test_refuses(t):
    build = place(t, "refused")
    run(build, *SHORT)
    done = run(build, "--only", KEY, "--seconds", "0.03", "--rounds", "2", "--resume")
    t.check(done.returncode != 0 and "seconds=0.02" in done.stderr, "runs of different lengths are not mixed", done.stderr)
    readme = t.dir("README.md")
    readme.write_text("<!-- bench:begin -->kept<!-- bench:end -->")
    done = subprocess.run([sys.executable, "-B", README, build / "bench" / "results.json", readme],
                          capture_output=True, text=True)
    t.check(done.returncode != 0 and "still to be made" in done.stderr and "kept" in readme.read_text(),
            "no table is made of half a run", done.stderr)


def test_time(t):
    build = place(t, "time")
    done = run(build, *SHORT, "--minutes", "0.0001")
    t.check(done.returncode == 0 and KEY not in results(build)["runs"] and "are left" in done.stdout,
            "nothing is begun that would end too late", done.stdout + done.stderr)
    for flags, most in (([], 25), (["--quick"], 2)):
        listed = run(build, "--list", *flags).stdout
        minutes = re.search(r"items, about (\d+) minutes", listed)
        t.check(minutes and int(minutes.group(1)) <= most, f"the plan {flags} takes at most {most} minutes", listed[-80:])


def script(t, name, text):
    path = t.dir(name)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def skipped(t, name, variable, value, only):
    build = place(t, name)
    done = run(build, "--only", only, "--seconds", "0.02", "--rounds", "1", **{variable: value})
    reasons = results(build)["skipped"] if done.returncode == 0 else {"": done.stderr}
    return " ".join(reasons.values())


def test_peers(t):
    tree = t.dir("tree")
    tree.mkdir()
    only = "fluent_bit/64B"
    t.check("neither a program nor a source tree" in skipped(t, "none", "FLUENT_BIT", str(t.dir("nowhere")), only),
            "a path that leads nowhere is said")
    text = skipped(t, "empty", "FLUENT_BIT", str(tree), only)
    t.check("cmake" in text and "build.log" in text, "a tree that cannot be built is skipped, and its log named", text)
    text = skipped(t, "silent", "FLUENT_BIT", script(t, "ends", "echo no; exit 1"), only)
    t.check("did not start: no" in text, "a program that does not start is skipped with its last word", text)
    text = skipped(t, "old", "NATS_SERVER", script(t, "old-nats", "echo nats-server: v2.9.10"), "nats_single_always/64B/1p")
    t.check("2.10 has" in text, "a nats-server without sync_interval is not measured as if it had it", text)


if __name__ == "__main__":
    harness.main("bench", [test_goes_on, test_refuses, test_time, test_peers])
