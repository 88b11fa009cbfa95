"""For git: a history to import (git fast-import), of many small edits to a tree of files. Argument: how many commits."""
import random
import sys

commits = int(sys.argv[1])
draw = random.Random(1)
words = [f"{a}{b}" for a in ("for", "map", "tag", "heap", "slab", "list", "page", "node") for b in range(100)]
files = [[" ".join(draw.choices(words, k=8)) for _ in range(60)] for _ in range(400)]
out = sys.stdout
for commit in range(commits):
    message = " ".join(draw.choices(words, k=12)) + "\n"
    out.write(f"commit refs/heads/main\ncommitter A <a@example.org> {1500000000 + commit * 60} +0000\n"
              f"data {len(message)}\n{message}")
    for number in draw.sample(range(len(files)), 3):
        lines = files[number]
        lines[draw.randrange(len(lines))] = " ".join(draw.choices(words, k=8))
        text = "\n".join(lines) + "\n"
        out.write(f"M 644 inline src/{number % 20}/{number}.txt\ndata {len(text)}\n{text}\n")
