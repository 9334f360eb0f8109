#!/usr/bin/env python3
"""`spool run` with a sink that is blocked in write(2): SIGTERM ends it by its deadline, a second one at once, and what it did
not deliver is still there. Judged by deadlines that are far apart, not by speed."""
import json
import os
import pathlib
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent.parent
spool = root / os.environ.get("BUILD", "build") / "spool"
work = pathlib.Path(tempfile.mkdtemp(prefix="spool-shutdown-"))
counts = {True: 0, False: 0}


def check(holds, what):
    counts[bool(holds)] += 1
    print("  ok     " if holds else "  FAILED ", what)


def run(stop_timeout):
    """A deliverer whose standard output is a pipe that nobody reads, once that is full."""
    config = work / "run.json"
    config.write_text(json.dumps({"spool": {"dir": str(work / "spool"), "stop_timeout": stop_timeout},
                                  "sinks": [{"name": "out", "kind": "stdout"}]}))
    reader, writer = os.pipe()
    child = subprocess.Popen([spool, "run", "-c", config], stdout=writer, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while select.select([], [writer], [], 0)[1] and time.monotonic() < deadline:  # until there is no room
        time.sleep(0.01)
    check(not select.select([], [writer], [], 0)[1], "the pipe is full, so that the sink is blocked")
    os.close(writer)
    return child, reader


def ended(child, within):
    try:
        child.wait(within)
        return True
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
        return False


def pending():
    done = subprocess.run([spool, "-C", work / "spool", "status", "-o", "json"], capture_output=True, text=True)
    return json.loads(done.stdout)["sinks"][0]["pending_events"]


lines = "".join(json.dumps({"type": "t", "data": "x" * 900}) + "\n" for _ in range(400))
subprocess.run([spool, "-C", work / "spool", "init"], check=False, capture_output=True)
config = work / "put.json"
subprocess.run([spool, "-C", work / "spool", "put"], input=lines, text=True, check=True, stdout=subprocess.DEVNULL)

child, reader = run("1s")
child.send_signal(signal.SIGTERM)
check(ended(child, 40), "SIGTERM ends it by its deadline, although the sink is blocked")
os.close(reader)
check(pending() == 400, f"what was not delivered is still there: {pending()} of 400")

child, reader = run("300s")
child.send_signal(signal.SIGTERM)
time.sleep(0.5)
check(child.poll() is None, "it takes the time it is given")
child.send_signal(signal.SIGTERM)
check(ended(child, 60), "a second SIGTERM ends it at once")
os.close(reader)
check(pending() == 400, f"what was not delivered is still there: {pending()} of 400")

shutil.rmtree(work, ignore_errors=True)
print(f"RESULT {counts[True]} {counts[False]}")
sys.exit(1 if counts[False] else 0)
