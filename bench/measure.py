"""What the scripts that measure share: options, running one program under one allocator, rounds, what was measured
where, CSV files and tables."""
import argparse
import csv
import datetime
import math
import os
import pathlib
import platform
import re
import shlex
import signal
import subprocess
import sys
import time

import allocators
import programs

HERE = pathlib.Path(__file__).resolve().parent
TIMEOUT_S = 600


class RunFailed(Exception):
    pass


# ---- Options

def parser(doc, rounds, only):
    """With the options that every script has. `only`: what --only selects; a smoke run has one round."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--build", default=str(HERE.parent / "build" / "release"), help="build folder")
    made.add_argument("--rounds", type=int, default=rounds)
    made.add_argument("--allocators", default=",".join(allocators.NAMES), help="comma-separated, of these")
    made.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="another allocator's library")
    made.add_argument("--only", default="", help=f"comma-separated {only}")
    made.add_argument("--out", default=str(HERE / "results" / "local"), help="folder for the results")
    made.add_argument("--smoke", action="store_true",
                      help="one round of almost no work, with the peers that are installed")
    return made


def parsed(made):
    """The options, the allocators and the folder of the binaries; OUT is made."""
    # Ended by a signal, too, a script cleans up; the programs end with it (see launch.c).
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    args = made.parse_args()
    args.only = [name for name in args.only.split(",") if name]
    args.out = pathlib.Path(args.out)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.smoke:
        args.rounds = 1
    bin_dir = pathlib.Path(args.build).resolve() / "bin"
    if not (bin_dir / "bench_launch").exists():
        sys.exit(f"bench: {bin_dir} has no benchmarks; build them first (tools/dev build)")
    names = [name for name in args.allocators.split(",") if name]
    return args, allocators.find(names, args.build, args.peer, skip_missing=args.smoke), bin_dir


# ---- One run

def clean_environment():
    """Without what would change an allocator's behaviour, unless it is asked for by --env."""
    drop = re.compile(r"LD_PRELOAD$|MALLOC_|MIMALLOC_|TCMALLOC_|TALLY_|GLIBC_TUNABLES$|BENCH_ALLOCATOR$")
    return {k: v for k, v in os.environ.items() if not drop.match(k)}


class Launched:
    """A program under bench_launch (see launch.c)."""

    def __init__(self, program, allocator, bin_dir, extra_env, stdout=subprocess.DEVNULL):
        self.name = f"{program.name} under {allocator.name}"
        preload = allocator.preload_for(program)
        env = clean_environment() | {"BENCH_ALLOCATOR": allocator.library if preload else allocator.name}
        env |= allocator.environment | program.env | extra_env
        read, write = os.pipe()
        self.report = os.fdopen(read)  # buffered, for a short program's last line may be there with its first
        self.process = subprocess.Popen(
            [bin_dir / "bench_launch", str(write), preload, *program.argv], env=env, pass_fds=[write],
            stdin=subprocess.PIPE, stdout=stdout, stderr=subprocess.PIPE, text=True)
        os.close(write)
        self.pid = int(self.report.readline().split()[1])
        self.output = ""
        if program.group == "real":  # the workloads check for themselves
            if not programs.wait_for_map(self.pid, allocator.library, time.monotonic() + 10):
                self.stop()
                raise RunFailed(f"{self.name}: {allocator.library} is not mapped in process {self.pid}")

    def stop(self):
        self.process.kill()
        self.process.communicate()

    def finish(self, stdin=""):
        try:
            self.output, errors = self.process.communicate(stdin, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.stop()
            raise RunFailed(f"{self.name}: not done after {TIMEOUT_S} s") from None
        with self.report as report:
            words = report.read().split()
        if not words or words[0] != "used":
            raise RunFailed(f"{self.name}: not started: {errors.strip()}")
        status, wall_ns, user_us, system_us, rss, faults = map(int, words[1:])
        if status != 0:
            raise RunFailed(f"{self.name}: {'signal' if status < 0 else 'exit code'} {abs(status)}: {errors.strip()}")
        if "ld.so: object" in errors:
            raise RunFailed(f"{self.name}: {errors.strip()}")
        return {"wall_s": wall_ns / 1e9, "user_s": user_us / 1e6, "system_s": system_us / 1e6, "peak_rss_kib": rss,
                "minor_faults": faults, "requests_per_s": "", "half_rss_kib": ""}


def interleaved(args, items, chosen):
    """({round, position}, item, allocator): every item under each allocator in every round, in an order that rotates,
    so that a noisy stretch of the machine hits all of them."""
    for round_number in range(args.rounds):
        for number, item in enumerate(items):
            shift = (round_number + number) % len(chosen)
            for position, allocator in enumerate(chosen[shift:] + chosen[:shift]):
                yield {"round": round_number + 1, "position": position}, item, allocator
        if not args.smoke:
            print(f"round {round_number + 1} of {args.rounds} done", file=sys.stderr)


def measured(args, items, chosen, run_once, failures):
    """As interleaved: ({round, position, allocator}, item, what run_once(item, allocator) gave). A run that fails is said,
    added to the failures, and left out."""
    for where, item, allocator in interleaved(args, items, chosen):
        try:
            result = run_once(item, allocator)
        except RunFailed as error:
            failures.append(str(error))
            print(f"bench: {error}", file=sys.stderr)
            continue
        yield where | {"allocator": allocator.name}, item, result


# ---- What was measured where

def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=HERE).stdout.strip()
    except OSError:
        return ""


def description(chosen):
    command = shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]])
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)
    thp = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
    thp = re.findall(r"\[(\w+)\]", thp.read_text()) if thp.exists() else []
    commit = output("git", "rev-parse", "--short=12", "HEAD") or "unknown"
    if output("git", "status", "--porcelain", "--untracked-files=no"):
        commit += " with changes"
    versions = {"g++": output("g++", "-dumpfullversion"), "python3": platform.python_version(),
                "perl": output("perl", "-e", "print $^V"), "node": output("node", "--version"),
                "sqlite3": output("sqlite3", "--version").split(" ")[0],
                "redis": (re.findall(r"v=(\S+)", output("redis-server", "--version")) or [""])[0]}
    return {
        "command": command.replace(f"{HERE.parent}{os.sep}", ""),  # the same wherever the project lies
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit,
        "machine": f"{cpu[1] if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, "
                   f"{int(memory[1]) >> 20 if memory else '?'} GiB, Linux {platform.release()}, "
                   f"THP {thp[0] if thp else 'none'}",
        "load": f"{os.getloadavg()[0]:.2f} at the start",
        "allocators": ", ".join(f"{a.name} {a.version}".removesuffix(" -") for a in chosen),
        "programs": ", ".join(f"{k} {v}" for k, v in versions.items() if v),
    }


def as_list(about):
    return "\n".join(f"- {key}: {value}" for key, value in about.items())


# ---- CSV files: comment lines with the description, then a header and a line a run

class Table:
    """A CSV file that is written as the runs end, so that an interrupted measurement leaves what it has."""

    def __init__(self, path, about, fields):
        self.rows = []
        self.file = open(path, "w", newline="")
        self.file.writelines(f"# {key}: {value}\n" for key, value in about.items())
        self.writer = csv.DictWriter(self.file, fields, extrasaction="ignore", lineterminator="\n")
        self.writer.writeheader()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def add(self, row):
        self.rows.append(row)
        self.writer.writerow(row)
        self.file.flush()


def read_table(path):
    """(description, rows of text)"""
    with open(path, newline="") as file:
        lines = file.read().splitlines()
    comments = [line for line in lines if line.startswith("# ")]
    about = dict(line[2:].split(": ", 1) for line in comments)
    return about, list(csv.DictReader(line for line in lines if not line.startswith("# ")))


# ---- Text

def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def markdown(header, body):
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    line = lambda row: "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w)
                                         for i, (c, w) in enumerate(zip(row, widths))) + " |"
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *map(line, body)])


def figure(value):
    """With three significant digits."""
    if value is None:
        return "n/a"
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def failed(failures):
    return "Failed:\n" + "\n".join(f"- {line}" for line in dict.fromkeys(failures))
