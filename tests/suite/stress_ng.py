"""stress-ng's stressors of memory, threads and processes, which check by themselves what they wrote (--verify)."""
import os

from case import Case, run

PROGRAM = "/usr/bin/stress-ng"
# In so much address space, as some take what they get: where they meet it malloc fails, and they go on.
MEMORY = ["prlimit", f"--as={1 << 30}"]
QUICK = {"malloc": ["--malloc-bytes", "64m"], "bigheap": ["--bigheap-growth", "1m"], "fork": [], "vfork": [], "pthread": [],
         "tsearch": []}
WHOLE = {name: [] for name in """brk bsearch clone daemon exec heapsort hsearch judy list lsearch madvise mergesort mincore mmapfork
mremap munmap qsort radixsort shellsort sigchld sigsegv skiplist spawn stack str tree vforkmany wcs zlib
zombie""".split()} | {"malloc": ["--malloc-bytes", "64m", "--malloc-pthreads", "4"], "vm": ["--vm-bytes", "64m"],
                      "mmap": ["--mmap-bytes", "64m"]}


def case_of(name, more, seconds):
    def stress(env, folder):
        # 2, 3 and 4 are what it says where the machine cannot: no resources, not implemented.
        out = run([*MEMORY, PROGRAM, f"--{name}", "2", *more, "--verify", "--timeout", f"{seconds}s", "--temp-path", folder,
                   "--oomable"], env, folder, 300, (3, 4, 77))
        assert "fail:" not in out, out
    return Case(name, stress)


def cases(folder, whole):
    if not os.path.exists(PROGRAM):
        return [], f"there is no {PROGRAM} (Debian: stress-ng)"
    chosen = QUICK | WHOLE if whole else QUICK
    return [case_of(name, more, 10 if whole else 2) for name, more in chosen.items()], ""
