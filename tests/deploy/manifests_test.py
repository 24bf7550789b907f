#!/usr/bin/python3
"""Renders every overlay with kustomize and checks it strictly: schemas, and what schemas do not know.

The schemas (Kubernetes, KServe, the Prometheus operator) lie in ../shared; without them that part is skipped and said so.
"""
import argparse
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import yaml

parser = argparse.ArgumentParser()
parser.add_argument("--octet", required=True)
parser.add_argument("--source", required=True)
args, rest = parser.parse_known_args()
DEPLOY = os.path.join(args.source, "deploy")
SHARED = os.path.join(args.source, "..", "shared")
KUSTOMIZE = next(([tool, *words] for tool, words in (("kustomize", ["build"]), ("kubectl", ["kustomize"]))
                  if shutil.which(tool)), None)


def load(text):
    return [document for document in yaml.safe_load_all(text) if document]


class ManifestsTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.work = tempfile.mkdtemp(prefix="octet_manifests_")
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.rendered = {}
        if KUSTOMIZE is None:
            raise unittest.SkipTest("neither kustomize nor kubectl is installed")
        tree = os.path.join(cls.work, "kubernetes")
        shutil.copytree(os.path.join(DEPLOY, "kubernetes"), tree)
        with open(os.path.join(tree, "overlays", "embedded", "model.onnx"), "wb") as model:
            model.write(b"\x08\x0a stands for a compressed model")
        for folder in [*sorted(glob.glob(os.path.join(tree, "overlays", "*"))),
                       os.path.join(tree, "prometheus-adapter")]:
            made = subprocess.run([*KUSTOMIZE, folder], capture_output=True, text=True, check=False)
            if made.returncode != 0:
                raise AssertionError(f"{folder}: {made.stderr}")
            cls.rendered[os.path.basename(folder)] = made.stdout
        cls.overlays = {name: load(text) for name, text in cls.rendered.items() if name != "prometheus-adapter"}

    def of_kind(self, documents, kind):
        return [d for d in documents if d["kind"] == kind]

    def deployment(self, documents):
        (deployment,) = self.of_kind(documents, "Deployment")
        return deployment

    def test_schemas(self):
        tool = os.path.join(SHARED, "tools", "check_manifests")
        if not os.path.exists(tool):
            self.skipTest(f"{tool} is absent: manifests were rendered but not checked against the schemas")
        files = sorted(glob.glob(os.path.join(DEPLOY, "kserve", "*.yaml")))
        for name, text in self.rendered.items():
            files.append(os.path.join(self.work, name + ".yaml"))
            with open(files[-1], "w", encoding="utf-8") as file:
                file.write(text)
        checked = subprocess.run(
            [sys.executable, tool, os.path.join(SHARED, "k8s", "kubernetes-1.36-openapi.json"),
             os.path.join(SHARED, "k8s", "crds"), *files], capture_output=True, text=True, check=False)
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)
        documents = sum(len(load(text)) for text in self.rendered.values())
        self.assertGreaterEqual(checked.stdout.count("ok "), documents + 3)

    def test_the_schema_check_can_fail(self):
        tool = os.path.join(SHARED, "tools", "check_manifests")
        if not os.path.exists(tool):
            self.skipTest(f"{tool} is absent")
        broken = os.path.join(self.work, "broken.yaml")
        with open(broken, "w", encoding="utf-8") as file:
            file.write(self.rendered["volume-cpu"].replace("readinessProbe", "readinessProb"))
        checked = subprocess.run(
            [sys.executable, tool, os.path.join(SHARED, "k8s", "kubernetes-1.36-openapi.json"),
             os.path.join(SHARED, "k8s", "crds"), broken], capture_output=True, text=True, check=False)
        self.assertEqual(checked.returncode, 1, checked.stdout)

    def test_selectors_meet_the_pods(self):
        for name, documents in self.overlays.items():
            labels = self.deployment(documents)["spec"]["template"]["metadata"]["labels"]
            selectors = [self.deployment(documents)["spec"]["selector"]["matchLabels"]]
            selectors += [d["spec"]["selector"] for d in self.of_kind(documents, "Service")]
            selectors += [d["spec"]["selector"]["matchLabels"] for d in self.of_kind(documents, "PodDisruptionBudget")]
            selectors += [d["spec"]["podSelector"]["matchLabels"] for d in self.of_kind(documents, "NetworkPolicy")]
            self.assertGreaterEqual(len(selectors), 5, name)
            for selector in selectors:
                self.assertTrue(selector and selector.items() <= labels.items(), f"{name}: {selector}, {labels}")
            for monitor in self.of_kind(documents, "ServiceMonitor"):
                services = [d for d in self.of_kind(documents, "Service")
                            if monitor["spec"]["selector"]["matchLabels"].items() <= d["metadata"]["labels"].items()]
                ports = [p["name"] for s in services for p in s["spec"]["ports"]]
                # Once: two services with that port would scrape every pod twice.
                self.assertEqual(ports.count(monitor["spec"]["endpoints"][0]["port"]), 1, name)

    def test_pods_are_hardened_and_drain(self):
        for name, documents in self.overlays.items():
            pod = self.deployment(documents)["spec"]["template"]["spec"]
            self.assertTrue(pod["securityContext"]["runAsNonRoot"], name)
            self.assertFalse(pod["automountServiceAccountToken"], name)
            for container in [*pod["containers"], *pod.get("initContainers", [])]:
                context = container["securityContext"]
                self.assertTrue(context["readOnlyRootFilesystem"], name)
                self.assertFalse(context["allowPrivilegeEscalation"], name)
                self.assertEqual(context["capabilities"]["drop"], ["ALL"], name)
                self.assertIn("memory", container["resources"]["limits"], name)
                self.assertNotIn(":latest", container["image"], name)
                self.assertIn(":", container["image"], name)
            server = pod["containers"][0]
            self.assertEqual(server["resources"]["requests"], server["resources"]["limits"], name)
            drain = next(int(a.removeprefix("--drain-timeout=").removesuffix("s")) for a in server["args"]
                         if a.startswith("--drain-timeout="))
            needed = server["lifecycle"]["preStop"]["sleep"]["seconds"] + drain
            self.assertGreater(pod["terminationGracePeriodSeconds"], needed, name)

    def test_probes_and_policies_name_open_ports(self):
        for name, documents in self.overlays.items():
            server = self.deployment(documents)["spec"]["template"]["spec"]["containers"][0]
            ports = {p["name"]: p["containerPort"] for p in server["ports"]}
            self.assertEqual(ports, {"http": 8000, "grpc": 8001, "metrics": 8002}, name)
            for probe in ("startupProbe", "readinessProbe"):
                self.assertEqual(server[probe]["grpc"]["port"], ports["grpc"], name)
            for policy in self.of_kind(documents, "NetworkPolicy"):
                named = {p["port"] for rule in policy["spec"]["ingress"] for p in rule["ports"]}
                self.assertEqual(named, set(ports), name)

    def test_flags_exist(self):
        known = subprocess.run([args.octet, "--helpfull"], capture_output=True, text=True, check=False).stdout
        with open(os.path.join(DEPLOY, "kserve", "serving-runtime.yaml"), encoding="utf-8") as file:
            (runtime,) = load(file.read())
        lists = [runtime["spec"]["containers"][0]["args"]]
        lists += [self.deployment(d)["spec"]["template"]["spec"]["containers"][0]["args"]
                  for d in self.overlays.values()]
        for words in lists:
            self.assertEqual(words[0], "serve")
            for word in words[1:]:
                flag = word.split("=")[0].replace("-", "_").replace("__", "--", 1)
                self.assertTrue(flag in known, f"octet has no flag {flag}")

    def test_every_overlay_has_models_and_at_most_one_autoscaler(self):
        for name, documents in self.overlays.items():
            deployment = self.deployment(documents)
            pod = deployment["spec"]["template"]["spec"]
            (volume,) = pod["volumes"]
            self.assertEqual(volume["name"], "models")
            self.assertTrue("emptyDir" not in volume or pod.get("initContainers"), f"{name} serves an empty folder")
            autoscalers = self.of_kind(documents, "HorizontalPodAutoscaler")
            self.assertLessEqual(len(autoscalers), 1, name)
            for autoscaler in autoscalers:
                self.assertEqual(autoscaler["spec"]["scaleTargetRef"]["name"], deployment["metadata"]["name"])
                self.assertNotIn("replicas", deployment["spec"], f"{name}: two owners of the number of pods")

    def test_the_adapter_gives_what_the_autoscaler_asks_for(self):
        config = load(self.rendered["prometheus-adapter"])[0]["data"]["config.yaml"]
        given = {rule["name"]["as"] for rule in yaml.safe_load(config)["rules"]}
        asked = {metric["pods"]["metric"]["name"] for documents in self.overlays.values()
                 for autoscaler in self.of_kind(documents, "HorizontalPodAutoscaler")
                 for metric in autoscaler["spec"]["metrics"] if metric["type"] == "Pods"}
        self.assertTrue(asked)
        self.assertLessEqual(asked, given)

    def test_rules_are_those_of_prometheus(self):
        path = os.path.join(DEPLOY, "prometheus", "rules.yml")
        with open(path, encoding="utf-8") as file:
            groups = yaml.safe_load(file)["groups"]
        (rule,) = self.of_kind(self.overlays["volume-cpu"], "PrometheusRule")
        self.assertEqual(rule["spec"]["groups"], groups,
                         "run deploy/kubernetes/components/monitoring/make_rule.py")


if __name__ == "__main__":
    program = unittest.main(argv=[sys.argv[0], *rest], exit=False)
    if program.result.testsRun == 0 and program.result.skipped:
        print(f"skipped: {program.result.skipped[0][1]}")
        sys.exit(77)
    sys.exit(not program.result.wasSuccessful())
