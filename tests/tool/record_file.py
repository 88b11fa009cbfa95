"""Writes records as the library does (src/record/layout.h), for the tests of what shows them."""

import fcntl
import os
import struct
import time

MASK = 2**64 - 1
PRIME = 0x9E3779B97F4A7C15
NO_LIMIT = MASK
NO_TAG = 0xFFFFFFFF

POINT_BYTES, RECENT_POINTS, POINT_TAGS = 784, 600, 60
MINUTE_POINTS, EVENT_BYTES, EVENTS = 1440, 328, 256
TAGS_MAX, CLASSES_MAX, RANGES_MAX, NAMES_BYTES = 2048, 8192, 1024, 512 * 1024
HEAD_BYTES = 4736
FRAME_HEAD_BYTES, TAG_BYTES, CLASS_BYTES, RANGE_BYTES = 200, 232, 104, 16
FRAME_BYTES = FRAME_HEAD_BYTES + TAGS_MAX * TAG_BYTES + CLASSES_MAX * CLASS_BYTES + RANGES_MAX * RANGE_BYTES


def in_pages(size):
    return (size + 4095) // 4096 * 4096


AT_FRAME = (in_pages(HEAD_BYTES), in_pages(HEAD_BYTES) + in_pages(FRAME_BYTES))
AT_NAMES = AT_FRAME[1] + in_pages(FRAME_BYTES)
NAMES_AND_SINCE = NAMES_BYTES + NAMES_BYTES // 32 * 8
AT_RECENT = AT_NAMES + NAMES_AND_SINCE
AT_MINUTES = AT_RECENT + in_pages(RECENT_POINTS * POINT_BYTES)
AT_EVENTS = AT_MINUTES + in_pages(MINUTE_POINTS * POINT_BYTES)
AT_REQUEST = AT_EVENTS + in_pages(EVENTS * EVENT_BYTES)
AT_REPLY = AT_REQUEST + in_pages(296)
MODULES_MAX, CALLS_MAX, SITES_MAX, SAMPLES_MAX = 1024, 64 * 1024, 8192, 16 * 1024
MODULE_BYTES, CALL_BYTES, SITE_BYTES, SAMPLE_BYTES, PROFILE_HEAD_BYTES = 64, 16, 152, 32, 112
PROFILE_BYTES = PROFILE_HEAD_BYTES + SITES_MAX * SITE_BYTES + SAMPLES_MAX * SAMPLE_BYTES
AT_TEXTS = AT_REPLY + in_pages(32)
AT_MODULES = AT_TEXTS + NAMES_AND_SINCE
AT_CALLS = AT_MODULES + in_pages(MODULES_MAX * MODULE_BYTES)
AT_PROFILE = (AT_CALLS + in_pages(CALLS_MAX * CALL_BYTES),
              AT_CALLS + in_pages(CALLS_MAX * CALL_BYTES) + in_pages(PROFILE_BYTES))
FILE_BYTES = AT_PROFILE[1] + in_pages(PROFILE_BYTES)
NO_MODULE = 0xFFFFFFFF
LIFETIME_STEPS = 10

LEDGER = ("rss shared live rounding in_slabs empty_slabs dirty kept metadata recorder untouched "
          "backend_surplus charged mapped").split()


def checksum(sequence, data):
    sums = [sequence, PRIME, sequence ^ PRIME, len(data)]
    for i, (word,) in enumerate(struct.iter_unpack("<Q", data)):
        mixed = (sums[i % 4] ^ word) * PRIME & MASK
        sums[i % 4] = mixed ^ mixed >> 29
    whole = 0
    for one in sums:
        whole = (whole ^ one) * PRIME & MASK ^ whole >> 31
    return whole


def sealed(sequence, rest):
    return struct.pack("<QQ", sequence, checksum(sequence, rest)) + rest


class Tag:
    """A row; live and footprint are its own, totals are added up by the file."""

    def __init__(self, path, live, footprint, blocks=None, allocs=None, soft=NO_LIMIT, hard=NO_LIMIT, pressure=0,
                 charged=0):
        self.path, self.live, self.footprint = path, live, footprint
        self.blocks = live // 64 if blocks is None else blocks
        self.allocs = self.blocks if allocs is None else allocs
        self.soft, self.hard, self.pressure, self.charged = soft, hard, pressure, charged

    def counts(self):
        return [self.live, self.blocks, self.footprint, self.footprint, self.allocs, self.allocs - self.blocks,
                self.live, 0, 0, self.charged]


class Profile:
    """The sampled heap profile of a RecordFile. Amounts are (objects, bytes)."""

    def __init__(self, time_ns, rate=512 * 1024):
        self.time, self.begun, self.rate, self.taken, self.lost = time_ns, time_ns - 300 * 10**9, rate, 100, 0
        self.peak_footprint, self.peak_time, self.mark_time = 96 << 20, time_ns - 60 * 10**9, time_ns - 180 * 10**9
        self.texts, self.offsets = b"", {}
        self.modules, self.calls, self.sites, self.samples = [], [(0, 0, 0)], [], []

    def text(self, text):
        if text not in self.offsets:
            self.offsets[text] = len(self.texts)
            self.texts += os.fsencode(text) + b"\0"
        return self.offsets[text]

    def module(self, path, start, end, bias=None, build_id=b""):
        """Its index, as of all that is added."""
        self.modules.append((start, end, start if bias is None else bias, self.text(path), len(build_id), build_id))
        return len(self.modules) - 1

    def stack(self, *calls):
        """Of (address, module), outermost first; those of the same callers are the same."""
        caller = 0
        for address, module in calls:
            call = (address, caller, module)
            if call not in self.calls:
                self.calls.append(call)
            caller = self.calls.index(call)
        return caller

    def site(self, call, tag, live=(0, 0), allocated=None, peak=(0, 0), mark=(0, 0), lifetimes=()):
        steps = [*lifetimes, *[0] * (LIFETIME_STEPS - len(lifetimes))]
        self.sites.append((call, self.text(tag), *(allocated or live), *live, *peak, *mark, *steps))
        return len(self.sites) - 1

    def sample(self, site, size, age_s, count=1):
        self.samples += [(site, 1, size, size, self.time - int(age_s * 10**9))] * count

    def sealed(self, sequence):
        sites = b"".join(struct.pack(f"<II8Q{LIFETIME_STEPS}Q", *site) for site in self.sites)
        samples = b"".join(struct.pack("<IIQQq", *sample) for sample in self.samples)
        size = PROFILE_HEAD_BYTES + len(sites) + len(samples)
        head = struct.pack("<QqqQQQQqq6I", size, self.time, self.begun, self.rate, self.taken, self.lost,
                           self.peak_footprint, self.peak_time, self.mark_time, len(self.calls), len(self.modules),
                           len(self.texts), len(self.sites), len(self.samples), 0)
        return sealed(sequence, head + sites + samples)


class RecordFile:
    """tags: [Tag]; classes: [(path, size, live, capacity, footprint, slabs, fill, sparse_slabs, sparse_free)];
    points: [(seconds before the frame, {path: (live, footprint)})]."""

    def __init__(self, path, tags=(), classes=(), points=(), pid=4711, command=("server", "--port", "80")):
        self.path, self.pid, self.command = path, pid, command
        self.tags, self.classes, self.points = list(tags), list(classes), list(points)
        self.ledger = {}
        self.time = time.time_ns()
        self.created = self.time - 10**10
        self.uptime = 10**12
        self.sequence = 0
        self.is_last = 0
        self.names, self.offsets = b"", {}
        self.file = None
        self.lock = None
        self.profile = None

    def name(self, path):
        if path not in self.offsets:
            self.offsets[path] = len(self.names)
            self.names += path.encode() + b"\0"
        return self.offsets[path]

    def head(self):
        command = b"".join(one.encode() + b"\0" for one in self.command)
        rest = struct.pack("<QqIIqII24s16s16s512sII4096s", FILE_BYTES, self.pid, os.geteuid(), 4096,
                           self.created, 1000, 1, b"0.1.0", b"os", b"module", b"/usr/bin/server", len(command), 0,
                           command)
        whole = struct.pack("<8sIIQ", b"TALLYREC", 2, HEAD_BYTES, checksum(0, rest)) + rest
        assert len(whole) == HEAD_BYTES, len(whole)
        return whole

    def tag_rows(self):
        index = {tag.path: i for i, tag in enumerate(self.tags)}
        totals = [tag.counts() for tag in self.tags]
        for tag in self.tags:
            path = tag.path
            while path != "/":
                path = path.rpartition("/")[0] or "/"
                if path in index:
                    totals[index[path]] = [a + b for a, b in zip(totals[index[path]], tag.counts())]
        rows = b""
        for i, tag in enumerate(self.tags):
            parent = NO_TAG if tag.path == "/" else index.get(tag.path.rpartition("/")[0] or "/", 0)
            rows += struct.pack("<6I6Q", i, parent, self.name(tag.path), 0, tag.pressure, 0, tag.soft, tag.hard,
                                0, 0, 0, 0)
            rows += struct.pack("<20Q", *tag.counts(), *totals[i])
        return rows

    def class_rows(self):
        index = {tag.path: i for i, tag in enumerate(self.tags)}
        rows = b""
        for path, size, live, capacity, footprint, slabs, fill, sparse_slabs, sparse_free in self.classes:
            rows += struct.pack("<II5Q12IQ", index[path], size, live, capacity, footprint, live, live * size, slabs,
                                *fill, sparse_slabs, sparse_free)
        return rows

    def frame(self):
        tags, classes = self.tag_rows(), self.class_rows()
        ledger = {"live": sum(tag.live - tag.charged for tag in self.tags if tag.path != "/tally"), **self.ledger}
        rest = struct.pack("<QqQQ8IQ", FRAME_HEAD_BYTES + len(tags) + len(classes), self.time, self.uptime, 10**5,
                           len(self.names), len(self.tags), len(self.classes), 0, 0, 0, 0, self.is_last, 0)
        rest += struct.pack("<14Q", *(ledger.get(part, 0) for part in LEDGER))
        return sealed(self.sequence, rest + tags + classes)

    def point(self, sequence, before, tags):
        largest = sorted(tags.items(), key=lambda item: -item[1][1])[:POINT_TAGS]
        rest = struct.pack("<QqQQQII", 0, self.time - int(before * 10**9), self.ledger.get("rss", 0),
                           sum(live for live, _ in tags.values()), sum(taken for _, taken in tags.values()),
                           len(largest), 0)
        for path, (live, footprint) in largest:
            rest += struct.pack("<3I", self.name(path), live // 1024, footprint // 1024)
        return sealed(sequence, rest.ljust(POINT_BYTES - 16, b"\0"))

    def write(self):
        """The next frame and all that may have changed with it; the points at first alone."""
        self.sequence += 1
        frame = self.frame()
        points = [self.point(i + 1, *point) for i, point in enumerate(self.points)] if self.file is None else []
        if self.file is None:
            self.file = open(self.path, "w+b")
            self.file.truncate(FILE_BYTES)
        self.put(0, self.head())
        self.put(AT_NAMES, self.names)
        for i, point in enumerate(points):
            self.put(AT_RECENT + (i + 1) % RECENT_POINTS * POINT_BYTES, point)
        self.put(AT_FRAME[self.sequence % 2], frame)
        if self.profile:
            self.put_profile(self.profile)

    def put_profile(self, profile):
        self.put(AT_TEXTS, profile.texts)
        self.put(AT_MODULES, b"".join(struct.pack("<QQQII32s", *module) for module in profile.modules))
        self.put(AT_CALLS, b"".join(struct.pack("<QII", *call) for call in profile.calls))
        self.put(AT_PROFILE[self.sequence % 2], profile.sealed(self.sequence))

    def put(self, offset, data):
        self.file.flush()
        os.pwrite(self.file.fileno(), data, offset)

    def live(self):
        """From now on as if the process ran."""
        self.lock = open(self.path, "r+b")
        fcntl.flock(self.lock, fcntl.LOCK_EX)

    def die(self):
        if self.lock:
            self.lock.close()
            self.lock = None

    def close(self):
        self.die()
        if self.file:
            self.file.close()
