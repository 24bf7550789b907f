"""Float models and what `octet compress` writes must mean the same to ONNX Runtime and to the server.

usage: onnxruntime_test.py OCTET SOURCE STUBS

Float outputs agree within kFloat of the largest output of the set. Quantized outputs need not be equal: the engines
round ties and fold scales differently, and octet keeps the sum of a residual addition in its wider form where the file
rounds one operand in front of the addition. One step of an early layer then travels on, so the bound is statistical:
the share of samples with the same best class, and the ratio of signal to difference (SQNR).
For scale: on mobilenetv2, 52 quantized convolutions deep, ONNX Runtime's integer kernels are 29.7 dB away from ONNX
Runtime without optimization on the same file (octet: 27.5 dB), all three 22.6 to 22.7 dB from the float model.
"""
import collections
import csv
import ctypes
import gzip
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # pylint: disable=wrong-import-position

OCTET, SOURCE, STUBS = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), sys.argv[3]
FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
SHARED = SOURCE.parent / "shared"
FLOAT_TOLERANCE = 1e-3  # of the largest output
Bounds = collections.namedtuple("Bounds", "top1_agreement sqnr_db min_convs")

IMAGENET_BGR = "size=224,short=256,channels=bgr,scale=1,mean=104:117:123"
IMAGENET_RGB = "size=244,short=272,mean=0.485:0.456:0.406,std=0.229:0.224:0.225"
# The file of mobilenetv2 declares 244 x 244, whatever it was trained with. Of 20 photos, one on the border between two
# classes is 5 %.
PHOTO_MODELS = {"squeezenet-fp32": (IMAGENET_BGR, Bounds(0.95, 40, 20)),
                "mobilenetv2-torch-dq32": (IMAGENET_RGB, Bounds(0.8, 25, 40))}


def identity_model():
    """A model that answers with its input: how this test gets photos as octet decodes them."""
    tensors = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ["N", 3, "H", "W"]) for n in "xy"]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "identity", *[[t] for t in tensors])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def start_peer():
    """Starts ONNX Runtime without its complaints that libonnx, shared with the onnx module, knows all operators already."""
    streams = [os.dup(fd) for fd in (1, 2)]
    with open(os.devnull, "wb") as nowhere:
        for fd in (1, 2):
            os.dup2(nowhere.fileno(), fd)
        try:
            ort.InferenceSession(identity_model().SerializeToString(), providers=["CPUExecutionProvider"])
        finally:
            ctypes.CDLL(None).fflush(None)
            for fd, stream in zip((1, 2), streams):
                os.dup2(stream, fd)
                os.close(stream)


def compress(model, calibration, out, *flags, scheme="int8"):
    run = subprocess.run([OCTET, "compress", str(model), f"--calibration={calibration}", f"--out={out}",
                          f"--scheme={scheme}", *flags],
                         capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, run.stderr


def fresh_version(repository, name, model):
    """The folder of version 1 of a model, with the float file in it."""
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    shutil.copy(model, folder / "model.onnx")
    return folder


def run_peer(path, samples, optimized=None):
    """ONNX Runtime on the CPU, sample by sample: [samples, outputs]."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: x[None]})[0].reshape(1, -1) for x in samples])


def run_octet(server, model, samples, batch):
    """The server in batches of `batch`: [samples, outputs]."""
    metadata = server.stub.ModelMetadata(server.messages.ModelMetadataRequest(name=model))
    rows = []
    for first in range(0, len(samples), batch):
        x = samples[first:first + batch]
        (y,) = server.infer(model, {metadata.inputs[0].name: x}).values()
        rows.append(y.reshape(len(x), -1))
    return np.concatenate(rows)


def sqnr_db(want, got):
    want, got = want.astype(np.float64), got.astype(np.float64)
    return 10 * np.log10(np.sum(want ** 2) / max(np.sum((want - got) ** 2), 1e-30))


def count_operators(path):
    return collections.Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def compare(server, name, folder, samples, batch, bounds):
    """Both files of a model in both engines; prints the figures, then asserts them."""
    variants = {"f32": folder / "model.onnx", "int8": folder / "model.int8.onnx"}
    optimized = folder.parent.parent.parent / f"{name}.optimized.onnx"
    ours = {v: run_octet(server, f"{name}@{v}", samples, batch) for v in variants}
    peers = {v: run_peer(path, samples, optimized if v == "int8" else None) for v, path in variants.items()}
    operators = count_operators(optimized)
    float_error = np.abs(ours["f32"] - peers["f32"]).max() / np.abs(peers["f32"]).max()
    agreement = float(np.mean(ours["int8"].argmax(1) == peers["int8"].argmax(1)))
    sqnr = sqnr_db(peers["int8"], ours["int8"])
    ours_db, peers_db = sqnr_db(peers["f32"], ours["int8"]), sqnr_db(peers["f32"], peers["int8"])
    print(f"{name}: {len(samples)} samples; float error {float_error:.2e} of the largest output; int8 in both engines: "
          f"top-1 agreement {100 * agreement:.2f} %, SQNR {sqnr:.1f} dB; against the float model: octet {ours_db:.1f} dB, "
          f"ONNX Runtime {peers_db:.1f} dB; "
          f"ONNX Runtime runs {operators['QLinearConv']} QLinearConv, {operators['Conv']} Conv", flush=True)
    assert float_error <= FLOAT_TOLERANCE, float_error
    # Without quantized convolutions the peer would compute our int8 file in float, and agreement would say less.
    assert operators["QLinearConv"] >= bounds.min_convs, operators
    assert agreement >= bounds.top1_agreement, agreement
    assert sqnr >= bounds.sqnr_db, sqnr
    # Where the engines differ, ours must not be the one farther from the float model.
    assert ours_db >= peers_db - 1, (ours_db, peers_db)


def fashion_images(path, count):
    with gzip.open(path) as file:
        file.read(16)
        pixels = np.frombuffer(file.read(count * 28 * 28), np.uint8)
    return (pixels.astype(np.float32) / 255).reshape(count, 1, 28, 28)


def decode_photos(server, photos, image, out):
    run = subprocess.run([OCTET, "infer", "identity", f"--address={server.grpc_address}", f"--data={photos}",
                          f"--image={image}", "--count=0", f"--save={out}"],
                         capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return np.concatenate([np.load(out / f"{i}.y.npy") for i in range(len(os.listdir(photos)))])


def link_photos(work):
    """Folders with 40 photos for calibration and 20 others for comparison."""
    photos = SHARED / "data" / "imagenet200"
    with open(photos / "labels.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for split, count in (("calibration", 40), ("evaluation", 20)):
        (work / split).mkdir()
        for row in [r for r in rows if r["split"] == split][:count]:
            shutil.copy(photos / row["file"], work / split / row["file"])
        assert len(os.listdir(work / split)) == count


def test_fashion(work, stubs):
    repository = work / "fashion"
    folder = fresh_version(repository, "fashion-mnist", SOURCE / "models/fashion-mnist/model.onnx")
    compress(folder / "model.onnx", FASHION / "train-images-idx3-ubyte.gz", folder / "model.int8.onnx",
             "--max_samples=200")
    samples = fashion_images(FASHION / "t10k-images-idx3-ubyte.gz", 500)
    with harness.serving(OCTET, repository, stubs) as server:
        compare(server, "fashion-mnist", folder, samples, 8, Bounds(0.99, 25, 10))


def test_schemes(work, stubs):
    """Every scheme's file runs in ONNX Runtime as it is, and means the same there.

    The engines round activations at different places (Octet drops a rounding in front of residual sums, and quantizes the
    rows of dynamic products, which the peer computes in float), so outputs agree to 20 dB, not to the bit."""
    repository = work / "schemes"
    folder = fresh_version(repository, "fashion-mnist", SOURCE / "models/fashion-mnist/model.onnx")
    listed = subprocess.run([OCTET, "compress", "--list"], capture_output=True, text=True, check=True).stdout
    schemes = [line.split()[0] for line in listed.splitlines() if line.split()[0] != "auto"]
    assert len(schemes) >= 15, listed
    for scheme in schemes:
        calibration = "" if scheme.endswith("data-free") else FASHION / "train-images-idx3-ubyte.gz"
        compress(folder / "model.onnx", calibration, folder / f"model.{scheme}.onnx", "--max_samples=60", scheme=scheme)
    samples = fashion_images(FASHION / "t10k-images-idx3-ubyte.gz", 200)
    with harness.serving(OCTET, repository, stubs) as server:
        for scheme in schemes:
            ours = run_octet(server, f"fashion-mnist@{scheme}", samples, 8)
            peer = run_peer(folder / f"model.{scheme}.onnx", samples)
            agreement, sqnr = float(np.mean(ours.argmax(1) == peer.argmax(1))), sqnr_db(peer, ours)
            print(f"{scheme}: both engines: top-1 agreement {100 * agreement:.1f} %, SQNR {sqnr:.1f} dB", flush=True)
            assert agreement >= 0.97 and sqnr >= 20, scheme


def test_photos(work, stubs):
    link_photos(work)
    repository = work / "photos"
    identity = repository / "identity" / "1"
    identity.mkdir(parents=True)
    onnx.save(identity_model(), identity / "model.onnx")
    folders = {}
    for name, (image, _) in PHOTO_MODELS.items():
        folders[name] = fresh_version(repository, name, SHARED / "models" / name / "model.onnx")
        compress(folders[name] / "model.onnx", work / "calibration", folders[name] / "model.int8.onnx",
                 f"--image={image}")
    with harness.serving(OCTET, repository, stubs) as server:
        for name, (image, bounds) in PHOTO_MODELS.items():
            samples = decode_photos(server, work / "evaluation", image, work / f"{name}.decoded")
            compare(server, name, folders[name], samples, 1, bounds)


def main():
    if not FASHION.exists():
        harness.skip("dataset-fashion-mnist is not installed (deploy/packages/test.list)")
    start_peer()
    stubs = harness.make_stubs(SOURCE, STUBS)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        test_fashion(work, stubs)
        test_schemes(work, stubs)
        missing = [n for n in PHOTO_MODELS if not (SHARED / "models" / n / "model.onnx").exists()]
        if missing or not (SHARED / "data/imagenet200/labels.csv").exists():
            print(f"skipped: photo models ({SHARED} lacks {', '.join(missing) or 'data/imagenet200'})")
        else:
            test_photos(work, stubs)


if __name__ == "__main__":
    main()
