"""For python3 with PYTHONMALLOC=malloc: objects of many sizes and lifetimes. Argument: per cent of the work."""
import json
import sys

work = int(sys.argv[1]) / 100


def documents(count):
    for i in range(count):
        yield {"id": i, "name": f"document {i}", "tags": [f"tag-{i % k}" for k in range(2, 9)],
               "nested": {"left": [i] * 5, "right": {str(k): k for k in range(6)}}}


rounds = max(1, int(3 * work))
for _ in range(rounds):
    kept = {d["name"]: d for d in documents(max(50, int(12000 * min(1, work * 10))))}
    text = json.dumps(list(kept.values()))
    again = json.loads(text)
    words = sorted(word for d in again for word in d["tags"])
    table = {(w, i % 97): [w] for i, w in enumerate(words)}
    for key in list(kept)[::2]:
        del kept[key]
print(len(table))
