"""What the figures are held against. A ratio is the median of the rounds' ratios, since its two sides ran beside each
other."""
import statistics


def first(runs, key, figure):
    values = runs.get(key, {}).get(figure, [])
    return values


def ratio(key, figure, other, other_figure=None):
    def of(runs):
        mine, theirs = first(runs, key, figure), first(runs, other, other_figure or figure)
        pairs = [a / b for a, b in zip(mine, theirs) if b]
        return statistics.median(pairs) if pairs else None
    return of


def value(key, figure, scale=1):
    def of(runs):
        values = first(runs, key, figure)
        return statistics.median(values) * scale if values else None
    return of


def worst(key, figure, scale=1):
    def of(runs):
        values = first(runs, key, figure)
        return max(values) * scale if values else None
    return of


def over(key, figure):
    """Per cent of that which the segments take beyond it."""
    def of(runs):
        disk, given = value(key, "disk_bytes")(runs), value(key, figure)(runs)
        return (disk / given - 1) * 100 if disk and given else None
    return of


def smaller(key, other):
    def of(runs):
        mine, theirs = value(key, "disk_bytes")(runs), value(other, "disk_bytes")(runs)
        return (1 - mine / theirs) * 100 if mine and theirs else None
    return of


PROCESS, WRITE, POWER = "spool_process/256B/1p", "raw_write/256B/1p", "spool_power/256B/1p"
NULL, MANY = "spool_null/256B/1p/n1", "spool_many/256B/1p"
ZSTD, RECORDED = "spool_zstd/256B/1p", "spool_zstd/256B/1p/input"
LEAST, MOST = "at least", "below"

# title, how it is found, what is wanted, unit. `x` is a ratio.
TARGETS = [
    ("process level, bursts: median call", value("spool_burst/256B/1p", "p50_ns"), MOST, 100, "ns"),
    ("process level, bursts / write(2)", ratio("spool_burst/256B/1p", "per_second", WRITE), LEAST, 5, "x"),
    ("process level, sustained, 1 thread / write(2)", ratio(PROCESS, "per_second", WRITE), LEAST, 2, "x"),
    ("process level, sustained, 2 threads / write(2), 2 threads",
     ratio("spool_process/256B/2p", "per_second", "raw_write/256B/2p"), LEAST, 2.5, "x"),
    ("process level, p99.9, default flush", value(PROCESS, "p999_ns", 1e-3), MOST, 10, "us"),
    ("process level, p99.9, never flushed, over 2 s", value("spool_unflushed/256B/1p", "p999_ns", 1e-3), MOST, 2, "us"),
    ("longest call at 50 % load, segments rotate and go", worst(NULL + "/50%", "max_ns", 1e-6), MOST, 5, "ms"),
    ("power level / pwrite + fdatasync", ratio(POWER, "per_second", "raw_sync/256B/1p"), LEAST, 0.95, "x"),
    ("power level, 64 threads / 1 thread", ratio("spool_power/256B/64p", "per_second", POWER), LEAST, 13, "x"),
    ("enqueue_many of 1,000, a second", value(MANY, "per_second"), LEAST, 1.5e6, ""),
    ("into segments / sequential write, fdatasync a MiB",
     ratio(PROCESS, "bytes_per_second", "raw_sequential/256B/1p"), LEAST, 0.7, "x"),
    ("sustained / SQLite, 1,000 a transaction", ratio(PROCESS, "per_second", "sqlite_batch/256B/1p"), LEAST, 4, "x"),
    ("sustained / Redis, 1,000 in a pipeline", ratio(PROCESS, "per_second", "redis_pipeline/256B/1p"), LEAST, 8, "x"),
    ("to an acknowledged null sink / write(2)", ratio(NULL, "per_second", WRITE), LEAST, 1, "x"),
    ("to an acknowledged file sink / its lines by write(2)",
     ratio("spool_file/256B/1p", "per_second", "raw_lines/256B/1p"), LEAST, 0.4, "x"),
    ("the same, by a file sink that does not flush either",
     ratio("spool_file_unflushed/256B/1p", "per_second", "raw_lines/256B/1p"), LEAST, 0.4, "x"),
    ("to an acknowledged sqlite sink / SQLite alone, in bulk into the same schema",
     ratio("spool_sqlite/256B/1p/n100000", "per_second", "sqlite_archive/256B/1p/n100000"), LEAST, 0.85, "x"),
    ("open, the largest backlog measured", None, MOST, 50, "ms"),
    ("drain from the disk / sequential read", None, LEAST, 0.8, "x"),
    ("anonymous memory, the largest backlog drained", None, MOST, 32, "MiB"),
    ("on disk over the body", over(PROCESS, "payload_bytes"), MOST, 8, "%"),
    ("compressed, a recorded session: smaller", smaller(RECORDED, "spool_process/256B/1p/input"), LEAST, 70, "%"),
    ("the same, events a second", value(RECORDED, "per_second"), LEAST, 1e6, ""),
    ("compressed, made-up text, events a second", value(ZSTD, "per_second"), LEAST, 1e6, ""),
    ("a host program at 10,000 events a second is slowed", value("host/256B/1p/10000/s", "slowed_percent"), MOST, 1, "%"),
    ("its calls, p99.9", value("host/256B/1p/10000/s", "p999_ns", 1e-3), MOST, 20, "us"),
]


def largest_backlog(runs):
    keys = [key for key in runs if key.startswith("spool_backlog/")]
    return max(keys, key=lambda key: int(key.rsplit("/n", 1)[1]), default="")


def targets(runs):
    """Rows: title, measured (None: not in this run), wanted, unit, met."""
    backlog = largest_backlog(runs)
    late = {"open, the largest backlog measured": value(backlog, "open_ms"),
            "drain from the disk / sequential read":
                ratio(backlog, "drain_bytes_per_second", "raw_read/256B/1p", "bytes_per_second"),
            "anonymous memory, the largest backlog drained": worst(backlog, "anonymous_bytes", 2 ** -20)}
    rows = []
    for title, of, sense, limit, unit in TARGETS:
        measured = (of or late[title])(runs)
        met = None if measured is None else measured >= limit if sense == LEAST else measured < limit
        rows.append({"target": title, "measured": measured, "sense": sense, "limit": limit, "unit": unit, "met": met})
    return rows
