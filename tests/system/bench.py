#!/usr/bin/env python3
"""The benchmark's harness, not its figures: a run that was stopped or killed goes on, peers and runs that fail are skipped
with a plain reason, the plan fits the time that is promised for it, and nothing of it is left behind.
tests/system/bench_whole.py has the whole plan, and the guard."""
import contextlib
import json
import os
import pathlib
import re
import signal
import sqlite3
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


def test_damaged(t):
    """However far a run came with what it keeps."""
    build = place(t, "damaged")
    kept = build / "bench" / "full.jsonl"
    for name, text in (("empty", b""), ("cut in its first line", b'{"how": {"qui')):
        kept.write_bytes(text)
        done = run(build, *SHORT, "--resume")
        t.check(done.returncode == 0 and len(results(build)["runs"][KEY]["per_second"]) == 2, f"{name}: begins anew", done.stderr)
    lines = kept.read_bytes().splitlines(keepends=True)
    kept.write_bytes(b"".join([lines[0], b"\0" * 40 + b"\n", *lines[1:]]))
    done = run(build, *SHORT, "--resume")
    t.check(done.returncode != 0 and "line 2 is damaged" in done.stderr, "a line that is no JSON is named", done.stderr)


QUICK_MOST_S, FULL_MOST_S = 115, 25 * 60


def test_time(t):
    build = place(t, "time")
    done = run(build, *SHORT, "--minutes", "0.0001")
    t.check(done.returncode == 0 and KEY not in results(build)["runs"] and "are left" in done.stdout
            and "more than MINUTES allows" in done.stdout, "nothing is begun that would end too late", done.stdout + done.stderr)
    for flags, most in (([], FULL_MOST_S), (["--quick"], QUICK_MOST_S)):
        listed = run(build, "--list", *flags, BENCH_INPUT=str(README)).stdout
        seconds = re.search(r"items, about (\d+) s", listed)
        t.check(seconds and int(seconds.group(1)) <= most, f"the plan {flags} takes at most {most} s", listed[-80:])


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


def test_failing_runs(t):
    """In place of the program, one that does all that can go wrong."""
    build = place(t, "failing")
    program = build / "bench" / "bench"
    cases = program.resolve()
    for name, text, reason in (("dies", "kill -SEGV $$", "ended with -11"),
                               ("complains", "echo the disk is broken >&2; exit 1", "the disk is broken"),
                               ("talks", "echo nan", "no figures but 'nan"),
                               ("is silent", "exit 0", "no figures but ''")):
        program.unlink()
        program.write_text(f"#!/bin/sh\n[ $1 = --list ] && exec {cases} --list\n{text}\n")
        program.chmod(0o755)
        done = run(build, *SHORT)
        skipped_for = results(build)["skipped"].get(KEY, "") if done.returncode == 0 else done.stderr
        t.check(reason in skipped_for, f"a run that {name} is skipped", skipped_for)
    t.check("RETRY=1" in done.stdout, "what was skipped can be tried again", done.stdout[-200:])
    program.unlink()
    program.symlink_to(cases)
    run(build, *SHORT, "--resume")
    t.check(KEY not in results(build)["runs"], "is not tried again by itself")
    run(build, *SHORT, "--resume", "--retry")
    done = run(build, *SHORT, "--resume")
    t.check(KEY not in results(build)["skipped"] and len(results(build)["runs"][KEY]["per_second"]) == 2,
            "and then counts as any other", done.stderr)


def gone(pid):
    """Also when nobody has waited for it."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_killed(t):
    """In the middle of a run, with a server beside it."""
    build = place(t, "killed")
    noted = t.dir("pid")
    server = script(t, "server", f"[ $1 = --version ] && exit 0\necho $$ > {noted}.new; mv {noted}.new {noted}; exec sleep 600\n")
    environment = dict(os.environ, BUILD=str(build), FLUENT_BIT=server)
    child = t.start(sys.executable, "-B", RUN, "--only", "fluent_bit/64B", cwd=harness.ROOT, env=environment)
    if not t.check(harness.wait_until(noted.exists), "a server is started"):
        return
    pid, work = int(noted.read_text()), build / "bench" / "spool-bench"
    done = run(build, *SHORT)
    t.check(done.returncode != 0 and "another benchmark works in" in done.stderr, "two do not measure each other", done.stderr)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    t.check(harness.wait_until(lambda: gone(pid)), "the server does not outlive it")
    t.check(len(list(work.iterdir())) > 1, "control: something was left")
    done = run(build, *SHORT)
    t.check(done.returncode == 0 and [path.name for path in work.iterdir()] == ["lock"], "the next run clears it away",
            done.stderr)


def archived(t, case, name, count):
    """The schema of what a case has written, its rows, and which of their columns are filled."""
    directory = t.dir(case)
    done = harness.run(harness.BUILD / "bench" / "bench", case, "--dir", directory, "--count", count)
    if done.returncode:
        return done.stderr
    with contextlib.closing(sqlite3.connect(directory / name)) as db:
        schema = sorted(db.execute("SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"))
        columns = [row[1] for row in db.execute("PRAGMA table_info(events)")]
        filled = [db.execute(f'SELECT count("{column}"), sum(length("{column}")) FROM events').fetchone() for column in columns]
    return schema, list(zip(columns, filled))


def test_archive(t):
    """The sqlite sink and the insert that it is compared with do the same work."""
    if not (harness.BUILD / "sinks" / "libspool-sink-sqlite.so").exists():
        return t.skip("the archive", "the sqlite sink is not built")
    ours, theirs = archived(t, "spool_sqlite", "events.db", 3000), archived(t, "sqlite_archive", "alone.db", 3000)
    t.check(len(ours[0]) > 4 and ours[0] == theirs[0], "both have the same tables, indexes and views", f"{ours} {theirs}"[:2000])
    t.check(dict(ours[1])["id"] == (3000, 3000 * 36) and ours[1] == theirs[1], "and rows as many, in the same columns, as long",
            f"{ours[1:]} {theirs[1:]}")


if __name__ == "__main__":
    harness.main("bench", [test_goes_on, test_refuses, test_damaged, test_time, test_peers, test_failing_runs, test_killed, test_archive])
