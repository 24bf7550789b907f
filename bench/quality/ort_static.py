#!/usr/bin/env python3
"""ONNX Runtime's own static quantizer: calibrates, writes int8 files and runs them.

usage: ort_static.py MODEL FOLDER

FOLDER holds calibration.npy and evaluation.npy (f32, axis 0 counts samples). Per setting it gets SETTING.onnx,
SETTING.output_K.npy (the int8 file's outputs on the evaluation samples, computed by ONNX Runtime) and a line of
results.txt: SETTING, bytes, outputs, separated by tabs; or SETTING, "error", message. Exit code 77: no quantizer here.

Settings are METHOD-OPERATORS, all with per-channel s8 weights, u8 activations and QDQ:
  METHOD     minmax; percentile (99.999 and 99.99 % of 2048 bins); entropy
  OPERATORS  all: whatever the quantizer can; products: Conv, Gemm and MatMul only
"""
import os
import pathlib
import sys
import traceback

try:
    import numpy as np
    import onnx
    import onnx.reference  # before onnxruntime, whose operators in the same registry it would refuse
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process
except (ImportError, NotImplementedError) as error:
    print(f"the quantizer of python3-onnxruntime cannot be imported: {str(error).splitlines()[0]}")
    sys.exit(77)

STRIDE = 10  # samples whose intermediate values are held at once
BATCH = 32
PRODUCTS = ["Conv", "Gemm", "MatMul"]
# Percentile is symmetric by default, which halves the resolution behind a Relu; entropy's default of 128 bins for 128
# levels leaves one candidate, so that it clips nothing.
METHODS = {
    "minmax": (CalibrationMethod.MinMax, {"symmetric": False}),
    "percentile99.999": (CalibrationMethod.Percentile, {"symmetric": False, "percentile": 99.999}),
    "percentile99.99": (CalibrationMethod.Percentile, {"symmetric": False, "percentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {"symmetric": False, "num_bins": 2048, "num_quantized_bins": 256}),
}


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def batch_of(path):
    """Samples per run: 1 where the file fixes the batch."""
    return 1 if isinstance(session(path).get_inputs()[0].shape[0], int) else BATCH


class Reader(CalibrationDataReader):
    """Calibration samples one by one, a stride at a time."""

    def __init__(self, name, samples):
        self.name, self.samples = name, samples
        self.set_range(0, len(samples))

    def __len__(self):
        return len(self.samples)

    def set_range(self, start_index, end_index):
        self.at, self.end = start_index, end_index

    def get_next(self):
        if self.at >= self.end:
            return None
        self.at += 1
        return {self.name: self.samples[self.at - 1:self.at]}


def prepare(model, folder):
    """Shape inference and folding, as the quantizer's manual asks for; less of it where that fails."""
    path = folder / "prepared.onnx"
    for skip in ({}, {"skip_symbolic_shape": True}, {"skip_symbolic_shape": True, "skip_onnx_shape": True}):
        try:
            quant_pre_process(str(model), str(path), **skip)
            return path
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc()
    return model


def quantize(model, out, samples, method, operators):
    """quantize_static with options of the calibrator that it has no way to pass on."""
    kind, options = METHODS[method]
    module = sys.modules["onnxruntime.quantization.quantize"]
    create = module.create_calibrator
    module.create_calibrator = lambda *args, **kwargs: create(*args, **{**kwargs, "extra_options": options})
    try:
        quantize_static(
            str(model), str(out), Reader(session(model).get_inputs()[0].name, samples), quant_format=QuantFormat.QDQ,
            op_types_to_quantize=PRODUCTS if operators == "products" else None, per_channel=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=kind,
            extra_options={"CalibStridedMinMax": STRIDE})
    finally:
        module.create_calibrator = create


def predict(path, samples):
    """Outputs on all samples, batches joined."""
    run, step = session(path), batch_of(path)
    name = run.get_inputs()[0].name
    parts = [run.run(None, {name: samples[i:i + step]}) for i in range(0, len(samples), step)]
    return [np.concatenate(p).astype(np.float32) for p in zip(*parts)]


def main():
    model, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    calibration, evaluation = np.load(folder / "calibration.npy"), np.load(folder / "evaluation.npy")
    if len(calibration) >= STRIDE:
        calibration = calibration[:len(calibration) // STRIDE * STRIDE]
    prepared = prepare(model, folder)
    lines = []
    for method in METHODS:
        for operators in ("all", "products"):
            setting = f"{method}-{operators}"
            out = folder / f"{setting}.onnx"
            try:
                quantize(prepared, out, calibration, method, operators)
                outputs = predict(out, evaluation)
            except Exception as error:  # pylint: disable=broad-except
                traceback.print_exc()
                lines.append(f"{setting}\terror\t{(str(error) or repr(error)).splitlines()[0][:200]}")
                continue
            for k, values in enumerate(outputs):
                np.save(folder / f"{setting}.output_{k}.npy", np.ascontiguousarray(values))
            lines.append(f"{setting}\t{os.path.getsize(out)}\t{len(outputs)}")
            print(lines[-1], flush=True)
    (folder / "results.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
