// Taking scales apart, and weights of less than 8 bits element by element.
#include "kernels/narrow_weights.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "kernels/elements.h"

namespace octet::kernels {
namespace {

constexpr int kLargest = 127;

// Where the scale of a weight is found: scales of [O, I / block, kernel...] or of [O].
struct ScaleIndex {
  int64_t per_channel = 1, blocks = 1, positions = 1, inputs = 1, block = 1;
  bool per_tensor = false;

  explicit ScaleIndex(const TensorSpec& weights) {
    const QuantParams& quant = *weights.quant;
    inputs = weights.shape[1];
    positions = NumElements(weights.shape) / std::max<int64_t>(weights.shape[0] * inputs, 1);
    per_tensor = quant.per_tensor();
    block = quant.block > 0 ? quant.block : std::max<int64_t>(inputs, 1);
    blocks = (inputs + block - 1) / block;
    per_channel = quant.block > 0 ? blocks * positions : 1;
  }
  size_t operator()(int64_t o, int64_t i, int64_t position) const {
    if (per_tensor) return 0;
    return static_cast<size_t>(per_channel == 1 ? o : (o * blocks + i / block) * positions + position);
  }
};

// Largest |level - zero point| that the type and the tables admit. Symmetric 4-bit integers use -7 to 7; a -8 that
// overflows is found when values are made.
int LargestMagnitude(const TensorSpec& weights) {
  const QuantParams& quant = *weights.quant;
  int largest = 1;
  for (const int8_t level : LevelsOf(weights.dtype, quant)) {
    if (weights.dtype == DType::kS4 && level == -8 && quant.zero_point.empty()) continue;
    int low = 0, high = 0;
    if (!quant.zero_point.empty()) {
      const auto [least, most] = std::minmax_element(quant.zero_point.begin(), quant.zero_point.end());
      low = *least;
      high = *most;
    }
    largest = std::max({largest, std::abs(level - low), std::abs(level - high)});
  }
  return largest;
}

bool AllMultiples(const float* scales, int64_t n, float base, int limit, uint8_t* multipliers) {
  for (int64_t i = 0; i < n; ++i) {
    const float ratio = std::nearbyint(scales[i] / base);
    if (!(ratio >= 1 && ratio <= static_cast<float>(limit)) || ratio * base != scales[i]) return false;
    multipliers[i] = static_cast<uint8_t>(ratio);
  }
  return true;
}

// The largest base of which all scales of a channel are multiples; 0 when there is none. The smallest scale over an
// integer is the base but for its last bits, which the rounding of the products has lost.
float BaseOf(const float* scales, int64_t n, int limit, uint8_t* multipliers) {
  const float smallest = *std::min_element(scales, scales + n);
  for (int j = 1; j <= limit; ++j) {
    const float base = smallest / static_cast<float>(j);
    if (AllMultiples(scales, n, base, limit, multipliers)) return base;
    float up = base, down = base;
    for (int step = 0; step < 2; ++step) {
      up = std::nextafter(up, 2 * base);
      down = std::nextafter(down, 0.0f);
      if (AllMultiples(scales, n, up, limit, multipliers)) return up;
      if (AllMultiples(scales, n, down, limit, multipliers)) return down;
    }
  }
  return 0;
}

absl::Status CheckForm(const TensorSpec& weights) {
  if (weights.shape.size() < 2 || !weights.quant.has_value() || !IsNarrow(weights.dtype)) {
    return absl::UnimplementedError(absl::StrCat("weights of type ", NameOf(weights.dtype), " and shape ",
                                                 ShapeString(weights.shape), " have no codes of less than 8 bits"));
  }
  const QuantParams& quant = *weights.quant;
  const ScaleIndex index(weights);
  const bool blocked = quant.block > 0;
  if (!quant.per_tensor() && quant.axis != (blocked ? 1 : 0)) {
    return absl::UnimplementedError(absl::StrCat("scales along axis ", quant.axis));
  }
  const int64_t scales = quant.per_tensor() ? 1 : weights.shape[0] * index.per_channel;
  if (static_cast<int64_t>(quant.scale.size()) != scales) {
    return absl::UnimplementedError(absl::StrCat(quant.scale.size(), " scales, expected ", scales));
  }
  const auto entries = static_cast<int64_t>(quant.levels.size());
  const int64_t most = quant.vector > 1 ? 1024 : int64_t{1} << BitsOf(weights.dtype);
  if (quant.vector != 1 && (quant.vector != 4 || weights.dtype != DType::kU2 || weights.shape[1] % 4 != 0 || entries == 0)) {
    return absl::UnimplementedError(absl::StrCat("codes of ", quant.vector, " weights"));
  }
  if (entries > most || (entries == 0 && BitsOf(weights.dtype) != 4)) {
    return absl::UnimplementedError(absl::StrCat(entries, " levels of ", NameOf(weights.dtype)));
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<int8_t> LevelsOf(DType dtype, const QuantParams& quant) {
  if (!quant.levels.empty()) return quant.levels;
  std::vector<int8_t> levels;
  for (int code = 0; code < 16; ++code) {
    levels.push_back(static_cast<int8_t>(dtype == DType::kS4 ? (code ^ 8) - 8 : code));
  }
  return levels;
}

absl::StatusOr<ChannelScales> FactorScales(const TensorSpec& weights) {
  if (absl::Status status = CheckForm(weights); !status.ok()) return status;
  const QuantParams& quant = *weights.quant;
  const int64_t outputs = weights.shape[0];
  const int64_t n = ScaleIndex(weights).per_channel;
  ChannelScales out;
  for (int64_t o = 0; quant.block == 0 && o < outputs; ++o) {
    out.scale.push_back(quant.scale[quant.per_tensor() ? 0 : static_cast<size_t>(o)]);
  }
  if (quant.block == 0) return out;
  const int limit = kLargest / LargestMagnitude(weights);
  out.multiplier.resize(quant.scale.size());
  for (int64_t o = 0; o < outputs; ++o) {
    const float base = BaseOf(quant.scale.data() + o * n, n, limit, out.multiplier.data() + o * n);
    if (base == 0) {
      return absl::UnimplementedError(absl::StrCat("the scales of output channel ", o,
                                                   " are not multiples, up to ", limit, ", of one number"));
    }
    out.scale.push_back(base);
  }
  return out;
}

absl::StatusOr<NarrowElements> ExpandNarrow(const TensorSpec& weights, const ChannelScales& scales,
                                            const std::byte* data) {
  const QuantParams& quant = *weights.quant;
  const ScaleIndex index(weights);
  const std::vector<int8_t> levels = LevelsOf(weights.dtype, quant);
  const auto n = static_cast<size_t>(NumElements(weights.shape));
  NarrowElements out;
  out.codes.resize(n);
  out.values.resize(n);
  if (!scales.multiplier.empty()) out.multipliers.resize(n);
  const bool centred = std::all_of(quant.zero_point.begin(), quant.zero_point.end(), [](int32_t z) { return z == 0; });
  if (!centred) out.zero_points.resize(n);
  size_t at = 0;
  for (int64_t o = 0; o < weights.shape[0]; ++o) {
    for (int64_t i = 0; i < index.inputs; ++i) {
      for (int64_t p = 0; p < index.positions; ++p, ++at) {
        const size_t g = index(o, i, p);
        size_t code = 0, entry = 0;
        if (quant.vector > 1) {
          code = static_cast<uint8_t>(data[((o * index.positions + p) * index.inputs + i) / quant.vector]);
          entry = code * static_cast<size_t>(quant.vector) + static_cast<size_t>(i % quant.vector);
        } else {
          code = static_cast<size_t>(LoadInteger(weights.dtype, data, static_cast<int64_t>(at))) & 15;
          entry = code;
        }
        if (entry >= levels.size()) {
          return absl::InvalidArgumentError(absl::StrCat("code ", code, " at weight ", at, ", the table has ", levels.size(), " levels"));
        }
        const int zero_point = quant.zero_point_at(g);
        const int multiplier = scales.multiplier.empty() ? 1 : scales.multiplier[g];
        const int value = multiplier * (levels[entry] - zero_point);
        if (value < -kLargest - 1 || value > kLargest) {
          return absl::UnimplementedError(absl::StrCat("weight ", at, " is ", value, " scales of its channel, beyond 8 bits"));
        }
        out.codes[at] = static_cast<uint8_t>(code);
        out.values[at] = static_cast<int8_t>(value);
        if (!out.multipliers.empty()) out.multipliers[at] = static_cast<uint8_t>(multiplier);
        if (!out.zero_points.empty()) out.zero_points[at] = static_cast<int8_t>(zero_point);
      }
    }
  }
  return out;
}

}  // namespace octet::kernels
