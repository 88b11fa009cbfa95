#!/usr/bin/env python3
"""tally report: what the page is given of a record, to the byte, and what is said where there is none.

usage: tally_report_test.py TALLY LIBRARY REPORT_RECORD TALLY_WITHOUT_PAGE CMAKE PAGE_SOURCES
"""

import json
import os
import re
import subprocess
import sys
import unittest

from tool import ToolTest

RECORD, WITHOUT_PAGE, CMAKE, PAGE_SOURCES = sys.argv[3:7]
KIB, MIB = 1 << 10, 1 << 20
HOSTILE = "<img src=x onerror=alert(1)></script><!--\u2028"


def rows(table):
    return [dict(zip(table["columns"], row)) for row in table["rows"]]


class Report(ToolTest):
    def record(self, kind):
        path = self.path(f"{kind}.tally")
        subprocess.run([RECORD, path, kind], check=True)
        return path

    def data(self, kind="small"):
        out, err, status = self.call("report", "--json", self.record(kind))
        self.assertEqual((err, status), ("", 0))
        return json.loads(out)

    def refuses(self, message, *args, status=1, **more):
        self.assertEqual(self.call("report", *args, **more), ("", f"tally report: {message}\n", status))

    def test_what_is_no_file_is_written_into(self):
        record, pipe, target, link = self.record("small"), self.path("pipe"), self.path("target"), self.path("link")
        os.mkfifo(pipe)
        reader = subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE)
        self.assertEqual(self.call("report", "--json", "-o", pipe, record)[1:], ("", 0))
        self.assertEqual(json.loads(reader.communicate(timeout=30)[0])["schema"], 1)
        os.symlink(target, link)
        self.assertEqual(self.call("report", "--json", "-o", link, record)[1:], ("", 0))
        self.assertTrue(os.path.islink(link))
        self.assertEqual(os.path.getsize(target), os.path.getsize(link))
        self.assertEqual([name for name in os.listdir(self.folder) if ".tmp" in name], [])

    def test_process_and_findings(self):
        data = self.data()
        self.assertEqual(data["schema"], 1)
        process = data["process"]
        for key, value in {"pid": 4711, "command": "server --port 80", "state": "dead", "live": False,
                           "backend": "os", "tag_by": "module", "rss": 80 * MIB, "live_bytes": 48 * MIB,
                           "footprint_bytes": 61 * MIB, "blocks": 48 * MIB // 64}.items():
            self.assertEqual(process[key], value, key)
        self.assertEqual(process["time"] - process["created"], 86400_000)
        self.assertEqual([(one["level"], one["section"], one["text"]) for one in data["findings"]], [
            ("bad", "time", "/cache/blocks refused allocations at its limit 3 times; it holds 50.0 MiB of 52.0 MiB."),
            ("warn", "stacks", "What grows most is allocated by libquery.so.2+0x300, called by server+0x2000, under "
                               "/cache/blocks: it holds 20.0 MiB more than 11 h before."),
            ("warn", "time", "/cache/blocks grows: by 5.50 MiB and more in the last 2 min."),
            ("note", "tags", "/cache/blocks holds most: 40.0 MiB live, 82.0 % of the footprint."),
            ("good", "fragmentation", "Fragmentation is 1.28: 13.0 MiB are free in slabs. That is little.")])

    def test_ledger_is_rss(self):
        data = self.data()
        parts = {part["key"]: part["bytes"] for part in data["ledger"]}
        self.assertEqual(parts["live"], 47 * MIB)
        self.assertEqual(parts["other"], 6 * MIB)
        self.assertEqual(sum(parts.values()), data["process"]["rss"])

    def test_tags_are_a_tree(self):
        data = self.data()
        tags = {data["paths"][tag["tag"]]: tag for tag in rows(data["tags"])}
        self.assertEqual(list(tags), ["/", "/cache", "/cache/blocks", "/net", "/tally"])
        order = list(tags)
        self.assertEqual({path: order[tag["parent"]] for path, tag in tags.items() if tag["parent"] >= 0},
                         {"/cache": "/", "/cache/blocks": "/cache", "/net": "/", "/tally": "/"})
        blocks = tags["/cache/blocks"]
        self.assertEqual((blocks["live"], blocks["footprint"], blocks["hard"], blocks["soft"], blocks["refused"],
                          blocks["depth"], blocks["pressure"]), (40 * MIB, 50 * MIB, 52 * MIB, None, 3, 2, "normal"))
        self.assertEqual((tags["/"]["live"], tags["/"]["own_live"], tags["/"]["parent"]), (48 * MIB, MIB, -1))

    def test_history_and_events(self):
        data = self.data()
        recent, minutes = data["history"]["recent"], data["history"]["minutes"]
        self.assertEqual((len(recent["time"]), len(minutes["time"])), (600, 60))
        self.assertEqual(recent["time"][-1], data["process"]["time"])
        self.assertEqual({time - before for before, time in zip(minutes["time"], minutes["time"][1:])}, {60_000})
        blocks = next(tag for tag in recent["tags"] if data["paths"][tag["tag"]] == "/cache/blocks")
        self.assertEqual((blocks["first"], len(blocks["live"]), blocks["live"][-1]), (0, 600, 40 * MIB // 1200 * 1200 // KIB))
        self.assertEqual(blocks["footprint"][-1], blocks["live"][-1] * 5 // 4)
        first, last = rows(data["events"])
        self.assertEqual((first["kind"], last["kind"]), ("limit", "failed"))
        self.assertEqual((data["paths"][last["tag"]], data["process"]["time"] - last["time"], last["asked"], last["held"],
                          last["soft"], last["hard"]), ("/cache/blocks", 300_000, 4096, 52 * MIB, None, 52 * MIB))

    def test_fragmentation(self):
        frag = self.data()["fragmentation"]
        self.assertEqual((frag["live"], frag["footprint"], frag["free"]), (47 * MIB, 60 * MIB, 13 * MIB))
        largest = rows(frag)[0]
        self.assertEqual((largest["size"], largest["live_blocks"], largest["slabs"], largest["footprint"],
                          largest["free"], largest["sparse_slabs"], largest["fill"]),
                         (1024, 40000, 800, 50 * MIB, 50 * MIB - 40000 * KIB, 200, [0, 200] + [0] * 7 + [600]))

    def stack(self, profile, node):
        """The functions of a stack, outermost first."""
        names = []
        while node:
            name, _, module = profile["functions"][profile["nodes"]["function"][node]]
            names.insert(0, (profile["strings"][name], profile["strings"][module]))
            node = profile["nodes"]["parent"][node]
        return names

    def test_profile(self):
        data = self.data()
        profile = data["profile"]
        sites = profile["sites"]
        self.assertEqual(self.stack(profile, sites["node"][0]),
                         [("server+0x1000", "server"), ("server+0x2000", "server"),
                          ("libquery.so.2+0x300", "libquery.so.2")])
        self.assertEqual(sites["node"][0], sites["node"][2], "one stack under two tags")
        self.assertEqual(self.stack(profile, sites["node"][3]), [("(unknown)", "")])
        self.assertEqual([data["paths"][tag] for tag in sites["tag"]],
                         ["/cache/blocks", "/cache/blocks", "/net", "/"])
        self.assertEqual(sites["live"], [30 * MIB, 10 * MIB, 6 * MIB, MIB])
        self.assertEqual(sites["allocated"], [90 * MIB, 12 * MIB, 60 * MIB, 2 * MIB])
        self.assertEqual(sites["growth"], [20 * MIB, 0, -MIB, 0])
        self.assertEqual(sites["objects"]["live"], [30 * KIB, 10 * KIB, 6 * KIB, KIB])
        self.assertEqual(sites["lifetimes"][0], [0, 0, 60 * KIB] + [0] * 7)
        self.assertEqual(profile["lifetimes"][:4], [1, 10, 100, 1000])
        samples = profile["samples"]
        self.assertEqual((len(samples["site"]), samples["age"][0]), (94, 7200_000))
        # Of a KiB at a rate of 512: 1 / (1 - exp(-1 / 512)) blocks.
        self.assertEqual((samples["objects"][0], samples["bytes"][0]), (512.5, 524800))
        self.assertEqual(profile["complaints"][0].count("libquery.so.2"), 1)

    def test_without_a_profile(self):
        data = self.data("plain")
        self.assertIsNone(data["profile"])
        self.assertEqual(data["findings"][-2]["text"], "Which code allocated is not known: the record has no profile of stacks.")

    def test_names_are_as_they_are(self):
        data = self.data("hostile")
        self.assertIn("/cache" + HOSTILE, data["paths"])
        self.assertIn("<script>document.title='owned'</script>", data["process"]["command"])

    def test_names_are_inert_in_the_page(self):
        out, err, status = self.call("report", "-o", "-", self.record("hostile"))
        self.assertEqual((err, status), ("", 0))
        self.assertNotIn("<img", out)
        self.assertNotIn("\u2028", out)
        block = re.search(r'<script type="application/json" id="tally-data">(.*?)</script>', out, re.DOTALL).group(1)
        self.assertNotIn("<", block)
        self.assertIn("/cache" + HOSTILE, json.loads(block)["paths"])
        self.assertEqual(len(re.findall(r"<script", out)), 2)
        self.assertRegex(out, r"default-src 'none'; script-src 'sha256-[^']+'; .*connect-src 'none';")

    def test_writes_a_file_with_the_process_in_its_name(self):
        path = self.record("small")
        for _ in range(2):  # one that is there is replaced
            out, err, status = self.call("report", path, cwd=self.folder)
            self.assertRegex(out, r"^wrote tally-report-4711\.html, [78]\d\d KiB\n$")
            self.assertEqual((err, status), ("", 0))
        with open(self.path("tally-report-4711.html"), encoding="utf-8") as page:
            self.assertTrue(page.read().startswith("<!doctype html>"))
        self.assertEqual(sorted(os.listdir(self.folder)), ["small.tally", "tally-report-4711.html"])

    def test_says_what_is_wrong(self):
        path = self.record("small")
        self.refuses("cannot write /none/a.html: No such file or directory", "-o", "/none/a.html", path)
        os.mkdir(self.path("folder"))
        self.refuses(f"cannot write {self.path('folder')}: Is a directory", "-o", self.path("folder"), path)
        self.assertEqual(sorted(os.listdir(self.folder)), ["folder", "small.tally"])
        self.refuses(f"{self.path('none')}: No such file or directory", self.path("none"))

    def test_a_build_without_the_page_says_so_and_gives_json(self):
        self.tool = WITHOUT_PAGE
        path = self.record("small")
        self.refuses("this tally was built without the page: npm and node were not found when it was built (Debian: npm); "
                     "install them and build again. --json gives what it would show", path, status=78)
        out, err, status = self.call("report", "--json", path)
        self.assertEqual((json.loads(out)["process"]["pid"], err, status), (4711, "", 0))

    def bundle(self, npm):
        done = subprocess.run([CMAKE, "-D", f"SOURCES={PAGE_SOURCES}", "-D", f"FOLDER={self.folder}", "-D",
                               f"OUTPUT={self.path('page')}", "-D", f"NPM={npm}", "-D", "NODE=/bin/false", "-P",
                               f"{PAGE_SOURCES}/build.cmake"], capture_output=True, text=True, check=True)
        with open(self.path("page.why"), encoding="utf-8") as why:
            return why.read(), " ".join(done.stderr.split())

    def test_a_build_without_npm_or_network_goes_on(self):
        for npm, why in (("", "npm and node were not found when it was built (Debian: npm); install them and build again."),
                         ("/bin/false", "npm ci failed when it was built (no network?); see what it says, and build again.")):
            said, warning = self.bundle(npm)
            self.assertEqual((said, os.path.getsize(self.path("page"))), (why, 0))
            self.assertIn(f"`tally report` and `tally serve` will have no page: {why}", warning)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[7:])
