"""Other people's test suites under libtally.so: suite.py [OPTION...] LIBRARY FOLDER (--help has the options).

A case that fails is run again with glibc's malloc, and counts if it passes there. FOLDER keeps what is built and the
table of results."""
import argparse
import concurrent.futures
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

from case import FAILED, PASSED, SKIPPED, plain_environment

SUITES = ["glibc", "cpython", "stress_ng", "servers", "compilers"]

FAR_LIMIT = {"TALLY_LIMIT": "1T:soft=1000G"}
# Far away or out of sight: nothing of these may change what a program does.
WAYS = {
    "plain": {},
    "module": {"TALLY_TAG_BY": "module"},
    "limit": FAR_LIMIT,
    "record": {"TALLY_RECORD": "1"},
    "sample": {"TALLY_SAMPLE": "64K", "TALLY_RECORD": "0"},
    # All of these at once, as `tally run` sets them.
    "combined": {"TALLY_TAG_BY": "module", "TALLY_RECORD": "1", "TALLY_SAMPLE": "64K", **FAR_LIMIT},
    "libc": {"TALLY_BACKEND": "libc"},
    "jemalloc": {"TALLY_BACKEND": "jemalloc"},
    "mimalloc": {"TALLY_BACKEND": "mimalloc"},
}
# What a backend is preloaded from, behind Tally; and the peers, where they are the program's malloc by themselves.
LIBRARIES = {"jemalloc": "libjemalloc.so.2", "mimalloc": "libmimalloc.so.2.0"}


# What fails by what Tally or the way is, with the reason.
KNOWN = {
    ("cpython/test_subprocess", "record"): "counts open files, of which the record is one",
    ("cpython/test_subprocess", "combined"): "counts open files, of which the record is one",
    **{(f"glibc/{test}", backend): f"asks for all of a process's thread keys, of which one is {backend}'s"
       for backend in ["jemalloc", "mimalloc"] for test in ["pthread/key1", "pthread/key4", "pthread/tss-basic"]},
    ("glibc/malloc/mallocfork2", "jemalloc"): "jemalloc stops where a signal handler forks, alone too",
    ("glibc/malloc/malloc-thread-fail", "jemalloc"): "jemalloc crashes where a thread starts without memory, alone too",
    ("glibc/pthread/create-detached", "jemalloc"): "jemalloc crashes where a thread starts without memory",
    ("glibc/posix/regcomp-bracket-free", "mimalloc"): "calls libc's malloc by a name that mimalloc takes",
}


def is_known(name, way):
    if (name, way) in KNOWN:
        print(f"{name} {way}: known: {KNOWN[name, way]}", flush=True)
    return (name, way) in KNOWN


def library(name):
    return f"/usr/lib/{os.uname().machine}-linux-gnu/{LIBRARIES[name]}"


def environment_of(way, options):
    """Of a way of Tally's, of glibc's malloc, or of a peer's."""
    if way == "glibc":
        return plain_environment()
    if way.startswith("peer:"):
        return plain_environment(LD_PRELOAD=library(way[5:]))
    preload = [options.library] + ([library(way)] if way in LIBRARIES else [])
    return plain_environment(LD_PRELOAD=" ".join(preload), **WAYS[way])


def expect_live(way, options):
    """That Tally is the malloc of a program in this environment, over the backend that is meant."""
    report = os.path.join(options.folder, f"live-{os.getpid()}.json")
    env = environment_of(way, options) | {"TALLY_REPORT": report}
    subprocess.run(["/bin/true"], env=env, check=True)
    with open(report) as file:
        found = json.load(file)["backend"]
    os.remove(report)
    wanted = WAYS[way].get("TALLY_BACKEND", "os")
    assert found == wanted, f"{way}: the backend is {found}, not {wanted}"


def run_case(case, way, options):
    # Short, as sockets have their paths in it.
    folder = tempfile.mkdtemp(prefix="suite")
    env = environment_of(way, options)
    env.update(TMPDIR=folder, HOME=folder)
    try:
        return case.run(env, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Table:
    """What became of each case in each way, in a file that is whole at any time, for who stops a run and goes on."""

    def __init__(self, path, resumed):
        self.path = path
        self.results = {}
        self.lock = threading.Lock()
        if resumed and os.path.exists(path):
            with open(path) as file:
                self.results = json.load(file)

    def has_passed(self, suite, case, way):
        return self.results.get(way, {}).get(f"{suite}/{case.name}") == PASSED

    def put(self, suite, case, way, verdict, text):
        with self.lock:
            self.results.setdefault(way, {})[f"{suite}/{case.name}"] = verdict
            with open(self.path + ".part", "w") as file:
                json.dump(self.results, file, indent=1, sort_keys=True)
            os.replace(self.path + ".part", self.path)
            if verdict != PASSED:
                lines = text.strip().splitlines()
                print(f"{suite}/{case.name} {way}: {verdict}: {lines[-1] if lines else 'no output'}", flush=True)
                if verdict == FAILED:
                    print("".join(f"    {line}\n" for line in lines[-30:]), end="", flush=True)

    def count(self, way, verdict):
        return sum(each == verdict for each in self.results[way].values())


def judge(suite, case, ways, options, table):
    """Runs a case in each way, and with glibc's malloc if that is of interest."""
    verdicts = {}
    ways = [way for way in ways if not table.has_passed(suite, case, way)]
    for way in ways:
        verdicts[way], text = run_case(case, way, options)
        table.put(suite, case, way, verdicts[way], text)
    # What skips itself may do so for want of memory.
    failed = [way for way in ways if verdicts[way] != PASSED and not is_known(f"{suite}/{case.name}", way)]
    if failed or (options.baseline and not table.has_passed(suite, case, "glibc")):
        # Of what fails, several times, as it may be one that fails now and then.
        for _ in range(3 if failed else 1):
            baseline, text = run_case(case, "glibc", options)
            table.put(suite, case, "glibc", baseline, text)
            if baseline != PASSED:
                return []
    return [f"{suite}/{case.name} ({way})" for way in failed]


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--whole", action="store_true", help="all cases, not only those that are quick")
    parser.add_argument("--suites", default=",".join(SUITES), help="which, by commas; default: %(default)s")
    parser.add_argument("--cases", help="those whose name contains this")
    parser.add_argument("--ways", default="plain", help=f"how, by commas, or all: {', '.join(WAYS)}; glibc; peer:jemalloc, "
                        "peer:mimalloc: with that library instead of Tally")
    parser.add_argument("--baseline", action="store_true", help="run each case with glibc's malloc too")
    parser.add_argument("--resume", action="store_true", help="without what passed in FOLDER the last time")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time; default: 1")
    parser.add_argument("library", metavar="LIBRARY", type=os.path.abspath)
    parser.add_argument("folder", metavar="FOLDER", type=os.path.abspath)
    options = parser.parse_args()
    options.ways = list(WAYS) if options.ways == "all" else options.ways.split(",")
    for way in options.ways:
        if way not in [*WAYS, "glibc", *(f"peer:{name}" for name in LIBRARIES)]:
            parser.error(f"unknown way '{way}': the ways are {', '.join(WAYS)}, glibc, peer:jemalloc, peer:mimalloc")
    options.suites = options.suites.split(",")
    for suite in options.suites:
        if suite not in SUITES:
            parser.error(f"unknown suite '{suite}': the suites are {', '.join(SUITES)}")
    return options


def main():
    options = parse_options()
    # A shell has its background jobs ignore it, and what is under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.makedirs(options.folder, exist_ok=True)
    for way in options.ways:
        if way in WAYS:
            expect_live(way, options)
    table = Table(os.path.join(options.folder, f"results-{'-'.join(options.suites)}.json"), options.resume)
    counting, missing = [], []
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for suite in options.suites:
            cases, reason = importlib.import_module(suite).cases(options.folder, options.whole)
            if not cases:
                print(f"{suite}: skipped: {reason}")
                missing.append(suite)
            cases = [case for case in cases if not options.cases or options.cases in case.name]
            started = time.monotonic()
            for found in pool.map(lambda case: judge(suite, case, options.ways, options, table), cases):
                counting += found
            print(f"{suite}: {len(cases)} cases, {time.monotonic() - started:.0f} s", flush=True)
    for way in table.results:
        print(f"{way}: {table.count(way, PASSED)} passed, {table.count(way, FAILED)} failed, "
              f"{table.count(way, SKIPPED)} skipped")
    if counting:
        print("pass with glibc's malloc, and fail here:", *counting, sep="\n  ")
        sys.exit(1)
    if missing == options.suites:
        sys.exit(77)


if __name__ == "__main__":
    main()
