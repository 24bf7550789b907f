#!/usr/bin/env python3
"""Runs `octet compare` on the embedded model and checks its figures against ONNX Runtime's and against each other.

usage: compare_test.py OCTET SOURCE STUBS     Speed is not asserted, only that figures fit together.
"""

import html.parser
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np

octet, source, stubs = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
sys.path.insert(0, str(source / "tests"))
import harness  # noqa: E402  pylint: disable=wrong-import-position

try:
    import onnx
    import onnxruntime
except ImportError as missing:
    harness.skip(missing)
DATASET = pathlib.Path("/usr/share/datasets/fashion-mnist")
if not DATASET.exists():
    harness.skip("dataset-fashion-mnist is not installed")

SAMPLES = 600
QUICK = ["--threads=1", "--time=60ms", "--rounds=1", "--batches=1,4"]


def run(*arguments, expect=0):
    done = subprocess.run([octet, *map(str, arguments)], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == expect, (arguments, done.returncode, done.stdout, done.stderr)
    return done


def idx(name, offset, shape):
    import gzip  # pylint: disable=import-outside-toplevel

    return np.frombuffer(gzip.decompress((DATASET / name).read_bytes()), np.uint8, offset=offset).reshape(shape)


def sqnr(reference, found):
    return 10 * np.log10(
        np.sum(reference.astype(np.float64) ** 2) / np.sum((reference - found).astype(np.float64) ** 2)
    )


class Page(html.parser.HTMLParser):
    """What a page loads from elsewhere, and how many charts and tables it has."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.counts = [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        self.loads += [value for key, value in attrs if key in ("src", "href", "data")]


def logits(path, images, extra=None):
    model = onnx.load(path)
    if extra:
        model.graph.output.append(onnx.helper.make_empty_tensor_value_info(extra))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return [session.run(None, {name: image[None]})[0] for image in images]


with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    version = folder / "models" / "net" / "1"
    version.mkdir(parents=True)
    shutil.copy(source / "models/fashion-mnist/model.onnx", version / "model.onnx")
    run(
        "compress",
        version / "model.onnx",
        "--scheme=int8",
        f"--calibration={DATASET}/train-images-idx3-ubyte.gz",
        "--max-samples=200",
        f"--out={version}/model.int8.onnx",
        "--threads=1",
    )

    images = idx("t10k-images-idx3-ubyte.gz", 16, (-1, 1, 28, 28))[:SAMPLES].astype(np.float32) / np.float32(255)
    labels = idx("t10k-labels-idx1-ubyte.gz", 8, (-1,))[:SAMPLES].astype(np.int64)
    np.save(folder / "images.npy", images)
    np.save(folder / "labels.npy", labels)
    data = [f"--data={folder}/images.npy", f"--labels={folder}/labels.npy"]

    # In process: the model's folder, its highest version.
    run(
        "compare",
        folder / "models/net",
        "--variants=f32,int8",
        *data,
        *QUICK,
        "--layer-samples=8",
        f"--json={folder}/local.json",
        f"--report={folder}/local.html",
    )
    local = json.loads((folder / "local.json").read_text())
    f32, int8 = local["variants"]
    assert (f32["name"], int8["name"], local["reference"], local["samples"]) == ("f32", "int8", "f32", SAMPLES)

    peer = {
        v: np.concatenate(logits(version / f, images))
        for v, f in [("f32", "model.onnx"), ("int8", "model.int8.onnx")]
    }
    top = {v: scores.argmax(1) for v, scores in peer.items()}
    for row in (f32, int8):
        expected = np.mean(top[row["name"]] == labels)
        assert abs(row["accuracy"]["top1"] - expected) <= 2 / SAMPLES, (row["accuracy"], expected)
        five = np.mean((np.argsort(-peer[row["name"]], 1)[:, :5] == labels[:, None]).any(1))
        assert abs(row["accuracy"]["top5"] - five) <= 2 / SAMPLES, (row["accuracy"], five)
        assert row["file_bytes"] == (version / ("model.onnx" if row is f32 else "model.int8.onnx")).stat().st_size
    output = int8["outputs"][0]
    agreement = np.mean(top["f32"] == top["int8"])
    assert abs(output["top1_agreement"] - agreement) <= 2 / SAMPLES, (output, agreement)
    assert output["top1_agreement_low"] < output["top1_agreement"] <= output["top1_agreement_high"], output
    # The engine leaves out intermediate roundings, so it may be closer to float than ONNX Runtime, never much farther.
    gain = output["sqnr_db"] - sqnr(peer["f32"], peer["int8"])
    assert -1 < gain < 5, (output, gain)

    # Figures fit together.
    for row in (f32, int8):
        single, best = row["batch_1"], row["best_batch"]
        assert 0 < single["p50_seconds"] <= single["p90_seconds"] <= single["p99_seconds"], single
        assert single["quantiles_seconds"] == sorted(single["quantiles_seconds"]) and single["runs"] > 1
        assert row["fps_30"] == (row["frames_per_second_p99_33ms"] >= 30)
        assert row["models_in_4_gb"] == (4_000_000_000 - local["baseline_bytes"]) // row["model_bytes"]
        assert row["load_seconds"] > 0 and single["cpu_seconds_per_inference"] > 0
        assert 0.9 * row["weights_bytes"] < row["walked_bytes_per_inference"] <= row["weights_bytes"], row
        assert best["batch"] in (1, 4) and {b["batch"] for b in row["batches"]} == {1, 4}
    assert int8["weights_bytes"] < 0.3 * f32["weights_bytes"]

    # Layers: every product once, errors finite; the last one's result is the network's output.
    layers = local["layers"]
    convolutions = [
        n for n in onnx.load(version / "model.onnx").graph.node if n.op_type in ("Conv", "Gemm", "MatMul")
    ]
    assert len(layers) == len(convolutions), (len(layers), len(convolutions))
    found = [layer["variants"][0]["sqnr_db"] for layer in layers]
    assert all(isinstance(db, float) and 10 < db < 120 for db in found), found
    gain = found[-1] - sqnr(peer["f32"][:8], peer["int8"][:8])
    assert -1.5 < gain < 6, (found[-1], gain)
    for layer in layers:
        for side in (layer, layer["variants"][0]):
            assert sum(side["weights_histogram"]["counts"]) == layer["weights_elements"], layer["node"]
        assert sum(layer["activations_histogram"]["counts"]) == sum(
            layer["variants"][0]["activations_histogram"]["counts"]
        ), layer["node"]

    page = Page((folder / "local.html").read_text())
    assert not page.loads and "script" not in page.counts, page.loads
    assert page.counts["table"] == 4 and page.counts["svg"] >= 6, page.counts

    # Against a server: the same answers; what a client cannot see is null and named.
    stub = harness.make_stubs(source, stubs)
    with harness.serving(octet, folder / "models", stub, "--threads=1") as server:
        run(
            "compare",
            "net",
            f"--server={server.grpc_address}",
            "--variants=f32,int8",
            *data,
            *QUICK,
            f"--json={folder}/remote.json",
            f"--report={folder}/remote.html",
        )
        missing = run("compare", "net", f"--server={server.grpc_address}", "--variants=f32,int3", *data, expect=1)
        assert "net@int3" in missing.stderr, missing.stderr
        served = {
            v: np.concatenate([server.infer(f"net@{v}", {"image": image[None]})["logits"] for image in images])
            for v in ("f32", "int8")
        }
    # The figures from the very answers, by their definitions.
    assert output["top1_agreement"] == np.float64(
        f"{np.mean(served['f32'].argmax(1) == served['int8'].argmax(1)):.9g}"
    )
    assert abs(output["sqnr_db"] - sqnr(served["f32"], served["int8"])) < 1e-4, output
    a, b = served["f32"].astype(np.float64), served["int8"].astype(np.float64)
    cosine = np.mean((a * b).sum(1) / np.sqrt((a * a).sum(1) * (b * b).sum(1)))
    assert abs(output["cosine"] - cosine) < 1e-7, (output, cosine)
    remote = json.loads((folder / "remote.json").read_text())
    far = remote["variants"][1]
    for key in ("top1_agreement", "top1_agreement_low", "sqnr_db", "cosine"):
        assert abs(far["outputs"][0][key] - output[key]) < 1e-6 * max(1, abs(output[key])), (
            key,
            far["outputs"][0],
            output,
        )
    assert far["accuracy"] == int8["accuracy"]
    assert far["weights_bytes"] == int8["weights_bytes"], (far, int8)
    for key in ("load_seconds", "walked_bytes_per_inference"):
        assert far[key] is None, far
    assert far["batch_1"]["cpu_seconds_per_inference"] is None and not remote["layers"]
    assert any("a client cannot see" in line for line in remote["absent"]), remote["absent"]

    # A twin of another network is refused, and so is a variant that is not there.
    twin = onnx.load(version / "model.onnx")
    twin.doc_string = "changed"
    onnx.save(twin, folder / "other.onnx")
    stale = run("compare", folder / "other.onnx", f"--variants=f32,int8={version}/model.int8.onnx", *data, expect=1)
    assert "stale_twin" in stale.stderr, stale.stderr
    absent = run("compare", folder / "other.onnx", "--variants=f32,int8", *data, expect=1)
    assert "other.int8.onnx does not exist" in absent.stderr, absent.stderr
print("compare: figures agree with ONNX Runtime's")
