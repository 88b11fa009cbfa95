#!/usr/bin/env python3
"""Writes docs/OPTIONS.md from the one table of options, in src/runtime/options.cpp: options.py [--check]

With --check it writes nothing, and fails where the file is not what it would write."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "OPTIONS.md"
HEAD = """# Options

How Tally behaves is set in the environment, before the program starts; `tally run --option NAME=VALUE` sets the same, without
the prefix and in any letters. All of them at once: `TALLY_CONF="report:1,purge_ms:200"`; `TALLY_<OPTION>` wins over it, and
must be used for what has a comma itself, as lists of limits and faults. An unknown name or a bad value is said once on stderr,
with what is expected. Programs with raised rights (setuid) ignore all of them. Sizes are bytes, or have a suffix: `64K`, `512M`,
`2G`, `1.5G`.

| option | values | default | |
|---|---|---|---|
"""
END = """
This page is made from the table in the code by `docs/options.py`.
"""


def rows():
    text = (ROOT / "src" / "runtime" / "options.cpp").read_text()
    table = text[text.index("constexpr Option kOptions[] = {"):]
    table = table[:table.index("\n};")]
    entries = re.findall(r"((?: +// .*\n)+) +\{\"(\w+)\"", table)
    assert len(entries) == len(re.findall(r"^ +\{\"", table, re.MULTILINE)), "an option has no comment"
    for comment, key in entries:
        said = " ".join(line.strip().removeprefix("// ") for line in comment.strip().split("\n"))
        form = re.fullmatch(r"(.+?); ([^:;]+|`[^`]+`): (.+)", said)
        assert form, f"{key}: expected 'values; default: what it does', not '{said}'"
        yield f"| `TALLY_{key.upper()}` | {form[1]} | {form[2]} | {form[3]} |\n"


def main():
    page = HEAD + "".join(rows()) + END
    if "--check" not in sys.argv:
        PAGE.write_text(page)
    elif PAGE.read_text() != page:
        sys.exit("docs/OPTIONS.md is not what the table of options says: docs/options.py writes it")


main()
