#!/usr/bin/python3
"""The installed package against a real `octet serve`, and its conversions on bytes written by hand."""
import asyncio
import os
import struct
import sys
import unittest

import grpc
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import installed  # noqa: E402
import octet_client  # noqa: E402
from octet_client import AsyncClient, Client, InferRequest, OctetError, _calls, _tensors  # noqa: E402


def images(rows, seed=1):
    return np.random.default_rng(seed).random((rows, 1, 28, 28), dtype=np.float32)


class PackageTest(unittest.TestCase):
    def test_is_installed_typed_and_whole(self):
        folder = os.path.dirname(octet_client.__file__)
        self.assertTrue(folder.startswith(installed.site), folder)
        self.assertTrue(os.path.exists(os.path.join(folder, "py.typed")))

    def test_lives_beside_other_stubs_of_the_same_protos(self):
        # The harness's generated stubs put inference.* into protobuf's default pool, as tritonclient does.
        messages, _ = installed.harness.make_stubs(installed.args.source, os.path.join(installed.work, "stubs"))
        foreign = messages.ModelInferRequest(model_name="a", model_version="", id="")
        self.assertEqual(_calls.request_message(InferRequest("a", {})).SerializeToString(),
                         foreign.SerializeToString())


class TensorTest(unittest.TestCase):
    def test_every_dtype_round_trips(self):
        for dtype in ("?", "i1", "<i2", "<i4", "<i8", "u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", ">f4", ">i8"):
            array = np.arange(6).reshape(2, 3).astype(dtype)
            datatype, raw = _tensors.to_wire("x", array)
            np.testing.assert_array_equal(_tensors.from_raw(datatype, (2, 3), raw), array, err_msg=dtype)

    def test_strided_input_is_sent_in_row_order(self):
        _, raw = _tensors.to_wire("x", np.arange(6, dtype=np.uint8).reshape(2, 3).T)
        self.assertEqual(raw, bytes([0, 3, 1, 4, 2, 5]))

    def test_scalar_and_empty(self):
        self.assertEqual(_tensors.to_wire("x", np.float32(1)), ("FP32", struct.pack("<f", 1)))
        self.assertEqual(_tensors.from_raw("FP32", (0, 3), b"").shape, (0, 3))

    def test_bytes(self):
        datatype, raw = _tensors.to_wire("x", np.array(["a", "", "häh"]))
        self.assertEqual((datatype, raw), ("BYTES", b"\x01\0\0\0a" + b"\0\0\0\0" + b"\x04\0\0\0h\xc3\xa4h"))
        self.assertEqual(list(_tensors.from_raw("BYTES", (3,), raw)), [b"a", b"", "häh".encode()])

    def test_bf16_becomes_float32(self):
        out = _tensors.from_raw("BF16", (2,), struct.pack("<HH", 0x3f80, 0xc000))
        np.testing.assert_array_equal(out, np.array([1, -2], np.float32))

    def test_bad_bytes_are_named(self):
        for datatype, shape, raw, text in (("FP32", (2,), b"1234", "takes 8 bytes, got 4"),
                                           ("BF16", (3,), b"1234", "has 3 elements, got 2"),
                                           ("BYTES", (1,), b"\x09\0\0\0ab", "says 9 bytes, 2 are left"),
                                           ("BYTES", (2,), b"\0\0\0\0", "ends after 1 of 2"),
                                           ("BYTES", (0,), b"abc", "leaves 3 bytes over"),
                                           ("FP8", (1,), b"a", "unknown datatype 'FP8'")):
            with self.assertRaisesRegex(ValueError, text):
                _tensors.from_raw(datatype, shape, raw)

    def test_foreign_dtype_is_refused_by_name(self):
        with self.assertRaisesRegex(TypeError, "input 'x' has dtype complex64"):
            _tensors.to_wire("x", np.zeros(1, np.complex64))
        with self.assertRaisesRegex(TypeError, "input 'x' holds a float"):
            _tensors.to_wire("x", np.array([1.5], object))


class TargetTest(unittest.TestCase):
    def test_targets(self):
        self.assertEqual(_calls.target_of("dns:///octet:8001"), "dns:///octet:8001")
        self.assertEqual(_calls.target_of(["octet:8001"]), "octet:8001")
        self.assertEqual(_calls.target_of(["10.0.0.1:1", "10.0.0.2:2"]), "ipv4:10.0.0.1:1,10.0.0.2:2")
        self.assertEqual(_calls.target_of(["[::1]:1", "[::2]:2"]), "ipv6:[::1]:1,[::2]:2")
        for servers, text in (([], "no server"), (["a:1", "b:1"], "'a:1' is not IP:PORT"),
                              (["[::1]:1", "10.0.0.1:1"], "mixed")):
            with self.assertRaisesRegex(ValueError, text):
                _calls.target_of(servers)


class ServerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = installed.start_server(installed.make_repository("int8"))
        cls.addClassCleanup(cls.server.stop)
        cls.address = cls.server.grpc_address
        cls.client = Client(cls.address)
        cls.addClassCleanup(cls.client.close)
        metadata = cls.client.metadata("fashion")
        cls.metadata, cls.input, cls.output = metadata, metadata.inputs[0].name, metadata.outputs[0].name

    def test_health_and_metadata(self):
        self.assertTrue(self.client.live())
        self.assertTrue(self.client.ready())
        self.assertTrue(self.client.model_ready("fashion@int8"))
        self.assertEqual(self.client.server_metadata().name, "octet")
        self.assertEqual(self.metadata.versions, ("1",))
        self.assertEqual(self.metadata.inputs[0].shape, (-1, 1, 28, 28))
        self.assertEqual(self.metadata.inputs[0].datatype, "FP32")
        self.assertEqual({m.name: m.state for m in self.client.index()},
                         {"fashion": "READY", "fashion@f32": "READY", "fashion@int8": "READY"})

    def test_variants_answer_and_say_so(self):
        data = images(3)
        exact = self.client.infer("fashion", {self.input: data}, id="seven")
        self.assertEqual((exact.variant, exact.id, exact.model), ("f32", "seven", "fashion"))
        self.assertEqual(exact[self.output].shape, (3, 10))
        named = self.client.infer("fashion@int8", {self.input: data}, outputs=[self.output])
        asked = self.client.infer("fashion", {self.input: data}, variant="int8")
        self.assertEqual((named.variant, asked.variant), ("int8", "int8"))
        np.testing.assert_array_equal(named[self.output], asked[self.output])
        difference = np.abs(asked[self.output] - exact[self.output]).max()
        self.assertGreater(difference, 0)  # another network answered
        # And the same numbers as a client with generated stubs gets.
        np.testing.assert_array_equal(self.server.infer("fashion", {self.input: data})[self.output],
                                      exact[self.output])

    def test_statistics_count_rows(self):
        def rows():
            return {s.name: s.inference_count for s in self.client.statistics("fashion@int8")}
        before = rows()
        self.client.infer("fashion@int8", {self.input: images(5)})
        after = rows()
        self.assertEqual(sum(after.values()) - sum(before.values()), 5)
        memory = self.client.statistics("fashion@int8")[0].memory_bytes
        self.assertGreater(memory["weights"], 100_000)

    def test_errors_carry_code_and_reason(self):
        with self.assertRaises(OctetError) as raised:
            self.client.infer("nobody", {self.input: images(1)})
        self.assertEqual(raised.exception.code, grpc.StatusCode.NOT_FOUND)
        self.assertIn("nobody", raised.exception.message)
        self.assertTrue(raised.exception.reason)
        with self.assertRaises(OctetError) as raised:
            self.client.infer("fashion", {self.input: images(1)[:, :, :5]})
        self.assertEqual(raised.exception.code, grpc.StatusCode.INVALID_ARGUMENT)
        with self.assertRaises(OctetError) as raised:
            self.client.infer("fashion", {self.input: images(1)}, timeout=-1)
        self.assertEqual(raised.exception.code, grpc.StatusCode.DEADLINE_EXCEEDED)
        with self.assertRaisesRegex(TypeError, "parameter 'x' is a list"):
            self.client.infer("fashion", {self.input: images(1)}, parameters={"x": []})

    def test_parameters_reach_the_server(self):
        with self.assertRaisesRegex(OctetError, "timeout"):  # Octet wants a number of microseconds
            self.client.infer("fashion", {self.input: images(1)}, parameters={"timeout": "soon"})

    def test_unreachable_server(self):
        with Client("127.0.0.1:1") as client, self.assertRaises(OctetError) as raised:
            client.live(timeout=5)
        self.assertIn(raised.exception.code, (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED))

    def expected(self, count):
        return [self.client.infer("fashion", {self.input: images(1, seed)})[self.output] for seed in range(count)]

    def requests(self, count, bad=None):
        for seed in range(count):
            yield InferRequest("nobody" if seed == bad else "fashion", {self.input: images(1, seed)}, id=str(seed))

    def check_stream(self, answers, bad):
        self.assertEqual(len(answers), 40)
        for seed, (answer, expected) in enumerate(zip(answers, self.expected(40), strict=True)):
            if seed == bad:
                self.assertIsInstance(answer, OctetError)
                continue
            self.assertEqual(answer.id, str(seed))
            # Rows do not mix: batched with others, float results differ by rounding at most.
            np.testing.assert_allclose(answer[self.output], expected, rtol=1e-4, atol=1e-5)

    def test_stream_keeps_order_and_survives_a_bad_request(self):
        self.check_stream(list(self.client.stream(self.requests(40, bad=17), in_flight=7)), 17)

    def test_stream_reads_no_more_than_it_may(self):
        taken = []

        def source():
            for request in self.requests(40):
                taken.append(request)
                yield request
        answers = self.client.stream(source(), in_flight=4)
        next(answers)
        self.assertLessEqual(len(taken), 5)
        answers.close()
        with self.assertRaisesRegex(ValueError, "at least 1, got 0"):
            next(self.client.stream([], in_flight=0))

    def test_asyncio(self):
        async def run():
            async with AsyncClient(self.address) as client:
                self.assertTrue(await client.ready())
                self.assertTrue(await client.model_ready("fashion"))
                self.assertEqual((await client.metadata("fashion")), self.metadata)
                self.assertEqual(len(await client.index()), 3)
                results = await asyncio.gather(*(client.infer("fashion", {self.input: images(1, seed)},
                                                              variant="int8") for seed in range(20)))
                self.assertEqual({r.variant for r in results}, {"int8"})
                with self.assertRaises(OctetError) as raised:
                    await client.infer("nobody", {self.input: images(1)})
                self.assertEqual(raised.exception.code, grpc.StatusCode.NOT_FOUND)
                self.check_stream([a async for a in client.stream(self.requests(40, bad=3), in_flight=7)], 3)
                self.assertTrue((await client.statistics("fashion"))[0].inference_count)
        asyncio.run(run())

    # ---- octet.v1

    def test_variants_tell_what_compression_saves(self):
        (version,) = self.client.variants("fashion")
        figures = {v.name: v for v in version.variants}
        self.assertEqual((version.primary, version.reference, set(figures)), ("f32", "f32", {"f32", "int8"}))
        self.assertTrue(figures["int8"].in_memory)
        ratio = figures["int8"].memory_bytes["weights"] / figures["f32"].memory_bytes["weights"]
        self.assertTrue(0.2 < ratio < 0.35, ratio)
        self.assertEqual(figures["int8"].memory_bytes["weights"],
                         self.client.statistics("fashion@int8")[0].memory_bytes["weights"])

    def check_comparison(self, comparison, samples):
        self.assertEqual((comparison.reference, comparison.samples), ("f32", len(samples)))
        (agreement,) = comparison["int8"].outputs
        self.assertEqual((agreement.output, agreement.rows), (self.output, len(samples)))
        # The same from answers to these samples.
        exact, coarse = ([self.client.infer("fashion", s, variant=v)[self.output] for s in samples]
                         for v in ("f32", "int8"))
        equal = np.mean([a.argmax() == b.argmax() for a, b in zip(exact, coarse, strict=True)])
        self.assertAlmostEqual(agreement.top1_agreement.value, equal)
        signal = sum(float((a.astype(np.float64) ** 2).sum()) for a in exact)
        noise = sum(float(((a.astype(np.float64) - b) ** 2).sum()) for a, b in zip(exact, coarse, strict=True))
        self.assertAlmostEqual(agreement.sqnr_db.value, 10 * np.log10(signal / noise), delta=0.1)
        self.assertEqual(comparison["f32"].outputs, ())
        self.assertGreater(comparison["int8"].p50_cpu_seconds, 0)
        self.assertEqual(comparison["f32"].top1_accuracy, 1)  # labels are its own answers
        self.assertAlmostEqual(comparison["int8"].top1_accuracy, equal)

    def samples(self, count):
        samples = [{self.input: images(1, seed)} for seed in range(count)]
        labels = [int(self.client.infer("fashion@f32", s)[self.output].argmax()) for s in samples]
        return samples, labels

    def test_compare(self):
        samples, labels = self.samples(40)
        seen = []
        self.check_comparison(self.client.compare("fashion", samples, labels=labels,
                                                  progress=lambda done, total: seen.append((done, total))), samples)
        self.assertTrue(all(total == 40 for _, total in seen), seen)

    def test_compare_refuses_samples_by_name(self):
        with self.assertRaisesRegex(ValueError, r"sample 0 has inputs \['pixels'\], the model \['image'\]"):
            self.client.compare("fashion", [{"pixels": images(1)}])
        with self.assertRaisesRegex(TypeError, "sample 1: input 'image' is FP64, the model's is FP32"):
            self.client.compare("fashion", [{"image": images(1)}, {"image": images(1).astype(float)}])
        with self.assertRaises(OctetError) as raised:
            self.client.compare("nobody", timeout=30)
        self.assertEqual(raised.exception.code, grpc.StatusCode.NOT_FOUND)

    def test_primary_weights_guard_and_windows(self):
        self.addCleanup(self.client.set_primary, "fashion", "f32")
        self.assertEqual(self.client.set_primary("fashion", "int8").primary, "int8")
        self.assertEqual(self.client.infer("fashion", {self.input: images(1)}).variant, "int8")
        weights = self.client.set_weights("fashion", {"f32": 0.5, "int8": 0.5}).weights
        self.assertEqual(weights, {"f32": 0.5, "int8": 0.5})
        answered = {self.client.infer("fashion", {self.input: images(1)}).variant for _ in range(60)}
        self.assertEqual(answered, {"f32", "int8"})
        with self.assertRaises(OctetError) as raised:
            self.client.set_weights("fashion", {"f32": 0.5})
        self.assertEqual(raised.exception.code, grpc.StatusCode.INVALID_ARGUMENT)
        self.client.set_weights("fashion", {})
        (pair,) = self.client.set_guard("fashion", min_top1_agreement=0.25, compare_fraction=0.001).pairs
        self.assertEqual((pair.variant, pair.guard.min_top1_agreement, pair.guard.min_sqnr_db), ("int8", 0.25, None))
        (pair,) = self.client.reset_windows("fashion").pairs
        self.assertEqual(pair.outputs, ())

    def test_octet_service_from_asyncio(self):
        async def run():
            samples, labels = self.samples(20)
            async with AsyncClient(self.address) as client:
                self.check_comparison(await client.compare("fashion", samples, labels=labels), samples)
                self.assertEqual([v.model for v in await client.variants()], ["fashion"])
                self.assertEqual((await client.reset_windows("fashion")).model, "fashion")
        asyncio.run(run())

    def test_load_and_unload(self):
        with Client(self.address) as client:
            client.unload("fashion")
            self.assertFalse(client.model_ready("fashion"))
            client.load("fashion")
            self.assertTrue(client.model_ready("fashion"))


class MemoryLimitTest(unittest.TestCase):
    def test_a_model_that_does_not_fit_is_refused_and_the_server_lives(self):
        server = installed.start_server(installed.make_repository(), "--memory-limit-bytes=20000000")
        self.addCleanup(server.stop)
        with Client(server.grpc_address) as client:
            self.assertTrue(client.live())
            reasons = {m.name: m.reason for m in client.index()}
            self.assertIn("the limit is 20000000", reasons["fashion@f32"])
            with self.assertRaisesRegex(OctetError, "the limit is 20000000"):
                client.infer("fashion", {"image": images(1)})


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *installed.rest])
