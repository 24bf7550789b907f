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
import shutil
import statistics
import subprocess
import sys
import tempfile

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


class Load:
    """`octet bench` against the server: a generator that leaves the machine to the server."""

    def __init__(self, octet, server, rows, work):
        self.octet, self.server, self.rows, self.json = octet, server, rows, os.path.join(work, "load.json")

    def run(self, seconds, *flags):
        """One window's figures, as `octet bench --json` writes them."""
        subprocess.run([self.octet, "bench", "m", f"--address={self.server.grpc_address}", f"--batch={self.rows}",
                        f"--duration={seconds}s", "--warm_up=0.5s", f"--json={self.json}", *flags],
                       check=True, capture_output=True)
        window = json.loads(pathlib.Path(self.json).read_text(encoding="ascii"))["windows"][0]
        if window["errors"] or window["unsent"]:
            raise RuntimeError(f"not every request was answered: {window}")
        return window

    def closed(self, seconds, clients=8):
        """Requests per second that `clients` get, each sending as soon as it is answered."""
        return self.run(seconds, f"--concurrency={clients}")["answered_per_second"]

    def open(self, rate, seconds, seed):
        """(p50, p99 in s, server CPU seconds per request) under Poisson arrivals."""
        cpu, served = self.server.cpu_seconds(), self.requests()
        window = self.run(seconds, f"--rates={rate}", f"--seed={seed}")
        cpu = self.server.cpu_seconds() - cpu
        return window["p50_seconds"], window["p99_seconds"], cpu / (self.requests() - served)

    def requests(self):
        return sum(value for (name, _), value in self.server.metrics().items() if name == "octet_requests_total")


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
        load = Load(args.octet, server, args.rows, work)

        def compare(fraction):
            return octet.SetGuard(v1.SetGuardRequest(model="m", compare_fraction=fraction)).pairs[0]
        load.closed(2)
        capacity = load.closed(args.seconds)
        rows = {0.0: [], args.fraction: []}
        saturated = {0.0: [], args.fraction: []}
        counts = {"open": [0, 0], "saturated": [0, 0]}
        for round_number in range(args.rounds):
            for fraction in list(rows)[::1 if round_number % 2 == 0 else -1]:
                before = compare(fraction)
                rows[fraction].append(load.open(args.load * capacity, args.seconds, round_number))
                after = compare(0)
                counts["open"][0] += after.compared - before.compared
                counts["open"][1] += after.dropped - before.dropped
                before = compare(fraction)
                saturated[fraction].append(load.closed(args.seconds))
                after = compare(0)
                counts["saturated"][0] += after.compared - before.compared
                counts["saturated"][1] += after.dropped - before.dropped
        pair = compare(0)
    off, on = rows[0.0], rows[args.fraction]
    ratio = 1 / pair.latency_ratio if pair.HasField("latency_ratio") else float("nan")

    def pairs(before, after):
        """Figures without and with comparison, and how much more the latter are: median (least, largest) of the rounds."""
        rises = [b / a - 1 for a, b in zip(before, after, strict=True)]
        return {"off": statistics.median(before), "on": statistics.median(after),
                "rise": [statistics.median(rises), min(rises), max(rises)]}
    p50, p99, cpu = (pairs(a, b) for a, b in zip(zip(*off), zip(*on), strict=True))
    report.update({
        "capacity_per_second": capacity, "reference_over_variant": ratio,
        "p50_seconds": p50, "p99_seconds": p99, "p99_rise_bar": 0.05,
        "cpu_seconds_per_request": cpu, "cpu_rise_bar": 1.1 * args.fraction * ratio,
        "saturated_per_second": pairs(saturated[0.0], saturated[args.fraction]),
        "compared_and_dropped": counts})
    print(json.dumps(report, indent=2))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(report, indent=2) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
