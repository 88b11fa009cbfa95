"""tools/dev test installs what is missing, and says what it cannot: dev_test.py SOURCE"""
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = sys.argv.pop(1)
AT_FIRST = "g++ cmake ninja-build python3 libboost-dev libcli11-dev nlohmann-json3-dev libelf-dev libdw-dev libncurses-dev " \
    "libprotozero-dev zlib1g-dev clang-format clang-tidy libgtest-dev libsqlite3-dev python3-dev"


class Dev(unittest.TestCase):
    """What it calls is played by scripts, which write down that they were called."""

    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        os.chmod(self.root, 0o777)  # a test runs as nobody
        for folder in ("tools", "tests/web", "bin", "installed", *"include src preload bench examples docs .ci".split()):
            os.makedirs(f"{self.root}/{folder}")
            os.chmod(f"{self.root}/{folder}", 0o777)
        shutil.copy(f"{SOURCE}/tools/dev", f"{self.root}/tools")
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(f"{SOURCE}/tests/web/{name}", f"{self.root}/tests/web")
        for name in "cmake ctest npm clang-format tools/check-layers tools/tidy".split():
            self.play(name, "")
        self.play("dpkg-query", f'for package in "$@"; do :; done\n[ ! -e {self.root}/installed/"$package" ] || echo installed')
        self.play("apt-get", f'case $1 in update | --version) exit ;; esac\nshift 3\ncd {self.root}/installed && touch "$@"')

    def play(self, name, script):
        path = f"{self.root}/{name if '/' in name else 'bin/' + name}"
        with open(path, "w") as file:
            file.write(f'#!/bin/sh\necho "{name} $*" >>{self.root}/calls\n{script}\n')
        os.chmod(path, 0o755)

    def run_it(self, *before):
        # Into a file: what is left running holds it open, and would hold up who reads a pipe to its end.
        with open(f"{self.root}/output", "w+") as output:
            status = subprocess.Popen([*before, "bash", f"{self.root}/tools/dev", "test"], stdout=output, stderr=output,
                                      stdin=subprocess.DEVNULL, cwd="/",
                                      env={"PATH": f"{self.root}/bin:/usr/bin:/bin", "LC_ALL": "C", "HOME": "/"}).wait()
            output.seek(0)
            return status, output.read()

    def nobody(self):
        """Before a command, has it run by somebody else than root."""
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.geteuid() == 0 else []
        if subprocess.run([*nobody, "test", "-r", f"{self.root}/tools/dev"], stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("nobody else can be played here")
        return nobody

    def calls(self, name):
        with open(f"{self.root}/calls") as file:
            return [line.split()[1:] for line in file if line.startswith(f"{name} ")]

    def install(self, names):
        for name in names.split():
            open(f"{self.root}/installed/{name}", "w").close()

    @unittest.skipUnless(os.geteuid() == 0, "only root installs without sudo")
    def test_all_is_installed_by_two_calls(self):
        status, output = self.run_it()
        self.assertEqual(status, 0, output)
        first, later = [call for call in self.calls("apt-get") if "install" in call]
        self.assertLessEqual(set(AT_FIRST.split()), set(first))
        self.assertIn("chromium", later)
        self.assertEqual(self.calls("npm"), [["ci", "--ignore-scripts", "--no-audit", "--no-fund"]])
        # And nothing twice.
        self.assertEqual(self.run_it()[0], 0)
        self.assertEqual(len([call for call in self.calls("apt-get") if "install" in call]), 2)

    @unittest.skipUnless(os.geteuid() == 0, "only root installs without sudo")
    def test_what_cannot_be_installed_ends_it(self):
        self.install(AT_FIRST)
        why = 'echo "E: Unable to locate package chromium" >&2\nexit 100'
        for name, script, done in ("fails at once", why, "== lint"), ("fails late", f"sleep 2; {why}", "== test tsan"):
            with self.subTest(name):
                self.play("apt-get", script)
                self.play("clang-format", "sleep 1" if name == "fails at once" else "")
                status, output = self.run_it()
                self.assertEqual(status, 1, output)
                self.assertIn(done, output)
                self.assertIn("tools/dev: installing libbenchmark-dev ", output.split("== lint")[0])
                self.assertNotIn("== build asan" if name == "fails at once" else "== build fuzz", output)
                self.assertRegex(output, r"E: Unable to locate package chromium\ntools/dev: could not install libbenchmark-dev "
                                 r".*\ntools/dev: test: the steps that follow need what could not be installed\n$")

    @unittest.skipUnless(os.geteuid() == 0, "only root installs without sudo")
    def test_where_lint_fails_what_is_being_installed_is_waited_for(self):
        self.install(AT_FIRST)
        self.play("apt-get", f'case $1 in update | --version) exit ;; esac\nsleep 1; touch {self.root}/waited')
        self.play("clang-format", "exit 1")
        status, output = self.run_it()
        self.assertEqual(status, 1, output)
        self.assertTrue(os.path.exists(f"{self.root}/waited"))
        self.assertIn("tools/dev: not formatted; clang-format -i FILE... does it\n"
                      "tools/dev: waiting for apt-get and npm to end\n", output)

    def test_sudo_is_asked_before_anything_runs(self):
        nobody = self.nobody()
        self.install(AT_FIRST)
        for what, expected in ('[ "$1" != -v ] || exit 1\nexec "$@"', 0), ("exit 1", 1):  # a password is for -v alone
            with self.subTest(what):
                self.play("sudo", what)
                status, output = self.run_it(*nobody)
                self.assertEqual(status, expected, output)
                self.assertEqual("== lint" in output, expected == 0)
                self.assertEqual("tools/dev: sudo does not let apt-get install them\n" in output, expected == 1)
                for name in ("chromium", "libbenchmark-dev"):
                    path = f"{self.root}/installed/{name}"
                    self.assertEqual(os.path.exists(path), expected == 0)
                    if expected == 0:
                        os.remove(path)

    @unittest.skipIf(shutil.which("sudo", path="/usr/bin:/bin"), "sudo is here")
    def test_who_may_not_install_is_told_before_anything_runs(self):
        self.install(AT_FIRST)
        nobody = self.nobody()
        status, output = self.run_it(*nobody)
        self.assertEqual(status, 1, output)
        self.assertIn("tools/dev: these packages are missing, and neither root nor sudo is here to install them: "
                      "libbenchmark-dev ", output)
        self.assertNotIn("== lint", output)


if __name__ == "__main__":
    unittest.main()
