"""A cgroup that limits memory, for tests of what happens at its limit; of version 1 or 2, whichever is there."""
import os
import time


def make_group():
    """Its folder and the file of its limit; None and why not."""
    name = f"tally-test-{os.urandom(6).hex()}"  # the process id may be that of a namespace
    for parent, limit in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
        folder = os.path.join(parent, name)
        if not os.path.exists(os.path.join(parent, "cgroup.procs")):
            why = f"{parent} is no cgroup"
            continue
        try:
            os.mkdir(folder)
        except OSError as error:
            why = f"cannot make {folder}: {error.strerror}"
            continue
        if os.path.exists(os.path.join(folder, limit)):
            return folder, limit
        os.rmdir(folder)
        why = f"{parent} does not limit memory"
    return None, why


def allow(folder, limit, size):
    for name, value in ((limit, size), ("memory.memsw.limit_in_bytes", size), ("memory.swap.max", 0)):
        path = os.path.join(folder, name)
        if os.path.exists(path):
            with open(path, "w") as file:
                file.write(str(value))


def remove(folder):
    """Who was in it may be about to leave."""
    for _ in range(1000):
        try:
            return os.rmdir(folder)
        except OSError:
            time.sleep(0.01)
    raise TimeoutError(f"{folder} is still in use")
