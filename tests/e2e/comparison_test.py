#!/usr/bin/python3
"""Live comparison, guard, canary and octet.v1, through real clients: a broken int8 file, drifting inputs,
memory that is short.

    comparison_test.py --octet PROGRAM --source REPOSITORY
"""
import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import grpc
import numpy as np
import onnx
from onnx import numpy_helper

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
args, rest = parser.parse_known_args()
work = tempfile.mkdtemp(prefix="octet_comparison_")
pb, pb_grpc = harness.make_stubs(args.source, work)
v1, v1_grpc = harness.make_octet_stubs(args.source, work)
MODEL = os.path.join(args.source, "models", "fashion-mnist", "model.onnx")
SECONDS = 120  # upper bounds for what the comparison's thread does at the lowest priority, not waits


DATA = "/usr/share/datasets/fashion-mnist/t10k-images-idx3-ubyte.gz"
if not os.path.exists(DATA):
    harness.skip("dataset-fashion-mnist is not installed (deploy/packages/test.list)")
with gzip.open(DATA) as pixels:
    TEST_IMAGES = np.frombuffer(pixels.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28).astype(np.float32) / 255


def images(rows, seed=1):
    """Real images, others for another seed: their classes differ, so that a broken network is wrong about some."""
    return TEST_IMAGES[np.random.default_rng(seed).integers(0, len(TEST_IMAGES), rows)]


def config(**settings):
    return "".join(f'parameters {{ key: "octet.{key.replace("__", ".")}" value {{ string_value: "{value}" }} }}\n'
                   for key, value in settings.items())


def break_scales(source, target):
    """The same int8 network with each layer's scales in reverse order and every other one 10 times larger: a valid file
    whose answers are wrong."""
    model = onnx.load(source)
    scales = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    changed = 0
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name in scales and array.size > 1:
            broken = array[::-1].copy()
            broken[::2] *= 10
            tensor.CopyFrom(numpy_helper.from_array(broken, tensor.name))
            changed += 1
    assert changed > 0, "no per-channel scales found"
    onnx.save(model, target)


class Repository:
    """Folders of models made of the embedded network and one int8 twin of it."""
    twin = None

    def __init__(self, name):
        self.root = os.path.join(work, name)
        if Repository.twin is None:
            samples, Repository.twin = os.path.join(work, "samples.npy"), os.path.join(work, "twin.onnx")
            np.save(samples, images(128))
            subprocess.run([args.octet, "compress", MODEL, f"--calibration={samples}", f"--out={Repository.twin}",
                            "--scheme=int8", "--threads=1"], check=True, capture_output=True)

    def add(self, model, text="", int8=None):
        folder = os.path.join(self.root, model, "1")
        os.makedirs(folder)
        shutil.copy(MODEL, os.path.join(folder, "model.onnx"))
        shutil.copy(int8 or self.twin, os.path.join(folder, "model.int8.onnx"))
        with open(os.path.join(self.root, model, "config.pbtxt"), "w", encoding="ascii") as file:
            file.write(text)
        return folder


class Client:
    def __init__(self, server):
        self.server = server
        self.octet = v1_grpc.OctetStub(server.channel)

    def infer(self, model, data, **parameters):
        """(variant that answered, outputs)"""
        request = pb.ModelInferRequest(model_name=model)
        request.inputs.add(name="image", datatype="FP32", shape=list(data.shape))
        request.raw_input_contents.append(data.tobytes())
        for key, value in parameters.items():
            request.parameters[key].string_param = value
        reply = self.server.stub.ModelInfer(request, timeout=60)
        return reply.parameters["variant"].string_param, np.frombuffer(reply.raw_output_contents[0], np.float32)

    def version(self, model):
        return self.octet.ListVariants(v1.ListVariantsRequest(model=model)).models[0].versions[0]

    def pair(self, model):
        return self.version(model).pairs[0]

    def drive(self, model, data, until, **parameters):
        """Sends requests until the pair is as wished; returns who answered, in order."""
        deadline, answered = time.monotonic() + SECONDS, []
        while True:
            pair = self.pair(model)
            if until(pair):
                return answered
            assert time.monotonic() < deadline, f"still {pair}"
            if pair.waiting < 8:
                answered.append(self.infer(model, data(len(answered)), **parameters)[0])
            else:
                time.sleep(0.005)  # polls; what ends the loop is the answer


class ComparisonTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        repository = Repository("repository")
        compared = {"primary": "int8", "compare__fraction": "1", "compare__max_cpu_share": "1"}
        repository.add("watched", config(**compared))
        repository.add("broken", config(**compared, guard__min_top1_agreement="0.9", guard__min_comparisons="10",
                                        guard__recovery="manual"), int8=os.path.join(work, "broken.onnx"))
        repository.add("drifting", config(**compared, guard__min_sqnr_db="10", guard__min_comparisons="10",
                                          compare__window_rows="400"))
        repository.add("canary", config(weights="int8:0.75,f32:0.25", sticky_parameter="user"))
        repository.add("sampled", config(**compared, reference__residency="sampled"))
        repository.add("alone", config(primary="int8"))
        repository.add("tight", config(**compared, memory__limit_bytes="1000"))
        repository.add("never", config(**compared, reference__residency="never", guard__min_sqnr_db="10"))
        calibration = os.path.join(repository.root, "watched", "calibration")
        os.makedirs(calibration)
        for i in range(20):
            np.save(os.path.join(calibration, f"{i:02}.npy"), images(1, i)[0])
        cls.server = harness.Server(args.octet, repository.root, (pb, pb_grpc), "--slots=1", "--threads=1")
        cls.addClassCleanup(cls.server.stop)
        cls.server.await_ready()
        cls.client = Client(cls.server)
        cls.octet = cls.client.octet

    def assert_error(self, code, text, call):
        with self.assertRaises(grpc.RpcError) as raised:
            call()
        self.assertEqual(raised.exception.code(), code, raised.exception.details())
        self.assertIn(text, raised.exception.details())

    def logged(self, message, **fields):
        lines = [json.loads(line) for line in self.server.log if line.startswith("{")]
        return [l for l in lines if l["message"] == message and all(l.get(k) == v for k, v in fields.items())]

    def await_true(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)  # polls; what ends the loop is the answer

    def test_figures_equal_those_computed_here(self):
        data = [images(4, seed) for seed in range(20)]
        settled = lambda pair: pair.compared + pair.dropped + pair.failed  # noqa: E731
        start = settled(self.client.pair("watched"))
        sent = len(self.client.drive("watched", lambda i: data[i % 20], lambda pair: pair.compared >= 20))
        self.await_true(lambda: settled(self.client.pair("watched")) == start + sent)  # none is under way
        self.octet.ResetWindows(v1.ResetWindowsRequest(model="watched"))
        self.assertEqual(len(self.client.pair("watched").outputs), 0)
        signal = noise = agreeing = cosine = 0
        for block in data:
            want = self.client.infer("watched@f32", block)[1].reshape(4, 10).astype(np.float64)
            before = after = self.client.pair("watched")
            while after.compared == before.compared:  # dropped when the queue was in use at that moment
                count = settled(after)
                have = self.client.infer("watched", block)[1].reshape(4, 10).astype(np.float64)
                self.await_true(lambda: settled(self.client.pair("watched")) > count)  # noqa: B023
                after = self.client.pair("watched")
            signal += (want ** 2).sum()
            noise += ((want - have) ** 2).sum()
            agreeing += (want.argmax(1) == have.argmax(1)).sum()
            cosine += ((want * have).sum(1) / np.linalg.norm(want, axis=1) / np.linalg.norm(have, axis=1)).sum()
        pair = self.client.pair("watched")
        output = pair.outputs[0]
        self.assertEqual((output.output, output.rows), ("logits", 80))
        self.assertAlmostEqual(output.top1_agreement.value, agreeing / 80)
        self.assertAlmostEqual(output.sqnr_db.value, 10 * np.log10(signal / noise), places=2)
        self.assertAlmostEqual(output.cosine, cosine / 80, places=5)
        self.assertLess(output.top1_agreement.lower, output.top1_agreement.value)
        self.assertGreater(pair.memory_ratio, 0.1)
        self.assertLess(pair.memory_ratio, 0.5)
        self.assertGreater(pair.latency_ratio, 0)
        # The page's JSON and the metrics say the same.
        status, body = self.server.get("/api/v1/variants")
        self.assertEqual(status, 200)
        (model,) = [m for m in json.loads(body)["models"] if m["name"] == "watched"]
        shown = model["versions"][0]["pairs"][0]["outputs"][0]
        self.assertEqual(shown["rows"], "80")
        self.assertAlmostEqual(shown["sqnr_db"]["value"], output.sqnr_db.value)
        int8 = [v for v in model["versions"][0]["variants"] if v["name"] == "int8"][0]
        self.assertGreater(int(int8["memory"]["weights"]), 0)
        self.assertGreater(float(int8["latency"]["p99_seconds"]), 0)
        self.assertGreater(len(int8["layers"]), 0)
        self.assertGreater(int8["recorded"][0]["sqnr_db"], 10)
        metrics = self.server.metrics()
        labels = {("model", "watched"), ("version", "1"), ("variant", "int8"), ("reference", "f32")}
        live = frozenset(labels | {("output", "logits"), ("source", "live")})
        recorded = frozenset(labels | {("output", "logits"), ("source", "recorded")})
        self.assertAlmostEqual(metrics["octet_sqnr_db", live], output.sqnr_db.value, places=3)
        self.assertAlmostEqual(metrics["octet_top1_agreement_ratio", live], output.top1_agreement.value, places=4)
        self.assertEqual(metrics["octet_comparison_window_rows", live], 80)
        self.assertAlmostEqual(metrics["octet_sqnr_db", recorded], int8["recorded"][0]["sqnr_db"], places=3)
        compared = frozenset(labels | {("result", "compared")})
        self.assertEqual(metrics["octet_comparisons_total", compared], pair.compared)
        self.assertEqual(metrics["octet_reference_resident", frozenset(labels)], 1)
        self.assertNotIn(("octet_guard_tripped", frozenset(labels)), metrics)

    def test_a_broken_file_trips_the_guard_until_told(self):
        answered = self.client.drive("broken", lambda i: images(4, i), lambda pair: pair.guard.tripped)
        self.assertEqual(answered[0], "int8")
        self.assertEqual(self.client.infer("broken", images(1))[0], "f32")
        self.assertEqual(self.client.infer("broken@int8", images(1))[0], "int8")  # whoever asks for it gets it
        (line,) = self.logged("guard tripped: the reference answers for the variant", model="broken")
        self.assertIn("output 'logits': top-1 agreement", line["why"])
        self.assertEqual(line["severity"], "warning")
        labels = frozenset({("model", "broken"), ("version", "1"), ("variant", "int8"), ("reference", "f32")})
        metrics = self.server.metrics()
        self.assertEqual(metrics["octet_guard_tripped", labels], 1)
        self.assertEqual(metrics["octet_guard_trips_total", labels], 1)
        self.assertEqual(metrics["octet_guard_threshold", labels | {("kind", "top1_agreement")}], 0.9)
        # It is compared on, with roles swapped, and stays where it is.
        compared = self.client.pair("broken").compared
        answered = self.client.drive("broken", lambda i: images(4, i), lambda pair: pair.compared >= compared + 15)
        self.assertEqual(set(answered), {"f32"})
        pair = self.client.pair("broken")
        self.assertLess(pair.outputs[0].top1_agreement.upper, 0.9)
        version = self.octet.SetGuard(v1.SetGuardRequest(model="broken", recover=True))
        self.assertFalse(version.pairs[0].guard.tripped)
        self.client.drive("broken", lambda i: images(4, i), lambda pair: pair.guard.trips == 2)

    def test_drifting_inputs_trip_and_their_return_recovers(self):
        usual = lambda i: images(8, i)  # noqa: E731
        drifted = lambda i: 40 * images(8, i)  # noqa: E731  beyond the calibrated range: int8 saturates
        self.client.drive("drifting", usual, lambda pair: pair.compared >= 20)
        pair = self.client.pair("drifting")
        self.assertFalse(pair.guard.tripped, pair)
        self.assertGreater(pair.outputs[0].sqnr_db.lower, 10)
        self.client.drive("drifting", drifted, lambda pair: pair.guard.tripped)
        self.assertIn("SQNR", self.client.pair("drifting").guard.reason)
        answered = self.client.drive("drifting", usual, lambda pair: not pair.guard.tripped)
        self.assertEqual(answered[0], "f32")
        self.assertEqual(self.client.infer("drifting", images(1))[0], "int8")
        self.assertEqual(self.client.pair("drifting").guard.recoveries, 1)
        self.assertEqual(len(self.logged("guard recovered: the variant answers again", model="drifting")), 1)

    def test_canary_splits_and_sticks(self):
        answers = [self.client.infer("canary", images(1))[0] for _ in range(200)]
        self.assertTrue(25 <= answers.count("f32") <= 80, answers.count("f32"))  # 50 expected, 4 standard errors
        by_user = {}
        for _ in range(2):
            for user in range(40):
                variant = self.client.infer("canary", images(1), user=f"user {user}")[0]
                self.assertEqual(by_user.setdefault(user, variant), variant)
        self.assertEqual(set(by_user.values()), {"f32", "int8"})
        self.octet.SetWeights(v1.SetWeightsRequest(model="canary", weights={"f32": 1}))
        self.assertEqual({self.client.infer("canary", images(1))[0] for _ in range(20)}, {"f32"})
        version = self.octet.SetPrimary(v1.SetPrimaryRequest(model="canary", variant="int8"))
        self.assertEqual((version.primary, dict(version.weights)), ("int8", {}))
        self.assertEqual(self.client.infer("canary", images(1))[0], "int8")
        code = grpc.StatusCode
        self.assert_error(code.INVALID_ARGUMENT, "sum to 1", lambda: self.octet.SetWeights(
            v1.SetWeightsRequest(model="canary", weights={"f32": 0.5})))
        self.assert_error(code.NOT_FOUND, "no variant 'int2'", lambda: self.octet.SetPrimary(
            v1.SetPrimaryRequest(model="canary", variant="int2")))
        self.assert_error(code.FAILED_PRECONDITION, "not in memory", lambda: self.octet.SetPrimary(
            v1.SetPrimaryRequest(model="alone", variant="f32")))
        self.assert_error(code.FAILED_PRECONDITION, "compare_fraction", lambda: self.octet.SetGuard(
            v1.SetGuardRequest(model="canary", settings=v1.GuardSettings(min_sqnr_db=10))))

    def test_references_that_nobody_needs_are_not_in_memory(self):
        version = self.client.version("alone")
        self.assertEqual({v.name: v.in_memory for v in version.variants}, {"f32": False, "int8": True})
        self.assertFalse(version.pairs[0].HasField("memory_ratio"))
        self.assert_error(grpc.StatusCode.FAILED_PRECONDITION, "not in memory",
                          lambda: self.client.infer("alone@f32", images(1)))

    def test_a_guard_without_its_reference_is_refused(self):
        self.assert_error(grpc.StatusCode.FAILED_PRECONDITION, "octet.reference.residency is 'never'",
                          lambda: self.client.infer("never", images(1)))

    def test_a_sampled_reference_comes_and_goes(self):
        self.assertFalse(self.client.pair("sampled").reference_in_memory)
        self.client.infer("sampled", images(2))
        deadline = time.monotonic() + SECONDS
        while self.client.pair("sampled").compared < 32:
            self.assertLess(time.monotonic(), deadline)
            if self.client.pair("sampled").waiting < 40:
                self.client.infer("sampled", images(2))
        self.await_true(lambda: self.logged("reference evicted", model="sampled"))
        self.await_true(lambda: not self.client.pair("sampled").reference_in_memory)
        self.assertEqual(self.client.infer("sampled", images(1))[0], "int8")

    def test_memory_pressure_evicts_the_reference_first(self):
        self.await_true(lambda: self.logged("reference evicted", model="tight"))
        (line,) = self.logged("reference evicted", model="tight")
        self.assertIn("octet.memory.limit_bytes is 1000", line["why"])
        self.assertFalse(self.client.pair("tight").reference_in_memory)
        self.assertEqual(self.client.infer("tight", images(1))[0], "int8")
        self.await_true(lambda: self.client.pair("tight").dropped >= 1)
        metrics = self.server.metrics()
        self.assertGreaterEqual(metrics["octet_reference_evictions_total", frozenset()], 1)

    def test_compare_runs_over_the_calibration_folder_and_uploads(self):
        events = list(self.octet.Compare(v1.CompareRequest(model="watched")))
        self.assertTrue(events[0].HasField("progress"))
        self.assertEqual(events[0].progress.samples_total, 20)
        result = events[-1].result
        self.assertEqual((result.samples, result.reference), (20, "f32"))
        variants = {v.variant: v for v in result.variants}
        self.assertEqual(set(variants), {"f32", "int8"})
        self.assertEqual(variants["int8"].outputs[0].rows, 20)
        self.assertGreater(variants["int8"].outputs[0].sqnr_db.value, 10)
        self.assertGreater(variants["f32"].p50_cpu_seconds, 0)
        self.assertLess(variants["int8"].memory.weights, variants["f32"].memory.weights)
        data = [images(1, i) for i in range(6)]
        labels = [int(self.client.infer("watched@f32", d)[1].argmax()) for d in data]
        uploads = [v1.UploadedSample(inputs=[d.tobytes()]) for d in data]
        result = list(self.octet.Compare(v1.CompareRequest(model="watched", samples=uploads, labels=labels)))[-1].result
        variants = {v.variant: v for v in result.variants}
        self.assertEqual(variants["f32"].top1_accuracy, 1)
        self.assertEqual(variants["f32"].top5_accuracy, 1)
        code, short = grpc.StatusCode, [v1.UploadedSample(inputs=[b"1234"])]
        self.assert_error(code.INVALID_ARGUMENT, "samples[0]: input 'image' needs a multiple of 3136 bytes",
                          lambda: list(self.octet.Compare(v1.CompareRequest(model="watched", samples=short))))
        self.assert_error(code.NOT_FOUND, "calibration", lambda: list(
            self.octet.Compare(v1.CompareRequest(model="canary"))))
        self.assert_error(code.FAILED_PRECONDITION, "not in memory", lambda: list(
            self.octet.Compare(v1.CompareRequest(model="alone", samples=uploads))))

    def test_command_line(self):
        def octet(*words):
            return subprocess.run([args.octet, *words, f"--address={self.server.grpc_address}"], capture_output=True,
                                  text=True, check=False)
        shown = octet("variants")
        self.assertEqual(shown.returncode, 0, shown.stderr)
        for text in ("watched version 1", "int8", "primary", "int8 against f32"):
            self.assertIn(text, shown.stdout)
        self.assertEqual(json.loads(octet("variants", "--as-json").stdout)["server"]["slots"], 1)
        done = octet("set", "guard", "watched", "--min-sqnr-db=1", "--recovery=manual")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("guard: watching", done.stdout)
        done = octet("set", "guard", "watched", "--min-sqnr-db=none")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertFalse(self.client.pair("watched").HasField("guard"))
        replayed = octet("replay", "watched", "int8", "--max-samples=7")
        self.assertEqual(replayed.returncode, 0, replayed.stderr)
        self.assertIn("7 samples, against f32", replayed.stdout)
        wrong = octet("set", "primary", "watched", "int3")
        self.assertEqual(wrong.returncode, 1)
        self.assertIn("no variant 'int3'", wrong.stderr)

    @unittest.skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_metrics_pass_the_linter(self):
        self.client.infer("watched", images(1))
        text = self.server.get("/metrics", self.server.metrics_address)[1]
        lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        self.assertEqual(lint.returncode, 0, lint.stdout + lint.stderr)

    def test_zz_series_vanish_with_the_model(self):
        self.server.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="drifting"))
        self.await_true(lambda: not [key for key in self.server.metrics() if ("model", "drifting") in key[1]])


if __name__ == "__main__":
    Repository("twin")
    break_scales(Repository.twin, os.path.join(work, "broken.onnx"))
    unittest.main(argv=[sys.argv[0], *rest])
