"""The `spool put` command as a process: lines a second from a file, and how long a single put takes."""
import json
import os
import shutil
import statistics
import subprocess
import time

ROUNDS, SINGLES = 3, 20


def timed(command, **given):
    begin = time.monotonic()
    subprocess.run(command, check=True, **given)
    return time.monotonic() - begin


def lines_per_second(spool, room, lines):
    """Also counts the ids that come back: one a line."""
    path, ids = os.path.join(room, "lines"), os.path.join(room, "ids")
    with open(path, "w", encoding="utf-8") as file:
        for i in range(lines):
            file.write(json.dumps({"n": i, "model": "m", "text": f"{i:060}"}, separators=(",", ":")) + "\n")
    rates = []
    for number in range(ROUNDS):
        directory = os.path.join(room, f"many{number}")
        os.sync()
        with open(path, "rb") as source, open(ids, "wb") as out:
            rates.append(lines / timed([spool, "-C", directory, "put", "--type", "bench"], stdin=source, stdout=out))
        with open(ids, "rb") as out:
            got = sum(1 for _ in out)
        if got != lines:
            raise RuntimeError(f"spool put printed {got} ids for {lines} lines")
        shutil.rmtree(directory)
    return statistics.median(rates)


def single_ms(command):
    times = [timed(command, stdout=subprocess.DEVNULL) for _ in range(SINGLES + 1)]
    return statistics.median(times[1:]) * 1000


def measure(build, room, lines):
    """In the directory `room`, which is the caller's to remove."""
    spool = os.path.abspath(os.path.join(build, "spool"))
    return {"lines": lines, "lines_per_second": lines_per_second(spool, room, lines),
            "single_ms": single_ms([spool, "-C", os.path.join(room, "single"), "put", "--type", "bench", '{"n":1}']),
            "true_ms": single_ms(["/bin/true"])}
