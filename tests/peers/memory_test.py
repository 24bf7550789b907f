"""What the server says it holds must be what the kernel says it holds.

usage: memory_test.py OCTET SOURCE STUBS

A model with 30 MB of weights is loaded and used at batch 1 and 8; then baseline + memory of its variants (all kinds but
`file`, which lies on disk) + requests in flight must explain the process's resident bytes within 10 %. The same must
hold without the pages of program and libraries, which the baseline counts as they are now.
"""
import pathlib
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import harness  # pylint: disable=wrong-import-position

OCTET, SOURCE, STUBS = sys.argv[1], pathlib.Path(sys.argv[2]).resolve(), sys.argv[3]
TOLERANCE = 0.10
CHANNELS, SIZE, HIDDEN = 64, 32, 1536


def write_model(path):
    """conv (C=64, 3x3) -> pool -> three dense layers: 30 MB of seeded weights, free batch."""
    random = np.random.default_rng(1)
    initializers, nodes = [], []

    def weights(name, *shape):
        values = random.standard_normal(shape).astype(np.float32) / np.float32(np.sqrt(np.prod(shape[1:])))
        initializers.append(numpy_helper.from_array(values, name))
        return name

    nodes.append(helper.make_node("Conv", ["x", weights("w0", CHANNELS, 3, 3, 3)], ["c"], pads=[1, 1, 1, 1]))
    nodes.append(helper.make_node("Relu", ["c"], ["r"]))
    nodes.append(helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[8, 8], strides=[8, 8]))
    nodes.append(helper.make_node("Flatten", ["p"], ["f"]))
    last, depth = "f", CHANNELS * (SIZE // 8) ** 2
    for i, width in enumerate((HIDDEN, HIDDEN, HIDDEN, HIDDEN, 10)):
        nodes.append(helper.make_node("Gemm", [last, weights(f"w{i + 1}", width, depth)], [f"g{i}"], transB=1))
        nodes.append(helper.make_node("Relu", [f"g{i}"], [f"a{i}"]))
        last, depth = f"a{i}", width
    graph = helper.make_graph(
        nodes, "large", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["N", 10])], initializers)
    path.parent.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    size = path.stat().st_size
    assert 25e6 < size < 40e6, size
    return size


def variant_memory(server, model):
    """{variant: {kind: bytes}} as ModelStatistics has it; the entry named like the model sums its variants."""
    reply = server.stub.ModelStatistics(server.messages.ModelStatisticsRequest(name=model), timeout=30)
    memory = {s.name: {u.type: u.byte_size for u in s.memory_usage} for s in reply.model_stats}
    total = memory.pop(model)
    assert memory and all(name.startswith(f"{model}@") for name in memory), memory
    for kind, size in total.items():
        assert size == sum(m[kind] for m in memory.values()), (kind, total, memory)
    return {name.split("@")[1]: kinds for name, kinds in memory.items()}


def check_metrics(metrics, model, memory):
    """/metrics has exactly the kinds and bytes of ModelStatistics."""
    got = {}
    for (name, labels), value in metrics.items():
        labels = dict(labels)
        if name == "octet_memory_bytes" and labels["model"] == model:
            got.setdefault(labels["variant"], {})[labels["kind"]] = int(value)
    assert got == memory, (got, memory)


def main():
    stubs = harness.make_stubs(SOURCE, STUBS)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        file_bytes = write_model(work / "models" / "large" / "1" / "model.onnx")
        with harness.serving(OCTET, work / "models", stubs) as server:
            random = np.random.default_rng(2)
            for batch in (1, 8, 1, 8):
                x = random.standard_normal((batch, 3, SIZE, SIZE)).astype(np.float32)
                (y,) = server.infer("large", {"x": x}).values()
                assert y.shape == (batch, 10) and np.isfinite(y).all() and y.std() > 0
            memory = variant_memory(server, "large")
            metrics = server.metrics()
            resident = server.resident_bytes()
            program = server.resident_bytes("RssFile")
            check_metrics(metrics, "large", memory)
    none = frozenset()
    baseline = metrics["octet_baseline_bytes", none]
    in_flight = metrics["octet_requests_in_flight_bytes", none]
    held = sum(size for kinds in memory.values() for kind, size in kinds.items() if kind != "file")
    explained = baseline + held + in_flight
    print(f"file {file_bytes:,}; resident {resident:,}; explained {explained:,.0f} = baseline {baseline:,.0f} + "
          f"variants {held:,} + requests {in_flight:,.0f}; pages of the program {program:,}; ratio {resident / explained:.4f}; {memory}")
    assert memory["f32"]["file"] == file_bytes, memory
    assert memory["f32"]["weights"] >= 0.95 * file_bytes, memory  # float weights are held once, packed or not
    assert abs(metrics["octet_process_resident_bytes", none] - resident) <= 0.02 * resident
    assert abs(resident - explained) <= TOLERANCE * explained
    assert abs(resident - explained) <= TOLERANCE * (explained - program), (resident, explained, program)


if __name__ == "__main__":
    main()
