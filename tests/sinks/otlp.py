#!/usr/bin/env python3
"""The otlp sink against a collector of the test. What it sends is decoded by Google's protobuf library here, and by
OpenTelemetry's own definitions in otlp_official.py."""
import base64
import json
import os
import pathlib
import re
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import otlp_bodies
import sink_harness
from http_server import OK, Server, Unsteady, send, slowly
from sink_site import QUICK, SinkSite

EVENTS = int(os.environ.get("EVENTS", 100000))
HERE = pathlib.Path(__file__).resolve().parent
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = "01890a5d-ac96-774b-bcce-b302099a8057"
WHEN, WHEN_NS = "2026-01-02T03:04:05.123456789Z", 1767323045123456789
ID = re.compile(rb"libspool\.id\x12\x26\x0a\x24([0-9a-f-]{36})")

CALL = {"type": "log.llm_call", "agent": "planner", "session": "s-1", "priority": "high", "tags": ["a", "b"],
        "parent": PARENT, "traceparent": f"00-{TRACE}-{SPAN}-01", "occurred_at": WHEN,
        "data": {"model": "small-1", "provider": "openai", "input_tokens": 312, "output_tokens": 9007199254740993,
                 "cost_usd": 0.1, "latency_ms": 1500.5, "finish_reasons": "stop", "temperature": 1,
                 "cache_read_tokens": 100, "input_messages": [{"role": "user", "parts": []}], "prompt": "secret words"}}
DELEGATION = {"type": "log.agent_delegation", "agent": "planner", "priority": "medium", "parent": PARENT,
              "data": {"to": "researcher", "task": "secret task", "tool": "search", "arguments": {"q": "secret"},
                       "error": "timeout"}}
LEARNING = {"type": "memory.learning", "agent": "planner", "session": "s-1", "priority": "medium",
            "data": {"lesson": "secret lesson", "confidence": 0.75}}
PLAN = {"type": "memory.plan", "priority": "medium",
        "data": {"plan": ["secret step"], "revision": 3, "status": "active"}}
ERROR = {"type": "log.error", "session": "s-2", "priority": "critical",
         "data": {"message": "it broke", "kind": "IOError", "stack": "a\nb"}}
OTHER = {"type": "my.type", "priority": "low", "data": {"n": -1, "deep": {"list": [1, 2.5, True, None,
    "h\u00f6re \U0001f600"]}}}
TEXT = {"type": "text", "priority": "medium", "content_type": "text/plain", "data_base64": "aMO2cmU="}
BYTES = {"type": "bytes", "priority": "medium", "content_type": "application/octet-stream", "data_base64": "AAEC/w=="}
NOT_JSON = {"type": "not.json", "priority": "medium", "content_type": "application/json", "data_base64": "e25vdCBqc29u"}
NEST = {"type": "nest", "priority": "medium", "data": json.loads("[" * 60 + "]" * 60)}
EMPTY = {"type": "empty", "priority": "medium"}
ALL = [CALL, DELEGATION, LEARNING, PLAN, ERROR, OTHER, TEXT, BYTES, NOT_JSON, NEST, EMPTY]


# ------------------------------------------------------------------------------------------------------------ decoding

class Decoder:
    """Google's protobuf library, in whichever Python has it."""

    def __init__(self, checks):
        self.generated = checks.dir("generated")
        self.generated.mkdir(exist_ok=True)
        done = harness.run("protoc", f"--proto_path={HERE}", f"--python_out={self.generated}", HERE / "otlp.proto")
        if done.returncode:
            raise RuntimeError(done.stderr)
        for python in (sys.executable, "/usr/bin/python3"):
            if harness.run(python, "-c", "import google.protobuf").returncode == 0:
                self.python = python
                return
        raise RuntimeError("no Python has google.protobuf: python3-protobuf is missing")

    def decode(self, requests):
        lines = "".join(json.dumps({"path": request.path, "body": base64.b64encode(request.body).decode(),
                                    "json": request.headers["content-type"] == "application/json"}) + "\n"
                        for request in requests)
        done = harness.run(self.python, HERE.parent / "otlp_decode.py", self.generated, input=lines)
        return [json.loads(line) for line in done.stdout.splitlines()]


def value(any_value):
    """An AnyValue as what it says."""
    if "kvlistValue" in any_value:
        return attributes(any_value["kvlistValue"].get("values", []))
    if "arrayValue" in any_value:
        return [value(item) for item in any_value["arrayValue"].get("values", [])]
    if "intValue" in any_value:
        return int(any_value["intValue"])
    if "bytesValue" in any_value:
        return base64.b64decode(any_value["bytesValue"])
    return next(iter(any_value.values()), None)


def attributes(pairs):
    names = [pair.get("key", "") for pair in pairs]
    if len(set(names)) != len(names):
        raise ValueError(f"a key stands twice: {names}")
    return {pair.get("key", ""): value(pair.get("value", {})) for pair in pairs}


class Sent:
    """What a sink sent, decoded: resources, log records and spans, by libspool.id."""

    def __init__(self, decoder, requests):
        self.errors, self.resources, self.scopes, self.logs, self.spans = [], [], [], {}, {}
        for tree in decoder.decode(requests):
            if "error" in tree:
                self.errors.append(tree["error"])
            for kind, scopes, items, found in (("resourceLogs", "scopeLogs", "logRecords", self.logs),
                                               ("resourceSpans", "scopeSpans", "spans", self.spans)):
                for resource in tree.get(kind, []):
                    self.resources.append(attributes(resource["resource"]["attributes"]))
                    for scope in resource[scopes]:
                        self.scopes.append(scope["scope"])
                        for item in scope.get(items, []):
                            item["attributes"] = attributes(item["attributes"])
                            found[item["attributes"]["libspool.id"]] = item


def collector(answers=(), default=200):
    answers = iter(answers)
    return Server(lambda request: next(answers, default))


def settings(server, **more):
    return {"endpoint": f"http://127.0.0.1:{server.port}", **more}


def ids_of(request):
    return [i.decode() for i in ID.findall(request.body)]


def deliver(checks, name, events, more, answers=(), environment=None, **options):
    """Delivers events; returns their ids, the server and the site."""
    server = collector(answers)
    site = SinkSite(checks, name, "otlp", settings(server, **more), **options)
    ids = site.put(events)
    checks.check(site.deliver(**(environment or {})), f"{name}: all are heard of", site.said()[-800:])
    return ids, server, site


def expect(checks, what, got, wanted):
    wrong = {key: (got.get(key), item) for key, item in wanted.items() if got.get(key) != item}
    checks.check(not wrong, what, f"(is, should be): {wrong}")


# ------------------------------------------------------------------------------------------------------------- mapping

def logs(checks):
    decoder = Decoder(checks)
    seen = {}
    for encoding in ("protobuf", "json"):
        ids, server, _ = deliver(checks, f"logs-{encoding}", ALL, {"encoding": encoding, "service": "agents",
                                                                   "resource": {"deployment.environment.name": "test"}})
        sent = Sent(decoder, server.requests)
        checks.check(not sent.errors and set(sent.logs) == set(ids) and not sent.spans, f"{encoding}: can be decoded",
                     sent.errors)
        checks.check({request.path for request in server.requests} == {"/v1/logs"}, f"{encoding}: to /v1/logs")
        expect(checks, f"{encoding}: the resource", sent.resources[0],
               {"service.name": "agents", "deployment.environment.name": "test", "libspool.genai.version": "2026-08"})
        checks.check(sent.scopes[0]["name"] == "libspool" and sent.scopes[0]["version"], f"{encoding}: the scope",
                     sent.scopes)
        check_logs(checks, encoding, ids, sent.logs)
        seen[encoding] = [{**sent.logs[i],
                           "attributes": {k: v for k, v in sent.logs[i]["attributes"].items() if k != "libspool.id" and
                           k != "gen_ai.memory.record.id"}, "observedTimeUnixNano": 0, "timeUnixNano": 0} for i in ids]
    checks.check(seen["protobuf"] == seen["json"], "both encodings say the same")


def check_logs(checks, what, ids, records):
    call, delegation, learning, plan, error, other, text, raw, not_json, nest, empty = [records[i] for i in ids]
    expect(checks, f"{what}: a model call", call, {
        "timeUnixNano": str(WHEN_NS), "severityNumber": 5, "severityText": "DEBUG", "traceId": TRACE, "spanId": SPAN,
        "flags": 1,
        "eventName": "gen_ai.client.inference.operation.details", "body": None})
    expect(checks, f"{what}: its attributes", call["attributes"], {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "small-1",
        "gen_ai.usage.input_tokens": 312, "gen_ai.usage.output_tokens": 9007199254740993,
        "gen_ai.usage.cache_read.input_tokens": 100, "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.request.temperature": 1.0, "libspool.cost_usd": 0.1, "libspool.latency_ms": 1500.5,
        "gen_ai.conversation.id": "s-1", "gen_ai.agent.name": "planner", "libspool.type": "log.llm_call",
        "libspool.priority": "high", "libspool.parent": PARENT, "libspool.tags": ["a", "b"],
        "gen_ai.input.messages": None})
    expect(checks, f"{what}: a delegation", delegation["attributes"], {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "researcher", "libspool.agent": "planner",
        "gen_ai.tool.name": "search", "gen_ai.provider.name": "_OTHER", "error.type": "timeout",
        "gen_ai.tool.call.arguments": None, "libspool.task": None})
    expect(checks, f"{what}: a memory", learning["attributes"], {
        "gen_ai.operation.name": "create_memory", "gen_ai.memory.record.id": ids[2], "libspool.memory.confidence": 0.75,
        "libspool.type": "memory.learning"})
    expect(checks, f"{what}: a plan", plan["attributes"], {
        "gen_ai.operation.name": "plan", "libspool.memory.revision": 3, "libspool.memory.status": "active"})
    expect(checks, f"{what}: an error", error,
           {"severityNumber": 17, "severityText": "ERROR", "eventName": "log.error"})
    expect(checks, f"{what}: its attributes", error["attributes"], {
        "exception.message": "it broke", "error.type": "IOError", "exception.stacktrace": "a\nb", "session.id": "s-2"})
    bodies = [value(record.get("body", {})) for record in (other, text, raw, not_json, empty)]
    checks.check(bodies == [OTHER["data"], "h\u00f6re", b"\0\1\2\xff", "{not json", None], f"{what}: bodies", bodies)
    checks.check("secret" not in json.dumps(records), f"{what}: no content unless asked for")
    checks.check(json.dumps(nest).count("arrayValue") == 17, f"{what}: deep nesting ends as text",
                 json.dumps(nest)[:400])
    checks.check(all("spanId" not in record for record in (delegation, learning)),
                 f"{what}: no trace where none was given")


def content(checks):
    """Off, by the configuration, and by the instrumentations' variable, over which the configuration goes."""
    decoder = Decoder(checks)
    variable = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
    for name, more, environment, in_logs, in_spans in (
            ("off", {}, {}, False, False), ("on", {"content": "on"}, {}, True, True),
            ("logs", {"content": "logs"}, {}, True, False), ("spans", {"content": "spans"}, {}, False, True),
            ("variable", {}, {variable: "SPAN_ONLY"}, False, True), ("event-only", {}, {variable: "event_only"}, True,
                                                                     False),
            ("overruled", {"content": "off"}, {variable: "SPAN_AND_EVENT"}, False, False)):
        ids, server, _ = deliver(checks, f"content-{name}", ALL, {"signals": "both", **more}, environment=environment)
        sent = Sent(decoder, server.requests)
        found = ["secret" in json.dumps(sent.logs), "secret" in json.dumps(sent.spans)]
        checks.check(found == [in_logs, in_spans],
                     f"content {name}: as told", f"{sent.logs} {sent.spans}"[:500])
        if name == "on":
            expect(checks, "content: in a model call", sent.logs[ids[0]]["attributes"],
                   {"gen_ai.input.messages": CALL["data"]["input_messages"]})
            checks.check(value(sent.logs[ids[0]]["body"]) == CALL["data"], "content: the whole body")
            expect(checks, "content: in a delegation", sent.spans[ids[1]]["attributes"], {
                "gen_ai.tool.call.arguments": {"q": "secret"}, "libspool.task": "secret task"})


def bodies(checks):
    """Whatever JSON says, and however it says it: by protobuf straight from the text, in JSON from a tree."""
    decoder = Decoder(checks)
    texts = otlp_bodies.texts(checks.random, 400)
    wanted = [otlp_bodies.said(text) for text in texts]
    for encoding in ("protobuf", "json"):
        for kind in ("my.type", "log.error", "log.llm_call"):
            events = [{"type": kind, "priority": "medium", "content_type": "application/json",
                       "data_base64": base64.b64encode(text.encode()).decode()} for text in texts]
            ids, server, _ = deliver(checks, f"bodies-{encoding}-{kind}", events, {"encoding": encoding, "content": "on"})
            sent = Sent(decoder, server.requests)
            wrong = [(text, said, found) for text, said, found in
                     zip(texts, wanted, (value(sent.logs[i]["body"]) if "body" in sent.logs[i] else "" for i in ids))
                     if not same(said, found)]
            checks.check(not wrong and not sent.errors, f"bodies, {encoding}, {kind}: all {len(texts)} say the same",
                         f"{len(wanted)}: {wrong[:2]} {sent.errors[:1]}"[:1500])


def same(a, b):
    """Equal, and of one type at each place."""
    if isinstance(a, dict) and isinstance(b, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def check_spans(checks, what, ids, spans):
    call, delegation = spans[ids[0]], spans[ids[1]]
    expect(checks, f"{what}: the span of a call", call, {
        "traceId": TRACE, "parentSpanId": SPAN, "name": "chat small-1", "kind": 3, "flags": 1, "status": None,
        "endTimeUnixNano": str(WHEN_NS), "startTimeUnixNano": str(WHEN_NS - 1500500000)})
    expect(checks, f"{what}: the span of a delegation", delegation, {
        "name": "invoke_agent researcher", "kind": 1, "status": {"code": 2}, "traceId": PARENT.replace("-", "")})
    checks.check(len({call["spanId"], delegation["spanId"], "0" * 16}) == 3 and len(call["spanId"]) == 16,
                 f"{what}: span ids differ")


def traces(checks):
    decoder = Decoder(checks)
    for encoding in ("protobuf", "json"):
        ids, server, _ = deliver(checks, f"both-{encoding}", ALL, {"signals": "both", "encoding": encoding})
        sent = Sent(decoder, server.requests)
        checks.check(not sent.errors and set(sent.logs) == set(ids) and set(sent.spans) == set(ids[:2]),
                     f"both, {encoding}: log records of all, spans of calls and delegations", sent.errors)
        check_spans(checks, encoding, ids, sent.spans)
    ids, server, _ = deliver(checks, "traces", ALL, {"signals": "traces", "content": "on"}, answers=[503, 200])
    sent = Sent(decoder, server.requests[1:])
    checks.check(set(sent.spans) == set(ids) and {request.path for request in server.requests} == {"/v1/traces"},
                 "traces: a span of each event", sent.errors)
    first, second = (ID.sub(b"", request.body) for request in server.requests[:2])
    checks.check(first == second, "traces: what is sent again is the same, span ids and all")
    learning = sent.spans[ids[2]]["attributes"]
    checks.check(learning["gen_ai.memory.records"] == [{"id": ids[2], "content": LEARNING["data"]}],
                 "traces: memory records", learning)
    bodies = [sent.spans[i]["attributes"].get("libspool.body") for i in ids[5:9]]
    checks.check(bodies == [OTHER["data"], "h\u00f6re", b"\0\1\2\xff", "{not json"], "traces: bodies are attributes",
                 bodies)


# ------------------------------------------------------------------------------------------------------------- answers

def proto(*fields):
    """A protobuf message of (number, int or bytes)."""
    out = b""
    for number, item in fields:
        if isinstance(item, int):
            out += bytes([number << 3]) + varint(item)
        else:
            out += bytes([number << 3 | 2]) + varint(len(item)) + item
    return out


def varint(n):
    out = b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7f | 0x80]), n >> 7
    return out + bytes([n])


def partial_success(encoding, rejected, message=b"no such tenant"):
    if encoding == "json":
        return 200, {}, json.dumps({"partialSuccess": {"rejectedLogRecords": str(rejected),
                                                       "errorMessage": message.decode()}}).encode()
    return 200, {}, proto((1, proto((1, rejected), (2, message))))


def partial(checks):
    """Never sent again. What was perhaps rejected is a dead letter, a warning is none."""
    events = [{"type": "test", "data": {"n": n}} for n in range(20)]
    for encoding in ("protobuf", "json"):
        for name, rejected, more, dead in (("some", 3, {}, 20), ("all", 20, {}, 20), ("warning", 0, {}, 0),
                                           ("some-delivered", 3, {"partial": "deliver"}, 0),
                                           ("all-anyway", 20, {"partial": "deliver"}, 20)):
            ids, server, site = deliver(checks, f"partial-{name}-{encoding}", events, {"encoding": encoding, **more},
                                        answers=[partial_success(encoding, rejected)])
            letters = site.dead()
            checks.check(len(server.requests) == 1 and len(letters) == dead,
                         f"partial, {name}, {encoding}: {dead} dead letters",
                         f"{len(server.requests)} requests, {letters}")
            if dead:
                reason = f"rejected {rejected} of the 20 events of a request: no such tenant"
                checks.check(all(reason in text for text in letters.values()), f"partial, {name}: the reason", letters)


def small_after_partial(checks):
    """Once requests were taken in part, they are small: of what the collector takes, little becomes a dead letter. All that it
    rejected is one, or with `deliver` told."""
    def bad(request):
        return [i for i in ids_of(request) if i in wrong]
    for name, more in (("dead", {}), ("deliver", {"partial": "deliver"})):
        wrong, server = set(), Server(lambda request: partial_success("protobuf", len(bad(request))) if bad(request) else 200)
        site = SinkSite(checks, f"small-{name}", "otlp", settings(server, **more), batch_events=100)
        ids = site.put_numbers(1000)
        wrong.update(ids[3::50])
        checks.check(site.deliver(), f"small, {name}: all are heard of", site.said()[-500:])
        letters, sizes = set(site.dead()), [len(ids_of(request)) for request in server.requests]
        checks.check(sizes[0] == 100 and sizes[1] == 12 and 1 in sizes and sum(sizes) == 1000,
                     f"small, {name}: requests shrink, none is sent again", sizes[:20])
        if name == "dead":
            checks.check(wrong <= letters and len(letters) < 300, "small: few are in doubt, none is lost", len(letters))
        else:
            lost = sum(int(n) for n in re.findall(r"rejected (\d+) of \d+ events, which are lost, as .partial. says: no such tenant",
                                                      site.said()))
            checks.check(letters <= wrong and lost + len(letters) == len(wrong), "small: what is lost is told, each one",
                         f"{lost} {len(letters)} {site.said()[-300:]}")


def warned(checks):
    """A warning is told, once as long as it is the same."""
    answers = [partial_success("protobuf", 0, word) for word in [b"too old"] * 5 + [b"too new"]]
    _, server, site = deliver(checks, "warned", [OTHER] * 60, {}, answers=answers, batch_events=10)
    said = site.said()
    checks.check(len(server.requests) == 6 and said.count("warns: too old") == 1 and said.count("warns: too new") == 1,
                 "warnings are told once", said)


def nonsense(checks):
    """Bodies of 200 answers that are nothing: the status has the word."""
    answers = [(200, {}, checks.random.randbytes(checks.random.randrange(200))) for _ in range(60)]
    answers += [(200, {}, body) for body in (b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x0b" * 50,
                                             b"\xff" * 20, b"{", b"[]")]
    site = SinkSite(checks, "nonsense", "otlp", settings(collector(answers), partial="deliver"), batch_events=2)
    site.put_numbers(200)
    checks.check(site.deliver(), "nonsense in 200: all are heard of", site.said()[-500:])


def again(checks):
    """429, 502, 503, 504 and cuts are sent again; Retry-After is kept."""
    answers = [429, 502, 503, 504, send(), send(OK + b"Content-Le"), send(OK + b"Content-Length: 9\r\n\r\nab"),
               (503, {"Retry-After": "1"})]
    ids, server, site = deliver(checks, "again", [OTHER] * 10, {}, answers=answers, retry={**QUICK, "max_attempts": 1})
    checks.check(len(server.requests) >= 9 and not site.dead(), "again: sent again, no attempt is used up",
                 len(server.requests))
    gap = server.requests[8].at - server.requests[7].at
    checks.check(gap > 0.9, "again: Retry-After is kept", gap)
    checks.check({i for request in server.requests[8:] for i in ids_of(request)} == set(ids), "again: all arrive")


def never(checks):
    """What must not be sent again is not: dead letters, with the collector's words."""
    status = proto((1, 13), (2, b"internal trouble"))
    for code in (500, 501, 507, 408, 418):
        ids, server, site = deliver(checks, f"never-{code}", [OTHER] * 5, {}, answers=[(code, {}, status)])
        letters = site.dead()
        checks.check(len(server.requests) == 1 and set(letters) == set(ids) and
                     all(f"answers {code}: internal trouble" in text for text in letters.values()),
                     f"{code}: not sent again", f"{len(server.requests)} {letters}")


def bisected(checks):
    """400 for one bad event: it is found."""
    bad = []
    server = Server(lambda request: (400, {}, proto((2, b"bad data"))) if set(ids_of(request)) & set(bad) else 200)
    site = SinkSite(checks, "bisected", "otlp", settings(server))
    ids = site.put_numbers(50)
    bad.append(ids[33])
    checks.check(site.deliver(), "400: all are heard of", site.said()[-500:])
    checks.check(list(site.dead()) == bad, "400: the bad one alone is a dead letter", site.dead())


def paused(checks):
    server = collector([401] * 1000)
    site = SinkSite(checks, "paused", "otlp", settings(server, headers={"x-api-key": {"env": "FAR_TOKEN"}}))
    site.put_numbers(3)
    site.run(FAR_TOKEN="tok-2718")
    checks.check(site.says("is paused"), "401: the operator hears of it", site.said())
    far = site.far()
    site.stop()
    checks.check(far.get("pending_events") == 3 and not site.dead() and "tok-2718" not in site.said(),
                 "401: nothing is lost", far)
    checks.check(server.requests[0].headers.get("x-api-key") == "tok-2718", "401: the token was sent")


def sizes(checks):
    """request_bytes cuts a batch into requests, in both encodings."""
    decoder = Decoder(checks)
    for encoding in ("protobuf", "json"):
        events = [{"type": "test", "data": "x" * (9000 if i == 50 else 300)} for i in range(100)]
        ids, server, _ = deliver(checks, f"sizes-{encoding}", events, {"encoding": encoding, "request_bytes": "8KiB"})
        sent = Sent(decoder, server.requests)
        counts = [len(request.body) for request in server.requests]
        kept = sum(size > 9500 for size in counts) <= 1 and len(counts) > 4
        checks.check(set(sent.logs) == set(ids) and not sent.errors and kept,
                     f"{encoding}: request_bytes is kept", f"{counts} {sent.errors}")


# --------------------------------------------------------------------------------------------------------- environment

def environment(checks):
    """OTEL_EXPORTER_OTLP_*, the signal's before the general ones, and the configuration before all."""
    first, second = collector(), collector()
    urls = [f"http://127.0.0.1:{server.port}" for server in (first, second)]
    base = {"OTEL_EXPORTER_OTLP_ENDPOINT": urls[0] + "/base/", "OTEL_EXPORTER_OTLP_HEADERS": "a=1, b=x%20y%2Cz",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
            "OTEL_SERVICE_NAME": "named", "OTEL_RESOURCE_ATTRIBUTES": "k=v,service.name=other"}
    site = SinkSite(checks, "environment", "otlp", {"signals": "both", "compress_min": 0})
    site.put([CALL])
    checks.check(site.deliver(**base, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=urls[1] + "/own",
                              OTEL_EXPORTER_OTLP_TRACES_PROTOCOL="http/protobuf",
                              OTEL_EXPORTER_OTLP_TRACES_HEADERS="c=3"), "environment: delivered", site.said())
    log, span = first.requests[0], second.requests[0]
    checks.check((log.path, span.path) == ("/base/v1/logs", "/own"), "environment: endpoints",
                 f"{log.path} {span.path}")
    expect(checks, "environment: the log's headers", log.headers, {"a": "1", "b": "x y,z", "content-encoding": "gzip",
                                                                    "content-type": "application/json", "c": None})
    expect(checks, "environment: the span's headers", span.headers,
           {"a": None, "c": "3", "content-type": "application/x-protobuf"})
    resource = attributes(json.loads(log.body)["resourceLogs"][0]["resource"]["attributes"])
    expect(checks, "environment: the resource", resource, {"service.name": "named", "k": "v"})
    site = SinkSite(checks, "overruled", "otlp",
                    {"endpoint": urls[1], "headers": {"a": "mine"}, "encoding": "protobuf", "compression": "none"})
    site.put([OTHER])
    checks.check(site.deliver(**base, OTEL_EXPORTER_OTLP_LOGS_ENDPOINT=urls[0]), "environment: overruled", site.said())
    got = second.requests[1]
    expect(checks, "environment: the configuration has the word", got.headers,
           {"a": "mine", "content-type": "application/x-protobuf", "content-encoding": None})
    for name, text in (("PROTOCOL", "grpc"), ("TIMEOUT", "soon"), ("HEADERS", "nothing"), ("COMPRESSION", "lz4")):
        site = SinkSite(checks, f"wrong-{name}", "otlp", {})
        site.put([OTHER])
        site.run(**{f"OTEL_EXPORTER_OTLP_{name}": text})
        checks.check(site.says("refuses its configuration"), f"environment: {name}={text} is refused", site.said())
        site.stop()


def timeout(checks):
    """A collector that never answers is given up after request_timeout, which the environment may set."""
    hung = iter([lambda connection: time.sleep(60)] * 2)
    server = Server(lambda request: next(hung, 200))
    site = SinkSite(checks, "timeout", "otlp", settings(server))
    site.put_numbers(5)
    checks.check(site.deliver(OTEL_EXPORTER_OTLP_TIMEOUT="300"), "timeout: delivered in the end", site.said())


BAD = [({"endpoint": "x"}, "endpoint"), ({"logs_endpoint": "ftp://x"}, "logs_endpoint"),
       ({"signals": "metrics"}, "signals"),
       ({"encoding": "grpc"}, "encoding"), ({"content": "yes"}, "content"), ({"resource": []}, "resource"),
       ({"partial": "x"}, "partial"), ({"request_bytes": "65MiB"}, "request_bytes"),
       ({"concurrency": 2}, "concurrency"),
       ({"headers": {"x-api-key": "secretword"}}, "headers"), ({"urll": 1}, "urll"), ({"service": ""}, "service"),
       ({"provider": 7}, "provider"), ({"status": {"retry": "429"}}, "status"),
       ({"request_timeout": "2h"}, "request_timeout")]


def bad_settings(checks):
    environment = SinkSite(checks, "unused", "otlp", {}).environment
    directory = checks.dir("bad")
    for more, key in BAD:
        words = [f"{name}={json.dumps(item)}" for name, item in more.items()]
        done = harness.run(harness.SPOOL, "-C", directory, "sink", "add", "far", "otlp", *words, env=environment)
        checks.check(done.returncode != 0 and f'"{key}"' in done.stderr and "secretword" not in done.stderr,
                     f"refused: {more}", done.stderr)


# --------------------------------------------------------------------------------------------------------- hard times

def restarted(checks):
    """EVENTS events through a collector that is stopped and started at random: an exact account by libspool.id."""
    unsteady = Unsteady(checks.seed, ids_of)
    site = SinkSite(checks, "restarted", "otlp", settings(unsteady.server, status={"down": [500]}), batch_events=256,
                    retry={"base": "5ms", "cap": "50ms"})
    ids = site.put_numbers(EVENTS)
    stop = threading.Event()
    breaker = threading.Thread(target=unsteady.live, args=(stop,))
    breaker.start()
    site.run()
    harness.wait_until(lambda: len(unsteady.taken) > EVENTS * 9 // 10, 120)
    stop.set()
    breaker.join()
    checks.check(site.drained(120), "restarted: all are delivered", site.said()[-500:])
    site.stop()
    missing, strange = set(ids) - set(unsteady.taken), set(unsteady.taken) - set(ids)
    print(f"    {len(ids)} events, {unsteady.server.connections} connections, {unsteady.repeated} came again")
    checks.check(not missing and not strange and not site.dead(), "restarted: every event, and by id exactly once",
                 f"{len(missing)} missing, {len(strange)} strange")
    checks.check(unsteady.repeated > 0 and unsteady.server.connections > EVENTS // 10000,
                 "restarted: it was broken off indeed")


def cancel(checks):
    silent = Server(lambda request: lambda connection: time.sleep(30))
    for signals in ("logs", "traces", "both"):
        sink_harness.cancelled_soon(checks, f"waiting for an answer, {signals}", "otlp", settings(silent, signals=signals))
    sink_harness.cancelled_in_connect(checks, "otlp", lambda port: {"endpoint": f"http://127.0.0.1:{port}"})
    sink_harness.cancelled_in_look_up(checks, "otlp", {"endpoint": "http://far.example"})
    sink_harness.cancelled_in_handshake(checks, "otlp", lambda port: {"endpoint": f"https://127.0.0.1:{port}"})
    sink_harness.cancelled_alone(checks, "reading an answer", "otlp", settings(Server(slowly)))
    sink_harness.cancelled_alone(checks, "before deliver", "otlp", settings(silent), after_ms=0)


def memory(checks):
    for encoding in ("protobuf", "json"):
        server = Server(lambda request: send(OK + b"Content-Length: 0\r\n\r\n"))
        large = sink_harness.Site(checks, f"large-{encoding}", "otlp", settings(server, content="on", encoding=encoding),
                                  {"batch_events": 4096, "batch_bytes": "4MiB"})
        sink_harness.bounded(checks, large, large.is_empty)


def valgrind(checks):
    """No leak and no error, through all kinds of events and answers."""
    answers = [503, send(), partial_success("protobuf", 1), (500, {}, proto((2, b"x"))), 400, (200, {}, b"\xff" * 9),
               send(OK)]
    log = checks.dir("valgrind.log")
    for encoding in ("protobuf", "json"):
        site = SinkSite(checks, f"valgrind-{encoding}", "otlp",
                        settings(collector(answers), signals="both", content="on", encoding=encoding,
                        compression="gzip", compress_min=10, bearer={"env": "FAR_TOKEN"}), batch_events=5,
                        retry={"base": "1ms", "cap": "5ms"})
        site.put(ALL * 4 + [{"type": "log.llm_call", "priority": "medium", "content_type": "application/json",
                             "data_base64": base64.b64encode(text.encode()).decode()} for text in otlp_bodies.texts(checks.random, 30)])
        site.run("valgrind", "-q", "--error-exitcode=9", "--leak-check=full",
                 "--errors-for-leak-kinds=definite,indirect",
                 f"--log-file={log}", FAR_TOKEN="x", OTEL_EXPORTER_OTLP_HEADERS="a=b,c=d",
                 OTEL_RESOURCE_ATTRIBUTES="e=f")
        good = site.drained(120)
        status = site.stop(120)
        checks.check(good and status == 0, f"valgrind, {encoding}: nothing to say",
                     f"{status}: {log.read_text()[:3000]} {site.said()[-500:]}")


def manual(checks):
    """The examples of the manual page and of examples/otel-collector run, and point to where the collector listens."""
    server = collector()
    sink_harness.manual_example(checks, "otlp", **{"127.0.0.1:4318": f"127.0.0.1:{server.port}"})
    checks.check(sorted(request.path for request in server.requests) == ["/v1/logs", "/v1/traces"],
                 "manual: what the example sends")
    folder = harness.ROOT / "examples" / "otel-collector"
    site = SinkSite(checks, "walk", "otlp", {})
    example = json.loads((folder / "spool.json").read_text())
    checks.check(example["sinks"][0]["endpoint"].removeprefix("http://") in (folder / "collector.yaml").read_text(),
                 "examples/otel-collector: both ends agree")
    example["spool"]["dir"], example["sinks"][0]["endpoint"] = str(site.spool), f"http://127.0.0.1:{server.port}"
    site.config.write_text(json.dumps(example))
    site.put([CALL, LEARNING])
    checks.check(site.deliver(), "examples/otel-collector: delivers", site.said())


TESTS = [logs, content, bodies, traces, partial, small_after_partial, warned, nonsense, again, never, bisected, paused,
         sizes, environment,
         timeout, bad_settings,
         restarted, cancel, memory, valgrind, manual]

if __name__ == "__main__":
    only = sys.argv[1:]
    sink_harness.need("otlp")
    harness.main("otlp", [test for test in TESTS if not only or test.__name__ in only])
