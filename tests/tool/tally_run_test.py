#!/usr/bin/env python3
"""`tally run`: what it finds, what it sets, and each of its messages with its exit status.

usage: tally_run_test.py TALLY LIBRARY STATIC_PROGRAM
"""

import ctypes.util
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import unittest

from tool import LIBRARY, TALLY, ToolTest

STATIC_PROGRAM = os.path.realpath(sys.argv[3])
TRUE = shutil.which("true")
MIB = 1024 * 1024
NOBODY = 65534
USAGE = "; tally run --help shows how it is used"

# Prints the paths of what is loaded, in the order in which a symbol is looked for.
LOADED = """
import ctypes
class Info(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]
@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Info), ctypes.c_size_t, ctypes.c_void_p)
def show(info, size, data):
    print(info.contents.name.decode())
    return 0
ctypes.CDLL(None).dl_iterate_phdr(show, None)
"""


class PassesThrough(ToolTest):
    def test_the_exit_status(self):
        for status in 0, 1, 2, 78, 127, 255:
            self.assertEqual(self.call("run", "--quiet", "sh", "-c", f"exit {status}"), ("", "", status))

    def test_stdin_stdout_and_stderr(self):
        out, err, status = self.call("run", "--quiet", "sh", "-c", "cat; echo said >&2", input="a line\n")
        self.assertEqual((out, err, status), ("a line\n", "said\n", 0))

    def test_the_terminal(self):
        ours, its = pty.openpty()
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, its)
        self.assertEqual(self.run_quietly("sh", "-c", "test -t 0 && echo yes", stdin=its), "yes\n")

    def test_arguments(self):
        odd = ["", "--help", "--limit", "-x", "--", "[a,b]", "two words", "--report="]
        show = "import sys; print(sys.argv[1:])"
        for options in [], ["--"], ["--limit", "1G"], ["--limit=1G", "--"], ["--limit", "1G", "--option", "thp=never"]:
            self.assertEqual(self.run_quietly(*options, sys.executable, "-c", show, *odd), f"{odd}\n")
        self.assertEqual(self.run_quietly("--", "sh", "-c", "echo $0", "--", "x"), "--\n")

    def test_no_descriptor_is_left_open(self):
        show = "import os; print(len(os.listdir('/proc/self/fd')))"
        self.assertEqual(self.run_quietly("--no-record", sys.executable, "-c", show), "4\n")  # the folder's is one
        done = self.call("run", "--quiet", "--no-record", "--backend=mimalloc", sys.executable, "-c", show)
        self.assertEqual((done[0], done[2]), ("4\n", 0))


class Reports(ToolTest):
    """Of all that a script starts."""

    def tables(self, *options, wanted=""):
        pids, errors, status = self.call("run", "--no-record", *options, "bash", "-c", "echo $$; bash -c 'echo $$; :'; :")
        self.assertEqual(status, 0)
        return pids.split(), re.findall(r"^tally: process (\d+),", errors, re.M)

    def test_the_program_alone(self):
        pids, tables = self.tables()
        self.assertEqual(tables, pids[:1])

    def test_the_program_alone_without_a_parent(self):
        pids, tables = self.tables("--exec")
        self.assertEqual(tables, pids[:1])

    def test_children_too(self):
        pids, tables = self.tables("--children")
        self.assertEqual(tables, pids[::-1])

    def test_a_program_has_the_name_that_it_was_started_by(self):
        os.symlink(shutil.which("bash"), self.path("other-name"))
        self.write("script", f"#!{shutil.which('bash')}\n:\n")
        for program, name in ("other-name", "other-name"), ("script", "bash"):
            arguments = [] if program == "script" else ["-c", ":"]
            self.assertIn(f"\n/exe/{name} ", self.call("run", self.path(program), *arguments)[1])

    def test_a_file_is_the_programs(self):
        self.call("run", "--no-record", "--json", self.path("heap.json"), "bash", "-c", "bash -c :; :")
        with open(self.path("heap.json"), encoding="utf-8") as file:
            self.assertIn("pid", json.load(file))


class Refuses(ToolTest):
    def test_limits_that_the_library_would_not_follow(self):
        for limit in "foo", "cache=1Q", "1G=", "a=1M,b=x", "=1M":
            out, err, status = self.call("run", "--limit", limit, "true")
            self.assertEqual((out, status), ("", 2), limit)
            self.assertRegex(err, r"^tally run: --limit .*: expected ")


class Finds(ToolTest):
    def test_programs_as_execvp_does(self):
        os.mkdir(self.path("first"))
        os.mkdir(self.path("prog"))  # a folder is none
        self.write("first/prog", "#!/bin/sh\n", 0o644)
        self.fails(126, "prog: Permission denied", "prog", environment={"PATH": self.path("first")})
        self.write("prog2", "#!/bin/sh\necho two $0\n")
        os.mkdir(self.path("second"))
        self.write("second/prog", "#!/bin/sh\necho $0\n")
        path = ":".join([self.path("nowhere"), self.path("first"), self.folder, self.path("second")])
        self.assertEqual(self.run_quietly("prog", environment={"PATH": path}), self.path("second/prog") + "\n")
        # An empty folder is the current one.
        self.assertEqual(self.run_quietly("prog2", environment={"PATH": "/nowhere:"}, cwd=self.folder),
                         "two ./prog2\n")
        self.assertEqual(self.run_quietly("./prog2", cwd=self.folder), "two ./prog2\n")

    def test_no_path_is_the_usual_one(self):
        environment = {k: v for k, v in self.env.items() if k != "PATH"}
        done = subprocess.run([TALLY, "run", "--quiet", "true"], env=environment, capture_output=True, timeout=60)
        self.assertEqual((done.stderr, done.returncode), (b"", 0))

    def test_what_cannot_be_run(self):
        self.fails(127, "no-such-program: not found in PATH", "no-such-program", environment={"PATH": self.folder})
        self.fails(127, "./no-such-program: No such file or directory", "./no-such-program")
        self.fails(127, "'': No such file or directory", "")
        self.fails(126, f"{self.folder}: Permission denied", self.folder)
        self.fails(126, f"{TRUE}/x: Not a directory", f"{TRUE}/x")
        path = self.write("plain", "text", 0o644)
        self.fails(126, f"{path}: Permission denied", path)
        path = self.write("script", "#!/no/such/interpreter\n")
        self.fails(127, f"{path}: No such file or directory", path)
        path = self.write("script", f"#!{self.path('plain')}\n")
        self.fails(126, f"{path}: Permission denied", path)

    def test_scripts(self):
        path = self.write("script", "#!/bin/sh -u\necho $LD_PRELOAD $1\n")
        self.assertEqual(self.run_quietly(path, "x"), f"{LIBRARY} x\n")
        path = self.write("headless", "echo $LD_PRELOAD $1\n")  # execvp gives it to sh
        self.assertEqual(self.run_quietly(path, "x"), f"{LIBRARY} x\n")
        path = self.write("by_static", f"#! {STATIC_PROGRAM} x\n")
        self.fails(78, f"{path}: its interpreter {STATIC_PROGRAM} is statically linked: nothing can be preloaded into "
                   "it; link it with tally::malloc (libtally_malloc.a)", path)

    def test_static_programs(self):
        self.fails(78, f"{STATIC_PROGRAM} is statically linked: nothing can be preloaded into it; link it with "
                   "tally::malloc (libtally_malloc.a)", STATIC_PROGRAM)

    def edited_program(self, offset, byte):
        path = self.path("edited")
        shutil.copy(TRUE, path)
        with open(path, "r+b") as program:
            program.seek(offset)
            program.write(bytes([byte]))
        return path

    def test_programs_of_another_kind(self):
        path = self.edited_program(4, 1)  # EI_CLASS
        self.fails(78, f"{path} is a 32-bit program: this Tally cannot be loaded into it", path)
        path = self.edited_program(18, 8)  # e_machine: MIPS
        self.fails(78, f"{path} is for another processor: this Tally cannot be loaded into it", path)

    def test_a_damaged_program_is_the_kernels_matter(self):
        path = self.write("cut", "\x7fELF\nexit 5\n")  # execvp gives to sh what the kernel does not know
        self.assertEqual(self.call("run", "--quiet", path)[2], 5)

    def test_raised_rights(self):
        message = " has raised rights (setuid, setgid or capabilities): the dynamic linker ignores LD_PRELOAD for it"
        if os.geteuid() != 0:
            path = shutil.which("su") or self.skipTest("needs root, or su")
            self.fails(78, path + message, path)
            return
        path = self.path("raised")
        shutil.copy(TRUE, path)
        for user, group, mode in (NOBODY, 0, 0o4755), (0, NOBODY, 0o2755):
            os.chown(path, user, group)
            os.chmod(path, mode)
            self.fails(78, path + message, path)
        # These raise nothing: the rights are the user's own already, and a group that may not run it.
        for user, group, mode in (0, NOBODY, 0o4755), (NOBODY, 0, 0o2755), (0, NOBODY, 0o2745):
            os.chown(path, user, group)
            os.chmod(path, mode)
            self.assertEqual(self.run_quietly(path), "")

    def test_capabilities(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        path = self.path("capable")
        shutil.copy(TRUE, path)
        try:  # CAP_NET_RAW, permitted and effective
            os.setxattr(path, "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
        except OSError as error:
            self.skipTest(f"no capabilities here: {error}")
        self.assertEqual(self.run_quietly(path), "")
        self.tool = shutil.copy(TALLY, self.path("tally"))  # where anyone may run it
        self.fails(78, path + " has raised rights (setuid, setgid or capabilities): the dynamic linker ignores "
                   "LD_PRELOAD for it", path, user=NOBODY)


class FindsTheLibrary(ToolTest):
    def install(self, *folders):
        """A copy of the tool in the last folder."""
        folder = self.path(*folders)
        os.makedirs(folder)
        self.tool = shutil.copy(TALLY, os.path.join(folder, "tally"))
        return os.path.dirname(folder)

    def test_beside_itself(self):
        root = self.install("usr", "bin")
        # Where it is installed, which is as it was configured; where it is built; and beside it.
        places = re.search("looked for (.*?);", self.call("run", "true")[1])[1].split(", ")
        self.assertEqual(places[-2:], [f"{root}/lib/libtally.so.1", f"{root}/bin/libtally.so.1"])
        self.assertTrue(len(places) in (2, 3) and places[0].startswith(f"{root}/lib"), places)
        self.fails(78, "libtally.so.1 was not found; looked for " + ", ".join(places) +
                   "; name it by --library PATH or TALLY_LIBRARY=PATH", "true")
        for place in reversed(places):
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copy(LIBRARY, place)
            self.assertEqual(self.variable("LD_PRELOAD", "--quiet"), place)
        os.symlink(self.tool, self.path("link"))
        self.tool = self.path("link")
        self.assertEqual(self.variable("LD_PRELOAD", "--quiet"), places[0])

    def test_by_name(self):
        self.install("bin")
        for name in "a.so", "b.so":
            shutil.copy(LIBRARY, self.path(name))
        environment = {"TALLY_LIBRARY": self.path("a.so")}
        show = ["sh", "-c", "echo $LD_PRELOAD $TALLY_LIBRARY"]
        self.assertEqual(self.run_quietly(*show, environment=environment), self.path("a.so") + "\n")
        self.assertEqual(self.run_quietly("--library", self.path("b.so"), *show, environment=environment),
                         self.path("b.so") + "\n")
        self.assertEqual(self.run_quietly("--library=b.so", *show, cwd=self.folder), self.path("b.so") + "\n")
        self.assertEqual(self.run_quietly("--library=bin/../b.so", *show, cwd=self.folder),
                         self.path("bin/../b.so") + "\n")

    def test_the_hardened_one(self):
        root = self.install("usr", "bin")
        for name in "libtally.so.1", "libtally-hardened.so.1":
            shutil.copy(LIBRARY, os.path.join(root, "bin", name))
        environment = {"TALLY_LIBRARY": f"{root}/bin/libtally.so.1"}
        show = ["sh", "-c", "echo $LD_PRELOAD"]
        self.assertEqual(self.run_quietly("--hardened", *show, environment=environment),
                         f"{root}/bin/libtally-hardened.so.1\n")
        self.fails(2, "--library excludes --hardened" + USAGE, "--hardened", "--library", "x", "true")
        os.remove(f"{root}/bin/libtally-hardened.so.1")
        _, said, code = self.call("run", "--hardened", "true")
        self.assertEqual(code, 78)
        self.assertIn("libtally-hardened.so.1 was not found; looked for ", said)

    def test_what_cannot_be_preloaded(self):
        self.fails(78, "/no/such.so: no such library", "--library", "/no/such.so", "true")
        text = self.write("text", "INPUT(libtally.a)")
        self.fails(78, f"{text}: not a shared library for this kind of machine", "--library", text, "true")
        self.fails(78, f"{text}: not a shared library for this kind of machine", "true",
                   environment={"TALLY_LIBRARY": text})
        self.fails(78, f"{self.folder}: not a shared library for this kind of machine", "--library", self.folder,
                   "true")
        for name in "two words", "a:b":
            root = self.install(name, "bin")
            os.mkdir(os.path.join(root, "lib"))
            path = shutil.copy(LIBRARY, os.path.join(root, "lib", "libtally.so.1"))
            message = (f"{path}: LD_PRELOAD cannot name a path with a space or a colon, for it takes either to "
                       "separate two libraries")
            self.fails(78, message, "true")
            self.fails(78, message, "--library", path, "true")


class Sets(ToolTest):
    def test_the_table_at_the_end(self):
        out, err, status = self.call("run", sys.executable, "-c", "import os; print(os.getpid())")
        self.assertEqual(status, 0)
        lines = err.splitlines()
        self.assertEqual(lines[0], f"tally: process {out.strip()}, backend os: where the memory is")
        self.assertEqual(lines[1].split(), "TAG LIVE BLOCKS FOOTPRINT PEAK ALLOCS FREES REQUESTED".split())
        self.assertGreater(int(next(line.split()[-4] for line in lines if line.startswith("total"))), 100)

    def test_a_report_by_the_library_that_lives_in_the_program(self):
        code = "import os, time; held = bytes(8 << 20); os.chdir('/'); print(os.getpid())"
        out = self.call("run", "--report", "heap-%p.json", sys.executable, "-c", code, cwd=self.folder)
        self.assertEqual((out[1], out[2]), ("", 0))
        with open(self.path(f"heap-{out[0].strip()}.json"), encoding="utf-8") as file:
            report = json.load(file)
        self.assertEqual(str(report["pid"]), out[0].strip())
        self.assertGreater(sum(tag["alloc_count"] for tag in report["tags"]), 100)
        self.assertGreater(max(tag["peak_footprint_bytes"] for tag in report["tags"]), 8 * MIB)
        self.assertEqual(self.variable("TALLY_REPORT", "--report", "1", cwd=self.folder), self.path("1"))
        for option in "--json", "--report":
            self.assertEqual(self.variable("TALLY_REPORT", option, "%p.json", cwd=self.folder), self.path("%p.json"))

    def test_no_table(self):
        self.assertEqual(self.call("run", "--quiet", "true", environment={"TALLY_REPORT": "1"}), ("", "", 0))

    def test_a_report_that_the_environment_asks_for(self):
        for environment in {"TALLY_REPORT": "off"}, {"TALLY_report": "0"}, {"TALLY_CONF": "thp:never, Report:0"}:
            self.assertEqual(self.call("run", "true", environment=environment), ("", "", 0))
        # The option holds.
        for environment in {"TALLY_REPORT": "1"}, {"TALLY_report": "1"}, {"TALLY_CONF": "report:1"}:
            self.assertEqual(self.call("run", "--quiet", "true", environment=environment), ("", "", 0))
        self.assertIn("where the memory is", self.call("run", "true", environment={"TALLY_CONF": "thp:never"})[1])

    def test_a_limit_of_the_process(self):
        greedy = [sys.executable, "-c", "held = bytearray(200 << 20); print('had')"]
        self.assertEqual(self.call("run", "--quiet", "--limit", "500M", *greedy), ("had\n", "", 0))
        out, err, status = self.call("run", "--quiet", "--limit=64M", *greedy)
        self.assertEqual((out, status), ("", 1))
        self.assertIn("tally: limit: / may have no more", err)
        self.assertTrue(err.endswith("MemoryError\n"), err)
        self.assertEqual(self.variable("TALLY_LIMIT", "--limit", "1G", "--limit", "2G:soft=1G:wait=5"),
                         "2G:soft=1G:wait=5")
        self.assertEqual(self.variable("TALLY_LIMIT", environment={"TALLY_LIMIT": "3G"}), "3G")
        self.assertEqual(self.variable("TALLY_LIMIT", "--limit=1G", environment={"TALLY_LIMIT": "3G"}), "1G")

    def test_limits_of_tags(self):
        path = self.path("out.json")
        done = self.call("run", "--report", path, "--limit", "cache=8M:soft=6M", "--limit", "cache/rows=4M",
                         "--limit", "1G", "--limit", "cache=9M", "true", environment={"TALLY_LIMITS": "db=2M"})
        self.assertEqual((done[0], done[2]), ("", 0))
        with open(path, encoding="utf-8") as file:
            limits = {tag["name"]: tag["hard_limit_bytes"] for tag in json.load(file)["tags"]
                      if tag["hard_limit_bytes"] is not None}
        self.assertEqual(limits, {"/": 1024 * MIB, "/cache": 9 * MIB, "/cache/rows": 4 * MIB, "/db": 2 * MIB})
        self.assertEqual(self.variable("TALLY_LIMITS", "--limit=a=1M,b=2M", "--limit=/=90%:abort",
                                       environment={"TALLY_CONF": "limits:c=3M"}), "c=3M,a=1M,b=2M,/=90%:abort")

    def test_the_rule_for_tags(self):
        self.assertEqual(self.variable("TALLY_TAG_BY"), "module")
        self.assertEqual(self.variable("TALLY_TAG_BY", "--tag-by", "thread"), "thread")
        for environment in {"TALLY_TAG_BY": "none"}, {"TALLY_tag_by": "none"}:
            self.assertNotEqual(self.variable("TALLY_TAG_BY", environment=environment), "module")
            self.assertEqual(self.variable("TALLY_TAG_BY", "--tag-by=thread", environment=environment), "thread")
        self.assertEqual(self.variable("TALLY_TAG_BY", environment={"TALLY_CONF": "tag_by:none"}), "")
        self.assertIn("/lib/libc.so.6 ", self.call("run", "ls")[1])
        self.fails(2, "--tag-by user: expected module, thread or none" + USAGE, "--tag-by", "user", "true")

    def test_the_record(self):
        with open("/proc/self/status", encoding="utf-8") as status:
            has_capabilities = re.search(r"^CapPrm:\s*0*[1-9a-f]", status.read(), re.M)
        self.assertEqual(self.variable("TALLY_RECORD_MS"), "" if has_capabilities else "1000")
        self.assertEqual(self.variable("TALLY_RECORD_MS", environment={"TALLY_RECORD_MS": "50"}), "50")
        for args, expected in (([], ["1", "0", "1", "keep"]), (["--record"], ["1", "1", "1", "keep"]),
                               (["--no-record"], ["0"] * 4), (["--record", "--no-record"], ["0"] * 4),
                               (["--no-record", "--record"], ["1", "1", "1", "keep"])):
            values = [self.variable("TALLY_RECORD", "--quiet", *args,
                                    environment={"TALLY_RECORD": value} if value else {})
                      for value in ("", "0", "1", "keep")]
            self.assertEqual(values, expected, args)

    def test_other_options(self):
        self.assertEqual(self.variable("TALLY_PURGE_MS", "--option", "purge_ms=5", "--option=PURGE_MS=6",
                                       environment={"TALLY_PURGE_MS": "1", "TALLY_purge_ms": "2"}), "6")
        self.assertEqual(self.call("run", "--quiet", "--option", "thp=maybe", "true"),
                         ("", "tally: TALLY_THP=maybe: expected never, auto or always\n", 0))
        # An option of its own is stronger than the same by --option.
        self.assertEqual(self.variable("TALLY_LIMIT", "--limit=1G", "--option", "limit=2G"), "1G")
        self.assertEqual(self.variable("TALLY_FAULT", "--option", "fault=/:nth=9999999:p=0"), "/:nth=9999999:p=0")

    def test_what_is_preloaded_already_comes_after(self):
        other = ctypes.util.find_library("m")
        self.assertEqual(self.variable("LD_PRELOAD", "--quiet", environment={"LD_PRELOAD": other}),
                         f"{LIBRARY}:{other}")

    def test_an_option_by_its_whole_name(self):
        for name in "purge_ms", "TALLY_PURGE_MS":
            self.assertEqual(self.variable("TALLY_PURGE_MS", "--quiet", "--option", f"{name}=5"), "5")


class SetsTheBackend(ToolTest):
    """Of Tally's lines nothing is said here: they are the library's."""

    # Ends the program if the library misses the backend.
    STRICT = {"TALLY_ABORT_CONF": "1"}
    FILES = {"jemalloc": "libjemalloc.so.2", "mimalloc": "libmimalloc.so.2"}

    def chain(self, *args, environment=None, **more):
        out, _, status = self.call("run", "--quiet", *args, "sh", "-c", "echo $TALLY_BACKEND $LD_PRELOAD",
                                   environment={**self.STRICT, **(environment or {})}, **more)
        self.assertEqual(status, 0)
        return out.rstrip("\n")

    def library_of(self, name):
        """Where the dynamic linker finds it."""
        try:
            loaded = subprocess.run([sys.executable, "-c", LOADED], env={**self.env, "LD_PRELOAD": self.FILES[name]},
                                    capture_output=True, text=True, timeout=60).stdout.splitlines()
            return next(path for path in loaded if path.endswith(self.FILES[name]))
        except StopIteration:
            self.skipTest(f"{self.FILES[name]} is not installed")

    def test_without_a_library(self):
        for name in "os", "libc":
            self.assertEqual(self.chain("--backend", name), f"{name} {LIBRARY}")

    def test_the_chain(self):
        for name in self.FILES:
            library = self.library_of(name)
            self.assertEqual(self.chain(f"--backend={name}"), f"{name} {LIBRARY}:{library}")
            out, _, status = self.call("run", "--quiet", "--backend", name, sys.executable, "-c", LOADED,
                                       environment=self.STRICT)
            self.assertEqual(status, 0)
            loaded = out.splitlines()
            ours, its = loaded.index(LIBRARY), loaded.index(library)
            libc = next(i for i, path in enumerate(loaded) if path.endswith("/libc.so.6"))
            self.assertLess(ours, its)
            self.assertLess(its, libc)

    def test_the_environments(self):
        library = self.library_of("jemalloc")
        other = ctypes.util.find_library("m")
        self.assertEqual(self.chain(environment={"TALLY_BACKEND": "jemalloc", "LD_PRELOAD": other}),
                         f"jemalloc {LIBRARY}:{library}:{other}")
        self.assertEqual(self.chain(environment={"TALLY_CONF": "backend:jemalloc"}), f"{LIBRARY}:{library}")
        self.assertEqual(self.chain("--backend=libc", environment={"TALLY_BACKEND": "jemalloc"}), f"libc {LIBRARY}")
        self.assertEqual(self.chain("--option", "backend=jemalloc"), f"jemalloc {LIBRARY}:{library}")

    def test_what_the_library_path_has_comes_first(self):
        library = self.library_of("jemalloc")
        os.mkdir(self.path("lib"))
        shutil.copy(library, self.path("lib", "libjemalloc.so.2"))
        mine = f"jemalloc {LIBRARY}:{self.path('lib', 'libjemalloc.so.2')}"
        self.assertEqual(self.chain("--backend=jemalloc", environment={"LD_LIBRARY_PATH": self.path("lib")}), mine)
        self.assertEqual(self.chain("--backend=jemalloc", environment={"LD_LIBRARY_PATH": "/nowhere:lib"},
                                    cwd=self.folder), mine)

    def test_a_library_by_name(self):
        for name in self.FILES:
            shutil.copy(self.library_of(name), self.path("mine.so"))
            chain = f"{name} {LIBRARY}:{self.path('mine.so')}"
            self.assertEqual(self.chain(f"--backend={name}={self.path('mine.so')}"), chain)
            self.assertEqual(self.chain("--backend", f"{name}=mine.so", cwd=self.folder), chain)

    def test_what_cannot_be(self):
        self.fails(2, "--backend tcmalloc: expected os, libc, jemalloc or mimalloc" + USAGE, "--backend", "tcmalloc",
                   "true")
        self.fails(2, "--backend os=/lib/x.so: it has no library" + USAGE, "--backend=os=/lib/x.so", "true")
        self.fails(2, "--backend jemalloc=: expected a path after =" + USAGE, "--backend", "jemalloc=", "true")
        self.fails(78, "/no/such.so: no such library", "--backend=jemalloc=/no/such.so", "true")
        with open("/proc/self/maps") as maps:
            libc = next(line.split()[-1] for line in maps if "/libc.so" in line)
        self.fails(78, f"{libc}: has no mi_malloc_aligned, so it cannot be the backend mimalloc",
                   f"--backend=mimalloc={libc}", "true")
        os.mkdir(self.path("two words"))
        path = shutil.copy(self.library_of("jemalloc"), self.path("two words", "libjemalloc.so.2"))
        self.fails(78, f"{path}: LD_PRELOAD cannot name a path with a space or a colon, for it takes either to "
                   "separate two libraries", "--backend=jemalloc", "true",
                   environment={"LD_LIBRARY_PATH": self.path("two words")})


class Usage(ToolTest):
    def test_help(self):
        done = self.call("run", "--help")
        self.assertEqual((done[1], done[2]), ("", 0))
        self.assertTrue(done[0].startswith("usage: tally run [OPTION...] [--] PROGRAM [ARG...]\n"))
        for text in ("--tag-by RULE ", "--record ", "--no-record ", "--backend NAME[=PATH] ", "--limit SIZE ", "--limit TAG=SIZE ", "--report FILE ", "--json FILE ",
                     "--quiet ", "--exec ", "--option NAME=VALUE ", "--library PATH ", "\n  tally run ",
                     "exit status:", "\n  78 "):
            self.assertIn(text, done[0])
        for args in ["run", "-h"], ["help", "run"], ["run", "--quiet", "--help", "true"]:
            self.assertEqual(self.call(*args), done)

    def test_the_commands(self):
        done = self.call("help")
        self.assertTrue(done[0].startswith("usage: tally COMMAND [ARG...]\n\nstart:\n  run "))
        self.assertEqual((done[1], done[2]), ("", 0))
        self.assertEqual(self.call("--help"), done)
        self.assertEqual(self.call(), ("", done[0], 2))
        names = re.findall(r"^  ([a-z]+) ", done[0], re.MULTILINE)  # help is the last
        unknown = f"tally: unknown command 'walk': the commands are {', '.join(names)}\n"
        self.assertEqual(self.call("walk", "ls"), ("", unknown, 2))
        self.assertEqual(self.call("help", "walk"), ("", unknown, 2))

    def test_the_version_is_the_librarys(self):
        library = ctypes.CDLL(LIBRARY)
        library.tally_version.restype = ctypes.c_char_p
        self.assertEqual(self.call("--version"), (f"tally {library.tally_version().decode()}\n", "", 0))

    def test_what_cannot_be_understood(self):
        self.fails(2, "no PROGRAM" + USAGE)
        self.fails(2, "no PROGRAM" + USAGE, "--quiet", "--")
        self.fails(2, "unknown option --speed" + USAGE, "--speed", "true")
        self.fails(2, "unknown option -x" + USAGE, "--quiet", "-x", "--", "true")
        self.fails(2, "--report excludes --quiet" + USAGE, "--report", "x", "--quiet", "true")
        self.fails(2, "--report excludes --json" + USAGE, "--report", "x", "--json", "x.json", "true")
        self.fails(2, "--json excludes --quiet" + USAGE, "--quiet", "--json", "x.json", "true")
        self.fails(2, "--json heap: expected a name that ends in .json" + USAGE, "--json", "heap", "true")
        self.fails(2, "--limit: 1 required SIZE missing" + USAGE, "--limit")
        self.fails(2, "--limit= is empty" + USAGE, "--limit=", "true", "x")
        self.fails(2, "--option thp: expected NAME=VALUE" + USAGE, "--option", "thp", "true")
        self.fails(2, "--option =never: expected NAME=VALUE" + USAGE, "--option", "=never", "true")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
