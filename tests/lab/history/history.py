#!/usr/bin/env python3
"""Judges a history: what producers were told and what sinks got, against what the library promises.

    history.py [--sink NAME[,order=agent|lane][,once][,registered]]… [--file NAME=PATH]… [--not-drained] LOG…

It shares no code with the library. A LOG is a row of lines as tests/programs/history.h describes them; a file that
several processes append to is one order of what happened, and more is checked within one than across two. A test script
adds its own lines (History.mark): {"k": "kill", "p": …, "ms": …} when a process is dead; {"k": "dropped", "s": …,
"count": …}, {"k": "dead" or "purged", "s": …, "id": …} for events that left a sink's queue otherwise; {"k": "damaged",
"count": …}. --file reads what the library's file sink wrote.

What is decided, by the names that violations carry:

    lost         acknowledged, or at another sink, and not at one that it was for, nor counted as dropped, dead or damaged
    miscounted   more (or fewer) events are missing than were counted as dropped
    invented     arrived, and nobody tried to enqueue it
    refused      arrived although spool_enqueue() had answered that it was not stored
    early        arrived before anybody tried to enqueue it
    torn-call    one part of a spool_enqueue_many() arrived and another did not
    changed      body, agent or lane are not those enqueued
    swapped      arrived under another id than the one acknowledged, or an id stands for two events
    id-twice     two events were acknowledged under one id
    id-falls     a thread got a smaller id than before
    id-back      a process that opened the spool after another one's end got an id below one of that one's
    order        behind a later event of the same agent and lane (or lane) and process
    repeated     came twice where it may come once: to a sink with a checkpoint, or to one process, or after a clean stop
    window       came again after a crash, although it had been accepted long before that
    log          the history contradicts itself: the test is broken, or a process did something nobody expected

An event whose outcome is unknown (killed in the call, or SPOOL_EUNCERTAIN) may arrive or not, but whole, once, in order.
"""
import argparse
import collections
import json
import sys
import zlib

KINDS = ("lost", "miscounted", "invented", "refused", "early", "torn-call", "changed", "swapped", "id-twice", "id-falls",
         "id-back", "order", "repeated", "window", "log")
WINDOW_MS = 10000  # answers are stored every 20 ms; far more here, so that a loaded machine is no violation

Violation = collections.namedtuple("Violation", "kind text")
Seen = collections.namedtuple("Seen", "at process id key agent lane sum good ms")
# order: none, agent or lane. once: never twice, whatever happens. registered: it only gets what was enqueued after the
# line that says that it is registered. window_ms: None where a stopped peer may have kept answers from being stored.
Promise = collections.namedtuple("Promise", "order once registered window_ms", defaults=("agent", False, False, WINDOW_MS))


class Event:
    """One event that somebody tried to enqueue."""
    __slots__ = ("key", "at", "call", "agent", "lane", "sum", "outcome", "id", "tries")

    def __init__(self, key, at, line):
        self.key, self.at, self.call = key, at, line["call"]
        self.agent, self.lane, self.sum = line["agent"], line["lane"], line["sum"]
        self.outcome, self.id, self.tries = None, None, 1

    def __str__(self):
        return "%s thread %d event %d" % self.key


class Process:
    """When a process opened the spool, how it ended, and the greatest id of those that were gone before."""
    __slots__ = ("opening", "end", "end_code", "end_ms", "floor", "greatest")

    def __init__(self, opening, floor):
        self.opening, self.floor, self.greatest = opening, floor, ""
        self.end = self.end_code = self.end_ms = None


class History:
    """Lines in the order in which they were read; `found` has what was wrong while reading."""

    def __init__(self):
        self.events, self.processes, self.found = {}, {}, []
        self.seen, self.registered = collections.defaultdict(list), {}
        self.excused, self.dropped, self.damaged = collections.defaultdict(set), collections.Counter(), 0
        self.file, self.line, self.last_id, self.greatest_gone = 0, 0, {}, ""

    # ------------------------------------------------------------------------------------------------------ reading

    def complain(self, kind, text):
        self.found.append(Violation(kind, text))

    def read(self, path):
        """All lines of a log; one that is no JSON object is a violation, not an end."""
        self.file, self.line = self.file + 1, 0
        with open(path, "rb") as lines:
            for text in lines:
                try:
                    line = json.loads(text)
                except ValueError:
                    self.line += 1
                    self.complain("log", f"{path}, line {self.line}: not JSON: {text[:80]!r}")
                    continue
                self.add(line)
        return self

    def add(self, line):
        self.line += 1
        take = self.TAKERS.get(line.get("k"))
        if not take:
            self.complain("log", f"unknown line {line}")
            return
        try:
            take(self, line, (self.file, self.line))
        except KeyError as missing:
            self.complain("log", f"no {missing} in line {line}")

    def read_file_sink(self, path, name="file"):
        """What the library's file sink wrote, a JSON object a line, in the order of arrival."""
        self.file, self.line = self.file + 1, 0
        with open(path, "rb") as lines:
            for text in lines:
                self.line += 1
                try:
                    event = json.loads(text)
                    self.take_file_event(name, event)
                except (ValueError, KeyError, TypeError) as error:
                    self.complain("changed", f"{path}, line {self.line}: not an event: {error}: {text[:80]!r}")
        return self

    def take_file_event(self, name, event):
        data = event["data"]
        body = json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
        self.seen[name].append(Seen((self.file, self.line), "", event["id"], (data["tag"], data["thread"], data["n"]),
                                    event.get("agent", ""), event["priority"], f"{zlib.crc32(body):08x}", 1, 0))

    def take_opening(self, line, at):
        if line["p"] in self.processes:
            self.complain("log", f"process {line['p']} opens twice: give each a tag of its own")
        self.processes[line["p"]] = Process(at, self.greatest_gone)

    def take_end(self, line, at):
        process = self.processes.get(line["p"])
        if not process or process.end:
            return  # killed before it said a word, or after its last
        process.end, process.end_ms = at, line.get("ms")
        process.end_code = line.get("code") if line["k"] == "close" else line["k"]
        self.greatest_gone = max(self.greatest_gone, process.greatest)

    def take_intent(self, line, at):
        key = line["p"], line["t"], line["n"]
        event = self.events.get(key)
        if event is None:
            self.events[key] = Event(key, at, line)
        elif event.outcome in ("failed", "uncertain"):
            event.tries, event.outcome = event.tries + (event.outcome == "uncertain"), None
        else:
            self.complain("log", f"{event}: a second intent")

    def take_outcome(self, line, at):
        key = line["p"], line["t"], line["n"]
        event = self.events.get(key)
        if event is None or event.outcome is not None:
            self.complain("log", f"{key}: an answer without an intent")
            return
        event.outcome = line["k"]
        if line["k"] != "failed":
            self.take_id(event, line["id"])

    def take_id(self, event, id):
        if event.id and event.id != id:
            self.complain("swapped", f"{event}: uncertain as {event.id}, then {id}")
        event.id = id
        thread = event.key[:2]
        if id <= self.last_id.get(thread, "") and event.tries == 1:
            self.complain("id-falls", f"{event}: {id} after {self.last_id[thread]}")
        self.last_id[thread] = id
        process = self.processes.get(event.key[0])
        if process:
            process.greatest = max(process.greatest, id)
            if id <= process.floor:
                self.complain("id-back", f"{event}: {id} although {process.floor} was given out before it opened")

    def take_seen(self, line, at):
        self.seen[line["s"]].append(Seen(at, line["p"], line["id"], (line["tag"], line["t"], line["n"]), line["agent"],
                                         line["lane"], line["sum"], line["good"], line["ms"]))

    def take_sink(self, line, at):
        self.registered.setdefault(line["s"], at)

    def take_excused(self, line, at):
        self.excused[line["s"]].add(line["id"])

    def take_dropped(self, line, at):
        self.dropped[line["s"]] += line["count"]

    def take_damaged(self, line, at):
        self.damaged += line["count"]

    def take_nothing(self, line, at):
        pass

    TAKERS = {"opening": take_opening, "open": take_nothing, "close": take_end, "gone": take_end, "kill": take_end,
              "intent": take_intent, "ok": take_outcome, "failed": take_outcome, "uncertain": take_outcome,
              "seen": take_seen, "sink": take_sink, "dead": take_excused, "purged": take_excused,
              "dropped": take_dropped, "damaged": take_damaged, "note": take_nothing}

    # ------------------------------------------------------------------------------------------------------ judging

    def judge(self, promises, drained=True):
        """All violations; `promises` has a Promise for each sink by name. `drained`: all was delivered in the end."""
        found = list(self.found)
        found += self.judge_producers()
        arrived = {seen.key for name in promises for seen in self.seen[name]}
        for name, promise in promises.items():
            first = self.first_arrivals(name)
            found += self.judge_arrivals(name, self.seen[name])
            found += self.judge_repeats(name, promise)
            found += self.judge_order(name, promise, first)
            found += self.judge_calls(name, {seen.key for seen in first})
            if drained:
                found += self.judge_lost(name, promise, {seen.key for seen in first}, arrived)
        return found

    def judge_producers(self):
        """What the answers alone tell."""
        owner = {}
        for event in self.events.values():
            if event.id and owner.setdefault(event.id, event) is not event:
                yield Violation("id-twice", f"{event.id}: {owner[event.id]} and {event}")
            process = self.processes.get(event.key[0])
            if event.outcome is None and process and process.end_code not in (None, "kill"):
                yield Violation("log", f"{event}: no answer, and its process was not killed")

    def first_arrivals(self, name):
        first = {}
        for seen in self.seen[name]:
            first.setdefault(seen.id, seen)
        return list(first.values())

    def judge_arrivals(self, name, arrivals):
        """Each arrival against the attempt to enqueue it."""
        ids = {}
        for seen in arrivals:
            event = self.events.get(seen.key)
            if event is None:
                yield Violation("invented", f"{name}: {seen.id} {seen.key}")
                continue
            if event.outcome == "failed":
                yield Violation("refused", f"{name}: {event} as {seen.id}")
            if not seen.good or (seen.sum, seen.agent, seen.lane) != (event.sum, event.agent, event.lane):
                yield Violation("changed", f"{name}: {event}: {seen}")
            if seen.at[0] == event.at[0] and seen.at < event.at:
                yield Violation("early", f"{name}: {event}")
            if (event.id or seen.id) != seen.id or ids.setdefault(seen.key, seen.id) != seen.id:
                yield Violation("swapped", f"{name}: {event} as {seen.id}, not {event.id or ids[seen.key]}")
            if ids.setdefault(seen.id, seen.key) != seen.key:
                yield Violation("swapped", f"{name}: {seen.id} is both {event} and {ids[seen.id]}")

    def judge_repeats(self, name, promise):
        last, times = {}, collections.Counter()
        for seen in self.seen[name]:
            before, event = last.get(seen.id), self.events.get(seen.key)
            last[seen.id] = seen
            times[seen.id] += 1
            if before is None or (event and times[seen.id] <= event.tries):
                continue
            if promise.once:
                yield Violation("repeated", f"{name}: {event} {seen.id}")
            else:
                yield from self.judge_repeat(name, promise, before, seen)

    def judge_repeat(self, name, promise, before, seen):
        """At least once: again only if the process that had it before crashed soon after."""
        process = self.processes.get(before.process)
        if before.process == seen.process:
            yield Violation("repeated", f"{name}: {seen.key} {seen.id} twice to process {seen.process}")
        elif process and process.end_code == "SPOOL_OK" and process.end < seen.at and process.end[0] == seen.at[0]:
            yield Violation("repeated", f"{name}: {seen.key} {seen.id} again after {before.process} stopped in order")
        elif process and process.end_ms and promise.window_ms and process.end_ms - before.ms > promise.window_ms:
            age_ms = process.end_ms - before.ms
            yield Violation("window", f"{name}: {seen.key}: {age_ms} ms before the end of {before.process}")

    def judge_order(self, name, promise, first):
        """Within the key and a lane, as one process enqueued them: by number within a thread, by id within a process."""
        if promise.order == "none":
            return
        last = {}
        for seen in first:
            event = self.events.get(seen.key)
            if event and event.tries > 1:
                continue
            group = (seen.key[0], seen.lane) + ((seen.agent,) if promise.order == "agent" else ())
            wrong = None
            for key, value in ((group, seen.id), (group + ("t", seen.key[1]), seen.key[2])):
                if key in last and value < last[key]:
                    wrong = last[key]
                last[key] = value
            if wrong is not None:
                yield Violation("order", f"event {seen.id} ({seen.key}) arrived behind {wrong} at {name}")

    def judge_calls(self, name, arrived):
        """Of a call whose outcome is unknown all came or none. (Of an acknowledged one a missing part is `lost`.)"""
        calls = collections.defaultdict(list)
        for event in self.events.values():
            if event.outcome in (None, "uncertain") and not self.dropped[name] and not self.damaged:
                calls[event.key[:2], event.call].append(event)
        for events in calls.values():
            came = [event for event in events if event.key in arrived or event.id in self.excused[name]]
            if came and len(came) < len(events):
                yield Violation("torn-call", f"{name}: {came[0]} came, and {len(events) - len(came)} of its call did not")

    def judge_lost(self, name, promise, arrived, elsewhere):
        """What was acknowledged, and what another sink got: it was stored, for all or for none."""
        start = self.registered.get(name) if promise.registered else None
        if promise.registered and not start:
            return
        missing = [event for event in self.events.values() if event.outcome != "failed" and event.key not in arrived
                   and event.id not in self.excused[name] and not (start and event.at < start)]
        lost = [event for event in missing if event.outcome == "ok" or event.key in elsewhere]
        dropped, damaged = self.dropped[name], self.damaged
        if not dropped and not damaged:
            for event in lost:
                yield Violation("lost", f"{name}: {event} {event.id}")
        elif not len(lost) - damaged <= dropped <= len(missing):
            yield Violation("miscounted", f"{name}: {dropped} dropped and {damaged} damaged by count, {len(lost)} missing "
                                          f"for sure and {len(missing)} at most")

    # ------------------------------------------------------------------------------------------------------ summary

    def counts(self):
        """What there was, so that a run that did nothing is noticed."""
        outcomes = collections.Counter(event.outcome or "unknown" for event in self.events.values())
        return {**outcomes, "processes": len(self.processes), **{name: len(seen) for name, seen in self.seen.items()}}

    def acknowledged(self, process=None):
        """The acknowledged events, of one process or of all, in the order of the attempts."""
        return [event for event in self.events.values()
                if event.outcome == "ok" and (process is None or event.key[0] == process)]


def mark(path, **line):
    """Appends a line of the test script's to a log, as the programs do."""
    text = json.dumps(line, separators=(",", ":")).encode()
    if len(text) > 255:
        raise ValueError(f"the line is too long: {text}")
    with open(path, "ab", buffering=0) as log:
        log.write(text.ljust(255) + b"\n")


def by_kind(violations):
    return dict(collections.Counter(violation.kind for violation in violations))


def parse_sink(text):
    name, *words = text.split(",")
    promise = Promise(order="none")
    for word in words:
        key, _, value = word.partition("=")
        if key == "order" and value in ("none", "agent", "lane"):
            promise = promise._replace(order=value)
        elif word in ("once", "registered"):
            promise = promise._replace(**{word: True})
        else:
            raise argparse.ArgumentTypeError(f"{word}: not order=…, once or registered")
    return name, promise


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sink", type=parse_sink, action="append", default=[])
    parser.add_argument("--file", metavar="NAME=PATH", action="append", default=[])
    parser.add_argument("--not-drained", action="store_true")
    parser.add_argument("logs", metavar="LOG", nargs="+")
    options = parser.parse_args()
    history = History()
    for log in options.logs:
        history.read(log)
    for pair in options.file:
        name, _, path = pair.partition("=")
        history.read_file_sink(path, name)
    violations = history.judge(dict(options.sink), drained=not options.not_drained)
    for violation in violations[:100]:
        print(f"{violation.kind}: {violation.text}")
    print(f"{history.counts()}: {len(violations)} violations {by_kind(violations) or ''}".rstrip())
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
