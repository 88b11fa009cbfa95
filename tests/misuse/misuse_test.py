"""Runs one misuse program and compares what Tally says with what the program expects: misuse_test.py PROGRAM [LIBRARY
["hardened"]].

The program writes the lines to expect to standard output (see misuse.h); without any it must run in silence."""
import os
import signal
import subprocess
import sys

PROGRAM = sys.argv[1]
LIBRARY = sys.argv[2] if len(sys.argv) > 2 else None
HARDENED = len(sys.argv) > 3
NAME = os.path.basename(PROGRAM).rpartition("_")[0]
# What lies deep in a long free list is found by walking it, which is an option.
IS_DEEP = not HARDENED and NAME == "misuse_double_free_small_later"
# With libc a program that wrote to freed memory may end in peace: it is told who asked.
ENDS_IN_PEACE = NAME in ("misuse_write_list_at_end", "misuse_overflow_at_end", "misuse_write_at_end",
                         "misuse_write_far_at_end")
NEEDS_CHECK = IS_DEEP or ENDS_IN_PEACE
# The processor itself refuses this address.
MAY_SEGFAULT = os.path.basename(PROGRAM).startswith("misuse_foreign_garbage")


def run(mode, walk_lists=NEEDS_CHECK):
    env = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}
    if LIBRARY:
        env["LD_PRELOAD"] = LIBRARY
    if HARDENED:
        env["TEST_HARDENED"] = "1"
    if walk_lists:
        env["TALLY_CHECK"] = "1"
    if mode:
        env["TALLY_ON_CORRUPTION"] = mode
    done = subprocess.run([PROGRAM], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=50)
    out = done.stdout.decode()
    return done.returncode, [line for line in out.splitlines() if line.startswith("tally:")], "finished" in out, \
        done.stderr.decode(errors="replace")


def check(mode, walk_lists=NEEDS_CHECK):
    code, expected, finished, stderr = run(mode, walk_lists)
    context = f"{mode or 'default'}: exit {code}, finished {finished}, said {stderr!r}, expected {expected}"
    # What is said by the end of the process comes after all that the program does.
    at_end = any("the end of the process" in line for line in expected)
    if MAY_SEGFAULT and code == -signal.SIGSEGV and not stderr:
        return
    if not expected:
        assert code == 0 and finished and not stderr, context
    elif mode == "report":
        assert code == 0 and finished, context
        assert stderr.endswith("\n") and stderr.splitlines(), context
        assert all(line in expected for line in stderr.splitlines()), context
    else:
        assert code == -signal.SIGABRT and finished == at_end, context
        assert stderr.endswith("\n") and stderr[:-1] in expected, context


def check_unwalked():
    """By default a block that is freed twice deep in a list may pass, or show later, and then as another block of the
    same ring: but the program ends, and what is said is a double free under this tag. Of a write nothing is said."""
    code, _, finished, stderr = run(None, walk_lists=False)
    context = f"without TALLY_CHECK: exit {code}, finished {finished}, said {stderr!r}"
    if stderr and not ENDS_IN_PEACE:
        assert code == -signal.SIGABRT and stderr.startswith("tally: double free of 0x"), context
        assert stderr.endswith(" (tag /x, size class 64)\n") and stderr.count("\n") == 1, context
    else:
        assert code == 0 and finished and not stderr, context


def check_all_seen():
    """Of long blocks that are free not all is looked at each time: with TALLY_CHECK it is. (A few may stay behind.)"""
    code, expected, finished, stderr = run("report", walk_lists=True)
    missed = set(expected) - set(stderr.splitlines())
    context = f"with TALLY_CHECK: exit {code}, {len(missed)} of {len(expected)} missed"
    assert code == 0 and finished and len(missed) <= len(expected) // 8, context


try:
    if NEEDS_CHECK:
        check_unwalked()
    if NAME == "misuse_write_far_after_free":
        check_all_seen()
    if HARDENED and NAME == "misuse_quiet_end":  # which frees nothing twice then
        check(None, walk_lists=True)
    for each in [None, "abort", "report"]:
        check(each)
except AssertionError as failure:
    sys.exit(f"{os.path.basename(PROGRAM)} {failure}")
