#!/usr/bin/env python3
"""The archive in SQLite: what stands in it, each event once after SIGKILLs, and what it does when the database is locked,
damaged, foreign, newer, full or moved away. EVENTS: 100000; SEED."""
import json
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness

EVENTS = int(os.environ.get("EVENTS", 100000))
HERE = pathlib.Path(__file__).resolve().parent


class Archive(sink_harness.Site):
    def __init__(self, checks, name, options=None, **keys):
        self.database = checks.dir(name + ".db")
        super().__init__(checks, name, "sqlite", {"path": str(self.database), **keys}, options)

    def query(self, sql, *values):
        connection = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True, timeout=30)
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()

    def ids(self):
        return [row[0] for row in self.query("SELECT id FROM events")]

    def ids_so_far(self):
        """The same, beside a deliverer that may not have made the database yet."""
        try:
            return self.ids()
        except sqlite3.OperationalError:
            return []

    def so_far(self):
        """How many there are, beside a deliverer that may not have made the database yet."""
        try:
            return self.query("SELECT count(*) FROM events")[0][0]
        except sqlite3.OperationalError:
            return 0

    def killed_on_the_way(self, more):
        """Runs the deliverer, and kills it a moment after that many events more are there."""
        begin = self.so_far()
        child = self.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        harness.wait_until(lambda: self.so_far() >= begin + more)
        time.sleep(0.02 * self.checks.random.random())
        child.send_signal(signal.SIGKILL)
        child.wait()


def stands_as_documented(checks):
    archive = Archive(checks, "schema")
    archive.put("{}")
    archive.drains("the first event")
    ask = lambda sql: archive.query(sql)[0][0]
    checks.check(ask("PRAGMA journal_mode") == "wal", "the database is in WAL mode")
    checks.check(ask("PRAGMA application_id") == 0x73706f6c and ask("PRAGMA user_version") == 2, "it is marked as version 2")
    checks.check(archive.database.stat().st_mode & 0o777 == 0o600, "only its owner may read it")
    names = {row[0] for row in archive.query("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")}
    checks.check(names == {f"events_by_{what}" for what in ("agent", "type", "session", "time")}, "the indexes", str(names))
    for what, column in (("agent", "agent = 'a'"), ("type", "type = 'a'"), ("session", "session = 'a'"),
                         ("time", "time_ms > 5")):
        plan = archive.query(f"EXPLAIN QUERY PLAN SELECT body FROM events WHERE {column} ORDER BY time_ms DESC")
        checks.check(len(plan) == 1 and f"events_by_{what}" in plan[0][3], f"the latest by {what} need no sorting", str(plan))


def well_known_types():
    """(type, members) as spool.h documents them."""
    for line in (harness.ROOT / "lib" / "spool.h").read_text().splitlines():
        found = re.match(r'#define SPOOL_TYPE_\w+ +"([a-z_.]+)" +/\* (.*) \*/', line)
        if found:
            text = re.sub(r"\(!\)|0\.\.1|: array of steps", "", found.group(2))
            yield found.group(1), [word.strip() for word in text.split(",")]


def has_views(checks):
    """A view per well-known type, with the members that spool.h documents, over bodies of every shape."""
    archive = Archive(checks, "views")
    types = list(well_known_types())
    checks.check(len(types) == 15, "spool.h has 15 well-known types", str(types))
    events = []
    for type_, members in types:
        body = {member: [i, {"x": member}] if i == 0 else f"{member}\u00e9" for i, member in enumerate(members)}
        events += [{"type": type_, "agent": "a", "session": "s", "data": body}, {"type": type_, "data": [1]},
                   {"type": type_, "content_type": "text/plain", "data_base64": "aGk="}]
    archive.put_events(events)
    archive.drains("events of all types")
    for type_, members in types:
        view = type_.replace(".", "_")
        columns = [row[1] for row in archive.query(f"PRAGMA table_info({view})")]
        checks.check(columns == ["id", "time", "agent", "session", *members], f"view {view} has the columns", str(columns))
        rows = archive.query(f"SELECT * FROM {view} ORDER BY id")
        values = [f"{member}\u00e9" for member in members]
        good = len(rows) == 3 and json.loads(rows[0][4]) == [0, {"x": members[0]}] and list(rows[0][5:]) == values[1:]
        checks.check(good and set(rows[1][4:]) == set(rows[2][4:]) == {None}, f"view {view} has the values", str(rows))
        checks.check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", rows[0][1]), f"{view}: time", rows[0][1])


def keeps_everything(checks):
    """Each member of the envelope, and bodies as they were."""
    archive = Archive(checks, "fields")
    parent = archive.put('{"n": 1}')
    full = {"type": "t\u00fcp", "agent": "a'\"", "session": "s", "priority": "critical", "parent": parent,
            "tags": ["x", "\u20ac\"\\"], "content_type": "application/cloudevents+json", "ttl_ms": 3600000,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "occurred_at": "2026-11-21T09:34:15.123456789Z", "data": {"big": "x" * 1000000}}
    empty = {"type": "e", "priority": "low"}
    text = {"type": "b", "content_type": "text/plain", "data_base64": "eyJhIjoxfQ=="}
    binary = {"type": "b", "content_type": "application/json", "data_base64": "/wAB"}
    ids = archive.put_events([full, empty, text, binary])
    spaced = archive.put('{ "a" : 1.0,  "nul": "\\u0000" }')
    archive.drains("an event with everything")
    columns = ("type, agent, session, priority, parent, tags, content_type, traceparent, occurred_at_ns, ttl_ms, time_ms,"
               " typeof(body), body")
    row = lambda id_: archive.query(f"SELECT {columns} FROM events WHERE id = ?", id_)[0]
    got = row(ids[0])
    checks.check(got[:5] == (full["type"], full["agent"], "s", "critical", parent) and json.loads(got[5]) == full["tags"] and
                 got[6:10] == (full["content_type"], full["traceparent"], 1795253655123456789, 3600000), "the envelope", got[:11])
    checks.check(got[10] == int(ids[0].replace("-", "")[:12], 16), "the time is the id's", str(got[10]))
    checks.check(got[11] == "text" and json.loads(got[12]) == full["data"], "a large body of JSON", got[11])
    checks.check(row(ids[1])[1:6] == (None, None, "low", None, None) and row(ids[1])[11] == "null", "an empty event")
    checks.check(row(ids[2])[11:] == ("blob", b'{"a":1}'), "a text is no JSON, even if it looks like it", row(ids[2]))
    checks.check(row(ids[3])[11:] == ("blob", b"\xff\x00\x01"), "what is no JSON stays as it is, as a BLOB", row(ids[3]))
    checks.check(row(spaced)[12] == '{ "a" : 1.0,  "nul": "\\u0000" }', "JSON is not rewritten", row(spaced)[12])


def each_once_after_kills(checks):
    """The deliverer is killed again and again; a reader looks on; a copy of an acknowledged event changes nothing."""
    archive = Archive(checks, "kills", {"batch_events": 256})
    wanted = archive.produce(EVENTS)
    checks.check(len(wanted) == EVENTS, f"{EVENTS} events are acknowledged")
    rounds, counts = 0, [0]
    while counts[-1] < EVENTS * 0.8 and rounds < 60:
        archive.killed_on_the_way(checks.random.randrange(EVENTS // 8))
        rounds += 1
        good = archive.query("PRAGMA integrity_check") if archive.database.exists() else [("ok",)]
        counts.append(archive.so_far())
        if good != [("ok",)]:
            checks.check(False, f"after kill {rounds} the database is whole", str(good))
            return
    hit = sum(0 < count < EVENTS for count in counts)
    checks.check(hit >= 2, f"of {rounds} kills {hit} hit the middle of it", str(counts))
    archive.drains("after the kills")
    sink_harness.account(checks, "after the kills", wanted, archive.ids())
    checks.check(archive.query("PRAGMA integrity_check") == [("ok",)], "the database is whole")
    bad = sum(not harness.body_is_good(json.loads(row[0])) for row in archive.query("SELECT body FROM events"))
    checks.check(bad == 0, "every body is as it was enqueued", f"{bad} are not")
    checks.check(archive.database.with_name(archive.database.name + "-wal").exists() is False or
                 archive.database.with_name(archive.database.name + "-wal").stat().st_size <= 80 << 20, "the log is bounded")


def waits_for_a_lock(checks):
    archive = Archive(checks, "locked", busy_timeout="200ms")
    archive.put("{}")
    archive.drains("the first event")
    other = sqlite3.connect(archive.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    archive.put("{}")
    archive.is_down("locked by another program", "another program keeps it locked")
    sink_harness.cancelled_soon(checks, "locked", "sqlite", {"path": str(archive.database), "busy_timeout": "1h"})
    other.execute("COMMIT")
    archive.drains("unlocked")
    checks.check(len(archive.ids()) == 2, "the event arrives when it is unlocked")
    reader = sqlite3.connect(archive.database, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM events").fetchone()
    archive.put("{}")
    archive.drains("beside somebody who reads")
    reader.close()
    other.close()


def cancelled_in_the_middle(checks):
    """Cancelled while a statement runs: here a trigger that never ends. Nothing of the batch stays."""
    archive = Archive(checks, "endless")
    archive.put("{}")
    archive.drains("the first event")
    owner = sqlite3.connect(archive.database, isolation_level=None)
    owner.execute("CREATE TRIGGER endless AFTER INSERT ON events BEGIN SELECT count(*) FROM (WITH RECURSIVE n(x) AS"
                  " (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n); END")
    sink_harness.cancelled_soon(checks, "within a statement", "sqlite", {"path": str(archive.database)})
    checks.check(len(archive.ids()) == 1, "nothing of it was committed")
    owner.execute("DROP TRIGGER endless")
    owner.close()


def refuses_single_events(checks):
    """What the owner's constraint refuses is a dead letter, and keeps nothing else."""
    archive = Archive(checks, "trigger")
    archive.put("{}")
    archive.drains("the first event")
    owner = sqlite3.connect(archive.database, isolation_level=None)
    owner.execute("CREATE TRIGGER no_secrets BEFORE INSERT ON events WHEN new.type = 'secret'"
                  " BEGIN SELECT raise(ABORT, 'no secrets here'); END")
    owner.execute("CREATE TABLE named (name UNIQUE)")
    owner.execute("CREATE TRIGGER named_once AFTER INSERT ON events WHEN new.type = 'named'"
                  " BEGIN INSERT INTO named VALUES (new.agent); END")
    owner.close()
    archive.put_events([{"type": "secret" if i % 10 == 5 else "open", "data": i} for i in range(100)])
    archive.drains("some are refused")
    checks.check(len(archive.ids()) == 91, "the others are stored", str(len(archive.ids())))
    letters = archive.dead_letters()
    checks.check(len(letters) == 10 and all("no secrets here" in json.dumps(letter) for letter in letters),
                 "the refused are dead letters with the reason", str(letters[:1]))
    archive.put_events([{"type": "named", "agent": agent, "data": {}} for agent in ("a", "b", "a", "c")])
    archive.drains("what the owner's trigger does for one fails")
    stored = archive.query("SELECT group_concat(agent, ' ') FROM events WHERE type = 'named'")
    checks.check(stored == [("a b c",)] and len(archive.dead_letters()) == 11, "it is refused, and leaves no trace",
                 str(stored))


def keeps_aside_in_memory(checks):
    """A trigger makes SQLite copy the batch; a service may have nowhere to write that to."""
    archive = Archive(checks, "aside", {"batch_bytes": "8MiB"})
    archive.put("{}")
    archive.drains("the first event")
    owner = sqlite3.connect(archive.database, isolation_level=None)
    owner.execute("CREATE TRIGGER looks AFTER INSERT ON events BEGIN SELECT new.id; END")
    owner.close()
    folder = checks.dir("aside-files")
    folder.mkdir()
    archive.environment = {**os.environ, "SQLITE_TMPDIR": str(folder)}
    before = folder.stat().st_mtime_ns
    archive.put_events([{"type": "t", "data": "x" * 6000} for _ in range(1000)])
    archive.drains("a large batch beside a trigger")
    checks.check(len(archive.ids()) == 1001 and folder.stat().st_mtime_ns == before, "no file is made for it")


def damaged_foreign_newer(checks):
    archive = Archive(checks, "damaged")
    archive.produce(2000)
    archive.drains("some events")
    whole = archive.database.read_bytes()
    broken = bytearray(whole)
    for at in range(0, len(broken), 4096):
        broken[at:at + 64] = checks.random.randbytes(64)
    archive.database.write_bytes(broken)
    archive.put("{}")
    archive.is_down("damaged", r"it is damaged.*\.recover")
    checks.check(archive.database.read_bytes() == bytes(broken), "a damaged archive is not touched")
    archive.database.write_bytes(whole)
    archive.drains("restored")
    checks.check(len(archive.ids()) == 2001, "everything is there when it is restored")

    for name, script, words in (("foreign", "CREATE TABLE mine (x); PRAGMA user_version = 1", "something else"),
                                ("newer", "PRAGMA application_id = 0x73706f6c; PRAGMA user_version = 99", "version 99")):
        other = Archive(checks, name)
        sqlite3.connect(other.database, isolation_level=None).executescript(script)
        before = other.database.read_bytes()
        other.put("{}")
        other.is_down(name, words)
        checks.check(other.database.read_bytes() == before, f"{name}: it is not touched")

    dropped = Archive(checks, "dropped")
    dropped.put("{}")
    dropped.drains("the first event")
    sqlite3.connect(dropped.database, isolation_level=None).execute("ALTER TABLE events RENAME TO gone")
    dropped.put("{}")
    dropped.is_down("its table is gone", "schema was changed")


def takes_an_archive_of_version_1(checks):
    """An archive as the first version made it is opened, and gets what is new."""
    archive = Archive(checks, "old")
    sqlite3.connect(archive.database, isolation_level=None).executescript((HERE / "sqlite_1.sql").read_text())
    id_ = archive.put("{}")
    archive.drains("into an archive of version 1")
    checks.check(len(archive.ids()) == 3 and id_ in archive.ids(), "old and new events are there", str(archive.ids()))
    checks.check(archive.query("SELECT model FROM log_llm_call") == [("m",)], "its views work")
    checks.check(archive.query("PRAGMA user_version") == [(2,)] and archive.query("PRAGMA integrity_check") == [("ok",)],
                 "it is of version 2 now")
    checks.check(archive.query("SELECT session, llm_calls, input_tokens FROM sessions") == [("s", 1, 3)],
                 "what version 2 adds is there", str(archive.query("SELECT * FROM sessions")))


def migrates_as_a_whole(checks):
    """Where a statement of a migration fails, nothing of it is there, and the sink says that somebody changed the schema."""
    archive = Archive(checks, "half")
    database = sqlite3.connect(archive.database, isolation_level=None)
    database.executescript((HERE / "sqlite_1.sql").read_text() + "CREATE TABLE sessions (mine INTEGER);")
    database.close()
    archive.put("{}")
    archive.is_down("a migration that fails", "schema was changed.*sessions")
    checks.check(archive.query("PRAGMA user_version") == [(1,)] and len(archive.ids()) == 2, "version 1 is as it was")
    sqlite3.connect(archive.database, isolation_level=None).execute("DROP TABLE sessions")
    archive.resume()
    archive.drains("with that mended")
    checks.check(archive.query("PRAGMA user_version") == [(2,)] and len(archive.ids()) == 3, "then it is migrated")


COUNT_FLUSHES = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int count(int fd, int (*flush)(int))
{
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    size_t size = (size_t)readlink(link, path, sizeof path - 1);
    if (size < sizeof path && size > 4 && strcmp(path + size - 4, "-wal") == 0)
        dprintf(2, "flushed the log\n");
    return flush(fd);
}
int fsync(int fd) { return count(fd, dlsym(RTLD_NEXT, "fsync")); }
int fdatasync(int fd) { return count(fd, dlsym(RTLD_NEXT, "fdatasync")); }
"""


def flushes_before_it_answers(checks):
    """synchronous=FULL: the log is flushed by each COMMIT, so at least once a batch."""
    shim = checks.dir("flushes.so")
    done = harness.run("gcc", "-shared", "-fPIC", "-x", "c", "-o", shim, "-", "-ldl", input=COUNT_FLUSHES)
    checks.check(done.returncode == 0, "the counter is built", done.stderr)
    archive = Archive(checks, "flushes", {"batch_events": 1})
    archive.put_events([{"type": "t", "data": i} for i in range(40)])
    archive.environment = {**os.environ, "LD_PRELOAD": str(shim)}
    done = archive.drain(60)
    flushes = done.stderr.count("flushed the log")
    checks.check(done.returncode == 0 and len(archive.ids()) == 40 and flushes >= 40, "every COMMIT flushes the log",
                 f"{flushes} flushes for 40 batches: {done.stderr[-300:]}")


def adds_up_sessions(checks):
    archive = Archive(checks, "sessions")
    call = lambda **data: {"type": "log.llm_call", "session": "s", "agent": "a", "data": data}
    archive.put_events([call(input_tokens=3, output_tokens=1, cost_usd=0.5), call(input_tokens=4, cost_usd=0.25),
                        call(input_tokens="many"), {"type": "log.error", "session": "s", "agent": "b", "data": {}},
                        {"type": "log.llm_call", "session": "t", "content_type": "text/plain", "data_base64": "aGk="},
                        {"type": "log.llm_call", "data": {"input_tokens": 9}}])
    archive.drains("events of two sessions")
    rows = archive.query("SELECT session, agents, events, llm_calls, input_tokens, output_tokens, cost_usd, errors FROM sessions"
                         " ORDER BY session")
    checks.check([tuple(value or 0 for value in row) for row in rows] == [("s", 2, 4, 3, 7, 1, 0.75, 1), ("t", 0, 1, 1, 0, 0, 0, 0)],
                 "a row per session, with what it took", str(rows))


def full_disk(checks):
    """The database may not grow: events wait, nothing is lost. A limit for files stands in for the disk."""
    archive = Archive(checks, "full")
    wanted = archive.produce(20000)
    limited = harness.run("prlimit", "--fsize=4194304", harness.SPOOL, "drain", "-c", archive.file, "--timeout", 3)
    checks.check(limited.returncode == 1, "with a full disk it does not end", limited.stderr[-500:])
    checks.check(re.search("disk is full|disk I/O error", limited.stderr), "it says why", limited.stderr)
    checks.check(archive.query("PRAGMA integrity_check") == [("ok",)], "the database is whole")
    archive.drains("with room again")
    sink_harness.account(checks, "after a full disk", wanted, archive.ids())


def forgets_what_is_old(checks):
    archive, hour_ago_ms = Archive(checks, "retention"), 1000 * (time.time() - 3600)
    archive.put_events([{"type": "t", "id": sink_harness.id_of(hour_ago_ms + i, 0)} for i in range(3000)])
    archive.drains("events of an hour ago")
    checks.check(len(archive.ids()) == 3000, "without retention they stay")
    archive.configure({"path": str(archive.database), "retention": "10m"})
    new = []
    for _ in range(13):
        new.append(archive.put("{}"))
        archive.drains("a new one")
    left = archive.ids()
    checks.check(set(new) <= set(left) and len(left) <= 13 + 20, "the old ones go as new ones come", f"{len(left)} are left")
    bad = harness.run(harness.SPOOL, "-C", archive.spool, "sink", "add", "x", "sqlite", "path=/tmp/x.db", "retention=1d",
                      'indexes=["agent"]')
    checks.check(bad.returncode != 0, "retention needs the index by time", bad.stderr)


def moved_away(checks):
    """Somebody takes the archive away while it is written to: a new one is begun."""
    archive = Archive(checks, "moved")
    runner = archive.run()
    first = archive.put("{}")
    there = lambda id_: id_ in archive.ids_so_far()
    checks.check(harness.wait_until(lambda: there(first)), "the first event arrives")
    away = archive.database.with_suffix(".away")
    archive.database.rename(away)
    second = archive.put("{}")
    checks.check(harness.wait_until(lambda: there(second)), "the second one is in a new archive")
    runner.send_signal(signal.SIGTERM)
    checks.check(runner.wait(60) == 0, "the deliverer ends well")
    rows = sqlite3.connect(away).execute("SELECT id FROM events").fetchall()
    checks.check(rows == [(first,)] and archive.ids() == [second], "each is in one of them", f"{rows} {archive.ids()}")
    log = archive.database.with_name(archive.database.name + "-wal")
    archive.database.unlink()
    log.write_bytes(b"x" * 64)
    archive.put("{}")
    archive.is_down("gone without its log", "is gone, but not its log")


def two_deliverers(checks):
    """Two spools and several workers make an archive together, and write into it. Often: each time they race to make it."""
    for number in range(6):
        one = Archive(checks, f"one-{number}", {"workers": 2, "batch_events": 64})
        wanted = one.produce(1000)
        two = sink_harness.Site(checks, f"two-{number}", "sqlite", {"path": str(one.database)}, {"batch_events": 64})
        wanted |= two.produce(1000)
        runner = two.run(stdout=-3, stderr=-3)
        one.drains(f"two write at once, {number}")
        two_done = harness.wait_until(lambda: len(one.ids()) == len(wanted))
        runner.send_signal(signal.SIGTERM)
        checks.check(runner.wait(60) == 0 and two_done, "both end well")
        sink_harness.account(checks, "two at once", wanted, one.ids())


def needs_no_more_than_it_should(checks):
    archive = Archive(checks, "valgrind")
    archive.produce(300)
    sink_harness.leaks(archive, "a delivery")
    checks.check(len(archive.ids()) == 300, "and all is delivered")
    archive.put("{}")
    archive.database.with_name(archive.database.name + "-wal").unlink(missing_ok=True)
    large = Archive(checks, "memory")
    sink_harness.bounded(checks, large, lambda: len(large.ids_so_far()) == 30000, 30000)


def checks_its_configuration(checks):
    archive = Archive(checks, "config")
    for words, problem in ((["mode=0600"], '"path" is required'), (["path=/x", "pat=1"], '"pat" is unknown'),
                           (["path=/x", "mode=9x"], "octal"), (["path=/x", 'indexes=["agent","agnt"]'], "indexes"),
                           (["path=/x", "busy_timeout=soon"], "busy_timeout")):
        done = harness.run(harness.SPOOL, "-C", archive.spool, "sink", "add", "bad", "sqlite", *words)
        checks.check(done.returncode != 0 and problem in done.stderr, f"{' '.join(words)} is refused", done.stderr)
    few = Archive(checks, "few", indexes=["time"])
    few.put("{}")
    few.drains("with one index")
    names = [row[0] for row in few.query("SELECT name FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")]
    checks.check(names == ["events_by_time"], "only the index that is wanted is made", str(names))
    memory = sink_harness.Site(checks, "memory-file", "sqlite", {"path": ":memory:"}, register=False)
    memory.spool.mkdir(mode=0o700)
    os.chdir(memory.checks.scratch)
    memory.put("{}")
    memory.drains("into :memory:")
    checks.check((checks.scratch / ":memory:").exists(), ":memory: is the name of a file")


def as_documented(checks):
    sink_harness.manual_example(checks, "sqlite")
    said = sink_harness.example(checks, "to_sqlite.sh")
    found = re.search(r"acknowledged: (\d+), archived: (\d+)", said)
    checks.check(found and found.group(1) == found.group(2) and int(found.group(1)) > 2000, "all of the session is archived", said)
    checks.check("large-4" in said and "usd" in said, "its questions are answered", said)


if __name__ == "__main__":
    sink_harness.main("sqlite", [
        stands_as_documented, has_views, keeps_everything, each_once_after_kills, waits_for_a_lock, cancelled_in_the_middle,
        refuses_single_events, keeps_aside_in_memory, damaged_foreign_newer, takes_an_archive_of_version_1,
        migrates_as_a_whole, flushes_before_it_answers, adds_up_sessions, full_disk, forgets_what_is_old, moved_away,
        two_deliverers, needs_no_more_than_it_should, checks_its_configuration, as_documented])
