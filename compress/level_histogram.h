// Moments of weights between neighbouring multiples of half a level: from them the squared error of any table of s8
// levels is a sum of at most 512 terms, however many weights there are, and exactly so.
#ifndef OCTET_COMPRESS_LEVEL_HISTOGRAM_H_
#define OCTET_COMPRESS_LEVEL_HISTOGRAM_H_

#include <array>
#include <cstdint>

#include "absl/types/span.h"

namespace octet::compress {

// Weights in units of a scale, x. Midpoints of two integer levels are multiples of 1/2, so all weights of one bin
// [i/2, (i+1)/2) have the same nearest level in every table. Thread-compatible.
class LevelHistogram {
 public:
  static constexpr int kBins = 512;  // from -128 to 128; what lies outside counts in the outermost bins

  void Add(float x, double h);
  // Call once between the last Add and the first use of what follows.
  void Finish();

  // sum h (x - level)^2 over the bins that begin in [from, to), both in half levels: 2 * 127 is level 127.
  double Cost(int from, int to, int level) const;

  // Cost of weights between two neighbouring levels of a table, each at the nearer one; below the first level;
  // above the last.
  double Between(int low, int high) const;
  double Below(int first) const { return Cost(-256, 2 * first, first); }
  double Above(int last) const { return Cost(2 * last, 256, last); }

  // Of a whole table, ascending and distinct.
  double Error(absl::Span<const int8_t> levels) const;

 private:
  struct Moments {
    double h = 0, hx = 0, hxx = 0;
  };
  std::array<Moments, kBins + 1> sums_ = {};  // after Finish: prefix sums
};

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_LEVEL_HISTOGRAM_H_
