#!/usr/bin/env python3
"""`tally ps` and `tally stat`: what they print of a record whose figures are known, and each of their messages.

usage: tally_look_test.py TALLY LIBRARY RECORD_WRITER
"""

import http.server
import json
import os
import pathlib
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import unittest

import prometheus
import records
import tool

MIB = 1024 * 1024

TREE = """\
process PID, running, as of AGE ago: server --port 80
TAG              LIVE  FOOTPRINT      PEAK  BLOCKS  OWN LIVE  OWN FOOTPRINT  OWN PEAK  OWN BLOCKS
/            25.0 MiB   33.5 MiB  33.5 MiB  409600  1.00 MiB       2.00 MiB  2.00 MiB       16384
  cache      23.0 MiB   30.0 MiB  30.0 MiB  376832     0 B         64.0 KiB  64.0 KiB           0
    blocks   23.0 MiB   30.0 MiB  30.0 MiB  376832
  net         512 KiB   1.00 MiB  1.00 MiB    8192     0 B            0 B           -           0
    "tls"\\?   512 KiB   1.00 MiB  1.00 MiB    8192
  tally       512 KiB    512 KiB   512 KiB    8192
limit of /cache: holds 30.0 MiB, soft limit 16.0 MiB, pressure soft, in all 250 ms
limit of /cache/blocks: holds 30.0 MiB of 32.0 MiB, pressure normal, in all 0 ms, refused 2
RSS 40.0 MiB = live blocks 23.5 MiB + free in slabs 8.50 MiB + empty slabs 1.00 MiB + free pages 1.00 MiB + \
metadata 512 KiB + files and shared 4.00 MiB + other 1.50 MiB
"""
OWN = """\
process PID, running, as of AGE ago: server --port 80
TAG                LIVE  BLOCKS  FOOTPRINT      PEAK  ALLOCS  FREES  REQUESTED
/cache/blocks  23.0 MiB  376832   30.0 MiB  30.0 MiB  376832      0      0 B
/              1.00 MiB   16384   2.00 MiB  2.00 MiB   16384      0      0 B
... and 4 more (--rows 0 shows all)
"""
CLASSES = """
TAG            SIZE  LIVE/CAPACITY  OCCUPANCY      FREE  SLABS  FOOTPRINT
/cache/blocks  4096      5888/7680     76.7 %  7.00 MiB    480   30.0 MiB
"""


class Stat(records.RecordTest):
    command = "stat"

    def shown(self, *args, **more):
        """Without what differs from run to run."""
        out = self.says(*args, **more)
        return re.sub(r"as of \d+ m?s ago", "as of AGE ago", re.sub(r"process \d+", "process PID", out, count=1))

    def test_the_tree(self):
        _, path = self.start()
        for args in [path], ["--tree", path], [path, "--tree", "--rows", 0]:
            self.assertEqual(self.shown(*args), TREE)

    def test_fewer_rows_are_the_largest_and_what_they_are_below(self):
        _, path = self.start("100")
        rows = self.shown("--rows", 4, path).splitlines()
        self.assertEqual([row.split()[0] for row in rows[2:6]], ["/", "cache", "blocks", "net"])
        self.assertEqual(rows[6], "... and 102 more (--rows 0 shows all)")

    def test_own(self):
        _, path = self.start()
        out = self.shown("--own", "--rows=2", path)
        self.assertEqual(out[:len(OWN)], OWN)

    def test_classes(self):
        _, path = self.start()
        self.assertEqual(self.shown("--classes", path), TREE + CLASSES)

    def test_of_the_dead(self):
        child, path = self.start()
        self.kill(child)
        self.assertEqual(self.shown(path), TREE.replace("running", "dead"))

    def test_of_the_stopped(self):
        child, path = self.start()
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        self.assertEqual(self.shown(path), TREE.replace("running", "stopped"))

    def test_json(self):
        child, path = self.start()
        doc = json.loads(self.says("--json", path))
        self.assertEqual((doc["pid"], doc["state"], doc["command"]), (child.pid, "running", "server --port 80"))
        tags = {tag["name"]: tag for tag in doc["tags"]}
        self.assertEqual(list(tags), ["/", "/cache", "/cache/blocks", "/net", '/net/"tls"\\\ufffd', "/tally"])
        blocks = tags["/cache/blocks"]
        self.assertEqual((blocks["live_bytes"], blocks["hard_limit_bytes"], blocks["soft_limit_bytes"]),
                         (23 * MIB, 32 * MIB, None))
        self.assertEqual(tags["/cache"]["held_bytes"], tags["/cache"]["total"]["footprint_bytes"])
        self.assertEqual(doc["classes"][0]["fill"], [0] * 7 + [480, 0, 0])
        self.assertEqual(sum(doc["ledger"][f"{part}_bytes"] for part in (
            "live", "in_slabs", "empty_slabs", "dirty", "kept", "metadata", "recorder", "backend_surplus", "shared",
            "other")), doc["process"]["rss_bytes"])

    def test_its_json_is_a_dump_to_all_that_reads_them(self):
        _, path = self.start()
        copy = self.write("dump.json", self.says("--json", path))
        out = self.shown(copy, "--classes").splitlines()
        self.assertEqual(out[0], "process PID, dump, as of AGE ago")
        ours = TREE.splitlines()
        self.assertEqual([line.split()[1:3] for line in out[1:8]], [line.split()[1:3] for line in ours[1:8]])
        self.assertIn("RSS 40.0 MiB, mapped 64.0 MiB", out)
        self.assertIn(CLASSES.splitlines()[2], out)
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "tally-dump")
        done = subprocess.run([sys.executable, script, copy], capture_output=True, text=True)
        self.assertEqual((done.stderr, done.returncode), ("", 0))
        self.assertIn("/cache/blocks  23.0 MiB", done.stdout)

    def test_colours_on_a_terminal_alone_and_not_where_they_are_not_wanted(self):
        _, path = self.start()
        self.assertNotIn("\x1b", self.says(path))
        for environment, has_colours in ({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False):
            ours, its = pty.openpty()
            self.addCleanup(os.close, ours)
            subprocess.run([tool.TALLY, "stat", path], env={**self.env, **environment}, stdout=its, check=True)
            os.close(its)
            self.assertEqual(b"\x1b[" in self.all_of(ours), has_colours)

    @staticmethod
    def all_of(terminal):
        data = b""
        try:
            while True:
                data += os.read(terminal, 65536)
        except OSError:  # nobody has the other end any more
            return data

    def test_nothing_that_a_name_holds_reaches_the_terminal(self):
        _, path = self.start()
        copy = self.path("copy.tally")
        with open(path, "rb") as file:
            data = file.read()
        with open(copy, "wb") as file:
            file.write(data.replace(b"/net", b"/\x1b[A"))
        self.assertNotIn("\x1b", self.says(copy))
        self.assertIn("/?[A", self.says("--own", copy))

    def test_a_reader_that_leaves_early(self):
        _, path = self.start("2000")
        done = subprocess.run(f"'{tool.TALLY}' stat '{path}' | true", shell=True, capture_output=True, text=True)
        self.assertEqual(done.stderr, "")

    def test_a_full_disk(self):
        _, path = self.start()
        with open("/dev/full", "w") as full:
            done = subprocess.run([tool.TALLY, "stat", "--json", path], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual((done.stderr, done.returncode), ("tally stat: cannot write: No space left on device\n", 1))

    def test_a_thousand_tags_take_no_time(self):
        _, path = self.start("1000")
        best = float("inf")
        for _ in range(5):
            start = time.monotonic()
            self.says(path)
            best = min(best, time.monotonic() - start)
        print(f"tally stat of 1,000 tags: {best * 1000:.1f} ms", file=sys.stderr)
        self.assertLess(best, 0.1)

    def test_usage(self):
        more = "; tally stat --help shows how it is used"
        self.refuses(f"The following argument was not expected: --lines{more}", "--lines", status=2)
        self.refuses("Requires at most 1 options be given from "
                     f"[--tree,--own,--json,--openmetrics]{more}", "--json", "--own", status=2)
        self.refuses(f"Could not convert: --rows = many{more}", "--rows", "many", status=2)
        for option in "--help", "-h":
            self.assertIn("usage: tally stat", self.says("1", option))


class Targets(records.RecordTest):
    command = "stat"

    def test_no_such_process(self):
        for pid in "4194305", "99999999999999999999":
            self.refuses(f"no process {pid}, and no record of one", pid)

    def sleeper(self, **environment):
        """Popen returns in the middle of the exec, before the process has its new name."""
        child = subprocess.Popen(["sleep", "60"], env={**self.env, **environment})
        self.addCleanup(lambda: (child.kill(), child.wait()))
        name, deadline = pathlib.Path(f"/proc/{child.pid}/comm"), time.monotonic() + 30
        while name.read_text() != "sleep\n" and time.monotonic() < deadline:
            time.sleep(0.01)
        return child

    def test_a_process_without_a_record(self):
        child = self.sleeper()
        self.refuses(f"process {child.pid} (sleep) has no record: start it by tally run PROGRAM, or with "
                     "TALLY_RECORD=1 and, if it is not linked to Tally, LD_PRELOAD=libtally.so.1", child.pid)

    def test_a_process_under_tally_without_a_record(self):
        child = self.sleeper(LD_PRELOAD=tool.LIBRARY)
        maps, deadline = pathlib.Path(f"/proc/{child.pid}/maps"), time.monotonic() + 30
        while "/libtally.so" not in maps.read_text() and time.monotonic() < deadline:
            time.sleep(0.01)
        self.refuses(f"process {child.pid} (sleep) is under Tally, but without a record: start it with TALLY_RECORD=1",
                     child.pid)

    def test_a_process_of_another_user(self):
        user, _ = self.own_user()
        child = self.sleeper()
        self.refuses(f"process {child.pid} (sleep) belongs to root: run tally as that user or as root", child.pid,
                     user=user)

    def test_a_file_that_is_none(self):
        self.refuses(f"{self.path('x')}: No such file or directory", self.path("x"))
        self.refuses(f"{self.folder}: not a file", self.folder)

    def test_the_only_one_that_runs(self):
        user, folder = self.own_user()
        self.refuses("no running process has a record: start one by tally run PROGRAM, or name the file of a record",
                     user=user)
        child, _ = self.start(folder=folder, user=user)
        dead, _ = self.start(folder=folder, user=user)
        self.kill(dead)
        self.assertTrue(self.says(user=user).startswith(f"process {child.pid}, running"))
        self.assertTrue(self.says(dead.pid, user=user).startswith(f"process {dead.pid}, dead"))
        self.assertTrue(self.says(child.pid).startswith(f"process {child.pid}, running"), "root sees all users'")
        other, _ = self.start(folder=folder, user=user)
        lines = "".join(f"\n  {pid}  server --port 80" for pid in sorted([child.pid, other.pid]))
        self.refuses(f"2 processes have a record; name one by its pid:{lines}", user=user)

    def test_folders_that_are_not_their_users_own_are_passed_over(self):
        user, folder = self.own_user()
        os.mkdir(folder)  # root's
        child, _ = self.start(folder=folder)
        self.refuses("no running process has a record: start one by tally run PROGRAM, or name the file of a record",
                     user=user)
        os.rename(folder, folder + "-aside")
        self.addCleanup(lambda: shutil.rmtree(folder + "-aside", ignore_errors=True))
        os.symlink(folder + "-aside", folder)
        self.addCleanup(os.remove, folder)
        os.lchown(folder, user, user)
        self.refuses(f"process {child.pid} (tool_record_wri) belongs to root: run tally as that user or as root",
                     child.pid, user=user)


class Ps(records.RecordTest):
    command = "ps"

    def test_none(self):
        user, _ = self.own_user()
        self.assertEqual(self.says(user=user), "no process has a record; one that is started by tally run has\n")
        self.assertEqual(json.loads(self.says("--json", user=user)), [])

    def test_live_ones_and_dead_ones(self):
        user, folder = self.own_user()
        child, _ = self.start(folder=folder, user=user)
        dead, _ = self.start(folder=folder, user=user)
        self.kill(dead)
        broken = os.path.join(folder, "1234.tally")
        with open(broken, "w") as file:
            file.write("no record")
        out, err, status = self.tally(user=user)
        self.assertEqual((err, status), (f"tally ps: {broken}: neither a record of Tally's nor its JSON\n", 0))
        lines = [line.split(None, 4) for line in out.splitlines()]
        self.assertEqual(lines[0], ["PID", "USER", "STATE", "AGE", "RSS      LIVE  FOOTPRINT  LARGEST TAG              "
                                    "COMMAND"])
        self.assertEqual((lines[1][0], lines[1][2]), (str(child.pid), "running"))
        self.assertEqual((lines[2][0], lines[2][2]), (str(dead.pid), "dead"))
        self.assertIn("40.0 MiB  24.5 MiB   33.5 MiB  /cache/blocks  30.0 MiB  server --port 80", out.splitlines()[2])
        self.assertIn(str(child.pid), self.tally()[0], "root sees all users'")

    def test_json(self):
        user, folder = self.own_user()
        child, path = self.start(folder=folder, user=user)
        [row] = json.loads(self.says("--json", user=user))
        self.assertLess(row.pop("age_ms"), 60000)
        self.assertGreater(row.pop("rss_bytes"), 0)
        self.assertEqual(row, {"pid": child.pid, "uid": user, "state": "running", "live": True, "live_bytes": 24 * MIB + MIB // 2,
                               "footprint_bytes": 33 * MIB + MIB // 2 + 64 * 1024, "command": "server --port 80", "file": path,
                               "largest_tag": "/cache/blocks", "largest_tag_bytes": 30 * MIB})

    def test_usage(self):
        self.refuses("The following argument was not expected: x; tally ps --help shows how it is used", "x", status=2)
        self.assertIn("usage: tally ps", self.says("--help"))


class OpenMetrics(records.RecordTest):
    command = "stat"

    def test_form(self):
        child, path = self.start()
        out = self.says("--openmetrics", path)
        self.assertTrue(out.endswith("\n# EOF\n"))
        of_it = f'pid="{child.pid}",process="server",'
        self.assertIn(f'tally_up{{{of_it[:-1]}}} 1\n', out)
        self.assertIn(f'tally_process_info{{{of_it}command="server --port 80",backend="os",tag_by="module",'
                      'version="0.1.0"} 1\n', out)
        out = out.replace(of_it, "")
        for line in [
                "# TYPE tally_live_bytes gauge\n# UNIT tally_live_bytes bytes\n# HELP tally_live_bytes Bytes in blocks "
                "in use.\n",
                'tally_live_bytes{tag="/cache/blocks"} 24117248\n', 'tally_live_bytes{tag="/cache"} 0\n',
                'tally_live_bytes{tag="/net/\\"tls\\"\\\\?"} 524288\n',
                "# TYPE tally_allocations counter\n", 'tally_allocations_total{tag="/"} 16384\n',
                'tally_limit_bytes{tag="/cache",limit="soft"} 16777216\n',
                'tally_pressure_seconds_total{tag="/cache"} 0.250\n',
                'tally_limit_refused_total{tag="/cache/blocks"} 2\n',
                'tally_ledger_bytes{part="other"} 1572864\n']:
            self.assertIn(line, out)
        own = re.findall(r"^tally_footprint_bytes\{.*\} (\d+)$", out, re.M)
        self.assertEqual(sum(map(int, own)), 33 * MIB + MIB // 2 + 64 * 1024)
        parts = re.findall(r"^tally_ledger_bytes\{.*\} (-?\d+)$", out, re.M)
        self.assertEqual(sum(map(int, parts)), 40 * MIB)

    def test_of_a_dump(self):
        child, path = self.start()
        copy = self.write("dump.json", self.says("--json", path))
        out = self.says("--openmetrics", copy)
        self.assertIn(f'tally_live_bytes{{pid="{child.pid}",process="",tag="/cache/blocks"}} 24117248\n', out)
        self.assertNotIn("tally_up{", out)

    @unittest.skipUnless(prometheus.IS_THERE, "prometheus is not installed")
    def test_promtool_finds_nothing_to_complain_of(self):
        _, path = self.start()
        self.assertEqual(prometheus.complaints(self.says("--openmetrics", path)), ("", "", 0))

    @unittest.skipUnless(prometheus.IS_THERE, "prometheus is not installed")
    def test_prometheus_scrapes_it(self):
        _, path = self.start("1000")
        tally = self

        class Metrics(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Type", "application/openmetrics-text; version=1.0.0; charset=utf-8")
                self.end_headers()
                self.wfile.write(tally.says("--openmetrics", path).encode())

            def log_message(self, *_):
                pass

        server = http.server.HTTPServer(("127.0.0.1", 0), Metrics)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        scraper = prometheus.Prometheus(self, f"127.0.0.1:{server.server_port}")
        self.assertEqual(scraper.answer("sum(tally_live_bytes)")[0][1], str(25 * MIB + 1000 * 4096))
        self.assertEqual(scraper.answer("count(tally_live_bytes)")[0][1], "1006")
        self.assertEqual(scraper.answer("sum(tally_ledger_bytes) - sum(tally_resident_bytes)")[0][1], "0")
        [(labels, value)] = scraper.answer(r'tally_live_bytes{tag=~"/net/.*"}')
        self.assertEqual((labels["tag"], value), ('/net/"tls"\\?', str(MIB // 2)))
        self.assertEqual(scraper.answer("up")[0][1], "1")
        # It tells the type, so it took the text for what it is.
        metadata = scraper.ask("metadata?metric=tally_allocations")
        self.assertEqual(metadata["tally_allocations"][0]["type"], "counter")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
