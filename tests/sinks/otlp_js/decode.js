// Decodes OTLP requests with OpenTelemetry's own definitions: `node decode.js NODE_MODULES < requests > decoded`.
//
// One JSON line a request in, {"path":…,"json":…,"body":base64}; one line out, the request as JSON with bytes in base64, or
// {"error":…}. A request in JSON must come out of the definitions as it went in: a member that they do not know would be gone,
// and one of another type would be changed.
"use strict";
const path = require("path");
const root = require(path.join(process.argv[2], "@opentelemetry/otlp-transformer/build/src/generated/root.js"));
const services = root.opentelemetry.proto.collector;
const IDS = ["traceId", "spanId", "parentSpanId"];

// In JSON the protocol has ids in hexadecimal, and protobuf's own mapping in base64.
function toBase64(tree) {
  if (tree === null || typeof tree !== "object") return tree;
  if (Array.isArray(tree)) return tree.map(toBase64);
  return Object.fromEntries(Object.entries(tree).map(([key, item]) =>
    [key, IDS.includes(key) ? Buffer.from(item, "hex").toString("base64") : toBase64(item)]));
}

// What stands in `sent` must stand in `tree`, as the same type: 64-bit integers are texts in JSON.
function compare(sent, tree, where) {
  if (sent === null || typeof sent !== "object") {
    if (sent !== tree) throw new Error(`${where} is ${JSON.stringify(sent)}, and by the definitions ${JSON.stringify(tree)}`);
    return;
  }
  if (tree === null || typeof tree !== "object") throw new Error(`the definitions have no ${where}`);
  for (const [key, item] of Object.entries(sent)) compare(item, tree[key], `${where}.${key}`);
}

function decode(request) {
  const body = Buffer.from(request.body, "base64");
  const type = request.path.endsWith("logs") ? services.logs.v1.ExportLogsServiceRequest
                                             : services.trace.v1.ExportTraceServiceRequest;
  const plain = message => type.toObject(message, { longs: String, bytes: String, arrays: true });
  if (!request.json) return plain(type.decode(body));
  const sent = toBase64(JSON.parse(body));
  const tree = plain(type.decode(type.encode(type.fromObject(sent)).finish()));
  compare(sent, tree, "request");
  return tree;
}

for (const line of require("fs").readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  let answer;
  try {
    answer = decode(JSON.parse(line));
  } catch (error) {
    answer = { error: `${error}` };
  }
  console.log(JSON.stringify(answer));
}
