"""Stands between a sink and a NATS server, and keeps what both say: which messages the server has acknowledged is known then
whatever becomes of it, and of them."""
import re
import select
import socket
import threading

import harness

PUBLISHED = re.compile(rb"^HPUB \S+ (\S+) \d+ \d+\r\nNATS/1\.0\r\n(?:[^\r\n]+\r\n)*?Nats-Msg-Id: *(\S+)\r\n", re.MULTILINE)
ANSWERED = re.compile(rb"^MSG (\S+) \S+ +\d+\r\n(\{[^\r\n]*\})\r\n", re.MULTILINE)


class Witness:
    def __init__(self, checks, name, to):
        self.folder, self.to, self.port, self.connections = checks.dir(name), to, harness.free_port(), 0
        self.folder.mkdir()
        self.listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def url(self):
        return f"nats://127.0.0.1:{self.port}"

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.to))
            except OSError:
                near.close()  # the server is down
                continue
            self.connections += 1
            threading.Thread(target=self.carry, args=(near, far, self.connections), daemon=True).start()

    def carry(self, near, far, number):
        """Both ways, until either ends. What the server says is kept before it is passed on."""
        with near, far, open(self.folder / f"{number}.near", "wb", 0) as said, open(self.folder / f"{number}.far", "wb", 0) as told:
            try:
                while True:
                    for ready in select.select([near, far], [], [])[0]:
                        data = ready.recv(1 << 16)
                        if not data:
                            return
                        (said if ready is near else told).write(data)
                        (far if ready is near else near).sendall(data)
            except OSError:
                pass  # a reset is an end as good as any

    def acknowledged(self):
        """The ids of the messages that the server said it had stored."""
        ids = set()
        for told in self.folder.glob("*.far"):
            published = dict(PUBLISHED.findall(told.with_suffix(".near").read_bytes()))
            for inbox, answer in ANSWERED.findall(told.read_bytes()):
                if inbox in published and b'"seq":' in answer and b'"error":' not in answer:
                    ids.add(published[inbox].decode())
        return ids

    def end(self):
        self.listener.close()
