"""A real Prometheus, for the tests of what it scrapes."""

import json
import re
import shutil
import subprocess
import time
import urllib.parse
import urllib.request

IS_THERE = shutil.which("prometheus") is not None


def complaints(open_metrics):
    """What `promtool check metrics` says of the text. It reads the older format, where a counter's name has its _total
    everywhere."""
    text = re.sub(r"^# TYPE (\S+) counter$", r"# TYPE \1_total counter", open_metrics, flags=re.M)
    for name in re.findall(r"^# TYPE (\S+)_total counter$", text, re.M):
        text = re.sub(rf"^# HELP {name} ", f"# HELP {name}_total ", text, flags=re.M)
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    return done.stdout, done.stderr, done.returncode


class Prometheus:
    """One that scrapes `target` each second; it ends with the test."""

    def __init__(self, test, target, more=""):
        self.test = test
        config = test.write("prometheus.yml", "global: {evaluation_interval: 1s}\nscrape_configs: [{job_name: tally, "
                            f"scrape_interval: 1s, static_configs: [{{targets: ['{target}']}}]}}]\n{more}")
        self.log = open(test.path("prometheus.log"), "w+", encoding="utf-8")
        test.addCleanup(self.log.close)
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={test.path('prometheus')}",
             "--web.listen-address=127.0.0.1:0"], stdout=self.log, stderr=self.log)
        test.addCleanup(lambda: (self.process.kill(), self.process.wait()))

    def ask(self, what):
        """None if it does not answer yet; it says in its log where it listens."""
        self.log.seek(0)
        port = re.search(r'msg="Listening on" address=127\.0\.0\.1:(\d+)', self.log.read())
        try:
            return port and json.load(urllib.request.urlopen(f"http://127.0.0.1:{port[1]}/api/v1/{what}",
                                                             timeout=10))["data"]
        except OSError:
            return None

    def answer(self, query):
        """[(labels, value)], once there is an answer."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            result = self.ask("query?query=" + urllib.parse.quote(query))
            if result and result["result"]:
                return [(row["metric"], row["value"][1]) for row in result["result"]]
            time.sleep(0.2)
        self.log.seek(0)
        return self.test.fail(f"no answer to {query}: {self.log.read()}")
