#!/usr/bin/env python3
"""One of the processes on a spool stands still: a producer, a deliverer, a reader or a command under SIGSTOP at a random
moment, or somebody who holds a lock and does not let go. The others answer every call, and stop in time; afterwards
everything is right.

Who stands still may hold a lock, so that nothing can be committed meanwhile: then the others answer that, by their
deadlines. What is judged is that they answer, not how fast. ROUNDS: 4; SEED."""
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

ROUNDS = int(os.environ.get("ROUNDS", 4))
SMALL = ["--segment_bytes", 1 << 20, "--journal_bytes", 256 << 10, "--max_bytes", 512 << 20, "--policy", "reject",
         "--stop_timeout_ms", 1500]
PROMISES = {**harness.FILE, "callback": harness.history.Promise(window_ms=None)}
IN_TIME = 60  # seconds, for deadlines of 10 at most: a hang is what is looked for


class Scene:
    """One process in each role, all the time."""

    def __init__(self, checks):
        self.checks = checks
        self.site = harness.Site(checks, "scene", *SMALL, promises=PROMISES)
        self.sinks = ["--file_sink", self.site.sink, "--callback_log", self.site.history, "--until_term"]
        deliverer = self.site.deliverer("serve", *self.sinks)
        self.roles = {"deliverer": deliverer, "producer": self.producer("make"), "reader": self.reader(),
                      "command": self.command()}

    def producer(self, tag):
        return self.site.producer(tag, "--threads", 2, "--rate", 1500, "--durability", "mixed", "--batch", 3)

    def reader(self):
        return self.checks.start(harness.SPOOL, "-C", self.site.spool, "tail", "-f", stdout=subprocess.DEVNULL)

    def command(self):
        """A shell that looks and changes again and again; SIGSTOP hits its process group, hence the command that runs."""
        script = ('while :; do "$0" -C "$1" status; "$0" -C "$1" sink pause callback; "$0" -C "$1" sink resume callback; '
                  '"$0" -C "$1" tail -n 5; done')
        return self.checks.start("sh", "-c", script, harness.SPOOL, self.site.spool, stdout=subprocess.DEVNULL,
                                 stderr=subprocess.DEVNULL, start_new_session=True)

    def signal(self, role, number):
        child = self.roles[role]
        if role == "command":
            os.killpg(child.pid, number)
        else:
            child.send_signal(number)

    def end(self):
        self.site.kill(self.roles["producer"])
        self.roles["reader"].kill()
        self.signal("command", signal.SIGKILL)
        self.site.terminate(self.roles["deliverer"], "the deliverer, in the end")


def others_answer(scene, round, role):
    """Newcomers beside one that stands still. That they time out is an answer."""
    checks, site = scene.checks, scene.site
    producer = site.producer(f"n{round}", "--count", 200, "--durability", "process")
    deliverer = site.start("deliverer", f"e{round}", *scene.sinks)
    looks = [checks.start(harness.SPOOL, "-C", site.spool, *verb) for verb in (["status"], ["tail", "-n", "3"])]
    time.sleep(0.3 * checks.random.random())
    deliverer.send_signal(signal.SIGTERM)
    answers = {}
    for name, child in (("producer", producer), ("deliverer", deliverer), ("status", looks[0]), ("tail", looks[1])):
        status, _, errors = harness.wait(child, IN_TIME)
        if child is deliverer and status == -signal.SIGTERM:
            harness.history.mark(site.history, k="kill", p=f"e{round}")  # before it was ready to hear it
        elif status != 0 and not (status in (1, 3) and (child in looks or "TIME" in errors.upper())):
            answers[name] = f"status {status}: {errors}"
        if child in (producer, deliverer):
            harness.history.mark(site.history, k="kill", p=site.tags[child])  # if it could not open
    checks.check(not answers, f"round {round}: beside a stopped {role} the others answer", str(answers))


def each_in_turn(checks):
    scene = Scene(checks)
    roles = list(scene.roles)
    for round in range(ROUNDS):
        role = roles[round % len(roles)]
        time.sleep(0.2 * checks.random.random())
        scene.signal(role, signal.SIGSTOP)
        others_answer(scene, round, role)
        scene.signal(role, signal.SIGCONT)
        if not checks.check(scene.roles[role].poll() is None, f"round {round}: the {role} goes on"):
            print(f"    {harness.wait(scene.roles[role])}")
            break
    scene.end()
    harness.run(harness.SPOOL, "-C", scene.site.spool, "sink", "resume", "callback")
    scene.site.drain_and_judge("each in turn", "--callback_log", scene.site.history)


def hangs_are_seen(checks):
    """The control: a process that does not answer is taken for one that hangs."""
    child = checks.start("sleep", 600)
    child.send_signal(signal.SIGSTOP)
    status, _, errors = harness.wait(child, 0.5)
    checks.check(status is None and "not done" in errors, "control: a process that hangs is seen", f"{status} {errors}")


class Held:
    """A record lock on a file of the spool that this process takes and does not let go: a reader that hangs."""

    def __init__(self, path, how):
        self.file = open(path, "r+b")
        fcntl.lockf(self.file, how, 1)

    def release(self):
        self.file.close()


def lock_held(checks):
    """Whoever has the spool open goes on as long as its journal has room, whatever lock is held, and ends in time."""
    for name, how in (("log.lock", fcntl.LOCK_SH), ("log.lock", fcntl.LOCK_EX), ("state.lock", fcntl.LOCK_SH),
                      ("state.lock", fcntl.LOCK_EX)):
        what = f"{name} held {'shared' if how == fcntl.LOCK_SH else 'exclusively'}"
        site = harness.Site(checks, what.replace(" ", "-"), *SMALL, promises=PROMISES)
        site.expect(site.deliverer("reg", "--file_sink", site.sink, "--callback_log", site.history), "the registration")
        makers = {level: site.producer(level, "--wait", "--count", 100, "--size_max", 0, "--durability", level)
                  for level in ("process", "power")}
        serving = site.serving("serve", "--callback_log", site.history)
        for child in makers.values():
            child.stdout.readline()
        held = Held(site.spool / name, how)
        for child in makers.values():
            child.stdin.write("\n")
            child.stdin.flush()
        for level, child in makers.items():
            status, report, errors = harness.wait(child, IN_TIME)
            checks.check(report.get("acked") == 100, f"{what}: {level}-level events are taken", f"{status} {errors}")
        serving.send_signal(signal.SIGTERM)
        status, report, errors = harness.wait(serving, IN_TIME)
        checks.check("stop_ms" in report, f"{what}: the deliverer ends", f"status {status}: {errors}")
        held.release()
        site.drain_and_judge(f"{what}, released", "--callback_log", site.history)


if __name__ == "__main__":
    harness.main("stopped", [hangs_are_seen, each_in_turn, lock_held])
