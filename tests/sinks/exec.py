#!/usr/bin/env python3
"""The exec sink: what its child gets and may answer, and children that die, hang, answer nonsense, or are killed at random
moments while 100,000 events flow: none lost. EVENTS: 100000; SEED."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness

EVENTS = int(os.environ.get("EVENTS", 100000))
CHILD = pathlib.Path(__file__).resolve().parent / "lib" / "exec_child.py"


class Site(sink_harness.Site):
    def __init__(self, checks, name, mode, options=None, **keys):
        self.log = checks.dir(name + ".log")
        command = ["/usr/bin/env", "python3", str(CHILD), mode, str(self.log), str(checks.seed)]
        config = {"command": command, "stderr": "null", **keys}
        super().__init__(checks, name, "exec", config.copy(), options)
        self.configure(config, options)  # "env" is the child's, not the deliverer's
        self.environment = None

    def ids(self):
        return self.log.read_text().split() if self.log.exists() else []


def delivers(checks):
    for mode in ("good", "reverse"):
        site = Site(checks, mode, mode, window=300)
        wanted = site.produce(1000)
        site.drains(mode)
        sink_harness.account(checks, mode, wanted, site.ids())


def is_told_of_each_event(checks):
    site = Site(checks, "outcomes", "outcomes")
    ids = site.put_events([{"type": type_} for type_ in ("a", "retry", "reject", "b")])
    site.drains("outcomes")
    letters = site.dead_letters()
    checks.check(len(letters) == 1 and "it is ?[31mbad" in letters[0]["reason"], "the refused one is a dead letter, with the reason",
                 str(letters))
    sink_harness.account(checks, "outcomes", {ids[0], ids[1], ids[3]}, site.ids())


def one_bad_event_fails_alone(checks):
    site = Site(checks, "poison", "poison", {"retry": {"base": "1ms", "cap": "2ms", "max_attempts": 3}})
    ids = site.put_events([{"type": "poison" if i in (20, 21, 60) else "fine"} for i in range(100)])
    site.drains("poison")
    letters = site.dead_letters()
    checks.check(sorted(letter["event"]["id"] for letter in letters) == sorted(ids[i] for i in (20, 21, 60)),
                 "the three that end the child are dead letters", str(len(letters)))
    checks.check(all("had this event" in letter["reason"] for letter in letters), "and say why", str(letters[:1]))
    sink_harness.account(checks, "poison", {id for i, id in enumerate(ids) if i not in (20, 21, 60)}, site.ids(), once=False)


def says_what_is_wrong(checks):
    for mode, words, timeout in (("ends", "status 3", "30s"), ("silent", "no answer within 200 ms", "200ms"),
                                 ("config", "status 78", "30s"), ("late", "no answer within 200 ms", "200ms")):
        site = Site(checks, mode, mode, answer_timeout=timeout)
        site.put_events([{"type": "a"}] * 20)
        site.is_down(mode, words)
    site = Site(checks, "nothing", "good", command=["/nonexistent/program"])
    site.put("{}")
    site.is_down("no such program", "cannot start /nonexistent/program")


def is_refused(checks, words, **keys):
    done = harness.run(harness.SPOOL, "-C", checks.dir("refused"), "sink", "add", "x", "exec",
                       *(f"{key}={json.dumps(value)}" for key, value in keys.items()))
    checks.check(done.returncode == 2 and words in done.stderr, f"refused: {keys}", done.stderr)


def refuses_what_is_wrong(checks):
    good = ["/bin/cat"]
    is_refused(checks, '"command"')
    is_refused(checks, "no shell", command=["cat"])
    is_refused(checks, '"command"', command="/bin/cat")
    is_refused(checks, '"command"', command=["/bin/cat", 7])
    is_refused(checks, '"colour" is unknown', command=good, colour="red")
    is_refused(checks, '"env"', command=good, env={"A=B": "x"})
    is_refused(checks, '"env"', command=good, env={"A": 7})
    is_refused(checks, '"folder"', command=good, folder="here")
    is_refused(checks, '"window"', command=good, window=0)
    is_refused(checks, "answer_timeout", command=good, answer_timeout=0)
    is_refused(checks, "stop_grace", command=good, stop_grace="2h")


def gives_the_child_nothing_but_what_it_should(checks):
    folder = checks.dir("folder")
    folder.mkdir()
    site = Site(checks, "look", "look", folder=str(folder), env={"COLOUR": "a=b", "HOME": "/nowhere"})
    site.put("{}")
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    done = harness.run(harness.SPOOL, "drain", "-c", site.file, "--timeout", 60, close_fds=False)
    os.close(leak)
    checks.check(done.returncode == 0, "look: delivered", done.stderr)
    seen = json.loads(site.log.read_text().splitlines()[0])
    checks.check(seen["fds"] == [0, 1, 2], "it has three descriptors", str(seen["fds"]))
    checks.check(all(line.split()[1].strip("0") in ("", "1") or "SigIgn" in line for line in seen["blocked"]) and
                 int(seen["blocked"][0].split()[1], 16) == 0, "no signal is blocked", str(seen["blocked"]))
    checks.check(seen["folder"] == str(folder) and seen["leads"], "it leads a group of its own, in its folder", str(seen))
    checks.check(seen["env"]["COLOUR"] == "a=b" and seen["env"]["HOME"] == "/nowhere" and "PATH" in seen["env"],
                 "its environment is ours, with what was set")


def children_of(pid):
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] or \
            [int(word) for task in os.listdir(f"/proc/{pid}/task")
             for word in pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split()]
    except OSError:
        return []


def command_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def leaves_no_child_behind(checks):
    for mode in ("deaf", "good"):
        site = Site(checks, f"left-{mode}", mode, stop_grace="100ms")
        site.put("{}")
        runner = site.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        checks.check(harness.wait_until(lambda: children_of(runner.pid)), f"{mode}: the child runs")
        child = children_of(runner.pid)[0]
        runner.send_signal(signal.SIGTERM)
        runner.wait(60)
        checks.check(harness.wait_until(lambda: not os.path.exists(f"/proc/{child}")), f"{mode}: it is gone when we are")


def is_cancelled_soon(checks):
    command = ["/usr/bin/env", "python3", str(CHILD), "silent", str(checks.dir("cancel.log"))]
    sink_harness.cancelled_soon(checks, "silent", "exec", {"command": command, "stderr": "null"}, "cancelled")


def loses_nothing_whatever_the_child_does(checks):
    """The child is mad, is killed from outside, and the deliverer too."""
    site = Site(checks, "mad", "mad", answer_timeout="1s")
    producer = site.producer(EVENTS, "--rate", sink_harness.rate(EVENTS))

    def kill_children(runner):
        for child in children_of(runner.pid):
            try:
                os.kill(child, checks.random.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP]))
            except OSError:
                pass

    counts = [0]
    for _ in range(9):
        runner = site.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        sink_harness.flows(lambda: len(site.ids()), lambda: producer.poll() is not None and site.is_empty())
        for _ in range(3):
            time.sleep(0.4 * checks.random.random())
            kill_children(runner)
        last = children_of(runner.pid)
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        for child in last:  # one that was stopped cannot see that its input has ended
            if "exec_child" in command_of(child):
                os.kill(child, signal.SIGKILL)
        counts.append(len(set(site.ids())))
    status, _, errors = harness.wait(producer)
    checks.check(status == 0, f"{EVENTS} events are enqueued", errors)
    sink_harness.flowed(checks, "mad", counts, EVENTS)
    site.drains("mad", 240)
    sink_harness.account(checks, "mad", site.acknowledged(), site.ids(), once=False)


def needs_no_more_than_it_should(checks):
    site = Site(checks, "valgrind", "mad", answer_timeout="2s")
    site.produce(3000)
    sink_harness.leaks(site, "exec")
    large = Site(checks, "memory", "good", {"batch_events": 4096, "batch_bytes": "4MiB"}, window=4096)
    sink_harness.bounded(checks, large, large.is_empty)


def shows_an_example_that_runs(checks):
    sink_harness.manual_example(checks, "exec")


if __name__ == "__main__":
    sink_harness.main("exec", [delivers, is_told_of_each_event, one_bad_event_fails_alone, says_what_is_wrong,
                               refuses_what_is_wrong, gives_the_child_nothing_but_what_it_should, leaves_no_child_behind,
                               is_cancelled_soon, loses_nothing_whatever_the_child_does, needs_no_more_than_it_should,
                               shows_an_example_that_runs])
