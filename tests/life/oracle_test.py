"""Tally's count against one that is not its own, of real programs: oracle_test.py ORACLE LIBRARY."""
import os
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
ORACLE, LIBRARY = sys.argv[1:]
PYTHON = """
import gc, json, re, sqlite3, threading
def work(seed):
    held = []
    for i in range(20000):
        held.append([i, str(i * seed), {i: bytes(i % 3000)}])
        if i % 3 == 0: held.pop(len(held) * seed % 7 % len(held))
    data = sqlite3.connect(":memory:")
    data.execute("create table t (a, b)")
    data.executemany("insert into t values (?, ?)", ((i, "x" * (i % 200)) for i in range(5000)))
    json.loads(json.dumps([str(i) for i in range(5000)]))
    return data.execute("select count(*), sum(length(b)) from t group by a % 7").fetchall()
threads = [threading.Thread(target=work, args=(seed,)) for seed in (3, 5, 11, 13)]
for thread in threads: thread.start()
for thread in threads: thread.join()
work(17)
"""
PERL = 'my %h; for my $i (1..60000) { $h{$i % 9000} = "x" x ($i % 700); delete $h{$i * 7 % 9000} } print scalar(%h)'
SQLITE = """create table t(a primary key, b); with recursive n(i) as (select 1 union all select i+1 from n where i < 30000)
insert into t select i, hex(randomblob(i % 90)) from n; delete from t where a % 3 = 0; select count(*), max(b) from t;"""


def main():
    programs = [["python3", "-c", PYTHON], ["perl", "-e", PERL], ["sqlite3", ":memory:", SQLITE],
                ["git", "--version"], ["bc", "-q"]]
    asked = [{}, {"TALLY_TAG_BY": "module"}, {"TALLY_SAMPLE": "4K", "TALLY_RECORD": "0", "TALLY_GUARD": "1/4"}]
    ran = 0
    with tempfile.TemporaryDirectory() as folder:
        for program in programs:
            if shutil.which(program[0]) is None:
                print(f"{program[0]} is not installed")
                continue
            for options in asked:
                told = os.path.join(folder, "told")
                env = {k: v for k, v in os.environ.items() if not k.startswith("TALLY")} | options
                env |= {"LD_PRELOAD": f"{ORACLE}:{LIBRARY}", "ORACLE_FILE": told, "PYTHONMALLOC": "malloc"}
                done = subprocess.run(program, env=env, input=b"2^2000\n", stdout=subprocess.PIPE,
                                      stderr=subprocess.PIPE, timeout=100)
                assert done.returncode == 0, done
                with open(told) as file:
                    lines = file.read().splitlines()
                os.remove(told)
                for line in lines:
                    numbers = [int(number) for number in line.split()]
                    assert numbers[:2] == numbers[2:], f"{program[0]} with {options}: the oracle's and Tally's: {line}"
                ran += len(lines)
                print(f"{program[0]} with {options}: {lines}", flush=True)
    return 0 if ran else SKIPPED


sys.exit(main())
