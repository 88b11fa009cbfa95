"""The code blocks of a Markdown page, and what the page says of how each is run."""
import dataclasses
import re
import shlex

# What a marker may say; with a value but for the last.
KEYS = {"file", "exit", "with", "needs", "skip", "before", "where", "scope", "rules"}


class Wrong(Exception):
    """What is the matter with a block, to be told with its place."""


class Absent(Exception):
    """What a block needs and this machine has not."""


@dataclasses.dataclass
class Block:
    line: int  # of the first line of its text
    language: str
    text: str
    marker: dict


def marker_of(comment):
    """Of `run: key=value ...`, the inside of a comment; None if that is another comment."""
    said = re.match(r"\s*run:(.*)", comment, re.DOTALL)
    if not said:
        return None
    marker = {}
    try:
        words = shlex.split(said[1])
    except ValueError as error:
        raise Wrong(f"the marker cannot be read: {error}") from None
    for word in words:
        key, equals, value = word.partition("=")
        if key not in KEYS:
            raise Wrong(f"the marker says '{key}', and knows {', '.join(sorted(KEYS))}")
        if (key != "rules") != bool(equals and value):
            raise Wrong(f"the marker's '{key}' has {'no' if key != 'rules' else 'a'} value")
        marker[key] = value
    return marker


def blocks_of(page):
    """Each block of the page's text, in order."""
    lines = page.split("\n")
    marker = None
    item = 0  # how far the text of the list's item is indented that the line may be part of
    paragraph = False  # an indented line goes on with what stands before it
    number = 0
    while number < len(lines):
        line = lines[number]
        number += 1
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if not text:
            paragraph = False
            continue
        if text.startswith("<!--"):
            first = number
            while "-->" not in text:
                if number == len(lines):
                    raise Wrong(f"line {first}: the comment does not end")
                text += "\n" + lines[number]
                number += 1
            try:
                marker = marker_of(text[4:text.index("-->")])
            except Wrong as error:
                raise Wrong(f"line {first}: {error}") from None
            paragraph = False
            continue
        fence = re.fullmatch(r"(`{3,}|~{3,})(.*)", text)
        if fence:
            first = number
            while number < len(lines) and lines[number].strip() != fence[1]:
                number += 1
            if number == len(lines):
                raise Wrong(f"line {first}: the block does not end")
            if not fence[2].strip():
                raise Wrong(f"line {first}: the block says no language")
            inside = [line[min(indent, len(line) - len(line.lstrip())):] for line in lines[first:number]]
            yield Block(first + 1, fence[2].strip(), "".join(line + "\n" for line in inside), marker or {})
            number += 1
            marker = None
            paragraph = False
            continue
        if marker is not None:
            raise Wrong(f"line {number}: a marker, and no block after it")
        bullet = re.match(r"\s*(?:[-*+]|\d+[.)]) +", line)
        if indent == 0 and not bullet and not paragraph:
            item = 0
        if indent >= item + 4 and not paragraph:
            raise Wrong(f"line {number}: a block by indentation: it should be fenced, with its language")
        if bullet:
            item = len(bullet[0])
        paragraph = True
    if marker is not None:
        raise Wrong(f"line {number}: a marker, and no block after it")
