"""Reads a record, as src/record/layout.h describes it; for the tests, which trust nobody's reader but their own."""
import fcntl
import os
import struct

LIMIT_NONE = (1 << 64) - 1
COUNTS = ["live_bytes", "live_blocks", "footprint_bytes", "peak_footprint_bytes", "alloc_count", "free_count",
          "requested_bytes", "large_live_bytes", "large_live_blocks", "charged_bytes"]
LEDGER = ["rss", "shared", "live", "rounding", "in_slabs", "empty_slabs", "dirty", "kept", "metadata", "recorder",
          "untouched", "backend_surplus", "charged", "mapped"]
HEAD = struct.Struct("<8sIIQQqIIqII24s16s16s512sII4096s")
FRAME = struct.Struct("<QQQqQQIIIIIIII Q14Q")
TAG = struct.Struct("<6I6Q20Q")
CLASS = struct.Struct("<II5Q12IQ")
RANGE = struct.Struct("<QQ")
POINT = struct.Struct("<QQQqQQQII")
EVENT = struct.Struct("<QQqIIQQQQQ256s")
REQUEST = struct.Struct("<QQIIQQ256s")
REPLY = struct.Struct("<QQiIQ")
TAGS, CLASSES, RANGES, NAMES, POINT_TAGS, RECENT, MINUTES, EVENTS = 2048, 8192, 1024, 512 << 10, 60, 600, 1440, 256
MODULE = struct.Struct("<QQQII32s")
CALL = struct.Struct("<QII")
SITE = struct.Struct("<II8Q10Q")
SAMPLE = struct.Struct("<IIQQq")
PROFILE = struct.Struct("<QQQqqQQQQqq6I")
MODULES, CALLS, SITES, SAMPLES = 1024, 64 << 10, 8192, 16 << 10
POINT_BYTES = POINT.size + POINT_TAGS * 12
FRAME_BYTES = FRAME.size + TAGS * TAG.size + CLASSES * CLASS.size + RANGES * RANGE.size
PROFILE_BYTES = PROFILE.size + SITES * SITE.size + SAMPLES * SAMPLE.size
FILE_BYTES_ABOUT = 11 << 20
DEAD_KEPT = 16
EVENT_KINDS = {1: "soft", 2: "failed", 3: "waits", 4: "aborts", 5: "limit_set"}
assert (HEAD.size % 8, FRAME.size, TAG.size, CLASS.size, POINT_BYTES, EVENT.size, REQUEST.size, REPLY.size,
        MODULE.size, CALL.size, SITE.size, SAMPLE.size, PROFILE.size) == \
    (0, 200, 232, 104, 784, 328, 296, 32, 64, 16, 152, 32, 112)


def pages(n):
    return (n + 4095) // 4096 * 4096


AT_FRAME = [pages(HEAD.size), pages(HEAD.size) + pages(FRAME_BYTES)]
AT_NAMES = AT_FRAME[1] + pages(FRAME_BYTES)
NAME_CELL = 32
NAMES_AND_SINCE = NAMES + NAMES // NAME_CELL * 8
AT_RECENT = AT_NAMES + NAMES_AND_SINCE
AT_MINUTES = AT_RECENT + pages(RECENT * POINT_BYTES)
AT_EVENTS = AT_MINUTES + pages(MINUTES * POINT_BYTES)
AT_REQUEST = AT_EVENTS + pages(EVENTS * EVENT.size)
AT_REPLY = AT_REQUEST + pages(REQUEST.size)
AT_TEXTS = AT_REPLY + pages(REPLY.size)
AT_MODULES = AT_TEXTS + NAMES_AND_SINCE
AT_CALLS = AT_MODULES + pages(MODULES * MODULE.size)
AT_PROFILE = [AT_CALLS + pages(CALLS * CALL.size), AT_CALLS + pages(CALLS * CALL.size) + pages(PROFILE_BYTES)]
FILE_BYTES = AT_PROFILE[1] + pages(PROFILE_BYTES)


class Invalid(Exception):
    pass


def checksum(sequence, data):
    mask, prime = (1 << 64) - 1, 0x9e3779b97f4a7c15
    sums = [sequence, prime, sequence ^ prime, len(data)]
    for i, word in enumerate(struct.unpack(f"<{len(data) // 8}Q", data)):
        mixed = ((sums[i % 4] ^ word) * prime) & mask
        sums[i % 4] = mixed ^ mixed >> 29
    result = 0
    for one in sums:
        result = (((result ^ one) * prime) & mask) ^ result >> 31
    return result


def is_sealed(piece):
    sequence, seal = struct.unpack_from("<QQ", piece)
    return sequence != 0 and seal == checksum(sequence, piece[16:])


def text(raw):
    return raw.split(b"\0", 1)[0].decode(errors="replace")


class Record:
    """What a file says now. Raises Invalid where no frame is whole."""

    def __init__(self, path, checked=True):
        self.path = path
        with open(path, "rb") as file:
            data = self.data = file.read(FILE_BYTES)
            self.is_dead = can_lock(file)
        if len(data) < FILE_BYTES:
            raise Invalid(f"{len(data)} bytes of {FILE_BYTES}")
        (magic, self.version, size, head_sum, file_bytes, self.pid, self.uid, self.page_size, self.created,
         self.interval_ms, self.has_thread, tally, backend, tag_by, executable, command_bytes, _, command) = \
            HEAD.unpack_from(data)
        if magic != b"TALLYREC":
            raise Invalid(f"magic {magic}")
        if size != HEAD.size or file_bytes != FILE_BYTES or self.version != 2:
            raise Invalid("head")
        if checked and head_sum != checksum(0, data[24:HEAD.size]):
            raise Invalid("head's checksum")
        self.tally, self.backend, self.tag_by = text(tally), text(backend), text(tag_by)
        self.executable = text(executable)
        self.command = [part.decode(errors="replace") for part in command[:command_bytes].split(b"\0")][:-1]
        self.frames = [frame for frame in (self.frame(at, checked) for at in AT_FRAME) if frame]
        if not self.frames:
            raise Invalid("no frame is whole")
        self.frames.sort(key=lambda frame: -frame["sequence"])
        self.__dict__.update(self.frames[0])

    def name(self, offset, publication, at=AT_NAMES):
        """As a piece of that publication has it; None: another is there by now."""
        since, = struct.unpack_from("<Q", self.data, at + NAMES + offset // NAME_CELL * 8)
        return text(self.data[at + offset:at + offset + 4096]) if since <= publication else None

    def frame(self, at, checked):
        data = self.data
        fields = FRAME.unpack_from(data, at)
        (sequence, seal, size, time, uptime, walk, names, tags, classes, ranges, tags_out, classes_out, ranges_out, is_last,
         foreign) = fields[:15]
        expected = FRAME.size + tags * TAG.size + classes * CLASS.size + ranges * RANGE.size
        if sequence == 0 or size != expected or size > FRAME_BYTES:
            return None
        if checked and seal != checksum(sequence, data[at + 16:at + size]):
            return None
        frame = {"sequence": sequence, "time": time, "uptime": uptime, "walk": walk, "is_last": is_last,
                 "names_bytes": names, "foreign_frees": foreign, "tags_left_out": tags_out,
                 "classes_left_out": classes_out, "ranges_left_out": ranges_out,
                 "ledger": dict(zip(LEDGER, fields[15:]))}
        at += FRAME.size
        frame["tags"], by_id = {}, {}
        for i in range(tags):
            row = TAG.unpack_from(data, at + i * TAG.size)
            tag = dict(zip(["id", "parent", "name", "retired", "pressure", "_", "soft_limit", "hard_limit", "pressure_ms",
                            "pressure_count", "refused_count", "waited_count"], row))
            tag["own"], tag["total"] = dict(zip(COUNTS, row[12:22])), dict(zip(COUNTS, row[22:]))
            assert tag["name"] < names
            tag["name"] = self.name(tag["name"], sequence)
            if tag["name"] is None:
                return None
            frame["tags"][tag["name"]] = by_id[tag["id"]] = tag
        at += tags * TAG.size
        frame["classes"] = []
        for i in range(classes):
            row = CLASS.unpack_from(data, at + i * CLASS.size)
            of = dict(zip(["tag", "block_size", "live_blocks", "capacity_blocks", "footprint", "allocs", "requested",
                           "slabs"], row))
            of.update(fill=row[8:18], sparse_slabs=row[18], sparse_free=row[19], tag=by_id[row[0]]["name"])
            assert sum(of["fill"]) == of["slabs"], of
            frame["classes"].append(of)
        at += classes * CLASS.size
        frame["ranges"] = [RANGE.unpack_from(data, at + i * RANGE.size) for i in range(ranges)]
        return frame

    def profile(self):
        """The newest that is whole; None where there is none."""
        data, newest = self.data, None
        names = ["sequence", "seal", "bytes", "time", "begun", "rate", "taken", "lost", "peak_footprint", "peak_time",
                 "mark_time", "calls", "modules", "texts_bytes", "sites", "samples", "cut"]
        for at in AT_PROFILE:
            head = dict(zip(names, PROFILE.unpack_from(data, at)))
            if head["sequence"] == 0 or head["bytes"] > PROFILE_BYTES:
                continue
            if head["seal"] == checksum(head["sequence"], data[at + 16:at + head["bytes"]]):
                if newest is None or head["sequence"] > newest[0]["sequence"]:
                    newest = head, at + PROFILE.size
        if newest is None:
            return None
        found, at = newest
        assert found["bytes"] == PROFILE.size + found["sites"] * SITE.size + found["samples"] * SAMPLE.size

        def text_at(offset):
            name = self.name(offset, found["sequence"], AT_TEXTS)
            assert name is not None, "a text of a whole profile is there"
            return name

        found["modules"] = [
            dict(zip(["start", "end", "bias", "path", "build_id"], row[:3] + (text_at(row[3]), row[5][:row[4]].hex())))
            for row in (MODULE.unpack_from(data, AT_MODULES + i * MODULE.size) for i in range(found["modules"]))]
        calls = [CALL.unpack_from(data, AT_CALLS + i * CALL.size) for i in range(found["calls"])]

        def stack(call):
            frames = []
            while call != 0:
                assert calls[call][1] < call, "a caller comes before what it calls"
                frames.append((calls[call][0], calls[call][2]))
                call = calls[call][1]
            return frames

        rows = [SITE.unpack_from(data, at + i * SITE.size) for i in range(found["sites"])]
        found["sites"] = [{"stack": stack(row[0]), "tag": text_at(row[1]), "allocated": row[2:4], "live": row[4:6],
                           "peak": row[6:8], "mark": row[8:10], "lifetimes": row[10:]} for row in rows]
        at += len(rows) * SITE.size
        found["samples"] = [dict(zip(["site", "thread", "bytes", "requested", "time"],
                                     SAMPLE.unpack_from(data, at + i * SAMPLE.size))) for i in range(found["samples"])]
        for sample in found["samples"]:
            sample["tag"] = found["sites"][sample["site"]]["tag"]
        return found

    def points(self, at=AT_RECENT, entries=RECENT):
        found = []
        for i in range(entries):
            piece = self.data[at + i * POINT_BYTES:at + (i + 1) * POINT_BYTES]
            if not is_sealed(piece):
                continue
            sequence, _, frame, time, rss, live, footprint, count, _ = POINT.unpack_from(piece)
            assert sequence % entries == i and count <= POINT_TAGS
            if frame > self.sequence:
                continue  # of after the names were read
            rows = (struct.unpack_from("<III", piece, POINT.size + 12 * j) for j in range(count))
            tags = {self.name(name, frame): (1024 * held, 1024 * footprint_kib) for name, held, footprint_kib in rows}
            tags.pop(None, None)
            found.append({"sequence": sequence, "time": time, "rss": rss, "live": live, "footprint": footprint,
                          "tags": tags})
        return sorted(found, key=lambda point: point["sequence"])

    def minutes(self):
        return self.points(AT_MINUTES, MINUTES)

    def events(self):
        found = []
        for i in range(EVENTS):
            piece = self.data[AT_EVENTS + i * EVENT.size:AT_EVENTS + (i + 1) * EVENT.size]
            if is_sealed(piece):
                sequence, _, time, kind, _, asked, held, soft, hard, left_out, tag = EVENT.unpack(piece)
                found.append({"sequence": sequence, "time": time, "kind": EVENT_KINDS[kind], "tag": text(tag),
                              "asked": asked, "held": held, "soft": soft, "hard": hard, "left_out": left_out})
        return sorted(found, key=lambda event: event["sequence"])


def can_lock(file):
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


def folder():
    return f"/dev/shm/tally-{os.geteuid()}"


def path_of(pid):
    return f"{folder()}/{pid}.tally"


def request(path, kind, tag="", soft=LIMIT_NONE, hard=LIMIT_NONE, policy=0, sequence=None):
    """Writes a request, and returns its sequence."""
    with open(path, "r+b") as file:
        file.seek(AT_REQUEST)
        last = struct.unpack("<Q", file.read(8))[0]
        sequence = last + 1 if sequence is None else sequence
        raw = tag if isinstance(tag, bytes) else tag.encode()
        body = struct.pack("<IIQQ256s", kind, policy, soft, hard, raw)
        file.seek(AT_REQUEST)
        file.write(struct.pack("<QQ", sequence, checksum(sequence, body)) + body)
    return sequence


def reply(path):
    """(sequence, error, bytes), or None."""
    with open(path, "rb") as file:
        file.seek(AT_REPLY)
        piece = file.read(REPLY.size)
    if not is_sealed(piece):
        return None
    sequence, _, error, _, size = REPLY.unpack(piece)
    return sequence, error, size
