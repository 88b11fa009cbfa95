"""Programs that were linked to the last release go on with this library: abi_test.py LIBRARY HEADERS LIST [--write].

LIST is what abidw says of the last release's library: functions, their versions, the types of the public headers.
Nothing of it may go or change; there may be more. With --write it is made anew, for a release."""
import re
import subprocess
import sys
import tempfile

LIBRARY, HEADERS, LIST = sys.argv[1:4]
OPTIONS = """--drop-private-types --exported-interfaces-only --no-comp-dir-path --no-corpus-path --no-show-locs
--no-elf-needed --type-id-style hash --drop-undefined-syms""".split()


def differences(listed):
    # Not told of the headers: it would take each type of a list without places for a private one.
    done = subprocess.run(["abidiff", "--no-added-syms", listed, LIBRARY], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    assert done.returncode & 3 == 0, f"abidiff failed:\n{done.stdout}"
    return done.stdout if done.returncode else ""


def check_that_it_sees(text, old, new):
    """The list with a change, as if the last release had been otherwise."""
    assert re.search(old, text), f"{LIST} has no {old}"
    with tempfile.NamedTemporaryFile("w", suffix=".abi") as file:
        file.write(re.sub(old, new, text))
        file.flush()
        assert differences(file.name), f"a change of {old} is not seen"


def main():
    if "--write" in sys.argv:
        subprocess.run(["abidw", *OPTIONS, "--headers-dir", HEADERS, "--out-file", LIST, LIBRARY], check=True)
        return
    found = differences(LIST)
    assert not found, (f"{found}\nPrograms of the last release may not work with this. If they do, as a struct grew at its end "
                       "of which they are told the size, the list is written anew by this script with --write. If it is meant "
                       "that they do not, the next version has another major number.")
    with open(LIST) as file:
        text = file.read()
    check_that_it_sees(text, r"'tally_tag_pop'", "'tally_tag_gone'")
    check_that_it_sees(text, r"(name='tally_arena_options' size-in-bits=)'256'", r"\1'192'")
    check_that_it_sees(text, r"'calloc'", "'calloc_of_old'")


main()
