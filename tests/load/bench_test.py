#!/usr/bin/env python3
"""`octet bench` against Octet's server, in process, and against a foreign server that stalls.

usage: bench_test.py OCTET SOURCE STUBS     Speed is not asserted, only that counts fit together.
"""

import concurrent.futures
import json
import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import grpc

octet, source, stubs = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
sys.path.insert(0, str(source / "tests"))
import harness  # noqa: E402  pylint: disable=wrong-import-position

messages, services = harness.make_stubs(source, stubs)


def bench(folder, *arguments, expect=0):
    out = pathlib.Path(folder) / "bench.json"
    run = subprocess.run(
        [octet, "bench", *map(str, arguments), f"--json={out}", "--warm-up=200ms", "--duration=1s"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == expect, (arguments, run.stdout, run.stderr)
    return json.loads(out.read_text()) if expect == 0 else run.stderr


def check(window):
    """What holds for every window."""
    total = sum(count for _, _, count in window["histogram"])
    assert total == window["succeeded"], window
    assert window["requests"] == window["succeeded"] + sum(window["errors"].values()) + window["unsent"], window
    edges = [edge for low, high, _ in window["histogram"] for edge in (low, high)]
    assert edges == sorted(edges)
    for low, high, _ in window["histogram"]:
        assert high - low <= max(1.01e-9, low / 128 * 1.000001), (low, high)
    for key, q in (("p50_seconds", 0.5), ("p99_seconds", 0.99), ("p999_seconds", 0.999)):
        rank, seen = max(1, math.ceil(q * total)), 0
        for low, high, count in window["histogram"]:
            seen += count
            if seen >= rank:
                assert low <= window[key] <= high * 1.000001, (key, low, high, window[key])
                break


class Stalling(services.GRPCInferenceServiceServicer):
    """Any server of the protocol: echoes its input, and stands still for a while once."""

    def __init__(self):
        self.lock, self.stall_at, self.bodies = threading.Lock(), None, set()

    def ModelMetadata(self, request, context):
        reply = messages.ModelMetadataResponse(name=request.name, versions=["1"], platform="echo")
        for tensors in (reply.inputs, reply.outputs):
            tensors.add(name="x", datatype="FP32", shape=[-1, 3])
        return reply

    def ModelInfer(self, request, context):
        with self.lock:
            self.bodies.add(request.raw_input_contents[0])
            if self.stall_at is not None and time.monotonic() >= self.stall_at:
                self.stall_at = None
                time.sleep(0.5)  # the fault itself, which the generator must see in its latencies
        reply = messages.ModelInferResponse(model_name=request.model_name, model_version="1")
        tensor = reply.outputs.add(name="x", datatype="FP32")
        tensor.shape.extend(request.inputs[0].shape)
        reply.raw_output_contents.append(request.raw_input_contents[0])
        return reply


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    version = folder / "models" / "net" / "1"
    version.mkdir(parents=True)
    shutil.copy(source / "models/fashion-mnist/model.onnx", version / "model.onnx")

    with harness.serving(octet, folder / "models", (messages, services), "--threads=1") as server:

        def answered():
            return sum(
                value
                for (name, labels), value in server.metrics().items()
                if name == "octet_requests_total" and ("outcome", "ok") in labels
            )

        before = answered()
        plot = folder / "plot.svg"
        report = bench(folder, "net", f"--address={server.grpc_address}", "--rates=20,60", f"--plot={plot}")
        assert report["loop"] == "open" and len(report["windows"]) == 2
        for window, rate in zip(report["windows"], (20, 60), strict=True):
            check(window)
            assert not window["errors"] and not window["unsent"], window
            assert abs(window["requests"] - rate) < 5 * math.sqrt(rate), window
        counted = sum(window["succeeded"] for window in report["windows"])
        assert counted < answered() - before < 2 * counted, "the server counts the warm-up and the first request, too"
        svg = plot.read_text()
        assert svg.count("<circle") == 8 and "http" not in svg.replace("http://www.w3.org/2000/svg", ""), svg

        closed = bench(
            folder, "net", f"--address={server.grpc_address}", "--concurrency=1,4", "--batch=2", "--connections=2"
        )
        for window in closed["windows"]:
            check(window)
            assert window["succeeded"] > 0 and not window["errors"] and window["rate"] is None
        # The timer has milliseconds: an answer that is faster may still come through.
        late = bench(folder, "net", f"--address={server.grpc_address}", "--rates=50", "--timeout=1us")["windows"][0]
        check(late)
        assert (
            list(late["errors"]) == ["DEADLINE_EXCEEDED"] and late["errors"]["DEADLINE_EXCEEDED"] > late["succeeded"]
        ), late
        assert "nothing on" in bench(folder, "nothing", f"--address={server.grpc_address}", expect=1)
    assert "'0', expected" in bench(folder, "net", "--rates=0", expect=1)

    local = bench(folder, version / "model.onnx", "--rates=40", "--threads=1", "--slots=2")
    check(local["windows"][0])
    assert local["target"].startswith("in process") and local["windows"][0]["succeeded"] > 0

    # A server that is not ours stands still for half a second: everybody who was due meanwhile waited.
    foreign = Stalling()
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
    services.add_GRPCInferenceServiceServicer_to_server(foreign, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    foreign.stall_at = time.monotonic() + 0.6
    stalled = bench(folder, "echo", f"--address=127.0.0.1:{port}", "--rates=100", "--seed=7")["windows"][0]
    server.stop(None).wait()
    check(stalled)
    assert foreign.stall_at is None and not stalled["errors"], stalled
    waited = sum(count for low, _, count in stalled["histogram"] if low > 0.1)
    assert waited > 20, f"{waited} requests of about 50 that were due in the stall waited longer than 0.1 s"
    assert stalled["max_seconds"] > 0.35, stalled["max_seconds"]
    assert len(foreign.bodies) == 32, "random contents, each request its own, with a fixed seed"
print("bench: counts fit together")
