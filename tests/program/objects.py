"""Builds and drops objects in threads and processes; prints a digest of what it made."""
import concurrent.futures
import hashlib
import json
import multiprocessing
import random
import re
import zlib


def work(seed):
    rng = random.Random(seed)
    table = {f"key{rng.randrange(4000)}": [rng.random() for _ in range(rng.randrange(20))] for _ in range(15000)}
    text = json.dumps(table, sort_keys=True)
    assert json.loads(text) == table
    words = re.findall(r"key(\d+)", text)
    packed = zlib.compress(text.encode())
    assert zlib.decompress(packed).decode() == text
    big = bytearray()
    for word in words:
        big += word.encode() * 50
    nested = None
    for i in range(5000):
        nested = (i, nested, {"i": i})
    return hashlib.sha256(packed + bytes(big)).hexdigest()


def main():
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for digest in pool.map(work, range(8)):
            print(digest)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for digest in pool.map(work, range(100, 104)):
            print(digest)
    print(work(7))


if __name__ == "__main__":
    main()
