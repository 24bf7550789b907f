#!/usr/bin/env python3
"""What `octet compress` warns of on real networks, and that it says nothing where there is nothing to say.

usage: traps_test.py OCTET SOURCE
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

import numpy as np

OCTET, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
MODELS = SOURCE.parent / "shared" / "models"
FASHION = SOURCE / "models/fashion-mnist/model.onnx"
work = pathlib.Path(tempfile.mkdtemp(prefix="octet_traps_"))


def samples(name, shape, spike=0.0):
    """Normal random inputs, or with one element per sample of the size `spike`."""
    values = np.random.default_rng(5).standard_normal(shape).astype(np.float32)
    if spike:
        values.reshape(shape[0], -1)[:, 100] = spike
    path = work / f"{name}.npy"
    np.save(path, values)
    return f"--calibration={path}"


def compress(model, *flags, expect=0, isa=None):
    out = work / "out.onnx"
    environment = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})}
    run = subprocess.run([OCTET, "compress", str(model), f"--out={out}", "--threads=1", *flags], capture_output=True,
                         text=True, timeout=500, check=False, env=environment)
    assert run.returncode == expect, (flags, run.returncode, run.stdout, run.stderr)
    return run.stdout if expect == 0 else run.stderr


def warnings(text):
    return re.findall(r"^warning: '(.*?)': (.*)$", text, re.MULTILINE)


def metadata(key):
    run = subprocess.run([OCTET, "inspect", str(work / "out.onnx")], capture_output=True, text=True, check=True)
    shown = run.stdout
    found = re.search(rf"metadata: {re.escape(key)} = (.*?)(?=\nmetadata: |\Z)", shown, re.DOTALL)
    return found[1] if found else None


def shared(name):
    path = MODELS / name / "model.onnx"
    return unittest.skipUnless(path.exists(), f"{path} is not there"), path


has_mobilenet, MOBILENET = shared("mobilenetv2-torch-dq32")
has_vit, VIT = shared("vit-pgd-cifar10")
PER_TENSOR = work / "per-tensor.txtpb"
PER_TENSOR.write_text('name: "int8" layers { grid: "int8" group: -1 }', encoding="utf-8")


class TrapsTest(unittest.TestCase):
    @has_mobilenet
    def test_one_scale_for_depthwise_layers_names_them(self):
        given = samples("image", (4, 3, 244, 244))
        found = warnings(compress(MOBILENET, given, f"--recipe={PER_TENSOR}"))
        depthwise = [node for node, text in found if "depthwise" in text]
        self.assertGreater(len(depthwise), 3, found)
        self.assertIn(f"per-tensor\t{depthwise[0]}\tdepthwise; its channels'", metadata("ai.octet.warnings"))
        self.assertEqual(warnings(compress(MOBILENET, given, "--scheme=int8-nearest")), [])
        self.assertIsNone(metadata("ai.octet.warnings"))

    @has_vit
    def test_percentiles_that_cut_what_matters_are_refused(self):
        # One element in 3,072 is far out, and holds most of the energy: percentile 99.9 would cut it.
        outlier = samples("outlier", (12, 3, 32, 32), spike=100)
        flags = ("--scheme=int8-nearest", "--ranges=percentile", "--percentile=0.999")
        found = dict(warnings(compress(VIT, outlier, *flags)))
        self.assertIn("input", found)
        self.assertRegex(found["input"], r"^percentile cuts \[.*, 100\] to \[.*\] and with it 0\.\d+ of the energy")
        self.assertIn("clipped-range\tinput\tpercentile cuts", metadata("ai.octet.warnings"))
        self.assertEqual(warnings(compress(VIT, samples("calm", (12, 3, 32, 32)), *flags)), [])

    def test_cpus_without_vnni_are_told_and_helped(self):
        given = samples("fashion", (40, 1, 28, 28))
        shown = compress(FASHION, given, "--scheme=int8-nearest", isa="AVX512_CORE_VNNI")
        summary = r"\d+ of 14 layers overflow 16-bit sums of pairs"
        self.assertRegex(shown, rf"(?m)^(warning: )?{summary}")
        self.assertIn("stem.conv\t", metadata("ai.octet.s16_overflows"), "pairs lie across positions of one channel")
        # oneDNN held to AVX512 without VNNI is such a CPU.
        without = compress(FASHION, given, "--scheme=int8-nearest", isa="AVX512_CORE")
        self.assertRegex(without, rf"(?m)^warning: {summary}: this CPU has no VNNI")
        for flag in ("--reduced_range", "--reduced_range_where_needed"):
            helped = compress(FASHION, given, "--scheme=int8-nearest", flag, isa="AVX512_CORE")
            self.assertNotIn("16-bit sums", helped)
            self.assertIsNone(metadata("ai.octet.s16_overflows"))


class CutShortTest(unittest.TestCase):
    def test_a_recipe_that_is_cut_short_is_refused_by_name(self):
        whole = 'name: "mine" layers { grid: "int4" group: 32 } rules { position: FIRST scheme { grid: "int8" } }'
        for length in (len(whole) - 1, whole.index("32"), whole.index('int4')):
            recipe = work / "cut.txtpb"
            recipe.write_text(whole[:length], encoding="utf-8")
            error = compress(FASHION, samples("few", (8, 1, 28, 28)), f"--recipe={recipe}", expect=1)
            self.assertIn(str(recipe), error)
            self.assertIn("invalid_argument", error)

    def test_measurements_that_are_cut_short_are_refused_by_name(self):
        measured = work / "out.onnx.measured"
        whole = 'source: "0123" layers { node: "stem.conv" scheme: "int8" noise: 0.001 }'
        for length in (len(whole) - 1, whole.index("stem")):
            measured.write_text(whole[:length], encoding="utf-8")
            error = compress(FASHION, samples("few", (8, 1, 28, 28)), "--scheme=auto", expect=1)
            self.assertIn(str(measured), error)
            self.assertIn("remove it to measure anew", error)
            self.assertEqual(measured.read_text(encoding="utf-8"), whole[:length], "left to its owner")
        measured.unlink()


if __name__ == "__main__":
    try:
        unittest.main(argv=[sys.argv[0]], verbosity=2)
    finally:
        shutil.rmtree(work, ignore_errors=True)
