"""CPython's own tests, Debian's libpython3.11-testsuite, with all of its memory from malloc. A case is one of its modules."""
import glob
import os

from case import program

PYTHON = "/usr/bin/python3.11"
TESTS = "/usr/lib/python3.11/test"
# Memory, the collector, threads, processes, foreign functions, signals: what takes seconds, or the part of a module that does.
QUICK = {name: [] for name in """test_gc test_thread test_threading_local test_fork1 test_posix test_memoryview test_mmap
test_ctypes test_threadsignals""".split()} | {
    "test_threading": ["-m", "ThreadTests", "-m", "ThreadJoinOnShutdown", "-m", "SubinterpThreadingTests"],
    # Without what counts open files, of which a record is one.
    "test_subprocess": ["-m", "POSIXProcessTestCase", "-i", "test_pass_fds_redirected"],
    "test_signal": ["-m", "PosixTests", "-m", "WakeupSignalTests", "-m", "PendingSignalsTests"],
    # Without what gives another process a tenth of a second, which on a busy machine is too little.
    "test_multiprocessing_fork": ["-m", "WithProcessesTestQueue", "-m", "WithProcessesTestPoolWorkerLifetime",
                                  "-m", "WithProcessesTestHeap", "-i", "test_get", "-i", "test_put"],
}
# What of the whole cannot pass here with any malloc: it waits, without an end, for a host that answers by vsock.
LEFT_OUT = {"test_socket": ["-i", "ThreadedVSOCKSocketStreamTest"]}
# They take what no test of ours may: the network, a display, the whole machine, or hours.
NOT_HERE = {"test_idle", "test_tk", "test_ttk_guionly", "test_ttk_textonly", "test_turtle", "test_tix", "test_tcl",
            "test_winreg", "test_msilib", "test_startfile"}


def cases(folder, whole):
    if not os.path.isdir(TESTS) or not os.path.exists(PYTHON):
        return [], f"there is no {TESTS} (Debian: libpython3.11-testsuite)"
    # A module or a folder of some; what else is there is their data.
    found = sorted(os.path.basename(path).removesuffix(".py") for path in glob.glob(f"{TESTS}/test_*")
                   if path.endswith(".py") or os.path.isdir(path))
    parts = {name: LEFT_OUT.get(name, []) for name in found if name not in NOT_HERE} if whole else QUICK
    # 4 is its "no test ran", for want of something on the machine.
    return [program(name, [PYTHON, "-m", "test", "--timeout=900", *part, name], 1000, (4, 77), PYTHONMALLOC="malloc")
            for name, part in parts.items()], ""
