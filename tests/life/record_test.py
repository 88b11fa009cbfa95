"""The record as others find it: record_test.py RECORDED SLEEPER [LIBRARY] [--kills N]."""
import ctypes
import os
import random
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import record

ARGS = sys.argv[1:]
KILLS = int(ARGS.pop(ARGS.index("--kills") + 1)) if "--kills" in ARGS else 60
RECORDED, SLEEPER, *REST = [arg for arg in ARGS if arg != "--kills"]
LIBRARY = REST[0] if REST else None
CACHE = "/sleeper/cache"
NOT_KEPT = "; no record is kept\n"


class Run:
    """A program, started and ready; end() tells it how to go."""

    def __init__(self, *command, before=None, wait=True, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}
        clean.update({"TALLY_RECORD": "1"} | env)
        if LIBRARY:
            clean["LD_PRELOAD"] = LIBRARY
        self.process = subprocess.Popen(command, env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, preexec_fn=before)
        self.pid = self.process.pid
        self.path = record.path_of(self.pid)
        if wait:
            self.ready()

    def line(self):
        return self.process.stdout.readline().decode().rstrip("\n")

    def ready(self):
        assert self.line() == "ready", self.process.stderr.read()

    def go_on(self):
        self.process.stdin.write(b"go on\n")
        self.process.stdin.flush()

    def read(self):
        return record.Record(self.path)

    def kill(self):
        self.process.kill()
        self.process.communicate(timeout=30)

    def end(self, how="exit"):
        self.stdout, stderr = self.process.communicate(how.encode(), timeout=30)
        return self.process.returncode, stderr.decode()


def until(what, seconds=10):
    end = time.monotonic() + seconds
    while not (result := what()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)
    return result


def tells_what_is_held():
    run = Run(SLEEPER, TALLY_RECORD_MS="50")
    found = until(lambda: (r := run.read()).sequence > 2 and r)
    assert stat.S_IMODE(os.stat(run.path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(record.folder()).st_mode) == 0o700
    assert found.pid == run.pid and not found.is_dead and found.is_last == 0
    assert found.executable == os.path.realpath(SLEEPER) and found.command == [SLEEPER]
    cache = found.tags[CACHE]["own"]
    assert cache["live_blocks"] == 1000 and cache["requested_bytes"] == 100000, cache
    (row,) = [row for row in found.classes if row["tag"] == CACHE]
    assert (row["live_blocks"], row["allocs"], row["requested"]) == (1000, 1000, 100000), row
    assert found.points()[-1]["tags"][CACHE] == (cache["live_bytes"] // 1024 * 1024, cache["footprint_bytes"])
    assert len(found.minutes()) == 1
    assert run.end() == (3, "")
    assert not os.path.exists(run.path)


def is_readable_when_stopped():
    run = Run(SLEEPER, TALLY_RECORD_MS="50")
    until(lambda: CACHE in run.read().tags)
    os.kill(run.pid, signal.SIGSTOP)
    assert run.read().tags[CACHE]["own"]["live_blocks"] == 1000 and not run.read().is_dead
    os.kill(run.pid, signal.SIGCONT)
    assert run.end() == (3, "")


def stays_if_asked():
    for env in ({}, {"TALLY_RECORD_MS": "1000"}):
        run = Run(SLEEPER, TALLY_RECORD="keep", **env)
        assert run.end() == (3, "")
        found = run.read()
        assert found.is_last == 1 and found.is_dead
        assert found.tags[CACHE]["own"]["live_blocks"] == 1000
        os.remove(run.path)


def has_a_thread_only_if_asked():
    run = Run(RECORDED, "idle")
    assert len(os.listdir(f"/proc/{run.pid}/task")) == 1
    found = run.read()
    assert found.sequence > 1 and found.has_thread == 0 and found.interval_ms == 1000
    assert run.end() == (0, "")
    run = Run(RECORDED, "idle", TALLY_RECORD_MS="70")
    (thread,) = set(os.listdir(f"/proc/{run.pid}/task")) - {str(run.pid)}
    with open(f"/proc/{run.pid}/task/{thread}/stat") as file:
        fields = file.read().rsplit(")", 1)
    assert fields[0].endswith("(tally-recorder"), fields
    assert fields[1].split()[16] == "19", fields  # nice
    with open(f"/proc/{run.pid}/task/{thread}/status") as file:
        blocked = int([line for line in file if line.startswith("SigBlk")][0].split()[1], 16)
    # All but KILL, STOP, what a filter of system calls answers by, and libc's own two.
    assert blocked | 1 << 8 | 1 << 18 | 1 << 30 == (1 << 64) - 1 - (3 << 31), hex(blocked)
    assert not blocked >> 30 & 1
    found = run.read()
    assert found.has_thread == 1 and found.interval_ms == 70
    assert run.end() == (0, "")


def takes_no_descriptor_that_the_program_may_count_on():
    run = Run(RECORDED, "idle", TALLY_RECORD_MS="1")
    theirs = {fd for fd in os.listdir(f"/proc/{run.pid}/fd") if int(fd) < 200}
    for _ in range(3000):
        now = {fd for fd in os.listdir(f"/proc/{run.pid}/fd") if int(fd) < 200}
        assert now == theirs, now - theirs
    assert run.read().ledger["rss"] > 0
    assert run.end() == (0, "")


def is_none_without_the_option():
    run = Run(SLEEPER, TALLY_RECORD="0", TALLY_RECORD_MS="10")
    assert not os.path.exists(run.path) and len(os.listdir(f"/proc/{run.pid}/task")) == 1
    assert run.end() == (3, "")


def outlives_a_kill():
    """At any instant; what it tells is as old as it says, and complete."""
    late = 0
    for i in range(KILLS):
        run = Run(RECORDED, "stress", TALLY_RECORD_MS="2")
        time.sleep(random.random() * 0.03)
        run.kill()
        now = time.time_ns()
        found = run.read()
        assert found.is_dead and found.pid == run.pid
        late += now - found.time > 300_000_000
        tags = [found.tags.get(f"/stress/{t}") for t in range(10)]
        if all(tags):
            blocks = [tag["own"]["live_blocks"] for tag in tags]
            # Some frames are from before the last tag was filled.
            if min(blocks) > 0 and found.sequence > 2 and sum(blocks) > 29000:
                assert all(abs(n - 3000) < 200 for n in blocks[:-1]), blocks
        for point in found.points():
            assert point["rss"] > 0
        os.remove(run.path)
    assert late <= KILLS // 20, f"{late} of {KILLS} were late"


def is_harmless_whatever_is_written_to_it():
    def scribble(run, stop):
        fuzz = random.Random(1)
        while not stop.is_set():
            try:
                with open(run.path, "r+b", buffering=0) as file:
                    what = fuzz.random()
                    if what < 0.2:
                        os.ftruncate(file.fileno(), fuzz.choice([0, 1, 5000, record.AT_REQUEST, record.FILE_BYTES, 1 << 30]))
                    elif what < 0.6:
                        os.pwrite(file.fileno(), fuzz.randbytes(fuzz.randrange(1, 5000)), fuzz.randrange(record.FILE_BYTES))
                    elif what < 0.8:
                        os.pwrite(file.fileno(), fuzz.randbytes(300), record.AT_REQUEST)
                    else:
                        tag = b"fuzz/" + fuzz.randbytes(fuzz.randrange(252))
                        record.request(run.path, fuzz.choice([0, 1, 2, 3, 1 << 31]), tag, fuzz.getrandbits(64),
                                       fuzz.getrandbits(64), fuzz.getrandbits(32), fuzz.randrange(1, 1 << 40))
            except (OSError, record.struct.error):
                pass

    plain = Run(RECORDED, "compute", TALLY_RECORD="0")
    assert plain.end() == (0, "")
    for ms in ("0", "3"):
        run = Run(RECORDED, "compute", TALLY_RECORD_MS=ms)
        stop = threading.Event()
        writers = [threading.Thread(target=scribble, args=(run, stop)) for _ in range(2)]
        for writer in writers:
            writer.start()
        assert run.end() == (0, ""), (run.process.returncode, ms)
        stop.set()
        for writer in writers:
            writer.join()
        assert run.stdout == plain.stdout, (ms, run.stdout, plain.stdout)


def is_the_childs_own_after_fork():
    run = Run(RECORDED, "fork", TALLY_RECORD_MS="50", wait=False)
    child = int(run.line())
    run.ready()
    mine, other = run.read(), record.Record(record.path_of(child))
    assert other.pid == child and not other.is_dead and other.has_thread == 0
    assert other.tags["/child"]["own"]["live_blocks"] == 1 and "/child" not in mine.tags
    run.go_on()
    assert run.line() == "gone"
    # The parent's lock is its own, and it goes on.
    before = run.read()
    assert not before.is_dead and record.Record(record.path_of(child)).is_dead
    until(lambda: run.read().sequence > before.sequence)
    os.remove(record.path_of(child))
    assert run.end() == (0, "")


def leaves_it_to_the_parent_in_hidden_children():
    run = Run(RECORDED, "hidden")
    before = run.read()
    run.go_on()
    run.ready()
    after = run.read()
    assert (after.pid, after.created) == (before.pid, before.created)
    # They passed the slow path for long enough, and the parent did not.
    assert after.sequence == before.sequence, (before.sequence, after.sequence)
    assert run.end() == (0, "")


def begins_anew_with_another_program():
    run = Run(RECORDED, "exec", "x")
    found = run.read()
    assert found.pid == run.pid and not found.is_dead and found.command[1] == "idle"
    assert run.end() == (0, "")
    assert not os.path.exists(run.path)


def never_writes_to_another_file():
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "own")
        for ms in ("0", "20"):
            run = Run(RECORDED, "numbers", path, TALLY_RECORD_MS=ms)
            before = run.read()
            run.go_on()
            run.ready()
            assert os.path.getsize(path) == 0
            # It found its own again.
            after = run.read()
            assert after.sequence > before.sequence and not after.is_dead
            assert run.end() == (0, "")
            assert not os.path.exists(run.path)


def is_lost_quietly_with_its_file():
    run = Run(SLEEPER, TALLY_RECORD_MS="20")
    os.remove(run.path)
    time.sleep(0.3)
    assert not os.path.exists(run.path)
    assert run.end() == (3, "")


def are_few_when_dead():
    for _ in range(record.DEAD_KEPT + 4):
        Run(RECORDED, "idle").kill()
    last = Run(RECORDED, "idle")
    names = set(os.listdir(record.folder())) - {"last.tally"}  # is kept besides, by tally run
    dead = [name for name in names if record.can_lock(open(os.path.join(record.folder(), name), "rb"))]
    assert len(dead) == record.DEAD_KEPT, names
    assert last.end() == (0, "")
    for name in dead:
        os.remove(os.path.join(record.folder(), name))


def answer(run, sequence, seconds=10):
    found = until(lambda: (r := record.reply(run.path)) and r[0] == sequence and r, seconds)
    return found[1], found[2]


def limits_from_outside():
    mib = 1 << 20
    run = Run(RECORDED, "limit", TALLY_RECORD_MS="1000")
    begun = time.monotonic()
    sequence = record.request(run.path, 1, "tenant", soft=mib, hard=2 * mib)
    assert answer(run, sequence) == (0, 0)
    assert time.monotonic() - begun < 0.4, "it is to take effect within 200 ms"
    found = until(lambda: (r := run.read()).tags["/tenant"]["hard_limit"] == 2 * mib and r, 1)
    assert found.tags["/tenant"]["soft_limit"] == mib
    assert found.tags["/tenant"]["pressure"] == 1  # it holds more than the soft limit
    assert [(e["kind"], e["tag"], e["soft"], e["hard"]) for e in found.events()] == \
        [("limit_set", "/tenant", mib, 2 * mib)]
    # What is wrong is said, and changes nothing.
    EINVAL, ENAMETOOLONG = 22, 36
    for error, kind, tag, more in [
            (EINVAL, 9, "tenant", {}), (EINVAL, 1, "a//b", {}), (EINVAL, 1, "tally/x", {}), (EINVAL, 1, "tally", {}),
            (EINVAL, 1, b"x" * 256, {}), (ENAMETOOLONG, 1, b"x" * 255, {}),
            (EINVAL, 1, "tenant", {"soft": 2, "hard": 1}), (EINVAL, 1, "tenant", {"policy": 7})]:
        sequence = record.request(run.path, kind, tag, **more)
        got = answer(run, sequence)[0]
        assert got == error, (kind, tag, more, got)
    # One that is older than the last is none.
    record.request(run.path, 1, "tenant", hard=1, sequence=1)
    time.sleep(0.25)
    assert run.read().tags["/tenant"]["hard_limit"] == 2 * mib
    run.go_on()
    assert run.line() == "no more, told 2"
    events = [(e["kind"], e["asked"]) for e in run.read().events()]
    assert ("failed", 100000) in events, events
    code, stderr = run.end()
    assert code == 0 and "tally: limit: /tenant may have no more: asked" in stderr, stderr
    # Without a thread, at a step of the program's own.
    run = Run(RECORDED, "limit")
    sequence = record.request(run.path, 1, "tenant", soft=0, hard=mib)
    time.sleep(0.15)
    run.go_on()
    assert run.line() == "more, told 1"  # the allocation that made the step, and the level after it
    assert answer(run, sequence) == (0, 0)
    assert run.read().tags["/tenant"]["hard_limit"] == mib
    assert run.end()[0] == 0


def tells_of_the_end_by_a_limit():
    run = Run(RECORDED, "limit", TALLY_LIMITS="tenant=2100K:abort")
    run.go_on()
    assert run.line() == ""
    code, stderr = run.end("")
    assert code == -signal.SIGABRT and "and the program ends" in stderr, (code, stderr)
    found = run.read()
    assert found.is_dead and found.is_last == 0
    assert found.tags["/tenant"]["own"]["large_live_blocks"] == 20 and found.tags["/tenant"]["refused_count"] == 1
    assert found.events()[-1]["kind"] == "aborts" and found.events()[-1]["asked"] == 100000
    os.remove(run.path)


def trims_from_outside():
    run = Run(RECORDED, "trim", TALLY_RECORD_MS="1000", TALLY_PURGE_MS="3600000")
    until(lambda: run.read().ledger["dirty"] > 30 << 20)
    before = run.read().ledger
    error, size = answer(run, record.request(run.path, 2))
    assert error == 0 and size > 30 << 20, size
    after = until(lambda: (r := run.read().ledger)["dirty"] == 0 and r)
    assert after["rss"] < before["rss"] - (30 << 20), (before, after)
    assert run.end() == (0, "")


def ends_with_the_last_of_the_programs_threads():
    run = Run(RECORDED, "leave_main", TALLY_RECORD_MS="1000")
    run.process.wait(10)
    assert run.end("") == (0, "")


def follows_a_change_of_user():
    if os.geteuid() != 0:
        return
    run = Run(RECORDED, "user", TALLY_RECORD_MS="20")
    before = run.read()
    until(lambda: run.read().sequence > before.sequence + 2)
    run.kill()
    os.remove(run.path)


def needs_room():
    """Little of it: the program lives, there is one message and no file."""
    def short_files():
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    run = Run(RECORDED, "idle", before=short_files)
    assert run.end() == (0, f"tally: TALLY_RECORD: cannot write {run.path}: File too large{NOT_KEPT}")
    assert not os.path.exists(run.path)


def in_a_shm(options, prepare):
    """The program's status and what it says, with a /dev/shm of its own."""
    libc = ctypes.CDLL(None, use_errno=True)

    def before():
        CLONE_NEWNS, MS_REC_PRIVATE = 0x20000, 0x44000
        if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) != 0 or \
                libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", 0, options) != 0:
            os._exit(99)
        prepare()
    for ms in ("0", "5"):
        run = Run(RECORDED, "idle", before=before, wait=False, TALLY_RECORD_MS=ms)
        code, stderr = run.end()
        yield code, stderr, run.path


def refuses_what_is_not_its_own():
    folder = record.folder()
    use = f"tally: TALLY_RECORD: cannot use {folder}: "

    def foreign():
        os.mkdir(folder, 0o700)
        os.chown(folder, 65534, 65534)

    def open_to_others():
        os.mkdir(folder)
        os.chmod(folder, 0o710)

    def linked():
        os.mkdir("/dev/shm/elsewhere", 0o700)
        os.symlink("/dev/shm/elsewhere", folder)

    def no_folder():
        open(folder, "w").close()
    for prepare, options, message in [
            (lambda: None, b"size=1m", ""),
            (lambda: None, b"size=8k", f"tally: TALLY_RECORD: cannot write PATH: No space left on device{NOT_KEPT}"),
            (lambda: None, b"nr_inodes=2", f"tally: TALLY_RECORD: cannot make PATH: No space left on device{NOT_KEPT}"),
            (foreign, b"size=1m", f"{use}it belongs to user 65534, not to user {os.geteuid()}{NOT_KEPT}"),
            (open_to_others, b"size=1m", f"{use}others may enter it: run chmod 700 {folder}{NOT_KEPT}"),
            (linked, b"size=1m", f"{use}it is a link, or no folder: remove it{NOT_KEPT}"),
            (no_folder, b"size=1m", f"{use}it is a link, or no folder: remove it{NOT_KEPT}")]:
        for code, stderr, path in in_a_shm(options, prepare):
            if code == 99:
                print("no /dev/shm of one's own may be mounted here")
                return
            assert code == 0 and stderr == message.replace("PATH", path), (code, stderr, message)


def main():
    chosen = os.environ.get("ONLY")
    for test in [tells_what_is_held, is_readable_when_stopped, stays_if_asked, has_a_thread_only_if_asked,
                 takes_no_descriptor_that_the_program_may_count_on,
                 is_none_without_the_option, outlives_a_kill, is_harmless_whatever_is_written_to_it,
                 is_the_childs_own_after_fork, leaves_it_to_the_parent_in_hidden_children,
                 begins_anew_with_another_program, never_writes_to_another_file, is_lost_quietly_with_its_file,
                 are_few_when_dead, limits_from_outside, tells_of_the_end_by_a_limit, trims_from_outside, ends_with_the_last_of_the_programs_threads,
                 follows_a_change_of_user, needs_room, refuses_what_is_not_its_own]:
        if chosen and test.__name__ != chosen:
            continue
        begun = time.monotonic()
        try:
            test()
        except Exception:
            print(f"{test.__name__}: failed", flush=True)
            raise
        print(f"{test.__name__}: passed in {time.monotonic() - begun:.1f} s", flush=True)


main()
