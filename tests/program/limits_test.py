"""Real programs that need more than TALLY_LIMIT lets them have: limits_test.py NAME LIBRARY.

They do what they do under `ulimit -v`: say that they are out of memory, in their own words, and end or go on as they
always would. None ever held more than its limit."""
import os
import re
import resource
import signal
import subprocess
import sys
import time

from programs import BACKEND, Tally, main, need, plain_environment, run, snapshot_schema

M = 1 << 20
AMOUNT = r"[0-9.]+ ([KMGT]i)?B"


def is_limit_line(line, happened="may have no more", tag="/"):
    return re.fullmatch(
        rf"tally: limit: {tag} {happened}: asked {AMOUNT}, holds {AMOUNT}, limit {AMOUNT} with a reserve of {AMOUNT}, "
        rf"live {AMOUNT}, under pressure for \d+ ms, would fit after a trim: (yes|no)"
        r"( \(and \d+ more since the last line\))?", line) is not None


class Outcome:
    """What became of a program. `lines` are Tally's on stderr, `said` the rest."""

    def __init__(self, command, env, input=None, before=None, cwd=None):
        # With an end, should a program hang.
        done = subprocess.run(command, env=env, input=input, preexec_fn=before, cwd=cwd, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60)
        self.code, self.out = done.returncode, done.stdout.decode(errors="replace")
        stderr = done.stderr.decode(errors="replace").splitlines()
        self.lines = [line for line in stderr if line.startswith("tally:")]
        self.said = "\n".join(line for line in stderr if not line.startswith("tally:"))

    def __repr__(self):
        return f"exit {self.code}, wrote {self.out[-500:]!r}, said {self.said[-1000:]!r}, {self.lines}"


def expect_within(tally, limit, refused=1, pid=None):
    """All processes reported that their limit held; one of them was refused so often at least."""
    reports = tally.reports()
    if pid:
        reports = {pid: reports[pid]}
    for pid, doc in reports.items():
        root = snapshot_schema.tag_named(doc, "/")
        assert root["hard_limit_bytes"] == limit, f"{pid}: the limit is {root['hard_limit_bytes']}"
        assert root["peak_footprint_bytes"] <= limit, f"{pid}: the peak was {root['peak_footprint_bytes']}"
        assert root["held_bytes"] <= limit, f"{pid}: {root['held_bytes']} held"
    counts = [snapshot_schema.tag_named(doc, "/")["refused_count"] for doc in reports.values()]
    assert max(counts, default=0) >= refused, f"refused {counts} times"


def limited(folder, command, limit, input=None, **env):
    """The program's outcome under a limit, which it met."""
    tally = Tally(folder)
    outcome = Outcome(command, tally.environment(TALLY_LIMIT=str(limit), **env), input)
    assert outcome.lines and all(is_limit_line(line) for line in outcome.lines), outcome
    expect_within(tally, limit)
    return outcome


def with_ulimit(command, address_space, input=None, **env):
    def before():
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    return Outcome(command, plain_environment(**env), input, before)


def expect_same(one, other):
    """But for the numbers in the messages, as the two limits are met at different places."""
    for a, b in [(one.code, other.code), (one.out, other.out)]:
        assert a == b, f"{one}, but with ulimit {other}"
    assert re.sub(r"\d+", "N", one.said) == re.sub(r"\d+", "N", other.said), f"{one}, but with ulimit {other}"


def python(folder):
    """Each way to grow ends in MemoryError, and the program frees what it has and goes on."""
    script = """
import sys
def in_large_parts():
    parts = []
    while True: parts.append(bytes(1_000_001))
def in_small_parts():
    parts = []
    while True: parts.append([bytes(100), str(len(parts))])
def in_one_part():
    part = bytearray(1)
    while True: part += bytes(len(part) // 2 + 1)
def as_a_table():
    table = {}
    while True: table[len(table)] = None
def by_little():
    part = []
    while True: part.append(None)
for name in sys.argv[1:] * 2:
    try:
        globals()[name]()
    except MemoryError:
        print("MemoryError", name)
    print(sum(map(len, [bytes(1000) for _ in range(10000)])))
"""
    command = [sys.executable, "-c", script]
    # With ulimit, where nothing is held back for who handles a failure, python may not survive that of a small part.
    large, small = ["in_large_parts", "in_one_part"], ["in_small_parts", "as_a_table", "by_little"]
    one = os.path.join(folder, "large")
    os.mkdir(one)
    outcome = limited(one, [*command, *large], 64 * M, PYTHONMALLOC="malloc")
    expect_same(outcome, with_ulimit([*command, *large], 200 * M, PYTHONMALLOC="malloc"))
    outcome = limited(folder, [*command, *large, *small], 64 * M, PYTHONMALLOC="malloc")
    expected = "".join(f"MemoryError {name}\n10000000\n" for name in [*large, *small] * 2)
    assert outcome.code == 0 and outcome.out == expected and outcome.said == "", outcome


def python_tag(folder):
    """A part of the program meets the limit of its tag, and the others do not notice."""
    script = """
import ctypes
tally = ctypes.PyDLL(None)
tally.tally_tag_create.restype = ctypes.c_uint32
cache, other = [tally.tally_tag_create(name) for name in (b"/cache/pages", b"/other")]
def fill(tag, most):
    kept = []
    assert tally.tally_tag_push(ctypes.c_uint32(tag)) == 0
    try:
        while len(kept) < most: kept.append(bytes(10_000))
    except MemoryError:
        kept.append("refused")
    assert tally.tally_tag_pop() == 0
    return kept
for _ in range(3):
    others, pages = fill(other, 5000), fill(cache, 5000)
    print(len(others), others[-1] == "refused", 1500 < len(pages) < 1700, pages[-1], len([bytes(1000)] * 5000))
    del others, pages
"""
    tally = Tally(folder)
    outcome = Outcome([sys.executable, "-c", script],
                      tally.environment(TALLY_LIMITS="cache=16M,cache/pages=1G", PYTHONMALLOC="malloc"))
    assert outcome.code == 0 and outcome.said == "", outcome
    assert outcome.out == "5000 False True refused 5000\n" * 3, outcome
    assert outcome.lines[0] == "tally: TALLY_LIMITS: made /cache, /cache/pages", outcome
    assert len(outcome.lines) >= 2 and all(is_limit_line(line, tag="/cache") for line in outcome.lines[1:]), outcome
    doc, = tally.reports().values()
    tags = {tag["name"]: tag for tag in doc["tags"]}
    assert tags["/cache"]["hard_limit_bytes"] == 16 * M and tags["/cache"]["refused_count"] >= 3, tags["/cache"]
    assert 15 * M < tags["/cache/pages"]["peak_footprint_bytes"] <= 16 * M, tags["/cache/pages"]
    assert tags["/cache/pages"]["refused_count"] == tags["/"]["refused_count"] == 0, tags


def messages(folder):
    """Each program's own words, and exit status."""
    grow = "x=y; for i in {1..40}; do x=$x$x; done; echo never"
    for name, command, limit, status, words in [
            ("bash", ["bash", "-c", grow], 16 * M, 2, "xrealloc: cannot allocate"),
            ("perl", ["perl", "-e", 'push @l, "x" x 1000 for 1..1e8; print "never\n"'], 16 * M, 1, "Out of memory!"),
            ("mawk", ["mawk", 'BEGIN { for (i = 0; i < 1e8; i++) a[i] = i "xxxxxxxxxxxx"; print "never" }'], 16 * M, None,
             ""),
            ("git", ["git", "-c", "core.bigFileThreshold=4g", "hash-object", "--stdin"], 16 * M, 128, "Out of memory")]:
        need(name)
        home = os.path.join(folder, name)
        os.mkdir(home)
        input = bytes(50 * M) if name == "git" else b""
        outcome = limited(home, command, limit, input, HOME=home)
        assert outcome.code > 0 if status is None else outcome.code == status, f"{name}: {outcome}"
        assert words in outcome.said and outcome.out == "", f"{name}: {outcome}"
        expect_same(outcome, with_ulimit(command, 60 * M, input, HOME=home))


def sqlite(folder):
    """The statement fails, the database stays whole, and takes new rows."""
    program = need("sqlite3")
    fill = """CREATE TABLE t(x);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 300000)
INSERT INTO t SELECT randomblob(1000) FROM n;
"""
    one = os.path.join(folder, "one")
    os.mkdir(one)
    command = [program, ":memory:", fill]
    outcome = limited(one, command, 64 * M)
    assert outcome.code != 0 and "out of memory" in outcome.said, outcome
    expect_same(outcome, with_ulimit(command, 100 * M))
    command = [program, ":memory:"]
    more = fill + """SELECT 'rows', count(*) FROM t;
INSERT INTO t VALUES (1), (2);
SELECT 'rows', count(*) FROM t;
PRAGMA integrity_check;
"""
    outcome = limited(folder, command, 64 * M, more.encode())
    assert outcome.out == "rows|0\nrows|2\nok\n" and "out of memory" in outcome.said, outcome
    expect_same(outcome, with_ulimit(command, 100 * M, more.encode()))


def gxx(folder):
    compiler = need("g++")
    source = os.path.join(folder, "heavy.cpp")
    with open(source, "w") as file:
        file.write("""
#include <functional>
#include <iostream>
#include <map>
#include <regex>
std::map<std::string, std::function<int(int)>> table;
bool matches(const std::string& text) { return std::regex_search(text, std::regex("([a-z]+)-(\\\\d+)")); }
""")
    command = [compiler, "-std=c++17", "-S", source, "-o", os.path.join(folder, "heavy.s")]
    # Most that the compiler has it maps itself; of malloc's share it gets two thirds.
    for part in ["whole", "limited"]:
        os.mkdir(os.path.join(folder, part))
    whole = Tally(os.path.join(folder, "whole"))
    run(command, whole.environment())
    needed = max(snapshot_schema.tag_named(doc, "/")["peak_footprint_bytes"] for doc in whole.reports().values())
    assert needed > 4 * M, needed
    outcome = limited(os.path.join(folder, "limited"), command, needed // 3 * 2)
    assert outcome.code == 1, outcome  # g++ lives, and passes on that cc1plus failed
    said = [line for line in outcome.said.splitlines() if line]
    assert len(said) == 1, outcome
    assert re.search(r"cc1plus: out of memory allocating \d+ bytes|virtual memory exhausted", said[0]), outcome


GROW_FOR_EVER = """
import time
parts = []
try:
    while True:
        last = time.monotonic()
        parts.append(bytes(100_001))
except MemoryError:
    waited = time.monotonic() - last
    del parts
    print(waited)
"""


def wait(folder):
    """It waits for about that time, once for each failure, and then fails as ever."""
    tally = Tally(folder)
    outcome = Outcome([sys.executable, "-c", GROW_FOR_EVER],
                      tally.environment(TALLY_LIMIT="64M:wait=300", PYTHONMALLOC="malloc"))
    assert outcome.code == 0 and outcome.said == "", outcome
    assert 0.25 < float(outcome.out) < 10, outcome
    assert is_limit_line(outcome.lines[0], "may have no more, and a thread waits"), outcome
    expect_within(tally, 64 * M)
    doc, = tally.reports().values()
    assert snapshot_schema.tag_named(doc, "/")["waited_count"] >= 1


def expect_abort(text):
    """The line, the table of tags, the largest classes: what tells where the memory went."""
    lines = text.splitlines()
    assert is_limit_line(lines[0], "may have no more, and the program ends"), text
    assert re.match(rf"tally: process \d+, backend {BACKEND}: where the memory is", lines[1]), text
    assert re.match(r"TAG +LIVE +BLOCKS +FOOTPRINT +PEAK", lines[2]), text
    assert re.match(r"/ +6\d\.\d MiB", lines[3]), text
    assert any(re.match("limit of /: holds 6[34].. MiB of 64.0 MiB, pressure hard", line) for line in lines), text
    at = lines.index("the sizes that take most:")
    assert re.match(r"  [0-9.]+ MiB in (blocks of \d+ bytes|large blocks) of /, ", lines[at + 1]), text


def abort(folder):
    tally = Tally(folder)
    script = GROW_FOR_EVER.replace("100_001", "1001")
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=tally.environment(TALLY_LIMIT="64M:abort", PYTHONMALLOC="malloc"), timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=no_core)
    assert done.returncode == -signal.SIGABRT and done.stdout == b"", done
    expect_abort(done.stderr.decode())
    # With a log, all of that stands there.
    log = os.path.join(folder, "log")
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=no_core, timeout=60,
                          env=tally.environment(TALLY_LOG=log, TALLY_LIMIT="64M:abort", PYTHONMALLOC="malloc"))
    assert done.returncode == -signal.SIGABRT and done.stderr == b"", done
    with open(log) as file:
        expect_abort(file.read())


def no_core():
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def log(folder):
    """The lines stand in the file and nowhere else; several processes write to the same one."""
    tally = Tally(folder)
    path = os.path.join(folder, "log")
    for runs in [1, 2]:
        outcome = Outcome([sys.executable, "-c", GROW_FOR_EVER],
                          tally.environment(TALLY_LIMIT="64M:soft=32M", TALLY_LOG=path, PYTHONMALLOC="malloc"))
        assert outcome.code == 0 and outcome.lines == [] and outcome.said == "", outcome
        with open(path) as file:
            lines = file.read().splitlines()
        # A tag has a line a second.
        assert len(lines) >= runs and lines[0].startswith("tally: limit: / is above its soft limit: holds 32."), lines
        assert all(line.startswith("tally: limit: / ") for line in lines), lines
    expect_within(tally, 64 * M)


class Redis:
    """A server that ends with the block, at the latest."""

    def __init__(self, folder, *options, env, before=None):
        server, self.client = need("redis-server", "redis-cli")
        self.unix = os.path.join(folder, "redis.sock")
        self.output = os.path.join(folder, "output")

        def begin():
            no_core()
            if before:
                before()

        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                [server, "--port", "0", "--unixsocket", self.unix, "--dir", folder, "--save", "", "--appendonly", "no",
                 "--daemonize", "no", "--crash-memcheck-enabled", "no", *options],
                env=env, preexec_fn=begin, stdout=output, stderr=subprocess.STDOUT)

    def __enter__(self):
        for _ in range(200):
            if os.path.exists(self.unix) and self.ask("ping") == "PONG":
                return self
            assert self.process.poll() is None, self.said()
            time.sleep(0.05)
        raise AssertionError("the server does not answer: " + self.said())

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def said(self):
        with open(self.output, errors="replace") as output:
            return output.read(100_000)

    def ask(self, *words):
        done = subprocess.run([self.client, "-s", self.unix, *words], env=plain_environment(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=30)
        return done.stdout.decode(errors="replace").strip()

    def expect_out_of_memory(self, bytes):
        """It said so in its own words, wrote its report to the end, and called abort."""
        code, said = self.process.wait(timeout=30), self.said()
        assert re.search(f"Out Of Memory allocating {bytes} bytes!", said), said[-2000:]
        assert "Redis aborting for OUT OF MEMORY" in said, said[-2000:]
        assert "=== REDIS BUG REPORT END." in said, said[-2000:]
        assert code == -signal.SIGABRT, code


def redis(folder):
    """What it can refuse it refuses, and serves on; else it ends as it always does without memory."""
    limit = 64 * M
    tally = Tally(folder)
    answers = []

    def before():
        resource.setrlimit(resource.RLIMIT_AS, (300 * M, 300 * M))

    for name, env, before in [("ulimit", plain_environment(), before),
                              ("tally", tally.environment(TALLY_LIMIT=str(limit)), None)]:
        home = os.path.join(folder, name)
        os.mkdir(home)
        with Redis(home, env=env, before=before) as server:
            answers.append([
                server.ask("set", "key", "value"),
                server.ask("eval", "return #string.rep('x', 400000000)", "0"),  # Lua's error
                server.ask("get", "key"),
                server.ask("eval", "for i=1,10000 do redis.call('set', 'n'..i, string.rep('v', i % 500)) end return 7",
                           "0"),
                server.ask("dbsize"), server.ask("get", "n499") == "v" * 499,
                server.ask("setrange", "big", "400000000", "x"),  # redis's own, which it does not survive
            ])
            server.expect_out_of_memory(r"4000000\d\d")
    assert answers[0] == answers[1], f"with ulimit {answers[0]}, under the limit {answers[1]}"
    assert "not enough memory" in answers[1][1] and answers[1][4:6] == ["10001", True], answers[1]
    assert any(is_limit_line(line) for line in server.said().splitlines()), server.said()


def redis_full(folder):
    """With many small values instead of one: the reserve is for its report."""
    with Redis(folder, env=Tally(folder).environment(TALLY_LIMIT="64M")) as server:
        answer = server.ask("eval", "for i=1,200000 do redis.call('set', 'n:'..i, string.rep('v', 1000)) end", "0")
        assert "closed the connection" in answer or "reset by peer" in answer, answer
        server.expect_out_of_memory(r"\d+")


def redis_maxmemory(folder):
    """Its own limit is below ours: it drops old keys, and serves on."""
    limit = 64 * M
    tally = Tally(folder)
    with Redis(folder, "--maxmemory", "40mb", "--maxmemory-policy", "allkeys-lru",
               env=tally.environment(TALLY_LIMIT=str(limit))) as server:
        run([need("redis-benchmark"), "-s", server.unix, "-t", "set", "-n", "200000", "-r", "1000000000", "-d", "700",
             "-P", "32", "-q"], plain_environment())
        assert 10_000 < int(server.ask("dbsize")) < 60_000, server.ask("dbsize")
        evicted = re.search(r"evicted_keys:(\d+)", server.ask("info", "stats"))
        assert int(evicted.group(1)) > 100_000, evicted
        assert server.ask("set", "key", "value") == "OK" and server.ask("get", "key") == "value"
        server.ask("shutdown", "nosave")
        assert server.process.wait(timeout=30) == 0, server.said()
        assert "tally:" not in server.said(), server.said()
    expect_within(tally, limit, refused=0, pid=server.process.pid)
    tally.expect_live(200_000, pid=server.process.pid)


main([python, python_tag, messages, sqlite, gxx, wait, abort, log, redis, redis_full, redis_maxmemory])
