"""A program of raised rights (AT_SECURE) ignores every option of Tally's: secure_test.py PROGRAM (statically linked; needs
root)."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
NOBODY = 65534
# What they take is a path, and so nothing is nonsense. (The dump's is of use with its signal alone.)
PATHS = {"dump_path", "log", "report"}


def run(program, env):
    done = subprocess.run([program], env={"PATH": os.environ.get("PATH", ""), **env}, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, text=True)
    assert done.returncode == 0, done
    return done


def main():
    if os.geteuid() != 0:
        print("needs root to make a set-user-id program")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = os.path.join(folder, "secure")
        shutil.copy(sys.argv[1], program)
        os.chown(program, NOBODY, NOBODY)

        # All that there are, with what none of them takes; and a report, a log and a record, which would be files.
        known = re.search(r"\(known: (.*)\)", run(program, {"TALLY_FOO": "1"}).stderr).group(1).split(", ")
        assert {"backend", "limit", "record", "tags"} <= set(known), known
        report = os.path.join(folder, "report.json")
        nonsense = {f"TALLY_{name.upper()}": "nonsense" for name in known if name not in PATHS}
        log = os.path.join(folder, "log")
        files = {"TALLY_REPORT": report, "TALLY_RECORD": "keep", "TALLY_CONF": "bar:1", "TALLY_LOG": log,
                 "TALLY_LIMIT": "1G:soft=0"}
        records = f"/dev/shm/tally-{NOBODY}"
        shutil.rmtree(records, ignore_errors=True)
        os.chmod(folder, 0o777)  # a report could be written, if the option were heeded

        os.chmod(program, 0o4755)
        for env in [{**nonsense, "TALLY_FOO": "1"}, files]:
            done = run(program, env)
            if done.stdout == "secure 0\n":
                print("set-user-id has no effect here (a nosuid mount?)")
                return SKIPPED
            assert done.stdout == "secure 1\n", done
            assert done.stderr == "", done.stderr
        assert not os.path.exists(report), "TALLY_REPORT was heeded"
        assert not os.path.exists(log), "TALLY_LOG was heeded"
        assert not os.path.exists(records), "TALLY_RECORD was heeded"

        # The same program without the bit hears them, so that silence above means something.
        os.chmod(program, 0o755)
        said = run(program, nonsense).stderr
        missing = [name for name in nonsense if name not in said]
        assert not missing, f"{missing} in {said}"
        assert "TALLY_CONF bar" in run(program, files).stderr
        assert os.path.exists(report) and os.path.exists(log)
    return 0


sys.exit(main())
