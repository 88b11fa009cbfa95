"""The allocators that are compared, and how each is made the live one."""
import dataclasses
import os
import pathlib
import subprocess
import sys

# name: (Debian package, library file)
PACKAGED = {
    "glibc": ("libc6", "libc.so.6"),
    "jemalloc": ("libjemalloc2", "libjemalloc.so.2"),
    "mimalloc": ("libmimalloc2.0", "libmimalloc.so.2"),
    "tcmalloc": ("libtcmalloc-minimal4", "libtcmalloc_minimal.so.4"),
}
NAMES = [*PACKAGED, "tally"]
# Tally over its other backends: known, but not among those that are compared unless they are named.
OVER_BACKENDS = {f"tally-{backend}": backend for backend in ("libc", "jemalloc", "mimalloc")}
# Likewise with tags that nobody names.
BY_RULE = {f"tally-by-{rule}": rule for rule in ("module", "thread")}


@dataclasses.dataclass(frozen=True)
class Allocator:
    name: str
    library: str  # the file whose malloc must be live
    version: str
    backend_library: str = ""

    @property
    def preload(self):
        """What LD_PRELOAD must be; nothing for glibc, unless the program links another malloc."""
        return "" if self.name == "glibc" else f"{self.library} {self.backend_library}".strip()

    def preload_for(self, program):
        return self.preload or (self.library if program.links_malloc else "")

    @property
    def environment(self):
        """A backend that is not live ends the program."""
        if self.name in BY_RULE:
            return {"TALLY_TAG_BY": BY_RULE[self.name]}
        backend = OVER_BACKENDS.get(self.name)
        return {"TALLY_BACKEND": backend, "TALLY_ABORT_CONF": "1"} if backend else {}


def _library_paths():
    """File name to path, as the dynamic linker knows them."""
    output = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True).stdout
    paths = {}
    for line in output.splitlines():
        name, arrow, path = line.strip().partition(" => ")
        if arrow:
            paths.setdefault(name.split()[0], path)
    return paths


def _output(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def find(names, build, extra=(), skip_missing=False):
    """The allocators of these names, in order. Extra: "NAME=PATH" of libraries that Debian does not have. Exits with
    what to install if one is missing: a table that silently lacks a column misleads."""
    paths = _library_paths()
    more = dict(item.split("=", 1) for item in extra)
    found, missing = [], []
    for name in [*names, *more]:
        if name in more:
            path, hint = more[name], f"no file {more[name]}"
        elif name == "tally" or name in OVER_BACKENDS or name in BY_RULE:
            path = str(pathlib.Path(build, "lib", "libtally.so").resolve())
            hint = f"no {path}; build it first (cmake --build {build})"
        elif name in PACKAGED:
            package, file = PACKAGED[name]
            path = paths.get(file, file)
            hint = f"{file} is not installed (apt-get install {package})"
        else:
            sys.exit(f"bench: no allocator '{name}'; known: {', '.join([*NAMES, *OVER_BACKENDS, *BY_RULE])}")
        package, file = PACKAGED.get(OVER_BACKENDS.get(name), ("", ""))
        behind = paths.get(file, file)
        if behind and not os.path.exists(behind):
            missing.append(f"bench: {name}: {file} is not installed (apt-get install {package})")
        elif os.path.exists(path):
            version = _output("dpkg-query", "-W", "-f=${Version}", PACKAGED[name][0]) if name in PACKAGED and name not in more else ""
            found.append(Allocator(name, os.path.abspath(path), version or "-", behind))
        else:
            missing.append(f"bench: {name}: {hint}")
    if missing:
        print("\n".join(missing), file=sys.stderr)
        if not skip_missing or (missing and not found):
            sys.exit("bench: give --allocators to leave some out")
    return found
