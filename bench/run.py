#!/usr/bin/env python3
"""Runs programs under several allocators, side by side, and compares time, CPU and peak memory.

Every round runs each program once under each allocator, in an order that rotates, so that a noisy stretch of the
machine hits all of them. The figures are medians over the rounds. Which malloc is live is checked in every run.
Writes OUT/raw.csv (every single run, with command line, machine, versions) and OUT/summary.md (the tables)."""
import argparse
import csv
import datetime
import math
import os
import pathlib
import platform
import re
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time

import allocators
import programs

HERE = pathlib.Path(__file__).resolve().parent
GROUPS = {"single": "one thread", "multi": "several threads", "real": "real programs"}
METRICS = {"wall_s": "Time", "cpu_s": "CPU time (user + system)", "peak_rss_kib": "Peak RSS"}
FIELDS = ["round", "position", "program", "group", "allocator", "wall_s", "user_s", "system_s", "peak_rss_kib",
          "minor_faults", "requests_per_s"]
TIMEOUT_S = 600


class RunFailed(Exception):
    pass


# ---- One run

def clean_environment():
    """Without what would change an allocator's behaviour, unless it is asked for by --env."""
    drop = re.compile(r"LD_PRELOAD$|MALLOC_|MIMALLOC_|TCMALLOC_|TALLY_|GLIBC_TUNABLES$|BENCH_ALLOCATOR$")
    return {k: v for k, v in os.environ.items() if not drop.match(k)}


class Launched:
    """A program under bench_launch (see launch.c)."""

    def __init__(self, program, allocator, bin_dir, extra_env):
        self.name = f"{program.name} under {allocator.name}"
        preload = allocator.library if program.links_malloc else allocator.preload
        env = clean_environment() | {"BENCH_ALLOCATOR": allocator.name if not preload else preload} | program.env
        env |= extra_env
        self.report, write = os.pipe()
        self.process = subprocess.Popen(
            [bin_dir / "bench_launch", str(write), preload, *program.argv], env=env, pass_fds=[write],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        os.close(write)
        self.pid = int(os.read(self.report, 64).split(b"\n")[0].split()[1])
        if program.group == "real":  # the workloads check for themselves
            if not programs.wait_for_map(self.pid, allocator.library, time.monotonic() + 10):
                self.stop()
                raise RunFailed(f"{self.name}: {allocator.library} is not mapped in process {self.pid}")

    def stop(self):
        self.process.kill()
        self.process.communicate()

    def finish(self, stdin=""):
        try:
            _, errors = self.process.communicate(stdin, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.stop()
            raise RunFailed(f"{self.name}: not done after {TIMEOUT_S} s") from None
        with os.fdopen(self.report) as report:
            words = report.read().split()
        if not words or words[0] != "used":
            raise RunFailed(f"{self.name}: not started: {errors.strip()}")
        status, wall_ns, user_us, system_us, rss, faults = map(int, words[1:])
        if status != 0:
            raise RunFailed(f"{self.name}: {'signal' if status < 0 else 'exit code'} {abs(status)}: {errors.strip()}")
        if "ld.so: object" in errors:
            raise RunFailed(f"{self.name}: {errors.strip()}")
        return {"wall_s": wall_ns / 1e9, "user_s": user_us / 1e6, "system_s": system_us / 1e6, "peak_rss_kib": rss,
                "minor_faults": faults, "requests_per_s": ""}


def wait_for_server(path):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(path)
                s.sendall(b"PING\r\n")
                if s.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            time.sleep(0.01)
    raise RunFailed("redis-server does not answer")


def run_server(program, launched):
    """The client is timed, the server's CPU and memory are counted."""
    path = program.argv[program.argv.index("--unixsocket") + 1]
    try:
        wait_for_server(path)
        start = time.monotonic()
        client = subprocess.run(program.load, env=clean_environment(), capture_output=True, text=True,
                                timeout=TIMEOUT_S)
        wall = time.monotonic() - start
        if client.returncode != 0:
            raise RunFailed(f"{launched.name}: redis-benchmark: {client.stderr.strip()}")
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(b"SHUTDOWN NOSAVE\r\n")
            s.recv(64)
    except (RunFailed, OSError, subprocess.TimeoutExpired) as error:
        launched.stop()
        raise RunFailed(str(error)) from None
    used = launched.finish()
    return used | {"wall_s": wall, "requests_per_s": round(program.requests / wall)}


def run_once(program, allocator, bin_dir, extra_env):
    launched = Launched(program, allocator, bin_dir, extra_env)
    used = run_server(program, launched) if program.load else launched.finish(program.stdin)
    return used | {"cpu_s": used["user_s"] + used["system_s"]}


# ---- What was measured where

def output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=HERE).stdout.strip()
    except OSError:
        return ""


def description(chosen):
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
        "command": shlex.join([pathlib.Path(sys.argv[0]).name, *sys.argv[1:]]),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit,
        "machine": f"{cpu[1] if cpu else platform.machine()}, {len(os.sched_getaffinity(0))} CPUs, "
                   f"{int(memory[1]) >> 20 if memory else '?'} GiB, Linux {platform.release()}, "
                   f"THP {thp[0] if thp else 'none'}",
        "load": f"{os.getloadavg()[0]:.2f} at the start",
        "allocators": ", ".join(f"{a.name} {a.version}".removesuffix(" -") for a in chosen),
        "programs": ", ".join(f"{k} {v}" for k, v in versions.items() if v),
    }


# ---- Tables

def medians(rows):
    """{(program, allocator): {metric: median}}"""
    cells = {}
    for row in rows:
        cells.setdefault((row["program"], row["allocator"]), []).append(row)
    return {key: {m: statistics.median(r[m] for r in runs) for m in METRICS} for key, runs in cells.items()}


def geometric_mean(values):
    return math.exp(sum(math.log(v) for v in values) / len(values)) if values else None


def markdown(header, body):
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    line = lambda row: "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w)
                                         for i, (c, w) in enumerate(zip(row, widths))) + " |"
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(header), rule, *map(line, body)])


def absolute(metric, value):
    return f"{value / 1024:.1f} MiB" if metric == "peak_rss_kib" else f"{value:.3f} s"


def table(metric, middle, listed, names, base):
    """Ratios to the base allocator: a row a program, then the geometric means."""
    ratios = {}
    body = []
    for program in listed:
        of_base = middle.get((program.name, base), {}).get(metric)
        row = [program.name, absolute(metric, of_base) if of_base else "failed"]
        for name in names:
            value = middle.get((program.name, name), {}).get(metric)
            if value and of_base:
                ratios[program.name, name] = value / of_base
            row.append(f"{value / of_base:.2f}" if value and of_base else "failed")
        body.append(row)
    groups = [g for g in GROUPS if any(p.group == g for p in listed)]
    for group in [*groups, None] if len(groups) > 1 else groups:
        members = [p.name for p in listed if group in (None, p.group)]
        row = [f"**{GROUPS[group] if group else 'all'} ({len(members)})**", ""]
        for name in names:
            known = [ratios[m, name] for m in members if (m, name) in ratios]
            mean = geometric_mean(known)
            # A mean over fewer programs than the others' is no comparison.
            row.append(f"**{mean:.2f}**" if mean and len(known) == len(members) else "n/a")
        body.append(row)
    return f"### {METRICS[metric]}, ratio to {base}\n\n" + markdown(["program", base, *names], body)


def throughput_lines(rows, names):
    lines = []
    for program in dict.fromkeys(r["program"] for r in rows if r["requests_per_s"]):
        each = [f"{name} {statistics.median(r['requests_per_s'] for r in mine):,.0f}" for name in names
                if (mine := [r for r in rows if r["program"] == program and r["allocator"] == name])]
        lines.append(f"{program}, requests a second: " + ", ".join(each))
    return lines


def summary(about, rows, failures, listed, names, base, rounds):
    middle = medians(rows)
    parts = ["\n".join(f"- {key}: {value}" for key, value in about.items()), f"Medians of {rounds} interleaved rounds."]
    parts += [table(metric, middle, listed, names, base) for metric in METRICS]
    parts += throughput_lines(rows, names)
    if failures:
        parts.append("Failed:\n" + "\n".join(f"- {line}" for line in dict.fromkeys(failures)))
    return "\n\n".join(parts) + "\n"


# ---- The whole

def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default=str(HERE.parent / "build" / "release"), help="build folder")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--allocators", default=",".join(allocators.NAMES), help="comma-separated, of these")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="another allocator's library")
    parser.add_argument("--base", default="mimalloc", help="what the ratios are to")
    parser.add_argument("--only", default="", help="comma-separated programs or groups (single, multi, real)")
    parser.add_argument("--threads", type=int, default=max(2, min(8, len(os.sched_getaffinity(0)))))
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the programs")
    parser.add_argument("--out", default=str(HERE / "results" / "local"), help="folder for the results")
    parser.add_argument("--smoke", action="store_true",
                        help="one round of almost no work, with the peers that are installed")
    return parser.parse_args()


def main():
    # Ended by a signal, too, it cleans up; the programs end with it (see launch.c).
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))
    args = arguments()
    names = [n for n in args.allocators.split(",") if n]
    chosen = allocators.find(names, args.build, args.peer, skip_missing=args.smoke)
    names = [a.name for a in chosen]
    base = args.base if args.base in names else names[0]
    rounds = 1 if args.smoke else args.rounds
    listed, left_out, scratch = programs.listed(args.build, args.smoke, args.threads,
                                                [n for n in args.only.split(",") if n])
    bin_dir = pathlib.Path(args.build).resolve() / "bin"
    extra_env = dict(item.split("=", 1) for item in args.env)
    out = pathlib.Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    for line in left_out:
        print(line, file=sys.stderr)

    rows, failures = [], []
    about = description(chosen)
    try:
        for program in listed:
            for allocator in chosen if program.group == "real" else []:
                preload = allocator.library if program.links_malloc else allocator.preload
                message = programs.check_real(program, allocator, preload, scratch)
                if message:
                    sys.exit(f"bench: {message}")
        with open(out / "raw.csv", "w", newline="") as file:
            file.writelines(f"# {key}: {value}\n" for key, value in about.items())
            writer = csv.DictWriter(file, FIELDS, extrasaction="ignore", lineterminator="\n")
            writer.writeheader()
            for round_number in range(rounds):
                for number, program in enumerate(listed):
                    shift = (round_number + number) % len(chosen)
                    for position, allocator in enumerate(chosen[shift:] + chosen[:shift]):
                        try:
                            used = run_once(program, allocator, bin_dir, extra_env)
                        except RunFailed as error:
                            failures.append(str(error))
                            print(f"bench: {error}", file=sys.stderr)
                            continue
                        rows.append(used | {"round": round_number + 1, "position": position, "program": program.name,
                                            "group": program.group, "allocator": allocator.name})
                        writer.writerow(rows[-1])
                        file.flush()
                if not args.smoke:
                    print(f"round {round_number + 1} of {rounds} done", file=sys.stderr)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    text = summary(about, rows, failures, listed, names, base, rounds)
    (out / "summary.md").write_text(text)
    print(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
