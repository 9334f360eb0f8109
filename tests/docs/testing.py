#!/usr/bin/env python3
"""TESTING.md keeps pace: each promise it quotes still stands in a document, and each test it names exists.

A quote is a line that begins with `> `. A test is `unit:name` (a START_TEST of tests/unit/test_unit.c), or a path below tests/.
Each row of the table "What hurts elsewhere" names a test.
"""
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = (ROOT / "TESTING.md").read_text()


def plain(text):
    """The words alone: documents break their lines in different places and mark code in different ways."""
    return re.sub(r"\s+", " ", re.sub(r"[`*\\•“”‘’\"']", "", text)).replace("- ", "-").strip()


def rendered(page):
    done = subprocess.run(["mandoc", "-Tutf8", "-Owidth=500", page], capture_output=True, text=True, check=True)
    return re.sub(r".\x08", "", done.stdout)


def test_exists(name):
    if "/" in name:
        return (ROOT / name).exists()
    unit, _, test = name.partition(":")
    source = ROOT / "tests/unit" / f"test_{unit}.c"
    return source.exists() and re.search(rf"START_TEST\({re.escape(test)}\)", source.read_text())


def main():
    documents = plain(" ".join([(ROOT / "README.md").read_text(), (ROOT / "lib/spool.h").read_text().replace("\n * ", "\n")]
                               + [rendered(page) for page in sorted((ROOT / "man").glob("*.[0-9]"))]))
    quotes = re.findall(r"^> (.+)$", PAGE, re.MULTILINE)
    tests = sorted(set(re.findall(r"`((?:tests/[\w./-]+)|(?:[a-z0-9_]+:\w+))`", PAGE)))
    unproved = [block for block in re.split(r"^> ", PAGE, flags=re.MULTILINE)[1:] if not re.search(r"`[\w/.-]+[:/]\w", block)]
    failures = [f"no document says any more: {quote}" for quote in quotes if plain(quote) not in documents]
    failures += [f"there is no such test: {name}" for name in tests if not test_exists(name)]
    failures += [f"no test is named for: {block.splitlines()[0]}" for block in unproved]
    rows = re.findall(r"^\| (?!What hurts)([^|]+) \| ([^|]+) \|$", PAGE.partition("## What hurts elsewhere")[2].partition("\n## ")[0],
                      re.MULTILINE)
    failures += [f"no test makes it impossible: {pain}" for pain, named in rows if not set(re.findall(r"`([^`]+)`", named)) & set(tests)]
    if len(rows) < 12:
        failures.append(f"{len(rows)} things that hurt elsewhere, 12 are known")
    if len(quotes) < 10 or len(tests) < 10:
        failures.append(f"{len(quotes)} quotes and {len(tests)} tests found: this script no longer reads the page right")
    for failure in failures:
        print("FAILED:", failure)
    print(f"RESULT {len(quotes) + len(tests) - len(failures)} {len(failures)}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
