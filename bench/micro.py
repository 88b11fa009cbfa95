#!/usr/bin/env python3
"""Runs bench_micro, each operation by itself, under every allocator: the same binary, interleaved rounds.

Writes OUT/micro.csv (every benchmark of every round, with command line, machine, versions) and OUT/micro.md: medians in
nanoseconds an operation, of all threads together where there are several."""
import json
import pathlib
import re
import statistics
import sys
import tempfile

import measure
import programs

FIELDS = ["round", "position", "allocator", "benchmark", "ns", "cpu_ns", "iterations"]
UNITS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}
# Not the snapshot of 1 GiB, nor batches of 100,000.
SMOKE = ["--benchmark_min_time=0.001", "--benchmark_filter=-/1024$|/128$|100000|1000000|limit:[0-9]{6,}"]


def run_once(allocator, bin_dir, options):
    """[{benchmark, ns, cpu_ns, iterations}]"""
    with tempfile.TemporaryDirectory(prefix="tally-bench-") as scratch:
        # Its own report names the machine and the binary's folder, so only the figures are kept.
        report = pathlib.Path(scratch, "report.json")
        argv = [str(bin_dir / "bench_micro"), f"--benchmark_out={report}", "--benchmark_out_format=json", *options]
        measure.Launched(programs.Program("bench_micro", "micro", argv), allocator, bin_dir, {}).finish()
        benchmarks = json.loads(report.read_text())["benchmarks"]
    rows = []
    for each in benchmarks:
        if each.get("error_occurred"):
            raise measure.RunFailed(f"{each['name']} under {allocator.name}: {each['error_message']}")
        # Google Benchmark's rate is by real time where the name says so, else by CPU time.
        real, cpu = (each[time] * UNITS[each["time_unit"]] for time in ("real_time", "cpu_time"))
        operations = each["items_per_second"] * (real if "/real_time" in each["name"] else cpu) / 1e9
        name = re.sub(r"order:\d", each.get("label", ""), each["name"].replace("/real_time", ""))
        rows.append({"benchmark": name, "ns": real / operations,
                     "cpu_ns": cpu / operations, "iterations": each["iterations"]})
    return rows


def table(rows, names):
    values = {}
    for row in rows:
        values.setdefault(row["benchmark"], {}).setdefault(row["allocator"], []).append(row["ns"])
    body = [[benchmark, *(measure.figure(statistics.median(of[name]) if name in of else None) for name in names)]
            for benchmark, of in values.items()]
    return measure.markdown(["ns an operation", *names], body)


def main():
    made = measure.parser(__doc__, rounds=3, only="benchmarks, as their names begin")
    args, chosen, bin_dir = measure.parsed(made)
    if not (bin_dir / "bench_micro").exists():
        sys.exit("bench: no bench_micro: Google Benchmark was not found when this was built "
                 "(apt-get install libbenchmark-dev)")
    options = SMOKE if args.smoke else ["--benchmark_min_time=0.2"]
    if args.only:
        options = options[:1] + [f"--benchmark_filter=^({'|'.join(args.only)})"]
    about = measure.description(chosen)
    failures = []
    with measure.Table(args.out / "micro.csv", about, FIELDS) as results:
        once = lambda _, allocator: run_once(allocator, bin_dir, options)
        for where, _, rows in measure.measured(args, [None], chosen, once, failures):
            for row in rows:
                results.add(row | where)
    parts = [measure.as_list(about), f"Medians of {args.rounds} interleaved rounds; n/a: Tally alone has it.",
             table(results.rows, [a.name for a in chosen])]
    if failures:
        parts.append(measure.failed(failures))
    text = "\n\n".join(parts) + "\n"
    (args.out / "micro.md").write_text(text)
    print(text)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
