#!/usr/bin/env python3
"""What can be seen of a spool from outside: `spool metrics` is read by a parser of the exposition format that knows nothing
of ours, and `spool status` beside the process that delivers says what that one knows."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'^({NAME})(?:\{{(.*)\}})? (\S+)$')
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\.)*)"(,|$)')
TYPES = {"counter", "gauge", "histogram"}
PATIENCE = 60  # seconds for what happens within two


def unescape(text):
    known = {"\\": "\\", '"': '"', "n": "\n"}
    return re.sub(r"\\(.)", lambda found: known[found[1]], text)


def labels_of(text):
    labels, at = {}, 0
    while at < len(text):
        found = LABEL.match(text, at)
        assert found, f"no label at {text[at:]!r}"
        assert found[1] not in labels, f"label {found[1]} twice"
        labels[found[1]], at = unescape(found[2]), found.end()
    return labels


def parse(text):
    """{family: {"type", "samples": [(name, labels, value)]}}; raises on everything that the format forbids."""
    families, family = {}, None
    assert text.endswith("\n"), "the last line does not end"
    for line in text.splitlines():
        if line.startswith("# HELP "):
            _, _, name, text = line.split(" ", 3)
            assert name not in families, f"{name} in two places"
            families[name] = family = {"name": name, "help": text, "type": None, "samples": []}
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family["name"] and kind in TYPES and not family["samples"], line
            family["type"] = kind
            continue
        found = SAMPLE.match(line)
        assert found, f"no sample: {line!r}"
        base = family["name"]
        endings = ("_bucket", "_sum", "_count") if family["type"] == "histogram" else ("",)
        assert found[1] in [base + ending for ending in endings], f"{found[1]} among {base}"
        family["samples"].append((found[1], labels_of(found[2] or ""), float(found[3])))
    return families


def check_histogram(family):
    series = {}
    for name, labels, value in family["samples"]:
        key = tuple(sorted((k, v) for k, v in labels.items() if k != "le"))
        series.setdefault(key, {"buckets": []})
        if name.endswith("_bucket"):
            series[key]["buckets"].append((float(labels["le"]), value))
        else:
            series[key][name[len(family["name"]):]] = value
    for key, one in series.items():
        bounds = [bound for bound, _ in one["buckets"]]
        counts = [count for _, count in one["buckets"]]
        assert bounds == sorted(set(bounds)) and bounds[-1] == float("inf"), (key, bounds)
        assert counts == sorted(counts) and counts[-1] == one["_count"], (key, counts)
        assert (one["_sum"] > 0) == (one["_count"] > 0) or one["_sum"] == 0, key


# What promtool's linter wants: base units, no type or abbreviation in a name, no ending that a histogram gives.
BAD_WORDS = {"ms", "us", "ns", "sec", "secs", "millis", "milliseconds", "microseconds", "minutes", "hours", "days", "kb",
             "mb", "gb", "kilobytes", "megabytes", "bits", "percent", "counter", "gauge", "histogram", "metric"}


def check_naming(family):
    name, words = family["name"], set(family["name"].split("_"))
    assert re.fullmatch(r"spool_[a-z][a-z_]*[a-z]", name), f"{name}: not lower-case words behind our prefix"
    assert not words & BAD_WORDS, f"{name}: {words & BAD_WORDS}"
    assert name.endswith("_total") == (family["type"] == "counter"), f"{name}: counters end in _total, and nothing else does"
    assert not re.search("_(count|sum|bucket)$", name), f"{name}: ends as a part of a histogram"
    assert family["help"].strip().endswith("."), f"{name}: its help is no sentence"
    for _, labels, _ in family["samples"]:
        for label in labels:
            assert re.fullmatch("[a-z]+", label) and not label.startswith("__"), f"{name}: label {label}"
            assert label != "le" or family["type"] == "histogram", f"{name}: label le"


def metrics(spool, *options):
    done = subprocess.run([harness.SPOOL, "-C", spool, "metrics", *options], capture_output=True, text=True, check=True)
    families = parse(done.stdout)
    for family in families.values():
        assert family["type"], family["name"]
        check_naming(family)
        names = [(name, tuple(sorted(labels.items()))) for name, labels, _ in family["samples"]]
        assert len(names) == len(set(names)), f"{family['name']}: a series twice"
        if family["type"] == "histogram":
            check_histogram(family)
    return families


def value(families, name, **wanted):
    base = re.sub("_(sum|count)$", "", name) if name not in families else name
    found = [v for n, labels, v in families[base]["samples"] if n == name and wanted.items() <= labels.items()]
    assert len(found) == 1, (name, wanted, found)
    return found[0]


def by_lane(families, name, sink):
    """{lane: value} of one that is told by lane, and by no other label."""
    base = re.sub("_(sum|count)$", "", name) if name not in families else name
    rows = [labels | {"value": v} for n, labels, v in families[base]["samples"] if n == name and labels["sink"] == sink]
    assert all(row.keys() == {"sink", "lane", "value"} for row in rows), rows
    return {row["lane"]: row["value"] for row in rows}


def run(spool, *words, **keywords):
    return subprocess.run([harness.SPOOL, "-C", spool, *[str(word) for word in words]], capture_output=True, text=True, **keywords)


def sink_of(spool, name):
    rows = [json.loads(line) for line in run(spool, "sinks", "-o", "json").stdout.splitlines()]
    return next(row for row in rows if row["name"] == name)


def until(condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_format(checks):
    spool = checks.dir('a "quoted" \\ path\nof two lines')
    run(spool, "put", "-q", "--priority", "high", "one")
    run(spool, "put", "-q", "--agent", 'say "hi"', "two")
    run(spool, "sink", "add", "log", "file", f"path={checks.scratch}/log.jsonl")
    families = metrics(spool)
    checks.check(value(families, "spool_info", dir=str(spool)) == 1, "label values are escaped")
    checks.check(value(families, "spool_events_total", lane="high") == 1, "events by lane")
    checks.check(by_lane(families, "spool_queue_depth", "log") == {"critical": 0, "high": 1, "medium": 1, "low": 0}, "depth")
    oldest = by_lane(families, "spool_oldest_unacked_seconds", "log")
    checks.check(all((0 < age < 600) == (lane in ("high", "medium")) for lane, age in oldest.items()) and len(oldest) == 4,
                 "age of the oldest", oldest)
    checks.check(value(families, "spool_sink_state", sink="log", state="absent") == 1, "state")
    wanted = {"spool_events_total", "spool_queue_depth", "spool_oldest_unacked_seconds", "spool_delivered_total",
              "spool_dlq_depth", "spool_dropped_total", "spool_fsync_seconds", "spool_delivery_latency_seconds",
              "spool_deliver_seconds", "spool_batch_events"}
    checks.check(wanted <= families.keys(), "the series of the dashboard are there", wanted - families.keys())


def test_textfile(checks):
    spool, folder = checks.dir("text"), checks.dir("collector")
    folder.mkdir()
    run(spool, "put", "-q", "one")
    target = folder / "spool.prom"
    target.write_text("old")
    seen = os.open(target, os.O_RDONLY)
    done = run(spool, "metrics", "--textfile", target)
    checks.check(done.returncode == 0 and not done.stdout, "the file is written, nothing is printed", done.stderr)
    checks.check(os.read(seen, 10) == b"old", "a reader of the old file is not disturbed")
    os.close(seen)
    checks.check("spool_events_total" in parse(target.read_text()), "the new one is whole")
    checks.check([entry.name for entry in folder.iterdir()] == ["spool.prom"], "nothing else is left")
    checks.check(target.stat().st_mode & 0o777 == 0o644, "others can read it")
    done = run(spool, "metrics", "--textfile", folder / "no" / "x.prom")
    checks.check(done.returncode == 1 and "No such file" in done.stderr, "a folder that is not there", done.stderr)
    checks.check(run(checks.dir("none"), "metrics").returncode == 3, "no spool: exit status 3")
    checks.check(run(spool, "metrics", "extra").returncode == 2, "a word too many: exit status 2")


def test_beside_the_deliverer(checks):
    spool = checks.dir("beside")
    blocked = checks.scratch / "blocked"
    blocked.write_text("a file where a folder should be\n")
    run(spool, "put", "-q", "--priority", "critical", "one")
    run(spool, "sink", "add", "log", "file", f"path={blocked}/log.jsonl")
    run(spool, "sink", "add", "hole", "null")
    deliverer = checks.start(harness.SPOOL, "-C", spool, "run", stderr=subprocess.DEVNULL)
    down = until(lambda: (sink_of(spool, "log")["deliverer"] or {}).get("state") == "down")
    row = sink_of(spool, "log")
    checks.check(down and row["state"] == "elsewhere", "another process sees that the sink is down", row)
    checks.check("Not a directory" in row["last_error"] and row["attempt"] > 0, "and why", row)
    checks.check(row["deliverer"]["pid"] == deliverer.pid, "and who says so", row)
    breaker = row["breaker"]
    checks.check(breaker["state"] in ("open", "half-open") and breaker["opened"] > 0
                 and (breaker["next_probe_ms"] is not None) == (breaker["state"] == "open"), "its circuit breaker", breaker)
    for verb in ("status", "sinks"):
        shown = {line.split()[0]: line for line in run(spool, verb).stdout.splitlines() if line.strip()}
        checks.check(re.search(r"breaker (open for \S.*, probe in |half-open for )", shown["log"])
                     and "breaker" not in shown["hole"], f"{verb} shows a breaker that is not closed", shown)
    status = run(spool, "status")
    checks.check(status.stdout.startswith("!") and "log is down" in status.stdout.splitlines()[0]
                 and "tried again" in status.stdout, "status says it first, and what to do", status.stdout)
    checks.check(run(spool, "status", "--check").returncode == 1, "status --check")
    until(lambda: value(metrics(spool), "spool_delivery_latency_seconds_count", sink="hole", lane="critical") == 1)
    families = metrics(spool)
    checks.check(value(families, "spool_delivery_latency_seconds_count", sink="hole", lane="critical") == 1,
                 "histograms of the deliverer")
    checks.check(value(families, "spool_attempts_total", sink="hole", lane="critical", outcome="delivered") == 1, "counters")
    checks.check(value(families, "spool_sink_up", sink="hole") == 1 and value(families, "spool_sink_up", sink="log") == 0, "up")
    blocked.unlink()
    checks.check(until(lambda: sink_of(spool, "log")["deliverer"]["state"] == "running"), "it works again")
    checks.check(until(lambda: sink_of(spool, "log")["pending_events"] == 0), "and has its event")
    checks.check(until(lambda: sink_of(spool, "log")["breaker"]["state"] == "closed")
                 and "breaker" not in run(spool, "sinks").stdout + run(spool, "status").stdout,
                 "a closed breaker is not shown", run(spool, "sinks").stdout)
    checks.check(run(spool, "status", "--check").stdout.startswith("all is well"), "all is well")
    deliverer.send_signal(signal.SIGTERM)
    checks.check(deliverer.wait(PATIENCE) == 0, "run ends with 0 after SIGTERM")


def test_types_and_drops(checks):
    """What is counted by type is bounded, whatever types there are; what is dropped says why."""
    spool = checks.dir("types")
    run(spool, "sink", "add", "hole", "null")
    for number in range(40):
        run(spool, "put", "-q", "--type", f"type.{number:02}", "x")
    run(spool, "put", "-q", "--type", 'a "strange" \\ one', "x")
    run(spool, "put", "-q", "--type", "type.00", "--ttl", "1ms", "x")
    time.sleep(0.05)  # it is older than that now
    run(spool, "drain")
    families = metrics(spool)
    rows = {labels["type"]: v for _, labels, v in families["spool_type_attempts_total"]["samples"]
            if labels["outcome"] == "delivered"}
    checks.check(rows["type.00"] == 1 and rows["other"] == 9 and len(rows) == 33, "32 types, and the others", rows)
    checks.check(value(families, "spool_type_attempts_total", sink="hole", type="type.00", outcome="expired") == 1,
                 "by type and outcome")
    total = sum(v for _, labels, v in families["spool_attempts_total"]["samples"])
    checks.check(total == sum(v for _, _, v in families["spool_type_attempts_total"]["samples"]) == 42,
                 "by type as many as by lane", total)
    dropped = {labels["reason"]: v for _, labels, v in families["spool_sink_dropped_total"]["samples"]}
    checks.check(dropped == {"expired": 1, "damaged": 0, "pending_limit": 0, "size_limit": 0}, "dropped by reason", dropped)
    row = sink_of(spool, "hole")
    checks.check(row["dropped_for"] == {"expired": 1, "damaged": 0, "pending_limit": 0, "size_limit": 0}
                 and row["dropped_events"] == 1, "likewise in `spool sinks`", row)
    strange = checks.dir("strange")
    run(strange, "sink", "add", "hole", "null")
    run(strange, "put", "-q", "--type", 'a "strange" \\ one', "x")
    run(strange, "drain")
    checks.check(value(metrics(strange), "spool_type_attempts_total", type='a "strange" \\ one') == 1, "types are escaped")


def test_lanes(checks):
    """What is told by lane adds up to what is told of the sink, also beside the process that delivers, and when it is gone."""
    spool, wanted = checks.dir("lanes"), {"critical": 3, "high": 0, "medium": 5, "low": 1}
    run(spool, "sink", "add", "hole", "null")
    run(spool, "sink", "add", "lazy", "null")
    run(spool, "sink", "pause", "lazy")
    for lane, count in wanted.items():
        for _ in range(count):
            run(spool, "put", "-q", "--priority", lane, "x")
    deliverer = checks.start(harness.SPOOL, "-C", spool, "run", stderr=subprocess.DEVNULL)
    count = "spool_batch_events_sum"
    checks.check(until(lambda: by_lane(metrics(spool), count, "hole") == wanted), "events in batches, of who delivers",
                 by_lane(metrics(spool), count, "hole"))
    until(lambda: by_lane(metrics(spool), "spool_delivered_total", "hole") == wanted)
    for who in ("beside the deliverer", "without it"):
        families = metrics(spool)
        checks.check(by_lane(families, "spool_delivered_total", "hole") == wanted, f"delivered, {who}",
                     by_lane(families, "spool_delivered_total", "hole"))
        checks.check(by_lane(families, "spool_queue_depth", "lazy") == wanted
                     and not any(by_lane(families, "spool_queue_depth", "hole").values()), f"what waits, {who}")
        checks.check(by_lane(families, count, "hole") == wanted, f"events in batches, {who}")
        batches, times = (by_lane(families, f"{name}_count", "hole") for name in ("spool_batch_events", "spool_deliver_seconds"))
        checks.check(batches == times and sum(batches.values()) == value(families, "spool_batches_total", sink="hole")
                     and not batches["high"] and batches["low"] == 1, f"a batch is of one lane, {who}", batches)
        lanes = sink_of(spool, "lazy")["lanes"]
        checks.check({lane: row["pending_events"] for lane, row in lanes.items()} == wanted
                     and all((row["oldest"] is None) == (not wanted[lane]) for lane, row in lanes.items()),
                     f"likewise in `spool sinks`, {who}", lanes)
        if deliverer.poll() is None:
            deliverer.send_signal(signal.SIGTERM)
            deliverer.wait(PATIENCE)


def test_watch(checks):
    spool = checks.dir("watch")
    run(spool, "put", "-q", "one")
    watcher = checks.start(harness.SPOOL, "-C", spool, "status", "--watch", "100ms")
    first, looks = None, 0
    while looks < 3:
        line = watcher.stdout.readline()
        looks += line.startswith("spool ")
        first = first or line
    checks.check(first.startswith("!"), "it looks again and again", first)
    watcher.send_signal(signal.SIGINT)
    checks.check(watcher.wait(PATIENCE) == 0 and "\033" not in watcher.stdout.read(), "Ctrl-C ends it clean")
    watcher = checks.start(harness.SPOOL, "-C", spool, "status", "--watch", "100ms", "-o", "json")
    rows = [json.loads(watcher.stdout.readline()) for _ in range(2)]
    checks.check(all(row["waiting_events"] == 1 for row in rows), "JSON, an object a look", rows)
    watcher.send_signal(signal.SIGTERM)
    watcher.wait(PATIENCE)
    checks.check(run(spool, "status", "--watch", "soon").returncode == 2, "a wrong duration")
    checks.check(run(spool, "status", "2").returncode == 2, "seconds without --watch")


if __name__ == "__main__":
    harness.main("observe", [test_format, test_textfile, test_beside_the_deliverer, test_types_and_drops,
                              test_lanes, test_watch])
