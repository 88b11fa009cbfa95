#!/usr/bin/env python3
"""Profiles in the viewers that people have: go tool pprof, and speedscope in a browser.

usage: tally_viewers_test.py TALLY LIBRARY MODULES CASE
  MODULES  the folder that npm ci made of tests/web
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest
import urllib.request

from record_file import Profile, RecordFile, Tag
from tool import TALLY, ToolTest

MODULES = os.path.abspath(sys.argv[3])
BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
MIB = 1 << 20


def missing(case):
    """Why a case cannot be tried here."""
    if case == "Pprof":
        return None if shutil.which("go") else "go is not installed (Debian: golang-go)"
    if not os.path.exists(os.path.join(MODULES, "speedscope")):
        return f"{MODULES} is not there: npm ci makes it of tests/web, as tools/dev test does"
    if not shutil.which("node"):
        return "node is not installed (Debian: nodejs)"
    return None if BROWSER else "no browser is installed (Debian: chromium)"


class ViewerTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.file = RecordFile(self.path("a.tally"), [Tag("/", MIB, MIB), Tag("/cache", 0, 0), Tag("/net", 0, 0)])
        self.addCleanup(self.file.close)
        profile = self.file.profile = Profile(self.file.time)
        server = profile.module("/usr/bin/server", 0x1000, 0x9000, build_id=bytes(range(16)))
        fill = profile.site(profile.stack((0x2000, server), (0x3000, server)), "/cache/blocks", (768, 3 * MIB),
                            allocated=(1536, 6 * MIB), peak=(2304, 9 * MIB), mark=(512, 2 * MIB))
        profile.sample(fill, 4096, 120, 2)
        profile.site(profile.stack((0x2000, server), (0x4000, server)), "/net", (100, MIB))
        self.file.write()

    def profile(self, name, *args):
        path = self.path(name)
        subprocess.run([TALLY, "profile", "-o", path, *args, self.file.path], env=self.env, check=True, timeout=60,
                       stderr=subprocess.DEVNULL)
        return path


class Pprof(ViewerTest):
    def setUp(self):
        super().setUp()
        self.env["HOME"] = self.folder  # where it keeps things

    def pprof(self, *args):
        done = subprocess.run(["go", "tool", "pprof", *args], env=self.env, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def rows(self, text):
        """{function: flat} of -top."""
        return dict(reversed(row) for row in re.findall(r"^ *(\S+) +[0-9.]+% +[0-9.]+% +\S+ +[0-9.]+% +(.*)$", text, re.M))

    def test_top(self):
        out = self.pprof("-top", self.profile("heap.pb.gz", "--format", "pprof"))
        self.assertIn("Type: inuse_space\n", out)
        self.assertIn("Build ID: 000102030405060708090a0b0c0d0e0f\n", out)
        self.assertIn("Duration: 300s, Total samples = 4MB", out)
        self.assertEqual(self.rows(out), {"server+0x1fff": "3MB", "server+0x2fff": "1MB", "server+0xfff": "0"})
        out = self.pprof("-top", "-sample_index=alloc_objects", self.path("heap.pb.gz"))
        self.assertEqual(self.rows(out), {"server+0x1fff": "1536", "server+0x2fff": "100", "server+0xfff": "0"})

    def test_tags(self):
        heap = self.profile("heap.pb.gz", "--format", "pprof")
        out = self.pprof("-top", "-tagfocus=tag=/cache", heap)
        self.assertEqual(self.rows(out), {"server+0x1fff": "3MB", "server+0xfff": "0"})
        out = self.pprof("-top", "-tagignore=tag=/cache", heap)
        self.assertEqual(self.rows(out), {"server+0x2fff": "1MB", "server+0xfff": "0"})
        self.assertEqual(self.rows(self.pprof("-top", "-tagfocus=bytes=4kb", heap)),
                         {"server+0x1fff": "3MB", "server+0xfff": "0"})

    def test_of_other_views(self):
        for view, kind, top in (("--allocated", "alloc_space", "6MB"), ("--peak", "peak_space", "9MB"),
                                ("--growth", "growth_space", "1MB"), ("--stale=1m", "stale_space", "1MB")):
            with self.subTest(view):
                out = self.pprof("-top", self.profile("other.pb.gz", "--format", "pprof", view))
                self.assertIn(f"Type: {kind}\n", out)
                self.assertEqual(self.rows(out)["server+0x1fff"], top)

    def test_in_the_browser(self):
        heap = self.profile("heap.pb.gz", "--format", "pprof")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"localhost:{free.getsockname()[1]}"
        server = subprocess.Popen(["go", "tool", "pprof", "-http", address, "-no_browser", heap], env=self.env,
                                  stderr=subprocess.DEVNULL, start_new_session=True)
        self.addCleanup(lambda: (os.killpg(server.pid, 9), server.wait()))
        deadline = time.monotonic() + 30
        while True:
            try:
                pages = [urllib.request.urlopen(f"http://{address}/ui/{page}", timeout=10).read().decode()
                         for page in ("top", "flamegraph")]
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        for page in pages:
            self.assertIn("server+0x1fff", page.replace("\\u002b", "+").replace("&#43;", "+").replace("&#x2b;", "+"))


class Speedscope(ViewerTest):
    def test_reads_folded_stacks_and_pprof(self):
        folded = self.profile("heap.folded", "--format", "folded")
        heap = self.profile("heap.pb.gz", "--format", "pprof")
        script = os.path.join(os.path.dirname(__file__), "..", "web", "speedscope.mjs")
        done = subprocess.run(["node", script, MODULES, BROWSER, folded, heap], capture_output=True, text=True,
                              timeout=100)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        found = {path: {name: (total, self_) for name, total, self_ in rows}
                 for path, rows in json.loads(done.stdout).items()}
        self.assertEqual(found[folded], {
            "server+0x1fff": (f"{3 * MIB:,} (75%)", f"{3 * MIB:,} (75%)"),
            "server+0x2fff": (f"{MIB:,} (25%)", f"{MIB:,} (25%)"),
            "server+0xfff": (f"{4 * MIB:,} (100%)", "0 (<0.01%)"),
            "/cache/blocks": (f"{3 * MIB:,} (75%)", "0 (<0.01%)"),
            "/net": (f"{MIB:,} (25%)", "0 (<0.01%)")})
        self.assertEqual(found[heap], {
            "server+0x1fff": ("3.00 MB (75%)", "3.00 MB (75%)"),
            "server+0x2fff": ("1.00 MB (25%)", "1.00 MB (25%)"),
            "server+0xfff": ("4.00 MB (100%)", "0 B (<0.01%)")})


if __name__ == "__main__":
    reason = missing(sys.argv[4])
    if reason:
        print("skipped:", reason)
        sys.exit(77)
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
