// Small statistics of measurements: quantiles, intervals of shares, a paired test.
#ifndef OCTET_BASE_STATISTICS_H_
#define OCTET_BASE_STATISTICS_H_

#include <cstdint>
#include <vector>

namespace octet {

// The q-quantile (0 to 1) by nearest rank: the smallest value that at least q of all do not exceed; NaN when empty.
double Quantile(std::vector<double> values, double q);

// Where a share lies, given `hits` of `trials`: Wilson's score interval, at 95 % for the default z. [0, 1] without
// trials. Source: E. B. Wilson, JASA 22 (1927).
struct ShareInterval {
  double low = 0, high = 1;
};
ShareInterval WilsonInterval(int64_t hits, int64_t trials, double z = 1.959964);

// How many trials it takes, all of them hits, until WilsonInterval's lower end reaches `share`. Requires: 0 <= share
// < 1.
int64_t TrialsFor(double share, double z = 1.959964);

// How likely a split as uneven as only_a : only_b or more is if both were equally likely: McNemar's exact test,
// two-sided. a and b count the samples that one of two paired networks alone gets right.
double McNemarP(int64_t only_a, int64_t only_b);

}  // namespace octet

#endif  // OCTET_BASE_STATISTICS_H_
