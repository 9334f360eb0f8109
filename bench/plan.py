"""What is run: items, each one case with its arguments. `quick` holds all that the targets need; the rest is for
`make bench`.

An item's key names it in the results: case/bytes/producers, and what else it was given. Items of one group run one
after the other in each round (A B C A B C …), so that a machine that drifts does so for all of them."""
import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class Item:
    case: str
    bytes: int = 256
    producers: int = 1
    count: int = 0
    rate: float = 0
    share: float = 0        # of the rate that another item of the same round has reached …
    share_of: str = ""      # … its key
    server: str = ""
    input: str = ""
    rounds: int = 0         # 0: as many as asked for
    seconds: float = 0      # 0: as asked for

    @property
    def key(self):
        more = [f"n{self.count}"] if self.count else []
        more += [f"{self.rate:.0f}/s"] if self.rate else []
        more += [f"{self.share * 100:.0f}%"] if self.share else []
        more += ["input"] if self.input else []
        # nats_single is one case for two servers
        name = self.case + ("_always" if self.server == "nats_always" else "")
        return "/".join([name, f"{self.bytes}B", f"{self.producers}p", *more])

    def expected(self, seconds):
        """Seconds that a run takes: those measured, and, guessed, those of a server, a filling and a draining."""
        measured = 0 if self.case in COUNTED else self.seconds or seconds
        return measured + BESIDE.get(self.server or self.case, 0.22) + self.count * FILLED.get(self.case, 0)

    def room_bytes(self, seconds):
        """What it may take of the disk: what is filled, and what goes into files at the speed of memory."""
        filled = self.count * (self.bytes + 64) if self.case in FILLED else 0
        a_second = self.rate * (self.bytes + 512) if self.rate else 4 << 30 if self.case.startswith("raw") else 2 << 30
        return filled + (0 if self.case in COUNTED else (self.seconds or seconds) * a_second) + SPARE_BYTES


# These end with what they were given, not with a time.
COUNTED = ("spool_backlog", "spool_recovery", "spool_sqlite", "sqlite_archive", "raw_read")
FILLED = {"spool_backlog": 5e-7, "spool_overtake": 8e-7, "spool_sqlite": 9e-6, "sqlite_archive": 7e-6}  # seconds an event
# Seconds beside those that are measured, of a server or a case.
BESIDE = {"redis": 0.35, "postgres": 0.9, "rsyslog": 2.6, "syslog_ng": 1.5, "fluent_bit": 1.1, "raw_read": 1.3,
          "spool_file": 0.7, "spool_file_unflushed": 0.7}
SPARE_BYTES = 768 << 20  # journals, a file to read; and a full disk would disturb others

NULL = "spool_null/256B/1p/n1"
ARCHIVED = 100000


def servers_of(case):
    """By its name: redis_single needs redis. NATS runs twice, as it is by default and flushing always."""
    if case.startswith("nats"):
        return ["nats", "nats_always"]
    first = case.split("_")[0]
    if case in ("beanstalkd", "rsyslog", "syslog_ng", "fluent_bit"):
        return [case]
    return [first] if first in ("redis", "postgres") else [""]


def peers(cases, **given):
    return [Item(case, server=server, **given) for case in cases for server in servers_of(case)]


PEERS = ["lmdb_single", "lmdb_batch", "sqlite_single", "sqlite_batch", "redis_single", "redis_pipeline", "beanstalkd",
         "nats_single", "nats_batch", "postgres_single", "postgres_copy", "rsyslog", "syslog_ng", "fluent_bit"]


def quick(recorded):
    """The core ratios of the targets, the peers they name, and the others once for 256 bytes and one producer."""
    items = [Item("raw_write"), Item("spool_process"), Item("spool_burst"), Item("spool_many"),
             Item("spool_unflushed", seconds=2, rounds=2),
             Item("raw_write", producers=2), Item("spool_process", producers=2),
             Item("raw_sequential"), Item("raw_sync"), Item("spool_power"), Item("spool_power", producers=64),
             Item("spool_null", count=1), Item("raw_lines"), Item("spool_file"), Item("raw_lines_flushed"),
             Item("sqlite_batch"), Item("redis_pipeline", server="redis"), Item("lmdb_batch"),
             Item("spool_null", count=1, share=0.5, share_of=NULL), Item("host", rate=10000, seconds=6, rounds=1),
             Item("raw_read", rounds=2), Item("spool_backlog", count=10 ** 4, rounds=2),
             Item("spool_backlog", count=10 ** 6, rounds=2)]
    items += [Item("spool_zstd"), Item("spool_many_power"), Item("spool_file_unflushed"),
              Item("spool_sqlite", count=ARCHIVED), Item("sqlite_archive", count=ARCHIVED)]
    items += [Item("spool_overtake", count=10 ** 6, rate=200, seconds=2, rounds=2)]
    named = {item.case for item in items}
    items += peers([case for case in PEERS if case not in named], rounds=2)
    if recorded:
        items += [Item("spool_zstd", input=recorded), Item("spool_process", input=recorded)]
    return items


MATRIX_ROUNDS, MATRIX_SECONDS = 2, 0.4


def matrix():
    """Sizes and producers. There are so many of these that each gets less time than those the targets are about."""
    ours = ["raw_write", "raw_sync", "spool_process", "spool_power", "spool_many", "spool_many_power"]
    items = []
    for size in (64, 256, 4096, 65536):
        for producers in (1, 4, 16, 64):
            given = {"bytes": size, "producers": producers, "rounds": MATRIX_ROUNDS, "seconds": MATRIX_SECONDS}
            items += [Item(case, **given) for case in ours]
            items += peers(PEERS, **given)
    return items


def studies():
    """Latency at load, backlogs, scaling: each with one thing that varies."""
    items = [Item("raw_store"), Item("raw_store", rate=250000), Item("spool_process", rate=250000),
             Item("spool_unflushed", rate=250000)]
    items += [Item("spool_ages", share=share, share_of=NULL) for share in (0.01, 0.5, 0.9)]
    items += [Item("spool_overtake", count=1000, rate=200, seconds=2)]
    items += [Item("spool_null", count=sinks) for sinks in (2, 4, 8, 16)]
    items += [Item("spool_processes", count=n) for n in (1, 2, 4, 8)]
    items += [Item("spool_agents", count=n) for n in (1, 100, 10000)]
    items += [Item("spool_agents_waiting", seconds=0.2, count=n) for n in (1, 4)]
    most = int(float(os.environ.get("BACKLOG", 1e7)))
    items += [Item("spool_backlog", count=10 ** n, rounds=1 if n > 5 else 0) for n in range(4, 9) if 10 ** n <= most]
    items += [Item("spool_recovery", count=n) for n in (1000, 10000, 40000)]
    return items


def plan(is_quick, recorded):
    items = quick(recorded)
    if not is_quick:
        items += matrix() + studies()
    kept = {}
    for item in items:  # what quick asks for comes first, and stays as it is
        kept.setdefault(item.key, item)
    return list(kept.values())
