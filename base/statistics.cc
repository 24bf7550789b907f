// Statistics in closed form.
#include "base/statistics.h"

#include <algorithm>
#include <cmath>

namespace octet {

double Quantile(std::vector<double> values, double q) {
  if (values.empty()) return NAN;
  const double rank = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(values.size()));
  const auto index = static_cast<size_t>(std::max(rank, 1.0)) - 1;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(index), values.end());
  return values[index];
}

ShareInterval WilsonInterval(int64_t hits, int64_t trials, double z) {
  if (trials <= 0) return {};
  const auto n = static_cast<double>(trials);
  const double share = static_cast<double>(hits) / n;
  const double centre = share + z * z / (2 * n);
  const double half = z * std::sqrt(share * (1 - share) / n + z * z / (4 * n * n));
  const double scale = 1 + z * z / n;
  // Exact at the ends, where the two terms cancel but for rounding.
  return {hits == 0 ? 0 : std::max(0.0, (centre - half) / scale), hits == trials ? 1 : std::min(1.0, (centre + half) / scale)};
}

int64_t TrialsFor(double share, double z) {
  // With all trials hits the lower end is n / (n + z^2).
  return std::max<int64_t>(1, static_cast<int64_t>(std::ceil(z * z * share / (1 - share))));
}

double McNemarP(int64_t only_a, int64_t only_b) {
  // P(X <= min) of a fair coin, term by term in logarithms.
  const auto n = static_cast<double>(only_a + only_b);
  double tail = 0;
  for (int64_t k = 0; k <= std::min(only_a, only_b); ++k) {
    const auto i = static_cast<double>(k);
    tail += std::exp(std::lgamma(n + 1) - std::lgamma(i + 1) - std::lgamma(n - i + 1) - n * std::log(2.0));
  }
  return std::min(1.0, 2 * tail);
}

}  // namespace octet
