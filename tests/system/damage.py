#!/usr/bin/env python3
"""Damaged files: a block changed by hand is named by `spool verify`, counted in `spool status`, and everything else is
delivered; a damaged state, cut files and random bytes never crash anything, and never keep the spool from opening.
CASES: random cases (50); SEED."""
import os
import pathlib
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

CASES = int(os.environ.get("CASES", 50))
SMALL = ["--segment_bytes", 1 << 20, "--journal_bytes", 256 << 10]
EVENTS = 6000


class Pristine:
    """A spool with events in several segments that nobody has delivered, and copies of it to damage."""

    def __init__(self, checks):
        self.checks, self.spool, self.history = checks, checks.dir("pristine"), checks.dir("pristine.history")
        registered = harness.run(harness.program("deliverer"), "--dir", self.spool, "--file_sink",
                                 checks.dir("none.jsonl"), *SMALL)
        made = harness.run(harness.program("producer"), "--dir", self.spool, "--tag", "whole", "--count", EVENTS,
                           "--size", 200, "--size_max", 900, "--history", self.history, *SMALL)
        checks.check(registered.returncode == 0 and made.returncode == 0, "the spool is made",
                     registered.stderr + made.stderr)
        self.acked = harness.read_log(self.history)

    def judge(self, what, sink, damaged):
        """Whatever is missing is counted as damaged; nothing else is wrong with what came."""
        log = self.checks.dir(what.replace(" ", "-") + ".history")
        shutil.copy(self.history, log)
        harness.history.mark(log, k="damaged", count=damaged)
        harness.judge(self.checks, what, [log], {"file": sink})

    def copy(self, name):
        target = self.checks.dir(name)
        shutil.copytree(self.spool, target)
        return target


def verify(spool):
    return harness.run(harness.SPOOL, "-C", spool, "-o", "json", "verify", timeout=60)


def drain(checks, spool, sink):
    """Delivers what can be delivered; returns (exit status, report, ids that arrived with a right body, errors)."""
    done = harness.run(harness.program("deliverer"), "--dir", spool, "--file_sink", sink, "--drain_ms", 30000, *SMALL,
                       timeout=60)
    events = harness.read_file_sink(sink) if sink.exists() else []
    good = [event["id"] for event in events if harness.body_is_good(event["data"])]
    checks.check(len(good) == len(events), "only right bodies arrive", f"{len(events) - len(good)} wrong")
    return done.returncode, harness.last_json(done.stdout), good, done.stderr.strip()


def segments(spool):
    return sorted((spool / "segments").glob("*.mdb"), key=lambda path: path.name)


def flip(path, at, size=16):
    """Changes `size` bytes at `at` for sure."""
    with open(path, "r+b") as file:
        file.seek(at)
        old = file.read(size)
        file.seek(at)
        file.write(bytes(byte ^ 0x5a for byte in old))


def find_body(path, nth):
    """Where the nth body of an event stands in a segment: in the middle of a block, and in none of LMDB's pages."""
    data, at = path.read_bytes(), -1
    for _ in range(nth + 1):
        at = data.find(b'"pad":"', at + 1)
        if at < 0:
            return None
    return at + 40


def one_block(checks, pristine):
    spool, sink = pristine.copy("block"), checks.dir("block.jsonl")
    clean = verify(spool)
    checks.check(clean.returncode == 0, "verify finds nothing in a whole spool", clean.stdout + clean.stderr)
    victim = segments(spool)[1]
    at = find_body(victim, 50)
    if not checks.check(at is not None, "a block is found to be damaged"):
        return
    flip(victim, at)
    found = verify(spool)
    checks.check(found.returncode == 1, "verify answers damage with exit status 1", f"status {found.returncode}")
    checks.check(victim.name in found.stdout + found.stderr and "block" in found.stdout + found.stderr,
                 "verify names the segment and the block", found.stdout + found.stderr)
    checks.check(verify(spool).stdout == found.stdout, "verify changes nothing")
    status, report, good, errors = drain(checks, spool, sink)
    checks.check(status == 0, "the spool opens and drains", f"status {status}: {errors}")
    lost = {record.id for record in pristine.acked} - set(good)
    checks.check(0 < len(lost) < EVENTS / 4, "all but one block's events arrive", f"{len(lost)} of {EVENTS} lost")
    checks.check(len(good) == len(set(good)), "and none twice")
    shown = harness.status(spool).get("damage", {})
    counts = [shown.get("blocks"), shown.get("events")]
    checks.check(counts == [1, len(lost)], "spool status counts the block and its events",
                 f"{counts}, {len(lost)} lost")
    checks.check(report.get("damaged_events") == len(lost), "so does spool_stats()", str(report))
    pristine.judge("one block", sink, report.get("damaged_events", 0))
    works_again(checks, spool, "after a damaged block")


def works_again(checks, spool, what):
    """A spool that was damaged takes and delivers events."""
    log = checks.dir(spool.name + ".again")
    done = harness.run(harness.program("producer"), "--dir", spool, "--tag", "again", "--count", 300, "--history", log,
                       "--callback_log", log, "--file_sink", checks.dir(spool.name + ".jsonl"), "--drain_ms", 30000,
                       *SMALL, timeout=60)
    seen = harness.history.History().read(log)
    seen.seen["callback"] = [one for one in seen.seen["callback"] if one.key[0] == "again"]  # it is given the old ones too
    violations = seen.judge({"callback": harness.history.Promise()})
    checks.check(done.returncode == 0 and not violations and len(seen.acknowledged()) == 300,
                 f"{what}: takes and delivers events", f"status {done.returncode}, {violations[:3]}: {done.stderr}")


def state(checks, pristine):
    """The state is gone or overwritten page by page: every event still arrives at a sink that is added."""
    for name, damage in (("overwritten", lambda path: flip(path, 0, path.stat().st_size)),
                         ("emptied", lambda path: os.truncate(path, 0)),
                         ("cut", lambda path: os.truncate(path, path.stat().st_size // 2 + 100)),
                         ("removed", os.unlink)):
        spool, sink = pristine.copy(f"state-{name}"), checks.dir(f"state-{name}.jsonl")
        damage(spool / "state.mdb")
        found = verify(spool)
        checks.check(found.returncode in (0, 1), f"state.mdb {name}: verify ends", f"status {found.returncode}")
        status, _, good, errors = drain(checks, spool, sink)
        lost = {record.id for record in pristine.acked} - set(good)
        checks.check(status == 0 and not lost, f"state.mdb {name}: everything arrives",
                     f"status {status}, {len(lost)} lost: {errors}")
        pristine.judge(f"state {name}", sink, 0)


def cut_segments(checks, pristine):
    """The newest and an older segment are cut: what stands in the others arrives. With the newest goes how far the journal
    had been committed: what is still in that one comes again."""
    for name, index, keep in (("newest", -1, 0.5), ("oldest", 0, 0.5), ("newest, to nothing", -1, 0)):
        spool = pristine.copy(f"cut-{index}-{keep}")
        victim = segments(spool)[index]
        os.truncate(victim, int(victim.stat().st_size * keep))
        status, report, good, errors = drain(checks, spool, checks.dir(f"{spool.name}.jsonl"))
        checks.check(status == 0, f"{name} segment cut: the spool opens and drains", f"status {status}: {errors}")
        least = len(pristine.acked) * (len(segments(pristine.spool)) - 1.5) / len(segments(pristine.spool))
        checks.check(least <= len(set(good)), f"{name} segment cut: the others arrive", f"{len(good)}, {report}")
        strange = set(good) - {record.id for record in pristine.acked}
        checks.check(not strange, f"{name} segment cut: nothing else arrives", str(strange))
        works_again(checks, spool, f"{name} segment cut")


def damage_at_random(random, spool):
    """Overwrites, cuts, extends, empties or removes something; returns what it did."""
    files = sorted(path for path in spool.rglob("*") if path.is_file() and path.stat().st_size)
    victim = random.choice(files)
    size, kind = victim.stat().st_size, random.choice(("bytes", "page", "zeros", "cut", "extend", "remove"))
    at = random.randrange(size) if random.random() < 0.6 else random.randrange(min(size, 16384))
    with open(victim, "r+b") as file:
        file.seek(at - at % 4096 if kind in ("page", "zeros") else at)
        if kind == "bytes":
            file.write(random.randbytes(random.randrange(1, 64)))
        elif kind == "page":
            file.write(random.randbytes(4096))
        elif kind == "zeros":
            file.write(bytes(4096))
        elif kind == "cut":
            file.truncate(at)
        elif kind == "extend":
            file.seek(0, 2)
            file.write(random.randbytes(random.randrange(1, 9000)))
    if kind == "remove":
        victim.unlink()
    return f"{kind} in {victim.relative_to(spool)} at {at} of {size}"


def died(status):
    """Of a signal, or of a sanitizer."""
    return status < 0 or status >= 128 or status == 99


def random_case(checks, pristine, case):
    """One copy with up to three damages: verify, drain and enqueue end without a crash. Returns the complaints."""
    spool = pristine.copy(f"random-{case}")
    done = [damage_at_random(checks.random, spool) for _ in range(checks.random.choice((1, 1, 2, 3)))]
    refusable = any("spool.json" in what for what in done)
    serve = ["--file_sink", checks.dir(spool.name + ".jsonl"), "--drain_ms", 30000, *SMALL]
    steps = (("verify", [harness.SPOOL, "-C", spool, "-o", "json", "verify"]),
             ("drain", [harness.program("deliverer"), "--dir", spool, *serve]),
             ("produce", [harness.program("producer"), "--dir", spool, "--count", 100, *serve]),
             ("status", [harness.SPOOL, "-C", spool, "-o", "json", "status"]))
    complaints, what = [], f"case {case} ({'; '.join(done)})"
    for name, command in steps:
        result = harness.run(*command, timeout=90)
        errors = result.stderr.strip()[-300:]
        if died(result.returncode):
            complaints.append(f"{what}: {name} died: {result.returncode} {errors}")
        elif result.returncode and name != "verify" and not refusable:
            complaints.append(f"{what}: {name} refused: {errors}")
    if not complaints:
        shutil.rmtree(spool)
    return complaints


def at_random(checks, pristine):
    complaints = [text for case in range(CASES) for text in random_case(checks, pristine, case)]
    for text in complaints:
        print("    " + text)
    checks.check(not [text for text in complaints if " died: " in text], f"no crash in {CASES} random cases")
    checks.check(not [text for text in complaints if " refused: " in text], "the spool opens and works in each of them")


def damage(checks):
    pristine = Pristine(checks)
    for part in (one_block, state, cut_segments, at_random):
        print(f" {part.__name__}:", flush=True)
        part(checks, pristine)


if __name__ == "__main__":
    harness.main("damage", [damage])
