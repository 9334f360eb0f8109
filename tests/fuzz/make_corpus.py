#!/usr/bin/env python3
"""Inputs to begin with.

    make_corpus.py TARGET DIR          writes hand-made ones for the target
    make_corpus.py --keep N FROM TO    replaces what is in TO by at most N files of FROM: the largest third for depth,
                                       an even choice of the others, none of 4 KiB or more
"""
import hashlib
import pathlib
import random
import shutil
import sys

EVENT = ('{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"log.llm_call","agent":"a","session":"s",'
         '"priority":"high","parent":"01890a5d-ac96-774b-bcce-b302099a8056","tags":["x","y"],'
         '"content_type":"application/json",'
         '"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",'
         '"occurred_at":"2026-11-21T09:34:15.123456789Z","ttl_ms":5,"data":{"a":[1,2.5e3,"\\u00e9",null,true]}}')
CONFIG = ('{"spool": {"dir": "@s", "durability": "process", "max_bytes": "64MiB", "retention": "7d", "journal_bytes":'
          ' "256KiB", "full": {"low": "drop-oldest", "medium": "reject"}, "full_timeout": "250ms", "workers": 2,'
          ' "mode": "0600"}, "sinks": [{"name": "log", "kind": "file", "path": "@out.jsonl", "order": "agent",'
          ' "retry": {"base": "100ms", "cap": "5m", "max_attempts": 20}}, {"name": "hole", "kind": "null",'
          ' "from_now": true, "workers": 2}]}')
COMMANDS = ["put\nhello\n", "put\n--tag\nx\n--agent\na\n--priority\nlow\n\na\nb\n\nc\n",
            "put\n--events\n\n" + EVENT + "\n",
            "-o\njson\nstatus\n", "cat\n--since\n1h\n", "cat\n--type\nfirst*\n-o\njson\n", "sinks\n",
            "sinks\n-o\njson\n", "sink\nadd\nx\nnull\n", "sink\nadd\ny\nfile\npath=y.jsonl\n", "sink\npause\nhole\n",
            "sink\nresume\nhole\n",
            "sink\nremove\nhole\n", "dlq\nlist\n", "dlq\nshow\n01890a5d-ac96-774b-bcce-b302099a8057\n",
            "dlq\nrequeue\n--all\n", "dlq\npurge\n--all\n--yes\n", "verify\n", "verify\n-o\njson\n", "help\n",
            "help\nput\n",
            "show\n01890a5d-ac96-774b-bcce-b302099a8057\n", "--version\n", "run\n--help\n", "sink\n", "stauts\n",
            "-C\nother\nput\nx\n", "put\n--ttl\n10m\n--parent\n01890a5d-ac96-774b-bcce-b302099a8057\nx\n"]
LETTER = ('{"sink":"log","attempts":3,"died_at":"2026-11-21T09:34:15.123456789Z","reason":"refused","history":['
          '{"what":"summary","at":"2026-11-20T09:34:15Z","count":7,"until":"2026-11-21T01:00:00Z","reason":"down"},'
          '{"what":"requeued","at":"2026-11-21T09:00:00Z"},'
          '{"what":"failed","at":"2026-11-21T09:34:15Z","reason":"refused"}],"event":' + EVENT + '}')
TEXTS = {"config": [CONFIG, '{"spool":{"dir":"@s"}}', '{"spool":{"dir":"@s"},"sinks":[{"name":"x","kind":"stdout"}]}',
                    '{"path":"@o","rotate_bytes":"1MiB"}', "[]", "{}", '{"spool":{"dir":"@s","max_bytes":"8 GiB"}}'],
         "json": [EVENT, '{"type":"t"}', '{"type":"t","data_base64":"AAEC"}', "2026-11-21T09:34:15.1+01:00", "8GiB",
                  "100ms",
                  "01890a5d-ac96-774b-bcce-b302099a8057", '{"type":"\\ud83d\\ude00","data":"x"}'],
         "dead": [LETTER, '{"sink":"a","event":{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"t"}}', "{}",
                  '{"sink":"a","event":{"type":"t"}}', '{"sink":"../a","event":' + EVENT + '}',
                  '{"sink":"a","attempts":-1}'],
         "cli": COMMANDS}


def sntp_answers():
    """A good answer, and each with one thing that is wrong: behind the time and the length of the round trip."""
    now = 1795253655
    head = (now * 10**9).to_bytes(8, "little") + (5 * 10**6).to_bytes(8, "little")
    stamp = lambda seconds: ((now + 2208988800 + seconds) << 32 | 1 << 31).to_bytes(8, "big")
    good = bytes([0x24, 2, 6, 0xec]) + bytes([0, 0, 0, 66, 0, 0, 0, 33, 192, 0, 2, 1]) + stamp(-9) + \
        bytes.fromhex("0123456789abcdef") + stamp(0) + stamp(0)
    flaws = {0: b"\xe4", 1: b"\x00", 2: b"\x7f", 3: b"\x7f", 4: b"\x00\x20", 8: b"\x00\x10", 12: b"DENY", 24: b"\xff",
             32: bytes(8), 40: bytes(8), 16: b"\xff"}
    answers = [good, good[:47], good + bytes(20)]
    answers += [good[:at] + flaw + good[at + len(flaw):] for at, flaw in flaws.items()]
    kiss = good[:1] + b"\0" + good[2:]
    answers += [kiss[:12] + code + kiss[16:] for code in (b"DENY", b"RSTR", b"RATE", b"STEP")]
    return [head + answer for answer in answers]


def hand_made(target):
    """Texts where the target takes text; else bytes of chance, which are a description of something."""
    if target == "sntp":
        return sntp_answers()
    if target in TEXTS:
        return [text.encode() for text in TEXTS[target]]
    chance = random.Random(target)
    return [chance.randbytes(size) for size in (1, 8, 20, 50, 100, 100, 200, 200, 400, 400, 800, 800, 1500)]


def write(target, folder):
    for data in hand_made(target):
        (folder / hashlib.sha1(data).hexdigest()[:16]).write_bytes(data)


def keep(most, source, folder):
    small = (path for path in source.iterdir() if path.stat().st_size < 4096)
    files = sorted(small, key=lambda path: path.stat().st_size)
    deep = files[-(most // 3):] if len(files) > most else []
    rest = [path for path in files if path not in deep]
    step = max(1, len(rest) / (most - len(deep)))
    chosen = deep + [rest[int(i * step)] for i in range(min(len(rest), most - len(deep)))]
    for old in folder.iterdir():
        old.unlink()
    for path in chosen:
        shutil.copyfile(path, folder / hashlib.sha1(path.read_bytes()).hexdigest()[:16])


if __name__ == "__main__":
    if sys.argv[1] == "--keep":
        keep(int(sys.argv[2]), pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4]))
    else:
        write(sys.argv[1], pathlib.Path(sys.argv[2]))
