"""One spool with one sink, served by `spool run`: what the tests of sinks over a network share."""
import json
import os
import signal
import subprocess

import harness

QUICK = {"base": "20ms", "cap": "200ms"}  # backoff that does not make a test slow


class SinkSite:
    """A spool in the scratch directory and a configuration file with one sink, "far"."""

    def __init__(self, checks, name, kind, settings, **options):
        self.checks, self.spool, self.errors = checks, checks.dir(name), checks.dir(name + ".stderr")
        self.config = checks.dir(name + ".json")
        options.setdefault("retry", QUICK)
        self.config.write_text(json.dumps({
            "spool": {"dir": str(self.spool), "durability": "process"},
            "sinks": [{"name": "far", "kind": kind, **options, **settings}]}))
        self.child = None
        clean = {name: value for name, value in os.environ.items()
                 if not name.startswith("OTEL_") and not name.lower().endswith("_proxy")}
        self.environment = {**clean, "SPOOL_SINK_PATH": str(harness.BUILD / "sinks")}

    def put(self, events):
        """Stores events, given in native JSON as dicts; returns their ids in that order."""
        lines = "".join(json.dumps(event) + "\n" for event in events)
        done = harness.run(harness.SPOOL, "-C", self.spool, "put", "--events", "-d", "process", input=lines)
        ids = done.stdout.split()
        if len(ids) != len(events):
            raise RuntimeError(f"spool put stored {len(ids)} of {len(events)} events: {done.stderr}")
        return ids

    def put_numbers(self, n, **more):
        return self.put([{"type": "test", "data": {"n": i}, **more} for i in range(n)])

    def run(self, *prefix, **environment):
        with open(self.errors, "ab") as errors:
            self.child = self.checks.start(*prefix, harness.SPOOL, "run", "-c", self.config, stderr=errors,
                                           stdout=subprocess.DEVNULL, env={**self.environment, **environment})
        return self

    def far(self):
        """The sink's row of `spool status`."""
        sinks = harness.status(self.spool).get("sinks", [])
        return sinks[0] if sinks else {}

    def drained(self, timeout=60):
        """Waits until nothing is pending."""
        return harness.wait_until(lambda: self.far().get("pending_events") == 0, timeout)

    def said(self):
        return self.errors.read_text() if self.errors.exists() else ""

    def says(self, text, timeout=60):
        return harness.wait_until(lambda: text in self.said(), timeout)

    def dead(self):
        """The dead letters: id -> reason."""
        done = harness.run(harness.SPOOL, "-C", self.spool, "-o", "json", "dlq", "list")
        letters = [json.loads(line) for line in done.stdout.splitlines()]
        return {letter.get("event", letter)["id"]: letter["reason"] for letter in letters}

    def stop(self, timeout=60):
        """Ends `spool run`; returns its exit status."""
        if self.child and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        status = self.child.wait(timeout)
        self.child = None
        return status

    def deliver(self, timeout=60, **environment):
        """Serves the sink until nothing is pending; whether that came, and the process ended well."""
        self.run(**environment)
        good = self.drained(timeout)
        return self.stop() == 0 and good
