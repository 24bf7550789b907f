// SVG by hand: two axes, points, a line.
#include "cli/pareto.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "cli/console.h"

namespace octet::cli {
namespace {

using compress::Trial;

constexpr double kWidth = 760, kHeight = 460, kLeft = 70, kRight = 30, kTop = 50, kBottom = 60;

// A linear axis with about five round ticks.
struct Axis {
  double low, high, step;

  Axis(double from, double to) {
    const double span = std::max(to - from, 1e-9) * 1.15;
    const double magnitude = std::pow(10, std::floor(std::log10(span / 5)));
    step = magnitude;
    for (double m : {2.0, 5.0, 10.0}) {
      if (span / step > 6) step = magnitude * m;
    }
    low = std::floor((from - 0.05 * span) / step) * step;
    high = std::ceil((to + 0.05 * span) / step) * step;
  }
  double At(double v) const { return (v - low) / (high - low); }
};

std::string Escape(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}});
}

bool IsBeaten(const Trial& t, const std::vector<Trial>& all) {
  return std::any_of(all.begin(), all.end(), [&](const Trial& o) {
    return o.bytes <= t.bytes && o.sqnr_db >= t.sqnr_db && (o.bytes < t.bytes || o.sqnr_db > t.sqnr_db);
  });
}

}  // namespace

std::string ParetoSvg(const compress::SearchResult& result, const std::string& title) {
  double low = 1e300, high = -1e300, most = 0;
  for (const Trial& t : result.trials) {
    low = std::min(low, t.sqnr_db);
    high = std::max(high, t.sqnr_db);
    most = std::max(most, t.bytes);
  }
  const Axis x(0, most / 1e6), y(low, high);
  const auto px = [&](double bytes) { return kLeft + x.At(bytes / 1e6) * (kWidth - kLeft - kRight); };
  const auto py = [&](double db) { return kHeight - kBottom - y.At(db) * (kHeight - kTop - kBottom); };
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<style>svg{background:#fff;fill:#222}.grid{stroke:#ddd}.front{stroke:#27c;fill:none}.point{fill:#27c}"
      ".best{fill:#d40}@media(prefers-color-scheme:dark){svg{background:#181818;fill:#ddd}.grid{stroke:#444}}</style>\n"
      "<title>%s</title>\n<text x=\"%.0f\" y=\"24\" font-size=\"15\">%s</text>\n",
      kWidth, kHeight, Escape(title), kLeft, Escape(title));
  for (double v = x.low; v <= x.high + x.step / 2; v += x.step) {
    absl::StrAppendFormat(&svg, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                          "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n",
                          px(v * 1e6), px(v * 1e6), py(y.low), py(y.high), px(v * 1e6), py(y.low) + 18, v);
  }
  for (double v = y.low; v <= y.high + y.step / 2; v += y.step) {
    absl::StrAppendFormat(&svg, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>"
                          "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                          px(x.low * 1e6), px(x.high * 1e6), py(v), py(v), px(x.low * 1e6) - 6, py(v) + 4, v);
  }
  absl::StrAppendFormat(&svg, "<text x=\"%.0f\" y=\"%.0f\" text-anchor=\"middle\">file, MB</text>\n"
                        "<text transform=\"translate(18 %.0f) rotate(-90)\" text-anchor=\"middle\">SQNR of the output, dB</text>\n",
                        (kLeft + kWidth - kRight) / 2, kHeight - 14, (kTop + kHeight - kBottom) / 2);
  std::vector<Trial> sorted = result.trials;
  std::sort(sorted.begin(), sorted.end(), [](const Trial& a, const Trial& b) { return a.bytes < b.bytes; });
  svg += "<polyline class=\"front\" points=\"";
  for (const Trial& t : sorted) {
    if (!IsBeaten(t, sorted)) absl::StrAppendFormat(&svg, "%.1f,%.1f ", px(t.bytes), py(t.sqnr_db));
  }
  svg += "\"/>\n";
  for (const Trial& t : sorted) {
    const bool best = t.label == result.trial.label;
    absl::StrAppendFormat(&svg, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"%d\"/>"
                          "<text x=\"%.1f\" y=\"%.1f\">%s, %s ms</text>\n",
                          best ? "best" : "point", px(t.bytes), py(t.sqnr_db), best ? 6 : 4, px(t.bytes) + 8,
                          py(t.sqnr_db) - 6, Escape(t.label), Fixed(t.seconds * 1e3, 3));
  }
  return svg + "</svg>\n";
}

}  // namespace octet::cli
