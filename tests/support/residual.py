"""What of a process's RSS the ledger of its record does not explain."""
import os
import re
import struct

PARTS = ["live", "in_slabs", "empty_slabs", "dirty", "kept", "metadata", "recorder", "backend_surplus", "shared"]


def outside(start, end, ranges):
    """The parts of [start, end) that lie in none of the ranges, which are sorted."""
    for low, high in ranges:
        if high <= start or low >= end:
            continue
        if low > start:
            yield start, low
        start = max(start, high)
    if start < end:
        yield start, end


def resident(pid, start, end, page):
    """Bytes of [start, end) that are present, from the page map."""
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as file:
        data = os.pread(file.fileno(), (end - start) // page * 8, start // page * 8)
    return page * sum(entry >> 63 for (entry,) in struct.iter_unpack("<Q", data))


def other(pid, ranges, page):
    """Private memory that is not the heap's: stacks, data of programs and libraries, mappings of their own."""
    total, mappings = 0, []
    with open(f"/proc/{pid}/smaps") as file:
        for line in file:
            if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                mappings.append([int(found[1], 16), int(found[2], 16), 0, 0])
            elif line.startswith("Rss:"):
                mappings[-1][2] = 1024 * int(line.split()[1])
            elif line.startswith("Anonymous:"):
                mappings[-1][3] = 1024 * int(line.split()[1])
    for start, end, _, anonymous in mappings:
        parts = list(outside(start, end, ranges))
        if parts == [(start, end)]:
            total += anonymous
        else:
            total += sum(resident(pid, *part, page) for part in parts)
    return total


def residual(found, pid):
    """(bytes that are not explained, what of RSS is other)."""
    ledger = found.ledger
    rest = other(pid, found.ranges, found.page_size)
    return ledger["rss"] - sum(ledger[part] for part in PARTS) + ledger["untouched"] - rest, rest
