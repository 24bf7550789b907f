#!/usr/bin/env python3
"""Runs bench_engine on one tiny network and checks the JSON it writes.

usage: smoke_test.py BENCH_ENGINE
"""
import json
import math
import pathlib
import subprocess
import sys
import tempfile

NUMBERS = ["octet_ms", "onnxruntime_ms", "ratio", "gops", "peak_share", "weights_bytes", "weights_gbps"]


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        names = pathlib.Path(folder, "list.txt")
        names.write_text("tiny generated f32,int8 1,2\nabsent-network shared f32 1\n")
        out = pathlib.Path(folder, "out.json")
        done = subprocess.run([sys.argv[1], f"--list={names}", f"--json={out}", "--seconds=0.05", "--settle_ms=1",
                               "--idle_runs=2", "--threads=1"], capture_output=True, text=True)
        print(done.stdout, done.stderr)
        assert done.returncode == 0, done.returncode
        assert "absent-network" in done.stdout and "skipped" in done.stdout, "an absent network is named"
        results = json.loads(out.read_text())["results"]
    found = {(r["network"], r["variant"], r["batch"]) for r in results}
    assert found == {("tiny", v, b) for v in ("f32", "int8") for b in (1, 2)}, found
    for r in results:
        assert r["threads"] == 1
        for key in NUMBERS:
            assert math.isfinite(r[key]) and r[key] > 0, (key, r[key])
        assert math.isclose(r["ratio"], r["onnxruntime_ms"] / r["octet_ms"], rel_tol=0.01)
        assert r["sqnr_db"] > (80 if r["variant"] == "f32" else 25), r["sqnr_db"]
    return 0


if __name__ == "__main__":
    sys.exit(main())
