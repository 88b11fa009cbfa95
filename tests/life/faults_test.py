"""Failures that TALLY_FAULT asks for: faults_test.py FAULTS [LIBRARY]."""
import os
import subprocess
import sys

FAULTS = sys.argv[1]
LIBRARY = sys.argv[2] if len(sys.argv) > 2 else None

# One of a small block's size, of a page's, of a few pages, in a chunk, and a mapping of its own.
SIZES = [24, 1000, 5000, 40000, 300000, 5 << 20]


def run(fault, how, tag="f/below", size=24, count=100, **more):
    """The numbers of the allocations that failed, and how many did."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")}
    env.update(TALLY_FAULT=fault, **more)
    if LIBRARY:
        env["LD_PRELOAD"] = LIBRARY
    done = subprocess.run([FAULTS, how, tag, str(size), str(count)], env=env, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60)
    said = done.stderr.decode(errors="replace")
    assert done.returncode == 0 and said == "", f"{fault} {how} {tag} {size}: exit {done.returncode}, said {said!r}"
    numbers, _, failed = done.stdout.decode().partition("=")
    return [int(number) for number in numbers.split()], int(failed)


WAYS = subprocess.run([FAULTS, "names", "", "", ""], stdout=subprocess.PIPE, check=True,
                      env={**os.environ, **({"LD_PRELOAD": LIBRARY} if LIBRARY else {})}).stdout.decode().split()


def the_nth():
    """That one fails and no other, however it is asked for."""
    assert len(WAYS) > 15, WAYS
    for how in [*WAYS, "take_over", "grow"]:
        for size in SIZES:
            if how == "strdup" and size > 1000:
                continue
            numbers, failed = run("f:nth=7", how, size=size, count=10)
            assert numbers == [7] and failed == 1, f"{how} of {size}: {numbers}"


def the_first():
    for how in WAYS:
        assert run("f:nth=1", how)[0] == [1], how


def growth():
    """Each is an allocation, where the block stays as well as where it moves; what shrinks is none."""
    for size in SIZES:
        for nth in [2, 3, 10]:
            numbers, _ = run(f"f:nth={nth}", "grow", size=size, count=12)
            assert numbers == [nth], f"{size}: {numbers} instead of {nth}"
        assert run("f:nth=13", "grow", size=size, count=12)[0] == [], size
        # The block itself is not above; all that it would grow to is.
        assert run(f"f:above={size}", "grow", size=size, count=5)[0] == [2, 3, 4, 5], size


def by_size():
    for how in WAYS:
        if how == "strdup":
            continue  # asks for one more
        for size, fails in [(1024, False), (1026, True)]:
            assert run("f:above=1K", how, size=size, count=3)[1] == (3 if fails else 0), f"{how} of {size}"
    assert run("f:above=4M", "malloc", size=5 << 20, count=3)[1] == 3
    assert run("f:above=4M", "malloc", size=4 << 20, count=3)[1] == 0


def by_chance():
    """The same numbers in each run, for the same seed; about as many as asked for."""
    for how in ["malloc", "tally_malloc", "new", "calloc"]:
        first = run("f:p=0.01:seed=7", how, count=4000)
        assert first == run("f:p=0.01:seed=7", how, count=4000), how
        assert first == run("f:p=0.01:seed=7", how, count=4000, size=5000), how
        assert 20 <= first[1] <= 60, first
        assert first[0][:first[1]] == sorted(set(first[0])), first
    other = run("f:p=0.01:seed=8", "malloc", count=4000)
    assert other[0] != first[0] and 20 <= other[1] <= 60, other
    assert run("f:p=0.01", "malloc", count=4000) == run("f:p=0.01:seed=0", "malloc", count=4000)
    # What is likelier strikes at those too.
    more = run("f:p=0.1:seed=7", "malloc", count=4000)
    assert set(first[0]) <= set(more[0]) and 320 <= more[1] <= 480, more[1]
    assert run("f:p=0", "malloc")[1] == 0
    assert run("f:p=1", "malloc")[1] == 100
    assert run("f:p=.5:seed=3:nth=1", "malloc")[0][0] == 1


def whose():
    """The tag's and those below it, and no other's."""
    for tag, fails in [("f", True), ("f/a", True), ("f/a/b/c", True), ("g", False), ("fg", False), ("g/f", False)]:
        for how in ["malloc", "tally_malloc", "take_over"]:
            assert run("f:p=1", how, tag=tag, count=5)[1] == (5 if fails else 0), f"{how} under {tag}"
    assert run("f:p=1", "untagged")[1] == 0
    # The nearest above counts alone, whatever the order.
    for faults in ["f:p=1,f/a/b:p=0", "f/a/b:p=0,f:p=1"]:
        for tag, fails in [("f", True), ("f/a", True), ("f/a/x", True), ("f/a/b", False), ("f/a/b/c", False)]:
            assert run(faults, "malloc", tag=tag, count=5)[1] == (5 if fails else 0), f"{faults}: {tag}"
    assert run("f:p=1,f:p=0", "malloc", tag="f/a")[1] == 0  # the last word counts


def of_the_root():
    """All there is: under tags, and where nobody named one."""
    for how, tag in [("untagged", "/"), ("malloc", "f"), ("tally_malloc", "f/a")]:
        for faults in ["/:above=1M", "f/a/b:p=0,/:above=1M"]:
            if how == "untagged":
                assert run(faults, how, tag=tag, size=2 << 20)[1] == 100, f"{how} {tag}"
            assert run(faults, how, tag=tag, size=1000)[1] == 0, f"{how} {tag}"
    assert run("/:nth=5000", "untagged", tag="/", size=2 << 20, count=6000)[1] == 1
    assert run("/:nth=5000", "untagged", tag="/", count=6000)[1] == 1
    assert run("/:p=0.01:seed=7", "untagged", tag="/", count=0)[1] == 0


def where_a_rule_decides():
    """By module and by thread: of the tag that the rule names, and of no scope's."""
    name = os.path.basename(FAULTS)
    for by, tag in [("module", f"exe/{name}"), ("thread", f"thread/{name[:15]}")]:
        env = {"TALLY_TAG_BY": by}
        for fault, how, count in [(tag, "untagged", 100), ("f", "untagged", 0), ("f", "malloc", 100), ("f", "new", 100)]:
            assert run(f"{fault}:above=1M", how, size=2 << 20, **env)[1] == count, f"{fault} {how} by {by}"
        assert run("f:p=1", "malloc", **env)[1] == 100, by
        assert run(f"{tag}:nth=5000", "untagged", count=6000, **env)[1] == 1, by


def of_all_threads():
    assert run("f:nth=5000", "threads", count=8000)[1] == 1
    assert run("f:nth=8001", "threads", count=8000)[1] == 0
    alone = run("f:p=0.02:seed=5", "malloc", count=8000)[1]
    assert run("f:p=0.02:seed=5", "threads", count=8000)[1] == alone


def the_new_handler():
    assert run("f:nth=5", "handler", count=10)[1] == 1
    assert run("f:p=0.5:seed=1", "handler", count=100)[1] > 50


failed = False
for case in [the_nth, the_first, growth, by_size, by_chance, whose, of_the_root, where_a_rule_decides, of_all_threads,
             the_new_handler]:
    try:
        case()
    except (AssertionError, subprocess.TimeoutExpired) as failure:
        failed = True
        print(f"{case.__name__}: {type(failure).__name__}: {failure}")
sys.exit(failed)
