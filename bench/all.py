#!/usr/bin/env python3
"""Every benchmark, one after the other, into one folder: programs (run.py), properties (properties.py), operations
(micro.py), instructions (instructions.py, its table to OUT/instructions.txt). Fails at the end if one of them did."""
import shutil
import subprocess
import sys

import measure

PARTS = {"programs": "run.py", "properties": "properties.py", "micro": "micro.py", "instructions": "instructions.py"}


def run(part, options, args, about):
    """Whether it failed. What it prints is shown as it comes."""
    command = [sys.executable, "-B", str(measure.HERE / PARTS[part]), *options]
    if part != "instructions":
        rounds = [f"--rounds={args.rounds}"] if args.rounds else []
        return subprocess.run([*command, f"--out={args.out}", *rounds, *(["--smoke"] if args.smoke else [])]).returncode
    if not shutil.which("valgrind"):
        print("bench: no instructions: valgrind is not installed (apt-get install valgrind)", file=sys.stderr)
        return 0
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    print(done.stdout)
    (args.out / "instructions.txt").write_text(f"{measure.as_list(about)}\n\n{done.stdout}")
    return done.returncode


def main():
    made = measure.parser(__doc__, rounds=None, only="parts (" + ", ".join(PARTS) + ")")
    args, chosen, _ = measure.parsed(made)
    unknown = set(args.only) - set(PARTS)
    if unknown:
        sys.exit(f"bench: no part {', '.join(sorted(unknown))}; known: {', '.join(PARTS)}")
    peers = [peer.split("=", 1)[0] for peer in args.peer]
    options = [f"--build={args.build}", f"--allocators={','.join(a.name for a in chosen if a.name not in peers)}",
               *(f"--peer={peer}" for peer in args.peer)]
    about = measure.description(chosen)
    failed = []
    for part in [p for p in PARTS if not args.only or p in args.only]:
        print(f"bench: {part}", file=sys.stderr, flush=True)
        if run(part, options, args, about):
            failed.append(part)
    print(f"bench: results in {args.out}" + (f"; failed: {', '.join(failed)}" if failed else ""), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
