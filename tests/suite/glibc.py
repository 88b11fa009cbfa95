"""glibc's own tests of malloc, threads, processes and streams, out of Debian's glibc-source, built outside its tree.

Their support/ folder is glibc/shim.h, driver.h and skeleton.h here. A test that does not compile with it needs what only
glibc's tree has, and is skipped; of malloc's own such tests are named below."""
import glob
import os
import shutil
import subprocess

from case import Case, Skip, run

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = "/usr/src/glibc/glibc-2.36.tar.xz"
FOLDERS = ["malloc", "nptl", "sysdeps/pthread", "stdlib", "posix", "dlfcn", "libio", "misc"]

# Each is shim.h: headers of support/, and those of glibc's own that tests include besides.
HEADERS = [f"support/{name}.h" for name in (
    "capture_subprocess check namespace support temp_file test-driver timespec xdlfcn xsignal xstdio xthread xtime "
    "xunistd").split()] + ["array_length.h", "libc-diag.h", "libc-pointer-arith.h", "malloc-size.h"]

# Of malloc's own tests.
CONTAINERS = "of containers inside glibc, which it does not export"
CHUNKS = "writes to the headers of glibc's chunks and expects glibc's message"
PART = "a part of other tests"
OLD = "of symbols for programs from before 2.34 that nobody can link to any more"
DEBUG = "of libc_malloc_debug.so, which brings glibc's malloc instead of any other"
ELSEWHERE = {
    "alloc_buffer": CONTAINERS, "dynarray": CONTAINERS, "dynarray-fail": CONTAINERS, "dynarray-at-fail": CONTAINERS,
    "scratch_buffer": CONTAINERS, "malloc-backtrace": CHUNKS, "safe-linking": CHUNKS,
    "compathooks-off": OLD, "compathooks-on": OLD, "mallocstate": OLD,
    "interpose-skeleton": PART, "interpose-aux": PART, "interpose-aux-thread": PART, "interpose-aux-nothread": PART,
    "mtrace": DEBUG, "malloc-usable": DEBUG, "malloc-usable-tunables": DEBUG,
    "interpose-static-thread": "static: no preload reaches it", "interpose-static-nothread": "static: no preload reaches it",
    "mxfast": "of a setting of glibc's own, of which only its chunks tell",
}
NOT_HERE = {"cancel7": "expects that sh becomes the last command that it is given, which dash does not"}
# What else a test is linked of.
PARTS = {"interpose-thread": ["interpose-aux-thread"], "interpose-nothread": ["interpose-aux-nothread"]}


def unpack(folder):
    """glibc's sources, as far as tests are made of them; and the headers that stand for its support/ folder."""
    tree = os.path.join(folder, "glibc-2.36")
    if not os.path.isdir(tree):
        part = tree + ".part"
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(part)
        subprocess.run(["tar", "-xJf", SOURCE, "-C", part, "--strip-components=1",
                        *(f"glibc-2.36/{name}" for name in FOLDERS)], check=True)
        for name in HEADERS:
            write(os.path.join(part, "shim", name), '#include "shim.h"\n')
        # Named as "../test-skeleton.c" too, from two depths.
        for name in ["test-skeleton.c", "sysdeps/test-skeleton.c"]:
            write(os.path.join(part, name), '#include "skeleton.h"\n')
        write(os.path.join(part, "shim/support/test-driver.c"), '#include "driver.h"\n')
        os.rename(part, tree)
    return tree


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)


def build(tree, source, program):
    """None, or what the compiler has against it."""
    folder = os.path.dirname(source)
    parts = [os.path.join(folder, f"tst-{part}.c") for part in PARTS.get(os.path.basename(source)[4:-2], [])]
    done = subprocess.run(
        ["gcc", "-std=gnu11", "-O1", "-w", "-fno-builtin", "-fno-allocation-dce", "-D_GNU_SOURCE",
         *(f"-I{each}" for each in [os.path.join(tree, "shim"), os.path.join(HERE, "glibc"), folder, tree,
                                    os.path.join(tree, "sysdeps/pthread")]),
         source, *parts, "-o", program, "-pthread", "-lm"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode == 0:
        return None
    return next((line for line in done.stdout.decode().splitlines() if "error" in line or "undefined" in line), "no error")


def case_of(tree, folder, source):
    name = f"{folder.split('/')[-1]}/{os.path.basename(source)[4:-2]}"
    program = os.path.join(tree, "bin", name.replace("/", "-"))

    def test(env, home):
        if not os.path.exists(program):
            error = build(tree, source, program)
            if error and folder == "malloc":
                raise AssertionError(f"does not compile: {error}")
            if error:
                raise Skip(f"does not compile: {error}")
        # Where the machine is busy they need more than they expect.
        run([program], env | {"TIMEOUTFACTOR": "10"}, home)
    return Case(name, test)


def cases(folder, whole):
    if not os.path.exists(SOURCE):
        return [], f"there is no {SOURCE} (Debian: glibc-source)"
    tree = unpack(folder)
    os.makedirs(os.path.join(tree, "bin"), exist_ok=True)
    found = []
    for part in FOLDERS if whole else FOLDERS[:1]:
        for source in sorted(glob.glob(os.path.join(tree, part, "tst-*.c"))):
            if os.path.basename(source)[4:-2] not in (ELSEWHERE if part == "malloc" else NOT_HERE):
                found.append(case_of(tree, part, source))
    return found, ""
