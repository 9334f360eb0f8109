#!/usr/bin/env python3
"""The SNTP source against real chronyd servers on loopback: unprivileged (as `nobody`, when started by root), without
control of the clock (-x), on high ports. One of them lies, by a clock of its own (tests/lab/clockshim); then the program's
wall clock is the wrong one."""
import contextlib
import json
import os
import pathlib
import shutil
import socket
import struct
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

CHRONYD = shutil.which("chronyd", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
SHIM = harness.BUILD / "lab" / "clockshim"
HOUR = 3600


def answers(port):
    """Asks by hand, as a client of version 4 would."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(0.2)
        sock.connect(("127.0.0.1", port))
        try:
            sock.send(b"\x23" + bytes(39) + os.urandom(8))
            return len(sock.recv(1024)) >= 48
        except OSError:
            return False


def shim(checks, name, offset_s):
    path = checks.dir(name + ".offset")
    path.write_bytes(struct.pack("<q", int(offset_s * 1e9)))
    path.chmod(0o644)
    return {**os.environ, "LD_PRELOAD": str(SHIM), "CLOCKSHIM": str(path)}


def server(checks, name, stratum=3, env=None):
    """A chronyd that serves its own clock. Returns (port, process)."""
    home, port = checks.dir(name), harness.free_port(socket.SOCK_DGRAM)
    home.mkdir()
    (home / "conf").write_text(f"port {port}\nbindaddress 127.0.0.1\nallow 127/8\nlocal stratum {stratum}\ncmdport 0\n"
                               f"bindcmdaddress /\npidfile {home}/pid\n")
    drop = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    if drop:
        os.chown(home, 65534, 65534)
        os.chmod(checks.scratch, 0o711)
    child = checks.start(CHRONYD, "-x", "-d", "-U", "-f", home / "conf", env=env, **drop)
    if not harness.wait_until(lambda: answers(port) or child.poll() is not None, 60) or child.poll() is not None:
        child.kill()
        raise RuntimeError(f"chronyd does not serve: {child.communicate()}")
    return f"127.0.0.1:{port}", child


def clock(spool, *words, env=None):
    """What `spool clock` says: ({source: row}, the reading)."""
    done = harness.run(harness.SPOOL, "-C", spool, "-o", "json", "clock", "--timeout", "30s", *words, env=env)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    if done.returncode or not rows:
        raise RuntimeError(f"spool clock: {done.returncode}: {done.stderr}")
    return {row["source"]: row for row in rows[:-1]}, rows[-1]


def new_spool(checks, name):
    path = checks.dir(name)
    harness.run(harness.SPOOL, "-C", path, "put", "x")
    return path


def seconds(text):
    """Since 1970, of an RFC 3339 time in UTC with nine decimals."""
    import datetime
    whole = datetime.datetime.fromisoformat(text[:19] + "+00:00").timestamp()
    return whole + float("0" + text[19:-1])


def one_server(checks):
    spool, (name, child) = new_spool(checks, "one"), server(checks, "a", 3)
    before = time.time()
    rows, reading = clock(spool, "--server", name)
    after = time.time()
    row = rows[name]
    checks.check(row["verdict"] == "agrees" and row["chosen"], "chronyd answers, and is chosen", str(row))
    checks.check(row["stratum"] == 3, "its stratum is what it was told", str(row))
    checks.check(abs(row["offset_ns"]) <= row["error_ns"], "its offset is within its error, for it has our clock", str(row))
    checks.check(reading["status"] == "synchronised", "the clock is synchronised", str(reading))
    checks.check(seconds(reading["earliest"]) <= after and before <= seconds(reading["latest"]),
                 "the true time is in the interval", str(reading))
    checks.check(0 < reading["confidence"] < 1, "confidence lies between", str(reading))
    child.terminate()
    child.wait(30)
    rows, reading = clock(spool, "--server", name)
    checks.check(rows[name]["verdict"] == "unreachable" and rows[name]["last_error"], "stopped, it is unreachable", str(rows[name]))
    checks.check(reading["error_ns"] is None or rows["kernel"]["verdict"] == "agrees", "then nobody vouches for the time", str(reading))


def one_of_three_lies(checks):
    spool = new_spool(checks, "three")
    honest = [server(checks, f"honest{i}")[0] for i in range(2)]
    liar = server(checks, "liar", 1, env=shim(checks, "liar", HOUR))[0]
    words = [word for name in honest + [liar] for word in ("--server", name)]
    rows, reading = clock(spool, *words)
    checks.check(rows[liar]["verdict"] == "falseticker", "the one that lies is named", str(rows[liar]))
    checks.check(abs(rows[liar]["offset_ns"] / 1e9 - HOUR) < 60, "with how far it is off", str(rows[liar]))
    checks.check(all(rows[name]["verdict"] == "agrees" for name in honest), "the honest ones agree", str(rows))
    checks.check(reading["agreeing"] == reading["voting"] - 1 >= 2, "by a majority", str(reading))
    text = harness.run(harness.SPOOL, "-C", spool, "clock", *words).stdout
    checks.check("falseticker" in text and "synchronised" in text, "so it is shown to people", text)
    wrong = shim(checks, "program", -HOUR)
    _, reading = clock(spool, *words[:4], env=wrong)
    checks.check(abs(seconds(reading["time"]) - time.time()) < 60, "a wall clock that is an hour late is found out", str(reading))
    checks.check(abs(reading["wall_offset_ns"] / 1e9 - HOUR) < 60, "and by how much", str(reading))


def threads_of(pid):
    """Their names. One may end while they are looked at."""
    names = []
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                names.append((task / "comm").read_text().strip())
    return names


def by_configuration(checks):
    """A program of that configuration asks on a thread of its own; spool clock -c asks the same servers."""
    path, name = checks.dir("configured"), server(checks, "c")[0]
    config = checks.dir("spool.json")
    config.write_text(json.dumps({"spool": {"dir": str(path)}, "sinks": [{"name": "n", "kind": "null"}],
                                  "clock": {"drift_ppm": 100, "servers": [{"server": name, "poll": "16s", "preference": 3}]}}))
    child = checks.start(harness.SPOOL, "run", "-c", config)
    threads = lambda: threads_of(child.pid)
    checks.check(harness.wait_until(lambda: child.poll() is None and "spool-clock" in threads(), 60), "it has the thread")
    rows, _ = clock(path, "-c", config)
    checks.check(rows[name]["verdict"] == "agrees" and rows[name]["preference"] == 3, "-c asks its servers", str(rows))
    child.terminate()
    checks.check(child.wait(60) == 0, "and ends at once")
    config.write_text('{"spool": {"dir": "%s"}, "sinks": [{"name": "n", "kind": "null"}]}' % path)
    child = checks.start(harness.SPOOL, "run", "-c", config)
    harness.wait_until(lambda: len(threads()) > 3, 60)
    checks.check("spool-clock" not in threads(), "without servers there is no thread", str(threads()))
    child.terminate()
    child.wait(60)


if __name__ == "__main__":
    if not SHIM.exists() or not CHRONYD:
        print(f"FAILED: there is no {'chronyd: make deps' if SHIM.exists() else f'{SHIM}: make labs'}")
        print("RESULT 0 1")
        sys.exit(1)
    harness.main("sntp", [one_server, one_of_three_lies, by_configuration])
