#!/usr/bin/env python3
"""tally frag on files: what it prints, to a terminal and elsewhere.

usage: tally_frag_test.py TALLY LIBRARY RECORD_WRITER
"""

import json
import os
import pty
import re
import subprocess
import sys
import unittest

from record_file import RecordFile, Tag
from tool import TALLY, ToolTest

MIB = 1 << 20

TEXT = """\
fragmentation 1.41: 68.0 MiB live in 96.0 MiB of slabs and large blocks
free in 1504 slabs: 28.0 MiB, of it 20.0 MiB in 761 sparse slabs
  pinned by /cache/blocks, blocks of 1.00 KiB: 20.0 MiB in 760 slabs
  pinned by /, blocks of 64 B: 63.0 KiB in 1 slab
free outside of slabs in use: 3.00 MiB, was not given back yet
what to do: free the blocks that pin sparse slabs, or give those that live long a tag of their own: a slab goes back \
with its last block.

TAG                SIZE  BLOCKS  ROOM FOR    USED  SLABS  FOOTPRINT      FREE  FILL          PINNED
/cache/blocks  1.00 KiB   65536     91000  71.1 %   1440   90.0 MiB  26.0 MiB  9421111144  20.0 MiB
/                64 B     40000     50000  61.0 %     64   4.00 MiB  1.55 MiB  .1.......9  63.0 KiB
"""


class Frag(ToolTest):
    def setUp(self):
        super().setUp()
        self.file = RecordFile(self.path("a.tally"), [
            Tag("/", 3 * MIB, 4 * MIB), Tag("/cache", 0, 0), Tag("/cache/blocks", 64 * MIB, 90 * MIB),
            Tag("/lib/libssl.so.3", MIB, 2 * MIB), Tag("/tally", MIB, MIB)])
        self.file.classes = [
            ("/", 64, 40000, 50000, 4 * MIB, 64, [0, 1] + [0] * 7 + [63], 1, 64512),
            ("/cache/blocks", 1024, 65536, 91000, 90 * MIB, 1440, [500, 200, 100, 50, 50, 50, 50, 40, 200, 200], 760,
             20 * MIB)]
        self.file.ledger = {"dirty": 3 * MIB}
        self.addCleanup(self.file.close)

    def frag(self, *args, **more):
        out, err, status = self.call("frag", *args, **more)
        self.assertEqual((err, status), ("", 0))
        return out

    def test_shows_what_is_free_and_what_pins_it(self):
        self.file.write()
        head, text = self.frag(self.file.path).split("\n", 1)
        self.assertRegex(head, r"^process 4711, dead, as of \d+ m?s ago: server --port 80$")
        self.assertEqual(text, TEXT)

    def test_of_a_process_that_runs_says_how_it_goes_back(self):
        self.file.write()
        self.file.live()
        self.assertIn("\nfree outside of slabs in use: 3.00 MiB, goes back by itself, or by tally trim 4711 at once\n",
                      self.frag(self.file.path))

    def test_of_a_tag(self):
        self.file.write()
        out = self.frag("--tag", "cache", self.file.path)
        self.assertIn("fragmentation 1.41: 64.0 MiB live in 90.0 MiB of", out)
        self.assertNotIn("\n/  ", out)
        self.assertEqual(self.call("frag", "--tag", "/none", self.file.path)[1:],
                         (f"tally frag: {self.file.path}: no tag /none; those that there are: /, /cache, "
                          "/cache/blocks, /lib/libssl.so.3, /tally\n", 1))

    def test_shows_twenty_rows_or_all(self):
        for size in range(16, 16 * 30, 16):
            self.file.classes.append(("/lib/libssl.so.3", size, 1, 64, 4096, 1, [1] + [0] * 9, 0, 0))
        self.file.write()
        self.assertTrue(self.frag(self.file.path).endswith("\n... and 11 more; --all shows them\n"))
        self.assertEqual(len(self.frag("--all", self.file.path).splitlines()), 40)

    def test_json_has_all(self):
        self.file.write()
        found = json.loads(self.frag("--json", self.file.path))
        rows = found.pop("rows")
        self.assertTrue(found.pop("advice").startswith("free the blocks"))
        self.assertEqual(found, {
            "pid": 4711, "command": "server --port 80", "state": "dead", "live_bytes": 68 * MIB,
            "footprint_bytes": 96 * MIB, "fragmentation": 96 / 68, "free_bytes": 28 * MIB, "slabs": 1504,
            "sparse_slabs": 761, "sparse_free_bytes": 20 * MIB + 64512, "outside_bytes": 3 * MIB})
        self.assertEqual(rows[1], {
            "tag": "/", "size": 64, "live_blocks": 40000, "capacity_blocks": 50000, "slabs": 64,
            "footprint_bytes": 4 * MIB, "free_bytes": 4 * MIB - 64 * 40000, "fill": [0, 1] + [0] * 7 + [63],
            "sparse_slabs": 1, "sparse_free_bytes": 64512})

    def test_a_dump_tells_less(self):
        dump = {"version": 2, "pid": 12, "backend": "os",
                "process": {"rss_bytes": 1, "mapped_bytes": 1, "metadata_bytes": 0},
                "tags": [{"id": 0, "name": "/", "parent": None, "live_bytes": 100, "live_blocks": 2,
                          "footprint_bytes": 4096, "peak_footprint_bytes": 0, "alloc_count": 2, "free_count": 0,
                          "requested_bytes": 90}],
                "classes": [{"tag": 0, "size": 50, "live_blocks": 2, "capacity_blocks": 81, "slabs": 1,
                             "footprint_bytes": 4096}]}
        path = self.write("dump.json", json.dumps(dump))
        text = self.frag(path).split("\n", 1)[1]
        self.assertEqual(text, """\
fragmentation 40.96: 100 B live in 4.00 KiB of slabs and large blocks
free in 1 slab: 3.89 KiB
what to do: little: most of it is in the only slab of a tag and size; fewer tags would share slabs.
(This dump does not tell how full slabs are, a record does.)

TAG    SIZE  BLOCKS  ROOM FOR   USED  SLABS  FOOTPRINT      FREE
/    50 B         2        81  2.4 %      1   4.00 KiB  3.89 KiB
""")

        dump["classes"][0].update(fill=[1] + [0] * 9, sparse_slabs=1, sparse_free_bytes=3950)
        text = self.frag(self.write("dump.json", json.dumps(dump)))
        self.assertIn("\nfree in 1 slab: 3.89 KiB, of it 3.85 KiB in 1 sparse slab\n", text)
        self.assertIn("  9.........  3.85 KiB\n", text)

    def test_a_terminal_gets_blocks_if_it_takes_utf_8(self):
        self.file.write()
        for locale, bars in (("C.UTF-8", "█▃▂▁▁▁▁▁▃▃"), ("C", "9421111144")):
            read, write = pty.openpty()
            subprocess.run([TALLY, "frag", self.file.path], env={**self.env, "LC_ALL": locale}, stdout=write,
                           check=True, timeout=60)
            os.close(write)
            text = ""
            while True:
                try:
                    text += os.read(read, 65536).decode()
                except OSError:
                    break
            os.close(read)
            self.assertIn(bars, text)

    def test_says_what_it_does_not_understand(self):
        self.assertEqual(self.call("frag", "--frob", "1"), (
            "", "tally frag: The following argument was not expected: --frob; tally frag --help shows how it is "
            "used\n", 2))
        # Not the target, which is one too many beside what is taken for it.
        self.assertEqual(self.call("frag", "--rows", "5", "1"), (
            "", "tally frag: The following argument was not expected: --rows; tally frag --help shows how it is "
            "used\n", 2))
        self.assertEqual(self.call("frag", self.path("none")), (
            "", f"tally frag: {self.path('none')}: No such file or directory\n", 1))
        help_text = self.frag("--help")
        self.assertTrue(help_text.startswith("usage: tally frag "))
        self.assertIsNone(re.search(r".{105}", help_text))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
