#!/usr/bin/python3
"""Models whose shapes depend on data: replies carry the shape of each run, branches and loops follow their inputs.

    dynamic_test.py --octet PROGRAM --source REPOSITORY
"""
import argparse
import concurrent.futures
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
work = tempfile.mkdtemp(prefix="octet_dynamic_")
stubs = harness.make_stubs(args.source, work)
LIMIT = 64 << 20
F32, S64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def value(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


def constant(name, array):
    return numpy_helper.from_array(np.array(array), name)


def save(name, graph):
    folder = os.path.join(work, "repository", name, "1")
    os.makedirs(folder)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
              os.path.join(folder, "model.onnx"))


def write_models():
    """pick: the elements of x above 0.5, doubled. branch: x as it is or flattened and negated, as its sum decides.
    grow: x, n times behind itself."""
    save("pick", helper.make_graph(
        [helper.make_node("Greater", ["x", "half"], ["mask"]), helper.make_node("NonZero", ["mask"], ["where"]),
         helper.make_node("Transpose", ["where"], ["indices"]), helper.make_node("GatherND", ["x", "indices"], ["picked"]),
         helper.make_node("Mul", ["picked", "two"], ["y"])],
        "pick", [value("x", F32, ["H", "W"])], [value("y", F32, ["N"])],
        [constant("half", np.float32(0.5)), constant("two", np.float32(2))]))
    yes = helper.make_graph([helper.make_node("Identity", ["x"], ["t"])], "yes", [], [value("t", F32, None)])
    no = helper.make_graph([helper.make_node("Neg", ["x"], ["m"]), helper.make_node("Reshape", ["m", "flat"], ["e"])],
                           "no", [], [value("e", F32, None)], [constant("flat", np.array([-1], np.int64))])
    save("branch", helper.make_graph(
        [helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0), helper.make_node("Greater", ["sum", "zero"], ["c"]),
         helper.make_node("If", ["c"], ["y"], then_branch=yes, else_branch=no)],
        "branch", [value("x", F32, [2, 3])], [value("y", F32, None)], [constant("zero", np.float32(0))]))
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Concat", ["v", "v"], ["twice"], axis=0)],
        "body", [value("i", S64, []), value("go", BOOL, []), value("v", F32, ["n"])],
        [value("go_on", BOOL, []), value("twice", F32, ["m"])])
    save("grow", helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
        "grow", [value("n", S64, [1]), value("x", F32, ["k"])], [value("y", F32, ["l"])]))
    return os.path.join(work, "repository")


class DynamicTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(args.octet, write_models(), stubs, f"--max-activation-bytes={LIMIT}")
        cls.server.await_ready()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def pick(self, seed):
        x = np.random.default_rng(seed).random((1 + seed % 5, 1 + seed % 7), dtype=np.float32)
        (y,) = self.server.infer("pick", {"x": x}).values()
        np.testing.assert_allclose(y, 2 * x[x > 0.5])
        self.assertEqual(y.ndim, 1)

    def test_replies_have_the_shape_of_their_run(self):
        for seed in range(50):
            self.pick(seed)
        (nothing,) = self.server.infer("pick", {"x": np.zeros((3, 3), np.float32)}).values()
        self.assertEqual(nothing.shape, (0,))

    def test_concurrent_requests_do_not_mix(self):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(self.pick, seed) for seed in range(200)]:
                done.result()

    def test_branches_follow_data(self):
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        for _ in range(2):
            (y,) = self.server.infer("branch", {"x": x}).values()
            np.testing.assert_array_equal(y, x)
            (y,) = self.server.infer("branch", {"x": -x}).values()
            np.testing.assert_array_equal(y, x.reshape(-1))

    def test_loops_grow_until_the_bound(self):
        x = np.array([1, 2, 3], np.float32)
        for n in (0, 1, 5):
            (y,) = self.server.infer("grow", {"n": np.array([n], np.int64), "x": x}).values()
            np.testing.assert_array_equal(y, np.tile(x, 2 ** n))
        with self.assertRaises(grpc.RpcError) as refused:
            self.server.infer("grow", {"n": np.array([60], np.int64), "x": x})
        self.assertEqual(refused.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, refused.exception.details())
        (y,) = self.server.infer("grow", {"n": np.array([1], np.int64), "x": x}).values()
        np.testing.assert_array_equal(y, np.tile(x, 2))

    def test_stages_are_counted_and_bounded(self):
        for seed in range(120):
            self.pick(seed)
        lines = self.server.metric_lines()
        for model in ("pick", "branch", "grow"):
            labels = f'{{model="{model}",variant="f32",version="1"}}'
            self.assertLessEqual(lines["octet_specialisations" + labels], lines["octet_specialisations_limit" + labels])
        self.assertGreater(lines['octet_specialisations_made{model="pick",variant="f32",version="1"}'], 1)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *rest])
