// Draws of codes between neighbouring levels.
#include "compress/stochastic_rounding.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_cat.h"
#include "base/philox.h"
#include "base/status.h"
#include "compress/gram_error.h"

namespace octet::compress {
namespace {

void Draw(const WeightMatrix& weights, const StochasticRoundingOptions& options, int draw, QuantizedMatrix* m) {
  ElementRandom random(options.seed, options.stream, static_cast<uint32_t>(draw));
  const int64_t columns = m->columns();
  for (int64_t r = 0; r < m->rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const auto i = static_cast<size_t>(r * columns + c);
      const size_t s = m->ScaleIndex(r, c);
      const double x = static_cast<double>(weights.values[i]) / m->scale[s] + (m->zero.empty() ? 0 : m->zero[s]);
      const Neighbours n = NeighboursOf(m->grid, x);
      const double low = m->grid.levels[static_cast<size_t>(n.lower)], high = m->grid.levels[static_cast<size_t>(n.upper)];
      const bool up = n.upper != n.lower && random.Uniform(i) * (high - low) < x - low;
      m->codes[i] = static_cast<uint8_t>(up ? n.upper : n.lower);
    }
  }
}

}  // namespace

absl::Status RoundStochastically(const WeightMatrix& weights, const Moments* moments, const StochasticRoundingOptions& options,
                                 QuantizedMatrix* m) {
  if (options.draws < 1 || options.draws > 1024) {
    return absl::InvalidArgumentError(absl::StrCat("stochastic rounding with ", options.draws, " draws, expected 1 to 1024"));
  }
  if (m->grid.vector != 1) {
    return absl::UnimplementedError(absl::StrCat("grid '", m->grid.name, "': stochastic rounding draws single weights"));
  }
  if (options.draws == 1) {
    Draw(weights, options, 0, m);
    return absl::OkStatus();
  }
  if (moments == nullptr) return absl::InvalidArgumentError("the best of several draws needs the inputs' moments");
  OCTET_RETURN_IF_ERROR(CheckMoments(weights, *moments));
  Draw(weights, options, 0, m);
  std::vector<double> best = GramErrors(weights, *m, *moments);
  QuantizedMatrix drawn = *m;
  const auto columns = static_cast<std::ptrdiff_t>(m->columns());
  for (int t = 1; t < options.draws; ++t) {
    Draw(weights, options, t, &drawn);
    const std::vector<double> errors = GramErrors(weights, drawn, *moments);
    for (size_t r = 0; r < errors.size(); ++r) {
      if (errors[r] >= best[r]) continue;
      best[r] = errors[r];
      const auto row = static_cast<std::ptrdiff_t>(r) * columns;
      std::copy_n(drawn.codes.begin() + row, columns, m->codes.begin() + row);
    }
  }
  return absl::OkStatus();
}

}  // namespace octet::compress
