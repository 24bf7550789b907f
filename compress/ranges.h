// Ranges of activations from streams of values: a histogram whose memory does not grow with what it has seen, and the
// ways to choose a range from it.
#ifndef OCTET_COMPRESS_RANGES_H_
#define OCTET_COMPRESS_RANGES_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "base/quantization.h"

namespace octet::compress {

// Closed interval that contains 0 (padding and ReLU need an exact zero).
struct Range {
  double low = 0;
  double high = 0;

  bool operator==(const Range&) const = default;
};

// Exact minimum and maximum, moving averages of both, and a histogram of fixed size over a range that doubles around
// what arrives: doubling merges pairs of bins, so every count stays exact. 0 is always an edge of a bin, and exact zeros
// are counted apart, too: every grid represents them without error. Thread-compatible.
class StreamingHistogram {
 public:
  static constexpr int kBins = 4096;
  static constexpr double kMovingShare = 0.01;  // what a call weighs in the moving averages: ONNX Runtime's default

  // Values of one sample. Index of the first value that is NaN or infinite, or -1; such a call adds nothing.
  int64_t Add(absl::Span<const float> values);

  int64_t count() const { return count_; }
  int64_t zeros() const { return zeros_; }  // of them exactly 0; all in the bin that starts at 0
  double minimum() const { return minimum_; }
  double maximum() const { return maximum_; }
  // r = (1 - kMovingShare) r + kMovingShare r_call of the calls' own minima and maxima, from the first call's on.
  double moving_minimum() const { return moving_minimum_; }
  double moving_maximum() const { return moving_maximum_; }
  // Bin i holds values in [origin + i * width, origin + (i+1) * width); origin is a multiple of width.
  double origin() const { return static_cast<double>(first_) * width_; }
  double width() const { return width_; }
  const std::vector<uint64_t>& bins() const { return bins_; }

 private:
  void Cover(double low, double high);

  int64_t count_ = 0, zeros_ = 0;
  double minimum_ = 0, maximum_ = 0;
  double moving_minimum_ = 0, moving_maximum_ = 0;
  int64_t first_ = 0;  // bin i holds floor(value / width) == first + i
  double width_ = 0;
  std::vector<uint64_t> bins_;
};

enum class RangeMethod : uint8_t {
  kMinMax,         // all that was seen
  kMovingAverage,  // moving averages of the samples' minima and maxima
  kPercentile,     // cuts (1 - percentile) / 2 of the values on either side that is not 0's own
  kEntropy,        // the range whose 256 cells lose least information (smallest Divergence); every bin is a candidate
  kMse,            // the range whose u8 rounding and clipping error over the histogram is smallest
  kClosedForm,     // kappa times the spread of a normal or a Laplace distribution, whichever fits better
};
absl::StatusOr<RangeMethod> ParseRangeMethod(absl::string_view text);  // minmax moving percentile entropy mse closed
absl::string_view NameOf(RangeMethod method);

// Requires: histogram.count() > 0; percentile in (0.5, 1].
Range ChooseRange(const StreamingHistogram& histogram, RangeMethod method, double percentile);

// The same, but never a range that clips away what matters. A range is refused, and kMse's taken, when both hold:
//   ClippedShare > kMaxClippedShare                  clipping alone limits the value to less than 30 dB
//   error(range) > 2 error(kMse's range)             and is not what a fine grid for the rest costs
// What a fixed percentile does to attention: a few large elements carry most of the energy (quantization.md, 1.5).
struct ChosenRange {
  Range range;
  RangeMethod method;  // kMse where the asked one was refused
  std::string reason;  // why, for the report; empty otherwise
};
inline constexpr double kMaxClippedShare = 1e-3;
ChosenRange ChooseGuardedRange(const StreamingHistogram& histogram, RangeMethod method, double percentile);

// sum (x - clip(x))^2 / sum x^2: the energy that a range cuts off.
double ClippedShare(const StreamingHistogram& histogram, const Range& range);

// Kullback-Leibler divergence KL(P || Q) of the range of bins [first, last): P is the histogram without exact zeros, the
// tails counted in the outermost bins; Q spreads what each of 256 equal cells of bins holds evenly over those of its bins
// that P does not leave empty. Infinite when a tail falls into an empty cell. Requires: last - first >= 256.
// Source: Migacz, "8-bit inference with TensorRT", GTC 2017.
double Divergence(const StreamingHistogram& histogram, int first, int last);

// Optimal clipping, as a multiple of the spread (standard deviation; mean absolute deviation of Laplace), for a grid of
// 2^bits levels over [-kappa, kappa]: the kappa with the smallest
//   clip(kappa) + kappa^2 / (3 * 4^bits),   clip = 2 int_kappa^inf (x - kappa)^2 f(x) dx
// found numerically. A distribution folded to x >= 0 over [0, kappa] is the case of bits + 1.
// Source: Banner et al., arXiv:1810.05723, section 3.
enum class Distribution : uint8_t { kNormal, kLaplace };
double OptimalClipping(Distribution distribution, int bits);

// Asymmetric u8 parameters of a range: scale = (high - low) / 255, zero point = round(-low / scale).
// Source: ONNX Runtime's and gemmlowp's definition; a range of no width gives scale 1.
QuantParams U8Params(const Range& range);

// Symmetric s8 parameters that hold a range: scale = max(-low, high) / 127, zero point 0.
QuantParams S8Params(const Range& range);

// Mean squared error of rounding to u8 with these parameters: exact zeros cost nothing, all other values of a bin lie
// evenly within it.
double QuantizationError(const StreamingHistogram& histogram, const QuantParams& params);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_RANGES_H_
