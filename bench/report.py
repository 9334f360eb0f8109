"""What is made of the figures: results.json, results.md with every figure and every setting, and plots."""
import json
import os
import statistics

import svg
from targets import targets


def spread(values):
    return min(values), statistics.median(values), max(values)


def thousands(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def title_of(results, key):
    name = key.split("/")[0]
    always = name.endswith("_always")
    case = results["cases"].get(name[:-7] if always else name, {"title": name})
    return case["title"] + (", sync_interval always" if always else "")


def parts_of(key):
    """case, bytes, producers, the rest."""
    case, size, producers, *rest = key.split("/")
    return case, int(size[:-1]), int(producers[:-1]), rest


def show(measured, unit):
    if measured is None:
        return "not in this run"
    number = f"{measured:.2f}" if unit == "x" or abs(measured) < 100 else thousands(measured)
    return number + (" " + unit if unit and unit != "x" else "")


def target_table(results):
    yield "| target (256 bytes unless said) | measured | wanted | |"
    yield "|---|---:|---:|---|"
    for row in targets(results["runs"]):
        verdict = {True: "reached", False: "**missed**", None: ""}[row["met"]]
        yield (f"| {row['target']} | {show(row['measured'], row['unit'])} | {row['sense']} "
               f"{show(row['limit'], row['unit'])} | {verdict} |")


def rate_table(results):
    yield ("| case | bytes | producers | events a second | spread | p50 us | p99 us | p99.9 us | p99.99 us | max us | "
           "CPU ns an event |")
    yield "|---|---:|---:|---:|---|---:|---:|---:|---:|---:|---:|"
    for key, figures in results["runs"].items():
        if "per_second" not in figures:
            continue
        _, size, producers, rest = parts_of(key)
        low, middle, high = spread(figures["per_second"])
        times = [thousands(statistics.median(figures[name]) / 1e3) if name in figures else ""
                 for name in ("p50_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns")]
        cpu = sum(statistics.median(figures[name]) for name in ("cpu_ns", "server_cpu_ns") if name in figures)
        more = f" ({', '.join(rest)})" if rest else ""
        yield (f"| {title_of(results, key)}{more} | {size} | {producers} | {thousands(middle)} | {thousands(low)} to "
               f"{thousands(high)} | {' | '.join(times)} | {thousands(cpu) if cpu else ''} |")


def other_table(results):
    """What is not a rate, or more than one, a row a figure."""
    known = {"per_second", "events", "p50_ns", "p99_ns", "p999_ns", "p9999_ns", "max_ns", "cpu_ns", "server_cpu_ns"}
    yield "| case | figure | median | spread |"
    yield "|---|---|---:|---|"
    for key, figures in results["runs"].items():
        for name, values in figures.items():
            if name in known:
                continue
            low, middle, high = spread(values)
            yield (f"| {title_of(results, key)} ({key}) | {name} | {thousands(middle)} | {thousands(low)} to "
                   f"{thousands(high)} |")


def setting_list(results):
    for name, settings in sorted(results["settings"].items()):
        yield f"- {name}: {results['versions'].get(name, '')}: {settings}"
    seen = {key.split("/")[0].removesuffix("_always") for key in results["runs"]}
    for name, case in results["cases"].items():
        if name in seen:
            yield f"- `{name}`: {case['title']}: {case['settings']}"
    for key, reason in results["skipped"].items():
        yield f"- skipped: {key}: {reason}"


def markdown(results, plots):
    machine = results["machine"]
    lines = [f"# Figures of {machine['date']}", "",
             f"{machine['cpus']} CPUs ({machine['model']}), Linux {machine['kernel']}; {results['rounds']} interleaved "
             f"rounds of {results['seconds']} s a case; medians, and the least and greatest. "
             f"A batch is 1,000 events, or 3 MiB of larger ones. Took {results['took_seconds']:.0f} s"
             + (f"; {results['left']} runs are still to be made." if results["left"] else "."), ""]
    lines += [f"![{name}]({name}.svg)" for name in plots]
    lines += ["", "## Targets", "", *target_table(results), "", "## Rates and latencies of a step", "", *rate_table(results), "",
              "## Other figures", "", *other_table(results), ""]
    put = results["command"]
    if put:
        lines += [f"`spool put` of {put['lines']:,} lines: {thousands(put['lines_per_second'])} a second; a single one: "
                  f"{put['single_ms']:.1f} ms, `/bin/true`: {put['true_ms']:.1f} ms.", ""]
    lines += ["## Settings", "", *setting_list(results), ""]
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------------------- plots

COUNTS_BESIDE = {"spool_null": ["n1"], "spool_sqlite": ["n100000"], "sqlite_archive": ["n100000"]}


def plot_side_by_side(results):
    rows = []
    for key, figures in results["runs"].items():
        case, size, producers, rest = parts_of(key)
        rates = [rate for rate in figures.get("per_second", []) if rate > 0]
        plain = not rest or rest == COUNTS_BESIDE.get(case)
        if size == 256 and producers == 1 and plain and case != "raw_sequential" and rates:  # that one's step is a MiB
            rows.append((title_of(results, key), *spread(rates), case.startswith("spool")))
    rows.sort(key=lambda row: -row[2])
    return svg.bars("Events a second, 256 bytes, one producer", "", rows) if rows else ""


def series_over(results, axis, fixed, wanted):
    """{title: [(x, rate)]} over bytes (axis 1) or producers (axis 2), the other one fixed."""
    series = {}
    for key, figures in results["runs"].items():
        parts = parts_of(key)
        if parts[3 - axis] == fixed and not parts[3] and "per_second" in figures and parts[0] in wanted:
            series.setdefault(title_of(results, key), []).append((parts[axis], statistics.median(figures["per_second"])))
    return {label: sorted(row) for label, row in series.items() if len(row) > 1}


DURABLE = ["spool_power", "spool_many_power", "raw_sync", "lmdb_batch", "sqlite_single", "sqlite_batch", "redis_single",
           "redis_pipeline", "beanstalkd", "nats_single_always", "postgres_single", "postgres_copy"]
RELAYS = ["rsyslog", "syslog_ng", "fluent_bit"]


def plot_lines(results):
    over = {"producers": (2, 256, DURABLE + RELAYS, "256 bytes"),
            "sizes": (1, 1, DURABLE + RELAYS + ["spool_process", "raw_write"], "one producer")}
    for name, (axis, fixed, wanted, what) in over.items():
        series = series_over(results, axis, fixed, wanted)
        if series:
            axis_title = "bytes of an event" if name == "sizes" else name
            yield name, svg.lines(f"Events a second over {axis_title}, {what}", axis_title, "events a second", series)
    yield from plot_counts(results, "backlog", "spool_backlog", "open_ms", "Milliseconds to open", "events of backlog")
    yield from plot_counts(results, "sinks", "spool_null", "per_second", "Events a second", "null sinks")


def plot_counts(results, name, case, figure, y_title, x_title):
    row, title = [], ""
    for key, figures in results["runs"].items():
        parts = parts_of(key)
        if parts[0] == case and len(parts[3]) == 1 and figure in figures:
            row.append((int(parts[3][0][1:]), statistics.median(figures[figure])))
            title = title_of(results, key)
    if len(row) > 1:
        yield name, svg.lines(f"{y_title} over {x_title}", x_title, y_title, {title: sorted(row)})


PERCENTILES = [(0.5, "p50_ns"), (0.01, "p99_ns"), (0.001, "p999_ns"), (0.0001, "p9999_ns")]


def plot_latency(results):
    series = {}
    for key, figures in results["runs"].items():
        case, size, producers, rest = parts_of(key)
        if size == 256 and producers == 1 and not rest and case in ("spool_process", "spool_power", "raw_write", "raw_sync"):
            series[title_of(results, key)] = [(1 / share, statistics.median(figures[name]))
                                              for share, name in PERCENTILES if name in figures]
    return svg.lines("Latency of a call", "one call in so many …", "… takes these ns, or longer", series) if series else ""


def put_file(path, text):
    """Whole, or not at all."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".new", path)


PLOTS = ("side-by-side", "latency", "producers", "sizes", "backlog", "sinks")


def write(results, out):
    results["targets"] = targets(results["runs"])
    put_file(os.path.join(out, "results.json"), json.dumps(results, indent=1))
    plots = {"side-by-side": plot_side_by_side(results), "latency": plot_latency(results), **dict(plot_lines(results))}
    drawn = [name for name in PLOTS if plots.get(name)]
    put_file(os.path.join(out, "results.md"), markdown(results, drawn))
    for name in PLOTS:
        path = os.path.join(out, name + ".svg")
        if name in drawn:
            put_file(path, plots[name])
        elif os.path.exists(path):
            os.remove(path)  # of a run that had more
