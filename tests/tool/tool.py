"""What the tests of `tally` share. Their first arguments are TALLY LIBRARY."""

import os
import subprocess
import sys
import tempfile
import unittest

TALLY = os.path.realpath(sys.argv[1])
# As the program finds it: by the name that others are linked to.
LIBRARY = os.path.join(os.path.dirname(os.path.realpath(sys.argv[2])), "libtally.so.1")


class ToolTest(unittest.TestCase):
    maxDiff = None
    tool = TALLY

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = os.path.realpath(folder.name)
        os.chmod(self.folder, 0o755)
        self.env = {k: v for k, v in os.environ.items()
                    if not k.startswith("TALLY_") and k not in ("LD_PRELOAD", "LD_LIBRARY_PATH")}

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text, mode=0o755):
        with open(self.path(name), "w", encoding="utf-8") as out:
            out.write(text)
        os.chmod(self.path(name), mode)
        return self.path(name)

    def call(self, *args, environment=None, **more):
        done = subprocess.run([self.tool, *args], env={**self.env, **(environment or {})}, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60, text=True, **more)
        return done.stdout, done.stderr, done.returncode

    def run_quietly(self, *args, **more):
        """What the program printed; it must end well and nothing may be said."""
        out, err, status = self.call("run", "--quiet", *args, **more)
        self.assertEqual((err, status), ("", 0))
        return out

    def fails(self, status, message, *args, **more):
        self.assertEqual(self.call("run", *args, **more), ("", f"tally run: {message}\n", status))

    def variable(self, name, *args, **more):
        """What the program finds in its environment."""
        return self.call("run", *args, "printenv", name, **more)[0].rstrip("\n")
