#!/usr/bin/env python3
"""A child of the exec sink: exec_child.py MODE LOG [SEED]. It notes the id of each event in LOG, whole, before it answers.

    good      answers each
    reverse   answers in reverse what it has read
    outcomes  by type: "retry" the first time, "reject", else ok
    poison    dies of an event of type "poison"
    silent    answers nothing; late: answers the first ones only
    mad       answers, but at random dies, hangs, answers nonsense, cuts lines, sends NULs, closes its input
    config    ends with status 78; ends: at once with status 3
    look      writes what it is like into LOG: descriptors, signals, environment, folder, process group
    deaf      never reads, and ignores the end of its input
"""
import json
import os
import random
import signal
import sys
import time

mode, path = sys.argv[1], sys.argv[2]
dice = random.Random(int(sys.argv[3]) + os.getpid() if len(sys.argv) > 3 else 1)
log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def answer(text):
    data = text.encode() if isinstance(text, str) else text
    while data:
        data = data[os.write(1, data):]


def note(event):
    os.write(log, (event["id"] + "\n").encode())


def misbehave(event):
    """True: the event is not to be answered."""
    roll = dice.random()
    if roll < 0.0002:
        os.kill(os.getpid(), signal.SIGKILL)
    if roll < 0.0003:
        sys.exit(dice.randrange(1, 70))
    if roll < 0.00033:
        time.sleep(60)
    if roll < 0.0005:
        note(event)  # one of the answers is right at first
        answer(dice.choice([b"what?\n", b"\n", b"\0\n", b"x" * 10000, b"01890a5d-ac96-774b-bcce-b302099a8057\n",
                            (event["id"] + " maybe\n").encode(), (event["id"] + "\n" + event["id"] + "\n").encode()]))
        return True
    if roll < 0.0006:
        os.close(0)
        time.sleep(0.05)
        os._exit(0)
    return False


def lines(held):
    """Whole lines; those held are answered before more is read."""
    rest = b""
    while True:
        answer("".join(id + " ok\r\n" for id in reversed(held)))
        held.clear()
        part = os.read(0, 65536)
        if not part:
            return
        *whole, rest = (rest + part).split(b"\n")
        yield from whole


def look():
    seen = {"fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if int(fd) != log and
                          os.path.exists(f"/proc/self/fd/{fd}")),
            "blocked": [line for line in open("/proc/self/status") if line.startswith(("SigBlk", "SigIgn"))],
            "folder": os.getcwd(), "leads": os.getpid() == os.getpgrp(), "env": dict(os.environ), "args": sys.argv[1:]}
    os.write(log, json.dumps(seen).encode() + b"\n")


def main():
    held, tried = [], set()
    if mode in ("config", "ends"):
        sys.exit(78 if mode == "config" else 3)
    if mode == "look":
        look()
    while mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(1)
    for n, line in enumerate(lines(held)):
        event = json.loads(line)
        if mode == "poison" and event["type"] == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if mode == "silent" or (mode == "late" and n >= 3):
            continue
        if mode == "mad" and misbehave(event):
            continue
        if mode == "outcomes" and event["type"] == "reject":
            answer(event["id"] + " reject it is \x1b[31mbad\n")
            continue
        if mode == "outcomes" and event["type"] == "retry" and event["id"] not in tried:
            tried.add(event["id"])
            answer(event["id"] + " retry 20 not now\n")
            continue
        if mode != "look":
            note(event)
        if mode == "reverse":
            held.append(event["id"])
        elif mode == "mad" and dice.random() < 0.01:
            answer(event["id"][:10])
            time.sleep(0.001)
            answer(event["id"][10:] + "\n")
        else:
            answer(event["id"] + "\n")


main()
