#!/usr/bin/python3
"""Size against fidelity of one network's schemes, as an SVG file for docs/.

    plot.py ROWS.json NETWORK OUT.svg      ROWS.json: written by ./dev bench quality --json
"""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import svg  # noqa: E402


def main():
    rows_file, network, out = sys.argv[1:]
    rows = json.loads(pathlib.Path(rows_file).read_text(encoding="utf-8"))["rows"]
    points = sorted((100 * r["file_ratio"], r["compressed"], r["scheme"]) for r in rows
                    if r["network"] == network and r.get("metric", "").startswith("SQNR"))
    if not points:
        sys.exit(f"{rows_file}: no SQNR of {network}")
    pathlib.Path(out).write_text(svg.chart(
        f"{network}: what each scheme keeps", "file, % of the float file", "SQNR against float, dB", {"": points},
        (0, 10 * (points[-1][0] // 10 + 1)), (0, 5 * (max(p[1] for p in points) // 5 + 1)), height=420), encoding="utf-8")


if __name__ == "__main__":
    main()
