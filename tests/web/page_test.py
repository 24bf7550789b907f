#!/usr/bin/env python3
"""The web page in headless Chromium against a server under load: its figures are those of the API.

usage: page_test.py OCTET SOURCE STUBS PICTURES     Leaves pictures of the page, light and dark, in PICTURES.
"""

import contextlib
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

octet, source, stubs, pictures = (
    sys.argv[1],
    pathlib.Path(sys.argv[2]),
    pathlib.Path(sys.argv[3]),
    pathlib.Path(sys.argv[4]),
)
sys.path[:0] = [str(source / "tests"), str(source / "tests/web")]
import harness  # noqa: E402  pylint: disable=wrong-import-position

if not shutil.which("chromium"):
    harness.skip("chromium is not installed")
try:
    import browser
except ImportError as missing:
    harness.skip(missing)
DATASET = pathlib.Path("/usr/share/datasets/fashion-mnist")
if not DATASET.exists():
    harness.skip("dataset-fashion-mnist is not installed")

KINDS = ["weights", "activations", "scratchpad", "code", "metadata"]
CONFIG = """
parameters { key: "octet.variants" value { string_value: "f32,int8" } }
parameters { key: "octet.primary" value { string_value: "int8" } }
parameters { key: "octet.compare.fraction" value { string_value: "1" } }
parameters { key: "octet.guard.min_top1_agreement" value { string_value: "0.9" } }
parameters { key: "octet.guard.min_comparisons" value { string_value: "10" } }
"""
FIGURES = """Object.fromEntries([...document.querySelectorAll('[data-figure]')].map((n) => [n.dataset.figure, n.textContent]))"""


# The page's number formats, written again from their description.
def as_bytes(value):
    value = int(value)
    for unit, size, digits in (("GB", 1e9, 2), ("MB", 1e6, 2), ("kB", 1e3, 1)):
        if value >= size:
            return f"{value / size:.{digits}f} {unit}"
    return f"{value} B"


def number_of(text):
    return float(re.match(r"-?[0-9.]+", text)[0])


def expected_figures(version):
    """{figure: number that its text must start with}, from an answer of the API."""
    figures = {}
    for variant in version["variants"]:
        name, memory, latency = variant["name"], variant["memory"], variant["latency"]
        figures[f"{name}/file"] = as_bytes(memory["file"])
        figures[f"{name}/weights"] = as_bytes(memory["weights"])
        figures[f"{name}/resident"] = as_bytes(sum(int(memory[kind]) for kind in KINDS))
        for kind in [*KINDS, "file"]:
            figures[f"{name}/memory/{kind}"] = as_bytes(memory[kind])
        for count in ("requests_ok", "requests_failed", "queue_depth"):
            figures[f"{name}/{count}"] = str(int(variant[count]))
        figures[f"{name}/requests_per_second"] = (latency["requests_per_second"], 0.051)
        figures[f"{name}/load_seconds"] = (variant["load_seconds"], 0.00051)
        if int(latency["requests"]) > 0:
            for quantile in ("p50_seconds", "p90_seconds", "p99_seconds", "max_seconds"):
                figures[f"{name}/{quantile}"] = (latency[quantile] * 1e3, 0.0051)
    for pair in version["pairs"]:
        for output in pair["outputs"]:
            prefix = f"{pair['variant']}/{output['output']}/"
            figures[prefix + "top1_agreement"] = (output["top1_agreement"]["value"] * 100, 0.0051)
            figures[prefix + "sqnr_db"] = (output["sqnr_db"]["value"], 0.051)
            figures[prefix + "cosine"] = (output["cosine"], 0.0000051)
            figures[prefix + "comparisons"] = str(int(output["comparisons"]))
    return figures


def check_figures(found, expected):
    for key, value in expected.items():
        assert key in found, (key, sorted(found))
        if isinstance(value, str):
            assert found[key] == value, (key, found[key], value)
        else:
            assert abs(number_of(found[key]) - value[0]) <= value[1], (key, found[key], value)


def reading(page):
    """(an answer of the API as the browser got it, the figures that the page made of it)."""
    bodies = {}
    for _ in range(40):
        read_at, figures = page.evaluate(f"[document.getElementById('server').dataset.readAt, {FIGURES}]")
        asked = {
            e["requestId"]
            for e in page.of("Network.responseReceived")
            if e["response"]["url"].endswith("/api/v1/variants")
        }
        for ended in page.of("Network.loadingFinished"):
            request = ended["requestId"]
            if request in asked and request not in bodies:
                with contextlib.suppress(RuntimeError):  # the browser keeps the latest bodies only
                    bodies[request] = json.loads(page.send("Network.getResponseBody", requestId=request)["body"])
        for body in bodies.values():
            if str(body["server"]["unix_seconds"]) == read_at or float(read_at) == body["server"]["unix_seconds"]:
                return body, figures
    raise AssertionError(f"no answer of the API was read at {read_at}")


def chart(page, title):
    """[[label, [[x, y], ...] or [value, ...]], ...] of the chart with this title, and how many colours its canvas shows."""
    return page.evaluate(f"""(() => {{
        const figure = [...document.querySelectorAll('figure')].find((f) => f.querySelector('figcaption').firstChild.textContent === {json.dumps(title)});
        const canvas = figure.querySelector('canvas');
        const pixels = new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.buffer);
        return {{colours: new Set(pixels).size, label: canvas.getAttribute('aria-label'), sets: Chart.getChart(canvas).data.datasets
            .map((d) => [d.label, d.data.map((p) => p !== null && typeof p === 'object' ? [p.x, p.y] : p)])}};
    }})()""")


def check_charts(page):
    body, _ = reading(page)
    version = body["models"][0]["versions"][0]
    by_name = {variant["name"]: variant for variant in version["variants"]}
    memory = dict(chart(page, "Memory")["sets"])
    for kind in KINDS:
        assert memory[kind] == [int(v["memory"][kind]) for v in version["variants"]], (kind, memory)
    for title in ("Memory", "Latency", "Throughput", "Queue", "Top-1 agreement of output logits", "Error by layer"):
        seen = chart(page, title)
        assert seen["colours"] > 8, f"{title}: the canvas is blank"
        assert seen["label"].startswith(title + ". ") and len(seen["label"]) > len(title) + 10, seen["label"]
    for label, points in chart(page, "Latency")["sets"]:
        assert [y for _, y in points] == sorted(y for _, y in points) and abs(points[-1][1] - 100) < 1e-6, (
            label,
            points,
        )
    agreement = chart(page, "Top-1 agreement of output logits")["sets"]
    named = dict(agreement)
    assert set(named) == {"int8", "_lower", "_upper", "bound of int8"}, named
    assert len(named["int8"]) >= 2
    for (x, value), (_, low), (_, high), (_, bound) in zip(
        *(named[k] for k in ("int8", "_lower", "_upper", "bound of int8")), strict=True
    ):
        assert x <= 0 and low <= value <= high and bound == 90, (x, low, value, high, bound)
    layers = dict(chart(page, "Error by layer")["sets"])["int8"]
    recorded = sorted(layer["sqnr_db"] for layer in by_name["int8"]["layers"])
    assert [round(v, 6) for v in layers] == [round(v, 6) for v in recorded[: len(layers)]] and len(layers) > 3, (
        layers,
        recorded,
    )


def luminance(colour):
    channels = [int(c) / 255 for c in re.findall(r"\d+", colour)[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def check_contrast(page):
    """Every text has WCAG's contrast of 4.5 with its ground."""
    pairs = page.evaluate(
        """[...document.querySelectorAll('h1, h2, p, th, td, dt, dd, a, figcaption, small, summary, caption')]
        .filter((n) => n.textContent.trim() !== '').map((n) => {
          let ground = n;
          while (ground && getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)') ground = ground.parentElement;
          return [getComputedStyle(n).color, ground ? getComputedStyle(ground).backgroundColor : 'rgb(255, 255, 255)', n.outerHTML.slice(0, 80)];
        })"""
    )
    for text, ground, html in pairs:
        light, dark = sorted((luminance(text), luminance(ground)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, html)
    return luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def check_accessibility(page):
    nodes = page.send("Accessibility.getFullAXTree")["nodes"]
    roles = [
        (n["role"]["value"], n.get("name", {}).get("value", ""))
        for n in nodes
        if not n.get("ignored") and "role" in n
    ]
    for role in ("banner", "main", "navigation", "contentinfo", "status", "table", "columnheader", "rowheader"):
        assert any(found == role for found, _ in roles), (role, sorted({r for r, _ in roles}))
    assert all(
        name for role, name in roles if role in ("image", "img", "link", "heading", "region", "navigation", "table")
    ), roles
    assert not any(role == "button" for role, _ in roles)
    figures = page.evaluate("document.querySelectorAll('figure').length")
    assert sum(role in ("image", "img") for role, _ in roles) == figures > 4
    # By keyboard: the first stop is the way past the index, and Enter on a summary shows the table behind a chart.
    key = {"windowsVirtualKeyCode": 9, "key": "Tab", "code": "Tab"}
    page.send("Input.dispatchKeyEvent", type="keyDown", **key)
    assert page.evaluate("document.activeElement.className") == "skip"
    page.evaluate("document.querySelector('summary').focus()")
    for kind in ("keyDown", "keyUp"):
        page.send(
            "Input.dispatchKeyEvent",
            type=kind,
            windowsVirtualKeyCode=13,
            key="Enter",
            code="Enter",
            text="\r" if kind == "keyDown" else "",
        )
    assert page.evaluate("document.querySelector('details').open")
    page.evaluate("document.querySelector('details').open = false; document.activeElement.blur()")


def serve_and_look(folder):
    version = folder / "models" / "fashion" / "1"
    version.mkdir(parents=True)
    shutil.copy(source / "models/fashion-mnist/model.onnx", version / "model.onnx")
    (version.parent / "config.pbtxt").write_text(CONFIG)
    subprocess.run(
        [
            octet,
            "compress",
            version / "model.onnx",
            "--scheme=int8",
            "--max-samples=60",
            "--threads=1",
            f"--calibration={DATASET}/train-images-idx3-ubyte.gz",
            f"--out={version}/model.int8.onnx",
        ],
        check=True,
        capture_output=True,
    )
    stub = harness.make_stubs(source, stubs)
    with harness.serving(octet, folder / "models", stub, "--threads=1") as server, browser.chromium(
        1280, 900
    ) as page:
        load = [
            subprocess.Popen(
                [
                    octet,
                    "bench",
                    f"fashion@{variant}",
                    f"--address={server.grpc_address}",
                    f"--rates={rate}",
                    "--duration=1h",
                    f"--data={DATASET}/t10k-images-idx3-ubyte.gz",
                ],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            for variant, rate in (("int8", 60), ("f32", 10))
        ]
        try:
            page.send("Page.navigate", url=f"http://{server.http_address}/")
            page.await_true("document.getElementById('status').textContent === 'Live.'")
            page.await_true(
                "Number(document.querySelector('[data-figure=\"int8/logits/comparisons\"]').textContent) > 5", 100
            )
            page.await_true(
                "Chart.getChart(document.querySelectorAll('figure canvas')[2]).data.datasets[0].data.length > 4"
            )
            for _ in range(3):
                body, figures = reading(page)
                check_figures(figures, expected_figures(body["models"][0]["versions"][0]))
            # What does not change with time is the same for anybody who asks.
            status, text = server.get("/api/v1/variants")
            assert status == 200, text
            asked = expected_figures(json.loads(text)["models"][0]["versions"][0])
            check_figures(figures, {key: asked[key] for key in asked if key.endswith(("/file", "/weights"))})
            metrics = server.metrics()
            for variant in ("f32", "int8"):
                weights = [
                    value
                    for (name, labels), value in metrics.items()
                    if name == "octet_variant_memory_bytes" and {("variant", variant), ("kind", "weights")} <= labels
                ]
                if weights:
                    assert figures[f"{variant}/weights"] == as_bytes(weights[0]), (figures, weights)
            check_charts(page)
            check_accessibility(page)
            pictures.mkdir(parents=True, exist_ok=True)
            grounds = {}
            for scheme in ("light", "dark"):
                page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
                page.await_true(f"matchMedia('(prefers-color-scheme: {scheme})').matches")
                grounds[scheme] = check_contrast(page)
                page.picture(pictures / f"{scheme}.png")
            assert grounds["dark"] < 0.05 < 0.9 < grounds["light"], grounds
            page.send("Emulation.setDeviceMetricsOverride", width=390, height=800, deviceScaleFactor=1, mobile=True)
            page.await_true("innerWidth === 390")
            assert (
                page.evaluate("document.documentElement.scrollWidth") <= 390
            ), "the page is wider than a narrow screen"
            page.picture(pictures / "narrow.png")
            # A guard that cannot hold: the page says who answers, and why.
            subprocess.run(
                [octet, "set", "guard", "fashion", "--min-sqnr-db=80", f"--address={server.grpc_address}"],
                check=True,
                capture_output=True,
                timeout=60,
            )
            page.await_true(
                "document.querySelector('[role=alert]').textContent.includes('f32 answers for int8')", 150
            )
            page.await_true("[...document.querySelectorAll('td.bad')].some((n) => n.textContent === 'tripped')")
            bounds = dict(chart(page, "SQNR of output logits")["sets"])["bound of int8"]
            assert bounds[-1][1] == 80, bounds
            page.send("Emulation.clearDeviceMetricsOverride")
            page.send("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
            page.await_true("innerWidth > 1000")
            page.picture(pictures / "tripped.png")
            origins = {
                re.match(r"[a-z]+://[^/]*", e["request"]["url"])[0]
                for e in page.of("Network.requestWillBeSent")
                if not e["request"]["url"].startswith("data:")
            }
            assert not page.complaints(), page.complaints()
            assert origins == {f"http://{server.http_address}"}, origins
            assert server.get("/page.css")[0] == 200 and server.get("/nothing.js")[0] == 404
        finally:
            for process in load:
                process.terminate()
                process.wait()
        # The server goes: the page says so.
        assert server.stop() == 0
        page.await_true("document.getElementById('status').className === 'lost'")
        assert "old" in page.evaluate("document.getElementById('status').textContent")


with tempfile.TemporaryDirectory() as temporary:
    serve_and_look(pathlib.Path(temporary))
print("web page: figures are those of the API")
