#!/usr/bin/env python3
"""The history checker's own test: good histories pass, and each way of breaking one is caught under its name.

The good history is made by a small model of the library (processes that enqueue, crash and deliver), from SEED; each
control changes one thing in it. A kind of violation without a control that it catches fails the run."""
import copy
import os
import pathlib
import random
import sys
import tempfile
import zlib

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import history

SEED = int(os.environ.get("SEED", random.SystemRandom().randrange(1 << 32)))
RUNS = int(os.environ.get("RUNS", 40))
PROMISES = {"file": history.Promise(once=True), "log": history.Promise()}


class Model:
    """A library that keeps its promise, writing a history of rounds: each enqueues, delivers some and dies or closes."""

    def __init__(self, source):
        self.random, self.lines, self.stamp, self.ms = source, [], 0, 0
        self.queues, self.unsure = {"file": [], "log": []}, []

    def say(self, k, **line):
        self.ms += 1
        self.lines.append({"k": k, **line})

    def id(self):
        self.stamp += self.random.randrange(1, 9)
        return f"0190{self.stamp:04x}-0000-7000-8000-000000000000"

    def call(self, p, t, n, size):
        """One call; returns its outcome."""
        outcome = self.random.choices(("ok", "failed", "uncertain", None), (90, 4, 3, 3 if size else 0))[0]
        events = [{"p": p, "t": t, "n": n + i, "agent": f"{p}-{t}-{(n + i) % 3}",
                   "lane": self.random.choice(("high", "low")), "sum": f"{zlib.crc32(b'%d' % (n + i)):08x}"}
                  for i in range(size)]
        for event in events:
            self.say("intent", call=n, level="power", **event)
        stored = outcome == "ok" or (outcome != "failed" and self.random.random() < 0.5)
        for event in events:
            event["id"] = self.id()
        for event in events if outcome else []:
            self.say(outcome, p=p, t=t, n=event["n"], id="" if outcome == "failed" else event["id"])
        for queue in self.queues.values():
            queue += events if stored else []
        return outcome

    def deliver(self, p, count):
        """Both sinks take up to `count`; returns what each took."""
        took = {}
        for name, queue in self.queues.items():
            took[name] = queue[:count]
            for event in took[name]:
                self.say("seen", s=name, p=p, id=event["id"], tag=event["p"], t=event["t"], n=event["n"], good=1,
                         agent=event["agent"], lane=event["lane"], sum=event["sum"], attempt=1, ms=self.ms)
            del queue[:count]
        return took

    def round(self, p):
        self.say("opening", p=p)
        for name in self.queues:
            self.say("sink", p=p, s=name)
        numbers = [0, 0]
        for _ in range(self.random.randrange(2, 12)):
            t, size = self.random.randrange(2), self.random.choice((1, 1, 4))
            outcome = self.call(p, t, numbers[t], size)
            numbers[t] += size
            if outcome is None:
                break
        took = self.deliver(p, self.random.randrange(20))
        if outcome is not None and self.random.random() < 0.4:
            self.say("close", p=p, code="SPOOL_OK")
            return
        again = self.random.randrange(len(took["log"]) + 1)
        self.queues["log"][:0] = took["log"][again:]  # answers that were not stored any more
        self.say("kill", p=p, ms=self.ms)

    def run(self):
        for round in range(8):
            self.round(f"r{round}")
        self.say("opening", p="last")
        self.deliver("last", 1 << 30)
        self.say("close", p="last", code="SPOOL_OK")
        return self.lines


def judge(lines, promises=None):
    judged = history.History()
    for line in lines:
        judged.add(line)
    return set(history.by_kind(judged.judge(promises or PROMISES)))


# ------------------------------------------------------------------------------------------------------------ controls
# Each takes the lines of a good history, changes one thing and returns the kind that must be found.

def places(lines, k, **wanted):
    return [i for i, line in enumerate(lines) if line["k"] == k and all(line.get(key) == wanted[key] for key in wanted)]


def key_of(line):
    return line.get("tag", line.get("p")), line["t"], line["n"]


def acknowledged(lines):
    return {key_of(line) for line in lines if line["k"] == "ok"}


def seen_once(lines, sink):
    """Places of arrivals of acknowledged events that came to `sink` once."""
    at = places(lines, "seen", s=sink)
    keys = [key_of(lines[i]) for i in at]
    known = acknowledged(lines)
    return [i for i, key in zip(at, keys) if keys.count(key) == 1 and key in known]


def lose(lines, pick):
    del lines[pick(seen_once(lines, "file"))]
    return "lost"


def lose_only_at_the_second_sink(lines, pick):
    del lines[pick(seen_once(lines, "log"))]
    return "lost"


def lose_what_the_other_sink_got(lines, pick):
    """Nobody knows whether it was stored; but then for both sinks or none."""
    known = acknowledged(lines)
    del lines[pick([i for i in places(lines, "seen", s="file") if key_of(lines[i]) not in known])]
    return "lost"


def drop_more_than_counted(lines, pick):
    for _ in range(2):
        del lines[pick(seen_once(lines, "file"))]
    lines.append({"k": "dropped", "s": "file", "count": 1})
    return "miscounted"


def count_more_than_dropped(lines, pick):
    lines.append({"k": "dropped", "s": "file", "count": 10000})
    return "miscounted"


def invent(lines, pick):
    line = dict(lines[pick(seen_once(lines, "file"))], n=99999, id="01909999-0000-7000-8000-000000000000")
    lines.append(line)
    return "invented"


def deliver_refused(lines, pick):
    i = pick(places(lines, "ok"))
    lines[i] = dict(lines[i], k="failed", id="")
    return "refused"


def deliver_early(lines, pick):
    i = pick(seen_once(lines, "file"))
    lines.insert(0, lines.pop(i))
    return "early"


def tear_call(lines, pick):
    """Forgets the answer to a call of several events and one of its arrivals."""
    known = acknowledged(lines)
    ok = pick([i for i in places(lines, "intent") if key_of(lines[i]) in known and sum(
        line["k"] == "intent" and line["p"] == lines[i]["p"] and line["t"] == lines[i]["t"]
        and line["call"] == lines[i]["call"] for line in lines) > 1])
    call = lines[ok]
    numbers = {line["n"] for line in lines if line["k"] == "intent" and line["p"] == call["p"]
               and line["t"] == call["t"] and line["call"] == call["call"]}
    gone = key_of(call)
    lines[:] = [line for line in lines if not (line["k"] == "ok" and line["p"] == call["p"] and line["t"] == call["t"]
                                               and line["n"] in numbers)
                and not (line["k"] == "seen" and line["s"] == "file" and key_of(line) == gone)]
    return "torn-call"


def change(field, value):
    def control(lines, pick):
        lines[pick(places(lines, "seen"))][field] = value
        return "changed"
    control.__name__ = f"change_{field}"
    return control


def deliver_under_another_id(lines, pick):
    lines[pick(seen_once(lines, "file"))]["id"] = "0190ffff-0000-7000-8000-000000000000"
    return "swapped"


def swap_two(lines, pick):
    a, b = (pick(seen_once(lines, "file")[:3]), pick(seen_once(lines, "file")[3:]))
    lines[a]["id"], lines[b]["id"] = lines[b]["id"], lines[a]["id"]
    return "swapped"


def acknowledge_under_one_id(lines, pick):
    ok = places(lines, "ok")
    lines[ok[-1]]["id"] = lines[ok[0]]["id"]
    return "id-twice"


def fall_within_a_thread(lines, pick):
    ok = places(lines, "ok")
    thread = {i: (lines[i]["p"], lines[i]["t"]) for i in ok}
    i = pick([i for i in ok if any(j < i and thread[j] == thread[i] for j in ok)])
    lines[i]["id"] = "01900000-0000-7000-8000-000000000000"
    return "id-falls"


def go_back_over_a_restart(lines, pick):
    first = next(i for i in places(lines, "ok") if lines[i]["p"] != lines[places(lines, "ok")[0]]["p"])
    lines[first]["id"] = "01900000-0000-7000-8000-000000000000"
    return "id-back"


def arrive_out_of_order(lines, pick):
    """Swaps two neighbours of an agent and lane in place."""
    at = seen_once(lines, "file")
    pairs = [(i, j) for i in at for j in at if i < j and lines[i]["agent"] == lines[j]["agent"]
             and lines[i]["lane"] == lines[j]["lane"]]
    i, j = pick(pairs)
    lines[i], lines[j] = lines[j], lines[i]
    return "order"


def arrive_out_of_order_by_lane(lines, pick):
    return arrive_out_of_order(lines, pick)


def repeat_at_a_checkpoint(lines, pick):
    lines.append(dict(lines[pick(places(lines, "seen", s="file"))], p="later"))
    return "repeated"


def repeat_in_one_process(lines, pick):
    i = pick(places(lines, "seen", s="log"))
    lines.insert(i + 1, dict(lines[i]))
    return "repeated"


def repeat_after_a_clean_stop(lines, pick):
    lines += [{"k": "opening", "p": "late"}, dict(lines[places(lines, "seen", s="log", p="last")[0]], p="late")]
    return "repeated"


def repeat_what_was_long_accepted(lines, pick):
    """The process that had it was killed an hour later."""
    last = places(lines, "seen", s="log", p="last")[0]
    end = places(lines, "close", p="last")[0]
    lines[end] = {"k": "kill", "p": "last", "ms": lines[last]["ms"] + 3600000}
    lines += [{"k": "opening", "p": "late"}, dict(lines[last], p="late")]
    return "window"


def forget_an_answer(lines, pick):
    closed = {line["p"] for line in lines if line["k"] == "close"}
    del lines[pick([i for i in places(lines, "ok") if lines[i]["p"] in closed])]
    return "log"


def answer_without_intent(lines, pick):
    lines.append({"k": "ok", "p": "r0", "t": 0, "n": 77777, "id": "0190ffff-0000-7000-8000-000000000000"})
    return "log"


def open_twice(lines, pick):
    lines.append({"k": "opening", "p": "r0"})
    return "log"


CONTROLS = [lose, lose_only_at_the_second_sink, lose_what_the_other_sink_got, drop_more_than_counted,
            count_more_than_dropped, invent, deliver_refused, deliver_early, tear_call, change("sum", "0badbad0"),
            change("good", 0), change("agent", "x"), change("lane", "none"), deliver_under_another_id, swap_two,
            acknowledge_under_one_id, fall_within_a_thread, go_back_over_a_restart, arrive_out_of_order,
            arrive_out_of_order_by_lane, repeat_at_a_checkpoint, repeat_in_one_process, repeat_after_a_clean_stop,
            repeat_what_was_long_accepted, forget_an_answer, answer_without_intent, open_twice]


# --------------------------------------------------------------------------------------------------------------- tests

class Counter:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, good, what):
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)
        if not good:
            print(f"  FAILED: {what}")


def good_histories(counter):
    for run in range(RUNS):
        found = judge(Model(random.Random(SEED + run)).run())
        counter.check(not found, f"run {run}: a good history passes: {found}")


def run_control(control, run):
    """None when the history has no place for it; else whether the right kind was found."""
    source = random.Random(SEED + run)
    lines = copy.deepcopy(Model(source).run())
    try:
        kind = control(lines, source.choice)
    except (IndexError, StopIteration):
        return None, None
    lane = {name: promise._replace(order="lane") for name, promise in PROMISES.items()}
    promises = lane if control is arrive_out_of_order_by_lane else PROMISES
    return kind, kind in judge(lines, promises)


def broken_histories(counter):
    covered = set()
    for control in CONTROLS:
        results = [run_control(control, run) for run in range(RUNS)]
        tried = [caught for kind, caught in results if kind]
        covered |= {kind for kind, _ in results if kind}
        counter.check(tried and all(tried), f"{control.__name__}: caught in {sum(tried)} of {len(tried)} histories")
    counter.check(covered == set(history.KINDS), f"kinds without a control: {set(history.KINDS) - covered}")


def leniency(counter):
    """What must not be called a violation."""
    begin = [{"k": "opening", "p": "a"}, {"k": "sink", "s": "log", "p": "a"}, {"k": "sink", "s": "file", "p": "a"},
             {"k": "intent", "p": "a", "t": 0, "n": 0, "call": 0, "agent": "x", "lane": "low", "sum": "1"}]
    ok = {"k": "ok", "p": "a", "t": 0, "n": 0, "id": "1"}
    seen = {"k": "seen", "p": "a", "id": "1", "tag": "a", "t": 0, "n": 0, "agent": "x", "lane": "low", "sum": "1",
            "good": 1, "ms": 5}
    both = [dict(seen, s="log"), dict(seen, s="file")]
    counter.check(not judge(begin + [{"k": "kill", "p": "a"}]), "killed in the call, and never there")
    counter.check(not judge(begin + both + [{"k": "kill", "p": "a"}]), "killed in the call, and there")
    counter.check(not judge(begin + [dict(ok, k="uncertain")]), "uncertain, and never there")
    counter.check(not judge(begin + [dict(ok, k="uncertain")] + both), "uncertain, and there")
    again = [dict(ok, k="uncertain"), begin[3], ok]
    counter.check(not judge(begin + again + both + both), "uncertain, enqueued again under its id, and there twice")
    counter.check(not judge(begin + [ok, {"k": "dead", "s": "log", "id": "1"}, both[1]]), "a dead letter is not lost")
    counter.check(not judge(begin + [ok, {"k": "dropped", "s": "log", "count": 1}, both[1]]), "nor is a dropped event")
    late = {name: promise._replace(registered=True) for name, promise in PROMISES.items()}
    counter.check(not judge([begin[0], begin[3], ok, begin[1], begin[2]], late), "nor one from before the sink")
    counter.check("lost" in judge(begin + [ok], late), "but one from after it")


def command(counter):
    """Reading files: padded lines, half a line, and the file sink's output."""
    with tempfile.TemporaryDirectory() as scratch:
        log, sink = pathlib.Path(scratch) / "log", pathlib.Path(scratch) / "sink"
        body = b'{"tag":"a","thread":0,"n":0,"pad":"x","crc":"00000000"}'
        history.mark(log, k="opening", p="a")
        history.mark(log, k="intent", p="a", t=0, n=0, call=0, agent="g", lane="low", sum=f"{zlib.crc32(body):08x}")
        history.mark(log, k="ok", p="a", t=0, n=0, id="1")
        sink.write_bytes(b'{"id":"1","agent":"g","priority":"low","data":' + body + b"}\n")
        read = history.History().read(log).read_file_sink(sink)
        counter.check(log.stat().st_size == 3 * 256, "lines are padded")
        counter.check(not read.judge({"file": history.Promise()}), "a file sink's file is read")
        sink.write_bytes(sink.read_bytes().replace(b'"x"', b'"y"') + b'{"id":"2"')
        found = history.by_kind(history.History().read(log).read_file_sink(sink).judge({"file": history.Promise()}))
        counter.check(found == {"changed": 2}, f"a changed body and half a line are found: {found}")
        log.write_bytes(log.read_bytes() + b'{"k":')
        counter.check(history.by_kind(history.History().read(log).found) == {"log": 1}, "half a line of a log is found")


def main():
    counter = Counter()
    print(f"history: seed {SEED}, {RUNS} histories, {len(CONTROLS)} controls")
    for test in (good_histories, broken_histories, leniency, command):
        test(counter)
    print(f"RESULT {counter.passed} {counter.failed}")
    return 1 if counter.failed else 0


if __name__ == "__main__":
    sys.exit(main())
