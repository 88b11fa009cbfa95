"""Each link of the Markdown pages leads somewhere, and each file that they name is there: links.py SOURCE.

Links that are relative, with their #anchors as GitHub makes them; and paths from the top of the sources, or from the
page's folder, in `code` or with an ending. What is elsewhere on the net is not asked for."""
import os
import re
import sys

SOURCE = sys.argv[1]
FOLDERS = "bench|docs|examples|include|packaging|src|tests|tools|.github|.ci"


def pages():
    for folder, folders, names in os.walk(SOURCE):
        folders[:] = [name for name in folders if name not in ("build", ".git", "results", "corpus")]
        yield from (os.path.relpath(os.path.join(folder, name), SOURCE) for name in names if name.endswith(".md"))


def without_blocks(text):
    """The same lines, but of those between fences nothing."""
    lines = []
    fence = None
    for line in text.split("\n"):
        found = re.match(r"\s*(`{3,}|~{3,})", line)
        if found and (fence is None or line.strip() == fence):
            fence = found[1] if fence is None else None
            line = ""
        lines.append("" if fence else line)
    return "\n".join(lines)


def anchors(text):
    """What can stand after # of a page, for its headings and for what it names itself."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?)(?: +#+)?$", without_blocks(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
        anchor = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        name, number = anchor, 0
        while name in found:
            number += 1
            name = f"{anchor}-{number}"
        found.add(name)
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


def wrong_of(page, read):
    text = without_blocks(read(page))
    for match in re.finditer(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)|^\[[^\]]+\]: +(\S+)|(?:src|href)=\"([^\"]+)\"", text, re.MULTILINE):
        link = next(filter(None, match.groups()))
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = os.path.normpath(os.path.join(os.path.dirname(page), path)) if path else page
        line = text[:match.start()].count("\n") + 1
        if not os.path.exists(os.path.join(SOURCE, target)):
            yield f"{page}:{line}: a link to {link}, and there is no {target}"
        elif anchor and (not target.endswith(".md") or anchor not in anchors(read(target))):
            yield f"{page}:{line}: a link to {link}, and {target} has no heading of that name"
    path = rf"(?:{FOLDERS})/[\w./-]"
    for match in re.finditer(rf"(?<=`){path}*\w/?(?=`)|(?<![\w./-]){path}+\.(?:md|py|[ch]pp|h)\b", text):
        if re.fullmatch(r"docs/\w+", match[0]) or "NAME" in match[0]:  # a test, or what stands for any name
            continue
        if not any(os.path.exists(os.path.join(SOURCE, folder, match[0])) for folder in ("", os.path.dirname(page))):
            yield f"{page}:{text[:match.start()].count(chr(10)) + 1}: names {match[0]}, which is not there"


def check_that_it_sees():
    """Of a page that has one of each, all are seen, and what is right is not."""
    text = "# A `b`, c_d\n[a](#a-b-c_d) [b](#b) `src/README.md` [c](https://a/b)\n![d](no.png)\n`src/no` docs/NO.md.\n[e]: docs\n"
    said = "\n".join(wrong_of("README.md", lambda _: text)).replace("README.md:", "")
    expected = ["2: a link to #b,", "3: a link to no.png,", "4: names src/no,", "4: names docs/NO.md,"]
    assert len(said.split("\n")) == len(expected) and all(each in said for each in expected), said


def main():
    def read(path):
        with open(os.path.join(SOURCE, path)) as file:
            return file.read()
    check_that_it_sees()
    found = sorted(pages())
    assert "README.md" in found, found
    wrong = [line for page in found for line in wrong_of(page, read)]
    if wrong:
        sys.exit("\n".join(wrong))
    print(f"{len(found)} pages")


main()
