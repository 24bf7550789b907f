"""Headless Chromium by its DevTools protocol: just what a test of a page needs."""

import base64
import contextlib
import json
import pathlib
import shutil
import subprocess
import tempfile
import time
import urllib.request

from websockets.sync.client import connect

START_SECONDS = 60  # an upper bound for a hung browser, not a wait


class Page:
    """One tab: commands, and the events that came meanwhile."""

    def __init__(self, address):
        self._socket = connect(address, max_size=None, open_timeout=START_SECONDS, ping_interval=None)
        self._next = 0
        self.events = []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM", "Accessibility"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        self._next += 1
        self._socket.send(json.dumps({"id": self._next, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=START_SECONDS))
            if message.get("id") == self._next:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']}")
                return message["result"]
            self.events.append(message)

    def evaluate(self, expression):
        """The value of an expression (a promise is awaited)."""
        result = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def await_true(self, condition, seconds=40):
        """Until the page's own frames find `condition` true."""
        found = self.evaluate(f"""new Promise((done) => {{
            const end = performance.now() + {seconds * 1000};
            const look = () => {{
              let value = false;
              try {{ value = {condition}; }} catch (error) {{ value = false; }}
              if (value) done(true); else if (performance.now() > end) done(false); else setTimeout(look, 50);
            }};
            look();
        }})""")
        assert found, f"not true within {seconds} s: {condition}\n" + self.evaluate("document.body.innerText")

    def picture(self, path):
        """The whole page as PNG."""
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        data = self.send(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        )["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))

    def of(self, method):
        return [event["params"] for event in self.events if event.get("method") == method]

    def complaints(self):
        """What the console, scripts and policies complained about."""
        return (
            [e["exceptionDetails"] for e in self.of("Runtime.exceptionThrown")]
            + [e for e in self.of("Runtime.consoleAPICalled") if e["type"] in ("error", "warning", "assert")]
            + [
                e["entry"]
                for e in self.of("Log.entryAdded")
                if e["entry"]["level"] in ("error", "warning") and "willReadFrequently" not in e["entry"]["text"]
            ]
        )  # that is about a test's own look at pixels


@contextlib.contextmanager
def chromium(width=1280, height=900):
    """A page of a fresh browser."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [
                shutil.which("chromium"),
                "--headless=new",
                "--remote-debugging-port=0",
                f"--user-data-dir={profile}",
                f"--window-size={width},{height}",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-quic",
                "about:blank",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            port = pathlib.Path(profile) / "DevToolsActivePort"
            deadline = time.monotonic() + START_SECONDS
            while not (port.exists() and "\n" in port.read_text()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"chromium did not start ({process.poll()})")
                time.sleep(0.05)  # polls; the file is what ends the loop
            number = port.read_text().split("\n", 1)[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{number}/json/list", timeout=START_SECONDS) as answer:
                target = next(t for t in json.load(answer) if t["type"] == "page")
            yield Page(target["webSocketDebuggerUrl"])
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
