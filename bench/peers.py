"""The servers that the library is measured beside: found or unpacked, started on loopback, stopped by their pids.

A peer that is not installed is fetched with `apt-get download` and unpacked below build/bench/peers, so that nothing
of the machine changes (rsyslog and syslog-ng could not both be installed); FLUENT_BIT and NATS_SERVER name what Debian
does not have (sources.py). One that cannot be had is skipped with its reason. Every server listens on 127.0.0.1 only, on
a port that was free, in a directory of its own. The configuration that is used is what `settings` says, and is shown
beside the figures."""
import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time

import sources
from place import ENDS_WITH_US

LIBRARIES = "lib/x86_64-linux-gnu"
START_SECONDS = 30


class Unavailable(Exception):
    """Why a peer is left out."""


def free_ports():
    """A port that is free, and so is the next one."""
    for _ in range(100):
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
            try:
                two.bind(("127.0.0.1", port + 1))
            except OSError:
                continue
            return port
    raise Unavailable("no free ports")


def last_line(text, otherwise):
    """What a program said at last; or what else there is to say."""
    return (text.strip().splitlines() or [otherwise])[-1]


class Room:
    """Where unpacked packages lie, and what the programs in them need to run."""

    def __init__(self, build, download):
        self.out, self.download = os.path.abspath(os.path.join(build, "bench")), download
        self.root = os.path.join(self.out, "peers")
        self.missing = {}  # packages that could not be had, and why: asked for once, not for every run
        found = [os.path.join(self.root, "usr", LIBRARIES), os.path.join(self.root, LIBRARIES)]
        found += [os.path.join(self.root, "usr", LIBRARIES, "syslog-ng"), os.path.join(self.root, "usr/lib/syslog-ng")]
        self.env = dict(os.environ, LD_LIBRARY_PATH=":".join(found), LC_ALL="C")

    def find(self, program, packages):
        """The path of a program; if it is nowhere, its packages are unpacked first."""
        places = ["/usr/sbin", "/usr/bin", "/usr/lib/postgresql/*/bin"]
        patterns = places + [self.root + place for place in places]
        for attempt in (False, True):
            if attempt and not packages:
                raise Unavailable(f"{program} is not installed, nor in Debian: a variable may name it (bench/run.py)")
            if attempt:
                self.unpack(packages)
            hits = [path for pattern in patterns for path in sorted(glob.glob(os.path.join(pattern, program)))]
            if hits:
                return hits[0]
        raise Unavailable(f"no {program} in {' '.join(packages)}")

    def given(self, variable):
        """What the environment names instead of Debian's, or ""."""
        try:
            return sources.given(variable, self.out) if variable else ""
        except sources.BuildError as reason:
            raise Unavailable(str(reason)) from reason

    def unpack(self, packages):
        if not self.download:
            raise Unavailable("not installed, and BENCH_DOWNLOAD=0")
        if packages not in self.missing:
            self.missing[packages] = self.trouble_unpacking(packages)
        if self.missing[packages]:
            raise Unavailable(self.missing[packages])

    def trouble_unpacking(self, packages):
        os.makedirs(self.root, exist_ok=True)
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            return "not installed, and there is no apt-get"
        done = subprocess.run(["apt-get", "-q", "download", *packages], cwd=self.root, capture_output=True, text=True)
        if done.returncode:
            return "cannot be downloaded: " + last_line(done.stderr, f"apt-get ended with {done.returncode}")
        for deb in glob.glob(os.path.join(self.root, "*.deb")):
            done = subprocess.run(["dpkg", "-x", deb, self.root], capture_output=True, text=True)
            if done.returncode:
                return "cannot be unpacked: " + last_line(done.stderr, f"dpkg ended with {done.returncode}")
            os.remove(deb)
        return ""

    def version(self, command):
        done = subprocess.run(command, env=self.env, capture_output=True, text=True)
        line = ((done.stdout or done.stderr).strip().splitlines() or [""])[0]
        return " ".join(line.split(" sha=")[0].split(" (aka")[0].split())


class Server:
    """One peer. `start` gives the address for the bench program; `stop` ends what was started."""
    program, packages, settings, version_flag = "", (), "", "--version"
    variable = ""  # of the environment, that names another one
    stop_signal = signal.SIGTERM

    def __init__(self, room):
        self.room = room
        self.path = room.given(self.variable) or room.find(self.program, self.packages)
        self.version = room.version([self.path, self.version_flag])
        self.process = None

    def command(self, directory, port):
        raise NotImplementedError

    def start(self, directory):
        os.makedirs(directory, exist_ok=True)
        port = free_ports()
        with open(os.path.join(directory, "log"), "wb") as log:
            self.process = subprocess.Popen([*ENDS_WITH_US, *self.command(directory, port)], cwd=directory, env=self.room.env,
                                            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        self.await_port(port, os.path.join(directory, "log"))
        return f"127.0.0.1:{port}"

    def await_port(self, port, log):
        deadline = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 0.2).close()
                return
            except OSError:
                time.sleep(0.02)
        self.stop()
        with open(log, encoding="utf-8", errors="replace") as text:
            raise Unavailable(f"{self.program} did not start: {last_line(text.read(), 'nothing in its log')}")

    def cpu_seconds(self):
        """Of the server and its children, which a case's own figure does not see."""
        ticks = 0
        pids = {self.process.pid}
        for stat in glob.glob("/proc/[0-9]*/stat"):
            try:
                with open(stat, encoding="utf-8", errors="replace") as file:
                    fields = file.read().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(stat.split("/")[2]) in pids or int(fields[1]) in pids:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None


class Redis(Server):
    program, packages = "redis-server", ("redis-server", "redis-tools", "libjemalloc2", "liblua5.1-0", "liblzf1")
    settings = "appendonly yes, appendfsync always, save off, 127.0.0.1 by TCP"

    def command(self, directory, port):
        return [self.path, "--port", str(port), "--bind", "127.0.0.1", "--dir", directory, "--appendonly", "yes",
                "--appendfsync", "always", "--save", "", "--daemonize", "no", "--auto-aof-rewrite-percentage", "0"]


class Beanstalkd(Server):
    program, packages, version_flag = "beanstalkd", ("beanstalkd",), "-v"
    settings = "-f0: fsync after each job; -z 1 MiB jobs"

    def command(self, directory, port):
        return [self.path, "-l", "127.0.0.1", "-p", str(port), "-b", directory, "-f0", "-z", "1048576"]


class Nats(Server):
    program, packages, variable = "nats-server", ("nats-server",), "NATS_SERVER"
    settings = "JetStream, file storage, sync_interval by default (2 min)"
    sync = ""

    def command(self, directory, port):
        config = os.path.join(directory, "nats.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{directory}/js", max_file_store: 64G\n'
                       f'{self.sync}}}\nmax_payload: 1MB\n')
        return [self.path, "-c", config]


class NatsAlways(Nats):
    settings = "JetStream, file storage, sync_interval: always"
    sync = "sync_interval: always\n"

    def __init__(self, room):
        super().__init__(room)
        if tuple(int(part) for part in self.version.split("v")[-1].split(".")[:2]) < (2, 10):
            raise Unavailable(f"{self.version} has no sync_interval: 2.10 has; NATS_SERVER names one")


class Postgres(Server):
    program = "postgres"
    packages = ("postgresql-15", "libpq5", "libicu72", "libxml2", "libxslt1.1", "libldap-2.5-0")
    settings = "fsync on, synchronous_commit on, wal_sync_method fdatasync, 127.0.0.1 by TCP, its other defaults"

    def as_user(self, command, directory):
        """PostgreSQL refuses to run as root."""
        if os.getuid():
            return command
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError as reason:
            raise Unavailable("postgres does not run as root, and there is no user nobody") from reason
        shutil.chown(directory, nobody.pw_uid, nobody.pw_gid)
        # Another user, and the kernel forgets what was asked for before.
        return [*ENDS_WITH_US, "--reuid", str(nobody.pw_uid), "--regid", str(nobody.pw_gid), "--clear-groups", *command]

    def command(self, directory, port):
        data = os.path.join(directory, "data")
        initdb = [os.path.join(os.path.dirname(self.path), "initdb"), "-D", data, "-U", "bench", "-A", "trust", "-N"]
        done = subprocess.run(self.as_user(initdb, directory), cwd="/", env=self.room.env, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable("initdb: " + last_line(done.stderr, "failed"))
        return self.as_user([self.path, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", directory, "-c", "fsync=on",
                             "-c", "synchronous_commit=on", "-c", "wal_sync_method=fdatasync"], directory)


class Relay(Server):
    """What it still holds would keep it from ending soon, and nobody wants it any more."""
    stop_signal = signal.SIGKILL


class Rsyslog(Relay):
    program, packages, version_flag = "rsyslogd", ("rsyslog", "libestr0", "libfastjson4", "liblognorm5"), "-v"
    settings = "main queue of type Disk, queue.syncQueueFiles on, queue.checkpointInterval 1; imptcp in, omfwd out"

    def command(self, directory, port):
        config = os.path.join(directory, "rsyslog.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'global(workDirectory="{directory}" maxMessageSize="128k")\n'
                       f'main_queue(queue.type="Disk" queue.filename="main" queue.syncQueueFiles="on" '
                       f'queue.checkpointInterval="1" queue.maxDiskSpace="8g" queue.size="10000000")\n'
                       f'module(load="imptcp")\ninput(type="imptcp" address="127.0.0.1" port="{port}" socketBacklog="128")\n'
                       f'action(type="omfwd" target="127.0.0.1" port="{port + 1}" protocol="tcp" '
                       f'action.resumeInterval="1" action.resumeRetryCount="-1")\n')
        modules = glob.glob(os.path.join(self.room.root, "usr", LIBRARIES, "rsyslog")) + ["/usr/lib/x86_64-linux-gnu/rsyslog"]
        return [self.path, "-n", "-f", config, "-i", os.path.join(directory, "pid"), "-M", modules[0]]


class SyslogNg(Relay):
    program = "syslog-ng"
    packages = ("syslog-ng-core", "libivykis0", "libnet1", "libjson-c5", "libwrap0")
    settings = "disk-buffer reliable(yes), flow-control; it writes its buffer without flushing"

    def command(self, directory, port):
        config = os.path.join(directory, "syslog-ng.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f'@version: 3.38\noptions {{ stats-freq(0); log-msg-size(131072); time-reopen(1); }};\n'
                       f'source s {{ network(ip("127.0.0.1") port({port}) transport("tcp") max-connections(128) '
                       f'log-iw-size(12800)); }};\n'
                       f'destination d {{ network("127.0.0.1" port({port + 1}) transport("tcp") disk-buffer(reliable(yes) '
                       f'disk-buf-size(2147483648) mem-buf-size(16777216) dir("{directory}"))); }};\n'
                       f'log {{ source(s); destination(d); flags(flow-control); }};\n')
        modules = glob.glob(os.path.join(self.room.root, "usr", "lib", "syslog-ng", "*"))
        place = ["--module-path", modules[0]] if modules else []
        return [self.path, "-F", "--no-caps", "-f", config, "-R", directory + "/persist", "-c", directory + "/ctl",
                "-p", directory + "/pid", *place]


class FluentBit(Relay):
    """Not in Debian."""
    program, variable = "fluent-bit", "FLUENT_BIT"
    settings = "storage.type filesystem, storage.sync full; tcp in, tcp out, flush 0.1 s"

    def command(self, directory, port):
        config = os.path.join(directory, "fluent-bit.conf")
        with open(config, "w", encoding="utf-8") as file:
            file.write(f"[SERVICE]\n  flush 0.1\n  storage.path {directory}/chunks\n  storage.sync full\n"
                       f"[INPUT]\n  name tcp\n  listen 127.0.0.1\n  port {port}\n  format json\n  buffer_size 256\n"
                       f"  storage.type filesystem\n[OUTPUT]\n  name tcp\n  match *\n  host 127.0.0.1\n"
                       f"  port {port + 1}\n  format json_lines\n  retry_limit no_limits\n")
        return [self.path, "-c", config]


SERVERS = {"redis": Redis, "beanstalkd": Beanstalkd, "nats": Nats, "nats_always": NatsAlways, "postgres": Postgres,
           "rsyslog": Rsyslog, "syslog_ng": SyslogNg, "fluent_bit": FluentBit}
