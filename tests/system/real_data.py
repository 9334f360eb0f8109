#!/usr/bin/env python3
"""Real input: the 5,308 messages of agent conversations beside the project (../shared/data, never copied into it) go
through `spool put --events` and the file sink, and must come out as they went in. Skipped where the file is absent.
REAL_DATA names another one."""
import json
import os
import pathlib
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

DATA = pathlib.Path(os.environ.get("REAL_DATA", harness.ROOT.parent / "shared/data/agent-trajectories.jsonl"))
ENVELOPE = ("type", "agent", "session", "priority")


def out_of_order(events):
    """Ids that came after a later event of the same agent and priority."""
    last, late = {}, []
    for event in events:
        key = event.get("agent"), event["priority"]
        if event["id"] < last.get(key, ""):
            late.append(event["id"])
        last[key] = event["id"]
    return late


def native(message):
    """A recorded message in the native form of an event."""
    event = {key: message[key] for key in ENVELOPE if key in message}
    return {**event, "data": message["body"]}


def put(checks, spool, messages):
    """Returns the ids that `spool put` printed."""
    lines = "".join(json.dumps(native(message), ensure_ascii=False) + "\n" for message in messages)
    done = harness.run(harness.SPOOL, "-C", spool, "put", "--events", input=lines)
    checks.check(done.returncode == 0, "spool put ends well", f"status {done.returncode}: {done.stderr}")
    return done.stdout.split()


def cat(spool):
    done = harness.run(harness.SPOOL, "-C", spool, "-o", "json", "cat")
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(checks, what, messages, ids, events):
    """Events by id against what was put under it."""
    checks.check(len(ids) == len(messages) == len(set(ids)), f"{what}: an id for every message", f"{len(ids)} ids")
    by_id = {event["id"]: event for event in events}
    checks.check(len(by_id) == len(events), f"{what}: none twice")
    checks.check(set(by_id) == set(ids), f"{what}: all arrived and nothing else",
                 f"{len(set(ids) - set(by_id))} missing")
    differ = [id for id, message in zip(ids, messages)
              if id in by_id and any(by_id[id].get(key) != value for key, value in native(message).items())]
    checks.check(not differ, f"{what}: as they went in", f"{len(differ)} differ, e.g. {differ[:2]}")


def real_data(checks):
    if not DATA.exists():
        checks.skip("real input", f"{DATA} is absent")
        return
    with open(DATA, encoding="utf-8") as lines:
        messages = [json.loads(line) for line in lines]
    spool, sink = checks.dir("spool"), checks.dir("events.jsonl")
    ids = put(checks, spool, messages)
    compare(checks, "spool cat", messages, ids, cat(spool))
    done = harness.run(harness.program("deliverer"), "--dir", spool, "--file_sink", sink, "--drain_ms", 60000)
    checks.check(done.returncode == 0, "the drain ends well", done.stderr)
    events = harness.read_file_sink(sink)
    compare(checks, "file sink", messages, ids, events)
    late = out_of_order(events)
    checks.check(not late, "file sink: in order within an agent and a priority", f"{len(late)}")


if __name__ == "__main__":
    harness.main("real_data", [real_data])
