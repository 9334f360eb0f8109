"""An HTTP/1.1 server for the tests of sinks that can misbehave in every way, and reading back what it was sent.

A handler gets each request and returns what is answered: a status, (status, headers, body), or a function that is given the
connected socket and does with it what it likes; the connection is closed behind it. `stop()` cuts all connections at
once, as a killed server does; `start()` listens again on the same port.
"""
import base64
import gzip
import json
import random
import socket
import struct
import subprocess
import threading
import time

import harness


class Request:
    """One request: header names in lower case, the body without its content coding."""

    def __init__(self, line, headers, raw):
        self.method, self.path = (line.split(" ") + ["", ""])[:2]
        self.headers, self.raw, self.at = headers, raw, time.monotonic()
        self.body = decode(raw, headers.get("content-encoding"))

    def events(self):
        """What the request holds, as CloudEvents in JSON (ndjson: as native JSON)."""
        kind = self.headers.get("content-type", "").split(";")[0]
        if "ce-id" in self.headers:
            attributes = {name[3:]: percent(value) for name, value in self.headers.items() if name.startswith("ce-")}
            return [{**attributes, "datacontenttype": self.headers.get("content-type"), "body": self.body}]
        if kind == "application/cloudevents+json":
            return [json.loads(self.body)]
        if kind == "application/cloudevents-batch+json":
            return json.loads(self.body)
        return [json.loads(line) for line in self.body.splitlines()]

    def ids(self):
        return [event["id"] for event in self.events()]


def percent(text):
    """Header values of CloudEvents, decoded."""
    out, at, raw = bytearray(), 0, text.encode("latin-1")
    while at < len(raw):
        if raw[at:at + 1] == b"%":
            out.append(int(raw[at + 1:at + 3], 16))
            at += 3
        else:
            out.append(raw[at])
            at += 1
    return out.decode()


def decode(raw, coding):
    if coding == "gzip":
        return gzip.decompress(raw)
    if coding == "zstd":
        return subprocess.run(["zstd", "-dcq"], input=raw, stdout=subprocess.PIPE, check=True).stdout
    return raw


def data_of(event):
    """The body of a CloudEvent in JSON as bytes, whichever way it is in there; None if it has none."""
    if "data_base64" in event:
        return base64.b64decode(event["data_base64"], validate=True)
    if "data" not in event:
        return None
    data = event["data"]
    return data.encode() if isinstance(data, str) else json.dumps(data, separators=(",", ":")).encode()


def answer_bytes(status, headers=None, body=b""):
    lines = [f"HTTP/1.1 {status} Something"] + [f"{name}: {value}" for name, value in (headers or {}).items()]
    if status >= 200 and status != 204 and not any(name.lower() == "content-length" for name in headers or {}):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Server:
    def __init__(self, handler, backlog=128, context=None):
        self.handler, self.backlog, self.context = handler, backlog, context
        self.requests, self.connections, self.port = [], 0, harness.free_port()
        self.lock = threading.Lock()
        self.open_sockets = set()
        self.listener = None
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/in"

    def start(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(self.backlog)
        self.listener = listener
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def stop(self):
        listener, self.listener = self.listener, None
        if listener:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        with self.lock:
            cut, self.open_sockets = self.open_sockets, set()
        for connection in cut:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                if self.listener is not listener:
                    connection.close()
                    return
                self.connections += 1
                self.open_sockets.add(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = connection.makefile("rb")
        try:
            while self.exchange(connection, reader):
                pass
        except (OSError, ValueError):
            pass  # the sink gave up, or we were stopped
        finally:
            with self.lock:
                self.open_sockets.discard(connection)
            reader.close()
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            connection.close()

    def exchange(self, connection, reader):
        """Reads one request and answers it. False: the connection is over."""
        line = reader.readline().decode("latin-1").strip()
        if not line:
            return False
        headers = {}
        while (header := reader.readline().decode("latin-1").strip()):
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        raw = reader.read(int(headers.get("content-length", 0)))
        if len(raw) < int(headers.get("content-length", 0)):
            return False
        request = Request(line, headers, raw)
        with self.lock:
            self.requests.append(request)
        answer = self.handler(request)
        if callable(answer):
            answer(connection)
            return False
        answer = answer if isinstance(answer, tuple) else (answer,)
        connection.sendall(answer_bytes(*answer))
        return True


OK = b"HTTP/1.1 200 OK\r\n"


def reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def send(*pieces, pause=0.0, then=None):
    """Sends raw bytes and closes."""
    def act(connection):
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        if then:
            then(connection)
    return act


def slowly(request):
    """A handler whose answers take half a minute."""
    return send(OK + b"Content-Length: 100000\r\n\r\n", *[b"x"] * 3000, pause=0.01)


class Unsteady:
    """Keeps what it took by id, as a far side that can tell events apart; dies and breaks off at random."""

    def __init__(self, seed, ids=Request.ids):
        self.ids, self.random, self.lock = ids, random.Random(seed), threading.Lock()
        self.taken, self.repeated, self.steady = {}, 0, False
        self.server = Server(self.handle)

    def take(self, ids):
        with self.lock:
            for i in ids:
                self.repeated += i in self.taken
                self.taken[i] = self.taken.get(i, 0) + 1

    def handle(self, request):
        with self.lock:
            dice = 1.0 if self.steady else self.random.random()
        if dice < 0.05:
            return send()
        if dice < 0.08:
            return 503, {"Retry-After": "0"}
        if dice < 0.10:
            return 500
        self.take(self.ids(request))
        if dice < 0.15:
            return send(OK + b"Content-Le", then=reset)
        return 200

    def live(self, stop):
        while not stop.wait(self.random.uniform(0.05, 0.5)):
            self.server.stop()
            if stop.wait(self.random.uniform(0.0, 0.3)):
                break
            self.server.start()
        if not self.server.listener:
            self.server.start()
        self.steady = True
