#!/usr/bin/python3
"""A new height and width with every request: answers stay right, memory stays bounded, too large is refused.

    shapes_test.py --octet PROGRAM --source REPOSITORY
"""
import argparse
import os
import sys
import tempfile
import unittest

import grpc
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
args, rest = parser.parse_known_args()
work = tempfile.mkdtemp(prefix="octet_shapes_")
stubs = harness.make_stubs(args.source, work)
LIMIT = 64 << 20
CHANNELS = 16


def write_model():
    """x [N, 1, H, W] -> 3x3 box filter in 16 copies -> their mean: what numpy can check in two lines."""
    weights = numpy_helper.from_array(np.full((CHANNELS, 1, 3, 3), 1 / 9, np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
             helper.make_node("ReduceMean", ["c"], ["y"], axes=[1], keepdims=1)]
    graph = helper.make_graph(nodes, "box", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, "H", "W"])],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1, "H", "W"])], [weights])
    folder = os.path.join(work, "repository", "box", "1")
    os.makedirs(folder)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
              os.path.join(folder, "model.onnx"))
    return os.path.join(work, "repository")


def box_filter(x):
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    height, width = x.shape[2:]
    return sum(padded[:, :, i:i + height, j:j + width] for i in range(3) for j in range(3)) / 9


class ShapesTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(args.octet, write_model(), stubs, f"--max-activation-bytes={LIMIT}")
        cls.server.await_ready()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def ask(self, height, width, rows=1):
        x = np.random.default_rng(height * 1000 + width).random((rows, 1, height, width), dtype=np.float32)
        (y,) = self.server.infer("box", {"x": x}).values()
        np.testing.assert_allclose(y, box_filter(x), atol=1e-5)

    def gauge(self, name):
        return self.server.metric_lines()[f'{name}{{model="box",variant="f32",version="1"}}']

    def test_churn_stays_bounded(self):
        for i in range(60):  # arenas of about 10 MB each
            self.ask(200 + i, 300 + 2 * i)
        before = self.server.resident_bytes()
        for i in range(60, 180):
            self.ask(200 + i, 300 + 2 * i)
        grown = self.server.resident_bytes() - before
        held = {kind: self.server.metric_lines()[f'octet_memory_bytes{{kind="{kind}",model="box",variant="f32",version="1"}}']
                for kind in ("activations", "scratchpad")}
        self.assertLessEqual(sum(held.values()), 2 * LIMIT)  # the bound, and one shape that was just made
        self.assertLessEqual(grown, 2 * LIMIT)
        self.assertGreaterEqual(self.gauge("octet_specialisations_made"), 180)
        self.assertLessEqual(self.gauge("octet_specialisations"), self.gauge("octet_specialisations_limit"))
        self.assertEqual(self.gauge("octet_activations_limit_bytes"), LIMIT)

    def test_too_large_is_refused_and_serving_goes_on(self):
        x = np.zeros((1, 1, 2000, 2000), np.float32)
        with self.assertRaises(grpc.RpcError) as refused:
            self.server.infer("box", {"x": x})
        self.assertEqual(refused.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)
        self.assertIn(str(LIMIT), refused.exception.details())
        self.ask(64, 48, rows=3)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *rest])
