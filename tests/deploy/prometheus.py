"""A real Prometheus on a port of its own that scrapes a server every second, and its answers."""
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

SCRAPE_SECONDS = 1


def installed():
    return shutil.which("prometheus") is not None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Prometheus:
    """Started with `target` (host:port) under the labels that Kubernetes' discovery would add; `rule_files` are loaded."""

    def __init__(self, folder, target, rule_files=()):
        config = os.path.join(folder, "prometheus.json")  # JSON is YAML
        with open(config, "w", encoding="utf-8") as file:
            json.dump({
                "global": {"scrape_interval": f"{SCRAPE_SECONDS}s", "evaluation_interval": f"{SCRAPE_SECONDS}s"},
                "rule_files": list(rule_files),
                "scrape_configs": [{"job_name": "octet", "static_configs": [
                    {"targets": [target], "labels": {"namespace": "default", "pod": "octet-0"}}]}]}, file)
        self.address = f"127.0.0.1:{free_port()}"
        self._log = open(os.path.join(folder, "prometheus.log"), "w+", encoding="utf-8")
        self._process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb",
             f"--web.listen-address={self.address}", "--log.level=warn"],
            stdout=self._log, stderr=subprocess.STDOUT)

    def stop(self):
        self._process.terminate()
        self._process.wait(30)
        self._log.close()

    def get(self, path, **parameters):
        """The `data` of an answer. Errors: RuntimeError with Prometheus' own words."""
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{parameters}: {error.code} {error.read().decode()}") from None

    def query(self, expression):
        return self.get("/api/v1/query", query=expression)["result"]

    def await_scrapes(self, count, seconds=120):
        """Until the target answered `count` times (what ends the loop is Prometheus' own count of samples)."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                self._log.seek(0)
                raise RuntimeError(f"prometheus ended: {self._log.read()[-2000:]}")
            try:
                urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=30).close()
                seen = self.query('count_over_time(up{job="octet"}[10m])')
                if seen and float(seen[0]["value"][1]) >= count and self.query('up{job="octet"} == 1'):
                    return
            except (urllib.error.URLError, ConnectionError):
                pass  # not listening yet
            time.sleep(0.1)
        raise RuntimeError(f"fewer than {count} scrapes after {seconds} s")
