#!/usr/bin/env python3
"""Builds and drops a few hundred MB of python objects on several threads.

A small document store: it parses JSON, indexes the words, caches compressed bodies, and forgets three documents in four.
An ordinary program, except that its parts carry tags where Tally is its malloc:

  LD_PRELOAD=build/release/lib/libtally.so TALLY_REPORT=1 PYTHONMALLOC=malloc python3 examples/python_churn.py [N]
"""

import ctypes
import hashlib
import json
import random
import re
import sys
import threading
import time
import zlib

THREADS = 4
ROUNDS = 3
DOCUMENTS = int(sys.argv[1]) if len(sys.argv) > 1 else 2500  # a round and thread
WORD = re.compile(r"[a-z]{4,}")
LETTERS = str.maketrans("0123456789", "ghijklmnop")
VOCABULARY = [hashlib.sha256(b"%d" % n).hexdigest()[:4 + n % 9].translate(LETTERS) for n in range(5000)]


class Tag:
    """`with Tag("store/json"):` allocates what is inside under that tag; without Tally it does nothing."""

    tally = ctypes.PyDLL(None)
    live = hasattr(tally, "tally_tag_push")

    def __init__(self, path):
        if self.live:
            self.tally.tally_tag_create.restype = ctypes.c_uint32
            self.id = ctypes.c_uint32(self.tally.tally_tag_create(path.encode()))

    def __enter__(self):
        if self.live:
            self.tally.tally_tag_push(self.id)

    def __exit__(self, *_):
        if self.live:
            self.tally.tally_tag_pop()


TEXT, DOCS, INDEX, CACHE = Tag("text"), Tag("store/documents"), Tag("store/index"), Tag("cache")


class Store:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.documents, self.index, self.cache = {}, {}, {}

    def text(self, key):
        """A document as it comes over the wire."""
        words = self.random.choices(VOCABULARY, k=self.random.randint(20, 200))
        return json.dumps({"id": key, "title": " ".join(words[:5]), "body": " ".join(words),
                           "scores": [self.random.random() for _ in range(10)],
                           "author": {"name": words[0].title(), "tags": words[5:12]}})

    def add(self, key):
        with TEXT:
            text = self.text(key)
        with DOCS:
            document = self.documents[key] = json.loads(text)
        with INDEX:
            for word in WORD.findall(document["body"]):
                self.index.setdefault(word, set()).add(key)
        with CACHE:
            body = document["body"].encode()
            self.cache[hashlib.sha1(body).hexdigest()] = zlib.compress(body, 1), body * 8

    def forget(self):
        """Keeps one document in four: here and there one, which is what fragments a heap."""
        for key in [k for k in self.documents if k % 4]:
            del self.documents[key]
        with INDEX:
            self.index = {word: kept for word, keys in self.index.items()
                          if (kept := {k for k in keys if k % 4 == 0})}
        for key in list(self.cache)[::2]:
            del self.cache[key]

    def search(self):
        return sum(len(self.index.get(word, ())) for word in VOCABULARY)


def on_threads(work, *args):
    threads = [threading.Thread(target=work, args=(*args, n)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def say(what):
    print(f"{time.monotonic() - start:5.1f} s  {what}", flush=True)


def main():
    stores = [Store(n) for n in range(THREADS)]

    def fill(round, n):
        for i in range(DOCUMENTS):
            stores[n].add(round * DOCUMENTS + i)

    say(f"{THREADS} threads parse, index and cache documents" + (", each part under a tag" if Tag.live else ""))
    for round in range(ROUNDS):
        on_threads(fill, round)
        say(f"round {round + 1} of {ROUNDS}: {sum(len(s.documents) for s in stores)} documents held")
        if round + 1 < ROUNDS:
            on_threads(lambda n: stores[n].forget())
            say(f"three in four dropped, {sum(len(s.documents) for s in stores)} left")
    say("full now: reading for a second")
    found = 0
    pause = time.monotonic() + 1
    while time.monotonic() < pause:  # reads, so that it may be looked at
        found = sum(store.search() for store in stores)
    say(f"{found} places found in the indexes")
    stores.clear()
    say("all dropped")
    for _ in range(15):  # goes on with little; meanwhile what is free goes back to the system
        time.sleep(0.1)
        small = Store(0)
        for key in range(100):
            small.add(key)
    say("done")


if __name__ == "__main__":
    start = time.monotonic()
    sys.exit(main())
