"""clang and g++ build a real program, Tally's own library: the same object files with any malloc."""
import glob
import hashlib
import os
import shutil

from case import Case, Skip, run

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")


def sources(whole):
    files = sorted(glob.glob(os.path.join(ROOT, "src", "*", "*.cpp")))
    return files if whole else [file for file in files if file.endswith(("/render.cpp", "/unwind.cpp"))]


def build(compiler, files, env, folder):
    digests = {}
    for file in files:
        out = os.path.join(folder, "object.o")
        run([compiler, "-std=c++20", "-O2", "-w", "-fno-exceptions", "-fno-rtti", "-pthread", "-I", os.path.join(ROOT, "src"), "-I",
             os.path.join(ROOT, "include"), "-c", file, "-o", out], env, folder)
        with open(out, "rb") as object_file:
            digests[file] = hashlib.sha256(object_file.read()).hexdigest()
    return digests


def case_of(compiler, whole):
    def test(env, folder):
        if shutil.which(compiler, path=env["PATH"]) is None:
            raise Skip(f"there is no {compiler}")
        files = sources(whole)
        plain = build(compiler, files, {k: v for k, v in env.items() if k != "LD_PRELOAD"}, folder)
        other = build(compiler, files, env, folder)
        differ = [file for file in files if plain[file] != other[file]]
        assert not differ, f"other objects of {differ}"
    return Case(compiler, test)


def cases(folder, whole):
    return [case_of(compiler, whole) for compiler in ("g++", "clang++")], ""
