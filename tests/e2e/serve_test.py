#!/usr/bin/python3
"""A foreign gRPC client against a real `octet serve`: the protocol, its bytes, errors, metrics, memory, draining.

    serve_test.py --octet PROGRAM --source REPOSITORY
"""
import argparse
import concurrent.futures
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

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import harness  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
args, rest = parser.parse_known_args()
work = tempfile.mkdtemp(prefix="octet_e2e_")
pb, pb_grpc = harness.make_stubs(args.source, work)
MODEL = os.path.join(args.source, "models", "fashion-mnist", "model.onnx")


def images(rows, seed=1):
    return np.random.default_rng(seed).random((rows, 1, 28, 28), dtype=np.float32)


def build_repository():
    """fashion: f32 and int8; stale: an int8 twin of another file; broken: no model at all."""
    root = os.path.join(work, "repository")
    for model in ("fashion", "stale", "broken"):
        os.makedirs(os.path.join(root, model, "1"))
    original = os.path.join(root, "fashion", "1", "model.onnx")
    twin = os.path.join(root, "fashion", "1", "model.int8.onnx")
    shutil.copy(MODEL, original)
    samples = os.path.join(work, "samples.npy")
    np.save(samples, images(256))
    made = subprocess.run([args.octet, "compress", original, f"--calibration={samples}", f"--out={twin}",
                           "--scheme=int8"],
                          capture_output=True, text=True, check=False)
    if made.returncode != 0:
        raise RuntimeError(f"octet compress failed: {made.stdout}{made.stderr}")
    # The same network in other bytes: a field that no reader knows (number 200) behind it.
    with open(original, "rb") as source, open(os.path.join(root, "stale", "1", "model.onnx"), "wb") as changed:
        changed.write(source.read() + b"\xc0\x0c\x01")
    shutil.copy(twin, os.path.join(root, "stale", "1", "model.int8.onnx"))
    with open(os.path.join(root, "broken", "1", "model.onnx"), "wb") as broken:
        broken.write(b"\x08\x07 this is no model")
    return root


class ServeTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(args.octet, build_repository(), (pb, pb_grpc), "--max-message-bytes=4194304")
        cls.addClassCleanup(cls.server.stop)
        cls.server.await_ready()
        cls.stub = pb_grpc.GRPCInferenceServiceStub(cls.server.channel)
        metadata = cls.stub.ModelMetadata(pb.ModelMetadataRequest(name="fashion"))
        cls.input, cls.output = metadata.inputs[0].name, metadata.outputs[0].name

    def request(self, data, model="fashion", raw=True, **fields):
        request = pb.ModelInferRequest(model_name=model, **fields)
        tensor = request.inputs.add(name=self.input, datatype="FP32", shape=list(data.shape))
        if raw:
            request.raw_input_contents.append(data.tobytes())
        else:
            tensor.contents.fp32_contents.extend(data.ravel().tolist())
        return request

    def infer(self, data, model="fashion", **fields):
        return self.stub.ModelInfer(self.request(data, model, **fields))

    @staticmethod
    def values(response):
        return np.frombuffer(response.raw_output_contents[0], np.float32).reshape(response.outputs[0].shape)

    def assert_error(self, code, reason, *texts, call=None):
        with self.assertRaises(grpc.RpcError) as raised:
            call()
        error = raised.exception
        self.assertEqual(error.code(), code, error.details())
        for text in texts:
            self.assertIn(text, error.details())
        if reason is not None:
            self.assertEqual(dict(error.trailing_metadata()).get("octet-reason"), reason)

    # ---- what the server says about itself

    def test_live_ready_metadata(self):
        self.assertTrue(self.stub.ServerLive(pb.ServerLiveRequest()).live)
        self.assertTrue(self.stub.ServerReady(pb.ServerReadyRequest()).ready)
        metadata = self.stub.ServerMetadata(pb.ServerMetadataRequest())
        self.assertEqual(metadata.name, "octet")
        self.assertIn("statistics", metadata.extensions)
        self.assertIn("model_repository", metadata.extensions)
        self.assertTrue(self.stub.ModelReady(pb.ModelReadyRequest(name="fashion")).ready)
        self.assertTrue(self.stub.ModelReady(pb.ModelReadyRequest(name="fashion@int8", version="1")).ready)
        self.assertFalse(self.stub.ModelReady(pb.ModelReadyRequest(name="broken")).ready)
        model = self.stub.ModelMetadata(pb.ModelMetadataRequest(name="fashion"))
        self.assertEqual(list(model.versions), ["1"])
        self.assertEqual(list(model.inputs[0].shape), [-1, 1, 28, 28])
        self.assertEqual(model.inputs[0].datatype, "FP32")

    def test_config(self):
        config = self.stub.ModelConfig(pb.ModelConfigRequest(name="fashion")).config
        self.assertEqual(config.max_batch_size, 32)
        self.assertEqual(list(config.input[0].dims), [1, 28, 28])
        self.assertTrue(config.HasField("dynamic_batching"))

    def test_index_lists_variants_and_reasons(self):
        index = {m.name: m for m in self.stub.RepositoryIndex(pb.RepositoryIndexRequest()).models}
        for name in ("fashion", "fashion@f32", "fashion@int8", "stale", "stale@f32"):
            self.assertEqual(index[name].state, "READY", index[name].reason)
        self.assertEqual(index["stale@int8"].state, "UNAVAILABLE")
        self.assertIn("stale twin", index["stale@int8"].reason)
        self.assertEqual(index["broken"].state, "UNAVAILABLE")
        self.assertTrue(index["broken"].reason)
        ready = {m.name for m in self.stub.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models}
        self.assertIn("fashion@int8", ready)
        self.assertNotIn("broken", ready)

    def raw_call(self, method, payload, stream=False):
        """A call with no generated code at all: bytes to bytes."""
        if stream:
            return self.server.channel.stream_stream(method)(iter([payload]))
        return self.server.channel.unary_unary(method)(payload)

    def test_health_bytes(self):
        check = "/grpc.health.v1.Health/Check"
        self.assertEqual(self.raw_call(check, b""), b"\x08\x01")  # status: SERVING
        self.assertEqual(self.raw_call(check, b"\x0a\x07fashion"), b"\x08\x01")
        self.assertEqual(self.raw_call(check, b"\x0a\x06broken"), b"\x08\x02")

    def test_reflection(self):
        method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
        answer = next(self.raw_call(method, b"\x3a\x00", stream=True))  # list_services: ""
        self.assertIn(b"inference.GRPCInferenceService", answer)

    def test_http_health(self):
        self.assertEqual(self.server.get("/v2/health/live")[0], 200)
        self.assertEqual(self.server.get("/v2/health/ready")[0], 200)
        self.assertEqual(self.server.get("/v2/models/fashion/ready")[0], 200)
        self.assertEqual(self.server.get("/v2/models/fashion@int8/versions/1/ready")[0], 200)
        self.assertEqual(self.server.get("/v2/models/broken/ready")[0], 503)
        self.assertEqual(self.server.get("/v2/models/nothing/ready")[0], 404)
        self.assertEqual(self.server.get("/etc/passwd")[0], 404)

    # ---- inference

    def test_infer_bytes_on_the_wire(self):
        """Request written and response read byte by byte, as the protocol defines them."""
        data = images(1)

        def field(number, payload):
            assert len(payload) < 1 << 14
            size = len(payload)
            length = bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])
            return bytes([number << 3 | 2]) + length + payload

        tensor = field(1, self.input.encode()) + field(2, b"FP32") + field(3, bytes([1, 1, 28, 28]))
        request = field(1, b"fashion@f32") + field(3, b"wire") + field(5, tensor) + field(7, data.tobytes())
        answer = self.raw_call("/inference.GRPCInferenceService/ModelInfer", request)
        expected = self.values(self.infer(data, "fashion@f32"))
        start = (field(1, b"fashion@f32") + field(2, b"1") + field(3, b"wire") +
                 field(4, field(1, b"variant") + field(2, field(3, b"f32"))) +
                 field(5, field(1, self.output.encode()) + field(2, b"FP32") + field(3, bytes([1, 10]))))
        self.assertEqual(answer, start + field(6, expected.tobytes()))

    def test_raw_and_typed_contents_agree(self):
        data = images(3)
        raw, typed = self.infer(data), self.infer(data, raw=False)
        np.testing.assert_array_equal(self.values(raw), self.values(typed))

    def test_addressing(self):
        data = images(2)
        f32, int8 = self.infer(data, "fashion@f32"), self.infer(data, "fashion@int8")
        self.assertEqual(f32.parameters["variant"].string_param, "f32")
        self.assertEqual(int8.parameters["variant"].string_param, "int8")
        self.assertEqual(int8.model_name, "fashion@int8")
        self.assertEqual(self.infer(data).parameters["variant"].string_param, "f32")
        request = self.request(data, id="abc", model_version="1")
        request.parameters["variant"].string_param = "int8"
        by_parameter = self.stub.ModelInfer(request)
        self.assertEqual(by_parameter.parameters["variant"].string_param, "int8")
        self.assertEqual((by_parameter.model_name, by_parameter.id, by_parameter.model_version), ("fashion", "abc", "1"))
        np.testing.assert_array_equal(self.values(by_parameter), self.values(int8))
        self.assertTrue(np.any(self.values(f32) != self.values(int8)))

    def test_a_row_is_the_same_in_any_batch(self):
        data = images(32, seed=5)
        for variant, exact in (("f32", False), ("int8", True)):
            alone = np.concatenate([self.values(self.infer(data[i:i + 1], f"fashion@{variant}")) for i in range(32)])
            for rows in (2, 3, 7, 32):
                together = self.values(self.infer(data[:rows], f"fashion@{variant}"))
                if exact:
                    np.testing.assert_array_equal(together, alone[:rows], f"int8, {rows} rows")
                else:
                    np.testing.assert_allclose(together, alone[:rows], rtol=1e-4, atol=1e-4)

    def test_concurrent_clients_get_their_own_rows(self):
        data = images(64, seed=9)
        expected = np.concatenate([self.values(self.infer(data[i:i + 32], "fashion@int8")) for i in (0, 32)])

        def one(i):
            rows = 1 + i % 5
            start = i % (64 - rows)
            return start, self.values(self.infer(data[start:start + rows], "fashion@int8"))

        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            for start, got in pool.map(one, range(300)):
                np.testing.assert_array_equal(got, expected[start:start + len(got)])
        stats = self.stub.ModelStatistics(pb.ModelStatisticsRequest(name="fashion@int8")).model_stats[0]
        self.assertLess(stats.execution_count, stats.inference_stats.success.count, "no two requests were merged")

    # ---- errors

    def test_errors(self):
        code = grpc.StatusCode
        data = images(1)
        self.assert_error(code.NOT_FOUND, "not_found", "unknown model 'nothing'", call=lambda: self.infer(data, "nothing"))
        self.assert_error(code.NOT_FOUND, "not_found", "'int4'", "f32, int8",
                          call=lambda: self.infer(data, "fashion@int4"))
        self.assert_error(code.NOT_FOUND, "not_found", "version '7'",
                          call=lambda: self.infer(data, model_version="7"))
        self.assert_error(code.FAILED_PRECONDITION, "failed_precondition", call=lambda: self.infer(data, "broken"))
        self.assert_error(code.FAILED_PRECONDITION, "failed_precondition", "stale twin",
                          call=lambda: self.infer(data, "stale@int8"))
        self.assert_error(code.INVALID_ARGUMENT, "invalid_argument", f"input '{self.input}'", "[?, 1, 28, 28]",
                          "[1, 28, 28]", call=lambda: self.infer(data[0]))
        self.assert_error(code.INVALID_ARGUMENT, "invalid_argument", "33", "32", call=lambda: self.infer(images(33)))
        wrong_type = self.request(data)
        wrong_type.inputs[0].datatype = "FP64"
        self.assert_error(code.INVALID_ARGUMENT, "invalid_argument", "raw content has 3136 bytes",
                          call=lambda: self.stub.ModelInfer(wrong_type))
        both = self.request(data)
        both.inputs[0].contents.fp32_contents.append(1)
        self.assert_error(code.INVALID_ARGUMENT, "invalid_argument", call=lambda: self.stub.ModelInfer(both))
        no_such_output = self.request(data)
        no_such_output.outputs.add(name="confidence")
        self.assert_error(code.INVALID_ARGUMENT, "invalid_argument", "'confidence'", f"'{self.output}'",
                          call=lambda: self.stub.ModelInfer(no_such_output))
        self.assert_error(code.RESOURCE_EXHAUSTED, None, call=lambda: self.infer(np.zeros((2000, 784), np.float32)))
        self.assert_error(code.UNIMPLEMENTED, "unimplemented", "shared memory",
                          call=lambda: self.stub.SystemSharedMemoryStatus(pb.SystemSharedMemoryStatusRequest()))
        self.assertEqual(self.infer(data).outputs[0].shape[0], 1)

    def test_garbage_is_refused_and_serving_goes_on(self):
        method = "/inference.GRPCInferenceService/ModelInfer"
        good = self.request(images(1)).SerializeToString()
        rng = np.random.default_rng(3)
        for i in range(300):
            bad = bytearray(good[:rng.integers(1, len(good))] if i % 2 else good)
            for _ in range(1 + i % 4):
                bad[rng.integers(0, min(len(bad), 80))] = rng.integers(0, 256)
            try:
                self.raw_call(method, bytes(bad))
            except grpc.RpcError as error:
                self.assertIn(error.code(), (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND,
                                             grpc.StatusCode.UNIMPLEMENTED), error.details())
        self.assertEqual(self.infer(images(1)).outputs[0].shape[0], 1)

    # ---- numbers

    def test_metrics_count_what_happened(self):
        series = 'octet_requests_total{model="fashion",outcome="ok",variant="f32",version="1"}'
        rows = 'octet_inferences_total{model="fashion",variant="f32",version="1"}'
        before = self.server.metric_lines()
        for _ in range(5):
            self.infer(images(3), "fashion@f32")
        with self.assertRaises(grpc.RpcError):
            self.infer(images(40), "fashion@f32")
        after = self.server.metric_lines()
        self.assertEqual(after[series] - before[series], 5)
        self.assertEqual(after[rows] - before[rows], 15)
        invalid = 'octet_requests_total{model="fashion",outcome="invalid_argument",variant="f32",version="1"}'
        self.assertEqual(after[invalid] - before.get(invalid, 0), 1)
        count = 'octet_request_seconds_count{model="fashion",variant="f32",version="1"}'
        self.assertEqual(after[count] - before[count], 6)
        weights = {v: after[f'octet_weights_bytes{{model="fashion",variant="{v}",version="1"}}'] for v in ("f32", "int8")}
        self.assertLess(weights["int8"], 0.4 * weights["f32"])
        stats = self.stub.ModelStatistics(pb.ModelStatisticsRequest(name="fashion@f32")).model_stats
        self.assertEqual(len(stats), 1)
        usage = {m.type: m.byte_size for m in stats[0].memory_usage}
        self.assertEqual(usage["weights"], weights["f32"])
        self.assertEqual(usage["file"], os.path.getsize(MODEL))
        self.assertEqual(after["octet_slots"], 1)

    @unittest.skipUnless(shutil.which("promtool"), "promtool is not installed")
    def test_metrics_pass_the_linter(self):
        text = self.server.get("/metrics", self.server.metrics_address)[1]
        lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
        self.assertEqual(lint.returncode, 0, lint.stdout + lint.stderr)

    def test_logs_are_json_and_say_what_was_loaded(self):
        lines = [json.loads(line) for line in self.server.log if line.startswith("{")]
        loaded = [l for l in lines if l["message"] == "variant loaded" and l["model"] == "fashion"]
        self.assertEqual({l["variant"] for l in loaded}, {"f32", "int8"})
        for line in loaded:
            for key in ("file_bytes", "weights_bytes", "milliseconds", "isa", "threads_per_slot"):
                self.assertIn(key, line)
        self.assertTrue(any(l["message"] == "starting" and l["threads_why"] for l in lines))


def big_model(path, features=3200):
    """Three dense layers, 82 MB of weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper
    rng = np.random.default_rng(0)
    nodes, constants, last = [], [], "x"
    for i in range(2):
        weights = (rng.standard_normal((features, features)) / 50).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w{i}"))
        constants.append(numpy_helper.from_array(np.zeros(features, np.float32), f"b{i}"))
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"g{i}"]))
        nodes.append(helper.make_node("Relu", [f"g{i}"], [f"r{i}"]))
        last = f"r{i}"
    value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", features])  # noqa: E731
    graph = helper.make_graph(nodes, "big", [value("x")], [value(last)], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


class BigModelTest(unittest.TestCase):
    """One process of its own: memory told against memory measured, unloading, draining."""

    def setUp(self):
        self.root = tempfile.mkdtemp(dir=work)
        os.makedirs(os.path.join(self.root, "big", "1"))
        big_model(os.path.join(self.root, "big", "1", "model.onnx"))
        self.server = harness.Server(args.octet, self.root, (pb, pb_grpc))
        self.addCleanup(self.server.stop)
        self.server.await_ready()
        self.stub = pb_grpc.GRPCInferenceServiceStub(self.server.channel)

    def request(self, rows):
        request = pb.ModelInferRequest(model_name="big")
        request.inputs.add(name="x", datatype="FP32", shape=[rows, 3200])
        request.raw_input_contents.append(np.ones((rows, 3200), np.float32).tobytes())
        return request

    def test_reported_memory_explains_the_resident_size(self):
        for rows in (1, 8, 32, 3):
            self.stub.ModelInfer(self.request(rows))
        time.sleep(0.2)  # replies leave gRPC's buffers
        metrics = self.server.metric_lines()
        told = metrics["octet_baseline_bytes"] + metrics["octet_requests_in_flight_bytes"]
        for series, value in metrics.items():
            if series.startswith("octet_memory_bytes{") and 'kind="file"' not in series:
                told += value
        measured = self.server.resident_bytes()
        print(f"told {told / 1e6:.1f} MB, measured {measured / 1e6:.1f} MB", file=sys.stderr)
        self.assertGreater(measured, 82e6)
        self.assertAlmostEqual(told / measured, 1, delta=0.1, msg=f"told {told}, measured {measured}: {metrics}")
        self.assertAlmostEqual(metrics["octet_process_resident_bytes"] / measured, 1, delta=0.05)

    def test_unloading_returns_memory_and_series(self):
        self.stub.ModelInfer(self.request(8))
        before = self.server.resident_bytes()
        self.stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name="big"))
        metrics = self.server.metric_lines()
        self.assertFalse([s for s in metrics if 'model="big"' in s])
        self.assertGreater(before - self.server.resident_bytes(), 75e6)
        self.stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name="big"))
        self.assertEqual(self.stub.ModelInfer(self.request(2)).outputs[0].shape[0], 2)

    def test_a_deadline_in_the_queue_is_told(self):
        # 32 large requests keep the slot busy; a request with 1 us of queue time cannot make it.
        busy = [self.stub.ModelInfer.future(self.request(32)) for _ in range(32)]
        hurried = self.request(1)
        hurried.parameters["timeout"].int64_param = 1
        with self.assertRaises(grpc.RpcError) as raised:
            self.stub.ModelInfer(hurried)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertEqual(dict(raised.exception.trailing_metadata())["octet-reason"], "deadline")
        for call in busy:
            self.assertEqual(call.result().outputs[0].shape[0], 32)

    def test_sigterm_answers_what_was_accepted(self):
        calls = [self.stub.ModelInfer.future(self.request(32)) for _ in range(24)]
        # All have arrived once those answered, those waiting and the one that runs make 24.
        labels = 'model="big",variant="f32",version="1"'
        deadline = time.monotonic() + 60
        arrived = 0
        while arrived < 23:
            self.assertLess(time.monotonic(), deadline, "the requests never arrived")
            metrics = self.server.metric_lines()
            arrived = (metrics['octet_requests_total{model="big",outcome="ok",variant="f32",version="1"}'] +
                       metrics[f"octet_queue_depth{{{labels}}}"])
        self.server.terminate()
        for call in calls:
            self.assertEqual(call.result().outputs[0].shape[0], 32)
        self.assertEqual(self.server.process.wait(60), 0)
        self.server.stop()  # reads the log to its end
        self.assertTrue(any('"message":"stopped"' in line for line in self.server.log))


if __name__ == "__main__":
    try:
        unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
    finally:
        shutil.rmtree(work, ignore_errors=True)
