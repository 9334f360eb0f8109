"""As much of the NATS protocol as it takes to ask JetStream, and to read a stream to its end whatever its servers do.

A stream is read through pull consumers, a batch at a time: what a server has not been asked for it does not send. (A push
consumer's server cuts a reader off that is slower than it, and a reader in Python always is.) A consumer lives on its
server and dies with it, so the reader knows the sequence number that it has got to, and goes on from there elsewhere."""
import collections
import json
import re
import socket
import time

Message = collections.namedtuple("Message", "subject reply headers payload")
BATCH = 1000


class Client:
    """A connection to one server. EOFError, OSError: the server is gone, or does not answer."""

    def __init__(self, port, timeout=10):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout)
        self.file = self.socket.makefile("rb")
        self.asked = 0
        self.line()
        self.send('CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB inbox.> 1\r\nPING\r\n')
        while self.line()[0] != b"PONG":
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.socket.close()

    def send(self, text):
        self.socket.sendall(text.encode())

    def line(self):
        words = self.file.readline().split()
        if not words:
            raise EOFError("the server is gone")
        if words[0] == b"-ERR":
            raise EOFError(b" ".join(words).decode())
        return words

    def message(self):
        """The next one."""
        while True:
            words = self.line()
            if words[0] == b"PING":
                self.send("PONG\r\n")
            if words[0] in (b"MSG", b"HMSG"):
                return self.body(words)

    def body(self, words):
        with_head = words[0] == b"HMSG"
        size, head = int(words[-1]), int(words[-2]) if with_head else 0
        data = self.file.read(size + 2)
        if len(data) != size + 2:
            raise EOFError("the server is gone in the middle of a message")
        reply = words[3].decode() if len(words) == (6 if with_head else 5) else None
        return Message(words[1].decode(), reply, data[:head].decode(), data[head:-2])

    def request(self, subject, request=None):
        """Sends it; returns where the answers come."""
        self.asked += 1
        inbox, body = f"inbox.{self.asked}", json.dumps(request) if request is not None else ""
        self.send(f"PUB {subject} {inbox} {len(body.encode())}\r\n{body}\r\n")
        return inbox

    def ask(self, subject, request=None):
        """JetStream's answer, or {"error": …}."""
        inbox = self.request("$JS.API." + subject, request)
        answer = self.message()
        while answer.subject != inbox:  # such as the rest of a batch
            answer = self.message()
        return json.loads(answer.payload) if answer.payload else {"error": answer.headers}

    def info(self, stream):
        return self.ask(f"STREAM.INFO.{stream}")

    def must(self, subject, request=None):
        answer = self.ask(subject, request)
        if "error" in answer:
            raise EOFError(f"{subject}: {answer['error']}")
        return answer

    def batches(self, stream, first, last):
        """(sequence number, message) of all from `first` to `last`, by a consumer that is made for it."""
        config = {"ack_policy": "none", "deliver_policy": "by_start_sequence", "opt_start_seq": first, "mem_storage": True,
                  "num_replicas": 1, "inactive_threshold": 60 * 10**9}
        name = self.must(f"CONSUMER.CREATE.{stream}", {"stream_name": stream, "config": config})["name"]
        while first <= last:
            wanted = min(BATCH, last - first + 1)
            self.request(f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", {"batch": wanted, "expires": 5 * 10**9})
            for _ in range(wanted):
                message = self.message()
                place = (message.reply or "").split(".")  # $JS.ACK.STREAM.CONSUMER.deliveries.SEQUENCE.…
                if place[:2] != ["$JS", "ACK"]:  # a status: the request expired, or the consumer is gone
                    raise EOFError(f"instead of a message: {message.headers.strip()}")
                yield int(place[5]), message
                first = int(place[5]) + 1


def read(nodes, stream, patience=60):
    """All messages of a stream as (subject, id, payload), in order; from any of `nodes`, which have a client(), and from the
    next one when that ends. EOFError: none has answered for `patience` seconds."""
    first, last, turn, deadline = 1, None, 0, time.monotonic() + patience
    while last is None or first <= last:
        try:
            with nodes[turn % len(nodes)].client() as client:
                last = last or client.must(f"STREAM.INFO.{stream}")["state"]["last_seq"]
                for sequence, message in client.batches(stream, first, last):
                    id_ = re.search(r"Nats-Msg-Id: *(\S+)", message.headers)
                    yield message.subject, id_.group(1) if id_ else None, message.payload
                    first, deadline = sequence + 1, time.monotonic() + patience
        except (OSError, EOFError) as error:
            if time.monotonic() > deadline:
                raise EOFError(f"stream {stream} from {first} of {last} on: {error}") from error
            turn += 1
            time.sleep(0.1)
