// The minimum of a function of one variable.
#ifndef OCTET_BASE_GOLDEN_SECTION_H_
#define OCTET_BASE_GOLDEN_SECTION_H_

#include <cmath>

#include "absl/functional/function_ref.h"

namespace octet {

// Where `f` is least in [low, high], to within `tolerance`; of a function with several minima, one of them. Golden section
// search: Kiefer, Proc. AMS 4, 1953. Requires: low < high, tolerance > 0.
inline double LeastByGoldenSection(absl::FunctionRef<double(double)> f, double low, double high, double tolerance) {
  const double ratio = (std::sqrt(5.0) - 1) / 2;
  double a = high - ratio * (high - low), b = low + ratio * (high - low), at_a = f(a), at_b = f(b);
  while (high - low > tolerance) {
    if (at_a < at_b) {
      high = b;
      b = a;
      at_b = at_a;
      a = high - ratio * (high - low);
      at_a = f(a);
    } else {
      low = a;
      a = b;
      at_a = at_b;
      b = low + ratio * (high - low);
      at_b = f(b);
    }
  }
  return (low + high) / 2;
}

}  // namespace octet

#endif  // OCTET_BASE_GOLDEN_SECTION_H_
