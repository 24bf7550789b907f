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
};

// Exact minimum and maximum, and a histogram of fixed size over a range that doubles around what arrives: doubling merges pairs
// of bins, so every count stays exact. Thread-compatible.
class StreamingHistogram {
 public:
  static constexpr int kBins = 4096;

  // Index of the first value that is NaN or infinite, or -1; such a call adds nothing.
  int64_t Add(absl::Span<const float> values);

  int64_t count() const { return count_; }
  double minimum() const { return minimum_; }
  double maximum() const { return maximum_; }
  // Bin i holds values in [origin + i * width, origin + (i+1) * width).
  double origin() const { return origin_; }
  double width() const { return width_; }
  const std::vector<uint64_t>& bins() const { return bins_; }

 private:
  void Cover(double low, double high);

  int64_t count_ = 0;
  double minimum_ = 0, maximum_ = 0;
  double origin_ = 0, width_ = 0;
  std::vector<uint64_t> bins_;
};

enum class RangeMethod : uint8_t {
  kMinMax,      // all that was seen
  kPercentile,  // cuts (1 - percentile) / 2 of the values on either side that is not 0's own
  kMse,         // the range whose u8 rounding and clipping error over the histogram is smallest
};
absl::StatusOr<RangeMethod> ParseRangeMethod(absl::string_view text);
absl::string_view NameOf(RangeMethod method);

// Requires: histogram.count() > 0; percentile in (0.5, 1].
Range ChooseRange(const StreamingHistogram& histogram, RangeMethod method, double percentile);

// Asymmetric u8 parameters of a range: scale = (high - low) / 255, zero point = round(-low / scale).
// Source: ONNX Runtime's and gemmlowp's definition; a range of no width gives scale 1.
QuantParams U8Params(const Range& range);

// Symmetric s8 parameters that hold a range: scale = max(-low, high) / 127, zero point 0.
QuantParams S8Params(const Range& range);

// Mean squared error of rounding the histogram's values with these parameters (bin centres).
double QuantizationError(const StreamingHistogram& histogram, const QuantParams& params);

}  // namespace octet::compress

#endif  // OCTET_COMPRESS_RANGES_H_
