"""A server under load for a while, and whether anything of it grows: soak_test.py SERVER [LIBRARY] [OPTION...]

    --seconds N     how long at least (10)
    --slack N       how much a series may grow in its second half, in hundredths of its mean (2)
    --report FILE   the series, a line a sample, for plots; and the parts of the ledger, which tell what grew
    --hardened      LIBRARY is libtally-hardened.so
    --expect-leak   the server leaks, and that this is found is what is tested

The server audits its own books, to the byte, several times a second. Here its memory, Tally's metadata, descriptors,
mappings and threads, the record, and what of its memory the record's ledger does not explain are looked at from
outside. Of each the second half must lie level: the straight line that fits it best may rise by no more than a part of
the mean and a fixed amount, and what the scatter about the line can account for."""
import argparse
import math
import os
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import record
import residual

# What each may grow by beyond its part: threads that come and go take a stack, a fork a descriptor, and a reader of tags who is
# kept from the processor makes new tags take new ids.
FIXED = {"rss": 2 << 20, "metadata": 1 << 20, "descriptors": 2, "mappings": 8, "threads": 3, "tags": 30, "left_out": 0.5,
         "unexplained": 4 << 20}


LOOKS = 30  # at least, to judge by


def rise(series):
    """Of the straight line through the second half, from its start to its end; its standard error; and the mean."""
    half = series[len(series) // 2:]
    mean_at, mean = (sum(column) / len(half) for column in zip(*half))
    spread = sum((at - mean_at) ** 2 for at, _ in half)
    slope = sum((at - mean_at) * (value - mean) for at, value in half) / spread
    scatter = sum((value - mean - slope * (at - mean_at)) ** 2 for at, value in half) / (len(half) - 2)
    duration = half[-1][0] - half[0][0]
    return slope * duration, math.sqrt(scatter / spread) * duration, mean


def count_lines(path):
    with open(path) as file:
        return sum(1 for _ in file)


class Watched:
    def __init__(self, arguments, server_arguments):
        env = {name: value for name, value in os.environ.items() if not name.startswith("TALLY") and name != "LD_PRELOAD"}
        env.update(TALLY_RECORD="1", TALLY_RECORD_MS="200", TALLY_SAMPLE="32K", TALLY_GUARD="1/20", TALLY_LIMIT="2G",
                   TALLY_LOG="/dev/null")
        if arguments.hardened:
            env["TEST_HARDENED"] = "1"
            del env["TALLY_GUARD"]  # a guarded block is of no class, which the server could not tell there
        if arguments.library:
            env["LD_PRELOAD"] = os.path.abspath(arguments.library)
        self.process = subprocess.Popen([arguments.server, *server_arguments], env=env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        self.path = record.path_of(self.pid)
        self.audits = []
        self.highest = 0  # of the ids of its tags
        self.ids = []     # that, at each look
        self.series = {name: [] for name in FIXED}
        self.begun = time.monotonic()
        self.report = open(arguments.report, "w") if arguments.report else None
        if self.report:
            print("seconds", *FIXED, "ids", *residual.PARTS, file=self.report)
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.audits.append(line.split())
            self.highest = int(dict(zip(self.audits[-1][::2], self.audits[-1][1::2])).get("ids", self.highest))

    def fresh(self):
        """Its record as soon as it is published anew: what lies beside it is of that moment too."""
        last, until = record.Record(self.path).sequence, time.monotonic() + 1
        while (found := record.Record(self.path)).sequence == last and time.monotonic() < until:
            time.sleep(0.005)
        return found

    def look(self):
        """What it holds now; nothing while its record does not tell."""
        proc = f"/proc/{self.pid}"
        try:
            found = self.fresh()
            size = os.stat(self.path).st_size
            with open(f"{proc}/statm") as file:
                rss = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
            now = {"rss": rss, "metadata": found.ledger["metadata"], "descriptors": len(os.listdir(f"{proc}/fd")),
                   "mappings": count_lines(f"{proc}/maps"), "threads": len(os.listdir(f"{proc}/task")),
                   "tags": len(found.tags) + found.tags_left_out, "left_out": found.tags_left_out,
                   "unexplained": residual.residual(found, self.pid)[0]}
        except (OSError, record.Invalid):
            return
        assert size == record.FILE_BYTES, f"the record has {size} bytes"
        self.ids.append(self.highest)
        for name, value in now.items():
            self.series[name].append((time.monotonic(), value))
        if self.report:
            parts = [found.ledger[part] for part in residual.PARTS]
            print(f"{time.monotonic() - self.begun:.1f}", *now.values(), self.ids[-1], *parts, file=self.report, flush=True)

    def watch(self, seconds):
        pause = min(5, max(0.1, seconds / 1000))
        while self.process.poll() is None and (time.monotonic() - self.begun < seconds or
                                               len(self.series["rss"]) < LOOKS):
            time.sleep(pause)
            self.look()
        self.process.stdin.close()
        self.process.wait()
        self.reader.join()
        assert self.process.returncode == 0, f"the server ended with {self.process.returncode}"
        assert self.audits and self.audits[-1] == ["done"], self.audits[-1:]
        assert not os.path.exists(self.path), "its record is still there"


def judge(watched, slack):
    """What rose by more than it may."""
    found = []
    ids = watched.ids[len(watched.ids) // 2:]
    print(f"ids: from {ids[0]} to {ids[-1]}")  # which a step of the metadata may be: each takes a tag and a name
    rss = rise(watched.series["rss"])[2]
    for name, series in watched.series.items():
        by, error, mean = rise(series)
        # What is not explained lies about zero, so that its own mean says nothing: it is a part of RSS.
        bound = (rss if name == "unexplained" else mean) * slack / 100 + FIXED[name] + 2 * error
        half = [value for _, value in series[len(series) // 2:]]
        print(f"{name}: mean {mean:.0f}, from {min(half)} to {max(half)}, rises by {by:.1f}, may by {bound:.1f}")
        if by > bound:
            found.append(name)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("server")
    parser.add_argument("library", nargs="?")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--slack", type=float, default=2)
    parser.add_argument("--report")
    parser.add_argument("--hardened", action="store_true")
    parser.add_argument("--expect-leak", action="store_true")
    arguments = parser.parse_args()
    watched = Watched(arguments, ["--leak", str(16 << 20)] if arguments.expect_leak else [])
    watched.watch(arguments.seconds)
    count, last = len(watched.series["rss"]), watched.audits[-2]  # before "done"
    print(f"{count} looks, {len(watched.audits) - 2} audits; at the end", *last)
    figures = dict(zip(last[::2], map(int, last[1::2])))
    idle = [name for name, figure in figures.items() if figure == 0]
    assert not idle, f"nothing was tested: {idle}"
    grown = judge(watched, arguments.slack)
    assert ("rss" in grown) if arguments.expect_leak else not grown, f"what grew: {grown}"


main()
