#!/usr/bin/env python3
"""The file sink with complete files compressed and deleted, in a process that is killed at random moments: each event once,
whatever is plain and whatever is compressed by then. On a full disk: nothing is lost. EVENTS: 100000; SEED."""
import collections
import json
import os
import pathlib
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness

EVENTS = int(os.environ.get("EVENTS", 100000))


class Site(sink_harness.Site):
    def __init__(self, checks, name, options=None, path="events.jsonl", **keys):
        self.folder = checks.dir(name + ".files")
        self.folder.mkdir()
        super().__init__(checks, name, "file", {"path": str(self.folder / path), **keys}, options)

    def files(self):
        """Folders may go while they are looked at."""
        while True:
            try:
                return sorted(path for path in self.folder.rglob("*") if path.is_file() and not path.name.startswith("."))
            except FileNotFoundError:
                continue

    def events(self):
        """All events by file, of plain files and of compressed ones; one that is there in both forms counts once."""
        found = {}
        for path in self.files():
            if path.suffix == ".zst":
                lines = subprocess.run(["zstd", "-dcq", str(path)], stdout=subprocess.PIPE, check=True).stdout
            elif path.suffix == ".jsonl" and not path.with_name(path.name + ".zst").exists():
                lines = path.read_bytes()
            else:
                continue
            found[path] = [json.loads(line) for line in lines.splitlines()]
        return found

    def ids(self):
        return [event["id"] for events in self.events().values() for event in events]


def is_exactly_once_however_it_is_killed(checks):
    for name, keys in {"sizes": {}, "times": {"path": "%Y/%m-%d/%H%M%S.jsonl"}}.items():
        site = Site(checks, name, compress="zstd", compress_level=1, rotate_bytes="200kB", **keys)
        producer = site.producer(EVENTS // 2, "--rate", sink_harness.rate(EVENTS // 2, 3))
        site.killed_while_delivering(name, 25, EVENTS // 2)
        status, _, errors = harness.wait(producer)
        checks.check(status == 0, f"{name}: {EVENTS // 2} events are enqueued", errors)
        site.drains(name, 120)
        forms = collections.Counter(path.suffix for path in site.files())
        checks.check(forms[".zst"] > 5, f"{name}: files were compressed", str(forms))
        checks.check(forms[".tmp"] <= 1, f"{name}: nothing half done is left", str(forms))
        sink_harness.account(checks, name, site.acknowledged(), site.ids())


HOSTILE = ["..", "../../../tmp/x", "/etc/passwd", ".hidden", "a/b", "a b", "%41", "{type}", "ä" * 100, "~", "-", "con", ""]


def parts_are_exactly_once_however_it_is_killed(checks):
    for name, keys in {"parts": {}, "rotated": {"rotate_bytes": "60kB", "compress": "zstd", "compress_level": 1}}.items():
        site = Site(checks, name, path="agent={agent}/type={type}/%Y-%m-%d.jsonl", **keys)
        producer = site.producer(EVENTS // 4, "--rate", sink_harness.rate(EVENTS // 4, 3))
        extra = set(site.put_events([{"type": f"t{i % 7}", **({"agent": HOSTILE[i % 13]} if HOSTILE[i % 13] else {})}
                                     for i in range(1300)]))
        site.killed_while_delivering(name, 15, EVENTS // 4)
        status, _, errors = harness.wait(producer)
        checks.check(status == 0, f"{name}: {EVENTS // 4} events are enqueued", errors)
        site.drains(name, 120)
        sink_harness.account(checks, name, site.acknowledged() | extra, site.ids())
        files = site.events()
        depths = {len(path.relative_to(site.folder).parts) for path in files}
        checks.check(depths == {3} and not list(checks.scratch.glob("x*")), f"{name}: each file is where the path says",
                     str(depths))
        agents = {path: {event.get("agent", "") for event in events} for path, events in files.items()}
        checks.check(all(len(found) == 1 for found in agents.values()), f"{name}: each file is of one agent",
                     str([item for item in agents.items() if len(item[1]) != 1][:2]))
        checks.check(len([path for path in site.folder.iterdir() if path.is_dir()]) >= 13,
                     f"{name}: every agent has a folder of its own")
        if keys:
            forms = collections.Counter(path.suffix for path in site.files())
            checks.check(forms[".zst"] > 5 and forms[".tmp"] <= 1, f"{name}: full files were compressed", str(forms))


def completes_what_a_crash_left(checks):
    site = Site(checks, "left", compress="zstd", rotate_bytes="50kB")
    site.produce(2000)
    site.drains("left")
    runner = site.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    more = site.put("{}")  # a sink is opened for its first event
    plain = lambda: [path for path in site.files() if path.suffix == ".jsonl"]
    checks.check(harness.wait_until(lambda: len(plain()) <= 2), "at the next start all but the last two are compressed",
                 str(plain()))
    runner.send_signal(signal.SIGTERM)
    runner.wait(60)
    sink_harness.account(checks, "left", site.acknowledged() | {more}, site.ids())


def size_of(path):
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def keeps_to_its_limits(checks):
    """Of one file at a time, and of all files of all agents together."""
    for name, path in {"limits": "events.jsonl", "limits-parts": "{agent}/events.jsonl"}.items():
        site = Site(checks, name, path=path, compress="zstd", rotate_bytes="50kB", max_bytes="100kB")
        site.produce(8000)
        site.drains(name)
        runner = site.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        more = site.put("{}")
        total = lambda: sum(size_of(path) for path in site.files())
        oldest = lambda: [path for path in site.files() if path.name.startswith("events.jsonl") and path.parent.name != "_"]
        checks.check(harness.wait_until(lambda: total() <= 700000 and not oldest()),
                     f"{name}: no more than max_bytes and what goes on", f"{total()} {oldest()}")
        runner.send_signal(signal.SIGTERM)
        runner.wait(60)
        ids = site.ids()
        wanted = site.acknowledged() | {more}
        checks.check(set(ids) < wanted and len(ids) == len(set(ids)), f"{name}: what is left is whole, and nothing twice")


def refuses_what_is_wrong(checks):
    def refused(words, **keys):
        done = harness.run(harness.SPOOL, "-C", checks.dir("refused"), "sink", "add", "x", "file",
                           *(f"{key}={json.dumps(value)}" for key, value in keys.items()))
        checks.check(done.returncode == 2 and words in done.stderr, f"refused: {keys}", done.stderr)

    refused('"compress"', path="/tmp/x", compress="gzip")
    refused('"compress_level"', path="/tmp/x", compress="zstd", compress_level=30)
    refused("not with %B", path="/tmp/x-%B", compress="zstd")
    refused("not with %c", path="/tmp/x-%c", max_age="1d")
    refused("{agent}/events.jsonl", path="/tmp/{agent}.jsonl", max_age="1d")


def survives_a_full_disk(checks):
    for name, path in {"full": "events.jsonl", "full-parts": "{agent}/events.jsonl"}.items():
        site = Site(checks, name, path=path, compress="zstd", compress_level=1, rotate_bytes="100kB")
        done = harness.run("mount", "-t", "tmpfs", "-o", "size=1m", "none", site.folder)
        if done.returncode != 0:
            checks.skip("a full disk", "this needs to mount a tmpfs")
            return
        try:
            fill_and_drain(checks, name, site)
        finally:
            harness.run("umount", "-l", site.folder)


def fill_and_drain(checks, name, site):
    site.produce(5000)
    runner = site.run(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    free = lambda: os.statvfs(site.folder).f_bavail
    checks.check(harness.wait_until(lambda: free() < 80), f"{name}: the disk is filled", str(free()))
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    harness.run("mount", "-o", "remount,size=64m", site.folder)
    site.drains(name, 60)
    sink_harness.account(checks, name, site.acknowledged(), site.ids())


if __name__ == "__main__":
    harness.main("file", [is_exactly_once_however_it_is_killed, parts_are_exactly_once_however_it_is_killed, completes_what_a_crash_left, keeps_to_its_limits,
                          refuses_what_is_wrong, survives_a_full_disk])
