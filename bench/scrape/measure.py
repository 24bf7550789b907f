#!/usr/bin/python3
"""What a scrape of /metrics costs: time and series with many models loaded, each with f32 and int8 compared.

    measure.py --octet PROGRAM --source REPOSITORY [--models 50] [--scrapes 50] [--at-most SECONDS]

Prints the median; with --at-most exits with 1 when it is above.
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
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tests"))
import harness  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
parser.add_argument("--models", type=int, default=50)
parser.add_argument("--scrapes", type=int, default=50)
parser.add_argument("--at-most", type=float)
args = parser.parse_args()


def main():
    work = tempfile.mkdtemp(prefix="octet_bench_scrape_")
    stubs = harness.make_stubs(args.source, work)
    original = os.path.join(args.source, "models", "fashion-mnist", "model.onnx")
    twin = os.path.join(work, "twin.onnx")
    data = np.random.default_rng(1).random((64, 1, 28, 28), dtype=np.float32)
    np.save(os.path.join(work, "samples.npy"), data)
    subprocess.run([args.octet, "compress", original, f"--calibration={work}/samples.npy", f"--out={twin}",
                    "--scheme=int8", "--threads=1"], check=True, capture_output=True)
    for i in range(args.models):
        folder = os.path.join(work, "repository", f"model{i:02}", "1")
        os.makedirs(folder)
        shutil.copy(original, os.path.join(folder, "model.onnx"))
        shutil.copy(twin, os.path.join(folder, "model.int8.onnx"))
        with open(os.path.join(folder, "..", "config.pbtxt"), "w", encoding="ascii") as file:
            for key, value in (("primary", "int8"), ("compare.fraction", "1"), ("guard.min_sqnr_db", "1")):
                file.write(f'parameters {{ key: "octet.{key}" value {{ string_value: "{value}" }} }}\n')
    with harness.serving(args.octet, os.path.join(work, "repository"), stubs, "--slots=1", "--threads=1") as server:
        for i in range(args.models):
            for variant in ("@f32", ""):
                server.infer(f"model{i:02}{variant}", {"image": data[:1]})
        seconds, text = [], ""
        for _ in range(args.scrapes):
            start = time.perf_counter()
            text = server.get("/metrics", server.metrics_address)[1]
            seconds.append(time.perf_counter() - start)
        api = []
        for _ in range(10):
            start = time.perf_counter()
            server.get("/api/v1/variants")
            api.append(time.perf_counter() - start)
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    median = statistics.median(seconds)
    print(json.dumps({"models": args.models, "series": len(lines), "bytes": len(text), "median_seconds": median,
                      "least_seconds": min(seconds), "api_median_seconds": statistics.median(api)}, indent=2))
    for i in range(args.models):
        assert f'model="model{i:02}"' in text, f"model{i:02} has no series"
    if args.at_most is not None and median > args.at_most:
        sys.exit(f"a scrape took {median:.4f} s, allowed are {args.at_most} s")


if __name__ == "__main__":
    main()
