"""The record: record_test.py SLEEPER [LIBRARY]."""
import os
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import record

SLEEPER = sys.argv[1]
LIBRARY = sys.argv[2] if len(sys.argv) > 2 else None
CACHE = "/sleeper/cache"


class Run:
    """The sleeper, started and ready; end() tells it how to go."""

    def __init__(self, *args, before=None, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}
        clean.update({"TALLY_RECORD": "1"} | env)
        if LIBRARY:
            clean["LD_PRELOAD"] = LIBRARY
        self.process = subprocess.Popen([SLEEPER, *args], env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, preexec_fn=before)
        assert self.process.stdout.readline() == b"ready\n"
        self.pid = self.process.pid
        self.path = record.path_of(self.pid)

    def read(self):
        return record.Record(self.path)

    def end(self, how="exit"):
        self.stdout, stderr = self.process.communicate(how.encode(), timeout=30)
        return self.process.returncode, stderr.decode()


def until(what, seconds=10):
    end = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)
    return result


def tells_what_is_held():
    run = Run(TALLY_RECORD_MS="50")
    found = until(lambda: (r := run.read()).sequence > 2 and r)
    assert stat.S_IMODE(os.stat(run.path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(record.folder()).st_mode) == 0o700
    assert found.pid == run.pid and not found.is_dead and found.is_last == 0
    assert found.executable == os.path.realpath(SLEEPER) and found.command == [SLEEPER]
    cache = found.tags[CACHE]["own"]
    assert cache["live_blocks"] == 1000 and cache["requested_bytes"] == 100000, cache
    (row,) = [row for row in found.classes if row["tag"] == CACHE]
    assert (row["live_blocks"], row["allocs"], row["requested"]) == (1000, 1000, 100000), row
    assert found.points()[-1]["tags"][CACHE] == (cache["live_bytes"] // 1024 * 1024, cache["footprint_bytes"])
    assert len(found.minutes()) == 1
    assert run.end() == (3, "")
    assert not os.path.exists(run.path)


def main():
    for test in [tells_what_is_held]:
        test()
        print(f"{test.__name__}: passed", flush=True)


main()
