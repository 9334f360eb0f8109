#!/usr/bin/env python3
"""A spool as it was before blocks shared envelopes: its blocks are of version 1, plain and compressed, in every lane, with
retries, dead letters, and a journal that its process left. All of it is read as it was then, delivered, found, salvaged,
and new events stand beside it.

data/spool_blocks_1.tgz holds it, and what `spool cat -o json` and `spool dlq export` of that time said of it."""
import pathlib
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

OLD = pathlib.Path(__file__).resolve().parent / "data" / "spool_blocks_1.tgz"
IN_SEGMENTS = 307


def unpack(checks, name):
    """The spool, and the lines of its events and of its dead letters."""
    place = checks.dir(name)
    place.mkdir()
    subprocess.run(["tar", "-C", place, "--no-same-owner", "-xzf", OLD], check=True)
    return place / "spool", (place / "events.jsonl").read_text(), (place / "dead.jsonl").read_text()


def spool(directory, *words):
    return harness.run(harness.SPOOL, "-C", directory, *words, timeout=60)


def blocks(directory):
    """How many blocks there are in the files by (version, codec), those of earlier commits among them."""
    count = {}
    for file in (directory / "segments").iterdir():
        data = file.read_bytes()
        at = data.find(b"SPLblk1\n")
        while at >= 0:
            kind = data[at + 8], data[at + 11]
            count[kind] = count.get(kind, 0) + 1
            at = data.find(b"SPLblk1\n", at + 1)
    return count


def take_in(checks, directory, what):
    """Its sink is gone for good; then what its journal holds is brought into the log."""
    removed, drained = spool(directory, "sink", "remove", "pick"), spool(directory, "drain")
    checks.check(removed.returncode == 0 and drained.returncode == 3, f"{what}: its journal is taken in, and that is all",
                 removed.stderr + drained.stderr)


def it_reads_as_it_did(checks):
    directory, events, dead = unpack(checks, "read")
    checks.check({(1, 0), (1, 1)} == set(blocks(directory)), "plain and compressed blocks, of version 1",
                 str(blocks(directory)))
    lines = spool(directory, "cat", "-o", "json").stdout.splitlines()
    wanted = [line for line in events.splitlines() if line in set(lines)]
    checks.check(lines == wanted and len(lines) == IN_SEGMENTS, "what stands in segments is read without writing",
                 f"{len(lines)} of {IN_SEGMENTS} lines")
    take_in(checks, directory, "read")
    checks.check(spool(directory, "cat", "-o", "json").stdout == events, "every event is what it was")
    exported = spool(directory, "dlq", "export").stdout
    checks.check(exported == dead and dead, "every dead letter is what it was", exported)
    verified = spool(directory, "verify")
    checks.check(verified.returncode == 0, "it is whole", verified.stdout)


def each_event_is_found(checks):
    directory, events, _ = unpack(checks, "found")
    take_in(checks, directory, "found")
    lines = events.splitlines()
    for line in lines[:: max(1, len(lines) // 12)]:
        event_id = harness.json.loads(line)["id"]
        shown = spool(directory, "-o", "json", "show", event_id)
        checks.check(event_id in shown.stdout and shown.returncode == 0, f"{event_id} is found", shown.stderr)


def it_is_delivered_beside_new_events(checks):
    directory, events, _ = unpack(checks, "delivered")
    out = checks.dir("delivered.jsonl")
    take_in(checks, directory, "delivered")
    spool(directory, "sink", "add", "log", "file", f"path={out}")
    put = spool(directory, "put", "--type", "new", '{"n":1}')
    drained = spool(directory, "drain")
    checks.check(drained.returncode == 0 and put.returncode == 0, "it is drained", put.stderr + drained.stderr)
    got = {event["id"] for event in harness.read_file_sink(out)}
    wanted = {harness.json.loads(line)["id"] for line in events.splitlines()} | {put.stdout.strip()}
    checks.check(got == wanted, "every old event and the new one arrive", f"{len(wanted - got)} did not")
    kinds = set(blocks(directory))
    checks.check({(1, 0), (1, 1), (2, 0)} <= kinds, "blocks of both versions stand side by side", str(kinds))


def it_is_salvaged(checks):
    directory, events, _ = unpack(checks, "salvaged")
    take_in(checks, directory, "salvaged")
    segment = next((directory / "segments").iterdir())
    with open(segment, "r+b") as file:
        file.write(bytes(8192))  # LMDB's first two pages: nothing can be reached any more
    rebuilt = spool(directory, "drain")
    lines = spool(directory, "cat", "-o", "json")
    checks.check(lines.stdout == events, "no event is lost with its tree",
                 f"{len(lines.stdout.splitlines())} lines; {lines.stderr} {rebuilt.stderr}")


harness.main("old_blocks", [it_reads_as_it_did, each_event_is_found, it_is_delivered_beside_new_events, it_is_salvaged])
