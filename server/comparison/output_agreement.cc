// One pass over the elements.
#include "server/comparison/output_agreement.h"

#include <algorithm>
#include <cmath>

namespace octet::server {
namespace {

constexpr double kNotFinite = 1e20;  // of the signal: below every other answer, yet a number

int64_t Largest(absl::Span<const float> row) {
  // NaN is never larger: a row of NaN elects class 0.
  int64_t best = 0;
  for (size_t i = 1; i < row.size(); ++i) {
    if (row[i] > row[static_cast<size_t>(best)]) best = static_cast<int64_t>(i);
  }
  return best;
}

}  // namespace

OutputAgreement CompareOutput(absl::Span<const float> reference, absl::Span<const float> found, const Shape& shape) {
  OutputAgreement sum;
  sum.rows = shape.empty() ? 1 : shape[0];
  if (sum.rows <= 0) return {};
  const size_t columns = reference.size() / static_cast<size_t>(sum.rows);
  sum.classes = shape.size() == 2 && columns > 1;
  for (int64_t row = 0; row < sum.rows; ++row) {
    const absl::Span<const float> want = reference.subspan(static_cast<size_t>(row) * columns, columns);
    const absl::Span<const float> have = found.subspan(static_cast<size_t>(row) * columns, columns);
    double ww = 0, hh = 0, wh = 0, noise = 0;
    bool broken = false;
    for (size_t i = 0; i < columns; ++i) {
      const double w = want[i], h = have[i];
      if (!std::isfinite(w) || !std::isfinite(h)) {
        broken = broken || std::isfinite(w) || std::isfinite(h);
        continue;
      }
      ww += w * w;
      hh += h * h;
      wh += w * h;
      noise += (w - h) * (w - h);
    }
    sum.signal += ww;
    sum.noise += broken ? kNotFinite * std::max(ww, 1.0) : noise;
    if (!broken) sum.cosine += ww == 0 && hh == 0 ? 1 : ww == 0 || hh == 0 ? 0 : wh / std::sqrt(ww * hh);
    if (sum.classes && !broken && Largest(want) == Largest(have)) ++sum.agreeing;
  }
  return sum;
}

double Decibels(double signal, double noise) {
  if (noise <= 0) return kMaxDb;
  if (signal <= 0) return -kMaxDb;
  return std::clamp(10 * std::log10(signal / noise), -kMaxDb, kMaxDb);
}

}  // namespace octet::server
