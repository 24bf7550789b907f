#!/usr/bin/python3
"""What live comparison costs: latency and throughput with and without it, at a share of the capacity and at saturation.

    measure.py --octet PROGRAM --source REPOSITORY [--fraction 0.1] [--seconds 10] [--rounds 5] [--json FILE]

The embedded network, int8 as the primary and f32 as the reference; the share of compared answers is switched by RPC
while the server runs, in alternating rounds. Open loop: Poisson arrivals, latency counts from when a request was due.
The cost is judged by the server's CPU time per request: fraction x (reference time / variant time) x 1.1 at most, at the
load asked for; p99 may rise by 5 %; at saturation throughput must stay.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests"))
import harness  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
parser.add_argument("--fraction", type=float, default=0.1)
parser.add_argument("--load", type=float, default=0.7)
parser.add_argument("--seconds", type=float, default=10)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--rows", type=int, default=16, help="of one request")
parser.add_argument("--slots", type=int, default=1)
parser.add_argument("--threads", type=int, default=1)
parser.add_argument("--json")
args = parser.parse_args()


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Load:
    def __init__(self, server, request):
        self.server, self.request = server, request
        self.lock = threading.Lock()

    def closed(self, seconds, clients=8):
        """Requests per second that `clients` get, each sending as soon as it is answered."""
        end, counts = time.monotonic() + seconds, []

        def client():
            count = 0
            while time.monotonic() < end:
                self.server.stub.ModelInfer(self.request, timeout=60)
                count += 1
            counts.append(count)
        threads = [threading.Thread(target=client) for _ in range(clients)]
        start = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sum(counts) / (time.monotonic() - start)

    def open(self, rate, seconds, seed):
        """(latencies in s, server CPU seconds per request) under Poisson arrivals."""
        rng, latencies, pending = random.Random(seed), [], []
        cpu = cpu_seconds(self.server.process.pid)
        due, end = time.monotonic(), time.monotonic() + seconds
        while due < end:
            due += rng.expovariate(rate)
            wait = due - time.monotonic()
            if wait > 0:
                time.sleep(wait)  # paces the arrivals

            def done(future, due=due):
                future.result()
                with self.lock:
                    latencies.append(time.monotonic() - due)
            future = self.server.stub.ModelInfer.future(self.request, timeout=60)
            future.add_done_callback(done)
            pending.append(future)
        for future in pending:
            future.result()
        return latencies, (cpu_seconds(self.server.process.pid) - cpu) / len(pending)


def main():
    work = tempfile.mkdtemp(prefix="octet_bench_comparison_")
    stubs = harness.make_stubs(args.source, work)
    v1, v1_grpc = harness.make_octet_stubs(args.source, work)
    folder = os.path.join(work, "repository", "m", "1")
    os.makedirs(folder)
    original = os.path.join(folder, "model.onnx")
    shutil.copy(os.path.join(args.source, "models", "fashion-mnist", "model.onnx"), original)
    data = np.random.default_rng(1).random((128, 1, 28, 28), dtype=np.float32)
    np.save(os.path.join(work, "samples.npy"), data)
    subprocess.run([args.octet, "compress", original, f"--calibration={work}/samples.npy",
                    f"--out={folder}/model.int8.onnx", "--scheme=int8", "--threads=1"], check=True, capture_output=True)
    with open(os.path.join(work, "repository", "m", "config.pbtxt"), "w", encoding="ascii") as file:
        for key, value in (("primary", "int8"), ("variants", "f32,int8"), ("compare.max_cpu_share", "1")):
            file.write(f'parameters {{ key: "octet.{key}" value {{ string_value: "{value}" }} }}\n')
    report = {"fraction": args.fraction, "rows": args.rows}
    with harness.serving(args.octet, os.path.join(work, "repository"), stubs, f"--slots={args.slots}",
                         f"--threads={args.threads}") as server:
        octet = v1_grpc.OctetStub(server.channel)
        request = stubs[0].ModelInferRequest(model_name="m")
        request.inputs.add(name="image", datatype="FP32", shape=[args.rows, 1, 28, 28])
        request.raw_input_contents.append(data[:args.rows].tobytes())
        load = Load(server, request)

        def compare(fraction):
            return octet.SetGuard(v1.SetGuardRequest(model="m", compare_fraction=fraction)).pairs[0]
        load.closed(2)
        capacity = load.closed(args.seconds)
        rows = {0.0: [], args.fraction: []}
        saturated = {0.0: [], args.fraction: []}
        counts = {"open": [0, 0], "saturated": [0, 0]}
        for round_number in range(args.rounds):
            for fraction in rows:
                before = compare(fraction)
                latencies, cpu = load.open(args.load * capacity, args.seconds, round_number)
                after = compare(0)
                latencies.sort()
                rows[fraction].append((latencies[len(latencies) // 2], latencies[int(0.99 * len(latencies))], cpu))
                counts["open"][0] += after.compared - before.compared
                counts["open"][1] += after.dropped - before.dropped
                before = compare(fraction)
                saturated[fraction].append(load.closed(args.seconds))
                after = compare(0)
                counts["saturated"][0] += after.compared - before.compared
                counts["saturated"][1] += after.dropped - before.dropped
        pair = compare(0)
    median = {f: [statistics.median(column) for column in zip(*r)] for f, r in rows.items()}
    off, on = median[0.0], median[args.fraction]
    ratio = 1 / pair.latency_ratio if pair.HasField("latency_ratio") else float("nan")
    throughput = {f: statistics.median(r) for f, r in saturated.items()}
    report.update({
        "capacity_per_second": capacity, "reference_over_variant": ratio,
        "p50_seconds": {"off": off[0], "on": on[0]}, "p99_seconds": {"off": off[1], "on": on[1]},
        "cpu_seconds_per_request": {"off": off[2], "on": on[2]}, "cost": on[2] / off[2] - 1,
        "cost_bar": 1.1 * args.fraction * ratio, "p99_rise": on[1] / off[1] - 1, "p99_rise_bar": 0.05,
        "saturated_per_second": {"off": throughput[0.0], "on": throughput[args.fraction]},
        "saturated_loss": 1 - throughput[args.fraction] / throughput[0.0],
        "compared_and_dropped": counts})
    print(json.dumps(report, indent=2))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=2) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
