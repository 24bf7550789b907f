// Charts as SVG text: two axes, lines, points, steps. No scripts, no external resources.
#ifndef OCTET_CLI_PLOT_H_
#define OCTET_CLI_PLOT_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace octet::cli {

struct PlotPoint {
  double x = 0, y = 0;
  std::string label = {};  // beside the point; empty: none
};

// Points that belong together. Those whose x or y is not finite, or not positive on a logarithmic axis, are left out.
struct PlotSeries {
  enum class Mark : unsigned char { kLine, kPoints, kLineAndPoints, kSteps };
  std::string name;  // in the legend; empty: not there
  Mark mark = Mark::kLine;
  int colour = 0;  // 0 to 7
  std::vector<PlotPoint> points;
};

struct Plot {
  enum class Scale : unsigned char { kLinear, kLog };
  std::string title = {}, x_label = {}, y_label = {};
  Scale x_scale = Scale::kLinear, y_scale = Scale::kLinear;
  bool x_from_zero = false, y_from_zero = false;  // linear axes that must show zero
  std::optional<double> y_end = {};               // where a linear y axis ends; none: behind the last point
  double width = 760, height = 380;
  std::vector<PlotSeries> series = {};
};

// The <svg> element, with title and description for screen readers; colours follow the reader's light or dark scheme.
// Complete as a file, and as a part of an HTML page.
std::string Svg(const Plot& plot);

// Text for HTML and SVG: & < > and quotes escaped.
std::string EscapeMarkup(absl::string_view text);

}  // namespace octet::cli

#endif  // OCTET_CLI_PLOT_H_
