#!/usr/bin/env python3
"""tally diff on files: what it prints.

usage: tally_diff_test.py TALLY LIBRARY RECORD_WRITER
"""

import json
import re
import sys
import threading
import time
import unittest

from record_file import RecordFile, Tag
from tool import ToolTest

MIB = 1 << 20
SECOND = 10**9

TEXT = """\
in 10 s: live +5.50 MiB (+563 KiB/s), footprint +4.00 MiB (+409 KiB/s), RSS -1.00 MiB (-102 KiB/s)

TAG                 LIVE   A SECOND  WITH BELOW  FOOTPRINT  WITH BELOW  BLOCKS  ALLOCS
/new           +5.00 MiB   +512 KiB   +5.00 MiB  +6.00 MiB   +6.00 MiB  +81920  +81920  new
/cache/blocks  +1.00 MiB   +102 KiB   +1.00 MiB      0 B         0 B     +1024   +5000
/                  0 B        0 B     +5.50 MiB      0 B     +4.00 MiB       0       0
/cache             0 B        0 B     +1.00 MiB      0 B         0 B         0       0
/gone           -512 KiB  -51.1 KiB    -512 KiB  -2.00 MiB   -2.00 MiB   -8192   -8192  gone

TAG                SIZE       LIVE   A SECOND  FOOTPRINT  BLOCKS  SLABS
/cache/blocks  1.00 KiB  +1.00 MiB   +102 KiB      0 B     +1024      0
/gone            64 B     -512 KiB  -51.1 KiB  -2.00 MiB   -8192    -32  gone
"""


class Diff(ToolTest):
    def setUp(self):
        super().setUp()
        self.before = RecordFile(self.path("a.tally"), [
            Tag("/", 3 * MIB, 4 * MIB), Tag("/cache", 0, 0), Tag("/cache/blocks", 64 * MIB, 90 * MIB),
            Tag("/gone", MIB // 2, 2 * MIB)])
        self.before.ledger = {"rss": 120 * MIB}
        self.before.classes = [("/cache/blocks", 1024, 65536, 91000, 90 * MIB, 1440, [0] * 10, 0, 0),
                               ("/gone", 64, 8192, 32768, 2 * MIB, 32, [0] * 10, 0, 0)]
        self.after = RecordFile(self.path("b.tally"), [
            Tag("/", 3 * MIB, 4 * MIB), Tag("/cache", 0, 0),
            Tag("/cache/blocks", 65 * MIB, 90 * MIB, blocks=MIB + 1024, allocs=MIB + 5000),
            Tag("/new", 5 * MIB, 6 * MIB)])
        self.after.created = self.before.created
        self.after.time = self.before.time + 10 * SECOND
        self.after.uptime = self.before.uptime + 10 * SECOND
        self.after.ledger = {"rss": 119 * MIB}
        self.after.classes = [("/cache/blocks", 1024, 66560, 91000, 90 * MIB, 1440, [0] * 10, 0, 0)]
        for file in (self.before, self.after):
            self.addCleanup(file.close)

    def diff(self, *args):
        for file in (self.before, self.after):
            file.write()
        out, err, status = self.call("diff", *args, self.before.path, self.after.path)
        self.assertEqual((err, status), ("", 0))
        return out

    def test_shows_what_grew(self):
        first, second, text = self.diff().split("\n", 2)
        self.assertRegex(first, r"^A: process 4711, dead, as of \d+ m?s ago: server --port 80$")
        self.assertRegex(second, r"^B: process 4711, dead, as of \d+ m?s ago: server --port 80$")
        self.assertEqual(text, TEXT)

    def test_by_one_and_by_name(self):
        out = self.diff("--by", "tag", "--sort", "name")
        self.assertEqual(re.findall(r"^/\S*", out, re.M), ["/", "/cache", "/cache/blocks", "/gone", "/new"])
        out = self.diff("--by", "class")
        self.assertEqual(re.findall(r"^/\S*", out, re.M), ["/cache/blocks", "/gone"])

    def test_shows_twenty_rows_or_all(self):
        self.after.tags += [Tag(f"/tag{i}", MIB, MIB) for i in range(30)]
        self.assertTrue(self.diff("--by", "tag").endswith("\n... and 15 more; --all shows them\n"))
        self.assertTrue(self.diff("--by", "tag", "--all").splitlines()[-1].startswith("/gone "))

    def test_json_has_all(self):
        found = json.loads(self.diff("--json"))
        self.assertEqual((found["a"]["pid"], found["b"]["source"]), (4711, self.after.path))
        self.assertEqual((found["same_process"], found["seconds"]), (True, 10))
        self.assertEqual(found["rss_bytes"],
                         {"before": 120 * MIB, "after": 119 * MIB, "grew": -MIB, "per_second": -MIB / 10})
        self.assertEqual([row["tag"] for row in found["tags"]],
                         ["/new", "/cache/blocks", "/", "/cache", "/gone"])
        self.assertEqual([row["fate"] for row in found["tags"]], ["new", "stayed", "stayed", "stayed", "gone"])
        self.assertEqual(found["tags"][1]["alloc_count"]["per_second"], 500)
        self.assertEqual(found["classes"][1], {
            "tag": "/gone", "size": 64, "fate": "gone",
            "live_bytes": {"before": MIB // 2, "after": 0, "grew": -MIB // 2, "per_second": -MIB / 20},
            "footprint_bytes": {"before": 2 * MIB, "after": 0, "grew": -2 * MIB, "per_second": -2 * MIB / 10},
            "live_blocks": {"before": 8192, "after": 0, "grew": -8192, "per_second": -819.2},
            "slabs": {"before": 32, "after": 0, "grew": -32, "per_second": -3.2}})
        self.assertNotIn("classes", json.loads(self.diff("--json", "--by", "tag")))

    def test_says_what_two_records_are(self):
        self.after.pid = 4712
        self.assertEqual(self.diff().splitlines()[2], "A and B are different processes")
        self.after.pid = 4711
        self.after.time = self.before.time - 5
        self.after.uptime = self.before.uptime - 5
        lines = self.diff().splitlines()
        self.assertEqual(lines[2], "no rates: B is not later than A")
        self.assertEqual(lines[3], "live +5.50 MiB, footprint +4.00 MiB, RSS -1.00 MiB")
        self.assertEqual(lines[6].split()[:4], ["/new", "+5.00", "MiB", "-"])

    def test_of_a_dump_says_whence_its_time_is(self):
        dump = {"version": 2, "pid": 4711, "backend": "os",
                "process": {"rss_bytes": 1, "mapped_bytes": 1, "metadata_bytes": 0}, "tags": [], "classes": []}
        path = self.write("dump.json", json.dumps(dump))
        self.before.write()
        out, err, status = self.call("diff", path, self.before.path)
        self.assertEqual((err, status), ("", 0))
        self.assertEqual(out.splitlines()[2], "the time of a dump that tells none is that of its file")

    def test_reads_one_twice(self):
        self.before.write()
        self.before.live()

        def grow():
            time.sleep(0.3)
            self.before.tags[0].live += 2 * MIB
            self.before.uptime += 2 * SECOND
            self.before.write()

        thread = threading.Thread(target=grow)
        thread.start()
        out, err, status = self.call("diff", "--every", "1.2", "--by", "tag", self.before.path)
        thread.join()
        self.assertEqual((err, status), ("", 0))
        self.assertIn("\nin 2 s: live +2.00 MiB (+1.00 MiB/s), footprint 0 B (0 B/s), RSS 0 B (0 B/s)\n", out)
        self.before.die()
        out = self.call("diff", "--every", "0.1", self.before.path)[0]
        self.assertIn("\nno rates: B is not later than A\nlive 0 B, footprint 0 B, RSS 0 B\n", out)

    def test_says_what_it_does_not_understand(self):
        for args, message in (
                (["1"], "1 given of A and B: expected both, or --every SECONDS"),
                ([], "0 given of A and B: expected both, or --every SECONDS"),
                (["1", "2", "3"], "3 given of A and B: expected both, or --every SECONDS"),
                (["--every", "1", "1", "2"], "--every reads one TARGET twice, not two"),
                (["--every", "0", "1"], "--every: expected seconds, above 0 and at most 1000000"),
                (["--every", "-1", "1"], "--every: expected seconds, above 0 and at most 1000000"),
                (["--every", "nan", "1"], "--every: expected seconds, above 0 and at most 1000000"),
                (["--by", "thread", "1", "2"], "--by thread: expected tag or class"),
                (["--sort", "size", "1", "2"], "--sort size: expected growth or name")):
            self.assertEqual(self.call("diff", *args), (
                "", f"tally diff: {message}; tally diff --help shows how it is used\n", 2))
        dump = self.write("dump.json", "{}")
        self.assertEqual(self.call("diff", "--every", "1", dump),
                         ("", f"tally diff: {dump}: a dump in JSON; this needs a record\n", 1))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
