#!/usr/bin/env python3
"""`tally serve`: each path, who is answered and who is not, its bounds, its messages and its end; docs/monitoring before a
real Prometheus.

usage: tally_serve_test.py TALLY LIBRARY RECORD_WRITER
"""

import gzip
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

import prometheus
import records
import tool

MIB = 1024 * 1024
MONITORING = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "docs", "monitoring")
CONNECTIONS, REQUEST_SECONDS = 64, 5  # http_server.h


class ServeTest(records.RecordTest):
    command = "serve"

    def setUp(self):
        super().setUp()
        self.user, self.records = self.own_user()

    def process(self, *mode):
        return self.start(*mode, folder=self.records, user=self.user)[0]

    def serve(self, *args):
        """Its process; from now on ask() asks it."""
        server = subprocess.Popen([self.program(tool.TALLY), "serve", "--port", "0", *args], env=self.env, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, **records.as_user(self.user))

        def end():
            server.kill()
            server.communicate()
        self.addCleanup(end)
        match = re.fullmatch(r"http://(\S+):(\d+)/ until \^C\n", server.stdout.readline())
        self.assertTrue(match, "the first line tells where it is")
        self.port = int(match[2])
        return server

    def ask(self, path, method="GET", body=None, **headers):
        """(status, text, headers) of the answer; headers with _ for -."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            answer = connection.getresponse()
            data = answer.read()
            self.raw = data
            return answer.status, data.decode(errors="replace"), answer.headers
        finally:
            connection.close()

    def json(self, path):
        status, text, headers = self.ask(path)
        self.assertEqual((status, headers["Content-Type"]), (200, "application/json"), text)
        return json.loads(text)

    def refused(self, status, message, path, *args, **more):
        got, text, headers = self.ask(path, *args, **more)
        self.assertEqual((got, json.loads(text)), (status, {"error": message}))
        return headers

    def metrics(self):
        status, text, headers = self.ask("/metrics")
        self.assertEqual((status, headers["Content-Type"]),
                         (200, "application/openmetrics-text; version=1.0.0; charset=utf-8"))
        return text


class Paths(ServeTest):
    def test_processes(self):
        one, other, dead = self.process(), self.process("100"), self.process()
        self.kill(dead)
        self.serve()
        rows = self.json("/api/v1/processes")
        self.assertEqual([row["live"] for row in rows], [True, True, False])
        self.assertEqual({row["pid"] for row in rows}, {one.pid, other.pid, dead.pid})
        self.assertEqual(rows[2]["command"], "server --port 80")
        ours = self.json(f"/api/v1/processes/{one.pid}")
        theirs = json.loads(self.call("stat", "--json", os.path.join(self.records, f"{one.pid}.tally"))[0])
        for told in ours, theirs:
            del told["age_ms"]
        self.assertEqual(ours, theirs)
        report = self.json(f"/api/v1/processes/{one.pid}/report")
        self.assertEqual((report["process"]["pid"], report["profile"]), (one.pid, None))
        history = self.json(f"/api/v1/processes/{dead.pid}/history")
        self.assertEqual(history["history"]["recent"]["time"], report["history"]["recent"]["time"])
        targets = self.json("/api/v1/targets")
        self.assertEqual({target["labels"]["__param_pid"] for target in targets}, {str(one.pid), str(other.pid)})
        self.assertEqual(targets[0]["targets"], [f"127.0.0.1:{self.port}"])
        self.assertEqual(targets[0]["labels"]["service_name"], "server")

    def test_the_page(self):
        self.serve()
        status, text, headers = self.ask("/")
        if status == 501:
            self.assertIn("This tally was built without the page: ", text)
        else:
            self.assertEqual((status, headers["Content-Type"]), (200, "text/html; charset=utf-8"))
            self.assertIn('{"live":true}', text)
            self.assertEqual(headers["Content-Security-Policy"], "frame-ancestors 'none'")

    def test_what_there_is_not(self):
        child = self.process()
        self.serve()
        gone = subprocess.Popen(["true"])
        gone.wait()
        self.refused(404, "no such path: /x", "/x")
        self.refused(404, "no such path: /api/v1/processes/1/x/y", "/api/v1/processes/1/x/y")
        self.refused(404, f"no process {gone.pid}, and no record of one", f"/api/v1/processes/{gone.pid}")
        for path in "..%2f..%2fetc%2fpasswd", "%2fdev%2fshm%2fx.tally", "1x", "-1", "":
            status, text, _ = self.ask(f"/api/v1/processes/{path}/report")
            self.assertEqual(status, 404, text)
            self.assertNotIn("Tally's", text, "no file was looked at")
        self.assertEqual(self.refused(405, "expected the method GET", "/metrics", "POST")["Allow"], "GET")
        self.assertEqual(self.refused(405, "expected the method POST", f"/api/v1/processes/{child.pid}/trim")["Allow"],
                         "POST")
        status, text, headers = self.ask("/metrics", "HEAD")
        self.assertEqual((status, text), (200, ""))
        self.assertGreater(int(headers["Content-Length"]), 1000)

    def test_a_record_that_cannot_be_read(self):
        child = self.process()
        broken = os.path.join(self.records, "1234567.tally")
        with open(broken, "w", encoding="utf-8") as file:
            file.write("no record")
        server = self.serve()
        for _ in range(2):
            self.assertEqual([row["pid"] for row in self.json("/api/v1/processes")], [child.pid])
        why = f"{broken}: neither a record of Tally's nor its JSON"
        self.refused(500, why, "/api/v1/processes/1234567")
        server.send_signal(signal.SIGTERM)
        self.assertEqual(server.communicate()[1], f"tally serve: {why}\n", "once")

    def test_profiles(self):
        child = self.process()
        self.serve()
        why = (f"{self.records}/{child.pid}.tally: process {child.pid} was not sampled: start it by tally run PROGRAM, or "
               "with TALLY_SAMPLE=512K")
        for path in (f"/profile.pb.gz?pid={child.pid}", f"/api/v1/processes/{child.pid}/profile.pb.gz", "/debug/pprof/heap",
                     f"/debug/pprof/allocs?pid={child.pid}&seconds=1", f"/api/v1/processes/{child.pid}/profile"):
            self.refused(404, why, path)
        self.refused(400, "view 'all': expected live, allocated, peak or growth",
                     f"/api/v1/processes/{child.pid}/profile?view=all")
        self.process()
        status, text, _ = self.ask("/profile.pb.gz")
        self.assertEqual(status, 404)
        self.assertIn("expected ?pid=PID: 2 processes have a record", text)

    def test_profiles_of_a_real_process(self):
        held = "import time; held = [bytes(5000) for _ in range(20000)]; print(flush=True); time.sleep(60)"
        child = subprocess.Popen([os.path.realpath(sys.executable), "-c", held], stdout=subprocess.PIPE, env={
            **self.env, "LD_PRELOAD": tool.LIBRARY, "TALLY_RECORD": "1", "TALLY_SAMPLE": "64K", "TALLY_RECORD_MS": "50"})
        self.addCleanup(lambda: (child.kill(), child.communicate()))
        child.stdout.readline()
        self.user = None  # the library may not be for others to read
        self.serve()
        path, deadline = f"/profile.pb.gz?pid={child.pid}", time.monotonic() + 20
        while self.ask(path)[0] != 200 and time.monotonic() < deadline:
            time.sleep(0.1)
        status, _, headers = self.ask(path)
        self.assertEqual((status, headers["Content-Type"]), (200, "application/octet-stream"))
        self.assertIn(b"inuse_space", gzip.decompress(self.raw))
        profile = self.json(f"/api/v1/processes/{child.pid}/profile?view=allocated&tag=/")
        self.assertGreater(len(json.dumps(profile)), 500)
        self.refused(404, f"{profile_file(child)}: no tag /x; those that there are: /, /tally",
                     f"/api/v1/processes/{child.pid}/profile?tag=x")
        report = self.json(f"/api/v1/processes/{child.pid}/report")
        self.assertGreater(sum(report["profile"]["sites"]["live"]), 20 * MIB)
        if shutil.which("go"):
            done = subprocess.run(["go", "tool", "pprof", "-top", f"http://127.0.0.1:{self.port}{path}"],
                                  capture_output=True, text=True, env={**self.env, "PPROF_TMPDIR": self.folder})
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("Type: inuse_space", done.stdout)


def profile_file(child):
    return f"/dev/shm/tally-{os.geteuid()}/{child.pid}.tally"


class Metrics(ServeTest):
    def test_of_several(self):
        one, other, dead = self.process(), self.process("10"), self.process()
        self.kill(dead)
        self.serve()
        text = self.metrics()
        lines = text.splitlines()
        self.assertEqual([at for at, line in enumerate(lines) if line == "# EOF"], [len(lines) - 1])
        families = re.findall(r"^# TYPE (\S+) ", text, re.M)
        self.assertEqual(len(families), len(set(families)))
        for line, child, value in (("tally_up", one, 1), ("tally_up", dead, 0),
                                   ("tally_resident_bytes", other, 40 * MIB)):
            self.assertIn(f'{line}{{pid="{child.pid}",process="server"}} {value}', lines)
        self.assertIn(f'tally_live_bytes{{pid="{one.pid}",process="server",tag="/cache/blocks"}} 24117248', lines)
        self.assertNotIn(f'tally_resident_bytes{{pid="{dead.pid}"', text, "what it held is no part of a sum")
        samples = [line.rpartition(" ")[0] for line in lines if not line.startswith("#")]
        self.assertEqual(len(samples), len(set(samples)))
        # The samples of a family follow its head.
        name = None
        for line in lines:
            head = re.match(r"# TYPE (\S+) ", line)
            name = head[1] if head else name
            if not line.startswith("#"):
                self.assertIn(line.partition("{")[0], (name, f"{name}_total"))
        if prometheus.IS_THERE:
            self.assertEqual(prometheus.complaints(text), ("", "", 0))

    def test_of_none(self):
        self.serve()
        self.assertTrue(self.metrics().endswith("# EOF\n"))
        self.assertEqual(self.json("/api/v1/processes"), [])
        self.assertIn("expected ?pid=PID: no running process has a record", self.ask("/profile.pb.gz")[1])


class Access(ServeTest):
    def test_names(self):
        self.serve("--host", "tally.example", "--host", "other.example:1234")
        port = self.port
        for host in (f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}", f"LocalHost:{port}", "tally.example",
                     "tally.example:80", "other.example:1234"):
            self.assertEqual(self.ask("/metrics", Host=host)[0], 200, host)
        for host in ("evil.example", f"evil.example:{port}", "localhost", "localhost:1", "other.example", "other.example:1",
                     f"127.0.0.1.evil.example:{port}", f"localhost:{port}:{port}", ""):
            self.refused(421, f"this server is not known as '{host}'; tally serve --host NAME tells it a name",
                         "/metrics", Host=host)
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost:%d\r\nHost: evil\r\n\r\n" % port)
            self.assertIn(b" 421 ", client.recv(1000).splitlines()[0])

    def test_pages_of_other_sites(self):
        self.serve()
        for site in "cross-site", "same-site":
            self.refused(403, "asked by a page of another site", "/metrics", Sec_Fetch_Site=site, Sec_Fetch_Mode="cors")
            self.assertNotEqual(self.ask("/", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate")[0], 403, "a link")
        self.assertEqual(self.ask("/metrics", Sec_Fetch_Site="same-origin", Sec_Fetch_Mode="cors")[0], 200)

    def test_each_answer_is_for_nobody_else(self):
        self.serve()
        for path in "/metrics", "/x", "/":
            headers = self.ask(path)[2]
            self.assertEqual((headers["Cache-Control"], headers["X-Content-Type-Options"], headers["Referrer-Policy"],
                              headers["Cross-Origin-Resource-Policy"]), ("no-store", "nosniff", "no-referrer", "same-origin"))
            self.assertIn("frame-ancestors 'none'", headers["Content-Security-Policy"])
            self.assertNotIn("Access-Control-Allow-Origin", headers)

    def test_a_network(self):
        server = self.serve("--address", "0.0.0.0")
        self.assertEqual(self.ask("/metrics")[0], 200)
        server.send_signal(signal.SIGTERM)
        self.assertEqual(server.communicate()[1],
                         "tally serve: warning: who reaches 0.0.0.0 can read the command lines, tags, stacks and sizes of all "
                         f"processes of {self.user}; nothing is encrypted\n")


class Control(ServeTest):
    LIMIT = json.dumps({"tag": "cache", "limit": "40M:soft=20M"})

    def controlled(self):
        """Of a server that allows it: a function that posts."""
        token = self.write("token", "0123456789abcdef\n", 0o644)
        os.chown(token, self.user, self.user)
        os.chmod(token, 0o600)
        self.serve("--allow-control", "--token-file", token)
        return {"Authorization": "Bearer 0123456789abcdef", "Content_Type": "application/json"}

    def test_is_not_allowed(self):
        child = self.process("answer")
        self.serve()
        for what in "limit", "trim":
            self.refused(403, "read only: tally serve --allow-control is not", f"/api/v1/processes/{child.pid}/{what}", "POST",
                         "{}", Content_Type="application/json", Authorization="Bearer ")

    def test_a_token_is_made(self):
        child = self.process("answer")
        server = self.serve("--allow-control")
        token = re.fullmatch(r"to control it: -H 'Authorization: Bearer ([0-9a-f]{32})' -H 'Content-Type: "
                             r"application/json'\n", server.stdout.readline())[1]
        path = f"/api/v1/processes/{child.pid}/trim"
        self.assertEqual(self.ask(path, "POST", "", Authorization=f"Bearer {token}", Content_Type="application/json")[0], 200)

    def test_is_allowed(self):
        child = self.process("answer")
        by_right = self.controlled()
        path = f"/api/v1/processes/{child.pid}/limit"
        status, text, _ = self.ask(path, "POST", self.LIMIT, **by_right)
        self.assertEqual((status, json.loads(text)), (200, {"pid": child.pid, "tag": "/cache", "soft_limit_bytes": 20 * MIB,
                                                            "hard_limit_bytes": 40 * MIB}))
        self.assertEqual(child.stdout.readline(), f"limit /cache soft {20 * MIB} hard {40 * MIB} policy 0\n")
        status, text, _ = self.ask(f"/api/v1/processes/{child.pid}/trim", "POST", "{}", **by_right,
                                   Origin=f"http://127.0.0.1:{self.port}", Sec_Fetch_Site="same-origin")
        self.assertEqual((status, json.loads(text)), (200, {"pid": child.pid, "bytes": 3 * MIB}))

    def test_by_whom(self):
        child = self.process("answer")
        by_right = self.controlled()
        path = f"/api/v1/processes/{child.pid}/trim"
        expected = "expected the header 'Authorization: Bearer TOKEN' with the server's token"
        for token in "", "Bearer", "Bearer 0123456789abcdee", "Bearer 0123456789abcdef0", "Basic 0123456789abcdef":
            headers = self.refused(401, expected, path, "POST", "{}", **{**by_right, "Authorization": token})
            self.assertEqual(headers["WWW-Authenticate"], "Bearer")
        for origin in "http://evil.example", f"http://localhost:{self.port}", "null", "http://127.0.0.1:1":
            self.refused(403, "asked by a page of another origin", path, "POST", "{}", **by_right, Origin=origin)
        self.refused(403, "asked by a page of another origin", path, "POST", "{}", **by_right, Sec_Fetch_Site="cross-site",
                     Sec_Fetch_Mode="navigate")
        for kind in "text/plain", "application/x-www-form-urlencoded", "":
            self.refused(415, "expected the content type application/json", path, "POST", "{}",
                         **{**by_right, "Content_Type": kind})

    def test_what(self):
        child, mute, dead = self.process("answer"), self.process("mute"), self.process()
        self.kill(dead)
        by_right = self.controlled()

        def refused(status, message, body, pid=child.pid):
            self.refused(status, message, f"/api/v1/processes/{pid}/limit", "POST", body, **by_right)

        for body in "", "{", "[]", '{"tag": "cache"}', '{"tag": 1, "limit": "1M"}', "[" * 10000:
            refused(400, 'expected a JSON object such as {"tag": "cache", "limit": "512M:soft=400M"}', body)
        refused(400, "a//b: expected a tag's path, as cache/blocks, without an empty name", json.dumps({"tag": "a//b", "limit": "1M"}))
        status, text, _ = self.ask(f"/api/v1/processes/{child.pid}/limit", "POST", '{"tag": "a", "limit": "much"}', **by_right)
        self.assertEqual((status, json.loads(text)["error"].partition(",")[0][:16]), (400, "much: expected a"))
        refused(404, f"{self.records}/{child.pid}.tally: no tag /x; those that there are: /, /cache, /cache/blocks, /net, "
                '/net/"tls"\\?, /tally', '{"tag": "x", "limit": "none"}')
        refused(502, f"process {child.pid} could not set the limit: Invalid argument", '{"tag": "refused", "limit": "1M"}')
        refused(409, f"process {dead.pid} has ended", self.LIMIT, dead.pid)
        refused(502, f"process {mute.pid} did not answer in 2 s, and is not asked any more: it allocates too little to look, as "
                "it has no thread for that; TALLY_RECORD_MS gives it one", self.LIMIT, mute.pid)


class Bounds(ServeTest):
    def test_slow_clients_are_given_up_and_others_wait(self):
        self.serve()
        began = time.monotonic()
        slow = [socket.create_connection(("127.0.0.1", self.port)) for _ in range(CONNECTIONS)]
        for client in slow:
            self.addCleanup(client.close)
            client.sendall(b"GET / HTTP/1.1\r\n")
        waiting = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        self.addCleanup(waiting.close)
        waiting.sendall(b"GET /x HTTP/1.0\r\nHost: localhost:%d\r\n\r\n" % self.port)
        waiting.settimeout(0.5)
        with self.assertRaises(TimeoutError):
            waiting.recv(100)
        # One that leaves makes room.
        slow.pop().close()
        waiting.settimeout(2)
        self.assertIn(b" 404 ", waiting.recv(1000).splitlines()[0])
        # Those that dribble are no better off than those that say nothing.
        ended = None
        while ended is None and time.monotonic() < began + 20:
            time.sleep(0.2)
            try:
                slow[0].sendall(b"X")
                slow[1].setblocking(False)
                ended = time.monotonic() - began if slow[1].recv(1) == b"" else None
            except BlockingIOError:
                pass
        self.assertTrue(REQUEST_SECONDS - 1 < ended < REQUEST_SECONDS + 3, ended)
        with self.assertRaises(OSError):
            for _ in range(20):
                slow[0].sendall(b"X")
                time.sleep(0.1)

    def raw_answer(self, request):
        """All that the server says; what it does not take is lost on it."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            try:
                client.sendall(request)
            except OSError:
                pass
            data = b""
            while more := client.recv(65536):
                data += more
        return data

    def test_sizes(self):
        self.serve()
        host = b"Host: localhost:%d\r\n" % self.port
        for head in (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\n" + host, b"GET / HTTP/1.1\r\n" + host + b"X: y\r\n" * 5000,
                     b"GET / HTTP/1.1\r\n" + host + b"X: " + b"y" * (1 << 20)):
            answer = self.raw_answer(head + b"\r\n\r\n")
            self.assertIn(b" 431 ", answer.splitlines()[0])
            self.assertIn(b"the request's head has more than 16384 bytes", answer)
        for length in b"Content-Length: 20000\r\n", b"Content-Length: 18446744073709551615\r\n":
            answer = self.raw_answer(b"POST /api/v1/processes/1/trim HTTP/1.1\r\n" + host + length + b"\r\n" + b"x" * 20000)
            self.assertIn(b" 413 ", answer.splitlines()[0])
        answer = self.raw_answer(b"POST /api/v1/processes/1/trim HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\n" +
                                 b"4000\r\n" + b"x" * 0x4000 + b"\r\n4000\r\n" + b"x" * 0x4000 + b"\r\n0\r\n\r\n")
        self.assertIn(b" 413 ", answer.splitlines()[0])
        for nonsense in b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 3 + b"\r\n\r\n", b"GET\r\n\r\n", \
                b"GET / HTTP/1.1\r\nHost : x\r\n\r\n":
            answer = self.raw_answer(nonsense)
            self.assertIn(b" 400 ", answer.splitlines()[0])
            self.assertIn(b"this is no HTTP: ", answer)
        self.assertEqual(self.ask("/metrics")[0], 200)

    def test_one_after_another_on_a_connection(self):
        self.serve()
        request = b"GET /x%d HTTP/1.1\r\nHost: localhost:" + str(self.port).encode() + b"\r\n%s\r\n"
        answer = self.raw_answer(request % (1, b"") + request % (2, b"") + request % (3, b"Connection: close\r\n"))
        self.assertEqual(re.findall(rb"no such path: (/x\d)", answer), [b"/x1", b"/x2", b"/x3"])


class Ends(ServeTest):
    def test_signals(self):
        for number in signal.SIGINT, signal.SIGTERM:
            server = self.serve()
            idle = socket.create_connection(("127.0.0.1", self.port))
            self.addCleanup(idle.close)
            self.ask("/metrics")
            server.send_signal(number)
            self.assertEqual((server.communicate(timeout=10), server.returncode), (("", ""), 0))
            self.assertEqual(idle.recv(10), b"")

    def test_a_port_that_is_taken(self):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            self.refuses(f"cannot listen at port {port} of 127.0.0.1: it is in use; --port says another one, 0 any that is "
                         "free", "--port", port)
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as first:
            if int(first.read()) <= 80:
                return
        self.refuses("cannot listen at port 80 of 127.0.0.1: only root may use ports below 1024; --port says another one",
                     "--port", 80, user=self.user)

    def test_what_is_asked_for(self):
        see = "; tally serve --help shows how it is used"
        for port in "x", "-1", "65536", "99999999999999999999", "1.5":
            self.refuses(f"--port: {port}: expected a number from 0 to 65535{see}", f"--port={port}", status=2)
        self.refuses("localhost: expected an IP address, such as 127.0.0.1 or ::1", "--address", "localhost")
        self.refuses("cannot listen at port 0 of 192.0.2.1: this machine has no such address", "--address", "192.0.2.1",
                     "--port", 0)
        self.refuses(f"--token-file requires --allow-control{see}", "--token-file", "x", status=2)
        self.refuses(f"The following argument was not expected: x{see}", "x", status=2)

    def test_tokens(self):
        def refuses(message, path):
            self.refuses(f"{path}: {message}", "--allow-control", "--token-file", path, status=78)
        refuses("No such file or directory", self.path("x"))
        refuses(f"all users can read the token in it: chmod o= {self.path('open')}",
                self.write("open", "0123456789abcdef", 0o644))
        for name, token in ("short", "0123456789abcde\n"), ("empty", ""), ("spaces", "0123456789 abcdef"):
            refuses("expected a token of 16 characters or more, without spaces, as its first line",
                    self.write(name, token, 0o600))


class Monitoring(ServeTest):
    @staticmethod
    def text(name):
        with open(os.path.join(MONITORING, name), encoding="utf-8") as file:
            return file.read()

    @unittest.skipUnless(prometheus.IS_THERE, "prometheus is not installed")
    def test_the_rules(self):
        for args in ["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]:
            done = subprocess.run(["promtool", *args], cwd=MONITORING, capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_the_dashboard(self):
        dashboard = json.loads(self.text("dashboard.json"))
        self.assertGreaterEqual(dashboard["schemaVersion"], 36)
        panels = dashboard["panels"]
        self.assertEqual(len({panel["id"] for panel in panels}), len(panels))
        taken = set()
        for panel in panels:
            at = panel["gridPos"]
            cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
            self.assertFalse(cells & taken, panel["title"])
            self.assertLessEqual(at["x"] + at["w"], 24)
            taken |= cells
            if panel["type"] == "row":
                continue
            self.assertIn(panel["type"], ("timeseries", "stat", "table"))
            self.assertTrue(panel["description"])
            self.assertEqual(panel["datasource"]["uid"], "${datasource}")
            self.assertEqual(len({target["refId"] for target in panel["targets"]}), len(panel["targets"]))
        names = [variable["name"] for variable in dashboard["templating"]["list"]]
        self.assertEqual(names, ["datasource", "instance", "process", "pid", "tag"])
        used = set(re.findall(r"\$\{?([a-z]+)", self.text("dashboard.json")))
        self.assertEqual(used, set(names))

    def expressions(self):
        """Of the dashboard, then of the rules."""
        dashboard = json.loads(self.text("dashboard.json"))
        for panel in dashboard["panels"]:
            yield from (target["expr"] for target in panel.get("targets", []))
        yield from (one["expr"] for one in dashboard["annotations"]["list"] if "expr" in one)
        yield from (one["definition"] for one in dashboard["templating"]["list"] if "definition" in one)
        yield from re.findall(r"expr: (?:>-\n)?((?:.+\n)(?: {10}.+\n)*)", self.text("alerts.yml"))

    def test_their_metrics_are_there(self):
        self.process()
        self.serve()
        text = self.metrics()
        samples = set(re.findall(r"^([a-z_]+)\{", text, re.M))
        used = {name for expression in self.expressions() for name in re.findall(r"(?<![:\w])tally_\w+", expression)}
        self.assertGreater(len(used), 10)
        self.assertEqual(used - samples, set())
        labels = set(re.findall(r'[{,]([a-z_]+)="', text)) | {"job", "instance", "alertname"}
        for expression in self.expressions():
            self.assertLessEqual(set(re.findall(r"[{,]\s*([a-z]+)=", expression)), labels)

    @unittest.skipUnless(prometheus.IS_THERE, "prometheus is not installed")
    def test_a_real_prometheus_scrapes_it_and_an_alert_fires(self):
        child = self.process()  # its /cache/blocks holds 30 of 32 MiB
        self.serve()
        rules = self.write("alerts.yml", re.sub(r"for: \w+", "for: 0s", self.text("alerts.yml")))
        scraper = prometheus.Prometheus(self, f"127.0.0.1:{self.port}", f"rule_files: ['{rules}']\n")
        of_it = f'pid="{child.pid}",process="server"'
        [(labels, _)] = scraper.answer(f'ALERTS{{alertname="TallyLimitNear",alertstate="firing",{of_it}}}')
        self.assertEqual((labels["tag"], labels["severity"], labels["job"]), ("/cache/blocks", "warning", "tally"))
        self.assertEqual(scraper.answer('ALERTS{alertname="TallyPressure",alertstate="firing"}')[0][0]["tag"], "/cache")
        self.assertEqual(scraper.answer(f"process:tally_live_bytes:sum{{{of_it}}}")[0][1], str(25 * MIB))
        self.assertEqual(scraper.answer("up")[0][1], "1")
        for expression in self.expressions():
            if not expression.startswith("label_values"):
                query = re.sub(r"\$__\w+", "5m", expression)
                query = re.sub(r"\$\w+", ".*", query)
                self.assertIsNotNone(scraper.ask("query?query=" + prometheus.urllib.parse.quote(query)), query)
        self.kill(child)
        scraper.answer(f'ALERTS{{alertname="TallyProcessDied",{of_it}}}')


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[4:])
