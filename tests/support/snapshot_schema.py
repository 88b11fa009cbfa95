"""The JSON of a snapshot, checked against what issue and header promise. Import it, or run it on files."""
import json
import sys

UINT = "uint"
ANY_OF = {"uint": lambda v: type(v) is int and 0 <= v < 1 << 60, "str": lambda v: type(v) is str}

PROCESS = ["rss_bytes", "live_bytes", "footprint_bytes", "mapped_bytes", "metadata_bytes", "foreign_frees",
           "backend_bytes", "backend_chunks", "backend_surplus_bytes"]
TAG_COUNTS = [
    "live_bytes", "live_blocks", "footprint_bytes", "peak_footprint_bytes", "alloc_count", "free_count",
    "requested_bytes", "charged_bytes", "held_bytes", "pressure_ms", "pressure_count", "refused_count", "waited_count",
]
CLASS = ["tag", "size", "live_blocks", "capacity_blocks", "slabs", "footprint_bytes", "alloc_count", "requested_bytes",
         "empty_bytes", "sparse_slabs", "sparse_free_bytes"]


class Invalid(Exception):
    pass


def require(condition, *what):
    if not condition:
        raise Invalid(" ".join(str(w) for w in what))


def no_duplicates(pairs):
    keys = [key for key, _ in pairs]
    require(len(keys) == len(set(keys)), "duplicate keys:", keys)
    return dict(pairs)


def uints(where, row, keys):
    for key in keys:
        require(key in row, where, "lacks", key)
        require(type(row[key]) is int and 0 <= row[key] < 1 << 60, where, key, "is", row[key])


def parse(data):
    """The document of these bytes, checked; raises Invalid."""
    try:
        doc = json.loads(data.decode("utf-8"), object_pairs_hook=no_duplicates)
    except (ValueError, UnicodeDecodeError) as error:
        raise Invalid(f"no JSON: {error}")
    for key in ["version", "pid", "backend", "process", "tags", "classes"]:
        require(key in doc, "lacks", key)
    require(type(doc["version"]) is int and doc["version"] >= 1, "version", doc["version"])
    require(type(doc["pid"]) is int and doc["pid"] > 0, "pid", doc["pid"])
    require(doc["backend"] in ("os", "libc", "jemalloc", "mimalloc"), "backend", doc["backend"])
    uints("process", doc["process"], PROCESS)

    by_id = {}
    for tag in doc["tags"]:
        require(type(tag.get("name")) is str and tag["name"].startswith("/"), "tag name", tag.get("name"))
        uints(tag["name"], tag, ["id"] + TAG_COUNTS)
        for limit in ("soft_limit_bytes", "hard_limit_bytes"):
            require(tag[limit] is None or type(tag[limit]) is int, tag["name"], limit, "is", tag[limit])
        require(tag["pressure"] in ("normal", "soft", "hard"), tag["name"], "pressure is", tag["pressure"])
        require("parent" in tag, tag["name"], "lacks parent")
        require(tag["live_bytes"] <= tag["footprint_bytes"], tag["name"], "live above footprint")
        require(tag["footprint_bytes"] <= tag["peak_footprint_bytes"], tag["name"], "footprint above peak")
        require(tag["alloc_count"] - tag["free_count"] == tag["live_blocks"], tag["name"], "counts disagree")
        require(tag["id"] not in by_id, "tag id twice", tag["id"])
        by_id[tag["id"]] = tag
    names = [tag["name"] for tag in doc["tags"]]
    require(len(names) == len(set(names)), "a name twice")
    require(names and names[0] == "/" and doc["tags"][0]["id"] == 0, "the root comes first")
    require("/tally" in names, "no /tally")
    for tag in doc["tags"]:
        if tag["id"] == 0:
            require(tag["parent"] not in by_id or tag["parent"] is None, "the root's parent", tag["parent"])
            continue
        require(tag["parent"] in by_id, tag["name"], "parent", tag["parent"])
        above = tag["name"].rsplit("/", 1)[0] or "/"
        require(by_id[tag["parent"]]["name"] == above, tag["name"], "is not below", above)

    live = {id: 0 for id in by_id}
    for row in doc["classes"]:
        uints("class", row, CLASS)
        require(row["tag"] in by_id, "class of tag", row["tag"])
        require(row["live_blocks"] <= row["capacity_blocks"], "class over capacity", row)
        require(len(row["fill"]) == 10 and sum(row["fill"]) == row["slabs"], "fill of", row)
        require(row["sparse_slabs"] <= row["slabs"], "more sparse slabs than slabs", row)
        require(row["empty_bytes"] + row["sparse_free_bytes"] <= row["footprint_bytes"], "free above footprint", row)
        live[row["tag"]] += row["live_blocks"] * row["size"]
    for id, tag in by_id.items():
        require(live[id] <= tag["live_bytes"] or tag["name"] == "/tally", tag["name"], "classes above the tag")

    process = doc["process"]
    for key in ["live_bytes", "footprint_bytes"]:
        total = sum(tag[key] for tag in doc["tags"])
        require(process[key] == total, "process", key, process[key], "but tags", total)
    require(process["footprint_bytes"] <= process["mapped_bytes"], "footprint above mapped")
    return doc


def tag_named(doc, name):
    return next((tag for tag in doc["tags"] if tag["name"] == name), None)


def alloc_count(doc):
    """Blocks ever allocated by the program itself."""
    return sum(tag["alloc_count"] for tag in doc["tags"] if tag["name"] != "/tally")


if __name__ == "__main__":
    for path in sys.argv[1:]:
        with open(path, "rb") as file:
            parse(file.read())
