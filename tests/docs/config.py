#!/usr/bin/env python3
"""The examples of spool.json(5): those that are marked to be run, and the configuration that stands first, as it is but for its
folders."""
import json
import pathlib
import re
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness

PAGE = "spool.json.5"


def examples_run(checks):
    checks.check(sink_harness.manual_examples(checks, PAGE) >= 3, f"{PAGE} has examples of file, stdout, failover and quorum")


def the_first_one_is_taken(checks):
    text = (harness.ROOT / "man" / PAGE).read_text().split(".Sh EXAMPLES", 1)[1]
    found = re.search(r"^\.Bd [^\n]*\n(\{.*?)^\.Ed", text, re.MULTILINE | re.DOTALL).group(1)
    config, folder = checks.dir("spool.json"), checks.dir("lib")
    folder.mkdir(mode=0o700)
    config.write_text(found.replace("/var/lib/agent", str(folder)).replace("/var/log/agent", str(folder)))
    registered = harness.run(harness.SPOOL, "drain", "-c", config)
    checks.check(registered.returncode == 0, "it is taken", registered.stderr)
    spool, path = json.loads(config.read_text())["spool"]["dir"], json.loads(config.read_text())["sinks"][0]["path"]
    harness.run(harness.SPOOL, "-C", spool, "put", "-a", "planner", input="{}\n")
    done = harness.run(harness.SPOOL, "drain", "-c", config)
    files = list(folder.glob("events-*.jsonl"))
    checks.check(done.returncode == 0 and len(files) == 1 and len(files[0].read_text().splitlines()) == 1 and
                 files[0].name.startswith(pathlib.Path(path).name.split("%")[0]), "it delivers", f"{files} {done.stderr}")


if __name__ == "__main__":
    harness.main("config", [examples_run, the_first_one_is_taken])
