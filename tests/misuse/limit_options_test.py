"""What Tally says about TALLY_LIMIT, TALLY_LIMITS, TALLY_RESERVE, TALLY_LOG and TALLY_FAULT, and what holds all the
same: limit_options_test.py QUIET [LIBRARY].

QUIET is a program that has nothing to say itself."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import snapshot_schema

QUIET = sys.argv[1]
LIBRARY = sys.argv[2] if len(sys.argv) > 2 else None

LIMIT = "expected a size of at most 64T, such as 2G, or a share, 0% to 100% of the memory"
AFTER = "expected after the limit :soft=SIZE, :wait=MS, :abort or :fail"
SOFT = "expected after soft= a size of at most 64T, such as 1.5G, or a share, 0% to 100%"
WAIT = "expected after wait= milliseconds, 0 to 4294967295"
ABOVE = "expected a soft limit that is not above the hard one"
PART = "expected TAG=SIZE, such as cache/blocks=512M or /=90%"
PATH = "expected a tag's path, as cache/blocks, without an empty name"
OWN = "expected a tag of the program's, for /tally is Tally's own"
LONG = "expected a tag's path of at most 255 bytes, its first / included"
RESERVE = "expected a size, such as 64K, at most 1G"
LOG = "expected a path of at most 511 bytes"
FAULT = "expected TAG:nth=N, TAG:p=0.001:seed=N or TAG:above=SIZE, and / for all tags"
NTH = "expected after nth= a number from 1, as the first allocation is 1"
P = "expected after p= a probability, 0 to 1, such as 0.001"

MISSING = object()
G = 1 << 30
M = 1 << 20

# The variable, its value, the lines that it must bring about, and the hard limits that hold then.
CASES = [
    ("LIMIT", "64M", [], {"/": 64 * M}),
    ("LIMIT", "64m", [], {"/": 64 * M}),
    ("LIMIT", "64MiB", [], {"/": 64 * M}),
    ("LIMIT", "1.5G", [], {"/": 3 * G // 2}),
    ("LIMIT", "67108864", [], {"/": 64 * M}),
    ("LIMIT", "1G:soft=512M:wait=10:fail", [], {"/": G}),
    ("LIMIT", "1G:abort", [], {"/": G}),
    ("LIMIT", "1G:soft=1G", [], {"/": G}),
    ("LIMIT", "64T", [], {"/": None}),  # as good as none
    ("LIMIT", "", [f"TALLY_LIMIT=: {LIMIT}"], {"/": None}),
    ("LIMIT", "lots", [f"TALLY_LIMIT=lots: {LIMIT}"], {"/": None}),
    ("LIMIT", "-1", [f"TALLY_LIMIT=-1: {LIMIT}"], {"/": None}),
    ("LIMIT", "-64M", [f"TALLY_LIMIT=-64M: {LIMIT}"], {"/": None}),
    ("LIMIT", "65T", [f"TALLY_LIMIT=65T: {LIMIT}"], {"/": None}),
    ("LIMIT", "99999999999999999999999999", [f"TALLY_LIMIT=99999999999999999999999999: {LIMIT}"], {"/": None}),
    ("LIMIT", "18446744073709551617", [f"TALLY_LIMIT=18446744073709551617: {LIMIT}"], {"/": None}),
    ("LIMIT", "64X", [f"TALLY_LIMIT=64X: {LIMIT}"], {"/": None}),
    ("LIMIT", "64MM", [f"TALLY_LIMIT=64MM: {LIMIT}"], {"/": None}),
    ("LIMIT", "64 M", [f"TALLY_LIMIT=64 M: {LIMIT}"], {"/": None}),
    ("LIMIT", "1.5", [f"TALLY_LIMIT=1.5: {LIMIT}"], {"/": None}),
    ("LIMIT", "0x100000", [f"TALLY_LIMIT=0x100000: {LIMIT}"], {"/": None}),
    ("LIMIT", "101%", [f"TALLY_LIMIT=101%: {LIMIT}"], {"/": None}),
    ("LIMIT", "-5%", [f"TALLY_LIMIT=-5%: {LIMIT}"], {"/": None}),
    ("LIMIT", "%", [f"TALLY_LIMIT=%: {LIMIT}"], {"/": None}),
    ("LIMIT", "99999999999999999999999%", [f"TALLY_LIMIT=99999999999999999999999%: {LIMIT}"], {"/": None}),
    ("LIMIT", "64M:soft=65M", [f"TALLY_LIMIT=64M:soft=65M: {ABOVE}"], {"/": None}),
    ("LIMIT", "64M:soft=1G:abort", [f"TALLY_LIMIT=64M:soft=1G:abort: {ABOVE}"], {"/": None}),
    ("LIMIT", "64M:soft=", [f"TALLY_LIMIT=64M:soft=: {SOFT}"], {"/": None}),
    ("LIMIT", "64M:soft=110%", [f"TALLY_LIMIT=64M:soft=110%: {SOFT}"], {"/": None}),
    ("LIMIT", "64M:soft", [f"TALLY_LIMIT=64M:soft: {AFTER}"], {"/": None}),
    ("LIMIT", "64M:wait=", [f"TALLY_LIMIT=64M:wait=: {WAIT}"], {"/": None}),
    ("LIMIT", "64M:wait=1s", [f"TALLY_LIMIT=64M:wait=1s: {WAIT}"], {"/": None}),
    ("LIMIT", "64M:wait=-1", [f"TALLY_LIMIT=64M:wait=-1: {WAIT}"], {"/": None}),
    ("LIMIT", "64M:wait=4294967296", [f"TALLY_LIMIT=64M:wait=4294967296: {WAIT}"], {"/": None}),
    ("LIMIT", "64M:die", [f"TALLY_LIMIT=64M:die: {AFTER}"], {"/": None}),
    ("LIMIT", "64M:abort=1", [f"TALLY_LIMIT=64M:abort=1: {AFTER}"], {"/": None}),
    ("LIMIT", "soft=64M", [f"TALLY_LIMIT=soft=64M: {LIMIT}"], {"/": None}),
    ("LIMIT", "abort", [f"TALLY_LIMIT=abort: {LIMIT}"], {"/": None}),
    ("CONF", "limit:1G:soft=512M,reserve:32K", [], {"/": G}),
    ("CONF", "limit:1G:soft=2G", [f"TALLY_LIMIT=1G:soft=2G: {ABOVE}"], {"/": None}),
    ("CONF", "limit", [f"TALLY_CONF limit: {LIMIT}"], {"/": None}),
    ("CONF", "limits:cache=5M", ["TALLY_LIMITS: made /cache"], {"/cache": 5 * M}),

    ("LIMITS", "", [], {"/": None}),
    ("LIMITS", ",,", [], {"/": None}),
    ("LIMITS", "cache=512M:soft=400M,net/rx=64M:wait=100", ["TALLY_LIMITS: made /cache, /net/rx"],
     {"/cache": 512 * M, "/net": None, "/net/rx": 64 * M, "/": None}),
    ("LIMITS", " cache = 512M , /net/rx=64M, ", ["TALLY_LIMITS: made /cache, /net/rx"],
     {"/cache": 512 * M, "/net/rx": 64 * M}),
    ("LIMITS", "/=1G", [], {"/": G}),
    ("LIMITS", "a=1M,a=2M", ["TALLY_LIMITS: made /a"], {"/a": 2 * M}),
    # One bad part among good ones.
    ("LIMITS", "cache=512M,net=lots,net/rx=64M",
     [f"TALLY_LIMITS net=lots: {LIMIT}", "TALLY_LIMITS: made /cache, /net/rx"],
     {"/cache": 512 * M, "/net": None, "/net/rx": 64 * M}),
    ("LIMITS", "cache=5M,disk=6M:soft=7M", [f"TALLY_LIMITS disk=6M:soft=7M: {ABOVE}", "TALLY_LIMITS: made /cache"],
     {"/cache": 5 * M, "/disk": MISSING}),
    ("LIMITS", "disk=6M:wait=x,cache=5M", [f"TALLY_LIMITS disk=6M:wait=x: {WAIT}", "TALLY_LIMITS: made /cache"],
     {"/cache": 5 * M, "/disk": MISSING}),
    ("LIMITS", "a//b=1M,cache=5M", [f"TALLY_LIMITS a//b=1M: {PATH}", "TALLY_LIMITS: made /cache"],
     {"/cache": 5 * M, "/a": MISSING}),
    ("LIMITS", "//a=1M", [f"TALLY_LIMITS //a=1M: {PATH}"], {}),
    ("LIMITS", "a/=1M", [f"TALLY_LIMITS a/=1M: {PATH}"], {}),
    ("LIMITS", "a\tb=1M", [f"TALLY_LIMITS a?b=1M: {PATH}"], {}),
    ("LIMITS", "/tally=1M,cache=5M", [f"TALLY_LIMITS /tally=1M: {OWN}", "TALLY_LIMITS: made /cache"],
     {"/tally": None, "/cache": 5 * M}),
    ("LIMITS", "tally=1M", [f"TALLY_LIMITS tally=1M: {OWN}"], {"/tally": None}),
    ("LIMITS", "x" * 255 + "=1M", [f"TALLY_LIMITS {'x' * 200}: {LONG}"], {"/" + "x" * 255: MISSING}),
    ("LIMITS", "x" * 254 + "=1M", [f"TALLY_LIMITS: made /{'x' * 254}"], {"/" + "x" * 254: M}),
    ("LIMITS", "x" * 100000 + "=1M", [f"TALLY_LIMITS {'x' * 200}: {LONG}"], {}),
    ("LIMITS", "64M", [f"TALLY_LIMITS 64M: {PART}"], {"/": None, "/64M": MISSING}),
    ("LIMITS", "cache", [f"TALLY_LIMITS cache: {PART}"], {"/cache": MISSING}),
    ("LIMITS", "cache=", [f"TALLY_LIMITS cache=: {PART}"], {"/cache": MISSING}),
    ("LIMITS", "=64M", [f"TALLY_LIMITS =64M: {PART}"], {"/": None}),
    ("LIMITS", "cache:64M", [f"TALLY_LIMITS cache:64M: {PART}"], {}),

    ("RESERVE", "64K", [], {}),
    ("RESERVE", "0", [], {}),
    ("RESERVE", "1G", [], {}),
    ("RESERVE", "", [f"TALLY_RESERVE=: {RESERVE}"], {}),
    ("RESERVE", "some", [f"TALLY_RESERVE=some: {RESERVE}"], {}),
    ("RESERVE", "-1", [f"TALLY_RESERVE=-1: {RESERVE}"], {}),
    ("RESERVE", "2G", [f"TALLY_RESERVE=2G: {RESERVE}"], {}),
    ("RESERVE", "5%", [f"TALLY_RESERVE=5%: {RESERVE}"], {}),

    ("LOG", "", [f"TALLY_LOG=: {LOG}"], {}),
    ("LOG", "x" * 512, [f"TALLY_LOG={'x' * 196}: {LOG}"], {}),
    ("LOG", "/nonexistent/folder/log", [], {}),  # nothing happens that it is needed for

    ("FAULT", "", [], {}),
    ("FAULT", "x:nth=1000,y:p=0.001:seed=7,z:above=4096", [], {"/x": None}),
    ("FAULT", "x:p=0,y:p=1,z:p=.5,w:p=1.000,v:above=64K", [], {}),
    ("FAULT", "x", [f"TALLY_FAULT x: {FAULT}"], {"/x": MISSING}),
    ("FAULT", "x:", [f"TALLY_FAULT x:: {FAULT}"], {"/x": MISSING}),
    ("FAULT", ":nth=1", [f"TALLY_FAULT :nth=1: {FAULT}"], {}),
    ("FAULT", "x=nth:1", [f"TALLY_FAULT x=nth:1: {FAULT}"], {}),
    ("FAULT", "x:always", [f"TALLY_FAULT x:always: {FAULT}"], {}),
    ("FAULT", "x:nth=0", [f"TALLY_FAULT x:nth=0: {NTH}"], {}),
    ("FAULT", "x:nth=", [f"TALLY_FAULT x:nth=: {NTH}"], {}),
    ("FAULT", "x:nth=-1", [f"TALLY_FAULT x:nth=-1: {NTH}"], {}),
    ("FAULT", "x:nth=1K", [f"TALLY_FAULT x:nth=1K: {NTH}"], {}),
    ("FAULT", "x:p=1.1", [f"TALLY_FAULT x:p=1.1: {P}"], {}),
    ("FAULT", "x:p=-0.1", [f"TALLY_FAULT x:p=-0.1: {P}"], {}),
    ("FAULT", "x:p=1e-3", [f"TALLY_FAULT x:p=1e-3: {P}"], {}),
    ("FAULT", "x:p=5%", [f"TALLY_FAULT x:p=5%: {P}"], {}),
    ("FAULT", "x:p=.", [f"TALLY_FAULT x:p=.: {P}"], {}),
    ("FAULT", "x:p=", [f"TALLY_FAULT x:p=: {P}"], {}),
    ("FAULT", "x:p=0.1.1", [f"TALLY_FAULT x:p=0.1.1: {P}"], {}),
    ("FAULT", "x:p=0.1:seed=a", ["TALLY_FAULT x:p=0.1:seed=a: expected after seed= a number"], {}),
    ("FAULT", "x:seed=7", ["TALLY_FAULT x:seed=7: expected p=0.001 beside seed=, or nothing fails"], {}),
    ("FAULT", "x:above=much", ["TALLY_FAULT x:above=much: expected after above= a size, such as 64K"], {}),
    ("FAULT", "a//b:nth=1,x:nth=1000", [f"TALLY_FAULT a//b:nth=1: {PATH}"], {"/x": None, "/a": MISSING}),
    ("FAULT", "/tally:nth=1", [f"TALLY_FAULT /tally:nth=1: {OWN}"], {}),
    ("FAULT", "x:nth=0,y:nth=1000", [f"TALLY_FAULT x:nth=0: {NTH}"], {"/y": None, "/x": MISSING}),
]


class Report:
    """What QUIET said, and what it left in its report."""

    def __init__(self, before=(), **env):
        """`before`: a command that runs the rest of its arguments as a program."""
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "report.json")
            clean = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}
            env["TALLY_REPORT"] = path
            if LIBRARY:
                env["LD_PRELOAD"] = LIBRARY
            command = [*before, "env", *(f"{k}={v}" for k, v in env.items())] if before else []
            done = subprocess.run([*command, QUIET], env=clean if before else {**clean, **env}, timeout=60,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.code, self.lines = done.returncode, done.stderr.decode(errors="replace").splitlines()
            with open(path, "rb") as file:
                self.doc = snapshot_schema.parse(file.read())

    def limit(self, tag, which="hard_limit_bytes"):
        row = snapshot_schema.tag_named(self.doc, tag)
        return MISSING if row is None else row[which]


failures = []


def expect(condition, *what):
    if not condition:
        failures.append(what)
        print("failed:", *what)


for option, value, said, limits in CASES:
    shown = f"TALLY_{option}={value[:60]!r}:"
    report = Report(**{f"TALLY_{option}": value})
    expect(report.code == 0, shown, "exit", report.code)
    expect(report.lines == ["tally: " + line for line in said], shown, "said", report.lines)
    for tag, hard in limits.items():
        expect(report.limit(tag) == hard, shown, tag[:60], "has the limit", report.limit(tag))

# The limit of the variable holds over that of TALLY_CONF; one that is wrong leaves that.
for value, hard in [("1G", G), ("x", 2 * G)]:
    expect(Report(TALLY_CONF="limit:2G", TALLY_LIMIT=value).limit("/") == hard, "TALLY_CONF and TALLY_LIMIT", value)

# All of a part is read.
report = Report(TALLY_LIMITS="cache=512M:soft=400M")
expect(report.limit("/cache", "soft_limit_bytes") == 400 * M, "the soft limit")

# The line of tags that were made never stops within a name.
names = [f"/tag/{i}/{'x' * (i % 20)}".rstrip("/") for i in range(200)]
report = Report(TALLY_LIMITS=",".join(f"{name}=1G" for name in names))
expect(len(report.lines) == 1 and len(report.lines[0]) < 600, report.lines)
made = report.lines[0].removeprefix("tally: TALLY_LIMITS: made ").split(", ")
expect(made[-1] == "and more" and made[:-1] == names[:len(made) - 1] and len(made) > 20, made)
expect(all(report.limit(name) == G for name in names), "a limit of many is missing")

# A share is of the cgroup's limit, else of the machine's memory, which is said.
with open("/proc/meminfo") as meminfo:
    machine = int(re.search(r"MemTotal: *(\d+) kB", meminfo.read()).group(1)) * 1024
for option, value, tag, shown in [("TALLY_LIMIT", "50%", "/", "TALLY_LIMIT=50%"),
                                  ("TALLY_LIMITS", "a=50%", "/a", "TALLY_LIMITS a=50%")]:
    report = Report(**{option: value})
    lines = [line for line in report.lines if "made" not in line]
    of_machine = [line for line in lines
                  if line.startswith(f"tally: {shown}: no cgroup has a limit, so this is of the machine's memory, ")]
    expect(lines == of_machine and len(lines) <= 1, shown, "said", report.lines)
    hard = report.limit(tag)
    if lines:
        expect(abs(hard - machine // 2) < machine // 1000, shown, "is", hard, "of", machine)
    else:
        expect(0 < hard < machine // 2, shown, "is", hard, "of", machine)
report = Report(TALLY_LIMIT="1T:soft=50%")
expect(report.limit("/", "soft_limit_bytes") == hard and report.limit("/") == 1 << 40, "a share for the soft limit")

# With a cgroup's limit, shown to the program in a mount of its own where that may be made.
CGROUP = ["unshare", "-m", "sh", "-c", """mount -t tmpfs none /sys/fs/cgroup && mkdir /sys/fs/cgroup/memory &&
echo 1073741824 | tee /sys/fs/cgroup/memory.max >/sys/fs/cgroup/memory/memory.limit_in_bytes && exec "$@" """, "sh"]
if shutil.which("unshare") and subprocess.run([*CGROUP, "true"], stderr=subprocess.DEVNULL).returncode == 0:
    report = Report(before=CGROUP, TALLY_LIMIT="50%:soft=25%")
    expect(report.lines == [] and report.limit("/") == 512 * M, "of the cgroup", report.lines, report.limit("/"))
    expect(report.limit("/", "soft_limit_bytes") == 256 * M, "of the cgroup", report.limit("/", "soft_limit_bytes"))
else:
    print("no mounts may be made here: not tried with a cgroup's limit")

# A log that can be written has the lines; else stderr has them, and the reason once.
with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "log")
    with open(path, "w") as file:
        file.write("before\n")
    for _ in range(2):
        expect(Report(TALLY_LIMIT="1G:soft=0", TALLY_LOG=path).lines == [], "said beside the log")
    with open(path) as file:
        logged = file.read().splitlines()
    expect(logged[0] == "before" and len(logged) == 3, "the log is", logged)
    expect(all(line.startswith("tally: limit: / is above its soft limit: ") for line in logged[1:]), "log", logged)
    bads = [("/nonexistent/folder/log", "No such file or directory"), (folder, "Is a directory"),
            (path + "/x", "Not a directory")]
    # One's own link is followed, another user's is not.
    link = os.path.join(folder, "link")
    os.symlink(path, link)
    expect(Report(TALLY_LIMIT="1G:soft=0", TALLY_LOG=link).lines == [], "said beside the log")
    with open(path) as file:
        expect(len(file.read().splitlines()) == 4, "the link was not followed")
    if os.geteuid() == 0:
        os.lchown(link, 65534, 65534)
        with open(QUIET, "rb") as program:  # musl has a text of its own
            is_musl = b"/ld-musl" in program.read()
        bads.append((link, "Symbolic link loop" if is_musl else "Too many levels of symbolic links"))
    for bad, why in bads:
        lines = Report(TALLY_LIMIT="1G:soft=0", TALLY_LIMITS="/a=1G:soft=0", TALLY_LOG=bad).lines
        lines = [line for line in lines if "made" not in line]
        expect(lines[0] == f"tally: TALLY_LOG: cannot write {bad}: {why}", bad, lines)
        expect(len(lines) == 2 and lines[1].startswith("tally: limit: / is above its soft limit: holds "), bad, lines)

sys.exit(1 if failures else 0)
