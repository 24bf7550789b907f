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
import copy
import os
import pathlib
import sys
import traceback

try:
    import numpy as np
    import onnx
    import onnx.version_converter
    import onnx.reference  # before onnxruntime, whose operators in the same registry it would refuse
    import onnxruntime as ort
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, create_calibrator, quantize_static
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry
    from onnxruntime.quantization.shape_inference import quant_pre_process
except (ImportError, NotImplementedError) as error:
    print(f"the quantizer of python3-onnxruntime cannot be imported: {str(error).splitlines()[0]}")
    sys.exit(77)

OPSET, IR = 13, 8
STRIDE = 10  # samples whose intermediate values are held at once
BATCH = 32
PRODUCTS = ["Conv", "Gemm", "MatMul"]
# Percentile is symmetric by default, which halves the resolution behind a Relu; entropy's default of 128 bins for 128
# levels leaves one candidate, so that it clips nothing.
METHODS = {
    "minmax": (CalibrationMethod.MinMax, {"symmetric": False}),
    "percentile99.999": (CalibrationMethod.Percentile, {"symmetric": False, "percentile": 99.999}),
    "percentile99.99": (CalibrationMethod.Percentile, {"symmetric": False, "percentile": 99.99}),
    "entropy": (CalibrationMethod.Entropy, {"symmetric": False, "num_bins": 512, "num_quantized_bins": 256}),
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


def modern(model, folder):
    """The model in an opset whose DequantizeLinear has an axis, which per-channel weights need."""
    proto = onnx.load(str(model))
    if all(o.version >= OPSET for o in proto.opset_import if o.domain in ("", "ai.onnx")):
        return model
    initializers = {i.name for i in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in initializers]  # IR 3 repeats them
    del proto.graph.input[:]
    proto.graph.input.extend(inputs)
    proto.ir_version = max(proto.ir_version, IR)
    path = folder / "modern.onnx"
    onnx.save(onnx.version_converter.convert_version(proto, OPSET), str(path))
    return path


def name_nodes(path):
    """Its own optimizer gives several nodes the same name, which the quantizer refuses."""
    proto = onnx.load(str(path))
    seen = set()
    for i, node in enumerate(proto.graph.node):
        if node.name in seen:
            node.name = f"{node.name}#{i}"
        seen.add(node.name)
    onnx.save(proto, str(path))


def prepare(model, folder):
    """Shape inference and folding, as the quantizer's manual asks for; less of it where that fails."""
    model, path = modern(model, folder), folder / "prepared.onnx"
    for skip in ({}, {"skip_symbolic_shape": True}, {"skip_symbolic_shape": True, "skip_onnx_shape": True}):
        try:
            quant_pre_process(str(model), str(path), **skip)
            name_nodes(path)
            return path
        except Exception:  # pylint: disable=broad-except
            traceback.print_exc()
    return model


class Ranges:
    """A calibrator that has calibrated: what quantize_static gets instead of starting its own."""

    def __init__(self, ranges):
        self.ranges = ranges

    def collect_data(self, reader):
        """Nothing is left to collect."""

    def compute_data(self):
        return copy.deepcopy(self.ranges)  # the quantizer adjusts them


def calibrate(model, folder, samples, method):
    """Ranges of all tensors the quantizer could quantize, a stride of samples at a time."""
    kind, options = METHODS[method]
    operators = sorted(set(QLinearOpsRegistry) | set(QDQRegistry))
    calibrator = create_calibrator(model, operators, str(folder / "augmented.onnx"), kind, extra_options=options)
    reader = Reader(session(model).get_inputs()[0].name, samples)
    for start in range(0, len(samples), STRIDE):
        reader.set_range(start, min(start + STRIDE, len(samples)))
        calibrator.collect_data(reader)
    return Ranges(calibrator.compute_data())


def quantize(model, out, ranges, operators):
    module = sys.modules["onnxruntime.quantization.quantize"]
    module.create_calibrator = lambda *_, **__: ranges
    quantize_static(
        str(model), str(out), None, quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8, op_types_to_quantize=PRODUCTS if operators == "products" else None)


def predict(path, samples):
    """Outputs on all samples, batches joined."""
    run, step = session(path), batch_of(path)
    name = run.get_inputs()[0].name
    parts = [run.run(None, {name: samples[i:i + step]}) for i in range(0, len(samples), step)]
    return [np.concatenate(p).astype(np.float32) for p in zip(*parts)]


def failure(setting, error):
    """The line of results.txt; the log gets the whole story."""
    traceback.print_exc()
    return f"{setting}\terror\t{(str(error) or repr(error)).splitlines()[0][:200]}"


def main():
    model, folder = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    calibration, evaluation = np.load(folder / "calibration.npy"), np.load(folder / "evaluation.npy")
    prepared = prepare(model, folder)
    lines = []
    for method in METHODS:
        try:
            ranges = calibrate(prepared, folder, calibration, method)
        except Exception as error:  # pylint: disable=broad-except
            lines.append(failure(method, error))
            continue
        for operators in ("all", "products"):
            setting = f"{method}-{operators}"
            out = folder / f"{setting}.onnx"
            try:
                quantize(prepared, out, ranges, operators)
                outputs = predict(out, evaluation)
            except Exception as error:  # pylint: disable=broad-except
                lines.append(failure(setting, error))
                continue
            for k, values in enumerate(outputs):
                np.save(folder / f"{setting}.output_{k}.npy", np.ascontiguousarray(values))
            lines.append(f"{setting}\t{os.path.getsize(out)}\t{len(outputs)}")
            print(lines[-1], flush=True)
    (folder / "results.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
