#!/usr/bin/env python3
"""Writes docs/OPTIONS.md from the one table of options, in src/runtime/options.cpp: options.py [--check | --man FILE VERSION]

With --check it writes nothing, and fails where the page is not what it would write; with --man it writes the man page
tally(7) of the same text."""
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
        yield f"TALLY_{key.upper()}", *form.groups()


def roff(text):
    """With what stands between backticks in bold."""
    return re.sub(r"`([^`]+)`", r"\\fB\1\\fR", text.replace("\\", "\\e").replace("-", "\\-"))


def man_page(version):
    yield f""".TH "TALLY" 7 "" "Tally {version}" "Tally"
.nh
.ad l
.SH NAME
tally \\- options of libtally.so, the malloc that knows where the memory went
.SH SYNOPSIS
.B LD_PRELOAD=libtally.so.1
.RI [ OPTION = VALUE " ...] " PROGRAM
.br
.B tally run
.RB [ \\-\\-option
.IR NAME = VALUE "] ... " PROGRAM
.SH DESCRIPTION
"""
    _, _, about = HEAD.partition("\n\n")
    yield roff(about.partition("\n\n|")[0]) + "\n.SH ENVIRONMENT\n"
    for name, values, default, does in rows():
        yield f".TP\n.B {name}\n{roff(does[0].upper() + does[1:])}.\nValues: {roff(values)}. Default: {roff(default)}.\n"
    yield ".SH \"SEE ALSO\"\n.BR tally (1) ,\n.BR tally-run (1)\n"


def main():
    if sys.argv[1:2] == ["--man"]:
        pathlib.Path(sys.argv[2]).write_text("".join(man_page(sys.argv[3])))
        return
    page = HEAD + "".join("| `{}` | {} | {} | {} |\n".format(*row) for row in rows()) + END
    if "--check" not in sys.argv:
        PAGE.write_text(page)
    elif PAGE.read_text() != page:
        sys.exit("docs/OPTIONS.md is not what the table of options says: docs/options.py writes it")


main()
