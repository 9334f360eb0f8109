#!/usr/bin/env python3
"""A spool that is copied while it is in use, moved while it is open, opened by two names, and by two users.

A copy taken in use is no supported backup, but people make them: it opens, nothing in it is wrong or comes twice, what
was in sealed segments before the copy began is there, what is damaged is found and counted, and it takes and delivers
new events. COPIES: of each kind (1); SEED."""
import os
import pathlib
import shutil
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness

COPIES = int(os.environ.get("COPIES", 1))
MIB = 1 << 20
SMALL = ["--segment_bytes", MIB, "--journal_bytes", 256 << 10, "--max_bytes", 512 * MIB]
NOBODY = 65534


def copy_cp(source, target):
    subprocess.run(["cp", "-r", "--reflink=never", source, target], check=True, stderr=subprocess.DEVNULL)


def copy_tar(source, target):
    """tar answers 1 for a file that changes while it reads it."""
    target.mkdir()
    pack = subprocess.Popen(["tar", "-C", source, "-cf", "-", "."], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    subprocess.run(["tar", "-C", target, "-xf", "-"], stdin=pack.stdout, check=True)
    pack.stdout.close()
    pack.wait()


def copy_slowly(source, target):
    """File by file in another order, with time between them, so that the parts are of different ages."""
    target.mkdir(mode=0o700)
    files = sorted((path for path in source.rglob("*")), key=lambda path: (path.is_file(), path.name == "state.mdb",
                                                                           path.parent.name != "journal"))
    for path in files:
        to = target / path.relative_to(source)
        try:
            to.mkdir(mode=0o700) if path.is_dir() else shutil.copy2(path, to)
        except FileNotFoundError:
            continue  # deleted meanwhile
        time.sleep(0.003)


KINDS = {"cp": copy_cp, "tar": copy_tar, "slowly": copy_slowly}


def copy_of(checks, site, name, how):
    """The copy as a Site of its own; None when the tool gave up because a file went away under it."""
    other = harness.Site(checks, name, *SMALL)
    try:
        KINDS[how](site.spool, other.spool)
    except subprocess.CalledProcessError:
        pass  # a file was deleted meanwhile: the rest is there
    shutil.copy(site.history, other.history)
    other.spool.chmod(0o700)
    return other


def look_at_copy(checks, other, what):
    """Read-only looks end without a signal; then it is drained. Returns (report, ids that arrived)."""
    for verb in ("status", "verify", "cat"):
        done = harness.run(harness.SPOOL, "-C", other.spool, "-o", "json", verb, timeout=60)
        if done.returncode not in (0, 1, 3):
            checks.check(False, f"{what}: spool {verb} ends", f"status {done.returncode}: {done.stderr[-300:]}")
    report = other.expect(other.deliverer("copy", "--file_sink", other.sink, "--drain_ms", 60000), f"{what}: its drain")
    events = harness.read_file_sink(other.sink) if other.sink.exists() else []
    return report, {event["id"] for event in events}


def works_again(checks, other, what):
    """New events are taken, and delivered once, with numbers and ids beyond all that was there."""
    before = other.sink.stat().st_size if other.sink.exists() else 0
    other.expect(other.producer("again", "--count", 300, "--file_sink", other.sink, "--drain_ms", 60000),
                 f"{what}: a producer")
    wanted = {record.id for record in other.read() if record.tag == "again"}
    with open(other.sink, "rb") as file:
        file.seek(before)
        came = [harness.json.loads(line)["id"] for line in file]
    checks.check(len(wanted) == 300 and sorted(came) == sorted(wanted), f"{what}: takes and delivers new events",
                 f"{len(wanted)} acknowledged, {len(came)} came")


def segments(spool):
    return sorted(int(path.stem) for path in (spool / "segments").glob("*.mdb"))


def copied_while_filling(checks):
    """Nobody delivers: what was sealed when the copy began must be there, every event of it."""
    site = harness.Site(checks, "filling", *SMALL)
    site.expect(site.deliverer("reg", "--file_sink", site.sink), "the registration")
    site.expect(site.producer("first", "--count", 3000), "the producer of what is sealed")
    end = segments(site.spool)[-1]
    busy = [site.producer(f"busy{i}", "--rate", 8000, "--threads", 2, "--durability", "mixed") for i in range(2)]
    sealed = harness.wait_until(lambda: segments(site.spool)[-1] > end + 1, 60)
    checks.check(sealed, "the first events are in sealed segments")
    first = {record.id for record in site.read() if record.tag == "first"}
    copies = {}
    for i in range(COPIES):
        for how in KINDS:
            time.sleep(0.1 * checks.random.random())
            copies[f"filling-{how}-{i}"] = copy_of(checks, site, f"filling-{how}-{i}", how)
    for child in busy:
        site.kill(child)
    for what, other in copies.items():
        report, arrived = look_at_copy(checks, other, what)
        checks.check(first <= arrived, f"{what}: all that was sealed is there",
                     f"{len(first - arrived)} of {len(first)} are not; {report}")
        other.judge(what, drained=False)
        works_again(checks, other, what)
        shutil.rmtree(other.spool)
    control = copy_of(checks, site, "control", "cp")
    (control.spool / "segments" / f"{segments(control.spool)[0]:020}.mdb").unlink()
    _, arrived = look_at_copy(checks, control, "control")
    checks.check(not first <= arrived, "control: a sealed segment that is not in the copy is missed")
    site.drain_and_judge("the original, in the end")


def copied_while_delivering(checks):
    """Segments are deleted and cursors move meanwhile: any earlier state will do, if it is one that works."""
    site = harness.Site(checks, "moving", *SMALL)
    busy = [site.serving("serve"), site.producer("p0", "--rate", 8000, "--threads", 2, "--durability", "mixed")]
    time.sleep(0.3)
    copies = {}
    for i in range(COPIES):
        for how in KINDS:
            time.sleep(0.1 * checks.random.random())
            copies[f"moving-{how}-{i}"] = copy_of(checks, site, f"moving-{how}-{i}", how)
    for child in busy:
        site.kill(child)
    for what, other in copies.items():
        look_at_copy(checks, other, what)
        other.judge(what, drained=False)
        works_again(checks, other, what)
        shutil.rmtree(other.spool)
    site.drain_and_judge("the original, in the end")


def moved_while_open(checks):
    """The directory gets another name; who has it open goes on, who comes finds it there."""
    site = harness.Site(checks, "moved", *SMALL)
    serving, producer = site.serving("serve"), site.producer("p", "--rate", 4000, "--count", 6000, "--durability", "mixed")
    for i in range(4):
        time.sleep(0.1 + 0.1 * checks.random.random())
        there = checks.dir(f"moved-to-{i}")
        os.rename(site.spool, there)
        site.spool = there
    site.expect(producer, "the producer whose spool is moved")
    site.expect(site.producer("late", "--count", 500), "a producer at the new place")
    site.terminate(serving, "the deliverer whose spool is moved")
    site.drain_and_judge("moved while open")
    left = [path.name for path in checks.scratch.glob("moved*") if path.is_dir() and path != site.spool]
    checks.check(not left, "nothing is made at the old places", str(left))


def by_two_names(checks):
    """A symbolic link and a bind mount are the same spool: one journal each, one deliverer."""
    site = harness.Site(checks, "names", *SMALL)
    site.spool.mkdir(mode=0o700)
    link, bind = checks.dir("names-link"), checks.dir("names-bind")
    link.symlink_to(site.spool)
    bind.mkdir()
    names = [site.spool, link]
    if harness.run("mount", "--bind", site.spool, bind).returncode == 0:
        names.append(bind)
    else:
        checks.skip("a bind mount", "mounting is not permitted here")
    try:
        children = []
        for i, name in enumerate(names):
            site.spool = name
            children.append(site.producer(f"p{i}", "--count", 4000, "--threads", 2, "--file_sink", site.sink))
        for i, child in enumerate(children):
            site.expect(child, f"the producer by name {i}")
        site.spool = names[0]
        site.drain_and_judge("by several names")
    finally:
        if len(names) == 3:
            harness.run("umount", bind)


def as_nobody(*command):
    return harness.run("setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", *command)


def by_two_users(checks):
    """Root looks at another user's spool and leaves nothing there; another user is refused."""
    if os.geteuid() != 0 or as_nobody(harness.program("producer")).returncode != 2:
        checks.skip("two users", "this must be root, and the programs readable for others")
        return
    home = checks.dir("home")
    home.mkdir()
    checks.scratch.chmod(0o755)
    os.chown(home, NOBODY, NOBODY)
    spool, history = home / "spool", home / "history"
    made = as_nobody(harness.program("producer"), "--dir", spool, "--tag", "a", "--count", 200, "--history", history)
    checks.check(made.returncode == 0, "a user makes a spool", made.stderr)
    for verb in ("status", "verify", "cat", "sinks"):
        done = harness.run(harness.SPOOL, "-C", spool, "-o", "json", verb)
        checks.check(done.returncode in (0, 3), f"root looks at it with spool {verb}", done.stderr)
    owned = [str(path) for path in spool.rglob("*") if path.stat().st_uid != NOBODY]
    checks.check(not owned, "and leaves no file of its own in it", str(owned))
    more = as_nobody(harness.program("producer"), "--dir", spool, "--tag", "b", "--count", 200, "--history", history,
                     "--file_sink", home / "sink", "--drain_ms", 30000)
    checks.check(more.returncode == 0, "the user goes on", more.stderr)
    harness.judge(checks, "two users", [history], {"file": home / "sink"})
    own = checks.dir("roots")
    harness.run(harness.program("producer"), "--dir", own, "--tag", "r", "--count", 10)
    refused = as_nobody(harness.program("producer"), "--dir", own, "--tag", "n", "--count", 1)
    checks.check(refused.returncode == 1 and ("EACCES" in refused.stderr), "another user's is refused", refused.stderr)


if __name__ == "__main__":
    harness.main("copied", [copied_while_filling, copied_while_delivering, moved_while_open, by_two_names, by_two_users])
