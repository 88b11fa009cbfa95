#!/usr/bin/env python3
"""Counts the instructions of malloc(16) and free, under callgrind, for Tally and its peers.

bench_pair runs N and 2N pairs; the difference leaves start-up out. For each of malloc and free it prints
  path     the instructions that (nearly) every call executes, `ret` included: the fast path;
  average  all the instructions below the call, divided by the calls: what slow paths add now and then.
The loop and the call itself are not in either. Fails if Tally's paths are more than --limit together, with one tag or
with 32 by scope, or if an instruction on them has a lock prefix or is an xchg with memory. --show prints the paths."""
import argparse
import collections
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import allocators

PAIRS = 50000
TAGS = 32
HOT = 0.9  # the part of the calls that must execute an instruction for it to be on the path
CALLS = ("malloc", "free")


class Profile:
    """One callgrind run: executions of each instruction, and the calls between functions."""

    def __init__(self, text):
        self.executed = collections.Counter()  # (object, function, address)
        self.calls = collections.Counter()  # (caller, callee): times
        self.below = collections.Counter()  # (caller, callee): instructions, inclusive
        self.entry = {}  # function: its first address
        object_, callee_object, function, callee = "", None, "", ""
        called = 0
        for line in text.splitlines():
            if line.startswith("ob="):
                object_ = line[3:]
            elif line.startswith("cob="):
                callee_object = line[4:]
            elif line.startswith("fn="):
                function = line[3:]
            elif line.startswith("cfn="):
                callee = line[4:]
            elif line.startswith("calls="):
                called, entry = (int(word, 0) for word in line[6:].split()[:2])
            elif line.startswith("0x"):
                address, *_, cost = line.split()
                if called:  # the line after calls= is the cost of what was called
                    key = ((object_, function), (callee_object or object_, callee))
                    self.entry[key[1]] = entry
                    self.calls[key] += called
                    self.below[key] += int(cost)
                    called, callee_object = 0, None
                else:
                    self.executed[object_, function, int(address, 16)] += int(cost)

    def __sub__(self, other):
        result = Profile("")
        result.entry = self.entry
        for name in ("executed", "calls", "below"):
            mine = getattr(self, name).copy()
            mine.subtract(getattr(other, name))
            setattr(result, name, collections.Counter({k: v for k, v in mine.items() if v > 0}))
        return result


def profile(pair, allocator, pairs, tags):
    with tempfile.TemporaryDirectory() as scratch:
        out = pathlib.Path(scratch, "out")
        env = dict(os.environ, BENCH_ALLOCATOR=allocator.library if allocator.preload else "glibc",
                   **allocator.environment)
        if allocator.preload:
            env["LD_PRELOAD"] = allocator.preload
        done = subprocess.run(["valgrind", "--tool=callgrind", "--dump-instr=yes", "--compress-strings=no",
                               "--compress-pos=no", f"--callgrind-out-file={out}", str(pair), str(pairs),
                               *([str(tags)] if tags else [])], env=env, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"bench: {allocator.name}: {done.stderr.strip()}")
        return Profile(out.read_text())


def instructions_of(run, loop, name, pairs):
    """The calls of `name` from the loop: (path, average), the path as offsets from the function's first address."""
    root = next((callee for caller, callee in run.calls if caller[1] == loop and callee[1] == name), None)
    if root is None:
        sys.exit(f"bench: callgrind saw no call of {name} from {loop}")
    average = sum(cost for (caller, callee), cost in run.below.items() if caller[1] == loop and callee == root) / pairs
    reached, todo = set(), [root]
    while todo:
        function = todo.pop()
        if function in reached:
            continue
        reached.add(function)
        todo += [callee for (caller, callee), times in run.calls.items() if caller == function and times > HOT * pairs]
    path = sorted(address - run.entry[root] for (object_, function, address), times in run.executed.items()
                  if (object_, function) in reached and times > HOT * pairs)
    return path, average


def disassembly(path, name, library):
    """The path's instructions as text."""
    symbols = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True)
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", "-w", library], capture_output=True, text=True,
                          check=True)
    start = int(re.search(rf"^([0-9a-f]+) \w {name}(@|$)", symbols.stdout, re.M)[1], 16)
    at = {int(m[1], 16): m[2].strip() for m in re.finditer(r"^ *([0-9a-f]+):\t(.*)$", code.stdout, re.M)}
    return [at.get(start + offset, "(outside of the library)") for offset in path]


def is_locked(instruction):
    return re.match(r"(lock\b|xchg\b.*\()", instruction) is not None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--build", default=str(here.parent / "build" / "release"), help="build folder")
    parser.add_argument("--allocators", default=",".join(allocators.NAMES))
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=PATH", help="another allocator's library")
    parser.add_argument("--limit", type=int, default=34, help="for Tally's malloc and free together")
    parser.add_argument("--show", action="store_true", help="print Tally's instructions")
    args = parser.parse_args()
    pair = pathlib.Path(args.build).resolve() / "bin" / "bench_pair"
    if not pair.exists():
        sys.exit(f"bench: no {pair}; build it first (cmake --build {args.build})")

    wrong = []
    print(f"{'':24}{'malloc':>16}{'free':>16}{'together':>16}\n{'':24}" + f"{'path':>7}{'average':>9}" * 3)
    for allocator in allocators.find(args.allocators.split(","), args.build, args.peer):
        for tags in [0, TAGS] if allocator.name == "tally" else [0]:
            run = profile(pair, allocator, 2 * PAIRS, tags) - profile(pair, allocator, PAIRS, tags)
            loop = "run_pairs_tagged" if tags else "run_pairs"
            found = {name: instructions_of(run, loop, name, PAIRS) for name in CALLS}
            title = allocator.name + (f", {tags} tags" if tags else "")
            together = sum(len(path) for path, _ in found.values())
            print(f"{title:24}" + "".join(f"{len(path):7}{average:9.1f}" for path, average in found.values())
                  + f"{together:7}{sum(average for _, average in found.values()):9.1f}")
            if allocator.name != "tally":
                continue
            if together > args.limit:
                wrong.append(f"{title}: {together} instructions, more than {args.limit}")
            for name, (path, _) in found.items():
                code = disassembly(path, name, allocator.library)
                wrong += [f"{title}: {name} has '{line}' on its fast path" for line in code if is_locked(line)]
                if args.show:
                    print(f"  {name}:", *code, sep="\n    ")
    print(*(f"bench: {line}" for line in wrong), sep="\n", file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
