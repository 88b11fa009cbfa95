"""In a cgroup of 128 MiB: cgroup_test.py MANY_THREADS SURROUNDINGS [LIBRARY]."""
import os
import signal
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import cgroup
import record

SKIPPED = 77
MANY_THREADS, SURROUNDINGS, *REST = sys.argv[1:]
LIBRARY = REST[0] if REST else None
MIB = 1 << 20


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
    folder, limit = cgroup.make_group()
    if folder is None:
        print(f"no cgroup can be made here: {limit}")
        return SKIPPED
    try:
        cgroup.allow(folder, limit, 128 * MIB)
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
        cgroup.remove(folder)
    return 0


sys.exit(main())
