"""Real networks at many shapes and over several steps: the server's answers against ONNX Runtime's on the same file.

usage: networks_test.py OCTET SOURCE STUBS

Covers what tests/models cannot compare with a stored output: files without outputs, other heights, widths and lengths,
states fed back. Float outputs agree within FLOAT_TOLERANCE of the largest element, or of SMALLEST_SCALE where all are
smaller: on noise, detectors answer with probabilities near 0, whose relative error is that of an exponent.
"""
import ctypes
import os
import pathlib
import shutil
import sys
import tempfile

import numpy as np
import onnx
import onnx.numpy_helper
import onnxruntime as ort

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # pylint: disable=wrong-import-position

OCTET, SOURCE, STUBS = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), sys.argv[3]
MODELS = SOURCE.parent / "shared" / "models"
FLOAT_TOLERANCE = 1e-4  # of the largest element: sums in another order
SMALLEST_SCALE = 0.1
RANDOM = np.random.RandomState(7)


def image(*shape, scale=1.0):
    return (RANDOM.rand(*shape) * scale).astype(np.float32)


def crops(model, *sizes):
    """Pieces (height, width) of the stored input, where the network has something to find; cut from its middle."""
    path = MODELS / model / "test_data_set_0" / "input_0.pb"
    if not path.exists():
        return []
    whole = onnx.numpy_helper.to_array(onnx.load_tensor(str(path)))
    cut = []
    for h, w in sizes:
        y, x = (whole.shape[2] - h) // 2, (whole.shape[3] - w) // 2
        cut.append([np.ascontiguousarray(whole[:, :, y:y + h, x:x + w])])
    return cut


# Model -> inputs of independent requests.
SHAPES = {
    "deeplab-mbv2-dm05": [[image(1, 3, 513, 513)]],
    "squeezenet-fp32": [[image(1, 3, 224, 224, scale=255)]],
    "mobilenetv2-torch-dq32": [[image(1, 3, 244, 244)], [image(2, 3, 244, 244)]],
    "yunet-n-dynamic": [[image(1, 3, 64, 96, scale=255)], [image(2, 3, 320, 256, scale=255)], [image(1, 3, 160, 32, scale=255)]],
    "ppocr-v3-det": crops("ppocr-v3-det", (256, 192), (160, 320), (96, 224)),
    "ppocr-mobile-v2-cls": [[image(1, 3, 48, 192)], [image(3, 3, 48, 100)], [image(2, 3, 64, 320)]],
    "fireredvad-stream": [[image(1, n, 80), image(8, 1, 128, 19)] for n in (1, 2, 17)],
    "nnsplit-bidi-lstm-tract": [[RANDOM.randint(32, 127, (b, n)).astype(np.uint8)] for b, n in ((1, 2), (3, 40), (2, 500))],
    "silero-vad-op18-ifless": [[image(b, n), np.array(rate, np.int64), image(2, b, 128)]
                               for b, n, rate in ((1, 576, 16000), (3, 576, 16000), (2, 288, 8000))],
    "silero-vad-16k-op15": [[image(b, 576), image(2, b, 128), np.array(16000, np.int64)] for b in (1, 2)],
    "stressrnn-ru": [[image(b, 40, 36)] for b in (1, 5)],
}

# Model -> outputs that are the next step's inputs, by position.
STATES = {"dtln-1": {1: 1}, "gtcrn-simple": {1: 1, 2: 2, 3: 3}, "fireredvad-stream": {1: 1}, "silero-vad-16k-op15": {1: 1},
          "silero-vad-op18-ifless": {1: 2}}
STEPS = 8


def open_session(path):
    """Opens the peer without its complaints that libonnx knows all operators already."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    streams = [os.dup(fd) for fd in (1, 2)]
    with open(os.devnull, "wb") as nowhere:
        for fd in (1, 2):
            os.dup2(nowhere.fileno(), fd)
        try:
            return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        finally:
            ctypes.CDLL(None).fflush(None)
            for fd, stream in zip((1, 2), streams):
                os.dup2(stream, fd)
                os.close(stream)


def compare(server, session, model, values):
    """One request to both; returns the peer's outputs and the largest error, relative to the largest element."""
    inputs = {i.name: v for i, v in zip(session.get_inputs(), values, strict=True)}
    wanted = session.run(None, inputs)
    found = server.infer(model, inputs)
    worst = 0
    for output, want in zip(session.get_outputs(), wanted, strict=True):
        got = found[output.name]
        assert got.shape == want.shape, (model, output.name, got.shape, want.shape)
        assert np.isfinite(got).all(), (model, output.name)
        worst = max(worst, np.abs(got - want).max() / max(np.abs(want).max(), SMALLEST_SCALE))
    return wanted, worst


def run_model(server, model):
    session = open_session(MODELS / model / "model.onnx")
    for values in SHAPES.get(model, []):
        _, worst = compare(server, session, model, values)
        print(f"{model}: {[v.shape for v in values]}: error {worst:.1e}", flush=True)
        assert worst <= FLOAT_TOLERANCE, worst
    if model not in STATES:
        return
    values = SHAPES[model][0] if model in SHAPES else [image(*i.shape) for i in session.get_inputs()]
    worst = 0
    for _ in range(STEPS):
        wanted, error = compare(server, session, model, values)
        worst = max(worst, error)
        values = [image(*values[0].shape)] + values[1:]
        for output, target in STATES[model].items():
            values[target] = wanted[output]
    print(f"{model}: {STEPS} steps: error {worst:.1e}", flush=True)
    assert worst <= FLOAT_TOLERANCE, worst


def main():
    names = sorted(set(SHAPES) | set(STATES))
    missing = [n for n in names if not (MODELS / n / "model.onnx").exists()]
    if missing:
        harness.skip(f"{MODELS} lacks {', '.join(missing)}")
    stubs = harness.make_stubs(SOURCE, STUBS)
    with tempfile.TemporaryDirectory() as folder:
        repository = pathlib.Path(folder)
        for name in names:
            (repository / name / "1").mkdir(parents=True)
            shutil.copy(MODELS / name / "model.onnx", repository / name / "1" / "model.onnx")
        with harness.serving(OCTET, repository, stubs) as server:
            for name in names:
                run_model(server, name)


if __name__ == "__main__":
    main()
