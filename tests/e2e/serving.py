"""A real `octet serve` process over a repository of its own, on ports the system chooses."""
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

import grpc


class Serving:
    def __init__(self, octet, repository, *flags):
        self.log = []
        self.process = subprocess.Popen(
            [octet, "serve", f"--model-repository={repository}", "--host=127.0.0.1", "--grpc-port=0", "--http-port=0",
             "--metrics-port=0", *flags],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        # Read all along, so that a full pipe never blocks the server.
        self._reader = threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True)
        self._reader.start()
        line = self.process.stdout.readline()
        ports = re.match(r"listening grpc=(\S+) http=(\S+) metrics=(\S+)", line)
        if not ports:
            self.process.kill()
            raise RuntimeError(f"octet serve said {line!r}: {''.join(self.log)}")
        self.grpc, self.http, self.metrics = ports.groups()
        self.channel = grpc.insecure_channel(
            self.grpc, options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)])

    def get(self, path, address=None):
        """(status, body) of an HTTP GET."""
        try:
            with urllib.request.urlopen(f"http://{address or self.http}{path}", timeout=30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def await_ready(self, seconds=60):
        deadline = time.monotonic() + seconds
        while self.get("/v2/health/ready")[0] != 200:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError("not ready: " + "".join(self.log))
            time.sleep(0.02)

    def metric_lines(self):
        """{series: value} of /metrics."""
        status, text = self.get("/metrics", self.metrics)
        assert status == 200, text
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in text.splitlines() if line and not line.startswith("#")}

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1)) * 1024

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM and the exit code."""
        self.channel.close()
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.process.wait(60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self._reader.join(10)
            if not self.process.stdout.closed:
                self.process.stdout.close()
                self.process.stderr.close()
