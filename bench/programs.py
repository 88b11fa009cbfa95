"""The programs that run.py runs: workloads/ (patterns of the field's benchmarks), real ones, or one that it is given."""
import dataclasses
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
REDIS_KEYS = 200000


@dataclasses.dataclass
class Program:
    name: str
    group: str  # single, multi, real, own
    argv: list
    env: dict = dataclasses.field(default_factory=dict)
    stdin: str = ""  # text
    package: str = ""  # Debian's, of a real program
    links_malloc: bool = False  # it links a malloc of its own, so that glibc must be preloaded too
    load: list = dataclasses.field(default_factory=list)  # for a server: the client that is timed
    requests: int = 0  # that the client makes
    prepare: object = None  # called once before the first run


def _workloads(bin_dir, work, threads):
    def run(name, group, *args):
        return lambda title: Program(title, group, [str(bin_dir / f"bench_{name}"), f"--work={work}",
                                                    f"--threads={1 if group == 'single' else threads}", *args])
    table = {
        "cfrac-like": run("cfrac_like", "single"),
        "espresso-like": run("espresso_like", "single"),
        "sh6-like": run("sh6_like", "single"),
        "simple-like": run("simple_like", "single"),
        "random-1k": run("random_like", "single", "--mode=set1k"),
        "random-1m": run("random_like", "single", "--mode=set1m"),
        "large-like": run("large_like", "single"),
        "containers": run("containers", "single"),
        "larson-like": run("larson_like", "multi"),
        "larson-sized": run("larson_like", "multi", "--mode=sized"),
        "sh8-like": run("sh8_like", "multi"),
        "xmalloc-like": run("xmalloc_like", "multi"),
        "scratch-like": run("false_sharing", "multi", "--mode=passive"),
        "thrash-like": run("false_sharing", "multi", "--mode=active"),
        "mstress-like": run("mstress_like", "multi"),
        "rptest-like": run("rptest_like", "multi"),
        "random-1k-mt": run("random_like", "multi", "--mode=set1k"),
        "random-1m-mt": run("random_like", "multi", "--mode=set1m"),
        "thread-churn": run("thread_churn", "multi"),
    }
    return [make(title) for title, make in table.items()]


def _make_history(folder, commits):
    """A repository, packed as a clone is."""
    history = subprocess.Popen([sys.executable, str(HERE / "inputs" / "history.py"), str(commits)],
                               stdout=subprocess.PIPE)
    git = ["git", "-C", str(folder)]
    try:
        subprocess.run(["git", "init", "-q", str(folder)], check=True)
        subprocess.run([*git, "fast-import", "--quiet"], stdin=history.stdout, check=True)
        subprocess.run([*git, "-c", "pack.threads=1", "repack", "-adfq"], check=True)
    except subprocess.CalledProcessError as error:
        sys.exit(f"bench: no history for git: {error}")
    if history.wait() != 0:
        sys.exit("bench: no history for git: inputs/history.py failed")


def _real(smoke, scratch):
    inputs = HERE / "inputs"
    work = "1" if smoke else "100"
    requests = 20000 if smoke else 200000
    tests = ["set", "get", "lpush", "lrange_100"]
    socket = str(scratch / "redis.sock")
    return [
        Program("python3", "real", [os.path.realpath(sys.executable), str(inputs / "objects.py"), work],
                env={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}, package="python3"),
        Program("sqlite3", "real", ["sqlite3", "-batch", "-cmd",
                                    f"CREATE TABLE size(n); INSERT INTO size VALUES({3000 if smoke else 150000});",
                                    ":memory:"],
                stdin=(inputs / "tables.sql").read_text(), package="sqlite3"),
        Program("g++", "real", ["g++", "-std=c++20", "-c", "-o", str(scratch / "headers.o"),
                                *(["-DSMOKE"] if smoke else []), str(inputs / "headers.cpp")], package="g++"),
        Program("perl", "real", ["perl", str(inputs / "words.pl"), work], env={"PERL_HASH_SEED": "0"}, package="perl"),
        Program("git", "real", ["git", "-C", str(scratch / "history"), "log", "-p", "--stat", "main"], package="git",
                prepare=lambda: _make_history(scratch / "history", 100 if smoke else 12000)),
        Program("node", "real", ["node", str(inputs / "documents.js"), work], package="nodejs"),
        Program("redis", "real", ["redis-server", "--save", "", "--appendonly", "no", "--port", "0",
                                  "--unixsocket", socket, "--loglevel", "warning"],
                package="redis-server", links_malloc=True, requests=requests * len(tests),
                load=["redis-benchmark", "-s", socket, "-q", "-n", str(requests), "-c", "20", "-P", "16", "-d", "100",
                      "-r", str(REDIS_KEYS), "-t", ",".join(tests)]),
    ]


def _is_static(path):
    """An ELF file that names no dynamic linker; no script."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] != b"\x7fELF":
            return False
        file.seek(struct.unpack_from("<Q", head, 32)[0])
        size, count = struct.unpack_from("<HH", head, 54)
        table = file.read(size * count)
    PT_INTERP = 3
    return all(struct.unpack_from("<I", table, i * size)[0] != PT_INTERP for i in range(count))


def _own(command):
    path = shutil.which(command[0])
    if not path:
        sys.exit(f"bench: no program '{command[0]}' that could be started")
    if _is_static(path):
        sys.exit(f"bench: {path} is static: what is preloaded is ignored, and it keeps its own malloc")
    return Program(pathlib.Path(command[0]).name, "own", command, links_malloc=True)  # or it may


def listed(bin_dir, smoke, threads, only, own):
    """(programs, messages about those left out, a folder for what they write). Own: the command of the only one."""
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="tally-bench-"))
    if own:
        return [_own(own)], [], scratch
    programs = _workloads(bin_dir, 1 if smoke else 100, threads) + _real(smoke, scratch)
    if only:
        unknown = set(only) - {p.name for p in programs} - {p.group for p in programs}
        if unknown:
            sys.exit(f"bench: no program {', '.join(sorted(unknown))}; known: single, multi, real, "
                     + ", ".join(p.name for p in programs))
        programs = [p for p in programs if p.name in only or p.group in only]
    have = [p for p in programs if all(shutil.which(argv[0]) for argv in (p.argv, p.load) if argv)]
    left_out = [f"bench: {p.name} left out: not installed (apt-get install {p.package})"
                for p in programs if p not in have]
    return have, left_out, scratch


# ---- Which malloc is live

def bindings_of_malloc(program, allocator, preload, scratch):
    """Who takes `malloc` from where, as the dynamic linker itself says: a set of (file, library). The program is
    started with arguments that make it end at once, or, where those are not known, not at all."""
    quick = {"redis": ["redis-server", "--version"], "g++": program.argv[:-1] + ["-DSMOKE", program.argv[-1]],
             "sqlite3": ["sqlite3", "--version"], "node": ["node", "-e", "0"], "perl": ["perl", "-e", "1"],
             "git": ["git", "--version"],
             "python3": [program.argv[0], "-c", "0"]}.get(program.name if program.group == "real" else "")
    output = pathlib.Path(tempfile.mkdtemp(dir=scratch))
    env = dict(os.environ, LD_DEBUG="bindings", LD_BIND_NOW="1", LD_DEBUG_OUTPUT=str(output / "ld"))
    if preload:
        env["LD_PRELOAD"] = preload
    if not quick:  # as ldd does: what it needs is loaded and bound, and it ends before its first instruction
        quick = program.argv[:1]
        env |= {"LD_TRACE_LOADED_OBJECTS": "1", "LD_WARN": "yes"}
    subprocess.run(quick, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120)
    bound = set()
    for file in output.iterdir():
        bound.update(re.findall(r"binding file (\S+) \[\d+\] to (\S+) \[\d+\]: normal symbol `malloc'",
                                file.read_text(errors="replace")))
    shutil.rmtree(output)
    # A program that is not position-independent may lend its stub's address to everybody, itself and the allocator
    # included; the stub goes on to where the program takes malloc from.
    stubs = {file for file, library in bound
             if library != file and (file, file) in bound and os.path.realpath(file) != allocator}
    return {(file, library) for file, library in bound if library not in stubs}


def check_real(program, allocator, preload, scratch):
    """A message if the program's malloc is not this allocator's, else None."""
    want = os.path.realpath(allocator.library)
    bound = bindings_of_malloc(program, want, preload, scratch)
    if not bound:
        return f"{program.name} under {allocator.name}: cannot tell which malloc is live"
    for file, library in bound:
        if os.path.realpath(library) != want and os.path.realpath(file) != want:
            return f"{program.name}: {file} takes malloc from {library}, not from {allocator.library}"
    return None


def wait_for_map(pid, library, deadline):
    """True once the running process has mapped the library; False if it ended, or never did, without that."""
    library = os.path.realpath(library)
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
                text = maps.read()
        except OSError:
            return False
        if library in text:
            return True
        time.sleep(0.0005)
    return False
