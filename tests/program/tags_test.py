"""Real programs whose memory is tagged without rebuilding them: tags_test.py NAME LIBRARY.

Their output is as ever, and the tags are the modules and threads that they are known to have."""
import os
import re
import sys

from programs import Tally, main, need, plain_environment, run, snapshot_schema

M = 1 << 20
PYTHON = os.path.realpath(sys.executable)
SQL = """
import sqlite3, zlib
db = sqlite3.connect(":memory:")
db.execute("create table t(a, b)")
db.executemany("insert into t values(?, ?)", ((i, "x" * 100) for i in range(60000)))
print(db.execute("select count(*), sum(a) from t").fetchone(), len(zlib.compress(b"abc" * 100000)))
"""


def reported(folder, command, **env):
    """The tags of the process that allocated most; they add up to it, as each report is checked for that. What the command wrote is as without Tally."""
    tally = Tally(folder)
    plain = run(command, plain_environment())
    assert plain == run(command, tally.environment(**env))
    doc = max(tally.reports().values(), key=snapshot_schema.alloc_count)
    return {row["name"]: row for row in doc["tags"]}


def modules_python(folder):
    rows = reported(folder, [PYTHON, "-c", SQL], TALLY_TAG_BY="module", PYTHONMALLOC="malloc")
    python = [path for path in rows if re.match(r"/(exe/python|lib/libpython)", path)]
    sqlite = [path for path in rows if re.match(r"/lib/(libsqlite3|_sqlite3)", path)]
    assert python and sqlite and "/lib/libc.so.6" in rows, sorted(rows)
    assert max(rows[path]["peak_footprint_bytes"] for path in sqlite) > 6 * M, rows
    assert rows["/"]["alloc_count"] == 0, rows["/"]


def modules_node(folder):
    rows = reported(folder, [need("node"), "-e", "console.log([1, 2].map(x => x + 1).join())"], TALLY_TAG_BY="module")
    assert rows["/exe/node"]["alloc_count"] > 10000 and "/lib/libstdc++.so.6" in rows, rows


def rules_python(folder):
    """The user's own names, and limits on them."""
    path = os.path.join(folder, "tags")
    with open(path, "w", encoding="utf-8") as file:
        file.write("# ours\nlibsqlite3*, *_sqlite3* \u2192 store/sql\nexe:*, libpython* -> /python\nlib:* = rest\n")
    env = {"TALLY_TAG_BY": "module", "TALLY_TAGS": path, "PYTHONMALLOC": "malloc"}
    rows = reported(folder, [PYTHON, "-c", SQL], **env)
    assert set(rows) == {"/", "/tally", "/store", "/store/sql", "/python", "/rest"}, sorted(rows)
    assert rows["/store/sql"]["peak_footprint_bytes"] > 6 * M, rows
    assert rows["/python"]["alloc_count"] > 10000, rows
    caught = SQL.replace("\n", "\n  ").replace("\n  import", "\nimport").replace("\nimport sqlite3, zlib", "", 1)
    script = f"import sqlite3, zlib\ntry:{caught}\nexcept (MemoryError, sqlite3.Error) as e:\n  print('refused', len(b'x' * 10**7))"
    os.mkdir(os.path.join(folder, "limited"))
    limited = Tally(os.path.join(folder, "limited"))
    out, said = run([PYTHON, "-c", script], limited.environment(**env, TALLY_LIMITS="store/sql=2M,lib/none.so=1M"))
    assert out == b"refused 10000000\n", (out, said)
    assert b"tally: limit: /store/sql may have no more: " in said, said
    doc = max(limited.reports().values(), key=snapshot_schema.alloc_count)
    row = snapshot_schema.tag_named(doc, "/store/sql")
    assert row["refused_count"] >= 1 and row["peak_footprint_bytes"] <= 2 * M, row


def limit_of_a_library(folder):
    """A limit that was set before the library came."""
    library = "/lib/libsqlite3.so.0"
    script = ("import sqlite3\ntry:\n  db = sqlite3.connect(':memory:')\n  db.execute('create table t(a)')\n"
              "  db.executemany('insert into t values(?)', (('x' * 100,) for i in range(60000)))\n"
              "except (MemoryError, sqlite3.Error) as e:\n  print('refused')")
    system_python = need("/usr/bin/python3")
    tally = Tally(folder)
    out, _ = run([system_python, "-c", script], tally.environment(TALLY_TAG_BY="module", TALLY_LIMITS=f"{library[1:]}=1M"))
    assert out == b"refused\n", out
    doc = max(tally.reports().values(), key=snapshot_schema.alloc_count)
    assert snapshot_schema.tag_named(doc, library)["peak_footprint_bytes"] <= M


def threads_python(folder):
    script = """
import ctypes, threading
libc = ctypes.CDLL(None)
def work(i):
  libc.pthread_setname_np(ctypes.c_void_p(threading.get_ident()), b"io-%d" % i)
  global kept
  kept = [bytes(3000) for _ in range(2000)]
for i in range(4):
  t = threading.Thread(target=work, args=(i,)); t.start(); t.join()
print(len(kept))
"""
    rows = reported(folder, [PYTHON, "-c", script], TALLY_TAG_BY="thread", PYTHONMALLOC="malloc")
    assert rows["/thread/io-#"]["alloc_count"] >= 8000, rows
    main_thread = re.sub(r"\d+$", "#", os.path.basename(PYTHON)[:15])
    assert rows["/thread/" + main_thread]["alloc_count"] > 10000, rows
    assert rows["/"]["alloc_count"] == 0, rows["/"]


main([modules_python, modules_node, rules_python, limit_of_a_library, threads_python])
