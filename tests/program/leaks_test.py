"""Leaks of docs/LEAKS.md, from tally run to the line: leaks_test.py NAME TALLY EXAMPLES [PYTHON]."""
import json
import os
import socket
import subprocess
import sys
import time

NAME, TALLY, EXAMPLES, *REST = sys.argv[1:]
SOURCES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "leaks")
ENV = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")} | {"TALLY_RECORD_MS": "100"}


def start(*command):
    return subprocess.Popen([TALLY, "run", "--exec", "--quiet", *command], env=ENV, stdout=subprocess.DEVNULL,
                            stderr=subprocess.DEVNULL)


def profile(pid, *args):
    out = subprocess.run([TALLY, "profile", "--format", "json", *args, str(pid)], check=True, stdout=subprocess.PIPE)
    found = json.loads(out.stdout)
    for stack in found["stacks"]:
        stack["frames"] = [found["frames"][frame] for frame in stack["frames"]]
    return found


def share(found, is_guilty):
    return sum(stack["bytes"] for stack in found["stacks"] if is_guilty(stack)) / max(found["bytes"], 1)


def leads_through(stack, function, file=None):
    return any(function in frame["function"] and (file is None or frame["file"].endswith(file))
               for frame in stack["frames"])


def tenant():
    process = start(os.path.join(EXAMPLES, "bad_tenant"), "3")
    time.sleep(2.5)
    found = profile(process.pid, "--growth")
    process.wait()
    assert share(found, lambda stack: stack["tag"] == "/tenant/umbrella") > 0.9, found["stacks"][:3]
    assert share(found, lambda stack: leads_through(stack, "handle_request", "bad_tenant.cpp")) > 0.9


def extension():
    if not os.path.exists(os.path.join(EXAMPLES, "words.so")) and not [f for f in os.listdir(EXAMPLES) if "words" in f]:
        print("skipped: there is no extension, for want of Python's headers (Debian: python3-dev)")
        sys.exit(77)
    process = start(REST[0], os.path.join(SOURCES, "count_words.py"), EXAMPLES, "3")
    time.sleep(2.5)
    found = profile(process.pid, "--growth")
    process.wait()

    def is_guilty(stack):
        return stack["tag"].startswith("/lib/words") and leads_through(stack, "copy_word", "words.c")

    assert share(found, is_guilty) > 0.9, found["stacks"][:3]


def redis():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    process = start("redis-server", "--port", port, "--save", "", "--appendonly", "no")
    while subprocess.run(["redis-cli", "-p", port, "ping"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode:
        time.sleep(0.05)
    subprocess.run([os.path.join(SOURCES, "leaking_redis.sh"), port, "3"], check=True, stderr=subprocess.DEVNULL)
    found = profile(process.pid, "--growth")
    process.terminate()
    process.wait()
    # Names of functions, not lines, as Debian has no debug files of its own for it.
    assert share(found, lambda stack: leads_through(stack, "evalGenericCommand")) > 0.7, found["stacks"][:3]


{"tenant": tenant, "extension": extension, "redis": redis}[NAME]()
