#!/usr/bin/python3
"""CPU time that a server spends on a request of one row, everything included, by how many rows share a batch.

usage: measure.py --octet PROGRAM --source REPOSITORY [--requests N] [--clients N,N,...]

The kernel's count of the server's CPU time, divided by the requests: it does not matter what else runs on the machine, nor where
the clients do. Clients are threads of one Python process, each with one request under way. One compute thread.
"""
import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import threading

import numpy as np

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tests"))
import harness  # noqa: E402

VARIANTS = ("int8", "int4", "ternary")


def batches(server, variant):
    return sum(v for (name, labels), v in server.metrics().items()
               if name == "octet_compute_seconds_count" and ("variant", variant) in labels)


def run(server, variant, clients, requests):
    image = np.random.default_rng(1).random((1, 1, 28, 28), dtype=np.float32)

    def ask():
        for _ in range(requests // clients):
            server.infer(f"fashion@{variant}", {"image": image})
    threads = [threading.Thread(target=ask) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def report(server, variant, clients, requests):
    run(server, variant, clients, clients * 20)  # batch sizes are made
    before, first = server.cpu_seconds(), batches(server, variant)
    run(server, variant, clients, requests)
    spent = server.cpu_seconds() - before
    rows = requests // clients * clients
    print(f"{clients:3} clients  {variant:8} {1e6 * spent / rows:6.0f} us of CPU per request, "
          f"{rows / (batches(server, variant) - first):.1f} rows a batch", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--octet", required=True)
    parser.add_argument("--source", required=True)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--clients", default="1,32")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = os.path.join(work, "models", "fashion", "1")
        os.makedirs(folder)
        model = os.path.join(args.source, "models", "fashion-mnist", "model.onnx")
        shutil.copy(model, folder)
        np.save(os.path.join(work, "samples.npy"), np.random.default_rng(1).random((128, 1, 28, 28), dtype=np.float32))
        for variant in VARIANTS:
            subprocess.run([args.octet, "compress", model, f"--calibration={work}/samples.npy", f"--scheme={variant}",
                            "--threads=1", f"--out={folder}/model.{variant}.onnx"], check=True, capture_output=True)
        stubs = harness.make_stubs(args.source, os.path.join(work, "stubs"))
        with harness.serving(args.octet, os.path.join(work, "models"), stubs, "--threads=1") as server:
            gauges = {name: value for (name, labels), value in server.metrics().items() if not labels}
            print(f"baseline {gauges['octet_baseline_bytes'] / 1e6:.0f} MB, "
                  f"resident with all variants {gauges['octet_process_resident_bytes'] / 1e6:.0f} MB")
            for clients in map(int, args.clients.split(",")):
                for variant in ("f32", *VARIANTS):
                    report(server, variant, clients, args.requests)


main()
