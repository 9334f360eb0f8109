#!/usr/bin/env python3
"""readme.py - puts the table of figures into README.md between its bench markers, from BUILD/bench/results.json.

    bench/readme.py [RESULTS [README]]

Nothing in the table is written by hand: run `make bench-quick` or `make bench`, then this."""
import json
import os
import re
import statistics
import sys

from report import thousands, title_of
from targets import ratio

OVERTAKE = "spool_overtake/256B/1p/n1000000/200/s"
BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"

# What, ours, the other's, for the ratio.
ROWS = [
    ("process level, sustained into segments, a second", "spool_process/256B/1p", "raw_write/256B/1p"),
    ("the same, two threads", "spool_process/256B/2p", "raw_write/256B/2p"),
    ("process level, bursts that fit the journal", "spool_burst/256B/1p", "raw_write/256B/1p"),
    ("to an acknowledged `null` sink", "spool_null/256B/1p/n1", "raw_write/256B/1p"),
    ("to an acknowledged `file` sink as JSON Lines", "spool_file/256B/1p", "raw_lines/256B/1p"),
    ("the same, its lines flushed as often by the other", "spool_file/256B/1p", "raw_lines_flushed/256B/1p"),
    ("power level, one thread", "spool_power/256B/1p", "raw_sync/256B/1p"),
    ("power level, 64 threads", "spool_power/256B/64p", "spool_power/256B/1p"),
    ("process level, beside SQLite", "spool_process/256B/1p", "sqlite_batch/256B/1p"),
    ("process level, beside Redis", "spool_process/256B/1p", "redis_pipeline/256B/1p"),
    ("process level, beside plain LMDB", "spool_process/256B/1p", "lmdb_batch/256B/1p"),
]


def rounded(value):
    """Three digits: more would say nothing."""
    return thousands(float(f"{value:.3g}"))


def median(results, key, figure):
    values = results["runs"].get(key, {}).get(figure)
    return statistics.median(values) if values else None


def rate_rows(results):
    for what, ours, theirs in ROWS:
        mine, other = median(results, ours, "per_second"), median(results, theirs, "per_second")
        share = ratio(ours, "per_second", theirs)(results["runs"])
        if mine and other and share:
            yield f"| {what} | {rounded(mine)} | {rounded(other)} {title_of(results, theirs)} | {share:.2f} |"


def other_rows(results):
    for what, key in (("default flush", "spool_process/256B/1p"), ("never flushed", "spool_unflushed/256B/1p")):
        if median(results, key, "p50_ns"):
            yield (f"| process-level call, median / p99.9, {what} | {median(results, key, 'p50_ns') / 1e3:.2f} / "
                   f"{median(results, key, 'p999_ns') / 1e3:.1f} us | | |")
    put = results["command"]
    if put:
        yield f"| `spool put` of {put['lines']:,} lines, a second | {rounded(put['lines_per_second'])} | | |"
        yield f"| a single `spool put`, whole process | {put['single_ms']:.1f} ms | {put['true_ms']:.1f} ms `/bin/true` | |"


def overtake_rows(results):
    middle, late = (median(results, OVERTAKE, figure) for figure in ("age_p50_ns", "age_p99_ns"))
    if middle:
        yield ("| a critical event overtakes a million low ones: from enqueue to a sink that takes 2 ms a batch, median / p99 "
               f"| {middle / 1e6:.1f} / {late / 1e6:.1f} ms | | |")


# Who, one at a time, batches of 1,000, what its answer means.
SIDES = [
    ("**libspool**, power level", "spool_power", "spool_many_power", "flushed"),
    ("SQLite, WAL, `synchronous=FULL`", "sqlite_single", "sqlite_batch", "flushed"),
    ("LMDB, an event a key", "lmdb_single", "lmdb_batch", "flushed"),
    ("Redis stream, `appendfsync always`", "redis_single", "redis_pipeline", "flushed"),
    ("PostgreSQL, `INSERT`, `COPY`", "postgres_single", "postgres_copy", "flushed"),
    ("beanstalkd, `-f0`", "beanstalkd", "", "flushed"),
    ("NATS JetStream, `sync_interval: always`", "nats_single_always", "nats_batch_always", "flushed"),
    ("rsyslog, disk queue, synchronous", "", "rsyslog", "flushed; end to end"),
    ("Fluent Bit, filesystem buffer, `storage.sync full`", "", "fluent_bit", "flushed; end to end"),
    ("**libspool**, process level", "spool_process", "spool_many", "survives the process; flushed within 100 ms"),
    ("NATS JetStream, by default", "nats_single", "nats_batch", "written; flushed within 2 minutes"),
    ("syslog-ng, disk buffer, reliable", "", "syslog_ng", "written; end to end"),
]


def side_rows(results):
    for who, single, batch, meaning in SIDES:
        rates = [median(results, f"{case}/256B/1p", "per_second") if case else None for case in (single, batch)]
        if any(rates):
            yield f"| {who} | {' | '.join(rounded(rate) if rate else '–' for rate in rates)} | {meaning} |"


def table(results):
    head = [f"| 256-byte events, medians of {results['rounds']} interleaved rounds of {results['seconds']} s | libspool | "
            "the other, in the same run | median ratio of the rounds |", "|---|---:|---:|---:|"]
    sides = ["", "| events a second, 256 bytes, one producer | one at a time | 1,000 at once, or streamed | an answer means |",
             "|---|---:|---:|---|"]
    return "\n".join(head + list(rate_rows(results)) + list(other_rows(results)) + list(overtake_rows(results)) + sides + list(side_rows(results)))


def main():
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.environ.get("BUILD", "build"), "bench", "results.json")
    target = sys.argv[2] if len(sys.argv) > 2 else "README.md"
    with open(source, encoding="utf-8") as file:
        results = json.load(file)
    with open(target, encoding="utf-8") as file:
        readme = file.read()
    if results["left"]:
        sys.exit(f"{source}: {results['left']} runs are still to be made: RESUME=1")
    if BEGIN not in readme or END not in readme:
        sys.exit(f"{target} has no {BEGIN} … {END}")
    fresh = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{table(results)}\n{END}", readme, flags=re.S)
    with open(target, "w", encoding="utf-8") as file:
        file.write(fresh)


if __name__ == "__main__":
    main()
