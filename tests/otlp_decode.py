#!/usr/bin/env python3
"""Decodes OTLP requests with Google's protobuf library: `otlp_decode.py GENERATED_DIR < requests > decoded`.

One JSON line a request in, {"path":…,"json":…,"body":base64}; one line out, the request as JSON with ids in hexadecimal, or
{"error":…}. Unknown fields are errors in both encodings."""
import base64
import json
import sys

sys.path.insert(0, sys.argv[1])
import otlp_pb2
from google.protobuf import json_format

IDS = ("traceId", "spanId", "parentSpanId")


def recode(value, convert):
    """The same tree with its ids converted."""
    if isinstance(value, dict):
        return {key: convert(item) if key in IDS else recode(item, convert) for key, item in value.items()}
    return [recode(item, convert) for item in value] if isinstance(value, list) else value


def unknown(message):
    """Names of messages that hold fields which the schema lacks."""
    found = [message.DESCRIPTOR.name] if message.UnknownFields() else []
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for item in (value if field.label == field.LABEL_REPEATED else [value]):
                found += unknown(item)
    return found


def decode(request):
    message = otlp_pb2.Logs() if request["path"].endswith("logs") else otlp_pb2.Traces()
    body = base64.b64decode(request["body"])
    if request["json"]:
        tree = recode(json.loads(body), lambda text: base64.b64encode(bytes.fromhex(text)).decode())
        json_format.ParseDict(tree, message)
    else:
        message.ParseFromString(body)
    if unknown(message):
        raise ValueError(f"unknown fields in {unknown(message)}")
    tree = json_format.MessageToDict(message)
    return recode(tree, lambda text: base64.b64decode(text).hex())


for line in sys.stdin:
    try:
        print(json.dumps(decode(json.loads(line))))
    except Exception as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
