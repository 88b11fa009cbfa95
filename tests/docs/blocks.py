"""Runs or checks each code block of a Markdown page: blocks.py SOURCE BUILD PREFIX PAGE.

How is told by the block's language, and by a comment on the line before it, `<!-- run: key=value ... -->`;
tests/README.md has both. PREFIX is where Tally is installed. A page has a folder of its own, in which its blocks run one
after the other, and see the sources, and BUILD as build/release."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

import data_blocks
from markdown import Absent, Wrong, blocks_of
from terminal import Terminal, compare

HERE = os.path.dirname(os.path.abspath(__file__))
# What pages name of the sources, as seen from their top.
OF_THE_SOURCES = ["bench", "docs", "examples", "include", "packaging", "src", "tests", "tools", "CMakeLists.txt"]
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wno-unused", "-pthread"]
COMPILERS = {"c": ["gcc", "-std=c11", "-xc"], "cpp": ["g++", "-std=c++20", "-xc++"]}


class Page:
    def __init__(self, source, build, prefix, path):
        self.source, self.path = source, path
        self.room = tempfile.TemporaryDirectory()
        self.folder = os.path.join(self.room.name, "page")
        os.mkdir(self.folder)
        for name in OF_THE_SOURCES:
            os.symlink(os.path.join(source, name), os.path.join(self.folder, name))
        os.mkdir(os.path.join(self.folder, "build"))
        os.symlink(build, os.path.join(self.folder, "build", "release"))
        self.skipped = []
        self.written = {}  # files that no check has seen yet, by name, with their lines
        self.environment = self.environment_of(prefix)
        self.terminal = Terminal(self.folder, self.environment)

    def environment_of(self, prefix):
        """As where Tally is installed for all, but in another place."""
        found = subprocess.run(["find", prefix, "-name", "libtally.so"], stdout=subprocess.PIPE, text=True, check=True)
        lib = os.path.dirname(found.stdout.strip())
        assert lib, f"Tally is not installed in {prefix}"
        ours = {name: value for name, value in os.environ.items() if not name.startswith("TALLY_")}
        return {**ours, "HOME": self.folder, "PATH": f"{prefix}/bin:{ours['PATH']}", "LD_LIBRARY_PATH": lib,
                "LIBRARY_PATH": lib, "CPATH": f"{prefix}/include", "PKG_CONFIG_PATH": f"{lib}/pkgconfig",
                "CMAKE_PREFIX_PATH": prefix, "MANPATH": f"{prefix}/share/man:", "LC_ALL": "C.UTF-8"}

    def run(self, block):
        marker = block.marker
        if "skip" in marker:
            self.skipped.append(f"{self.path}:{block.line}: {marker['skip']}")
            return
        if "needs" in marker and not shutil.which(os.path.join(self.folder, marker["needs"]) if "/" in marker["needs"]
                                                  else marker["needs"]):
            raise Absent(marker["needs"])
        for name in list(self.written):
            if name in block.text or (name == "CMakeLists.txt" and "cmake" in block.text):
                del self.written[name]
        if "file" in marker:
            self.write(marker["file"], block)
        if "before" in marker:
            self.terminal.run(marker["before"], block.line)
        how = getattr(self, "run_" + block.language, None)
        if how:
            how(block)
        elif block.language in data_blocks.CHECKS:
            data_blocks.CHECKS[block.language](block.text)
        else:
            raise Wrong(f"nothing is known of the language '{block.language}'; a block that cannot be run says why: "
                        "<!-- run: skip=\"...\" -->")

    def write(self, name, block):
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(block.text)
        if block.language in ("sh", "cmake", "text", "python"):
            self.written[name] = block.line

    def commands(self, text, block):
        """The text as it is run here: with what stands for a word of the page's, as `where` has it."""
        for word in filter(None, block.marker.get("where", "").split(",")):
            shown, _, meant = word.partition("=")
            text = re.sub(rf"\b{re.escape(shown)}\b", lambda _: meant, text)
        return text

    def run_sh(self, block):
        if "file" in block.marker:
            data_blocks.call("bash", "-n", os.path.join(self.folder, block.marker["file"]))
            os.chmod(os.path.join(self.folder, block.marker["file"]), 0o755)
        else:
            self.terminal.run(self.commands(block.text, block), block.line, int(block.marker.get("exit", 0)))

    def run_console(self, block):
        """`$ ` begins a command, which goes on where its line ends in a backslash; the rest is what it says."""
        lines = block.text.rstrip("\n").split("\n")
        if not lines[0].startswith("$ "):
            raise Wrong("a block of a terminal begins with a command: '$ ...'")
        at = 0
        while at < len(lines):
            first = at
            while lines[at].endswith("\\"):
                at += 1
            at += 1
            command = "\n".join(lines[first:at])[2:] + "\n"
            shown = []
            while at < len(lines) and not lines[at].startswith("$ "):
                shown.append(lines[at])
                at += 1
            status = int(block.marker.get("exit", 0)) if at == len(lines) else 0
            output = self.terminal.run(self.commands(command, block), block.line + first, status)
            while shown and not shown[-1].strip():
                shown.pop()
            try:
                compare(shown, output)
            except Wrong as error:
                raise Wrong(f"line {block.line + first}: {command}{error}") from None

    def run_c(self, block):
        """A program is run, unless it is a file for later blocks; a part of one is compiled."""
        program = re.search(r"^int main\b", block.text, re.MULTILINE)
        place = f'#line {block.line} "{self.path}"\n'
        if program:
            text = place + block.text
        elif block.marker.get("scope") == "file":
            text = self.prelude(block) + place + block.text
        else:
            includes = "".join(line + "\n" for line in block.text.split("\n") if line.startswith("#include"))
            body = re.sub(r"^#include.*", "", block.text, flags=re.MULTILINE)
            text = f"{self.prelude(block)}{includes}void fragment(void);\nvoid fragment(void) {{\n{place}{body}}}\n"
        compiler = COMPILERS[block.language] + WARNINGS
        path = os.path.join(self.room.name, f"line_{block.line}")
        with open(path, "w") as file:
            file.write(text)
        if not program or "file" in block.marker:
            data_blocks.call(*compiler, "-fsyntax-only", path, env=self.environment)
            return
        data_blocks.call(*compiler, "-O1", path, "-o", path + ".out", "-xnone", "-ltally", env=self.environment)
        self.terminal.run(path + ".out\n", block.line, int(block.marker.get("exit", 0)))

    run_cpp = run_c

    def prelude(self, block):
        """What stands before the block, so that it has the names that the reader's program would have."""
        names = [f"any.{block.language}"] + ([block.marker["with"]] if "with" in block.marker else [])
        for name in names:
            if not os.path.exists(os.path.join(HERE, "prelude", name)):
                raise Wrong(f"there is no tests/docs/prelude/{name}")
        return "".join(f'#include "{HERE}/prelude/{name}"\n' for name in names)

    def run_python(self, block):
        if "file" in block.marker:
            try:
                compile(block.text, block.marker["file"], "exec")
            except SyntaxError as error:
                raise Wrong(f"no Python: {error}") from None
        else:
            command = f"python3 - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK\n"
            self.terminal.run(command, block.line, int(block.marker.get("exit", 0)))

    def run_cmake(self, block):
        """Part of a project whose programs do nothing. What fetches Tally is configured alone: tests/install builds that."""
        if "file" in block.marker:
            return
        folder = os.path.join(self.room.name, f"cmake_{block.line}")
        os.mkdir(folder)
        targets = dict.fromkeys(re.findall(r"target_link_libraries\((\w+)", block.text))
        made = re.findall(r"add_(?:executable|library)\((\w+)", block.text)
        programs = "".join(f"add_executable({name} main.cpp)\n" for name in targets if name not in made)
        with open(os.path.join(folder, "main.cpp"), "w") as file:
            file.write("#include <tally/tally.h>\nint main() { return tally_version() == nullptr; }\n")
        with open(os.path.join(folder, "CMakeLists.txt"), "w") as file:
            file.write(f"cmake_minimum_required(VERSION 3.21)\nproject(page LANGUAGES C CXX)\n{programs}{block.text}")
        commands = f"cmake -S {folder} -B {folder}/build -DFETCHCONTENT_SOURCE_DIR_TALLY={self.source}\n"
        if "FetchContent" not in block.text:
            commands += f"cmake --build {folder}/build\n"
        try:
            self.terminal.run(commands, block.line)
        except Wrong as error:
            raise Wrong(f"{error}\n{block.text}") from None

    def run_text(self, block):
        """Is shown; but a file of rules is one that Tally has nothing to say of."""
        if "rules" not in block.marker:
            return
        path = os.path.join(self.room.name, f"rules_{block.line}")
        with open(path, "w") as file:
            file.write(block.text)
        said = self.terminal.run(f"TALLY_TAG_BY=module TALLY_TAGS={path} LD_PRELOAD=libtally.so.1 /bin/true\n", block.line)
        if said:
            raise Wrong(f"Tally says\n{said}")

    def check(self):
        """What is wrong, as lines for the reader of a test."""
        failed = []
        with open(os.path.join(self.source, self.path)) as file:
            text = file.read()
        count = 0
        try:
            for block in blocks_of(text):
                count += 1
                try:
                    self.run(block)
                except Absent as error:
                    self.skipped.append(f"{self.path}:{block.line}: {error} is not here")
                except Wrong as error:
                    where = re.match(r"line (\d+): ", str(error))
                    line = where[1] if where else block.line
                    failed.append(f"{self.path}:{line}: {str(error)[where.end() if where else 0:]}")
            for name, line in self.written.items():
                failed.append(f"{self.path}:{line}: no later block says what is done with {name}")
        except Wrong as error:
            failed.append(f"{self.path}: {error}")
        finally:
            self.terminal.end()
            self.room.cleanup()
        return count, failed


def main():
    page = Page(*sys.argv[1:5])
    count, failed = page.check()
    for line in page.skipped:
        print(f"skipped: {line}")
    if failed:
        sys.exit("\n".join(failed))
    print(f"{count} blocks of {page.path}, {len(page.skipped)} of them skipped")


if __name__ == "__main__":
    main()
