#!/usr/bin/python3
"""Variants that draw samples, from `octet compress --distribution_samples` to served answers.

    ensemble_test.py --octet PROGRAM --source REPOSITORY

What is served is computed again here from the file alone: codes drawn with a Philox of this file's own, each sample run in
ONNX Runtime, probabilities averaged in f64.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import grpc
import numpy as np
import onnx
from onnx import helper, numpy_helper

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
args, rest = parser.parse_known_args()
work = tempfile.mkdtemp(prefix="octet_ensemble_")
pb, pb_grpc = harness.make_stubs(args.source, work)
MODEL = os.path.join(args.source, "models", "fashion-mnist", "model.onnx")
SAMPLES, SEED = 3, 12345678901


def smooth(rows, seed):
    """Random images with the smoothness of real ones, 0 to 1."""
    x = np.random.default_rng(seed).random((rows, 1, 7, 7), dtype=np.float32)
    x = x.repeat(4, 2).repeat(4, 3)
    return ((x + np.roll(x, 1, 2) + np.roll(x, 1, 3) + np.roll(x, 2, 3)) / 4).astype(np.float32)


def philox(counter, key):
    """philox4x32 with 10 rounds on arrays of counters [n, 4]."""
    c = [counter[:, i].astype(np.uint64) for i in range(4)]
    mask = np.uint64(0xffffffff)
    k = [np.uint64(key & 0xffffffff), np.uint64(key >> 32)]
    for _ in range(10):
        a, b = c[0] * np.uint64(0xd2511f53), c[2] * np.uint64(0xcd9e8d57)
        c = [(b >> np.uint64(32)) ^ c[1] ^ k[0], b & mask, (a >> np.uint64(32)) ^ c[3] ^ k[1], a & mask]
        k = [(k[0] + np.uint64(0x9e3779b9)) & mask, (k[1] + np.uint64(0xbb67ae85)) & mask]
    return np.stack(c, 1)


def draw(model, sample):
    """A copy of the file's network with the codes of one sample; the number of codes that moved."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    tensors = {t.name: t for t in model.graph.initializer}
    producers = {n.output[0]: n for n in model.graph.node}
    moved = 0
    for node in [n for n in model.graph.node if n.op_type == "DrawWeights"]:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        decode = producers[node.input[0]]
        bits = {a.name: helper.get_attribute_value(a) for a in decode.attribute}["bits"]
        steps = numpy_helper.to_array(tensors[node.input[1]]).reshape(-1).astype(np.int64)
        element = np.arange(len(steps), dtype=np.uint64)
        block = element // np.uint64(4)
        counter = np.stack([block & np.uint64(0xffffffff), block >> np.uint64(32),
                            np.full_like(block, attributes["stream"]), np.zeros_like(block)], 1)
        random = philox(counter, SEED)[np.arange(len(steps)), (element % np.uint64(4)).astype(int)]
        random = (random + np.uint64(int(f"{sample:032b}"[::-1], 2))) & np.uint64(0xffffffff)
        takes = random.astype(object) * 2 * 127 < 2 ** 32 * np.abs(steps).astype(object)
        packed = numpy_helper.to_array(tensors[decode.input[0]])
        per_byte = 8 // bits
        codes = np.stack([packed >> (bits * i) & ((1 << bits) - 1) for i in range(per_byte)], 1).reshape(-1)
        codes[:len(steps)] += np.where(takes.astype(bool), np.sign(steps), 0).astype(np.uint8)
        moved += int(takes.sum())
        codes = codes.reshape(-1, per_byte)
        packed = sum((codes[:, i].astype(np.uint8) << (bits * i)) for i in range(per_byte)).astype(np.uint8)
        tensors[decode.input[0]].CopyFrom(numpy_helper.from_array(packed, decode.input[0]))
    return model, moved


def run(model, images):
    said = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # Debian's onnxruntime complains about operators registered twice
    try:
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    finally:
        os.dup2(said, 2)
        os.close(said)
    return session.run(["logits"], {"image": images})[0].astype(np.float64)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


class EnsembleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        root = os.path.join(work, "repository")
        folder = os.path.join(root, "fashion", "1")
        os.makedirs(folder)
        shutil.copy(MODEL, os.path.join(folder, "model.onnx"))
        samples = os.path.join(work, "samples.npy")
        np.save(samples, smooth(64, 1))
        cls.file = os.path.join(folder, "model.ternary.onnx")
        for scheme, out, flags in (("ternary", cls.file, ["--distribution_samples=2"]), ("int4", os.path.join(folder, "model.int4.onnx"), [])):
            subprocess.run([args.octet, "compress", MODEL, f"--calibration={samples}", f"--out={out}", f"--scheme={scheme}",
                            "--threads=1", *flags], check=True, capture_output=True)
        ensemble = f"ternary-mc{SAMPLES}"
        settings = {"variants": f"f32,ternary,int4,{ensemble},int4-mc4", "primary": "f32", "ensemble.seed": SEED,
                    "uncertainty.max_entropy": "0.5"}
        with open(os.path.join(root, "fashion", "config.pbtxt"), "w", encoding="ascii") as file:
            for key, value in settings.items():
                file.write(f'parameters {{ key: "octet.{key}" value {{ string_value: "{value}" }} }}\n')
        cls.server = harness.Server(args.octet, root, (pb, pb_grpc), "--slots=1", "--threads=1")
        cls.addClassCleanup(cls.server.stop)
        cls.server.await_ready()
        cls.name = f"fashion@{ensemble}"

    def infer(self, model, data, outputs=()):
        request = pb.ModelInferRequest(model_name=model)
        request.inputs.add(name="image", datatype="FP32", shape=list(data.shape))
        request.raw_input_contents.append(data.tobytes())
        for name in outputs:
            request.outputs.add(name=name)
        reply = self.server.stub.ModelInfer(request, timeout=60)
        return {o.name: np.frombuffer(raw, np.float32).reshape(o.shape)
                for o, raw in zip(reply.outputs, reply.raw_output_contents)}

    def test_answers_are_those_of_the_samples(self):
        data = smooth(16, 2)
        names = ["logits", "logits_predictive_entropy", "logits_mutual_information"]
        found = self.infer(self.name, data, names)
        model = onnx.load(self.file)
        p, moved = [], []
        for t in range(SAMPLES):
            drawn, count = draw(model, t)
            p.append(softmax(run(drawn, data)))
            moved.append(count)
        self.assertGreater(min(moved), 1000)
        mean = np.mean(p, 0)
        self.assertGreater(np.abs(p[0] - p[1]).max(), 0.01, "the samples are the same: nothing is tested")
        # The engines round activations differently by a step here and there (28.9 dB and more apart, peers' test).
        np.testing.assert_allclose(np.exp(found["logits"]), mean, atol=0.06)
        self.assertLess(np.abs(np.exp(found["logits"]) - mean).mean(), 0.006)
        entropy = -(mean * np.log(mean)).sum(-1)
        within = np.mean([-(q * np.log(q)).sum(-1) for q in p], 0)
        np.testing.assert_allclose(found["logits_predictive_entropy"], entropy, atol=0.1)
        np.testing.assert_allclose(found["logits_mutual_information"], entropy - within, atol=0.03)
        # What one answer says of itself holds exactly.
        own = np.exp(found["logits"].astype(np.float64))
        np.testing.assert_allclose(found["logits_predictive_entropy"], -(own * np.log(own)).sum(-1), atol=1e-5)

    def test_uncertainty_is_returned_only_when_named(self):
        self.assertEqual(list(self.infer(self.name, smooth(2, 3))), ["logits"])
        self.assertEqual(list(self.infer(self.name, smooth(2, 3), ["logits_predictive_entropy"])), ["logits_predictive_entropy"])
        with self.assertRaises(grpc.RpcError) as raised:
            self.infer("fashion@f32", smooth(1, 3), ["logits_predictive_entropy"])
        self.assertEqual(raised.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)

    def test_a_row_does_not_depend_on_its_batch(self):
        data = smooth(5, 4)
        whole = self.infer(self.name, data)["logits"]
        for i in range(5):
            np.testing.assert_allclose(self.infer(self.name, data[i:i + 1])["logits"][0], whole[i], atol=1e-5)

    def test_metrics_and_api_show_what_was_answered(self):
        def scrape():
            text = self.server.get("/metrics", self.server.metrics_address)[1]
            return {line.split("{")[0]: float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
                    if line.startswith("octet_") and f'variant="ternary-mc{SAMPLES}"' in line and "bucket" not in line}
        before = self.api()
        found = self.infer(self.name, smooth(20, 5), ["logits_predictive_entropy", "logits_mutual_information"])
        after, metrics = self.api(), scrape()
        self.assertEqual(int(after["answers"]) - int(before.get("answers", 0)), 20)
        total = lambda u, key: float(u.get(key, 0)) * float(u.get("answers", 0))  # noqa: E731
        got = total(after, "predictive_entropy_nats") - total(before, "predictive_entropy_nats")
        self.assertAlmostEqual(got, float(found["logits_predictive_entropy"].sum()), delta=1e-3)
        self.assertAlmostEqual(metrics["octet_predictive_entropy_nats"], float(after["predictive_entropy_nats"]), delta=1e-6)
        self.assertAlmostEqual(metrics["octet_epistemic_share"], float(after["epistemic_share"]), delta=1e-6)
        self.assertIn("octet_uncertain_answers_ratio", metrics)

    def api(self):
        versions = json.loads(self.server.get("/api/v1/variants")[1])["models"][0]["versions"]
        for variant in versions[0]["variants"]:
            if variant.get("variant", variant.get("name")) == f"ternary-mc{SAMPLES}":
                return variant.get("uncertainty", {})
        self.fail(f"no ternary-mc{SAMPLES} in {versions}")

    def test_a_file_without_a_distribution_says_so(self):
        index = self.server.stub.RepositoryIndex(pb.RepositoryIndexRequest(), timeout=30)
        reasons = {m.name: m.reason for m in index.models}
        self.assertIn("no undecided weight", reasons["fashion@int4-mc4"])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
