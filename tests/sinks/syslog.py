#!/usr/bin/env python3
"""The syslog sink against rsyslog: over TCP, TLS and a Unix socket, with a server that is stopped and started at random while
100,000 events flow: none lost. One that is killed loses no more than what it had just read, and never what it had not.
Servers that lie, hang or are not there are of our own. EVENTS: 100000; SEED."""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness

EVENTS = int(os.environ.get("EVENTS", 100000))
RSYSLOG = shutil.which("rsyslogd") or "/usr/sbin/rsyslogd"

CONFIG = """
global(workDirectory="{work}" maxMessageSize="64k" parser.escapeControlCharactersOnReceive="off"
       defaultNetstreamDriverCAFile="{work}/ca.pem" defaultNetstreamDriverCertFile="{work}/server.pem"
       defaultNetstreamDriverKeyFile="{work}/server.key")
main_queue(queue.type="Direct")
module(load="imtcp") module(load="imptcp") module(load="imudp") module(load="imuxsock" sysSock.use="off")
input(type="imtcp" address="127.0.0.1" port="{tcp}")
input(type="imtcp" address="127.0.0.1" port="{tls}" streamDriver.name="gtls" streamDriver.mode="1"
      streamDriver.authMode="anon")
input(type="imptcp" path="{work}/stream" unlink="on")
input(type="imuxsock" socket="{work}/datagram")
input(type="imudp" address="127.0.0.1" port="{tcp}")
template(name="all" type="string"
         string="%pri%\\t%timereported:::date-rfc3339%\\t%app-name%\\t%msgid%\\t%structured-data%\\t%msg%\\n")
action(type="omfile" file="{work}/out" template="all" asyncWriting="off" flushOnTXEnd="on" queue.type="Direct")
"""


def openssl(*words, folder):
    subprocess.run(["openssl", *words], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_certificates(folder):
    """A certificate of our own authority for localhost, one for another name, and another authority."""
    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
                "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem", folder=folder)
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=localhost",
            "-keyout", "server.key", "-out", "server.csr", folder=folder)
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30",
            "-extfile", "names", "-out", "server.pem", folder=folder)


class Rsyslog(sink_harness.Server):
    def __init__(self, checks, name):
        self.work, self.read, self.found = checks.dir(name), 0, []
        self.work.mkdir(mode=0o700)
        make_certificates(self.work)
        self.tcp, self.tls = harness.free_port(), harness.free_port()
        (self.work / "conf").write_text(CONFIG.format(work=self.work, tcp=self.tcp, tls=self.tls))
        super().__init__(checks, [RSYSLOG, "-n", "-f", self.work / "conf", "-i", self.work / "pid"], self.is_ready,
                         self.work / "log")

    def start(self, timeout=60):
        (self.work / "pid").unlink(missing_ok=True)
        return super().start(timeout)

    def is_ready(self):
        for port in (self.tcp, self.tls):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return False
        return (self.work / "stream").exists() and (self.work / "datagram").exists()

    def lines(self):
        path = self.work / "out"
        return path.read_text(errors="replace").splitlines() if path.exists() else []

    def ids(self):
        """What has come since the last time is read, since this is asked for often."""
        if (self.work / "out").exists():
            with open(self.work / "out", "rb") as out:
                out.seek(self.read)
                new = out.read()
            whole = new[:new.rfind(b"\n") + 1]
            self.read += len(whole)
            self.found += [id.decode() for id in re.findall(rb'\[spool@32473 id="([^"]*)"', whole)]
        return self.found

    def ways(self):
        """Configurations by name."""
        return {"tcp": {"host": "localhost", "port": self.tcp},
                "tls": {"transport": "tls", "host": "localhost", "port": self.tls, "ca_file": str(self.work / "ca.pem")},
                "unix": {"transport": "unix", "path": str(self.work / "stream")}}


def writes_what_it_should(checks):
    server = Rsyslog(checks, "fields").start()
    events = [{"type": "log.llm_call", "agent": "plan ner", "session": 's"]\\', "priority": "critical", "data": {"a": 1},
               "occurred_at": "2026-01-02T03:04:05.678901234Z"},
              {"type": "t" * 100, "agent": "ä" * 60, "priority": "low", "content_type": "text/plain", "data_base64": "aGk="},
              {"type": "big", "data": "x" * 9000}]
    for way, config in server.ways().items():
        (server.work / "out").unlink(missing_ok=True)  # of which only lines() are asked for
        server.stop(signal.SIGTERM)
        server.start()
        site = sink_harness.Site(checks, f"fields-{way}", "syslog", {**config, "facility": "local3"})
        ids = site.put_events(events)
        site.drains(way)
        lines = [line.split("\t") for line in server.lines()]
        if not checks.check(len(lines) == 2, f"{way}: two messages", str(lines)):
            continue
        first, second = sorted(lines, key=lambda line: line[4].find("log.llm_call"), reverse=True)
        checks.check(first[0] == str(19 * 8 + 2) and second[0] == str(19 * 8 + 7), f"{way}: facility and severity", str(lines))
        checks.check(first[1].startswith("2026-01-02T03:04:05.678901"), f"{way}: the time is when it occurred", first[1])
        checks.check(first[2] == "plan?ner" and first[3] == "log.llm_call" and second[3] == "t" * 32 and
                     second[2] == "?" * 48, f"{way}: names are printable and short enough", str(lines))
        checks.check(first[4] == f'[spool@32473 id="{ids[0]}" type="log.llm_call" agent="plan ner" session="s\\"\\]\\\\"]',
                     f"{way}: structured data", first[4])
        checks.check(json.loads(first[5])["data"] == {"a": 1}, f"{way}: the event is whole", first[5])
        letters = site.dead_letters()
        checks.check(len(letters) == 1 and "message_max is 8192" in letters[0]["reason"], f"{way}: too long a one is refused",
                     str(letters))
    server.stop()


def best_effort_must_be_asked_for(checks):
    server = Rsyslog(checks, "effort").start()
    ways = {"udp": {"host": "localhost", "port": server.tcp}, "unix-datagram": {"path": str(server.work / "datagram")}}
    for way, config in ways.items():
        words = [f"{key}={value}" for key, value in {"transport": way, **config}.items()]
        done = harness.run(harness.SPOOL, "-C", checks.dir("effort-spool"), "sink", "add", "x", "syslog", *words)
        checks.check(done.returncode == 2 and "best effort" in done.stderr, f"{way}: refused unless asked for", done.stderr)
        site = sink_harness.Site(checks, f"effort-{way}", "syslog", {"transport": way, "best_effort": True, **config})
        id = site.put("{}")
        site.drains(way)
        checks.check(harness.wait_until(lambda: id in server.ids()), f"{way}: it arrives, when all is well")
    server.stop()
    never_counts_as_delivered(checks)


def never_counts_as_delivered(checks):
    """To a port where nobody listens: the kernel takes everything, and nothing of it may pass for delivered."""
    nowhere = {"kind": "syslog", "transport": "udp", "host": "127.0.0.1", "port": harness.free_port(), "best_effort": True}
    spool = checks.dir("nowhere")

    def run(*words):
        return harness.run(harness.SPOOL, "-C", spool, *words)

    def group(kind, members, **more):
        return run("sink", "add", kind, kind, f"members={json.dumps(members)}", *[f"{k}={json.dumps(v)}" for k, v in more.items()])

    keeps = {"kind": "file", "path": str(checks.scratch / "kept.jsonl")}
    for refused in (group("quorum", [{"kind": "null"}, nowhere], accept=2), group("quorum", [nowhere]),
                    group("failover", [nowhere, keeps], best_effort=True), group("failover", [keeps, nowhere])):
        checks.check(refused.returncode == 2 and "best effort" in refused.stderr, "a group that would count it is refused",
                     refused.stderr)
    added = [run("sink", "add", "udp", "syslog", *[f"{k}={json.dumps(v)}" for k, v in nowhere.items() if k != "kind"]),
             group("quorum", [keeps, nowhere], accept=1), group("failover", [keeps, nowhere], best_effort=True)]
    checks.check(all(done.returncode == 0 for done in added), "as an extra of a quorum, and as the last of a failover that says so",
                 str([done.stderr for done in added]))
    id = run("put", "{}").stdout.strip()
    run("drain", "--timeout", "30")
    told = {row["sink"]: row["state"] for row in map(json.loads, run("show", "-r", id, "-o", "json").stdout.splitlines())}
    checks.check(told == {"udp": "sent (best effort)", "failover": "sent (best effort)", "quorum": "delivered"}, "receipts", told)
    marked = {row["name"]: row["best_effort"] for row in map(json.loads, run("sinks", "-o", "json").stdout.splitlines())}
    checks.check(marked == {"udp": True, "failover": True, "quorum": False}, "sinks -o json", marked)
    for verb in ("status", "sinks"):
        lines = [line for line in run(verb).stdout.splitlines() if line.split()[:1] in (["udp"], ["failover"])]
        checks.check(len(lines) == 2 and all("1 sent (best effort)" in line for line in lines), f"{verb} says sent", lines)


def speaks_to_the_journal(checks):
    path = checks.dir("journal")
    journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    journal.bind(str(path))
    site = sink_harness.Site(checks, "to-journal", "syslog", {"transport": "journald", "path": str(path), "best_effort": True})
    id = site.put('{"n":1}', "--agent", "a] b", "--priority", "high")
    site.drains("journald")
    data, fields = journal.recv(1 << 20), {}
    while data:
        name, data = data.split(b"\n", 1)
        size = struct.unpack("<Q", data[:8])[0]
        fields[name.decode()], data = data[8:8 + size].decode(), data[8 + size + 1:]
    checks.check(fields.get("PRIORITY") == "4" and fields.get("SPOOL_ID") == id and fields.get("SPOOL_AGENT") == "a] b" and
                 json.loads(fields["MESSAGE"])["data"] == {"n": 1}, "journald's fields", str(fields))


def refuses_what_is_wrong(checks):
    def refused(words, **keys):
        done = harness.run(harness.SPOOL, "-C", checks.dir("refused"), "sink", "add", "x", "syslog",
                           *(f"{key}={json.dumps(value)}" for key, value in keys.items()))
        checks.check(done.returncode == 2 and words in done.stderr, f"refused: {keys}", done.stderr)

    refused('"host" is required')
    refused('"transport"', transport="carrier pigeon")
    refused('"port"', host="h", port=0)
    refused('"colour" is unknown', host="h", colour="red")
    refused('"ca_file" is unknown', host="h", ca_file="/x")
    refused("cert_file", host="h", transport="tls", cert_file="/x")
    refused('"facility"', host="h", facility="local9")
    refused('"message_max"', host="h", message_max=10)
    refused('"path" is required', transport="unix")


def verifies_the_server(checks):
    server = Rsyslog(checks, "verify").start()
    good = server.ways()["tls"]
    cases = {"another authority": ({**good, "ca_file": str(server.work / "other.pem")}, "not trusted"),
             "another name": ({**good, "server_name": "example.org"}, "not trusted"),
             "no such file": ({**good, "ca_file": "/nonexistent"}, "cannot be loaded"),
             "no TLS there": ({**good, "port": server.tcp}, "TLS handshake|no answer")}
    for name, (config, words) in cases.items():
        site = sink_harness.Site(checks, f"verify-{name.replace(' ', '-')}", "syslog", {"io_timeout": "1s", **config})
        site.put("{}")
        site.is_down(name, words)
        if "another" in name:
            state = lambda: harness.status(site.spool)["sinks"][0]["state"]
            checks.check(harness.wait_until(lambda: site.drain(0.4) and state() == "paused"), f"{name}: then it waits for somebody")
    checks.check(not server.ids(), "nothing was sent")
    for name, config in {"an address": {**good, "host": "127.0.0.1"}, "switched off": {**good, "host": "127.0.0.1",
                         "server_name": "example.org", "verify": "none"}}.items():
        site = sink_harness.Site(checks, f"trust-{name.replace(' ', '-')}", "syslog", config)
        site.put("{}")
        site.drains(name)
    server.stop()


class Liar:
    """A server that takes connections and does `act` with each."""

    def __init__(self, act):
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port, self.act = self.socket.getsockname()[1], act
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.act, args=(connection,), daemon=True).start()


def close_with_reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def read_a_little(connection):
    connection.recv(100)
    connection.close()  # with data unread


def close_at_once(connection):
    connection.close()


def read_and_hang(connection):
    while connection.recv(65536):
        pass
    time.sleep(60)


def never_read(connection):
    time.sleep(60)


def believes_no_server_that_has_not_read_all(checks):
    for act, words in ((close_with_reset, "reset|Broken pipe|left before"), (read_a_little, "left before|reset|Broken pipe"),
                       (close_at_once, "left before|reset|Broken pipe"), (read_and_hang, "waiting for the server"),
                       (never_read, "waiting for the server|sending")):
        site = sink_harness.Site(checks, act.__name__, "syslog", {"host": "127.0.0.1", "port": Liar(act).port,
                                                                  "io_timeout": "300ms"})
        site.produce(500)
        site.is_down(act.__name__, words)
        sinks = json.loads(harness.run(harness.SPOOL, "-C", site.spool, "-o", "json", "sinks").stdout.splitlines()[0])
        checks.check(sinks["delivered_events"] == 0 and sinks["pending_events"] == 500, f"{act.__name__}: nothing counts as delivered",
                     str(sinks))


def is_cancelled_soon(checks):
    sink_harness.cancelled_soon(checks, "hang", "syslog", {"host": "127.0.0.1", "port": Liar(never_read).port}, "cancelled")
    sink_harness.cancelled_soon(checks, "tls-hang", "syslog", {"host": "127.0.0.1", "transport": "tls",
                                                               "port": Liar(never_read).port}, "cancelled")
    sink_harness.cancelled_in_connect(checks, "syslog", lambda port: {"host": "127.0.0.1", "port": port}, words="cancelled")
    sink_harness.cancelled_in_look_up(checks, "syslog", {"host": "no.such.host.example", "port": 601}, words="cancelled")


def loses_nothing_when_the_server_comes_and_goes(checks):
    server, rounds = Rsyslog(checks, "random").start(), 4
    share = EVENTS // 3 // (2 * rounds)
    for way, config in server.ways().items():
        site = sink_harness.Site(checks, f"random-{way}", "syslog", config)
        before = len(server.ids())
        counts = [0]

        def while_events_flow():
            site.burst(share)
            sink_harness.flows(lambda: len(server.ids()), site.is_done)
            time.sleep(0.4 * checks.random.random())

        for _ in range(rounds):
            runner = site.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while_events_flow()
            server.stop(signal.SIGTERM)
            counts.append(len(set(server.ids()[before:])))
            time.sleep(0.2 * checks.random.random())
            server.start()
            while_events_flow()
            runner.send_signal(signal.SIGKILL)
            runner.wait()
            counts.append(len(set(server.ids()[before:])))
        site.produced()
        sink_harness.flowed(checks, way, counts, 2 * rounds * share)
        site.drains(way, 120)
        sink_harness.account(checks, way, site.acknowledged(), server.ids()[before:], once=False)
    server.stop()


def a_killed_server_loses_only_what_it_had_read(checks):
    """SIGKILL. Between reading and storing it loses what it has read, at most the batch of the connection, and to us its end
    looks as any other: that is documented, and bounded here. All else comes again."""
    batch, kills = 200, 8
    server = Rsyslog(checks, "killed").start()
    for way, config in server.ways().items():
        site = sink_harness.Site(checks, f"killed-{way}", "syslog", config, {"batch_events": batch})
        before = len(server.ids())
        runner = site.run(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        counts = [before]
        for _ in range(kills):
            site.burst(EVENTS // 3 // kills)
            sink_harness.flows(lambda: len(server.ids()), site.is_done)
            time.sleep(0.3 * checks.random.random())
            server.stop(signal.SIGKILL)
            server.start()
            counts.append(len(server.ids()))
        site.produced()
        runner.send_signal(signal.SIGTERM)
        runner.wait(60)
        site.drains(way, 120)
        checks.check(len(set(counts)) > kills // 2, f"{way}: events flow between the kills", str(counts))
        found, wanted = server.ids()[before:], site.acknowledged()
        lost = len(wanted - set(found))
        checks.check(lost <= kills * batch, f"{way}: at most a batch a kill is lost", f"{lost} in {kills} kills")
        checks.check(not set(found) - wanted, f"{way}: nothing is there that was not enqueued")
        print(f"    {way}: {kills} kills, {lost} of {len(wanted)} lost, {len(found) - len(set(found))} twice")
    server.stop()


def needs_no_more_than_it_should(checks):
    server = Rsyslog(checks, "valgrind").start()
    for way, config in server.ways().items():
        site = sink_harness.Site(checks, f"valgrind-{way}", "syslog", config)
        site.produce(500)
        sink_harness.leaks(site, way)
        large = sink_harness.Site(checks, f"memory-{way}", "syslog", config, {"batch_events": 4096, "batch_bytes": "4MiB"})
        wanted = len(server.ids()) + 20000
        sink_harness.bounded(checks, large, lambda: len(server.ids()) >= wanted)
    server.stop()


def shows_an_example_that_runs(checks):
    server = Rsyslog(checks, "example").start()
    sink_harness.manual_example(checks, "syslog", **{"port=601": f"port={server.tcp}"})
    checks.check(len(server.ids()) == 1, "its event has arrived")
    server.stop()


if __name__ == "__main__":
    sink_harness.main("syslog", [writes_what_it_should, best_effort_must_be_asked_for, speaks_to_the_journal,
                                 refuses_what_is_wrong, verifies_the_server, believes_no_server_that_has_not_read_all,
                                 is_cancelled_soon, loses_nothing_when_the_server_comes_and_goes,
                                 a_killed_server_loses_only_what_it_had_read, needs_no_more_than_it_should,
                                 shows_an_example_that_runs])
