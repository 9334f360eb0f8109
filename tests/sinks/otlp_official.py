#!/usr/bin/env python3
"""What the otlp sink sends, decoded by OpenTelemetry's own definitions: the JavaScript transformer, which npm installs into the
build folder, at the versions and with the checksums of otlp_js/package-lock.json. Logs and traces, protobuf and JSON: all that
otlp.py expects must be there, and every field must be what Google's protobuf library decodes.

Without node, npm or the registry this is skipped, and says so; a package with another checksum is a failure."""
import base64
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import otlp
import sink_harness

HERE = pathlib.Path(__file__).resolve().parent / "otlp_js"
IDS = ("traceId", "spanId", "parentSpanId")
PATIENCE_S = 90  # for npm in all; a registry that does not answer is given up much earlier


# -------------------------------------------------------------------------------------------------------- installing

def npm(folder):
    """Installs what the lock file says; returns (exit status, output). Its whole process group ends with the time."""
    child = subprocess.Popen(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=0",
                              "--fetch-timeout=15000", "--prefer-offline"], cwd=folder, text=True, start_new_session=True,
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        output, _ = child.communicate(timeout=PATIENCE_S)
        return child.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        return 1, f"npm did not end within {PATIENCE_S} s"


def installed(checks):
    """The folder with the packages, or None: then it has said why."""
    missing = [word for word in ("node", "npm") if not shutil.which(word)]
    if missing:
        checks.skip("OpenTelemetry's own definitions", f"{' and '.join(missing)} not found")
        return None
    folder = harness.BUILD / "npm" / "otlp"
    lock = (HERE / "package-lock.json").read_text()
    stamp = folder / "installed"
    if stamp.exists() and stamp.read_text() == lock:
        return folder / "node_modules"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    status, output = npm(folder)
    if status == 0:
        stamp.write_text(lock)
        return folder / "node_modules"
    if checks.check("EINTEGRITY" not in output, "the packages have the checksums of the lock file", output[-500:]):
        checks.skip("OpenTelemetry's own definitions", "npm cannot install them: " + (output.strip() or "?").splitlines()[0])
    return None


# ---------------------------------------------------------------------------------------------------------- decoding

def normal(tree, key=None):
    """The tree with ids in hexadecimal, as otlp.py has them, and without members that say nothing: what is 0 or empty is not
    sent. An AnyValue says what it holds, be it empty."""
    if isinstance(tree, list):
        return [normal(item) for item in tree]
    if isinstance(tree, dict):
        any_value = any(name.endswith("Value") for name in tree)
        pairs = {name: normal(item, name) for name, item in tree.items()}
        return {name: item for name, item in pairs.items() if any_value or item not in (0, "", "0", None, [])}
    return base64.b64decode(tree).hex() if key in IDS else tree


class Official:
    """As otlp.Decoder, which it stands in for."""

    def __init__(self, modules):
        self.modules = modules

    def decode(self, requests):
        lines = "".join(json.dumps({"path": request.path, "body": base64.b64encode(request.body).decode(),
                                    "json": request.headers["content-type"] == "application/json"}) + "\n"
                        for request in requests)
        done = harness.run("node", HERE / "decode.js", self.modules, input=lines)
        trees = [json.loads(line) for line in done.stdout.splitlines()]
        if len(trees) != len(requests):
            raise RuntimeError(done.stderr[-500:])
        return [normal(tree) for tree in trees]


def leaves(tree, path=""):
    """Every value with its path, also empty lists and objects."""
    if isinstance(tree, dict) and tree:
        return [leaf for key in sorted(tree) for leaf in leaves(tree[key], f"{path}.{key}")]
    if isinstance(tree, list) and tree:
        return [leaf for i, item in enumerate(tree) for leaf in leaves(item, f"{path}[{i}]")]
    return [(path, tree)]


def bare(tree):
    """As Google's library prints it, without what the other one need not print: empty lists."""
    if isinstance(tree, dict):
        return {key: bare(item) for key, item in tree.items() if item not in ([], 0, "0", "") or key.endswith("Value")}
    return [bare(item) for item in tree] if isinstance(tree, list) else tree


# -------------------------------------------------------------------------------------------------------------- tests

def same_fields(checks, what, official, google, requests):
    """Field by field what the two libraries decode, of each request."""
    for i, (theirs, ours) in enumerate(zip(official.decode(requests), google.decode(requests), strict=True)):
        ours = bare(ours)
        left, right = leaves(bare(theirs)), leaves(ours)
        wrong = [pair for pair in zip(left, right) if pair[0] != pair[1]] or [("lengths", len(left), len(right))]
        checks.check(left == right and len(left) > 20, f"{what}, request {i}: {len(left)} fields are the same", wrong[:5])


def everything(checks):
    modules = installed(checks)
    if not modules:
        return
    official, google = Official(modules), otlp.Decoder(checks)
    for encoding in ("protobuf", "json"):
        for signals in ("logs", "traces", "both"):
            for content in ("off", "on"):
                what = f"{encoding}, {signals}, content {content}"
                ids, server, _ = otlp.deliver(checks, f"{encoding}-{signals}-{content}", otlp.ALL,
                                              {"encoding": encoding, "signals": signals, "content": content})
                same_fields(checks, what, official, google, server.requests)
                judge(checks, what, signals, content, ids, otlp.Sent(official, server.requests))


def judge(checks, what, signals, content, ids, sent):
    """What otlp.py expects of each signal, of what the official definitions decoded."""
    spans = {"logs": [], "traces": ids, "both": ids[:2]}[signals]
    checks.check(not sent.errors, f"{what}: can be decoded", sent.errors)
    checks.check(set(sent.logs) == set([] if signals == "traces" else ids) and set(sent.spans) == set(spans),
                 f"{what}: so many records and spans", f"{len(sent.logs)} {len(sent.spans)}")
    if content == "off" and sent.logs:
        otlp.check_logs(checks, what, ids, sent.logs)
    if sent.spans:
        otlp.check_spans(checks, what, ids, sent.spans)


def finds_what_is_wrong(checks):
    """The decoder sees a member that the definitions lack, a wrong type, and bytes that are no message."""
    modules = installed(checks)
    if not modules:
        return

    class Request:
        path, headers = "/v1/logs", {"content-type": "application/json"}

        def __init__(self, body, json_type=True):
            self.body = body
            self.headers = {"content-type": "application/json" if json_type else "application/x-protobuf"}
    record = {"timeUnixNano": "1", "body": {"stringValue": "x"}}
    good = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}
    wrong = [json.dumps(good).replace("timeUnixNano", "timeUnixNanos").encode(),
             json.dumps(good).replace('"x"', "7").encode(), b"{"]
    answers = Official(modules).decode([Request(json.dumps(good).encode()), *map(Request, wrong), Request(b"\x0a\x09x", False)])
    checks.check("error" not in answers[0] and all("error" in answer for answer in answers[1:]),
                 "what is wrong is found", answers)


if __name__ == "__main__":
    sink_harness.need("otlp")
    harness.main("otlp_official", [everything, finds_what_is_wrong])
