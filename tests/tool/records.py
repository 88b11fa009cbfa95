"""Processes that have a record, for the tests of what reads them. The third argument is the program that plays one."""

import os
import shutil
import subprocess
import sys

import tool

WRITER = os.path.realpath(sys.argv[3])
# A user that nobody is, with a folder of records of its own: what is listed there is the test's alone, also while another
# one runs.
USER = 50000 + os.getpid() % 10000


class RecordTest(tool.ToolTest):
    command = None  # the one that is tested

    def start(self, *mode, folder=None, user=None):
        """A process with a record in the folder; (it, the file)."""
        folder = folder or self.folder
        child = subprocess.Popen([self.program(WRITER) if user else WRITER, folder, *mode], stdin=subprocess.PIPE,
                                 stdout=subprocess.PIPE, text=True, **as_user(user))
        path = os.path.join(folder, f"{child.pid}.tally")

        def end():
            child.kill()
            child.communicate()
            if os.path.exists(path):
                os.remove(path)
        self.addCleanup(end)
        self.assertEqual(child.stdout.readline(), "ready\n")
        return child, path

    def kill(self, child):
        child.kill()
        child.wait()

    def program(self, path):
        """A copy that any user may run."""
        copy = self.path(os.path.basename(path))
        if not os.path.exists(copy):
            shutil.copy(path, copy)
            os.chmod(copy, 0o755)
        return copy

    def tally(self, *args, user=None, **more):
        """(stdout, stderr, status) of the command."""
        if user is not None:
            self.tool = self.program(tool.TALLY)
            return self.call(self.command, *map(str, args), **as_user(user), **more)
        return self.call(self.command, *map(str, args), **more)

    def says(self, *args, **more):
        """What it prints; it must end well and complain of nothing."""
        out, err, status = self.tally(*args, **more)
        self.assertEqual((err, status), ("", 0))
        return out

    def refuses(self, message, *args, status=1, **more):
        self.assertEqual(self.tally(*args, **more), ("", f"tally {self.command}: {message}\n", status))

    def own_user(self):
        """The user whose records are the test's alone, and their folder."""
        if os.geteuid() != 0:
            self.skipTest("needs root, to be a user without other records")
        folder = f"/dev/shm/tally-{USER}"
        self.addCleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
        return USER, folder


def as_user(user):
    return {} if user is None else {"user": user, "group": user, "extra_groups": []}
