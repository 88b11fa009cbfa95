#!/usr/bin/env python3
"""`tally doctor`: each of its lines, in a mount namespace where files of the kernel can be made up.

usage: tally_doctor_test.py TALLY LIBRARY C_COMPILER ARCHIVE
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import unittest

from tool import LIBRARY, TALLY, ToolTest

COMPILER, ARCHIVE = sys.argv[3:5]
NOBODY = 65534
DLOPEN = ("note", "dlopen", "it loads libraries as it runs: one that is loaded with RTLD_DEEPBIND uses the C "
          "library's malloc, which Tally does not see")


def unshare():
    """The command that gives what follows mounts of its own; None if that is not allowed."""
    command = [shutil.which("unshare") or "unshare", "-m", "--propagation", "private"]
    try:
        return command if subprocess.run([*command, "true"], capture_output=True).returncode == 0 else None
    except OSError:
        return None


class DoctorTest(ToolTest):
    def lines(self, *args, status=None, **more):
        """(level, about, text) of each line. The status must be what the lines say."""
        out, err, got = self.call("doctor", *args, **more)
        self.assertEqual(err, "")
        lines = [tuple(part.strip() for part in re.match(r"(ok|note|problem) +(.+?)  +(.*)", line).groups())
                 for line in out.splitlines()]
        self.assertEqual(got, 1 if any(level == "problem" for level, _, _ in lines) else 0)
        if status is not None:
            self.assertEqual(got, status)
        return lines

    def line(self, about, *args, **more):
        """The only line about this."""
        found = [line for line in self.lines(*args, **more) if line[1] == about]
        self.assertEqual(len(found), 1, found)
        return found[0][0], found[0][2]

    def compiled(self, name, code, *options):
        source = self.write(f"{name}.c", code)
        subprocess.run([COMPILER, "-w", "-fno-builtin", source, "-o", self.path(name), *options], check=True,
                       capture_output=True)
        return self.path(name)


class System(DoctorTest):
    def with_mounts(self, shell, *args, environment=None):
        """The lines after a shell made up what the kernel has."""
        command = unshare() or self.skipTest("no mount namespaces here")
        self.tool = self.write("doctor", f"#!/bin/sh\nset -e\n{shell}\nexec '{TALLY}' \"$@\"\n")
        done = subprocess.run([*command, self.tool, "doctor", *args], env={**self.env, **(environment or {})},
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stderr, "")
        found = {}
        for line in done.stdout.splitlines():
            level, about, text = re.match(r"(ok|note|problem) +(.+?)  +(.*)", line).groups()
            found[about] = level, text
        return found

    def instead(self, path, text):
        """A shell's line that puts a file in the place of another."""
        name = self.write(path.replace("/", "_"), text)
        return f"mount --bind '{name}' '{path}'"

    def test_all_is_well(self):
        lines = self.lines()
        self.assertEqual([about for _, about, _ in lines],
                         ["LD_PRELOAD", "/dev/shm", "records", "kernel", "huge pages", "overcommit", "mappings",
                          "RLIMIT_AS", "RLIMIT_DATA", "cgroup", "backend", "backend", "library"])
        self.assertEqual(lines[0], ("ok", "LD_PRELOAD", "not set"))
        self.assertEqual(lines[-1], ("ok", "library", f"{LIBRARY}, version {self.version()}"))

    def version(self):
        return self.call("--version")[0].split()[1]

    def test_the_library(self):
        copy = shutil.copy(LIBRARY, self.path("libtally.so"))
        self.assertEqual(self.line("library", environment={"TALLY_LIBRARY": copy}),
                         ("ok", f"{copy}, version {self.version()}"))
        self.assertEqual(self.line("library", environment={"TALLY_LIBRARY": "/no/such.so"}),
                         ("problem", "/no/such.so: no such library"))
        other = self.compiled("other.so", "const char* tally_version(void) { return \"0.0.1\"; }", "-shared")
        self.assertEqual(self.line("library", environment={"TALLY_LIBRARY": other}),
                         ("problem", f"{other} is of version 0.0.1, this program of {self.version()}: use those that "
                          "were built together"))
        none = self.compiled("none.so", "", "-shared")
        level, text = self.line("library", environment={"TALLY_LIBRARY": none})
        self.assertEqual(level, "problem")
        self.assertIn(f"{none} cannot be loaded: ", text)
        # It follows no option as it is looked at.
        report = self.path("report")
        self.lines(environment={"TALLY_REPORT": report, "TALLY_PURGE_MS": "x"})
        self.assertFalse(os.path.exists(report))

    def test_what_is_preloaded(self):
        self.assertEqual(self.line("LD_PRELOAD", environment={"LD_PRELOAD": "libm.so.6"}),
                         ("note", "libm.so.6: `tally run` has it loaded after Tally"))
        self.assertEqual(self.line("LD_PRELOAD", environment={"LD_PRELOAD": LIBRARY}),
                         ("note", f"{LIBRARY}: programs run under Tally already, this one too"))

    def test_backends(self):
        files = {"backend jemalloc: no libjemalloc.so.2", "backend mimalloc: no libmimalloc.so.2"}
        for level, about, text in self.lines():
            if about == "backend" and level == "note":
                self.assertIn(text[:text.index(" in ")].partition(",")[0], files)
            elif about == "backend":
                self.assertRegex(text, r"^/.*/lib(je|mi)malloc\.so")

    def test_shared_memory(self):
        shm = "mount -t tmpfs -o size={} none /dev/shm"
        self.assertEqual(self.with_mounts(shm.format("64m"))["/dev/shm"], ("ok", "64.0 MiB are free"))
        level, text = self.with_mounts(shm.format("1m"))["/dev/shm"]
        self.assertEqual(level, "problem")
        self.assertRegex(text, r"^1\.00 MiB are free: a record takes up to \d\.\d\d MiB; remove files there, or mount "
                         r"it larger \(docker run --shm-size\)$")

    def test_the_folder_of_records(self):
        shm = "mount -t tmpfs none /dev/shm; F=/dev/shm/tally-$(id -u); "
        folder = f"/dev/shm/tally-{os.geteuid()}"
        for shell, expected in (
                ("true", ("ok", f"none yet: {folder} is made with the first")),
                ("mkdir -m 700 $F", ("ok", f"are in {folder}")),
                ("mkdir -m 755 $F", ("problem", f"{folder} has mode 0755: there can be no records; chmod 700 it, or "
                                     "remove it")),
                ("ln -s /tmp $F", ("problem", f"{folder} is no folder: there can be no records; remove it")),
                ("mkdir -m 700 $F; chown 12345 $F", ("problem", f"{folder} belongs to 12345: there can be no records; "
                                                     "have it removed"))):
            self.assertEqual(self.with_mounts(shm + shell)["records"], expected)

    def test_the_kernels_settings(self):
        huge = "/sys/kernel/mm/transparent_hugepage/enabled"
        found = self.with_mounts("\n".join([self.instead(huge, "[always] madvise never\n"),
                                            self.instead("/proc/sys/vm/overcommit_memory", "2\n"),
                                            self.instead("/proc/sys/vm/max_map_count", "1000\n")]))
        self.assertEqual(found["huge pages"],
                         ("note", "[always] madvise never: the kernel gives 2 MiB where a program touched a byte, and "
                          "resident memory may be far above what is used; madvise leaves it to TALLY_THP"))
        self.assertEqual(found["overcommit"],
                         ("note", "vm.overcommit_memory is 2: address space counts, used or not: Tally takes it 4 MiB "
                          "at a time, and TALLY_BACKEND=libc twice that"))
        self.assertEqual(found["mappings"], ("note", "vm.max_map_count is 1000: the usual is 65530; a program with many "
                                             "large blocks may run out of them"))
        found = self.with_mounts("\n".join([self.instead(huge, "always madvise [never]\n"),
                                            self.instead("/proc/sys/vm/overcommit_memory", "1\n")]))
        self.assertEqual(found["huge pages"], ("ok", "always madvise [never]: TALLY_THP does nothing"))
        self.assertEqual(found["overcommit"], ("ok", "vm.overcommit_memory is 1"))

    def test_limits(self):
        shell = f"ulimit -v 8388608; exec '{TALLY}' doctor"
        done = subprocess.run(["sh", "-c", shell], env=self.env, capture_output=True, text=True, timeout=60)
        self.assertIn("RLIMIT_AS    8.00 GiB: counts address space, used or not; the backend os needs least of it, "
                      "and TALLY_LIMIT limits what is used\n", done.stdout)

    def test_the_cgroup(self):
        def group(limit, held, *, above="max"):
            cgroup = self.write("cgroup", "0::/a/b\n")
            return "\n".join([
                f"mount --bind '{cgroup}' /proc/$$/cgroup", "mount -t tmpfs none /sys/fs/cgroup",
                "cd /sys/fs/cgroup; mkdir -p a/b", f"echo {above} >memory.max", "echo 5000000 >memory.current",
                f"echo {limit} >a/b/memory.max", f"echo {held} >a/b/memory.current"])
        self.assertEqual(self.with_mounts(group("max", 1))["cgroup"], ("ok", "no limit of memory"))
        self.assertEqual(self.with_mounts(group(64 << 20, 1 << 20))["cgroup"], ("ok", "holds 1.00 MiB of 64.0 MiB"))
        self.assertEqual(self.with_mounts(group(64 << 20, 60 << 20))["cgroup"],
                         ("note", "holds 60.0 MiB of 64.0 MiB: the kernel kills where it reaches that; TALLY_LIMIT=90% "
                          "is before"))
        self.assertEqual(self.with_mounts(group(64 << 20, 1, above=str(32 << 20)))["cgroup"],
                         ("ok", "holds 4.76 MiB of 32.0 MiB"))
        shell = group(0, 0).replace("/sys/fs/cgroup", "/sys/fs/cgroup; mkdir /sys/fs/cgroup/memory", 1)
        shell = shell.replace("cd /sys/fs/cgroup;", "cd /sys/fs/cgroup/memory;")
        shell += "; echo 9223372036854771712 >memory.limit_in_bytes; echo 1048576 >a/memory.limit_in_bytes; " \
            "echo 512 >a/memory.usage_in_bytes"
        self.write("cgroup", "7:memory:/a/b\n")
        self.assertEqual(self.with_mounts(shell)["cgroup"], ("ok", "holds 512 B of 1.00 MiB"))


class Program(DoctorTest):
    def test_that_is_fine(self):
        path = self.compiled("fine", "int main(void) { return 0; }")
        self.assertEqual(self.lines(path), [("ok", "preload", f"{path} takes preloaded libraries"),
                                            ("ok", "malloc", "it has none of its own")])

    def test_that_is_not_there(self):
        self.assertEqual(self.lines("no-such-program", environment={"PATH": self.folder}),
                         [("problem", "program", "no-such-program: not found in PATH")])
        self.assertEqual(self.lines(self.folder), [("problem", "program", f"{self.folder}: Permission denied")])

    def test_into_which_nothing_can_be_preloaded(self):
        path = self.compiled("static", "int main(void) { return 0; }", "-static")
        self.assertEqual(self.lines(path),
                         [("problem", "preload", f"{path} is statically linked: nothing can be preloaded into it; link "
                           "it with tally::malloc (libtally_malloc.a)")])
        if os.geteuid() == 0:
            path = self.compiled("raised", "int main(void) { return 0; }")
            os.chown(path, NOBODY, 0)
            os.chmod(path, 0o4755)
            self.assertEqual(self.lines(path),
                             [("problem", "preload", f"{path} has raised rights (setuid, setgid or capabilities): the "
                               "dynamic linker ignores LD_PRELOAD for it")])

    def test_with_a_malloc_of_its_own(self):
        code = "#include <stddef.h>\n%s void* malloc(size_t n) { return 0; }\nint main(void) { return malloc(1) == 0; }"
        self.assertEqual(self.line("malloc", self.compiled("own", code % "")),
                         ("problem", "the program has a malloc of its own: the dynamic linker takes it before any that "
                          "is preloaded, and Tally sees little; build it without"))
        hidden = self.compiled("inside", code % '__attribute__((visibility("hidden")))')
        self.assertEqual(self.line("malloc", hidden),
                         ("problem", "the program has a malloc of its own, for itself alone: Tally sees only what its "
                          "libraries allocate; build it without"))
        other = self.compiled("other", "void* _rjem_malloc(unsigned long n) { return 0; } int main(void) { return 0; }")
        self.assertEqual(self.lines(other)[1:],
                         [("ok", "malloc", "it has none of its own"),
                          ("note", "malloc", "it has jemalloc inside: what it allocates by that one's own names Tally "
                           "does not see")])

    def test_that_is_linked_to_another_malloc(self):
        library = self.compiled("libjemalloc.so.2", "int mallocx;", "-shared", "-Wl,-soname,libjemalloc.so.2")
        path = self.compiled("linked", "extern int mallocx; int main(void) { return mallocx; }", library)
        self.assertEqual(self.line("libraries", path),
                         ("note", "it is linked to libjemalloc.so.2: Tally comes before it, but not for mallocx and the "
                          "like; --backend may put it below Tally"))

    def test_sanitizers(self):
        library = self.compiled("libasan.so", "void __asan_init(void) {}", "-shared")
        path = self.compiled("asan", "void __asan_init(void); int main(void) { __asan_init(); }", library)
        self.assertEqual(self.line("sanitizer", path),
                         ("problem", "it was built with AddressSanitizer: a sanitizer must be the malloc itself; use a build "
                          "without"))

    def test_dynamic_linkers(self):
        main = "int main(void) { return 0; }"
        path = self.compiled("musl", main, "-Wl,--dynamic-linker=/lib/ld-musl-x86_64.so.1")
        self.assertEqual(self.line("linker", path), ("problem", "it runs with musl's C library: libtally.so needs the "
                                                     "GNU C library; use a build for that"))
        path = self.compiled("lost", main, "-Wl,--dynamic-linker=/no/ld.so")
        self.assertEqual(self.line("linker", path), ("problem", "its dynamic linker /no/ld.so is not here: it cannot be "
                                                     "run here at all"))

    def test_plug_ins(self):
        path = self.compiled("plug", "#include <dlfcn.h>\nint main(void) { return !dlopen(0, RTLD_NOW); }")
        self.assertIn(DLOPEN, self.lines(path, status=0))

    def test_heaps_that_no_malloc_sees(self):
        for name, text in (("python3", "Python keeps objects of up to 512 bytes in arenas of its own: "
                            "PYTHONMALLOC=malloc shows each of them, and is slower"),
                           ("java", "Java's heap is mapped by the JVM itself: Tally sees what is allocated beside it, as "
                            "by JNI and the compiler"),
                           ("node", "JavaScript's objects are in V8's own heap: Tally sees what is allocated beside it, "
                            "as Buffers"),
                           ("php8.2", "PHP keeps a heap of its own: USE_ZEND_ALLOC=0 shows each block, and is slower")):
            path = self.compiled(name, "int main(void) { return 0; }")
            self.assertEqual(self.line("runtime", path), ("note", text))
        path = self.compiled("gopher", '__attribute__((section(".go.buildinfo"))) int i = 1; int main(void) { return i; }')
        self.assertEqual(self.line("runtime", path),
                         ("note", "Go's heap is mapped by Go itself: Tally sees what its C code allocates"))

    def test_scripts(self):
        runner = self.compiled("runner", "int main(void) { return 0; }")
        script = self.write("script", f"#! {runner} -x\n")
        expected = [("ok", "program", f"{script} is a script, which {runner} runs"),
                    ("ok", "preload", f"{runner} takes preloaded libraries"),
                    ("ok", "malloc", "it has none of its own")]
        self.assertEqual(self.lines(script), expected)
        script = self.write("script", "#!/usr/bin/env runner\n")
        self.assertEqual(self.lines("script", environment={"PATH": f"{self.folder}:{os.environ['PATH']}"}), expected)
        script = self.write("script", "no head")
        self.assertEqual(self.lines(script)[1:], [("note", "program", f"{script} is no ELF file: what would run it "
                                                   "cannot be told")])
        script = self.write("script", "#!/usr/bin/env no-such-runner\n")
        self.assertEqual(self.lines(script), [("problem", "program", "no-such-runner: not found in PATH")])
        script = self.write("script", "#!/no/such/runner\n")
        self.assertEqual(self.lines(script), [("problem", "program", "/no/such/runner: No such file or directory")])


class Process(DoctorTest):
    def start(self, *command, **more):
        child = subprocess.Popen(command, env={**self.env, **more.pop("environment", {})}, stdout=subprocess.PIPE,
                                 text=True, **more)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def python(self, code, **more):
        """A process that has run the code."""
        child = self.start(sys.executable, "-c", code + "\nprint(flush=True)\nimport time; time.sleep(60)", **more)
        child.stdout.readline()
        return child

    def preloaded(self, code="", *, before="", **variables):
        return self.python(code, environment={"LD_PRELOAD": before + LIBRARY, **variables})

    def test_that_is_fine(self):
        child = self.preloaded(TALLY_PURGE_MS="5", TALLY_THP="never")
        lines = self.lines(str(child.pid), status=0)
        self.assertEqual(lines[0][:2], ("ok", "process"))
        self.assertRegex(lines[0][2], r"^python[0-9.]*, of \w+, resident [0-9.]+ [KM]iB$")
        self.assertEqual(lines[1:5],
                         [("ok", "library", os.path.realpath(LIBRARY)), ("ok", "malloc", "is Tally's"),
                          ("ok", "options", "TALLY_PURGE_MS=5 TALLY_THP=never"),
                          ("note", "record", "there is none: `tally run` and TALLY_RECORD=1 make one")])
        self.assertEqual([about for _, about, _ in lines[5:]], ["cgroup", "huge pages"])

    def test_that_is_not_there(self):
        child = self.start("true")
        child.wait()
        self.assertEqual(self.lines(str(child.pid)), [("problem", "process", f"there is no process {child.pid}")])
        self.assertEqual(self.lines("999999999"), [("problem", "process", "there is no process 999999999")])

    def test_without_tally(self):
        child = self.start(self.compiled("idle", "#include <unistd.h>\nint main(void) { puts(\"\"); fflush(0); pause(); }",
                                         "-include", "stdio.h"))
        child.stdout.readline()
        self.assertEqual(self.lines(str(child.pid))[1:4],
                         [("problem", "library", "libtally.so is not in this process: start it by `tally run`"),
                          ("ok", "preload", f"{self.path('idle')} takes preloaded libraries"),
                          ("ok", "malloc", "it has none of its own")])

    def test_with_tally_linked_in(self):
        child = self.start(self.compiled(
            "linked", "#include <unistd.h>\n#include <stdio.h>\nconst char* tally_version(void);"
            "int main(void) { puts(tally_version()); fflush(0); pause(); }", ARCHIVE))
        child.stdout.readline()
        self.assertEqual(self.line("library", str(child.pid)), ("ok", "Tally is linked into the program"))
        self.assertEqual(self.line("malloc", self.path("linked")),
                         ("ok", "Tally is linked into it: it needs no preload, TALLY_* variables alone"))

    def test_whose_library_was_replaced(self):
        copy = shutil.copy(LIBRARY, self.path("libtally.so"))
        child = self.python("", environment={"LD_PRELOAD": copy})
        os.remove(copy)
        self.assertEqual(self.line("library", str(child.pid)),
                         ("note", f"{copy} (deleted): it was replaced since; the process goes on with the one from "
                          "before"))

    def test_whose_malloc_is_anothers(self):
        other = self.compiled("other.so", "#include <dlfcn.h>\nvoid* malloc(unsigned long n) { void* (*f)(unsigned long) = "
                              "dlsym((void*)-1L, \"malloc\"); return f(n); }", "-shared", "-fPIC")
        child = self.preloaded(before=other + ":")
        self.assertEqual(self.line("malloc", str(child.pid)),
                         ("problem", f"is that of {other}, which LD_PRELOAD names before libtally.so: name libtally.so "
                          "first, as `tally run` does"))
        child = self.python("import ctypes; ctypes.CDLL('" + LIBRARY + "')")
        self.assertEqual(self.line("malloc", str(child.pid)),
                         ("note", "where it is from cannot be told: LD_PRELOAD does not name libtally.so: something "
                          "else loaded it, or the environment was overwritten"))

    def test_record(self):
        command = unshare() or self.skipTest("no mount namespaces here")
        shell = "mount -t tmpfs none /dev/shm; F=/dev/shm/tally-$(id -u); mkdir -m 700 $F; touch {} $F/$$.tally; "
        for touch, expected in (("-d '-3 seconds'", ("ok", "was written 3 s ago")),
                                ("-d '-5 hours'", ("note", "was written 5 h ago: the process is stopped or hangs, or is "
                                                  "idle and TALLY_RECORD_MS is not set"))):
            child = self.start(*command, "sh", "-c", f"{shell.format(touch)} LD_PRELOAD='{LIBRARY}' exec sh -c "
                               "'echo; read line'", stdin=subprocess.PIPE)
            self.addCleanup(child.stdin.close)
            child.stdout.readline()
            level, text = self.line("record", str(child.pid))
            self.assertEqual((level, re.sub(r"\b[3-9] s", "3 s", text)), expected)

    def test_raised_rights_and_filters(self):
        code = "\n".join(["import ctypes", "libc = ctypes.CDLL(None)", "libc.prctl(38, 1, 0, 0, 0)",
                          "allow = ctypes.create_string_buffer(bytes([6, 0, 0, 0, 0, 0, 255, 127]))",
                          "class Program(ctypes.Structure):",
                          "    _fields_ = [('length', ctypes.c_ushort), ('filter', ctypes.c_void_p)]",
                          "p = Program(1, ctypes.addressof(allow))",
                          "assert libc.prctl(22, 2, ctypes.byref(p), 0, 0) == 0"])
        child = self.preloaded(code)
        self.assertEqual(self.line("seccomp", str(child.pid)),
                         ("note", "its system calls are filtered: a filter that refuses madvise, mremap or opening "
                          "/dev/shm keeps Tally from giving memory back or keeping a record"))
        if os.geteuid() != 0:
            return
        path = shutil.copy(shutil.which("sleep"), self.path("raised"))
        os.chown(path, NOBODY, 0)
        os.chmod(path, 0o4755)
        child = self.start(path, "60")
        self.until_runs(child, path)
        self.assertIn(("problem", "rights", "it was started with raised rights (AT_SECURE): LD_PRELOAD and Tally's "
                       "variables are ignored"), self.lines(str(child.pid), status=1))

    def until_runs(self, child, path):
        while os.readlink(f"/proc/{child.pid}/exe") != path:
            time.sleep(0.01)

    def test_of_another_user(self):
        if os.geteuid() != 0:
            self.skipTest("needs root")
        child = self.preloaded()
        self.tool = shutil.copy(TALLY, self.path("tally"))  # where anyone may run it
        self.assertEqual(self.lines(str(child.pid), user=NOBODY)[1:],
                         [("problem", "process", "its memory may not be looked at: run `tally doctor` as root")])

    def test_huge_pages(self):
        code = "\n".join(["import mmap", "m = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)", "m.madvise(14)",
                          "for i in range(0, 64 << 20, 4096): m[i] = 1"])
        child = self.preloaded(code)
        level, text = self.line("huge pages", str(child.pid))
        if text.startswith("0 B"):
            self.skipTest("the kernel gives none")
        self.assertEqual(level, "note")
        self.assertRegex(text, r"^[0-9.]+ MiB of [0-9.]+ MiB: a page counts whole as soon as a byte of it was touched$")


class Usage(DoctorTest):
    def test_help(self):
        done = self.call("doctor", "--help")
        self.assertEqual((done[1], done[2]), ("", 0))
        self.assertTrue(done[0].startswith("usage: tally doctor [--json] [PROGRAM|PID]\n"))
        for text in "--json ", "\n  tally doctor ./server\n", "exit status:":
            self.assertIn(text, done[0])
        self.assertEqual(self.call("help", "doctor"), done)

    def test_json(self):
        path = self.compiled("fine", "int main(void) { return 0; }")
        out, err, status = self.call("doctor", "--json", path)
        self.assertEqual((err, status), ("", 0))
        self.assertEqual(json.loads(out), {"findings": [
            {"level": "ok", "about": "preload", "text": f"{path} takes preloaded libraries", "advice": ""},
            {"level": "ok", "about": "malloc", "text": "it has none of its own", "advice": ""}]})
        out, err, status = self.call("doctor", "--json", "/no/such")
        self.assertEqual((err, status), ("", 1))
        self.assertEqual(json.loads(out)["findings"][0]["level"], "problem")

    def test_a_name_cannot_drive_the_terminal(self):
        self.assertIn("/?[2J", self.call("doctor", "/\x1b[2J")[0])

    def test_what_cannot_be_understood(self):
        for args, message in ((["--speed"], "--speed"), (["a", "b"], "b")):
            self.assertEqual(self.call("doctor", *args),
                             ("", f"tally doctor: The following argument was not expected: {message}; tally doctor "
                              "--help shows how it is used\n", 2))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[5:])
