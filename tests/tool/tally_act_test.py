#!/usr/bin/env python3
"""`tally ledger`, `tally limit` and `tally trim`: with a process that plays its part, and with real ones.

usage: tally_act_test.py TALLY LIBRARY RECORD_WRITER
"""

import errno
import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import unittest

import records
import tool

MIB = 1024 * 1024


class Program(records.RecordTest):
    """A python program under the library."""

    def run_program(self, code, **options):
        env = {**self.env, "LD_PRELOAD": tool.LIBRARY, "PYTHONMALLOC": "malloc", "TALLY_RECORD": "1",
               **{f"TALLY_{name.upper()}": value for name, value in options.items()}}
        child = subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (child.kill(), child.communicate()))
        self.assertEqual(child.stdout.readline(), "ready\n")
        return child

    def next_line(self, child, line=""):
        child.stdin.write(line + "\n")
        child.stdin.flush()
        return child.stdout.readline().rstrip("\n")


class Limit(Program):
    command = "limit"

    def test_what_is_asked_and_what_holds(self):
        child, path = self.start("answer")
        for size, said, asked in [
                ("40M", "limit 40.0 MiB; who wants more fails; holds 30.0 MiB",
                 f"soft {2**64 - 1} hard {40 * MIB} policy 0"),
                ("40M:soft=35M:wait=250", "limit 40.0 MiB, soft limit 35.0 MiB; who wants more waits for 250 ms at most, "
                 "then fails; holds 30.0 MiB", f"soft {35 * MIB} hard {40 * MIB} policy {2 | 250 << 8}"),
                ("1.5G:abort", "limit 1.50 GiB; who wants more ends the program; holds 30.0 MiB",
                 f"soft {2**64 - 1} hard {3 << 29} policy 1"),
                ("20M", "limit 20.0 MiB; who wants more fails; holds 30.0 MiB, which is more: no more is given until it "
                 "fits", f"soft {2**64 - 1} hard {20 * MIB} policy 0"),
                ("none:soft=20M", "soft limit 20.0 MiB; holds 30.0 MiB", f"soft {20 * MIB} hard {2**64 - 1} policy 0"),
                ("none", "no limit; holds 30.0 MiB", f"soft {2**64 - 1} hard {2**64 - 1} policy 0")]:
            self.assertEqual(self.says(path, "cache/blocks", size), f"/cache/blocks: {said}\n")
            self.assertEqual(child.stdout.readline(), f"limit /cache/blocks {asked}\n")

    def test_a_new_tag(self):
        _, path = self.start("answer")
        self.assertEqual(self.says(path, "/new", "1M"),
                         "/new: limit 1.00 MiB; who wants more fails; a new tag\n")
        self.refuses(f"{path}: no tag /new; those that there are: /, /cache, /cache/blocks, /net, /net/\"tls\"\\?, "
                     "/tally", path, "new", "none")

    def test_what_the_process_refuses(self):
        child, path = self.start("answer")
        self.refuses(f"process {child.pid} could not set the limit: {os.strerror(errno.EINVAL)}", path, "refused", "1M")

    def test_usage(self):
        _, path = self.start("answer")
        more = "; tally limit --help shows how it is used"
        self.refuses(f"1X: expected a size of at most 64T, such as 1.5G, a share, 0% to 100%, or none{more}",
                     path, "cache", "1X", status=2)
        self.refuses(f"a//b: expected a tag's path, as cache/blocks, without an empty name{more}",
                     path, "a//b", "1M", status=2)
        self.refuses(f"/tally: expected a tag of the program's, for /tally is Tally's own{more}",
                     path, "/tally", "1M", status=2)
        self.refuses(f"expected TARGET, TAG and SIZE{more}", path, "cache", status=2)
        self.assertIn("usage: tally limit", self.says("--help"))
        dump = self.write("dump.json", "{}")
        self.refuses(f"{dump}: a dump in JSON; this needs a record", dump, "cache", "1M")

    def test_who_does_not_answer(self):
        child, path = self.start("mute")
        message = f"process {child.pid} did not answer in 2 s, and is not asked any more: "
        self.refuses(message + "it allocates too little to look, as it has no thread for that; TALLY_RECORD_MS gives it "
                     "one", path, "cache", "1M")
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        self.refuses(message + "it is stopped", path, "cache", "1M")
        self.kill(child)
        self.refuses(f"process {child.pid} has ended: nobody is left to be asked", path, "cache", "1M")

    def test_two_that_ask_at_once(self):
        child, path = self.start("answer")
        offset = self.offset_of_request(child, path)
        with open(path, "r+b") as file:
            # struct flock: type, whence, start, length, pid.
            fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, offset, 8, 0))  # F_OFD_SETLK
            self.refuses(f"process {child.pid} is being asked by another tally, which did not end in 2 s",
                         path, "cache", "1M")
        self.assertIn("limit 1.00 MiB", self.says(path, "cache", "1M"))

    def offset_of_request(self, child, path):
        """Where the path of the tag that is limited shows up in the file."""
        self.says(path, "find/me", "1M")
        with open(path, "rb") as file:
            at = file.read().rindex(b"/find/me")
        return at - 40  # what comes before it in a request

    def test_a_real_process_is_held_to_it_at_once(self):
        child = self.run_program(
            "print('ready', flush=True)\n"
            "held = []\n"
            "while True:\n"
            "    n = input()\n"
            "    try:\n"
            "        held.append(bytearray(int(n) << 20)); print('got', n, flush=True)\n"
            "    except MemoryError:\n"
            "        print('refused', n, flush=True)\n", record_ms="100")
        self.assertEqual(self.next_line(child, "50"), "got 50")
        out = self.says(child.pid, "/", "100M:soft=90M")
        self.assertRegex(out, r"^/: limit 100 MiB, soft limit 90\.0 MiB; who wants more fails; holds \d\S* MiB\n$")
        self.assertEqual(self.next_line(child, "80"), "refused 80")
        self.command = "stat"
        until = time.monotonic() + 20  # where the machine is busy its record is late
        while "limit of /" not in self.says(child.pid) and time.monotonic() < until:
            time.sleep(0.05)
        self.assertRegex(self.says(child.pid), r"limit of /: holds \d\S* MiB of 100 MiB, soft limit 90\.0 MiB")
        self.command = "limit"
        self.assertRegex(self.says(child.pid, "/", "none"), r"^/: no limit; holds")
        self.assertEqual(self.next_line(child, "80"), "got 80")


class Trim(Program):
    command = "trim"

    def test_what_went_back(self):
        child, path = self.start("answer")
        self.assertRegex(self.says(path), r"^3\.00 MiB went back: RSS was \S+ .iB, is \S+ .iB\n$")
        self.assertEqual(child.stdout.readline(), f"trim  soft 0 hard 0 policy 0\n")
        self.assertIn("usage: tally trim", self.says("--help"))

    def test_a_real_process_gives_back_what_it_does_not_use(self):
        child = self.run_program("held = [bytearray(300000) for _ in range(200)]\n"
                                 "print('ready', flush=True); input(); del held\n"
                                 "print('freed', flush=True); input()", record_ms="100", purge_ms="3600000")
        self.assertEqual(self.next_line(child), "freed")
        went, before, after = (self.bytes_of(text) for text in re.fullmatch(
            r"(.*) went back: RSS was (.*), is (.*)\n", self.says(child.pid)).groups())
        self.assertGreater(went, 40 * MIB)
        self.assertGreater(before - after, 40 * MIB)

    @staticmethod
    def bytes_of(text):
        number, unit = text.split()
        return float(number) * 1024 ** ["B", "KiB", "MiB", "GiB"].index(unit)


LEDGER = """\
PART                BYTES   SHARE  WHAT IT IS
live blocks      23.5 MiB  58.8 %  in use by the program; pages that it never wrote to are not counted
free in slabs    8.50 MiB  21.2 %  free blocks between live ones, and ends of slabs: fragmentation
empty slabs      1.00 MiB   2.5 %  hold no block; kept for TALLY_PURGE_MS
free pages       1.00 MiB   2.5 %  in chunks; go back after TALLY_PURGE_MS
metadata          512 KiB   1.2 %  Tally's own tables, the tag /tally
files and shared 4.00 MiB  10.0 %  resident pages of files and of shared memory, code included
other            1.50 MiB   3.8 %  stacks, data of programs and libraries, mappings of their own

tally trim would give back 2.00 MiB; of the 8.50 MiB in slabs the program's own malloc_trim may give back whole pages
"""


class Ledger(Program):
    command = "ledger"

    def test_of_the_dead(self):
        child, path = self.start()
        self.kill(child)
        out = self.says(path)
        self.assertIn("\nbackend os, RSS 40.0 MiB is the sum of\n\n", out)
        squeezed = [" ".join(line.split()) for line in out.split("\n\n", 1)[1].splitlines()]
        self.assertEqual(squeezed, [" ".join(line.split()) for line in LEDGER.splitlines()])

    def test_of_the_dead_as_json(self):
        child, path = self.start()
        self.kill(child)
        doc = json.loads(self.says("--json", path))
        self.assertEqual(sum(part["bytes"] for part in doc["parts"]), doc["rss_bytes"])
        self.assertEqual((doc["rss_bytes"], doc["trim_bytes"], doc["trim_bytes_at_most"]),
                         (40 * MIB, 2 * MIB, 10 * MIB + MIB // 2))

    def test_a_real_process_is_explained_to_two_percent(self):
        child = self.run_program("import threading, time\n"
                                 "held = [bytes(1000) for _ in range(100000)] + [bytearray(5000000)]\n"
                                 "for _ in range(8): threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
                                 "print('ready', flush=True); input()", record_ms="100")
        time.sleep(0.5)  # a record of what is there now
        doc = json.loads(self.says("--json", child.pid))
        parts = {part["part"]: part["bytes"] for part in doc["parts"]}
        self.assertEqual(sum(parts.values()), doc["rss_bytes"])
        self.assertGreater(parts["live"], 100 * MIB)
        self.assertGreater(parts["code"], MIB)
        for part in "data", "stacks":
            self.assertGreater(parts[part], 0)
        self.assertLess(abs(parts["residual"]), doc["rss_bytes"] / 50)
        out = self.says(child.pid)
        self.assertRegex(out, r"\nresidual +-?\d")

    def test_a_dump_has_none(self):
        dump = self.write("dump.json", "{}")
        self.refuses(f"{dump}: a dump in JSON; this needs a record", dump)

    def test_usage(self):
        self.refuses("The following argument was not expected: --x; tally ledger --help shows how it is used", "--x",
                     status=2)
        self.assertIn("usage: tally ledger", self.says("--help"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
