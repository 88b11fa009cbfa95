"""PostgreSQL and redis with their own tools: load, restart, a crash and the recovery from it; what was stored is compared.

Debian's packages of them, as those of perl, sqlite and tcl, do not have their test suites."""
import os
import pwd
import shutil
import signal
import subprocess
import time

from case import Case, Skip, run

POSTGRES = "/usr/lib/postgresql/15/bin"
# Each transaction of pgbench adds the same to one row of each of three tables, and a row to the history.
BALANCES = ("select (select sum(abalance) from pgbench_accounts), (select sum(bbalance) from pgbench_branches), "
            "(select sum(tbalance) from pgbench_tellers), (select coalesce(sum(delta), 0) from pgbench_history)")
CONTENT = "select md5(string_agg(a::text, ',' order by aid)) from pgbench_accounts a"


def expect_preloaded(pid, env):
    """What is preloaded by the environment is in the process."""
    with open(f"/proc/{pid}/maps") as file:
        maps = file.read()
    for name in env.get("LD_PRELOAD", "").split():
        assert os.path.basename(os.path.realpath(name)) in maps or os.path.basename(name) in maps, f"{name} is not in it"


def wait_for(condition, what):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end, f"{what}: not within 120 s"
        time.sleep(0.05)


class Postgres:
    def __init__(self, env, folder):
        self.user = None
        if os.geteuid() == 0:  # it refuses to run as root
            self.user = "postgres"
            os.chmod(folder, 0o755)
        self.home = os.path.join(folder, "pg")
        os.mkdir(self.home)
        # Where that user may read it.
        preload = [shutil.copy(path, folder) for path in env.get("LD_PRELOAD", "").split()]
        self.env = env | {"PGHOST": self.home, "PGPORT": "5999", "HOME": self.home, "TMPDIR": self.home}
        if preload:
            self.env["LD_PRELOAD"] = " ".join(preload)
        self.user and shutil.chown(self.home, self.user)
        self.data = os.path.join(self.home, "data")
        self.tool("initdb", "--no-sync", "--data-checksums", "-A", "trust", "-U", "tester", self.data)
        with open(os.path.join(self.data, "postgresql.conf"), "a") as file:
            file.write(f"listen_addresses = ''\nport = 5999\nunix_socket_directories = '{self.home}'\n"
                       "shared_buffers = 16MB\nmax_parallel_workers_per_gather = 2\nwork_mem = 1MB\n")

    def tool(self, name, *arguments):
        return run([f"{POSTGRES}/{name}", *arguments], self.env, self.home, user=self.user)

    def start(self):
        self.process = subprocess.Popen([f"{POSTGRES}/postgres", "-D", self.data], env=self.env, cwd=self.home, user=self.user,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=open(os.path.join(self.home, "log"), "ab"), start_new_session=True)
        wait_for(lambda: self.process.poll() is not None or subprocess.run(
            [f"{POSTGRES}/pg_isready", "-q"], env=self.env).returncode == 0, "start of postgres")
        assert self.process.poll() is None, open(os.path.join(self.home, "log"), errors="replace").read()[-3000:]
        expect_preloaded(self.process.pid, self.env)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(120) == 0

    def crash(self):
        """All of its processes, as if the machine had ended."""
        os.killpg(self.process.pid, signal.SIGKILL)
        for path in self.others():
            os.kill(path, signal.SIGKILL)
        self.process.wait()
        wait_for(lambda: not self.others(), "end of the backends")
        os.remove(os.path.join(self.data, "postmaster.pid"))

    def others(self):
        """Its backends, each of which has a session of its own."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                if os.readlink(f"/proc/{pid}/cwd") == self.data:
                    found.append(int(pid))
            except OSError:
                pass
        return found

    def ask(self, query):
        return self.tool("psql", "-U", "tester", "-d", "postgres", "-AtX", "-c", query).strip()

    def bench(self, *arguments):
        return [f"{POSTGRES}/pgbench", "-U", "tester", *arguments, "postgres"]

    def expect_balanced(self):
        balances = set(self.ask(BALANCES).split("|"))
        assert len(balances) == 1, f"the balances are {balances}"


def postgres(transactions):
    def test(env, folder):
        if not os.path.isdir(POSTGRES):
            raise Skip(f"there is no {POSTGRES} (Debian: postgresql)")
        if os.geteuid() == 0 and "postgres" not in [user.pw_name for user in pwd.getpwall()]:
            raise Skip("there is no user postgres")
        server = Postgres(env, folder)
        try:
            server.start()
            run(server.bench("-i", "-s", "2", "-q"), server.env, server.home, user=server.user)
            run(server.bench("-c", "4", "-j", "2", "-t", str(transactions)), server.env, server.home, user=server.user)
            server.expect_balanced()
            assert server.ask("select count(*) from pgbench_history") == str(4 * transactions)
            content = server.ask(CONTENT)
            server.stop()
            server.tool("pg_checksums", "--check", "-D", server.data)
            server.start()
            assert server.ask(CONTENT) == content, "other content after the restart"
            # A crash in the midst of transactions, and the recovery. (-n: the history is not emptied first.)
            load = subprocess.Popen(server.bench("-n", "-c", "4", "-T", "600"), env=server.env, cwd=server.home, user=server.user,
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            wait_for(lambda: int(server.ask("select count(*) from pgbench_history")) > 5 * transactions, "load")
            server.crash()
            load.wait(120)
            server.start()
            server.expect_balanced()
            assert int(server.ask("select count(*) from pgbench_history")) > 5 * transactions
            server.stop()
            server.tool("pg_checksums", "--check", "-D", server.data)
        finally:
            if server.process.poll() is None:
                server.crash()
    return Case("postgres", test)


class Redis:
    def __init__(self, env, folder):
        self.env, self.folder = env, folder
        self.socket = os.path.join(folder, "socket")

    def start(self):
        self.log = open(os.path.join(self.folder, "log"), "ab")
        self.process = subprocess.Popen(
            ["/usr/bin/redis-server", "--port", "0", "--unixsocket", self.socket, "--dir", self.folder, "--save", "",
             "--appendonly", "yes", "--enable-debug-command", "yes"], env=self.env, stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=subprocess.STDOUT)
        wait_for(lambda: self.process.poll() is not None or subprocess.run(
            ["/usr/bin/redis-cli", "-s", self.socket, "ping"], env=self.env, capture_output=True).stdout == b"PONG\n", "redis")
        assert self.process.poll() is None, open(os.path.join(self.folder, "log"), errors="replace").read()[-3000:]
        expect_preloaded(self.process.pid, self.env)

    def ask(self, *words):
        return run(["/usr/bin/redis-cli", "-s", self.socket, *words], self.env, self.folder).strip()

    def wait_for_child(self):
        wait_for(lambda: "rdb_bgsave_in_progress:0" in (info := self.ask("info", "persistence"))
                 and "aof_rewrite_in_progress:0" in info, "the child that saves")


def redis(requests):
    def test(env, folder):
        if not os.path.exists("/usr/bin/redis-benchmark") or not os.path.exists("/usr/bin/redis-server"):
            raise Skip("there is no redis (Debian: redis-server, redis-tools)")
        server = Redis(env, folder)
        try:
            server.start()
            run(["/usr/bin/redis-benchmark", "-s", server.socket, "-n", str(requests), "-c", "10", "-P", "8", "-r", "5000", "-d",
                 "300", "-q", "-t", "set,get,incr,lpush,rpush,lpop,sadd,hset,spop,zadd,zpopmin,mset"], env, folder)
            # Children of fork write everything while the parent goes on.
            server.ask("bgsave")
            server.ask("eval", "for i=1,5000 do redis.call('append', 'a:'..i%700, string.rep('x', i % 90)) end", "0")
            server.wait_for_child()
            server.ask("bgrewriteaof")
            server.wait_for_child()
            assert "rdb_last_bgsave_status:ok" in server.ask("info", "persistence")
            digest = server.ask("debug", "digest")
            server.ask("debug", "reload")
            assert server.ask("debug", "digest") == digest, "other content after a reload"
            server.process.kill()
            server.process.wait()
            server.start()
            assert server.ask("debug", "digest") == digest, "other content after the crash"
            server.ask("memory", "purge")
            subprocess.run(["/usr/bin/redis-cli", "-s", server.socket, "shutdown"], env=env, stdin=subprocess.DEVNULL)
            assert server.process.wait(60) == 0
        finally:
            server.process.kill()
            server.process.wait()
    return Case("redis", test)


def cases(folder, whole):
    return [postgres(2000 if whole else 200), redis(100000 if whole else 5000)], ""
