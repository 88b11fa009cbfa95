"""In a cgroup of 128 MiB: cgroup_test.py MANY_THREADS SURROUNDINGS [LIBRARY]."""
import os
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import record

SKIPPED = 77
MANY_THREADS, SURROUNDINGS, *REST = sys.argv[1:]
LIBRARY = REST[0] if REST else None
MIB = 1 << 20


def make_group():
    """Its folder and the file of its limit; None and why not."""
    name = f"tally-test-{os.getpid()}"
    for parent, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = os.path.join(parent, name)
        if not os.path.exists(os.path.join(parent, "cgroup.procs")):
            why = f"{parent} is no cgroup"
            continue
        try:
            os.mkdir(folder)
        except OSError as error:
            why = f"cannot make {folder}: {error.strerror}"
            continue
        if os.path.exists(os.path.join(folder, limit)):
            return folder, limit
        os.rmdir(folder)
        why = f"{parent} does not limit memory"
    return None, why


def allow(folder, limit):
    for name, value in ((limit, 128 * MIB), ("memory.memsw.limit_in_bytes", 128 * MIB), ("memory.swap.max", 0)):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, "w") as file:
                file.write(str(value))


def remove(folder):
    """Who was in it may be about to leave."""
    for _ in range(1000):
        try:
            return os.rmdir(folder)
        except OSError:
            time.sleep(0.01)
    raise TimeoutError(f"{folder} is still in use")


def run(folder, *command, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")} | env
    if LIBRARY:
        clean["LD_PRELOAD"] = LIBRARY

    def enter():
        with open(os.path.join(folder, "cgroup.procs"), "w") as file:
            file.write(str(os.getpid()))
    process = subprocess.Popen(command, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=enter)
    out, err = process.communicate(timeout=100)
    return process.returncode, out.decode(), err.decode(), process.pid


def main():
    folder, limit = make_group()
    if folder is None:
        print(f"no cgroup can be made here: {limit}")
        return SKIPPED
    try:
        allow(folder, limit)
        code, out, err, _ = run(folder, MANY_THREADS)
        assert (code, err) == (0, ""), f"1,200 threads: {code} {out} {err}"

        # Who has a limit below the group's is refused, and lives; it may have nine tenths.
        code, out, err, _ = run(folder, SURROUNDINGS, "eat", TALLY_LIMIT="90%")
        assert code == 0 and 90 < int(out) <= 115, f"with a limit: {code} {out} {err}"

        # Who has none is killed, and the record tells what it held.
        code, out, err, pid = run(folder, SURROUNDINGS, "eat", TALLY_RECORD="1")
        assert code == -signal.SIGKILL, f"without a limit: {code} {out} {err}"
        found = record.Record(record.path_of(pid))
        held = found.tags["/"]["total"]["live_bytes"]
        os.remove(record.path_of(pid))
        assert found.is_dead and 80 * MIB < held < 128 * MIB, held
    finally:
        remove(folder)
    return 0


sys.exit(main())
