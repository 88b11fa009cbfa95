"""What `cmake --install` leaves is of use, wherever it lies: install_test.py BUILD SOURCE VERSION [CASE...].

Installed into a folder that is then moved, it is used as its readers would: by find_package, pkg-config, a plain
compiler, with link time optimisation, and by FetchContent from the sources; and its programs are run."""
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

BUILD, SOURCE, VERSION = sys.argv[1:4]
HERE = os.path.dirname(os.path.abspath(__file__))
CONSUMER = os.path.join(HERE, "consumer")
# What of a program is Tally's, by the target that it is linked to.
IS_TALLYS = {"tally": "new", "malloc": "malloc", "shared": "malloc", "api": "none"}


def call(*command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, f"{shlex.join(command)}\nended with {done.returncode}\n{done.stdout}"
    return done.stdout


def told_in(folder):
    """Files below it that tell where Tally was built, or its sources lay."""
    return subprocess.run(["grep", "-rl", "-F", "-e", BUILD, "-e", f"{SOURCE}/", folder], stdout=subprocess.PIPE, text=True).stdout


class Installed(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.room = tempfile.TemporaryDirectory()
        first, cls.prefix = (os.path.join(cls.room.name, name) for name in ("first", "prefix"))
        call("cmake", "--install", BUILD, "--prefix", first)
        os.rename(first, cls.prefix)
        found = subprocess.run(["find", cls.prefix, "-name", "libtally.so"], stdout=subprocess.PIPE, text=True)
        cls.lib = os.path.dirname(found.stdout.strip())

    @classmethod
    def tearDownClass(cls):
        cls.room.cleanup()

    def folder(self):
        return tempfile.mkdtemp(dir=self.room.name)

    def run_program(self, path, way):
        self.assertTrue(os.path.exists(path), path)
        environment = {"LD_LIBRARY_PATH": self.lib, "PATH": os.environ["PATH"]}
        call(path, IS_TALLYS[way], VERSION, env=environment)
        if way == "api":
            call(path, "malloc", VERSION, env={**environment, "LD_PRELOAD": f"{self.lib}/libtally.so.1"})

    def build_consumer(self, ways, *options):
        build = self.folder()
        call("cmake", "-S", CONSUMER, "-B", build, "-DCMAKE_BUILD_TYPE=Release", f"-DWAYS={';'.join(ways)}", *options)
        call("cmake", "--build", build, "-j", "2")
        for way in ways:
            for language in "c", "cxx":
                self.run_program(f"{build}/{language}_{way}", way)

    def compile(self, arguments, way):
        """By a plain compiler; what stands before the sources and what after them."""
        before, after = arguments
        for compiler, source in ("gcc", "program.c"), ("g++ -std=c++20", "program.cpp"):
            program = os.path.join(self.folder(), "program")
            call(*compiler.split(), "-O2", *before, os.path.join(CONSUMER, source), "-o", program, *after)
            self.run_program(program, way)

    def test_files(self):
        found = {os.path.relpath(os.path.join(folder, name), self.prefix)
                 for folder, _, names in os.walk(self.prefix) for name in names}
        lib = os.path.relpath(self.lib, self.prefix)
        headers = {f"include/tally/{name}" for name in os.listdir(f"{SOURCE}/include/tally")}
        libraries = {f"{lib}/lib{name}.so{end}" for name in ("tally", "tally-hardened")
                     for end in ("", ".1", f".{VERSION}")}
        libraries |= {f"{lib}/lib{name}.a" for name in ("tally", "tally_malloc", "tally_api")}
        configuration = {f"{lib}/cmake/tally/{name}.cmake"
                         for name in ("tally-config", "tally-config-version", "tally-targets", "tally-targets-release")}
        configuration |= {f"{lib}/pkgconfig/{name}.pc" for name in ("tally", "tally-static")}
        programs = {"bin/tally", "bin/tally-dump"}
        pages = {name for name in found if re.fullmatch(r"share/man/man1/tally(-[a-z]+)?\.1", name)}
        self.assertGreater(len(pages), 10)
        pages.add("share/man/man7/tally.7")
        manual = {name for name in found if name.startswith("share/doc/tally/docs/")}
        self.assertLessEqual({f"share/doc/tally/docs/{name}" for name in ("OPTIONS.md", "CHANGELOG.md", "images/report.png",
                                                                         "monitoring/alerts.yml")}, manual)
        manual |= {f"share/doc/tally/{name}" for name in ("LICENSE", "README.md")}
        self.assertEqual(found, headers | libraries | configuration | programs | pages | manual)

    def test_the_page_of_the_options(self):
        with open(f"{SOURCE}/docs/OPTIONS.md") as page, open(f"{self.prefix}/share/man/man7/tally.7") as man:
            options = re.findall(r"^\| `(TALLY_\w+)`", page.read(), re.MULTILINE)
            self.assertGreater(len(options), 20)
            self.assertEqual(re.findall(r"^\.B (TALLY_\w+)$", man.read(), re.MULTILINE), options)

    def test_no_folder_of_the_build_is_told(self):
        self.assertEqual(told_in(self.prefix), "")

    def test_find_package(self):
        self.build_consumer(["tally", "malloc", "shared", "api"], f"-DCMAKE_PREFIX_PATH={self.prefix}")

    def test_components(self):
        def configure(component):
            build = self.folder()
            with open(f"{build}/CMakeLists.txt", "w") as file:
                file.write("cmake_minimum_required(VERSION 3.21)\nproject(other LANGUAGES C)\n"
                           f"find_package(tally REQUIRED COMPONENTS {component})\n")
            return subprocess.run(["cmake", "-S", build, "-B", f"{build}/build", f"-DCMAKE_PREFIX_PATH={self.prefix}"],
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(configure("malloc shared").returncode, 0)
        done = configure("malloc pool")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("tally has no component 'pool': it has malloc, shared, tally, api and hardened, and no component needs to "
                      "be named", " ".join(done.stdout.split()))

    def test_the_headers_for_cpp_need_cpp20(self):
        for header, message in ("tally.h", None), *((f"{name}.hpp", "C++ headers need C++20, such as by -std=c++20")
                                                    for name in ("tally", "memory", "arena", "pool")):
            done = subprocess.run(["g++", "-std=c++17", f"-I{self.prefix}/include", "-fsyntax-only", "-xc++", "-"],
                                  input=f"#include <tally/{header}>\n", stderr=subprocess.PIPE, text=True)
            if message:
                self.assertIn(message, next(line for line in done.stderr.split("\n") if "error:" in line))
            else:
                self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_other_folders(self):
        """By what is configured, as to build it again takes minutes: pkg-config's files, and where `tally` looks."""
        def configure(*options):
            build = self.folder()
            call("cmake", "-S", SOURCE, "-B", build, "-DTALLY_TESTS=OFF", "-DTALLY_BENCH=OFF", "-DTALLY_EXAMPLES=OFF",
                 "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", "-DCMAKE_INSTALL_PREFIX=/opt/tally", *options)
            environment = {**os.environ, "PKG_CONFIG_PATH": f"{build}/packaging"}
            flags = [call("pkg-config", "--cflags", "--libs", name, env=environment).split() for name in ("tally", "tally-static")]
            with open(f"{build}/compile_commands.json") as file:
                looks = re.findall(r'TALLY_INSTALLED_LIBRARIES=[\\"]*([^\\" ]*)', file.read())
            # Configured once: what comes later must know the folders too.
            told = call("grep", "-rhI", "INTERFACE_INCLUDE_DIRECTORIES", f"{build}/packaging")
            self.assertEqual(len(told.strip().split("\n")), 5, told)
            return *flags, set(looks)
        shared, static, looks = configure("-DCMAKE_INSTALL_LIBDIR=lib64")
        self.assertTrue(shared[0].endswith("/include") and shared[1].endswith("/lib64"), shared)
        self.assertEqual(looks, {"../lib64"})
        shared, static, looks = configure("-DCMAKE_INSTALL_LIBDIR=/srv/lib", "-DCMAKE_INSTALL_INCLUDEDIR=/srv/headers")
        self.assertEqual(shared, ["-I/srv/headers", "-L/srv/lib", "-ltally"])
        self.assertEqual(static, ["-I/srv/headers", "-Wl,-u,malloc", "/srv/lib/libtally_malloc.a"])
        self.assertEqual(looks, {"/srv/lib"})
        shared, static, looks = configure("-DCMAKE_INSTALL_LIBDIR=/srv/lib", "-DCMAKE_INSTALL_INCLUDEDIR=include")
        self.assertEqual(shared, ["-I/opt/tally/include", "-L/srv/lib", "-ltally"])

    def test_link_time_optimisation(self):
        self.build_consumer(["tally", "malloc"], f"-DCMAKE_PREFIX_PATH={self.prefix}", "-DLTO=ON")

    def test_fetch_content(self):
        self.build_consumer(["malloc"], f"-DFETCH={SOURCE}")

    def test_another_major_version_is_not_taken(self):
        build = self.folder()
        with open(f"{build}/CMakeLists.txt", "w") as file:
            file.write("cmake_minimum_required(VERSION 3.21)\nproject(next LANGUAGES C)\nfind_package(tally 2.0)\n"
                       "message(STATUS \"found: ${tally_FOUND}, considered: ${tally_CONSIDERED_VERSIONS}\")\n")
        self.assertIn(f"found: 0, considered: {VERSION}",
                      call("cmake", "-S", build, "-B", f"{build}/build", f"-DCMAKE_PREFIX_PATH={self.prefix}"))

    def test_pkg_config(self):
        def of(name):
            environment = {**os.environ, "PKG_CONFIG_PATH": f"{self.lib}/pkgconfig"}
            self.assertEqual(call("pkg-config", "--modversion", name, env=environment).strip(), VERSION)
            return [call("pkg-config", option, name, env=environment).split() for option in ("--cflags", "--libs")]
        self.compile(of("tally"), "shared")
        self.compile(of("tally-static"), "malloc")

    def test_plain_compiler(self):
        headers = [f"-I{self.prefix}/include"]
        self.compile((headers, [f"-L{self.lib}", "-ltally"]), "shared")
        self.compile((headers, [f"{self.lib}/libtally_malloc.a", "-Wl,-u,malloc"]), "malloc")
        self.compile((headers, [f"{self.lib}/libtally.a"]), "tally")
        self.compile((headers, [f"-L{self.lib}", "-ltally_api"]), "api")
        # Who has the allocator has its API, whoever else brings one.
        for order in (1, -1):
            self.compile((headers, ["-Wl,-u,malloc", *[f"{self.lib}/libtally_{name}.a" for name in ("malloc", "api")][::order]]),
                         "malloc")

    def test_hardened_before_a_program_that_is_linked_to_the_other(self):
        program = os.path.join(self.folder(), "program")
        call("gcc", f"-I{self.prefix}/include", os.path.join(CONSUMER, "program.c"), "-o", program, f"-L{self.lib}", "-ltally")
        report = os.path.join(self.folder(), "report.json")
        said = call(program, "malloc", VERSION, env={
            "LD_LIBRARY_PATH": self.lib, "LD_PRELOAD": f"{self.lib}/libtally-hardened.so.1", "TALLY_REPORT": report,
            "TALLY_RECORD": "1"})
        self.assertEqual(said, "")
        with open(report) as file:
            self.assertIn('"/consumer"', file.read())

    def test_two_libraries_that_have_the_api_alone(self):
        """Each of them, and the program, with a copy of its own, bound to that by the linker."""
        folder = self.folder()
        with open(f"{folder}/lib.c", "w") as file:
            file.write('#include <tally/tally.h>\ntally_tag NAME(void) { return tally_tag_create("of/a/library"); }\n')
        with open(f"{folder}/main.c", "w") as file:
            file.write('#include <tally/tally.h>\ntally_tag fa(void);\ntally_tag fb(void);\nint main(void) {\n'
                       '  const tally_tag is = tally_tag_create("of/a/library");\n'
                       '  return fa() != is || fb() != is || (is != TALLY_TAG_ROOT) != (tally_version()[0] != 0);\n}\n')
        for binding in "-Wl,-Bsymbolic", "-Wl,-Bsymbolic-functions", "-Wl,-z,now":
            for name in "fa", "fb":
                call("gcc", "-shared", "-fPIC", f"-I{self.prefix}/include", f"-DNAME={name}", f"{folder}/lib.c", "-o",
                     f"{folder}/lib{name}.so", f"{self.lib}/libtally_api.a", binding)
            for inside in [f"{self.lib}/libtally_api.a"], [f"{self.lib}/libtally_malloc.a", "-Wl,-u,malloc"], []:
                call("gcc", f"-I{self.prefix}/include", f"{folder}/main.c", "-o", f"{folder}/main", *inside,
                     f"-L{folder}", "-lfa", "-lfb", f"-Wl,-rpath,{folder}")
                call("timeout", "20", f"{folder}/main")
                call("timeout", "20", f"{folder}/main", env={"PATH": os.environ["PATH"],
                                                             "LD_PRELOAD": f"{self.lib}/libtally.so.1"})

    def test_programs(self):
        environment = {"PATH": f"{self.prefix}/bin:{os.environ['PATH']}"}
        said = call("tally", "run", "--hardened", "sh", "-c", "echo $LD_PRELOAD; grep -c hardened /proc/self/maps",
                    env=environment)
        self.assertRegex(said, rf"^{re.escape(self.lib)}/libtally-hardened\.so\.1\n[1-9]\d*\n")
        self.assertEqual(call("tally", "--version", env=environment).split()[-1], VERSION)
        report = os.path.join(self.folder(), "report.json")
        call("tally", "run", "--report", report, "true", env=environment)
        self.assertIn("/tally", call("tally-dump", report, env=environment))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
