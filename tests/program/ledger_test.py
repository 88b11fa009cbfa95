"""The ledger of real programs' records explains what is resident: ledger_test.py NAME LIBRARY [PROGRAM]
[TALLY_X=Y...].

What is not the heap's is measured here, from the kernel's own tables."""
import os
import signal
import socket
import subprocess
import sys
import time

from programs import LIBRARY, OPTIONS, main, need, plain_environment, run
import record
import residual

MOST = 0.02


class Recorded:
    def __init__(self, *command, **more):
        env = plain_environment(LD_PRELOAD=LIBRARY, TALLY_RECORD="1", TALLY_RECORD_MS="50", **OPTIONS)
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, **more)
        self.path = record.path_of(self.process.pid)

    def ready(self):
        assert self.process.stdout.readline() == b"ready\n"

    def sequence(self):
        """Of its newest frame; 0 before the first."""
        try:
            return record.Record(self.path).sequence
        except (FileNotFoundError, record.Invalid):
            return 0

    def explain(self, least):
        """While it stands still, with a frame of just now, and at least so many bytes resident."""
        pid = self.process.pid
        # None that was begun before it was ready, as the next may be: a frame looks at one thing after the other.
        first = self.sequence() + 2
        end = time.monotonic() + 30
        while True:
            assert time.monotonic() < end, "no frame of a moment at which it did not grow"
            time.sleep(0.13)
            os.kill(pid, signal.SIGSTOP)
            with open(f"/proc/{pid}/statm") as file:
                resident = int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
            found = record.Record(self.path)
            rss = found.ledger["rss"]
            if found.sequence >= first and rss >= least and abs(resident - rss) < MOST / 4 * resident:
                break
            os.kill(pid, signal.SIGCONT)
        rest, other = residual.residual(found, pid)
        self.process.kill()
        self.process.communicate()
        os.remove(self.path)
        part = rest / found.ledger["rss"]
        print(f"{100 * part:.2f} % of {found.ledger['rss']} bytes are not explained; {other} are not the heap's")
        print({name: size for name, size in found.ledger.items() if size})
        assert abs(part) <= MOST, part


def explain_python(code, least):
    program = Recorded(sys.executable, "-c", "import time\n" + code + "print('ready', flush=True)\ntime.sleep(100)")
    program.ready()
    program.explain(least)


def python(folder):
    explain_python("import json, email, asyncio\nwords = [str(i) * 5 for i in range(300000)]\nkept = words[::3]\n"
                   "del words\nblocks = [bytearray(n * 100) for n in range(2000)]\nlarge = bytearray(50 << 20)\n", 100 << 20)


def replaced(folder):
    """Large blocks that come and go: of those that were freed last some wait, closed, with their pages."""
    explain_python("kept = bytearray(20 << 20)\nfor n in range(3000): block = bytearray(100000 + n % 7 * 300000)\n", 30 << 20)


def redis(folder):
    server, client = need("redis-server", "redis-cli")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    program = Recorded(server, "--port", port, "--save", "", "--enable-debug-command", "yes", cwd=folder)
    for _ in range(100):
        if subprocess.run([client, "-p", port, "ping"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE).stdout == b"PONG\n":
            break
        time.sleep(0.05)
    for what in (["300000", "key", "100"], ["3000", "long", "30000"]):
        run([client, "-p", port, "debug", "populate", *what], plain_environment())
    run([client, "-p", port, "del", *[f"long:{i}" for i in range(0, 3000, 2)]], plain_environment())
    program.explain(60 << 20)


def gxx(folder):
    compiler = need("g++")
    source = os.path.join(folder, "source.cpp")
    with open(source, "w") as file:
        file.write("#include <regex>\n#include <map>\n#include <functional>\n#include <algorithm>\n#include <random>\n"
                   + "".join(f"bool f{i}(const std::string& s) {{ return std::regex_match(s, std::regex(\"a{i}\")); }}\n"
                             for i in range(200)))
    whole = os.path.join(folder, "source.ii")
    run([compiler, "-E", source, "-o", whole], plain_environment())
    cc1plus = run([compiler, "-print-prog-name=cc1plus"], plain_environment())[0].decode().strip()
    program = Recorded(cc1plus, "-quiet", "-O2", "-fpreprocessed", whole, "-o", os.devnull)
    program.explain(60 << 20)


def threads(folder):
    program = Recorded(sys.argv[3])
    program.ready()
    program.explain(30 << 20)


main([python, replaced, redis, gxx, threads])
