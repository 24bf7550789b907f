#!/usr/bin/env python3
"""Runs bench_quality on the embedded network with 200 images and checks the rows it writes.

usage: smoke_test.py BENCH_QUALITY

Exit code 77 (skipped): no Fashion-MNIST files.
"""
import json
import pathlib
import subprocess
import sys
import tempfile


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        out, table = pathlib.Path(folder, "out.json"), pathlib.Path(folder, "out.md")
        done = subprocess.run([sys.argv[1], "--networks=fashion-mnist,yolox-nano", "--schemes=int8,no-such-scheme",
                               f"--shared={folder}", "--max_evaluation=200", "--max_calibration=50", f"--json={out}",
                               f"--markdown={table}", "--threads=1"], capture_output=True, text=True)
        print(done.stdout, done.stderr)
        assert done.returncode == 0, done.returncode
        assert "yolox-nano: skipped" in done.stderr, "an absent network is named"
        if "fashion-mnist: skipped" in done.stderr:
            return 77
        rows = json.loads(out.read_text())["rows"]
        text = table.read_text()
    found = {r["metric"]: r for r in rows if r["scheme"] == "int8"}
    assert set(found) == {"top-1 %", "top-1 agreement %", "SQNR dB"}, found
    for row in found.values():
        assert row["network"] == "fashion-mnist" and 0.2 < row["file_ratio"] < 0.6, row
    top1, agreement, sqnr = found["top-1 %"], found["top-1 agreement %"], found["SQNR dB"]
    assert top1["float"] > 85 and abs(top1["compressed"] - top1["float"]) <= 2, top1  # 4 of 200 images
    assert agreement["float"] == 100 and 97 <= agreement["compressed"] <= 100, agreement
    assert sqnr["float"] == 200 and 20 < sqnr["compressed"] < 80, sqnr
    errors = [r for r in rows if "error" in r]
    assert [r["scheme"] for r in errors] == ["no-such-scheme"], errors
    assert "| fashion-mnist | top-1 % |" in text and "failed" in text, text
    return 0


if __name__ == "__main__":
    sys.exit(main())
