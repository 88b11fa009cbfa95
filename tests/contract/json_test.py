"""Runs json_writer and checks the snapshot that it wrote: json_test.py PROGRAM (environment as for the program)."""
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
import snapshot_schema


def check(program, how, library):
    env = dict(os.environ)
    if library:
        env["LD_PRELOAD"] = library
    run = subprocess.run([program, how], env=env, stdout=subprocess.PIPE, timeout=60)
    assert run.returncode == 0, f"{program} {how}: exit {run.returncode}"
    promised, _, json_bytes = run.stdout.partition(b"JSON\n")
    doc = snapshot_schema.parse(json_bytes)
    names = {tag["name"]: tag for tag in doc["tags"]}
    for line in promised.decode().splitlines():
        hex_path, blocks = line.split()
        path = bytes.fromhex(hex_path)
        try:
            name = path.decode("utf-8")
        except UnicodeDecodeError:
            continue  # written somehow; the document as a whole was valid
        assert name in names, f"{name!r} is not among {sorted(names)}"
        tag = names[name]
        expected = int(blocks) + (name == "/plain")
        assert tag["live_blocks"] == expected, f"{name!r}: {tag['live_blocks']} blocks, not {expected}"
        assert tag["requested_bytes"] >= int(blocks) ** 2 * 100, name
    assert names["/plain"]["live_bytes"] >= 3000000


def main():
    program, library = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
    for how in ["fd", "buffer"]:
        check(program, how, library)


main()
