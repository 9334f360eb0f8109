"""What is measured already: a line of JSON a run, written as it ends, so that `make bench` can be stopped at any time and
goes on with RESUME=1. A whole run of the plan may be put together from many short ones, on a machine that is only
sometimes quiet; the rounds stay rounds."""
import json
import os


class Mismatch(Exception):
    """What is there was measured in another way."""


class Parts:
    """runs[key][figure] is a list, a value a round; took[key] the seconds of the last run."""

    def __init__(self, path, how, resume):
        self.path, self.runs, self.rounds, self.took = path, {}, {}, {}
        self.skipped, self.servers, self.put, self.seconds = {}, {}, {}, 0
        if resume and os.path.exists(path):
            self.read(how)
        else:
            with open(path, "w", encoding="utf-8") as file:
                print(json.dumps({"how": how}), file=file)

    def read(self, how):
        with open(self.path, "r+b") as file:
            whole = file.read().rpartition(b"\n")[0] + b"\n"
            file.truncate(len(whole))  # a last line that was cut off when the run was stopped
        lines = [json.loads(line) for line in whole.splitlines()]
        for name, value in lines[0]["how"].items():
            if how[name] != value:
                raise Mismatch(f"{self.path} was measured with {name}={value}, this is {name}={how[name]}: "
                               "go on in the same way, or begin anew without RESUME")
        for line in lines[1:]:
            self.take(line)

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
        return self.took.get(item.key, (item.seconds or seconds) + item.overhead)
