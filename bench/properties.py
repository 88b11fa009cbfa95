#!/usr/bin/env python3
"""Measures what the times of whole programs do not show: how the time of an operation grows with the heap, what is kept
after a peak and by threads, the slowest calls, what tags cost.

Small programs (workloads/), each under each allocator in every round, interleaved as in run.py; each checks which
malloc is live. The figures are medians over the rounds, in the units named. Writes OUT/properties.csv (every figure of
every run, with command line, machine, versions), OUT/properties.md (the tables) and, by plots.py, OUT/growth.svg,
after_peak.svg and latency.svg."""
import dataclasses
import statistics
import subprocess
import sys

import measure
import plots
import programs

FIELDS = ["round", "position", "property", "allocator", "metric", "point", "unit", "value"]


@dataclasses.dataclass
class Property:
    name: str
    title: str
    modes: list = dataclasses.field(default_factory=lambda: [""])  # a process each


PROPERTIES = [
    Property("growth", "Random replacement (a free and a malloc, 16 to 512 bytes) by live size"),
    Property("producer_consumer", "One thread allocates, another frees (16 to 1024 bytes)"),
    Property("many_threads", "Many threads", ["idle", "churn"]),
    Property("tags", "Tags (under the others they do nothing)",
             ["small-1", "small-64", "large-1", "large-64", "time", "idle"]),
    Property("after_peak", "What is kept after a peak of 2 GiB, of which 95 % is freed"),
    Property("latency", "Single calls, 2 threads; the maximum includes preemption by other processes"),
]


def run_once(item, allocator, bin_dir, work):
    """Its figures: [{metric, point, unit, value}]"""
    wanted, mode = item
    argv = [str(bin_dir / f"bench_{wanted.name}"), f"--work={work}", *([f"--mode={mode}"] if mode else [])]
    program = programs.Program(f"{wanted.name} {mode}".strip(), "property", argv)
    launched = measure.Launched(program, allocator, bin_dir, {}, stdout=subprocess.PIPE)
    launched.finish()
    try:
        lines = [dict(zip(FIELDS[4:], line.split(","), strict=True)) for line in launched.output.splitlines()]
        return [line | {"property": wanted.name, "value": float(line["value"])} for line in lines]
    except ValueError:
        raise measure.RunFailed(f"{launched.name}: unexpected output: {launched.output}") from None


def table(wanted, rows, names):
    """A row a figure, a column an allocator."""
    values = {}
    for row in rows:
        if row["property"] == wanted.name:
            label = f"{row['metric']}: {row['point']}".removesuffix(": ") + f", {row['unit']}"
            values.setdefault(label, {}).setdefault(row["allocator"], []).append(row["value"])
    body = [[label, *(measure.figure(statistics.median(of[name]) if name in of else None) for name in names)]
            for label, of in values.items()]
    return f"### {wanted.title}\n\n" + measure.markdown([f"`{wanted.name}`", *names], body)


def chosen_properties(only):
    unknown = set(only) - {p.name for p in PROPERTIES}
    if unknown:
        sys.exit(f"bench: no property {', '.join(sorted(unknown))}; known: " + ", ".join(p.name for p in PROPERTIES))
    return [p for p in PROPERTIES if not only or p.name in only]


def main():
    args, chosen, bin_dir = measure.parsed(measure.parser(__doc__, rounds=5, only="properties, as growth,tags"))
    wanted = chosen_properties(args.only)
    items = [(each, mode) for each in wanted for mode in each.modes]
    about = measure.description(chosen)
    failures = []
    with measure.Table(args.out / "properties.csv", about, FIELDS) as results:
        once = lambda item, allocator: run_once(item, allocator, bin_dir, 1 if args.smoke else 100)
        for where, _, figures in measure.measured(args, items, chosen, once, failures):
            for figure in figures:
                results.add(figure | where)
    parts = [measure.as_list(about), f"Medians of {args.rounds} interleaved rounds; n/a: not measured."]
    parts += [table(each, results.rows, [a.name for a in chosen]) for each in wanted]
    if failures:
        parts.append(measure.failed(failures))
    text = "\n\n".join(parts) + "\n"
    (args.out / "properties.md").write_text(text)
    print(text)
    plots.draw(args.out)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
