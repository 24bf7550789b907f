#!/usr/bin/python3
"""Prints the tables of docs/scaling.md and writes its plots.

usage: report.py [FOLDER]     (default: docs/images of the repository; about a minute)
"""
import math
import pathlib
import sys

import numpy as np

import autoscale
import figures
from queueing import BatchServer, poisson_arrivals

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import svg  # noqa: E402

LIMIT = 0.020  # of p99, in seconds
TARGET_RATE = 1_000_000
LOADS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97)
SCALE = 50  # the autoscaling runs carry a fiftieth of the traffic
POLICIES = (autoscale.Policy("CPU 65 %", cpu=0.65), autoscale.Policy("CPU 80 %", cpu=0.80),
            autoscale.Policy("queue 1 ms", queue=1e-3),
            autoscale.Policy("queue 1 ms over 120 s", queue=1e-3, queue_window=120),
            autoscale.Policy("CPU 80 % or 1 ms", cpu=0.80, queue=1e-3))
SECONDS = 1200


def p99_at(variant, rate, seed=1, seconds=10):
    rng = np.random.default_rng(seed)
    server = BatchServer(variant.batch_seconds, figures.MAX_BATCH)
    _, latencies = server.run(poisson_arrivals(rng, rate, seconds))
    return float(np.quantile(latencies[len(latencies) // 10:], 0.99)), len(latencies) / server.batches


def rate_below_limit(variant):
    """The largest share of the capacity, in steps of 1 %, whose p99 stays below the limit."""
    share = 0.99
    while p99_at(variant, share * variant.capacity())[0] > LIMIT:
        share -= 0.01
    return share * variant.capacity()


def table(head, rows):
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")
    print()


def sums():
    rows = []
    for v in figures.VARIANTS:
        cores = TARGET_RATE * v.request_core_seconds()
        rows.append([v.name, f"{1e6 * v.engine_core_seconds():.0f}", f"{1e6 * figures.RPC_CORE_SECONDS:.0f}",
                     f"{1e6 * v.request_core_seconds():.0f}", f"{1e6 * v.cpu_shared:.0f} ({v.rows_shared:.0f})",
                     f"{1e6 * v.cpu_alone:.0f}", f"{cores:.0f}",
                     f"{100 * figures.RPC_CORE_SECONDS / v.request_core_seconds():.0f} %"])
    table(["variant", "engine us", "gRPC us", "sum us", "measured us (rows a batch)", "alone us", "cores, all busy", "gRPC's share"], rows)


def replicas():
    rows, curves = [], {}
    for v in figures.VARIANTS:
        rate = rate_below_limit(v)
        count = math.ceil(TARGET_RATE / (0.65 * v.capacity()))
        p99, rows_a_batch = p99_at(v, 0.65 * v.capacity())
        memory = count * (figures.BASELINE_BYTES + v.weights_bytes)
        rows.append([v.name, f"{v.capacity():.0f}", f"{rate:.0f}", f"{count}", f"{count * figures.CORES}",
                     f"{1e3 * p99:.1f}", f"{rows_a_batch:.0f}", f"{count * v.weights_bytes / 1e6:.0f} MB",
                     f"{memory / 1e9:.1f} GB"])
        curves[v.name] = [(load * v.capacity() / 1000, 1e3 * p99_at(v, load * v.capacity())[0]) for load in LOADS]
    table(["variant", "capacity /s", "p99 < 20 ms up to /s", "replicas at 65 %", "cores", "p99 ms", "rows a batch",
           "weights, all replicas", "resident, all replicas"], rows)
    return svg.chart("p99 latency of one replica (2 cores), requests of one image", "requests per second, thousands",
                     "ms", curves, (0, 12), (0.2, 50), log_y=True)


def scaling():
    rows, curves = [], {}
    for v in (figures.VARIANTS[0], figures.VARIANTS[1]):
        base, peak = 0.3 * TARGET_RATE / SCALE, TARGET_RATE / SCALE
        start = max(2, math.ceil(base / (0.65 * v.capacity())))
        for policy in POLICIES:
            result = autoscale.simulate(v, policy, lambda s, b=base, p=peak: autoscale.spike(s, b, p), SECONDS, start,
                                        startup_seconds=10, seed=7)
            rows.append([v.name, policy.name, f"{start}", f"{result.replicas.max():.0f}",
                         f"{100 * result.late_share:.2f} %", f"{1e3 * np.median(result.p99[400:660]):.1f}",
                         f"{result.replica_seconds * figures.CORES / 3600:.1f}"])
            if v.name == "f32":
                curves[policy.name] = [(s, float(result.replicas[s])) for s in range(0, SECONDS, 5)]
    table(["variant", "policy", "replicas before", "most", "above 50 ms", "p99 ms at the height", "core hours"], rows)
    top = max(y for points in curves.values() for _, y in points)
    return svg.chart("Ready replicas (f32), traffic from 6,000 to 20,000 requests/s and back", "seconds", "replicas",
                     curves, (0, SECONDS), (0, math.ceil(top / 5) * 5))


def main():
    here = pathlib.Path(__file__).resolve()
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here.parents[2] / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    sums()
    (folder / "scaling-latency.svg").write_text(replicas(), encoding="utf-8")
    (folder / "scaling-replicas.svg").write_text(scaling(), encoding="utf-8")


if __name__ == "__main__":
    main()
