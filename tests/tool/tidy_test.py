"""tools/tidy finds in files that it looks at together what clang-tidy finds in each: tidy_test.py SOURCE"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

SOURCE = sys.argv.pop(1)
CLEAN = "#include <vector>\n\nnamespace {{\nint {0}(int n) {{ return n + 1; }}\n}}  // namespace\n\nint use_{0}() {{ return {0}(1); }}\n"


@unittest.skipUnless(shutil.which("clang-tidy"), "there is no clang-tidy")
class Tidy(unittest.TestCase):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)
        for folder in ("tools", "src/a", "build", "bin"):
            os.makedirs(f"{self.root}/{folder}")
        shutil.copy(f"{SOURCE}/tools/tidy", f"{self.root}/tools")
        shutil.copy(f"{SOURCE}/.clang-tidy", self.root)
        self.files = {}
        self.add("one", CLEAN.format("one"))
        self.add("two", CLEAN.format("two"))

    def add(self, name, text, is_built=True):
        path = f"{self.root}/src/a/{name}.cpp"
        with open(path, "w") as file:
            file.write(text)
        if is_built:
            self.files[name] = {"directory": self.root, "file": path, "command": f"c++ -std=c++20 -Wall -o {name}.o -c {path}"}

    def fake(self, text):
        """Takes clang-tidy's place."""
        with open(f"{self.root}/bin/clang-tidy", "w") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(f"{self.root}/bin/clang-tidy", 0o755)

    def run_it(self, *arguments):
        with open(f"{self.root}/build/compile_commands.json", "w") as file:
            json.dump(list(self.files.values()), file)
        env = {**os.environ, "PATH": f"{self.root}/bin:{os.environ['PATH']}"}
        result = subprocess.run([sys.executable, f"{self.root}/tools/tidy", *(arguments or ("build", "2"))], env=env,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
        return result.returncode, result.stdout

    def expect(self, *words):
        status, output = self.run_it()
        self.assertEqual(status, 1, output)
        for word in words:
            self.assertIn(word, output)

    def test_clean(self):
        self.assertEqual(self.run_it(), (0, ""))

    def test_files_are_looked_at_together(self):
        self.fake(f"echo x >>{self.root}/calls")
        self.assertEqual(self.run_it(), (0, ""))
        with open(f"{self.root}/calls") as file:
            self.assertEqual(file.read(), "x\n")

    def test_what_is_found_is_said_of_its_file(self):
        self.add("two", CLEAN.format("two") + "\nint BadName(int unused) { return 0; }\n")
        self.expect("src/a/two.cpp:9:5: error: invalid case style", "src/a/two.cpp:9:17: error: parameter 'unused' is unused")

    def test_what_is_found_where_the_build_lies_elsewhere(self):
        elsewhere = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, elsewhere)
        self.add("two", CLEAN.format("two") + "\nint BadName() { return 0; }\n")
        self.run_it()
        shutil.copy(f"{self.root}/build/compile_commands.json", elsewhere)
        status, output = self.run_it(elsewhere, "2")
        self.assertEqual(status, 1, output)
        self.assertIn("src/a/two.cpp:9:5: error: invalid case style", output)

    def test_what_is_precompiled_does_not_stand_for_an_include(self):
        with open(f"{self.root}/build/cmake_pch.hxx", "w") as file:
            file.write("#include <vector>\n")
        self.files.pop("one")
        self.add("two", "std::vector<int> use() { return {}; }\n")
        for options in ("-Winvalid-pch -include build/cmake_pch.hxx", "-Xclang -include -Xclang build/cmake_pch.hxx"):
            self.files["two"]["command"] = f"c++ -std=c++20 {options} -o two.o -c {self.root}/src/a/two.cpp"
            self.expect("src/a/two.cpp:1:1: error: use of undeclared identifier 'std'")

    def test_what_is_compiled_for_another_folder_too_is_looked_at_once(self):
        self.files["again"] = {**self.files["two"]}
        self.files["again"]["command"] = f"c++ -DOTHER -o other/__/a/two.o -c {self.root}/src/a/two.cpp"
        self.fake(f"echo x >>{self.root}/calls")
        self.assertEqual(self.run_it(), (0, ""))
        with open(f"{self.root}/calls") as file:
            self.assertEqual(file.read(), "x\n")

    def test_words_of_help_are_no_names(self):
        help = 'namespace {{\nconstexpr char kHelp{0}[] = R"(\nuse {1} and {0}\n)";\n}}  // namespace\n\nconst char* help_{0}() {{ return kHelp{0}; }}\n'
        self.add("one", CLEAN.format("one") + help.format("One", "two"))
        self.add("two", CLEAN.format("two") + help.format("Two", "one"))
        self.fake(f"echo x >>{self.root}/calls")
        self.assertEqual(self.run_it(), (0, ""))
        with open(f"{self.root}/calls") as file:
            self.assertEqual(file.read(), "x\n")

    def test_a_header_twice(self):
        self.add("two", "#include <vector>\n" + CLEAN.format("two"))
        self.expect("src/a/two.cpp:2:1: error: duplicate include")

    def test_a_using_that_another_file_needs(self):
        with open(f"{self.root}/src/a/thing.h", "w") as file:
            file.write("#pragma once\nnamespace core {\nstruct Thing {};\n}  // namespace core\n")
        self.add("one", '#include "thing.h"\nusing core::Thing;\nint no_use() { return 1; }\n')
        self.add("two", '#include "thing.h"\nusing core::Thing;\nint use(Thing* /*thing*/) { return 1; }\n')
        self.expect("src/a/one.cpp:2:13: error: using decl 'Thing' is unused")

    def test_a_function_that_another_file_calls(self):
        self.add("one", "static int helper_of(int n) { return n; }\n")
        self.add("two", "int helper_of(int n);\nint use() { return helper_of(1); }\n")
        self.expect("src/a/one.cpp:1:12: error: unused function 'helper_of'")

    def test_files_that_have_a_name_in_common(self):
        self.add("two", CLEAN.format("one").replace("use_one", "use_two"))
        self.assertEqual(self.run_it(), (0, ""))

    def test_files_that_do_not_go_together(self):
        for name in ("one", "two"):
            self.add(name, "int same() { return 1; }\n")
        told = f"{self.root}/tools/tidy: src/a/one.cpp and 1 more do not go together, which takes time\n"
        self.assertEqual(self.run_it(), (0, told))

    def test_what_is_not_built_is_looked_at_as_its_neighbours(self):
        self.add("other_system", "int BadName() { return 0; }\n", is_built=False)
        self.expect("src/a/other_system.cpp:1:5: error: invalid case style")

    def test_what_nobody_tells_how_to_build(self):
        os.makedirs(f"{self.root}/src/b")
        with open(f"{self.root}/src/b/three.cpp", "w"):
            pass
        self.expect("tools/tidy: build does not tell how src/b/three.cpp is compiled, nor any of its folder")

    def test_one_that_is_killed(self):
        self.fake("kill -9 $$")
        self.expect("src/a/one.cpp: clang-tidy ended with -9", "src/a/two.cpp: clang-tidy ended with -9")

    def test_bad_arguments(self):
        usage = "FOLDER JOBS: the build folder, as build/release, and how many at once"
        for arguments in (("build",), ("build", "many"), ("build", "2", "3")):
            status, output = self.run_it(*arguments)
            self.assertEqual(status, 1)
            self.assertIn(usage, output)
        status, output = self.run_it("none", "2")
        self.assertEqual(status, 1)
        self.assertIn("'none/compile_commands.json'; cmake writes it as it configures none", output)

    def test_without_clang_tidy(self):
        result = subprocess.run([sys.executable, f"{self.root}/tools/tidy", "build", "2"], env={"PATH": f"{self.root}/bin"},
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("clang-tidy was not found (Debian: clang-tidy)", result.stdout)


unittest.main()
