// A grid's levels made fast to search, and the error of one group of weights under a scale.
#ifndef OCTET_COMPRESS_LEVEL_TABLE_H_
#define OCTET_COMPRESS_LEVEL_TABLE_H_

#include <algorithm>
#include <array>
#include <cstdint>

#include "absl/types/span.h"

namespace octet::compress {

// Weights that share a scale (or all of a tensor), and how much the square of each one's error counts.
struct Segment {
  absl::Span<const float> weights;
  absl::Span<const float> importance;  // as many, positive

  Segment Sub(size_t first, size_t count) const {
    return {weights.subspan(first, count), importance.subspan(first, count)};
  }
};

struct ScaleZero {
  float scale = 1;
  int32_t zero = 0;
};

// Below this a group counts as dead: the quotient of a weight and its scale would no longer be a normal number.
inline constexpr float kSmallestScale = 1.2e-38f;

// The nearest level by one look-up: midpoints of integers are multiples of 1/2, so that between two neighbouring
// multiples of 1/2 the nearest level is constant. At midpoints themselves the upper level is taken, which has the same
// error. Thread-safe: immutable.
class LevelTable {
 public:
  // Requires: levels ascending, not empty.
  explicit LevelTable(absl::Span<const int8_t> levels);

  float Nearest(float x) const {
    return nearest_[static_cast<size_t>(2 * std::clamp(x, -128.0f, 127.5f) + 256)];
  }
  int low() const { return low_; }
  int high() const { return high_; }
  int largest() const { return std::max(high_, -low_); }  // magnitude
  size_t size() const { return size_; }
  bool has_zero() const { return has_zero_; }

 private:
  std::array<float, 512> nearest_;  // [floor(2 x) + 256]
  int low_ = 0, high_ = 0;
  size_t size_ = 0;
  bool has_zero_ = false;
};

// sum h (w - w')^2 with w' = scale * (nearest level to w / scale + zero, minus zero).
// Requires: s.scale > kSmallestScale.
double SquaredError(const LevelTable& table, const Segment& segment, const ScaleZero& s);

// The scale that minimises the same sum while every weight keeps the level it has under `s`:
// sum h w (level - zero) / sum h (level - zero)^2; s.scale where that is not positive.
float LeastSquaresScale(const LevelTable& table, const Segment& segment, const ScaleZero& s);

// Repeats LeastSquaresScale, at most `rounds` times, while the error falls; returns the error of *s.
double RefineScale(const LevelTable& table, const Segment& segment, int rounds, ScaleZero* s);

float LargestMagnitude(absl::Span<const float> weights);

// sqrt(sum h w^2 / sum h).
float RootMeanSquare(const Segment& segment);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_LEVEL_TABLE_H_
