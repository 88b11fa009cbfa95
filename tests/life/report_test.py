"""Reports at exit and dumps on a signal: report_test.py SLEEPER [LIBRARY]."""
import os
import re
import signal
import stat
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import snapshot_schema

SLEEPER = sys.argv[1]
LIBRARY = sys.argv[2] if len(sys.argv) > 2 else None
CACHE = "/sleeper/cache"


class Run:
    """The sleeper, started and ready; end() tells it how to go."""

    def __init__(self, *args, stderr=subprocess.PIPE, before=None, **env):
        clean = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}
        clean.update(env)
        if LIBRARY:
            clean["LD_PRELOAD"] = LIBRARY
        self.process = subprocess.Popen([SLEEPER, *args], env=clean, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=stderr, preexec_fn=before)
        assert self.process.stdout.readline() == b"ready\n"
        self.pid = self.process.pid

    def end(self, how="exit"):
        self.stdout, stderr = self.process.communicate(how.encode(), timeout=30)
        return self.process.returncode, (stderr or b"").decode()


def read(path):
    with open(path, "rb") as file:
        return file.read()


def snapshot(path, pid):
    doc = snapshot_schema.parse(read(path))
    assert doc["pid"] == pid, (doc["pid"], pid)
    cache = snapshot_schema.tag_named(doc, CACHE)
    assert cache["live_blocks"] == 1000 and cache["alloc_count"] == 1000, cache
    assert cache["requested_bytes"] == 100000, cache
    assert snapshot_schema.alloc_count(doc) > 1000
    return doc


def expect_table(text):
    for word in ["/sleeper/cache", "/tally", "live", "footprint", "peak", "total", "resident"]:
        assert word.lower() in text.lower(), f"{word} is not in {text}"
    assert re.search(r"\b1,?000\b", text), text


def to_standard_error(_):
    code, stderr = Run(TALLY_REPORT="1").end()
    assert code == 3, code
    expect_table(stderr)


def to_a_text_file(folder):
    path = os.path.join(folder, "report.txt")
    code, stderr = Run(TALLY_REPORT=path).end()
    assert (code, stderr) == (3, "")
    expect_table(read(path).decode())


def to_a_json_file(folder):
    path = os.path.join(folder, "report.json")
    run = Run(TALLY_REPORT=path)
    assert not os.path.exists(path), "written before the end"
    assert run.end() == (3, "")
    snapshot(path, run.pid)


def through_tally_conf(folder):
    path = os.path.join(folder, "conf.json")
    run = Run(TALLY_CONF=f"purge_ms:20,report:{path}")
    assert run.end() == (3, "")
    snapshot(path, run.pid)


def pid_in_the_name(folder):
    run = Run(TALLY_REPORT=os.path.join(folder, "a%p.b%p.json"))
    assert run.end() == (3, "")
    snapshot(os.path.join(folder, f"a{run.pid}.b{run.pid}.json"), run.pid)


def each_process_of_a_fork_its_own(folder):
    run = Run(TALLY_REPORT=os.path.join(folder, "%p.json"))
    assert run.end("fork") == (3, "")
    files = os.listdir(folder)
    assert len(files) == 2, files
    snapshot(os.path.join(folder, f"{run.pid}.json"), run.pid)
    child = next(int(name.split(".")[0]) for name in files if name != f"{run.pid}.json")
    doc = snapshot(os.path.join(folder, f"{child}.json"), child)
    assert snapshot_schema.tag_named(doc, "/sleeper/child")["live_blocks"] == 1


def an_older_file_is_replaced(folder):
    path = os.path.join(folder, "old.json")
    with open(path, "w") as file:
        file.write("x" * 1000000)
    run = Run(TALLY_REPORT=path)
    run.end()
    snapshot(path, run.pid)


def none_after__exit(folder):
    path = os.path.join(folder, "none.json")
    assert Run(TALLY_REPORT=path).end("_exit") == (5, "")
    assert not os.path.exists(path)


def a_path_that_cannot_be_written(_):
    code, stderr = Run(TALLY_REPORT="/nonexistent/folder/x.json").end()
    assert code == 3, code
    assert len(stderr.splitlines()) <= 1 and "Traceback" not in stderr, stderr


def after_stderr_was_closed(_):
    code, stderr = Run(TALLY_REPORT="1").end("close")
    assert code == 3, code
    expect_table(stderr)


def never_into_the_programs_own_files(folder):
    path = os.path.join(folder, "own")
    assert Run(path, TALLY_REPORT="1").end("reuse") == (3, "")
    assert read(path) == b"", read(path)
    # The program has no stderr, and its first file gets the number.
    for report in ["1", "/nonexistent/folder/x.json"]:
        assert Run(path, stderr=None, before=lambda: os.close(2), TALLY_REPORT=report).end("open") == (3, "")
        assert read(path) == b"", read(path)


def a_daemon_does_not_keep_stderr(_):
    run = Run(TALLY_REPORT="1")
    try:
        code, stderr = run.end("daemon")
        assert code == 3, code
        expect_table(stderr)
    finally:
        if getattr(run, "stdout", None):
            os.kill(int(run.stdout), signal.SIGKILL)


def a_child_reports_to_the_same_stderr(_):
    code, stderr = Run(TALLY_REPORT="1").end("fork")
    assert code == 3, code
    assert stderr.count("where the memory is") == 2 and "/sleeper/child" in stderr, stderr


def stderr_that_nobody_reads(_):
    reader, writer = os.pipe()
    run = Run(stderr=writer, TALLY_REPORT="1")
    os.close(reader)
    os.close(writer)
    assert run.end() == (3, "")


def a_fifo_is_written_into(folder):
    path = os.path.join(folder, "fifo")
    os.mkfifo(path)
    assert Run(TALLY_REPORT=path).end() == (3, f"tally: TALLY_REPORT: cannot write {path}: No such device or address\n")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert Run(TALLY_REPORT=path).end() == (3, "")
    expect_table(os.read(reader, 100000).decode())
    os.close(reader)
    assert stat.S_ISFIFO(os.stat(path).st_mode)
    assert os.listdir(folder) == ["fifo"]


def a_device_stays_one(folder):
    path = os.path.join(folder, "null")
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        os.close(os.open(path, os.O_WRONLY))
    except PermissionError:
        return  # only root makes devices
    assert Run(TALLY_REPORT=path).end() == (3, "")
    assert stat.S_ISCHR(os.stat(path).st_mode)


def links_of_ours_are_followed(folder):
    link, target = os.path.join(folder, "link"), os.path.join(folder, "target")
    os.symlink(target, link)
    for older in [None, "x" * 100000]:
        if older:
            with open(target, "w") as file:
                file.write(older)
        assert Run(TALLY_REPORT=link).end() == (3, "")
        assert os.path.islink(link)
        text = read(target).decode()
        expect_table(text)
        assert "xxx" not in text
    if os.geteuid() == 0:
        os.lchown(link, 65534, 65534)
        os.truncate(target, 0)
        assert Run(TALLY_REPORT=link).end() == (3, "")
        assert not os.path.islink(link) and read(target) == b""
        expect_table(read(link).decode())


def a_name_of_stderr_keeps_what_it_has(folder):
    path = os.path.join(folder, "log")
    with open(path, "wb") as log:
        log.write(b"said before\n")
        log.flush()
        assert Run(stderr=log, TALLY_REPORT="/proc/self/fd/2").end() == (3, "")
    text = read(path).decode()
    assert text.startswith("said before\n"), text[:100]
    expect_table(text)


def wait_for(path, older=None):
    """A dump replaces the file, so a new one has another inode, even within one tick of the file system's clock."""
    for _ in range(1500):
        try:
            if os.stat(path).st_ino != older and snapshot_schema.parse(read(path)):
                return
        except (OSError, snapshot_schema.Invalid):
            pass
        time.sleep(0.01)
    raise AssertionError(f"no dump at {path}")


def dumps_on_a_signal(folder):
    for name, number in [("USR2", signal.SIGUSR2), ("10", 10)]:
        run = Run(TALLY_DUMP_SIGNAL=name, TALLY_DUMP_PATH=os.path.join(folder, "dump.%p.json"))
        path = os.path.join(folder, f"dump.{run.pid}.json")
        assert not os.path.exists(path)
        os.kill(run.pid, number)
        wait_for(path)
        snapshot(path, run.pid)
        older = os.stat(path).st_ino
        os.kill(run.pid, number)
        wait_for(path, older)
        snapshot(path, run.pid)
        assert run.end() == (3, "")


def dumps_of_several_threads_on_the_smallest_stacks(folder):
    path = os.path.join(folder, "dump.json")
    run = Run(TALLY_DUMP_SIGNAL="USR2", TALLY_DUMP_PATH=path)
    assert run.end("dumps") == (3, "")
    snapshot(path, run.pid)
    assert os.listdir(folder) == ["dump.json"], os.listdir(folder)


def status(pid):
    lines = read(f"/proc/{pid}/status").decode().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def nothing_unasked(folder):
    """No output, no file, no thread, no signal handler, no descriptor, when no option is set."""
    os.chdir(folder)
    run = Run()
    now = status(run.pid)
    assert now["Threads"] == "1", now["Threads"]
    # Signals 32 and 33 are the C library's own.
    assert int(now["SigCgt"], 16) & ~(3 << 31) == 0, now["SigCgt"]
    assert sorted(os.listdir(f"/proc/{run.pid}/fd")) == ["0", "1", "2"], os.listdir(f"/proc/{run.pid}/fd")
    assert run.end() == (3, "")
    assert os.listdir(folder) == []


failed = False
for case in [to_standard_error, to_a_text_file, to_a_json_file, through_tally_conf, pid_in_the_name,
             each_process_of_a_fork_its_own, an_older_file_is_replaced, none_after__exit,
             a_path_that_cannot_be_written, after_stderr_was_closed, never_into_the_programs_own_files,
             a_daemon_does_not_keep_stderr, a_child_reports_to_the_same_stderr, stderr_that_nobody_reads,
             a_fifo_is_written_into, a_device_stays_one, links_of_ours_are_followed,
             a_name_of_stderr_keeps_what_it_has, dumps_on_a_signal,
             dumps_of_several_threads_on_the_smallest_stacks, nothing_unasked]:
    with tempfile.TemporaryDirectory() as folder:
        try:
            case(folder)
        except (AssertionError, OSError, snapshot_schema.Invalid, subprocess.TimeoutExpired) as failure:
            failed = True
            print(f"{case.__name__}: {type(failure).__name__}: {failure}")
sys.exit(failed)
