"""The program where things are not as usual: surroundings_test.py PROGRAM AUDIT [LIBRARY]."""
import ctypes
import os
import resource
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
PROGRAM, AUDIT, *REST = sys.argv[1:]
LIBRARY = REST[0] if REST else None
LIBC = ctypes.CDLL(None, use_errno=True)
NOT_HERE = 99  # what a child that cannot prepare its surroundings ends with
CLONE_NEWNS, CLONE_NEWTIME = 0x20000, 0x80
MS_REC_PRIVATE = 0x44000
PR_SET_THP_DISABLE = 41
ADDR_NO_RANDOMIZE = 0x40000


def run(*how, before=None, preload=None, wrap=(), **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")} | env
    chain = preload or ([LIBRARY] if LIBRARY else [])
    if chain:
        clean["LD_PRELOAD"] = ":".join(chain)
    done = subprocess.run([*wrap, PROGRAM, *how], env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=250,
                          preexec_fn=before)
    if done.returncode in (NOT_HERE, SKIPPED):
        print(f"    cannot be had here: {done.stdout.decode().strip() or 'the system refuses it'}")
        return None
    assert done.returncode == 0 and done.stderr == b"", done
    return done.stdout


def insist(result):
    if result != 0:
        os._exit(NOT_HERE)


def without_rseq():
    run("work", GLIBC_TUNABLES="glibc.pthread.rseq=0")


def without_randomised_addresses():
    run("work", before=lambda: insist(LIBC.personality(ADDR_NO_RANDOMIZE) < 0))


def with_an_unlimited_stack():
    """The kernel then lays out addresses the other way round."""
    def unlimited():
        try:
            resource.setrlimit(resource.RLIMIT_STACK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        except (ValueError, OSError):
            os._exit(NOT_HERE)
    run("work", before=unlimited)


def bound_at_start():
    run("work", LD_BIND_NOW="1")


def on_one_processor():
    one = min(os.sched_getaffinity(0))
    run("work", before=lambda: os.sched_setaffinity(0, {one}))


def on_changing_processors():
    run("change processors")


def without_huge_pages():
    run("no huge pages", before=lambda: insist(LIBC.prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0)), TALLY_THP="always")


def all_locked_in_memory():
    run("lock all")
    if os.geteuid() == 0:
        run("lock little")


def with_little_data():
    little = 100 << 20
    out = run("eat", before=lambda: resource.setrlimit(resource.RLIMIT_DATA, (little, little)))
    assert 20 <= int(out) < 100, out


def with_a_break_of_its_own():
    run("move break")


def without_descriptors():
    """But those that the dynamic linker needs."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (4, 4))
    run("work", before=few)
    run("work", before=few, TALLY_SAMPLE="4K", TALLY_RECORD="0", TALLY_GUARD="1/1", TALLY_TAG_BY="module")


def in_an_empty_root():
    """No /proc, no /dev/shm, another user, from the middle on."""
    if os.geteuid() != 0:
        print("    cannot be had here: needs root")
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        run("leave root", folder)
        run("leave root", folder, TALLY_RECORD="1", TALLY_RECORD_MS="20", TALLY_SAMPLE="4K")
        run("leave root", folder, TALLY_RECORD="1", TALLY_SAMPLE="4K", TALLY_GUARD="1/1", TALLY_TAG_BY="module")


def without_proc_and_shm():
    """From the first instruction on."""
    def hide():
        insist(LIBC.unshare(CLONE_NEWNS))
        insist(LIBC.mount(b"none", b"/", None, MS_REC_PRIVATE, None))
        for place in (b"/proc", b"/dev"):
            insist(LIBC.mount(b"tmpfs", place, b"tmpfs", 0, b"size=64k"))
    run("work", before=hide)
    run("work", before=hide, TALLY_SAMPLE="4K", TALLY_RECORD="0", TALLY_GUARD="1/1", TALLY_TAG_BY="thread")
    run("work", before=hide, TALLY_TAG_BY="module")


def at_other_times():
    """The clock of the process at its zero, and a hundred years on."""
    with open("/proc/uptime") as file:
        uptime = int(float(file.read().split()[0]))
    for seconds in (-uptime, 100 * 365 * 86400):
        def shift(seconds=seconds):
            insist(LIBC.unshare(CLONE_NEWTIME))
            try:
                with open("/proc/self/timens_offsets", "w") as file:
                    file.write(f"monotonic {seconds} 0\n")
            except OSError:
                os._exit(NOT_HERE)
            # The new clock is for children.
            pid = os.fork()
            if pid != 0:
                os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 255)
        run("work", before=shift, TALLY_PURGE_MS="10")
        run("work", before=shift, TALLY_RECORD="1", TALLY_RECORD_MS="10", TALLY_SAMPLE="4K")


def audited():
    run("work", LD_AUDIT=AUDIT)


def under_valgrind():
    """Which else puts its own malloc in the place of a preloaded one."""
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        print("    cannot be had here: valgrind is not installed")
        return
    run("once", wrap=[valgrind, "-q", "--error-exitcode=1", "--soname-synonyms=somalloc=nouserintercepts"])


def preloaded_twice():
    """By two names, so that it is two libraries."""
    if LIBRARY is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = shutil.copy(LIBRARY, os.path.join(folder, "libother.so"))
        run("work", preload=[LIBRARY, copy])
        run("work", preload=[LIBRARY, LIBRARY])
        run("work", preload=[LIBRARY, copy], TALLY_SAMPLE="4K", TALLY_RECORD="0", TALLY_TAG_BY="module")


def main():
    chosen = os.environ.get("ONLY")
    for test in [without_rseq, without_randomised_addresses, with_an_unlimited_stack, bound_at_start,
                 on_one_processor, on_changing_processors, without_huge_pages, all_locked_in_memory, with_little_data,
                 with_a_break_of_its_own, without_descriptors, in_an_empty_root, without_proc_and_shm, at_other_times,
                 audited, under_valgrind, preloaded_twice]:
        if chosen and test.__name__ != chosen:
            continue
        print(f"{test.__name__}", flush=True)
        test()


main()
