"""The sampled heap profile as a record has it: sampled_test.py SAMPLED [LIBRARY]."""
import os
import re
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import record

SAMPLED, *REST = sys.argv[1:]
LIBRARY = REST[0] if REST else None
CACHED = 112  # bytes of the block for 100


class Run:
    def __init__(self, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}
        clean.update({"TALLY_SAMPLE": "2", "TALLY_RECORD_MS": "20"} | env)
        if LIBRARY:
            clean["LD_PRELOAD"] = LIBRARY
        self.process = subprocess.Popen([SAMPLED], env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.pid = self.process.pid
        self.path = record.path_of(self.pid)
        word, self.fill_cache = self.process.stdout.readline().decode().split()
        assert word == "ready"
        self.fill_cache = int(self.fill_cache, 16)

    def say(self, how):
        self.process.stdin.write(how.encode())
        self.process.stdin.flush()

    def settled(self):
        """Once all that was allocated is published: by the publication after the next frame's."""
        found, deadline = record.Record(self.path), time.monotonic() + 30
        first = found.sequence
        while found.sequence < first + 2:
            assert time.monotonic() < deadline, "nothing is published any more"
            time.sleep(0.02)
            found = record.Record(self.path)
        return found

    def end(self):
        self.process.communicate(b"exit", timeout=30)


def by_tag(profile, what):
    sums = {}
    for site in profile["sites"]:
        objects, size = sums.get(site["tag"], (0, 0))
        sums[site["tag"]] = objects + site[what][0], size + site[what][1]
    return sums


def about(sums, tag, objects, size):
    assert abs(sums[tag][0] - objects) <= 2 and abs(sums[tag][1] - size) <= 2 * size / objects, (tag, sums[tag])


def check(found, live_cache=2000):
    profile = found.profile()
    assert profile["rate"] == 2 and profile["lost"] == 0 and profile["cut"] == 0, profile
    live, allocated = by_tag(profile, "live"), by_tag(profile, "allocated")
    about(live, "/cache", live_cache, live_cache * CACHED)
    about(live, "/store", 200, 200 * 5120)
    about(allocated, "/cache", 2000, 2000 * CACHED)
    about(allocated, "/store", 300, 300 * 5120)
    for tag in "/cache", "/store":
        own = found.tags[tag]["own"]
        about(live, tag, own["live_blocks"], own["live_bytes"])
    (freed,) = [sum(site["lifetimes"]) for site in profile["sites"] if site["tag"] == "/store"]
    assert 99 <= freed <= 101, freed
    assert len([s for s in profile["samples"] if s["tag"] == "/cache"]) == live_cache
    return profile


def tells_who_allocated():
    run = Run()
    found = run.settled()
    profile = check(found)
    # Each of the two calls of fill_cache is a line of main's.
    (first, second) = [site for site in profile["sites"] if site["tag"] == "/cache"]
    assert first["allocated"] == second["allocated"], (first, second)

    def in_fill_cache(frame):
        return 0 < frame[0] - run.fill_cache < 200

    def frames_of(site):
        at = next(i for i, frame in enumerate(site["stack"]) if in_fill_cache(frame))
        assert LIBRARY is None or at == 0, "Tally's own frames are not the program's"
        return site["stack"][at:]

    a, b = frames_of(first), frames_of(second)
    assert a[0] == b[0] and a[1] != b[1] and a[2:] == b[2:], (a, b)
    program = profile["modules"][a[0][1]]
    assert program["path"] == os.path.realpath(SAMPLED), program
    assert program["start"] <= a[0][0] < program["end"]
    notes = subprocess.run(["readelf", "-n", SAMPLED], stdout=subprocess.PIPE, check=True).stdout.decode()
    assert re.search("Build ID: ([0-9a-f]+)", notes)[1] == program["build_id"]
    assert any("libc" in profile["modules"][frame[1]]["path"] for frame in a), "who called main"
    cache = [s for s in profile["samples"] if s["tag"] == "/cache"]
    assert {(s["bytes"], s["requested"], s["thread"]) for s in cache} == {(CACHED, 100, run.pid)}
    (thread,) = {s["thread"] for s in profile["samples"] if s["tag"] == "/store"}
    assert thread != run.pid
    assert all(0 <= profile["time"] - s["time"] < 60e9 for s in profile["samples"])
    large = [s for s in profile["samples"] if s["requested"] == 1000000]
    assert len(large) == 5 and {s["bytes"] for s in large} == {1003520}
    run.end()


def survives_sigkill():
    run = Run()
    run.settled()
    run.process.send_signal(signal.SIGKILL)
    run.process.wait()
    found = record.Record(run.path)
    assert found.is_dead
    check(found)
    os.unlink(run.path)


def goes_on_in_a_forked_child():
    run = Run(TALLY_RECORD_MS="0")
    run.say("fork")
    child = int(run.process.stdout.readline().decode().split()[1])
    found = record.Record(record.path_of(child))
    profile = check(found, live_cache=1500)
    assert len([site for site in profile["sites"] if site["tag"] == "/cache"]) == 2
    run.end()


def there_is_none_unless_asked_for():
    run = Run(TALLY_SAMPLE="0", TALLY_RECORD="1")
    assert run.settled().profile() is None
    run.end()


def the_record_comes_with_it_unless_refused():
    run = Run(TALLY_RECORD="0")
    assert not os.path.exists(run.path)
    run.end()
    run = Run(TALLY_SAMPLE="1")
    profile = run.settled().profile()
    assert profile["rate"] == 512 << 10
    run.end()


for test in (tells_who_allocated, survives_sigkill, goes_on_in_a_forked_child, there_is_none_unless_asked_for,
             the_record_comes_with_it_unless_refused):
    test()
    print("ok", test.__name__)
