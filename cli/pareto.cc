// The chart of a search.
#include "cli/pareto.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "cli/console.h"
#include "cli/plot.h"

namespace octet::cli {
namespace {

using compress::Trial;

bool IsBeaten(const Trial& t, const std::vector<Trial>& all) {
  return std::any_of(all.begin(), all.end(), [&](const Trial& o) {
    return o.bytes <= t.bytes && o.sqnr_db >= t.sqnr_db && (o.bytes < t.bytes || o.sqnr_db > t.sqnr_db);
  });
}

}  // namespace

std::string ParetoSvg(const compress::SearchResult& result, const std::string& title) {
  Plot plot;
  plot.title = title;
  plot.x_label = "file, MB";
  plot.y_label = "SQNR of the output, dB";
  plot.x_from_zero = true;
  plot.height = 460;
  std::vector<Trial> sorted = result.trials;
  std::sort(sorted.begin(), sorted.end(), [](const Trial& a, const Trial& b) { return a.bytes < b.bytes; });
  PlotSeries front{"not beaten in both", PlotSeries::Mark::kLine, 0, {}}, tried{"", PlotSeries::Mark::kPoints, 0, {}},
      chosen{"chosen", PlotSeries::Mark::kPoints, 1, {}};
  for (const Trial& t : sorted) {
    const PlotPoint point{t.bytes / 1e6, t.sqnr_db, absl::StrCat(t.label, ", ", Fixed(t.seconds * 1e3, 3), " ms")};
    (t.label == result.trial.label ? chosen : tried).points.push_back(point);
    if (!IsBeaten(t, sorted)) front.points.push_back({point.x, point.y});
  }
  plot.series = {front, tried, chosen};
  return Svg(plot);
}

}  // namespace octet::cli
