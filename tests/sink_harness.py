"""What the tests of the sinks in plugins share: a spool with one sink, events for it, and the account of what came out.

The tests of one kind know how to ask its far side what it has; what must be there is known here: the events that the
producer's history says were acknowledged (harness.py)."""
import contextlib
import json
import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import threading
import time

import harness

os.environ["SPOOL_SINK_PATH"] = str(harness.BUILD / "sinks")
CANCEL_MS_MAX = 200  # a sink's deliver returns within that of being cancelled
UNAVAILABLE = -23    # SPOOL_EUNAVAILABLE, which it then says


def main(kind, tests):
    """harness.main(), unless the plugin was not built, since what it needs is missing."""
    if (harness.BUILD / "sinks" / f"libspool-sink-{kind}.so").exists():
        harness.main(kind, tests)
    print(f"skipped: {kind}: libspool-sink-{kind}.so was not built")
    print("RESULT 0 0")


def need(kind):
    """Ends the test, and says so, if the plugin was not built, since what it needs is missing."""
    if not (harness.BUILD / "sinks" / f"libspool-sink-{kind}.so").exists():
        print(f"skipped: {kind}: libspool-sink-{kind}.so was not built")
        print("RESULT 0 0")
        raise SystemExit(0)


def with_server(checks, server, tests):
    """The tests one after the other beside a server, which ends with them; what raises is a failed check."""
    try:
        harness.one_by_one(checks, tests)
    finally:
        server.end()


def id_of(ms, number):
    """An id as of an event that was made then: milliseconds since 1970."""
    text = f"{int(ms):012x}7{number:03x}8000000000000001"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


class Site:
    """A spool with one sink, and who works on it."""

    def __init__(self, checks, name, kind, config, options=None, register=True):
        self.checks, self.kind, self.said, self.bursts = checks, kind, "", []
        self.environment = config.pop("env", None)
        self.spool, self.file = checks.dir(name), checks.dir(name + ".json")
        self.history = checks.dir(name + ".history")
        self.configure(config, options)
        if register:
            self.drain(0.4)  # what waits already is not waited for

    def configure(self, config, options=None):
        """The sink's own keys, and those of every sink. Retries come fast, so that tests do not wait for them; and whoever
        kills the deliverer means no event by it."""
        sink = {"name": "sink", "kind": self.kind, "retry": {"base": "5ms", "cap": "100ms"}, "max_crashes": 1000000,
                **(options or {}), **config}
        self.file.write_text(json.dumps({"spool": {"dir": str(self.spool)}, "sinks": [sink]}))

    # ---------------------------------------------------------------------------------------------------- events

    def put(self, body, *options):
        """One event by the command; returns its id."""
        return harness.run(harness.SPOOL, "-C", self.spool, "put", *options, input=body + "\n").stdout.strip()

    def put_events(self, events):
        """Whole events in native JSON."""
        lines = "".join(json.dumps(event) + "\n" for event in events)
        done = harness.run(harness.SPOOL, "-C", self.spool, "put", "--events", "-d", "process", input=lines)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.split()

    def producer(self, count, *more):
        return self.checks.start(harness.program("producer"), "--dir", self.spool, "--tag", "p", "--history", self.history,
                                 "--count", count, "--size_max", 300, "--batch", 8, *more)

    def burst(self, count):
        """Enqueues events on the side, for a second; see produced()."""
        self.bursts.append(self.producer(count, "--rate", count, "--tag", f"p{len(self.bursts)}"))

    def produced(self):
        """Every burst has ended, and well."""
        ends = [harness.wait(child) for child in self.bursts]
        return self.checks.check(all(status == 0 for status, _, _ in ends), f"{len(ends)} bursts of events are enqueued", str(ends))

    def is_done(self):
        """The last burst has ended, and nothing waits."""
        return self.bursts[-1].poll() is not None and self.is_empty()

    def produce(self, count, *more):
        """Enqueues events of every priority; returns the acknowledged."""
        status, _, errors = harness.wait(self.producer(count, *more))
        self.checks.check(status == 0, f"{count} events are enqueued", errors)
        return self.acknowledged()

    def acknowledged(self):
        return {record.id for record in harness.read_log(self.history)}

    # ------------------------------------------------------------------------------------------------ delivering

    def run(self, *prefix, **keywords):
        return self.checks.start(*prefix, harness.SPOOL, "run", "-c", self.file, env=self.environment, **keywords)

    def drain(self, timeout=60, *prefix):
        return harness.run(*prefix, harness.SPOOL, "drain", "-c", self.file, "--timeout", timeout, timeout=timeout + 60,
                           env=self.environment)

    def drains(self, what, timeout=60):
        done = self.drain(timeout)
        return self.checks.check(done.returncode == 0, f"{what}: all is delivered", done.stderr[-2000:])

    def is_empty(self):
        """Nothing waits for the sink."""
        sinks = harness.status(self.spool).get("sinks", [])
        return bool(sinks) and sinks[0]["pending_events"] == 0

    def dead_letters(self):
        lines = harness.run(harness.SPOOL, "-C", self.spool, "-o", "json", "dlq", "list").stdout.splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def is_down(self, what, words):
        """The sink says why it does not deliver; the events stay. What it said is kept in self.said."""
        done = self.drain(0.4)
        self.said, status = done.stderr, done.returncode
        tries = 4
        while status != 0 and not re.search(words, self.said) and tries > 0:
            status = self.drain_until_it_says(words)
            tries -= 1
        return self.checks.check(status != 0 and re.search(words, self.said), f"{what}: it says why", self.said[-600:])

    def drain_until_it_says(self, words, timeout=15):
        """Returns its exit status. It tells what is new once a second, and in the end how things stand."""
        log = self.checks.dir(f"{self.file.stem}.said")
        with open(log, "w") as errors:
            child = self.checks.start(harness.SPOOL, "drain", "-c", self.file, "--timeout", timeout, env=self.environment,
                                      stdout=subprocess.DEVNULL, stderr=errors)
        harness.wait_until(lambda: child.poll() is not None or re.search(words, log.read_text()), timeout)
        child.send_signal(signal.SIGTERM)
        status = child.wait(60)
        self.said = log.read_text()
        return status

    def resume(self):
        """A sink that waits for its configuration to be mended is paused."""
        harness.run(harness.SPOOL, "-C", self.spool, "sink", "resume", "sink")

    def delivered(self):
        """How many events were acknowledged, as the spool has it."""
        sinks = harness.status(self.spool).get("sinks", [])
        return sinks[0]["delivered_events"] if sinks else 0

    def killed_while_delivering(self, what, rounds, events, longest=0.4):
        """Runs the deliverer and kills it, again and again: every third time at any moment, else a moment after it has delivered
        a random share of what is left of `events`. Some of the kills must have hit the middle of it."""
        counts = [self.delivered()]
        for left in range(rounds, 0, -1):
            goal = min(events, counts[-1] + self.checks.random.randrange(2 * max(0, events - counts[-1]) // left + 1))
            child = self.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if left % 3 > 0:
                harness.wait_until(lambda: self.delivered() >= goal, 30)
            time.sleep((longest if left % 3 == 0 else 0.02) * self.checks.random.random())
            child.send_signal(signal.SIGKILL)
            child.wait()
            counts.append(self.delivered())
        flowed(self.checks, what, counts, events)


def rate(events, seconds=5, most=20000):
    """Of a producer (--rate): events flow for so many seconds at least, however few there are."""
    return max(1, min(most, events // seconds))


def flows(count, over, timeout=60):
    """Waits until more of what count() tells is over there than now, so that a kill falls while events flow however slow the
    machine is; or until over(): nothing more will come."""
    before = count()
    return harness.wait_until(lambda: count() > before or over(), timeout)


def flowed(checks, what, counts, events, least=2):
    """`counts` are the events over there at the beginning, and at each kill. Some kills must have fallen while events flowed:
    more had come since the kill before, and not all had."""
    hit = sum(a < b < events for a, b in zip(counts, counts[1:]))
    checks.check(hit >= least, f"{what}: {hit} of {len(counts) - 1} kills fell while events flowed", str(counts))


def account(checks, what, wanted, found, once=True):
    """`found` are the ids over there, as often as they are there."""
    found = list(found)
    there = set(found)
    lost, strange, twice = wanted - there, there - wanted, len(found) - len(there)
    checks.check(not lost, f"{what}: none of {len(wanted)} is lost", f"{len(lost)} are, such as {sorted(lost)[:3]}")
    checks.check(not strange, f"{what}: nothing is there that was not enqueued", f"{len(strange)}: {sorted(strange)[:3]}")
    if once:
        checks.check(twice == 0, f"{what}: none is there twice", f"{twice} of {len(found)} are")
    else:
        print(f"    {twice} of {len(found)} are there more than once")


SLOW_NAMES = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <unistd.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!hints || !(hints->ai_flags & AI_NUMERICHOST))
        sleep(20);
    return real(node, service, hints, found);
}
"""


def slow_names(checks):
    """An environment in which every name takes 20 s to look up."""
    shim = checks.dir("slow_names.so")
    if not shim.exists():
        done = harness.run("gcc", "-shared", "-fPIC", "-x", "c", "-o", shim, "-", "-ldl", input=SLOW_NAMES)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
    return {**os.environ, "LD_PRELOAD": str(shim)}


def peak_memory(runner, done, timeout=180):
    """The most anonymous memory of a process until `done()`; ends it."""
    peak, deadline = 0, time.monotonic() + timeout
    while not done() and time.monotonic() < deadline:
        peak = max(peak, harness.rss_anonymous(runner.pid))
        time.sleep(0.02)
    runner.send_signal(signal.SIGTERM)
    runner.wait(60)
    return peak


def cancelled_soon(checks, name, kind, config, words="cancel|interrupted", after_ms=300, tries=5, env=None, prefix=()):
    """The best of some tries, since a busy machine may delay any one of them. Returns what the sink said."""
    late, said = [], ""
    for i in range(tries):
        spool = checks.dir(f"cancel-{len(list(checks.scratch.iterdir()))}")
        done = harness.run(*prefix, harness.program("sink_cancel"), spool, kind, json.dumps(config), after_ms, env=env)
        if prefix and done.returncode == 125:
            checks.skip(name, done.stderr.strip() or "no namespaces here")
            return ""
        answer = harness.last_json(done.stdout)
        if not answer:
            checks.check(False, f"{name}: cancelled", done.stderr)
            return ""
        late.append(answer["late_ms"])
        said = answer["reason"]
        if -50 < late[-1] < 200:
            break
    checks.check(-50 < min(late, key=abs) < 200, f"{name}: deliver returns within 200 ms of being cancelled", f"{late} {said}")
    checks.check(re.search(words, said), f"{name}: it says so", said)
    return said


def cancelled_in_look_up(checks, kind, config, **more):
    """While a name is looked up: one that takes 20 s within libc, and one that a name server does not answer."""
    cancelled_soon(checks, "while the name is looked up", kind, config, env=slow_names(checks), **more)
    cancelled_soon(checks, "while no name server answers", kind, config, **more,
                   prefix=(harness.ROOT / "tests" / "silent_resolver.py",))


def cancelled_alone(checks, name, kind, config, after_ms=300, tries=5):
    """The hooks alone, without the engine: what deliver and close take from the cancel on. The best of some tries."""
    best, plugin = {}, harness.BUILD / "sinks" / f"libspool-sink-{kind}.so"
    for _ in range(tries):
        done = harness.run(harness.program("hooks"), plugin, json.dumps(config), after_ms,
                           env={**os.environ, "ASAN_OPTIONS": "verify_asan_link_order=0"})
        got = harness.last_json(done.stdout)
        if not checks.check(got.get("code") == UNAVAILABLE and "interrupted" in got["message"], f"{name}: deliver is interrupted",
                            done.stdout + done.stderr):
            return
        best = min(best or got, got, key=lambda one: max(one["cancel_ms"], one["close_ms"]))
        if max(best["cancel_ms"], best["close_ms"]) < CANCEL_MS_MAX:
            break
    for what in ("cancel_ms", "close_ms"):
        checks.check(best[what] < CANCEL_MS_MAX, f"{name}: {what} is below {CANCEL_MS_MAX}", f"{best[what]}")


def cancelled_in_handshake(checks, kind, config_of):
    """While the other side of TLS says nothing; `config_of(port)`."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        cancelled_alone(checks, "in the TLS handshake", kind, config_of(mute.getsockname()[1]))


class FullListener:
    """A port that answers no further connection: its backlog is full."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port = self.listener.getsockname()[1]
        self.waiting = [socket.socket() for _ in range(4)]
        for one in self.waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", self.port))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in self.waiting + [self.listener]:
            one.close()


def cancelled_in_connect(checks, kind, config_of, **more):
    """While connecting to a port that does not answer; `config_of(port)`."""
    with FullListener() as full:
        cancelled_soon(checks, "while connecting", kind, config_of(full.port), **more)


class Stalling:
    """Stands between a sink and its server, and passes on everything until the sink has sent the event of sink_cancel; from
    then on nothing: the batch is on its way, and no answer comes."""

    MARK = b"test.cancel"

    def __init__(self, to):
        self.to, self.stalled = to, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, far = self.listener.accept()[0], socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                return
            threading.Thread(target=self.carry, args=(near, far), daemon=True).start()

    def carry(self, near, far):
        with near, far, contextlib.suppress(OSError):  # a reset is an end as good as any
            self.pass_on(near, far)
            while self.stalled and near.recv(1 << 16):
                pass

    def pass_on(self, near, far):
        """Both ways, in one thread, so that nothing overtakes the mark."""
        tail = b""
        while True:
            for ready in select.select([near, far], [], [])[0]:
                data = ready.recv(1 << 16)
                if not data:
                    return
                if ready is near and self.MARK in tail + data:
                    self.stalled += 1
                    return
                tail = data[-len(self.MARK):] if ready is near else tail
                (far if ready is near else near).sendall(data)


def cancelled_in_batch(checks, kind, server_port, config_of, **more):
    """While the answer to a batch does not come; `config_of(port)`. The server must be whole and willing."""
    stalling = Stalling(server_port)
    cancelled_soon(checks, "in the middle of a batch", kind, config_of(stalling.port), **more)
    checks.check(stalling.stalled > 0, "the batch was on its way", "the server was never sent the event")
    stalling.listener.close()


def bounded(checks, site, done, events=20000, most=96 << 20):
    """Serves a sink with large batches until `done()`; its anonymous memory stays below a bound that does not depend on how
    many events there are."""
    site.produce(events)
    peak = peak_memory(site.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL), done)
    checks.check(done() and 0 < peak < most, "memory is bounded", f"{peak >> 20} MiB of {most >> 20}")


def leaks(site, what, *more):
    """Delivers what waits under valgrind."""
    done = site.drain(120, "valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite",
                      *more)
    site.checks.check(done.returncode == 0, f"{what}: valgrind finds nothing", done.stderr[-3000:])


def says_nothing_secret(site, what, secret, *texts):
    """Neither status nor the configuration as registered nor what was printed holds a secret."""
    shown = "".join(harness.run(harness.SPOOL, "-C", site.spool, "-o", "json", verb).stdout for verb in ("status", "sinks"))
    shown += "".join(texts)
    site.checks.check(secret not in shown and shown, f"{what}: no secret is shown")


def _path():
    return {**os.environ, "PATH": f"{harness.BUILD}:{harness.BUILD / 'examples'}:{os.environ['PATH']}"}


def manual_examples(checks, page, **words):
    """Runs the examples of a manual page that are marked to be run, each in a folder of its own; each must print what the page
    says. `words` are replaced in them first, such as a port by that of the test's server. Returns how many there are."""
    text = (harness.ROOT / "man" / page).read_text()
    found = re.findall(r'^\.\\" run\n\.Bd [^\n]*\n(.*?)^\.Ed\n\.\\" prints ([^\n]*)', text, re.MULTILINE | re.DOTALL)
    for number, (script, printed) in enumerate(found):
        script = script.replace("\\e\n", "\\\n").replace("\\&", "").replace("\\e", "\\")
        for word, replacement in words.items():
            script = script.replace(word, replacement)
        folder = checks.dir(f"example-{page}-{number}")
        folder.mkdir(mode=0o700)
        done = harness.run("sh", "-eu", "-c", script, cwd=folder, env=_path())
        checks.check(done.returncode == 0, f"example {number} of {page} runs", done.stderr)
        checks.check(printed in done.stdout, f"it prints {printed}", done.stdout)
    return len(found)


def manual_example(checks, kind, **words):
    """That of the page of a sink."""
    page = f"spool-sink-{kind}.7"
    checks.check(manual_examples(checks, page, **words) > 0, f"{page} has an example")


def example(checks, name, *words, **environment):
    """Runs a walk-through of examples/ in a folder of its own; returns what it printed."""
    folder = checks.dir(name)
    folder.mkdir(mode=0o700)
    done = harness.run(harness.ROOT / "examples" / name, folder, *words, env={**_path(), **environment})
    checks.check(done.returncode == 0, f"examples/{name} runs", done.stdout + done.stderr)
    return done.stdout


class Server:
    """A server of a test: a process on loopback that is killed and started again, with its data in a scratch folder."""

    def __init__(self, checks, command, ready, log, **keywords):
        self.checks, self.command, self.ready, self.log, self.keywords = checks, command, ready, log, keywords
        self.process = None

    def launch(self):
        """Does not wait until it is ready."""
        with open(self.log, "ab") as log:
            self.process = self.checks.start(*self.command, stdout=log, stderr=log, **self.keywords)

    def start(self, timeout=60):
        self.launch()
        if not harness.wait_until(lambda: self.ready() or self.process.poll() is not None, timeout) or \
                self.process.poll() is not None:
            raise RuntimeError(f"the server does not start: {pathlib.Path(self.log).read_text()[-1500:]}")
        return self

    def stop(self, number=signal.SIGKILL, timeout=60):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(timeout)
