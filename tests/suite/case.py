"""A case of somebody's test suite, and what may become of it."""
import os
import signal
import subprocess
import time

PASSED, FAILED, SKIPPED = "passed", "failed", "skipped"


class Skip(Exception):
    """The case cannot run on this machine."""


def plain_environment(**more):
    env = {k: v for k, v in os.environ.items()
           if k != "LD_PRELOAD" and not k.startswith(("TALLY", "GIT_", "PYENV", "PYTHON"))}
    env.update(LC_ALL="C.UTF-8", PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", **more)
    return env


class Case:
    """A function of the environment and a folder of its own; it raises Skip, or another exception if it fails."""

    def __init__(self, name, function):
        self.name, self.function = name, function

    def run(self, env, folder):
        try:
            self.function(env, folder)
        except Skip as reason:
            return SKIPPED, str(reason)
        except Exception as error:  # whatever it is, the case failed
            return FAILED, f"{type(error).__name__}: {error}"
        return PASSED, ""


def run(command, env, cwd, timeout=600, skipped=(77,), user=None):
    """What it wrote; as another user if that is said. The whole process group ends with it, as programs under test leave some behind."""
    process = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True, user=user)
    try:
        out = process.communicate(timeout=timeout)[0].decode(errors="replace")
    except subprocess.TimeoutExpired:
        out = f"no end after {timeout} s"
        process.returncode = -signal.SIGKILL
        # First so, as it may have put processes into other groups, and can end those.
        os.killpg(process.pid, signal.SIGTERM)
        time.sleep(1)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    if process.returncode in skipped:
        raise Skip(out.strip().splitlines()[-1] if out.strip() else "status 77")
    assert process.returncode == 0, f"{command[0]}: status {process.returncode}\n{out}"
    return out


def program(name, command, timeout=600, skipped=(77,), **more):
    """A case that passes if the command ends with status 0."""
    return Case(name, lambda env, folder: run(command, env | more, folder, timeout, skipped))
