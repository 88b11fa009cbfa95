#!/usr/bin/env python3
"""`tally run` as the parent of its program: signals, stops, the terminal, and the end.

usage: tally_supervise_test.py TALLY LIBRARY
"""

import ctypes
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
import unittest

from tool import TALLY, ToolTest

RUN = [TALLY, "run", "--quiet"]

# Prints "ready PID", then a line for each signal. SIGTERM is the last that it waits for.
LOGGER = """
import os, signal
def log(text): os.write(1, (text + "\\n").encode())
wanted = set(signal.valid_signals()) - {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD}
if not os.environ.get("STOPS"): wanted -= {signal.SIGTSTP}
else: wanted = {signal.SIGCONT, signal.SIGTERM, signal.SIGINT}
signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
log(f"ready {os.getpid()}")
while True:
    info = signal.sigwaitinfo(wanted)
    log(f"got {info.si_signo}{' queued' if info.si_code == -1 else ''}")
    if info.si_signo == signal.SIGTERM: os._exit(3)
"""


def state(pid):
    """The letter that the kernel has for it; "" if it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0]
    except OSError:
        return ""


class SuperviseTest(ToolTest):
    def setUp(self):
        super().setUp()
        self.env["TALLY_RECORD"] = "0"

    def until(self, what, *args):
        """Waits until what(*args) is true."""
        end = time.monotonic() + 30
        while not what(*args):
            self.assertLess(time.monotonic(), end, f"{what.__name__}{args} never held")
            time.sleep(0.005)

    def start(self, *args, **more):
        """`tally run` with the program, and the program's process id."""
        child = subprocess.Popen([*RUN, sys.executable, "-c", LOGGER, *args], env={**self.env, **more.pop("env", {})},
                                 stdout=subprocess.PIPE, text=True, **more)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child, int(child.stdout.readline().split()[1])


class Ends(SuperviseTest):
    def test_by_the_programs_signal(self):
        for number in signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT, signal.SIGRTMIN + 1:
            self.assertEqual(self.call("run", "--quiet", "sh", "-c", f"kill -{int(number)} $$"), ("", "", -number))
        self.assertEqual(self.call("run", "--quiet", "true"), ("", "", 0))

    def test_as_a_shell_sees_it(self):
        shell = f"'{TALLY}' run --quiet sh -c 'kill -9 $$'; echo $?; '{TALLY}' run sh -c 'exit 7'; echo $?"
        done = subprocess.run(["sh", "-c", shell], env={**self.env, "TALLY_REPORT": "0"}, capture_output=True,
                              text=True, timeout=60)
        self.assertEqual(done.stdout, "137\n7\n")

    def test_by_a_signal_that_is_ignored_outside(self):
        # nohup and the like: the program sets it back, and dies by it.
        code = "import os, signal; signal.signal(1, signal.SIG_DFL); os.kill(os.getpid(), 1)"
        done = subprocess.run(["nohup", *RUN, sys.executable, "-c", code], env=self.env, capture_output=True,
                              timeout=60)
        self.assertEqual(done.returncode, -signal.SIGHUP)

    def test_without_a_core_of_its_own(self):
        shell = f"ulimit -c unlimited; cd '{self.folder}'; exec '{TALLY}' run --quiet sh -c 'ulimit -c 0; kill -SEGV $$'"
        done = subprocess.run(["sh", "-c", shell], env=self.env, capture_output=True, timeout=60)
        self.assertEqual((done.returncode, os.listdir(self.folder)), (-signal.SIGSEGV, []))

    def test_as_process_1(self):
        unshare = shutil.which("unshare")
        if not unshare or subprocess.run([unshare, "-pf", "true"], capture_output=True).returncode != 0:
            self.skipTest("no process namespaces here")
        done = subprocess.run([unshare, "-pf", *RUN, "sh", "-c", "kill -9 $$"], env=self.env, timeout=60)
        self.assertEqual(done.returncode, 137)
        # Orphans become its children, and do not keep it.
        done = subprocess.run([unshare, "-pf", *RUN, "sh", "-c", "(sleep 0.1 & exit) & exit 4"], env=self.env, timeout=60)
        self.assertEqual(done.returncode, 4)

    def test_with_what_is_told(self):
        for number, text in ((9, "SIGKILL (Killed)"), (6, "SIGABRT (Aborted)"),
                             (signal.SIGRTMIN + 1, f"signal {signal.SIGRTMIN + 1}")):
            out, err, status = self.call("run", "sh", "-c", f"ulimit -c 0; echo $$; kill -{int(number)} $$")
            self.assertEqual(status, -number)
            self.assertEqual(err.splitlines()[0], f"tally: process {out.strip()} was ended by {text}")


class PostMortem(SuperviseTest):
    """What a record that the library wrote makes of it; post_mortem_test.cpp has all else."""

    def setUp(self):
        super().setUp()
        del self.env["TALLY_RECORD"]

    def test_of_a_program_that_was_killed(self):
        code = "\n".join(["import os, time", "held = []", "for _ in range(30): held.append(b'x' * (1 << 20)); "
                          "time.sleep(0.1)", "print(os.getpid(), flush=True); os.kill(os.getpid(), 9)"])
        out, err, status = self.call("run", "--option", "record_ms=100", sys.executable, "-c", code)
        self.assertEqual(status, -signal.SIGKILL)
        pid = out.strip()
        path = f"/dev/shm/tally-{os.geteuid()}/{pid}.tally"
        self.addCleanup(os.remove, path)
        ended, as_of, heads, largest, *_, last = err.splitlines()
        self.assertEqual(ended, f"tally: process {pid} was ended by SIGKILL (Killed)")
        live = re.match(r"as of (?:\d+ ms|1 s) before: RSS [0-9.]+ MiB = live blocks ([0-9.]+) MiB \+ ", as_of)
        self.assertGreater(float(live.group(1)), 20)
        self.assertRegex(heads, r"^TAG +LIVE +FOOTPRINT +WITH ALL BELOW +GREW IN \d s$")
        tag, live, mib, _, _, _, _, grew, unit = largest.split()
        self.assertRegex(tag, "^/(lib|exe)/.*python")
        self.assertGreater(float(live), 20)
        self.assertEqual((mib, unit), ("MiB", "MiB"))
        self.assertGreater(float(grew), 5)
        self.assertEqual(last, f"its record is kept, and `tally stat {path}` tells more")

    def test_of_a_program_that_exits_past_its_handlers(self):
        code = "import os; held = b'x' * (30 << 20); print(os.getpid(), flush=True); os._exit(7)"
        out, err, status = self.call("run", sys.executable, "-c", code)
        self.assertEqual(status, 7)
        path = f"/dev/shm/tally-{os.geteuid()}/{out.strip()}.tally"
        self.assertFalse(os.path.exists(path))
        ended, as_of, heads, largest, *_ = err.splitlines()
        self.assertEqual(ended, f"tally: process {out.strip()} ended without a report, by _exit or the like")
        self.assertRegex(as_of, r"^as of .* before: RSS [0-9.]+ MiB = live blocks \d")
        self.assertRegex(heads, r"^TAG +LIVE +FOOTPRINT +WITH ALL BELOW")
        self.assertRegex(largest, "^/(lib|exe)/.*python")
        self.assertEqual(self.call("run", "--quiet", sys.executable, "-c", code)[1:], ("", 7))
        out, _, _ = self.call("run", "--option", "record=keep", sys.executable, "-c", code)
        os.remove(f"/dev/shm/tally-{os.geteuid()}/{out.strip()}.tally")

    def test_without_a_record(self):
        out, err, status = self.call("run", "--no-record", "sh", "-c", "echo $$; kill -9 $$")
        self.assertEqual(status, -signal.SIGKILL)
        self.assertEqual(err, f"tally: process {out.strip()} was ended by SIGKILL (Killed)\nno record of it: "
                         f"/dev/shm/tally-{os.geteuid()}/{out.strip()}.tally: No such file or directory\n")

    def test_without_room_for_one(self):
        unshare = shutil.which("unshare")
        shell = f"mount -t tmpfs -o nr_inodes=1 none /dev/shm && exec '{TALLY}' run sh -c 'echo $$; kill -9 $$'"
        command = [unshare or "", "-m", "--propagation", "private", "sh", "-c"]
        if not unshare or subprocess.run([*command, "true"], capture_output=True).returncode != 0:
            self.skipTest("no mount namespaces here")
        done = subprocess.run([*command, shell], env=self.env, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, -signal.SIGKILL)
        self.assertRegex(done.stderr, rf"\nno record of it: /dev/shm/tally-\d+/{done.stdout.strip()}\.tally: .*\n$")


class IsNotSeen(SuperviseTest):
    def test_group_session_and_parent(self):
        code = "import os; print(os.getpgrp(), os.getsid(0), os.getppid())"
        with subprocess.Popen([*RUN, sys.executable, "-c", code], env=self.env, stdout=subprocess.PIPE,
                              text=True) as child:
            self.assertEqual(child.stdout.read(), f"{os.getpgrp()} {os.getsid(0)} {child.pid}\n")

    def test_what_signals_do(self):
        """What is blocked and ignored is what it was."""
        def prepare():
            signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR2])
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        show = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"]
        bare = subprocess.run(show, env=self.env, preexec_fn=prepare, capture_output=True, text=True, timeout=60).stdout
        self.assertEqual(len(bare.splitlines()), 3)
        self.assertEqual(self.run_quietly(*show, preexec_fn=prepare), bare)

    def test_exec(self):
        code = "import os; print(os.getpid())"
        for args in ["--exec"], ["--exec", "--json", self.path("heap.json")]:
            with subprocess.Popen([TALLY, "run", *args, sys.executable, "-c", code], env=self.env, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
                self.assertEqual(child.stdout.read(), f"{child.pid}\n")
        self.assertTrue(os.path.exists(self.path("heap.json")))
        self.assertEqual(self.call("run", "--exec", "--quiet", "sh", "-c", "exit 5"), ("", "", 5))
        path = self.write("script", "#!/no/such/interpreter\n")
        self.fails(127, f"{path}: No such file or directory", "--exec", path)


class Signals(SuperviseTest):
    def test_are_passed_on_once(self):
        child, _ = self.start()
        numbers = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE,
                   signal.SIGALRM, signal.SIGWINCH, signal.SIGABRT, signal.SIGTTIN, signal.SIGRTMIN + 3]
        for number in numbers:
            child.send_signal(number)
            self.assertEqual(child.stdout.readline(), f"got {int(number)}\n")
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.stdout.read(), "got 15\n")
        self.assertEqual(child.wait(60), 3)

    def test_keep_that_they_were_queued(self):
        child, _ = self.start()
        ctypes.CDLL(None).sigqueue(child.pid, int(signal.SIGUSR1), ctypes.c_void_p(5))
        self.assertEqual(child.stdout.readline(), "got 10 queued\n")

    def test_of_the_program_do_not_come_back(self):
        # As scripts end all that they started, and as some say that they are ready.
        shell = "trap 'echo got' TERM; trap '' USR1; kill 0; sleep 0.3; kill -USR1 $PPID; sleep 0.3; echo end"
        child = subprocess.run([*RUN, "bash", "-c", shell], env=self.env, capture_output=True, text=True,
                               start_new_session=True, timeout=60)
        self.assertEqual((child.stdout, child.returncode), ("got\nend\n", 0))

    def test_of_a_clock_set_before(self):
        code = f"import os, signal; signal.alarm(1); os.execv('{TALLY}', {[*RUN, 'sleep', '60']})"
        self.assertEqual(subprocess.run([sys.executable, "-c", code], env=self.env, timeout=60).returncode,
                         -signal.SIGALRM)

    def test_kill_takes_the_program_along(self):
        child, pid = self.start()
        child.kill()
        self.assertEqual(child.wait(60), -signal.SIGKILL)
        self.until(lambda: state(pid) in ("", "Z"))


class Stops(SuperviseTest):
    def test_of_the_program_alone_do_not_hold_up_its_end(self):
        child, pid = self.start(start_new_session=True)
        os.kill(pid, signal.SIGSTOP)
        self.until(lambda: state(pid) == "T")
        time.sleep(0.1)
        self.assertEqual(state(child.pid), "S")
        os.kill(pid, signal.SIGCONT)
        self.assertEqual(child.stdout.readline(), f"got {int(signal.SIGCONT)}\n")
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.wait(60), 3)

    def test_of_both_and_going_on(self):
        child, pid = self.start(env={"STOPS": "1"}, process_group=0)
        child.send_signal(signal.SIGTSTP)
        _, status = os.waitpid(child.pid, os.WUNTRACED)
        self.assertEqual((os.WIFSTOPPED(status), os.WSTOPSIG(status)), (True, signal.SIGTSTP))
        self.assertEqual(state(pid), "T")
        child.send_signal(signal.SIGCONT)  # not the group
        self.assertEqual(child.stdout.readline(), f"got {int(signal.SIGCONT)}\n")
        self.until(lambda: state(child.pid) == "S")
        child.send_signal(signal.SIGTERM)
        self.assertEqual(child.stdout.read(), "got 15\n")
        self.assertEqual(child.wait(60), 3)


class Terminal(SuperviseTest):
    """Under an interactive shell on a terminal of its own."""

    def setUp(self):
        super().setUp()
        self.shown = ""
        self.shell, self.ours = pty.fork()
        if self.shell == 0:
            os.environ.clear()
            os.environ.update({**self.env, "PS1": "$ ", "TERM": "dumb", "HISTFILE": ""})
            os.execvp("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"])
        os.set_inheritable(self.ours, False)
        self.addCleanup(self.leave)
        self.write("logger.py", LOGGER)
        self.logger = f"'{TALLY}' run --quiet '{sys.executable}' '{self.path('logger.py')}'"
        self.expect(r"\$ ")

    def leave(self):
        os.close(self.ours)  # hangs up
        self.until(lambda: os.waitpid(self.shell, os.WNOHANG)[0] == self.shell)

    def type(self, text):
        os.write(self.ours, text.encode())

    def expect(self, pattern):
        """What was shown up to the pattern's end; it is not looked at again."""
        end = time.monotonic() + 30
        while not (found := re.search(pattern, self.shown)):
            ready = select.select([self.ours], [], [], max(0, end - time.monotonic()))[0]
            self.assertTrue(ready, f"no {pattern!r} in {self.shown!r}")
            self.shown += os.read(self.ours, 4096).decode()
        text, self.shown = self.shown[:found.end()], self.shown[found.end():]
        return text

    def expect_once(self, line):
        """The line, and within a moment no other."""
        self.expect(line + r"\r\n")
        time.sleep(0.2)
        while select.select([self.ours], [], [], 0)[0]:
            self.shown += os.read(self.ours, 4096).decode()
        self.assertEqual(self.shown.replace("^C", "").replace("^\\", ""), "")

    def test_keys_and_the_size_come_once(self):
        self.type(self.logger + "\n")
        self.expect(r"ready \d+\r\n")
        self.type("\x03")
        self.expect_once("got 2")
        self.type("\x1c")
        self.expect_once("got 3")
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 132, 0, 0))
        self.expect_once(f"got {int(signal.SIGWINCH)}")

    def test_stop_and_foreground(self):
        self.type(f"STOPS=1 {self.logger}\n")
        self.expect(r"ready \d+\r\n")
        for _ in range(2):
            self.type("\x1a")
            self.expect(r"Stopped .*\r\n\$ ")
            self.type("fg\n")
            self.expect_once(f"got {int(signal.SIGCONT)}")
            self.type("\x03")
            self.expect_once("got 2")
        self.type("\x1a")
        self.expect(r"Stopped .*\r\n\$ ")
        self.type("bg\n")
        self.expect(f"got {int(signal.SIGCONT)}\r\n")
        self.type("kill %1; wait %1; echo status $?\n")
        self.expect("status 3\r\n")

    def test_a_program_that_stops_itself(self):
        self.type(f"'{TALLY}' run --quiet sh -c 'kill -STOP $$; echo goes on; kill -INT $$'\n")
        self.expect(r"Stopped.*\r\n\$ ")
        self.type("fg\n")
        self.expect(r"\r\ngoes on\r\n")
        self.expect(r"\$ ")
        self.type("echo status $?\n")
        self.expect("status 130\r\n")

    def test_reading_in_the_background(self):
        self.type(f"'{TALLY}' run --quiet sh -c 'read line; echo read $line' &\n")
        self.expect(r"\[1\] \d+\r\n\$ ")
        self.until(lambda: self.shows("jobs\n", "Stopped"))
        self.type("fg\n")
        self.expect("read line.*\r\n")
        self.type("some text\n")
        self.expect("read some text\r\n")

    def shows(self, command, text):
        self.type(command)
        return text in self.expect(r"\[1\].*\r\n\$ ")

    def test_the_hang_up_comes_without_a_shell_too(self):
        """As where a terminal is opened for the program alone: `tally run` leads the session."""
        log = self.path("log")
        child, ours = pty.fork()
        if child == 0:
            shell = f"trap 'echo hung up >\"{log}\"; exit 5' HUP; echo ready; while sleep 0.1; do :; done"
            os.execvpe(TALLY, [*RUN, "sh", "-c", shell], self.env)
        while b"ready" not in os.read(ours, 4096):
            pass
        os.close(ours)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 5)
        with open(log, encoding="utf-8") as file:
            self.assertEqual(file.read(), "hung up\n")

    def test_the_terminal_is_the_shells_again(self):
        before = termios.tcgetattr(self.ours)
        self.type(f"'{TALLY}' run --quiet sh -c 'stty -a >/dev/null; test -t 0 && test -t 1 && echo a terminal'\n")
        self.expect("\r\na terminal\r\n")
        self.expect(r"\$ ")
        self.assertEqual(termios.tcgetattr(self.ours), before)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
