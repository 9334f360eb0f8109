#!/usr/bin/env python3
"""PostgreSQL: what stands in the table, each event once while the server and the deliverer are killed, and what it does when
the table, the password or the certificate is wrong, or the server hangs. EVENTS: 100000; SEED."""
import glob
import json
import os
import pathlib
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness

EVENTS = int(os.environ.get("EVENTS", 100000))
PASSWORD = "open-sesame-7193"


class Postgres:
    """A server of its own below /tmp, run by the user postgres when we are root, whom it refuses."""

    def __init__(self, checks):
        self.checks, self.bin = checks, pathlib.Path(sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1])
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="spool-postgres-"))
        self.port = harness.free_port()
        self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if os.getuid() == 0 else []
        if self.prefix:
            user = pwd.getpwnam("postgres")
            os.chown(self.home, user.pw_uid, user.pw_gid)
        self.make()
        self.server = sink_harness.Server(
            checks, [*self.prefix, self.bin / "postgres", "-D", self.home / "data", "-k", self.home, "-p", self.port, "-c",
                     "listen_addresses=127.0.0.1"], self.answers, checks.dir("postgres.log"))
        self.start()

    def make(self):
        done = harness.run(*self.prefix, self.bin / "initdb", "-D", self.home / "data", "-U", "owner", "-A", "trust",
                           "--no-instructions", "--no-sync", "-E", "UTF8", "--locale=C", cwd=self.home)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        self.certificates()
        (self.home / "data" / "pg_hba.conf").write_text(
            "local all all trust\nhost all careful 127.0.0.1/32 scram-sha-256\nhostssl all tls 127.0.0.1/32 trust\n"
            "hostnossl all owner 127.0.0.1/32 trust\n")
        with open(self.home / "data" / "postgresql.conf", "a") as conf:
            conf.write("ssl = on\nmax_connections = 20\nshared_buffers = 32MB\n")

    def certificates(self):
        """One of an authority of its own, for localhost."""
        key, cert = self.home / "data" / "server.key", self.home / "data" / "server.crt"
        harness.run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
        if self.prefix:
            user = pwd.getpwnam("postgres")
            os.chown(key, user.pw_uid, user.pw_gid)
        shutil.copy(cert, self.checks.dir("ca.crt"))

    def answers(self):
        return harness.run(self.bin / "pg_isready", "-q", "-h", self.home, "-p", self.port).returncode == 0

    def start(self):
        """After SIGKILL the children of the last one may still hold its memory."""
        for attempt in range(20):
            try:
                return self.server.start()
            except RuntimeError:
                if attempt == 19:
                    raise
                time.sleep(0.3)

    def query(self, sql, database="postgres"):
        done = harness.run(self.bin / "psql", "-h", self.home, "-p", self.port, "-U", "owner", "-d", database, "-AtX", "-c", sql)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return done.stdout.splitlines()

    def conninfo(self, user="owner", host=None, **more):
        words = {"host": host or self.home, "port": self.port, "user": user, "dbname": "postgres", **more}
        return " ".join(f"{key}={value}" for key, value in words.items())

    def end(self):
        self.server.stop(signal.SIGQUIT)
        shutil.rmtree(self.home, ignore_errors=True)


def site(checks, name, options=None, **keys):
    keys = {"conninfo": server.conninfo(), "table": name, "create": "table", **keys}
    return sink_harness.Site(checks, name, "postgres", keys, options)


def ids(table):
    return server.query(f'SELECT id FROM "{table}"')


def keeps_everything(checks):
    one = site(checks, "everything")
    parent = one.put('{"n": 1}')
    full = {"type": "t\u00fcp", "agent": "a'\"\\", "session": "s", "priority": "critical", "parent": parent,
            "tags": ["x", "\u20ac\"{},"], "content_type": "application/cloudevents+json", "ttl_ms": 3600000,
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "occurred_at": "2026-11-21T09:34:15.123456789Z", "data": {"big": "x" * 1000000}}
    id_ = one.put_events([full])[0]
    empty = one.put_events([{"type": "e", "priority": "low"}])[0]
    one.drains("an event with everything")
    row = json.loads(server.query(f"SELECT row_to_json(e) FROM everything e WHERE id = '{id_}'")[0])
    same = [key for key in ("type", "agent", "session", "priority", "parent", "tags", "content_type", "traceparent", "ttl_ms")
            if row[key] != full[key]]
    checks.check(not same and row["body"] == full["data"] and row["body_raw"] is None, "the envelope and a large body", str(same))
    checks.check(row["occurred_at"].startswith("2026-11-21T09:34:15.123456"), "the time, in microseconds", row["occurred_at"])
    milliseconds = int(id_.replace("-", "")[:12], 16)
    checks.check(server.query(f"SELECT floor(extract(epoch FROM time) * 1000) FROM everything WHERE id = '{id_}'") ==
                 [str(milliseconds)], "the time is the id's")
    row = json.loads(server.query(f"SELECT row_to_json(e) FROM everything e WHERE id = '{empty}'")[0])
    checks.check([row[key] for key in ("agent", "session", "parent", "tags", "body", "body_raw", "ttl_ms")] == [None] * 7,
                 "an empty event", str(row))


def bodies_that_jsonb_cannot_hold(checks):
    one = site(checks, "bodies")
    cases = {"nul": r'{"a":"\u0000"}', "escaped backslash": r'{"a":"\\u0000"}', "half": r'"\ud800"', "wrong half": r'"\udc00"',
             "pair": r'"\ud83d\ude00"', "two halves": r'"\ud800\ud800"', "digits": "1" + "0" * 140000, "exponent": "1e999999",
             "deep": "[" * 500 + "]" * 500, "spaced": '{ "a" : 1 }', "long": json.dumps("x" * 300000)}
    raw = {"nul", "half", "wrong half", "two halves", "digits", "exponent"}
    found = {name: one.put(body) for name, body in cases.items()}
    more = [one.put(str(i)) for i in range(60)]
    text = one.put_events([{"type": "t", "content_type": "text/plain", "data_base64": "AP8="}])[0]
    one.drains("bodies of all kinds")
    for name, id_ in found.items():
        kind = server.query(f"SELECT body IS NOT NULL, convert_from(coalesce(body_raw, ''), 'UTF8') FROM bodies WHERE id = '{id_}'")
        good = kind == (["f|" + cases[name]] if name in raw else ["t|"])
        checks.check(good, f"{name}: as {'bytes' if name in raw else 'jsonb'}", str(kind)[:200])
    checks.check(server.query(f"SELECT body_raw FROM bodies WHERE id = '{text}'") == ["\\x00ff"], "a body that is no text")
    checks.check(set(more) <= set(ids("bodies")) and not one.dead_letters(), "all others of the batch are there")


def each_once_after_kills(checks):
    """The server is killed and stopped in every way, and the deliverer too, while events flow."""
    one = site(checks, "kills", {"batch_events": 512})
    producer = one.producer(EVENTS, "--rate", sink_harness.rate(EVENTS))
    runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ways = [signal.SIGKILL, signal.SIGQUIT, signal.SIGINT]

    def there():
        """The table is made with the first event."""
        return int(server.query("SELECT count(*) FROM kills")[0]) if server.query("SELECT to_regclass('kills')") != [""] else 0

    kills, counts, deadline = 0, [], time.monotonic() + 25
    while (producer.poll() is None or kills < 5) and (time.monotonic() < deadline or kills < 3) and kills < 12:
        sink_harness.flows(there, lambda: producer.poll() is not None and one.is_empty())
        time.sleep(0.6 * checks.random.random())
        server.server.stop(ways[kills % 3])
        if kills % 4 == 1:
            runner.kill()
            runner.wait()
            runner = one.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.2 * checks.random.random())
        server.start()
        counts.append(there())
        kills += 1
    status, _, errors = harness.wait(producer, 120)
    checks.check(status == 0, "the producer ends well", errors)
    runner.send_signal(signal.SIGTERM)
    checks.check(runner.wait(60) == 0, "the deliverer ends well")
    checks.check(sum(a < b for a, b in zip(counts, counts[1:])) >= 2, f"events flow between the {kills} kills", str(counts))
    one.drains("after the kills")
    wanted = one.acknowledged()
    checks.check(len(wanted) == EVENTS, f"{EVENTS} events are acknowledged", str(len(wanted)))
    sink_harness.account(checks, "after the kills", wanted, ids("kills"))
    bad = sum(not harness.body_is_good(json.loads(line)) for line in server.query("SELECT body FROM kills"))
    checks.check(bad == 0, "every body is as it was enqueued", f"{bad} are not")


def tells_events_apart(checks):
    """Events that are there already, alone and among new ones, by the connection's first batch and by later ones."""
    one, two = site(checks, "apart"), sink_harness.Site(checks, "apart-two", "postgres",
                                                        {"conninfo": server.conninfo(), "table": "apart"}, {"batch_events": 50})
    first = one.put_events([{"type": "t", "data": i} for i in range(300)])
    one.drains("the first time")
    again = [{"type": "t", "data": i, "id": id_} for i, id_ in enumerate(first)]
    new = [{"type": "t", "data": -i} for i in range(300)]
    order = [event for pair in zip(new, again) for event in pair]
    more = two.put_events(order[:100] + new[:0] + order[100:])
    two.drains("among new ones")
    sink_harness.account(checks, "delivered twice", set(first) | set(more), ids("apart"))


def wrong_tables(checks):
    server.query("CREATE TABLE nokey (LIKE apart); CREATE TABLE texts (LIKE apart INCLUDING ALL);"
                 "ALTER TABLE texts ALTER body TYPE text")
    for name, words in (("missing", 'there is no table "missing": make it'), ("nokey", "no unique index on id"),
                        ("texts", "column body of \"texts\" is text, but must be jsonb")):
        one = site(checks, name, create="nothing")
        one.put("{}")
        one.is_down(name, words)
    server.query("CREATE TABLE missing (LIKE apart INCLUDING ALL); ALTER TABLE missing ADD CHECK (type <> 'secret'),"
                 " ADD extra int DEFAULT 7")
    one = site(checks, "missing", create="nothing")
    one.put_events([{"type": "secret" if i % 10 == 5 else "open", "data": i} for i in range(100)])
    one.resume()
    one.drains("once the table is there")
    checks.check(len(ids("missing")) == 91, "what its constraint lets pass is stored", str(len(ids("missing"))))
    letters = one.dead_letters()
    checks.check(len(letters) == 10 and "SQLSTATE 23514" in json.dumps(letters[0]), "what it refuses is dead letters", letters[:1])
    one = site(checks, "s 1.tab le")
    one.put("{}")
    one.is_down("no schema", "3F000|does not exist")
    server.query('CREATE SCHEMA "s 1"')
    one.resume()
    one.drains("in a schema")
    checks.check(server.query('SELECT count(*) FROM "s 1"."tab le"') == ["1"], "a table with blanks in a schema")


def partitions_by_day(checks):
    one = site(checks, "parts", create="partitions")
    days = ("2026-02-28", "2026-03-01", "2026-03-01", "1999-12-31")
    events = []
    for i, day in enumerate(days):
        ms = int(time.mktime(time.strptime(day + " 23:59:59 UTC", "%Y-%m-%d %H:%M:%S %Z")) - time.timezone) * 1000 + 999
        events.append({"type": "t", "id": sink_harness.id_of(ms, i), "data": i})
    given = one.put_events(events)
    given += one.put_events(events[:2])
    today = one.produce(500)
    one.drains("events of several days")
    names = server.query("SELECT relname FROM pg_class WHERE relname ~ '^parts_[0-9]+$' AND relkind = 'r' ORDER BY 1")
    checks.check(names[:3] == ["parts_19991231", "parts_20260228", "parts_20260301"] and len(names) in (4, 5),
                 "a partition a day", str(names))
    sink_harness.account(checks, "in partitions", set(given) | today, ids("parts"))


def secrets_and_certificates(checks):
    server.query(f"CREATE ROLE careful LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE tls LOGIN; GRANT ALL ON SCHEMA public TO careful, tls")
    file = checks.dir("password")
    file.write_text("wrong-secret-55\n")
    file.chmod(0o600)
    local = server.conninfo("careful", "127.0.0.1", sslmode="disable")
    one = site(checks, "careful", conninfo=local, password={"file": str(file)})
    one.put("{}")
    one.is_down("with a wrong password", "28P01|password authentication failed")
    said = one.said
    file.write_text(PASSWORD + "\n")
    one.resume()
    one.drains("with the right password")
    sink_harness.says_nothing_secret(one, "a password", PASSWORD)
    sink_harness.says_nothing_secret(one, "a wrong password", "wrong-secret-55", said)
    for conninfo in (local + f" password={PASSWORD}", f"postgres://u:{PASSWORD}@127.0.0.1/x"):
        bad = harness.run(harness.SPOOL, "-C", one.spool, "sink", "add", "bad", "postgres", "conninfo=" + conninfo)
        checks.check(bad.returncode != 0 and PASSWORD not in bad.stderr and "no password may stand" in bad.stderr,
                     "a password in conninfo is refused", bad.stderr)
    for name, more, words in (("default", {}, "certificate verify failed"),
                              ("address", {"host": "127.0.0.1", "sslrootcert": checks.dir("ca.crt")}, "does not match host name")):
        tls = site(checks, "tls_" + name, conninfo=server.conninfo("tls", **{"host": "localhost", **more}))
        tls.put("{}")
        tls.is_down(f"TLS, {name}", words)
    tls = site(checks, "tls", conninfo=server.conninfo("tls", "localhost", sslrootcert=checks.dir("ca.crt")))
    tls.put("{}")
    tls.drains("with a certificate that is right")
    checks.check(len(ids("tls")) == 1, "and it is there")


def cancelled_at_any_moment(checks):
    keys = {"conninfo": server.conninfo(host="127.0.0.1", sslmode="disable"), "table": "apart"}
    blocker = checks.start(server.bin / "psql", "-h", server.home, "-p", server.port, "-U", "owner", "-d", "postgres", "-qX",
                           stdin=subprocess.PIPE)
    blocker.stdin.write("BEGIN; LOCK TABLE apart; \\echo locked\n")
    blocker.stdin.flush()
    blocker.stdout.readline()
    sink_harness.cancelled_soon(checks, "while the table is locked", "postgres", keys)
    blocker.kill()
    server.server.process.send_signal(signal.SIGSTOP)
    sink_harness.cancelled_soon(checks, "while connecting to a server that stands still", "postgres", keys)
    server.server.process.send_signal(signal.SIGCONT)
    sink_harness.cancelled_in_connect(checks, "postgres", lambda port: {
        **keys, "conninfo": f"host=127.0.0.1 port={port} user=owner dbname=postgres sslmode=disable"})
    keys["conninfo"] = server.conninfo(host="no.such.host.example")
    sink_harness.cancelled_in_look_up(checks, "postgres", keys)
    quick = site(checks, "unknown", conninfo=keys["conninfo"])
    quick.put("{}")
    quick.is_down("an unknown name", "no.such.host.example")
    timeout = site(checks, "timeout", conninfo=keys["conninfo"], connect_timeout="300ms", env=sink_harness.slow_names(checks))
    timeout.put("{}")
    timeout.is_down("a name server that is silent", "no name server answers")


def needs_no_more_than_it_should(checks):
    one = site(checks, "valgrind")
    one.produce(300)
    sink_harness.leaks(one, "a delivery")
    checks.check(len(ids("valgrind")) == 300, "and all is delivered")
    large = site(checks, "memory", {"batch_events": 4096, "batch_bytes": "4MiB"})
    server.query("CREATE TABLE IF NOT EXISTS memory (LIKE apart INCLUDING ALL)")
    sink_harness.bounded(checks, large, lambda: int(server.query("SELECT count(*) FROM memory")[0]) == 20000)


def as_documented(checks):
    server.query("CREATE DATABASE agents", "postgres")
    sink_harness.manual_example(checks, "postgres", **{"host=/run/postgresql": f"host={server.home} port={server.port} user=owner",
                                                       "psql": f"psql -h {server.home} -p {server.port} -U owner"})
    one = site(checks, "words")
    for words, problem in ((["conninfo=what is this"], "no connection string"), (["create=all"], "conninfo"),
                           (["conninfo=host=/x", "table=a\"b"], "table"), (["conninfo=host=/x", "create=al"], "create"),
                           (["conninfo=service=x"], "service"), (["conninfo=host=/x", "password=abc"], "password")):
        done = harness.run(harness.SPOOL, "-C", one.spool, "sink", "add", "bad", "postgres", *words)
        checks.check(done.returncode != 0 and problem in done.stderr, f"{' '.join(words)} is refused", done.stderr)


def with_a_server(checks):
    global server
    server = Postgres(checks)
    sink_harness.with_server(checks, server, [
        keeps_everything, bodies_that_jsonb_cannot_hold, each_once_after_kills, tells_events_apart, wrong_tables,
        partitions_by_day, secrets_and_certificates, cancelled_at_any_moment, needs_no_more_than_it_should, as_documented])


if __name__ == "__main__":
    sink_harness.main("postgres", [with_a_server])
