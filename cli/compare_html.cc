// The comparison as one HTML page: tables and charts.
#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "cli/comparison.h"
#include "cli/console.h"
#include "cli/html.h"
#include "cli/plot.h"

namespace octet::cli {
namespace {

constexpr size_t kHistogramLayers = 6;  // the worst ones get pictures; all are in the table and in the JSON

std::string Cell(const std::optional<int64_t>& bytes) { return bytes.has_value() ? Bytes(*bytes) : "-"; }
std::string Ms(double seconds) { return Fixed(seconds * 1e3, 3); }
std::string OptionalMs(const std::optional<double>& seconds) { return seconds.has_value() ? Ms(*seconds) : "-"; }
std::string Percent(int64_t part, int64_t whole) {
  return whole > 0 ? Fixed(100.0 * static_cast<double>(part) / static_cast<double>(whole), 2) : "-";
}

std::string Tables(const Comparison& c) {
  std::vector<std::vector<std::string>> size, speed, quality;
  for (size_t i = 0; i < c.variants.size(); ++i) {
    const VariantFigures& v = c.variants[i];
    const std::optional<int64_t> fit = v.FitIn4GB(c.baseline_bytes);
    size.push_back({v.name, Cell(v.facts.file_bytes), Cell(v.facts.weights_bytes), Cell(v.single.activations_bytes),
                    Cell(v.best.activations_bytes), Cell(v.walked_bytes), fit.has_value() ? absl::StrCat(*fit) : "-",
                    OptionalMs(v.facts.load_seconds)});
    const double fps = v.FramesPerSecond();
    speed.push_back({v.name, Ms(v.single.P(0.5)), Ms(v.single.P(0.99)), absl::StrCat(v.single.seconds.size()),
                     absl::StrCat(v.best.batch), Ms(v.best.P(0.5)), Ms(v.best.P(0.99)),
                     Fixed(v.best.InferencesPerSecond(), 1), Fixed(fps, 1), fps >= 30 ? "yes" : "no",
                     OptionalMs(v.single.cpu_seconds), OptionalMs(v.best.cpu_seconds), OptionalMs(v.single.joules)});
    const Accuracy a = v.accuracy.value_or(Accuracy());
    const std::vector<std::string> accuracy = {Percent(a.top1, a.labelled), Percent(a.top5, a.labelled)};
    if (i == c.reference) quality.push_back({v.name, accuracy[0], accuracy[1], "-", "(reference)", "-", "-", "-", "-"});
    for (const OutputAgreement& o : v.outputs) {
      const ShareInterval interval = WilsonInterval(o.agreeing, o.rows);
      quality.push_back({v.name, accuracy[0], accuracy[1],
                         a.labelled > 0 ? absl::StrFormat("%.2g", McNemarP(a.only_reference, a.only_this)) : "-",
                         o.name, o.classes ? Percent(o.agreeing, o.rows) : "-",
                         o.classes ? absl::StrFormat("%.2f to %.2f", 100 * interval.low, 100 * interval.high) : "-",
                         Fixed(o.sqnr_db, 1), Fixed(o.cosine, 5)});
    }
  }
  return absl::StrCat(HtmlTable("Size",
                                {"variant", "file", "resident weights", "activations, batch 1",
                                 "activations, best batch", "weights read per inference", "models in 4 GB", "load ms"},
                                size),
                      HtmlTable("Speed",
                                {"variant", "p50 ms, batch 1", "p99 ms, batch 1", "runs", "best batch", "p50 ms",
                                 "p99 ms", "inferences/s", "frames/s with p99 < 33 ms", "30 FPS",
                                 "CPU ms/inference, batch 1", "CPU ms/inference, best", "mJ/inference, batch 1"},
                                speed),
                      HtmlTable("Quality",
                                {"variant", "top-1 %", "top-5 %", "McNemar p", "output", "top-1 agreement %",
                                 "95 % interval", "SQNR dB", "cosine"},
                                quality));
}

// Accuracy where there are labels, else agreement, else SQNR: against resident weights, or the file behind a server.
std::string SizePlot(const Comparison& c) {
  const VariantFigures& reference = c.variants[c.reference];
  const bool labels = reference.accuracy.has_value() && reference.accuracy->labelled > 0;
  const bool classes = std::any_of(c.variants.begin(), c.variants.end(),
                                   [](const VariantFigures& v) { return !v.outputs.empty() && v.outputs[0].classes; });
  Plot plot;
  plot.title = labels ? "Size against accuracy" : classes ? "Size against agreement" : "Size against fidelity";
  plot.x_label = "resident weights, MB";
  plot.y_label = labels ? "top-1, %" : classes ? "top-1 agreement, %" : "SQNR of the first output, dB";
  plot.x_from_zero = true;
  for (size_t i = 0; i < c.variants.size(); ++i) {
    const VariantFigures& v = c.variants[i];
    const std::optional<int64_t> bytes = v.facts.weights_bytes.has_value() ? v.facts.weights_bytes : v.facts.file_bytes;
    if (!bytes.has_value()) continue;
    double y = NAN;
    if (labels) {
      y = 100.0 * static_cast<double>(v.accuracy->top1) / static_cast<double>(v.accuracy->labelled);
    } else if (i == c.reference) {
      y = classes ? 100 : NAN;
    } else if (!v.outputs.empty()) {
      y = classes ? 100.0 * static_cast<double>(v.outputs[0].agreeing) / static_cast<double>(v.outputs[0].rows)
                  : v.outputs[0].sqnr_db;
    }
    plot.series.push_back(
        {"", PlotSeries::Mark::kPoints, static_cast<int>(i), {{static_cast<double>(*bytes) / 1e6, y, v.name}}});
  }
  return plot.series.empty() ? "" : Svg(plot);
}

// Share of runs that took at most so long: the whole distribution, tail included, without a choice of bins.
std::string LatencyPlot(const Comparison& c, const BatchTiming VariantFigures::* timing, const std::string& title) {
  Plot plot;
  plot.title = title;
  plot.x_label = "latency, ms";
  plot.y_label = "share of runs, %";
  plot.x_scale = Plot::Scale::kLog;
  plot.y_from_zero = true;
  plot.y_end = 100;
  plot.width = 520;
  plot.height = 320;
  for (size_t i = 0; i < c.variants.size(); ++i) {
    std::vector<double> sorted = (c.variants[i].*timing).seconds;
    std::sort(sorted.begin(), sorted.end());
    PlotSeries series{c.variants[i].name, PlotSeries::Mark::kLine, static_cast<int>(i), {}};
    const size_t n = sorted.size(), points = std::min<size_t>(n, 200);
    for (size_t k = 0; k < points; ++k) {
      const size_t at = points == 1 ? 0 : k * (n - 1) / (points - 1);
      series.points.push_back({sorted[at] * 1e3, 100.0 * static_cast<double>(at + 1) / static_cast<double>(n)});
    }
    plot.series.push_back(std::move(series));
  }
  return Svg(plot);
}

std::string LayerPlot(const Comparison& c) {
  Plot plot;
  plot.title = "Error layer by layer, in execution order";
  plot.x_label = "layer";
  plot.y_label = "SQNR of the layer's result, dB";
  plot.y_from_zero = true;
  for (size_t v = 0; v < c.variants.size(); ++v) {
    if (v == c.reference) continue;
    PlotSeries series{c.variants[v].name, PlotSeries::Mark::kLineAndPoints, static_cast<int>(v), {}};
    for (size_t l = 0; l < c.layers.size(); ++l) {
      series.points.push_back({static_cast<double>(l + 1), c.layers[l].variants[c.LayerIndex(v)].sqnr_db});
    }
    plot.series.push_back(std::move(series));
  }
  return Svg(plot);
}

PlotSeries HistogramSeries(const compress::ValueHistogram& h, const std::string& name, size_t colour) {
  PlotSeries series{name, PlotSeries::Mark::kSteps, static_cast<int>(colour), {}};
  double total = 0;
  for (int64_t n : h.counts) total += static_cast<double>(n);
  const auto bins = static_cast<double>(h.counts.size());
  for (size_t i = 0; i < h.counts.size(); ++i) {
    // Empty bins would be holes on a logarithmic axis: they are drawn at a tenth of one value.
    const double count = std::max(static_cast<double>(h.counts[i]), 0.1);
    series.points.push_back(
        {h.low + (h.high - h.low) * static_cast<double>(i) / bins, 100 * count / std::max(total, 1.0)});
  }
  return series;
}

std::string HistogramPlot(const Comparison& c, const compress::LayerComparison& layer, bool weights) {
  Plot plot;
  plot.title = absl::StrCat(layer.node, weights ? ": weights" : ": results");
  plot.x_label = weights ? "weight" : "activation";
  plot.y_label = "share of values, %";
  plot.y_scale = Plot::Scale::kLog;
  plot.width = 520;
  plot.height = 300;
  const compress::ValueHistogram& own = weights ? layer.weights : layer.activations;
  plot.series.push_back(HistogramSeries(own, c.variants[c.reference].name, c.reference));
  for (size_t v = 0; v < c.variants.size(); ++v) {
    if (v == c.reference) continue;
    const compress::VariantLayer& one = layer.variants[c.LayerIndex(v)];
    const compress::ValueHistogram& h = weights ? one.weights : one.activations;
    if (!h.counts.empty()) plot.series.push_back(HistogramSeries(h, c.variants[v].name, v));
  }
  return Svg(plot);
}

std::string Layers(const Comparison& c) {
  if (c.layers.empty()) return "";
  std::vector<std::string> head = {"layer", "op", "weights"};
  for (size_t v = 0; v < c.variants.size(); ++v) {
    if (v != c.reference) head.push_back(absl::StrCat(c.variants[v].name, ", dB"));
  }
  std::vector<std::vector<std::string>> rows;
  std::vector<size_t> order;
  std::vector<double> worst;
  for (size_t l = 0; l < c.layers.size(); ++l) {
    rows.push_back({c.layers[l].node, c.layers[l].op, absl::StrCat(c.layers[l].weights_elements)});
    worst.push_back(HUGE_VAL);
    for (const compress::VariantLayer& v : c.layers[l].variants) {
      rows.back().push_back(Fixed(v.sqnr_db, 1));
      if (!std::isnan(v.sqnr_db)) worst.back() = std::min(worst.back(), v.sqnr_db);
    }
    order.push_back(l);
  }
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return worst[a] < worst[b]; });
  order.resize(std::min(order.size(), kHistogramLayers));
  std::string html =
      absl::StrCat("<h2>Layers</h2>\n", LayerPlot(c), "<details><summary>All ", c.layers.size(), " layers</summary>",
                   HtmlTable("SQNR by layer", head, rows), "</details>\n",
                   "<h2>Weights and results of the layers with the largest error</h2>\n",
                   "<p class=\"note\">Logarithmic shares in 64 bins over the reference's range; what lies outside "
                   "counts in the outermost bins.</p><div class=\"pair\">\n");
  for (size_t l : order)
    absl::StrAppend(&html, HistogramPlot(c, c.layers[l], true), HistogramPlot(c, c.layers[l], false));
  return html + "</div>\n";
}

}  // namespace

std::string ComparisonHtml(const Comparison& c, const Recommendation& r, const Bounds& bounds) {
  std::string html = HtmlHead(c.model + ": variants compared");
  absl::StrAppend(&html, "<h1>", EscapeMarkup(c.model), ": variants compared</h1>\n<p>", c.samples, " samples of ",
                  EscapeMarkup(c.data), "; ", EscapeMarkup(c.machine),
                  c.server.empty() ? absl::StrCat(", ", c.threads, " threads") : "", "; reference ",
                  EscapeMarkup(c.variants[c.reference].name),
                  ".</p>\n<section class=\"pick\" aria-label=\"Recommendation\">", "<p><strong>Recommended:</strong> ",
                  EscapeMarkup(r.reason), ".</p><ul>");
  for (const std::string& line : r.rejected) absl::StrAppend(&html, "<li>not ", EscapeMarkup(line), "</li>");
  absl::StrAppendFormat(
      &html,
      "</ul><p class=\"note\">Bounds: the 95 %% interval (Wilson) of top-1 agreement above %.2f %%; outputs that "
      "are no class scores above %.1f dB.</p></section>\n",
      100 * bounds.min_agreement, bounds.min_sqnr_db);
  absl::StrAppend(&html, Tables(c));
  for (const std::string& line : c.absent)
    absl::StrAppend(&html, "<p class=\"note\">Not shown: ", EscapeMarkup(line), ".</p>\n");
  absl::StrAppend(&html, "<h2>Size and quality</h2>\n", SizePlot(c), "<h2>Latency</h2>\n<div class=\"pair\">",
                  LatencyPlot(c, &VariantFigures::single, "Latency of batch 1"),
                  LatencyPlot(c, &VariantFigures::best, "Latency of each one's best batch"), "</div>\n", Layers(c));
  absl::StrAppend(
      &html,
      "<h2>How it was measured</h2><p>Single runs, one at a time, after uncounted ones; variants take turns, so that "
      "what disturbs the machine hits all alike. The best batch is the smallest within 3 % of the highest throughput. "
      "Frames per second: the highest rate among all batch sizes whose p99 is below 33 ms. CPU time is that of the "
      "process while it ran. Models in 4 GB: 4&middot;10<sup>9</sup> bytes less the program's own, divided by weights, "
      "activations of batch 1, scratchpad, code and metadata.</p></main></body></html>\n");
  return html;
}

}  // namespace octet::cli
