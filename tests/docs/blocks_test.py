"""blocks.py passes what is right and refuses what is wrong, with its place: blocks_test.py SOURCE BUILD PREFIX."""
import glob
import os
import sys
import tempfile
import textwrap
import unittest

import blocks
import terminal

SOURCE, BUILD, PREFIX = sys.argv[1:4]
POD = """\
    apiVersion: v1
    kind: Pod
    metadata: {name: server}
    spec:
      containers:
        - name: server
          image: server:1
          env:
            - {name: TALLY_RECORD, value: "1"}
          volumeMounts:
            - {name: shm, mountPath: /dev/shm}
      volumes:
        - {name: shm, emptyDir: {medium: Memory, sizeLimit: 64Mi}}
    """


def page_of(text):
    """What blocks.py has to say of a page: what failed, and what was skipped."""
    with tempfile.NamedTemporaryFile("w", suffix=".md") as file:
        file.write(textwrap.dedent(text))
        file.flush()
        page = blocks.Page(SOURCE, BUILD, PREFIX, file.name)
        _, failed = page.check()
        return "\n".join(failed).replace(file.name, "page"), "\n".join(page.skipped).replace(file.name, "page")


def fenced(language, text, marker=""):
    marker = f"<!-- run: {marker} -->\n" if marker else ""
    return f"{marker}```{language}\n{textwrap.dedent(text)}```\n"


class Blocks(unittest.TestCase):
    def passes(self, *texts):
        failed, skipped = page_of("\n".join(texts))
        self.assertEqual(failed, "")
        return skipped

    def fails(self, what, *texts):
        failed, _ = page_of("\n".join(texts))
        self.assertIn(what, failed)

    def test_sh(self):
        self.passes(fenced("sh", "a=1\nmkdir -p x && cd x\nsleep 100 &\n"),
                    fenced("sh", "test $a = 1; test $(basename $PWD) = x; jobs | grep -q sleep\n"),
                    fenced("sh", "tally --version; test -d /tmp; ls ../build/release ../tools/dev\n"),
                    fenced("sh", "false\n", "exit=1"))
        self.fails("page:3: ended with 1, expected 0: grep -c x /dev/null\n0\n", fenced("sh", "true\ngrep -c x /dev/null\ntrue\n"))
        self.fails("page:3: ended with 0, expected 3: true", fenced("sh", "true\n", "exit=3"))
        self.fails("page:2: ended with 1, expected 0: false | true", fenced("sh", "false | true\n"))
        self.fails("unbound variable", fenced("sh", "echo $nothing\n"))
        terminal.SECONDS, seconds = 1, terminal.SECONDS
        self.fails("page:2: not at an end after 1 s, expected 0: sleep 100", fenced("sh", "sleep 100\n"))
        terminal.SECONDS = seconds
        self.fails("page:6: not run, as a block before it failed", fenced("sh", "exit 2\n"), fenced("sh", "true\n"))

    def test_nothing_is_left(self):
        with tempfile.NamedTemporaryFile("r") as file:
            self.passes(fenced("sh", f"tally run --exec sleep 100 &\necho $! >{file.name}\n"
                                     "until ls /dev/shm/tally-*/$!.tally; do sleep 0.1; done\n"))
            pid = int(file.read())
        self.assertFalse(os.path.exists(f"/proc/{pid}/exe"))
        self.assertTrue(not glob.glob(f"/dev/shm/tally-*/{pid}.tally") or not terminal.may_have_own_records())

    def test_markers(self):
        self.passes(fenced("sh", "test $(cat x) = PID; test PIDS != $$\n", "before='echo $$ >x' where='PID=$$'"))
        self.assertEqual(self.passes(fenced("sh", "false\n", 'skip="needs a cluster"')), "page:3: needs a cluster")
        self.assertEqual(self.passes(fenced("sh", "false\n", "needs=no-such-program")), "page:3: no-such-program is not here")
        self.fails("ended with 1", fenced("sh", "false\n", "needs=sh"))
        self.passes(fenced("text", "a\n", "file=of/a"), fenced("sh", "grep -q a of/a\n"))
        self.fails("page:3: no later block says what is done with of/a", fenced("text", "a\n", "file=of/a"))
        self.fails("page: line 1: the marker says 'exits', and knows before", fenced("sh", "true\n", "exits=1"))
        self.fails("page: line 1: the marker's 'skip' has no value", fenced("sh", "true\n", "skip"))
        self.fails("page: line 3: a marker, and no block after it", "<!-- run: exit=1 -->\n\nText.\n")

    def test_pages(self):
        self.passes("Text,\n    its next line.\n\n- an item\n\n  of two paragraphs\n\n  " + "```sh\n  true\n  ```\n", "<!-- a\n\ncomment -->\n")
        self.fails("page: line 3: a block by indentation", "Text:\n\n    tally ps\n")
        self.fails("page: line 3: a block by indentation", "- Item:\n\n      tally ps\n")
        self.fails("page: line 1: the block says no language", "```\ntext\n```\n")
        self.fails("page: line 1: the block does not end", "```sh\ntrue\n")
        self.fails("page:2: nothing is known of the language 'alloy'", fenced("alloy", "a {}\n"))

    def test_console(self):
        stat = "$ printf 'PID   LIVE\\n%5d  1.5 KiB of x\\n' $$\nPID LIVE\n4711  20 B of x\n"
        self.passes(fenced("console", stat + "\n$ echo a \\\n  b\na b\n$ seq 5\n1\n…\n5\n$ echo 0x12 took 3 ms\n0xffff … 1.2 s\n"))
        self.passes(fenced("console", "$ echo a; false\na\n", "exit=1"))
        self.fails("page:2: printf", fenced("console", stat.replace("B of x\n", "B of y\n")))
        self.fails("shown, and did not come: b\n", fenced("console", "$ echo a\na\nb\n"))
        self.fails("more came than is shown\na\nb\n", fenced("console", "$ echo a; echo b\na\n"))
        self.fails("page:4: ended with 1, expected 0: false", fenced("console", "$ echo a\na\n$ false\n"))
        self.fails("begins with a command", fenced("console", "a\n"))

    def test_c(self):
        self.passes(fenced("c", 'tally_tag cache = tally_tag_create("cache");\n'),
                    fenced("c", "#include <tally/tally.h>\nint main(void) { return tally_version()[0] != '1'; }\n"),
                    fenced("c", "static int f(void) { return 1; }\n", "scope=file"))
        self.fails("page:3:1: error: unknown type name ‘tally_tags’", fenced("c", "int a;\ntally_tags cache;\n"))
        self.fails("page:3:11: error:", fenced("c", "int main(void) {\n  return 0\n}\n"))
        self.fails("there is no tests/docs/prelude/none.h", fenced("c", "int a;\n", "with=none.h"))

    def test_cpp(self):
        self.passes(fenced("cpp", '#include <tally/memory.hpp>\nstd::vector<int, tally::Allocator<int>> v(tally::Tag::create("a"));\n'),
                    fenced("cpp", "int main() { for (;;) {} }\n", "file=server.cpp"))
        self.fails("page:3:14: error:", fenced("cpp", "int main() { an error }\n", "file=server.cpp"))
        self.fails("ended with 3, expected 0", fenced("cpp", "int main() { return 3; }\n"))

    def test_cmake(self):
        self.passes(fenced("cmake", "find_package(tally 1.0 CONFIG REQUIRED)\ntarget_link_libraries(app PRIVATE tally::malloc)\n"))
        self.fails("tally::mallocs", fenced("cmake", "find_package(tally)\ntarget_link_libraries(app PRIVATE tally::mallocs)\n"))

    def test_python(self):
        self.passes(fenced("python", "import json\n"), fenced("python", "def f(): pass\n", "file=f.py"), fenced("sh", "python3 f.py\n"))
        self.fails("AssertionError", fenced("python", "assert not 1\n"))
        self.fails("no Python", fenced("python", "def f(:\n", "file=f.py"), fenced("sh", "ls f.py\n"))

    def test_rules(self):
        self.passes(fenced("text", "anything\n"), fenced("text", "lib:libssl* -> net/tls  # a comment\n", "rules"))
        self.fails("Tally says\ntally: ", fenced("text", "libssl* net/tls\n", "rules"))

    def test_kubernetes(self):
        self.passes(fenced("yaml", POD))
        for right, wrong, says in [
                ("name: shm, mountPath", "name: hm, mountPath", "the mount 'hm' needs a volume"),
                ('"1"', "1", "the value of the variable 'TALLY_RECORD' is no text: quote it"),
                ("image: server:1", "imag: server:1", "a container has no field 'imag'"),
                ("kind: Pod", "kind: Pot", "the kind 'Pot' is not known here"),
                ("metadata: {name: server}", "metadata: {}", "the Pod needs an apiVersion and metadata.name"),
                ("sizeLimit: 64Mi", "sizeLimit: 64MB", "emptyDir cannot be 'sizeLimit: 64MB'"),
                ("containers:", "containers", "no YAML")]:
            with self.subTest(wrong):
                self.assertIn(right, POD)
                self.fails(says, fenced("yaml", POD.replace(right, wrong)))

    def test_data(self):
        unit = "[Unit]\nDescription=a server\n[Service]\nExecStart=/usr/bin/server\nRestart=on-failure\n"
        docker = 'FROM debian:12\nRUN apt-get update && \\\n  apt-get install -y x\nENV LD_PRELOAD=libtally.so.1\nCMD ["server"]\n'
        self.passes(fenced("json", '{"a": 1}\n'), fenced("ini", unit), fenced("ini", "[Service]\nEnvironment=TALLY_RECORD=1\n"),
                    fenced("ini", "[server]\nport = 80\n"), fenced("dockerfile", docker), fenced("yaml", "services: {a: {image: b}}\n"))
        self.fails("no JSON", fenced("json", "{'a': 1}\n"))
        self.fails("Unknown key 'Restat'", fenced("ini", unit.replace("Restart", "Restat")))
        self.fails("no INI", fenced("ini", "port = 80\n"))
        self.fails("no instruction of a Dockerfile: EVN", fenced("dockerfile", docker.replace("ENV", "EVN")))
        self.fails("no JSON", fenced("dockerfile", docker.replace('"', "'")))
        self.fails("needs an image", fenced("yaml", "services: {a: {images: b}}\n"))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
