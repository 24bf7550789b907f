#!/usr/bin/env python3
"""Runs `octet demo --once` as a user does and checks its table against what it must show.

usage: demo_test.py OCTET     Speed is printed, not asserted: it belongs to benchmarks.
"""
import json
import pathlib
import subprocess
import sys
import tempfile

if not pathlib.Path("/usr/share/datasets/fashion-mnist").exists():
    sys.exit("dataset-fashion-mnist is not installed (deploy/packages/test.list)")
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "demo.json"
    run = subprocess.run([sys.argv[1], "demo", "--once", "--rounds=1", f"--json={path}"],
                         capture_output=True, text=True, timeout=500, check=False)
    print(run.stdout)
    assert run.returncode == 0, run.stderr
    table = {row["name"]: row for row in json.loads(path.read_text())["variants"]}
assert list(table) == ["f32", "int8"], table
f32, int8 = table["f32"], table["int8"]
assert f32["top1"] >= 0.93, f32
assert int8["top1"] >= f32["top1"] - 0.005, (f32, int8)
assert int8["agreement"] >= 0.99, int8
assert int8["weights_bytes"] <= 0.27 * f32["weights_bytes"], (f32, int8)
assert int8["file_bytes"] <= 0.3 * f32["file_bytes"], (f32, int8)
assert all(row["images_per_second"] > 0 and row["p99_ms"] >= row["p50_ms"] > 0 for row in table.values())
