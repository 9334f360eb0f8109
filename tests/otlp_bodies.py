"""Bodies of JSON for the test of the otlp sink, as texts that say the same in many ways, and what must arrive of each."""
import json
import math

STRINGS = ["", "a", "x" * 126, "x" * 130, "y" * 17000, "plain", "h\u00f6re", "\U0001f600", "tab\tline\n\\quote\"/", "\x7f", "z" * 15 + "\n"]
NUMBERS = ["0", "-0", "7", "-1", "999999999999999999", "1000000000000000000", "9223372036854775807", "-9223372036854775808",
           "0.1", "-2.5e-3", "1E2", "1e0", "123456789012345678.5"]
ODD = ['{"a":1,"a":2}', '{"o":{"b":1,"b":1}}', '[{"b":1,"b":1}]', '9223372036854775808', '{"n":18446744073709551616}', '"\\u0000"',
       '{"k":"\\u0000"}', '"\\ud800"', '["\\udc00x"]', '1e400', '{"a":01}', '{"a":1,}', '{"a":1} x', '[1,2', '{"a" 1}', '"a', "nul",
       '{"\\u0061":1,"a":2}', '{"a":"\x01"}', '[1 2]', '{"a":-}', "[.5]", '{1:2}', "{]", "", " ", '"\\x"', "--1"]


class Refused(Exception):
    """The text is no JSON, or none that can be told as values: it arrives as it is."""


def spaced(random, text):
    return text if random.random() < 0.7 else random.choice([" ", "\n", "\t", "  "]) + text + random.choice([" ", "\r\n", ""])


def string(random, text):
    """A JSON string that says `text`, with escapes that need not be."""
    quoted = json.dumps(text, ensure_ascii=random.random() < 0.5)
    return quoted.replace("a", "\\u0061").replace("/", "\\/") if random.random() < 0.2 else quoted


def value(random, depth):
    kind = random.random()
    if depth < 6 and kind < 0.25:
        items = [spaced(random, value(random, depth + 1)) for _ in range(random.choice([0, 1, 2, 5]))]
        return "[" + ",".join(items) + "]"
    if depth < 6 and kind < 0.5:
        return members(random, depth, random.choice([0, 1, 3, 8]))
    if kind < 0.75:
        return string(random, random.choice(STRINGS))
    return random.choice(NUMBERS) if kind < 0.9 else random.choice(["true", "false", "null"])


def members(random, depth, count):
    names = random.sample(["model", "error", "kind", "message", "a", "b", "c b", "h\u00f6re", 'q"', "latency_ms", "n" * 200, ""], count)
    return "{" + ",".join(spaced(random, string(random, name)) + ":" + spaced(random, value(random, depth + 1)) for name in names) + "}"


def texts(random, count):
    """Among them each odd one, and objects with more members than are held at once."""
    many = ["{" + ",".join(f'"m{i}":{i}' for i in range(n)) + "}" for n in (31, 32, 33, 200)]
    return ODD + many + [spaced(random, value(random, random.choice([0, 0, 5]))) for _ in range(count)]


def _once(pairs):
    if len({name for name, _ in pairs}) != len(pairs):
        raise Refused
    return dict(pairs)


def _integer(text):
    if not -2**63 <= int(text) < 2**63:
        raise Refused
    return int(text)


def _real(text):
    if math.isinf(float(text)):
        raise Refused
    return float(text)


def _whole(tree):
    """No NUL, and no half of a surrogate pair."""
    text = json.dumps(tree, ensure_ascii=False)
    if "\\u0000" in text:
        raise Refused
    text.encode()
    return tree


def said(text):
    """What a record's body must say."""
    try:
        return _whole(json.loads(text, object_pairs_hook=_once, parse_int=_integer, parse_float=_real,
                                 parse_constant=lambda _: _integer("9" * 30)))
    except (Refused, ValueError):
        return text
