// Scales, ticks and marks.
#include "cli/plot.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace octet::cli {
namespace {

constexpr double kLeft = 70, kRight = 24, kTop = 44, kBottom = 54, kLegend = 18;

// The colours are those of Okabe and Ito, told apart with any colour vision; lighter ones on dark ground.
constexpr char kStyle[] =
    "<style>.op{background:#fff;fill:#222;font:12px sans-serif}.op .g{stroke:#ddd}.op .h{fill:none;stroke-width:1.8}"
    ".op .c0{--c:#0072b2}.op .c1{--c:#d55e00}.op .c2{--c:#00805c}.op .c3{--c:#b0568c}.op .c4{--c:#8a6d00}"
    ".op .c5{--c:#2a93c9}.op .c6{--c:#555}.op .c7{--c:#a01c1c}.op .h{stroke:var(--c)}.op .p{fill:var(--c)}"
    "@media(prefers-color-scheme:dark){.op{background:#181a1d;fill:#ddd}.op .g{stroke:#3a3d42}.op .c0{--c:#56b4e9}"
    ".op .c1{--c:#ff9248}.op .c2{--c:#2fc79a}.op .c3{--c:#e39ac4}.op .c4{--c:#e6c229}.op .c5{--c:#9ad7f5}"
    ".op .c6{--c:#bbb}.op .c7{--c:#ff7b7b}}</style>\n";

// One axis: from data to [0, 1], with ticks at round numbers.
struct Axis {
  Plot::Scale scale;
  double low = 0, high = 1;
  std::vector<double> ticks;

  Axis(Plot::Scale kind, double from, double to, bool from_zero) : scale(kind) {
    if (!(from <= to)) from = 0, to = 1;  // no points
    if (scale == Plot::Scale::kLog) {
      const double ratio = std::max(to / from, 1.5);
      low = std::log10(from / std::pow(ratio, 0.04));
      high = std::log10(to * std::pow(ratio, 0.04));
      if (high - low < 0.2) low -= 0.1, high += 0.1;
      const bool dense = high - low < 3;
      for (double d = std::floor(low); d <= high; ++d) {
        for (double m : {1.0, 2.0, 5.0}) {
          if ((m == 1 || dense) && std::log10(m) + d >= low && std::log10(m) + d <= high) {
            ticks.push_back(m * std::pow(10, d));
          }
        }
      }
      return;
    }
    if (from_zero) from = std::min(from, 0.0), to = std::max(to, 0.0);
    const double span = std::max(to - from, std::max(std::abs(to) * 1e-3, 1e-12));
    const double magnitude = std::pow(10, std::floor(std::log10(span / 5)));
    double step = magnitude;
    for (double m : {2.0, 5.0, 10.0}) {
      if (span / step > 6) step = magnitude * m;
    }
    low = std::floor((from - (from == 0 ? 0 : 0.03 * span)) / step) * step;
    high = std::ceil((to + 0.03 * span) / step) * step;
    // In whole steps, so that rounding errors do not pile up.
    for (int i = 0; low + i * step <= high + step / 2; ++i) {
      const double tick = low + i * step;
      ticks.push_back(std::abs(tick) < step * 1e-9 ? 0 : tick);
    }
  }

  void End(double end) {
    high = end;
    while (ticks.size() > 1 && ticks.back() > end) ticks.pop_back();
  }
  bool Shows(double v) const { return std::isfinite(v) && (scale == Plot::Scale::kLinear || v > 0); }
  double At(double v) const { return ((scale == Plot::Scale::kLog ? std::log10(v) : v) - low) / (high - low); }
};

Axis AxisOf(const Plot& plot, double PlotPoint::* coordinate, Plot::Scale scale, bool from_zero) {
  double low = HUGE_VAL, high = -HUGE_VAL;
  for (const PlotSeries& s : plot.series) {
    for (const PlotPoint& p : s.points) {
      const double v = p.*coordinate;
      if (!std::isfinite(v) || (scale == Plot::Scale::kLog && v <= 0)) continue;
      low = std::min(low, v);
      high = std::max(high, v);
    }
  }
  if (scale == Plot::Scale::kLog && !(low <= high)) low = 1, high = 10;
  return Axis(scale, low, high, from_zero);
}

// "2000000" is read worse than "2M".
std::string TickText(double v) {
  const double a = std::abs(v);
  if (a >= 1e6) return absl::StrFormat("%gM", v / 1e6);
  if (a >= 1e4) return absl::StrFormat("%gk", v / 1e3);
  return absl::StrFormat("%g", v);
}

struct Drawing {
  const Plot& plot;
  Axis x, y;
  double top;
  std::string svg;

  double Px(double v) const { return kLeft + x.At(v) * (plot.width - kLeft - kRight); }
  double Py(double v) const { return plot.height - kBottom - y.At(v) * (plot.height - top - kBottom); }

  void Grid() {
    const double bottom = plot.height - kBottom;
    for (double v : x.ticks) {
      absl::StrAppendFormat(&svg,
                            "<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                            "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n",
                            Px(v), Px(v), top, bottom, Px(v), bottom + 17, TickText(v));
    }
    for (double v : y.ticks) {
      absl::StrAppendFormat(&svg,
                            "<line class=\"g\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                            "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n",
                            kLeft, plot.width - kRight, Py(v), Py(v), kLeft - 6, Py(v) + 4, TickText(v));
    }
    absl::StrAppendFormat(&svg,
                          "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%s</text>\n"
                          "<text transform=\"translate(15 %.1f) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
                          (kLeft + plot.width - kRight) / 2, plot.height - 14, EscapeMarkup(plot.x_label),
                          (top + bottom) / 2, EscapeMarkup(plot.y_label));
  }

  void Legend() {
    double at = kLeft;
    for (const PlotSeries& s : plot.series) {
      if (s.name.empty()) continue;
      absl::StrAppendFormat(&svg,
                            "<rect class=\"p c%d\" x=\"%.1f\" y=\"%.1f\" width=\"11\" height=\"11\"/>"
                            "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n",
                            s.colour % 8, at, top - kLegend - 2, at + 15, top - kLegend + 8, EscapeMarkup(s.name));
      at += 30 + 7.0 * static_cast<double>(s.name.size());
    }
  }

  void Series(const PlotSeries& s) {
    const bool steps = s.mark == PlotSeries::Mark::kSteps;
    std::string path;
    double last_y = 0;
    bool open = false;
    for (const PlotPoint& p : s.points) {
      if (!x.Shows(p.x) || !y.Shows(p.y)) {
        open = false;
        continue;
      }
      if (open && steps) absl::StrAppendFormat(&path, "L%.1f %.1f", Px(p.x), last_y);
      absl::StrAppendFormat(&path, "%c%.1f %.1f", open ? 'L' : 'M', Px(p.x), Py(p.y));
      last_y = Py(p.y);
      open = true;
    }
    if (s.mark != PlotSeries::Mark::kPoints) {
      absl::StrAppendFormat(&svg, "<path class=\"h c%d\" d=\"%s\"/>\n", s.colour % 8, path);
    }
    for (const PlotPoint& p : s.points) {
      if (!x.Shows(p.x) || !y.Shows(p.y)) continue;
      if (s.mark == PlotSeries::Mark::kPoints || s.mark == PlotSeries::Mark::kLineAndPoints) {
        absl::StrAppendFormat(&svg, "<circle class=\"p c%d\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n", s.colour % 8,
                              Px(p.x), Py(p.y));
      }
      if (p.label.empty()) continue;
      const bool right = Px(p.x) > plot.width * 0.75;  // the text goes where there is room
      absl::StrAppendFormat(&svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\">%s</text>\n",
                            Px(p.x) + (right ? -8 : 8), Py(p.y) - 6, right ? "end" : "start", EscapeMarkup(p.label));
    }
  }
};

}  // namespace

std::string EscapeMarkup(absl::string_view text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}, {"'", "&#39;"}});
}

std::string Svg(const Plot& plot) {
  const bool legend =
      std::any_of(plot.series.begin(), plot.series.end(), [](const auto& s) { return !s.name.empty(); });
  Drawing drawing{plot, AxisOf(plot, &PlotPoint::x, plot.x_scale, plot.x_from_zero),
                  AxisOf(plot, &PlotPoint::y, plot.y_scale, plot.y_from_zero), kTop + (legend ? kLegend : 0), ""};
  std::vector<std::string> names;
  for (const PlotSeries& s : plot.series) {
    if (!s.name.empty()) names.push_back(s.name);
  }
  absl::StrAppendFormat(
      &drawing.svg,
      "<svg class=\"op\" role=\"img\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\">\n"
      "<title>%s</title><desc>%s against %s%s</desc>\n%s"
      "<text x=\"%.0f\" y=\"24\" style=\"font-size:15px\">%s</text>\n",
      plot.width, plot.height, EscapeMarkup(plot.title), EscapeMarkup(plot.y_label), EscapeMarkup(plot.x_label),
      names.empty() ? "" : EscapeMarkup(absl::StrCat(" of ", absl::StrJoin(names, ", "))), kStyle, kLeft,
      EscapeMarkup(plot.title));
  if (plot.y_end.has_value() && plot.y_scale == Plot::Scale::kLinear) drawing.y.End(*plot.y_end);
  drawing.Grid();
  drawing.Legend();
  for (const PlotSeries& s : plot.series) drawing.Series(s);
  return drawing.svg + "</svg>\n";
}

}  // namespace octet::cli
