"""What Tally says about its options: options_test.py QUIET DOUBLE_FREE [LIBRARY].

QUIET is a program that has nothing to say itself, DOUBLE_FREE one that frees a large block twice."""
import os
import resource
import signal
import subprocess
import sys

QUIET, DOUBLE_FREE = sys.argv[1], sys.argv[2]
LIBRARY = sys.argv[3] if len(sys.argv) > 3 else None

KNOWN = ("unknown option (known: abort_conf, backend, check, dump_path, dump_signal, fault, guard, limit, limits, log, "
         "on_corruption, purge_ms, record, record_ms, report, report_pid, reserve, sample, tag_by, tags, thp, zero)")
PURGE = "expected milliseconds, 0 to 3600000"
CORRUPTION = "expected abort or report"
BACKEND = "expected os, libc, jemalloc or mimalloc"


def missing(name, package, library):
    return (f"TALLY_BACKEND={name}: not loaded with the program: install {package}, and start the program by tally run "
            f"--backend={name} or with {library} behind libtally.so in LD_PRELOAD; os instead")


NO_JEMALLOC = missing("jemalloc", "libjemalloc2", "libjemalloc.so.2")
NO_MIMALLOC = missing("mimalloc", "libmimalloc2.0", "libmimalloc.so.2")
# musl's malloc has no other name.
with open(QUIET, "rb") as program:
    LIBC = [] if b"/ld-linux" in program.read() else [
        "TALLY_BACKEND=libc: not loaded with the program: the C library is not glibc, is linked statically, or a sanitizer stands in "
        "for some of its malloc; os instead"]
GUARD = "expected 1/N to guard one of N samples, 1 for 1/50, or 0 for none"
REPORT = "expected 0, 1, or a path, in which %p is the process id"
BESIDE = "expected TALLY_TAG_BY=module or thread beside it"
FILE = "expected the path of a file, of at most 511 bytes"
UNREAD = "cannot be read, and no rule of it holds: "
SAMPLE = "expected bytes between samples, such as 512K, 1 for that, or 0 for none"
SIGNAL = "expected a signal, such as USR2 or 12"

# The environment, and the lines that it must bring about.
CASES = [
    ({}, []),
    ({"TALLY_FOO": "1"}, [f"TALLY_FOO: {KNOWN}"]),
    ({"TALLYX": "1", "TALL": "1", "tally_foo": "1", "XTALLY_FOO": "1"}, []),
    ({"TALLY_PURGE_MS": "0"}, []),
    ({"TALLY_PURGE_MS": "250"}, []),
    ({"TALLY_PURGE_MS": "3600000"}, []),
    ({"TALLY_PURGE_MS": "abc"}, [f"TALLY_PURGE_MS=abc: {PURGE}"]),
    ({"TALLY_PURGE_MS": "-1"}, [f"TALLY_PURGE_MS=-1: {PURGE}"]),
    ({"TALLY_PURGE_MS": "3600001"}, [f"TALLY_PURGE_MS=3600001: {PURGE}"]),
    ({"TALLY_PURGE_MS": "5s"}, [f"TALLY_PURGE_MS=5s: {PURGE}"]),
    ({"TALLY_PURGE_MS": "99999999999999999999999"}, [f"TALLY_PURGE_MS=99999999999999999999999: {PURGE}"]),
    ({"TALLY_ON_CORRUPTION": "abort"}, []),
    ({"TALLY_ON_CORRUPTION": "report"}, []),
    ({"TALLY_ON_CORRUPTION": "x"}, [f"TALLY_ON_CORRUPTION=x: {CORRUPTION}"]),
    ({"TALLY_ON_CORRUPTION": "reporting"}, [f"TALLY_ON_CORRUPTION=reporting: {CORRUPTION}"]),
    ({"TALLY_BACKEND": "os"}, []),
    ({"TALLY_BACKEND": "libc"}, LIBC),
    ({"TALLY_BACKEND": "jemalloc"}, [NO_JEMALLOC]),
    ({"TALLY_CONF": "backend:mimalloc"}, [NO_MIMALLOC]),
    ({"TALLY_BACKEND": "jemalloc", "TALLY_CONF": "backend:x"}, [f"TALLY_CONF backend:x: {BACKEND}", NO_JEMALLOC]),
    ({"TALLY_ABORT_CONF": "0"}, []),
    ({"TALLY_ABORT_CONF": "yes"}, ["TALLY_ABORT_CONF=yes: expected 0 or 1"]),
    ({"TALLY_SAMPLE": "512K"}, []),
    ({"TALLY_SAMPLE": "1"}, []),
    ({"TALLY_SAMPLE": "off"}, []),
    ({"TALLY_CONF": "sample:64k,record:0"}, []),
    ({"TALLY_SAMPLE": "2T"}, [f"TALLY_SAMPLE=2T: {SAMPLE}"]),
    ({"TALLY_SAMPLE": "often"}, [f"TALLY_SAMPLE=often: {SAMPLE}"]),
    ({"TALLY_SAMPLE": ""}, [f"TALLY_SAMPLE=: {SAMPLE}"]),
    ({"TALLY_THP": "never"}, []),
    ({"TALLY_THP": "auto"}, []),
    ({"TALLY_CONF": "thp:always"}, []),
    ({"TALLY_ZERO": "0"}, []),
    ({"TALLY_ZERO": "1"}, ["TALLY_ZERO=1: expected 0, as only libtally-hardened.so zeroes"]),
    ({"TALLY_THP": "on"}, ["TALLY_THP=on: expected never, auto or always"]),
    ({"TALLY_BACKEND": "x"}, [f"TALLY_BACKEND=x: {BACKEND}"]),
    ({"TALLY_CHECK": "1"}, []),
    ({"TALLY_CHECK": "yes"}, ["TALLY_CHECK=yes: expected 0 or 1"]),
    ({"TALLY_DUMP_SIGNAL": "USR2"}, []),
    ({"TALLY_DUMP_SIGNAL": "12"}, []),
    ({"TALLY_DUMP_SIGNAL": "x"}, [f"TALLY_DUMP_SIGNAL=x: {SIGNAL}"]),
    ({"TALLY_DUMP_SIGNAL": "0"}, [f"TALLY_DUMP_SIGNAL=0: {SIGNAL}"]),
    ({"TALLY_DUMP_SIGNAL": "99"}, [f"TALLY_DUMP_SIGNAL=99: {SIGNAL}"]),
    ({"TALLY_DUMP_SIGNAL": "sigusr2"}, []),
    ({"TALLY_DUMP_SIGNAL": "32"}, [f"TALLY_DUMP_SIGNAL=32: {SIGNAL}"]),
    ({"TALLY_DUMP_SIGNAL": "33"}, [f"TALLY_DUMP_SIGNAL=33: {SIGNAL}"]),
    ({"TALLY_GUARD": "1"}, []),
    ({"TALLY_GUARD": "on", "TALLY_SAMPLE": "64K"}, []),
    ({"TALLY_GUARD": "1/1000000"}, []),
    ({"TALLY_GUARD": "0", "TALLY_SAMPLE": "0"}, []),
    ({"TALLY_GUARD": "50"}, [f"TALLY_GUARD=50: {GUARD}"]),
    ({"TALLY_GUARD": "2/50"}, [f"TALLY_GUARD=2/50: {GUARD}"]),
    ({"TALLY_GUARD": "1/0"}, [f"TALLY_GUARD=1/0: {GUARD}"]),
    ({"TALLY_GUARD": "1/1000001"}, [f"TALLY_GUARD=1/1000001: {GUARD}"]),
    ({"TALLY_CONF": "guard:1/"}, [f"TALLY_CONF guard:1/: {GUARD}"]),
    ({"TALLY_GUARD": "1", "TALLY_SAMPLE": "0"}, ["TALLY_GUARD: no sample is guarded, as TALLY_SAMPLE is 0"]),
    ({"TALLY_RECORD": "0"}, []),
    ({"TALLY_RECORD": "1", "TALLY_RECORD_MS": "3600000"}, []),
    ({"TALLY_RECORD": "yes"}, ["TALLY_RECORD=yes: expected 0, 1 or keep"]),
    ({"TALLY_RECORD_MS": "3600001"}, ["TALLY_RECORD_MS=3600001: expected milliseconds, 0 to 3600000"]),
    ({"TALLY_REPORT": "off"}, []),
    ({"TALLY_REPORT": "2"}, [f"TALLY_REPORT=2: {REPORT}"]),
    ({"TALLY_DUMP_PATH": "/nonexistent/x"}, []),
    ({"TALLY_CONF": "purge_ms:10,on_corruption:report,backend:os"}, []),
    ({"TALLY_REPORT_PID": "000004711"}, []),
    ({"TALLY_REPORT_PID": "me"}, ["TALLY_REPORT_PID=me: expected the id of the one process that reports; 0: each does"]),
    ({"TALLY_CONF": "purge_ms:abc"}, [f"TALLY_CONF purge_ms:abc: {PURGE}"]),
    ({"TALLY_CONF": "foo:1"}, [f"TALLY_CONF foo: {KNOWN}"]),
    ({"TALLY_CONF": "foo:1,purge_ms:5,backend:x"}, [f"TALLY_CONF foo: {KNOWN}", f"TALLY_CONF backend:x: {BACKEND}"]),
    ({"TALLY_CONF": "foo:1", "TALLY_BAR": "2"}, [f"TALLY_CONF foo: {KNOWN}", f"TALLY_BAR: {KNOWN}"]),
    ({"TALLY_CONF": " purge_ms:10 , backend:os, "}, []),
    ({"TALLY_CONF": ""}, []),
    ({"TALLY_TAG_BY": "module"}, []),
    ({"TALLY_TAG_BY": "thread"}, []),
    ({"TALLY_TAG_BY": "none"}, []),
    ({"TALLY_TAG_BY": "library"}, ["TALLY_TAG_BY=library: expected module, thread or none"]),
    ({"TALLY_CONF": "tag_by:"}, ["TALLY_CONF tag_by:: expected module, thread or none"]),
    ({"TALLY_TAGS": "x", "TALLY_TAG_BY": "none"}, [f"TALLY_TAGS=x: {BESIDE}"]),
    ({"TALLY_TAGS": "x"}, [f"TALLY_TAGS=x: {BESIDE}"]),
    ({"TALLY_TAGS": ""}, [f"TALLY_TAGS=: {FILE}"]),
    ({"TALLY_TAGS": "x" * 512}, [f"TALLY_TAGS={'x' * 195}: {FILE}"]),
    ({"TALLY_TAGS": "/nonexistent", "TALLY_TAG_BY": "module"}, [f"TALLY_TAGS=/nonexistent: {UNREAD}No such file or directory"]),
    ({"TALLY_TAGS": "/", "TALLY_CONF": "tag_by:thread"}, [f"TALLY_TAGS=/: {UNREAD}Is a directory"]),
    ({"TALLY_TAGS": "/dev/zero", "TALLY_TAG_BY": "module"}, [f"TALLY_TAGS=/dev/zero: {UNREAD}File too large"]),
    ({"TALLY_TAGS": "/dev/null", "TALLY_TAG_BY": "module"}, []),
]


def run(program, *args, limit=None, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}
    clean.update(env)
    if LIBRARY:
        clean["LD_PRELOAD"] = LIBRARY
    done = subprocess.run([program, *args], env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60,
                          preexec_fn=limit)
    return done.returncode, done.stderr.decode(errors="replace")


failures = []


def expect(condition, what):
    if not condition:
        failures.append(what)
        print("failed:", what)


EX_CONFIG = 78  # sysexits.h

for env, said in CASES:
    # All is said first.
    code, stderr = run(QUIET, **(env | {"TALLY_ABORT_CONF": env.get("TALLY_ABORT_CONF", "1")}))
    expect(sorted(stderr.splitlines()) == sorted("tally: " + line for line in said), f"{env}, abort_conf: said {stderr!r}")
    expect(code == (EX_CONFIG if said and "TALLY_ABORT_CONF" not in env else 0), f"{env}, abort_conf: exit {code}")
    for args in [(), ("fork",)]:  # said once, not by every child again
        code, stderr = run(QUIET, *args, **env)
        expect(code == 0, f"{env} {args}: exit {code}")
        expected = sorted("tally: " + line for line in said)
        expect(sorted(stderr.splitlines()) == expected, f"{env} {args}: said {stderr!r}, not {expected}")

# However long or odd the value, it is said in one line.
for value in ["x" * 10000, "\x1b[31m", "%s%n", "a\nb"]:
    code, stderr = run(QUIET, TALLY_PURGE_MS=value)
    expect(code == 0, f"{value[:20]!r}: exit {code}")
    expect(stderr.startswith("tally: TALLY_PURGE_MS=") and stderr.endswith("\n"), f"{value[:20]!r}: {stderr[:100]!r}")
    expect(stderr.count("\n") == 1 and "\x1b" not in stderr, f"{value[:20]!r}: {stderr[:100]!r}")
    expect(len(stderr) < 5000, f"{value[:20]!r}: {len(stderr)} bytes said")
for value in [",", ",,", "foo", ":", "foo:", ":1", "purge_ms", "purge_ms:", "x" * 100000 + ":1", "a:b:c"]:
    code, _ = run(QUIET, TALLY_CONF=value)
    expect(code == 0, f"TALLY_CONF={value[:20]!r}: exit {code}")

# Where the places of guarded blocks find no room.
code, stderr = run(QUIET, limit=lambda: resource.setrlimit(resource.RLIMIT_AS, (120 << 20,) * 2), TALLY_GUARD="1")
expect(code == 0 and stderr == "tally: TALLY_GUARD: no sample is guarded, as the system refuses the addresses for that\n",
       f"no room for guarded blocks: exit {code}, {stderr!r}")

# What is no mistake does not end the program.
code, stderr = run(QUIET, TALLY_ABORT_CONF="1", TALLY_LIMITS="options/test=1G")
expect(code == 0 and "made /options/test" in stderr, f"a tag made for a limit: exit {code}, {stderr!r}")
for env in [{"TALLY_CONF": "abort_conf:1,foo:2"}, {"TALLY_FAULT": "x:nth=", "TALLY_ABORT_CONF": "1"},
            {"TALLY_LIMITS": "a//b=1G", "TALLY_ABORT_CONF": "1"}]:
    code, stderr = run(QUIET, **env)
    expect(code == EX_CONFIG, f"{env}: exit {code}, {stderr!r}")

# Which value wins is seen by what a double free does: TALLY_<OPTION> over TALLY_CONF, the default over nonsense.
ABORTS = [
    ({}, True),
    ({"TALLY_ON_CORRUPTION": "report"}, False),
    ({"TALLY_CONF": "on_corruption:report"}, False),
    ({"TALLY_CONF": "purge_ms:5,on_corruption:report"}, False),
    ({"TALLY_CONF": "on_corruption:report", "TALLY_ON_CORRUPTION": "abort"}, True),
    ({"TALLY_CONF": "on_corruption:abort", "TALLY_ON_CORRUPTION": "report"}, False),
    ({"TALLY_ON_CORRUPTION": "x"}, True),
]
for env, aborts in ABORTS:
    code, stderr = run(DOUBLE_FREE, **env)
    expect(code == (-signal.SIGABRT if aborts else 0), f"{env}: exit {code}, said {stderr!r}")

sys.exit(1 if failures else 0)
