#!/usr/bin/env python3
"""The http sink against a server of the test: what it sends in each format, what it makes of each answer, and what it
never tells. Misbehaviour is in http_faults.py, TLS in http_tls.py."""
import email.utils
import json
import pathlib
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness
import sink_harness
from http_server import Server, data_of
from sink_site import SinkSite

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
PARENT = "01890a5d-ac96-774b-bcce-b302099a8057"
MANY = ("batch", "ndjson")

EVENTS = [
    {"type": "log.llm_call", "agent": "planner", "session": "s-1", "priority": "medium", "tags": ["a,b", "50%"],
     "parent": PARENT, "traceparent": TRACE, "occurred_at": "2026-01-02T03:04:05.123456789Z",
     "data": {"model": "small-1", "text": "h\u00f6re \U0001f600 \"quoted\""}},
    {"type": "caf\u00e9 \"x\" 100%", "agent": "\u65e5\u672c", "priority": "medium",
     "content_type": "text/plain; charset=utf-8",
     "data_base64": "aMO2cmU="},
    {"type": "bytes", "priority": "medium", "content_type": "application/octet-stream", "data_base64": "AAEC/w=="},
    {"type": "not.json", "priority": "medium", "content_type": "application/json", "data_base64": "e25vdCBqc29u"},
    {"type": "empty", "priority": "medium"},
]
BODIES = [b'{"model":"small-1","text":"h\xc3\xb6re \xf0\x9f\x98\x80 \\"quoted\\""}', "h\u00f6re".encode(),
          b"\0\1\2\xff",
          b"{not json", None]


def server_of(checks, answers):
    """A server that gives the answers of an iterable one after the other, and 200 from then on."""
    answers = iter(answers)
    return Server(lambda request: next(answers, 200))


def delivered(checks, what, site, server, ids, timeout=60):
    good = site.deliver(timeout)
    there = [name for request in server.requests for name in request.ids()]
    checks.check(good and set(ids) <= set(there), what, f"{len(set(ids) - set(there))} missing: {site.said()[-500:]}")


# ------------------------------------------------------------------------------------------------------------ formats

def check_cloudevent(checks, what, event, put, id_text, body):
    """One event as a CloudEvent: attributes in either mode, and the body bytes."""
    wanted = {"specversion": "1.0", "id": id_text, "type": put["type"], "source": "urn:test", "priority": "medium"}
    for key in ("agent", "session", "parent", "traceparent"):
        if key in put:
            wanted[key] = put[key]
    if "tags" in put:
        wanted["tags"] = "a%2Cb,50%25"
    if "occurred_at" in put:
        wanted["time"] = put["occurred_at"]
    wrong = {key: (value, event.get(key)) for key, value in wanted.items() if event.get(key) != value}
    extra = set(event) - set(wanted) - {"time", "sequence", "recordedtime", "datacontenttype", "data", "data_base64",
                                        "body"}
    checks.check(not wrong and not extra, f"{what}: the attributes of {put['type']}", f"{wrong} {extra}")
    got = event.get("body") or None if "body" in event else data_of(event)
    same = got == body or (got and body and json.loads(got) == json.loads(body))
    checks.check(same, f"{what}: the body of {put['type']}", f"{got} is not {body}")


def formats(checks):
    for name in ("structured", "binary", "batch"):
        server = server_of(checks, [])
        site = SinkSite(checks, f"format-{name}", "http", {"url": server.url, "format": name, "source": "urn:test"})
        ids = site.put(EVENTS)
        delivered(checks, f"{name}: all events arrive", site, server, ids)
        events = {event["id"]: event for request in server.requests for event in request.events()}
        for put, id_text, body in zip(EVENTS, ids, BODIES):
            check_cloudevent(checks, name, events[id_text], put, id_text, body)
        checks.check(len(server.requests) == (1 if name == "batch" else len(EVENTS)), f"{name}: so many requests")
        if name != "batch":
            traced = [request.headers.get("traceparent") for request in server.requests]
            checks.check(sorted(filter(None, traced)) == [TRACE], f"{name}: the trace goes along as a header", traced)
            keys = [request.headers.get("idempotency-key") for request in server.requests]
            checks.check(keys == ids, f"{name}: Idempotency-Key is the event's id", keys)


def sequences(checks):
    server = server_of(checks, [])
    site = SinkSite(checks, "sequence", "http", {"url": server.url, "format": "batch"})
    ids = site.put_numbers(300)
    delivered(checks, "sequence: all events arrive", site, server, ids)
    events = [event for request in server.requests for event in request.events()]
    by_clock = sorted(events, key=lambda event: event["sequence"])
    checks.check([event["id"] for event in by_clock] == sorted(ids) and len({e["sequence"] for e in events}) == 300,
                 "sequence sorts as the ids do")


def lines(checks):
    server = server_of(checks, [])
    site = SinkSite(checks, "ndjson", "http", {"url": server.url, "format": "ndjson", "method": "PUT"})
    ids = site.put(EVENTS)
    cat = harness.run(harness.SPOOL, "-C", site.spool, "-o", "json", "cat").stdout
    delivered(checks, "ndjson: all events arrive", site, server, ids)
    request = server.requests[0]
    checks.check(request.body.decode() == cat, "ndjson: the lines are those of `spool cat`")
    checks.check(request.headers["content-type"] == "application/x-ndjson" and request.method == "PUT",
                 "ndjson: content type and method", f"{request.headers} {request.method}")


def sizes(checks):
    """request_bytes cuts a batch into requests; what is larger goes alone."""
    server = server_of(checks, [])
    site = SinkSite(checks, "sizes", "http", {"url": server.url, "format": "ndjson", "request_bytes": "4KiB"})
    ids = site.put([{"type": "test", "data": "x" * (9000 if i == 50 else 400)} for i in range(100)])
    delivered(checks, "request_bytes: all events arrive", site, server, ids)
    counts = [(len(request.raw), len(request.ids())) for request in server.requests]
    checks.check(all(size <= 4096 or n == 1 for size, n in counts) and len(counts) < 50, "request_bytes is kept",
                 counts)


def compression(checks):
    for coding in ("gzip", "zstd"):
        server = server_of(checks, [])
        site = SinkSite(checks, coding, "http", {"url": server.url, "format": "ndjson", "compression": coding,
                                                 "compress_min": 2000}, batch_events=64)
        ids = site.put_numbers(200)
        delivered(checks, f"{coding}: all events arrive", site, server, ids)
        codings = {(len(request.body) >= 2000, request.headers.get("content-encoding")) for request in server.requests}
        checks.check(codings <= {(True, coding), (False, None)} and (True, coding) in codings,
                     f"{coding}: large bodies alone are compressed", codings)
        large = [request for request in server.requests if len(request.body) >= 2000]
        checks.check(all(len(request.raw) < len(request.body) / 3 for request in large), f"{coding}: they are smaller")


def keep_alive(checks):
    for concurrency in (1, 8):
        server = server_of(checks, [])
        site = SinkSite(checks, f"keep-{concurrency}", "http", {"url": server.url, "concurrency": concurrency})
        ids = site.put_numbers(400)
        delivered(checks, f"concurrency {concurrency}: all events arrive", site, server, ids)
        checks.check(server.connections <= concurrency and len(server.requests) == 400,
                     f"concurrency {concurrency}: connections are kept", f"{server.connections} connections")
        if concurrency == 1:
            checks.check([request.ids()[0] for request in server.requests] == ids, "concurrency 1: in order")


# ------------------------------------------------------------------------------------------------------------ answers

def accepted(checks):
    server = server_of(checks, [200, 201, 202, (204, {}), (200, {}, b"x" * 100000)])
    site = SinkSite(checks, "accepted", "http", {"url": server.url})
    ids = site.put_numbers(5)
    delivered(checks, "2xx: delivered", site, server, ids)
    checks.check(len(server.requests) == 5, "2xx: sent once", len(server.requests))


def refused(checks):
    """400, 413 and 422 refuse one event for good, alone or among others."""
    for name in ("structured", "binary", "batch", "ndjson"):
        bad = {}

        def handler(request):
            found = [i for i in request.ids() if i in bad]
            return (bad[found[0]], {}, b"no\r\nsuch \x1b[31magent") if found else 200
        server = Server(handler)
        site = SinkSite(checks, f"refused-{name}", "http", {"url": server.url, "format": name})
        ids = site.put_numbers(60)
        bad.update({ids[7]: 422, ids[30]: 400, ids[59]: 413})
        delivered(checks, f"{name}, three refused: all are heard of", site, server, ids)
        dead = site.dead()
        checks.check(set(dead) == set(bad), f"{name}: those refused and nobody else are dead letters", list(dead))
        checks.check(all(f"answers {bad[i]}" in dead[i] and "no" in dead[i] and "\x1b" not in dead[i] for i in dead),
                     f"{name}: the reasons say what the server said", dead)
        taken = [i for request in server.requests for i in request.ids() if not set(request.ids()) & set(bad)]
        checks.check(sorted(taken) == sorted(set(ids) - set(bad)), f"{name}: the others are taken once")


def down(checks):
    """408, 429, 502, 503, 504 and redirects: everything waits, nothing is lost, no attempts are used up."""
    answers = [408, 429, 502, 503, 504, (302, {"Location": "/elsewhere"}), (307, {"Location": "/elsewhere"})]
    for name in ("structured", "ndjson"):
        server = server_of(checks, answers)
        site = SinkSite(checks, f"down-{name}", "http", {"url": server.url, "format": name},
                        retry={"base": "10ms", "cap": "50ms", "max_attempts": 1})
        ids = site.put_numbers(20)
        delivered(checks, f"{name}: after answers that say down, all arrive", site, server, ids)
        checks.check(not site.dead(), f"{name}: it costs no attempt", site.dead())
        checks.check({request.path for request in server.requests} == {"/in"}, f"{name}: redirects are not followed")


def retry_after(checks):
    """With 429 and with 503, in seconds and as a date; what makes no sense is not waited for."""
    for name, value in (("seconds", lambda: "1"), ("date", lambda: email.utils.formatdate(time.time() + 2, usegmt=True)),
                        ("nonsense", lambda: "soon"), ("past", lambda: "Wed, 21 Oct 2015 07:28:00 GMT")):
        server = server_of(checks, ((status, {"Retry-After": value()}) for status in (429, 503)))
        site = SinkSite(checks, f"after-{name}", "http", {"url": server.url})
        ids = site.put_numbers(3)
        delivered(checks, f"Retry-After, {name}: all arrive", site, server, ids)
        at = [request.at for request in server.requests]
        for status, gap in zip((429, 503), (at[1] - at[0], at[2] - at[1])):
            if name in ("seconds", "date"):
                checks.check(gap >= 0.9, f"{status}, Retry-After, {name}: it is waited for", f"{gap:.2f} s")
            else:
                checks.check(gap < 30, f"{status}, Retry-After, {name}: it is not waited for", f"{gap:.2f} s")


def poison(checks):
    """One event that makes the server answer 500 neither stops the others nor lives for ever."""
    for name in ("structured", "ndjson"):
        bad = set()
        server = Server(lambda request: 500 if bad & set(request.ids()) else 200)
        site = SinkSite(checks, f"poison-{name}", "http", {"url": server.url, "format": name},
                        retry={"base": "5ms", "cap": "20ms", "max_attempts": 4})
        ids = site.put_numbers(100)
        bad.add(ids[40])
        delivered(checks, f"{name}, one always 500: all are heard of", site, server, ids)
        dead = site.dead()
        checks.check(set(dead) == bad and "answers 500" in dead[ids[40]], f"{name}: it alone is a dead letter", dead)
        taken = [i for request in server.requests if not bad & set(request.ids()) for i in request.ids()]
        checks.check(sorted(taken) == sorted(set(ids) - bad), f"{name}: the others are taken once")


def order(checks):
    """Behind an event that is to be tried again, none of its agent is taken before it."""
    failures = {}

    def handler(request):
        number = json.loads(request.body)["data"]["n"]
        failures[number] = failures.get(number, 0) + 1
        return 500 if number % 25 == 3 and failures[number] <= 2 else 200
    server = Server(handler)
    site = SinkSite(checks, "order", "http", {"url": server.url}, order="agent", retry={"base": "5ms", "cap": "20ms"})
    ids = site.put([{"type": "test", "agent": f"a{i % 3}", "data": {"n": i}} for i in range(200)])
    delivered(checks, "order: all arrive", site, server, ids)
    taken = {}
    seen = {}
    for request in server.requests:
        event = json.loads(request.body)
        number = event["data"]["n"]
        seen[number] = seen.get(number, 0) + 1
        if number % 25 != 3 or seen[number] > 2:
            taken.setdefault(event["agent"], []).append(number)
    checks.check(all(numbers == sorted(numbers) for numbers in taken.values()), "order: each agent's events in order",
                 taken)


def paused(checks):
    """401, 403 and 404 need the operator: the sink is paused, nothing is rejected, the token is in no message; when he has
    seen to it, all arrives."""
    for status in (401, 403, 404):
        token = checks.dir(f"token-{status}")
        token.write_text("tok-wrong\n")
        token.chmod(0o600)
        server = Server(lambda request: 200 if request.headers["authorization"] == "Bearer tok-right" else status)
        site = SinkSite(checks, f"paused-{status}", "http", {"url": server.url, "bearer": {"file": str(token)}})
        site.put_numbers(5)
        site.run()
        checks.check(site.says("is paused"), f"{status}: the operator hears of it", site.said())
        far = site.far()
        checks.check(far.get("pending_events") == 5 and not site.dead(), f"{status}: nothing is lost or dead", far)
        token.write_text("tok-right\n")
        harness.run(harness.SPOOL, "-C", site.spool, "sink", "resume", "far")
        checks.check(site.drained(), f"{status}: delivered once resumed with another token", site.said())
        told = site.said() + harness.run(harness.SPOOL, "-C", site.spool, "-o", "json", "status").stdout
        site.stop()
        checks.check("tok-" not in told + site.said(), f"{status}: the tokens are in no message")


def classes(checks):
    """The configuration has the last word on statuses."""
    server = server_of(checks, [409, 404, 500, 429])
    site = SinkSite(checks, "classes", "http", {"url": server.url, "status": {
        "deliver": [409], "reject": [404, "5xx"], "retry": [429]}}, retry={"base": "5ms", "cap": "20ms"})
    ids = site.put_numbers(4)
    delivered(checks, "status: all are heard of", site, server, ids)
    dead = site.dead()
    checks.check(set(dead) == {ids[1], ids[2]}, "status: 409 delivers, 404 and 5xx reject, 429 tries again", dead)


def partly(checks):
    """207 answers for each event."""
    tries = {}

    def handler(request):
        results = []
        for event in request.events():
            number = event["data"]["n"]
            tries[event["id"]] = tries.get(event["id"], 0) + 1
            status = {1: 422, 2: 503, 3: None}.get(number % 10, 201)
            status = status if tries[event["id"]] == 1 or number % 10 == 1 else 200
            if status:
                results.append({"id": event["id"], "status": status, "reason": "because", "more": 1})
        return 207, {"Content-Type": "application/json"}, json.dumps({"results": results[::-1], "x": []}).encode()
    server = Server(handler)
    site = SinkSite(checks, "partly", "http", {"url": server.url, "format": "batch"},
                    retry={"base": "5ms", "cap": "20ms"})
    ids = site.put_numbers(50)
    delivered(checks, "207: all are heard of", site, server, ids)
    checks.check(set(site.dead()) == {ids[i] for i in range(1, 50, 10)}, "207: 422 is a dead letter", site.dead())
    checks.check(all(tries[ids[i]] == (2 if i % 10 in (2, 3) else 1) for i in range(50)),
                 "207: 503 and those not named are sent again, the others are not", tries)
    broken = [(207, {}, b"[]"), (207, {}, b"{"), (207, {}, b'{"results":[{"id":7},{},3]}'), 207]
    server = server_of(checks, broken)
    site = SinkSite(checks, "partly-broken", "http", {"url": server.url, "format": "batch"},
                    retry={"base": "5ms", "cap": "20ms"})
    delivered(checks, "207 with nonsense: sent again", site, server, site.put_numbers(3))
    checks.check(not site.dead() and len(server.requests) >= 5, "207 with nonsense: nothing is rejected")


# ------------------------------------------------------------------------------------------------- settings, secrets

def redirects(checks):
    server = Server(lambda request: (308, {"Location": "/there"}) if request.path == "/in" else 200)
    site = SinkSite(checks, "follow", "http", {"url": server.url, "redirects": 3})
    ids = site.put_numbers(3)
    delivered(checks, "redirects: followed when asked for", site, server, ids)
    checks.check([request.method for request in server.requests if request.path == "/there"] == ["POST"] * 3 and
                 all(request.raw for request in server.requests), "redirects: with method and body")
    server = Server(lambda request: (308, {"Location": "/in"}))
    site = SinkSite(checks, "loop", "http", {"url": server.url, "redirects": 3})
    site.put_numbers(1)
    site.run()
    checks.check(site.says("redirects"), "redirects: a circle ends", site.said())
    site.stop()


def secrets(checks):
    """From the environment and from files, taken up anew when they change."""
    token = checks.dir("token")
    token.write_text("first\n")
    token.chmod(0o600)
    server = server_of(checks, [])
    site = SinkSite(checks, "secrets", "http", {
        "url": server.url, "user": "ann", "password": {"env": "FAR_PASSWORD"},
        "headers": {"X-Api-Key": {"file": str(token), "prefix": "k="}, "X-Plain": "plain", "X-Empty": ""}})
    site.put_numbers(1)
    site.run(FAR_PASSWORD="pass:w\u00f6rd 123")
    checks.check(site.drained(), "secrets: delivered", site.said())
    token.write_text("second")
    site.put_numbers(1)
    checks.check(site.drained(), "secrets: delivered after a change", site.said())
    site.stop()
    headers = [request.headers for request in server.requests]
    checks.check([h.get("x-api-key") for h in headers] == ["k=first", "k=second"], "secrets: a file is read anew",
                 headers)
    checks.check(headers[0].get("authorization") == "Basic YW5uOnBhc3M6d8O2cmQgMTIz", "secrets: basic authentication",
                 headers)
    checks.check(headers[0].get("x-plain") == "plain" and headers[0].get("x-empty") == "", "plain headers", headers)
    told = site.said() + harness.run(harness.SPOOL, "-C", site.spool, "-o", "json", "status").stdout
    checks.check(not any(word in told for word in ("first", "second", "rd 123")), "secrets: in no message")
    site = SinkSite(checks, "secret-url", "http", {"url": {"env": "FAR_URL"}})
    site.put_numbers(1)
    site.run(FAR_URL="http://127.0.0.1:1/hidden-path?key=hidden-key")
    checks.check(site.says("127.0.0.1:1/"), "a secret address: its host is shown", site.said())
    site.stop()
    checks.check("hidden" not in site.said(), "a secret address: and nothing else of it", site.said())


def proxy(checks):
    """Requests go to the proxy, with its credentials."""
    server = server_of(checks, [])
    site = SinkSite(checks, "proxy", "http", {
        "url": "http://far.invalid/in?q=1", "proxy": f"http://127.0.0.1:{server.port}", "proxy_user": "p",
        "proxy_password": {"env": "PROXY_PASSWORD"}})
    site.put_numbers(1)
    checks.check(site.deliver(PROXY_PASSWORD="q"), "proxy: delivered", site.said())
    request = server.requests[0]
    checks.check(request.path == "http://far.invalid/in?q=1" and
                 request.headers.get("proxy-authorization") == "Basic cDpx",
                 "proxy: it gets the whole address, and its password", f"{request.path} {request.headers}")


BAD = [
    ({}, "url"), ({"url": ""}, "url"), ({"url": "ftp://x/"}, "url"), ({"url": "x"}, "url"), ({"url": 7}, "url"),
    ({"url": "http://ann:secretword@x/"}, "url"), ({"format": "xml"}, "format"), ({"method": "GET"}, "method"),
    ({"source": ""}, "source"), ({"request_bytes": 0}, "request_bytes"), ({"idempotency": 1}, "idempotency"),
    ({"status": []}, "status"), ({"status": {"deliver": [99]}}, "status"), ({"status": {"x": []}}, "status"),
    ({"status": {"retry": ["6xx"]}}, "status"), ({"headers": {"Authorization": "Bearer secretword"}}, "headers"),
    ({"headers": {"X-Token": "secretword"}}, "headers"), ({"headers": {"a b": "c"}}, "headers"),
    ({"headers": {"ce-id": "c"}}, "headers"), ({"headers": {"X": "a\r\nb: c"}}, "headers"),
    ({"headers": []}, "headers"),
    ({"headers": {"X": {"env": "A", "file": "/b"}}}, "X"), ({"headers": {"X": {"env": ""}}}, "X"),
    ({"bearer": "secretword"}, "bearer"), ({"user": "ann"}, "user"), ({"password": {"env": "A"}}, "user"),
    ({"concurrency": 0}, "concurrency"), ({"concurrency": 65}, "concurrency"), ({"redirects": 11}, "redirects"),
    ({"redirects": 1, "headers": {"X": {"env": "A"}}}, "redirects"), ({"compression": "lz4"}, "compression"),
    ({"connect_timeout": 0}, "connect_timeout"), ({"tls_verify": "no"}, "tls_verify"), ({"key_file": "/k"}, "key_file"),
    ({"proxy": "http://u:secretword@x"}, "proxy"), ({"response_bytes": "1GiB"}, "response_bytes"),
    ({"http_version": 3}, "http_version"), ({"urll": "x"}, "urll"),
]


def bad_settings(checks):
    """Each is refused when the sink is registered, by a message that names the key, and leaves no sink behind."""
    environment = SinkSite(checks, "unused", "http", {}).environment
    directory = checks.dir("bad")
    for settings, key in BAD:
        words = [f"{name}={json.dumps(value)}" for name, value in
                 ({"url": "http://127.0.0.1:1/"} | settings if settings else {}).items()]
        done = harness.run(harness.SPOOL, "-C", directory, "sink", "add", "far", "http", *words, env=environment)
        checks.check(done.returncode != 0 and f'"{key}"' in done.stderr and "secretword" not in done.stderr,
                     f"refused: {settings}", done.stderr)
    checks.check(not harness.status(directory).get("sinks"), "refused settings leave no sink")


def manual(checks):
    """The example of the manual page runs."""
    server = server_of(checks, [])
    sink_harness.manual_example(checks, "http", **{"127.0.0.1:8080": f"127.0.0.1:{server.port}"})
    checks.check(len(server.requests) == 1 and server.requests[0].events()[0]["data"] == {"model": "m-large"},
                 "manual: what the example sends")


TESTS = [formats, sequences, lines, sizes, compression, keep_alive, accepted, refused, down, retry_after, poison, order,
         paused, classes, partly, redirects, secrets, proxy,
         bad_settings, manual]

if __name__ == "__main__":
    only = sys.argv[1:]
    sink_harness.need("http")
    harness.main("http", [test for test in TESTS if not only or test.__name__ in only])
