#!/usr/bin/python3
"""Writes dashboards/*.json, which Grafana reads. The panels are listed here; tests/deploy compares files and list.

usage: make_dashboards.py [FOLDER]     (default: dashboards/ beside this file)

Every expression uses the metrics themselves (docs/metrics.md), no recording rule: the dashboards work in any Prometheus that
scrapes Octet. Rates are taken over $__rate_interval, so every scrape interval fits.
"""
import json
import pathlib
import sys

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
V = 'model=~"$model"'  # what a model's dashboards select
PAIR = f'{V}, source="live"'


def rate(metric, labels="", by=""):
    inner = f"rate({metric}{{{labels}}}[$__rate_interval])" if labels else f"rate({metric}[$__rate_interval])"
    return f"sum by ({by}) ({inner})" if by else f"sum({inner})"


def quantile(q, metric, labels, by):
    return f"histogram_quantile({q}, {rate(metric + '_bucket', labels, 'le, ' + by if by else 'le')})"


def mean(metric, labels, by):
    """Of a histogram; no value while nothing happened."""
    return f"{rate(metric + '_sum', labels, by)} / ({rate(metric + '_count', labels, by)} > 0)"


def against_reference(value):
    """A per-variant value divided by that of the variant f32 of the same model."""
    of_float = value.replace(V, V + ', variant="f32"')
    return f"({value}) / on (model) group_left () ({of_float})"


class Dashboard:
    """Panels from left to right, 24 columns a row."""

    def __init__(self, uid, title, description, model_variable):
        self._uid, self._title, self._description = uid, title, description
        self._panels, self._x, self._y, self._height = [], 0, 0, 0
        self._variables = [{"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"}]
        if model_variable:
            self._variables.append({
                "name": "model", "label": "Model", "type": "query", "datasource": DATASOURCE, "refresh": 2, "sort": 1,
                "query": {"query": "label_values(octet_weights_bytes, model)", "refId": "model"},
                "definition": "label_values(octet_weights_bytes, model)",
                "includeAll": model_variable == "all", "multi": model_variable == "all",
                **({"allValue": ".+", "current": {"text": "All", "value": "$__all"}}
                   if model_variable == "all" else {})})

    def panel(self, kind, title, targets, unit="short", width=8, height=8, description="", **options):
        """`targets`: {legend: expression}. A row ends where the next panel does not fit."""
        if self._x + width > 24:
            self._x, self._y, self._height = 0, self._y + self._height, 0
        defaults = {"unit": unit, **options.pop("defaults", {})}
        self._panels.append({
            "id": len(self._panels) + 1, "type": kind, "title": title, "description": description,
            "datasource": DATASOURCE, "gridPos": {"x": self._x, "y": self._y, "w": width, "h": height},
            "fieldConfig": {"defaults": defaults, "overrides": options.pop("overrides", [])},
            "options": options.pop("options", {}),
            "targets": [{"refId": chr(ord("A") + i), "datasource": DATASOURCE, "expr": expression,
                         "legendFormat": legend, **options} for i, (legend, expression) in enumerate(targets.items())]})
        self._x, self._height = self._x + width, max(self._height, height)
        return self

    def stat(self, title, expression, unit="short", description="", **thresholds):
        steps = [{"color": "green", "value": None}]
        steps += [{"color": color, "value": value} for color, value in thresholds.items()]
        return self.panel("stat", title, {"": expression}, unit, 4, 4, description,
                          defaults={"thresholds": {"mode": "absolute", "steps": steps}},
                          options={"reduceOptions": {"calcs": ["lastNotNull"]}, "graphMode": "area"})

    def lines(self, title, targets, unit="short", width=8, description="", stack=False, minimum=0, maximum=None):
        defaults = {"custom": {"lineWidth": 2, "fillOpacity": 25 if stack else 8, "showPoints": "never",
                               "stacking": {"mode": "normal" if stack else "none"}}}
        defaults.update({} if minimum is None else {"min": minimum})
        defaults.update({} if maximum is None else {"max": maximum})
        return self.panel("timeseries", title, targets, unit, width, 8, description, defaults=defaults,
                          options={"legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "lastNotNull"]},
                                   "tooltip": {"mode": "multi"}})

    def bars(self, title, targets, unit="short", width=8, description=""):
        return self.panel("bargauge", title, targets, unit, width, 8, description, defaults={"min": 0}, instant=True,
                          options={"orientation": "horizontal", "displayMode": "basic",
                                   "reduceOptions": {"calcs": ["lastNotNull"]}})

    def heatmap(self, title, expression, unit="s", width=12, description=""):
        return self.panel("heatmap", title, {"{{le}}": expression}, unit, width, 8, description, format="heatmap",
                          options={"calculate": False, "yAxis": {"unit": unit}, "color": {"scheme": "Turbo", "mode": "scheme"}})

    def json(self):
        return {"uid": self._uid, "title": self._title, "description": self._description, "tags": ["octet"],
                "schemaVersion": 39, "editable": True, "refresh": "10s", "time": {"from": "now-1h", "to": "now"},
                "timezone": "browser", "templating": {"list": self._variables}, "annotations": {"list": []},
                "links": [{"type": "dashboards", "title": "Octet", "tags": ["octet"], "keepTime": True,
                           "includeVars": True, "asDropdown": True}],
                "panels": self._panels}


def overview():
    all_requests = rate("octet_requests_total")
    failed = rate("octet_requests_total", 'outcome!="ok"')
    d = Dashboard("octet-overview", "Octet: overview", "All models of all servers that Prometheus scrapes.", None)
    d.stat("Servers", "count(octet_build_info)")
    d.stat("Requests", all_requests, "reqps")
    d.stat("Failed", f"({failed} or vector(0)) / {all_requests}", "percentunit", "Any outcome but ok, refused ones included.",
           orange=0.001, red=0.01)
    d.stat("p99", quantile(0.99, "octet_request_seconds", "", ""), "s", "From arrival to answer, over all models.")
    d.stat("Resident", "sum(octet_process_resident_bytes)", "bytes")
    d.stat("Guards tripped", "sum(octet_guard_tripped) or vector(0)", "short",
           "Variants for which the reference answers, because they agreed too little with it.", red=1)
    d.lines("Requests", {"{{model}}@{{variant}}": rate("octet_requests_total", 'model!=""', "model, variant")}, "reqps",
            stack=True)
    d.lines("Requests by outcome", {"{{outcome}}": rate("octet_requests_total", "", "outcome")}, "reqps",
            description="docs/metrics.md lists the outcomes.")
    d.lines("Latency", {"p50 {{model}}": quantile(0.5, "octet_request_seconds", "", "model"),
                        "p99 {{model}}": quantile(0.99, "octet_request_seconds", "", "model")}, "s")
    d.lines("Waiting for a batch", {"{{model}}": mean("octet_queue_seconds", "", "model")}, "s",
            description="Mean; what the queue-time autoscaler looks at.")
    d.lines("Queue depth", {"{{model}}@{{variant}}": "sum by (model, variant) (octet_queue_depth)"})
    d.lines("Busy slots", {"busy": rate("octet_compute_seconds_sum"), "slots": "sum(octet_slots)"},
            description="Batches that run at the same time, on average; at the number of slots the servers are full.")
    d.lines("Memory by kind", {"{{kind}}": 'sum by (kind) (octet_memory_bytes{kind!="file"})',
                               "requests": "sum(octet_requests_in_flight_bytes)", "baseline": "sum(octet_baseline_bytes)"},
            "bytes", stack=True, description="Together they explain the resident size.")
    d.bars("Weights", {"{{model}}@{{variant}}": "max by (model, variant) (octet_weights_bytes)"}, "bytes",
           description="Of one server.")
    d.panel("table", "Builds", {"": "octet_build_info"}, format="table", instant=True)
    return d


def model():
    per = "variant"
    d = Dashboard("octet-model", "Octet: one model", "What the variants of one model do.", "one")
    d.stat("Requests", rate("octet_requests_total", V), "reqps")
    d.stat("Rows", rate("octet_inferences_total", V), "ops")
    d.stat("p99", quantile(0.99, "octet_request_seconds", V, ""), "s")
    d.stat("Rows per batch", mean("octet_batch_size", V, "model"))
    d.stat("Waiting", f"sum(octet_queue_depth{{{V}}})")
    d.stat("Weights", f"max by (model) (sum by (model, instance) (octet_weights_bytes{{{V}}}))", "bytes", "All variants, of one server.")
    d.lines("Requests", {"{{variant}} {{outcome}}": rate("octet_requests_total", V, "variant, outcome")}, "reqps")
    d.lines("Rows", {"{{variant}}": rate("octet_inferences_total", V, per)}, "ops")
    d.lines("Latency", {f"p{int(100 * q)} {{{{variant}}}}": quantile(q, "octet_request_seconds", V, per)
                        for q in (0.5, 0.9, 0.99)}, "s")
    d.heatmap("Latency", f"sum by (le) (increase(octet_request_seconds_bucket{{{V}}}[$__rate_interval]))")
    d.lines("Where the time goes", {"queue {{variant}}": mean("octet_queue_seconds", V, per),
                                    "compute {{variant}}": mean("octet_compute_seconds", V, per)}, "s", 12,
            description="Means: waiting for a batch, and running it.")
    d.heatmap("Batch size", f"sum by (le) (increase(octet_batch_size_bucket{{{V}}}[$__rate_interval]))", "short")
    d.lines("Queue depth", {"{{variant}}": f"sum by (variant) (octet_queue_depth{{{V}}})"}, width=12)
    d.lines("Memory by kind", {"{{variant}} {{kind}}": f'max by (variant, kind) (octet_memory_bytes{{{V}, kind!="file"}})'},
            "bytes", description="Of one server.", stack=True)
    d.lines("Input shapes compiled", {"{{variant}}": f"max by (variant) (octet_specialisations{{{V}}})",
                                      "limit": f"max(octet_specialisations_limit{{{V}}})"},
            description="At the limit, rare shapes are compiled again and again.")
    d.bars("Load time", {"{{variant}}": f"max by (variant) (octet_load_seconds{{{V}}})"}, "s")
    d.lines("Share of unnamed requests", {"{{variant}}": f"max by (variant) (octet_traffic_weight_ratio{{{V}}})"}, "percentunit",
            maximum=1, description="Configured: which variant is meant for requests that name none.")
    return d


def comparison():
    d = Dashboard("octet-comparison", "Octet: float against quantized",
                  "What compression saves, and what it costs: agreement with the reference on live traffic.", "one")
    per_row = (f"{rate('octet_compute_seconds_sum', V, 'model, variant')} / "
               f"({rate('octet_inferences_total', V, 'model, variant')} > 0)")
    weights = f"max by (model, variant) (octet_weights_bytes{{{V}}})"
    d.bars("Weights in memory", {"{{variant}}": weights}, "bytes")
    d.bars("Weights against float", {"{{variant}}": against_reference(weights)}, "percentunit")
    d.bars("File", {"{{variant}}": f'max by (variant) (octet_memory_bytes{{{V}, kind="file"}})'}, "bytes")
    d.lines("Compute time per row", {"{{variant}}": per_row}, "s", description="Batches' time divided by their rows.")
    d.lines("Compute time against float", {"{{variant}}": against_reference(per_row)}, "percentunit",
            description="On the traffic that each variant got; the panel beside it compares on the same requests.")
    d.lines("CPU time and memory on the same requests", {
        "time {{variant}}/{{reference}}": f"octet_latency_ratio{{{PAIR}}}",
        "memory {{variant}}/{{reference}}": f"octet_memory_ratio{{{PAIR}}}"}, "percentunit",
            description="Below 100 % the variant is cheaper than its reference.")
    d.lines("Top-1 agreement with the reference", {
        "{{variant}} {{output}}": f"octet_top1_agreement_ratio{{{PAIR}}}",
        "{{variant}} lower": f"octet_top1_agreement_lower_ratio{{{PAIR}}}",
        "{{variant}} upper": f"octet_top1_agreement_upper_ratio{{{PAIR}}}",
        "guard's bound {{variant}}": f'octet_guard_threshold{{{V}, kind="top1_agreement"}}'}, "percentunit", 12,
            minimum=None, maximum=1, description="Live, with its 95 % interval. Below the bound the guard falls back.")
    d.lines("SQNR against the reference", {
        "{{variant}} {{output}}": f"octet_sqnr_db{{{PAIR}}}", "{{variant}} lower": f"octet_sqnr_lower_db{{{PAIR}}}",
        "{{variant}} upper": f"octet_sqnr_upper_db{{{PAIR}}}"}, "dB", 12, minimum=None,
            description="Live, with its 95 % interval; higher is closer.")
    d.lines("Cosine similarity", {"{{variant}} {{output}}": f"octet_cosine_similarity{{{PAIR}}}"}, minimum=None, maximum=1)
    d.lines("Rows in the window", {"{{variant}} {{output}}": f"octet_comparison_window_rows{{{PAIR}}}"},
            description="What the live figures rest on.")
    d.lines("Comparisons", {"{{variant}} {{result}}": rate("octet_comparisons_total", V, "variant, result")}, "reqps",
            description="Dropped ones cost nothing: the server had no time to spare.")
    d.lines("CPU for comparing", {"{{variant}}": rate("octet_comparison_cpu_seconds_total", V, "variant")},
            description="CPUs.")
    d.lines("Guard", {"tripped {{variant}}": f"max by (variant) (octet_guard_tripped{{{V}}})",
                      "trips {{variant}}": f"sum by (variant) (octet_guard_trips_total{{{V}}})",
                      "recoveries {{variant}}": f"sum by (variant) (octet_guard_recoveries_total{{{V}}})"},
            description="Tripped: the reference answers.")
    d.lines("Reference in memory", {"{{variant}} {{reference}}": f"max by (variant, reference) (octet_reference_resident{{{V}}})"},
            maximum=1)
    return d


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).resolve().parent / "dashboards")
    for dashboard in (overview(), model(), comparison()):
        text = json.dumps(dashboard.json(), indent=1) + "\n"
        (folder / f"{dashboard.json()['uid']}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
