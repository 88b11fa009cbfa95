#!/usr/bin/env python3
"""Writes the man pages of `tally`, its commands and tally-dump, from what they say to --help.

usage: man_pages.py TALLY DUMP FOLDER

FOLDER gets tally.1, a page tally-COMMAND.1 for each command that `tally help` lists, and tally-dump.1; other pages there
go. commands.h tells how a help text is written.
"""

import os
import re
import subprocess
import sys

# "  TERM   what it is", the term being an option, a word in capitals or a number.
ITEM = re.compile(r"  (-\S.*?|[A-Z0-9][A-Z0-9=:|. -]*?)(?:  +(\S.*))?$")


def escape(text):
    """Text that roff shows as it stands."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text.startswith((".", "'")) else text


def quote(text):
    return '"' + escape(text).replace('"', '\\(dq') + '"'


def blocks_of(text):
    """The paragraphs of a help text as lists of lines."""
    return [block.split("\n") for block in re.split(r"\n\n+", text.strip("\n"))]


def items(lines):
    """[(term, description)] of lines that are a list, else None."""
    found = []
    for line in lines:
        match = ITEM.match(line)
        if match:
            found.append((match.group(1), match.group(2) or ""))
        elif found and line.startswith("   "):
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}".strip())
        else:
            return None
    return found


def list_of(entries):
    out = []
    for term, description in entries:
        out += [".TP", ".B " + escape(term), escape(description)]
    return out


def verbatim(lines):
    return [".PP", ".nf", ".RS 4", *(escape(line.removeprefix("  ")) for line in lines), ".RE", ".fi"]


def sections_of(text):
    """{section: roff lines} of a help text."""
    sections = {name: [] for name in ("SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES")}
    usage, *rest = blocks_of(text)
    for line in usage:
        sections["SYNOPSIS"] += [".br", escape(re.sub(r"^usage:", "", line).strip())]
    del sections["SYNOPSIS"][0]
    for block in rest:
        head = block.pop(0) if not block[0].startswith(" ") else ""
        if head.lower().startswith("exit status"):
            text = head.partition(":")[2].strip()
            sections["EXIT STATUS"] += [escape(text[:1].upper() + text[1:])] if text else []
            sections["EXIT STATUS"] += list_of(items(block) or [])
        elif head in ("", "options:") and items(block):
            sections["OPTIONS"] += list_of(items(block))
        elif not head or head.lower().rstrip(":") == "examples":
            sections["EXAMPLES"] += verbatim(block)
        elif block and all(line.startswith("  ") for line in block):  # a list or a picture with a title
            entries = items(block)
            sections["OPTIONS" if entries else "DESCRIPTION"] += [
                ".PP", escape(head), *(list_of(entries) if entries else verbatim(block))]
        else:
            sections["DESCRIPTION"] += [".PP", *map(escape, [head, *block])]
    return sections


def page(name, summary, version, sections, see_also):
    out = [f".TH {quote(name.upper())} 1 \"\" {quote(version)} \"Tally\"",
           ".nh", ".ad l",  # words as they are, to be found and copied
           ".SH NAME", f"{escape(name)} \\- {escape(summary)}"]
    for title, lines in sections.items():
        if lines:
            while lines[0] == ".PP":
                lines = lines[1:]
            out += [f".SH {quote(title)}", *lines]
    out += [".SH \"SEE ALSO\"", ",\n".join(f".BR {escape(other)} (1)" for other in see_also).replace(",\n", " ,\n")]
    return "\n".join(out) + "\n"


def main(tally, dump, folder):
    def ask(*args, program=tally):
        return subprocess.run([program, *args], check=True, stdout=subprocess.PIPE, text=True).stdout

    overview = ask("help")
    version = ask("--version").strip()
    commands = re.findall(r"^  ([a-z]+) +(.*)", overview, re.MULTILINE)
    commands = [(name, summary) for name, summary in commands if name != "help"]
    pages = {}
    for name, summary in commands:
        others = ["tally"] + [f"tally-{other}" for other, _ in commands if other != name]
        pages[f"tally-{name}"] = page(f"tally-{name}", summary, version, sections_of(ask("help", name)), others)
    summary, _, usage = ask("--help", program=dump).partition("\n\n")
    summary = summary.partition(":")[0].partition(",")[0]
    pages["tally-dump"] = page("tally-dump", summary[:1].lower() + summary[1:], version, sections_of(usage),
                               ["tally"] + [f"tally-{other}" for other, _ in commands])
    pages["tally"] = overview_page(overview, version, [f"tally-{name}" for name, _ in commands])

    os.makedirs(folder, exist_ok=True)
    for old in os.listdir(folder):
        if old.endswith(".1") and old[:-2] not in pages:
            os.remove(os.path.join(folder, old))
    for name, text in pages.items():
        with open(os.path.join(folder, f"{name}.1"), "w", encoding="utf-8") as out:
            out.write(text)


def overview_page(overview, version, see_also):
    usage, *groups = blocks_of(overview)
    commands = []
    for group in groups:
        entries = [re.match(r"  (\S+) +(.*)", line).groups() for line in group if line.startswith("  ")]
        title = [".SS " + quote(group[0].rstrip(":").capitalize())] if not group[0].startswith(" ") else [".SS Else"]
        commands += title + list_of(entries)
    sections = {
        "SYNOPSIS": [escape(usage[0].removeprefix("usage:").strip())],
        "DESCRIPTION": ["Tally is a malloc that knows where the memory went. This program does what is done with it",
                        "from a shell: runs programs with Tally as their malloc, and looks into them."],
        "COMMANDS": commands,
        "EXIT STATUS": ["2 where the command line cannot be understood; else that of the command, whose page tells it."],
    }
    return page("tally", "knows where the memory of programs is", version, sections, see_also)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__.strip())
    main(*sys.argv[1:])
