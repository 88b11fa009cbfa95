"""What libtally.so is from outside: library_test.py LIBRARY [PROGRAM...]. It needs libc alone, little static TLS, cannot
be unloaded, and exports the whole family and nothing else. Nothing of it, or of the programs, is writable and
executable, nor are its tables of addresses writable once it runs."""
import re
import subprocess
import sys

LIBRARY, *PROGRAMS = filter(None, sys.argv[1:])  # an empty one where the program is not built

FAMILY = """malloc free calloc realloc reallocarray reallocf cfree free_sized free_aligned_sized aligned_alloc memalign
posix_memalign valloc pvalloc malloc_usable_size malloc_trim mallinfo mallinfo2 malloc_info malloc_stats mallopt
__register_atfork""".split()
# operator new and new[], plain, nothrow, aligned, aligned nothrow; delete likewise and sized.
NEW = [f"_Z{kind}m{form}" for kind in ["nw", "na"]
       for form in ["", "RKSt9nothrow_t", "St11align_val_t", "St11align_val_tRKSt9nothrow_t"]]
DELETE = [f"_Z{kind}Pv{form}" for kind in ["dl", "da"]
          for form in ["", "m", "RKSt9nothrow_t", "St11align_val_t", "mSt11align_val_t",
                       "St11align_val_tRKSt9nothrow_t"]]


def output_of(*command):
    return subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()


def check_protection(path):
    dynamic = output_of("readelf", "-dW", path)
    assert "TEXTREL" not in dynamic, f"{path}: code would be written to"
    assert re.search(r"\(FLAGS(_1)?\).*NOW", dynamic), f"{path}: addresses of functions stay writable (no -z now)"
    headers = re.findall(r"^  (LOAD|GNU_STACK|GNU_RELRO)\s+(?:0x\w+ +){5}(.{3})", output_of("readelf", "-lW", path),
                         re.MULTILINE)
    kinds = [kind for kind, _ in headers]
    assert kinds.count("LOAD") >= 3 and "GNU_STACK" in kinds, f"{path}: {headers}"
    assert "GNU_RELRO" in kinds, f"{path}: addresses stay writable (no -z relro)"
    both = [header for header in headers if "W" in header[1] and "E" in header[1]]
    assert not both, f"{path}: writable and executable: {both}"


def main():
    for path in [LIBRARY, *PROGRAMS]:
        check_protection(path)
    dynamic = output_of("readelf", "-dW", LIBRARY)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic))
    assert needed <= {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}, f"needs {needed}"
    assert "NODELETE" in dynamic, "may be unloaded while blocks live"

    tls = re.search(r"^\s+TLS\s+(?:0x\w+\s+){3}0x\w+\s+(0x\w+)", output_of("readelf", "-lW", LIBRARY), re.MULTILINE)
    size = int(tls.group(1), 16)
    assert 0 < size <= 64, f"{size} bytes of static TLS, which is scarce for who comes by dlopen"

    exported = {line.split()[-1].split("@")[0]
                for line in output_of("nm", "-D", "--defined-only", LIBRARY).splitlines() if line.split()[-2] != "A"}
    missing = [name for name in FAMILY + NEW + DELETE + ["tally_version", "tally_malloc"] if name not in exported]
    assert not missing, f"not exported: {missing}"
    unexpected = [name for name in exported
                  if name not in FAMILY + NEW + DELETE and not re.fullmatch(r"tally_[a-z_]+", name)]
    assert not unexpected, f"exported beside the interface: {unexpected}"


try:
    main()
except AssertionError as failure:
    sys.exit(f"{LIBRARY}: {failure}")
