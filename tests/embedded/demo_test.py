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
table = {row["model"] + "@" + row["name"]: row for row in rows}
assert list(table) == ["fashion-mnist@f32", "fashion-mnist@int8", "fashion-mnist@int4", "fashion-mnist@ternary",
                       "fashion-mnist-wide@f32", "fashion-mnist-wide@int4"], table
f32 = table["fashion-mnist@f32"]
assert f32["top1"] >= 0.93, f32


def check(name, most_lost, least_agreement, most_file, most_weights):
    """One variant against the float form of its own model; shares, not percent."""
    row, own = table[name], table[name.split("@")[0] + "@f32"]
    assert row["top1"] >= own["top1"] - most_lost, (own, row)
    assert row["agreement"] >= least_agreement, row
    assert row["file_bytes"] <= most_file * own["file_bytes"], (own, row)
    assert row["weights_bytes"] <= most_weights * own["weights_bytes"], (own, row)


check("fashion-mnist@int8", 0.005, 0.99, 0.3, 0.27)
check("fashion-mnist@int4", 0.007, 0.985, 0.16, 0.27)
check("fashion-mnist@ternary", 0.03, 0.95, 0.1, 0.27)
check("fashion-mnist-wide@int4", 0.007, 0.985, 0.32, 0.27)  # the float file holds f16
wide = table["fashion-mnist-wide@int4"]
assert wide["file_bytes"] < f32["file_bytes"] and wide["top1"] > f32["top1"], (f32, wide)
assert all(row["images_per_second"] > 0 and row["p99_ms"] >= row["p50_ms"] > 0 for row in rows)
