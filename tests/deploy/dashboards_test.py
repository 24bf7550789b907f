#!/usr/bin/python3
"""Every expression of every dashboard, and of the autoscalers, in a real Prometheus that scrapes a real server under load.

Each must give data: a misspelt metric or label gives none. Grafana itself is not needed for that.
"""
import argparse
import glob
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

import numpy as np
import yaml

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]
import harness  # noqa: E402
import prometheus  # noqa: E402

parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
args, rest = parser.parse_known_args()
DEPLOY = os.path.join(args.source, "deploy")
MODEL = os.path.join(args.source, "models", "fashion-mnist", "model.onnx")
WINDOW = "10s"  # what Grafana would put for $__rate_interval at this scrape interval, and a little more
SCRAPES = 12

CONFIG = """
parameters { key: "octet.primary" value { string_value: "int8" } }
parameters { key: "octet.compare.fraction" value { string_value: "0.5" } }
parameters { key: "octet.guard.min_top1_agreement" value { string_value: "0.05" } }
"""


def make_repository(work):
    folder = os.path.join(work, "models", "fashion", "1")
    os.makedirs(folder)
    shutil.copy(MODEL, folder)
    samples = os.path.join(work, "samples.npy")
    np.save(samples, np.random.default_rng(1).random((128, 1, 28, 28), dtype=np.float32))
    subprocess.run([args.octet, "compress", MODEL, f"--calibration={samples}", "--scheme=int8", "--threads=1",
                    f"--out={folder}/model.int8.onnx"], check=True, capture_output=True)
    with open(os.path.join(work, "models", "fashion", "config.pbtxt"), "w", encoding="utf-8") as config:
        config.write(CONFIG)
    return os.path.join(work, "models")


class Load:
    """Asks both variants and one model that is not there, until stopped."""

    def __init__(self, server):
        self._server, self._stop = server, threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        image = np.random.default_rng(2).random((4, 1, 28, 28), dtype=np.float32)
        try:
            while not self._stop.is_set():
                for name in ("fashion", "fashion@f32", "fashion@int8"):
                    self._server.infer(name, {"image": image})
                try:
                    self._server.infer("nobody", {"image": image})
                except harness.grpc.RpcError as error:
                    if error.code() != harness.grpc.StatusCode.NOT_FOUND:
                        raise
                self._stop.wait(0.01)  # a steady load, not a full one
        except harness.grpc.RpcError as error:
            self._failure = error

    def stop(self):
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure


def fill_in(expression):
    for variable, value in (("$__rate_interval", WINDOW), ("$model", "fashion")):
        expression = expression.replace(variable, value)
    return expression


def panels():
    """(dashboard, panel, legend, expression) of all."""
    for path in sorted(glob.glob(os.path.join(DEPLOY, "grafana", "dashboards", "*.json"))):
        with open(path, encoding="utf-8") as file:
            dashboard = json.load(file)
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield dashboard["title"], panel["title"], target["legendFormat"], target["expr"]


def texts(folder):
    """{name: text} of a folder's dashboards."""
    read = {}
    for path in glob.glob(os.path.join(folder, "*.json")):
        with open(path, encoding="utf-8") as file:
            read[os.path.basename(path)] = file.read()
    return read


class DashboardFilesTest(unittest.TestCase):
    def test_files_are_what_the_list_makes(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, os.path.join(DEPLOY, "grafana", "make_dashboards.py"), folder], check=True)
            made = texts(folder)
        kept = texts(os.path.join(DEPLOY, "grafana", "dashboards"))
        self.assertEqual(sorted(made), sorted(kept))
        for name, text in made.items():
            self.assertEqual(text, kept[name], f"{name}: run deploy/grafana/make_dashboards.py")

    def test_panels_do_not_overlap(self):
        for path in glob.glob(os.path.join(DEPLOY, "grafana", "dashboards", "*.json")):
            with open(path, encoding="utf-8") as file:
                taken = set()
                for panel in json.load(file)["panels"]:
                    at = panel["gridPos"]
                    cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
                    self.assertFalse(cells & taken, f"{path}: {panel['title']}")
                    self.assertLessEqual(at["x"] + at["w"], 24)
                    taken |= cells

    def test_every_metric_is_documented(self):
        with open(os.path.join(args.source, "docs", "metrics.md"), encoding="utf-8") as file:
            documented = set(re.findall(r"`(octet_\w+)`", file.read()))
        for title, panel, _, expression in panels():
            for name in re.findall(r"octet_\w+", expression):
                base = re.sub(r"_(bucket|sum|count)$", "", name)
                self.assertTrue({name, base} & documented, f"{title}, {panel}: {name} is not in docs/metrics.md")

    def test_provisioning_finds_the_dashboards(self):
        with open(os.path.join(DEPLOY, "compose", "compose.yaml"), encoding="utf-8") as file:
            services = yaml.safe_load(file)["services"]
        mounts = {v.split(":")[1]: os.path.normpath(os.path.join(DEPLOY, "compose", v.split(":")[0]))
                  for service in services.values() for v in service["volumes"] if v.startswith(".")}
        for target, source in mounts.items():
            self.assertTrue(os.path.isdir(source), f"{target}: {source}")
        with open(os.path.join(DEPLOY, "grafana/provisioning/dashboards/octet.yml"), encoding="utf-8") as file:
            folder = yaml.safe_load(file)["providers"][0]["options"]["path"]
        self.assertEqual(mounts[folder], os.path.join(os.path.normpath(DEPLOY), "grafana", "dashboards"))
        home = services["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        self.assertTrue(os.path.exists(os.path.join(mounts[os.path.dirname(home)], os.path.basename(home))))
        with open(os.path.join(DEPLOY, "grafana/provisioning/datasources/prometheus.yml"), encoding="utf-8") as file:
            url = yaml.safe_load(file)["datasources"][0]["url"]
        self.assertIn(re.match(r"http://(\w+):9090$", url)[1], services)
        with open(os.path.join(DEPLOY, "prometheus/prometheus.yml"), encoding="utf-8") as file:
            scraped = yaml.safe_load(file)["scrape_configs"][0]["static_configs"][0]["targets"]
        self.assertEqual(scraped, ["octet:8002"])

    def test_prometheus_accepts_its_configuration(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("prometheus.yml", "rules.yml"):
                shutil.copy(os.path.join(DEPLOY, "prometheus", name), folder)
            checked = subprocess.run(["promtool", "check", "config", os.path.join(folder, "prometheus.yml")],
                                     capture_output=True, text=True, check=False)
            self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)


class DashboardsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if not prometheus.installed():
            raise unittest.SkipTest("prometheus is not installed")
        work = tempfile.mkdtemp(prefix="octet_dashboards_")
        cls.addClassCleanup(shutil.rmtree, work)
        stubs = harness.make_stubs(args.source, os.path.join(work, "stubs"))
        cls.server = harness.Server(args.octet, make_repository(work), stubs, "--threads=1")
        cls.addClassCleanup(cls.server.stop)
        cls.server.await_ready()
        load = Load(cls.server)
        cls.addClassCleanup(load.stop)
        cls.prometheus = prometheus.Prometheus(work, cls.server.metrics_address)
        cls.addClassCleanup(cls.prometheus.stop)
        cls.prometheus.await_scrapes(SCRAPES)

    def assert_data(self, expression, where):
        result = self.prometheus.query(expression)
        self.assertTrue(result, f"{where}: no data for {expression}")
        values = [float(series["value"][1]) for series in result]
        # An empty histogram has no quantile: NaN would be an empty panel.
        self.assertTrue(any(math.isfinite(v) for v in values), f"{where}: {values} for {expression}")
        return result

    def test_every_panel_has_data(self):
        checked = 0
        for title, panel, legend, expression in panels():
            with self.subTest(dashboard=title, panel=panel, legend=legend):
                result = self.assert_data(fill_in(expression), f"{title}, {panel}")
                # What the legend names must be a label, or Grafana shows it empty.
                for label in re.findall(r"{{(\w+)}}", legend):
                    self.assertIn(label, result[0]["metric"], f"{title}, {panel}: {expression}")
                checked += 1
        print(f"{checked} expressions with data")

    def test_figures_are_right(self):
        (weights,) = self.prometheus.query(
            fill_in('max by (model, variant) (octet_weights_bytes{model=~"$model", variant="int8"})'
                    ' / on (model) octet_weights_bytes{variant="f32"}'))
        self.assertTrue(0.2 < float(weights["value"][1]) < 0.35, weights)
        failed = next(e for t, p, _, e in panels() if (t, p) == ("Octet: overview", "Failed"))
        (share,) = self.prometheus.query(fill_in(failed))
        self.assertAlmostEqual(float(share["value"][1]), 0.25, delta=0.05)  # the load's every fourth request

    def test_variables_have_values(self):
        models = self.prometheus.get("/api/v1/label/model/values", **{"match[]": "octet_weights_bytes"})
        self.assertEqual(models, ["fashion"])

    def test_autoscalers_have_data(self):
        with open(os.path.join(DEPLOY, "kubernetes", "prometheus-adapter", "config.yaml"), encoding="utf-8") as file:
            (rule,) = yaml.safe_load(file)["rules"]
        self.assert_data(rule["seriesQuery"], "the adapter's series")
        query = rule["metricsQuery"].replace("<<.GroupBy>>", "pod").replace(
            "<<.LabelMatchers>>", 'namespace="default",pod=~"octet-0"')
        (pod,) = self.assert_data(query, "the adapter's metric")
        self.assertEqual(pod["metric"], {"pod": "octet-0"})
        self.assertTrue(0 < float(pod["value"][1]) < 10, pod)
        with open(os.path.join(DEPLOY, "kserve", "inference-service-queue.yaml"), encoding="utf-8") as file:
            (metric,) = yaml.safe_load(file)["spec"]["predictor"]["autoScaling"]["metrics"]
        self.assert_data(metric["external"]["metric"]["query"].replace("resnet50", "fashion"), "KServe's metric")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *rest])
