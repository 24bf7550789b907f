#!/usr/bin/python3
"""What an ensemble of T samples costs over one network of the same file: time of a batch, and memory of weights.

    measure.py --octet PROGRAM --source REPOSITORY [--model FILE --calibration DATA --image SPEC | --perceptron WIDTHS]
               [--scheme ternary | --recipe FILE]
               [--compressed FILE] [--samples 2,4,8] [--batch 1] [--seconds 2] [--rounds 5] [--threads 2] [--json FILE]

Compresses the model with distributions, serves its most probable network (what one sample costs) and ensembles side by
side, and asks them in turn, one request at a time. Times are the server's own of running a batch (octet_compute_seconds):
no RPC is in them. Without --model: the embedded network, or one of fully connected layers of the given widths with Relu between
and random weights, for sizes that no stored network has. Ratios are taken within a round; median (least, largest) of rounds.
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
parser.add_argument("--model")
parser.add_argument("--calibration")
parser.add_argument("--image", default="")
parser.add_argument("--perceptron", help="768,3072,3072,768, say")
parser.add_argument("--scheme", default="ternary")
parser.add_argument("--recipe", help="one that keeps distributions in some layers only, say")
parser.add_argument("--compressed", help="a file with distributions instead of compressing one; with --model, its original")
parser.add_argument("--samples", default="2,4,8")
parser.add_argument("--batch", type=int, default=1)
parser.add_argument("--seconds", type=float, default=2)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--json")
args = parser.parse_args()


def write_perceptron(widths, path):
    """layer0, layer1, ...: Gemm of weights [out, in], normal with a variance of 2 / in; Relu between them."""
    import onnx
    from onnx import helper, numpy_helper
    rng, nodes, weights, value = np.random.default_rng(1), [], [], "x"
    for i, (inputs, outputs) in enumerate(zip(widths, widths[1:])):
        matrix = rng.standard_normal((outputs, inputs), dtype=np.float32) * np.float32((2 / inputs) ** 0.5)
        weights.append(numpy_helper.from_array(matrix, f"w{i}"))
        last = i == len(widths) - 2
        nodes.append(helper.make_node("Gemm", [value, f"w{i}"], ["y" if last else f"h{i}"], name=f"layer{i}", transB=1))
        if not last:
            value = f"r{i}"
            nodes.append(helper.make_node("Relu", [f"h{i}"], [value], name=f"relu{i}"))
    graph = helper.make_graph(nodes, "perceptron", [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", widths[0]])],
                              [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", widths[-1]])], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def batch_time(server, variant):
    """(seconds, batches) so far."""
    values = {name: value for (name, labels), value in server.metrics().items() if ("variant", variant) in labels}
    return values.get("octet_compute_seconds_sum", 0), values.get("octet_compute_seconds_count", 0)


def main():
    work = tempfile.mkdtemp(prefix="octet_bench_ensemble_")
    stubs = harness.make_stubs(args.source, work)
    folder = os.path.join(work, "repository", "m", "1")
    os.makedirs(folder)
    original = os.path.join(folder, "model.onnx")
    widths = [int(w) for w in args.perceptron.split(",")] if args.perceptron else None
    if widths:
        write_perceptron(widths, original)
    else:
        shutil.copy(args.model or os.path.join(args.source, "models", "fashion-mnist", "model.onnx"), original)
    calibration = args.calibration
    if args.compressed:
        shutil.copy(args.compressed, f"{folder}/model.{args.scheme}.onnx")
    elif not args.model:
        calibration = os.path.join(work, "samples.npy")
        shape = (64, widths[0]) if widths else (128, 1, 28, 28)
        np.save(calibration, np.random.default_rng(1).random(shape, dtype=np.float32))
    if not args.compressed:
        subprocess.run([args.octet, "compress", original, f"--calibration={calibration}", f"--image={args.image}",
                        *([f"--recipe={args.recipe}"] if args.recipe else [f"--scheme={args.scheme}", "--distribution_samples=2"]),
                        f"--out={folder}/model.{args.scheme}.onnx"],
                       check=True, capture_output=True)
    samples = [int(t) for t in args.samples.split(",")]
    variants = [args.scheme] + [f"{args.scheme}-mc{t}" for t in samples]
    with open(os.path.join(work, "repository", "m", "config.pbtxt"), "w", encoding="ascii") as file:
        for key, value in (("primary", args.scheme), ("variants", ",".join(variants))):
            file.write(f'parameters {{ key: "octet.{key}" value {{ string_value: "{value}" }} }}\n')
    times = {variant: [] for variant in variants}
    with harness.serving(args.octet, os.path.join(work, "repository"), stubs, "--slots=1",
                         f"--threads={args.threads}") as server:
        for round_number in range(-1, args.rounds):  # the first warms up
            for variant in variants[::1 if round_number % 2 == 0 else -1]:
                seconds, batches = batch_time(server, variant)
                subprocess.run([args.octet, "bench", f"m@{variant}", f"--address={server.grpc_address}", "--concurrency=1",
                                f"--batch={args.batch}", "--warm_up=0.2s", f"--duration={args.seconds}s"],
                               check=True, capture_output=True)
                after, ran = batch_time(server, variant)
                if round_number >= 0:
                    times[variant].append((after - seconds) / (ran - batches))
        weights = {dict(labels)["variant"]: value for (name, labels), value in server.metrics().items()
                   if name == "octet_memory_bytes" and ("kind", "weights") in labels}
    rows = []
    for variant, t in zip(variants, [1] + samples, strict=True):
        ratios = [a / b for a, b in zip(times[variant], times[args.scheme], strict=True)]
        rows.append({"variant": variant, "samples": t, "seconds": statistics.median(times[variant]),
                     "times_one": [statistics.median(ratios), min(ratios), max(ratios)], "bar": t / 1.5 if t > 1 else 1,
                     "weights_bytes": weights.get(variant)})
    print(f"{'variant':14} {'ms':>8}  {'x one network':22} {'bar':>5}  weights MB")
    for r in rows:
        median, least, largest = r["times_one"]
        ratio = f"{median:.2f} ({least:.2f}-{largest:.2f})"
        print(f"{r['variant']:14} {1e3 * r['seconds']:8.3f}  {ratio:22} {r['bar']:5.2f}  {(r['weights_bytes'] or 0) / 1e6:.2f}")
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(rows, indent=2) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
