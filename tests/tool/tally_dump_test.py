#!/usr/bin/env python3
"""tools/tally-dump: each of its messages with its exit status, the tables, and a live process.

With TALLY_LIBRARY=path/to/libtally.so in the environment the real library is asked for dumps; without it a python
program plays its part.
"""

import copy
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

TOOL = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "tally-dump")
LIBRARY = os.environ.get("TALLY_LIBRARY")

MIB = 1024 * 1024


def tag(id, name, parent, live, blocks, footprint, peak, allocs, requested):
    return {"id": id, "name": name, "parent": parent, "live_bytes": live, "live_blocks": blocks,
            "footprint_bytes": footprint, "peak_footprint_bytes": peak, "alloc_count": allocs,
            "free_count": allocs - blocks, "requested_bytes": requested, "large_live_bytes": 0,
            "large_live_blocks": 0, "charged_bytes": 0, "held_bytes": footprint, "soft_limit_bytes": None,
            "hard_limit_bytes": None, "pressure": "normal", "pressure_ms": 0, "pressure_count": 0, "refused_count": 0,
            "waited_count": 0}


def block_class(tag, size, live, capacity, slabs, footprint):
    return {"tag": tag, "size": size, "live_blocks": live, "capacity_blocks": capacity, "slabs": slabs,
            "footprint_bytes": footprint}


DUMP = {
    "version": 3, "pid": 4711, "backend": "os",
    "process": {"rss_bytes": 40 * MIB, "live_bytes": 25 * MIB, "footprint_bytes": 33 * MIB,
                "mapped_bytes": 64 * MIB, "metadata_bytes": MIB // 2, "foreign_frees": 3,
                "backend_surplus_bytes": MIB},
    "tags": [tag(0, "/", None, MIB, 100, 2 * MIB, 3 * MIB, 1000, 9 * MIB),
             tag(1, "/cache", 0, 0, 0, 0, 64 * 1024, 7, 5000)
             | {"held_bytes": 30 * MIB, "soft_limit_bytes": 16 * MIB, "pressure": "soft", "pressure_ms": 250,
                "waited_count": 1},
             tag(2, "/cache/blocks", 1, 23 * MIB, 5888, 30 * MIB, 31 * MIB, 6000, 24 * MIB)
             | {"hard_limit_bytes": 32 * MIB, "refused_count": 2},
             tag(3, "/tally", 0, MIB // 2, 3, MIB // 2, MIB // 2, 3, MIB // 2)],
    "classes": [block_class(0, 64, 96, 1024, 1, 65536),
                block_class(2, 4096, 5888, 7680, 480, 30 * MIB)],
}

TABLE = """\
tally: process 4711, backend os: where the memory is
TAG                LIVE  BLOCKS  FOOTPRINT      PEAK  ALLOCS  FREES  REQUESTED
/cache/blocks  23.0 MiB    5888   30.0 MiB  31.0 MiB    6000    112   24.0 MiB
/              1.00 MiB     100   2.00 MiB  3.00 MiB    1000    900   9.00 MiB
/tally          512 KiB       3    512 KiB   512 KiB       3      0    512 KiB
/cache            0 B         0      0 B    64.0 KiB       7      7   4.88 KiB
total          24.5 MiB    5991   32.5 MiB              7010   1019   33.5 MiB
limit of /cache/blocks: holds 30.0 MiB of 32.0 MiB, pressure normal, in all 0 ms, refused 2
limit of /cache: holds 30.0 MiB, soft limit 16.0 MiB, pressure soft, in all 250 ms, waited 1
resident 40.0 MiB, mapped 64.0 MiB, metadata 512 KiB, the backend holds besides 1.00 MiB, foreign frees 3

Fragmentation: blocks by size, the most free room in slabs first
TAG            SIZE  LIVE/CAPACITY  OCCUPANCY      FREE  SLABS  FOOTPRINT
/cache/blocks  4096      5888/7680      76.7%  7.00 MiB    480   30.0 MiB
/                64        96/1024       9.4%  58.0 KiB      1   64.0 KiB
total                    5984/8704      76.5%  7.05 MiB    481   30.0 MiB
"""


def run(*args, **more):
    return subprocess.run([sys.executable, TOOL, *map(str, args)], capture_output=True, text=True, timeout=60, **more)


class Files(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "dump.json")

    def write(self, dump):
        with open(self.path, "wb") as out:
            out.write(dump if isinstance(dump, bytes) else json.dumps(dump).encode())

    def fails(self, status, message, *args):
        done = run(*args or [self.path])
        self.assertEqual((done.stderr, done.stdout, done.returncode), (f"tally-dump: {message}\n", "", status))

    def fails_on(self, dump, status, message):
        self.write(dump)
        self.fails(status, f"{self.path}: {message}")

    def test_tables(self):
        self.write(DUMP)
        done = run(self.path)
        self.assertEqual((done.stdout, done.stderr, done.returncode), (TABLE, "", 0))

    def test_the_roots_parent_may_be_a_number_and_unknown_fields_are_ignored(self):
        dump = copy.deepcopy(DUMP)
        dump["tags"][0]["parent"] = 4294967295
        dump["new"] = dump["tags"][0]["new"] = [1]
        self.write(dump)
        self.assertEqual(run(self.path).stdout, TABLE)

    def test_rows_are_limited(self):
        self.write(DUMP)
        out = run("--tags", 1, "--classes=1", self.path).stdout.splitlines()
        self.assertIn("... and 3 more (--tags 0 shows all)", out)
        self.assertIn("... and 1 more (--classes 0 shows all)", out)
        self.assertFalse([line for line in out if line.startswith(("/tally", "/  "))])
        self.assertIn("total          24.5 MiB", "\n".join(out))
        self.assertEqual(run("--tags", 0, "--classes", 0, self.path).stdout, TABLE)

    def test_no_classes_and_an_empty_heap(self):
        dump = copy.deepcopy(DUMP)
        dump["classes"] = []
        self.write(dump)
        self.assertEqual(run(self.path).stdout, TABLE[:TABLE.index("\nFragmentation")])
        dump["tags"] = []
        self.write(dump)
        self.assertEqual(run(self.path).returncode, 0)

    def test_a_name_cannot_drive_the_terminal(self):
        dump = copy.deepcopy(DUMP)
        dump["tags"][2]["name"] = "/\x1b[2J"
        self.write(dump)
        out = run(self.path).stdout
        self.assertIn("/?[2J", out)
        self.assertNotIn("\x1b", out)

    def test_raw_json(self):
        self.write(DUMP)
        done = run("--json", self.path)
        self.assertEqual((json.loads(done.stdout), done.returncode), (DUMP, 0))

    def test_a_long_name_pushes_its_row_only(self):
        dump = copy.deepcopy(DUMP)
        dump["tags"][2]["name"] = "/" + "x" * 100
        self.write(dump)
        self.assertIn("\n/" + " " * 47 + "  1.00 MiB", run(self.path).stdout)

    def test_help(self):
        for option in "--help", "-h":
            done = run(option)
            self.assertEqual(done.returncode, 0)
            self.assertIn("usage: tally-dump [options] PID|FILE", done.stdout)
            self.assertIn("exit status:", done.stdout)

    def test_a_reader_that_leaves_early(self):
        self.write(DUMP)
        done = subprocess.run(f"exec '{sys.executable}' '{TOOL}' '{self.path}' | true", shell=True,
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stderr, "")

    def test_usage(self):
        usage = "usage: tally-dump [--json|--print] [--into DIR] [--tags N] [--classes N] PID|FILE; --help says more"
        done = run()
        self.assertEqual((done.stderr, done.returncode), (f"tally-dump: {usage}\n", 2))
        self.fails(2, usage, "one.json", "two.json")
        self.fails(2, "unknown option --lines; tally-dump --help shows those that there are", "--lines", "x")
        self.fails(2, "--tags needs a value; tally-dump --help shows how it is used", "x", "--tags")
        self.fails(2, "--classes many: not a number", "--classes", "many", "x")
        for name in "USR9", "32", "33":  # the last two are the C library's
            self.fails(2, f"--signal {name}: no such signal; USR2, SIGUSR2 and 12 would do", "--signal", name, "1")

    def test_missing_file(self):
        self.fails(7, f"{self.path}: No such file or directory")
        self.fails(7, f"{os.path.dirname(self.path)}: Is a directory", os.path.dirname(self.path))

    def test_not_json(self):
        whole = json.dumps(DUMP).encode()
        self.fails_on(b"", 8, "not JSON: empty")
        self.fails_on(whole[:500], 8, "not JSON: cut short at 500 bytes")
        self.fails_on(b"{,}", 8, "not JSON: Expecting property name enclosed in double quotes: "
                      "line 1 column 2 (char 1)")

    def test_a_name_may_be_any_bytes(self):
        self.write(json.dumps(DUMP).encode().replace(b"/tally", b"/t\xffly"))
        self.assertIn("/t\ufffdly", run(self.path).stdout)
        self.assertEqual(subprocess.run([sys.executable, TOOL, "--json", self.path], capture_output=True).stdout,
                         json.dumps(DUMP).encode().replace(b"/tally", b"/t\xffly"))

    def test_not_tallys(self):
        self.fails_on([], 9, "JSON, but not Tally's: it is no object")
        self.fails_on({}, 9, 'JSON, but not Tally\'s: it has no "version"')
        self.fails_on({"version": "1.0"}, 9, 'JSON, but not Tally\'s: it has no "version"')
        for field in "pid", "backend", "process", "tags", "classes":
            dump = copy.deepcopy(DUMP)
            del dump[field]
            self.fails_on(dump, 9, f'JSON, but not Tally\'s: it has no "{field}"')
        dump = copy.deepcopy(DUMP)
        del dump["process"]["rss_bytes"]
        self.fails_on(dump, 9, 'JSON, but not Tally\'s: its "process" has no "rss_bytes"')
        for table, field in ("tags", "free_count"), ("tags", "name"), ("classes", "slabs"):
            dump = copy.deepcopy(DUMP)
            del dump[table][1][field]
            self.fails_on(dump, 9, f'JSON, but not Tally\'s: a row of "{table}" has no "{field}"')
        dump["tags"] = [1]
        self.fails_on(dump, 9, 'JSON, but not Tally\'s: a row of "tags" is no object')

    def test_newer_version(self):
        self.fails_on({"version": 4}, 9, "version 4 of Tally's JSON; this tally-dump reads up to 3: use the one "
                      "that came with the library")


# Stands in for a program under Tally: on the signal it writes the dump as the library does.
PRETENDER = textwrap.dedent("""
    import os, signal, sys, time
    if "NOBODY" in os.environ:
        os.setuid(65534)
    number, path, dump = int(sys.argv[1]), sys.argv[2].replace("%p", str(os.getpid())), sys.argv[3]
    def write(*_):
        if path == "die":
            os._exit(0)
        if path:
            with open(path + ".new", "w") as out:
                out.write(dump)
            os.rename(path + ".new", path)
    if number:
        signal.signal(number, write)
    print("ready", flush=True)
    while True:
        time.sleep(60)
""")


class Processes(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.path = os.path.join(self.folder, "dump.json")

    def start(self, number, path, **environment):
        env = {k: v for k, v in os.environ.items() if not k.startswith("TALLY_")}
        child = subprocess.Popen([sys.executable, "-c", PRETENDER, str(int(number)), path, json.dumps(DUMP)],
                                 env={**env, **environment}, stdout=subprocess.PIPE, text=True, cwd=self.folder)
        self.addCleanup(lambda: (child.kill(), child.wait(), child.stdout.close()))
        self.assertEqual(child.stdout.readline(), "ready\n")
        return child

    def run_as_nobody(self, *args):
        """The user may not be able to read the tool, nor python: both are loaded before it changes."""
        code = ("import json, os, shutil, signal, subprocess, sys, time; "
                "code = compile(sys.stdin.read(), 'tally-dump', 'exec'); os.setgroups([]); os.setuid(65534); "
                "exec(code, {'__name__': '__main__', '__doc__': '', '__file__': '/tools/tally-dump'})")
        with open(TOOL, encoding="utf-8") as tool:
            return subprocess.run([sys.executable, "-c", code, *map(str, args)], stdin=tool, capture_output=True,
                                  text=True, timeout=60)

    def prints_table(self, child, *args):
        for _ in range(2):  # the second replaces the file of the first
            done = run("--print", *args, child.pid)
            self.assertEqual((done.stderr, done.stdout, done.returncode), ("", TABLE, 0))

    def fails(self, status, message, *args):
        done = run(*args)
        self.assertEqual((done.stderr, done.returncode), (f"tally-dump: {message}\n", status))

    def test_the_signal_in_all_its_spellings(self):
        for name in "USR2", "SIGUSR2", "usr2", str(int(signal.SIGUSR2)):
            self.prints_table(self.start(signal.SIGUSR2, self.path, TALLY_DUMP_SIGNAL=name,
                                         TALLY_DUMP_PATH=self.path))

    def test_conf(self):
        self.prints_table(self.start(signal.SIGUSR1, self.path,
                                     TALLY_CONF=f"purge_ms:10, dump_signal:USR1 ,dump_path:{self.path}"))
        self.prints_table(self.start(signal.SIGUSR2, self.path, TALLY_CONF="dump_signal:USR1,dump_path:/nowhere",
                                     TALLY_DUMP_SIGNAL="USR2", TALLY_DUMP_PATH=self.path))

    def test_the_folder(self):
        child = self.start(signal.SIGUSR2, self.path, TALLY_DUMP_SIGNAL="USR2", TALLY_DUMP_PATH=self.path)
        folders = []
        for args in [], ["--into", self.folder]:
            done = run(*args, child.pid, cwd=self.folder)
            self.assertEqual((done.stderr, done.returncode), ("", 0))
            text, folder = done.stdout.rstrip("\n").split("\nwritten to ")
            self.assertEqual(text, TABLE)
            self.assertRegex(folder, rf"/tally-{child.pid}-\d{{8}}-\d{{6}}(-2)?$")
            folders.append(os.path.realpath(os.path.join(self.folder, folder)))
            with open(os.path.join(folders[-1], "tally.txt"), encoding="utf-8") as file:
                self.assertEqual(file.read(), TABLE)
            self.assertEqual(run(os.path.join(folders[-1], "dump.json")).stdout, TABLE)
            self.has_metrics(folders[-1], ',tag="/cache/blocks"} 24117248\n')
        self.assertNotEqual(*folders)

    def has_metrics(self, folder, line):
        """By the program `tally`, where it was built."""
        path = os.path.join(folder, "metrics.txt")
        if "TALLY" in os.environ:
            with open(path, encoding="utf-8") as file:
                self.assertIn(line, file.read())

    def test_a_folder_that_cannot_be_written(self):
        child = self.start(signal.SIGUSR2, self.path, TALLY_DUMP_SIGNAL="USR2", TALLY_DUMP_PATH=self.path)
        done = run("--into", "/nowhere", child.pid)
        self.assertRegex(done.stderr, rf"^tally-dump: /nowhere/tally-{child.pid}-\d+-\d+: cannot be written: No such "
                         "file or directory\n$")
        self.assertEqual((done.stdout, done.returncode), (TABLE, 10))

    def test_paths(self):
        self.prints_table(self.start(signal.SIGUSR2, "here.json", TALLY_DUMP_SIGNAL="USR2",
                                     TALLY_DUMP_PATH="here.json"))
        child = self.start(signal.SIGUSR2, self.path)
        self.prints_table(child, "--signal", "USR2", "--path", self.path)

    def removed_in_the_end(self, child):
        path = f"/tmp/tally-{child.pid}.json"
        self.addCleanup(lambda: os.path.exists(path) and os.remove(path))

    def test_the_usual_path(self):
        child = self.start(signal.SIGUSR2, "/tmp/tally-%p.json")
        self.removed_in_the_end(child)
        self.prints_table(child, "--signal", "USR2")

    def test_the_usual_path_where_the_environment_cannot_be_read(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        # Who changes its user can be looked into by root alone.
        child = self.start(signal.SIGUSR2, "/tmp/tally-%p.json", NOBODY="1")
        self.removed_in_the_end(child)
        done = self.run_as_nobody("--print", "--signal", "USR2", child.pid)
        self.assertEqual((done.stderr, done.stdout, done.returncode), ("", TABLE, 0))

    def test_no_process(self):
        self.fails(3, "no process 4194305", 4194305)
        child = self.start(0, "")
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        self.fails(3, f"process {child.pid} has ended", child.pid)

    def test_another_users_process(self):
        message = "process {} belongs to another user: run as that user or as root"
        if os.geteuid() != 0:
            if os.stat("/proc/1").st_uid == os.geteuid():
                self.skipTest("no process of another user is known")
            self.fails(4, message.format(1), 1)
            return
        child = self.start(signal.SIGUSR2, self.path, TALLY_DUMP_SIGNAL="USR2")
        done = self.run_as_nobody(child.pid)
        self.assertEqual((done.stderr, done.returncode), (f"tally-dump: {message.format(child.pid)}\n", 4))

    def test_not_started_with_a_signal(self):
        child = self.start(0, "")
        self.fails(5, f"process {child.pid} was not started with TALLY_DUMP_SIGNAL: start it with\n"
                   "    LD_PRELOAD=libtally.so TALLY_DUMP_SIGNAL=USR2 PROGRAM\n"
                   "or, if it was and hides its environment, name the signal with --signal", child.pid)
        child = self.start(0, "", TALLY_DUMP_SIGNAL="USR9")
        self.fails(5, f"process {child.pid} has TALLY_DUMP_SIGNAL=USR9, which is no signal", child.pid)

    def test_a_signal_that_is_not_caught_is_not_sent(self):
        child = self.start(0, "", TALLY_DUMP_SIGNAL="USR2")
        self.fails(5, f"process {child.pid} does not catch signal USR2, so it was not sent: Tally is not in it, or "
                   "not yet, or the program took the signal back", child.pid)
        self.assertIsNone(child.poll())

    def test_timeout(self):
        child = self.start(signal.SIGUSR2, "", TALLY_DUMP_SIGNAL="USR2", TALLY_DUMP_PATH="never-%p.json")
        self.fails(6, f"process {child.pid} got signal USR2 but wrote no never-{child.pid}.json in 5 s: it may be "
                   "stopped, block the signal, or be unable to write there", child.pid)

    def test_a_process_that_ends_instead(self):
        child = self.start(signal.SIGUSR2, "die", TALLY_DUMP_SIGNAL="USR2", TALLY_DUMP_PATH=self.path)
        reaper = subprocess.Popen([sys.executable, TOOL, str(child.pid)], stderr=subprocess.PIPE, text=True)
        child.wait()
        self.assertEqual(reaper.communicate(timeout=60)[1],
                         f"tally-dump: process {child.pid} ended before it wrote {self.path}\n")
        self.assertEqual(reaper.returncode, 6)


@unittest.skipUnless(LIBRARY, "TALLY_LIBRARY names no libtally.so")
class Library(unittest.TestCase):
    HOLD = "held = [bytes(1000) for _ in range(20000)]; print('ready', flush=True); input()"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        env = {k: v for k, v in os.environ.items() if not k.startswith("TALLY_")}
        self.env = {**env, "LD_PRELOAD": LIBRARY, "PYTHONMALLOC": "malloc"}

    def start(self, code, **environment):
        child = subprocess.Popen([sys.executable, "-c", code], env={**self.env, **environment}, text=True,
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(lambda: (child.kill(), child.communicate()))
        self.assertEqual(child.stdout.readline(), "ready\n", "the program did not start under the library")
        return child

    def check(self, out):
        dump = json.loads(out)
        root = next(t for t in dump["tags"] if t["name"] == "/")
        self.assertGreater(root["live_bytes"], 20000 * 1000)
        self.assertGreaterEqual(root["footprint_bytes"], root["live_bytes"])
        self.assertEqual(root["alloc_count"] - root["free_count"], root["live_blocks"])
        self.assertGreaterEqual(root["peak_footprint_bytes"], root["footprint_bytes"])
        row = min((c for c in dump["classes"] if c["tag"] == 0 and c["size"] >= sys.getsizeof(bytes(1000))),
                  key=lambda c: c["size"])
        self.assertGreaterEqual(row["live_blocks"], 20000)
        self.assertGreaterEqual(row["capacity_blocks"], row["live_blocks"])
        return dump

    def test_a_live_process(self):
        child = self.start(self.HOLD, TALLY_DUMP_SIGNAL="USR2", TALLY_DUMP_PATH=f"{self.folder}/%p.json")
        for _ in range(2):
            done = run("--json", child.pid)
            self.assertEqual((done.stderr, done.returncode), ("", 0))
            self.assertEqual(self.check(done.stdout)["pid"], child.pid)
        done = run("--print", child.pid)
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.startswith(f"tally: process {child.pid}, backend os: where the memory is\n"))
        out, err = child.communicate("\n", timeout=60)
        self.assertEqual((out, err, child.returncode), ("", "", 0), "a dump disturbed the program")

    def test_a_live_process_by_conf(self):
        child = self.start(self.HOLD, TALLY_CONF=f"dump_signal:10,dump_path:{self.folder}/dump.json")
        done = run("--json", child.pid)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.check(done.stdout)

    def test_without_the_option_there_is_no_handler(self):
        child = self.start(self.HOLD)
        self.assertEqual(run(child.pid).returncode, 5)
        self.assertIsNone(child.poll())

    @unittest.skipUnless("TALLY" in os.environ, "TALLY names no program `tally`")
    def test_a_record_needs_no_signal_and_outlives_the_process(self):
        child = self.start(self.HOLD, TALLY_RECORD="1", TALLY_RECORD_MS="100")
        time.sleep(0.5)
        self.addCleanup(lambda: os.remove(f"/dev/shm/tally-{os.geteuid()}/{child.pid}.tally"))
        for state in "running", "dead":
            done = run("--into", self.folder, child.pid)
            self.assertEqual((done.stderr, done.returncode), ("", 0))
            text, folder = done.stdout.rstrip("\n").split("\nwritten to ")
            self.assertTrue(text.startswith(f"process {child.pid}, {state}, as of "))
            with open(os.path.join(folder, "dump.json"), encoding="utf-8") as file:
                self.check(file.read())
            with open(os.path.join(folder, "tally.txt"), encoding="utf-8") as file:
                self.assertEqual(file.read(), text)
            with open(os.path.join(folder, "metrics.txt"), encoding="utf-8") as file:
                self.assertRegex(file.read(), rf"\ntally_up\{{.*\}} {int(state == 'running')}\n")
            child.kill()
            child.wait()

    def test_the_report_at_exit(self):
        path = f"{self.folder}/exit.json"
        subprocess.run([sys.executable, "-c", "import os; held = [bytes(1000) for _ in range(20000)]"],
                       env={**self.env, "TALLY_REPORT": path}, check=True, timeout=60)
        done = run(path)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertIn("/tally", done.stdout)

    def test_the_librarys_own_table_is_the_same(self):
        child = self.start(self.HOLD, TALLY_REPORT="1")
        _, err = child.communicate("\n", timeout=60)
        self.assertIn(" ".join("TAG LIVE BLOCKS FOOTPRINT PEAK ALLOCS FREES REQUESTED".split()),
                      [" ".join(line.split()) for line in err.splitlines()])


if __name__ == "__main__":
    unittest.main()
