"""What the tests of real programs share; a test is SCRIPT NAME LIBRARY [TALLY_X=Y...]. Exit status 77: a program is not installed."""
import glob
import os
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "support"))
import snapshot_schema

SKIPPED = 77
LIBRARY = os.path.abspath(sys.argv[2])
# Of which the test runs, and the library that has it, if any.
BACKEND = os.environ.get("TALLY_TEST_BACKEND", "os")
PRELOAD = " ".join(filter(None, [LIBRARY, os.environ.get("TALLY_TEST_BACKEND_LIBRARY")]))

# More options of Tally's: NAME=VALUE behind the library.
OPTIONS = dict(argument.split("=", 1) for argument in sys.argv[3:] if argument.startswith("TALLY_"))


def need(*programs):
    """Their paths; ends the test as skipped if one is missing."""
    paths = [shutil.which(program) for program in programs]
    for program, path in zip(programs, paths):
        if path is None:
            print(f"{program} is not installed (tools/dev installs it)")
            sys.exit(SKIPPED)
    return paths if len(paths) > 1 else paths[0]


def plain_environment(**more):
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD" and not k.startswith(("TALLY", "GIT_"))}
    env.update(LC_ALL="C.UTF-8", **more)
    return env


class Tally:
    """An environment with Tally preloaded whose processes report into a folder when they end."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "reports")
        os.mkdir(self.folder)

    def environment(self, **more):
        return plain_environment(LD_PRELOAD=PRELOAD, TALLY_BACKEND=BACKEND,
                                 TALLY_REPORT=os.path.join(self.folder, "%p.json"), **OPTIONS, **more)

    def reports(self):
        found = {}
        for path in glob.glob(os.path.join(self.folder, "*.json")):
            with open(path, "rb") as file:
                doc = snapshot_schema.parse(file.read())
            assert os.path.basename(path) == f"{doc['pid']}.json", path
            assert doc["backend"] == BACKEND, f"{path}: backend {doc['backend']}, not {BACKEND}"
            found[doc["pid"]] = doc
        return found

    def expect_live(self, allocations, processes=1, pid=None):
        """At least so many processes reported, and the busiest (or that one) allocated so much."""
        reports = self.reports()
        assert len(reports) >= processes, f"{len(reports)} reports, not {processes}"
        counts = {each: snapshot_schema.alloc_count(doc) for each, doc in reports.items()}
        count = counts.get(pid, 0) if pid else max(counts.values())
        assert count >= allocations, f"{count} allocations, not {allocations}; by pid {counts}"
        print(f"{len(reports)} processes reported; {count} allocations in the one that matters")


def run(command, env, cwd=None, input=None, timeout=150):
    done = subprocess.run(command, env=env, cwd=cwd, input=input, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout)
    assert done.returncode == 0, f"{command}: exit {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}"
    return done.stdout, done.stderr


def main(tests):
    """Runs the function of the name that was asked for, with a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        {test.__name__: test for test in tests}[sys.argv[1]](folder)
