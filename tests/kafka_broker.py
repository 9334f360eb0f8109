"""A Kafka broker for tests, of one node and one topic, in memory: what librdkafka's mock cluster does not do. It knows an
idempotent producer's messages again, and keeps transactions: what consumers that read committed messages see, `committed()`,
and all that was stored, `records`. A newer producer with the same transactional id fences the older one.

`fault(api, kind, ...)` is what happens to the next request of that kind: ("error", CODE) is answered and nothing done; ("hold",
EVENT) waits for a threading.Event first; ("lose",) is done, and the connection closed instead of an answer; ("drop",) closes
it before."""
import collections
import contextlib
import dataclasses
import socket
import struct
import threading
import time

PRODUCE, METADATA, FIND_COORDINATOR, API_VERSIONS, INIT_PRODUCER_ID, ADD_PARTITIONS, END_TXN = 0, 3, 10, 18, 22, 24, 26
VERSIONS = {PRODUCE: (3, 3), 1: (4, 4), METADATA: (1, 1), FIND_COORDINATOR: (0, 1), API_VERSIONS: (0, 0),
            INIT_PRODUCER_ID: (0, 3), ADD_PARTITIONS: (0, 0), END_TXN: (0, 1)}
OUT_OF_ORDER, INVALID_EPOCH, INVALID_TXN_STATE, INVALID_MAPPING, FENCED, TOO_LARGE, NOT_COORDINATOR = 45, 47, 48, 49, 90, 10, 16
UNSUPPORTED_VERSION, AUTHORIZATION = 35, 53


@dataclasses.dataclass
class Record:
    """A message. `state` is "open" in a transaction, then "committed" or "aborted"."""
    partition: int
    key: str
    value: str
    id: str
    producer: int
    transaction: int  # 0: none
    state: str


@dataclasses.dataclass
class Producer:
    """`open`: the number of its transaction, 0: none. `last`: of each partition, its last set's first sequence and length."""
    id: int
    epoch: int = 0
    open: int = 0
    partitions: set = dataclasses.field(default_factory=set)
    last: dict = dataclasses.field(default_factory=dict)


class Reader:
    """A request, field by field."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        self.at += size
        return self.data[self.at - size:self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(form)))[0]

    def text(self):
        size = self.number("h")
        return None if size < 0 else self.take(size).decode()

    def varint(self):
        """Zigzag."""
        raw = self.uvarint()
        return (raw >> 1) ^ -(raw & 1)

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def compact_text(self):
        size = self.uvarint()
        return None if size == 0 else self.take(size - 1).decode()

    def bytes_or_none(self):
        size = self.varint()
        return None if size < 0 else self.take(size)


def text(value):
    return struct.pack(">h", -1) if value is None else struct.pack(">h", len(value)) + value.encode()


def array(items):
    return struct.pack(">i", len(items)) + b"".join(items)


def record_of(reader, partition, producer, transaction):
    reader.varint()  # its size
    reader.take(1)
    reader.varint(), reader.varint()
    key, value = reader.bytes_or_none(), reader.bytes_or_none()
    headers = {reader.take(reader.varint()): reader.bytes_or_none() for _ in range(reader.varint())}
    return Record(partition, (key or b"").decode(), (value or b"").decode(), headers[b"id"].decode(), producer, transaction,
                  "open" if transaction else "committed")


class Broker:
    """Listens at once; `server` is its address. Everything behind the lock."""

    def __init__(self, topic, partitions=4):
        self.topic, self.partitions = topic, partitions
        self.lock = threading.Lock()
        self.records, self.faults, self.requests = [], collections.defaultdict(collections.deque), collections.Counter()
        self.producers, self.transactional, self.transactions = {}, {}, 0
        self.commit_s = 0  # what the end of a transaction takes
        self.refused = None  # a text: sets of messages that hold it are refused as too large
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.server = f"127.0.0.1:{self.port}"
        self.accepting = threading.Thread(target=self.accept, daemon=True)
        self.accepting.start()

    # ------------------------------------------------------------------------------------------------- what tests ask

    def fault(self, api, *fault):
        with self.lock:
            self.faults[api].append(fault)

    def clear(self):
        with self.lock:
            self.faults.clear()

    def committed(self):
        """What a consumer that reads what is committed gets: of each partition, up to the first message that may still be
        aborted."""
        with self.lock:
            stuck, seen = set(), []
            for record in self.records:
                if record.state == "open":
                    stuck.add(record.partition)
                elif record.state == "committed" and record.partition not in stuck:
                    seen.append(record)
            return seen

    def stored(self):
        with self.lock:
            return list(self.records)

    def fence(self, transactional_id):
        """As another producer's first step with that id."""
        with self.lock:
            self.init(transactional_id, -1)

    def end(self):
        """Whoever waits in accept() is woken first: else it might accept for the next broker, which gets the same descriptor."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.accepting.join()
        self.listener.close()

    # ---------------------------------------------------------------------------------------------------- connections

    def accept(self):
        while True:
            try:
                near = self.listener.accept()[0]
            except OSError:
                return
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(near,), daemon=True).start()

    def serve(self, near):
        with near, near.makefile("rb") as stream, contextlib.suppress(OSError):
            while self.answer(near, stream):
                pass

    def answer(self, near, stream):
        head = stream.read(4)
        if len(head) < 4:
            return False
        reader = Reader(stream.read(struct.unpack(">i", head)[0]))
        api, version, number = reader.number("h"), reader.number("h"), reader.number("i")
        reader.text()  # client.id
        with self.lock:
            self.requests[api] += 1
            fault = self.faults[api].popleft() if self.faults[api] else ("none",)
        if fault[0] == "drop":
            return False
        if fault[0] == "hold":
            fault[1].wait()
        if api == END_TXN:
            time.sleep(self.commit_s)
        with self.lock:
            body = self.handle(api, version, reader, fault[1] if fault[0] == "error" else 0)
        if fault[0] == "lose":
            return False
        out = struct.pack(">i", number) + body
        near.sendall(struct.pack(">i", len(out)) + out)
        return True

    def handle(self, api, version, reader, error):
        handlers = {API_VERSIONS: self.api_versions, METADATA: self.metadata, FIND_COORDINATOR: self.find_coordinator,
                    INIT_PRODUCER_ID: self.init_producer_id, PRODUCE: self.produce, ADD_PARTITIONS: self.add_partitions,
                    END_TXN: self.end_txn}
        return handlers[api](version, reader, error)

    # ------------------------------------------------------------------------------------------------------- requests

    def api_versions(self, version, reader, error):
        del reader, error
        return struct.pack(">h", 0 if version == 0 else UNSUPPORTED_VERSION) + array(
            [struct.pack(">hhh", api, low, high) for api, (low, high) in VERSIONS.items()])

    def metadata(self, version, reader, error):
        del version, reader, error
        node = struct.pack(">i", 1) + text("127.0.0.1") + struct.pack(">i", self.port) + text(None)
        parts = [struct.pack(">hii", 0, i, 1) + array([struct.pack(">i", 1)]) * 2 for i in range(self.partitions)]
        topic = struct.pack(">h", 0) + text(self.topic) + b"\0" + array(parts)
        return array([node]) + struct.pack(">i", 1) + array([topic])

    def find_coordinator(self, version, reader, error):
        del reader
        assert version == 1
        return struct.pack(">ih", 0, error) + text(None) + struct.pack(">i", 1) + text("127.0.0.1") + struct.pack(">i", self.port)

    def init_producer_id(self, version, reader, error):
        assert version == 3
        reader.uvarint()  # tags of the header
        transactional_id = reader.compact_text()
        reader.number("i")
        pid, epoch = reader.number("q"), reader.number("h")
        known = self.transactional.get(transactional_id)
        if not error and pid >= 0 and (not known or (known.id, known.epoch) != (pid, epoch)):
            error = FENCED
        producer = Producer(-1, -1) if error else self.init(transactional_id, pid)
        return b"\0" + struct.pack(">ihqh", 0, error, producer.id, producer.epoch) + b"\0"

    def init(self, transactional_id, pid):
        """The producer that has that id from now on; what is open of the one before is aborted."""
        producer = self.transactional.get(transactional_id) if transactional_id else None
        if producer:
            self.finish(producer, "aborted")
            producer = dataclasses.replace(producer, epoch=producer.epoch + 1, last={}, partitions=set())
        producer = producer or Producer(1000 + len(self.producers))
        self.producers[producer.id] = producer
        if transactional_id:
            self.transactional[transactional_id] = producer
        return producer

    def finish(self, producer, state):
        for record in self.records:
            if producer.open and record.transaction == producer.open:
                record.state = state
        producer.open, producer.partitions = 0, set()

    def judge(self, transactional_id, pid, epoch):
        """The producer, and what is wrong with it."""
        producer = self.producers.get(pid)
        if not producer or (transactional_id and self.transactional.get(transactional_id) is not producer):
            return producer, INVALID_MAPPING
        return producer, INVALID_EPOCH if epoch != producer.epoch else 0

    def add_partitions(self, version, reader, error):
        del version
        transactional_id, pid, epoch = reader.text(), reader.number("q"), reader.number("h")
        topics = [(reader.text(), [reader.number("i") for _ in range(reader.number("i"))]) for _ in range(reader.number("i"))]
        producer, wrong = self.judge(transactional_id, pid, epoch)
        error = error or wrong
        if not error:
            if not producer.open:
                self.transactions += 1
                producer.open = self.transactions
            producer.partitions.update(topics[0][1])
        return struct.pack(">i", 0) + array([text(name) + array([struct.pack(">ih", part, error) for part in parts])
                                             for name, parts in topics])

    def end_txn(self, version, reader, error):
        del version
        transactional_id, pid, epoch, commit = reader.text(), reader.number("q"), reader.number("h"), reader.number("b")
        producer, wrong = self.judge(transactional_id, pid, epoch)
        error = error or wrong
        if not error:
            self.finish(producer, "committed" if commit else "aborted")
        return struct.pack(">ih", 0, error)

    def produce(self, version, reader, error):
        del version
        transactional_id = reader.text()
        reader.number("h"), reader.number("i")
        answers = []
        for _ in range(reader.number("i")):
            name = reader.text()
            answers.append(text(name) + array([self.store(transactional_id, reader, error) for _ in range(reader.number("i"))]))
        return array(answers) + struct.pack(">i", 0)

    def store(self, transactional_id, reader, error):
        """One set of messages."""
        part = reader.number("i")
        batch = Reader(reader.take(reader.number("i")))
        batch.take(21)
        attributes = batch.number("h")
        assert attributes & 7 == 0, "compressed"
        batch.take(20)
        pid, epoch, first, count = batch.number("q"), batch.number("h"), batch.number("i"), batch.number("i")
        if not transactional_id and epoch > self.producers[pid].epoch:  # such a producer begins anew when it likes
            self.producers[pid] = Producer(pid, epoch)
        producer, wrong = self.judge(transactional_id, pid, epoch)
        error = error or wrong
        if not error and bool(attributes & 16) != bool(transactional_id and part in producer.partitions):
            error = INVALID_TXN_STATE
        if not error and self.refused and self.refused.encode() in batch.data:
            error = TOO_LARGE
        if not error and producer.last.get(part) != (first, count):  # else it is there already
            if first != sum(producer.last.get(part, (0, 0))):
                error = OUT_OF_ORDER
            else:
                producer.last[part] = (first, count)
                self.records += [record_of(batch, part, pid, producer.open) for _ in range(count)]
        return struct.pack(">ihqq", part, error, len(self.records), -1)
