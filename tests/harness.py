"""What the test scripts share: where the programs are, counting checks, a scratch directory, and reading back what the
programs of tests/programs logged and what the file sink wrote.

What the programs log is a history: tests/programs/history.h has its lines, tests/lab/history/history.py judges it.

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
import socket
import subprocess
import sys
import tempfile
import time
import zlib

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "lab" / "history"))
import history

BUILD = pathlib.Path(os.environ.get("BUILD", "build")).resolve()
ROOT = pathlib.Path(__file__).resolve().parent.parent
SPOOL = str(BUILD / "spool")

Record = collections.namedtuple("Record", "id tag thread n good")
FILE = {"file": history.Promise(once=True)}  # what the file sink promises, ordered by agent


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
    one_by_one(checks, tests)
    checks.finish()


def one_by_one(checks, tests):
    for test in tests:
        print(f"{test.__name__}:", flush=True)
        start = time.monotonic()
        try:
            test(checks)
        except Exception as error:  # a broken test must not hide the others
            checks.check(False, test.__name__, f"{type(error).__name__}: {error}")
        print(f"  {test.__name__}: {time.monotonic() - start:.1f} s", flush=True)


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
    """Polls until `condition()` is true; returns whether it became so. At first often, then ten times a second, since many
    conditions start a program, and on a busy machine those would be what keeps it busy."""
    pause, deadline = 0.005, time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(1.3 * pause, 0.1)
    return True


_ports = []  # names that say which ports are taken, as long as this process lives


def free_port(kind=socket.SOCK_STREAM):
    """A port on loopback for a server that comes and goes. It is none that the kernel gives to others meanwhile: a connection to
    a port of its own range where nobody listens may get that very port, and is then connected to itself. And it is none that
    another test that runs now has got from here."""
    low, high = map(int, pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = [port for port in range(10000, 65536) if not low <= port <= high] or list(range(10000, 65536))
    while True:
        port, taken = random.SystemRandom().choice(ports), socket.socket(socket.AF_UNIX)
        with socket.socket(socket.AF_INET, kind) as probe:
            try:
                taken.bind(f"\0spool-test-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                taken.close()
                continue
        _ports.append(taken)
        return port


def kill(child, log=None, tag=None):
    """SIGKILL and reap; notes the end of process `tag` in the history `log`."""
    child.send_signal(signal.SIGKILL)
    child.communicate()
    if log:
        history.mark(log, k="kill", p=tag, ms=int(time.monotonic() * 1000))


def read_log(path, kind="ok"):
    """The events of a history that were acknowledged ("ok"), or that the callback got ("seen")."""
    if not os.path.exists(path):
        return []
    mark = b'{"k":"%s"' % kind.encode()
    with open(path, "rb") as lines:
        rows = [json.loads(line) for line in lines if line.startswith(mark)]
    return [Record(row["id"], row.get("tag", row["p"]), row["t"], row["n"], bool(row.get("good", 1))) for row in rows]


def read_file_sink(path):
    """The events in a file of the file sink, as dicts. Raises on a line that is no whole JSON object."""
    with open(path, "rb") as lines:
        return [json.loads(line) for line in lines]


def body_is_good(body):
    """Whether a body is one that the producer made and that nothing has changed."""
    text = f"{body['tag']}/{body['thread']}/{body['n']}/{body['pad']}"
    return body["crc"] == f"{zlib.crc32(text.encode()):08x}"


def judge(checks, what, logs, files=None, promises=None, drained=True):
    """Gives the histories in `logs` (paths) and what file sinks wrote (`files`: name -> path) to the history checker, and
    counts its verdict as one check. Returns the history."""
    judged = history.History()
    for log in logs:
        judged.read(log)
    for name, path in (files or {}).items():
        judged.read_file_sink(path, name)
    violations = judged.judge(promises or FILE, drained)
    for violation in violations[:20]:
        print(f"    {violation.kind}: {violation.text}")
    checks.check(not violations, f"{what}: the history is right: {judged.counts()}", history.by_kind(violations))
    return judged


def control(checks, what, logs, files, promises=None):
    """Breaks what a file sink wrote, in three ways, and has the checker find each: so that its silence means something."""
    name, path = next(iter(files.items()))
    whole = pathlib.Path(path).read_bytes().splitlines(keepends=True)
    middle = len(whole) // 2
    for kind, lines in (("lost", whole[:middle] + whole[middle + 1:]), ("repeated", whole + whole[middle:middle + 1]),
                        ("changed", whole[:-1] + [whole[-1].replace(b'"pad":"', b'"pad":"?')])):
        broken = checks.dir("control")
        broken.write_bytes(b"".join(lines))
        judged = history.History()
        for log in logs:
            judged.read(log)
        found = history.by_kind(judged.read_file_sink(broken, name).judge({name: (promises or FILE)[name]}))
        checks.check(kind in found, f"{what}: control: {kind} is found", str(found))


class Site:
    """One spool with its history, and the processes that work on it."""

    def __init__(self, checks, name, *options, promises=None):
        self.checks, self.spool, self.options = checks, checks.dir(name), options
        self.history, self.sink = checks.dir(name + ".history"), checks.dir(name + ".jsonl")
        self.promises, self.tags = promises or FILE, {}

    def start(self, name, tag, *more, prefix=(), **keywords):
        """Starts a program of tests/programs; its tag is its name in the history."""
        child = self.checks.start(*prefix, program(name), "--dir", self.spool, "--tag", tag, "--history", self.history,
                                  *self.options, *more, **keywords)
        self.tags[child] = tag
        return child

    def producer(self, tag, *more, prefix=(), **keywords):
        return self.start("producer", tag, "--size_max", 500, *more, prefix=prefix, stdin=subprocess.PIPE, **keywords)

    def deliverer(self, tag, *more, **keywords):
        child = self.start("deliverer", tag, *more, **keywords)
        child.stdout.readline()  # "ready"
        return child

    def serving(self, tag, *more, **keywords):
        """A deliverer of the file sink until SIGTERM."""
        return self.deliverer(tag, "--file_sink", self.sink, "--until_term", *more, **keywords)

    def kill(self, child):
        kill(child, self.history, self.tags[child])

    def expect(self, child, what, timeout=120):
        """The process ends well; returns its report."""
        status, report, errors = wait(child, timeout)
        self.checks.check(status == 0, f"{what} ends well", f"status {status}: {errors} {report}")
        return report

    def terminate(self, child, what, timeout=120):
        child.send_signal(signal.SIGTERM)
        return self.expect(child, what, timeout)

    def read(self, kind="ok"):
        return read_log(self.history, kind)

    def drain_and_judge(self, what, *more):
        """Delivers everything into the file sink; the history checker has the last word. Returns the history."""
        self.expect(self.deliverer("drain", "--file_sink", self.sink, "--drain_ms", 60000, *more), "the drain")
        return self.judge(what)

    def judge(self, what, drained=True):
        files = {"file": self.sink} if self.sink.exists() else {}  # made with its first event
        return judge(self.checks, what, [self.history], files, self.promises, drained)


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
