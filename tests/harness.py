"""What the test scripts share: where the programs are, counting checks, a scratch directory, and reading back what the
programs of tests/programs logged and what the file sink wrote.

An acknowledgement log (and the log of the callback sink) is a row of lines of exactly 64 bytes, each written with one
write(2), so that a line never crosses a page and a killed process leaves no half of one:

    <id, 36 characters> <tag, 8> <thread, 3 digits> <n, 11 digits> <k: good body, X: bad body>

A body is {"tag":…,"thread":…,"n":…,"pad":…,"crc":…}, crc being the CRC-32 of "tag/thread/n/pad".
"""
import collections
import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zlib

BUILD = pathlib.Path(os.environ.get("BUILD", "build")).resolve()
ROOT = pathlib.Path(__file__).resolve().parent.parent
SPOOL = str(BUILD / "spool")
LINE = 64

Record = collections.namedtuple("Record", "id tag thread n good")


class Checks:
    """Counts checks, owns a scratch directory (kept when something failed), and prints the RESULT line."""

    def __init__(self, name):
        self.name, self.passed, self.failed, self.children = name, 0, 0, []
        self.seed = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
        self.random = random.Random(self.seed)
        self.scratch = pathlib.Path(tempfile.mkdtemp(prefix=f"spool-{name}-"))
        print(f"{name}: seed {self.seed}, programs in {BUILD}", flush=True)

    def check(self, good, what, detail=""):
        """Counts one check; prints it, with `detail` if it failed. Returns whether it was good."""
        if good:
            self.passed += 1
        else:
            self.failed += 1
        print(f"  {'ok' if good else 'FAILED'}: {what}" + (f": {detail}" if not good and detail else ""), flush=True)
        return bool(good)

    def skip(self, what, why):
        print(f"skipped: {self.name}: {what}: {why}", flush=True)

    def dir(self, name):
        """A path for a spool that does not exist yet."""
        return self.scratch / name

    def start(self, *command, **keywords):
        """Starts a process that is killed at the end if it still runs."""
        keywords.setdefault("stdout", subprocess.PIPE)
        keywords.setdefault("stderr", subprocess.PIPE)
        child = subprocess.Popen([str(word) for word in command], text=True, **keywords)
        self.children.append(child)
        return child

    def finish(self):
        for child in self.children:
            if child.poll() is None:
                child.kill()
                child.wait()
        if self.failed:
            print(f"kept for inspection: {self.scratch}")
        else:
            shutil.rmtree(self.scratch, ignore_errors=True)
        print(f"RESULT {self.passed} {self.failed}")
        sys.exit(1 if self.failed else 0)


def main(name, tests):
    """Runs the functions of `tests` one after the other, each with the Checks; one that raises is a failed check."""
    checks = Checks(name)
    for test in tests:
        print(f"{test.__name__}:", flush=True)
        try:
            test(checks)
        except Exception as error:  # a broken test must not hide the others
            checks.check(False, test.__name__, f"{type(error).__name__}: {error}")
    checks.finish()


def program(name):
    return BUILD / "programs" / name


def run(*command, timeout=120, **keywords):
    """Runs to the end; returns the finished process with text output."""
    keywords.setdefault("stdout", subprocess.PIPE)
    keywords.setdefault("stderr", subprocess.PIPE)
    return subprocess.run([str(word) for word in command], text=True, timeout=timeout, **keywords)


def wait(child, timeout=120):
    """Waits for a started process; returns (exit status, JSON object of its last line or {}, standard error)."""
    try:
        output, errors = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        child.kill()
        child.communicate()
        return None, {}, f"not done after {timeout} s"
    return child.returncode, last_json(output), errors.strip()


def last_json(output):
    """The JSON object in the last line of `output`, or {}."""
    lines = [line for line in output.splitlines() if line.startswith("{")]
    return json.loads(lines[-1]) if lines else {}


def wait_until(condition, timeout=60):
    """Polls until `condition()` is true; returns whether it became so."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.01)
    return False


def kill(child):
    """SIGKILL and reap."""
    child.send_signal(signal.SIGKILL)
    child.communicate()


def read_log(path):
    """The records of an acknowledgement or callback log."""
    if not os.path.exists(path):
        return []
    data = pathlib.Path(path).read_bytes()
    if len(data) % LINE:
        raise ValueError(f"{path}: {len(data)} bytes are not a row of whole {LINE}-byte lines")
    return [parse_line(data[at:at + LINE]) for at in range(0, len(data), LINE)]


def parse_line(line):
    return Record(line[:36].decode(), line[37:45].decode().rstrip(), int(line[46:49]), int(line[50:61]),
                  line[62:63] == b"k")


def read_file_sink(path):
    """The events in a file of the file sink, as dicts. Raises on a line that is no whole JSON object."""
    with open(path, "rb") as lines:
        return [json.loads(line) for line in lines]


def body_is_good(body):
    """Whether a body is one that the producer made and that nothing has changed."""
    text = f"{body['tag']}/{body['thread']}/{body['n']}/{body['pad']}"
    return body["crc"] == f"{zlib.crc32(text.encode()):08x}"


def check_delivery(checks, what, events, acknowledged, others_allowed=True):
    """Events of a file sink against the acknowledged records: all there, right bodies, none twice, in order. With
    `others_allowed` False also that nothing else came."""
    ids = [event["id"] for event in events]
    seen, wanted = set(ids), {record.id for record in acknowledged}
    checks.check(wanted <= seen, f"{what}: all {len(wanted)} acknowledged events arrived",
                 f"{len(wanted - seen)} lost, e.g. {sorted(wanted - seen)[:3]}")
    twice = [id for id, times in collections.Counter(ids).items() if times > 1] if len(seen) < len(ids) else []
    checks.check(not twice, f"{what}: none arrived twice", f"{len(twice)}, e.g. {twice[:3]}")
    bad = [event["id"] for event in events if not body_is_good(event["data"])]
    checks.check(not bad, f"{what}: all bodies are right", f"{len(bad)} are not, e.g. {bad[:3]}")
    changed = [record.id for record in acknowledged if record.id in seen] and mismatches(events, acknowledged)
    checks.check(not changed, f"{what}: each id has the body it was given for", f"e.g. {changed and changed[:3]}")
    late = out_of_order(events)
    checks.check(not late, f"{what}: in order within an agent and a priority", f"{len(late)}, e.g. {late[:3]}")
    if not others_allowed:
        checks.check(seen <= wanted, f"{what}: nothing else arrived", f"{len(seen - wanted)} more")


def mismatches(events, acknowledged):
    """Ids that arrived with another event's body than the one they were acknowledged for."""
    given = {record.id: (record.tag, record.thread, record.n) for record in acknowledged}
    return [event["id"] for event in events if event["id"] in given
            and given[event["id"]] != tuple(event["data"][key] for key in ("tag", "thread", "n"))]


def out_of_order(events):
    """Ids that came after a later event of the same agent and priority."""
    last, late = {}, []
    for event in events:
        key = event.get("agent"), event["priority"]
        if event["id"] < last.get(key, ""):
            late.append(event["id"])
        last[key] = event["id"]
    return late


def status(directory):
    """`spool status -o json` as a dict; {} when it failed."""
    return last_json(run(SPOOL, "-C", directory, "-o", "json", "status").stdout)


def rss_anonymous(pid):
    """Anonymous memory of a process in bytes; 0 once it is gone."""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"RssAnon:\s+(\d+) kB", text)
    return int(found.group(1)) * 1024 if found else 0
