"""Runs a real program with Tally preloaded, and without: program_test.py NAME LIBRARY [plain | TALLY_X=Y...].

The results must be the same, and each program's report must show that Tally was its malloc. What `plain` writes to the file
that TALLY_TEST_PLAIN names is the result without, for all who are given that file; else it is made each time."""
import os
import pickle
import signal
import socket
import subprocess
import sys
import time

from programs import HERE, LIBRARY, Tally, main, need, plain_environment, run

PLAIN = os.environ.get("TALLY_TEST_PLAIN")


def same_with_and_without(folder, work, allocations, processes=1):
    """work(environment, folder) both ways, in a folder each; what it returns must be equal."""
    def result(name, environment):
        os.mkdir(os.path.join(folder, name))
        return work(environment, os.path.join(folder, name))

    if PLAIN and "plain" not in sys.argv:
        with open(PLAIN, "rb") as file:
            plain = pickle.load(file)
    else:
        plain = result("plain", plain_environment())
        assert plain and (not isinstance(plain, tuple) or plain[0]), "no output"
    if "plain" in sys.argv:
        with open(PLAIN, "wb") as file:
            pickle.dump(plain, file)
        sys.exit()
    tally = Tally(folder)
    with_tally = result("tally", tally.environment())
    assert plain == with_tally, f"results differ: {plain} and {with_tally}"[:10000]
    tally.expect_live(allocations, processes)
    return tally


def same_output(folder, command, allocations, input=None, **env):
    return same_with_and_without(folder, lambda environment, cwd: run(command, environment | env, cwd, input), allocations)


def python(folder):
    script = os.path.join(HERE, "objects.py")
    tally = same_output(folder, [sys.executable, script], 500_000, PYTHONMALLOC="malloc", PYTHONHASHSEED="1")
    assert len(tally.reports()) >= 1
    # The pool of processes ends by os._exit, without a report; threads are of the process that reports.


def sqlite(folder):
    sql = b"""
PRAGMA cache_size=-20000;
CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT, value REAL, grp INTEGER);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i < 150000)
INSERT INTO t SELECT i, printf('name-%08x', (i*2654435761) % 4294967296), (i*7919 % 100003)/7.0, i % 97 FROM n;
CREATE INDEX by_name ON t(name);
CREATE INDEX by_group ON t(grp, value);
SELECT grp, count(*), round(sum(value), 3), min(name), max(name) FROM t GROUP BY grp ORDER BY grp;
SELECT a.id, b.name FROM t a JOIN t b ON b.id = a.id + 1 WHERE a.name LIKE '%ff' ORDER BY b.name LIMIT 200;
DELETE FROM t WHERE id % 3 = 0;
UPDATE t SET name = upper(name) || '-' || group_concat_length FROM (SELECT 7 AS group_concat_length);
SELECT length(group_concat(name)) FROM t;
VACUUM;
PRAGMA integrity_check;
SELECT count(*), sum(length(name)) FROM t;
"""
    same_output(folder, [need("sqlite3"), "test.db"], 50_000, input=sql)


def perl(folder):
    script = r"""
my (%words, @list);
for my $i (1..200000) { my $w = sprintf("w%x", ($i * 2654435761) % 65537); $words{$w}++; push @list, "$w:$i"; }
my $n = 0;
for (@list) { $n += $2 if /^w([0-9a-f]+):(\d+)$/ && length($1) == 3 }
my @sorted = sort { $words{$a} <=> $words{$b} || $a cmp $b } keys %words;
print "$n $sorted[0] $sorted[-1] ", scalar(@sorted), "\n";
my $text = join(",", @list); $text =~ s/(\d)(\d)/$2$1/g; print length($text), " ", unpack("%32C*", $text), "\n";
my @deep = map { { id => $_, list => [1..$_ % 20], sub => sub { $_[0] + $_ } } } 1..20000;
my $sum = 0; $sum += @{$_->{list}} for @deep; print "$sum\n";
for (1..20) { my $pid = fork(); if (!$pid) { my @x = map { "x" x $_ } 1..500; exit(0) } waitpid($pid, 0); $sum += $? }
print "$sum ", `echo from a shell`;
"""
    same_output(folder, [need("perl"), "-e", script], 300_000)


def node(folder):
    script = r"""
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
function work(seed) {
  const map = new Map(); let x = seed;
  for (let i = 0; i < 100000; i++) { x = (x * 1103515245 + 12345) % 2147483648; map.set('k' + x % 5000, { x, list: [i, x] }); }
  const text = JSON.stringify([...map].sort()); const back = JSON.parse(text);
  return back.length + ':' + require('crypto').createHash('sha256').update(text).digest('hex');
}
if (isMainThread) {
  const zlib = require('zlib'), parts = [];
  const buffers = []; for (let i = 0; i < 2000; i++) buffers.push(Buffer.alloc(1000 + i * 7, i % 256));
  const packed = zlib.gzipSync(Buffer.concat(buffers)); parts.push(zlib.gunzipSync(packed).length);
  let open = 3;
  for (let s = 1; s <= 3; s++) new Worker(__filename, { workerData: s }).on('message', m => {
    parts[s] = m; if (--open === 0) { parts.push(work(9)); console.log(parts.join('\n')); } });
} else parentPort.postMessage(work(workerData));
"""
    path = os.path.join(folder, "test.js")
    with open(path, "w") as file:
        file.write(script)
    same_output(folder, [need("node"), path], 10_000)


def bash(folder):
    script = r"""
set -e
total=0
for i in $(seq 1 150); do
  x=$(echo $i | sed 's/^/1/' | tr 0-9 9876543210)
  total=$((total + $(echo "$x" | wc -c)))
  (y=$(for j in 1 2 3; do echo $j; done); [ "$y" = $'1\n2\n3' ])
done
echo $total
declare -A map
for i in {1..5000}; do map[key$((i * 7919 % 1009))]+=$i; done
for k in "${!map[@]}"; do echo "$k ${#map[$k]}"; done | sort | cksum
for i in 1 2 3 4 5 6 7 8; do (for j in {1..300}; do s+=x$j; done; echo ${#s}) & done | sort | uniq -c | tr -s ' '
wait
printf '%s\n' {1..20000} | sort -rn | head -n 3
"""
    bash_path, _ = need("bash", "sed")
    tally = same_output(folder, [bash_path, "-c", script], 5_000)
    assert len(tally.reports()) >= 300, f"{len(tally.reports())} reports from some 700 processes"


def git(folder):
    program = need("git")
    identity = {}
    for who in ["AUTHOR", "COMMITTER"]:
        identity.update({f"GIT_{who}_NAME": "T", f"GIT_{who}_EMAIL": "t@example.invalid",
                         f"GIT_{who}_DATE": "2001-01-01T00:00:00Z"})

    def work(environment, home):
        origin, clone = os.path.join(home, "origin"), os.path.join(home, "clone")
        os.makedirs(origin)
        env = environment | identity | {"HOME": home, "GIT_CONFIG_NOSYSTEM": "1"}

        def git(*arguments, cwd=origin):
            return run([program, "-c", "init.defaultBranch=main", "-c", "gc.auto=0", *arguments], env, cwd)[0]

        git("init", "-q")
        # A history of 300 commits over 60 files by one fast-import, then some by hand.
        stream = []
        for i in range(300):
            stream.append(f"commit refs/heads/main\ncommitter T <t@example.invalid> {1000000000 + i * 60} +0000\n"
                          f"data <<E\nchange {i}\nE\n\n")
            body = "".join(f"line {j} of {i % 60} in {(i * j) % 101}\n" for j in range(200))
            stream.append(f"M 100644 inline dir{i % 7}/file{i % 60}.txt\ndata {len(body)}\n{body}\n")
        run([program, "fast-import", "--quiet"], env, origin, "".join(stream).encode())
        git("checkout", "-q", "main")
        for i in range(5):
            with open(os.path.join(origin, f"hand{i}.txt"), "w") as file:
                file.write("x\n" * i * 1000)
            git("add", "-A")
            git("commit", "-q", "-m", f"by hand {i}")
        # By a URL, so that objects go through the pack protocol and not by hard links.
        git("clone", "-q", "file://" + origin, clone, cwd=home)
        log = git("log", "-p", "--stat", "--no-color", cwd=clone)
        assert len(log) > 1_000_000, len(log)
        git("gc", "-q", "--aggressive", "--prune=now", cwd=clone)
        git("fsck", "--strict", cwd=clone)
        return (git("rev-parse", "HEAD", cwd=clone), log, git("blame", "dir1/file1.txt", cwd=clone),
                git("grep", "-c", "line 7", cwd=clone), git("diff", "HEAD~100", cwd=clone))

    same_with_and_without(folder, work, 10_000, processes=20)


def gxx(folder):
    compiler = need("g++")
    source = os.path.join(folder, "heavy.cpp")
    with open(source, "w") as file:
        file.write("""
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <regex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>
std::map<std::string, std::vector<std::unordered_map<int, std::shared_ptr<std::string>>>> table;
bool matches(const std::string& text) { return std::regex_search(text, std::regex("([a-z]+)-(\\\\d+)")); }
int main(int argc, char** argv) {
  std::mt19937 random(argc);
  std::vector<std::function<int(int)>> calls;
  for (int i = 0; i < 10; i++) calls.push_back([=](int x) { return x * i; });
  std::sort(argv, argv + argc, [](auto a, auto b) { return std::string(a) < b; });
  std::thread([&] { table["a"].emplace_back(); }).join();
  std::cout << matches(argv[0]) << calls[3](static_cast<int>(random()));
}
""")

    def work(environment, out):
        run([compiler, "-std=c++17", "-O1", "-g", "-c", source, "-o", "heavy.o"], environment, out)
        # Debug information holds the working folder; the code and data do not.
        run(["objcopy", "--strip-debug", "heavy.o"], plain_environment(), out)
        with open(os.path.join(out, "heavy.o"), "rb") as file:
            code = file.read()
        assert len(code) > 10_000
        return code

    same_with_and_without(folder, work, 200_000, processes=3)  # g++, cc1plus, as


def unused_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def redis(folder):
    server, benchmark, client = need("redis-server", "redis-benchmark", "redis-cli")
    tally = Tally(folder)
    unix, port = os.path.join(folder, "redis.sock"), unused_port()
    process = subprocess.Popen(
        [server, "--port", str(port), "--bind", "127.0.0.1", "--unixsocket", unix, "--dir", folder, "--save", "",
         "--appendonly", "no", "--daemonize", "no", "--io-threads", "2"],
        env=tally.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        def ask(*words):
            out, _ = run([client, "-s", unix, *words], plain_environment())
            return out.decode().strip()

        for _ in range(200):
            if os.path.exists(unix):
                break
            assert process.poll() is None, process.stdout.read().decode()
            time.sleep(0.05)
        assert ask("ping") == "PONG"
        with open(f"/proc/{process.pid}/maps") as maps:
            assert os.path.basename(LIBRARY) in maps.read(), "the library is not mapped"
        tests = "set,get,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,zpopmin,lrange_100,mset"
        for where in [["-s", unix], ["-h", "127.0.0.1", "-p", str(port)]]:
            out, _ = run([benchmark, *where, "-n", "5000", "-c", "20", "-P", "8", "-r", "5000", "-d", "200", "-q", "-t",
                          tests], plain_environment())
            assert out.count(b"requests per second") >= 12, out
        assert ask("set", "key", "value " * 1000) == "OK"
        ask("eval", "for i=1,20000 do redis.call('set', 'n:'..i, string.rep('v', i % 500)) end", "0")
        size, digest = ask("dbsize"), ask("debug", "digest")
        # A child writes the data to disk while the parent serves; then they are read again.
        assert "started" in ask("bgsave")
        for _ in range(200):
            if "rdb_bgsave_in_progress:0" in ask("info", "persistence"):
                break
            time.sleep(0.05)
        assert "rdb_last_bgsave_status:ok" in ask("info", "persistence")
        if not digest.startswith("ERR"):
            ask("debug", "reload")
            assert ask("debug", "digest") == digest
        assert ask("dbsize") == size and int(size) > 20000, size
        assert ask("flushall") == "OK"
        run_quit = subprocess.run([client, "-s", unix, "shutdown", "nosave"], env=plain_environment())
        assert run_quit.returncode == 0
        output = process.communicate(timeout=30)[0].decode()
        assert process.returncode == 0, output
        assert "tally:" not in output, output
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.wait()
    # redis is linked with a malloc of its own choice (jemalloc in Debian); the count shows who served it.
    tally.expect_live(300_000, pid=process.pid)


main([python, redis, sqlite, git, gxx, perl, node, bash])
