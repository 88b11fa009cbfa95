"""Counts words with an extension that leaks: count_words.py FOLDER [SECONDS]; FOLDER is where the extension is."""
import sys
import time

sys.path.insert(0, sys.argv[1])
import words

end = time.monotonic() + (float(sys.argv[2]) if len(sys.argv) > 2 else 2)
text = " ".join(f"a word and a longer-word-that-is-number-{i}" for i in range(500))
rounds = 0
while time.monotonic() < end:
    words.count(text)
    rounds += 1
    time.sleep(0.001)
print(f"{rounds} texts counted")
