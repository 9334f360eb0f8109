"""Where a run works: a directory that one run at a time has for itself, and in which nothing is left of one that was
killed. What it starts does not outlive it either."""
import contextlib
import fcntl
import os
import shutil
import tempfile

# In front of a command.
ENDS_WITH_US = ["setpriv", "--pdeathsig", "TERM"]


class Taken(Exception):
    """Two at once would measure each other."""


class Place:
    def __init__(self, parent):
        self.path = os.path.join(os.path.abspath(parent), "spool-bench")
        os.makedirs(self.path, exist_ok=True)
        self.lock = open(os.path.join(self.path, "lock"), "w", encoding="utf-8")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as reason:
            raise Taken(f"another benchmark works in {self.path}: wait for its end") from reason
        for name in set(os.listdir(self.path)) - {"lock"}:
            shutil.rmtree(os.path.join(self.path, name))

    @contextlib.contextmanager
    def directory(self, name):
        """A new one, that is gone afterwards."""
        path = tempfile.mkdtemp(prefix=name + ".", dir=self.path)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def lacks(self, bytes_wanted):
        """Why there is not enough room on the disk, or ""."""
        free = shutil.disk_usage(self.path).free
        if free >= bytes_wanted:
            return ""
        return (f"needs up to {bytes_wanted / 1e9:.1f} GB below {self.path}, where {free / 1e9:.1f} GB are free: "
                "BENCH_DIR names another place")
