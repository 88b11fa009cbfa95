#!/usr/bin/env python3
"""Draws what run.py and properties.py measured, from their CSV files: python3 bench/plots.py OUT

  raw.csv         time.svg, cpu.svg, rss.svg: each program in ratio to the base allocator; means.svg: what they come to
  properties.csv  growth.svg, after_peak.svg, latency.svg

Needs Debian's python3-matplotlib; without it nothing is drawn, and that is said."""
import importlib.util
import math
import os
import pathlib
import statistics
import subprocess
import sys

import measure

MISSING = "no plots: python3-matplotlib is not installed (apt-get install python3-matplotlib)"
DEBIAN_PYTHON = "/usr/bin/python3"  # another one first on PATH does not see Debian's packages

# Each darker than the one before, so that they can be told apart in grey; the hues (Okabe and Ito's) by people who are
# blind to some colours. The markers are for lines.
STYLES = {"glibc": ("#c9c9c9", "s"), "jemalloc": ("#7cc0ea", "^"), "mimalloc": ("#dd8a00", "D"),
          "tcmalloc": ("#00705a", "v"), "tally": ("#000000", "o"), "live": ("#ffffff", "")}
OTHERS = [("#cc79a7", "P"), ("#f0e442", "X"), ("#0072b2", "*")]
GROUPS = {"single": "one thread", "multi": "several threads", "real": "real programs"}


# ---- What all plots share

def styles(names):
    others = iter(OTHERS * 9)
    return {name: STYLES.get(name) or next(others) for name in names}


def in_order(rows, field):
    return list(dict.fromkeys(row[field] for row in rows))


def allocators_of(rows):
    """In the order of STYLES whichever ran first, then others."""
    found = in_order(rows, "allocator")
    return [n for n in STYLES if n in found] + [n for n in found if n not in STYLES]


def medians(rows, key, value):
    """{key(row): median of value(row)}"""
    groups = {}
    for row in rows:
        groups.setdefault(key(row), []).append(value(row))
    return {k: statistics.median(v) for k, v in groups.items()}


def plain(value, _=None):
    return f"{value:,.0f}" if value >= 10 else f"{value:.3g}"


def figure(width, height, title):
    from matplotlib.figure import Figure  # pyplot would look for a display
    made = Figure(figsize=(width, height), layout="constrained")
    axes = made.subplots()
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", pad=24)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=.6)
    axes.set_axisbelow(True)
    return made, axes


def bars(axes, groups, names, height_of, starts_at):
    """A group of bars at each (x, key), a bar for each name."""
    width = .8 / len(names)
    for number, (name, (colour, _)) in enumerate(styles(names).items()):
        known = [(x, h) for x, key in groups if (h := height_of(key, name))]
        axes.bar([x + (number - (len(names) - 1) / 2) * width for x, _ in known], [h - starts_at for _, h in known],
                 width, bottom=starts_at, color=colour, edgecolor="#444444", linewidth=.4, label=name)


def legend(axes, count):
    axes.legend(ncols=count, frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0, 1), borderpad=.3,
                borderaxespad=0, handlelength=1.4, columnspacing=1.2)


def save(made, out, name):
    import matplotlib
    # The same figures give the same file. Text stays text: it can be searched, and the file is small.
    with matplotlib.rc_context({"svg.hashsalt": "tally", "svg.fonttype": "none"}):
        made.savefig(out / name, metadata={"Date": None, "Creator": None})
    return name


# ---- run.py

def mean_ratios(ratio, rows, names):
    """{(title, name): geometric mean} of the groups and of all; none over fewer programs than the others'."""
    means = {}
    groups = [g for g in GROUPS if any(r["group"] == g for r in rows)]
    for group in [*groups, None] if len(groups) > 1 else groups:
        members = in_order([r for r in rows if group in (None, r["group"])], "program")
        for name in names:
            known = [ratio[m, name] for m in members if (m, name) in ratio]
            if len(known) == len(members):
                means[GROUPS.get(group, "all"), name] = measure.geometric_mean(known)
    return means


def ratios(rows, base, out, name, title, value):
    """The programs' medians in ratio to the base's, which is the line at 1, and their geometric means."""
    middle = medians(rows, lambda r: (r["program"], r["allocator"]), value)
    ratio = {(p, a): v / middle[p, base] for (p, a), v in middle.items() if v > 0 and middle.get((p, base), 0) > 0}
    names = [a for a in allocators_of(rows) if a != base]
    means = mean_ratios(ratio, rows, names)
    places, x = [], 0
    for group in in_order(rows, "group"):
        for program in in_order([r for r in rows if r["group"] == group], "program"):
            places.append((x, program))
            x += 1
        x += .6
    first_mean = x
    for mean in dict.fromkeys(title for title, _ in means):
        places.append((x, mean))
        x += 1
    if not names or not ratio:
        return []
    made, axes = figure(max(5, 2 + .36 * len(places)), 4.6, title)
    axes.set_yscale("log", base=2)
    bars(axes, places, names, lambda key, a: means.get((key, a)) or ratio.get((key, a)), 1)
    axes.axhline(1, color="#444444", linewidth=.8)
    axes.axvline(first_mean - .8, color="#888888", linewidth=.6)
    axes.set_xticks([x for x, _ in places], [key if x < first_mean else f"mean, {key}" for x, key in places],
                    rotation=60, ha="right", rotation_mode="anchor", fontsize=9)
    for (x, _), label in zip(places, axes.get_xticklabels()):
        label.set_fontweight("bold" if x >= first_mean else "normal")
    axes.set_xlim(-.7, places[-1][0] + .7)
    axes.set_ylabel(f"ratio to {base} (log), less is better")
    axes.yaxis.set_major_formatter(plain)
    legend(axes, len(names))
    return [save(made, out, name)]


def means(rows, base, out):
    """The geometric means alone, of time by group, and of memory: a picture for who reads no more."""
    names = allocators_of(rows)
    wall = lambda r: float(r["wall_s"])
    memory = lambda r: float(r["peak_rss_kib"])
    places, height = [], {}
    for what, value, groups in [("time", wall, [*GROUPS.values(), "all"]), ("peak memory", memory, ["all"])]:
        middle = medians(rows, lambda r: (r["program"], r["allocator"]), value)
        ratio = {(p, a): v / middle[p, base] for (p, a), v in middle.items() if v > 0 and middle.get((p, base), 0) > 0}
        of_group = mean_ratios(ratio, rows, names)
        for group in groups:
            places.append((len(places), f"{what},\n{group}"))
            height |= {(places[-1][1], name): of_group.get((group, name)) for name in names}
    if len(names) < 2 or not any(height.values()):
        return []
    made, axes = figure(7.5, 3.2, f"{len(in_order(rows, 'program'))} programs, ratio to {base}, less is better")
    bars(axes, places, names, lambda key, a: height[key, a], 0)
    axes.axhline(1, color="#444444", linewidth=.8)
    axes.set_xticks([x for x, _ in places], [title for _, title in places], fontsize=9)
    axes.tick_params(axis="x", length=0)
    axes.set_ylabel("geometric mean")
    legend(axes, len(names))
    return [save(made, out, "means.svg")]


def programs(out):
    about, rows = measure.read_table(out / "raw.csv")
    names = allocators_of(rows)
    if not names:
        return []
    base = about.get("base") or ("mimalloc" if "mimalloc" in names else names[0])
    cpu = lambda r: float(r["user_s"]) + float(r["system_s"])
    return (means(rows, base, out)
            + ratios(rows, base, out, "time.svg", "Time", lambda r: float(r["wall_s"]))
            + ratios(rows, base, out, "cpu.svg", "CPU time", cpu)
            + ratios(rows, base, out, "rss.svg", "Peak RSS", lambda r: float(r["peak_rss_kib"])))


# ---- properties.py

def growth(rows, out):
    mine = [r for r in rows if r["property"] == "growth" and r["metric"] == "replacement"]
    if not mine:
        return []
    size = lambda r: float(r["point"].split()[0])  # MiB
    middle = medians(mine, lambda r: (r["allocator"], size(r)), lambda r: float(r["value"]))
    made, axes = figure(6.5, 4.2, "Random replacement of blocks of 16 to 512 bytes")
    names = allocators_of(mine)
    for name, (colour, marker) in styles(names).items():
        points = sorted((s, v) for (a, s), v in middle.items() if a == name)
        axes.plot(*zip(*points), color=colour, marker=marker, label=name, linewidth=2.4 if name == "tally" else 1.4,
                  markersize=6, markeredgecolor="#444444", markeredgewidth=.4, zorder=3 if name == "tally" else 2)
    axes.set_xscale("log", base=2)
    sizes = sorted({s for _, s in middle})
    axes.set_xticks(sizes, [plain(s) + " MiB" if s < 1024 else plain(s / 1024) + " GiB" for s in sizes], rotation=30)
    axes.minorticks_off()
    axes.set_ylim(0)
    axes.set_xlabel("live size")
    axes.set_ylabel("ns for a free and a malloc")
    legend(axes, len(names))
    return [save(made, out, "growth.svg")]


def grouped(rows, out, name, title, unit, logarithmic=False):
    """A group of bars for each point."""
    if not rows:
        return []
    middle = medians(rows, lambda r: (r["point"], r["allocator"]), lambda r: float(r["value"]))
    points, names = in_order(rows, "point"), allocators_of(rows)
    made, axes = figure(max(6.5, 1.5 + .95 * len(points)), 4.2, title)
    start = 0
    if logarithmic:
        axes.set_yscale("log")
        start = 10 ** math.floor(math.log10(min((v for v in middle.values() if v > 0), default=1)))
    bars(axes, list(enumerate(points)), names, lambda key, a: middle.get((key, a)), start)
    axes.set_xticks(range(len(points)), points, fontsize=9)
    axes.tick_params(axis="x", length=0)
    axes.yaxis.set_major_formatter(plain)
    axes.set_ylabel(unit)
    legend(axes, len(names))
    return [save(made, out, name)]


def properties(out):
    _, rows = measure.read_table(out / "properties.csv")
    peak = [r for r in rows if r["property"] == "after_peak" and r["metric"] == "RSS"]
    live = [r | {"allocator": "live"} for r in rows if r["property"] == "after_peak" and r["metric"] == "live"]
    calls = [r | {"point": f"{r['metric']}\n{r['point']}"} for r in rows if r["property"] == "latency"]
    return (growth(rows, out)
            + grouped(peak + live, out, "after_peak.svg", "RSS after a peak, and what is live", "MiB")
            + grouped(calls, out, "latency.svg", "Single calls of malloc and free", "ns (log)", logarithmic=True))


# ---- The whole

def draw(out):
    """Redraws everything that there are CSV files for, and says what."""
    out = pathlib.Path(out)
    if (importlib.util.find_spec("matplotlib") is None and sys.executable != DEBIAN_PYTHON
            and os.path.exists(DEBIAN_PYTHON)):
        subprocess.run([DEBIAN_PYTHON, "-B", __file__, str(out)], check=True)
        return
    try:
        import matplotlib
    except ImportError:
        print(MISSING, file=sys.stderr)
        return
    matplotlib.use("svg")
    drawn = [name for file, draw_it in [("raw.csv", programs), ("properties.csv", properties)]
             if (out / file).exists() for name in draw_it(out)]
    print(f"plots: {', '.join(drawn) or 'nothing to draw'}", file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: plots.py OUT")
    draw(sys.argv[1])
