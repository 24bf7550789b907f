#!/usr/bin/env python3
"""ModelStreamInfer as a foreign client uses it: a generator of requests in, answers in order out.

usage: stream_test.py --octet BINARY --source SOURCE
"""
import argparse
import pathlib
import queue
import shutil
import sys
import tempfile
import threading
import time
import unittest

import grpc
import numpy as np

parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
args, rest = parser.parse_known_args()
sys.path.insert(0, str(pathlib.Path(args.source) / "tests"))
import harness  # noqa: E402  pylint: disable=wrong-import-position

work = pathlib.Path(tempfile.mkdtemp(prefix="octet_stream_"))
pb, services = harness.make_stubs(args.source, work / "stubs")


class Feed:
    """An iterator of requests that a test fills and closes."""

    def __init__(self):
        self.items = queue.Queue()

    def send(self, request):
        self.items.put(request)

    def close(self):
        self.items.put(None)

    def __iter__(self):
        return iter(self.items.get, None)


class StreamTest(unittest.TestCase):
    def setUp(self):
        repository = work / "models"
        shutil.rmtree(repository, ignore_errors=True)
        (repository / "fashion" / "1").mkdir(parents=True)
        shutil.copy(pathlib.Path(args.source) / "models/fashion-mnist/model.onnx", repository / "fashion/1/model.onnx")
        self.server = harness.Server(args.octet, repository, (pb, services))
        self.addCleanup(self.server.stop)
        self.server.await_ready()
        self.stub = self.server.stub
        self.input = self.stub.ModelMetadata(pb.ModelMetadataRequest(name="fashion")).inputs[0].name
        self.images = np.random.default_rng(3).random((40, 1, 28, 28), np.float32)

    def request(self, i, name="fashion"):
        request = pb.ModelInferRequest(model_name=name, id=f"image {i}")
        request.inputs.add(name=self.input, datatype="FP32", shape=[1, 1, 28, 28])
        request.raw_input_contents.append(self.images[i].tobytes())
        return request

    def logits(self, response):
        return np.frombuffer(response.raw_output_contents[0], np.float32)

    def test_answers_equal_those_of_calls_and_are_batched_and_counted(self):
        alone = [self.logits(self.stub.ModelInfer(self.request(i))) for i in range(40)]
        name = ("octet_requests_total", frozenset({("model", "fashion"), ("version", "1"), ("variant", "f32"),
                                                   ("outcome", "ok")}))
        before = self.server.metrics()[name]
        answers = list(self.stub.ModelStreamInfer(iter([self.request(i) for i in range(40)])))
        self.assertEqual([a.infer_response.id for a in answers], [f"image {i}" for i in range(40)])
        for answer, expected in zip(answers, alone):
            self.assertEqual(answer.error_message, "")
            self.assertEqual(answer.infer_response.parameters["variant"].string_param, "f32")
            np.testing.assert_allclose(self.logits(answer.infer_response), expected, rtol=1e-4, atol=1e-4)
        self.assertEqual(self.server.metrics()[name] - before, 40)
        statistics = self.stub.ModelStatistics(pb.ModelStatisticsRequest(name="fashion@f32")).model_stats[0]
        self.assertEqual(statistics.inference_count, 80)
        self.assertLess(statistics.execution_count, 80, "messages that wait together run together")

    def test_an_error_is_one_answer_and_the_stream_goes_on(self):
        feed = Feed()
        stream = self.stub.ModelStreamInfer(iter(feed))
        feed.send(self.request(0, "resnet"))
        answer = next(stream)
        self.assertIn("unknown model 'resnet'", answer.error_message)
        self.assertEqual(answer.infer_response.id, "image 0")
        self.assertEqual(answer.infer_response.parameters["octet-code"].string_param, "NOT_FOUND")
        self.assertEqual(answer.infer_response.parameters["octet-reason"].string_param, "not_found")
        hurried = self.request(1)
        hurried.inputs[0].shape[0] = 2
        feed.send(hurried)
        self.assertIn("raw content has", next(stream).error_message)
        feed.send(self.request(2))
        self.assertEqual(next(stream).infer_response.id, "image 2")
        feed.close()
        self.assertEqual(list(stream), [])
        self.assertEqual(stream.code(), grpc.StatusCode.OK)

    def test_cancelling_frees_the_server(self):
        feed = Feed()
        stream = self.stub.ModelStreamInfer(iter(feed))
        feed.send(self.request(0))
        next(stream)
        for i in range(20):
            feed.send(self.request(i))
        stream.cancel()
        feed.close()
        with self.assertRaises(grpc.RpcError) as raised:
            list(stream)
        self.assertEqual(raised.exception.code(), grpc.StatusCode.CANCELLED)
        deadline = time.monotonic() + 30
        while self.server.metrics()["octet_requests_in_flight_bytes", frozenset()] > 0:
            self.assertLess(time.monotonic(), deadline, "bytes of a cancelled stream stay counted")
            time.sleep(0.05)
        self.assertEqual(len(list(self.stub.ModelStreamInfer(iter([self.request(1)])))), 1)

    def test_a_deadline_ends_the_stream(self):
        feed = Feed()
        stream = self.stub.ModelStreamInfer(iter(feed), timeout=0.5)
        feed.send(self.request(0))
        self.assertEqual(next(stream).error_message, "")
        with self.assertRaises(grpc.RpcError) as raised:
            next(stream)
        feed.close()
        self.assertEqual(raised.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)

    def test_sigterm_answers_and_ends_open_streams(self):
        feed, idle = Feed(), Feed()
        stream, waiting = self.stub.ModelStreamInfer(iter(feed)), self.stub.ModelStreamInfer(iter(idle))
        for i in range(30):
            feed.send(self.request(i))
        idle.send(self.request(0))
        next(waiting)
        answers = [next(stream) for _ in range(30)]
        self.assertEqual([a.error_message for a in answers], [""] * 30)
        stop = threading.Thread(target=self.server.terminate)
        stop.start()
        for each in (stream, waiting):
            with self.assertRaises(grpc.RpcError) as raised:
                next(each)
            self.assertEqual(raised.exception.code(), grpc.StatusCode.UNAVAILABLE)
            self.assertIn("draining", raised.exception.details())
        feed.close()
        idle.close()
        stop.join()
        self.assertEqual(self.server.process.wait(30), 0)


if __name__ == "__main__":
    try:
        unittest.main(argv=[sys.argv[0], *rest], verbosity=2)
    finally:
        shutil.rmtree(work, ignore_errors=True)
