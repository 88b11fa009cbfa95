"""A shell in which a page's commands are run one after the other, and what they say compared with what is shown."""
import os
import re
import select
import signal
import subprocess
import tempfile
import time

from markdown import Wrong

SECONDS = 300  # for a block; much, as the machine may be busy
# With a /dev/shm of its own, where that may be: of all records of dead processes there only the newest are kept, and other
# tests leave some at the same time.
OWN_RECORDS = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs -o mode=1777 tmpfs /dev/shm && exec "$@"', "sh"]


class Terminal:
    """One bash for a page, so that its folder, variables and programs in the background are there for the next block."""

    def __init__(self, folder, environment):
        self.room = tempfile.TemporaryDirectory()
        self.said, self.tells = os.pipe()
        bash = [*(OWN_RECORDS if may_have_own_records() else []), "bash", "--norc", "--noprofile"]
        self.process = subprocess.Popen(bash, stdin=subprocess.PIPE, cwd=folder, env=environment, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, pass_fds=[self.tells], start_new_session=True)
        self.write(f"set -euo pipefail; trap 'echo $LINENO >{self.room.name}/failed' ERR\n")

    def write(self, text):
        self.process.stdin.write(text.encode())
        self.process.stdin.flush()

    def run(self, text, line, status=0):
        """Runs it; what it printed, if it ended as expected. LINE is where the page has it."""
        files = {name: os.path.join(self.room.name, name) for name in ("block", "output", "failed")}
        with open(files["block"], "w") as file:
            file.write(text)
        if os.path.exists(files["failed"]):
            os.remove(files["failed"])
        call = f". {files['block']} </dev/null >{files['output']} 2>&1 {self.tells}>&-"
        if status:  # in a shell of its own, which may end; not behind `||`, where -e is forgotten
            call = f"set +e; (set -e; {call}); ended=$?; set -e; echo $ended >&{self.tells}\n"
        else:
            call = f"{call}\necho 0 >&{self.tells}\n"
        try:
            self.write(call)
        except BrokenPipeError:
            raise Wrong("not run, as a block before it failed") from None
        ended = self.wait()
        with open(files["output"], errors="replace") as file:
            output = file.read()
        if ended != status:
            command = text.strip()
            if os.path.exists(files["failed"]):
                with open(files["failed"]) as file:
                    at = int(file.read()) - 1
                line += at
                command = text.split("\n")[at]
            how = f"ended with {ended}" if ended is not None else f"not at an end after {SECONDS} s"
            raise Wrong(f"line {line}: {how}, expected {status}: {command}\n{output}")
        return output

    def wait(self):
        """The status of what was run, or of the shell where that ended; None if neither did in time."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            if select.select([self.said], [], [], 0.1)[0]:
                return int(os.read(self.said, 100))
            # Others may have the pipe open, of the shell's own in the background: its end tells nothing.
            if self.process.poll() is not None:
                return self.process.returncode
        os.killpg(self.process.pid, signal.SIGKILL)
        return None

    def end(self):
        """Ends it with all that it started."""
        ours = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if runs_in(pid, self.process.pid)]
        for pid in ours:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.communicate()
        while any(runs_in(pid, self.process.pid) for pid in ours):
            time.sleep(0.01)
        self.room.cleanup()
        os.close(self.said)
        os.close(self.tells)


def may_have_own_records():
    return subprocess.run([*OWN_RECORDS, "true"], stderr=subprocess.DEVNULL).returncode == 0


def runs_in(pid, session):
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, _, _, its = file.read().rpartition(")")[2].split()[:4]
        return int(its) == session and state != "Z"
    except OSError:
        return False


def shape_of(line):
    """The line without what differs from run to run: numbers with their units, addresses, widths of columns."""
    line = re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{12,}\b|\d[\d.,:]*(?: ?(?:[KMGT]i?B|B|ms|us|ns|s|%)(?![A-Za-z]))?|(?<=\s)-(?=\s)", "#",
                  line)
    return re.sub(r"\s+", " ", re.sub(r"[-+]?#", "#", line)).strip()


def compare(shown, output):
    """The lines that a page shows with those that came; `...` or `…` for any lines, `…` in a line for any text."""
    came = "".join(shape_of(line) + "\n" for line in output.strip("\n").split("\n")) if output.strip() else ""
    parts = []
    for line in shown:
        if line.strip() in ("...", "…"):
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(re.sub(r"(\\ )?…(\\ )?", ".*", re.escape(shape_of(line))) + r"\n")
    if re.fullmatch("".join(parts), came):
        return
    for count in range(1, len(parts) + 1):
        if not re.match("".join(parts[:count]), came):
            raise Wrong(f"shown, and did not come: {shown[count - 1]}\n{output}")
    raise Wrong(f"more came than is shown\n{output}")
