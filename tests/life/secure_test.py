"""A set-user-id program ignores Tally's options: secure_test.py PROGRAM (statically linked; needs root)."""
import os
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
NOBODY = 65534


def main():
    if os.geteuid() != 0:
        print("needs root to make a set-user-id program")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        program = os.path.join(folder, "secure")
        shutil.copy(sys.argv[1], program)
        os.chown(program, NOBODY, NOBODY)
        os.chmod(program, 0o4755)
        report = os.path.join(folder, "report.json")
        env = {"PATH": os.environ.get("PATH", ""), "TALLY_REPORT": report, "TALLY_FOO": "1", "TALLY_CONF": "bar:1",
               "TALLY_DUMP_SIGNAL": "nonsense", "TALLY_RECORD": "keep"}
        records = f"/dev/shm/tally-{NOBODY}"
        shutil.rmtree(records, ignore_errors=True)
        os.chmod(folder, 0o777)  # a report could be written, if the option were heeded
        run = subprocess.run([program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert run.returncode == 0, run
        if run.stdout == b"secure 0\n":
            print("set-user-id has no effect here (a nosuid mount?)")
            return SKIPPED
        assert run.stdout == b"secure 1\n", run
        assert run.stderr == b"", run.stderr
        assert not os.path.exists(report), "TALLY_REPORT was heeded"
        assert not os.path.exists(records), "TALLY_RECORD was heeded"
        # The same program without the bit hears them, so that silence above means something.
        os.chmod(program, 0o755)
        run = subprocess.run([program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)
        assert b"TALLY_FOO" in run.stderr, run
        assert os.path.exists(report)
    return 0


sys.exit(main())
