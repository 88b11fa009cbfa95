"""What docs/CONTAINERS.md tells of a program that the kernel kills in its container: container_test.py TALLY SURROUNDINGS.

The containers are those of a pod: mount namespaces of their own, in one namespace of processes, with a folder in memory
that they share as /dev/shm, as `emptyDir` is; the program in a cgroup of 128 MiB."""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import cgroup

SKIPPED = 77
TALLY, SURROUNDINGS = sys.argv[1:3]
MIB = 1 << 20
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}


class Pod:
    def __init__(self, shared, group):
        self.shared, self.group = shared, group

    def start(self, *command, enter=None):
        script = 'mount --bind "$0" /dev/shm && exec "$@"'
        return subprocess.Popen(["unshare", "--mount", "sh", "-c", script, self.shared, *command], env=ENVIRONMENT, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=enter)

    def start_limited(self, *command):
        """Its status, what it said, and its process id."""
        def enter():
            with open(os.path.join(self.group, "cgroup.procs"), "w") as file:
                file.write("0")
        process = self.start(*command, enter=enter)
        _, err = process.communicate(timeout=100)
        return process.returncode, err, process.pid

    def app(self, *options):
        """Eats all that it may have."""
        return self.start_limited(TALLY, "run", *options, "--option", "tag_by=module", SURROUNDINGS, "eat")

    def sidecar(self, *command):
        process = self.start(TALLY, *command)
        out, err = process.communicate(timeout=100)
        assert process.returncode == 0, f"tally {command}: {process.returncode} {err}"
        return out


def check(pod):
    # Killed, started anew as its container would be, and killed again: the record of each is there, for the other container.
    killed = []
    for _ in range(2):
        code, err, pid = pod.app("--exec")
        assert code == -signal.SIGKILL, f"without a limit: {code} {err}"
        killed.append(pid)
    found = {process["pid"]: process for process in json.loads(pod.sidecar("ps", "--json"))}
    assert [found[pid]["state"] for pid in killed] == ["dead", "dead"], found
    for pid in killed:
        told = json.loads(pod.sidecar("stat", "--json", str(pid)))
        live = next(tag["live_bytes"] for tag in told["tags"] if tag["name"].startswith("/exe/surroundings"))
        assert 80 * MIB < live < 128 * MIB, live
    # And from outside, by its file.
    path = os.path.join(pod.shared, f"tally-{os.getuid()}", f"{killed[0]}.tally")
    out = subprocess.run([TALLY, "ledger", path], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert out.startswith(f"process {killed[0]}, dead, "), out

    # As process 1, whose next life has the same number, and as a child of it.
    as_first = ["unshare", "--pid", "--kill-child", "--mount-proc", TALLY, "run", "--quiet", "--option", "tag_by=module"]
    for options, pid in ([], 2), (["--exec"], 1):
        for _ in range(2):
            pod.start_limited(*as_first, *options, SURROUNDINGS, "eat")
        last, newest = (json.loads(pod.sidecar("stat", "--json", f"/dev/shm/tally-{os.getuid()}/{name}.tally"))
                        for name in ("last", pid))
        assert (last["pid"], last["state"], newest["state"]) == (pid, "dead", "dead"), f"{last['pid']} {newest['state']}"
        assert last["time_ns"] < newest["time_ns"], f"{last['time_ns']} {newest['time_ns']}"

    # The record of process 1 of a container that lives is left to it, whoever has its number elsewhere.
    living = pod.start(*as_first, "--exec", "--option", "record_ms=100", "sleep", "100")
    try:
        def lives():
            return any(process["state"] == "running" for process in json.loads(pod.sidecar("ps", "--json")))
        while not lives():
            assert living.poll() is None, living.communicate()
            time.sleep(0.1)
        pod.start_limited(*as_first, "--exec", SURROUNDINGS, "once")
        assert json.loads(pod.sidecar("stat", "--json", "1"))["state"] == "running"
    finally:
        living.kill()
        living.communicate()

    # What others may have put in its place, as all write to /dev/shm, keeps nobody.
    folder = os.path.join(pod.shared, f"tally-{os.getuid()}")
    record = os.path.join(folder, "1.tally")
    for owner in os.getuid(), os.getuid() + 1:
        if os.path.exists(record):
            os.remove(record)
        os.mkfifo(record)
        os.chown(folder, owner, -1)
        code, err, _ = pod.start_limited(*as_first, "--exec", SURROUNDINGS, "once")
        assert code == 0, f"{owner}: {code} {err}"
    os.chown(folder, os.getuid(), -1)

    # Where `tally run` stays, the kernel kills the program alone, the larger one, and the log tells of it.
    code, err, _ = pod.app()
    assert code == -signal.SIGKILL and "it seems for want of memory: the kernel's OOM killer was at work" in err, f"{code} {err}"

    # A limit below the container's refuses, and the program lives.
    code, err, _ = pod.app("--exec", "--limit", "90%")
    assert code == 0 and "tally: limit: / may have no more" in err, f"with a limit: {code} {err}"


def main():
    if "IN_POD" not in ENVIRONMENT:
        # What is mounted here goes with it.
        apart = ["unshare", "--mount", "--pid", "--fork", "--mount-proc"]
        tried = subprocess.run([*apart, "true"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if tried.returncode != 0:
            print(f"no namespaces can be made here: {tried.stdout}")
            return SKIPPED
        return subprocess.run([*apart, sys.executable, "-B", *sys.argv], env=ENVIRONMENT | {"IN_POD": "1"}).returncode
    with tempfile.TemporaryDirectory() as shared:
        group, limit = cgroup.make_group()
        if group is None:
            print(f"no cgroup can be made here: {limit}")
            return SKIPPED
        try:
            cgroup.allow(group, limit, 128 * MIB)
            subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,mode=1777", "tmpfs", shared], check=True)
            check(Pod(shared, group))
        finally:
            subprocess.run(["umount", "--lazy", shared])
            cgroup.remove(group)
    return 0


sys.exit(main())
