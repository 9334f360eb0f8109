"""What is measured already: a line of JSON a run, written as it ends, so that `make bench` can be stopped at any time and
goes on with RESUME=1. A whole run of the plan may be put together from many short ones, on a machine that is only
sometimes quiet; the rounds stay rounds."""
import json
import os


class Mismatch(Exception):
    """What is there cannot be gone on with."""


class Parts:
    """runs[key][figure] is a list, a value a round; took[key] the seconds of the last run."""

    def __init__(self, path, how, resume, retry=False):
        self.path, self.runs, self.rounds, self.took = path, {}, {}, {}
        self.skipped, self.servers, self.put, self.seconds = {}, {}, {}, 0
        lines = self.read() if resume and os.path.exists(path) else []
        if lines:
            self.check(lines[0], how)
        else:
            with open(path, "w", encoding="utf-8") as file:
                print(json.dumps({"how": how}), file=file)
        for line in lines[1:]:
            self.take(line)
        if retry:
            self.skipped.clear()

    def read(self):
        """All lines but a last one that was cut off when the run was stopped, from which on the file is written anew."""
        with open(self.path, "r+b") as file:
            text = file.read()
            whole = text[:text.rfind(b"\n") + 1]
            file.truncate(len(whole))
        lines = []
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                lines.append(json.loads(line))
            except ValueError as reason:
                raise Mismatch(f"{self.path}: line {number} is damaged: remove it, or begin anew without RESUME") from reason
        return lines

    def check(self, first, how):
        for name, value in first["how"].items():
            if how[name] != value:
                raise Mismatch(f"{self.path} was measured with {name}={value}, this is {name}={how[name]}: "
                               "go on in the same way, or begin anew without RESUME")

    def take(self, line):
        if "server" in line:
            self.servers[line["server"]] = line
        elif "put" in line:
            self.put = line["put"]
        elif "skipped" in line:
            self.skipped[line["key"]] = line["skipped"]
        else:
            self.take_figures(**line)

    def take_figures(self, key, took, figures):
        self.rounds[key] = self.rounds.get(key, 0) + 1
        self.took[key] = took
        self.seconds += took
        self.skipped.pop(key, None)  # was tried again
        for name, value in figures.items():
            self.runs.setdefault(key, {}).setdefault(name, []).append(value)

    def add(self, **line):
        """One of: key, took, figures; key, skipped; server, version, settings; put."""
        with open(self.path, "a", encoding="utf-8") as file:
            print(json.dumps(line), file=file)
        self.take(line)

    def add_server(self, name, version, settings):
        if name not in self.servers:
            self.add(server=name, version=version, settings=settings)

    def is_due(self, item, number, rounds):
        """Is the item to be run in round `number` (from 0)?"""
        return item.key not in self.skipped and number < (item.rounds or rounds) and self.rounds.get(item.key, 0) <= number

    def left(self, items, rounds):
        """How many runs are not there yet."""
        return sum(max(0, (item.rounds or rounds) - self.rounds.get(item.key, 0))
                   for item in items if item.key not in self.skipped)

    def expected(self, item, seconds):
        """How long a run will take: as long as the last one, or a guess."""
        return self.took.get(item.key, item.expected(seconds))
