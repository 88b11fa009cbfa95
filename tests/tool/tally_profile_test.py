#!/usr/bin/env python3
"""tally profile and tally leaks, on files whose every figure is known and on programs that leak in a known line.

usage: tally_profile_test.py TALLY LIBRARY LEAKING LEAKING_STATIC
"""

import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
import unittest

from record_file import NO_MODULE, Profile, RecordFile, Tag
from tool import LIBRARY, TALLY, ToolTest

LEAKING, LEAKING_STATIC = sys.argv[3:5]
MIB = 1 << 20

LIVE = """\
live: about 4.50 MiB in 1145 blocks, of 3 stacks
sampled for 5 min: one block in 512 KiB allocated, 100 in all

   BYTES   SHARE  BLOCKS  SAMPLES  TAG            ALLOCATED BY
3.00 MiB  66.7 %     768        3  /cache/blocks  server+0x1fff
                                                    server+0xfff
1.50 MiB  33.3 %     376        1  /net           0x6fffffff
                                                    server+0xfff
  16 B     0.0 %       1        0  /              (unknown)
"""
ALLOCATED = """\
allocated in 5 min: about 7.50 MiB in 1913 blocks, of 3 stacks
sampled for 5 min: one block in 512 KiB allocated, 100 in all

   BYTES   SHARE  BLOCKS  TAG            ALLOCATED BY
6.00 MiB  80.0 %    1536  /cache/blocks  server+0x1fff
                                           server+0xfff
1.50 MiB  20.0 %     376  /net           0x6fffffff
                                           server+0xfff
  16 B     0.0 %       1  /              (unknown)
"""
PEAK = """\
live at the peak of the footprint, 96.0 MiB 60 s before: about 9.00 MiB in 2304 blocks, of 1 stack
sampled for 5 min: one block in 512 KiB allocated, 100 in all

   BYTES    SHARE  BLOCKS  TAG            ALLOCATED BY
9.00 MiB  100.0 %    2304  /cache/blocks  server+0x1fff
                                            server+0xfff
"""
GROWTH = """\
live, and not 3 min before: about 1.00 MiB in 257 blocks, of 2 stacks
sampled for 5 min: one block in 512 KiB allocated, 100 in all

   BYTES    SHARE  BLOCKS  TAG            ALLOCATED BY
1.00 MiB  100.0 %     256  /cache/blocks  server+0x1fff
                                            server+0xfff
  16 B      0.0 %       1  /              (unknown)
"""
LIFETIMES = """\
freed: about 3.00 MiB in 768 blocks, of 1 stack
sampled for 5 min: one block in 512 KiB allocated, 100 in all
LIFETIMES counts blocks freed within 1 ms, 10 ms, 100 ms, 1 s, 10 s, 1 min, 10 min, 1 h, 1 day, and later

   BYTES    SHARE  BLOCKS  MEDIAN LIFE  LIFETIMES   TAG            ALLOCATED BY
3.00 MiB  100.0 %     768       < 10 s  1...9.....  /cache/blocks  server+0x1fff
                                                                     server+0xfff
"""
STALE = """\
live for longer than 60 s: about 1.00 MiB in 257 blocks, of 1 stack
sampled for 5 min: one block in 512 KiB allocated, 100 in all

   BYTES    SHARE  BLOCKS  SAMPLES  TAG            ALLOCATED BY
1.00 MiB  100.0 %     257        2  /cache/blocks  server+0x1fff
                                                     server+0xfff
"""
LEAKS = """\
not freed: about 4.50 MiB in 1145 blocks, of 3 stacks; one block in 512 KiB allocated was sampled
The program had no chance to free it, and was using much of it: leaks are old, grew, and have few of their kind freed.

   BYTES  BLOCKS  SAMPLES           AGE  GREW IN 3 min   FREED  TAG            ALLOCATED BY
3.00 MiB     768        3  5 s to 2 min       1.00 MiB  50.0 %  /cache/blocks  server+0x1fff
                                                                                 server+0xfff
1.50 MiB     376        1          30 s       -512 KiB   0.0 %  /net           0x6fffffff
                                                                                 server+0xfff
  16 B         1        0             -         16 B     0.0 %  /              (unknown)
"""


def example(path):
    file = RecordFile(path, [Tag("/", MIB, 2 * MIB), Tag("/cache", 0, 0), Tag("/net", 0, 0)])
    profile = file.profile = Profile(file.time)
    server = profile.module("/nowhere/server", 0x1000, 0x9000)
    fill = profile.site(profile.stack((0x2000, server), (0x3000, server)), "/cache/blocks", (768, 3 * MIB),
                        allocated=(1536, 6 * MIB), peak=(2304, 9 * MIB), mark=(512, 2 * MIB),
                        lifetimes=[68, 0, 0, 0, 700])
    send = profile.site(profile.stack((0x2000, server), (0x70000000, NO_MODULE)), "/net", (376, 3 * MIB // 2),
                        mark=(500, 2 * MIB))
    profile.site(0, "/", (1, 16))
    profile.sample(fill, 4096, 120, 2)
    profile.sample(fill, 4096, 5)
    profile.sample(send, 4096, 30)
    return file


class ProfileTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.file = example(self.path("a.tally"))
        self.addCleanup(self.file.close)

    def shows(self, command, *args):
        """What is printed below the heading; files that are not there are complained of."""
        out, err, status = self.call(command, *args, self.file.path)
        self.assertEqual((err, status), (
            f"tally {command}: functions are not known of files that are not there: /nowhere/server\n", 0))
        return out

    def refuses(self, message, *args, status=1, command="profile"):
        self.assertEqual(self.call(command, *args), ("", f"tally {command}: {message}\n", status))


class Views(ProfileTest):
    def test_as_tables(self):
        self.file.write()
        for options, text in (((), LIVE), (("--live",), LIVE), (("--allocated",), ALLOCATED), (("--peak",), PEAK),
                              (("--growth",), GROWTH), (("--lifetimes",), LIFETIMES), (("--stale", "60s"), STALE),
                              (("--stale=1m",), STALE)):
            with self.subTest(options):
                head, table = self.shows("profile", *options).split("\n", 1)
                self.assertRegex(head, r"^process 4711, dead, as of \d+ m?s ago: server --port 80$")
                self.assertEqual(table, text)

    def test_of_a_tag(self):
        self.file.write()
        self.assertEqual(self.shows("profile", "--format", "folded", "--tag", "cache"),
                         f"/cache/blocks;server+0xfff;server+0x1fff {3 * MIB}\n")
        out, err, status = self.call("profile", "--tag", "/tally", self.file.path)
        self.assertEqual((out, err, status), (
            "", f"tally profile: {self.file.path}: no tag /tally; those that there are: /, /cache, /net\n", 1))

    def test_have_as_many_rows_and_frames_as_wanted(self):
        self.file.write()
        self.assertTrue(self.shows("profile", "--rows", "1", "--frames", "1").endswith(
            "  server+0x1fff\n" + " " * 52 + "... 1 more\n... and 2 more; --rows 0 shows all\n"))
        self.assertTrue(self.shows("profile", "--rows", "0", "--frames", "0").endswith(LIVE))

    def test_as_folded_stacks(self):
        self.file.write()
        self.assertEqual(self.shows("profile", "--format", "folded"),
                         f"/cache/blocks;server+0xfff;server+0x1fff {3 * MIB}\n"
                         f"/net;server+0xfff;0x6fffffff {3 * MIB // 2}\n/;(unknown) 16\n")

    def test_as_json(self):
        self.file.write()
        found = json.loads(self.shows("profile", "--format", "json"))
        self.assertEqual(found, {
            "version": 1, "pid": 4711, "command": "server --port 80", "state": "dead", "view": "live",
            "time_ns": self.file.time, "begun_ns": self.file.time - 300 * 10**9, "rate_bytes": 512 * 1024,
            "samples_taken": 100, "samples_lost": 0, "objects": 1145, "bytes": 4 * MIB + MIB // 2 + 16,
            "frames": [{"function": "server+0x1fff", "module": "/nowhere/server"},
                       {"function": "server+0xfff", "module": "/nowhere/server"},
                       {"function": "0x6fffffff"}, {"function": "(unknown)"}],
            "stacks": [
                {"tag": "/cache/blocks", "objects": 768, "bytes": 3 * MIB, "samples": 3, "frames": [0, 1]},
                {"tag": "/net", "objects": 376, "bytes": 3 * MIB // 2, "samples": 1, "frames": [2, 1]},
                {"tag": "/", "objects": 1, "bytes": 16, "frames": [3]}]})
        found = json.loads(self.shows("profile", "--format=json", "--lifetimes"))
        self.assertEqual(found["lifetimes_ns"][:3], [10**6, 10**7, 10**8])
        self.assertEqual([stack["lifetimes"] for stack in found["stacks"]], [[68, 0, 0, 0, 700, 0, 0, 0, 0, 0]])
        self.assertEqual(json.loads(self.shows("profile", "--format=json", "--peak"))["peak_footprint_bytes"], 96 * MIB)

    def test_of_what_came_between(self):
        self.file.write()
        self.file.live()
        sites = self.file.profile.sites

        def grow():
            time.sleep(0.3)
            site = list(sites[0])
            site[3] += 5 * MIB  # allocated
            site[5] += MIB  # live
            sites[0] = tuple(site)
            self.file.write()
        thread = threading.Thread(target=grow)
        thread.start()
        rows = json.loads(self.shows("profile", "--growth", "--every", "1", "--format", "json"))["stacks"]
        thread.join()
        self.assertEqual([(row["tag"], row["bytes"]) for row in rows], [("/cache/blocks", MIB)])
        self.file.die()
        self.refuses(f"{self.file.path}: --every is for a process that runs", "--growth", "--every", "1",
                     self.file.path)

    def test_tell_what_was_lost(self):
        self.file.profile.lost = 7
        self.file.write()
        self.assertIn(", 100 in all, of which 7 were lost for want of room\n", self.shows("profile"))

    def test_go_into_a_file(self):
        self.file.write()
        self.assertEqual(self.shows("profile", "-o", self.path("out")), "")
        with open(self.path("out"), encoding="utf-8") as out:
            self.assertTrue(out.read().endswith(LIVE))
        self.assertEqual(self.call("profile", "-o", "/nowhere/out", self.file.path)[1:],
                         ("tally profile: cannot write /nowhere/out: No such file or directory\n", 1))

    def test_say_what_is_wrong(self):
        self.file.write()
        usage = "; tally profile --help shows how it is used"
        for message, args in (
                ("--format yaml: expected table, pprof, folded or json", ["--format", "yaml"]),
                ("--stale soon: expected a time as 90s, 10m, 2h, 1d", ["--stale", "soon"]),
                ("--stale 90: expected a time as 90s, 10m, 2h, 1d", ["--stale", "90"]),
                ("--every goes with --growth or --allocated", ["--every", "5"]),
                ("--every: expected seconds, above 0 and at most 1000000", ["--growth", "--every", "-5"]),
                ("--lifetimes is shown as table or json, not as folded", ["--lifetimes", "--format", "folded"]),
                ("--lifetimes is shown as table or json, not as pprof", ["--lifetimes", "--format", "pprof"])):
            with self.subTest(args):
                self.refuses(message + usage, *args, self.file.path, status=2)
        for args in (["--live", "--peak"], ["--stale", "1m", "--growth"], ["--frob"], ["--rows", "-1"]):
            with self.subTest(args):
                out, err, status = self.call("profile", *args, self.file.path)
                self.assertEqual((out, status), ("", 2))
                self.assertTrue(err.endswith(usage + "\n"), err)

    def test_of_what_was_not_sampled(self):
        self.file.profile = None
        self.file.write()
        for command in "profile", "leaks":
            self.refuses(f"{self.file.path}: process 4711 was not sampled: start it by tally run PROGRAM, or with "
                         "TALLY_SAMPLE=512K", self.file.path, command=command)
        dump = self.write("dump.json", '{"version":2}')
        self.refuses(f"{dump}: a dump in JSON; this needs a record", dump)

    def test_pprof_is_not_for_a_terminal(self):
        self.file.write()
        read, write = pty.openpty()
        done = subprocess.run([TALLY, "profile", "--format", "pprof", self.file.path], env=self.env, stdout=write,
                              stderr=subprocess.PIPE, text=True, check=False, timeout=60)
        os.close(write)
        os.close(read)
        self.assertEqual((done.stderr, done.returncode), (
            "tally profile: --format pprof is no text for a terminal: say -o FILE, or pipe it; tally profile --help "
            "shows how it is used\n", 2))


class Leaks(ProfileTest):
    def test_are_the_oldest_and_largest_first(self):
        self.file.write()
        self.assertEqual(self.shows("leaks").split("\n", 1)[1], LEAKS)
        self.assertTrue(self.shows("leaks", "--rows=1").endswith("... and 2 more; --rows 0 shows all\n"))
        self.assertNotIn("/net", self.shows("leaks", "--tag", "/cache"))

    def test_at_the_end_are_told_apart(self):
        self.file.is_last = 1
        self.file.write()
        self.assertIn("This was never freed: leaks, and what the program keeps on purpose until its end.\n",
                      self.shows("leaks"))
        self.file.is_last = 0
        self.file.write()
        self.file.live()
        self.assertIn("The program runs and is using much of it: leaks are old, grow, ", self.shows("leaks"))


# The line of the allocation, and its callers'.
with open(os.path.join(os.path.dirname(__file__), "leaking.cpp"), encoding="utf-8") as source:
    LINE = 1 + [line.endswith("// the leak") for line in source.read().splitlines()].index(True)
GUILTY = rf"shop::Orders::make\(\)  leaking.cpp:{LINE}\n +shop::take_orders\(shop::Orders&, unsigned long\)  leaking.cpp:\d+\n +main  "


class Programs(ToolTest):
    def leaking(self, *args, program=LEAKING, run=("--leaks",)):
        """A program that has leaked and waits, under `tally run`."""
        child = subprocess.Popen([TALLY, "run", "--quiet", *run, program, *args], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.env)
        self.addCleanup(child.communicate)
        self.assertTrue(child.stdout.readline().startswith("ready"))
        with open(f"/proc/{child.pid}/task/{child.pid}/children", encoding="ascii") as children:
            return child, int(children.read())

    def assertGuilty(self, text, tag="/exe/leaking"):
        first = re.search(rf"ALLOCATED BY\n *([0-9.]+) MiB.* {tag} +{GUILTY}", text)
        self.assertTrue(first, text)
        self.assertGreater(float(first[1]), 32)  # of 64, of which 128 samples are expected
        self.assertLess(float(first[1]), 96)

    def record(self, pid):
        path = f"/dev/shm/tally-{os.geteuid()}/{pid}.tally"
        self.addCleanup(lambda: os.path.exists(path) and os.remove(path))
        return path

    def test_that_end(self):
        for args in ((), ("64", "quick")):
            with self.subTest(args):
                child, pid = self.leaking(*args)
                err = child.communicate("")[1]
                self.assertEqual(child.returncode, 0)
                self.assertGuilty(err)
                self.assertFalse(os.path.exists(self.record(pid)))

    def test_whose_record_is_to_be_kept(self):
        child, pid = self.leaking(run=("--leaks", "--option", "record=keep"))
        self.assertGuilty(child.communicate("")[1])
        self.assertTrue(os.path.exists(self.record(pid)))

    def test_that_are_killed(self):
        child, pid = self.leaking()
        time.sleep(1.5)  # for the record
        os.kill(pid, 9)
        self.assertGuilty(child.communicate("")[1])
        self.assertEqual(child.returncode, -9)
        out, err, status = self.call("profile", self.record(pid))
        self.assertEqual(status, 0, err)
        self.assertGuilty(out)

    def test_that_run(self):
        # The record is as of when it was last worth writing, which is soon enough.
        child, pid = self.leaking(run=("--option", "record_ms=100"))
        time.sleep(0.5)
        self.assertGuilty(self.call("profile", str(pid))[0])
        self.assertGuilty(self.call("leaks", str(pid))[0])
        out = self.call("profile", "--allocated", str(pid))[0]
        self.assertRegex(out, r"shop::serve<char>\(unsigned long\)  leaking.cpp")
        self.assertNotIn("shop::serve", self.call("profile", str(pid))[0])
        child.communicate("")

    def test_into_which_tally_is_linked(self):
        child = subprocess.Popen([LEAKING_STATIC], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                 env={**self.env, "TALLY_SAMPLE": "512K", "TALLY_RECORD_MS": "100"})
        self.addCleanup(child.communicate, "")
        child.stdout.readline()
        time.sleep(0.5)
        self.assertGuilty(self.call("profile", str(child.pid))[0], tag="/")

    def test_that_are_sampled_or_not(self):
        self.assertEqual(self.variable("TALLY_SAMPLE"), "512K")
        self.assertEqual(self.variable("TALLY_SAMPLE", "--sample", "64K"), "64K")
        self.assertEqual(self.variable("TALLY_SAMPLE", environment={"TALLY_SAMPLE": "1M"}), "1M")
        self.assertEqual(self.variable("TALLY_SAMPLE", "--option", "sample=0"), "0")
        child, pid = self.leaking(run=("--sample", "0"))
        err = self.call("profile", str(pid))[1]
        self.assertIn(f"process {pid} was not sampled: start it by tally run PROGRAM, or with TALLY_SAMPLE=512K\n", err)
        child.communicate("")

    def test_leaks_need_samples_and_a_record(self):
        usage = "; tally run --help shows how it is used"
        self.fails(2, "--leaks needs samples: TALLY_SAMPLE is off" + usage, "--leaks", "--sample=0", "true")
        self.fails(2, "--leaks is read from the record: it cannot be without one" + usage, "--leaks", "--no-record",
                   "true")
        self.fails(2, "--leaks excludes --exec" + usage, "--leaks", "--exec", "true")

    def test_sizes_of_samples(self):
        expected = ": expected bytes between samples, such as 512K, at most 1T, or 0; tally run --help shows how it is used"
        for size in "x", "-1", "1e9", "99999999999999G", "2T", "":
            self.fails(2, f"--sample {size}{expected}", f"--sample={size}" if size else "--sample", *([] if size else [""]),
                       "true")


class Refusals(ToolTest):
    def refuses(self, command, message, *args):
        self.assertEqual(self.call(command, *args),
                         ("", f"tally {command}: {message}; tally {command} --help shows how it is used\n", 2))

    def test_counts(self):
        for command in "profile", "leaks":
            for option in "--rows", "--frames":
                for text in "x", "-1", "1.5", "99999999999":
                    self.refuses(command, f"{option}: expected a number, 0 for all, not '{text}'", f"{option}={text}", "1")

    def test_one_view(self):
        one = "expected one of --live, --allocated, --peak, --growth, --stale, --lifetimes, not several"
        self.refuses("profile", one, "--live", "--peak", "1")
        self.refuses("profile", one, "--growth", "--stale", "5s", "1")

    def test_files(self):
        self.refuses("profile", "-o: expected a FILE, or -", "-o", "", "1")
        self.refuses("report", "-o: expected a FILE, or -", "-o", "", "1")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
