#!/usr/bin/python3
"""Writes prometheus-rule.yaml: the groups of deploy/prometheus/rules.yml as the Prometheus operator wants them.

kustomize cannot embed one file in another, so the result is committed; tests/deploy compares the two.
"""
import pathlib

import yaml

here = pathlib.Path(__file__).resolve().parent
rules = yaml.safe_load((here.parents[2] / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
rule = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "octet"},
        "spec": {"groups": rules["groups"]}}
(here / "prometheus-rule.yaml").write_text(
    "# Made by make_rule.py from deploy/prometheus/rules.yml: change that file and run the script.\n" +
    yaml.safe_dump(rule, sort_keys=False, width=120), encoding="utf-8")
