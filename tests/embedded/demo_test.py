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
    rows = json.loads(path.read_text())["variants"]
table = {row["name"]: row for row in rows}
assert list(table) == ["f32", "int8", "int4", "ternary", "wide int4"], table
f32 = table["f32"]
assert f32["top1"] >= 0.93, f32


def check(name, most_lost, least_agreement, most_file, most_weights):
    """One variant against float; shares, not percent."""
    row = table[name]
    assert row["top1"] >= f32["top1"] - most_lost, (f32, row)
    assert row["agreement"] >= least_agreement, row
    assert row["file_bytes"] <= most_file * f32["file_bytes"], (f32, row)
    assert row["weights_bytes"] <= most_weights * f32["weights_bytes"], (f32, row)


check("int8", 0.005, 0.99, 0.3, 0.27)
check("int4", 0.007, 0.985, 0.16, 0.2)
check("ternary", 0.03, 0.95, 0.1, 0.15)
# What the savings buy: more accurate than the float network, in fewer bytes than its file.
wide = table["wide int4"]
assert wide["top1"] >= f32["top1"] + 0.002 and wide["file_bytes"] < f32["file_bytes"], (f32, wide)
assert all(row["images_per_second"] > 0 and row["p99_ms"] >= row["p50_ms"] > 0 for row in rows)
