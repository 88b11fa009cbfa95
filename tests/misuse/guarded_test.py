"""What Tally says of guarded blocks: guarded_test.py PROGRAM [LIBRARY].

The program (guarded.c) writes the first line to expect, and the threads; the stacks are resolved by addr2line."""
import os
import platform
import re
import signal
import subprocess
import sys

PROGRAM = sys.argv[1]
LIBRARY = sys.argv[2] if len(sys.argv) > 2 else None

# By an access, which ends by SIGSEGV; by a call of Tally's, which aborts; and what is none of a guarded block's.
ACCESSES = ["overflow_write", "overflow_read", "underflow", "use_after_free", "other_threads", "small_stack", "in_child",
            "handler_that_passes_on", "handler_that_resets_and_passes_on"]
CALLS = ["double_free", "interior_free", "realloc_freed", "damage"]
OTHERS = {"handler_of_its_own": 7, **dict.fromkeys(
    ["null_pointer", "sent_signal", "sent_to_handler_put_back", "null_pointer_put_back", "sent_after_a_fault",
     "handler_that_passes_by_number"], -signal.SIGSEGV)}
if platform.machine() == "x86_64":  # elsewhere nothing tells such a handler where
    ACCESSES.append("handler_put_back")

FRAME = re.compile(r"    #(\d+) (0x[0-9a-f]+)(?: \((/.*|\[vdso\])\+(0x[0-9a-f]+)\)(?: \(BuildId: [0-9a-f]{2,64}\))?)?$")
STACK = re.compile(r"tally: (here,|allocated by|freed by) thread (\d+):$")


def run(case, **more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}
    env.update(TALLY_SAMPLE="2", TALLY_GUARD="1/1", TALLY_RECORD="0", **more)
    if LIBRARY:
        env["LD_PRELOAD"] = LIBRARY
    done = subprocess.run([PROGRAM, case], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=50)
    return done.returncode, done.stdout.decode().splitlines(), done.stderr.decode(errors="replace").splitlines()


def functions_of(stacks):
    """For each stack the names of its frames that lie in the program."""
    wanted = {(what, i): offset for what, (_, frames) in stacks.items() for i, (file, offset) in enumerate(frames)
              if file and file[0] == "/" and os.path.samefile(file, PROGRAM)}
    out = subprocess.run(["addr2line", "-f", "-e", PROGRAM, *wanted.values()], stdout=subprocess.PIPE, check=True).stdout
    names = out.decode().splitlines()[::2]
    return {what: [name for (of, _), name in zip(wanted, names) if of == what] for what in stacks}


def check_report(case, out, err, resolve):
    """One report: the line, then the stacks, each with the threads and functions that it should have."""
    expected = next(line for line in out if line.startswith("tally: "))
    threads = next(line.split()[1:] for line in out if line.startswith("threads "))
    assert err[:1] == [expected], f"said {err[:1]}, not {expected!r}"
    stacks, frames = {}, None
    for line in err[1:]:
        head, frame = STACK.match(line), FRAME.match(line)
        if head:
            frames = []
            stacks[head[1].split()[0].rstrip(",")] = (head[2], frames)
        else:
            assert frame and int(frame[1]) == len(frames), f"no frame of a stack: {line!r}"
            frames.append((frame[3], frame[4]))
    assert list(stacks) == ["here", "allocated"] + (["freed"] if threads[2] != "0" else []), list(stacks)
    for (thread, _), wanted in zip(stacks.values(), threads):
        assert thread == wanted, f"{stacks}: not the threads {threads}"
    if not resolve:
        return
    wanted = {"here": "bad_step" if case in ACCESSES else "realloc_freed" if case == "realloc_freed" else "give_block",
              "allocated": "make_block", "freed": "give_block"}
    for what, functions in functions_of(stacks).items():
        assert wanted[what] in functions, f"{what}: {functions}"
        if what == "here" and case in ACCESSES:
            assert functions[0] == wanted[what], f"{what}: {functions}"


failures = []


def expect(condition, what):
    if not condition:
        failures.append(what)
        print("failed:", what)


def look(case, out, err, resolve):
    try:
        check_report(case, out, err, resolve)
    except (AssertionError, StopIteration) as failure:
        expect(False, f"{case}: {failure}: {out} {err}")


for case in ACCESSES + CALLS:
    code, out, err = run(case)
    ends_by = signal.SIGSEGV if case in ACCESSES else signal.SIGABRT
    expect(code == -ends_by and "finished" not in out, f"{case}: exit {code}, {out}, {err}")
    look(case, out, err, resolve=True)
    code, out, err = run(case, TALLY_ON_CORRUPTION="report")
    expect(code == 0 and "finished" in out, f"{case}, and go on: exit {code}, {out}, {err}")
    look(case, out, err, resolve=False)
for case, ends in OTHERS.items():
    for mode in ["abort", "report"]:
        code, out, err = run(case, TALLY_ON_CORRUPTION=mode)
        expect(code == ends and not err and "finished" not in out, f"{case}: exit {code}, {out}, {err}")
code, out, err = run("none")
expect(code == 0 and "finished" in out and not err, f"no mistake: exit {code}, {out}, {err}")

sys.exit(1 if failures else 0)
