#!/usr/bin/env python3
"""Runs programs under several allocators, side by side, and compares time, CPU and peak memory.

Every round runs each program once under each allocator, in an order that rotates, so that a noisy stretch of the
machine hits all of them. The figures are medians over the rounds. Which malloc is live is checked in every run.
Writes OUT/raw.csv (every single run, with command line, machine, versions), OUT/summary.md (the tables) and, by
plots.py, OUT/time.svg, cpu.svg, rss.svg and means.svg."""
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time

import measure
import plots
import programs
from measure import Launched, RunFailed, clean_environment, geometric_mean, markdown

GROUPS = {"single": "one thread", "multi": "several threads", "real": "real programs"}
METRICS = {"wall_s": "Time", "cpu_s": "CPU time (user + system)", "peak_rss_kib": "Peak RSS"}
FIELDS = ["round", "position", "program", "group", "allocator", "wall_s", "user_s", "system_s", "peak_rss_kib",
          "minor_faults", "requests_per_s", "half_rss_kib"]


# ---- One run

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


def delete_half(path, pid):
    """Every second key that redis-benchmark may have made; the server's RSS in KiB, a while later."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        for first in range(0, programs.REDIS_KEYS, 2000):
            keys = " ".join(f"key:{i:012}" for i in range(first, first + 2000, 2))
            s.sendall(f"DEL {keys}\r\n".encode())
            if not s.recv(64).startswith(b":"):
                raise RunFailed("redis-server does not delete")
    time.sleep(1.5)
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"^VmRSS:\s*(\d+)", status, re.M)[1])


def run_server(program, launched):
    """The client is timed, the server's CPU and memory are counted, in the end with half of the keys deleted."""
    path = program.argv[program.argv.index("--unixsocket") + 1]
    try:
        wait_for_server(path)
        start = time.monotonic()
        client = subprocess.run(program.load, env=clean_environment(), capture_output=True, text=True,
                                timeout=measure.TIMEOUT_S)
        wall = time.monotonic() - start
        if client.returncode != 0:
            raise RunFailed(f"{launched.name}: redis-benchmark: {client.stderr.strip()}")
        half = delete_half(path, launched.pid)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(path)
            s.sendall(b"SHUTDOWN NOSAVE\r\n")
            s.recv(64)
    except (RunFailed, OSError, subprocess.TimeoutExpired) as error:
        launched.stop()
        raise RunFailed(str(error)) from None
    used = launched.finish()
    return used | {"wall_s": wall, "requests_per_s": round(program.requests / wall), "half_rss_kib": half}


def run_once(program, allocator, bin_dir, extra_env):
    launched = Launched(program, allocator, bin_dir, extra_env)
    used = run_server(program, launched) if program.load else launched.finish(program.stdin)
    return used | {"cpu_s": used["user_s"] + used["system_s"]}


# ---- Tables

def medians(rows):
    """{(program, allocator): {metric: median}}"""
    cells = {}
    for row in rows:
        cells.setdefault((row["program"], row["allocator"]), []).append(row)
    return {key: {m: statistics.median(r[m] for r in runs) for m in METRICS} for key, runs in cells.items()}


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


def server_lines(rows, names):
    lines = []
    for program in dict.fromkeys(r["program"] for r in rows if r["requests_per_s"]):
        for field, words, unit in (("requests_per_s", "requests a second", 1),
                                   ("half_rss_kib", "RSS in MiB with half of the keys deleted", 1024)):
            each = [f"{name} {statistics.median(r[field] for r in mine) / unit:,.0f}" for name in names
                    if (mine := [r for r in rows if r["program"] == program and r["allocator"] == name])]
            lines.append(f"{program}, {words}: " + ", ".join(each))
    return lines


def summary(about, rows, failures, listed, names, base, rounds):
    middle = medians(rows)
    parts = [measure.as_list(about), f"Medians of {rounds} interleaved rounds."]
    parts += [table(metric, middle, listed, names, base) for metric in METRICS]
    parts += server_lines(rows, names)
    if failures:
        parts.append(measure.failed(failures))
    return "\n\n".join(parts) + "\n"


# ---- The whole

def arguments():
    parser = measure.parser(__doc__, rounds=5, only="programs or groups (single, multi, real)")
    parser.add_argument("--base", default="mimalloc", help="what the ratios are to")
    parser.add_argument("--threads", type=int, default=max(2, min(8, len(os.sched_getaffinity(0)))))
    parser.add_argument("own", nargs="*", metavar="PROGRAM",
                        help="after --: a program of your own and its arguments, in the place of all others")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE", help="for the programs")
    return parser


def main():
    args, chosen, bin_dir = measure.parsed(arguments())
    names = [a.name for a in chosen]
    base = args.base if args.base in names else names[0]
    listed, left_out, scratch = programs.listed(bin_dir, args.smoke, args.threads, args.only, args.own)
    extra_env = dict(item.split("=", 1) for item in args.env)
    for line in left_out:
        print(line, file=sys.stderr)

    failures = []
    about = measure.description(chosen) | {"base": base}
    try:
        for program in listed:
            if program.prepare:
                program.prepare()
            for allocator in chosen if program.group in ("real", "own") else []:
                message = programs.check_real(program, allocator, allocator.preload_for(program), scratch)
                if message:
                    sys.exit(f"bench: {message}")
        with measure.Table(args.out / "raw.csv", about, FIELDS) as results:
            once = lambda program, allocator: run_once(program, allocator, bin_dir, extra_env)
            for where, program, used in measure.measured(args, listed, chosen, once, failures):
                results.add(used | where | {"program": program.name, "group": program.group})
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    text = summary(about, results.rows, failures, listed, names, base, args.rounds)
    (args.out / "summary.md").write_text(text)
    print(text)
    if not args.own:  # two numbers for each allocator
        plots.draw(args.out)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
